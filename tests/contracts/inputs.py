"""Inputs of every kind, for the tests of everything with everything."""

import math

import dask
import dask.array as da
import h5py
import numpy as np
from hypothesis import strategies as st

import lazyio

RECORD = np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3")])
DTYPES = ["?", "i1", "u2", ">i4", "i8", "f2", "f4", ">f8", "c8", "S5", "U4", "M8[ms]", "m8[D]"]
SOURCES = ["numpy", "strided", "hdf5", "contiguous", "raw", "npy", "zarr", "function", "graph"]
SOURCES += ["reversed", "joined", "masked"]


def one_at_a_time(graph, keys, **options):
    """Be a scheduler of the user's own."""
    return dask.get(graph, keys)


def make(kind, values, blocks, folder):
    """Return values as an input of some kind, or themselves where a format lacks the dtype."""
    if kind == "strided":
        return np.repeat(values, 2, axis=0)[::2] if values.ndim else values
    if kind in ("hdf5", "contiguous") and values.dtype.kind not in "UMm":
        with h5py.File(folder / "source.h5", "w") as file:
            chunked = kind == "hdf5" and values.size
            file.create_dataset("x", data=values, chunks=blocks if chunked else None)
        return lazyio.open(folder / "source.h5", "x")
    if kind == "raw" and values.size:
        values.tofile(folder / "source.raw")
        return lazyio.from_raw(folder / "source.raw", values.shape, values.dtype)
    if kind == "npy":
        np.save(folder / "source.npy", values)
        return lazyio.open(folder / "source.npy")
    if kind == "function":
        return lazyio.from_function(values.__getitem__, values.shape, values.dtype, chunks=blocks)
    if kind in ("graph", "reversed", "joined"):
        array = da.from_array(values, chunks=blocks).map_blocks(lambda block: block)
        if kind == "reversed" and values.ndim:
            return da.from_array(values[::-1].copy(), chunks=blocks)[::-1]
        if kind == "joined" and values.ndim:
            half = values.shape[0] // 2
            return da.concatenate([array[:half], array[half:]])
        return array
    if kind == "masked":
        return np.ma.array(values) if values.dtype.names is None else values
    return values


@st.composite
def arrays(draw):
    """Return an array, the blocks of its source, and chunks to write it in."""
    dtype = np.dtype(draw(st.sampled_from([*DTYPES, RECORD])))
    shape = tuple(draw(st.lists(st.integers(0, 11), max_size=4)))
    n = math.prod(shape)
    numbers = np.random.default_rng(draw(st.integers(0, 5))).integers(-30, 100, n)
    if dtype.names:
        values = np.zeros(n, dtype)
        values["a"], values["b"] = numbers, numbers
        values["c"] = numbers.astype("S3")
    else:
        values = numbers.astype(
            "S5" if dtype.kind in "SU" else "f8" if dtype.kind in "fc" else "i8"
        )
        values = values.astype(dtype)
    blocks = tuple(draw(st.integers(1, max(1, extent))) for extent in shape)
    chunks = tuple(draw(st.integers(1, max(1, extent)) | st.just(-1)) for extent in shape)
    return values.reshape(shape), blocks, chunks
