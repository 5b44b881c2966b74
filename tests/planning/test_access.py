"""What windows cost: closed forms against every place that a window may lie at."""

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.planning.access import (
    CHUNK_OVERHEAD_NBYTES,
    AccessCost,
    Overheads,
    Window,
    access_amplification,
    elements_sum,
    matched_sum,
    overheads_of,
    touched_sum,
    window_costs,
)

WHOLE = Overheads(chunk_nbytes=100)
WANTED = Overheads(chunk_nbytes=100, run_nbytes=7, whole_chunks=False)

axis = st.integers(1, 40).flatmap(
    lambda extent: st.tuples(st.just(extent), st.integers(1, extent), st.integers(1, 45))
)


def touched(extent, window, chunk, start):
    """Return the chunks that a window at one place overlaps, as ranges cut at the axis."""
    pieces = [range(at, min(at + chunk, extent)) for at in range(0, extent, chunk)]
    return [p for p in pieces if p.start < start + window and start < p.stop]


def places(extent, window):
    """Return every place of a window."""
    return range(extent - window + 1)


@given(
    extent=st.integers(1, 2**34),
    windows=st.lists(st.floats(0, 1), min_size=1, max_size=3),
    chunks=st.lists(st.integers(1, 2**34), min_size=1, max_size=5),
    overheads=st.sampled_from([WHOLE, WANTED]),
)
@settings(max_examples=200, deadline=None)
def test_factors_of_many_extents_are_those_of_each(extent, windows, chunks, overheads):
    """Arrays of machine integers hold the same sums as Python's integers do."""
    windows = [max(1, int(share * extent)) for share in windows]
    chunks = [min(chunk, extent) for chunk in chunks]
    cost = AccessCost(
        shape=(extent,),
        windows=tuple(Window(shape=(w,)) for w in windows),
        itemsize=2,
        overheads=overheads,
    )
    factors = cost.factors(0, chunks)
    for at, chunk in enumerate(chunks):
        n_places = [extent - w + 1 for w in windows]
        n_touched = [
            touched_sum(extent, w, chunk) / n for w, n in zip(windows, n_places, strict=True)
        ]
        second = [
            elements_sum(extent, w, chunk, touched_sum(extent, w, chunk)) / n
            for w, n in zip(windows, n_places, strict=True)
        ]
        if not overheads.whole_chunks:
            second = windows
            n_matched = [
                matched_sum(extent, w, chunk) / n for w, n in zip(windows, n_places, strict=True)
            ]
            assert factors[-len(windows) :, at] == pytest.approx(n_matched)
        assert factors[: 2 * len(windows), at] == pytest.approx([*n_touched, *second])


def runs_of(shape, chunk, window, start):
    """Return the runs that a window at one place is read in: together in chunk and memory."""
    total = 0
    axes = [touched(*facts) for facts in zip(shape, window, chunk, start, strict=True)]
    in_chunk, in_memory = (np.arange(math.prod(box)).reshape(box) for box in (chunk, window))
    for pieces in itertools.product(*axes):
        low = [max(p.start, s) for p, s in zip(pieces, start, strict=True)]
        high = [min(p.stop, s + w) for p, s, w in zip(pieces, start, window, strict=True)]
        ends = [
            box[
                tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
            ].ravel()
            for box, origin in ((in_chunk, [p.start for p in pieces]), (in_memory, start))
        ]
        total += 1 + int(((np.diff(ends[0]) != 1) | (np.diff(ends[1]) != 1)).sum())
    return total


@pytest.mark.parametrize("overheads", [WHOLE, WANTED], ids=["whole", "wanted"])
def test_mean_cost_is_that_of_all_places(overheads):
    """The mean cost of a chunk shape is the average over all places, of all windows."""
    rng = random.Random(8)
    for _ in range(60):
        ndim = rng.randint(1, 3)
        shape = tuple(rng.randint(1, 9) for _ in range(ndim))
        chunk = tuple(rng.randint(1, extent) for extent in shape)
        windows = tuple(
            Window(shape=tuple(rng.randint(1, n) for n in shape), weight=rng.choice([0.5, 1, 3]))
            for _ in range(2)
        )
        cost = AccessCost(shape=shape, windows=windows, itemsize=2, overheads=overheads)
        expected, weights = 0.0, sum(window.weight for window in windows)
        for window in windows:
            each = []
            for start in itertools.product(*map(places, shape, window.shape)):
                axes = [touched(*f) for f in zip(shape, window.shape, chunk, start, strict=True)]
                n_chunks = math.prod(map(len, axes))
                elements = math.prod(sum(map(len, axis)) for axis in axes)
                if overheads.whole_chunks:
                    each.append(100 * n_chunks + 2 * elements)
                else:
                    n_runs = runs_of(shape, chunk, window.shape, start)
                    each.append(100 * n_chunks + 7 * n_runs + 2 * math.prod(window.shape))
            alone = 100 + overheads.run_nbytes + 2 * math.prod(window.shape)
            expected += window.weight / weights * sum(each) / len(each) / alone
        assert cost.mean(chunk) == pytest.approx(expected)


@given(axes=st.lists(axis, min_size=1, max_size=3), itemsize=st.sampled_from([1, 8]))
@settings(max_examples=100, deadline=None)
def test_window_costs(axes, itemsize):
    """What the plan prints of a window is the exact expectation, rounded once."""
    shape, window, chunk = (tuple(axis[i] for axis in axes) for i in range(3))
    (cost,) = window_costs([Window(shape=window)], shape, chunk, itemsize, whole_chunks=True)
    n_chunks = elements = Fraction(1)
    for one in axes:
        found = [touched(*one, start) for start in places(*one[:2])]
        n_chunks *= Fraction(sum(map(len, found)), len(found))
        elements *= Fraction(sum(len(p) for pieces in found for p in pieces), len(found))
    assert cost.n_chunks == float(n_chunks)
    assert cost.nbytes == float(elements * itemsize)
    assert cost.amplification == pytest.approx(float(elements) / math.prod(window))
    (plain,) = window_costs([Window(shape=window)], shape, chunk, itemsize, whole_chunks=False)
    assert plain.n_chunks == cost.n_chunks
    assert plain.amplification == 1.0


def test_amplification_is_the_weighted_mean():
    """Windows count by their weight."""
    windows = [Window(shape=(10, 1), weight=3), Window(shape=(1, 10), weight=1)]
    costs = window_costs(windows, (100, 100), (10, 1), 1, whole_chunks=True)
    each = [cost.amplification for cost in costs]
    assert access_amplification(costs) == pytest.approx((3 * each[0] + each[1]) / 4)
    assert access_amplification([]) is None


def test_windows_of_arrays_without_elements():
    """Nothing is read from nothing."""
    (cost,) = window_costs([Window(shape=(1, 3))], (0, 5), (1, 5), 8, whole_chunks=True)
    assert (cost.n_chunks, cost.nbytes, cost.amplification) == (0.0, 0.0, 1.0)
    (cost,) = window_costs([Window(shape=())], (), (), 8, whole_chunks=True)
    assert (cost.n_chunks, cost.nbytes, cost.amplification) == (1.0, 8.0, 1.0)


def test_overheads_are_those_of_the_format_and_codec():
    """Only HDF5 reads parts of chunks; codecs that nobody measured count as the usual one."""
    assert overheads_of("zarr", whole_chunks=False).whole_chunks
    part = overheads_of("hdf5", whole_chunks=False)
    assert not part.whole_chunks
    assert part.run_nbytes > 0
    for (format, codec), nbytes in CHUNK_OVERHEAD_NBYTES.items():
        assert overheads_of(format, codec) == Overheads(chunk_nbytes=nbytes)
    for codec in (None, "blosc"):
        assert overheads_of("hdf5", codec) == overheads_of("hdf5", "zstd")
