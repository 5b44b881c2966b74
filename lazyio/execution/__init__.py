"""How blocks get from a source or a graph to a target: threads, dask, the assembler, progress."""
