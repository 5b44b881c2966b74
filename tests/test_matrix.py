"""Everything with everything: source, dtype, rank, chunks, codec, scheduler, memory.

Quick in every run, with the same cases; ``HYPOTHESIS_PROFILE=explore`` tries many more.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import hdf5plugin
import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from inputs import SOURCES, arrays, make, one_at_a_time

import lazyio
from lazyio.errors import PlanError

N_EXAMPLES = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 150

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


@st.composite
def cases(draw):
    """Return an array with the blocks of its source, chunks and options to write it with."""
    values, blocks, chunks = draw(arrays())
    dtype = values.dtype
    codec = draw(st.sampled_from(CODECS))
    if (codec.get("compression") in BY_BITS and dtype.names) or (
        "fletcher32" in codec and dtype.kind == "U"
    ):
        codec = {}  # Of which the filter makes nothing.
    options = {"chunks": draw(st.sampled_from([chunks, "auto"])), **codec}
    return values, blocks, options


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
