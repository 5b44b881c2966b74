"""Rows in memory: read by number, slice, list and mask, against a plain list of arrays."""

import pickle
import re

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_lists import ends, ragged, same

import lazyio
from lazyio.errors import BlockError, OptionError, SelectionError, SourceError
from lazyio.ragged import rows as rows_module
from lazyio.ragged import runs as runs_module
from lazyio.ragged.index import Index
from lazyio.ragged.runs import runs_of
from lazyio.sources.lookup import array_source

ROWS = st.lists(st.integers(0, 9), max_size=30)


@st.composite
def keys(draw, n_rows):
    """Return something that some rows can be taken by."""
    bound = st.none() | st.integers(-n_rows - 3, n_rows + 3)
    slices = st.builds(slice, bound, bound, st.none() | st.sampled_from([-7, -2, -1, 1, 2, 5]))
    masks = st.lists(st.booleans(), min_size=n_rows, max_size=n_rows).map(
        lambda mask: np.array(mask, bool)
    )
    ways = [slices, masks]
    if n_rows:
        numbers = st.integers(-n_rows, n_rows - 1)
        ways += [numbers, st.lists(numbers, max_size=20), st.lists(numbers).map(np.array)]
    return draw(st.one_of(ways))


def taken(rows, key):
    """Return what a list of arrays has by a key, as numpy has it."""
    if isinstance(key, slice):
        return rows[key]
    if isinstance(key, np.ndarray) and key.dtype == bool:
        return [row for row, is_taken in zip(rows, key, strict=True) if is_taken]
    if isinstance(key, (list, np.ndarray)):
        return [rows[int(at)] for at in key]
    return rows[key]


@given(lengths=ROWS, data=st.data())
def test_rows_are_those_of_a_list(lengths, data) -> None:
    """Whatever is asked for comes as of a list, as arrays that nothing else shares."""
    random = np.random.default_rng(len(lengths))
    model = [random.integers(0, 99, n).astype("i4") for n in lengths]
    rows = ragged(model)
    key = data.draw(keys(len(model)))
    found, wanted = rows[key], taken(model, key)
    if isinstance(wanted, np.ndarray):
        found, wanted = [found], [wanted]
    same(found, wanted)
    for row in found:
        row[...] = -1
    same(list(rows), model)
    assert rows.lengths().tolist() == lengths


@given(
    shapes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20), data=st.data()
)
def test_rows_with_shapes_are_those_of_a_list(shapes, data) -> None:
    random = np.random.default_rng(len(shapes))
    model = [random.integers(0, 99, shape).astype("i4") for shape in shapes]
    rows = ragged(model, shapes=True) if model else ragged([])
    key = data.draw(keys(len(model)))
    found, wanted = rows[key], taken(model, key)
    if isinstance(wanted, np.ndarray):
        found, wanted = [found], [wanted]
    same(found, wanted)


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=30), data=st.data())
def test_part_of_the_offsets_is_part_of_the_rows(lengths, data) -> None:
    start = data.draw(st.integers(0, len(lengths)))
    stop = data.draw(st.integers(start, len(lengths)))
    model = [np.full(n, at, "i4") for at, n in enumerate(lengths)]
    values = np.concatenate(model)
    rows = lazyio.Ragged(values, ends(model)[start : stop + 1])
    same(rows[:], model[start:stop])


@given(
    bounds=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20)), max_size=30),
    chunk=st.none() | st.integers(1, 50),
    gap=st.integers(0, 30),
    most=st.integers(1, 60),
)
def test_runs_hold_every_row_once(bounds, chunk, gap, most) -> None:
    """And nothing is fetched beyond rows, gaps of some size, and chunks that rows are in."""
    starts = np.array([start for start, _ in bounds], np.int64)
    stops = np.array([start + n for start, n in bounds], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "GAP_NBYTES", gap)
        patch.setattr(runs_module, "RUN_NBYTES", most)
        runs = list(runs_of(starts, stops, itemsize=1, chunk_length=chunk))
    seen = sorted(row for run in runs for row in run.rows.tolist())
    assert seen == np.flatnonzero(stops > starts).tolist()
    for run in runs:
        assert run.start == starts[run.rows].min()
        assert run.stop == stops[run.rows].max()
        wanted = set()
        for row in run.rows.tolist():
            wanted |= set(range(starts[row], stops[row]))
        holes = sorted(set(range(run.start, run.stop)) - wanted)
        together = np.split(holes, np.flatnonzero(np.diff(holes) > 1) + 1) if holes else []
        assert all(len(hole) <= max(gap, 2 * (chunk or 0)) for hole in together)
        longest = max(stops[run.rows] - starts[run.rows])
        assert run.stop - run.start <= max(most, 2 * (chunk or 0), longest)


class Counted:
    """An array that counts how often it is read, and how much."""

    chunk_shape = None

    def __init__(self, values):
        self.values, self.regions = values, []
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, region):
        self.regions.append(region)
        return self.values[region]


def test_values_are_read_in_few_long_reads() -> None:
    values = Counted(np.arange(10**6))
    rows = lazyio.Ragged(values, np.arange(0, 10**6 + 1, 10))
    assert len(rows[:50_000]) == 50_000
    assert len(values.regions) == 1
    values.regions.clear()
    rows[::7]
    assert len(values.regions) == 2  # Of 4 MiB, which are used again.
    values.regions.clear()
    # Two neighbourhoods far from each other.
    rows[[90_000, 5, 7, 90_001]]
    assert values.regions == [(slice(50, 80),), (slice(900_000, 900_020),)]


def test_an_index_in_memory_is_read_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = Counted(np.arange(0, 1_000_001, 10))
    rows = lazyio.Ragged(np.arange(1_000_000), offsets)
    offsets.regions.clear()
    for at in (50_000, 50_001, 50_002, 50_001):
        assert rows[at][0] == at * 10
    assert len(offsets.regions) == 1
    assert offsets.regions[0][0].stop - offsets.regions[0][0].start < 10_000
    numbers = np.random.default_rng(0).permutation(100_000)[:40]
    assert [row[0] for row in rows[numbers]] == (numbers * 10).tolist()


def test_rows_of_values_with_more_axes() -> None:
    values = np.arange(24).reshape(6, 2, 2)
    rows = lazyio.Ragged(values, [0, 1, 1, 6])
    assert (rows.ndim, rows.item_shape, rows.dtype) == (3, (2, 2), values.dtype)
    same(rows[:], [values[:1], values[1:1], values[1:]])


def test_rows_of_text() -> None:
    rows = lazyio.Ragged(np.array(["a", "bc", "déf"], np.dtypes.StringDType()), [0, 2, 2, 3])
    assert [row.tolist() for row in rows] == [["a", "bc"], [], ["déf"]]


def test_dask_arrays_and_files_are_read_lazily(tmp_path) -> None:
    np.save(tmp_path / "v.npy", np.arange(100))
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file["o"] = np.arange(0, 101, 20)
    for values in (
        da.arange(100, chunks=7) * 1,
        tmp_path / "v.npy",
        lazyio.open(tmp_path / "v.npy"),
    ):
        rows = lazyio.Ragged(values, lazyio.open(tmp_path / "o.h5"))
        same(rows[[4, 0]], [np.arange(80, 100), np.arange(20)])
        assert isinstance(rows.values, da.Array)
        assert rows.offsets.compute().tolist() == list(range(0, 101, 20))
        assert rows.shapes is None
        same(pickle.loads(pickle.dumps(rows))[:1], [np.arange(20)])


def test_iterating_reads_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BATCH_ROWS", 7)
    model = [np.arange(n, dtype="i4") for n in (3, 0, 0, 9, 1, 2) * 8]
    same(list(ragged(model)), model)
    same(list(lazyio.Ragged.from_rows(model)), model)


def test_a_list_of_arrays() -> None:
    model = [np.ones((2, 3)), np.zeros((0, 5)), np.ones((4, 1))]
    rows = lazyio.Ragged.from_rows(model)
    same(rows[::-1], model[::-1])
    assert repr(rows) == "<lazyio.Ragged: 3 rows of shape (n, n), float64>"
    rows[0][...] = 5
    assert model[0].max() == 1
    assert rows.lengths().tolist() == [6, 0, 4]
    with pytest.raises(OptionError, match="do not lie end to end"):
        _ = rows.values


def test_lists_of_python_numbers() -> None:
    """An empty list is of no dtype, and the first one that is not says it."""
    rows = lazyio.Ragged.from_rows([[], [], [1, 2], [3]])
    assert rows.dtype == np.int64
    assert [row.tolist() for row in rows] == [[], [], [1, 2], [3]]
    assert lazyio.Ragged.from_rows([[], []], dtype="i2")[1].dtype == np.int16
    with pytest.raises(OptionError, match="give dtype="):
        lazyio.Ragged.from_rows([[], []])
    assert lazyio.Ragged.from_rows([], dtype="u1")[:] == []


def test_rows_that_come_once() -> None:
    rows = lazyio.Ragged.from_rows(iter([[1.0], [2.0, 3.0]]))
    assert (rows.dtype, rows.ndim) == (np.dtype(float), 1)
    assert repr(rows) == "<lazyio.Ragged: rows of a generator, to be written>"
    with pytest.raises(OptionError, match="come once, as they are written"):
        len(rows)
    with pytest.raises(OptionError, match="open_ragged"):
        rows[0]
    assert [row.tolist() for row in rows] == [[1.0], [2.0, 3.0]]
    with pytest.raises(OptionError, match="used up"):
        list(rows)


@pytest.mark.parametrize(
    ("offsets", "what"),
    [
        ([0, 2, 1], "row 1 goes from element 2 to 1"),
        ([0, 9], "row 0 goes from element 0 to 9 of 4"),
        ([-1, 2], "row 0 goes from element -1 to 2"),
        ([5], "the only one is 5, and there are 4 values"),
        ([], "one offset more than there are rows"),
        ([0.0, 2.0], "float64, give whole numbers"),
        ([[0], [2]], r"their shape is \(2, 1\)"),
        (["0", "2"], "give whole numbers"),
        (np.array([0, 2**63 + 5], "u8"), "row 0 goes from"),
    ],
)
def test_offsets_that_are_none(offsets, what) -> None:
    with pytest.raises(OptionError, match=what):
        lazyio.Ragged(np.arange(4), np.array(offsets))


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ([(1, 2)], "shapes of 1 rows, and 2 rows"),
        ([(1, 2), (2, 2)], r"row 1 has shape \(2, 2\) and 2 elements"),
        ([(-1, -2), (1, 2)], r"row 0 has shape \(-1, -2\)"),
        ([(2**32, 2**32), (1, 2)], "row 0 has shape"),
        ([1, 2], "give integers of shape"),
        ([(1.0, 2.0), (2.0, 1.0)], "give integers of shape"),
        (np.empty((2, 0), int), "have 0 axes"),
    ],
)
def test_shapes_that_are_none(shapes, what) -> None:
    with pytest.raises(OptionError, match=what):
        lazyio.Ragged(np.arange(4), [0, 2, 4], shapes)


@pytest.mark.parametrize(
    ("key", "error", "what"),
    [
        (3, SelectionError, "no row 3; there are 3 rows"),
        (-4, SelectionError, "no row -4"),
        ([0, 3], SelectionError, "no row 3"),
        ([0, -4], SelectionError, "no row -4"),
        (np.array([True]), SelectionError, "a mask of 1 truth values, and there are 3 rows"),
        ((0, 1), OptionError, "rows are taken by a number"),
        (None, OptionError, "rows are taken by"),
        (..., OptionError, "rows are taken by"),
        (1.0, OptionError, "rows are taken by"),
        (True, OptionError, "rows are taken by"),
        ("a", OptionError, "rows are taken by"),
        ([0.0], OptionError, "rows are taken by"),
        ([[0]], OptionError, "rows are taken by"),
        ([[0], [1, 2]], OptionError, "rows are taken by"),
        ([2**70], OptionError, "rows are taken by"),
        (np.ma.masked_array([0, 1], [1, 0]), OptionError, "rows are taken by"),
        (2**70, SelectionError, "no row 1180591620717411303424"),
        (slice(None, None, 0), OptionError, "step"),
        (slice("a"), OptionError, "whole numbers"),
    ],
)
def test_keys_that_are_none(key, error, what) -> None:
    with pytest.raises(error, match=what):
        ragged([np.arange(2), np.arange(0), np.arange(3)])[key]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (np.int8(-1), 2),
        (np.array(2), 2),
        (np.array([2, -3], "i1"), [2, 0]),
        (np.array([2], "u8"), [2]),
        ([True, False, True], [0, 2]),
        (pd.Series([True, False, True]), [0, 2]),
        (da.arange(3)[::2], [0, 2]),
        (range(2, -1, -2), [2, 0]),
        ([], []),
    ],
)
def test_keys_of_other_libraries(key, wanted) -> None:
    model = [np.arange(2, dtype="i4"), np.arange(0, dtype="i4"), np.arange(3, dtype="i4")]
    found = ragged(model)[key]
    if isinstance(wanted, int):
        found, wanted = [found], [wanted]
    same(found, [model[at] for at in wanted])


def test_an_array_of_rows() -> None:
    """As h5py gives rows of variable length: objects, each an array."""
    held = np.empty(2, object)
    held[:] = [np.arange(3), np.arange(1)]
    same(lazyio.Ragged.from_rows(held)[::-1], [np.arange(1), np.arange(3)])


def test_an_index_error_is_one() -> None:
    with pytest.raises(IndexError, match="no row 0"):
        ragged([])[0]


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda: lazyio.Ragged(5, [0]), OptionError, "values are a single element"),
        (
            lambda: lazyio.Ragged(np.ones((4, 2)), [0, 4], [(2, 2)]),
            OptionError,
            r"values.reshape\(-1\)",
        ),
        (lambda: lazyio.Ragged(lazyio.Stream(iter([1])), [0, 1]), OptionError, "come once"),
        (lambda: lazyio.Ragged([1], np.ma.masked_array([0, 1], [0, 1])), OptionError, "masked"),
        (lambda: lazyio.Ragged("no.npy", [0]), SourceError, "does not exist"),
        (lambda: lazyio.Ragged.from_rows("abc"), OptionError, "no iterable of rows"),
        (lambda: lazyio.Ragged.from_rows(5), OptionError, "no iterable of rows"),
        (lambda: lazyio.Ragged.from_rows([]), OptionError, "give dtype="),
        (lambda: lazyio.Ragged.from_rows([1, 2]), OptionError, "the first row is a single"),
        (lambda: lazyio.Ragged.from_rows([[1], [[2]]]), BlockError, r"row 1 has shape \(1, 1\)"),
        (lambda: lazyio.Ragged.from_rows([[1], ["a"]]), BlockError, "row 1 is no array of int64"),
        (lambda: lazyio.Ragged.from_rows([[1], [0.5]]), BlockError, "row 1 is no array of int64"),
        (lambda: lazyio.Ragged.from_rows([[1], None]), BlockError, "row 1 is no array"),
        (
            lambda: lazyio.Ragged.from_rows([[(1, 2)]], item_shape=3),
            BlockError,
            r"all rows have the shape \(n, 3\)",
        ),
        (
            lambda: lazyio.Ragged.from_rows(iter([[1]]), expected_length=-1),
            OptionError,
            "no number of rows",
        ),
        (lambda: lazyio.open_ragged("x.h5", "x"), SourceError, "does not exist"),
        (lambda: lazyio.open_ragged("x.h5", None), OptionError, "names nothing"),
    ],
)
def test_what_makes_no_rows(make, error, what) -> None:
    with pytest.raises(error, match=what):
        make()


def test_a_row_that_is_wrong_in_an_index_of_many_blocks() -> None:
    """Where only part of it was looked at, a row is refused when it is read."""
    offsets = np.arange(0, 40_001)
    offsets[30_000] = 7
    index = Index(offsets=Counted(offsets), n_values=40_000)
    index.check()
    rows = lazyio.Ragged(np.arange(40_000), Counted(offsets))
    same(rows[5:7], [np.array([5]), np.array([6])])
    with pytest.raises(OptionError, match=re.escape("row 29999 goes from element 29999 to 7")):
        rows[29_999]
    with pytest.raises(OptionError, match="row 29999"):
        rows.lengths()
    assert array_source(offsets).shape == (40_001,)
