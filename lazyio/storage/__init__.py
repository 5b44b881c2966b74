"""Where chunks are stored: one Backend protocol, HDF5 and Zarr each in a folder of its own."""
