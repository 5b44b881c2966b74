"""Public: ``lazyio.plan``, and what every plan guarantees."""

import builtins
import functools
import itertools
import json
import math
import os
import re
from fractions import Fraction
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from counted import n_calls
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import LazyioError, OptionError, PlanError, UnsupportedDtypeError
from lazyio.planning.blocks import read_amplification
from lazyio.regions import box_shape, n_along

GIB = 2**30
DTYPES = ["u1", "i2", ">f4", "f8", "c16", "S7", "M8[ns]", "bool"]

extents = st.one_of(st.integers(0, 30), st.integers(1, 3000), st.integers(1, 10**8))
shapes = st.lists(extents, max_size=5).map(tuple)
limits = st.integers(10, 34).flatmap(lambda power: st.integers(2**power, 2 ** (power + 1)))
few_workers = st.none() | st.integers(1, 8)
wish = st.one_of(st.none(), st.just("auto"), st.just(-1), st.integers(1, 50), st.integers(1, 10**6))


def n_elements(region):
    """Return the elements of a region."""
    return math.prod(part.stop - part.start for part in region)


def check_tiling(plan):
    """Check that the blocks cover each element once, in C order."""
    regions = list(plan.regions())
    assert len(regions) == plan.n_blocks
    if plan.nbytes and math.prod(plan.shape) <= 10**5:
        counts = np.zeros(plan.shape, np.uint8)
        for region in regions:
            counts[region] += 1
        assert (counts == 1).all()
    assert sum(map(n_elements, regions)) == math.prod(plan.shape)
    starts = [tuple(part.start for part in region) for region in regions]
    assert starts == sorted(starts)
    bounds = [n for region in regions for part in region for n in (part.start, part.stop)]
    assert all(type(n) is int for n in bounds)
    for region in regions:
        for part, extent, step in zip(region, plan.shape, plan.chunk_shape, strict=True):
            assert 0 <= part.start <= part.stop <= extent
            assert plan.read_shape is not None or part.start % step == 0 or part.start == extent


def check_guarantees(plan, *, shape, dtype):
    """Check what the contract promises of every plan."""
    assert plan.shape == shape
    assert plan.dtype == np.dtype(dtype)
    assert plan.peak_nbytes <= plan.memory_limit
    for end, step, edge in zip(shape, plan.chunk_shape, plan.block_shape, strict=True):
        assert 1 <= step <= max(1, end)
        assert edge % step == 0 or edge == end
    numbers = (
        *plan.shape,
        *plan.chunk_shape,
        *plan.block_shape,
        plan.n_chunks,
        plan.n_shards,
        plan.n_blocks,
        plan.chunk_nbytes,
        plan.block_nbytes,
        plan.peak_nbytes,
        plan.memory_limit,
        plan.workers,
    )
    assert {type(number) for number in numbers} == {int}
    assert plan.chunk_nbytes == math.prod(plan.chunk_shape) * plan.dtype.itemsize
    assert plan.block_nbytes == math.prod(plan.block_shape) * plan.dtype.itemsize
    pairs = list(zip(shape, plan.chunk_shape, strict=True))
    assert plan.n_chunks == math.prod(-(-extent // step) for extent, step in pairs)
    if sum(map(n_along, shape, plan.block_shape)) <= 2000 and plan.n_blocks <= 2000:
        check_tiling(plan)
    json.dumps(plan.to_dict(), allow_nan=False)
    assert str(plan)


def smallest_limit(error):
    """Return the limit that a message names."""
    return int(re.search(r"would do is memory_limit=(\d+)", str(error))[1])


# --- guarantees ---------------------------------------------------------------------------


@given(shape=shapes, dtype=st.sampled_from(DTYPES), limit=limits, workers=few_workers)
@settings(max_examples=300, deadline=None)
def test_nothing_fixed_always_has_a_plan(shape, dtype, limit, workers):
    """Whatever the shape and the limit, chunk and block are lowered to fit."""
    plan = lazyio.plan(shape, dtype, memory_limit=limit, workers=workers)
    check_guarantees(plan, shape=shape, dtype=dtype)
    assert plan.chunk_nbytes <= 2**20
    assert plan.memory_limit == limit
    if workers is not None:
        assert plan.workers == workers


@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), limit=limits)
@settings(max_examples=400, deadline=None)
def test_guarantees_with_fixed_parts(data, shape, dtype, limit):
    """What the user fixed stands; the plan holds its guarantees or names what would do."""
    chunks = data.draw(st.just("auto") | st.tuples(*[wish for _ in shape]))
    block = data.draw(st.none() | st.tuples(*[st.integers(1, max(1, n)) for n in shape]))
    workers = data.draw(few_workers)
    wishes = {"memory_limit": limit, "workers": workers, "chunks": chunks, "block_shape": block}
    try:
        plan = lazyio.plan(shape, dtype, **wishes)
    except PlanError as error:
        names_remedy = r"would do is memory_limit=\d|is not a multiple of|below 4 GiB"
        if not re.search(names_remedy, str(error)) or (block is None and chunks == "auto"):
            raise
        return
    check_guarantees(plan, shape=shape, dtype=dtype)
    if chunks != "auto":
        for given_chunk, extent, found in zip(chunks, shape, plan.chunk_shape, strict=True):
            if given_chunk not in (None, "auto"):
                assert found == max(1, extent if given_chunk == -1 else min(given_chunk, extent))
    if block is not None:
        assert plan.block_shape == block


@given(data=st.data(), shape=shapes, dtype=st.sampled_from(["u1", "f8"]), limit=limits)
@settings(max_examples=300, deadline=None)
def test_guarantees_with_a_chunked_source(data, shape, dtype, limit):
    """A source's chunks change the blocks, never the guarantees."""
    source = data.draw(st.tuples(*[st.integers(1, max(1, min(n, 10**5))) for n in shape]))
    workers = data.draw(few_workers)
    wishes = {"memory_limit": limit, "workers": workers, "source_chunks": source}
    try:
        plan = lazyio.plan(shape, dtype, **wishes)
    except PlanError as error:
        needed = smallest_limit(error)
        assert needed > limit
        plan = lazyio.plan(shape, dtype, **wishes | {"memory_limit": needed})
        limit = needed
    check_guarantees(plan, shape=shape, dtype=dtype)
    assert plan.source_chunk_shape == source
    if plan.read_shape is None:
        expected = read_amplification(shape, plan.block_shape, source)
        assert plan.read_amplification == pytest.approx(expected)
        each = 2 * plan.block_nbytes + 4 * plan.chunk_nbytes
        each += 2 * math.prod(source) * np.dtype(dtype).itemsize
        assert plan.peak_nbytes == math.ceil(Fraction(9, 8) * plan.workers * each)
    else:
        assert plan.read_amplification == 1.0
        for edge, step, end in zip(plan.read_shape, source, shape, strict=True):
            assert edge % step == 0 or edge == end


@given(
    data=st.data(),
    shape=st.lists(st.integers(0, 10**6), max_size=4).map(tuple),
    dtype=st.sampled_from(["u1", "i2", "f8"]),
    workers=few_workers,
)
@settings(max_examples=300, deadline=None)
def test_the_smallest_limit_is_the_smallest(data, shape, dtype, workers):
    """Too small a limit names the smallest that would do: it does, and a byte less does not."""
    kind = data.draw(st.sampled_from(["nothing", "chunks", "some", "block", "source"]))
    each = [st.integers(1, max(1, min(n, 60))) for n in shape]
    wishes = {"workers": workers}
    if kind in ("chunks", "block"):
        wishes["chunks" if kind == "chunks" else "block_shape"] = data.draw(st.tuples(*each))
    elif kind == "some":
        wishes["chunks"] = data.draw(st.tuples(*[st.none() | one for one in each]))
    elif kind == "source":
        wishes["source_chunks"] = data.draw(st.tuples(*each))
    with pytest.raises(PlanError, match=r"too small.*would do is memory_limit=\d+") as caught:
        lazyio.plan(shape, dtype, memory_limit=1, **wishes)
    smallest = smallest_limit(caught.value)
    plan = lazyio.plan(shape, dtype, memory_limit=smallest, **wishes)
    check_guarantees(plan, shape=shape, dtype=dtype)
    with pytest.raises(PlanError, match=rf"would do is memory_limit={smallest}\b"):
        lazyio.plan(shape, dtype, memory_limit=smallest - 1, **wishes)


@given(
    shape=st.lists(st.integers(0, 400), max_size=3).map(tuple),
    held=st.sampled_from(["u1", "i2", "f8"]),
    dtype=st.sampled_from(["u1", "f8"]),
    limit=limits,
)
@settings(max_examples=200, deadline=None)
@example(shape=(100, 100), held="f8", dtype="u1", limit=4000)
def test_a_cast_source_always_has_a_plan(shape, held, dtype, limit):
    """Elements that are wider in memory than on disk lower chunk and block, too."""
    array = np.broadcast_to(np.zeros((), held), shape)
    plan = lazyio.plan(array, dtype, memory_limit=limit, workers=1)
    check_guarantees(plan, shape=shape, dtype=dtype)
    wide = max(np.dtype(held).itemsize, np.dtype(dtype).itemsize)
    assert 2 * wide * math.prod(plan.block_shape) <= plan.peak_nbytes


# --- dask arrays --------------------------------------------------------------------------


def lazy(sizes, dtype="f8"):
    """Return a dask array with blocks of given sizes, whose computation fails."""
    return da.map_blocks(
        refuse,
        chunks=tuple(map(tuple, sizes)),
        dtype=dtype,
        meta=np.empty((0,) * len(sizes), dtype),
    )


def refuse(*_, **__):
    """Fail where something is computed."""
    msg = "planning computed a block"
    raise AssertionError(msg)


edges = st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=5), min_size=1, max_size=3)


@given(
    sizes=edges,
    dtype=st.sampled_from(["u1", "f8"]),
    chunks=st.sampled_from(["auto", True, None]),
    workers=few_workers,
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_dask_arrays(sizes, dtype, chunks, workers):
    """Blocks that the chunks divide are kept; others are re-blocked, each computed once."""
    array = lazy(sizes, dtype)
    plan = lazyio.plan(array, chunks=chunks, workers=workers, memory_limit=4 * GIB)
    check_guarantees(plan, shape=array.shape, dtype=dtype)
    if plan.read_shape is None:
        blocks = itertools.product(*array.chunks)
        assert [box_shape(region) for region in plan.regions()] == list(filter(all, blocks))
    else:
        assert plan.read_shape == tuple(max(1, *axis) for axis in array.chunks)
    largest = math.prod(max(axis) for axis in array.chunks) * array.dtype.itemsize
    assert plan.peak_nbytes >= 2 * plan.workers * largest


def test_regular_blocks_are_kept():
    """The chunk divides the array's blocks, which stay the unit of work."""
    plan = lazyio.plan(lazy([(1000, 1000, 500), (400,)], "i2"))
    assert plan.read_shape is None
    assert plan.block_shape == (1000, 400)
    assert [region[0] for region in plan.regions()] == [
        slice(0, 1000),
        slice(1000, 2000),
        slice(2000, 2500),
    ]
    assert 1000 % plan.chunk_shape[0] == 0


def test_irregular_blocks_with_a_common_step_are_kept():
    """Blocks of different sizes are kept where a chunk divides them all."""
    array = lazy([(3000, 1000, 2000, 1000), (100,)])
    plan = lazyio.plan(array)
    assert plan.read_shape is None
    assert 1000 % plan.chunk_shape[0] == 0
    assert [n_elements(region) // 100 for region in plan.regions()] == [3000, 1000, 2000, 1000]


def test_blocks_without_a_common_step_are_reblocked():
    """Blocks that no useful chunk divides are gathered, and the table says so."""
    plan = lazyio.plan(lazy([(1000, 1000, 999, 1001), (500,)]))
    assert plan.read_shape == (1001, 500)
    assert "re-blocked" in str(plan)
    assert plan.read_amplification == 1.0


@pytest.mark.parametrize("n_columns", [(4,), (2, 2)], ids=["one-block", "columns"])
def test_a_long_prime_axis_in_one_block_is_kept(n_columns):
    """An axis without inner boundaries leaves the chunk free, whatever its length."""
    plan = lazyio.plan(lazy([(1_000_003,), n_columns], "i4"))
    assert plan.read_shape is None
    assert plan.n_blocks == len(n_columns)
    assert plan.chunk_nbytes >= 2**16


def test_own_blocks_as_chunks():
    """``chunks=True`` takes a dask array's regular blocks as they are."""
    plan = lazyio.plan(lazy([(100, 100, 50), (30, 30)]), chunks=True)
    assert plan.chunk_shape == (100, 30)
    assert plan.n_blocks == plan.n_chunks == 6
    assert plan.read_shape is None


def test_own_irregular_blocks_are_left_to_the_solver():
    """``chunks=True`` with irregular blocks is ``"auto"``, as it is for a shape."""
    array = lazy([(100, 60, 90), (300,)])
    assert lazyio.plan(array, chunks=True) == lazyio.plan(array)
    assert lazyio.plan((250, 300), "f8", chunks=True) == lazyio.plan((250, 300), "f8")


@pytest.mark.parametrize(
    "sizes", [[(0,), (5,)], [(0,)], [(5, 0, 5), (3,)], [(0, 7), (3,)]], ids=str
)
@pytest.mark.parametrize("chunks", ["auto", True], ids=str)
def test_blocks_of_no_elements(sizes, chunks):
    """Blocks without elements, and axes without any, have a plan."""
    array = lazy(sizes)
    plan = lazyio.plan(array, chunks=chunks)
    check_guarantees(plan, shape=array.shape, dtype="f8")
    assert plan.read_shape is None


def test_own_block_over_the_limit():
    """A user's block that alone exceeds the limit is refused, naming the limit that would do."""
    array = lazy([(1000, 1000), (1000,)])
    with pytest.raises(PlanError, match=r"array's own largest block of \(1000, 1000\)") as caught:
        lazyio.plan(array, memory_limit="8 MB")
    smallest = smallest_limit(caught.value)
    assert lazyio.plan(array, memory_limit=smallest).workers == 1
    with pytest.raises(PlanError, match=rf"memory_limit={smallest}\b"):
        lazyio.plan(array, memory_limit=smallest - 1)


def test_nan_chunks():
    """Block sizes that are not known are refused with the way to know them."""
    array = da.arange(100, chunks=10)
    with pytest.raises(PlanError, match=r"\(NaN\).*\.compute_chunk_sizes\(\)"):
        lazyio.plan(array[array > 5])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (da.from_array(np.array([{}, None]), chunks=1), r"hold Python objects"),
    ],
    ids=["object"],
)
def test_blocks_that_have_no_bytes(array, message):
    """Blocks that are no plain arrays are refused before anything is computed."""
    with pytest.raises(UnsupportedDtypeError, match=message):
        lazyio.plan(array)


# --- what the user fixes ------------------------------------------------------------------


def test_given_block_over_given_chunks():
    """Blocks of ten by ten chunks give four blocks."""
    plan = lazyio.plan((20000, 5000), "int32", chunks=(1000, 250), block_shape=(10000, 2500))
    assert (plan.n_blocks, plan.n_chunks) == (4, 400)
    assert list(plan.regions()) == [
        (slice(0, 10000), slice(0, 2500)),
        (slice(0, 10000), slice(2500, 5000)),
        (slice(10000, 20000), slice(0, 2500)),
        (slice(10000, 20000), slice(2500, 5000)),
    ]
    check_guarantees(plan, shape=(20000, 5000), dtype="int32")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ((10_500, 2500), r"axis 0; use 10000 or 11000, or the whole axis \(20000\)"),
        ((10_000, 2600), r"axis 1; use 2500 or 2750, or the whole axis \(5000\)"),
        ((300, 2500), r"axis 0; use 1000, or"),
    ],
    ids=["rows", "columns", "below-one"],
)
def test_block_of_no_whole_chunks(block, message):
    """A block that chunks do not tile is refused with the nearest that they do."""
    with pytest.raises(PlanError, match=message):
        lazyio.plan((20000, 5000), "int32", chunks=(1000, 250), block_shape=block)


@pytest.mark.parametrize(
    ("chunks", "chunk_shape"),
    [
        ((100, 50), (100, 50)),
        ([100, 50], (100, 50)),
        (np.array([100, 50]), (100, 50)),
        ((np.int64(100), np.uint8(50)), (100, 50)),
        (64, (64, 64)),
        (-1, (1000, 200)),
        ((-1, 10), (1000, 10)),
        ((5000, 200), (1000, 200)),
        ((None, "auto"), (1000, 200)),
        ({0: 100}, (100, 200)),
        ({-1: 20, 0: 50}, (50, 20)),
        ({1: -1, 0: None}, (1000, 200)),
        ({}, (1000, 200)),
        (None, (1000, 200)),
        (True, (1000, 200)),
        ("auto", (1000, 200)),
    ],
    ids=repr,
)
def test_spellings_of_chunks(chunks, chunk_shape):
    """Every form of ``chunks`` gives the extents that it says."""
    plan = lazyio.plan((1000, 200), "i2", chunks=chunks)
    assert plan.chunk_shape == chunk_shape
    check_guarantees(plan, shape=(1000, 200), dtype="i2")


def test_chunks_by_dimension_name():
    """A DataArray's chunks may be given by the names of its dimensions."""
    array = xr.DataArray(lazy([(100,), (20,)]), dims=("time", "channel"))
    plan = lazyio.plan(array, chunks={"channel": 5, 0: 50})
    assert plan.chunk_shape == (50, 5)


def test_unknown_dimension_name():
    """A name that no dimension has is refused, listing those there are."""
    array = xr.DataArray(lazy([(100,), (20,)]), dims=("time", "channel"))
    with pytest.raises(OptionError, match=r"axis 'electrode'.*\('time', 'channel'\)"):
        lazyio.plan(array, chunks={"electrode": 5})


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ((10,), r"has 1 axes, the array's shape \(1000, 200\) has 2"),
        ((10, 10, 10), r"has 3 axes"),
        ((0, 10), r"chunks holds 0; an axis takes a positive integer"),
        ((-2, 10), r"chunks holds -2"),
        ((1.5, 10), r"chunks holds 1\.5"),
        ((True, 10), r"chunks holds True"),
        (("10", 10), r"chunks holds '10'"),
        (False, r"chunks holds False"),
        ("big", r"chunks='big'; the only word it takes is \"auto\""),
        ({2: 10}, r"chunks names axis 2; the array has 2 axes"),
        ({-3: 10}, r"chunks names axis -3"),
        ({"time": 10}, r"chunks names axis 'time'; .* no named dimensions"),
        (2.5, r"chunks=2\.5 is not a shape"),
    ],
    ids=repr,
)
def test_chunks_that_cannot_be(chunks, message):
    """Ranks, extents and names that the array does not have are refused by name."""
    with pytest.raises(OptionError, match=message):
        lazyio.plan((1000, 200), "i2", chunks=chunks)


def test_chunks_of_a_plan():
    """A plan given as chunks is followed, blocks and all."""
    first = lazyio.plan((20000, 5000), "i4", chunks=(1000, 250), block_shape=(4000, 500))
    again = lazyio.plan((20000, 5000), "i4", chunks=first)
    assert again.layout == first.layout
    other = lazyio.plan((500, 5000), "i4", chunks=first)
    assert other.chunk_shape == (500, 250)
    with pytest.raises(OptionError, match=r"has 2 axes, the array's shape \(7,\) has 1"):
        lazyio.plan((7,), "i4", chunks=first)


def test_free_axes_beside_fixed_ones_divide_a_given_block():
    """Where a block is given, the free axes of the chunk divide it, whatever the others do."""
    plan = lazyio.plan((100, 100), "i4", block_shape=(100, 30), chunks=(8, None))
    assert plan.chunk_shape[0] == 8
    assert 30 % plan.chunk_shape[1] == 0


def test_a_block_over_a_whole_prime_axis_has_useful_chunks():
    """A block that spans an axis puts no condition on the chunk along it."""
    plan = lazyio.plan((1_000_003, 4), "i4", block_shape=(1_000_003, 2))
    assert plan.chunk_nbytes >= 2**16


@pytest.mark.parametrize("block", [(10,), (10, 10, 5)], ids=["short", "long"])
def test_block_of_another_rank(block):
    """A block with more or fewer axes than the array is refused."""
    with pytest.raises((OptionError, PlanError), match=rf"block_shape.* has {len(block)} axes"):
        lazyio.plan((1000, 200), "i4", block_shape=block)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"block_shape": (0, 10)}, r"block_shape=\(0, 10\) has an extent of 0"),
        ({"block_shape": (-5, 10)}, r"block_shape=\(-5, 10\) has a negative extent"),
        ({"block_shape": "big"}, r"block_shape='big' is not a shape"),
        ({"workers": 0}, r"workers=0; give an integer of at least 1"),
        ({"workers": 1.5}, r"workers=1\.5; give an integer"),
        ({"workers": True}, r"workers=True; give an integer"),
        ({"memory_limit": "64 Mi"}, r"memory_limit='64 Mi' is not a size"),
        ({"memory_limit": -1}, r"memory_limit=-1 is not a size"),
        ({"memory_limit": 0}, r"memory_limit=0 is not a size"),
        ({"chunk_nbytes": "one"}, r"chunk_nbytes='one' is not a size"),
        ({"chunk_nbytes": (1, 2, 3)}, r"chunk_nbytes=\(1, 2, 3\); give an upper bound"),
        ({"chunk_nbytes": ("2 MiB", "1 MiB")}, r"the lower bound is above the upper"),
        ({"format": "tiff"}, r"format='tiff' is not a target format"),
        ({"strategy": "best"}, r"strategy='best' is not a strategy"),
        ({"source_chunks": (10,)}, r"source_chunks=\(10,\) does not fit shape \(1000, 200\)"),
        ({"source_chunks": (0, 10)}, r"source_chunks=\(0, 10\) does not fit shape"),
    ],
    ids=str,
)
def test_options_that_cannot_be(option, message):
    """Arguments that cannot be are refused by name, with what they take."""
    with pytest.raises(OptionError, match=message):
        lazyio.plan((1000, 200), "i4", **option)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((-1, 5), "i4", r"shape=\(-1, 5\) has a negative extent"),
        (-3, "i4", r"shape=\(-3,\) has a negative extent"),
        ((1.5, 5), "i4", r"shape=\(1\.5, 5\) is not a shape"),
        ((1,) * 33, "i4", r"has 33 axes"),
        ((10,), None, r"does not say how large an element is"),
        ((10,), "int17", r"dtype='int17' is not a numpy dtype"),
    ],
    ids=["negative", "negative-int", "float", "rank", "no-dtype", "dtype"],
)
def test_shapes_that_cannot_be(shape, dtype, message):
    """Shapes and dtypes that cannot be are refused."""
    with pytest.raises(OptionError, match=message):
        lazyio.plan(shape, dtype)


def test_errors_are_the_natural_builtin():
    """What lazyio refuses is caught as its own base, and as a ``ValueError``."""
    assert issubclass(PlanError, LazyioError)
    assert issubclass(PlanError, ValueError)
    with pytest.raises(ValueError, match="negative extent"):
        lazyio.plan((-1,), "i4")


def test_chunk_of_4_gib():
    """A chunk below 4 GiB is taken, one of 4 GiB is refused."""
    wishes = {"memory_limit": "64 GiB"}
    assert lazyio.plan((2**33,), "u1", chunks=2**32 - 1, **wishes).chunk_nbytes == 2**32 - 1
    with pytest.raises(PlanError, match=r"4 GiB; .* stop below 4 GiB, choose a smaller chunk"):
        lazyio.plan((2**33,), "u1", chunks=2**32, **wishes)
    with pytest.raises(PlanError, match=r"stop below 4 GiB"):
        lazyio.plan((2**20, 2**13), "u1", chunks=-1, **wishes)


@pytest.mark.parametrize("strategy", ["auto", "hdmf"])
def test_solved_chunks_stay_below_4_gib(strategy):
    """A chunk_nbytes above 4 GiB never gives a chunk that HDF5 cannot store."""
    wishes = {"chunk_nbytes": "8 GiB", "memory_limit": "256 GiB", "strategy": strategy}
    try:
        chunk_nbytes = lazyio.plan((2**40,), "u1", **wishes).chunk_nbytes
    except PlanError as error:
        if "4 GiB" not in str(error):
            raise
    else:
        assert chunk_nbytes < 2**32


@pytest.mark.parametrize("shape", [(10**6,), (7001, 997), (300, 300, 300)], ids=str)
@pytest.mark.parametrize(
    ("limit", "upper"),
    [("64 KiB", 2**16), (100_000, 100_000), ("2 MiB", 2**21), (("1 kB", "1 MB"), 10**6)],
    ids=str,
)
def test_chunk_nbytes_is_an_upper_bound(shape, limit, upper):
    """A chunk is never above ``chunk_nbytes``, and well above a quarter of it."""
    assert upper / 4 <= lazyio.plan(shape, "f8", chunk_nbytes=limit).chunk_nbytes <= upper


def test_chunk_nbytes_has_a_lower_bound():
    """Chunks are at least the lower bound, also where the array's blocks suggest smaller ones."""
    array = lazy([(128,) * 64, (128,)], "f8")
    plan = lazyio.plan(array, chunk_nbytes=("512 KiB", "1 MiB"))
    assert 2**19 <= plan.chunk_nbytes <= 2**20


def test_lower_bound_of_any_chunk():
    """A chunk that would fill less than the lower bound is raised to it, fixed axes aside."""
    shape = (997, 991, 983)
    for lower in (2**20 - 2**14, 2**20 - 2**13):
        plan = lazyio.plan(shape, "u1", chunk_nbytes=(lower, "1 MiB"))
        assert lower <= plan.chunk_nbytes <= 2**20
    plan = lazyio.plan(shape, "u1", chunk_nbytes=("1000 KiB", "1 MiB"), chunks=(7, None, None))
    assert plan.chunk_shape[0] == 7
    assert 1000 * 2**10 <= plan.chunk_nbytes <= 2**20


def test_fixed_chunk_over_chunk_nbytes():
    """A chunk that is fixed above ``chunk_nbytes`` is refused with both numbers."""
    with pytest.raises(PlanError, match=r"is 80000 bytes, over chunk_nbytes=1000"):
        lazyio.plan((1000, 200), "i4", chunks=(100, 200), chunk_nbytes=1000)


def test_format_decides_the_default_chunk():
    """Zarr's default chunks are of 4 MiB, those of HDF5 of 1 MiB."""
    shape = (2**14, 2**14)
    assert lazyio.plan(shape, "u1").chunk_nbytes == 2**20
    assert lazyio.plan(shape, "u1", format="zarr").chunk_nbytes == 2**22


def test_default_limit():
    """The limit is 1 GiB where none is given, and any spelling of a size is taken."""
    assert lazyio.plan((10,), "u1").memory_limit == GIB
    assert lazyio.plan((10,), "u1", memory_limit="64 MiB").memory_limit == 64 * 2**20
    assert lazyio.plan((10,), "u1", memory_limit=np.int64(10**6)).memory_limit == 10**6


def test_workers_are_lowered_to_fit():
    """Workers that the user did not fix give way to a block that he did."""
    block = {"chunks": (1000, 100), "block_shape": (1000, 100)}
    with dask.config.set(num_workers=8):
        plan = lazyio.plan((10**4, 100), "i2", memory_limit=3 * 2**19, **block)
        assert plan.workers == 1
        assert lazyio.plan((10**4, 100), "i2", memory_limit=3 * 2**20, **block).workers == 2
        assert lazyio.plan((10**4, 100), "i2", memory_limit=2**28, **block).workers == 8
    with pytest.raises(PlanError, match=r"with 8 workers needs .* bytes"):
        lazyio.plan((10**4, 100), "i2", memory_limit=2**20, workers=8, **block)


def test_large_arrays_have_work_for_all():
    """A large array has at least four blocks per worker, of at least 16 MiB."""
    plan = lazyio.plan((700_000, 384), "i2", workers=2)
    assert plan.n_blocks >= 8
    assert plan.block_nbytes >= 16 * 2**20


# --- what a plan can be asked -------------------------------------------------------------


@given(
    shape=st.lists(st.integers(0, 5000), max_size=4).map(tuple),
    dtype=st.sampled_from(["u1", ">f4", "c16", "S7", "bool"]),
)
@settings(max_examples=100, deadline=None)
@example(shape=(), dtype="f8")
@example(shape=(0,), dtype="f8")
@example(shape=(3, 0, 5), dtype="i2")
@example(shape=(1,) * 32, dtype="i2")
def test_dataset_kwargs(shape, dtype):
    """The keywords make a dataset with h5py as they are, with the plan's chunks."""
    plan = lazyio.plan(shape, dtype)
    kwargs = plan.dataset_kwargs()
    assert set(kwargs) == {"shape", "dtype", "chunks", "maxshape"}
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", **kwargs)
        assert dataset.shape == shape
        assert dataset.dtype == plan.dtype
        if math.prod(shape):
            assert dataset.chunks == (plan.chunk_shape or None)
            assert dataset.maxshape == shape


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((), "f8"), ((0, 5), ">i2"), ((1000, 200), "M8[ns]"), ((9,), [("a", "i4"), ("b", "f8")])],
    ids=str,
)
def test_to_dict_is_json(shape, dtype):
    """The dictionary survives JSON unchanged and says what the plan says."""
    plan = lazyio.plan(shape, dtype, chunks=1 if shape else "auto")
    facts = plan.to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    for name in ("n_chunks", "n_blocks", "peak_nbytes", "workers", "block_nbytes"):
        assert facts[name] == getattr(plan, name)
    for name in ("shape", "chunk_shape", "block_shape"):
        assert facts[name] == list(getattr(plan, name))
    assert facts["shard_shape"] is None


def test_text_answers():
    """The table says what is on disk, in memory, how many tasks, how often it is read, why."""
    plan = lazyio.plan((20000, 5000), "int32", chunks=(1000, 250), block_shape=(10000, 2500))
    rows = dict(line.split("  ", 1) for line in str(plan).splitlines())
    assert list(rows) == ["array", "on disk", "in memory", "tasks", "source", "why"]
    assert "(20000, 5000) int32, 381 MiB" in rows["array"]
    assert "400 chunks of (1000, 250)" in rows["on disk"]
    assert "977 KiB each" in rows["on disk"]
    assert "blocks of (10000, 2500), 95.4 MiB each" in rows["in memory"]
    assert "of 1 GiB in all" in rows["in memory"]
    assert "4 blocks" in rows["tasks"]
    assert rows["source"].strip() == "read 1.0x"
    assert "chunk as given" in rows["why"]
    assert "block as given" in rows["why"]


def test_text_of_how_often_the_source_is_read():
    """Blocks that cut across the source's chunks are named, with how often the source is read."""
    plan = lazyio.plan((6000, 6000), "u1", source_chunks=(500, 500), block_shape=(750, 6000))
    assert plan.read_amplification == pytest.approx(4 / 3)
    assert re.search(r"source +read 1\.33x, .*\(500, 500\)", str(plan))


def test_notebook_table():
    """Notebooks get the same rows, as escaped HTML."""
    page = lazyio.plan((9,), [("<b>", "i4")])._repr_html_()
    assert page.startswith("<table>")
    assert "<b>" not in page
    assert "on disk" in page


@pytest.mark.parametrize(
    ("wishes", "codes"),
    [
        ({"chunks": (10, 10)}, ["tiny-chunks"]),
        ({"chunks": (9900, None)}, ["padded-chunks"]),
        ({"chunks": (1000, 200)}, []),
        ({}, []),
    ],
    ids=["tiny", "padded", "usual", "none"],
)
def test_advice(wishes, codes):
    """Advice is on what the user chose, and printed with its code."""
    plan = lazyio.plan((10_000, 200), "i2", **wishes)
    assert [code for code, _ in plan.advice] == codes
    assert all(f"[{code}]" in str(plan) for code in codes)


def test_advice_on_chunks_across_blocks():
    """Given chunks that cut across a dask array's blocks are said."""
    plan = lazyio.plan(lazy([(100,) * 10, (50,)]), chunks=(64, 50))
    assert [code for code, _ in plan.advice if code == "chunks-across-blocks"]
    assert plan.read_shape == (100, 50)


def test_plan_is_frozen():
    """A plan cannot be changed after it was checked."""
    plan = lazyio.plan((10,), "i4")
    with pytest.raises(AttributeError, match="cannot assign"):
        plan.workers = 5


def test_zarr_and_hdf5_arrays(tmp_path):
    """Files and open datasets are planned along their own chunks, from metadata."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", (1000, 600), "i2", chunks=(100, 60))
        assert lazyio.plan(dataset).source_chunk_shape == (100, 60)
    plan = lazyio.plan(path)
    assert plan.source_chunk_shape == (100, 60)
    assert plan.read_amplification == 1.0
    check_guarantees(plan, shape=(1000, 600), dtype="i2")


# --- laziness and speed -------------------------------------------------------------------


def test_planning_a_shape_does_no_io(monkeypatch):
    """No file is opened for the plan of a shape, however it is asked for."""
    wishes = {"memory_limit": "1 GB", "source_chunks": (100, 100), "workers": 2}
    lazyio.plan((10**6, 500), "f8", **wishes)
    for module, name in [(builtins, "open"), (os, "open"), (os, "stat"), (Path, "open")]:
        monkeypatch.setattr(module, name, refuse)
    plan = lazyio.plan((10**6, 501), "f8", **wishes)
    assert str(plan)
    assert sum(1 for _ in plan.regions()) == plan.n_blocks


def test_planning_computes_nothing():
    """No task of a graph runs, and no source is read, for a plan."""
    with dask.config.set(scheduler=refuse):
        array = lazy([(100, 100), (50,)])
        assert lazyio.plan(array).n_blocks == 2
        assert lazyio.plan((array + 1).T).n_blocks == 2
        straight = lazyio.from_function(refuse, (1000, 50), "f8", source_chunks=(10, 50))
        assert lazyio.plan(straight).source_chunk_shape == (10, 50)
        assert lazyio.plan(xr.DataArray(array)).n_blocks == 2


def test_planning_takes_under_a_millisecond():
    """The median plan of a shape, large or small, takes less than 1 ms."""
    shapes = [
        (1000,),
        (10**15,),
        (700_000, 384),
        (108_000_000, 384),
        (36_000, 512, 512),
        (2**62, 2**62),
        (100, 37, 721, 1440),
        (24, 8760, 37, 721, 1440),
        (997, 991),
    ]
    lazyio.plan(shapes[0], "i2", workers=1)  # What is imported then is no part of it.
    for shape in shapes:
        for workers in range(1, 10):
            n = n_calls(functools.partial(lazyio.plan, shape, "i2", workers=workers))
            assert n < 4000, (shape, workers)
