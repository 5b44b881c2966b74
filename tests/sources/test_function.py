"""Arrays that a function reads, and sources of one's own."""

import numpy as np
import pytest
from hdmf.data_utils import GenericDataChunkIterator
from source_contract import SourceContract, TravelsContract

import lazyio
from lazyio.errors import BlockError, OptionError, UnsupportedDtypeError
from lazyio.sources.function import FunctionSource
from lazyio.sources.lookup import array_source

MATRIX = np.arange(37 * 23, dtype="<i4").reshape(37, 23)
RECORDS = np.zeros((20, 6), [("time", ">f8"), ("xy", "<i2", (2,))])
RECORDS["time"] = np.arange(120).reshape(20, 6)

CASES = {
    "int32": MATRIX,
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


class Reader:
    """A reading function that travels: it holds what it reads."""

    def __init__(self, values):
        self.values = values

    def __call__(self, region):
        return np.array(self.values[region], order="C")


class TestFunction(SourceContract, TravelsContract):
    """A function that gives the region it is asked for."""

    @pytest.fixture(params=CASES.values(), ids=CASES)
    def expected(self, request):
        """Return what the function reads from."""
        return request.param

    @pytest.fixture(params=[None, "chunks"])
    def source(self, expected, request):
        """Return the function, with and without chunks of its own."""
        chunk_shape = tuple(max(1, n // 2) for n in expected.shape) if request.param else None
        return FunctionSource(
            function=Reader(expected),
            shape=expected.shape,
            dtype=expected.dtype,
            chunk_shape=chunk_shape,
        )


class Own:
    """A Source of one's own, as the Protocol asks for it."""

    def __init__(self, values):
        self.shape = values.shape
        self.dtype = values.dtype
        self.chunk_shape = None
        self.values = values

    def read(self, region):
        return np.array(self.values[region], order="C")


class TestOwnSource(SourceContract, TravelsContract):
    """A user's class is taken as it is."""

    @pytest.fixture(params=CASES.values(), ids=CASES)
    def expected(self, request):
        """Return what the source reads from."""
        return request.param

    @pytest.fixture
    def source(self, expected):
        """Return what from_source takes it for."""
        return array_source(Own(expected))


class Iterator(GenericDataChunkIterator):
    """What a user of HDMF has already."""

    def __init__(self, values, **options):
        self.values = values
        super().__init__(**options)

    def _get_data(self, selection):
        return np.array(self.values[selection])

    def _get_maxshape(self):
        return self.values.shape

    def _get_dtype(self):
        return self.values.dtype


class TestHdmfIterator(SourceContract):
    """A subclass of HDMF's GenericDataChunkIterator is a source as it is."""

    @pytest.fixture
    def expected(self):
        """Return what the iterator reads from."""
        return MATRIX

    @pytest.fixture
    def source(self, expected):
        """Return what from_source takes it for."""
        return array_source(Iterator(expected, chunk_shape=(8, 5), buffer_shape=(16, 10)))


def test_read_is_given_plain_regions():
    """The function sees one step-1 slice of Python ints per axis, inside the shape."""
    seen = []

    def read(region):
        seen.append(region)
        return MATRIX[region].copy()

    array = lazyio.from_function(read, MATRIX.shape, MATRIX.dtype, chunks=(10, 23))
    np.testing.assert_array_equal(array[5:31:3, -4].compute(scheduler="sync"), MATRIX[5:31:3, -4])
    assert seen
    for region in seen:
        assert type(region) is tuple
        assert [part.step for part in region] == [None, None]
        assert all(type(end) is int for part in region for end in (part.start, part.stop))
        assert all(0 <= part.start <= part.stop for part in region)


def test_blocks_follow_what_the_function_fetches():
    """Block edges are edges of source_chunks, so nothing is fetched twice."""
    array = lazyio.from_function(
        Reader(MATRIX), MATRIX.shape, MATRIX.dtype, source_chunks=(7, 4), memory_limit=4096
    )
    assert array.npartitions > 1
    for sizes, step in zip(array.chunks, (7, 4), strict=True):
        assert all(size % step == 0 for size in sizes[:-1])


FAULTS = {
    "short": (lambda region: MATRIX[region][:-1], "shape"),
    "transposed": (lambda region: MATRIX[region].T, "shape"),
    "scalar": (lambda region: np.int32(3), "shape"),
    "row-to-broadcast": (lambda region: MATRIX[region][:1], "shape"),
    "extra-axis": (lambda region: MATRIX[region][None], "shape"),
    "dtype": (lambda region: MATRIX[region].astype("i8"), "int64"),
    "byte-order": (lambda region: MATRIX[region].astype(">i4"), ">i4"),
    "list": (lambda region: MATRIX[region].tolist(), "list"),
    "none": (lambda region: None, "NoneType"),
}


@pytest.mark.parametrize(("read", "match"), FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_its_region(read, match):
    """A part of another shape or dtype is a BlockError naming region, wanted and given."""
    array = lazyio.from_function(read, MATRIX.shape, MATRIX.dtype, chunks=(10, 23))
    with pytest.raises(BlockError, match=rf"{match}.*\[10:20, 0:23\].*\(10, 23\) int32"):
        array[10:20].compute(scheduler="sync")


class Faulty(Own):
    """A source that gives something other than it says."""

    def __init__(self, read):
        super().__init__(MATRIX)
        self.read = read


@pytest.mark.parametrize(("read", "match"), FAULTS.values(), ids=FAULTS)
def test_own_source_that_does_not_fit(read, match):
    """A source of one's own is held to what it says, as a function is."""
    array = lazyio.from_source(Faulty(read), chunks=(10, 23))
    with pytest.raises(BlockError, match=rf"{match}.*\[10:20, 0:23\].*\(10, 23\) int32"):
        array[10:20].compute(scheduler="sync")


@pytest.mark.parametrize("make", ["function", "source"])
def test_masked_parts_are_not_stripped(make):
    """A masked array has values that are not there: it is refused, not stored as if they were."""

    def read(region):
        return np.ma.masked_less(MATRIX[region], 100)

    if make == "function":
        array = lazyio.from_function(read, MATRIX.shape, MATRIX.dtype)
    else:
        array = lazyio.from_source(Faulty(read))
    with pytest.raises(BlockError, match=r"MaskedArray.*\[0:37, 0:23\]"):
        array.compute(scheduler="sync")


def _fail(region):
    msg = "no tape in the drive"
    raise ValueError(msg)


@pytest.mark.parametrize("make", ["function", "source"])
def test_what_the_function_raises(make):
    """An exception of the user's own becomes a BlockError: region named, cause chained."""
    if make == "function":
        array = lazyio.from_function(_fail, MATRIX.shape, MATRIX.dtype, chunks=(10, 23))
    else:
        array = lazyio.from_source(Faulty(_fail), chunks=(10, 23))
    match = r"reading region \[30:37, 0:23\] failed: ValueError: no tape in the drive"
    with pytest.raises(BlockError, match=match) as caught:
        array[30:].compute(scheduler="sync")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_are_not_wrapped(error):
    """What is no failure of the block goes through as it is."""

    def read(region):
        raise error

    array = lazyio.from_function(read, MATRIX.shape, MATRIX.dtype)
    with pytest.raises(error, match=r"^$"):
        array.compute(scheduler="sync")


def test_library_errors_go_through():
    """An error of lazyio's own, from a source inside a source, is not wrapped again."""

    def read(region):
        return lazyio.from_npy("/nowhere.npy")

    array = lazyio.from_function(read, MATRIX.shape, MATRIX.dtype)
    with pytest.raises(lazyio.LazyioError, match=r"^/nowhere\.npy does not exist"):
        array.compute(scheduler="sync")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        pytest.param((None, (4,), "i2"), {}, OptionError, "read=None is not a function", id="read"),
        pytest.param((_fail, (-4,), "i2"), {}, OptionError, "negative extent", id="negative"),
        pytest.param((_fail, (4.0,), "i2"), {}, OptionError, "is not a shape", id="float"),
        pytest.param((_fail, (1,) * 33, "i2"), {}, OptionError, "33 axes", id="rank"),
        pytest.param((_fail, (4,), None), {}, OptionError, "give dtype", id="no-dtype"),
        pytest.param((_fail, (4,), "nope"), {}, OptionError, "not a numpy dtype", id="dtype"),
        pytest.param((_fail, (4,), object), {}, UnsupportedDtypeError, "objects", id="objects"),
        pytest.param(
            (_fail, (4,), "(2,)i2"), {}, UnsupportedDtypeError, "shape", id="subarray-dtype"
        ),
        pytest.param(
            (_fail, (4,), "i2"), {"source_chunks": (2, 2)}, OptionError, "does not fit", id="chunks"
        ),
        pytest.param(
            (_fail, (4,), "i2"),
            {"source_chunks": (0,)},
            OptionError,
            "at least 1",
            id="chunks-zero",
        ),
        pytest.param(
            (_fail, (4,), "i2"), {"source_chunks": (-2,)}, OptionError, "negative", id="chunks-less"
        ),
        pytest.param(
            (_fail, (4,), "i2"),
            {"chunks": None},
            OptionError,
            "chunks=None; give",
            id="blocks-none",
        ),
        pytest.param(
            (_fail, (4,), "i2"), {"chunks": (2, 1)}, OptionError, "chunks=", id="blocks-rank"
        ),
        pytest.param((_fail, (4,), "i2"), {"chunks": 0}, OptionError, "chunks=0", id="blocks-zero"),
        pytest.param(
            (_fail, (4,), "i2"), {"chunks": "many"}, OptionError, "chunks='many'", id="blocks-word"
        ),
        pytest.param(
            (_fail, (4,), "i2"), {"chunks": 1.5}, OptionError, "chunks=1.5", id="blocks-float"
        ),
    ],
)
def test_arguments_that_cannot_be(arguments, options, error, match):
    """An argument that cannot be is named before the function is called."""
    with pytest.raises(error, match=match):
        lazyio.from_function(*arguments, **options)


def test_source_with_a_wrong_fact():
    """A source whose facts are no facts is refused when it is opened."""

    class Odd(Own):
        def __init__(self, **facts):
            super().__init__(MATRIX)
            vars(self).update(facts)

    for facts, match in [
        ({"shape": (4.5, 2)}, "shape"),
        ({"shape": (-1, 2)}, "negative"),
        ({"dtype": np.dtype(object)}, "Python objects"),
        ({"dtype": "nope"}, "nope"),
        ({"chunk_shape": (8,)}, "chunk_shape|axes"),
        ({"chunk_shape": (0, 5)}, "chunk_shape|positive"),
    ]:
        with pytest.raises(lazyio.LazyioError, match=match):
            lazyio.from_source(Odd(**facts))


def test_source_with_loose_facts():
    """Facts of numpy integers, lists and dtype names are taken for what they mean."""
    source = Own(MATRIX)
    source.shape = [np.int64(37), np.int64(23)]
    source.dtype = "<i4"
    source.chunk_shape = [np.int64(8), 5]
    array = lazyio.from_source(source)
    assert all(type(extent) is int for extent in array.shape)
    assert array.dtype == MATRIX.dtype
    np.testing.assert_array_equal(array.compute(scheduler="sync"), MATRIX)
