"""Block shapes: whole units within the room, well used, cheap for the source."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.blocks import (
    TASK_NBYTES,
    align_blocks,
    elements_read,
    fill_blocks,
    read_amplification,
)
from lazyio.regions import n_boxes

axis = st.tuples(st.integers(0, 5000), st.integers(1, 300))
room_share = st.floats(0, 1.2)


def split(axes):
    """Return the shape and the unit of axes, units cut at the end of the axis."""
    shape = tuple(extent for extent, _ in axes)
    unit = tuple(min(step, max(1, extent)) for extent, step in axes)
    return shape, unit


def check_units(shape, unit, block):
    """Check that a block is whole units, or the whole axis, in Python integers."""
    for extent, step, edge in zip(shape, unit, block, strict=True):
        assert type(edge) is int
        assert 1 <= edge <= max(1, extent)
        assert edge % step == 0 or edge == extent


@given(axes=st.lists(axis, max_size=6), share=room_share)
@settings(max_examples=500, deadline=None)
def test_blocks_are_whole_units_within_the_room(axes, share):
    """A block is never over the room, unless one unit is."""
    shape, unit = split(axes)
    room = int(share * math.prod(shape))
    block = fill_blocks(shape, unit, room)
    check_units(shape, unit, block)
    assert math.prod(block) <= max(room, math.prod(unit))


@given(axes=st.lists(axis, min_size=1, max_size=6), share=room_share)
@settings(max_examples=500, deadline=None)
def test_half_of_the_room_is_used(axes, share):
    """A block takes at least half of the room where the array exceeds it, else the array."""
    shape, unit = split(axes)
    room = int(share * math.prod(shape))
    block = fill_blocks(shape, unit, room)
    if math.prod(shape) > room:
        assert 2 * math.prod(block) >= room
    elif math.prod(shape):
        assert block == shape


def test_half_of_the_room_is_used_in_many_random_cases():
    """No seeded case of large arrays with arbitrary units falls below one half."""
    rng = random.Random(3)
    for _ in range(4000):
        ndim = rng.randint(1, 5)
        shape = tuple(int(math.exp(rng.uniform(0, 16))) for _ in range(ndim))
        unit = tuple(rng.randint(1, extent) for extent in shape)
        room = rng.randint(math.prod(unit), math.prod(shape))
        block = fill_blocks(shape, unit, room)
        assert math.prod(unit) <= math.prod(block) <= room
        assert 2 * math.prod(block) >= min(room, math.prod(shape))


@pytest.mark.parametrize(
    ("shape", "unit", "room", "block"),
    [
        ((), (), 100, ()),
        ((0,), (1,), 100, (1,)),
        ((0, 7), (1, 7), 3, (1, 7)),
        ((100, 10), (10, 10), 0, (10, 10)),
        ((100, 10), (10, 10), 450, (40, 10)),
        ((100, 10), (10, 5), 60, (10, 5)),
        ((90,), (10,), 80, (50,)),
        ((20_000, 5000), (1000, 250), 10**9, (20_000, 5000)),
    ],
    ids=["0-d", "empty", "empty-axis", "no-room", "rows", "units", "even", "whole"],
)
def test_fill_blocks(shape, unit, room, block):
    """Whole trailing axes first, then as many units as fit, evenly spread."""
    assert fill_blocks(shape, unit, room) == block


source_axis = st.tuples(st.integers(1, 3000), st.integers(1, 200), st.integers(1, 400))


def cost(shape, block, source_chunk, itemsize):
    """Return bytes decoded, a task counted as its equal in bytes."""
    read = math.prod(map(elements_read, shape, block, source_chunk)) * itemsize
    return read + TASK_NBYTES * n_boxes(shape, block)


@given(
    axes=st.lists(source_axis, min_size=1, max_size=4),
    share=room_share,
    itemsize=st.sampled_from([1, 8, 4096, 2**20]),
)
@settings(max_examples=250, deadline=None)
def test_aligned_blocks(axes, share, itemsize):
    """Aligned blocks are whole units within the room, never dearer than the plain ones."""
    shape, unit = split([(extent, step) for extent, step, _ in axes])
    source_chunk = tuple(chunk for _, _, chunk in axes)
    room = int(share * math.prod(shape))
    block = align_blocks(shape, unit, source_chunk, room, itemsize)
    plain = fill_blocks(shape, unit, room)
    check_units(shape, unit, block)
    assert math.prod(block) <= max(room, math.prod(unit))
    assert cost(shape, block, source_chunk, itemsize) <= cost(shape, plain, source_chunk, itemsize)


def test_aligned_blocks_are_near_the_cheapest_there_are():
    """On small arrays the cost is that of the best of all blocks, or little above."""
    rng = random.Random(11)
    ratios = []
    while len(ratios) < 200:
        ndim = rng.randint(1, 3)
        shape = tuple(rng.randint(2, (400, 60, 24)[ndim - 1]) for _ in range(ndim))
        unit = tuple(rng.randint(1, max(1, extent // 3)) for extent in shape)
        source_chunk = tuple(rng.randint(1, extent) for extent in shape)
        room = rng.randint(math.prod(unit), math.prod(shape))
        itemsize = rng.choice([2**10, 2**14, 2**18])
        extents = [
            sorted({min(step * n, extent) for n in range(1, -(-extent // step) + 1)})
            for extent, step in zip(shape, unit, strict=True)
        ]
        best = min(
            cost(shape, block, source_chunk, itemsize)
            for block in itertools.product(*extents)
            if math.prod(block) <= room
        )
        block = align_blocks(shape, unit, source_chunk, room, itemsize)
        assert math.prod(block) <= room
        ratio = cost(shape, block, source_chunk, itemsize) / best
        assert ratio >= 1
        plain = fill_blocks(shape, unit, room)
        if read_amplification(shape, plain, source_chunk) > 1:
            ratios.append(ratio)
    ratios.sort()
    assert ratios[len(ratios) // 2] == 1.0
    assert ratios[len(ratios) * 95 // 100] <= 1.05
    assert ratios[-1] <= 1.4


def test_frames_are_not_read_twice():
    """A source of single frames is read once, though 32 MiB are no multiple of the chunk."""
    shape, source_chunk = (780, 144, 192), (1, 144, 192)
    block = align_blocks(shape, (30, 144, 192), source_chunk, 2**22, 4)
    assert read_amplification(shape, block, source_chunk) == 1.0


def test_blocks_reach_over_source_chunks_that_fit():
    """Blocks in C order would decode each tall chunk many times; aligned ones do once."""
    shape, unit, source_chunk = (100_000, 64), (1000, 1), (50_000, 1)
    plain = fill_blocks(shape, unit, 200_000)
    block = align_blocks(shape, unit, source_chunk, 200_000, 8)
    assert read_amplification(shape, plain, source_chunk) > 10
    assert read_amplification(shape, block, source_chunk) == 1.0


def test_no_elements():
    """An array without elements has a block, and costs no search."""
    assert align_blocks((0, 5), (1, 5), (3, 3), 100, 8) == (1, 5)
