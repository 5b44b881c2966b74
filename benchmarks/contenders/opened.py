"""How peers see the source, and how h5py, dask and HDMF are told the codec."""

from typing import Any

import dask.array as da
import h5py
import hdf5plugin
import numpy as np

from benchmarks.cases import Array, Job, Row


class RawReader:
    """A raw file as dask likes it best.

    ``from_array`` would copy a memmap into memory and hash it; a reader that
    holds one would be hashed as well.

    Parameters
    ----------
    array : Array
        Which one.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape = array.shape
        self.ndim = len(array.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, region: Any) -> np.ndarray:
        return np.asarray(open_source(self._array)[region])

    def __dask_tokenize__(self) -> str:
        return repr(self._array)


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


def open_graph(job: Job) -> da.Array:
    """Return the source as dask opens it best; a block is whole rows of chunks.

    Where the graph is given, its blocks are rechunked to that: storing blocks
    that cut across chunks is slower still, and in Zarr loses values.

    Parameters
    ----------
    job : Job
        What is written.
    """
    array = job.array
    source = RawReader(array) if array.key is None else open_source(array)
    suitable = (job.block_rows, *array.shape[1:])
    if array.graph_blocks is None:
        return da.from_array(source, chunks=suitable)
    return da.from_array(source, chunks=array.graph_blocks).map_blocks(as_it_is).rechunk(suitable)


def as_it_is(block: np.ndarray) -> np.ndarray:
    """Return a block: the work in a graph that is given."""
    return block


def hdf5_filters(row: Row) -> dict[str, Any]:
    """Return the codec as keyword arguments of ``create_dataset``.

    Parameters
    ----------
    row : Row
        Format and codec.
    """
    if row.family == "none":
        return {}
    shuffle = {"shuffle": True} if row.shuffle else {}
    if row.family == "gzip":
        return {"compression": "gzip", "compression_opts": row.level, **shuffle}
    if row.family == "lzf":
        return {"compression": "lzf", **shuffle}
    if row.family == "szip":
        return {"compression": "szip", "compression_opts": ("nn", 8)}
    return {**_plugin(row), **shuffle}


def _plugin(row: Row) -> Any:
    if row.family == "zstd":
        return hdf5plugin.Zstd(clevel=row.level)
    if row.family == "lz4":
        return hdf5plugin.LZ4()
    if row.family == "bitshuffle":
        return hdf5plugin.Bitshuffle(cname="lz4")
    if row.family == "blosc":
        shuffle = hdf5plugin.Blosc.SHUFFLE
        return hdf5plugin.Blosc(cname=row.cname, clevel=row.level, shuffle=shuffle)
    return hdf5plugin.Blosc2(cname=row.cname, clevel=row.level, filters=hdf5plugin.Blosc2.SHUFFLE)
