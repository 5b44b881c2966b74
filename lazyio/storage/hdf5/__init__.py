"""HDF5: datasets, the files that they lie in, their dimension scales and attributes."""
