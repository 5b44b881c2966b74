"""Random HDF5 datasets of every kind that libhdf5 can make, and what lazyio makes of them."""
