"""Chunks of fill value, against a comparison of all bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyio.codecs.workspace import Fill

DTYPES = ["bool", "u1", "<i2", ">f4", "f8", "c16", "S3", "S300", "U2", "M8[s]", "V5", "i2,f8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_value_is_zero(dtype):
    """Without a fill value it is what numpy's zeros hold."""
    dtype = np.dtype(dtype)
    assert Fill(None, dtype).is_all_of(np.zeros((3, 4), dtype))


@given(
    dtype=st.sampled_from(DTYPES),
    n_elements=st.integers(1, 20),
    at=st.integers(0, 19),
    value=st.integers(0, 3),
)
def test_one_other_element_is_seen(dtype, n_elements, at, value):
    """A chunk is all fill only if every byte is, wherever the odd one lies."""
    dtype = np.dtype(dtype)
    raw = np.zeros(n_elements * dtype.itemsize, np.uint8)
    raw[at * dtype.itemsize % raw.size] = value
    fill = Fill(None, dtype)
    assert fill.is_all_of(raw.view(dtype)) == (not raw.any())


def test_bits_are_compared():
    """A negative zero is not zero, and one NaN is itself."""
    assert not Fill(0.0, np.dtype("f8")).is_all_of(np.array([-0.0]))
    assert Fill(np.nan, np.dtype("f8")).is_all_of(np.full((2, 2), np.nan))


def test_a_chunk_without_elements():
    """There is nothing to be left out."""
    assert not Fill(0, np.dtype("i2")).is_all_of(np.empty((0, 3), "i2"))
