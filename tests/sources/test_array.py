"""Arrays that are there already: in memory, mapped, or open in another library."""

import os

import h5py
import numpy as np
import pytest
import zarr
from dask.base import tokenize
from source_contract import SourceContract, TravelsContract, assert_same

import lazyio
from lazyio.errors import (
    OptionError,
    SourceChangedError,
    SourceError,
    UnknownFormatError,
    UnsupportedDtypeError,
)
from lazyio.sources.hdf5 import OpenDatasetSource
from lazyio.sources.lookup import array_source
from lazyio.sources.raw import RawSource

MATRIX = np.arange(37 * 23, dtype="<i4").reshape(37, 23)
RECORDS = np.zeros((20, 6), [("time", ">f8"), ("xy", "<i2", (2,))])
RECORDS["time"] = np.arange(120).reshape(20, 6)

CASES = {
    "int32": MATRIX,
    "fortran": np.asfortranarray(MATRIX),
    "transposed": MATRIX.T,
    "reversed": MATRIX[::-1, ::-2],
    "strided": MATRIX[::3, 1::2],
    "broadcast": np.broadcast_to(np.arange(23), (37, 23)),
    "big-endian": MATRIX.astype(">i2"),
    "complex": MATRIX * (1 + 2j),
    "bool": MATRIX % 3 == 0,
    "text": MATRIX.astype("U4"),
    "time": MATRIX.astype("M8[ns]"),
    "structured": RECORDS,
    "scalar": np.array(42, "<i8"),
    "no-rows": np.empty((0, 7), "<i2"),
    "no-columns": np.empty((7, 0), "<i2"),
    "four-axes": np.arange(840.0).reshape(4, 5, 6, 7),
}


class TestNdarray(SourceContract, TravelsContract):
    """A numpy array, of any strides."""

    @pytest.fixture(params=CASES.values(), ids=CASES)
    def expected(self, request):
        """Return the array; the test has its own, so that one test cannot spoil the next."""
        return request.param

    @pytest.fixture
    def source(self, expected):
        """Return what from_array takes it for."""
        return array_source(expected.copy("K") if expected.flags.writeable else expected)


class TestMemmap(SourceContract, TravelsContract):
    """A mapped file travels as its path."""

    @pytest.fixture(params=[("C", 0), ("F", 0), ("C", 24), ("F", 100)], ids=str)
    def source(self, tmp_path, request):
        """Return what from_array takes it for."""
        order, offset = request.param
        made = np.memmap(
            tmp_path / "raw", "<i4", "w+", offset=offset, shape=MATRIX.shape, order=order
        )
        made[...] = MATRIX
        return array_source(made)

    @pytest.fixture
    def expected(self):
        """Return what it holds."""
        return MATRIX

    def test_is_read_where_it_lies(self, source):
        """A mapped file is read with pread: a cut file is an error then, and no SIGBUS."""
        assert isinstance(source, RawSource)


class TestOpenDataset(SourceContract, TravelsContract):
    """An h5py dataset of a file that is open for reading travels as path and key."""

    @pytest.fixture
    def source(self, tmp_path):
        """Return what from_array takes it for."""
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            file.create_dataset("raw", data=MATRIX, chunks=(8, 5), compression="gzip")
        with h5py.File(tmp_path / "scan.h5", "r") as file:
            yield array_source(file["raw"])

    @pytest.fixture
    def expected(self):
        """Return what it holds."""
        return MATRIX


class TestOpenZarr(SourceContract, TravelsContract):
    """A zarr array travels as store and path."""

    @pytest.fixture
    def source(self, tmp_path):
        """Return what from_array takes it for."""
        made = zarr.create_array(tmp_path / "scan.zarr", data=MATRIX, chunks=(8, 5))
        return array_source(made)

    @pytest.fixture
    def expected(self):
        """Return what it holds."""
        return MATRIX


class Like:
    """The least that reads like an array."""

    def __init__(self, values, **facts):
        self.shape = values.shape
        self.dtype = values.dtype
        self.values = values
        vars(self).update(facts)

    def __getitem__(self, index):
        return self.values[index].copy()


class TestArrayLike(SourceContract, TravelsContract):
    """Anything with shape, dtype and indexing; its chunks count where it says them."""

    @pytest.fixture(params=[{}, {"chunks": (8, 5)}], ids=["plain", "chunked"])
    def source(self, request):
        """Return what from_array takes it for."""
        return array_source(Like(MATRIX, **request.param))

    @pytest.fixture
    def expected(self):
        """Return what it holds."""
        return MATRIX


def test_chunks_of_an_array_like():
    """Chunks are those that the array-like says; a graph's blocks are not."""
    assert array_source(Like(MATRIX, chunks=(8, 5))).chunk_shape == (8, 5)
    assert array_source(Like(MATRIX, chunks=((37,), (23,)))).chunk_shape is None
    assert array_source(Like(MATRIX, chunks=None)).chunk_shape is None
    assert array_source(Like(MATRIX)).chunk_shape is None


def test_tokens_of_arrays():
    """The name of an array in memory comes from its content."""
    assert tokenize(array_source(MATRIX)) == tokenize(array_source(MATRIX.copy()))
    assert tokenize(array_source(MATRIX)) != tokenize(array_source(MATRIX + 1))


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda mapped: mapped[5:], id="rows"),
        pytest.param(lambda mapped: mapped[::2, ::-1], id="strided"),
        pytest.param(lambda mapped: mapped.T, id="transposed"),
        pytest.param(lambda mapped: mapped.reshape(-1, 1), id="reshaped"),
        pytest.param(lambda mapped: mapped.view("<i2"), id="cast"),
        pytest.param(lambda mapped: mapped[:, 3], id="column"),
        pytest.param(lambda mapped: mapped + 1, id="computed"),
        pytest.param(lambda mapped: mapped[...], id="same"),
        pytest.param(lambda mapped: mapped.view(np.ndarray), id="ndarray"),
    ],
)
def test_views_of_memmaps(tmp_path, view):
    """A view of a mapped file reads as what it is, not as the start of the file."""
    mapped = np.memmap(tmp_path / "raw", "<i4", "w+", shape=MATRIX.shape)
    mapped[...] = MATRIX
    wanted = np.array(view(mapped))
    assert_same(np.asarray(lazyio.from_array(view(mapped)).compute(scheduler="sync")), wanted)


def test_changes_of_a_copy_on_write_memmap(tmp_path):
    """What was changed in a private mapping is in memory only, and is what is read."""
    MATRIX.tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", "<i4", "c", shape=MATRIX.shape)
    mapped[3] = -1
    wanted = np.array(mapped)
    assert_same(np.asarray(lazyio.from_array(mapped).compute(scheduler="sync")), wanted)


def test_unflushed_changes_of_a_memmap(tmp_path):
    """What was written through a shared mapping is read, flushed or not."""
    mapped = np.memmap(tmp_path / "raw", "<i4", "w+", shape=MATRIX.shape)
    array = lazyio.from_array(mapped)
    mapped[...] = MATRIX
    assert_same(np.asarray(array.compute(scheduler="sync")), MATRIX)


def test_saved_array_mapped_by_numpy(tmp_path):
    """numpy.load with mmap_mode gives a memmap, header and order included."""
    np.save(tmp_path / "image.npy", np.asfortranarray(MATRIX))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    assert isinstance(array_source(mapped), RawSource)
    assert_same(np.asarray(lazyio.from_array(mapped).compute(scheduler="sync")), MATRIX)


def test_truncated_memmap(tmp_path):
    """A mapped file that was cut short is an error, where a mapping would be a SIGBUS."""
    MATRIX.tofile(tmp_path / "raw")
    array = lazyio.from_array(np.memmap(tmp_path / "raw", "<i4", "r", shape=MATRIX.shape))
    os.truncate(tmp_path / "raw", 100)
    with pytest.raises(SourceChangedError, match="raw was cut short from"):
        array.compute(scheduler="sync")


def test_removed_memmap(tmp_path):
    """A mapped file that is gone is named."""
    MATRIX.tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", "<i4", "r", shape=MATRIX.shape)
    (tmp_path / "raw").unlink()
    with pytest.raises(SourceError, match="raw does not exist"):
        lazyio.from_array(mapped)


@pytest.mark.parametrize("mode", ["r+", "a", "w"])
def test_dataset_open_for_writing(tmp_path, mode):
    """A dataset of a file that is being written is read through its handle, changes included."""
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file.create_dataset("raw", data=MATRIX, chunks=(8, 5))
    with h5py.File(tmp_path / "scan.h5", mode) as file:
        if "raw" not in file:
            file.create_dataset("raw", data=MATRIX, chunks=(8, 5))
        source = array_source(file["raw"])
        assert isinstance(source, OpenDatasetSource)
        assert source.chunk_shape == (8, 5)
        file["raw"][0] = -1
        wanted = MATRIX.copy()
        wanted[0] = -1
        assert_same(lazyio.from_array(file["raw"]).compute(scheduler="sync"), wanted)


def test_dataset_through_a_relative_path(tmp_path, monkeypatch):
    """A dataset of a file opened by a relative path is read after its file was closed."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("scan.h5", "w") as file:
        file["raw"] = MATRIX
    with h5py.File("scan.h5", "r") as file:
        array = lazyio.from_array(file["raw"])
    monkeypatch.chdir("/")
    assert_same(array.compute(scheduler="sync"), MATRIX)


def test_closed_dataset(tmp_path):
    """A dataset whose file was closed is refused by name of the fault."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["raw"] = MATRIX
        dataset = file["raw"]
    with pytest.raises(SourceError, match="closed"):
        lazyio.from_array(dataset)


def test_dataset_in_memory():
    """A file that is in memory only has no path to travel as."""
    with h5py.File("nowhere.h5", "w", driver="core", backing_store=False) as file:
        file["raw"] = MATRIX
        assert isinstance(array_source(file["raw"]), OpenDatasetSource)
        assert_same(lazyio.from_array(file["raw"]).compute(scheduler="sync"), MATRIX)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        pytest.param(np.array([1, "a"], object), UnsupportedDtypeError, "objects", id="objects"),
        pytest.param(
            np.zeros(3, [("a", "i2"), ("b", "O")]), UnsupportedDtypeError, "objects", id="field"
        ),
        pytest.param(object(), UnknownFormatError, "object is no path and no array", id="object"),
        pytest.param(None, UnknownFormatError, "NoneType is no path and no array", id="none"),
        pytest.param(iter([1]), SourceError, "gone through once", id="iterator"),
        pytest.param([1, [2, 3]], OptionError, "ragged|inhomogeneous", id="ragged-list"),
        pytest.param(Like(MATRIX, shape="wide"), OptionError, "not a shape", id="like-shape"),
        pytest.param(Like(MATRIX, dtype="nope"), OptionError, "not a numpy dtype", id="like-dtype"),
    ],
)
def test_refuses_what_is_no_array(given, error, match):
    """What cannot be read in parts is refused with what it is."""
    with pytest.raises(error, match=match):
        lazyio.from_array(given)


@pytest.mark.parametrize("given", [[1, 2, 3], (1.5, 2.5), 7, 2j, True, np.float32(3)], ids=repr)
def test_lists_and_numbers(given):
    """Lists and numbers are arrays, as numpy takes them."""
    assert_same(np.asarray(lazyio.from_array(given).compute(scheduler="sync")), np.asarray(given))


def test_empty_list():
    """An empty list is an array of no elements."""
    assert lazyio.from_array([]).shape == (0,)


@pytest.mark.parametrize(
    "value",
    [
        np.array(5, ">i4"),
        np.array(b"abc", "S5"),
        np.array("ab", "U5"),
        np.array("2020-01-01", "M8[ns]"),
        np.array((1, 2.0), [("a", "i2"), ("b", "f8")]),
        np.array("any length", np.dtypes.StringDType()),
    ],
    ids=lambda value: str(value.dtype),
)
def test_single_elements_keep_their_dtype(value):
    """Numpy's scalars have lost byte order and length; an array of one element has not."""
    for lazy in (
        lazyio.from_array(value),
        lazyio.from_function(lambda _: value[()], (), value.dtype),
    ):
        found = lazy.compute()
        assert found == value
        assert np.asarray(found, value.dtype) == value
