"""``lazyio.plan`` with windows: guarantees, what it prints, and what it costs to plan."""

import ast
import functools
import math
import random
import re
import statistics

import dask.array as da
import pytest
import xarray as xr
from counted import n_calls
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import OptionError
from lazyio.planning import ArraySpec, PlanRequest, solve
from lazyio.planning.access import AccessCost, as_windows, overheads_of

extents = st.one_of(st.integers(0, 30), st.integers(1, 3000), st.integers(1, 10**8))
shapes = st.lists(extents, max_size=5).map(tuple)
limits = st.integers(12, 34).flatmap(lambda power: st.integers(2**power, 2 ** (power + 1)))
wish = st.none() | st.just(-1) | st.integers(1, 60)


def cost_of(plan, access, *, whole_chunks=True):
    """Return the mean cost of windows in a plan's chunks."""
    return AccessCost(
        shape=tuple(max(1, extent) for extent in plan.shape),
        windows=as_windows(access, plan.shape),
        itemsize=plan.dtype.itemsize,
        overheads=overheads_of(plan.format, whole_chunks=whole_chunks),
    ).mean(plan.chunk_shape)


@st.composite
def windows(draw, shape):
    """Draw windows of an array."""
    extent = [st.just(1) | st.just(-1) | st.integers(1, max(1, 2 * n)) for n in shape]
    return draw(st.lists(st.tuples(*extent), min_size=1, max_size=3))


@given(
    data=st.data(),
    shape=shapes,
    dtype=st.sampled_from(["u1", "f8"]),
    limit=limits,
    format=st.sampled_from(["hdf5", "zarr"]),
    workers=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_guarantees(data, shape, dtype, limit, format, workers):
    """Windows change the chunk, never the guarantees, and never for the worse."""
    access = data.draw(windows(shape))
    wishes = {"memory_limit": limit, "format": format, "workers": workers}
    plain = lazyio.plan(shape, dtype, **wishes)
    plan = lazyio.plan(shape, dtype, access=access, **wishes)
    assert plan.peak_nbytes <= limit
    assert plan.access_amplification >= 1 - 1e-9
    assert plain.access_amplification is None
    for end, chunk, block in zip(shape, plan.chunk_shape, plan.block_shape, strict=True):
        assert type(chunk) is int
        assert 1 <= chunk <= max(1, end)
        assert block % chunk == 0 or block == end
    if math.prod(shape):
        assert cost_of(plan, access) <= cost_of(plain, access) * (1 + 1e-9)
        least = plain.chunk_nbytes / 4
        least = min(least, 2**16) if format == "hdf5" else least
        assert plan.chunk_nbytes >= least / 1.001 - 8


@given(data=st.data(), shape=st.lists(st.integers(1, 2000), min_size=1, max_size=4).map(tuple))
@settings(max_examples=100, deadline=None)
def test_fixed_extents_stand(data, shape):
    """Extents that the user fixed are kept, whatever the windows."""
    chunks = data.draw(st.tuples(*[wish for _ in shape]))
    whole = [n for n, chunk in zip(shape, chunks, strict=True) if chunk == -1]
    assume(math.prod(whole) < 10**6)
    access = data.draw(windows(shape))
    plan = lazyio.plan(shape, "u1", chunks=chunks, access=access, memory_limit="64 GiB")
    for asked, extent, found in zip(chunks, shape, plan.chunk_shape, strict=True):
        assert asked is None or found == (extent if asked == -1 else min(asked, extent))


@given(
    data=st.data(),
    sizes=st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_own_blocks_are_kept(data, sizes):
    """Where blocks of a dask array are kept without windows, they are with them."""
    array = da.zeros(tuple(map(sum, sizes)), chunks=tuple(map(tuple, sizes)), dtype="f8")
    access = data.draw(windows(array.shape))
    plain, plan = lazyio.plan(array), lazyio.plan(array, access=access)
    assert (plan.read_shape is None) == (plain.read_shape is None)
    assert cost_of(plan, access) <= cost_of(plain, access) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("bounds", "least", "most"),
    [
        (None, 2**16, 2**20),
        ("64 KiB", 2**14, 2**16),
        (("4 KiB", "1 MiB"), 2**12, 2**20),
        ((1, "1 MiB"), 1, 2**20),
        (("900 KiB", "1 MiB"), 900 * 2**10, 2**20),
    ],
    ids=str,
)
def test_bounds_of_a_chunk(bounds, least, most):
    """A chunk is no less than 64 KiB, of Zarr a quarter of the upper bound, or the bound given."""
    plan = lazyio.plan((10**5, 10**4), "i2", access=(1, 1), chunk_nbytes=bounds)
    assert least <= plan.chunk_nbytes <= most
    in_zarr = lazyio.plan((10**5, 10**4), "i2", access=(1, 1), chunk_nbytes=bounds, format="zarr")
    assert (2**20 if bounds is None else least) <= in_zarr.chunk_nbytes
    if bounds == (1, "1 MiB"):
        assert plan.chunk_nbytes < 2**14


def test_windows_choose_the_shape():
    """Readers of columns get columns, readers of rows rows, and both get something between."""
    columns, rows, both = (
        lazyio.plan((700_000, 384), "i2", access=access).chunk_shape
        for access in ((-1, 1), (1, -1), [(-1, 1), (1, -1)])
    )
    assert columns[1] == 1
    assert rows[1] == 384
    assert rows[0] < both[0] < columns[0]


def test_weights_move_the_shape():
    """A window with a large weight is the cheaper to read."""
    access = [(30_000, 1), (1, 384)]
    costs = [
        lazyio.plan((700_000, 384), "i2", access=list(zip(access, weights, strict=True))).windows
        for weights in ((100, 1), (1, 100))
    ]
    assert costs[0][0].amplification < costs[1][0].amplification
    assert costs[0][1].amplification > costs[1][1].amplification


def test_parts_of_unfiltered_chunks():
    """Without filters only the wanted part is read: nothing is amplified, runs count."""
    facts = ArraySpec(shape=(700_000, 384), dtype=da.zeros(1, dtype="i2").dtype)
    access = [(30_000, 1), (1, 384)]
    plan = solve(facts, PlanRequest(access=access, reads_whole_chunks=False))
    whole = solve(facts, PlanRequest(access=access))
    assert plan.access_amplification == 1.0
    assert whole.access_amplification > 1.0
    assert plan.advice == ()
    lowest = cost_of(plan, access, whole_chunks=False)
    assert lowest <= cost_of(whole, access, whole_chunks=False)
    # Zarr decodes whole chunks, whatever the codec.
    zarr = solve(facts, PlanRequest(access=access, reads_whole_chunks=False, format="zarr"))
    assert zarr.access_amplification > 1.0


def test_the_table_prices_each_window():
    """The printed plan says what each window touches and reads."""
    plan = lazyio.plan((1000, 1000), "i2", chunks=(100, 100), access=[((1000, 1), 2), (1, -1)])
    rows = [line for line in str(plan).splitlines() if line.startswith("window")]
    assert rows == [
        "window     (1000, 1) (weight 2) touches 10 chunks, reads 195 KiB for 1.95 KiB, 100x",
        "window     (1, 1000) touches 10 chunks, reads 195 KiB for 1.95 KiB, 100x",
    ]
    assert plan.access_amplification == pytest.approx(100)
    facts = plan.to_dict()
    assert facts["access_amplification"] == plan.access_amplification
    assert facts["windows"][0] == {
        "shape": [1000, 1],
        "weight": 2.0,
        "n_chunks": 10.0,
        "nbytes": 200_000.0,
        "wanted_nbytes": 2000,
    }


def test_reasons_name_the_windows():
    """The table says why the chunk is what it is."""
    assert "costs the least to read the windows" in str(
        lazyio.plan((10**4, 500), "i2", access=9 * [(1, 500)])
    )


@pytest.mark.parametrize(
    ("access", "codes"),
    [((1, 1), ["window-in-chunk"]), ((1, -1), []), ((100, 100), []), ((-1, -1), [])],
    ids=str,
)
def test_advice_on_windows_in_a_chunk(access, codes):
    """A window that lies in a chunk with room to spare is said, with both sizes."""
    plan = lazyio.plan((1000, 1000), "i2", chunks=(100, 100), access=access)
    assert [code for code, _ in plan.advice] == codes
    if codes:
        assert re.search(r"window \(1, 1\) of 2 B is smaller than a chunk", plan.advice[0][1])


def test_no_advice_on_what_is_smaller_than_a_page():
    """Coordinates are decoded whole in no time."""
    assert lazyio.plan((180,), "f8", chunks=(180,), access=(1,)).advice == ()


def test_dimension_names():
    """Windows of an xarray object may be given by dimension, the others whole."""
    array = xr.DataArray(da.zeros((1000, 40)), dims=("time", "channel"))
    plan = lazyio.plan(array, access={"channel": 1})
    assert plan.windows[0].window.shape == (1000, 1)


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (1,) * 32], ids=str)
def test_corner_shapes(shape):
    """No axis, no elements and many axes have a plan with windows, too."""
    plan = lazyio.plan(shape, "i2", access=[(1,) * len(shape)])
    assert plan.access_amplification == 1.0


def test_extents_beyond_machine_integers():
    """Long axes are priced in exact integers, whatever their length."""
    plan = lazyio.plan((2**62, 2**62), "u1", access=[(1, 10**6), (10**6, 1)])
    assert 2**16 <= plan.chunk_nbytes <= 2**20
    assert plan.access_amplification == pytest.approx(plan.chunk_shape[0], rel=0.5)


def test_hdmf_shapes_are_priced():
    """HDMF's shapes do not follow windows; what they cost is said."""
    plain = lazyio.plan((20_000, 5000), "i4", strategy="hdmf")
    plan = lazyio.plan((20_000, 5000), "i4", strategy="hdmf", access=(1, -1))
    assert plan.layout == plain.layout
    assert plan.access_amplification > 1


def test_windows_of_another_rank():
    """A window needs one extent for each axis."""
    with pytest.raises(OptionError, match=r"window \(1,\) of 1 axes"):
        lazyio.plan((10, 10), "i2", access=[(1,)])


def test_planning_takes_a_few_milliseconds():
    """The median plan with windows of up to five axes takes as many steps as that allows."""
    rng = random.Random(3)
    counts = []
    for _ in range(25):
        shape = tuple(int(math.exp(rng.uniform(1, 12))) for _ in range(rng.randint(1, 5)))
        access = [tuple(rng.choice([1, -1, 50]) for _ in shape) for _ in range(3)]
        counts.append(n_calls(functools.partial(lazyio.plan, shape, "i2", access=access)))
    assert statistics.median(counts) < 15_000


def test_blocks_that_defeat_the_windows_are_told():
    """The array's own blocks are kept, and what that costs is said, with what would do better."""
    array = da.zeros((780, 144, 192), chunks=(1, 144, 192), dtype="f4")
    plan = lazyio.plan(array, access=[(780, 1, 1)])
    ((_, text),) = [pair for pair in plan.advice if pair[0] == "blocks-against-access"]
    assert "rechunk the array first" in text
    better = ast.literal_eval(text.split("chunks=")[1].split(" to have")[0])
    free = lazyio.plan(array, access=[(780, 1, 1)], chunks=better)
    assert free.access_amplification * 2 < plan.access_amplification
    assert free.chunk_shape == lazyio.plan(array.shape, "f4", access=[(780, 1, 1)]).chunk_shape
    for chunks in (True, (1, 144, 192)):
        plan = lazyio.plan(array, access=[(780, 1, 1)], chunks=chunks)
        assert "blocks-against-access" not in dict(plan.advice)
    along = lazyio.plan(array, access=[(1, 144, 192)])
    assert "blocks-against-access" not in dict(along.advice)
