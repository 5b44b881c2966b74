"""Plans for part of an array: no chunk of the array lies in two blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lazyio.planning import ArraySpec, PlanRequest, solve
from lazyio.planning.plan import plan_region
from lazyio.regions import boxes, cuts_chunks


@given(st.data())
def test_no_chunk_lies_in_two_blocks(data):
    """Whatever the part, and the blocks cover it without overlap."""
    ndim = data.draw(st.integers(1, 3))
    chunks = tuple(data.draw(st.integers(1, 6)) for _ in range(ndim))
    shape = tuple(data.draw(st.integers(1, 30)) for _ in range(ndim))
    start = tuple(data.draw(st.integers(0, 20)) for _ in range(ndim))
    inner = tuple(map(min, chunks, shape))
    block = tuple(chunk * data.draw(st.integers(1, 3)) for chunk in inner)
    facts = ArraySpec(shape=shape, dtype=np.dtype("i2"), max_shape=(None,) * ndim, is_part=True)
    plan = plan_region(solve(facts, PlanRequest(chunks=chunks, block_shape=block)), start)
    owners: dict[tuple[int, ...], int] = {}
    n_elements = 0
    for number, region in enumerate(plan.regions()):
        size = 1
        for part in region:
            size *= part.stop - part.start
        n_elements += size
        rows = [
            range((part.start + at) // chunk, -(-(part.stop + at) // chunk))
            for part, at, chunk in zip(region, start, chunks, strict=True)
        ]
        for index in boxes(tuple(map(len, rows)), (1,) * ndim):
            key = tuple(row[part.start] for row, part in zip(rows, index, strict=True))
            assert owners.setdefault(key, number) == number
        assert all(
            part.stop - part.start <= edge
            for part, edge in zip(region, plan.block_shape, strict=True)
        )
    expected = 1
    for extent in shape:
        expected *= extent
    assert n_elements == expected


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 7), st.integers(0, 5))
def test_parts_that_cut_chunks(start, length, chunk, beyond):
    """A chunk is cut where some but not all of its elements lie in the part."""
    stop = start + length
    extent = stop + beyond
    inside = set(range(start, stop))
    grid = [set(range(at, min(at + chunk, extent))) for at in range(0, extent, chunk)]
    is_cut = any(0 < len(cell & inside) < len(cell) for cell in grid)
    if length:
        assert cuts_chunks((slice(start, stop),), (extent,), (chunk,)) == is_cut
