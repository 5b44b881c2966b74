"""Chunks that reach beyond an array: their extents, and the memory that they take."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazyio
from lazyio.errors import PlanError
from lazyio.planning.chunks import extents_asked, growing_chunk_shape, with_chunks


@given(st.data())
def test_chunks_fit_what_the_array_may_become(data):
    """As they were asked for, within the bounds; else the plan's, of at least some elements."""
    ndim = data.draw(st.integers(1, 4))
    extents = st.integers(0, 50)
    shape = tuple(data.draw(extents) for _ in range(ndim))
    bounds = [data.draw(st.none() | st.integers(n, n + 60)) for n in shape]
    asked = [data.draw(st.none() | st.integers(1, 90)) for _ in shape]
    plan = lazyio.plan(shape, "f8", chunks=tuple(asked))
    found = growing_chunk_shape(plan, bounds, asked, 2**20)
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
    widened = with_chunks(plan, found)
    assert widened.chunk_shape == found
    assert widened.peak_nbytes <= widened.memory_limit
    assert widened.block_shape == plan.block_shape
    more = math.prod(found) - math.prod(plan.chunk_shape)
    if more > 0 and widened.workers == plan.workers:
        assert widened.peak_nbytes >= plan.peak_nbytes + plan.workers * 4 * 8 * more


def test_fewer_workers_before_a_refusal():
    """Unless the user said how many."""
    options = {"workers": 4, "chunks": (10, 1000)}
    plan = lazyio.plan((10, 1000), "f8", memory_limit="4 MB", **options)
    assert plan.workers == with_chunks(plan, (15, 1000)).workers == 4
    assert with_chunks(plan, (30, 1000)).workers == 3
    with pytest.raises(PlanError, match=r"4 workers need .*smallest limit that would do") as caught:
        with_chunks(plan, (30, 1000), workers_fixed=True)
    needed = int(str(caught.value).rpartition("=")[2])
    enough = lazyio.plan((10, 1000), "f8", memory_limit=needed, **options)
    assert with_chunks(enough, (30, 1000), workers_fixed=True).peak_nbytes == needed
    with pytest.raises(PlanError, match="1 worker need "):
        with_chunks(plan, (2000, 1000))


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
    assert extents_asked(chunks, 2, ("x", "y")) == found


def test_extents_of_a_plan():
    plan = lazyio.plan((10, 10), "i2", chunks=(4, 5))
    assert extents_asked(plan, 2) == [4, 5]
