"""What goes wrong below: disks, signals, sources. What was there stays, and the message helps."""

import contextlib
import errno
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.atomic import fsync as sync
from lazyio.atomic.recovery import leftovers
from lazyio.errors import SourceChangedError, TargetError, TargetLockedError
from lazyio.verification import hdf5 as hdf5_checks
from lazyio.verification.verify import verify_here

VALUES = np.arange(40_000, dtype="i4").reshape(400, 100)
OLD = np.ones(5)
FORMATS = ["h5", "zarr"]


@pytest.fixture(params=FORMATS)
def suffix(request):
    return request.param


def write(data, path, **options):
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    return to(data, path, mode="w", **options)


def read(path):
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file["data"][...]
    return zarr.open_array(path, mode="r")[...]


@pytest.fixture(params=[False, True], ids=["once", "resume"])
def resume(request):
    return request.param


@pytest.fixture
def path(tmp_path, suffix):
    """Return the path of an existing array."""
    path = tmp_path / f"x.{suffix}"
    write(OLD, path)
    return path


_replace = Path.replace


def _fails_of_data(path: Path, target: Path) -> Path:
    if path.name == "data":
        raise OSError(errno.EROFS, "Read-only file system")
    return _replace(path, target)


class TestDisk:
    """Full, failing, or slow of hand."""

    def test_too_little_space_is_said_before(self, path, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 0, 10**5))
        calls = []
        x = lazyio.from_function(lambda region: calls.append(region), (400, 100), "i4")
        options = {"compressors": None, "write_empty_chunks": True}
        with pytest.raises(TargetError, match=r"needs 156 KiB, and 97.7 KiB are free") as caught:
            write(x, path, **({} if path.suffix == ".h5" else options))
        assert caught.value.errno == errno.ENOSPC
        assert calls == []
        np.testing.assert_array_equal(read(path), OLD)
        assert leftovers(path) == []

    def test_fsync_fails(self, path, resume, monkeypatch):
        """It is not tried again, and nothing is published."""
        calls = []

        def fail(descriptor):
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if "data" in name:
                calls.append(name)
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(TargetError, match="Input/output error; nothing is published"):
            write(VALUES, path, chunks=(100, 100), resume=resume)
        assert len(calls) == len(set(calls))
        monkeypatch.undo()
        np.testing.assert_array_equal(read(path), OLD)
        assert bool(leftovers(path)) == resume

    @pytest.mark.parametrize("number", [errno.EXDEV, errno.EACCES, errno.EROFS])
    def test_the_rename_fails(self, tmp_path, suffix, resume, monkeypatch, number):
        """What is built is kept where it can be resumed."""
        path = tmp_path / f"new.{suffix}"
        replace = Path.replace

        def fail(self, target):
            if self.name == "data":
                raise OSError(number, os.strerror(number))
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(TargetError, match="could not be replaced") as caught:
            write(VALUES, path, chunks=(100, 100), resume=resume)
        assert caught.value.errno == number
        monkeypatch.undo()
        assert not path.exists()
        assert bool(leftovers(path)) == resume
        if resume:
            report = write(VALUES, path, chunks=(100, 100), resume=True)
            assert report.n_resumed == report.n_blocks
            np.testing.assert_array_equal(read(path), VALUES)

    @pytest.mark.parametrize("options", [{}, {"region": np.s_[2:4]}, {"overwrite": True}])
    def test_a_copy_is_complete_and_has_no_name(self, tmp_path, monkeypatch, options):
        """What was added to a file is resumed, though its metadata are those of the end."""
        path, expected = tmp_path / "x.h5", VALUES
        lazyio.to_hdf5(np.ones((5, 100), "i4"), path, "old", chunks=(1, 100))
        key, data = "new", VALUES
        if options:
            key = "old"
        if "region" in options:
            data, expected = VALUES[:2], np.ones((5, 100), "i4")
            expected[2:4] = VALUES[:2]
        else:
            options = {**options, "chunks": (50, 100)}
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", _fails_of_data)
            with pytest.raises(TargetError, match="could not be replaced"):
                lazyio.to_hdf5(data, path, key, resume=True, **options)
        report = lazyio.to_hdf5(data, path, key, resume=True, **options)
        assert report.n_resumed == report.n_blocks
        assert not any(code == "chunks-damaged" for code, _ in report.advice)
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file[key][...], expected)
        assert lazyio.verify(path).status == "ok"

    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
    def test_a_payload_cannot_be_written(self, tmp_path, monkeypatch, number):
        """The journal has no such chunk for good: the next run writes it."""
        path = tmp_path / "x.h5"
        pwrite, n_left = os.pwrite, [3]

        def fail(*arguments):
            n_left[0] -= 1
            if n_left[0] < 0:
                raise OSError(number, os.strerror(number))
            return pwrite(*arguments)

        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(TargetError, match="choose another disk") as caught:
            lazyio.to_hdf5(VALUES, path, chunks=(50, 100), resume=True, workers=1)
        assert caught.value.errno == number
        monkeypatch.undo()
        report = lazyio.to_hdf5(VALUES, path, chunks=(50, 100), resume=True, workers=1)
        assert report.n_resumed < report.n_blocks or report.n_blocks == 1
        np.testing.assert_array_equal(read(path), VALUES)
        assert lazyio.verify(path).status == "ok"

    def test_short_writes_are_completed(self, tmp_path, monkeypatch):
        pwrite = os.pwrite
        monkeypatch.setattr(
            os, "pwrite", lambda file, data, at: pwrite(file, data[: max(1, len(data) // 2)], at)
        )
        path = tmp_path / "x.h5"
        lazyio.to_hdf5(VALUES, path, chunks=(50, 100), resume=True)
        np.testing.assert_array_equal(read(path), VALUES)

    @pytest.mark.parametrize("compression", [None, "gzip", "szip"])
    def test_the_process_outlives_a_full_disk(self, tmp_path, suffix, resume, compression):
        """Also where libhdf5 writes: it is known to crash on that."""
        script = f"""
import resource, signal, sys
import numpy as np, lazyio
x = np.random.default_rng(0).integers(0, 2**31, (4000, 100), "i4")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
to = lazyio.to_hdf5 if {suffix == "h5"} else lazyio.to_zarr
options = {{"compression": {compression!r}}} if {suffix == "h5"} else {{"shards": (2000, 100)}}
try:
    to(x, sys.argv[1], chunks=(500, 100), resume={resume}, **options)
except lazyio.LazyioError as error:
    print(type(error).__name__, error.errno, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
"""
        if suffix == "zarr" and compression is not None:
            pytest.skip("the codec is HDF5's")
        path = tmp_path / f"x.{suffix}"
        script = script.rpartition("resource.setrlimit")[0]
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"TargetError {errno.EFBIG}" in done.stdout
        assert "raise the limit on file sizes" in done.stdout
        assert not path.exists()

    @pytest.mark.parametrize("how", ["new", "overwrite", "region", "append", "contiguous", "text"])
    def test_a_disk_that_is_full_at_any_byte(self, tmp_path, how):
        """libhdf5 never meets it, whatever of it is written then; the old file stays."""
        path, old = tmp_path / "x.h5", np.zeros((30, 100))
        text = np.array([f"text {at}" * at for at in range(200)], np.dtypes.StringDType())
        options = {
            "new": {"chunks": (10, 30), "compression": "gzip"},
            "overwrite": {"chunks": (10, 30), "compression": "gzip", "overwrite": True},
            "region": {"region": np.s_[20:60, :]},
            "append": {"append_dim": 0},
            "contiguous": {"chunks": None},
            "text": {"chunks": (20,)},
        }[how]
        values = text if how == "text" else VALUES[:40].astype("f8")
        key = "old" if how in ("overwrite", "region", "append") else "new"
        if key == "old":
            lazyio.to_hdf5(old, path, "old", chunks=(10, 30), maxshape=(None, 100))
        before = path.read_bytes() if path.exists() else None
        whole = tmp_path / "whole.h5"
        if before is not None:
            whole.write_bytes(before)
        lazyio.to_hdf5(values, whole, key, **options)
        size = whole.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in range(2000, size, size // 25):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            try:
                with pytest.raises(TargetError, match="ulimit -f") as caught:
                    lazyio.to_hdf5(values, path, key, **options)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert caught.value.errno == errno.EFBIG
            assert (path.read_bytes() if path.exists() else None) == before
            assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


REFUSED = {
    "threads": (errno.EAGAIN, "writing (under .* )?failed: .*; raise the limit of this process"),
    "folder": (errno.ENOENT, "does not exist|No such file"),
    "name": (errno.ENAMETOOLONG, "too long"),
    "descriptors": (errno.EMFILE, "Too many open files"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_the_system_refuses(tmp_path, monkeypatch, suffix, what):
    """One error of ours with its number, and nothing is left."""
    number, words = REFUSED[what]
    folder, name = tmp_path / "folder", f"x.{suffix}"
    folder.mkdir()
    # zarr-python waits for ever for a thread of its own that it could not start once.
    zarr.create_group(tmp_path / "other.zarr")
    with contextlib.ExitStack() as stack:
        if what == "threads":
            patched = mock.patch.object(threading.Thread, "start", side_effect=_no_thread)
            stack.enter_context(patched)
        elif what == "folder":
            monkeypatch.chdir(folder)
            folder.rmdir()
        elif what == "name":
            name = "x" * 300 + name
        else:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
            os.close(free := os.open(os.devnull, os.O_RDONLY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        path = Path(name) if what == "folder" else folder / name
        with pytest.raises(TargetError, match=words) as caught:
            write(VALUES, path, chunks=(50, 100))
    assert caught.value.errno == number
    if what == "folder":
        monkeypatch.chdir(tmp_path)
    elif what != "descriptors":  # Without any nothing can be removed.
        assert os.listdir(folder) == []


def _no_thread(*_):
    raise RuntimeError("can't start new thread")


class TestSource:
    """It has to stay as it is until the end."""

    def test_it_changes(self, tmp_path, path):
        raw = tmp_path / "x.raw"
        VALUES.tofile(raw)
        x = lazyio.from_raw(raw, VALUES.shape, "i4")

        def rewrite(step):
            if step.n_done == 1:
                raw.write_bytes(raw.read_bytes()[::-1])

        with pytest.raises(SourceChangedError, match=r"x\.raw was modified .* is not published"):
            write(x, path, chunks=(50, 100), progress=rewrite)
        np.testing.assert_array_equal(read(path), OLD)

    def test_a_graph_of_it(self, tmp_path, path):
        raw = tmp_path / "x.raw"
        VALUES.tofile(raw)
        x = lazyio.from_raw(raw, VALUES.shape, "i4", chunks=(100, 100)) + 1

        def touch(step):
            os.utime(raw, (step.n_done, step.n_done))

        with pytest.raises(SourceChangedError):
            write(x, path, chunks=(100, 100), progress=touch)
        np.testing.assert_array_equal(read(path), OLD)

    def test_another_array_of_the_same_file(self, tmp_path):
        """Adding to the file that is read does not change what is read."""
        path = tmp_path / "x.h5"
        write(VALUES, path)
        lazyio.to_hdf5(lazyio.open(path) + 1, path, "more")
        np.testing.assert_array_equal(lazyio.open(path, "more").compute(), VALUES + 1)


SLOW = """
import sys, time
import numpy as np, lazyio
from lazyio.cli import main
_open = lazyio.cli_convert.open_lazily
def slow(region):
    open(sys.argv[2], "a").write("x")
    time.sleep(0.05)
    return np.ones([part.stop - part.start for part in region], "i4")
lazyio.cli_convert.open_lazily = lambda *_, **__: lazyio.from_function(slow, (4000, 100), "i4")
sys.exit(main(["convert", "source.npy", sys.argv[1], "--chunks", "50,100", "--memory-limit",
               "300 kB", "--no-attributes", *sys.argv[3:]]))
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
@pytest.mark.parametrize("options", [[], ["--resume"]], ids=["once", "resume"])
def test_signals(tmp_path, number, status, options, suffix):
    """The command stops, says how to go on, and does what it says."""
    np.save(tmp_path / "source.npy", VALUES)
    path, log = tmp_path / f"x.{suffix}", tmp_path / "log"
    command = [sys.executable, "-c", SLOW, str(path), str(log), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not log.exists() or len(log.read_text()) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    n_read = len(log.read_text())
    time.sleep(0.2)
    assert len(log.read_text()) == n_read
    assert not path.exists()
    if options:
        assert "is kept, run the same command again to resume" in err
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(r"^resuming: [1-9]\d*/\d+ blocks$", done.stderr, re.MULTILINE)
        assert lazyio.verify(path).status == "ok"
    else:
        assert "nothing was left behind" in err
        assert leftovers(path) == []


def test_few_file_descriptors(tmp_path, suffix):
    """A limit that is low is kept, or said."""
    script = """
import resource, sys
import numpy as np, lazyio
lazyio.to_hdf5(np.ones(3), sys.argv[1] + ".warm.h5")
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
to = lazyio.to_hdf5 if sys.argv[1].endswith("h5") else lazyio.to_zarr
to(np.ones((4000, 100)), sys.argv[1], chunks=(10, 100), resume=True)
print(lazyio.verify(sys.argv[1]).status)
"""
    path = str(tmp_path / f"x.{suffix}")
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ok\n", done.stderr


def test_readers_see_old_or_new(tmp_path, suffix):
    """Never anything else, however often it is replaced; who has it open keeps it."""
    path = tmp_path / f"x.{suffix}"
    write(np.zeros((50, 50)), path)
    script = """
import sys, time
import numpy as np, h5py, zarr
path, until = sys.argv[1], time.monotonic() + 3
seen = set()
while time.monotonic() < until:
    try:
        if path.endswith("h5"):
            with h5py.File(path, locking=False) as file:
                values = file["data"][...]
        else:
            values = zarr.open_array(path, mode="r")[...]
    except FileNotFoundError:
        continue
    assert (values == values.flat[0]).all(), values
    seen.add(float(values.flat[0]))
print(len(seen))
"""
    if suffix == "zarr":
        pytest.skip("a reader of a folder opens its files one by one")
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    at = 0
    while reader.poll() is None:
        at += 1
        write(np.full((50, 50), float(at)), path, chunks=(10, 10))
    out, _ = reader.communicate()
    assert reader.returncode == 0
    assert int(out) > 2


def test_limits_are_those_of_the_system():
    """What the tests above lower is there to be lowered."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 40


def test_a_second_ctrl_c(tmp_path, suffix):
    """It ends at once, and what was there stays."""
    np.save(tmp_path / "source.npy", VALUES)
    path, log = tmp_path / f"x.{suffix}", tmp_path / "log"
    write(OLD, path)
    command = [sys.executable, "-c", SLOW.replace("0.05", "2"), str(path), str(log), "--overwrite"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path)
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    process.wait(timeout=30)
    assert process.returncode != 0
    np.testing.assert_array_equal(read(path), OLD)


HUNG = """
import sys, threading, time
import lazyio, numpy as np
from lazyio.execution import threads
threads._LONG = threads._LONG_ENDING = 0.2
hung = threading.Event()
def read(region):
    if region[0].start >= 100:
        open(sys.argv[2], "a").write("x")
        time.sleep(1000)
    return np.ones([part.stop - part.start for part in region], "i4")
x = lazyio.from_function(read, (400, 100), "i4")
to = lazyio.to_hdf5 if sys.argv[1].endswith("h5") else lazyio.to_zarr
to(x, sys.argv[1], chunks=(50, 100), memory_limit="140 kB", workers=1, progress=True)
"""


def test_a_source_that_hangs(tmp_path, suffix):
    """What is waited for has a name, and Ctrl-C twice ends it at once."""
    path, log = tmp_path / f"x.{suffix}", tmp_path / "log"
    command = [sys.executable, "-c", HUNG, str(path), str(log)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode != 0
    named = re.search(r"waiting for (/?data )?\[1\d\d:\d+, 0:100\]", err)
    assert named is not None, err
    assert "waiting for what is being read" in err
    assert "Ctrl-C leaves at once" in err
    assert not path.exists()


ZOMBIE = """
import os, pathlib, signal, sys, threading, time
import lazyio, numpy as np
from lazyio.atomic.recovery import clean
path, resume = pathlib.Path(sys.argv[1]), sys.argv[2] == "True"
reading, goes_on, came_back = threading.Event(), threading.Event(), threading.Event()

class Hung:
    shape, dtype, chunk_shape = (400, 100), np.dtype("i4"), None
    def __dask_tokenize__(self):
        return "Hung"
    def read(self, region):
        reading.set()
        goes_on.wait(30)
        came_back.set()
        return np.full(self.shape, -1, "i4")

def interrupt():
    reading.wait()
    for _ in range(2):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

def write(data):
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    to(data, path, chunks=(400, 100), mode="w", resume=resume, workers=1)

threading.Thread(target=interrupt).start()
before = threading.active_count()
try:
    write(lazyio.from_source(Hung()))
except KeyboardInterrupt:
    print("given up")
clean(path)
write(np.ones((400, 100), "i4"))
there = sorted(map(str, path.parent.rglob("*")))
goes_on.set()
came_back.wait(10)
while any(thread.name.startswith("lazyio") for thread in threading.enumerate()):
    time.sleep(0.01)
assert sorted(map(str, path.parent.rglob("*"))) == there
assert (lazyio.open(path).compute() == 1).all()
print(lazyio.verify(path).status)
"""


def test_a_block_that_comes_after_all_was_given_up(tmp_path, suffix, resume):
    """Its thread cannot be ended, and writes nothing: not even to what comes next."""
    path = tmp_path / f"x.{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", ZOMBIE, str(path), str(resume)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "given up\nok\n", done.stderr


def test_a_clock_that_jumps(tmp_path, suffix, monkeypatch):
    """Nothing that is safe depends on what time it is."""
    path, times = tmp_path / f"x.{suffix}", itertools.cycle([0.0, 4e9, 1.0, 2e9])
    monkeypatch.setattr(time, "time", lambda: next(times))

    def stop(step):
        if step.n_done == 3:
            raise KeyboardInterrupt

    x = lazyio.from_array(VALUES)
    options = {"chunks": (20, 100), "resume": True, "memory_limit": "100 kB"}
    with pytest.raises(KeyboardInterrupt):
        write(x, path, progress=stop, **options)
    os.utime(leftovers(path)[0].path, (4e9, 4e9))
    report = write(x, path, **options)
    assert report.n_resumed >= 3
    np.testing.assert_array_equal(read(path), VALUES)
    assert lazyio.verify(path).status == "ok"


def test_who_has_the_old_file_open_keeps_it(tmp_path):
    path = tmp_path / "x.h5"
    write(OLD, path)
    with h5py.File(path, locking=False) as file:
        write(VALUES, path)
        np.testing.assert_array_equal(file["data"][...], OLD)
    np.testing.assert_array_equal(read(path), VALUES)


def test_without_the_locks_of_hdf5(tmp_path):
    """The lock is our own, and keeps a second writer out."""
    script = """
import sys, threading, time
import lazyio, numpy as np
def slow(region):
    print("reading", flush=True)
    sys.stdin.readline()
    return np.ones(10)
lazyio.to_hdf5(lazyio.from_function(slow, (10,), "f8"), sys.argv[1])
"""
    path = tmp_path / "x.h5"
    first = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "reading\n"
    with pytest.raises(TargetLockedError, match=f"process {first.pid}"):
        write(VALUES, path)
    first.communicate("\n" * 10)
    assert first.returncode == 0
    np.testing.assert_array_equal(read(path), np.ones(10))


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_small_file_that_fails_leaves_nothing(tmp_path, monkeypatch, place):
    """Neither under its name nor under that which it has until it is whole."""
    monkeypatch.setattr(sync.os if place == "fsync" else sync.Path, place, failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        sync.write_whole(tmp_path / "x", b"some")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    """os.walk leaves it out, and what was built in it would not be published."""
    path = tmp_path / "x.zarr"
    lazyio.to_zarr(np.zeros((8, 8)), path, chunks=(2, 2))
    scandir = os.scandir

    def fails(folder="."):
        if str(folder).endswith("/c"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", fails)
    with pytest.raises(TargetError) as caught:
        lazyio.to_zarr(np.ones((4, 8)), path, region=np.s_[:4])
    monkeypatch.undo()
    assert caught.value.errno == errno.EIO
    assert (zarr.open_array(path)[...] == 0).all()


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("words", [True, False])
def test_verify_accuses_no_file_of_what_the_machine_lacks(tmp_path, monkeypatch, number, words):
    """A disk that cannot be read is damage."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.ones((8, 8)), path, "x", chunks=(4, 4))
    told = f"file read failed: errno = {number}, error message = 'x'"
    error = RuntimeError(told) if words else OSError(number, told)

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(hdf5_checks, "check_known", fails)
    status = verify_here(str(path), None, deep=True).status
    assert status == ("damaged" if number == errno.EIO else "unverifiable")


def failing(number):
    """Return a function that raises an error of the system."""

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    return fails
