"""A source as a dask array: lazy, aligned, portable, and found again."""

import math
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import cloudpickle
import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

import lazyio
from lazyio.execution.dask_arrays import (
    as_blocks,
    locations_in,
    locations_of,
    masked_blocks,
    source_of,
)
from lazyio.sources.function import ArraySource
from lazyio.sources.lookup import source_for

MATRIX = np.arange(37 * 23 * 5, dtype="<i4").reshape(37, 23, 5)

examples = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Counting:
    """A source that keeps account of what is read from it."""

    def __init__(self, values=MATRIX, chunk_shape=None):
        self.shape = values.shape
        self.dtype = values.dtype
        self.chunk_shape = chunk_shape
        self.values = values
        self.seen = []
        self.lock = threading.Lock()

    def read(self, region):
        with self.lock:
            self.seen.append(region)
        return self.values[region].copy()

    def __reduce__(self):
        # Travels without its account and its lock.
        return Counting, (self.values, self.chunk_shape)


@pytest.fixture
def nothing_computed():
    """Fail when anything is computed in a test's lazy part."""
    runs = []

    def counting(graph, keys, **options):
        runs.append(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=counting):
        yield runs
    assert runs == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make one file or store of each format, each holding the same array."""
    tmp_path = tmp_path_factory.mktemp("images")
    np.save(tmp_path / "image.npy", MATRIX)
    MATRIX.tofile(tmp_path / "image.raw")
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file.create_dataset("raw", data=MATRIX, chunks=(8, 5, 5), compression="gzip")
        file["plain"] = MATRIX
    zarr.create_array(tmp_path / "image.zarr", data=MATRIX, chunks=(8, 5, 5))
    np.save(tmp_path / "first.npy", MATRIX[:, :10])
    np.save(tmp_path / "second.npy", MATRIX[:, 10:])
    return tmp_path


OPENERS = {
    "raw": lambda folder: lazyio.from_raw(folder / "image.raw", MATRIX.shape, MATRIX.dtype),
    "npy": lambda folder: lazyio.open(folder / "image.npy"),
    "hdf5": lambda folder: lazyio.open(folder / "image.h5", "raw"),
    "hdf5-plain": lambda folder: lazyio.open(folder / "image.h5", "plain"),
    "zarr": lambda folder: lazyio.open(folder / "image.zarr"),
    "joined": lambda folder: lazyio.concatenate(
        [folder / "first.npy", folder / "second.npy"], axis=1
    ),
    "function": lambda folder: lazyio.from_source(Counting()),
    "ndarray": lambda folder: lazyio.from_array(MATRIX),
}
FILES = {name: OPENERS[name] for name in ("raw", "npy", "hdf5", "hdf5-plain", "zarr", "joined")}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_nothing_is_computed_before_compute(folder, opener, nothing_computed):
    """Opening, slicing, working on and planning an array runs no graph."""
    array = opener(folder)
    derived = (array[3:20, ::2, -1].astype("f8") + 1).rechunk((5, 5)).map_blocks(np.sqrt)
    lazyio.plan(array)
    lazyio.plan(derived)
    source_of(array)
    locations_in(derived)
    repr(array)
    pickle.dumps(array)


def test_nothing_is_read_before_compute():
    """A source is not read until a block is computed, and then only what is wanted."""
    source = Counting(chunk_shape=(8, 5, 5))
    array = lazyio.from_source(source)
    derived = array[3:20, ::2, -1].astype("f8") + 1
    lazyio.plan(array)
    lazyio.plan(derived)
    assert source.seen == []
    derived.compute(scheduler="sync")
    assert source.seen


def test_metadata_only_from_files(folder, monkeypatch):
    """Opening a file reads its metadata; no element is read before compute."""
    array = lazyio.open(folder / "image.h5", "raw")
    opened = []
    monkeypatch.setattr(
        type(source_of(array)), "read", lambda self, region: opened.append(region) or None
    )
    lazyio.plan(lazyio.open(folder / "image.h5", "raw")[4:9])
    assert opened == []


shapes_and_chunks = st.integers(1, 3).flatmap(
    lambda rank: st.tuples(
        st.tuples(*(st.integers(1, 40) for _ in range(rank))),
        st.tuples(*(st.integers(1, 40) for _ in range(rank))),
        st.integers(1, 12),
    )
)


@examples
@given(case=shapes_and_chunks)
def test_blocks_are_whole_chunks_each_read_once(case):
    """Block edges are chunk edges, so that each chunk of the source is decoded once."""
    shape, chunk_shape, n_chunks = case
    chunk_shape = tuple(map(min, chunk_shape, shape))
    source = Counting(np.arange(math.prod(shape)).reshape(shape), chunk_shape)
    limit = math.prod(chunk_shape) * 8 * 12 * n_chunks
    array = lazyio.from_source(source, memory_limit=limit)
    for sizes, step, extent in zip(array.chunks, chunk_shape, shape, strict=True):
        assert all(size % step == 0 for size in sizes[:-1])
        assert sum(sizes) == extent
    got = array.compute(scheduler="sync")
    np.testing.assert_array_equal(got, source.values, strict=True)
    reads = np.zeros(shape, int)
    for region in source.seen:
        reads[region] += 1
    assert (reads == 1).all()


def test_blocks_stay_in_the_limit():
    """All blocks in flight fit the memory limit together."""
    array = lazyio.from_function(lambda region: None, (10**6, 1000), "f8", memory_limit="64 MiB")
    assert math.prod(array.chunksize) * 8 <= 64 * 2**20
    assert array.npartitions > 100


@pytest.mark.parametrize(
    ("chunks", "wanted"),
    [
        pytest.param((10, 23, 5), (10, 23, 5), id="tuple"),
        pytest.param([10, -1, 5], (10, 23, 5), id="whole-axis"),
        pytest.param(7, (7, 7, 5), id="integer"),
        pytest.param(-1, (37, 23, 5), id="whole"),
        pytest.param((100, 100, 100), (37, 23, 5), id="larger"),
    ],
)
def test_blocks_of_ones_own(chunks, wanted):
    """chunks= is the block shape, as in dask.array.from_array."""
    array = lazyio.from_source(Counting(), chunks=chunks)
    assert array.chunksize == wanted
    assert array.chunks == da.from_array(MATRIX, chunks=chunks).chunks
    np.testing.assert_array_equal(array.compute(scheduler="sync"), MATRIX)


def test_blocks_of_a_plan():
    """A Plan gives its blocks."""
    plan = lazyio.plan(MATRIX.shape, MATRIX.dtype, chunks=(4, 23, 5), block_shape=(12, 23, 5))
    assert lazyio.from_source(Counting(), chunks=plan).chunksize == (12, 23, 5)


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0, 3), (1, 1)], ids=str)
def test_small_shapes(shape):
    """Arrays without axes or elements are arrays too."""
    values = np.full(shape, 7.5)
    array = lazyio.from_source(Counting(values))
    assert array.shape == shape
    np.testing.assert_array_equal(np.asarray(array.compute(scheduler="sync")), values, strict=True)


def lists_on_one_axis(shape):
    """Return a strategy of indices with slices, and a list or mask on one axis."""

    def with_list(axis):
        extent = shape[axis]
        positions = st.lists(st.integers(-extent, extent - 1), min_size=1, max_size=6)
        masks = st.lists(st.booleans(), min_size=extent, max_size=extent).map(np.array)
        slices = [st.slices(n) for n in shape]
        slices[axis] = positions | masks
        return st.tuples(*slices)

    return st.integers(0, len(shape) - 1).flatmap(with_list)


def indices(shape):
    """Return a strategy of anything that numpy and dask both index with."""
    return basic_indices(shape, allow_newaxis=True, allow_ellipsis=True) | lists_on_one_axis(shape)


@pytest.mark.parametrize("name", ["raw", "hdf5", "joined", "function"])
@examples
@given(data=st.data())
def test_any_index_is_numpys(folder, name, data):
    """Whatever is taken from the array, slice after slice, is what numpy would take."""
    array, values = OPENERS[name](folder).rechunk((8, 10, 5)), MATRIX
    if data.draw(st.booleans()):
        array = OPENERS[name](folder)
    for _ in range(data.draw(st.integers(1, 2))):
        if not values.ndim or not values.size:
            break
        index = data.draw(indices(values.shape))
        array, values = array[index], values[index]
    got = np.asarray(array.compute(scheduler="sync"))
    np.testing.assert_array_equal(got, values, strict=True)


@pytest.mark.parametrize(
    "index",
    [
        pytest.param((slice(None, None, -1),), id="reversed"),
        pytest.param((slice(-5, None, -7), 3), id="negative-step"),
        pytest.param(([3, 3, -1, 0],), id="list"),
        pytest.param((..., [0, -1]), id="ellipsis-list"),
        pytest.param((slice(5, 5),), id="empty"),
        pytest.param((slice(100, 200),), id="beyond"),
        pytest.param((np.arange(37) % 5 == 0,), id="mask"),
        pytest.param((np.array([], int),), id="empty-list"),
        pytest.param((None, 3, None, ..., -2), id="newaxis"),
        pytest.param((np.int64(-1), np.uint8(3)), id="numpy-integers"),
    ],
)
@pytest.mark.parametrize("name", ["raw", "hdf5", "zarr"])
def test_indices(folder, name, index):
    """Each kind of index, named."""
    got = np.asarray(OPENERS[name](folder)[index].compute(scheduler="sync"))
    np.testing.assert_array_equal(got, MATRIX[index], strict=True)


def test_only_what_is_wanted_is_read():
    """A slice reads the box around it, not the whole of its blocks."""
    source = Counting()
    lazyio.from_source(source, chunks=-1)[3:30:9, 4, 1:3].compute(scheduler="sync")
    assert source.seen == [(slice(3, 22), slice(4, 5), slice(1, 3))]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_blocks_are_the_users_own(scheduler):
    """Work in place on a block changes nothing but the block."""

    def negate(block):
        np.negative(block, out=block)
        return block

    values = MATRIX.copy()
    array = lazyio.from_array(values, chunks=(10, 23, 5))
    got = array.map_blocks(negate, dtype=array.dtype).compute(scheduler=scheduler)
    np.testing.assert_array_equal(got, -MATRIX)
    np.testing.assert_array_equal(values, MATRIX)


def _descriptors():
    folder = "/proc/self/fd"
    paths = (os.path.join(folder, number) for number in os.listdir(folder))
    return sorted(os.readlink(path) for path in paths if os.path.lexists(path))


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("opener", FILES.values(), ids=FILES)
def test_no_open_file_travels(folder, opener, pickler):
    """A pickled array is small, holds no data and no open file, and reads the same."""
    before = _descriptors()
    array = opener(folder)
    array[:9].compute(scheduler="sync")
    sent = pickler.dumps(array)
    assert _descriptors() == before
    assert len(sent) < MATRIX.nbytes / 2
    assert MATRIX[:4].tobytes() not in sent
    np.testing.assert_array_equal(pickle.loads(sent).compute(scheduler="sync"), MATRIX)


def test_works_in_another_process(folder):
    """A child process that shares nothing but the file system computes the same blocks."""
    arrays = [opener(folder)[5:30:3, ::-1] for opener in FILES.values()]
    compute = operator.methodcaller("compute", scheduler="sync")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for got in pool.map(compute, arrays):
            np.testing.assert_array_equal(got, MATRIX[5:30:3, ::-1], strict=True)


def test_names_are_those_of_the_content(folder):
    """The same file opened twice has one name; another file, key or block shape another."""
    names = {
        opener(folder).name
        for opener in (*FILES.values(), lambda folder: lazyio.open(folder / "image.npy", chunks=7))
    }
    assert len(names) == len(FILES) + 1
    assert {opener(folder).name for opener in FILES.values()} < names


PEAK = """
import resource, sys
import numpy as np
import lazyio

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

lazyio.from_array(np.ones((64, 64))).compute()
before = peak()
array = lazyio.from_array(np.memmap(sys.argv[1], "u1", "r", shape=(300_000, 1000)))
block = array.blocks[0, 0].compute()
assert not block.any()
assert block.nbytes < 40 * 2**20, block.nbytes
sys.stdout.write(str(peak() - before))
"""


def test_a_mapped_file_is_never_in_memory_whole(tmp_path):
    """One block of a file larger than the limit takes one block's memory."""
    path = tmp_path / "large.raw"
    with path.open("wb") as file:
        file.truncate(300_000 * 1000)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60 * 2**20


STRAIGHT = {
    "itself": lambda array: array,
    "everything": lambda array: array[...],
    "slices": lambda array: array[:, :, :],
    "pickled": lambda array: pickle.loads(pickle.dumps(array)),
}
WORKED_ON = {
    "sliced": lambda array: array[1:],
    "one": lambda array: array[0],
    "reversed": lambda array: array[::-1],
    "stepped": lambda array: array[::2],
    "list": lambda array: array[[0, 1]],
    "rechunked": lambda array: array.rechunk((5, 5, 5)),
    "cast": lambda array: array.astype("f8"),
    "computed": lambda array: array + 1,
    "unchanged": lambda array: array + 0,
    "transposed": lambda array: array.T,
    "reshaped": lambda array: array.reshape(-1),
    "map-blocks": lambda array: array.map_blocks(np.negative),
    "joined": lambda array: da.concatenate([array, array]),
    "stacked": lambda array: da.stack([array]),
    "persisted": lambda array: array.persist(scheduler="sync"),
}


@pytest.mark.parametrize("change", STRAIGHT.values(), ids=STRAIGHT)
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_straight_arrays_have_a_source(folder, opener, change):
    """An array straight from a source gives it back."""
    source = source_of(change(opener(folder)))
    assert source is not None
    assert source.shape == MATRIX.shape
    np.testing.assert_array_equal(source.read(tuple(map(slice, (0, 0, 0), MATRIX.shape))), MATRIX)


@pytest.mark.parametrize("change", WORKED_ON.values(), ids=WORKED_ON)
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_other_arrays_have_none(folder, opener, change):
    """An array that anything was done to has no source; its graph is what counts."""
    assert source_of(change(opener(folder))) is None


def test_arrays_of_dask_have_no_source(folder):
    """What dask made from an array is its own."""
    for array in (
        da.from_array(MATRIX),
        da.ones((5, 5)),
        da.from_array(zarr.open_array(folder / "image.zarr", mode="r")),
    ):
        assert source_of(array) is None


def test_same_source_through_from_source():
    """The very source comes back, not another of its kind."""
    source = Counting()
    assert source_of(as_blocks(source, (10, 10, 5))) is source


LOCATIONS = {
    "raw": ("image.raw", ""),
    "npy": ("image.npy", ""),
    "hdf5": ("image.h5", "raw"),
    "hdf5-plain": ("image.h5", "plain"),
    "zarr": ("image.zarr", ""),
}


def _located(folder, array):
    return {(os.path.relpath(path, folder), key.strip("/")) for path, key in locations_in(array)}


@pytest.mark.parametrize(
    "change",
    [*STRAIGHT.values(), *(WORKED_ON[n] for n in WORKED_ON if n != "persisted")],
    ids=[*STRAIGHT, *(n for n in WORKED_ON if n != "persisted")],
)
@pytest.mark.parametrize("name", LOCATIONS)
def test_locations_of_opened_files(folder, name, change):
    """Whatever is done to an array, the file that it reads is known."""
    assert _located(folder, change(FILES[name](folder))) == {LOCATIONS[name]}


def test_locations_of_several_files(folder):
    """Every file behind an array is known."""
    arrays = [opener(folder) for opener in FILES.values()]
    wanted = {*LOCATIONS.values(), ("first.npy", ""), ("second.npy", "")}
    assert _located(folder, sum(arrays[1:], arrays[0])) == wanted
    assert _located(folder, OPENERS["joined"](folder)) == {("first.npy", ""), ("second.npy", "")}


def test_locations_of_held_arrays(folder):
    """A source that holds a dataset reads where that lies."""
    with h5py.File(folder / "image.h5", "r") as file:
        held = ArraySource(array=file["raw"], shape=MATRIX.shape, dtype=MATRIX.dtype)
        assert locations_of(held) == {(str(folder / "image.h5"), "/raw")}
    assert locations_of(Counting()) == set()


@pytest.mark.parametrize("index", [(slice(5, 9),), (3, slice(None, None, -2)), (..., [4, 0])])
def test_masked_blocks(index):
    """A masked array is cut like any other, mask and all, and not copied as a whole."""
    values = np.ma.masked_array(MATRIX, mask=MATRIX % 7 == 0)
    array = masked_blocks(values, (8, 23, 5))
    assert array.chunks == ((8, 8, 8, 8, 5), (23,), (5,))
    got = array[index].compute(scheduler="sync")
    np.testing.assert_array_equal(got.mask, values[index].mask)
    np.testing.assert_array_equal(got.filled(-1), values[index].filled(-1))
    # To name it by its content would read all of it.
    assert array.name != masked_blocks(values, (8, 23, 5)).name
    assert source_of(array) is None


@pytest.mark.parametrize("inline", [False, True], ids=["key", "inline"])
@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_locations_of_what_dask_was_given(folder, kind, inline):
    """Datasets and zarr arrays that dask was given directly are known too."""
    with h5py.File(folder / "image.h5", "r") as file:
        if kind == "hdf5":
            held, wanted = file["raw"], LOCATIONS["hdf5"]
        else:
            held, wanted = zarr.open_array(folder / "image.zarr", mode="r"), LOCATIONS["zarr"]
        array = da.from_array(held, chunks=(8, 23, 5), inline_array=inline)
        assert _located(folder, array) == {wanted}
        assert _located(folder, array.map_blocks(np.negative) + 1) == {wanted}


@pytest.mark.parametrize("inline", [False, True], ids=["key", "inline"])
def test_memmaps_that_dask_was_given(tmp_path, inline):
    """A memmap that dask was given is known, or was copied: then its file is not read again."""
    mapped = np.memmap(tmp_path / "image.raw", "<i4", "w+", shape=MATRIX.shape)
    mapped[...] = MATRIX
    array = da.from_array(mapped, chunks=(8, 23, 5), inline_array=inline)
    if _located(tmp_path, array) != {LOCATIONS["raw"]}:
        mapped[...] = -1
        np.testing.assert_array_equal(array.compute(scheduler="sync"), MATRIX)


def test_no_locations_without_files():
    """Arrays in memory lie nowhere."""
    assert locations_in(da.ones((4, 4)) + da.from_array(MATRIX[0, :4, :4])) == set()
    assert locations_in(lazyio.from_array(MATRIX)) == set()


def test_sources_of_a_store_in_memory():
    """A zarr store in memory has no place that could be written over."""
    made = zarr.create_array(zarr.storage.MemoryStore(), data=MATRIX)
    (name,) = {path for path, _ in locations_in(lazyio.from_array(made)) if path}
    assert name.startswith("memory://")
    assert source_for(made).shape == MATRIX.shape
