"""Data that arrives bit by bit: lazyio, PyTables, HDMF and h5py side by side."""
