"""How a window reads: what it keeps, what it reads ahead, and what it refuses."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import numpy.typing as npt
import pytest

import lazyio
from lazyio.errors import (
    BlockError,
    DamagedDataError,
    LazyioError,
    OptionError,
    PlanError,
    SelectionError,
    SourceChangedError,
    SourceError,
    UnknownFormatError,
    UnsupportedDtypeError,
)

Array = npt.NDArray[Any]

ROWS = np.arange(64 * 512 * 8, dtype="f4").reshape(-1, 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of 64 chunks of 512 rows, 16 KiB each."""
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("x", data=ROWS, chunks=(512, 8), compression="gzip")
    return tmp_path / "rows.h5"


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


class Recording:
    """A source that notes which regions were asked of it."""

    def __init__(self, values: Array, chunk_shape: tuple[int, ...] | None) -> None:
        self.values, self.chunk_shape = values, chunk_shape
        self.shape, self.dtype = values.shape, values.dtype
        self.asked: list[tuple[slice, ...]] = []

    def read(self, region: tuple[slice, ...]) -> Array:
        self.asked.append(region)
        return self.values[region].copy()

    @property
    def first_rows(self) -> list[int]:
        return [region[0].start for region in self.asked]


def recording(n_chunks: int = 40) -> Recording:
    # Of 512 KiB: each is held by itself.
    return Recording(np.arange(n_chunks * 1024 * 64, dtype="f8").reshape(-1, 64), (1024, 64))


def test_a_chunk_is_decoded_once_for_all_of_its_batches(path: Path) -> None:
    with lazyio.window(path, "x") as view:
        for start in range(0, len(view), 64):
            assert (view[start : start + 64] == ROWS[start : start + 64]).all()
        assert view.nbytes_read <= ROWS.nbytes + 64 * ROWS[:64].nbytes
        assert view.hits > 0.9 * len(ROWS) / 64
        assert view.limits == (slice(0, len(ROWS)), slice(0, 8))


@pytest.mark.parametrize("step", [64, -64, 1024, 2048, -2048, 96])
def test_reads_ahead_in_the_direction_of_the_reads(step: int) -> None:
    source = recording()
    starts = range(0, 40 * 1024 - 64, step) if step > 0 else range(40 * 1024 - 64, -1, step)
    with lazyio.window(source) as view:
        seen = 0
        for start in starts:
            assert (view[start : start + 64] == source.values[start : start + 64]).all()
            seen = start // 1024
            if view.misses + view.hits > 40 and abs(step) < 1024:
                break
            if view.misses + view.hits > 6 and abs(step) >= 1024:
                break
        ahead = seen + (1 if step > 0 else -1) * max(1, abs(step) // 1024)
        until(lambda: ahead * 1024 in source.first_rows)


def test_does_not_read_ahead_at_random_or_when_told_not_to() -> None:
    source = recording()
    order = np.random.default_rng(0).permutation(40)[:12].tolist()
    with lazyio.window(source) as view:
        for chunk in order:
            view[chunk * 1024 : chunk * 1024 + 10]
        time.sleep(0.05)
        assert sorted(source.first_rows) == sorted(chunk * 1024 for chunk in order)
    quiet = recording()
    with lazyio.window(quiet, prefetch=False) as view:
        for start in range(0, 5 * 1024, 256):
            view[start : start + 256]
        time.sleep(0.05)
        assert quiet.first_rows == [0, 1024, 2048, 3072, 4096]
        assert (view.hits, view.misses) == (15, 5)


def test_chunks_side_by_side_are_held_as_one() -> None:
    source = Recording(np.arange(8000 * 96, dtype="f8").reshape(-1, 96), (1000, 32))
    with lazyio.window(source, prefetch=False) as view:
        for start in range(0, 8000, 64):
            assert (view[start : start + 64] == source.values[start : start + 64]).all()
            tile = source.values[start : start + 64, 30:40]
            assert (view[start : start + 64, 30:40] == tile).all()
            assert (view[start, ..., 95] == source.values[start, 95]).all()
        assert len(source.asked) <= 10
        with pytest.raises(SelectionError, match="index 96 is outside axis 1"):
            view[5, 96]


def test_an_array_that_may_grow_and_is_empty(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_dataset("x", (0, 5), "f4", chunks=(10, 5), maxshape=(None, 5))
    with lazyio.window(tmp_path / "empty.h5") as view:
        assert view[:].shape == (0, 5)
        assert list(view) == []
        with pytest.raises(SelectionError, match="index 0 is outside axis 0"):
            view[0]


def test_a_program_may_end_while_it_is_read_ahead(path: Path) -> None:
    code = (
        f"import lazyio; w = lazyio.window({str(path)!r}); [w[i:i+64] for i in range(0, 900, 64)]"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_reads_ahead_again_in_each_of_some_shuffled_blocks() -> None:
    source = recording()
    with lazyio.window(source, memory_limit="64 MiB") as view:
        for block in (3, 0, 2, 1):
            for start in range(block * 10_240, (block + 1) * 10_240, 256):
                assert (view[start : start + 256] == source.values[start : start + 256]).all()
        assert len(source.asked) <= 40
        assert len(set(source.first_rows)) == len(source.asked)


def test_keeps_no_more_than_the_limit_and_lets_go_of_what_was_used_longest_ago() -> None:
    source = recording()
    with lazyio.window(source, memory_limit="4 MiB", prefetch=False) as view:
        for chunk in (0, 1, 2, 0, 3, 4, 0, 5, 6, 0, 7, 8, 0):
            view[chunk * 1024 : chunk * 1024 + 64]
        assert source.first_rows.count(0) == 1
        view[1024:1088]
        assert source.first_rows.count(1024) == 2
        low, high = view.limits[0].start, view.limits[0].stop
        assert low <= 1024
        assert high >= 2048
        assert (high - low) * 512 <= 2**22


def test_records_stay_as_they_were_read() -> None:
    """A record of numpy is a view of its array, and memory of the window is used again."""
    values = np.zeros(200_000, "i8,f8")
    values["f0"] = np.arange(len(values))
    array = lazyio.from_function(lambda region: values[region].copy(), (200_000,), values.dtype)
    with lazyio.window(array, memory_limit="1 MiB", prefetch=False) as view:
        taken = []
        for row in range(0, len(values), 500):
            view[row : row + 64]
            view[row + 64 : row + 128]
            taken.append((row + 3, view[row + 3]))
        assert all(one["f0"] == row for row, one in taken)


def test_random_rows_of_small_chunks_decode_those_chunks_only(tmp_path: Path) -> None:
    source = Recording(ROWS, (4, 8))
    rows = np.random.default_rng(0).integers(0, len(ROWS), 64)
    with lazyio.window(source) as view:
        assert (view[rows] == ROWS[rows]).all()
        assert view.nbytes_read <= 64 * 4 * 8 * 4
        assert (view[rows.tolist()] == ROWS[rows]).all()
        assert view.misses == 2


def test_rows_that_are_read_again_and_again_are_kept(tmp_path: Path) -> None:
    source = Recording(ROWS, None)
    random = np.random.default_rng(0)
    with lazyio.window(source) as view:
        for _ in range(60):
            rows = random.integers(0, len(ROWS), 64)
            assert (view[rows] == ROWS[rows]).all()
        assert view.hits > 20


def test_a_slice_larger_than_the_window_goes_past_it(path: Path) -> None:
    with lazyio.window(path, memory_limit="600 kB") as view:
        assert (view[:] == ROWS).all()
        assert (view[100:30000] == ROWS[100:30000]).all()
        assert (view[30000:5:-3] == ROWS[30000:5:-3]).all()
        assert view.nbytes > 600_000


def test_blocks_of_a_dask_array_are_computed_once_each(path: Path) -> None:
    computed: list[int] = []

    def note(block: Array, block_info: Any = None) -> Array:
        if block_info:
            computed.append(block_info[0]["chunk-location"][0])
        return block * 2

    array = lazyio.open(path, chunks=(1000, 8)).map_blocks(note, dtype="f4")
    computed.clear()
    with lazyio.window(array) as view:
        for start in range(0, 8000, 250):
            assert (view[start : start + 250] == 2 * ROWS[start : start + 250]).all()
        until(lambda: len(computed) >= 8)
        assert len(computed) == len(set(computed))


def change(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["x"][:] = 0


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    with h5py.File(other, "w") as file:
        file.create_dataset("x", data=ROWS * 0, chunks=(512, 8))
    other.replace(path)


@pytest.mark.parametrize("do", [change, replace, os.remove])
@pytest.mark.parametrize("rows", [slice(0, 64), slice(20_000, 20_064), 7, [5, 20_000]])
def test_a_file_that_has_changed_is_told(path: Path, do: Any, rows: Any) -> None:
    with lazyio.window(path) as view:
        for _ in range(3):
            view[0:64]
        do(path)
        with pytest.raises(SourceChangedError, match=r"rows\.h5 .* since it was opened"):
            view[rows]


@pytest.mark.parametrize("do", [replace, os.remove])
@pytest.mark.parametrize("rows", [slice(0, 64), slice(20_000, 20_064), 7, [5, 20_000]])
def test_a_file_of_tiny_chunks_that_has_changed_is_told(tmp_path: Path, do: Any, rows: Any) -> None:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("x", data=ROWS, chunks=(16, 8))
    with lazyio.window(tmp_path / "rows.h5") as view:
        for start in (0, 64, 128, 9000):
            assert (view[start : start + 64] == ROWS[start : start + 64]).all()
        do(tmp_path / "rows.h5")
        with pytest.raises(SourceChangedError, match=r"rows\.h5 was"):
            view[rows]


@pytest.mark.parametrize("chunks", [(512, 8), (16, 8)])
def test_a_damaged_chunk_is_told_and_the_others_are_read(
    tmp_path: Path, chunks: tuple[int, int]
) -> None:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        made = file.create_dataset("x", data=ROWS, chunks=chunks, compression="gzip")
        at = made.id.get_chunk_info(3).byte_offset
    with (tmp_path / "rows.h5").open("r+b") as raw:
        raw.seek(at)
        raw.write(bytes(30))
    bad = 3 * chunks[0]
    with lazyio.window(tmp_path / "rows.h5", prefetch=False) as view:
        for key in (slice(bad, bad + 5), bad, [bad + 1, 20_000], slice(None)):
            with pytest.raises(DamagedDataError, match=r"rows\.h5: .*dataset '/x'"):
                view[key]
        assert (view[20_000:20_064] == ROWS[20_000:20_064]).all()
        assert (view[[20_000, 30_000]] == ROWS[[20_000, 30_000]]).all()


def test_a_plain_file_that_has_changed_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    with lazyio.window(tmp_path / "x.npy") as view:
        assert (view[900:964] == ROWS[900:964]).all()
        assert (view[5000:5064] == ROWS[5000:5064]).all()
        np.save(tmp_path / "x.npy", ROWS + 1)
        for rows in (slice(900, 964), slice(10, 20), [3, 900], 4):
            with pytest.raises(SourceChangedError, match="was modified"):
                view[rows]


def test_many_threads_read_one_window(path: Path) -> None:
    random = np.random.default_rng(0)
    keys: list[Any] = [slice(at, at + 64) for at in random.integers(0, len(ROWS) - 64, 200)]
    keys += [random.integers(0, len(ROWS), 64) for _ in range(100)]
    keys += [slice(None, None, 501), slice(None)] * 10

    def is_right(key: Any) -> bool:
        return bool((view[key] == ROWS[key]).all())

    with lazyio.window(path, memory_limit="500 kB") as view, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, keys * 3))
        assert view.hits + view.misses == 3 * len(keys)


@pytest.mark.parametrize("options", [{}, {"chunks": (512, 8)}, {"chunks": (16, 8)}])
@pytest.mark.parametrize("coded", [{}, {"compression": "gzip"}])
def test_batches_stay_as_they_were_while_other_threads_move_the_window(
    tmp_path: Path, options: dict[str, Any], coded: dict[str, Any]
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=ROWS, **options, **(coded if options else {}))

    def are_right(first: int) -> bool:
        starts = range(first, first + 4000, 50)
        return all((view[at : at + 50] == ROWS[at : at + 50]).all() for at in starts)

    with (
        lazyio.window(tmp_path / "x.h5", memory_limit="300 kB") as view,
        ThreadPoolExecutor(6) as pool,
    ):
        assert all(pool.map(are_right, range(0, len(ROWS) - 4050, 1777)))
        assert view.hits + view.misses == 80 * len(range(0, len(ROWS) - 4050, 1777))


@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (512, 8)}, {"chunks": (16, 8)}, {"chunks": (512, 8), "compression": "gzip"}],
)
def test_nothing_is_read_after_it_was_closed(tmp_path: Path, options: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=ROWS, **options)
    (tmp_path / "other").write_bytes(bytes(ROWS.nbytes + 2**16))
    view = lazyio.window(tmp_path / "x.h5")
    for start in (0, 64, 128, 9000):
        view[start : start + 64]
    view.close()
    # These get the numbers of the files that were closed.
    others = [(tmp_path / "other").open("rb") for _ in range(8)]
    for key in (slice(128, 192), slice(192, 256), slice(20_000, 20_064), 7, [5, 20_000]):
        with pytest.raises(SourceError, match="the window has been closed"):
            view[key]
    for other in others:
        other.close()


def test_chunks_too_many_to_list_are_found_one_by_one(tmp_path: Path) -> None:
    """Read some of 10,000 compressed chunks of 16 KiB, of which few are stored."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        shape, coded = (10_000 * 512, 8), {"compression": "gzip", "shuffle": True}
        made = file.create_dataset("x", shape, "f4", chunks=(512, 8), fillvalue=5, **coded)
        made[: 512 * 8] = ROWS[: 512 * 8]
        made[-512:] = ROWS[:512]
        made[512 * 2000 : 512 * 2001] = ROWS[:512]
        at = made.id.get_chunk_info_by_coord((512 * 2000, 0)).byte_offset
    with (tmp_path / "x.h5").open("r+b") as raw:
        raw.seek(at)
        raw.write(bytes(30))
    with lazyio.window(tmp_path / "x.h5") as view:
        for start in (*range(0, 512 * 7, 64), 512, 3000, 100):
            assert (view[start : start + 64] == ROWS[start : start + 64]).all()
        assert (view[600_000:600_100] == 5).all()
        assert (view[[-1, 5, 5, 700_000]] == [ROWS[511], ROWS[5], ROWS[5], [5] * 8]).all()
        assert (view[90:2000:100] == ROWS[90:2000:100]).all()
        assert (view[100_000:110_000:2000] == 5).all()
        bad = 512 * 2000
        for key in (slice(bad, bad + 9), bad + 3, [3, bad]):
            with pytest.raises(DamagedDataError, match=r"x\.h5: .*dataset '/x' is damaged"):
                view[key]


def test_tiny_chunks_that_lie_anyhow_are_read_where_they_lie(tmp_path: Path) -> None:
    """Read 9,000 chunks of a row or two, written in an order of their own, some never."""
    values = np.arange(9000 * 2 * 3, dtype="i4").reshape(-1, 3)
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("x", values.shape, "i4", chunks=(2, 3), maxshape=(None, 3))
        blocks = random.permutation(18)
        for at in (blocks * 1000).tolist():
            if at == 7000:
                values[at : at + 1000] = 0
            else:
                made[at : at + 1000] = values[at : at + 1000]
    with lazyio.window(tmp_path / "x.h5", memory_limit="1 MiB") as view:
        for start in (*range(0, 17_900, 100), *range(17_900, 0, -100)):
            assert (view[start : start + 100] == values[start : start + 100]).all()
        for start in random.integers(0, 17_000, 50).tolist():
            assert (view[start : start + 901] == values[start : start + 901]).all()
            assert (view[start : start + 901 : 3] == values[start : start + 901 : 3]).all()
            assert (view[[start, 5, 8191]] == values[[start, 5, 8191]]).all()
        assert (view[:] == values).all()


def test_rows_that_are_drawn_again_and_again_are_decoded_once_for_all(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=ROWS, chunks=(64, 8), compression="gzip")
    random = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch, lazyio.window(tmp_path / "x.h5") as first:
        patch.setattr("lazyio.sources.hdf5._MANY_CHUNKS", 0)
        patch.setattr("lazyio.sources.hdf5._SMALL_NBYTES", 0)
        with lazyio.window(tmp_path / "x.h5") as other:
            for view in (first, other):
                for row in random.integers(0, len(ROWS), 6000).tolist():
                    assert (view[row] == ROWS[row]).all()
                assert view.hits > 2000


def test_an_error_of_the_source_is_raised_and_the_next_read_tries_again() -> None:
    is_broken = [True]

    def read(region: tuple[slice, ...]) -> Array:
        if is_broken[0] and region[0].stop > 1024:
            msg = "the lamp is off"
            raise RuntimeError(msg)
        return ROWS[region].copy()

    array = lazyio.from_function(read, ROWS.shape, "f4", source_chunks=(512, 8))
    with lazyio.window(array) as view:
        assert (view[:200] == ROWS[:200]).all()
        for key in (slice(2000, 2010), [3000, 1], slice(None)):
            with pytest.raises(BlockError, match="the lamp is off"):
                view[key]
        is_broken[0] = False
        assert (view[:] == ROWS).all()


def test_a_child_that_is_forked_reads_on_by_itself(path: Path) -> None:
    with lazyio.window(path) as view:
        for start in range(0, 5000, 64):
            view[start : start + 64]
        for _ in range(10):
            view[8000:8064]
            child = os.fork()
            if not child:
                status = 1
                try:
                    starts = range(0, len(ROWS), 512)
                    is_right = all(
                        (view[at : at + 64] == ROWS[at : at + 64]).all() for at in starts
                    )
                    status = 0 if is_right and view.misses else 2
                finally:
                    os._exit(status)
            assert (view[5000:5064] == ROWS[5000:5064]).all()
            assert os.waitpid(child, 0)[1] == 0


def _sum_of(view: Any) -> float:
    return float(view[1000:2000].sum())


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_travels_to_other_processes(path: Path, method: str) -> None:
    with lazyio.window(path) as view:
        view[0:10]
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(_sum_of, (view,)) == ROWS[1000:2000].sum()


def test_threads_end_when_it_is_closed_or_forgotten(path: Path) -> None:
    def names() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("lazyio-window")]

    view = lazyio.window(recording())
    for start in range(0, 8000, 512):
        view[start : start + 512]
    assert names()
    view.close()
    assert not names()
    view.close()
    for key in (0, slice(0, 64), [3, 1], ...):
        with pytest.raises(SourceError, match="the window has been closed; open it again"):
            view[key]
    other = lazyio.window(recording())
    for start in range(0, 8000, 512):
        other[start : start + 512]
    assert names()
    del other
    until(lambda: not names())


def test_rows_for_torch(path: Path) -> None:
    """Give what its ``DataLoader`` asks for: a length, rows, and the rows of a batch."""
    with lazyio.window(path) as view:
        rows = view.__getitems__([5, 3, 9000, 5])
        assert [row.tolist() for row in rows] == ROWS[[5, 3, 9000, 5]].tolist()
        assert all(row.flags.writeable for row in rows)
        assert (view[np.int64(7)] == ROWS[7]).all()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (len(ROWS), r"index 32768 is outside axis 0, which has 32768 elements"),
        (-len(ROWS) - 1, r"index -32769 is outside axis 0"),
        ((0, 8), r"index 8 is outside axis 1, which has 8 elements; give -8 to 7"),
        ([1, 99999], r"index 99999 is outside axis 0"),
        ((0, 0, 0), r"has 3 parts, and an array of shape \(32768, 8\) has 2 axes"),
        ((..., ...), r"has 2 ellipses \(\.\.\.\); give one at most"),
        (([1, 2], [3, 4]), r"has lists for two axes; give one list at a time"),
        (np.zeros(5, bool), r"a mask of 5 elements does not fit axis 0, which has 32768"),
        (np.zeros((32768, 8), bool), r"is neither an integer, a slice, a list of integers nor a"),
        (1.0, r"index 1\.0 is neither an integer"),
        ("x", r"index 'x' is neither an integer"),
        (None, r"index None is neither an integer"),
        (True, r"index True is neither an integer"),
        ([1, [2, 3]], r"is no list of integers"),
        (slice(0, "b"), r"is no slice of an axis of 32768 elements"),
        (slice(0, 5, 0), r"is no slice of an axis of 32768 elements: slice step cannot be zero"),
        ([0.5], r"index \[0\.5\] is neither an integer"),
    ],
)
def test_refuses_what_is_no_index(path: Path, key: Any, said: str) -> None:
    with lazyio.window(path) as view:
        with pytest.raises(IndexError, match=said):
            view[key]
        with pytest.raises(SelectionError, match=said):
            view[key]


def test_refuses_what_cannot_be_opened(path: Path, tmp_path: Path) -> None:
    cases: list[tuple[Any, dict[str, Any], type[LazyioError], str]] = [
        (tmp_path / "no.h5", {}, SourceError, "does not exist"),
        (path, {"key": "y"}, SourceError, "has no dataset 'y'"),
        (path, {"memory_limit": "20 kB"}, PlanError, r"a chunk of \(512, 8\) float32 with what"),
        (path, {"memory_limit": "much"}, OptionError, "memory_limit='much' is not a size"),
        (path, {"prefetch": "yes"}, OptionError, "prefetch='yes'"),
        (da.ones(5), {"key": "x"}, OptionError, "a dask array is one array"),
        (da.ma.masked_array([1, 2], [0, 1]), {}, UnsupportedDtypeError, "blocks are masked"),
        (da.ones(9)[da.ones(9) > 2], {}, PlanError, r"compute_chunk_sizes\(\)"),
        (da.from_array(np.array([None]), chunks=1), {}, UnsupportedDtypeError, "Python objects"),
        (object(), {}, UnknownFormatError, "object is no path and no array"),
    ]
    for given, options, error, said in cases:
        with pytest.raises(error, match=said):
            lazyio.window(given, **options)


def test_says_that_an_open_file_does_not_travel(path: Path) -> None:
    with h5py.File(path, "r+") as file, lazyio.window(file["x"]) as view:
        assert (view[3000:10:-7] == ROWS[3000:10:-7]).all()
        with pytest.raises(TypeError, match="h5py objects cannot be pickled"):
            pickle.dumps(view)


CHILD = """
import sys, resource, numpy as np, lazyio
lazyio.window(sys.argv[1])[0]
view = lazyio.window(sys.argv[1], memory_limit=sys.argv[2])
view[0]
def peak():
    return [int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line][0] * 1024
before = peak()
random = np.random.default_rng(0)
for start in range(0, len(view), 64):
    view[start : start + 64]
for start in range(len(view) - 64, -1, -128):
    view[start : start + 64]
for _ in range(20):
    view[random.integers(0, len(view), 64)]
view[:: len(view) // 50]
print(peak() - before)
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a file of 96 chunks of 1 MiB."""
    with h5py.File(tmp_path / "large.h5", "w") as file:
        made = file.create_dataset(
            "x", (96 * 4096, 64), "f4", chunks=(4096, 64), compression="gzip", compression_opts=1
        )
        block = np.tile(np.arange(4096 * 8, dtype="f4"), 8).reshape(4096, 64)
        for at in range(96):
            made[at * 4096 : (at + 1) * 4096] = block + at
    return tmp_path / "large.h5"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told by /proc")
@pytest.mark.parametrize("limit", [16, 48])
def test_memory_stays_within_the_limit(large: Path, limit: int) -> None:
    command = [sys.executable, "-c", CHILD, str(large), f"{limit} MiB"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ran.stdout) <= limit * 2**20


def test_a_closed_window_of_a_file_reads_nothing(path: Path) -> None:
    for is_plain in (False, True):
        name = path
        if is_plain:
            name = path.with_name("plain.h5")
            lazyio.to_hdf5(ROWS, name, chunks=None)
        view = lazyio.window(name)
        view[:64], view[[5, 3]]
        view.close()
        for key in (0, slice(0, 64), [3, 1], slice(5000, 5064)):
            with pytest.raises(SourceError, match="the window has been closed; open it again"):
                view[key]
