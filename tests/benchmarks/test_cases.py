"""Shapes of blocks and shards, and jobs on their way to a child process."""

import math

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cases import Array, Job, from_json, to_json
from benchmarks.rows import ROWS


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    shape = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=4))
    chunks = [draw(st.integers(1, n)) for n in shape]
    return Array(name="x", path="x.raw", shape=tuple(shape), dtype="<i2", chunks=tuple(chunks))


def job(array: Array, row: str = "zarr:zstd-sharded") -> Job:
    return Job(
        contender="lazyio", array=array, row=ROWS[row], output="out", threads=2, is_checked=True
    )


@given(arrays())
def test_shard_is_eight_chunks(array: Array) -> None:
    factors = [whole // step for whole, step in zip(array.shards, array.chunks, strict=True)]
    assert math.prod(factors) == 8
    assert all(whole % step == 0 for whole, step in zip(array.shards, array.chunks, strict=True))
    # But for the first axis, no more than half of what is there is made up.
    grid = [-(-n // step) for n, step in zip(array.shape, array.chunks, strict=True)]
    assert all(factor <= there for factor, there in zip(factors[1:], grid[1:], strict=True))


@given(arrays(), st.sampled_from(["zarr:zstd-sharded", "hdf5:none"]))
def test_blocks_are_whole_units_and_tile_the_rows(array: Array, row: str) -> None:
    found = job(array, row)
    blocks = found.blocks()
    assert [one.start for one in blocks] == [0, *(one.stop for one in blocks[:-1])]
    assert blocks[-1].stop == array.shape[0]
    assert all(one.stop % found.unit[0] == 0 for one in blocks[:-1])


def test_shards_of_the_recording_are_whole_rows() -> None:
    shape, chunks = (700_000, 384), (13_000, 96)
    array = Array(name="x", path="x", shape=shape, dtype="<i2", chunks=chunks)
    assert array.shards == (26_000, 384)


def test_blocks_of_tiny_chunks_are_some_mebibytes() -> None:
    array = Array(name="x", path="x", shape=(70_000, 384), dtype="<i2", chunks=(16, 128))
    rows = job(array, "hdf5:none").block_rows
    assert rows % 16 == 0
    assert rows * 384 * 2 <= 8 << 20 < (rows + 16) * 384 * 2


@given(arrays())
def test_jobs_come_out_of_json_as_they_went_in(array: Array) -> None:
    jobs = [job(array), job(array, "read-hdf5:lz4")]
    assert from_json(to_json(jobs)) == jobs
