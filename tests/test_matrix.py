"""Everything with everything: source, dtype, shape, chunks, codec, scheduler, memory.

Any two meet in every run; ``HYPOTHESIS_PROFILE=explore`` tries many more.
"""

import random
from concurrent.futures import ThreadPoolExecutor

import h5py
import hdf5plugin
import numpy as np
import pytest
from inputs import AXES, array_of, make
from pairwise import cases

import lazyio
from lazyio.errors import PlanError

CODECS = {
    "plain": {},
    "contiguous": {"chunks": None},
    "gzip1": {"compression": "gzip", "compression_opts": 1},
    "gzip6_shuffle": {"compression": "gzip", "compression_opts": 6, "shuffle": True},
    "gzip_fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "zstd": {"compression": "zstd", "shuffle": True},
    "blosc": {"compression": "blosc", "compression_opts": ("lz4", 3, "byte")},
    "lzf": {"compression": "lzf"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "lz4": dict(hdf5plugin.LZ4()),
    "bitshuffle": dict(hdf5plugin.Bitshuffle()),
}
BY_BITS = (hdf5plugin.Bitshuffle.filter_id,)


@pytest.mark.parametrize("case", cases(codec=CODECS, **AXES))
def test_what_is_written_is_read(tmp_path, request, case):
    """By stock h5py, element for element, with the chunks and filters that were asked for."""
    chance, folder, limit = random.Random(request.node.name), tmp_path, case["limit"]
    values, blocks, chunks = array_of(case["dtype"], case["shape"], chance)
    codec = case["codec"]
    if (codec.get("compression") in BY_BITS and values.dtype.names) or (
        "fletcher32" in codec and values.dtype.kind == "U"
    ):
        codec = {}  # Of which the filter makes nothing.
    options = {"chunks": chunks if case["chunks"] == "own" else "auto", **codec}
    data = make(case["source"], values, blocks, folder)
    with ThreadPoolExecutor(3) as pool:
        options["scheduler"] = pool if case["scheduler"] == "pool" else case["scheduler"]
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
