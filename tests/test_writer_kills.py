"""Writers that are killed, followed and measured: each in a process of its own."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.atomic import hdf5_superblock as superblock
from lazyio.atomic.recovery import recover
from lazyio.atomic.workdir import hidden_path
from lazyio.errors import OptionError, SourceError

PUSH = """
import sys, numpy as np, lazyio
from lazyio.appending import writer as flusher

path, swmr, codec, start = sys.argv[1], sys.argv[2] == "1", sys.argv[3], int(sys.argv[4])
flusher.INTERVAL = 0.05
compression = None if codec == "none" else codec
with lazyio.writer(path, swmr=swmr) as w:
    x = w.create("x", dtype="i4", item_shape=(7,), chunks=(40, 5), compression=compression)
    t = w.create("t", dtype="i8", item_shape=(), chunks=100)
    w.flush()
    print("begun", len(x), flush=True)
    at, rng = max(len(t), len(x)), np.random.default_rng(start)
    # Both go on from one element: they are flushed together, and told one after the other.
    x.append(np.repeat(np.arange(len(x), at), 7).reshape(-1, 7))
    t.append(np.arange(len(t), at))
    while True:
        n = int(rng.integers(1, 90))
        t.append(np.arange(at, at + n))
        x.append(np.repeat(np.arange(at, at + n, dtype="i4"), 7).reshape(n, 7))
        at += n
        if rng.random() < 0.3:
            w.flush()
            print("flushed", at, flush=True)
"""


@pytest.fixture
def pushing(warm):
    """Return what starts a writer."""

    def start_one(path, *, swmr=False, codec="none", start=0):
        return warm.start(PUSH, path, int(swmr), codec, start)

    return start_one


def found_in(path):
    """Read both arrays by stock libraries."""
    if path.suffix == ".zarr":
        group = zarr.open_group(path, mode="r")
        return group["x"][...], group["t"][...]
    with h5py.File(path, "r") as file:
        return file["x"][...], file["t"][...]


def kill(process, seconds):
    """Kill a writer after a while, and return how much it had said to be flushed."""
    first = process.stdout.readline()
    assert first.startswith("begun")
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    told = process.stdout.read()
    process.stdout.close()
    process.wait()
    lengths = re.findall(r"flushed (\d+)\n", told)
    return max(map(int, lengths), default=0)


def check(path, least):
    """All that is there is right, and there is at least so much."""
    x, t = found_in(path)
    assert len(t) >= least
    assert len(x) >= least
    assert (t == np.arange(len(t))).all()
    assert (x == np.arange(len(x))[:, None]).all()
    assert lazyio.verify(path).status != "damaged"
    return len(t)


@pytest.mark.parametrize(
    ("kind", "swmr", "codec"),
    [
        ("h5", False, "none"),
        ("h5", False, "gzip"),
        ("h5", True, "none"),
        ("h5", True, "gzip"),
        ("zarr", False, "gzip"),
    ],
)
def test_killed_at_any_time(tmp_path, kind, swmr, codec, pushing):
    """What was flushed is there, stock libraries open it, and writing goes on."""
    path = tmp_path / f"x.{kind}"
    seed = random.randrange(2**32) if "LAZYIO_SEED" not in os.environ else 0
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    rng = random.Random(int(os.environ.get("LAZYIO_SEED", seed)))
    least = 0
    for start in range(4):
        process = pushing(path, swmr=swmr, codec=codec, start=start)
        least = max(least, kill(process, rng.uniform(0, 0.4)))
        if start % 2:
            continue  # The next writer finds it as it was left.
        assert recover(path)
        assert not hidden_path(path).exists()
        least = check(path, least)
    with lazyio.writer(path) as w:
        t, x = w.create("t"), w.create("x", dtype="i4")
        stop = max(len(t), len(x)) + 1
        x.append(np.repeat(np.arange(len(x), stop), 7).reshape(-1, 7))
        t.append(np.arange(len(t), stop))
    assert check(path, least + 1) == len(found_in(path)[0])


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_killed_once_an_array_was_made_and_flushed(tmp_path, kind):
    """It is there, also with nothing in it."""
    path = tmp_path / f"x.{kind}"
    script = """
import os, sys, lazyio
w = lazyio.writer(sys.argv[1])
w.create("t", dtype="i4", item_shape=())
w.flush()
w.create("x", dtype="i4", item_shape=(7,))
w.flush()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert [len(one) for one in found_in(path)] == [0, 0]
    recover(path)
    assert check(path, 0) == 0


def test_a_kill_leaves_what_stock_readers_open_at_once(tmp_path, pushing):
    """Also without recover, if the kill does not come while the file is changed."""
    path = tmp_path / "x.h5"
    process = pushing(path)
    least = kill(process, 0.3)
    if not lazyio.atomic.log.is_committed(hidden_path(path)):
        x, _ = found_in(path)
        assert len(x) >= least
    recover(path)
    check(path, least)


def test_a_mark_that_a_killed_writer_leaves(tmp_path, h5dump, pushing):
    """HDF5 opens no such file; afterwards all do."""
    path = tmp_path / "x.h5"
    least = kill(pushing(path, swmr=True), 0.2)
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path, "r")
    assert recover(path) == [f"{path}: an interrupted change was finished"]
    done = subprocess.run([h5dump, "-H", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'DATASET "x"' in done.stdout
    check(path, least)
    assert recover(path) == []


def test_a_read_leaves_it_as_it_is(tmp_path, pushing):
    """It says what to do; the next writer does that."""
    path = tmp_path / "x.h5"
    least = kill(pushing(path, swmr=True), 0.2)
    before = path.read_bytes()
    with pytest.raises(SourceError, match=r"its writer was killed.*lazyio recover"):
        lazyio.open(path, "t")
    assert path.read_bytes() == before
    lazyio.to_hdf5(np.ones(3), path, "more")
    assert len(lazyio.open(path, "t")) >= least
    assert not hidden_path(path).exists()


def test_a_mark_of_a_writer_that_lives_is_left_alone(tmp_path):
    """Also of one that is not ours: nothing says that it is dead."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=("v110", "v114")) as file:
        file.create_dataset("x", (0,), "i4", maxshape=(None,), chunks=(10,))
        file.swmr_mode = True
        assert recover(path) == []
        assert path.read_bytes()[11] != 0
    assert path.read_bytes()[11] == 0


@pytest.mark.parametrize("userblock", [0, 512, 2048])
def test_taking_a_mark_away(tmp_path, userblock):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=("v110", "v114"), userblock_size=userblock) as file:
        file["x"] = np.arange(1000)
    assert superblock.version_of(path) == 3
    whole = bytearray(path.read_bytes())
    assert not superblock.unmark(path)
    assert path.read_bytes() == whole
    marked = whole.copy()
    marked[userblock + 11] = 5
    marked[userblock + 44 : userblock + 48] = superblock.checksum(
        bytes(marked[userblock : userblock + 44])
    ).to_bytes(4, "little")
    path.write_bytes(marked)
    with pytest.raises(OSError, match="open for write"):
        h5py.File(path, "r")
    assert superblock.unmark(path)
    assert path.read_bytes() == whole


def test_what_has_no_superblock(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"nothing" * 1000)
    with pytest.raises(ValueError, match="no HDF5 file"):
        superblock.unmark(path)


FOLLOW = """
import sys, time, h5py
path, least = sys.argv[1], int(sys.argv[2])
until, seen = time.monotonic() + 60, []
while time.monotonic() < until and (not seen or seen[-1] < least):
    try:
        file = h5py.File(path, "r", libver="latest", swmr=True)
    except OSError:
        time.sleep(0.02)
        continue
    with file:
        x = file["x"]
        while time.monotonic() < until and (not seen or seen[-1] < least):
            x.refresh()
            n = len(x)
            assert not seen or n >= seen[-1], (n, seen)
            values = x[:n]
            assert (values == range(n)).all() if x.ndim == 1 else (
                values == [[at] * 7 for at in range(n)]).all(), n
            if not seen or n > seen[-1]:
                seen.append(n)
            time.sleep(0.005)
print(len(seen), seen[-1])
"""


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_a_second_process_follows(tmp_path, codec):
    """It sees the file grow, and never an element that is not there yet."""
    path = tmp_path / "x.h5"
    n_rows = 6000
    with lazyio.writer(path, swmr=True) as w:
        x = w.create("x", dtype="i4", item_shape=(7,), chunks=(64, 3), compression=codec)
        w.flush()
        command = [sys.executable, "-c", FOLLOW, str(path), str(n_rows)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for at in range(0, n_rows, 25):
            x.append(np.repeat(np.arange(at, at + 25, dtype="i4"), 7).reshape(25, 7))
            if at % 100 == 0:
                w.flush()
            time.sleep(0.004)
        w.flush()
        told, errors = child.communicate(timeout=90)
    assert child.returncode == 0, errors
    n_seen, last = map(int, told.split())
    assert last == n_rows
    assert n_seen > 3
    assert lazyio.verify(path).status == "ok"


def test_what_swmr_does_not_allow(tmp_path):
    path = tmp_path / "x.h5"
    with lazyio.writer(path, swmr=True) as w:
        w.create("x", dtype="i4", item_shape=()).append(1)
        with pytest.raises(OptionError, match="create all arrays first"):
            w.create("y", dtype="i4", item_shape=())
    old = tmp_path / "old.h5"
    with h5py.File(old, "w", libver=("earliest", "v114")) as file:
        file.create_dataset("x", (0,), "i4", maxshape=(None,), chunks=(10,))
    before = old.read_bytes()
    with pytest.raises(OptionError, match="h5repack"):
        lazyio.writer(old, swmr=True)
    assert old.read_bytes() == before
    assert not hidden_path(old).exists()


def test_swmr_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "x.h5"
    for at in range(3):
        with lazyio.writer(path, swmr=True) as w:
            x = w.create("x", dtype="i4", item_shape=(), chunks=8)
            x.append(np.arange(at * 11, at * 11 + 11))
    with h5py.File(path) as file:
        assert file["x"][...].tolist() == [*range(33)]
    assert lazyio.verify(path).status == "ok"


GROW = """
import json, sys
import numpy as np, lazyio

path, codec = sys.argv[1:3]
compression = None if codec == "none" else codec
rng = np.random.default_rng(0)
batch = (rng.normal(size=(1000, 256)) * 30).astype("i2")
rows = list(batch[:200])

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def push(path, n):
    with lazyio.writer(path, memory_limit="32 MiB") as w:
        arrays = [w.create(key, dtype="i2", item_shape=(256,), compression=compression)
                  for key in ("a", "b")]
        for at in range(n):
            arrays[at % 2].append(batch)
            for row in rows:
                arrays[0].append(row)

push(path.replace("x.", "warm."), 2)
open("/proc/self/clear_refs", "w").write("5")
before = resident()
push(path, 220)
print(json.dumps({"growth": resident() - before}))
"""


@pytest.mark.parametrize("codec", ["none", "gzip", "szip"])
@pytest.mark.parametrize("kind", ["h5", "zarr"])
@pytest.mark.xdist_group("memory")
def test_growth_stays_within_the_limit(tmp_path, warm, kind, codec):
    """Four times the limit, appended to two arrays, grow the process by less than it."""
    if (kind, codec) == ("zarr", "szip"):
        pytest.skip("of HDF5")
    done = warm.run(GROW, tmp_path / f"x.{kind}", codec)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= 32 * 2**20


def test_a_full_disk_under_followers(tmp_path):
    """What was flushed is there, as after a kill; the process goes on."""
    path = tmp_path / "x.h5"
    script = """
import resource, sys, numpy as np, lazyio
w = lazyio.writer(sys.argv[1], swmr=True)
x = w.create("x", dtype="i4", item_shape=(), chunks=100)
x.append(np.arange(1000))
w.flush()
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = os.path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, size + 500))
try:
    x.append(np.arange(1000, 9000))
    w.flush()
except lazyio.LazyioError as error:
    print("told", error.errno)
try:
    w.close()
except lazyio.LazyioError:
    pass
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "told 27" in done.stdout
    recover(path)
    with h5py.File(path, "r") as file:
        found = file["x"][...]
    assert len(found) >= 1000
    assert (found[:1000] == np.arange(1000)).all()


@pytest.mark.parametrize("step", ["store", "renew_consolidated"])
def test_what_fails_once_rows_are_told_is_a_warning(tmp_path, monkeypatch, caplog, step):
    """Who is told of an error would append them once more."""
    path = tmp_path / "x.zarr"

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    w = lazyio.writer(path)
    w.create("t", dtype="i8", item_shape=()).append(np.arange(50))
    monkeypatch.setattr(f"lazyio.appending.zarr.{step}", fails)
    w.close()
    assert zarr.open_array(path, path="t")[...].tolist() == [*range(50)]
    assert "No space left" in caplog.text
