"""The write-ahead log: applied whole or not at all, and only to the bytes that it was made for."""

import os
import shutil
from array import array

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.atomic import log as redo
from lazyio.atomic import workdir
from lazyio.atomic.fsync import write_whole
from lazyio.atomic.in_place import InPlaceFile
from lazyio.atomic.lock import FileLock
from lazyio.atomic.recovery import leftovers
from lazyio.atomic.workdir import JOB, hidden_path
from lazyio.errors import BlockError, OptionError, SourceError, TargetError
from lazyio.storage.hdf5 import file as building

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@pytest.fixture
def in_place(monkeypatch):
    """Have small files changed in place, as large ones are."""
    for module in (workdir, building):
        monkeypatch.setattr(module, "COPIED_NBYTES", 0)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "hidden"
    folder.mkdir()
    return folder


def committed(folder, target, changes, tail=b"", nbytes=None):
    """Commit a change of a file: ``(place, bytes)`` pairs, and what comes behind the end."""
    descriptor = os.open(target, os.O_RDWR)
    redo.begin(folder, descriptor)
    log = redo.WriteAheadLog(folder)
    for place, data in changes:
        log.add(place, memoryview(data), is_payload=False)
    end = os.fstat(descriptor).st_size
    os.pwrite(descriptor, tail, end)
    log.commit(descriptor, end + len(tail) if nbytes is None else nbytes)
    log.close()
    os.close(descriptor)


def changed(old, changes, tail=b""):
    """Return what a file holds after a change."""
    new = bytearray(old + tail)
    for place, data in changes:
        new[place : place + len(data)] = data
    return bytes(new)


OLD = SIGNATURE + bytes(range(200))
CHANGES = [(10, b"abc"), (100, b"x" * 50), (0, SIGNATURE + b"end"), (120, b"yz")]
TAIL = b"tail" * 10


def test_a_log_that_is_cut_or_damaged_anywhere(tmp_path, folder):
    """Only a whole one is believed."""
    target = tmp_path / "file"
    target.write_bytes(OLD)
    committed(folder, target, CHANGES, TAIL)
    whole = (folder / redo.LOG).read_bytes()
    idle = idle_bytes()
    for at in range(len(whole)):
        (folder / redo.LOG).write_bytes(whole[:at])
        assert not redo.is_committed(folder)
        (folder / redo.LOG).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert redo.is_committed(folder) == (at in idle)
    (folder / redo.LOG).write_bytes(whole)
    for _ in range(2):
        descriptor = os.open(target, os.O_RDWR)
        assert redo.misfit(folder, descriptor) is None
        redo.apply(folder, descriptor)
        os.close(descriptor)
        assert target.read_bytes() == changed(OLD, CHANGES, TAIL)


def idle_bytes():
    """Return which bytes of the log change nothing of what is to be copied.

    Heads of entries are read only by who resumes a job, and later entries go over earlier ones.
    """
    found, begin = set(), redo._HEADER.size + redo._DIGEST_NBYTES
    for number, (place, data) in enumerate(CHANGES):
        found.update(range(begin, begin + redo._ENTRY.size))
        begin += redo._ENTRY.size
        over = {
            at for later, more in CHANGES[number + 1 :] for at in range(later, later + len(more))
        }
        found.update(begin + at for at in range(len(data)) if place + at in over)
        begin += len(data)
    return found


def test_a_kill_at_every_write(tmp_path, folder, monkeypatch):
    """Half applied, the file cannot be opened; recovered, it is new."""
    target, real, n_kills = tmp_path / "file", redo.write_at, 0
    for at in range(100):
        target.write_bytes(OLD)
        committed(folder, target, CHANGES, TAIL)
        n_left = at

        def write_at(descriptor, view, place):
            nonlocal n_left
            if n_left == 0:
                # A part of it, as a kill leaves it.
                real(descriptor, view[: len(view) // 2], place)
                raise KeyboardInterrupt
            n_left -= 1
            real(descriptor, view, place)

        monkeypatch.setattr(redo, "write_at", write_at)
        descriptor = os.open(target, os.O_RDWR)
        try:
            redo.apply(folder, descriptor)
        except KeyboardInterrupt:
            n_kills += 1
        os.close(descriptor)
        monkeypatch.setattr(redo, "write_at", real)
        if n_left:
            break
        redo.recover(folder, target)
        assert target.read_bytes() == changed(OLD, CHANGES, TAIL)
        assert not redo.is_committed(folder)
    assert n_kills > len(CHANGES)


PLACES = st.lists(
    st.tuples(st.integers(8, 180), st.binary(min_size=1, max_size=20)), min_size=1, max_size=6
)


@settings(max_examples=150)
@given(changes=PLACES, edit=st.none() | st.tuples(st.integers(0, 239), st.integers(1, 255)))
def test_only_over_the_bytes_it_was_made_for(tmp_path_factory, changes, edit):
    """An edit in any range is refused and stays; elsewhere it stays beside the change."""
    folder = tmp_path_factory.mktemp("hidden")
    target = folder / "file"
    old = OLD[:180] + bytes(60)
    target.write_bytes(old)
    committed(folder, target, changes, TAIL)
    # A restored copy has another inode, and is the same file all the same.
    shutil.copy(target, folder / "copy")
    os.replace(folder / "copy", target)
    theirs = bytearray(target.read_bytes())
    if edit is not None:
        at, flip = edit
        theirs[at] ^= flip
        target.write_bytes(theirs)
    new = changed(bytes(theirs), changes)
    spans = [range(place, place + len(data)) for place, data in changes]
    is_hit = edit is not None and (edit[0] < 8 or any(edit[0] in span for span in spans))
    # What makes a range what it will be is no other state of it.
    is_hit = is_hit and bytes(theirs[edit[0] : edit[0] + 1]) != new[edit[0] : edit[0] + 1]
    if is_hit or (edit is not None and edit[0] < 8):
        with pytest.raises(TargetError, match="Both are left as they are"):
            redo.recover(folder, target)
        assert target.read_bytes() == bytes(theirs)
        assert redo.is_committed(folder)
        return
    try:
        redo.recover(folder, target)
    except TargetError:
        # A range that is partly new and partly old by an edit is neither.
        assert edit is not None
        assert target.read_bytes() == bytes(theirs)
        return
    assert target.read_bytes() == new


@pytest.mark.parametrize("what", ["shorter", "longer", "tail", "gone"])
def test_another_file_is_left_alone(tmp_path, folder, what):
    target = tmp_path / "file"
    target.write_bytes(OLD)
    committed(folder, target, CHANGES, TAIL)
    now = target.read_bytes()
    if what == "gone":
        target.unlink()
    else:
        theirs = {"shorter": OLD, "longer": now + b"more", "tail": now[:-1] + b"?"}[what]
        target.write_bytes(theirs)
    log = (folder / redo.LOG).read_bytes()
    with pytest.raises(TargetError, match=r"cannot be finished.*remove .*hidden.*lazyio recover"):
        redo.recover(folder, target)
    assert (folder / redo.LOG).read_bytes() == log
    assert what == "gone" or target.read_bytes() == theirs


def test_a_payload_over_the_old_end_is_taken_up(tmp_path, folder):
    target = tmp_path / "file"
    target.write_bytes(OLD)
    lock = FileLock(target)
    begun = InPlaceFile(target, folder, lock, lambda *_: None)
    begun.write(memoryview(b"payload"), len(OLD) - 3, is_payload=True)
    begun.close()
    resumed = InPlaceFile(target, folder, lock, lambda *_: None)
    assert resumed.read(len(OLD) - 3, 7) == b"payload"
    resumed.close()
    lock.close()


@settings(max_examples=100, deadline=None)
@given(
    writes=st.lists(st.tuples(st.integers(20, 260), st.integers(1, 60)), max_size=8),
    left=st.lists(st.tuples(st.integers(0, 260), st.integers(1, 60)), max_size=4),
)
def test_writes_anywhere_and_a_kill_once_they_are_made(tmp_path_factory, writes, left):
    """Also those over the old end: what is behind it is told by what is there before and after."""
    folder = tmp_path_factory.mktemp("hidden")
    target = folder / "file"
    target.write_bytes(OLD)
    expected = bytearray(OLD)
    lock = FileLock(target)
    in_place = InPlaceFile(target, folder, lock, lambda *_: None)
    data = {}
    for number, (at, nbytes) in enumerate([*writes, *left]):
        data[at, nbytes, number] = bytes([number + 1]) * nbytes
        expected.extend(bytes(max(0, at + nbytes - len(expected))))
        expected[at : at + nbytes] = data[at, nbytes, number]
    expected[: len(SIGNATURE)] = SIGNATURE
    pairs = [(at, payload) for (at, _, _), payload in data.items()]
    for at, payload in pairs[: len(writes)]:
        in_place.write(memoryview(payload), at, is_payload=True)
    log = folder / redo.LOG
    committed = []

    def apply(*arguments):
        redo_apply(*arguments)
        committed.append(log.read_bytes())

    redo_apply, redo.apply = redo.apply, apply
    try:
        rest = [*pairs[len(writes) :], (0, SIGNATURE)]
        in_place.commit(lambda: rest, len(expected), patience=0)
    finally:
        redo.apply = redo_apply
    in_place.close()
    assert target.read_bytes() == expected
    # The kill comes before the log is emptied.
    log.write_bytes(committed[0])
    assert redo.misfit(folder, lock.descriptor) is None
    redo.apply(folder, lock.descriptor)
    assert target.read_bytes() == expected
    lock.close()


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=8))
def test_what_is_written_in_the_end(writes):
    """As if each had been written over the others in turn."""
    entries, log, expected = array("Q"), bytearray(), {}
    for number, (place, nbytes) in enumerate(writes):
        entries.extend((place, len(log), nbytes))
        log += bytes([number]) * nbytes
        expected |= dict.fromkeys(range(place, place + nbytes), number)
    found = redo._final(entries)
    assert [*map(range, *zip(*[(p, p + n) for p, _, n in found], strict=True))] if found else True
    got = {}
    for place, begin, nbytes in found:
        for at in range(nbytes):
            assert place + at not in got
            got[place + at] = log[begin + at]
    assert got == expected


def test_payloads_are_taken_up(tmp_path, folder):
    """Those that are whole, and no metadata: they are written anew."""
    target = tmp_path / "file"
    target.write_bytes(OLD)
    descriptor = os.open(target, os.O_RDWR)
    redo.begin(folder, descriptor)
    os.close(descriptor)
    log = redo.WriteAheadLog(folder)
    log.add(2, memoryview(b"abc"), is_payload=True)
    log.add(9, memoryview(b"de"), is_payload=True)
    log.add(4, memoryview(b"XY"), is_payload=False)
    log.close()
    again = redo.WriteAheadLog(folder)
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

    def undo(write):
        lock = FileLock(target)
        redo.begin(folder, lock.descriptor)
        lock.close()
        write()
        lock = FileLock(target)
        redo.undo(folder, lock)
        lock.close()
        assert not redo.is_begun(folder)

    def ours():
        with target.open("ab") as file:
            file.write(b"ours" * 1000)

    def theirs():
        with h5py.File(target, "a") as file:
            file["b"] = np.arange(10_000)

    def another():
        shutil.copy(target, tmp_path / "copy")
        os.replace(tmp_path / "copy", target)
        ours()

    undo(ours)
    assert target.stat().st_size == size
    undo(theirs)
    with h5py.File(target) as file:
        assert file["b"][-1] == 9999
    size = target.stat().st_size
    undo(another)
    assert target.stat().st_size == size + 4000


def test_small_files_are_whole_or_not_there(folder, monkeypatch):
    write_whole(folder / "x", b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(folder / "x", b"newer")
    assert (folder / "x").read_bytes() == b"old"


@pytest.mark.usefixtures("in_place")
def test_a_change_that_is_made_leaves_no_job(tmp_path, monkeypatch):
    """A kill between the change and the end of its log is not taken for a job to be resumed."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(5), path, "a")
    restart = redo.WriteAheadLog.restart

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(redo.WriteAheadLog, "restart", killed)
    with pytest.raises(KeyboardInterrupt):
        lazyio.to_hdf5(np.arange(500), path, "b", resume=True)
    monkeypatch.setattr(redo.WriteAheadLog, "restart", restart)
    assert not (hidden_path(path) / JOB).exists()
    assert lazyio.recover(path) == [f"{path}: an interrupted change was finished"]
    assert leftovers(path) == []
    lazyio.to_hdf5(np.arange(3), path, "c")
    assert lazyio.verify(path).status == "ok"


@pytest.mark.usefixtures("in_place")
def test_a_read_changes_nothing(tmp_path, monkeypatch):
    """What was committed and not applied is left to writers, and to recover; clean refuses."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(5), path, "a")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(redo, "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            lazyio.to_hdf5(np.arange(500), path, "b")
    before = path.read_bytes(), (hidden_path(path) / redo.LOG).read_bytes()
    assert lazyio.open(path, "a").compute().tolist() == [*range(5)]
    assert "an interrupted change" not in str(lazyio.plan(path, memory_limit="1 MiB"))
    report = lazyio.verify(path)
    assert (report.status, "lazyio recover" in report.note) == ("incomplete", True)
    with pytest.raises(TargetError, match="finish it with: lazyio recover"):
        lazyio.clean(path)
    assert (path.read_bytes(), (hidden_path(path) / redo.LOG).read_bytes()) == before
    assert lazyio.recover(path) == [f"{path}: an interrupted change was finished"]
    assert lazyio.open(path, "b").compute().tolist() == [*range(500)]


@pytest.mark.usefixtures("in_place")
def test_half_applied_it_is_no_file_to_be_read(tmp_path, monkeypatch):
    """No program opens it; lazyio says what to do, and the next write does that."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(5), path, "a")
    real, n_left = redo.write_at, 10**9

    def write_at(*arguments):
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise KeyboardInterrupt
        real(*arguments)

    def apply(*arguments):
        nonlocal n_left
        n_left = 2
        applied(*arguments)

    applied = redo.apply
    with monkeypatch.context() as patch:
        patch.setattr(redo, "write_at", write_at)
        patch.setattr(redo, "apply", apply)
        with pytest.raises(KeyboardInterrupt):
            lazyio.to_hdf5(np.arange(500), path, "b")
    monkeypatch.setattr("lazyio.atomic.recovery._PATIENCE", 0.1)
    with pytest.raises(OSError, match="signature"):
        h5py.File(path)
    with pytest.raises(SourceError, match="lazyio recover"):
        lazyio.open(path, "a")
    shutil.copy(path, tmp_path / "alone.h5")
    with pytest.raises(SourceError, match="is gone; restore the file from a copy"):
        lazyio.open(tmp_path / "alone.h5", "a")
    assert lazyio.verify(path).status == "incomplete"
    lazyio.to_hdf5(np.arange(7), path, "c")
    with h5py.File(path) as file:
        assert [len(file[key]) for key in "abc"] == [5, 500, 7]


def test_more_chunks_than_can_be_numbered(tmp_path):
    """They are written without digests, and not resumed."""
    path, to = tmp_path / "x.zarr", lazyio.to_zarr
    lazyio.allocate(path, shape=(10**11, 10**11), dtype="u1", chunks=(10, 10), format="zarr")
    place = np.s_[10**11 - 5 : 10**11, 7:9]
    report = to(np.ones((5, 2), "u1"), path, region=place)
    assert report.n_chunks == 1
    with pytest.raises(OptionError, match="cannot number"):
        to(np.ones((5, 2), "u1"), path, region=place, resume=True)


@pytest.mark.usefixtures("in_place")
def test_blocks_fail_and_nothing_is_left(tmp_path):
    """A change in place that fails takes back what it wrote behind the end."""
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
