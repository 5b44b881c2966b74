"""Rows as plain lists of arrays, and what compares them."""

import numpy as np

import lazyio


def ends(rows):
    """Return offsets of a list of arrays."""
    return np.concatenate([[0], np.cumsum([row.size for row in rows])]).astype(int)


def ragged(rows, *, shapes=False):
    """Return a list of arrays of int32 as rows of values and offsets."""
    values = np.concatenate([np.empty(0, "i4"), *(row.ravel() for row in rows)]).astype("i4")
    extents = np.array([row.shape for row in rows]).reshape(len(rows), -1) if shapes else None
    return lazyio.Ragged(values, ends(rows), extents)


def same(found, wanted):
    """Compare lists of arrays, shapes and dtypes included."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
