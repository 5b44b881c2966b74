"""Chunks inside given blocks, against a listing of which block each chunk lies in."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.boundaries import chunk_shape_within, common_step, divides_steps


def blocks_of_elements(sizes):
    """Return for each element of an axis the number of its block."""
    return [number for number, size in enumerate(sizes) for _ in range(size)]


def crosses(sizes, chunk):
    """Return whether a chunk of the axis lies in two blocks."""
    owner = blocks_of_elements(sizes)
    return any(len(set(owner[start : start + chunk])) > 1 for start in range(0, len(owner), chunk))


sizes = st.lists(st.integers(0, 12), min_size=1, max_size=5)


@given(sizes=sizes)
@settings(max_examples=300, deadline=None)
def test_common_step_is_the_largest(sizes):
    """The step and its divisors cut no boundary; nothing larger below the axis does so."""
    extent = sum(sizes)
    step = common_step(sizes, extent)
    assert step >= 1
    good = [chunk for chunk in range(1, extent + 1) if not crosses(sizes, chunk)]
    inner = [chunk for chunk in good if chunk < extent]
    whole = len([size for size in sizes if size]) < 2
    if not whole:
        assert inner == [chunk for chunk in range(1, extent) if step % chunk == 0]
    elif extent:
        assert step == extent


@pytest.mark.parametrize(
    ("sizes", "step"),
    [
        ((100, 100, 50), 100),
        ((100, 60, 90), 20),
        ((250,), 250),
        ((0, 250, 0), 250),
        ((0,), 1),
        ((1, 1, 1), 1),
        ((6, 0, 4, 0), 6),
    ],
    ids=["regular", "irregular", "whole", "zero-length", "empty", "ones", "zero-inside"],
)
def test_common_step(sizes, step):
    """Only inner boundaries count; blocks without elements have none."""
    assert common_step(sizes, sum(sizes)) == step


@given(axes=st.lists(st.tuples(sizes, st.integers(1, 30)), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_divides_steps_means_no_chunk_in_two_blocks(axes):
    """What divides the steps never crosses a boundary, also where it spans the axis."""
    shape = tuple(sum(sizes) for sizes, _ in axes)
    steps = tuple(common_step(sizes, sum(sizes)) for sizes, _ in axes)
    chunk = tuple(wish for _, wish in axes)
    if divides_steps(chunk, steps, shape):
        assert not any(crosses(sizes, wish) for sizes, wish in axes)


def product_of_divisors(steps, room, n_blocks):
    """Return every chunk within the room: of divisors, or any where there is one block."""
    is_open = n_blocks == 1
    choices = [[d for d in range(1, step + 1) if is_open or step % d == 0] for step in steps]
    return [chunk for chunk in itertools.product(*choices) if math.prod(chunk) <= room]


@given(
    steps=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    n_blocks=st.integers(1, 5),
    itemsize=st.sampled_from([1, 2, 8]),
    limit=st.integers(1, 50_000),
)
@settings(max_examples=300, deadline=None)
def test_chunk_divides_and_fits(steps, n_blocks, itemsize, limit):
    """The chunk divides the steps, fits the limit and is among the larger that do."""
    shape = tuple(step * n_blocks for step in steps)
    chunk = chunk_shape_within(steps, shape, itemsize, limit, least_nbytes=1)
    room = max(1, limit // itemsize)
    choices = product_of_divisors(steps, room, n_blocks)
    assert chunk in choices
    best = max(map(math.prod, choices))
    assert math.prod(chunk) * 5 >= best


@given(
    steps=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    n_blocks=st.integers(1, 5),
    limit=st.integers(1, 2**20),
)
@settings(max_examples=200, deadline=None)
def test_a_chunk_is_useful_or_there_is_none(steps, n_blocks, limit):
    """Chunks are 64 KiB, a quarter of the limit or the whole array; else ``None``."""
    shape = tuple(step * n_blocks for step in steps)
    chunk = chunk_shape_within(steps, shape, 8, limit)
    useful = min(2**16, limit // 4, math.prod(shape) * 8)
    if chunk is not None:
        assert divides_steps(chunk, steps, shape)
        assert math.prod(chunk) * 8 >= useful
        assert math.prod(chunk) * 8 <= max(limit, 8)


@pytest.mark.parametrize(
    ("fixed", "chunk"),
    [
        ((None, None), (250, 200)),
        ((500, None), (500, 100)),
        ((None, 400), (125, 400)),
        ((100, 50), (100, 50)),
        ((300, None), None),
        ((None, 7), None),
    ],
    ids=["free", "first", "last", "both", "first-across", "last-across"],
)
def test_fixed_extents(fixed, chunk):
    """Fixed extents stand where they divide the blocks; where not there is no chunk."""
    assert chunk_shape_within((1000, 400), (2500, 400), 2, 100_000, fixed) == chunk


def test_users_own_chunk_may_be_tiny():
    """What the user fixed on every axis is taken, however small."""
    assert chunk_shape_within((1000, 400), (2500, 400), 2, 100_000, (1, 1)) == (1, 1)


def test_fixed_over_the_limit_leaves_ones():
    """Fixed extents over the limit leave 1 to the free axes."""
    found = chunk_shape_within((1000, 400), (2500, 400), 2, 100, (None, 400), least_nbytes=1)
    assert found == (1, 400)


def test_no_axis():
    """An array of no axis has the chunk of no axis."""
    assert chunk_shape_within((), (), 8, 2**20) == ()
