"""Regular grids: every box, every cut and every overlap against plain numpy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.errors import OptionError
from lazyio.regions import (
    as_region,
    box,
    box_shape,
    boxes,
    cuts,
    format_region,
    grid_shape,
    is_multiple,
    n_along,
    n_boxes,
    overlap,
)

axes = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 11)), max_size=3)


def painted(shape, regions):
    """Return how often each element lies in one of the regions."""
    counts = np.zeros(shape, int)
    for region in regions:
        counts[region] += 1
    return counts


@given(extent=st.integers(0, 200), step=st.integers(1, 250))
@settings(max_examples=200, deadline=None)
def test_n_along(extent, step):
    """The count of boxes along an axis is that of their starts."""
    assert n_along(extent, step) == len(range(0, extent, step))


def test_n_along_is_exact():
    """Counts beyond what floats hold are exact."""
    assert n_along(10**30 + 1, 10) == 10**29 + 1


@given(axes=axes)
@settings(max_examples=200, deadline=None)
def test_boxes_tile(axes):
    """Boxes cover every element once, in C order, and are as many as announced."""
    shape, step = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    found = list(boxes(shape, step))
    assert (painted(shape, found) == 1).all()
    assert len(found) == n_boxes(shape, step) == math.prod(grid_shape(shape, step))
    starts = [tuple(part.start for part in region) for region in found]
    assert starts == sorted(starts)


@given(axes=axes)
@settings(max_examples=100, deadline=None)
def test_box_is_the_box_at_its_index(axes):
    """One box by index is the same as that of the listing."""
    shape, step = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    indices = itertools.product(*map(range, grid_shape(shape, step)))
    assert [box(shape, step, index) for index in indices] == list(boxes(shape, step))


@given(edges=st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=3))
@settings(max_examples=200, deadline=None)
def test_cuts_tile(edges):
    """Cuts cover every element once and have the sizes that were given."""
    shape = tuple(map(sum, edges))
    found = list(cuts(edges))
    assert (painted(shape, found) == 1).all()
    assert [box_shape(region) for region in found] == list(itertools.product(*edges))


def test_box_shape():
    """The shape of a box is the length of its slices."""
    assert box_shape((slice(3, 9), slice(4, 4))) == (6, 0)


@given(data=st.data(), axes=axes.filter(lambda a: a and all(n for n, _ in a)))
@settings(max_examples=200, deadline=None)
def test_overlap(data, axes):
    """Both views of an overlap show the elements that region and box share."""
    shape, step = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    region = []
    for extent in shape:
        start = data.draw(st.integers(0, extent - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, extent))))
    region = tuple(region)
    array = np.arange(math.prod(shape)).reshape(shape)
    n_seen = 0
    for index in itertools.product(*map(range, grid_shape(shape, step))):
        whole = box(shape, step, index)
        if any(b.start >= r.stop or b.stop <= r.start for b, r in zip(whole, region, strict=True)):
            continue
        in_box, in_region = overlap(region, step, index)
        expected = np.intersect1d(array[whole], array[region])
        np.testing.assert_array_equal(np.sort(array[whole][in_box], axis=None), expected)
        np.testing.assert_array_equal(array[whole][in_box], array[region][in_region])
        n_seen += expected.size
    assert n_seen == array[region].size


@pytest.mark.parametrize(
    ("extent", "unit", "end", "expected"),
    [
        (8, 4, 100, True),
        (9, 4, 100, False),
        (9, 4, 9, True),
        (12, 4, 9, True),
        (10, 4, 9, True),
        (4, 4, 4, True),
        (3, 4, 4, False),
    ],
)
def test_is_multiple(extent, unit, end, expected):
    """An edge is good on a multiple of the unit and at the end of the axis."""
    assert is_multiple(extent, unit, end) is expected


part = st.one_of(
    st.integers(-7, 6),
    st.builds(slice, st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)),
)


@given(parts=st.lists(part, max_size=3), dots=st.none() | st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_as_region_is_numpy(parts, dots):
    """Regions select what numpy selects, integers kept as axes of one element."""
    shape = (7, 8, 9)
    array = np.arange(math.prod(shape)).reshape(shape)
    region = list(parts)
    if dots is not None:
        region.insert(min(dots, len(parts)), Ellipsis)
    region = tuple(region)
    found = as_region(region, shape)
    assert len(found) == len(shape)
    assert all(0 <= p.start <= p.stop <= n for p, n in zip(found, shape, strict=True))
    np.testing.assert_array_equal(array[found].ravel(), array[region].ravel())


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (2, (slice(2, 3), slice(0, 5))),
        (np.int64(-1), (slice(3, 4), slice(0, 5))),
        (slice(1, 3), (slice(1, 3), slice(0, 5))),
        (Ellipsis, (slice(0, 4), slice(0, 5))),
        ((), (slice(0, 4), slice(0, 5))),
        ((Ellipsis, 0), (slice(0, 4), slice(0, 1))),
        ((slice(3, 1), slice(None)), (slice(3, 3), slice(0, 5))),
        ((slice(2, 99), slice(-2, None)), (slice(2, 4), slice(3, 5))),
    ],
    ids=["int", "numpy", "slice", "dots", "empty", "dots-int", "backwards", "beyond"],
)
def test_as_region(region, expected):
    """Short forms are completed to one slice per axis."""
    assert as_region(region, (4, 5)) == expected


def test_as_region_of_a_scalar():
    """An array of no axis has one region."""
    assert as_region((), ()) == as_region(Ellipsis, ()) == ()


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((0, 0, 0), r"has 3 axes, the array has shape \(4, 5\)"),
        ((0, Ellipsis, 0, 0), r"axes, the array has shape \(4, 5\)"),
        (slice(None, None, 2), r"region step 2 is not 1"),
        (slice(None, None, -1), r"region step -1 is not 1"),
        (4, r"index 4 is outside an axis of 4 elements"),
        (-5, r"index -5 is outside an axis of 4 elements"),
        ((0, 5), r"index 5 is outside an axis of 5 elements"),
    ],
    ids=["rank", "rank-dots", "step", "reverse", "high", "low", "second"],
)
def test_refused_regions(region, message):
    """Regions that no box is are refused with the reason."""
    with pytest.raises(OptionError, match=message):
        as_region(region, (4, 5))


@pytest.mark.parametrize("region", [1.5, None, [0, 2], "a", (Ellipsis, Ellipsis)], ids=repr)
def test_refused_kinds_of_region(region):
    """What is neither integer, slice nor Ellipsis is an OptionError, never rounded."""
    with pytest.raises(OptionError, match=r"region|index"):
        as_region(region, (4, 5))


@pytest.mark.parametrize(
    ("region", "text"),
    [((), "[]"), ((slice(0, 10),), "[0:10]"), ((slice(0, 2), slice(3, 4)), "[0:2, 3:4]")],
    ids=["0-d", "1-d", "2-d"],
)
def test_format_region(region, text):
    """A region is written as numpy would take it."""
    assert format_region(region) == text
