"""Chunks that reach beyond an array: their extents, and the memory that they take."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazyio
from lazyio.errors import PlanError
from lazyio.planning import ArraySpec, PlanRequest, solve
from lazyio.planning.request import extents_asked


def planned(shape, *, max_shape, **request):
    """Return the plan of an array that may grow."""
    facts = ArraySpec(shape=shape, dtype=np.dtype("f8"), max_shape=max_shape)
    return solve(facts, PlanRequest(**request))


@given(st.data())
def test_chunks_fit_what_the_array_may_become(data):
    """As they were asked for, within the bounds; else the plan's, of at least some elements."""
    ndim = data.draw(st.integers(1, 4))
    extents = st.integers(0, 50)
    shape = tuple(data.draw(extents) for _ in range(ndim))
    bounds = [data.draw(st.none() | st.integers(n, n + 60)) for n in shape]
    asked = [data.draw(st.none() | st.integers(1, 90)) for _ in shape]
    plan = lazyio.plan(shape, "f8", chunks=tuple(asked))
    widened = planned(shape, max_shape=tuple(bounds), chunks=tuple(asked))
    found = widened.chunk_shape
    for extent, chunk, bound, wish, was in zip(
        shape, found, bounds, asked, plan.chunk_shape, strict=True
    ):
        is_growing = bound is None or bound > extent
        assert chunk >= 1
        if not is_growing:
            assert chunk == was
        elif wish is not None:
            assert chunk == (wish if bound is None else min(wish, bound))
        elif extent:
            assert chunk == was
        else:
            assert chunk <= (1024 if bound is None else min(bound, 1024))
    assert widened.peak_nbytes <= widened.memory_limit
    more = math.prod(found) - math.prod(plan.chunk_shape)
    are_blocks_alike = widened.block_shape == plan.block_shape
    if more > 0 and widened.workers == plan.workers and are_blocks_alike:
        assert widened.peak_nbytes >= plan.peak_nbytes + plan.workers * 4 * 8 * more


def test_fewer_workers_before_a_refusal():
    """Unless the user said how many."""
    shape, limit = (4000, 1000), 4_000_000

    def grown(length, *, memory_limit=limit, is_fixed=False):
        return planned(
            shape,
            max_shape=(None, 1000),
            chunks=(length, 1000),
            memory_limit=memory_limit,
            workers=4,
            workers_fixed=is_fixed,
        )

    assert grown(10).workers == grown(15).workers == 4
    assert grown(20).workers == 3
    with pytest.raises(PlanError, match=r"4 workers needs .*smallest limit that would") as caught:
        grown(20, is_fixed=True)
    needed = int(str(caught.value).rpartition("=")[2])
    assert grown(20, memory_limit=needed, is_fixed=True).peak_nbytes <= needed
    with pytest.raises(PlanError, match="smallest limit that would"):
        grown(20, memory_limit=needed - 1, is_fixed=True)
    with pytest.raises(PlanError, match="1 worker needs "):
        grown(5000)


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ("auto", [None, None]),
        (None, [None, None]),
        (True, [None, None]),
        (7, [7, 7]),
        ((5, "auto"), [5, None]),
        ([-1, None], [None, None]),
        ({0: 5}, [5, None]),
        ({-1: 5}, [None, 5]),
        ({"y": 5}, [None, 5]),
        ({"x": -1, "y": 3}, [None, 3]),
    ],
)
def test_extents_that_were_asked_for(chunks, found):
    assert extents_asked(chunks, (9, 9), ("x", "y")) == found


def test_extents_of_a_plan():
    plan = lazyio.plan((10, 10), "i2", chunks=(4, 5))
    assert extents_asked(plan, (10, 10)) == [4, 5]
