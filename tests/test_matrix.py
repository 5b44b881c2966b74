"""Everything with everything: source, dtype, rank, chunks, codec, scheduler, memory.

Quick in every run, with the same cases; ``HYPOTHESIS_PROFILE=explore`` tries many more.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import h5py
import hdf5plugin
import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import PlanError

N_EXAMPLES = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 150

RECORD = np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3")])
DTYPES = ["?", "i1", "u2", ">i4", "i8", "f2", "f4", ">f8", "c8", "S5", "U4", "M8[ms]", "m8[D]"]
CODECS = [
    {},
    {"chunks": None},
    {"compression": "gzip", "compression_opts": 1},
    {"compression": "gzip", "compression_opts": 6, "shuffle": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "zstd", "shuffle": True},
    {"compression": "blosc", "compression_opts": ("lz4", 3, "byte")},
    {"compression": "lzf"},
    {"shuffle": True},
    {"fletcher32": True},
    dict(hdf5plugin.LZ4()),
    dict(hdf5plugin.Bitshuffle()),
]
BY_BITS = (hdf5plugin.Bitshuffle.filter_id,)
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
def cases(draw):
    """Return an array with the blocks of its source, chunks and options to write it with."""
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
    codec = draw(st.sampled_from(CODECS))
    if (codec.get("compression") in BY_BITS and dtype.names) or (
        "fletcher32" in codec and dtype.kind == "U"
    ):
        codec = {}  # Of which the filter makes nothing.
    options = {"chunks": draw(st.sampled_from([chunks, "auto"])), **codec}
    return values.reshape(shape), blocks, options


@settings(max_examples=N_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cases(),
    st.sampled_from(SOURCES),
    st.sampled_from(["threads", "sync", one_at_a_time, "pool"]),
    st.sampled_from(["1 GiB", "100 kB", "1 kB"]),
)
def test_what_is_written_is_read(tmp_path_factory, case, source, scheduler, limit):
    """By stock h5py, element for element, with the chunks and filters that were asked for."""
    values, blocks, options = case
    event(f"{source}, {values.dtype.kind}")
    folder = tmp_path_factory.mktemp("matrix")
    data = make(source, values, blocks, folder)
    with ThreadPoolExecutor(3) as pool:
        options["scheduler"] = pool if scheduler == "pool" else scheduler
        try:
            report = lazyio.to_hdf5(data, folder / "x.h5", "x", memory_limit=limit, **options)
        except PlanError as error:
            # The least that would do is named, and does.
            least = int(str(error).rpartition("=")[2])
            report = lazyio.to_hdf5(data, folder / "x.h5", "x", memory_limit=least, **options)
    with h5py.File(folder / "x.h5") as file:
        dataset = file["x"]
        found = dataset.asstr()[()] if values.dtype.kind == "U" else dataset[()]
        is_chunked = options["chunks"] is not None and values.size and values.ndim
        assert dataset.chunks == (report.plan.chunk_shape if is_chunked else None)
        if is_chunked:
            assert dataset.shuffle == options.get("shuffle", False)
            assert dataset.fletcher32 == options.get("fletcher32", False)
    if values.dtype.kind in "mM":
        found = np.asarray(found).view(values.dtype)
    wanted = values.astype(object) if values.dtype.kind == "U" else values
    assert np.shape(found) == values.shape
    np.testing.assert_array_equal(found, wanted)
    assert report.peak_nbytes <= report.plan.memory_limit
    assert sorted(item.name for item in folder.iterdir() if "source" not in item.name) == ["x.h5"]
