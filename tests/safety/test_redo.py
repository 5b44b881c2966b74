"""The log of a change: finished once it is complete, taken back before, whatever is cut off."""

import os

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.errors import BlockError, OptionError
from lazyio.safety import redo, workdir
from lazyio.safety.leftovers import leftovers, recover
from lazyio.safety.sync import write_whole
from lazyio.safety.workdir import JOB, hidden_path
from lazyio.targets import building


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "hidden"
    folder.mkdir()
    return folder


def test_a_log_that_is_cut_anywhere(tmp_path, folder):
    """Only a whole one is believed; its change may be made twice."""
    target = tmp_path / "file"
    target.write_bytes(b"0123456789")
    log = redo.RedoLog(folder)
    log.add(2, memoryview(b"abc"), is_payload=True)
    log.add(4, memoryview(b"XY"), is_payload=False)
    log.commit(8)
    log.close()
    whole = (folder / redo.LOG).read_bytes()
    for at in range(len(whole)):
        (folder / redo.LOG).write_bytes(whole[:at])
        assert not redo.is_committed(folder)
        (folder / redo.LOG).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not redo.is_committed(folder)
    (folder / redo.LOG).write_bytes(whole)
    for _ in range(2):
        redo.apply(folder, target)
        assert target.read_bytes() == b"01abXY67"


def test_payloads_are_taken_up(folder):
    """Those that are whole, and no metadata: they are written anew."""
    log = redo.RedoLog(folder)
    log.add(2, memoryview(b"abc"), is_payload=True)
    log.add(9, memoryview(b"de"), is_payload=True)
    log.add(4, memoryview(b"XY"), is_payload=False)
    log.close()
    again = redo.RedoLog(folder)
    assert (again.payload(2, 3), again.payload(9, 2), again.payload(4, 2)) == (b"abc", b"de", b"")
    assert again.payload(2, 4) == b""
    again.close()


@pytest.mark.parametrize("userblock", [0, 512, 8192])
def test_what_another_program_wrote_is_not_cut_off(tmp_path, folder, userblock):
    """Also where HDF5 begins behind a block of the user's."""
    target = tmp_path / "x.h5"
    with h5py.File(target, "w", userblock_size=userblock) as file:
        file["a"] = np.arange(10)
    size = target.stat().st_size
    redo.begin(folder, target)
    with target.open("ab") as file:
        file.write(b"ours" * 1000)
    redo.undo(folder, target)
    assert target.stat().st_size == size
    redo.begin(folder, target)
    with h5py.File(target, "a") as file:
        file["b"] = np.arange(10_000)
    redo.undo(folder, target)
    with h5py.File(target) as file:
        assert file["b"][-1] == 9999
    assert not redo.is_begun(folder)


def test_small_files_are_whole_or_not_there(folder, monkeypatch):
    write_whole(folder / "x", b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(folder / "x", b"newer")
    assert (folder / "x").read_bytes() == b"old"


def test_a_change_that_is_made_leaves_no_job(tmp_path, monkeypatch):
    """A kill between the change and the removal of its log is not taken for a job to go on with."""
    for module in (workdir, building):
        monkeypatch.setattr(module, "COPIED_NBYTES", 0)
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(5), path, "a")
    forget = redo.forget

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(redo, "forget", killed)
    with pytest.raises(KeyboardInterrupt):
        lazyio.to_hdf5(np.arange(500), path, "b", resume=True)
    monkeypatch.setattr(redo, "forget", forget)
    assert not (hidden_path(path) / JOB).exists()
    assert recover(path) == [f"{path}: an interrupted change was finished"]
    assert leftovers(path) == []
    lazyio.to_hdf5(np.arange(3), path, "c")
    assert lazyio.verify(path).status == "ok"


def test_more_chunks_than_can_be_numbered(tmp_path):
    """They are written without digests, and not gone on with."""
    path, to = tmp_path / "x.zarr", lazyio.to_zarr
    lazyio.allocate(path, shape=(10**11, 10**11), dtype="u1", chunks=(10, 10), format="zarr")
    place = np.s_[10**11 - 5 : 10**11, 7:9]
    report = to(np.ones((5, 2), "u1"), path, region=place)
    assert report.n_chunks == 1
    with pytest.raises(OptionError, match="cannot number"):
        to(np.ones((5, 2), "u1"), path, region=place, resume=True)


def test_blocks_fail_and_nothing_is_left(tmp_path, monkeypatch):
    """A change in place that fails takes back what it wrote behind the end."""
    for module in (workdir, building):
        monkeypatch.setattr(module, "COPIED_NBYTES", 0)
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(5), path, "a")
    before = path.read_bytes()

    def fails(region):
        if region[0].start:
            raise RuntimeError("no signal")
        return np.ones(region[0].stop, "i4")

    x = lazyio.from_function(fails, (1000,), "i4", chunks=100)
    with pytest.raises(BlockError):
        lazyio.to_hdf5(x, path, "b", chunks=(100,), memory_limit="5 kB", workers=1)
    assert path.read_bytes() == before
    assert leftovers(path) == []
