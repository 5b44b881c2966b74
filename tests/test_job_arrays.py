"""Many processes that write one array by its path, each a region of its own."""

import contextlib
import errno
import os
import random
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import killed

import lazyio
from lazyio.atomic import lock
from lazyio.atomic.recovery import clean, leftovers
from lazyio.atomic.workdir import WorkDirectory
from lazyio.errors import OptionError, ResumeError, TargetError, TargetLockedError
from lazyio.writing import hdf5_backend
from lazyio.writing.zarr_backend import FolderRegions

N_PROCESSES = 8


@pytest.fixture(params=["h5", "zarr"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / f"x.{request.param}"


def write(data, path: Path, key: str = "x", **options) -> None:
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    to(data, path, key, **options)


def read(path: Path, key: str = "x") -> np.ndarray:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file[key][...]
    return zarr.open_array(path, path=key, mode="r")[...]


def in_processes(work: Callable[[int], object], n_processes: int = N_PROCESSES) -> list[int]:
    """Call a function in forked processes, and return how each of them ended."""
    children = [_begun(work, rank) for rank in range(n_processes)]
    return [os.waitpid(child, 0)[1] for child in children]


def _begun(work: Callable[[int], object], rank: int) -> int:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(120)  # It is not to stay behind, whatever becomes of the test.
        status = 1
        try:
            work(rank)
            status = 0
        except BaseException:  # noqa: BLE001 - it is told by the exit status
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def is_clean(path: Path) -> bool:
    beside = [name for name in os.listdir(path.parent) if name != path.name]
    inside = []
    if path.is_dir():
        inside = [name for _, folders, _ in os.walk(path) for name in folders if "lazyio" in name]
    return [*beside, *(name for name in inside if name != "lazyio.neighbours")] == []


@pytest.mark.parametrize("has_locks", [True, False])
def test_aligned_regions(path: Path, has_locks, monkeypatch) -> None:
    """Of eight processes none is refused, and all that they wrote is there, with its digests."""
    n_each = 3
    if not has_locks:

        def flock(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(lock.fcntl, "flock", flock)
    lazyio.allocate(path, "x", shape=(N_PROCESSES * n_each * 4, 30), dtype="i4", chunks=(4, 15))

    def work(rank: int) -> None:
        for turn in range(n_each):
            at = 4 * (turn * N_PROCESSES + rank)
            write(np.full((4, 30), at + 1, "i4"), path, region=np.s_[at : at + 4])

    assert in_processes(work) == [0] * N_PROCESSES
    expected = np.arange(N_PROCESSES * n_each * 4) // 4 * 4 + 1
    assert (read(path) == expected[:, None]).all()
    assert lazyio.verify(path).status == "ok"
    assert is_clean(path)


@pytest.mark.parametrize("shards", [None, (8, 10)])
def test_regions_that_share_chunks(path: Path, shards) -> None:
    """They are merged, one after the other: what one has written the next one keeps."""
    options = {} if path.suffix == ".h5" or shards is None else {"shards": shards}
    lazyio.allocate(path, "x", shape=(83,), dtype="i4", chunks=(4,), **_only_1d(options))

    def work(rank: int) -> None:
        for turn in range(4):
            at = 1 + 5 * (turn + 4 * (rank % 4)) // 1
            write(np.full(5, at, "i4"), path, region=np.s_[at : at + 5])

    assert in_processes(work, 4) == [0] * 4
    expected = np.zeros(83, "i4")
    for at in range(1, 81, 5):
        expected[at : at + 5] = at
    assert read(path).tolist() == expected.tolist()
    assert lazyio.verify(path).status == "ok"


def _only_1d(options):
    return {"shards": (8,)} if options else {}


def test_appends_in_turn(path: Path) -> None:
    """Who waits finds the end where the others have left it."""
    lazyio.allocate(path, "x", shape=(0, 3), dtype="i4", chunks=(4, 3))

    def work(rank: int) -> None:
        for turn in range(3):
            data = np.full((5, 3), 10 * rank + turn, "i4")
            write(data, path, append_dim=0, lock_timeout=100)

    assert in_processes(work, 4) == [0] * 4
    found = read(path).reshape(12, 5, 3)
    assert (found == found[:, :1, :1]).all()
    assert sorted(found[:, 0, 0].tolist()) == [
        10 * at + turn for at in range(4) for turn in (0, 1, 2)
    ]
    assert lazyio.verify(path).status == "ok"


@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_append_that_another_has_overtaken(path: Path, monkeypatch, length, streamed) -> None:
    """Between its plan and its lock another one has ended: it goes behind that one."""
    lazyio.allocate(path, "x", shape=(2,), dtype="i4", chunks=(4,), **_growing(path))
    others = [np.full(length, 1, "i4")]

    def overtake() -> None:
        if others:
            write(others.pop(), path, append_dim=0)

    locked = FolderRegions._locked
    monkeypatch.setattr(FolderRegions, "_locked", lambda *args: (overtake(), locked(*args))[1])
    enter = hdf5_backend.WorkDirectory
    monkeypatch.setattr(
        hdf5_backend, "WorkDirectory", lambda *args, **named: (overtake(), enter(*args, **named))[1]
    )
    data = np.full(5, 2, "i4")
    write(lazyio.Stream(iter(data), dtype="i4") if streamed else data, path, append_dim=0)
    assert read(path).tolist() == [0] * 2 + [1] * length + [2] * 5
    assert lazyio.verify(path).status == "ok"


def test_regions_that_make_an_array_longer(path: Path) -> None:
    """These go one after the other, and keep what others have made of it."""
    lazyio.allocate(path, "x", shape=(0,), dtype="i4", chunks=(4,), **_growing(path))
    order = [3, 0, 2, 1]

    def work(rank: int) -> None:
        at = 6 * order[rank]
        write(np.full(6, order[rank] + 1, "i4"), path, region=np.s_[at : at + 6])

    assert in_processes(work, 4) == [0] * 4
    assert read(path).tolist() == np.repeat([1, 2, 3, 4], 6).tolist()
    assert lazyio.verify(path).status == "ok"


def _growing(path: Path):
    return {"maxshape": (None,)} if path.suffix == ".h5" else {}


def test_xarray_regions(path: Path) -> None:
    """The accessor waits as well, for every variable of the Dataset."""
    path = path.with_suffix(".nc" if path.suffix == ".h5" else ".zarr")
    whole = xr.Dataset({name: (("t", "x"), np.zeros((32, 6))) for name in ("a", "b")})
    to = "to_hdf5" if path.suffix == ".nc" else "to_zarr"
    getattr(whole.lazyio, to)(path, encoding=_chunks_of(path, ("a", "b")))

    def work(rank: int) -> None:
        for turn in range(2):
            at = 4 * (2 * rank + turn)
            part = xr.Dataset(
                {name: (("t", "x"), np.full((4, 6), at + 1.0)) for name in ("b", "a")}
            )
            getattr(part.lazyio, to)(path, region={"t": slice(at, at + 4)})

    assert in_processes(work, 4) == [0] * 4
    options = {"engine": "h5netcdf"} if path.suffix == ".nc" else {"engine": "zarr"}
    found = xr.load_dataset(path, **options)
    expected = (np.arange(32) // 4 * 4 + 1)[:, None]
    assert (found["a"].values == expected).all()
    assert (found["b"].values == expected).all()
    assert lazyio.verify(path).status == "ok"


def _chunks_of(path: Path, names):
    called = "chunksizes" if path.suffix == ".nc" else "chunks"
    return {name: {called: (4, 6)} for name in names}


@pytest.mark.parametrize("seed", range(2))
def test_kills_in_between(path: Path, seed: int) -> None:
    """What calls that returned have written is there; of killed ones all, or nothing."""
    rng = random.Random(seed)
    lazyio.allocate(path, "x", shape=(60, 8), dtype="i4", chunks=(5, 8))
    chosen = random.Random(seed)
    regions = []
    at = 0
    while at < 60:
        stop = min(60, at + chosen.choice([5, 5, 10, 3, 7]))
        regions.append((at, stop))
        at = stop
    done = path.parent / "done"
    done.mkdir()

    def work(rank: int) -> None:
        for number, (start, stop) in enumerate(regions):
            if number % 4 == rank:
                data = np.full((stop - start, 8), number + 1, "i4")
                write(data, path, region=np.s_[start:stop], lock_timeout=100)
                (done / str(number)).touch()

    children = [_begun(work, rank) for rank in range(4)]
    for child in children[:2]:
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
    ended = [os.waitpid(child, 0)[1] for child in children]
    assert ended[2:] == [0, 0]
    lazyio.recover(path)
    found = read(path)
    for number, (start, stop) in enumerate(regions):
        values = set(found[start:stop].ravel().tolist())
        if (done / str(number)).exists():
            assert values == {number + 1}
        else:
            assert values in ({number + 1}, {0})
    assert lazyio.verify(path).status == "ok"
    # The jobs that were killed are submitted again.
    assert in_processes(work, 4) == [0] * 4
    shutil.rmtree(done)
    expected = np.concatenate([np.full(b - a, n + 1) for n, (a, b) in enumerate(regions)])
    assert (read(path) == expected[:, None]).all()
    assert lazyio.verify(path).status == "ok"
    assert is_clean(path)


@settings(max_examples=3)
@given(
    starts=st.lists(st.integers(0, 36), min_size=3, max_size=3, unique=True),
    lengths=st.lists(st.integers(1, 12), min_size=3, max_size=3),
    chunk=st.integers(2, 9),
    suffix=st.sampled_from(["h5", "zarr"]),
)
def test_any_regions(tmp_path_factory, starts, lengths, chunk, suffix) -> None:
    """Of regions that overlap one is the last; elsewhere each element has one writer."""
    path = tmp_path_factory.mktemp("any") / f"x.{suffix}"
    lazyio.allocate(path, "x", shape=(48,), dtype="i4", chunks=(chunk,))
    places = [(start, start + length) for start, length in zip(starts, lengths, strict=True)]

    def work(rank: int) -> None:
        start, stop = places[rank]
        write(np.full(stop - start, rank + 1, "i4"), path, region=np.s_[start:stop])

    assert in_processes(work, 3) == [0] * 3
    found = read(path)
    for at, value in enumerate(found.tolist()):
        writers = {rank + 1 for rank, (start, stop) in enumerate(places) if start <= at < stop}
        assert value in (writers or {0})
    # Whole regions: of two that overlap one lies over the other everywhere.
    for one, (a, b) in enumerate(places):
        for other, (c, d) in enumerate(places):
            both = found[max(a, c) : min(b, d)]
            if one < other and len(places) == 3:
                shared = set(both.tolist()) & {one + 1, other + 1}
                assert len(shared) <= 1
    assert lazyio.verify(path).status == "ok"


class Held:
    """A process that has begun to write a region, and goes on once it is told to."""

    def __init__(self, path: Path, region, **options) -> None:
        self.begun, begins = os.pipe()
        waits, self.goes_on = os.pipe()

        def read_of(place):
            os.write(begins, b"x")
            os.read(waits, 1)
            return np.full([part.stop - part.start for part in place], 7, "i4")

        def work(_: int) -> None:
            shape = tuple(part.stop - part.start for part in region)
            data = lazyio.from_function(read_of, shape, "i4")
            write(data, path, region=region, workers=1, **options)

        self.child = _begun(work, 0)
        os.close(waits)
        assert os.read(self.begun, 1) == b"x"

    def end(self) -> int:
        """Let it go on, and return how it ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.goes_on, b"x" * 100)
        return os.waitpid(self.child, 0)[1]


def test_side_by_side(tmp_path: Path) -> None:
    """A region of a Zarr array is written while another one is; whole arrays are not."""
    path = tmp_path / "x.zarr"
    lazyio.allocate(path, "x", shape=(24,), dtype="i4", chunks=(4,))
    held = Held(path, np.s_[8:16,])
    write(np.ones(8, "i4"), path, region=np.s_[0:8], lock_timeout=0)
    write(np.ones(8, "i4"), path, region=np.s_[16:24], lock_timeout=0)
    assert read(path).tolist() == [1] * 8 + [0] * 8 + [1] * 8
    (left,) = leftovers(path)
    assert str(left) == f"region [8:16] of {path / 'x'}: is being written"
    for options in (
        {"append_dim": 0},
        {"overwrite": True},
        {"region": np.s_[20:28], "lock_timeout": 0},
    ):
        with pytest.raises(TargetLockedError, match=rf"region \[8:16\] of .* process {held.child}"):
            write(np.ones(8, "i4"), path, **options)
    with pytest.raises(TargetLockedError, match=r"region \[8:16\]"):
        clean(path)
    assert held.end() == 0
    assert read(path).tolist() == [1] * 8 + [7] * 8 + [1] * 8
    assert lazyio.verify(path).status == "ok"
    assert is_clean(path)


def test_kills_beside_another_region(tmp_path: Path) -> None:
    """Whatever is left of a killed one, others go on, and the next one clears up after it."""
    path = tmp_path / "x.zarr"
    lazyio.allocate(path, "x", shape=(24,), dtype="i4", chunks=(4,))
    held = Held(path, np.s_[8:16,])
    last = 0
    while killed(last, lambda: write(np.ones(8, "i4"), path, region=np.s_[0:8])):
        write(np.full(8, last, "i4"), path, region=np.s_[16:24])
        before = last - 9 if last else 0
        assert read(path).tolist() in ([at] * 8 + [0] * 8 + [last] * 8 for at in (before, 1))
        write(np.full(8, last + 2, "i4"), path, region=np.s_[0:8])
        last += 11
    assert last > 20
    assert held.end() == 0
    assert read(path)[8:16].tolist() == [7] * 8
    assert lazyio.verify(path).status == "ok"
    assert is_clean(path)


def test_the_alignment_that_would_do(tmp_path: Path) -> None:
    """Who is refused for a shared chunk is told at what regions are to begin."""
    path = tmp_path / "x.zarr"
    lazyio.allocate(path, "x", shape=(24, 6), dtype="i4", chunks=(2, 6), shards=(4, 6))
    held = Held(path, np.s_[8:14, 0:6])
    with pytest.raises(
        TargetLockedError,
        match=r"region \[14:20, 0:6\] of .* shares chunks of \(4, 6\) with .*multiples of \(4, 6\)",
    ):
        write(np.ones((6, 6), "i4"), path, region=np.s_[14:20], lock_timeout=0.1)
    assert held.end() == 0


def test_a_region_while_all_is_written(tmp_path: Path) -> None:
    """It waits for who makes the array longer."""
    path = tmp_path / "x.zarr"
    lazyio.allocate(path, "x", shape=(8,), dtype="i4", chunks=(4,))
    held = Held(path, np.s_[8:16,])
    with pytest.raises(TargetLockedError, match=r"waited for 0.1 s; give a longer lock_timeout="):
        write(np.ones(4, "i4"), path, region=np.s_[0:4], lock_timeout=0.1)
    thread = threading.Timer(0.2, held.end)
    thread.start()
    write(np.ones(4, "i4"), path, region=np.s_[0:4])
    thread.join()
    assert read(path).tolist() == [1] * 4 + [0] * 4 + [7] * 8
    assert lazyio.verify(path).status == "ok"


def test_who_waits_for_how_long(path: Path, monkeypatch) -> None:
    """A region for 60 s, everything else not at all, if nobody says so."""
    lazyio.allocate(path, "x", shape=(8,), dtype="i4", chunks=(4,), **_growing(path))
    folder = path if path.suffix == ".zarr" else None
    target = path / "x" if folder else path
    clock = [0.0]
    monkeypatch.setattr("lazyio.atomic.patience.time.monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        assert seconds > 0
        clock[0] += 7.0

    monkeypatch.setattr("lazyio.atomic.patience.time.sleep", sleep)
    with WorkDirectory(target, folder=folder):
        for options, waited in (
            ({"region": np.s_[0:4]}, 63),
            ({"region": np.s_[0:4], "lock_timeout": 5}, 7),
            ({"region": np.s_[0:4], "lock_timeout": 0}, 0),
            ({"append_dim": 0}, 0),
            ({"append_dim": 0, "lock_timeout": 15}, 21),
            ({"overwrite": True}, 0),
            ({"overwrite": True, "lock_timeout": 1}, 7),
        ):
            clock[0] = 0.0
            with pytest.raises(TargetLockedError, match=r"being written by .*Nothing was changed"):
                write(np.ones(4, "i4"), path, **options)
            assert clock[0] == waited
        with pytest.raises(TargetLockedError, match="waited for 2 s"):
            lazyio.allocate(path, "x", shape=(3,), dtype="i4", overwrite=True, lock_timeout=2)


def test_a_file_that_another_program_has_open(tmp_path: Path) -> None:
    """It is waited for as well, and read as that program has left it."""
    path = tmp_path / "x.h5"
    lazyio.allocate(path, "x", shape=(8,), dtype="i4", chunks=(4,))
    opened, ends = os.pipe()

    def work(_: int) -> None:
        with h5py.File(path, "a") as file:
            os.write(ends, b"x")
            time.sleep(0.2)
            file["x"][4:] = 5

    child = _begun(work, 0)
    os.read(opened, 1)
    write(np.ones(6, "i4"), path, region=np.s_[0:6])
    assert os.waitpid(child, 0)[1] == 0
    assert read(path).tolist() == [1] * 6 + [5] * 2


@pytest.mark.parametrize("given", [-1, "5", True, float("nan"), (3,)])
def test_what_is_no_time(path: Path, given) -> None:
    """Seconds, or nothing."""
    with pytest.raises(OptionError, match=r"lock_timeout=.*; give seconds, 0 or more, or None"):
        write(np.ones(4), path, lock_timeout=given)
    assert not path.exists()


def test_where_there_is_no_lock(tmp_path: Path) -> None:
    """What the caller has open is nobody's to wait for."""
    with (
        h5py.File(tmp_path / "x.h5", "w") as file,
        pytest.raises(OptionError, match="there is no lock that could be waited for"),
    ):
        lazyio.to_hdf5(np.ones(3), file, "x", lock_timeout=3)
    with pytest.raises(OptionError, match="there is no lock that could be waited for"):
        lazyio.to_zarr(np.ones(3), zarr.storage.MemoryStore(), "x", lock_timeout=3)


def test_a_resumable_job_each(tmp_path: Path) -> None:
    """In a Zarr array each has a folder of its own, and resumes beside the others."""
    path = tmp_path / "x.zarr"
    lazyio.allocate(path, "x", shape=(24,), dtype="i4", chunks=(4,))
    held = Held(path, np.s_[0:16,], resume=True)
    os.kill(held.child, signal.SIGKILL)
    os.waitpid(held.child, 0)
    (left,) = leftovers(path)
    assert "region [0:16] of " in str(left)
    assert "resume it with resume=True" in str(left)
    # Another region is none of its business, and one that shares chunks with it is refused.
    write(np.ones(8, "i4"), path, region=np.s_[16:24], resume=True)
    for options in ({"region": np.s_[12:20]}, {"append_dim": 0}):
        with pytest.raises(ResumeError, match=r"interrupted job; pass resume=True.*lazyio clean"):
            write(np.ones(8, "i4"), path, **options)
    (told,) = lazyio.recover(path)
    assert "resume=True" in told
    assert len(clean(path)) == 1
    write(np.ones(8, "i4"), path, region=np.s_[12:20])
    assert read(path).tolist() == [0] * 12 + [1] * 12
    assert is_clean(path)


def test_a_resumable_job_of_a_file(tmp_path: Path) -> None:
    """A file has one journal: others are refused until the job is resumed, or given up."""
    path = tmp_path / "x.h5"
    lazyio.allocate(path, "x", shape=(24,), dtype="i4", chunks=(4,))
    held = Held(path, np.s_[0:16,], resume=True)
    os.kill(held.child, signal.SIGKILL)
    os.waitpid(held.child, 0)
    for resume in (False, True):
        with pytest.raises(ResumeError, match="lazyio clean"):
            write(np.ones(8, "i4"), path, region=np.s_[16:24], resume=resume)
    assert read(path).tolist() == [0] * 24


def test_an_array_that_was_made_anew(path: Path) -> None:
    """A part that was planned for other chunks is planned again, or refused where it is late."""
    lazyio.allocate(path, "x", shape=(8,), dtype="i4", chunks=(4,))
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    later = to(np.ones(4, "i4"), path, "x", region=np.s_[0:4], compute=False)
    lazyio.allocate(path, "x", shape=(8,), dtype="i4", chunks=(3,), overwrite=True)
    with pytest.raises(TargetError, match="make the call again"):
        later.compute()
    assert read(path).tolist() == [0] * 8
    write(np.ones(4, "i4"), path, region=np.s_[0:4])
    assert read(path).tolist() == [1] * 4 + [0] * 4
