"""Where chunks are stored: one protocol, in ``base.py``; HDF5 and Zarr in a folder each."""
