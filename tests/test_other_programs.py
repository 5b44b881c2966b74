"""HDF5 files beside other programs: nothing is lost on either side without a word."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.appending import hdf5_commit as hdf5_ways
from lazyio.appending import writer as writer_module
from lazyio.atomic import lock, workdir
from lazyio.atomic import log as redo
from lazyio.atomic.recovery import leftovers
from lazyio.atomic.workdir import WorkDirectory, hidden_path
from lazyio.errors import TargetError, TargetExistsError, TargetLockedError
from lazyio.storage.hdf5 import file as building

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its locks are others")


@pytest.fixture
def in_place(monkeypatch):
    """Have small files changed in place, as large ones are."""
    for module in (workdir, building):
        monkeypatch.setattr(module, "COPIED_NBYTES", 0)


class Other:
    """Another Python process, which does a line at a time."""

    def __init__(self, *lines):
        code = (
            "import ast, sys\nfor line in sys.stdin:\n exec(ast.literal_eval(line))\n"
            " print('done', flush=True)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", f"import h5py, numpy as np\n{code}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict(line for line in lines if isinstance(line, tuple))},
        )
        self.do(*(line for line in lines if isinstance(line, str)))

    @property
    def pid(self):
        return self._process.pid

    def do(self, *lines):
        for line in lines:
            self._process.stdin.write(f"{line!r}\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == "done\n", self._process.stderr.read()

    def get(self, name):
        """Return the text that a variable holds."""
        self._process.stdin.write(f"{f'print(repr({name}))'!r}\n")
        self._process.stdin.flush()
        value = ast.literal_eval(self._process.stdout.readline())
        assert self._process.stdout.readline() == "done\n"
        return value

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()


UNLOCKED = ("HDF5_USE_FILE_LOCKING", "FALSE")


def read(path, key="x"):
    with h5py.File(path) as file:
        return file[key][...].tolist()


def clean(path):
    return not hidden_path(path).exists()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(10), maxshape=(None,), chunks=(4,))
    return path


WRITES = {
    "w": lambda path: lazyio.to_hdf5(np.ones(3), path, "y", mode="w"),
    "add": lambda path: lazyio.to_hdf5(np.ones(3), path, "y"),
    "overwrite": lambda path: lazyio.to_hdf5(np.ones(3), path, "x", overwrite=True),
    "region": lambda path: lazyio.to_hdf5(
        np.ones(3, "i8"), path, "x", region=np.s_[:3], lock_timeout=0.5
    ),
    "append": lambda path: lazyio.to_hdf5(np.ones(3, "i8"), path, "x", append_dim=0),
    "writer": lambda path: lazyio.writer(path).close(),
    "writer w": lambda path: lazyio.writer(path, mode="w").close(),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("size", ["copied", "in place"])
def test_a_file_that_is_open_for_writing_is_refused(path, write, size, request):
    """Whoever has it open is named, and loses nothing."""
    if size == "in place":
        request.getfixturevalue("in_place")
    with Other(f"f = h5py.File({str(path)!r}, 'r+')") as other:
        with pytest.raises((TargetLockedError, TargetError), match=f"{other.pid}|open for writing"):
            WRITES[write](path)
        other.do("f['late'] = [1, 2]; f.close()")
    assert read(path, "late") == [1, 2]
    assert clean(path)
    WRITES[write](path)


@pytest.mark.parametrize("size", ["copied", "in place"])
@pytest.mark.parametrize("write", ["w", "add", "region", "append"])
def test_a_change_without_locks_is_found(path, write, size, request, monkeypatch):
    """What another program writes meanwhile stays, and the error says so."""
    if size == "in place" and write == "w":
        pytest.skip("a new file is never built in place")
    if size == "in place":
        request.getfixturevalue("in_place")
    with Other(UNLOCKED) as other:
        edit = (
            f"f = h5py.File({str(path)!r}, 'r+'); f['x'][0] = 77; f.attrs['by'] = 'me'; f.close()"
        )

        def convert(block):
            other.do(edit)
            return block

        n = 3
        data = lazyio.from_array(np.arange(n), chunks=-1).map_blocks(convert, dtype="i8")
        options = {
            "w": {"key": "y", "mode": "w"},
            "add": {"key": "y"},
            "region": {"key": "x", "region": np.s_[:n]},
            "append": {"key": "x", "append_dim": 0},
        }[write]
        with pytest.raises(TargetError, match="changed by another program"):
            lazyio.to_hdf5(data, path, **options)
    assert read(path)[0] == 77
    with h5py.File(path) as file:
        assert file.attrs["by"] == "me"
    assert clean(path)


@pytest.mark.usefixtures("in_place")
def test_a_reader_delays_an_append_that_is_made_once(path, monkeypatch):
    """An error means that it was not made; the same call makes it."""
    monkeypatch.setattr(building, "PATIENCE", 0.2)
    with Other(f"f = h5py.File({str(path)!r})"):
        with pytest.raises(TargetLockedError, match=r"is open in process .* Nothing was changed"):
            lazyio.to_hdf5(np.arange(5), path, "x", append_dim=0)
        assert clean(path)
    lazyio.to_hdf5(np.arange(5), path, "x", append_dim=0)
    assert read(path) == [*range(10), *range(5)]


def test_a_reader_that_becomes_a_writer_beside_a_flush(tmp_path, monkeypatch):
    """Neither side loses anything without a word."""
    path = tmp_path / "x.h5"
    with lazyio.writer(path) as w:
        x = w.create("x", dtype="i8", item_shape=(), chunks=(4,))
        x.append(range(6))
        w.flush()
        with Other(f"f = h5py.File({str(path)!r})") as other:
            x.append(range(6, 9))
            thread = threading.Thread(target=w.flush)
            thread.start()
            time.sleep(0.3)
            other.do("f.close()")
            other.do(
                "try: f = h5py.File(f_name, 'r+'); f['note'] = 1; f.close(); said = ''\n"
                "except OSError as error: said = str(error)".replace("f_name", repr(str(path)))
            )
            was_written = other.get("said") == ""
            thread.join()
        x.append([9])
    assert read(path) == [*range(10)]
    with h5py.File(path) as file:
        assert ("note" in file) == was_written


@pytest.mark.parametrize(
    "edit", ["f['x'][0] = 7", "f.attrs['a'] = 1", "f['new'] = np.arange(5000)", "del f['x']"]
)
@pytest.mark.parametrize("n_pending", [0, 1, 5000])
def test_who_edits_without_locks_beside_a_writer(tmp_path, edit, n_pending):
    """The edit stays, and the next flush says that it was made."""
    path = tmp_path / "x.h5"
    w = lazyio.writer(path, memory_limit="1 MiB")
    x = w.create("x", dtype="i8", item_shape=(), chunks=(64,))
    x.append(range(100))
    w.flush()
    x.append(np.arange(n_pending))
    with Other(UNLOCKED, f"f = h5py.File({str(path)!r}, 'r+'); {edit}; f.close()"):
        pass
    after = path.read_bytes()
    x.append([1])
    with pytest.raises(TargetError, match="by another program while it was being written; it is"):
        w.flush()
    with pytest.raises(TargetError):
        w.close()
    assert path.read_bytes()[: len(after)] == after
    with h5py.File(path):
        pass
    assert clean(path)


def test_an_append_does_not_wait_for_readers(tmp_path, monkeypatch, slept):
    """What cannot be flushed waits in memory and behind the end, within the limit."""
    monkeypatch.setattr(writer_module, "PATIENCE", 0.1)
    path, batch = tmp_path / "x.h5", np.ones((1000, 100), "i8")
    with lazyio.writer(path, memory_limit="16 MiB") as w:
        x = w.create("x", dtype="i8", item_shape=(100,), chunks=(500, 100))
        x.append(batch)
        w.flush()
        with h5py.File(path) as file:
            for at in range(100):
                slept.clear()
                x.append(batch)
                assert slept == []
                if at % 20 == 0:
                    with pytest.raises(TargetLockedError):
                        w.flush()
            assert len(file["x"]) == 1000
        w.flush()
        assert len(x) == 101_000
    with h5py.File(path) as file:
        assert file["x"].shape == (101_000, 100)
        assert file["x"][...].min() == 1
    assert lazyio.verify(path).status == "ok"


def test_followers_stay_while_it_is_closed_and_opened_again(tmp_path):
    path = tmp_path / "x.h5"
    with lazyio.writer(path, swmr=True) as w:
        x = w.create("x", dtype="i8", item_shape=(), chunks=(4,))
        x.append(range(6))
        w.flush()
        other = Other(f"f = h5py.File({str(path)!r}, 'r', libver='latest', swmr=True)")
        other.do("assert len(f['x']) == 6")
    for n in (7, 8):
        with lazyio.writer(path, swmr=True) as w:
            w.create("x").append([n])
            w.flush()
            other.do("f['x'].refresh()", f"assert len(f['x']) == {n}, f['x'].shape")
    other.__exit__()
    assert clean(path)
    assert read(path) == [*range(6), 7, 8]
    with lazyio.writer(path, swmr=True) as w:
        w.create("x").append([9])
    assert read(path) == [*range(6), 7, 8, 9]


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("write", ["add", "overwrite", "region", "append", "writer"])
def test_another_name_keeps_the_old_content(path, write):
    """A snapshot by a hard link is not changed, whenever it is made."""
    snapshot = path.with_name("snapshot.h5")
    os.link(path, snapshot)
    before = snapshot.read_bytes()
    if write == "writer":
        with lazyio.writer(path) as w:
            w.create("x").append([10])
            w.flush()
            assert snapshot.read_bytes() == before
            # Once more, while it is open: of what was flushed.
            again = path.with_name("again.h5")
            os.link(path, again)
            w.create("y", dtype="i8", item_shape=()).append([1])
            w.flush()
            assert read(again) == [*range(11)]
            with h5py.File(again) as file:
                assert list(file) == ["x"]
        assert read(path, "y") == [1]
    else:
        WRITES[write](path)
    assert snapshot.read_bytes() == before
    assert path.read_bytes() != before
    assert clean(path)


def test_a_followed_file_has_no_other_name(tmp_path):
    """A snapshot by a hard link stays what it is."""
    path, snapshot = tmp_path / "x.h5", tmp_path / "snapshot.h5"
    with lazyio.writer(path, swmr=True) as w:
        w.create("x", dtype="i8", item_shape=()).append([1, 2])
    os.link(path, snapshot)
    with lazyio.writer(path, swmr=True) as w:
        w.create("x").append([3])
    assert (read(snapshot), read(path)) == ([1, 2], [1, 2, 3])
    assert clean(path)


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize(
    "how", ["restored", "edited", "replaced", "removed", "moved away and back"]
)
def test_after_a_kill_another_program_comes_first(path, how, tmp_path):
    """A read touches nothing; the next write goes on, or says that it cannot."""
    code = (
        "import os, sys, numpy as np, lazyio, lazyio.atomic.log as redo\n"
        "from lazyio.atomic import workdir\nfrom lazyio.storage.hdf5 import file as building\n"
        "workdir.COPIED_NBYTES = building.COPIED_NBYTES = 0\n"
        "redo.apply = lambda *_: os.kill(os.getpid(), 9)\n"
        "lazyio.to_hdf5(np.arange(1000), sys.argv[1], 'new')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert redo.is_committed(hidden_path(path))
    if how == "restored":
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
    elif how == "linked":
        os.link(path, tmp_path / "snapshot")
    elif how == "edited":
        with h5py.File(path, "r+") as file:
            file["theirs"] = 1
    elif how == "replaced":
        with h5py.File(path, "w") as file:
            file["theirs"] = np.arange(10**5)
    elif how == "removed":
        path.unlink()
    else:
        os.rename(path, tmp_path / "aside")
        os.rename(tmp_path / "aside", path)
    before = path.read_bytes() if path.exists() else None
    kept = (hidden_path(path) / redo.LOG).read_bytes()
    if before is not None:
        lazyio.open(path, "theirs" if how in ("edited", "replaced") else "x").sum().compute()
        assert path.read_bytes() == before
    with pytest.raises(TargetError, match="lazyio recover"):
        lazyio.clean(path)
    fits = how in ("restored", "linked", "moved away and back")
    if fits:
        lazyio.to_hdf5(np.arange(3), path, "later")
        assert read(path, "new") == [*range(1000)]
        assert clean(path)
        if how == "linked":
            with h5py.File(tmp_path / "snapshot") as file:
                assert list(file) == ["x"]
        return
    for call in (lazyio.recover, lambda path: lazyio.to_hdf5(np.arange(3), path, "later")):
        with pytest.raises(TargetError, match=rf"are left as.*{hidden_path(path)}"):
            call(path)
    assert (path.read_bytes() if path.exists() else None) == before
    assert (hidden_path(path) / redo.LOG).read_bytes() == kept
    # What the error advises, to give the change up.
    shutil.rmtree(hidden_path(path))
    lazyio.to_hdf5(np.arange(3), path, "later")


def test_a_forked_child_holds_no_lock(path):
    """It lives on when the writer is dead."""
    code = (
        "import os, sys, time, lazyio\nw = lazyio.writer(sys.argv[1])\nw.create('x').append([1])\n"
        "w.flush()\nready, told = os.pipe()\npid = os.fork()\n"
        "if not pid:\n os.write(told, b'.')\n time.sleep(60)\n"
        "os.read(ready, 1)\nprint(pid, flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    try:
        with pytest.raises(TargetLockedError, match="being written"):
            lazyio.writer(path)
        process.kill()
        process.wait()
        lazyio.to_hdf5(np.ones(2), path, "y")
        with h5py.File(path, "r+"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_looking_takes_no_lock(path):
    """A writer is never refused because somebody looks."""
    ended = threading.Event()

    def look():
        while not ended.is_set():
            for left in leftovers(path):
                str(left)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            with WorkDirectory(path):
                assert lock.is_held(hidden_path(path) / lock.NAME)
    finally:
        ended.set()
        thread.join()
    assert clean(path)


@pytest.mark.parametrize("resume", [False, True])
def test_nothing_stays_of_a_job_that_is_done(tmp_path, monkeypatch, resume):
    """Also where the run was killed after it gave the name, and the next call has nothing to do."""
    path = tmp_path / "x.h5"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workdir, "sync_folder", killed)
        patch.setattr(WorkDirectory, "_leave", killed)
        with pytest.raises(KeyboardInterrupt):
            lazyio.to_hdf5(np.arange(10), path, "x", resume=resume)
    lock._let_go_in_child()  # As the end of the process does it.
    assert hidden_path(path).exists()
    if resume:
        report = lazyio.to_hdf5(np.arange(10), path, "x", resume=True)
        assert report.n_resumed == report.n_blocks
    else:
        with pytest.raises(TargetExistsError):
            lazyio.to_hdf5(np.arange(10), path, "x")
    assert clean(path)


def test_what_fails_after_the_name_is_given_is_advice(path, monkeypatch):
    """The call returns: made again, rows would be there twice."""
    with monkeypatch.context() as patch:

        def fails(*_):
            raise OSError(5, "Input/output error")

        patch.setattr(workdir, "sync_folder", fails)
        patch.setattr(lock, "leave", fails)
        report = lazyio.to_hdf5(np.arange(5), path, "x", append_dim=0)
    assert {code for code, _ in report.advice} >= {"not-synced", "not-cleared"}
    assert len(read(path)) == 15
    lazyio.to_hdf5(np.arange(5), path, "x", append_dim=0)
    assert clean(path)
    assert len(read(path)) == 20


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("step", ["apply", "restart"])
def test_a_disk_that_fails_once_the_change_is_made(path, monkeypatch, step):
    """It is advice as well, and recover finishes it."""

    def fails(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(redo if step == "apply" else redo.WriteAheadLog, step, fails)
        report = lazyio.to_hdf5(np.arange(5), path, "x", append_dim=0)
    assert "not-applied" in {code for code, _ in report.advice}
    lazyio.recover(path)
    assert read(path) == [*range(10), *range(5)]
    assert clean(path)


def test_a_writer_that_nobody_lets_close(tmp_path, monkeypatch, caplog):
    """What was appended is complete beside the file, and the next writer makes it."""
    monkeypatch.setattr(hdf5_ways, "PATIENCE", 0.1)
    path = tmp_path / "x.h5"
    w = lazyio.writer(path)
    w.create("x", dtype="i8", item_shape=()).append([1, 2])
    w.flush()
    with h5py.File(path):
        w.create("y", dtype="i8", item_shape=()).append([3])
        w.close()
    assert "lazyio recover" in caplog.text
    with lazyio.writer(path) as w:
        w.create("x").append([4])
    assert (read(path), read(path, "y")) == ([1, 2, 4], [3])
    assert clean(path)
