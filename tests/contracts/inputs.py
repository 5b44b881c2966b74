"""Inputs of every kind, for the tests of everything with everything."""

import math

import dask
import dask.array as da
import h5py
import numpy as np

import lazyio

RECORD = np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3")])
DTYPES = ["?", "i1", "u2", ">i4", "i8", "f2", "f4", ">f8", "c8", "S5", "U4", "M8[ms]", "m8[D]"]
SOURCES = ["numpy", "strided", "hdf5", "contiguous", "raw", "npy", "function", "graph"]
SOURCES += ["reversed", "joined", "masked"]
SHAPES = [(), (1,), (11,), (7, 10), (0, 3), (9, 0), (4, 11, 5), (3, 2, 6, 4), (1, 1, 8)]


def one_at_a_time(graph, keys, **options):
    """Be a scheduler of the user's own."""
    return dask.get(graph, keys)


AXES = {
    "source": SOURCES,
    "dtype": {**{name: name for name in DTYPES}, "record": RECORD},
    "shape": {"x".join(map(str, shape)) or "scalar": shape for shape in SHAPES},
    "chunks": ["auto", "own"],
    "scheduler": {"threads": "threads", "sync": "sync", "own": one_at_a_time, "pool": "pool"},
    "limit": ["1 GiB", "100 kB", "1 kB"],
}
"""What any target is tried with, beside its own codecs."""


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
        # numpy's own fill value is a value of these, or more than they hold.
        is_plain = values.dtype.names is not None or values.dtype in ("?", "i1", "f2")
        return values if is_plain else np.ma.array(values)
    return values


def array_of(dtype, shape, chance):
    """Return an array of some dtype, the blocks of its source, and chunks to write it in."""
    dtype = np.dtype(dtype)
    numbers = np.random.default_rng(chance.randrange(6)).integers(-30, 100, math.prod(shape))
    if dtype.names:
        values = np.zeros(len(numbers), dtype)
        values["a"], values["b"] = numbers, numbers
        values["c"] = numbers.astype("S3")
    else:
        kind = "S5" if dtype.kind in "SU" else "f8" if dtype.kind in "fc" else "i8"
        values = numbers.astype(kind).astype(dtype)
    blocks = tuple(chance.randint(1, max(1, extent)) for extent in shape)
    chunks = tuple(chance.choice([chance.randint(1, max(1, extent)), -1]) for extent in shape)
    return values.reshape(shape), blocks, chunks
