"""Shares of blocks, as ranks of MPI have them: each block is one rank's, and none has much more."""

import math

import dask.array as da
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lazyio.errors import BlockError, TargetExistsError
from lazyio.execution.ranks import Failure, Own, RankPart, _divided, sizes_of
from lazyio.regions import box_shape

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)


@given(st.lists(SIZES, max_size=3).map(tuple), st.integers(1, 7), st.data())
def test_each_block_is_computed_once(edges, n_ranks, data):
    """Whatever is there already, all other blocks are divided in runs."""
    shape = tuple(map(sum, edges))
    part = RankPart(corner=(0,) * len(shape), shape=shape, edges=edges)
    regions = list(part.regions())
    wanted = data.draw(st.sets(st.integers(0, len(regions) - 1)))
    numbers = np.asarray(sorted(wanted), np.int64)
    shares = _divided(numbers, part, n_ranks)
    assert len(shares) == n_ranks
    assert np.concatenate(shares).tolist() == sorted(wanted)
    sizes = [[math.prod(box_shape(regions[number])) for number in one] for one in shares]
    fair = sum(map(sum, sizes)) / n_ranks
    largest = max((size for one in sizes for size in one), default=0)
    assert max(map(sum, sizes)) <= fair + largest


@given(SIZES, SIZES, st.sets(st.integers(0, 3)))
def test_axes_of_one_element_are_put_in(rows, columns, axes):
    """Data that has not all axes of its target gets them, wherever they are."""
    x = np.arange(sum(rows) * sum(columns)).reshape(sum(rows), sum(columns))
    edges, expected = [rows, columns], x
    for axis in sorted(axes):
        if axis <= expected.ndim:
            edges.insert(axis, (1,))
            expected = np.expand_dims(expected, axis)
    own = Own(source=None, array=da.from_array(x, chunks=3))
    found = own.blocks(tuple(edges))
    assert sizes_of(found.chunks) == tuple(edges)
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), expected)


def test_errors_travel():
    """An error comes as it is; one of a class that is not known there still says the same."""

    class OwnError(Exception):
        pass

    known, unknown = TargetExistsError(17, "it is there"), OwnError("no idea")
    for error in (known, unknown):
        error.add_note("on rank 3 of 4")
    found = Failure.of(known).error()
    assert type(found) is TargetExistsError
    assert (str(found), found.errno, found.__notes__) == ("it is there", 17, ["on rank 3 of 4"])
    found = Failure.of(unknown).error()
    assert type(found) is BlockError
    assert (str(found), found.__notes__) == ("OwnError: no idea", ["on rank 3 of 4"])
