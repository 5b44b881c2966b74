"""What arrays that are joined must have in common."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from source_contract import few

from lazyio.sources.base import reading_unit
from lazyio.sources.concatenated import common_step, joined, stacked
from lazyio.sources.function import ArraySource
from lazyio.sources.raw import raw_source

MATRIX = np.arange(37 * 23, dtype="<i2").reshape(37, 23)


def held(values, chunk_shape):
    """Return a source of an array in memory."""
    return ArraySource(
        array=values, shape=values.shape, dtype=values.dtype, chunk_shape=chunk_shape
    )


@few
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=5))
def test_common_step(parts):
    """A step that a part's chunks could share is found, and its every multiple is a boundary."""
    extents = [extent for extent, _ in parts]
    chunks = [min(pair) for pair in parts]
    step = common_step(extents, chunks)
    starts = list(itertools.accumulate(extents, initial=0))
    boundaries = {
        start + at
        for start, extent, chunk in zip(starts, extents, chunks, strict=False)
        for at in (*range(0, extent, chunk), extent)
    }

    def is_grid(candidate):
        return all(at in boundaries for at in range(0, starts[-1], candidate))

    # Brute force: a grid of which every line is a boundary, in reach of the search.
    shared = [n for n in range(max(chunks), 8 * max(chunks) + 1) if is_grid(n)]
    regular = len(set(chunks)) == 1 and all(extent % chunks[0] == 0 for extent in extents[:-1])
    assert step >= max(chunks)
    assert step in shared or step == max(chunks)
    if regular:
        assert step == chunks[0]


def test_chunks_of_the_parts_make_the_grid():
    """Blocks are whole chunks of the parts, so nothing is decoded twice."""
    parts = [held(MATRIX[:20], (5, 23)), held(MATRIX[:10], (5, 23)), held(MATRIX[:7], (5, 23))]
    assert joined(parts, 0).chunk_shape == (5, 23)
    assert joined([held(MATRIX.T[:, :10], (23, 5)) for _ in range(3)], 1).chunk_shape == (23, 5)
    assert stacked([held(MATRIX, (8, 5))] * 3, 0).chunk_shape == (1, 8, 5)
    assert stacked([held(MATRIX, (8, 5))] * 3, 2).chunk_shape == (8, 5, 1)


def test_long_runs_are_asked_for_where_parts_lie_side_by_side(tmp_path):
    """Plain files that alternate in a block are read by pages, and best in long runs."""
    np.zeros((100_000, 4), "<i2").tofile(tmp_path / "x.raw")
    source = raw_source(tmp_path / "x.raw", (-1, 4), "<i2")
    side_by_side = joined([source] * 3, 1)
    assert side_by_side.chunk_shape == (512, 4)
    assert reading_unit(side_by_side) == (8192, 4)
    assert reading_unit(stacked([source] * 3, 2)) == (8192, 4, 1)
    assert reading_unit(joined([source] * 3, 0)) is None
    columns = raw_source(tmp_path / "x.raw", (100_000, 4), "<i2", order="F")
    assert reading_unit(joined([columns] * 2, 1)) == (32768, 1)
    assert reading_unit(stacked([columns] * 2, 0)) == (1, 32768, 1)
    chunked = joined([held(MATRIX, (8, 23))] * 2, 1)
    assert chunked.run_shape == chunked.chunk_shape == (8, 23)


def test_parts_that_are_no_whole_number_of_chunks():
    """Where a few chunks are a part, blocks are whole parts; else they are near enough."""
    days = [held(np.zeros((25, 4)), (10, 4))] * 4
    assert joined(days, 0).chunk_shape == (25, 4)
    long_days = [held(np.zeros((10_001, 4)), (10, 4))] * 4
    assert joined(long_days, 0).chunk_shape == (10, 4)
    mixed = [held(np.zeros((40, 4)), (10, 4)), held(np.zeros((40, 4)), (20, 2))]
    assert joined(mixed, 0).chunk_shape == (20, 4)
    with_plain = [held(np.zeros((40, 4)), (10, 4)), held(np.zeros((40, 4)), None)]
    assert joined(with_plain, 0).chunk_shape == (10, 4)
    assert joined([held(np.zeros((0, 4)), (10, 4))] * 2, 0).chunk_shape is None
