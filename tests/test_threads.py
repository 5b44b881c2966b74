"""Threads that write to one open dataset or array, through one handle or several."""

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.errors import TargetLockedError
from lazyio.storage import region_target as in_process

N_THREADS = 8
HDF5 = {
    "gzip": {"chunks": (7, 9), "compression": "gzip"},
    "plain": {"chunks": (7, 9)},
    "by-libhdf5": {"chunks": (7, 9), "scaleoffset": 0},
    "contiguous": {},
}
ZARR = {
    "zstd": {"chunks": (7, 9)},
    "plain": {"chunks": (7, 9), "compressors": None},
    "shards": {"chunks": (7, 9), "shards": (14, 18)},
    "v2": {"chunks": (7, 9), "zarr_format": 2},
}


class Rows:
    """An iterator as HDMF has them, of the first rows of an array, one by one."""

    dtype, maxshape = np.dtype("i4"), (None, 4)
    recommended_chunk_shape = recommended_data_shape = None

    def __init__(self, n_rows: int, value: int) -> None:
        self._rest, self._value = iter(range(n_rows)), value

    def __iter__(self):
        return self

    def __next__(self):
        at = next(self._rest)
        data = np.full((1, 4), self._value, "i4")
        return SimpleNamespace(data=data, selection=np.s_[at : at + 1, :])


class Open:
    """An open dataset or array, of which each thread gets one of two handles."""

    def __init__(self, kind: str, shape, how, folder: Path) -> None:
        self.write = lazyio.to_hdf5 if kind == "hdf5" else lazyio.to_zarr
        self._files = []
        if kind == "hdf5":
            path = folder / "x.h5"
            grows = {"maxshape": (None, *shape[1:])} if "chunks" in how else {}
            file = h5py.File(path, "w")
            file.create_dataset("x", shape, "i4", **how, **grows)
            self._files = [file, h5py.File(path, "r+")]
            self.handles = [one["x"] for one in self._files]
            return
        path = folder / "x.zarr"
        made = zarr.create_array(path, shape=shape, dtype="i4", **how)
        self.handles = [made, zarr.open_array(path, mode="r+")]
        self._path = path

    def read(self) -> np.ndarray:
        if self._files:
            return self.handles[0][...]
        return zarr.open_array(self._path, mode="r")[...]

    def close(self) -> None:
        for file in self._files:
            file.close()


@pytest.fixture(params=[*(("hdf5", name) for name in HDF5), *(("zarr", name) for name in ZARR)])
def opened(request, tmp_path: Path):
    kind, name = request.param
    found = Open(kind, (40, 50), (HDF5 if kind == "hdf5" else ZARR)[name], tmp_path)
    yield found
    found.close()


def pieces(shape, rng: random.Random):
    """Return regions that cover an array and have nothing in common, in any order."""
    cuts = [sorted({0, extent, *rng.choices(range(extent), k=5)}) for extent in shape]
    found = [
        (slice(a, b), slice(c, d))
        for a, b in zip(cuts[0], cuts[0][1:], strict=False)
        for c, d in zip(cuts[1], cuts[1][1:], strict=False)
    ]
    rng.shuffle(found)
    return found


@pytest.mark.parametrize("repeat", range(3))
def test_regions_that_meet_in_chunks(opened: Open, repeat: int) -> None:
    """As numpy would have it, whatever thread comes first."""
    rng = random.Random(repeat)
    expected = np.zeros((40, 50), "i4")
    jobs = []
    for at, region in enumerate(pieces(expected.shape, rng)):
        expected[region] = at + 1
        jobs.append((at, region))

    def write(job) -> None:
        at, region = job
        shape = tuple(part.stop - part.start for part in region)
        opened.write(np.full(shape, at + 1, "i4"), opened.handles[at % 2], region=region, workers=2)

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(write, jobs))
    np.testing.assert_array_equal(opened.read(), expected)


@pytest.mark.parametrize(
    ("kind", "how"), [("hdf5", HDF5["gzip"]), ("hdf5", HDF5["by-libhdf5"]), ("zarr", ZARR["zstd"])]
)
def test_appending_while_others_write(tmp_path: Path, kind: str, how) -> None:
    """Each append finds a place of its own, and none is lost beside regions in the same chunks."""
    opened = Open(kind, (12, 4), {**how, "chunks": (7, 4)}, tmp_path)
    batches = [np.full((n, 4), 100 * n + 1, "i4") for n in range(1, 13)]

    def append(at: int) -> None:
        opened.write(batches[at], opened.handles[at % 2], append_dim=0)

    def put(at: int) -> None:
        opened.write(
            np.full((1, 4), at + 1, "i4"), opened.handles[at % 2], region=np.s_[at : at + 1]
        )

    with ThreadPoolExecutor(N_THREADS) as pool:
        done = [pool.submit(call, at) for at in range(12) for call in (put, append)]
        for one in done:
            one.result()
    found = opened.read()
    opened.close()
    np.testing.assert_array_equal(found[:12, 0], np.arange(12) + 1)
    rest = found[12:, 0].tolist()
    seen = []
    while rest:
        n = rest[0] // 100
        assert rest[:n] == [100 * n + 1] * n
        seen.append(n)
        rest = rest[n:]
    assert sorted(seen) == list(range(1, 13))


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
@pytest.mark.parametrize("compressor", [None, "library"])
def test_a_region_to_the_end_that_moves(tmp_path: Path, kind: str, compressor) -> None:
    """The last chunk is whole for the region, and no longer so for the array."""
    how = {"chunks": (7, 4)}
    if compressor and kind == "hdf5":
        how["scaleoffset"] = 0
    opened = Open(kind, (12, 4), how, tmp_path)

    def read(region):
        if len(opened.read()) == 12:
            opened.write(np.full((1, 4), 9, "i4"), opened.handles[1], append_dim=0)
        return np.full((region[0].stop - region[0].start, 4), 5, "i4")

    rows = lazyio.from_function(read, (5, 4), "i4", source_chunks=(5, 4))
    report = opened.write(rows, opened.handles[0], region=np.s_[7:12])
    assert report.n_chunks == 1
    assert opened.read()[:, 0].tolist() == [0] * 7 + [5] * 5 + [9]
    opened.close()


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_a_stream_and_appends(tmp_path: Path, kind: str) -> None:
    """Nothing goes behind the end while a stream moves it."""
    opened = Open(kind, (0, 4), {"chunks": (7, 4)}, tmp_path)
    is_begun = threading.Event()

    def items():
        for at in range(20):
            is_begun.set()
            yield np.full(4, at, "i4")

    with ThreadPoolExecutor(2) as pool:
        stream = pool.submit(
            opened.write, lazyio.Stream(items(), dtype="i4"), opened.handles[0], append_dim=0
        )
        is_begun.wait()
        opened.write(np.full((3, 4), 100, "i4"), opened.handles[1], append_dim=0)
        stream.result()
    found = opened.read()[:, 0].tolist()
    opened.close()
    assert sorted(found) == [*range(20), 100, 100, 100]


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
@pytest.mark.parametrize("limit", [None, 2**20])
def test_data_that_come_once_among_others(tmp_path: Path, kind: str, limit) -> None:
    """A chunk is merged with what is there when it is written, and not when its first part came."""
    for trial in range(15):
        folder = tmp_path / str(trial)
        folder.mkdir()
        opened = Open(kind, (40, 4), {"chunks": (7, 4)}, folder)
        write_in_threads(opened, random.Random(trial), limit)
        found = opened.read()
        opened.close()
        assert (found == found[:, :1]).all()
        assert found[:40, 0].tolist() == [2] * 11 + [3] * 20 + [1] * 9, trial
        rest = found[40:, 0].tolist()
        assert sorted(rest) == [7] * 3 + [8] * 2 + [*range(1000, 1040)], trial
        assert [row for row in rest if row >= 1000] == [*range(1000, 1040)], trial


def write_in_threads(opened: Open, rng: random.Random, limit: int | None) -> None:
    """Write rows 0 to 40, and append a stream and two arrays, in any order."""
    stream = lazyio.Stream((np.full(4, at, "i4") for at in range(1000, 1040)), dtype="i4")
    calls = [
        (stream, {"append_dim": 0, "memory_limit": limit}),
        (np.full((3, 4), 7, "i4"), {"append_dim": 0}),
        (np.full((2, 4), 8, "i4"), {"append_dim": 0}),
        (Rows(11, 2), {"region": ...}),
        (np.full((20, 4), 3, "i4"), {"region": np.s_[11:31]}),
        (np.full((9, 4), 1, "i4"), {"region": np.s_[31:40]}),
    ]
    rng.shuffle(calls)
    with ThreadPoolExecutor(len(calls)) as pool:
        done = [
            pool.submit(opened.write, data, rng.choice(opened.handles), **options)
            for data, options in calls
        ]
        for one in done:
            one.result()


def test_a_stream_that_never_ends(tmp_path: Path, monkeypatch) -> None:
    """Who waits for its end is told."""
    monkeypatch.setattr(in_process, "_PATIENCE", 0.05)
    opened = Open("hdf5", (0, 4), HDF5["gzip"] | {"chunks": (7, 4)}, tmp_path)

    def items():
        yield np.zeros(4, "i4")
        with ThreadPoolExecutor(1) as pool:
            append = pool.submit(
                opened.write, np.ones((1, 4), "i4"), opened.handles[1], append_dim=0
            )
            with pytest.raises(TargetLockedError, match="another call of this process"):
                append.result()

    opened.write(lazyio.Stream(items(), dtype="i4"), opened.handles[0], append_dim=0)
    assert opened.read().tolist() == [[0] * 4]
    opened.close()


def test_a_fork_while_a_chunk_is_locked() -> None:
    """A child has locks of its own, for nobody in it would let go of them."""
    shared = in_process.SharedArray(identity="x")
    with shared.chunk_lock((0,)), in_process.growing("x", "x"):
        child = os.fork()
        if not child:
            with shared.chunk_lock((0,)), in_process.growing("x", "x"):
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_locks_do_not_pile_up() -> None:
    """There are no more of them than arrays that grow at the moment."""
    for at in range(100):
        with in_process.growing(at, "x"):
            assert len(in_process._LOCKS.growing) <= 2


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_parts_in_scratch_over_what_is_there(tmp_path: Path, kind: str) -> None:
    """What has come of a chunk is known again when it is read back."""
    opened = Open(kind, (400, 300), {"chunks": (64, 50)}, tmp_path)
    expected = np.arange(400 * 300, dtype="i4").reshape(400, 300)
    opened.handles[0][...] = expected
    corners = [(row, at) for row in range(0, 400, 10) for at in range(0, 300, 100) if row % 30]
    random.Random(0).shuffle(corners)

    class Corners(Rows):
        maxshape = (400, 300)

        def __init__(self) -> None:
            self._rest = iter(corners)

        def __next__(self):
            row, at = next(self._rest)
            return SimpleNamespace(
                data=np.full((10, 100), -row - at, "i4"),
                selection=np.s_[row : row + 10, at : at + 100],
            )

    for row, at in corners:
        expected[row : row + 10, at : at + 100] = -row - at
    opened.write(Corners(), opened.handles[1], region=..., memory_limit="400 KiB")
    found = opened.read()
    opened.close()
    assert (found == expected).all()


def test_a_write_while_another_thread_computes_first(tmp_path):
    """The first computation of a process imports distributed, which takes a moment."""
    program = """
import threading
import dask.array as da
import lazyio

x, failed = da.ones((300, 300), chunks=(30, 30)), []

def run(work):
    try:
        work()
    except BaseException as error:
        failed.append(repr(error))

works = [lambda: (x + 1).sum().compute()]
works += [lambda i=i: lazyio.to_hdf5(x, f"{i}.h5") for i in range(3)]
threads = [threading.Thread(target=run, args=(work,)) for work in works]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
