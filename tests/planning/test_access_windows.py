"""Access windows: every form that they may be given in, and those that cannot be."""

import numpy as np
import pytest

from lazyio.errors import OptionError
from lazyio.planning.access import as_windows

SHAPE = (700, 384)


def found(access, shape=SHAPE, dims=()):
    """Return shapes and weights of the windows that something describes."""
    return [(window.shape, window.weight) for window in as_windows(access, shape, dims)]


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (None, []),
        ((30, 1), [((30, 1), 1)]),
        ([30, 1], [((30, 1), 1)]),
        ([(30, 1), (1, 384)], [((30, 1), 1), ((1, 384), 1)]),
        (((30, 1), (1, 384)), [((30, 1), 1), ((1, 384), 1)]),
        ([[30, 1], [1, 384]], [((30, 1), 1), ((1, 384), 1)]),
        (np.array([[30, 1], [1, 384]]), [((30, 1), 1), ((1, 384), 1)]),
        ([((30, 1), 2), ((1, 384), 0.5)], [((30, 1), 2), ((1, 384), 0.5)]),
        ([((30, 1), 2), (1, 384)], [((30, 1), 2), ((1, 384), 1)]),
        (((30, 1), 2.5), [((30, 1), 2.5)]),
        ((-1, 1), [((700, 1), 1)]),
        ((None, 1), [((700, 1), 1)]),
        ((10**9, 10**9), [((700, 384), 1)]),
        ((np.int64(30), np.uint8(1)), [((30, 1), 1)]),
        ({1: 1}, [((700, 1), 1)]),
        ([({-2: 5}, 3)], [((5, 384), 3)]),
    ],
    ids=repr,
)
def test_spellings(access, expected):
    """Every form gives the windows that it says, cut to the array, in Python's numbers."""
    assert found(access) == expected
    for shape, weight in found(access):
        assert {type(extent) for extent in shape} == {int}
        assert type(weight) is float


@pytest.mark.parametrize(
    ("access", "shape", "expected"),
    [
        (5, (10,), [((5,), 1)]),
        ((5,), (10,), [((5,), 1)]),
        ([5, 2], (10,), [((5,), 1), ((2,), 1)]),
        ([(5,), (2,)], (10,), [((5,), 1), ((2,), 1)]),
        ((), (), [((), 1)]),
        ([()], (), [((), 1)]),
        ((3, -1), (0, 5), [((1, 5), 1)]),
    ],
    ids=repr,
)
def test_windows_of_few_axes(access, shape, expected):
    """One axis takes plain numbers, none takes the empty window, an empty one counts as 1."""
    assert found(access, shape) == expected


def test_names_of_dimensions():
    """Windows may be given by dimension, the others whole."""
    assert found([{"channel": 1}], dims=("time", "channel")) == [((700, 1), 1)]
    with pytest.raises(OptionError, match=r"access names axis 'x'.*\('time', 'channel'\)"):
        as_windows([{"x": 1}], SHAPE, ("time", "channel"))


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (5, r"window \(5,\) of 1 axes, the array's shape \(700, 384\) has 2"),
        ((1, 2, 3), r"window \(1, 2, 3\) of 3 axes"),
        ([(1, 2), (3,)], r"window \(3,\) of 1 axes"),
        ((0, 1), r"extent 0; an extent is an integer of at least 1, or -1 or None"),
        ((-2, 1), r"extent -2"),
        ([(1.5, 1)], r"extent 1\.5"),
        ([(True, 1)], r"extent True"),
        ([("9", 1)], r"extent '9'"),
        ([((30, 1), 0)], r"the weight 0; a weight is a number above 0"),
        ([((30, 1), -1)], r"the weight -1"),
        ([((30, 1), float("nan"))], r"the weight nan"),
        ([((30, 1), float("inf"))], r"the weight inf"),
        ([((30, 1), "2")], r"the weight '2'"),
        ([((30, 1), True)], r"the weight True"),
        ([], r"access=\[\] holds no window; give window shapes such as"),
        ("rows", r"access='rows' is no window"),
        (["rows"], r"access holds 'rows', which is no window"),
        (2.5, r"access=2\.5 is no window"),
        ({2: 5}, r"access names axis 2; the array has 2 axes and it has no named dimensions"),
    ],
    ids=repr,
)
def test_windows_that_cannot_be(access, message):
    """Ranks, extents and weights that cannot be are refused by name."""
    with pytest.raises(OptionError, match=message):
        as_windows(access, SHAPE)
