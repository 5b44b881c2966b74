"""HDMF's shapes to the digit, against rows that HDMF itself computed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import lazyio
from lazyio.errors import OptionError, PlanError
from lazyio.planning.hdmf import hdmf_block_shape, hdmf_chunk_shape

GOLDEN = json.loads(Path(__file__).with_name("hdmf.json").read_text())
ROWS = GOLDEN["rows"]
EXPLICIT = GOLDEN["explicit_chunk_rows"]


def name(row):
    """Return a row as a test id."""
    return f"{'x'.join(map(str, row['shape']))}-{row['dtype']}"


def nbytes(number, unit):
    """Return a decimal number of units as bytes."""
    return round(number * unit)


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_functions(row):
    """Chunk and buffer are those that HDMF chose."""
    shape, itemsize = tuple(row["shape"]), np.dtype(row["dtype"]).itemsize
    chunk = hdmf_chunk_shape(shape, itemsize, nbytes(row["chunk_mb"], 1e6))
    assert chunk == tuple(row["hdmf"]["chunk_shape"])
    block = hdmf_block_shape(shape, chunk, itemsize, nbytes(row["buffer_gb"], 1e9))
    assert block == tuple(row["hdmf"]["buffer_shape"])


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_plan(row):
    """The plan has HDMF's chunk, buffer, number of buffers and last buffer."""
    plan = lazyio.plan(
        row["shape"],
        row["dtype"],
        strategy="hdmf",
        memory_limit=nbytes(row["buffer_gb"], 1e9),
        chunk_nbytes=nbytes(row["chunk_mb"], 1e6),
    )
    check(plan, row["hdmf"])


@pytest.mark.parametrize("row", EXPLICIT, ids=name)
def test_plan_with_given_chunks(row):
    """Around chunks that were given the buffer is HDMF's, too."""
    plan = lazyio.plan(
        row["shape"],
        row["dtype"],
        strategy="hdmf",
        chunks=row["chunk_shape_in"],
        memory_limit=nbytes(row["buffer_gb"], 1e9),
    )
    check(plan, row["hdmf"])


def check(plan, expected):
    """Compare a plan with what HDMF said."""
    assert plan.chunk_shape == tuple(expected["chunk_shape"])
    assert plan.block_shape == tuple(expected["buffer_shape"])
    assert plan.n_blocks == expected["num_buffers"]
    assert plan.workers == 1
    assert plan.peak_nbytes == plan.block_nbytes <= plan.memory_limit
    *_, last = plan.regions()
    assert [part.stop - part.start for part in last] == expected["last_buffer"]
    assert plan.block_nbytes / plan.memory_limit == pytest.approx(expected["buffer_fill"], abs=1e-4)
    assert all(type(n) is int for n in (*plan.chunk_shape, *plan.block_shape, plan.peak_nbytes))


@pytest.mark.parametrize("row", [row for row in ROWS if row["chunk_mb"] == 10.0], ids=name)
def test_defaults(row):
    """Without limits they are HDMF's: 10 MB chunks and 1 GB buffers."""
    plan = lazyio.plan(row["shape"], row["dtype"], strategy="hdmf")
    assert plan.chunk_shape == tuple(row["hdmf"]["chunk_shape"])
    assert plan.memory_limit == 1_000_000_000
    if row["buffer_gb"] == 1.0:
        assert plan.block_shape == tuple(row["hdmf"]["buffer_shape"])


def test_regions_of_the_tutorial():
    """HDMF's tutorial array comes in four buffers, in C order."""
    plan = lazyio.plan((20000, 5000), "int32", memory_limit=200_000_000, strategy="hdmf")
    assert list(plan.regions()) == [
        (slice(0, 12640), slice(0, 3160)),
        (slice(0, 12640), slice(3160, 5000)),
        (slice(12640, 20000), slice(0, 3160)),
        (slice(12640, 20000), slice(3160, 5000)),
    ]


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (1,)], ids=str)
def test_corner_shapes(shape):
    """Arrays on which HDMF divides by zero have a plan all the same."""
    plan = lazyio.plan(shape, "float32", strategy="hdmf")
    assert plan.chunk_shape == tuple(max(1, extent) for extent in shape)
    assert plan.n_chunks == math.prod(shape)


def test_a_part_of_the_chunk():
    """HDMF takes all extents of a chunk or none."""
    with pytest.raises(OptionError, match=r'strategy="hdmf" takes all extents or none'):
        lazyio.plan((100, 100), "int16", chunks=(10, None), strategy="hdmf")


def test_chunk_over_the_buffer():
    """A given chunk over the buffer names the limit that would do, which does."""
    wishes = {"chunks": (100, 100), "strategy": "hdmf"}
    with pytest.raises(PlanError, match=r"would do is memory_limit=20000\b"):
        lazyio.plan((1000, 1000), "int16", memory_limit=19_999, **wishes)
    assert lazyio.plan((1000, 1000), "int16", memory_limit=20_000, **wishes).n_blocks == 100
