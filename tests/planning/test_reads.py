"""What blocks cost a chunked source, against a listing of every block and chunk."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.blocks import elements_read, read_amplification, run_amplification, touches

axis = st.tuples(st.integers(0, 60), st.integers(1, 70), st.integers(1, 70))


def intervals(extent, step):
    """Return the pieces of an axis as ranges."""
    return [range(start, min(start + step, extent)) for start in range(0, extent, step)]


def overlapping(extent, block, chunk):
    """Return every pair of a block and a chunk that share elements."""
    pairs = itertools.product(intervals(extent, block), intervals(extent, chunk))
    return [(b, c) for b, c in pairs if b.start < c.stop and c.start < b.stop]


@given(axis=axis)
@settings(max_examples=500, deadline=None)
def test_touches(axis):
    """The closed form counts the overlapping pairs of a listing."""
    assert touches(*axis) == len(overlapping(*axis))


@given(axis=axis)
@settings(max_examples=500, deadline=None)
def test_elements_read(axis):
    """Every touched chunk is read whole, the last one as far as the axis goes."""
    assert elements_read(*axis) == sum(len(chunk) for _, chunk in overlapping(*axis))


@given(axes=st.lists(axis, max_size=3))
@settings(max_examples=300, deadline=None)
def test_read_amplification(axes):
    """Chunks read by all blocks over the array's elements, in any number of axes."""
    shape, block, chunk = ([column[i] for column in axes] for i in range(3))
    read = 0
    pairs = [overlapping(*one) for one in axes]
    for combination in itertools.product(*pairs):
        read += math.prod(len(touched) for _, touched in combination)
    total = math.prod(shape)
    expected = read / total if total else 1.0
    assert read_amplification(tuple(shape), tuple(block), tuple(chunk)) == pytest.approx(expected)


@given(extent=st.integers(1, 10**12), chunk=st.integers(1, 10**9), multiple=st.integers(1, 10**6))
@settings(max_examples=200, deadline=None)
def test_nothing_is_read_twice_by_blocks_of_whole_chunks(extent, chunk, multiple):
    """Blocks of whole chunks, and one block over the axis, read each element once."""
    assert elements_read(extent, chunk * multiple, chunk) == extent
    assert elements_read(extent, extent, chunk) == extent


def test_read_amplification_of_no_elements():
    """An array without elements costs nothing extra."""
    assert read_amplification((0, 5), (1, 2), (1, 3)) == 1.0
    assert read_amplification((), (), ()) == 1.0


@pytest.mark.parametrize(
    ("shape", "block", "itemsize", "expected"),
    [
        ((700_000, 384), (1000, 384), 2, 1.0),
        ((700_000, 384), (1000, 1), 2, 384.0),
        ((700_000, 384), (1000, 192), 2, 2.0),
        ((10, 10**6), (10, 10**5), 8, 1.0),
        ((4, 6, 8), (4, 6, 8), 1, 1.0),
        ((400, 600, 800), (2, 600, 800), 1, 1.0),
        ((), (), 8, 1.0),
        ((0, 5), (1, 5), 4, 1.0),
    ],
    ids=["rows", "columns", "half-rows", "long-runs", "whole", "slab", "0-d", "empty"],
)
def test_run_amplification(shape, block, itemsize, expected):
    """Narrow blocks cost a page per run, and never more than whole rows do."""
    assert run_amplification(shape, block, itemsize) == pytest.approx(expected)


@given(
    axes=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=4),
    itemsize=st.sampled_from([1, 2, 8]),
)
@settings(max_examples=300, deadline=None)
def test_run_amplification_is_at_least_one(axes, itemsize):
    """Reading never costs less than the bytes that are wanted."""
    shape = tuple(extent for extent, _ in axes)
    block = tuple(min(axis) for axis in axes)
    found = run_amplification(shape, block, itemsize)
    assert found >= 1.0
    if block[1:] == shape[1:] and math.prod(block) * itemsize >= 2**16:
        assert found == 1.0
