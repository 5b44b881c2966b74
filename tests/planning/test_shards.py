"""Shards: whole chunks, within the budget, few files, and blocks of whole shards."""

import math
import re
from fractions import Fraction

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import OptionError, PlanError
from lazyio.planning.blocks import MANY_FILES, MAX_FILES
from lazyio.regions import n_along

extents = st.one_of(st.integers(0, 30), st.integers(1, 3000), st.integers(1, 10**7))
shapes = st.lists(extents, min_size=1, max_size=5).map(tuple)
limits = st.integers(12, 34).flatmap(lambda power: st.integers(2**power, 2 ** (power + 1)))
few_workers = st.none() | st.integers(1, 8)


def check(plan):
    """Check what every plan with shards guarantees."""
    shard, chunk = plan.shard_shape, plan.chunk_shape
    for end, inner, edge, block in zip(plan.shape, chunk, shard, plan.block_shape, strict=True):
        assert type(edge) is int
        assert edge % inner == 0
        assert block % edge == 0 or block == max(1, end)
        assert inner <= max(1, end)
    assert plan.n_shards == math.prod(map(n_along, plan.shape, shard))
    assert plan.n_files == plan.n_shards
    itemsize = plan.dtype.itemsize
    held = 2 * plan.block_nbytes + math.prod(shard) * itemsize + 4 * plan.chunk_nbytes
    assert plan.peak_nbytes <= plan.memory_limit
    if plan.read_shape is None and plan.edges is None and plan.source_chunk_shape is None:
        assert plan.peak_nbytes == math.ceil(Fraction(9, 8) * plan.workers * held)


@given(shape=shapes, dtype=st.sampled_from(["u1", "f8"]), limit=limits, workers=few_workers)
@settings(max_examples=300, deadline=None)
def test_auto_shards_always_have_a_plan(shape, dtype, limit, workers):
    """Nothing is refused: chunk, shard and block are lowered until all of them fit."""
    wishes = {"format": "zarr", "shards": "auto", "memory_limit": limit, "workers": workers}
    plan = lazyio.plan(shape, dtype, **wishes)
    check(plan)
    inner = math.prod(e // c for e, c in zip(plan.shard_shape, plan.chunk_shape, strict=True))
    assert inner <= 65_536
    # Even: one chunk less on any axis would make more shards along it.
    for end, edge, chunk in zip(shape, plan.shard_shape, plan.chunk_shape, strict=True):
        if edge > chunk:
            assert n_along(end, edge - chunk) > n_along(end, edge)


@given(data=st.data(), shape=shapes, limit=limits, workers=few_workers, dtype=st.sampled_from("bd"))
@settings(max_examples=300, deadline=None)
def test_fixed_shards(data, shape, limit, workers, dtype):
    """A fixed shard stands, its chunk divides it; or the smallest limit that would do is named."""
    shard = data.draw(st.tuples(*[st.integers(1, 2000) | st.just(-1) for _ in shape]))
    wishes = {"format": "zarr", "shards": shard, "workers": workers}
    try:
        plan = lazyio.plan(shape, dtype, memory_limit=limit, **wishes)
    except PlanError as error:
        needed = int(re.search(r"would do is memory_limit=(\d+)", str(error))[1])
        assert needed > limit
        if -1 in shard:
            return
        plan = lazyio.plan(shape, dtype, memory_limit=needed, **wishes)
        with pytest.raises(PlanError, match=rf"would do is memory_limit={needed}\b"):
            lazyio.plan(shape, dtype, memory_limit=needed - 1, **wishes)
    check(plan)
    for edge, asked, end, chunk in zip(
        plan.shard_shape, shard, shape, plan.chunk_shape, strict=True
    ):
        assert edge == (max(1, n_along(end, chunk)) * chunk if asked == -1 else asked)


sizes = st.lists(st.integers(1, 500), min_size=1, max_size=4)


@given(
    edges=st.lists(sizes, min_size=1, max_size=3),
    shards=st.sampled_from(["auto", 64, 100, -1]),
    workers=few_workers,
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_shards_of_dask_arrays(edges, shards, workers):
    """Shards divide an array's own blocks, or those are gathered; within the limit."""
    array = da.zeros(tuple(map(sum, edges)), chunks=tuple(map(tuple, edges)), dtype="u1")
    plan = lazyio.plan(array, format="zarr", shards=shards, workers=workers, memory_limit=2**45)
    check(plan)
    starts = [np.cumsum([0, *axis])[:-1] for axis in array.chunks]
    is_whole = all(
        start % edge == 0
        for axis, edge in zip(starts, plan.shard_shape, strict=True)
        for start in axis
    )
    assert (plan.read_shape is None) == is_whole


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("shape", [(108_000_000, 384), (36_000, 512, 512), (10**11,)], ids=str)
def test_auto_keeps_files_few(shape, workers):
    """With memory enough there are no more files than that, of useful size."""
    wishes = {"format": "zarr", "memory_limit": "8 GiB", "workers": workers}
    plan = lazyio.plan(shape, "i2", shards="auto", chunk_nbytes="256 KiB", **wishes)
    assert plan.n_files <= MAX_FILES
    assert math.prod(plan.shard_shape) * 2 >= 32 * 2**20
    assert lazyio.plan(shape, "i2", chunk_nbytes="256 KiB", **wishes).n_files > plan.n_files


@pytest.mark.parametrize("shards", ["auto", (2000, 384), (2000, -1)], ids=str)
@pytest.mark.parametrize("shape", [(700_000, 384), (7001, 384), (10, 384)], ids=str)
def test_zarr_takes_the_shapes(tmp_path, shape, shards):
    """zarr-python makes an array of the plan's chunks and shards as they are."""
    plan = lazyio.plan(shape, "i2", format="zarr", shards=shards)
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=shape,
        dtype="i2",
        chunks=plan.chunk_shape,
        shards=plan.shard_shape,
    )
    assert array.chunks == plan.chunk_shape
    assert array.shards == plan.shard_shape


def test_a_shard_beside_a_fixed_chunk():
    """A fixed chunk divides a fixed shard, and tiles one that is chosen."""
    wishes = {"format": "zarr", "chunks": (1000, 16)}
    assert lazyio.plan((10**5, 384), "i2", shards=(5000, 64), **wishes).n_shards == 120
    check(lazyio.plan((10**5, 384), "i2", shards="auto", **wishes))
    with pytest.raises(
        PlanError,
        match=r"shard_shape \(5500, 64\) is not a multiple of chunk_shape"
        r" \(1000, 16\) on axis 0; use 5000 or 6000$",
    ):
        lazyio.plan((10**5, 384), "i2", shards=(5500, 64), **wishes)
    # The end of the axis is no excuse: Zarr has no cut shards.
    with pytest.raises(PlanError, match=r"on axis 1; use 384 or 400$"):
        lazyio.plan((10**5, 390), "i2", shards=(5000, 390), **wishes)


def test_blocks_are_whole_shards():
    """A fixed block that shards do not tile is refused."""
    wishes = {"format": "zarr", "shards": (64, 64)}
    assert lazyio.plan((1000, 1000), "i2", block_shape=(128, 1000), **wishes).n_blocks == 8
    with pytest.raises(PlanError, match=r"block_shape \(100, 1000\) is not a multiple of shard"):
        lazyio.plan((1000, 1000), "i2", block_shape=(100, 1000), **wishes)


def test_shards_within_a_fixed_block():
    """Chosen shards divide a block that is fixed."""
    plan = lazyio.plan(
        (6000, 6000), "i2", format="zarr", shards="auto", block_shape=(600, 900), chunks=(60, 90)
    )
    check(plan)
    assert plan.block_shape == (600, 900)
    assert plan.shard_shape != plan.chunk_shape


def test_shards_of_a_plan():
    """A plan given as chunks brings its shards along."""
    first = lazyio.plan((7000, 384), "i2", format="zarr", shards=(1000, 384))
    again = lazyio.plan((7000, 384), "i2", format="zarr", chunks=first)
    assert again.layout == first.layout


def test_windows_choose_the_chunk_inside_a_shard():
    """With windows, too, the chunk divides the shard."""
    plan = lazyio.plan(
        (700_000, 384), "i2", format="zarr", shards=(60_000, 384), access=[(30_000, 1)]
    )
    check(plan)
    assert plan.chunk_shape[1] < 32


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (1,) * 6], ids=str)
def test_corner_shapes(shape):
    """Arrays of no axis have no shards; of no elements, one chunk each."""
    plan = lazyio.plan(shape, "i2", format="zarr", shards="auto")
    if shape:
        check(plan)
    else:
        assert plan.shard_shape is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": (10,)}, r"shards=\(10,\) has 1 axes, the array's shape \(100, 50\) has 2"),
        ({"shards": (0, 5)}, r"shards holds 0; an axis takes a positive integer"),
        ({"shards": (-2, 5)}, r"shards holds -2"),
        ({"shards": (2.5, 5)}, r"shards holds 2\.5"),
        ({"shards": "big"}, r"shards holds 'big'"),
        ({"shards": True}, r"shards holds True"),
        ({"shards": "auto", "format": "hdf5"}, r"shards='auto': HDF5 has no shards; give format"),
        ({"shards": "auto", "strategy": "hdmf"}, r"HDMF has no shards"),
    ],
    ids=str,
)
def test_shards_that_cannot_be(options, message):
    """Ranks, extents and formats that have no shards are refused by name."""
    with pytest.raises(OptionError, match=message):
        lazyio.plan((100, 50), "i2", **{"format": "zarr"} | options)


def test_many_files():
    """Very many chunks without shards are advised against, with the number; shards are not."""
    wishes = {"format": "zarr", "chunks": (1, 100, 100)}
    shape = (200_000, 100, 100)
    plan = lazyio.plan(shape, "u1", **wishes)
    assert plan.n_files == 200_000 > MANY_FILES
    assert [code for code, _ in plan.advice if code == "many-files"]
    assert 'shards="auto"' in str(plan)
    assert "200000 files" in str(plan)
    for other in ({"shards": "auto"}, {"format": "hdf5"}):
        plan = lazyio.plan(shape, "u1", **wishes | other)
        assert "many-files" not in [code for code, _ in plan.advice]


def test_a_flood_of_files_is_worth_gathering():
    """Own blocks of single chunks are gathered to shards where they would flood a store."""
    tiny = da.zeros((400_000, 16), chunks=(3, 16), dtype="u1")
    plan = lazyio.plan(tiny, format="zarr", shards="auto", chunks=(1, 16))
    assert plan.read_shape == (3, 16)
    assert plan.n_files < 1000
    few = da.zeros((3000, 16), chunks=(3, 16), dtype="u1")
    kept = lazyio.plan(few, format="zarr", shards="auto", chunks=(1, 16))
    assert kept.read_shape is None
    assert kept.shard_shape == (3, 16)


def test_the_table_names_shards_and_files():
    """The printed plan says how many shards and files there are."""
    text = str(lazyio.plan((7000, 384), "i2", format="zarr", shards=(1000, 384)))
    assert "in 7 shards of (1000, 384); 7 files" in text
    facts = lazyio.plan((7000, 384), "i2", format="zarr", shards=(1000, 384)).to_dict()
    assert facts["shard_shape"] == [1000, 384]
    assert facts["n_files"] == 7
