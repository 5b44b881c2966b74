"""Everything with everything, to Zarr: source, dtype, rank, chunks, shards, codec, scheduler.

Quick in every run, with the same cases; ``HYPOTHESIS_PROFILE=explore`` tries many more.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numcodecs
import numpy as np
import tensorstore
import zarr
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from inputs import SOURCES, arrays, make, one_at_a_time
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import lazyio
from lazyio.errors import PlanError
from lazyio.sources.zarr_metadata import METADATA_FILES

N_EXAMPLES = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 120

CODECS = {
    3: [
        {},
        {"compressors": None},
        {"compressors": ZstdCodec(level=1, checksum=True)},
        {"compressors": BloscCodec(cname="lz4", shuffle="bitshuffle")},
        {"compressors": [GzipCodec(level=1), Crc32cCodec()]},
        {"filters": "turned"},
    ],
    2: [
        {},
        {"compressors": None},
        {"compressors": numcodecs.Zlib(1)},
        {"compressors": numcodecs.LZ4()},
        {"compressors": numcodecs.Blosc(), "filters": [numcodecs.Shuffle(4)]},
    ],
}


@st.composite
def cases(draw):
    """Return an array with the blocks of its source, and options to write it with."""
    values, blocks, chunks = draw(arrays())
    version = draw(st.sampled_from([2, 3, 3]))
    options = {"zarr_format": version, **draw(st.sampled_from(CODECS[version]))}
    if options.get("filters") == "turned":
        options["filters"] = [TransposeCodec(order=tuple(reversed(range(values.ndim))))]
    options["chunks"] = draw(st.sampled_from([chunks, "auto"]))
    if version == 3 and values.size and values.ndim and not values.dtype.names:
        whole = [n if chunk < 0 else chunk for n, chunk in zip(values.shape, chunks, strict=True)]
        shards = tuple(draw(st.integers(1, 3)) * chunk for chunk in whole)
        options["shards"] = draw(st.sampled_from([None, None, "auto", shards]))
        if options["shards"] == shards:
            options["chunks"] = tuple(whole)
    options["write_empty_chunks"] = draw(st.sampled_from([None, True]))
    return values, blocks, options


@settings(max_examples=N_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cases(),
    st.sampled_from(SOURCES),
    st.sampled_from(["threads", "sync", one_at_a_time, "pool"]),
    st.sampled_from(["1 GiB", "100 kB", "1 kB"]),
)
def test_what_is_written_is_read(tmp_path_factory, case, source, scheduler, limit):
    """By zarr-python and tensorstore, with the chunks and shards that were asked for."""
    values, blocks, options = case
    event(f"{source}, {values.dtype.kind}")
    folder = tmp_path_factory.mktemp("matrix")
    data = make(source, values, blocks, folder)
    with ThreadPoolExecutor(3) as pool:
        options["scheduler"] = pool if scheduler == "pool" else scheduler
        try:
            report = lazyio.to_zarr(data, folder / "x.zarr", memory_limit=limit, **options)
        except PlanError as error:
            # The least that would do is named, and does.
            least = int(str(error).rpartition("=")[2])
            report = lazyio.to_zarr(data, folder / "x.zarr", memory_limit=least, **options)
    array = zarr.open_array(folder / "x.zarr", mode="r")
    found = np.asarray(array[...])
    if values.dtype.kind in "mM":
        found = found.view(values.dtype.newbyteorder("="))
    assert found.shape == values.shape
    np.testing.assert_array_equal(found, values)
    assert array.chunks == report.plan.chunk_shape
    assert array.shards == report.plan.shard_shape
    if values.dtype.kind in "biufc" and values.dtype != bool:
        with_others = read_tensorstore(folder / "x.zarr", options["zarr_format"])
        if with_others is not None:
            np.testing.assert_array_equal(with_others, values)
    np.testing.assert_array_equal(lazyio.open(folder / "x.zarr"), values)
    assert report.peak_nbytes <= report.plan.memory_limit
    files = [file for file in (folder / "x.zarr").rglob("*") if file.is_file()]
    n_objects = sum(file.name not in METADATA_FILES for file in files)
    unit = report.plan.shard_shape or report.plan.chunk_shape
    n_units = math.prod(-(-n // u) for n, u in zip(values.shape, unit, strict=True))
    assert n_objects == n_units if options["write_empty_chunks"] else n_objects <= n_units
    assert sum(file.stat().st_size for file in files if file.name not in METADATA_FILES) == (
        report.stored_nbytes
    )
    assert {item.name for item in folder.iterdir() if "source" not in item.name} == {"x.zarr"}


def read_tensorstore(path, version):
    """Return what tensorstore reads, ``None`` where it has not all of the codecs."""
    spec = {"driver": "zarr3" if version == 3 else "zarr"}
    spec["kvstore"] = {"driver": "file", "path": str(path)}
    try:
        opened = tensorstore.open(spec).result()
    except ValueError:
        assert version == 2
        return None
    return opened.read().result()
