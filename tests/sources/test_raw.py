"""Headerless binary files."""

import os

import numpy as np
import pytest
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
    assert_same,
)

import lazyio
from lazyio.errors import (
    OptionError,
    SourceChangedError,
    SourceError,
    TruncatedSourceError,
    UnsupportedDtypeError,
)
from lazyio.sources import files
from lazyio.sources.files import read_exactly
from lazyio.sources.raw import RawSource, raw_source

NESTED = np.dtype([("time", ">f8"), ("xy", "<i2", (2,)), ("name", "S3")])

CASES = {
    "int16": ((30, 7), "<i2", 0),
    "one-axis": ((100,), "<u4", 0),
    "four-axes": ((3, 4, 5, 6), "u1", 0),
    "big-endian": ((20, 5), ">f4", 0),
    "header": ((20, 5), ">u2", 37),
    "complex": ((9, 4), "<c16", 8),
    "bool": ((9, 4), "?", 0),
    "half": ((9, 4), "<f2", 3),
    "bytes": ((9, 4), "S5", 0),
    "text": ((9, 4), "<U3", 0),
    "time": ((9, 4), "<M8[ns]", 0),
    "structured": ((9, 4), NESTED, 5),
    "scalar": ((), "<i4", 4),
    "one-element": ((1, 1, 1), "<i4", 0),
    "no-rows": ((0, 7), "<i2", 0),
    "no-columns": ((7, 0), "<i2", 0),
    "no-rows-header": ((0, 7), "<i2", 16),
    # Rows of 140 kB are read run by run, narrower ones in stripes.
    "wide-rows": ((3, 70000), "<i2", 0),
    "long-columns": ((20000, 33), "<i2", 0),
}


def some_values(shape, dtype):
    """Return an array whose every element has bytes of its own."""
    element = np.dtype(dtype)
    rng = np.random.default_rng(7)
    if element.kind in "SU":
        return rng.integers(0, 999, shape).astype(element)
    if element.kind == "b":
        return rng.integers(0, 2, shape).astype(element)
    if element.fields is not None:
        out = np.zeros(shape, element)
        out["time"] = rng.random(shape)
        out["xy"] = rng.integers(-99, 99, (*shape, 2))
        out["name"] = rng.integers(0, 99, shape).astype("S3")
        return out
    return rng.integers(0, 200, shape).astype(element)


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    """One file: shape, dtype and header bytes."""
    return request.param


@pytest.fixture
def expected(case):
    """Return what the file holds."""
    shape, dtype, _ = case
    return some_values(shape, dtype)


@pytest.fixture
def path(tmp_path):
    """Where it lies."""
    return tmp_path / "recording.raw"


class TestRaw(SourceContract, TravelsContract, ReadsIntoContract, StoredContract):
    """C order: the last axis is the fastest."""

    @pytest.fixture
    def source(self, case, expected, path):
        """Return the file, opened."""
        shape, dtype, offset = case
        path.write_bytes(b"\xee" * offset + expected.tobytes())
        if not path.stat().st_size:
            path.touch()
        return raw_source(path, shape, dtype, offset=offset)

    def change(self, path):
        """Rewrite the file; an empty one only gets another time."""
        if path.stat().st_size:
            super().change(path)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


class TestRawFortran(SourceContract, TravelsContract, ReadsIntoContract):
    """F order: the first axis is the fastest."""

    @pytest.fixture
    def source(self, case, expected, path):
        """Return the file, opened."""
        shape, dtype, offset = case
        path.write_bytes(b"\xee" * offset + expected.tobytes(order="F"))
        return raw_source(path, shape, dtype, offset=offset, order="F")


@pytest.fixture
def file(tmp_path):
    """Return a file of 24 int16."""
    path = tmp_path / "recording.raw"
    np.arange(24, dtype="<i2").tofile(path)
    return path


@pytest.mark.parametrize(
    ("shape", "solved"),
    [
        pytest.param((-1, 4), (6, 4), id="first"),
        pytest.param((6, -1), (6, 4), id="last"),
        pytest.param((2, -1, 4), (2, 3, 4), id="middle"),
        pytest.param(-1, (24,), id="only"),
        pytest.param([np.int64(-1), np.int64(4)], (6, 4), id="numpy-integers"),
    ],
)
def test_unknown_extent_follows_from_the_size(file, shape, solved):
    """One extent of -1 is worked out from the size of the file, as a Python int."""
    source = raw_source(file, shape, "<i2")
    assert source.shape == solved
    assert all(type(extent) is int for extent in source.shape)


def test_unknown_extent_of_an_empty_file(tmp_path):
    """An empty file has no rows of any width."""
    path = tmp_path / "empty.raw"
    path.touch()
    assert raw_source(path, (-1, 4), "<i2").shape == (0, 4)


def test_relative_path_is_kept_absolute(file, monkeypatch):
    """A relative path means the folder at the time of opening, also after a chdir."""
    monkeypatch.chdir(file.parent)
    array = lazyio.from_raw("recording.raw", (6, 4), "<i2")
    monkeypatch.chdir("/")
    assert_same(array.compute(scheduler="sync"), np.arange(24, dtype="<i2").reshape(6, 4))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        pytest.param(((7, 4), "<i2"), TruncatedSourceError, "48 bytes.* 56.*too short", id="short"),
        pytest.param(((5, 4), "<i2"), SourceError, r"8 bytes are left over.*offset=8", id="long"),
        pytest.param(((-1, 5), "<i2"), SourceError, "48 bytes.*no multiple of 10", id="multiple"),
        pytest.param(((-1, 0), "<i2"), SourceError, "no multiple of 0", id="zero-extent"),
        pytest.param(((-1, -1), "<i2"), OptionError, "2 unknown extents", id="two-unknown"),
        pytest.param(((-2, 4), "<i2"), OptionError, "negative extent", id="negative"),
        pytest.param(((2.0, 4), "<i2"), OptionError, "is not a shape", id="float"),
        pytest.param(("six", "<i2"), OptionError, "is not a shape", id="word"),
        pytest.param((None, "<i2"), OptionError, "is not a shape", id="no-shape"),
        pytest.param(((1,) * 33, "<i2"), OptionError, "33 axes.*at most 32", id="rank"),
        pytest.param(((24,), "int17"), OptionError, "not a numpy dtype", id="dtype"),
        pytest.param(((24,), None), OptionError, "give dtype", id="no-dtype"),
        pytest.param(((24,), "O"), UnsupportedDtypeError, "Python objects", id="objects"),
        pytest.param(((24,), "S"), OptionError, "0 bytes; give a length", id="no-length"),
        pytest.param(((8,), "(3,)i2"), UnsupportedDtypeError, "shape", id="subarray"),
    ],
)
def test_refuses_what_the_file_is_not(file, arguments, error, match):
    """A shape or dtype that does not fit the file says which bytes there are and what to do."""
    with pytest.raises(error, match=match):
        lazyio.from_raw(file, *arguments)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        pytest.param({"order": "K"}, OptionError, "order='K'.*give \"C\"", id="order"),
        pytest.param({"offset": -1}, OptionError, "offset=-1.*at least 0", id="offset-negative"),
        pytest.param({"offset": 0.0}, OptionError, "offset=0.0", id="offset-float"),
        pytest.param({"offset": True}, OptionError, "offset=True", id="offset-bool"),
        pytest.param({"offset": "8"}, OptionError, "offset='8'", id="offset-text"),
        pytest.param({"offset": 100}, TruncatedSourceError, "48 bytes", id="offset-beyond"),
    ],
)
def test_refuses_options_that_cannot_be(file, options, error, match):
    """An option that cannot be is named with what it takes."""
    with pytest.raises(error, match=match):
        lazyio.from_raw(file, (24,), "<i2", **options)


def test_offset_beyond_the_end_with_unknown_extent(file):
    """An offset past the end of the file is not a negative number of rows."""
    with pytest.raises(SourceError, match="0 bytes of data"):
        lazyio.from_raw(file, (-1, 4), "<i2", offset=56)


def test_missing_file(tmp_path):
    """A file that is not there is named, with the folder it was looked up from."""
    with pytest.raises(SourceError, match=r"none\.raw does not exist; check the path"):
        lazyio.from_raw(tmp_path / "none.raw", (4,), "u1")


def test_folder(tmp_path):
    """A folder is no raw file."""
    with pytest.raises(SourceError, match="is not a file"):
        lazyio.from_raw(tmp_path, (4,), "u1")


def test_text_of_any_length(file):
    """Text of any length does not lie in one run of bytes."""
    with pytest.raises(UnsupportedDtypeError, match="has no fixed size, which raw data needs"):
        lazyio.from_raw(file, (-1,), np.dtypes.StringDType())


@pytest.fixture
def counted(monkeypatch):
    """Return a list of the sizes of all reads."""
    sizes = []
    plain = files.read_exactly

    def counting(file, offset, view):
        sizes.append(len(view))
        plain(file, offset, view)

    monkeypatch.setattr(files, "read_exactly", counting)
    return sizes


def test_f_order_is_read_in_long_runs(tmp_path, counted):
    """Blocks of a file in F order are long runs of it, and each byte is read once."""
    values = np.arange(6_000_000, dtype="<i2").reshape(300_000, 20)
    values.T.tofile(tmp_path / "fortran.raw")
    array = lazyio.from_raw(
        tmp_path / "fortran.raw", (-1, 20), "<i2", order="F", memory_limit="8 MiB"
    )
    assert array.npartitions > 1
    assert (array.compute(scheduler="sync") == values).all()
    assert sum(counted) == values.nbytes
    # A run is 64 KiB and more, but for those at the end of a column.
    assert len(counted) <= 20 * array.numblocks[0]
    assert array.chunksize[0] >= 32768


def test_a_plan_knows_what_f_order_costs(tmp_path):
    """Pages that are read for nothing are counted, and are few; a small limit is kept, too."""
    np.zeros((20, 300_000), "<i2").tofile(tmp_path / "fortran.raw")
    array = lazyio.from_raw(tmp_path / "fortran.raw", (-1, 20), "<i2", order="F")
    plan = lazyio.plan(array, chunks=(1000, 20), memory_limit="8 MiB")
    assert 1.0 <= plan.read_amplification < 1.2
    small = lazyio.from_raw(
        tmp_path / "fortran.raw", (-1, 20), "<i2", order="F", memory_limit="256 KiB"
    )
    assert small.chunksize[0] < 32768
    assert not small[:50_000].any().compute()


def test_three_axes_in_f_order(tmp_path, counted):
    """The first two axes are read whole where a run needs both."""
    values = np.arange(64 * 50 * 40, dtype="<f8").reshape(64, 50, 40)
    values.T.tofile(tmp_path / "fortran.raw")
    array = lazyio.from_raw(tmp_path / "fortran.raw", values.shape, "<f8", order="F")
    assert (array.compute(scheduler="sync") == values).all()
    assert sum(counted) == values.nbytes


@pytest.mark.parametrize(
    ("row", "run", "n_reads", "nbytes"),
    [
        pytest.param(1000, 10, 1, 99 * 1000 + 10, id="short-gaps"),
        pytest.param(60_000, 100, 100, 100 * 100, id="long-gaps"),
        pytest.param(100_000, 70_000, 100, 100 * 70_000, id="long-runs"),
    ],
)
def test_gaps_are_read_where_that_is_faster(tmp_path, counted, row, run, n_reads, nbytes):
    """Short gaps between runs are read along; long ones are left out."""
    values = np.arange(100 * row, dtype="u4").astype("u1").reshape(100, row)
    values.tofile(tmp_path / "rows.raw")
    source = raw_source(tmp_path / "rows.raw", values.shape, "u1")
    got = source.read((slice(0, 100), slice(5, 5 + run)))
    assert (got == values[:, 5 : 5 + run]).all()
    assert (len(counted), sum(counted)) == (n_reads, nbytes)


def test_file_cut_after_opening(file):
    """A file that was cut short since says so when it is read, and is no SIGBUS."""
    array = lazyio.from_raw(file, (6, 4), "<i2")
    os.truncate(file, 30)
    with pytest.raises(SourceChangedError, match=r"recording\.raw was cut short from 48 to 30"):
        array.compute(scheduler="sync")


class Trickle:
    """A file that gives one byte a read, as a slow network may."""

    name = "trickle.raw"

    def __init__(self, content):
        self._content = content
        self._at = 0

    def seek(self, offset):
        self._at = offset

    def readinto(self, view):
        got = self._content[self._at : self._at + 1]
        view[: len(got)] = got
        self._at += len(got)
        return len(got)


def test_short_reads_are_completed():
    """A read that gives less than was asked for is followed by another."""
    out = bytearray(5)
    read_exactly(Trickle(b"0123456789"), 3, memoryview(out))
    assert bytes(out) == b"34567"


def test_short_read_at_the_end():
    """A file that ends names itself, what was wanted and what there was."""
    with pytest.raises(
        TruncatedSourceError, match=r"trickle\.raw.*wanted 5 bytes from byte 8, got 2"
    ):
        read_exactly(Trickle(b"0123456789"), 8, memoryview(bytearray(5)))


def test_equal_files_have_equal_sources(file):
    """Sources compare by what they are."""
    assert raw_source(file, (6, 4), "<i2") == raw_source(str(file), [6, 4], np.int16)
    assert isinstance(raw_source(file, (6, 4), "<i2"), RawSource)
