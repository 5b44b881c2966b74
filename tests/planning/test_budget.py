"""The memory budget: one exact formula, and its inverses."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lazyio.errors import PlanError
from lazyio.planning.budget import Budget, Footprint

nbytes = st.one_of(st.integers(0, 1000), st.integers(0, 2**40))
workers = st.integers(1, 64)
footprints = st.builds(Footprint, block=nbytes, chunk=nbytes, decoded=nbytes, shard=nbytes)
ONES = [
    Footprint(block=1),
    Footprint(block=1, chunk=1),
    Footprint(chunk=1),
    Footprint(chunk=1, shard=1),
    Footprint(block=9, shard=2),
    Footprint(block=12, chunk=8, shard=8),
]


@given(workers=workers, block=nbytes, chunk=nbytes, source=nbytes, shard=nbytes)
@settings(max_examples=300, deadline=None)
def test_peak_is_the_formula(workers, block, chunk, source, shard):
    """Workers times two blocks, two source chunks, four chunks and a shard, plus an eighth."""
    each = Footprint(block=block, chunk=chunk, decoded=source, shard=shard)
    peak = Budget(limit_nbytes=1, workers=workers).peak_nbytes(each)
    assert peak == ceil(Fraction(9, 8) * workers * (2 * block + 4 * chunk + 2 * source + shard))
    assert type(peak) is int


def test_peak_is_exact_beyond_floats():
    """Bytes that no float holds are counted."""
    budget = Budget(limit_nbytes=1, workers=3)
    assert budget.peak_nbytes(Footprint(block=2**60 + 4)) == 27 * (2**58 + 1)


@pytest.mark.parametrize("one", ONES, ids=lambda one: str(one.nbytes))
@given(workers=workers, limit=st.integers(1, 2**45), beside=footprints)
@settings(max_examples=150, deadline=None)
def test_room_is_the_most_that_fits(one, workers, limit, beside):
    """As many of a thing as there is room for fit the limit beside the rest, one more does not."""
    budget = Budget(limit_nbytes=limit, workers=workers)

    def peak(n):
        return budget.peak_nbytes(
            Footprint(
                block=beside.block + n * one.block,
                chunk=beside.chunk + n * one.chunk,
                decoded=beside.decoded,
                shard=beside.shard + n * one.shard,
            )
        )

    room = budget.room(one, beside=beside)
    assert peak(max(0, room + 1)) > limit
    if room >= 0:
        assert peak(room) <= limit


@given(workers=workers, each=footprints)
@settings(max_examples=300, deadline=None)
def test_peak_is_the_smallest_limit(workers, each):
    """The peak is a limit that has room for the block; one byte less has not."""
    beside = replace(each, block=0)
    peak = Budget(limit_nbytes=1, workers=workers).peak_nbytes(each)
    enough, short = (Budget(limit_nbytes=limit, workers=workers) for limit in (peak, peak - 1))
    assert enough.room(Footprint(block=1), beside=beside) >= each.block
    assert short.room(Footprint(block=1), beside=beside) < each.block


@given(workers=workers, limit=st.integers(1, 2**45), each=footprints, waiting=nbytes)
@settings(max_examples=300, deadline=None)
def test_workers_are_lowered_until_it_fits(workers, limit, each, waiting):
    """To the most that fit, but for those that the user chose; else the limit is refused."""
    assume(each.nbytes)
    for is_fixed in (False, True):
        budget = Budget(limit_nbytes=limit, workers=workers, workers_fixed=is_fixed)
        least = replace(budget, workers=workers if is_fixed else 1).peak_nbytes(each) + waiting
        if least > limit:
            with pytest.raises(PlanError, match=rf"of it with .* needs {least} bytes .*={least}$"):
                budget.fit(each, "all of it", waiting_nbytes=waiting)
            continue
        fitted = budget.fit(each, "all of it", waiting_nbytes=waiting)
        assert fitted.peak_nbytes(each) + waiting <= limit
        more = replace(fitted, workers=fitted.workers + 1)
        assert fitted.workers == workers or more.peak_nbytes(each) + waiting > limit
        assert not is_fixed or fitted.workers == workers


@pytest.mark.parametrize(
    ("workers", "sizes", "peak"),
    [
        (2, {"block": 1000, "chunk": 500}, 9000),
        (1, {"block": 1}, 3),
        (1, {}, 0),
        (4, {"block": 2**20, "chunk": 2**20, "decoded": 2**20}, 36 << 20),
    ],
    ids=["two-workers", "rounds-up", "nothing", "with-source"],
)
def test_peak(workers, sizes, peak):
    """Figures that a person can check."""
    assert Budget(limit_nbytes=1, workers=workers).peak_nbytes(Footprint(**sizes)) == peak
