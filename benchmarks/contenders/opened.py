"""How peers see the source, and how h5py, dask and HDMF are told the codec."""

from typing import Any

import h5py
import hdf5plugin
import numpy as np

from benchmarks.cases import Array, Row

KEY = "data"


def open_source(array: Array) -> Any:
    """Return the source as an array-like: a memmap, or an h5py dataset.

    Parameters
    ----------
    array : Array
        Which one.
    """
    if array.key is None:
        return np.memmap(array.path, dtype=array.dtype, mode="r", shape=array.shape)
    return h5py.File(array.path, "r")[array.key]


def hdf5_filters(row: Row) -> dict[str, Any]:
    """Return the codec as keyword arguments of ``create_dataset``.

    Parameters
    ----------
    row : Row
        Format and codec.
    """
    if row.family == "gzip":
        return {"compression": "gzip", "compression_opts": row.level, "shuffle": row.shuffle}
    if row.family == "zstd":
        return {**hdf5plugin.Zstd(clevel=row.level), "shuffle": row.shuffle}
    if row.family == "blosc":
        byte_shuffle = hdf5plugin.Blosc.SHUFFLE
        return dict(hdf5plugin.Blosc(cname="zstd", clevel=row.level, shuffle=byte_shuffle))
    return {}
