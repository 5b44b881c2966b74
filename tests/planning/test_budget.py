"""The memory budget: one exact formula, and its inverses."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.budget import Budget

nbytes = st.one_of(st.integers(0, 1000), st.integers(0, 2**40))
workers = st.integers(1, 64)


@given(workers=workers, block=nbytes, chunk=nbytes, source=nbytes, shard=nbytes)
@settings(max_examples=300, deadline=None)
def test_peak_is_the_formula(workers, block, chunk, source, shard):
    """Workers times two blocks, two source chunks, four chunks and a shard, plus an eighth."""
    peak = Budget(limit_nbytes=1, workers=workers).peak_nbytes(
        block_nbytes=block, chunk_nbytes=chunk, source_chunk_nbytes=source, shard_nbytes=shard
    )
    assert peak == ceil(Fraction(9, 8) * workers * (2 * block + 4 * chunk + 2 * source + shard))
    assert type(peak) is int


def test_peak_is_exact_beyond_floats():
    """Bytes that no float holds are counted."""
    budget = Budget(limit_nbytes=1, workers=3)
    assert budget.peak_nbytes(block_nbytes=2**60 + 4, chunk_nbytes=0) == 27 * (2**58 + 1)


@given(workers=workers, limit=st.integers(1, 2**45), chunk=nbytes, source=nbytes, shard=nbytes)
@settings(max_examples=300, deadline=None)
def test_room_is_the_largest_block(workers, limit, chunk, source, shard):
    """A block of the room fits the limit, one byte more does not."""
    budget = Budget(limit_nbytes=limit, workers=workers)
    beside = {"chunk_nbytes": chunk, "source_chunk_nbytes": source, "shard_nbytes": shard}
    room = budget.room_nbytes(**beside)
    assert budget.peak_nbytes(block_nbytes=max(0, room + 1), **beside) > limit
    if room >= 0:
        assert budget.peak_nbytes(block_nbytes=room, **beside) <= limit


@given(workers=workers, limit=st.integers(1, 2**45), source=nbytes)
@settings(max_examples=300, deadline=None)
def test_chunk_room_is_the_largest_chunk(workers, limit, source):
    """A block of one chunk of that size fits the limit, one byte more does not."""
    budget = Budget(limit_nbytes=limit, workers=workers)

    def peak(chunk):
        return budget.peak_nbytes(
            block_nbytes=chunk, chunk_nbytes=chunk, source_chunk_nbytes=source
        )

    room = budget.chunk_room_nbytes(source_chunk_nbytes=source)
    assert peak(max(0, room + 1)) > limit
    if room >= 0:
        assert peak(room) <= limit


@given(workers=workers, limit=st.integers(1, 2**45), block=nbytes, source=nbytes, shard=nbytes)
@settings(max_examples=300, deadline=None)
def test_chunk_room_beside_a_block(workers, limit, block, source, shard):
    """A chunk of the room fits beside the block, with a shard of it or one that is given."""
    budget = Budget(limit_nbytes=limit, workers=workers)
    beside = {"block_nbytes": block, "source_chunk_nbytes": source}
    room = budget.chunk_room_beside(**beside, shard_nbytes=shard)
    if room >= 0:
        assert budget.peak_nbytes(**beside, chunk_nbytes=room, shard_nbytes=shard) <= limit
    assert budget.peak_nbytes(**beside, chunk_nbytes=max(0, room + 1), shard_nbytes=shard) > limit
    room = budget.chunk_room_beside(**beside, in_shards=True)
    if room >= 0:
        assert budget.peak_nbytes(**beside, chunk_nbytes=room, shard_nbytes=room) <= limit
    more = max(0, room + 1)
    assert budget.peak_nbytes(**beside, chunk_nbytes=more, shard_nbytes=more) > limit


@given(
    workers=workers,
    limit=st.integers(1, 2**45),
    chunk=nbytes,
    source=nbytes,
    itemsize=st.sampled_from([1, 2, 8]),
    wider=st.integers(0, 8),
)
@settings(max_examples=300, deadline=None)
def test_shard_room_is_the_largest_shard(workers, limit, chunk, source, itemsize, wider):
    """A block of one shard of that size fits, one element more does not."""
    budget = Budget(limit_nbytes=limit, workers=workers)
    beside = {"chunk_nbytes": chunk, "source_chunk_nbytes": source}
    held = itemsize + wider

    def peak(n_elements):
        return budget.peak_nbytes(
            block_nbytes=n_elements * held, shard_nbytes=n_elements * itemsize, **beside
        )

    room = budget.shard_room_nbytes(itemsize=itemsize, held_itemsize=held, **beside) // itemsize
    assert peak(max(0, room + 1)) > limit
    if room >= 0:
        assert peak(room) <= limit


@given(workers=workers, block=nbytes, chunk=nbytes, source=nbytes)
@settings(max_examples=300, deadline=None)
def test_peak_is_the_smallest_limit(workers, block, chunk, source):
    """The peak is a limit that has room for the block; one byte less has not."""
    beside = {"chunk_nbytes": chunk, "source_chunk_nbytes": source}
    peak = Budget(limit_nbytes=1, workers=workers).peak_nbytes(block_nbytes=block, **beside)
    assert Budget(limit_nbytes=peak, workers=workers).room_nbytes(**beside) >= block
    assert Budget(limit_nbytes=peak - 1, workers=workers).room_nbytes(**beside) < block


@pytest.mark.parametrize(
    ("workers", "sizes", "peak"),
    [
        (2, {"block_nbytes": 1000, "chunk_nbytes": 500}, 9000),
        (1, {"block_nbytes": 1, "chunk_nbytes": 0}, 3),
        (1, {"block_nbytes": 0, "chunk_nbytes": 0}, 0),
        (4, {"block_nbytes": 2**20, "chunk_nbytes": 2**20, "source_chunk_nbytes": 2**20}, 36 << 20),
    ],
    ids=["two-workers", "rounds-up", "nothing", "with-source"],
)
def test_peak(workers, sizes, peak):
    """Figures that a person can check."""
    assert Budget(limit_nbytes=1, workers=workers).peak_nbytes(**sizes) == peak
