"""How a chunk becomes bytes: one family of codecs a module, no I/O, no dask."""
