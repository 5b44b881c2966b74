"""Chunks that suit windows: near the best there is, within bounds, never worse than without."""

import itertools
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.planning.access import AccessCost, Bounds, Overheads, Prices, Window
from lazyio.planning.access_search import best_shape, niceness, search_chunk
from lazyio.planning.default_chunks import Choice, solve_chunk_shape

WHOLE = Overheads(chunk_nbytes=300)
WANTED = Overheads(chunk_nbytes=300, run_nbytes=20, whole_chunks=False)


def random_case(rng, longest, ndims, overheads):
    """Return a small array with windows, bounds of a chunk and the chunk without windows."""
    ndim = rng.choice(ndims)
    shape = tuple(rng.randint(2, longest[ndim]) for _ in range(ndim))
    total = math.prod(shape)
    upper = rng.randint(max(2, total // 50), max(3, total // 2))
    windows = tuple(
        Window(
            shape=tuple(rng.choice([1, extent, rng.randint(1, extent)]) for extent in shape),
            weight=rng.choice([1, 1, 5]),
        )
        for _ in range(rng.randint(1, 4))
    )
    cost = AccessCost(shape=shape, windows=windows, itemsize=2, overheads=overheads)
    return cost, Bounds(lower=-(-upper // 4), upper=upper), solve_chunk_shape(shape, 2, 2 * upper)


def cheapest_of_all(cost, bounds, known):
    """Return the lowest mean cost of all chunk shapes within bounds that pad little, and of one."""
    extents = [
        [edge for edge in range(1, n + 1) if Choice(extent=n).pads_little(edge) or edge == also]
        for n, also in zip(cost.shape, known, strict=True)
    ]
    factors = [cost.factors(axis, edges) for axis, edges in enumerate(extents)]
    prices, sizes = cost.weights(), np.ones(1)
    prices = prices[:, None]
    for edges, each in zip(extents, factors, strict=True):
        prices = (prices[:, :, None] * each[:, None, :]).reshape(len(prices), -1)
        sizes = np.multiply.outer(sizes, np.array(edges, float)).ravel()
    fits = (sizes >= bounds.lower) & (sizes <= bounds.upper)
    return prices.sum(axis=0)[fits].min()


@pytest.mark.parametrize("overheads", [WHOLE, WANTED], ids=["whole", "wanted"])
@pytest.mark.parametrize("ndims", [(1, 2, 3), (4, 5)], ids=["few-axes", "many-axes"])
def test_near_the_best_there_is(ndims, overheads):
    """The cost is within 5 % of an exhaustive search; a nicer shape costs 5 % more at most."""
    rng = random.Random(7)
    longest = {1: 3000, 2: 160, 3: 30, 4: 12, 5: 7}
    gaps = []
    for _ in range(80):
        cost, bounds, known = random_case(rng, longest, ndims, overheads)
        choices = [Choice(extent=extent) for extent in cost.shape]
        prices = Prices(cost, bounds)
        best = cheapest_of_all(cost, bounds, known)
        found = best_shape(prices, choices, len(choices), known)
        nice = search_chunk(cost, choices, bounds, known)
        gaps.append(cost.mean(found) / best - 1)
        assert gaps[-1] >= -1e-9
        assert cost.mean(nice) <= 1.05 * cost.mean(found) * (1 + 1e-9)
        assert cost.mean(nice) <= cost.mean(known) * (1 + 1e-9)
        assert bounds.lower <= math.prod(nice) <= bounds.upper
    gaps.sort()
    assert statistics.median(gaps) <= 1e-3
    assert gaps[len(gaps) * 95 // 100] <= 0.05
    assert gaps[-1] <= 0.25


@given(seed=st.integers(0, 10**9), overheads=st.sampled_from([WHOLE, WANTED]))
@settings(max_examples=100, deadline=None)
def test_choices_and_bounds_are_kept(seed, overheads):
    """Extents are fixed ones, divisors or any, as was said; the size is within bounds."""
    rng = random.Random(seed)
    cost, bounds, _ = random_case(rng, dict.fromkeys(range(1, 6), 10**6), range(1, 6), overheads)
    choices = [
        rng.choice(
            [
                Choice(extent=extent),
                Choice(extent=extent, step=rng.randint(1, extent)),
                Choice(extent=extent, fixed=1),
            ]
        )
        for extent in cost.shape
    ]
    most = math.prod(choice.most for choice in choices)
    bounds = Bounds(lower=1, upper=bounds.upper)
    known = tuple(choice.between(1, 1, 1)[0] for choice in choices)
    found = search_chunk(cost, choices, bounds, known)
    assert math.prod(found) <= min(most, bounds.upper)
    for choice, edge in zip(choices, found, strict=True):
        assert 1 <= edge <= choice.extent
        assert choice.fixed in (None, edge)
        assert choice.step is None or choice.step % edge == 0
    assert cost.mean(found) <= cost.mean(known) * (1 + 1e-9)


def test_the_lower_bound_gives_way_where_nothing_reaches_it():
    """Divisors that are all too small give the largest chunk of them."""
    cost = AccessCost(
        shape=(100, 100), windows=(Window(shape=(1, 1)),), itemsize=1, overheads=WHOLE
    )
    choices = [Choice(extent=100, step=6), Choice(extent=100, step=10)]
    assert search_chunk(cost, choices, Bounds(lower=500, upper=2000), (1, 1)) == (6, 10)


def test_pairs_of_axes_are_descended_where_combinations_are_many():
    """With many axes the search still finds the shape that lies along the window."""
    shape = (40,) * 6
    cost = AccessCost(
        shape=shape, windows=(Window(shape=(1, 1, 40, 1, 1, 40)),), itemsize=1, overheads=WHOLE
    )
    choices = [Choice(extent=extent) for extent in shape]
    found = search_chunk(cost, choices, Bounds(lower=400, upper=1600), (4, 4, 4, 4, 2, 2))
    assert found == (1, 1, 40, 1, 1, 40)


def test_many_axes_take_no_longer_than_seconds():
    """Thirty-two axes are searched two at a time, and not rounded in all combinations."""
    plan = lazyio.plan((4,) * 32, "u1", access=[(1,) * 20 + (4,) * 12, (4,) * 8 + (1,) * 24])
    assert plan.chunk_nbytes <= 2**20
    assert (
        plan.access_amplification
        < lazyio.plan(
            (4,) * 32, "u1", chunks=(1,) * 22 + (4,) * 10, access=[(4,) * 8 + (1,) * 24]
        ).access_amplification
    )


@pytest.mark.parametrize(
    ("extent", "axis_extent", "rank"), [(50, 100, 3), (64, 100, 2), (48, 100, 1), (49, 100, 0)]
)
def test_niceness(extent, axis_extent, rank):
    """Dividing the axis is nicer than a power of two, and that than a multiple of eight."""
    assert niceness(extent, axis_extent) == rank


def test_blocks_of_a_source_suit_windows(tmp_path):
    """A source opened for windows has blocks of whole chunks along them."""
    read = lambda region: np.zeros([p.stop - p.start for p in region], "i2")  # noqa: E731
    facts = {"shape": (700_000, 384), "dtype": "i2", "source_chunks": (4000, 16)}
    plain = lazyio.from_function(read, **facts)
    rows = lazyio.from_function(read, **facts, access=(1, -1))
    columns = lazyio.from_function(read, **facts, access=(-1, 1))
    for array in (plain, rows, columns):
        for sizes, chunk, extent in zip(array.chunks, (4000, 16), array.shape, strict=True):
            assert sizes[0] % chunk == 0 or sizes[0] == extent
    assert rows.chunksize[1] == 384
    assert rows.chunksize[0] < plain.chunksize[0]
    assert columns.chunksize[0] == 700_000
    assert math.prod(plain.chunksize) / 4 <= math.prod(rows.chunksize) <= math.prod(plain.chunksize)


def test_blocks_without_windows_are_the_plans():
    """A source without chunks, and one without elements, keeps the plan's blocks."""
    read = lambda region: np.zeros([p.stop - p.start for p in region], "i2")  # noqa: E731
    for shape, chunks in [((1000, 50), None), ((0, 50), (10, 50))]:
        plain, hinted = (
            lazyio.from_function(read, shape, "i2", source_chunks=chunks, access=access)
            for access in (None, (1, -1))
        )
        assert hinted.shape == plain.shape
        assert math.prod(hinted.chunksize) <= max(1, math.prod(shape))


def test_access_of_an_opened_source_is_checked():
    """A window that cannot be is refused also where the blocks are given."""
    with pytest.raises(lazyio.LazyioError, match=r"window \(5,\) of 1 axes"):
        lazyio.from_array(np.zeros((4, 4)), chunks=2, access=5)


@pytest.mark.parametrize("reads_whole", [True, False], ids=["whole", "wanted"])
def test_costs_fall_with_the_window_order_ignored(reads_whole):
    """Windows in another order, or one of them twice as half the weight, change nothing."""
    overheads = WHOLE if reads_whole else WANTED
    shape = (300, 200)
    windows = [Window(shape=(30, 1)), Window(shape=(1, 200), weight=2)]
    split = [windows[1], Window(shape=(30, 1), weight=0.5), Window(shape=(30, 1), weight=0.5)]
    costs = [
        AccessCost(shape=shape, windows=tuple(each), itemsize=2, overheads=overheads)
        for each in (windows, windows[::-1], split)
    ]
    for chunk in itertools.product((1, 7, 50), (1, 16, 200)):
        assert len({round(cost.mean(chunk), 9) for cost in costs}) == 1
