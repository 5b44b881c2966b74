"""Writing to either format, and reading with what is not ours."""

import h5py
import zarr

import lazyio

FORMATS = ["h5", "zarr"]


def write(data, path, *where, **options):
    """Write to the format that a path's suffix names."""
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    return to(data, path, *where, **options)


def read(path, key="data"):
    """Read all of an array by h5py, or zarr-python."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file[key][...]
    return zarr.open_array(path, mode="r")[...]
