"""Arrays that are appended to: what was pushed is what is read, however it came."""

import contextlib
import itertools
import os
import sys
import threading
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - so that stock h5py reads zstd
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.appending import hdf5_commit as hdf5_ways
from lazyio.appending import writer as flusher
from lazyio.appending import writer as writer_module
from lazyio.atomic import fsync as sync
from lazyio.atomic.recovery import leftovers, recover
from lazyio.atomic.workdir import hidden_path
from lazyio.errors import (
    BlockError,
    OptionError,
    PlanError,
    TargetError,
    TargetExistsError,
    TargetLockedError,
)
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata


@pytest.fixture(params=["h5", "zarr"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def read(path, key="x"):
    """Read by stock h5py or zarr-python."""
    if path.suffix == ".zarr":
        return zarr.open_array(path, path=key, mode="r")[...]
    with h5py.File(path, "r") as file:
        return file[key][...]


def numbers(*shape, dtype="i4"):
    return np.random.default_rng(0).integers(-(2**15), 2**15, shape).astype(dtype)


def push(path, values, n_batch, *, axis=0, key="x", **options):
    """Append an array in batches, and return nothing."""
    values = np.moveaxis(values, axis, 0)
    made = {"dtype": values.dtype, "item_shape": values.shape[1:], "axis": axis}
    with lazyio.writer(path) as w:
        x = w.create(key, **made, **options)
        for at in range(0, len(values), n_batch):
            x.append(np.moveaxis(values[at : at + n_batch], 0, axis))


def fail_after(path, push_to, **options):
    """Raise from a writer, once something was pushed to it."""
    with lazyio.writer(path, **options) as w:
        push_to(w)
        raise RuntimeError("the amplifier is off")


def is_clean(path):
    """Nothing is left beside it, and all is as it was written."""
    report = lazyio.verify(path)
    assert report.status == "ok", report
    return not leftovers(path)


@pytest.mark.parametrize("n_batch", [1, 7, 50, 1000])
@pytest.mark.parametrize("chunks", ["auto", (16, 5), (50, 9), (1, 9)], ids=str)
def test_batches_of_any_size(path, n_batch, chunks):
    values = numbers(333, 9)
    push(path, values, n_batch, chunks=chunks)
    np.testing.assert_array_equal(read(path), values)
    assert is_clean(path)


def test_row_by_row(path):
    """Elements without the axis of growth; numbers of an array without other axes, too."""
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="f4", item_shape=(3,), chunks=(10, 3))
        t = w.create("t", dtype="i8", item_shape=(), chunks=7)
        for at in range(25):
            x.append(np.full(3, at, "f4"))
            t.append(at)
        assert (x.shape, len(t), x.dtype, t.axis) == ((25, 3), 25, "f4", 0)
    assert (read(path)[:, 1] == np.arange(25)).all()
    assert (read(path, "t") == np.arange(25)).all()


def test_slabs_that_are_overrun(path):
    """Batches larger than what is held at once, from a small memory limit."""
    values = numbers(40_000, 16, dtype="i2")
    with lazyio.writer(path, memory_limit="300 kB") as w:
        x = w.create("x", dtype="i2", item_shape=(16,), chunks=(100, 16))
        x.append(values[:5])
        x.append(values[5:39_999])
        x.append(values[39_999])
    np.testing.assert_array_equal(read(path), values)
    assert is_clean(path)


def test_the_batch_may_be_used_again(path):
    batch = np.zeros((10, 4), "i2")
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i2", item_shape=4, chunks=(8, 4))
        for at in range(20):
            batch[...] = at
            x.append(batch)
    assert (read(path)[:, 0] == np.repeat(np.arange(20), 10)).all()


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_any_axis(path, axis):
    values = numbers(6, 5, 40)
    values = np.moveaxis(values, 2, axis)
    push(path, values, 3, axis=axis, chunks=(4, 4, 4))
    np.testing.assert_array_equal(read(path), values)
    with lazyio.writer(path) as w:
        x = w.create("x", axis=axis)
        x.append(values)
    np.testing.assert_array_equal(read(path), np.concatenate([values, values], axis))
    assert is_clean(path)


def test_several_keys_in_turn(path):
    rng = np.random.default_rng(3)
    parts = {f"g/{at}": [] for at in range(4)}
    with lazyio.writer(path) as w:
        arrays = {}
        for turn in range(200):
            # Some are created when others have been appended to.
            key = f"g/{min(turn // 20, 3)}" if turn % 5 == 0 else f"g/{turn % 4}"
            if key not in arrays:
                arrays[key] = w.create(key, dtype="u2", item_shape=(3,), chunks=(9, 3))
            batch = rng.integers(0, 99, (turn % 13, 3)).astype("u2")
            arrays[key].append(batch)
            parts[key].append(batch)
    for key, batches in parts.items():
        np.testing.assert_array_equal(read(path, key), np.concatenate(batches))
    assert is_clean(path)


TIMES = np.arange(30).astype("datetime64[s]")


@pytest.mark.parametrize(
    "values",
    [
        np.arange(30) % 2 == 0,
        np.arange(30).astype(">i4"),
        np.arange(30) * 1j,
        np.array([(at, at / 2) for at in range(30)], [("a", "i2"), ("b", "f8")]),
        np.array([str(at) * 3 for at in range(30)], "U9"),
        np.array([str(at) for at in range(30)], "S3"),
        np.array([str(at) * at for at in range(30)], np.dtypes.StringDType()),
        TIMES,
    ],
    ids=lambda values: str(values.dtype),
)
def test_dtypes(path, values):
    if path.suffix == ".zarr" and values.dtype.kind == "T":
        pytest.importorskip("zarr", minversion="3.1")
    with lazyio.writer(path) as w:
        x = w.create("x", dtype=values.dtype, item_shape=(), chunks=8)
        for value in values[:10]:
            x.append(value)
        w.flush()
        x.append(values[10:20])
    with lazyio.writer(path) as w:
        x = w.create("x", dtype=values.dtype, item_shape=())
        x.append(values[20:])
    found = lazyio.open(path, "x").compute()
    assert found.tolist() == values.tolist()
    assert is_clean(path)


CODECS = {
    "h5": [
        {"compression": "gzip", "compression_opts": 4, "shuffle": True},
        {"compression": "zstd"},
        {"compression": "szip"},
        {"compression": "lzf"},
    ],
    "zarr": [{"compression": "gzip"}, {"compression": "zstd"}, {"compression": "blosc"}],
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, options) for kind, several in CODECS.items() for options in several],
    ids=str,
)
def test_codecs_and_many_flushes(tmp_path, kind, options):
    """The last chunk is written again, in another length, as often as there is more of it."""
    path = tmp_path / f"x.{kind}"
    # Small numbers: what szip cannot compress, libhdf5 itself sometimes does not read back.
    values = np.repeat(numbers(120, 6, dtype="i2") % 50, 3, axis=0)
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i2", item_shape=(6,), chunks=(50, 4), **options)
        for at in range(0, 360, 9):
            x.append(values[at : at + 9])
            w.flush()
            np.testing.assert_array_equal(read(path), values[: at + 9])
    np.testing.assert_array_equal(read(path), values)
    assert is_clean(path)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["h5", "zarr"]),
    st.sampled_from([None, "gzip"]),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 30)),
            st.sampled_from(["flush", "reopen"]),
        ),
        max_size=20,
    ),
)
def test_any_interleaving(tmp_path_factory, kind, codec, steps):
    """As if all had been concatenated by numpy."""
    path = tmp_path_factory.mktemp("steps") / f"x.{kind}"
    rng = np.random.default_rng(0)
    items = {"a": (3,), "b": ()}
    wanted = {key: [np.empty((0, *items[key]), "i2")] for key in items}

    def opened():
        w = lazyio.writer(path)
        arrays = {
            key: w.create(key, dtype="i2", item_shape=items[key], chunks=chunks, compression=codec)
            for key, chunks in (("a", (8, 2)), ("b", 5))
        }
        return w, arrays

    w, arrays = opened()
    for step in steps:
        if step == "flush":
            w.flush()
        elif step == "reopen":
            w.close()
            w, arrays = opened()
        else:
            key, length = step
            batch = rng.integers(0, 9, (length, *items[key])).astype("i2")
            arrays[key].append(batch[0] if length == 1 else batch)
            wanted[key].append(batch)
    w.close()
    for key, batches in wanted.items():
        np.testing.assert_array_equal(read(path, key), np.concatenate(batches))
    assert is_clean(path)


def test_a_zero_length_batch_is_none(path):
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i2", item_shape=(2,))
        x.append(np.empty((0, 2), "i2"))
        x.append(np.empty((0, 2), "f8"))
        assert len(x) == 0
    assert read(path).shape == (0, 2)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (np.zeros(3, "i2"), "its shape is"),
        (np.zeros((2, 3), "i2"), r"batches of shape \(n, 4\)"),
        (np.zeros((2, 2, 4), "i2"), "its shape is"),
        (np.full(4, 2**20), "cannot hold every value"),
        (np.full(4, 0.5), "cannot hold every value"),
        (["a", "b", "c", "d"], "its dtype is <U1"),
        (np.ma.masked_equal(np.arange(4), 2), "masked elements"),
        ([[1, 2], [3]], "cannot be appended"),
    ],
    ids=str,
)
def test_a_batch_that_does_not_fit(path, batch, reason):
    """Nothing of it is appended, and the writer goes on."""
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i2", item_shape=(4,))
        x.append(np.ones((5, 4), "i2"))
        with pytest.raises(BlockError, match=reason) as caught:
            x.append(batch)
        assert "after 5 elements" in str(caught.value)
        x.append([1, 1, 1, 1])
    assert (read(path) == np.ones((6, 4))).all()


def test_numbers_of_another_dtype(path):
    """They are taken where that loses nothing; and are rounded where the dtype was asked for."""
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="f4", item_shape=())
        x.append([1, 2])
        x.append(np.array([0.1]))
    with lazyio.writer(path) as w:
        x = w.create("x")
        x.append(np.arange(2, dtype="i2"))
        with pytest.raises(BlockError, match="float64"):
            x.append(np.array([0.1]))
    assert read(path).tolist() == np.array([1, 2, 0.1, 0, 1], "f4").tolist()


def test_a_writer_that_is_closed(path):
    w = lazyio.writer(path)
    x = w.create("x", dtype="i2", item_shape=())
    x.append(1)
    w.close()
    w.close()
    for call in (lambda: x.append(1), lambda: x.append([1, 2]), w.flush, lambda: w.create("y")):
        with pytest.raises(OptionError, match="closed"):
            call()
    assert read(path).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "q"}, "mode="),
        ({"on_error": "ignore"}, "on_error="),
        ({"format": "csv"}, "format="),
        ({"swmr": "yes"}, "swmr="),
        ({"memory_limit": "many"}, "memory_limit"),
    ],
)
def test_arguments_that_cannot_be(path, options, message):
    with pytest.raises(OptionError, match=message):
        lazyio.writer(path, **options)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "dtype= and item_shape="),
        ({"dtype": "i2"}, "item_shape="),
        ({"dtype": "i2", "item_shape": (0,)}, "at least 1"),
        ({"dtype": "i2", "item_shape": (3,), "axis": 2}, "axis=2"),
        ({"dtype": "i2", "item_shape": (3,), "axis": "time"}, "axis='time'"),
        ({"dtype": "i2", "item_shape": (3,), "expected_length": -1}, "expected_length"),
        ({"dtype": "i2", "item_shape": (3,), "chunks": "some"}, "chunks="),
        ({"dtype": "i2", "item_shape": (3,), "compression": "no such"}, "no such"),
    ],
)
def test_arrays_that_cannot_be(path, options, message):
    """They are refused, and the writer goes on without them."""
    with lazyio.writer(path) as w:
        with pytest.raises(OptionError, match=message):
            w.create("bad", **options)
        with pytest.raises(OptionError, match="key="):
            w.create("", dtype="i2", item_shape=())
        w.create("x", dtype="i2", item_shape=()).append(5)
        with pytest.raises(OptionError, match="created by this writer"):
            w.create("/x")
    assert read(path).tolist() == [5]
    assert is_clean(path)


def test_too_little_memory_for_another_array(path):
    """The array that finds no room is not made."""
    with lazyio.writer(path, memory_limit="2 MiB") as w:
        x = w.create("x", dtype="i2", item_shape=(64,), chunks=(1000, 64))
        x.append(np.ones((100, 64), "i2"))
        with pytest.raises(PlanError, match="memory_limit="):
            w.create("g/y", dtype="i2", item_shape=(64,), chunks=(3000, 64))
        x.append(np.ones((10_000, 64), "i2"))
    assert read(path).shape == (10_100, 64)
    assert is_clean(path)
    with pytest.raises((KeyError, FileNotFoundError)):
        read(path, "g/y")


def test_too_little_memory_for_an_array_that_is_there(path):
    """It is left as it is, its last row of chunks too."""
    values = numbers(1100, 64)
    push(path, values, 200, chunks=(1000, 64))
    with (
        pytest.raises(PlanError, match="memory_limit="),
        lazyio.writer(path, memory_limit="100 kB") as w,
    ):
        w.create("x")
    np.testing.assert_array_equal(read(path), values)
    assert lazyio.verify(path).status == "ok"
    assert is_clean(path)


def test_modes(path):
    with pytest.raises(TargetError, match="does not exist"):
        lazyio.writer(path, mode="r+")
    push(path, numbers(10, 2), 3)
    push(path, numbers(10, 2), 3, key="other")
    for mode in ("w-", "x"):
        with pytest.raises(TargetExistsError, match="already exists"):
            lazyio.writer(path, mode=mode)
    with lazyio.writer(path, mode="w") as w:
        w.create("x", dtype="f8", item_shape=()).append([1.5])
    assert read(path).tolist() == [1.5]
    if path.suffix == ".zarr":
        assert read(path, "other").shape == (10, 2)
    with lazyio.writer(path, mode="r+") as w:
        w.create("x").append([2.5])
    assert read(path).tolist() == [1.5, 2.5]
    assert is_clean(path)


def test_all_differences_are_one_error(path):
    push(path, numbers(10, 2), 3, chunks=(4, 2), compression="gzip")
    with lazyio.writer(path) as w:
        with pytest.raises(OptionError) as caught:
            w.create("x", dtype="f8", item_shape=(3,), chunks=(5, 2), compression="zstd")
        for word in ("dtype is int32", "shape (2,), not (3,)", "chunks are (4, 2)", "zstd"):
            assert word in str(caught.value).lower()
        w.create("x", dtype="i4", item_shape=(2,), chunks=(4, 2), compression="gzip")
    assert is_clean(path)


def test_a_dataset_that_cannot_grow(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["plain"] = np.arange(10)
        file.create_dataset("one", (4, 4), "f4", maxshape=(None, 4), chunks=(2, 2))
        file.create_dataset("bound", (4,), "f4", maxshape=(6,), chunks=(2,))
        file.create_group("group")
    with lazyio.writer(path) as w:
        for key, axis in (("plain", 0), ("one", 1)):
            with pytest.raises(TargetError, match="cannot grow along axis"):
                w.create(key, axis=axis)
        with pytest.raises(TargetExistsError, match="is a group"):
            w.create("group")
        bound = w.create("bound")
        with pytest.raises(BlockError, match="may have 6"):
            bound.append([1.0, 2.0, 3.0])
        bound.append([1.0])
        bound.append(np.ones((), "f4"))
        with pytest.raises(BlockError, match="may have 6"):
            bound.append(np.ones((), "f4"))
    with pytest.raises(TargetError, match="cannot grow"), lazyio.writer(path) as w:
        w.create("bound").append(1.0)
    w = lazyio.writer(path)
    w.create("one").append(np.ones((2, 4), "f4"))
    w.close()
    assert read(path, "one").shape == (6, 4)
    assert read(path, "bound").tolist() == [0, 0, 0, 0, 1, 1]


def test_datasets_of_others(tmp_path):
    """Made by stock h5py, with any chunks and filters; without digests there are none after."""
    path = tmp_path / "x.h5"
    values = numbers(103, 7, dtype="f4")
    with h5py.File(path, "w", libver="v110") as file:
        options = {"maxshape": (None, 7), "chunks": (10, 3)}
        file.create_dataset("x", data=values, compression="gzip", shuffle=True, **options)
        file.create_dataset("y", data=values, fletcher32=True, **options)
        file.create_dataset("z", data=values, scaleoffset=2, **options)
    with lazyio.writer(path) as w:
        for key in ("x", "y", "z"):
            x = w.create(key)
            x.append(values[:31])
            w.flush()
            x.append(values[31])
    wanted = np.concatenate([values, values[:32]])
    for key in ("x", "y", "z"):
        np.testing.assert_array_equal(read(path, key), wanted)
    assert lazyio.verify(path).status != "damaged"


def test_what_is_flushed_is_seen_and_the_rest_is_not(path):
    values = numbers(100, 3)
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i4", item_shape=(3,), chunks=(16, 3))
        x.append(values[:50])
        w.flush()
        np.testing.assert_array_equal(read(path), values[:50])
        x.append(values[50:])
        np.testing.assert_array_equal(read(path), values[:50])


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a descriptor is of")
def test_a_flush_of_zarr_is_on_the_disk(tmp_path, monkeypatch):
    """Every file and every folder on the way, and a name after what it names; once is enough."""
    root, synced, clock = tmp_path / "new.zarr", {}, itertools.count()
    fsync, replace, rename = os.fsync, os.replace, Path.rename
    named = {}

    def note_sync(descriptor):
        fsync(descriptor)
        synced[Path(os.readlink(f"/proc/self/fd/{descriptor}"))] = next(clock)

    def note_replace(old, new):
        replace(old, new)
        synced[Path(new)] = synced.pop(Path(old), None)
        named[Path(new)] = next(clock)

    def note_rename(old, new):
        found = rename(old, new)
        for path in [path for path in synced if old == path or old in path.parents]:
            synced[new / path.relative_to(old)] = synced.pop(path)
        named[Path(new)] = next(clock)
        return found

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(sync, "_MANY", 10**9)
    with lazyio.writer(root) as w:
        x = w.create("deep/er/x", dtype="i2", item_shape=(6,), chunks=(4, 3))
        for _ in range(2):
            x.append(np.ones((9, 6)))
            w.flush()
            there = [root, *(path for path in root.rglob("*") if ".lazyio" not in str(path))]
            assert sum(path.is_file() for path in there) > 8
            assert [path for path in there if synced.get(path) is None] == []
            for path, at in named.items():
                if path in there:
                    assert synced[path.parent] > at
            for path in there:
                assert path == root or synced[path.parent] > (
                    synced[path] if path.is_file() else -1
                )
            assert synced[tmp_path] > named[root]


def test_it_is_flushed_every_few_seconds(path, monkeypatch):
    monkeypatch.setattr(flusher, "INTERVAL", 0.05)
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i4", item_shape=(3,))
        x.append(np.ones((7, 3), "i4"))
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(KeyError, OSError):
                if read(path).shape == (7, 3):
                    return
            time.sleep(0.02)
        pytest.fail("it was not flushed")


def test_nothing_new_is_not_written(tmp_path, monkeypatch):
    commits = []
    monkeypatch.setattr(
        DeferredMetadata,
        "commit",
        lambda self, was=DeferredMetadata.commit: (commits.append(1), was(self)),
    )
    with lazyio.writer(tmp_path / "x.h5") as w:
        x = w.create("x", dtype="i4", item_shape=())
        for _ in range(3):
            w.flush()
        assert commits == [1]
        x.append(1)
        for _ in range(3):
            w.flush()
        assert commits == [1, 1]


def test_a_reader_is_not_changed_under(tmp_path, monkeypatch):
    """One that has the file open is waited for, and nothing is lost when that takes too long."""
    monkeypatch.setattr(writer_module, "PATIENCE", 0.1)
    path = tmp_path / "x.h5"
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i4", item_shape=())
        x.append([1, 2])
        w.flush()
        with h5py.File(path, "r") as file:
            x.append([3])
            with pytest.raises(TargetLockedError, match="close it"):
                w.flush()
            assert file["x"][...].tolist() == [1, 2]
        with pytest.raises(OSError, match="unable to lock"):
            h5py.File(path, "r+")
        w.flush()
        assert read(path).tolist() == [1, 2, 3]
        x.append([4])
    assert read(path).tolist() == [1, 2, 3, 4]
    assert is_clean(path)


def test_a_reader_that_stays_till_after_the_end(tmp_path, monkeypatch, caplog):
    """What was appended is in the log, and comes into the file once the reader has gone."""
    monkeypatch.setattr(hdf5_ways, "PATIENCE", 0.1)
    path = tmp_path / "x.h5"
    w = lazyio.writer(path)
    w.create("x", dtype="i4", item_shape=()).append([1, 2])
    w.flush()
    with h5py.File(path, "r") as file:
        w.create("y", dtype="i4", item_shape=()).append([3])
        w.close()
        assert list(file) == ["x"]
        assert "lazyio recover" in caplog.text
    assert recover(path) == [f"{path}: an interrupted change was finished"]
    assert read(path, "y").tolist() == [3]
    assert is_clean(path)


def test_another_writer_is_refused_and_harms_nothing(path):
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i4", item_shape=())
        x.append([1, 2])
        with pytest.raises(TargetLockedError, match="being written"):
            lazyio.writer(path, mode="w")
        with pytest.raises(TargetLockedError, match="being written"):
            (lazyio.to_zarr if path.suffix == ".zarr" else lazyio.to_hdf5)(
                np.ones(3), path, "x", overwrite=True
            )
        x.append([3])
    assert read(path).tolist() == [1, 2, 3]
    assert is_clean(path)


def test_threads_append_batches_as_wholes(path):
    with lazyio.writer(path, memory_limit="1 MiB") as w:
        x = w.create("x", dtype="i4", item_shape=(4,), chunks=(64, 4))

        def work(number):
            for _ in range(100):
                x.append(np.full((5, 4), number, "i4"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            w.flush()
        for thread in threads:
            thread.join()
    found = read(path)[:, 0].reshape(-1, 5)
    assert (found == found[:, :1]).all()
    assert sorted(found[:, 0].tolist()) == sorted([*range(4)] * 100)
    assert is_clean(path)


@pytest.mark.parametrize("swmr", [False, True])
def test_errors_keep(tmp_path, swmr):
    path = tmp_path / "x.h5"
    with pytest.raises(RuntimeError, match="the amplifier"):
        fail_after(
            path, lambda w: w.create("x", dtype="i4", item_shape=()).append([1, 2]), swmr=swmr
        )
    assert read(path).tolist() == [1, 2]
    assert is_clean(path)


def test_errors_drop_what_is_new(path):

    def push_to(w):
        w.create("x", dtype="i4", item_shape=()).append([1, 2])
        w.flush()
        assert read(path).tolist() == [1, 2]

    with pytest.raises(RuntimeError, match="the amplifier"):
        fail_after(path, push_to, on_error="drop")
    assert not path.exists()
    assert leftovers(path) == []


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("length", [16, 21])
@pytest.mark.parametrize("swmr", [False, True])
def test_errors_drop_what_was_appended(path, compression, length, swmr):
    """Arrays that were there are as they were, to the bytes of their last chunks."""
    if swmr and path.suffix == ".zarr":
        pytest.skip("of HDF5")
    values = numbers(length, 5)
    with lazyio.writer(path, swmr=swmr) as w:
        x = w.create("x", dtype="i4", item_shape=(5,), chunks=(8, 4), compression=compression)
        t = w.create("text", dtype="U5", item_shape=())
        x.append(values)
        t.append(["a", "b"])
    before = read(path)

    def push_to(w):
        x, y = w.create("x"), w.create("more/y", dtype="f8", item_shape=())
        t = w.create("text")
        for _ in range(5):
            x.append(np.ones((7, 5), "i4"))
            y.append(1.0)
            t.append(["c"])
            w.flush()

    with pytest.raises(RuntimeError, match="the amplifier"):
        fail_after(path, push_to, on_error="drop", swmr=swmr)
    np.testing.assert_array_equal(read(path), before)
    assert lazyio.open(path, "text").compute().tolist() == ["a", "b"]
    assert is_clean(path)
    with pytest.raises((KeyError, FileNotFoundError)):
        read(path, "more/y")
    with lazyio.writer(path, swmr=swmr) as w:
        w.create("x").append(values)
    np.testing.assert_array_equal(read(path), np.concatenate([values, values]))
    assert is_clean(path)


def test_errors_drop_what_took_the_place_of_another(path):
    push(path, numbers(10), 3)
    push(path, numbers(10), 3, key="y")

    def push_to(w):
        w.create("x", dtype="f8", item_shape=(3,)).append(np.ones(3))
        w.flush()

    with pytest.raises(RuntimeError, match="the amplifier"):
        fail_after(path, push_to, mode="w", on_error="drop")
    np.testing.assert_array_equal(read(path), numbers(10))
    np.testing.assert_array_equal(read(path, "y"), numbers(10))
    assert is_clean(path)


def test_a_disk_that_fails(path, monkeypatch):
    """The next call says so; what was flushed is there."""
    w = lazyio.writer(path)
    x = w.create("x", dtype="i4", item_shape=(), chunks=100)
    x.append(np.arange(50))
    w.flush()
    kind = type(w._arrays["x"].opened.target)

    def full(*_):
        raise TargetError(28, "no space left")

    monkeypatch.setattr(kind, "write_chunk", full)
    x.append(np.arange(150))
    with pytest.raises(TargetError, match="no space"):
        w.flush()
    with pytest.raises(TargetError, match="no space"):
        x.append(np.arange(150))
    with pytest.raises(TargetError, match="no space"):
        w.close()
    monkeypatch.undo()
    assert read(path).tolist() == [*range(50)]
    with lazyio.writer(path) as w:
        w.create("x").append(5)
    assert read(path).tolist() == [*range(50), 5]
    assert not hidden_path(path).exists()


def test_a_store_that_lies_elsewhere():
    with pytest.raises(OptionError, match="of this machine"):
        lazyio.writer("s3://bucket/x.zarr")


def test_swmr_is_of_hdf5(tmp_path):
    with pytest.raises(OptionError, match="swmr=True is of HDF5"):
        lazyio.writer(tmp_path / "x.zarr", swmr=True)


def test_shards_are_taken_up(tmp_path):
    path = tmp_path / "x.zarr"
    values = numbers(50, 4)
    lazyio.to_zarr(values, path, "x", chunks=(4, 2), shards=(16, 4))
    with lazyio.writer(path) as w:
        x = w.create("x")
        x.append(values[:20])
        w.flush()
        x.append(values[20:])
    np.testing.assert_array_equal(read(path), np.concatenate([values, values]))
    assert is_clean(path)


def test_zarr_v2_and_consolidated_metadata(tmp_path):
    path = tmp_path / "x.zarr"
    lazyio.to_zarr({"x": numbers(5, 4)}, path, zarr_format=2)
    with lazyio.writer(path) as w:
        w.create("x").append(numbers(7, 4))
        w.create("y", dtype="i4", item_shape=(), compression="blosc").append([1, 2])
        w.flush()
        group = zarr.open_group(path, mode="r", use_consolidated=True)
        assert (group["x"].shape, group["y"].shape) == ((12, 4), (2,))
    assert read(path, "y").tolist() == [1, 2]
    assert is_clean(path)
