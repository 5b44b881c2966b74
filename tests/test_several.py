"""Several arrays in one pass: shared work once, bounded memory, all of them or none."""

import json
import os
import subprocess
import sys

import dask.array as da
import h5py
import numpy as np
import pytest

import lazyio
from lazyio.errors import BlockError, OptionError, TargetExistsError


def read(path, key):
    with h5py.File(path, "r") as file:
        return file[key][()]


def counting(values, **options):
    """Return an array straight from a source, and a list of the regions that were read."""
    regions = []

    def fetch(region):
        regions.append(region)
        return values[region]

    return lazyio.from_function(fetch, values.shape, values.dtype, **options), regions


def n_elements(regions):
    return sum(np.prod([part.stop - part.start for part in region]) for region in regions)


@pytest.mark.parametrize("prefix", [None, "group", "/deep/er"])
@pytest.mark.parametrize("order", ["data-first", "path-first"])
def test_each_goes_under_its_key(tmp_path, recording, prefix, order):
    """In lazyio's and in dask's order of arguments, in a group or in the root."""
    data = {"a": recording, "/b/c": da.from_array(recording, chunks=300) + np.int16(1)}
    path = tmp_path / "x.h5"
    arguments = (data, path) if order == "data-first" else (path, data)
    report = lazyio.to_hdf5(*arguments, **({} if prefix is None else {"key": prefix}))
    at = "" if prefix is None else prefix.strip("/") + "/"
    assert (read(path, f"{at}a") == recording).all()
    assert (read(path, f"{at}b/c") == recording + 1).all()
    assert tuple(report.plans) == report.keys
    assert [key.strip("/") for key in report.keys] == [f"{at}a", f"{at}b/c"]
    assert report.nbytes == 2 * recording.nbytes
    assert report.n_chunks == sum(plan.n_chunks for plan in report.plans.values())
    assert report.plan is report.plans[report.keys[0]]
    assert "2 arrays" in str(report)


def test_a_block_that_arrays_share_is_read_once(tmp_path, recording):
    """The source itself, what is made of it block by block, and reductions."""
    x, regions = counting(recording, chunks=(100, 64))
    data = {"raw": x, "twice": x * 2, "sum": x.sum(axis=0), "max": x.max()}
    lazyio.to_hdf5(data, tmp_path / "x.h5")
    assert n_elements(regions) == recording.size
    assert (read(tmp_path / "x.h5", "raw") == recording).all()
    assert (read(tmp_path / "x.h5", "twice") == recording * 2).all()
    assert (read(tmp_path / "x.h5", "sum") == recording.sum(axis=0)).all()
    assert read(tmp_path / "x.h5", "max") == recording.max()


def test_what_needs_all_of_a_source_first_reads_it_again(tmp_path, recording):
    """A block is not kept until the mean is known: twice, and no more, for the centred one."""
    x, regions = counting(recording.astype("f8"), chunks=(100, 64))
    data = {"mean": x.mean(axis=0), "centred": x - x.mean(axis=0)}
    lazyio.to_hdf5(data, tmp_path / "x.h5")
    assert n_elements(regions) == 2 * recording.size
    np.testing.assert_allclose(read(tmp_path / "x.h5", "centred").mean(axis=0), 0, atol=1e-9)


def test_work_that_arrays_share_is_done_once(tmp_path):
    """A user's own function runs once for each block, however many arrays use it."""
    calls = []

    def count(block, block_id=None):
        if block.size:
            calls.append(block_id)
        return block

    shared = da.ones((60, 40), chunks=(20, 20)).map_blocks(count, dtype=float)
    data = {"a": shared + 1, "b": shared * 5, "same": shared, "again": shared}
    lazyio.to_hdf5(data, tmp_path / "x.h5", chunks=(15, 7))
    assert sorted(calls) == sorted(set(calls))
    assert len(calls) == 6
    for key, value in {"a": 2, "b": 5, "same": 1, "again": 1}.items():
        assert (read(tmp_path / "x.h5", key) == value).all()


def test_arrays_that_have_nothing_in_common(tmp_path, recording):
    """Straight sources, graphs, shapes without axes or elements, other dtypes."""
    data = {
        "source": recording,
        "graph": da.arange(1000, chunks=77) * 2,
        "scalar": np.float32(3),
        "empty": np.empty((0, 3), "u1"),
        "reduced": da.ones((10, 10), chunks=3).sum(),
    }
    report = lazyio.to_hdf5(data, tmp_path / "x.h5", compression="gzip")
    assert (read(tmp_path / "x.h5", "source") == recording).all()
    assert (read(tmp_path / "x.h5", "graph") == np.arange(1000) * 2).all()
    assert read(tmp_path / "x.h5", "scalar") == 3
    assert read(tmp_path / "x.h5", "empty").shape == (0, 3)
    assert read(tmp_path / "x.h5", "reduced") == 100
    assert report.keys == tuple(data)


def test_progress_counts_over_all_keys(tmp_path, recording):
    """One count of blocks, each step with the key that it belongs to."""
    x = da.from_array(recording, chunks=(250, 64)) + np.int16(0)
    steps = []
    data = {"a": x, "b": x * 2, "c": recording}
    report = lazyio.to_hdf5(data, tmp_path / "x.h5", progress=steps.append)
    assert [step.n_done for step in steps] == list(range(1, report.n_blocks + 1))
    assert {step.n_total for step in steps} == {report.n_blocks}
    assert {step.key for step in steps} == {"a", "b", "c"}
    assert steps[-1].nbytes == report.nbytes == 3 * recording.nbytes


@pytest.mark.parametrize("exists", [False, True])
def test_one_that_fails_leaves_nothing_of_all(tmp_path, recording, exists):
    """The old file stays, or none; the region is that of the one that failed."""
    path = tmp_path / "x.h5"
    if exists:
        lazyio.to_hdf5(recording, path, "old")
    before = path.read_bytes() if exists else None

    def fail(block, block_id=None):
        if block_id == (2, 0):
            raise ValueError("bad block")
        return block

    x = da.from_array(recording, chunks=(100, 64))
    data = {"a": x * 2, "b": x.map_blocks(fail, dtype="i2"), "c": recording}
    with pytest.raises(BlockError, match=r"\[200:300, 0:64\].*bad block"):
        lazyio.to_hdf5(data, path)
    assert (path.read_bytes() if path.exists() else None) == before
    assert os.listdir(tmp_path) == (["x.h5"] if exists else [])


def test_keys_that_clash(tmp_path, recording):
    """With each other, with the file, and below one another."""
    path = tmp_path / "x.h5"
    with pytest.raises(OptionError, match="'a' and '/a' are the same"):
        lazyio.to_hdf5({"a": recording, "/a": recording}, path)
    with pytest.raises(OptionError, match="'a/b' lies below 'a'"):
        lazyio.to_hdf5({"a": recording, "a/b": recording}, path)
    assert os.listdir(tmp_path) == []
    lazyio.to_hdf5({"a": recording}, path)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_hdf5({"new": recording, "a": recording}, path)
    lazyio.to_hdf5({"new": recording, "a": recording * 2}, path, overwrite=True)
    assert (read(path, "a") == recording * 2).all()


@pytest.mark.parametrize("data", [{}, {1: np.ones(3)}, {"a": np.ones(3), None: np.ones(3)}])
def test_mappings_that_are_none(tmp_path, data):
    with pytest.raises(OptionError, match="give at least one, each of them text"):
        lazyio.to_hdf5(data, tmp_path / "x.h5")


def test_keys_of_any_text(tmp_path):
    """Unicode, newlines, spaces, long: whatever HDF5 takes as a name."""
    keys = ["日本/µV", "new\nline", " a b ", "x" * 300, "🧠"]
    lazyio.to_hdf5({key: np.full(3, at) for at, key in enumerate(keys)}, tmp_path / "x.h5")
    for at, key in enumerate(keys):
        assert (read(tmp_path / "x.h5", key) == at).all()


def test_attributes_and_names_of_axes_by_key(tmp_path):
    """A mapping of mappings goes by key; anything else is for all of them."""
    data = {"a": np.ones((3, 4)), "g/b": np.ones(3)}
    by_key = {"a": {"unit": "V"}, "/g/b": {"unit": "A"}}
    dims = {"a": ("x", "y"), "g/b": ("x",)}
    lazyio.to_hdf5(data, tmp_path / "x.h5", attrs=by_key, dims=dims)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["a"].attrs["unit"] == "V"
        assert file["g/b"].attrs["unit"] == "A"
        assert file["a"].dims[1][0].name == "/y"
        assert file["g/b"].dims[0][0].name == "/g/x"
    lazyio.to_hdf5(data, tmp_path / "x.h5", mode="w", attrs={"a": {"unit": "V"}})
    with h5py.File(tmp_path / "x.h5") as file:
        assert not file["g/b"].attrs
    lazyio.to_hdf5(data, tmp_path / "x.h5", mode="w", attrs={"run": 5, "a": {"k": 1}})
    with h5py.File(tmp_path / "x.h5") as file:
        assert json.loads(file["g/b"].attrs["a"]) == {"k": 1}
        assert file["a"].attrs["run"] == 5
    with pytest.raises(OptionError, match=r"dims has the keys \['typo'\]"):
        lazyio.to_hdf5(data, tmp_path / "x.h5", mode="w", dims={"typo": ("x",)})


MEASURE = """
import json, sys
import numpy as np
import lazyio

def fetch(region):
    shape = [part.stop - part.start for part in region]
    return np.full(shape, region[0].start % 100, "int16")

def write(n, path):
    x = lazyio.from_function(fetch, (n, 256), "int16", chunks=(2000, 256), memory_limit="48 MiB")
    centred = x - x.mean(axis=0).astype("int16")
    data = {"raw": x, "twice": x * 2, "odd": x[:, 1:] + 1, "mean": x.mean(axis=0), "c": centred}
    lazyio.to_hdf5(data, path, mode="w", memory_limit="48 MiB", workers=2, chunks={0: 1500},
                   compression="zstd", shuffle=True)

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


def test_growth_stays_within_the_limit(tmp_path):
    """150 MB of source, four arrays of that size from it, misaligned, in 48 MiB."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "x.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= 48 * 2**20


def test_attributes_of_an_array_that_there_is_not(tmp_path):
    """A misspelled key is an error, as it is for dims."""
    attrs = {"a": {"units": "V"}, "bb": {"units": "V"}}
    for to in (lazyio.to_hdf5, lazyio.to_zarr):
        name = "attrs" if to is lazyio.to_hdf5 else "attributes"
        with pytest.raises(OptionError, match="has the keys"):
            to({"a": np.ones(3), "b": np.ones(3)}, tmp_path / "x", **{name: attrs})
