"""Everything with everything, to Zarr: source, dtype, shape, chunks, shards, codec, scheduler.

Any two meet in every run; ``HYPOTHESIS_PROFILE=explore`` tries many more.
"""

import math
import random
from concurrent.futures import ThreadPoolExecutor

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
from inputs import AXES, array_of, make
from pairwise import cases
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import lazyio
from lazyio.errors import PlanError
from lazyio.sources.zarr_metadata import METADATA_FILES

CODECS = {
    "v3": {},
    "v3_plain": {"compressors": None},
    "v3_zstd": {"compressors": ZstdCodec(level=1, checksum=True)},
    "v3_blosc": {"compressors": BloscCodec(cname="lz4", shuffle="bitshuffle")},
    "v3_gzip_crc32c": {"compressors": [GzipCodec(level=1), Crc32cCodec()]},
    "v3_turned": {"filters": "turned"},
    "v2": {"zarr_format": 2},
    "v2_plain": {"zarr_format": 2, "compressors": None},
    "v2_zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib(1)},
    "v2_lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "v2_blosc_shuffle": {
        "zarr_format": 2,
        "compressors": numcodecs.Blosc(),
        "filters": "shuffled",
    },
}
MORE = {"shards": ["none", "auto_shards", "own_shards"], "empty": {"fill": None, "empty": True}}


def options_of(case, values, chunks, chance):
    """Return what to write with."""
    options = {"zarr_format": 3, **case["codec"], "write_empty_chunks": case["empty"]}
    if options.get("filters") == "turned":
        options["filters"] = [TransposeCodec(order=tuple(reversed(range(values.ndim))))]
    if options.get("filters") == "shuffled":
        options["filters"] = [numcodecs.Shuffle(values.dtype.itemsize)]
    options["chunks"] = chunks if case["chunks"] == "own" else "auto"
    is_shardable = values.size and values.ndim and not values.dtype.names
    if options["zarr_format"] == 3 and is_shardable and case["shards"] != "none":
        options["shards"] = "auto"
        if case["shards"] == "own_shards":
            whole = [n if step < 0 else step for n, step in zip(values.shape, chunks, strict=True)]
            options["chunks"] = tuple(whole)
            options["shards"] = tuple(chance.randint(1, 3) * step for step in whole)
    return options


@pytest.mark.parametrize("case", cases(codec=CODECS, **AXES, **MORE))
def test_what_is_written_is_read(tmp_path, request, case):
    """By zarr-python and tensorstore, with the chunks and shards that were asked for."""
    chance, folder, limit = random.Random(request.node.name), tmp_path, case["limit"]
    values, blocks, chunks = array_of(case["dtype"], case["shape"], chance)
    options = options_of(case, values, chunks, chance)
    data = make(case["source"], values, blocks, folder)
    with ThreadPoolExecutor(3) as pool:
        options["scheduler"] = pool if case["scheduler"] == "pool" else case["scheduler"]
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
