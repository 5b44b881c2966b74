"""A layout cannot be built so that a unit has two writers."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.errors import PlanError
from lazyio.planning.layout import Layout
from lazyio.regions import boxes


def blocks_of(chunk, block_shape):
    """Return the blocks that a chunk has elements in."""
    axes = [
        range(part.start // edge, (part.stop - 1) // edge + 1)
        for part, edge in zip(chunk, block_shape, strict=True)
    ]
    return list(itertools.product(*axes))


axes = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 32), st.integers(1, 64)), min_size=1, max_size=3
)


@given(axes=axes)
@settings(max_examples=500, deadline=None)
def test_one_writer_per_chunk(axes):
    """A layout that can be built has each chunk in one block; one that cannot does not."""
    shape, chunk_shape, block_shape = (tuple(axis[i] for axis in axes) for i in range(3))
    lies_in = [len(blocks_of(chunk, block_shape)) for chunk in boxes(shape, chunk_shape)]
    facts = {"shape": shape, "chunk_shape": chunk_shape, "block_shape": block_shape}
    uneven = [axis for axis, (end, step, edge) in enumerate(axes) if edge % step and edge < end]
    if uneven:
        with pytest.raises(PlanError, match=f"on axis {uneven[0]}; use "):
            Layout(**facts)
    else:
        assert Layout(**facts).unit_shape == chunk_shape
        assert set(lies_in) == {1}


@given(axes=axes, multiples=st.lists(st.integers(1, 3), min_size=3, max_size=3))
@settings(max_examples=300, deadline=None)
def test_one_writer_per_shard(axes, multiples):
    """With shards, each shard lies in one block and each chunk in one shard."""
    shape, chunk_shape, block_shape = (tuple(axis[i] for axis in axes) for i in range(3))
    shard_shape = tuple(n * step for n, step in zip(multiples, chunk_shape, strict=False))
    facts = {"shape": shape, "chunk_shape": chunk_shape, "shard_shape": shard_shape}
    tiles = [
        edge % step == 0 or edge >= end
        for end, step, edge in zip(shape, shard_shape, block_shape, strict=True)
    ]
    if not all(tiles):
        with pytest.raises(PlanError, match=r"block_shape .* is not a multiple of shard_shape"):
            Layout(**facts, block_shape=block_shape)
    else:
        layout = Layout(**facts, block_shape=block_shape)
        assert layout.unit_shape == shard_shape
        assert all(len(blocks_of(s, block_shape)) == 1 for s in boxes(shape, shard_shape))
        assert all(len(blocks_of(c, shard_shape)) == 1 for c in boxes(shape, chunk_shape))


@pytest.mark.parametrize(
    ("extent", "chunk", "block", "message"),
    [
        (100, 8, 50, r"use 48 or 56, or the whole axis \(100\)"),
        (100, 8, 3, r"use 8, or the whole axis \(100\)"),
        (100, 40, 90, r"use 80, or the whole axis \(100\)"),
        (100, 64, 99, r"use 64, or the whole axis \(100\)"),
        (10_000, 1000, 9999, r"use 9000, or the whole axis \(10000\)"),
    ],
    ids=["between", "below-one", "near-the-end", "past-the-end", "long"],
)
def test_message_names_the_nearest(extent, chunk, block, message):
    """The message says which extents near the given one would do."""
    with pytest.raises(PlanError, match=rf"block_shape \({block},\) is not .* axis 0; {message}"):
        Layout(shape=(extent,), chunk_shape=(chunk,), block_shape=(block,))


@given(extent=st.integers(2, 60), chunk=st.integers(1, 60), block=st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_named_extents_would_do(extent, chunk, block):
    """Whatever extents the message names can be built."""
    try:
        Layout(shape=(extent,), chunk_shape=(chunk,), block_shape=(block,))
    except PlanError as error:
        named = str(error).partition("use ")[2].partition(", or the whole")[0].split(" or ")
        for edge in (*map(int, named), extent):
            Layout(shape=(extent,), chunk_shape=(chunk,), block_shape=(edge,))


def test_shard_of_uneven_chunks():
    """A shard that its chunk does not tile is refused under its own name."""
    with pytest.raises(PlanError, match=r"shard_shape \(20,\) is not a multiple of chunk_shape"):
        Layout(shape=(100,), chunk_shape=(8,), shard_shape=(20,), block_shape=(100,))


@pytest.mark.parametrize(
    ("extents", "message"),
    [
        ({"chunk_shape": (8,)}, r"chunk_shape \(8,\) has 1 axes, the array's shape \(100, 10\)"),
        ({"block_shape": (8, 1, 1)}, r"block_shape \(8, 1, 1\) has 3 axes"),
        ({"shard_shape": (8,)}, r"shard_shape \(8,\) has 1 axes"),
        ({"chunk_shape": (0, 10)}, r"chunk_shape \(0, 10\) has an extent below 1"),
        ({"block_shape": (8, -10)}, r"block_shape \(8, -10\) has an extent below 1"),
    ],
    ids=["chunk-rank", "block-rank", "shard-rank", "chunk-zero", "block-negative"],
)
def test_shapes_that_cannot_be(extents, message):
    """Ranks that differ and extents below 1 are refused by name."""
    good = {"shape": (100, 10), "chunk_shape": (8, 10), "block_shape": (16, 10)}
    with pytest.raises(PlanError, match=message):
        Layout(**good | extents)


@pytest.mark.parametrize("shape", [(), (0,), (0, 5)], ids=str)
def test_arrays_without_elements(shape):
    """No axis and no elements have a layout, too."""
    unit = tuple(max(1, extent) for extent in shape)
    assert Layout(shape=shape, chunk_shape=unit, block_shape=unit).unit_shape == unit


def test_layout_is_frozen():
    """A layout cannot be bent after it was checked."""
    layout = Layout(shape=(10,), chunk_shape=(5,), block_shape=(10,))
    with pytest.raises(AttributeError, match="cannot assign"):
        layout.block_shape = (7,)
