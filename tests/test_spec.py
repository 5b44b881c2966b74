"""Shapes and dtypes as they come in, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.dtypes import MAX_NDIM, as_dtype, as_shape, is_integer, nbytes_of
from lazyio.errors import OptionError, UnsupportedDtypeError


@pytest.mark.parametrize(
    ("given_shape", "shape"),
    [
        ((3, 4), (3, 4)),
        ([3, 4], (3, 4)),
        (np.array([3, 4]), (3, 4)),
        ((np.int64(3), np.uint8(4)), (3, 4)),
        (range(3), (0, 1, 2)),
        (5, (5,)),
        (np.int32(5), (5,)),
        ((), ()),
        ((0,), (0,)),
        ((1,) * MAX_NDIM, (1,) * MAX_NDIM),
    ],
    ids=["tuple", "list", "array", "numpy", "range", "int", "int32", "0-d", "empty", "32-d"],
)
def test_shape(given_shape, shape):
    """Any iterable of whole numbers is a shape of Python integers."""
    found = as_shape(given_shape)
    assert found == shape
    assert all(type(extent) is int for extent in found)


@pytest.mark.parametrize(
    "given_shape", ["12", (1.5,), (3.0, 4), None, ("3", 4), (None, 3), 2.0], ids=repr
)
def test_not_a_shape(given_shape):
    """What holds no integers is refused, with an example of what would do."""
    with pytest.raises(OptionError, match=r"^shape=.* is not a shape; give one integer per axis"):
        as_shape(given_shape)


@pytest.mark.parametrize("given_shape", [(-1,), (3, -4), -2], ids=repr)
def test_negative_extent(given_shape):
    """A negative extent is refused under the name of its argument."""
    with pytest.raises(OptionError, match=r"^block_shape=\(.*-.*\) has a negative extent"):
        as_shape(given_shape, "block_shape")


def test_rank_over_32():
    """More axes than HDF5 has are refused."""
    with pytest.raises(OptionError, match=r"shape has 33 axes; .* at most 32"):
        as_shape((1,) * 33)


@pytest.mark.parametrize(
    "dtype",
    ["int16", ">f8", np.float32, "S7", "U3", "M8[ns]", "bool", "c16", [("a", "i4"), ("b", "f8")]],
    ids=str,
)
def test_dtype(dtype):
    """Everything of a fixed size that numpy takes is a dtype."""
    assert as_dtype(dtype) == np.dtype(dtype)


def test_missing_dtype():
    """A shape without a dtype asks for one."""
    with pytest.raises(OptionError, match=r"does not say how large an element is; give dtype"):
        as_dtype(None)


@pytest.mark.parametrize(
    "dtype",
    ["int17", 5, "M8[foo]", {"names": ["a", "a"], "formats": ["i4", "i4"]}],
    ids=["unknown", "number", "unit", "repeated-field"],
)
def test_not_a_dtype(dtype):
    """What numpy does not know as a dtype is an OptionError that quotes it."""
    with pytest.raises(OptionError, match=r"^dtype=.* is not a numpy dtype"):
        as_dtype(dtype)


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("b", object)]], ids=str)
def test_object_dtype(dtype):
    """Elements that are Python objects are refused with what to do."""
    with pytest.raises(UnsupportedDtypeError, match=r"holds Python objects.*\.astype"):
        as_dtype(dtype)


def test_text_of_any_length():
    """Text of any length can be stored; a mark for missing text cannot."""
    text = np.dtypes.StringDType()
    assert as_dtype(text) == text
    assert as_dtype("T") == text
    for mark in (None, np.nan):
        with pytest.raises(UnsupportedDtypeError, match="has a mark for missing text"):
            as_dtype(np.dtypes.StringDType(na_object=mark))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, True),
        (-1, True),
        (np.int8(3), True),
        (np.uint64(3), True),
        (True, False),
        (np.True_, False),
        (3.0, False),
        (np.float64(3), False),
        ("3", False),
        (None, False),
    ],
    ids=repr,
)
def test_is_integer(value, expected):
    """Only whole numbers count, never booleans or floats."""
    assert is_integer(value) is expected


@given(
    shape=st.lists(st.integers(0, 10**9), max_size=8).map(tuple),
    dtype=st.sampled_from(["u1", "i2", "f8", "c16", "S13"]),
)
@settings(max_examples=200, deadline=None)
def test_nbytes(shape, dtype):
    """Bytes are elements times item size, exact beyond 64 bits."""
    nbytes = nbytes_of(shape, np.dtype(dtype))
    assert nbytes == math.prod(shape) * np.dtype(dtype).itemsize
    assert type(nbytes) is int
