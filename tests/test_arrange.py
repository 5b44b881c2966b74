"""An array on its way to a target: read how, and cut how."""

import dask.array as da
import numpy as np
import pytest

from lazyio.inputs import recognise
from lazyio.regions import rows_of
from lazyio.writing.array_plan import expanded


def test_axes_that_are_put_in():
    """An array keeps its values where an integer stands in its region."""
    for data in (np.arange(6).reshape(2, 3), da.arange(6, chunks=2).reshape(2, 3)):
        grown = expanded(recognise(data), (0, 2))
        assert grown.shape == (1, 2, 1, 3)
        assert (grown.array.compute().ravel() == np.arange(6)).all()
    given = recognise(np.ones(3))
    assert expanded(given, ()) is given


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((), ()),
        ((0, 5), (1, 5)),
        ((7,), (7,)),
        ((1000, 64), (128, 64)),
        ((3, 5000, 4), (1, 2048, 4)),
    ],
)
def test_runs_of_an_array_without_chunks(shape, rows):
    assert rows_of(shape, 2, 2**14) == rows
