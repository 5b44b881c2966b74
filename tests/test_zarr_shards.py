"""Shards: written whole, once, by one task, within the memory limit."""

import json
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import OptionError, PlanError
from lazyio.storage.zarr.array import ZarrTarget


@pytest.fixture
def written(monkeypatch):
    """Return the indices of all objects that are handed to a target."""
    indices = []
    whole = ZarrTarget.write_chunk

    def note(self, index, chunk, workspace):
        indices.append(tuple(index))
        whole(self, index, chunk, workspace)

    monkeypatch.setattr(ZarrTarget, "write_chunk", note)
    return indices


def objects(path):
    return [file for file in (path / "c").rglob("*") if file.is_file()]


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_shard_is_written_once(tmp_path_factory, written, data):
    """Whatever the shape, the blocks, the limit; shards reach beyond the end or not."""
    path = tmp_path_factory.mktemp("shards") / "x.zarr"
    shape = tuple(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    shards = tuple(chunk * data.draw(st.integers(1, 3)) for chunk in chunks)
    values = np.arange(1, np.prod(shape) + 1, dtype="i4").reshape(shape)
    source = values
    if data.draw(st.booleans()):
        blocks = tuple(data.draw(st.integers(1, n)) for n in shape)
        source = da.from_array(values, chunks=blocks).map_blocks(lambda block: block)
    written.clear()
    limit = data.draw(st.sampled_from(["1 GiB", "300 kB"]))
    report = lazyio.to_zarr(source, path, chunks=chunks, shards=shards, memory_limit=limit)
    array = zarr.open_array(path, mode="r")
    assert (array.chunks, array.shards) == (chunks, shards)
    np.testing.assert_array_equal(array[...], values)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), values)
    assert len(written) == len(set(written)) == report.plan.n_shards == len(objects(path))
    assert report.peak_nbytes <= report.plan.memory_limit


@pytest.mark.parametrize("limit", ["1 MB", "20 MB", "1 GiB"])
@pytest.mark.parametrize("form", ["array", "graph"])
def test_auto_makes_few_that_fit(tmp_path, written, limit, form):
    """More memory, fewer objects; the plan says how many."""
    values = np.arange(10**6, dtype="i4").reshape(5000, 200)
    source = values if form == "array" else da.from_array(values, chunks=(700, 70)) + np.int32(0)
    options = {"chunks": (50, 20), "shards": "auto", "memory_limit": limit}
    report = lazyio.to_zarr(source, tmp_path / "x.zarr", **options)
    plan = report.plan
    assert len(written) == len(set(written)) == plan.n_shards < plan.n_chunks
    assert all(s % c == 0 for s, c in zip(plan.shard_shape, plan.chunk_shape, strict=True))
    assert plan.peak_nbytes <= plan.memory_limit
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "x.zarr")[...], values)


def test_a_limit_that_is_too_small_names_one_that_would_do(tmp_path):
    """Before anything is read or made."""
    options = {"chunks": (100, 100), "shards": (1000, 1000)}
    with pytest.raises(PlanError, match="memory_limit") as caught:
        lazyio.to_zarr(np.ones((1000, 1000)), tmp_path / "x.zarr", memory_limit="1 MB", **options)
    assert not (tmp_path / "x.zarr").exists()
    least = int(str(caught.value).rpartition("=")[2])
    lazyio.to_zarr(np.ones((1000, 1000)), tmp_path / "x.zarr", memory_limit=least, **options)
    assert (zarr.open_array(tmp_path / "x.zarr")[...] == 1).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"chunks": (3, 4), "shards": (7, 8)}, "not a multiple of chunk_shape"),
        ({"chunks": (3, 4), "shards": (6,)}, "shards"),
        ({"chunks": (3, 4), "shards": "many"}, "shards"),
        ({"chunks": (3, 4), "shards": (6, 8), "zarr_format": 2}, "cannot be created"),
    ],
)
def test_shards_that_are_none(tmp_path, options, match):
    with pytest.raises((OptionError, PlanError), match=match):
        lazyio.to_zarr(np.ones((10, 10)), tmp_path / "x.zarr", **options)
    assert not (tmp_path / "x.zarr").exists()


MEASURE = """
import json, sys
import numpy as np
import lazyio

def fetch(region):
    shape = [part.stop - part.start for part in region]
    return np.full(shape, region[0].start % 100, "int16")

def write(n, path):
    x = lazyio.from_function(fetch, (n, 256), "int16", chunks=(3000, 256))
    shards = json.loads(sys.argv[2])
    lazyio.to_zarr(x * 2, path, mode="w", memory_limit="32 MiB", workers=2, chunks=(500, 64),
                   shards=tuple(shards) if isinstance(shards, list) else shards)

def resident():
    # Peak since the last reset, so that what was freed before does not count.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

write(6000, sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write(300_000, sys.argv[1])
print(json.dumps({"growth": resident() - before}))
"""


@pytest.mark.parametrize("shards", ["auto", (4000, 256)])
def test_growth_stays_within_the_limit(tmp_path, shards):
    """150 MB in shards that cut across blocks, in 32 MiB."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "x.zarr"), json.dumps(shards)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= 32 * 2**20
