"""Chunk shapes without hints: limits, fixed extents, fill, padding, score, speed."""

import functools
import itertools
import math
import random
import statistics

import pytest
from counted import n_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.default_chunks import ideal_extents, raise_to, solve_chunk_shape

N_CASES = 6000


def random_cases(seed, n_cases):
    """Yield seeded shapes of 1 to 8 axes with an item size and a limit."""
    rng = random.Random(seed)
    for _ in range(n_cases):
        ndim = rng.randint(1, 8)
        longest = 12 * math.log(10) / math.sqrt(ndim)
        shape = tuple(int(math.exp(rng.uniform(0, longest))) for _ in range(ndim))
        limit = int(math.exp(rng.uniform(math.log(2**14), math.log(2**26))))
        yield shape, rng.choice([1, 2, 4, 8, 16]), limit


def padded(extent, chunk):
    """Return the elements that chunks along an axis store."""
    return -(-extent // chunk) * chunk


def padding(shape, chunk):
    """Return elements stored over elements wanted."""
    return math.prod(map(padded, shape, chunk)) / math.prod(shape)


@pytest.fixture(scope="module")
def solved():
    """Return many random cases with their chunk shape."""
    return [(*case, solve_chunk_shape(*case)) for case in random_cases(20261120, N_CASES)]


def test_limits_are_never_broken(solved):
    """Extents are Python integers within the axis, and the chunk within the limit."""
    broken = [
        case
        for case in solved
        if math.prod(case[3]) * case[1] > case[2]
        or any(
            type(chunk) is not int or not 1 <= chunk <= extent
            for chunk, extent in zip(case[3], case[0], strict=True)
        )
    ]
    assert broken == []


def test_what_fits_is_one_chunk(solved):
    """An array within the limit is one chunk."""
    small = [case for case in solved if math.prod(case[0]) * case[1] <= case[2]]
    assert len(small) > 100
    assert all(chunk == shape for shape, _, _, chunk in small)


def test_fill(solved):
    """Chunks fill the limit: the median .97 of it, all but one in twenty .8, none under .25."""
    fills = sorted(
        math.prod(chunk) / (limit // itemsize)
        for shape, itemsize, limit, chunk in solved
        if math.prod(shape) * itemsize > limit
    )
    assert len(fills) >= 5000
    assert statistics.median(fills) >= 0.97
    assert fills[len(fills) // 20] >= 0.8
    assert fills[0] >= 0.25


def test_padding(solved):
    """Chunks that reach over the end pad little: the median 3 %, nineteen in twenty 25 %."""
    paddings = sorted(
        padding(shape, chunk)
        for shape, itemsize, limit, chunk in solved
        if math.prod(shape) * itemsize > limit
    )
    assert statistics.median(paddings) <= 1.03
    assert paddings[len(paddings) * 95 // 100] <= 1.25
    assert paddings[-1] <= 2.0


def score(shape, chunk, ideal, room):
    """Return what the search lowers: unused room, padding, distance from the ideal."""
    return (
        -math.log(math.prod(chunk) / room)
        + 2 * math.log(padding(shape, chunk))
        + sum(0.15 * math.log(c / i) ** 2 for c, i in zip(chunk, ideal, strict=True))
        + sum(0.04 for n, c in zip(shape, chunk, strict=True) if n % c)
    )


def test_score_is_near_the_best_there_is():
    """On small arrays the score is that of an exhaustive search, or little above."""
    rng = random.Random(5)
    gaps = []
    while len(gaps) < 150:
        ndim = rng.randint(1, 3)
        shape = tuple(rng.randint(2, (600, 45, 14)[ndim - 1]) for _ in range(ndim))
        room = rng.randint(2, math.prod(shape) - 1)
        ideal = ideal_extents(shape, room)
        every = itertools.product(*(range(1, extent + 1) for extent in shape))
        best = min(score(shape, chunk, ideal, room) for chunk in every if math.prod(chunk) <= room)
        gaps.append(score(shape, solve_chunk_shape(shape, 1, room), ideal, room) - best)
    gaps.sort()
    assert gaps[0] >= -1e-9
    assert statistics.median(gaps) <= 1e-6
    assert gaps[len(gaps) * 95 // 100] <= 0.1
    assert gaps[-1] <= 0.5


extents = st.one_of(st.integers(1, 60), st.integers(1, 10**4), st.integers(1, 10**9))


@given(
    axes=st.lists(st.tuples(extents, st.booleans(), extents), max_size=8),
    itemsize=st.sampled_from([0, 1, 2, 8, 48]),
    limit=st.integers(1, 2**27),
)
@settings(max_examples=400, deadline=None)
def test_fixed_extents(axes, itemsize, limit):
    """Fixed extents stand, cut at the axis; the free ones fit or, where they cannot, are 1."""
    shape = tuple(extent for extent, _, _ in axes)
    fixed = [wish if is_fixed else None for _, is_fixed, wish in axes]
    chunk = solve_chunk_shape(shape, itemsize, limit, fixed)
    for extent, wish, found in zip(shape, fixed, chunk, strict=True):
        assert 1 <= found <= extent
        assert wish is None or found == min(wish, extent)
    if math.prod(chunk) * max(1, itemsize) > limit:
        free = [found for wish, found in zip(fixed, chunk, strict=True) if wish is None]
        assert set(free) <= {1}


@given(
    axes=st.lists(st.tuples(extents, st.booleans(), extents), min_size=1, max_size=5),
    bounds=st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)).map(sorted),
)
@settings(max_examples=300, deadline=None)
def test_raised_chunks(axes, bounds):
    """Free axes grow up to the bounds, as far as needed; the chunk is large enough if one is."""
    shape = tuple(extent for extent, _, _ in axes)
    free = [is_free for _, is_free, _ in axes]
    chunk = tuple(min(wish, extent) for extent, _, wish in axes)
    least, most = bounds
    raised = raise_to(chunk, shape, least, most, free)
    for before, after, extent, is_free in zip(chunk, raised, shape, free, strict=True):
        assert before <= after <= extent
        assert is_free or after == before
    if math.prod(chunk) >= least:
        assert raised == chunk
    else:
        assert math.prod(raised) <= max(most, math.prod(chunk))
    whole = [
        extent if is_free else c for extent, c, is_free in zip(shape, chunk, free, strict=True)
    ]
    if math.prod(whole) <= most:
        assert math.prod(raised) >= min(least, math.prod(whole))


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [((), ()), ((0,), (1,)), ((0, 5), (1, 5)), ((1,) * 32, (1,) * 32), ((7, 1, 3), (7, 1, 3))],
    ids=["0-d", "empty", "empty-axis", "32-d", "small"],
)
def test_corner_shapes(shape, chunk):
    """No axis, no elements and many axes have a chunk, too."""
    assert solve_chunk_shape(shape, 8, 2**20) == chunk


def test_one_element_larger_than_the_limit():
    """The least chunk is one element, whatever the limit."""
    assert solve_chunk_shape((100, 100), 2**20, 1000) == (1, 1)


@pytest.mark.parametrize("shape", [(10**15,), (10**30, 3), (2**62, 2**62)], ids=str)
def test_extents_beyond_machine_integers(shape):
    """Products beyond 64 bits are exact."""
    chunk = solve_chunk_shape(shape, 8, 2**20)
    assert 2**18 <= math.prod(chunk) * 8 <= 2**20


@given(
    shape=st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    share=st.floats(0.001, 0.999),
)
@settings(max_examples=300, deadline=None)
def test_ideal_extents(shape, share):
    """Ideal extents multiply to the room, within each axis, as square roots where free."""
    room = max(1, int(math.prod(shape) * share))
    ideal = ideal_extents(shape, room)
    assert math.prod(ideal) == pytest.approx(room, rel=1e-6)
    inner = []
    for extent, wish in zip(shape, ideal, strict=True):
        assert 1 - 1e-9 <= wish <= extent * (1 + 1e-9)
        if 1.000001 < wish < extent * 0.999999:
            inner.append(wish / math.sqrt(extent))
    assert not inner or max(inner) == pytest.approx(min(inner), rel=1e-6)


def test_speed_does_not_depend_on_size():
    """Chunks of up to 5 axes are found in as few steps at any size."""
    shapes = [(10**15,), (700_000, 384), (36_000, 512, 512), (10**6,) * 4, (8760, 37, 721, 1440, 9)]
    for shape in shapes:
        assert n_calls(functools.partial(solve_chunk_shape, shape, 2, 2**20)) < 3000, shape
