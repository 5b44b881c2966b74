"""Arrays whose parts come in any order: blocks, HDMF's iterators, sparse matrices."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from formats import FORMATS, read, write
from hdmf.backends.hdf5 import HDF5IO
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import SimpleMultiContainer, VectorData, get_manager
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk, DataChunkIterator
from hdmf.data_utils import GenericDataChunkIterator as Generic
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.atomic.recovery import leftovers
from lazyio.codecs.hdf5_chunks import Encoder
from lazyio.errors import BlockError, OptionError, PlanError


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def n_stored(path, key="data"):
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file[key].id.get_num_chunks()
    return sum(entry.is_file() for entry in (path / "c").rglob("*"))


class Pairs(AbstractDataChunkIterator):
    """An iterator over given pairs, its facts in properties or in methods."""

    def __init__(self, pairs, shape, maxshape=None, chunk_shape=None, dtype="f8"):
        self.pairs = iter(pairs)
        self.facts = shape, maxshape or shape, chunk_shape
        self._dtype = np.dtype(dtype)

    def __iter__(self):
        return self

    def __next__(self):
        selection, data = next(self.pairs)
        return DataChunk(data=np.asarray(data), selection=selection)

    def recommended_chunk_shape(self):
        return self.facts[2]

    def recommended_data_shape(self):
        return self.facts[0]

    @property
    def dtype(self):
        return self._dtype

    @property
    def maxshape(self):
        return self.facts[1]


class WithProperties(Pairs):
    """As HDMF 6 and others have it, too."""

    recommended_chunk_shape = property(Pairs.recommended_chunk_shape)
    recommended_data_shape = property(Pairs.recommended_data_shape)


@st.composite
def selections(draw, shape):
    """Return something that h5py takes, and numpy as well."""
    parts = []
    has_list = False
    for extent in shape:
        start = draw(st.integers(0, extent - 1))
        stop = draw(st.integers(start, extent))
        kinds = ["int", "slice", "open", "step", *([] if has_list else ["list", "mask"])]
        match draw(st.sampled_from(kinds)):
            case "int":
                parts.append(start - draw(st.sampled_from([0, extent])))
            case "slice":
                parts.append(slice(start, stop))
            case "open":
                parts.append(slice(start, None))
            case "step":
                parts.append(slice(start, stop, draw(st.integers(1, 3))))
            case "list":
                has_list = True
                parts.append(sorted(draw(st.sets(st.integers(0, extent - 1)))))
            case _:
                has_list = True
                parts.append(
                    np.array(draw(st.lists(st.booleans(), min_size=extent, max_size=extent)))
                )
    n_left_out = draw(st.integers(0, len(parts)))
    if draw(st.booleans()):
        parts = [*parts[: len(parts) - n_left_out], Ellipsis]
    return tuple(parts)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_as_numpy_has_it(tmp_path_factory, data):
    """Any selections, overlaps, chunks, order and memory: the last one wins."""
    draw = data.draw
    suffix = draw(st.sampled_from(FORMATS))
    shape = draw(st.lists(st.integers(1, 30), min_size=1, max_size=3).map(tuple))
    chunks = tuple(draw(st.integers(1, extent)) for extent in shape)
    fill = draw(st.sampled_from([0, 7]))
    whole = np.full(shape, fill, "i4")
    touched = np.zeros(shape, bool)
    pairs = []
    for number in range(draw(st.integers(0, 12))):
        selection = draw(selections(shape))
        there = whole[selection]
        part = np.arange(there.size, dtype="i4").reshape(there.shape) + 100 * number
        whole[selection] = part
        touched[selection] = True
        pairs.append((selection, part))
    kind = draw(st.sampled_from(["blocks", "iterator", "properties"])) if pairs else "blocks"
    options = {"chunks": chunks}
    if kind != "blocks":
        options["fillvalue" if suffix == "h5" else "fill_value"] = fill

    def make():
        if kind == "blocks":
            return lazyio.Blocks(pairs, shape, "i4", fill_value=fill)
        return {"iterator": Pairs, "properties": WithProperties}[kind](pairs, shape, dtype="i4")

    path = tmp_path_factory.mktemp("pieces") / f"x.{suffix}"
    try:
        report = write(make(), path, memory_limit="20 KiB", workers=1, **options)
    except (PlanError, BlockError):  # There, too little is left for what waits.
        report = write(make(), path, memory_limit="10 MiB", workers=2, **options)
    np.testing.assert_array_equal(read(path), whole)
    np.testing.assert_array_equal(lazyio.open(path).compute(), whole)
    assert lazyio.verify(path).status == "ok"
    grid = [range(-(-n // c)) for n, c in zip(shape, chunks, strict=True)]
    n_touched = sum(
        touched[
            tuple(slice(at * c, (at + 1) * c) for at, c in zip(index, chunks, strict=True))
        ].any()
        for index in np.ndindex(*map(len, grid))
    )
    if suffix == "h5":
        assert n_stored(path) == n_touched
        assert report.n_chunks >= n_touched
        assert kind != "blocks" or report.n_chunks == n_touched


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_growing_along_any_axes(tmp_path_factory, data):
    """What HDMF extends as data come ends with the same extents here."""
    draw = data.draw
    ndim = draw(st.integers(1, 3))
    maxshape = tuple(draw(st.sampled_from([None, 9])) for _ in range(ndim))
    shape = tuple(draw(st.integers(0, 4)) for _ in range(ndim))
    pairs = []
    for number in range(draw(st.integers(1, 8))):
        starts = [draw(st.integers(0, 6)) for _ in range(ndim)]
        selection = tuple(slice(a, a + draw(st.integers(1, 3))) for a in starts)
        part = np.full([part.stop - part.start for part in selection], number + 1.5)
        pairs.append((selection, part))
    bounds = [max(shape[at], *(sel[at].stop for sel, _ in pairs)) for at in range(ndim)]
    whole = np.zeros(bounds)
    for selection, part in pairs:
        whole[selection] = part
    suffix = draw(st.sampled_from(FORMATS))
    path = tmp_path_factory.mktemp("growing") / f"x.{suffix}"
    chunks = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    report = write(Pairs(pairs, shape, maxshape, chunks), path)
    np.testing.assert_array_equal(read(path), whole)
    assert report.plan.shape == whole.shape
    assert lazyio.verify(path).status == "ok"
    if suffix == "h5":
        with h5py.File(path) as file:
            assert file["data"].maxshape == maxshape
            assert file["data"].chunks == chunks


class TestBlocks:
    """Regions in any order."""

    def test_each_chunk_is_encoded_once(self, tmp_path, monkeypatch):
        seen = []
        encode = Encoder.encode
        monkeypatch.setattr(
            Encoder, "encode", lambda self, *args: seen.append(1) or encode(self, *args)
        )
        rng = np.random.default_rng(0)
        pairs = [
            (np.s_[a : a + 7, b : b + 5], rng.integers(0, 9, (7, 5)))
            for a, b in rng.integers(0, 90, (300, 2))
        ]
        whole = np.zeros((100, 100), "i8")
        for region, part in pairs:
            whole[region] = part
        for limit in ("64 KiB", "1 MiB"):
            seen.clear()
            blocks = lazyio.Blocks(pairs, (100, 100), "i8")
            report = lazyio.to_hdf5(
                blocks,
                tmp_path / "x.h5",
                mode="w",
                chunks=(10, 10),
                compression="gzip",
                memory_limit=limit,
                workers=1,
            )
            assert len(seen) == report.n_chunks == n_stored(tmp_path / "x.h5")
            np.testing.assert_array_equal(read(tmp_path / "x.h5"), whole)

    def test_only_what_is_touched_is_stored(self, path):
        ones = np.ones((10, 10))
        blocks = lazyio.Blocks(
            [(np.s_[20:30, 70:80], ones), (np.s_[20:30, 75:85], ones)], (10**6, 10**6), "f8"
        )
        report = write(blocks, path, chunks=(10, 10))
        assert report.n_chunks == n_stored(path) == 2
        assert report.nbytes == 1600
        assert lazyio.open(path)[15:25, 60:90].sum().compute() == 5 * 15

    def test_the_first_block_suggests_the_chunk(self, path):
        blocks = lazyio.Blocks([(np.s_[0:20, 0:30], np.ones((20, 30)))], (10**5, 10**5), "f8")
        assert write(blocks, path).plan.chunk_shape == (20, 30)
        one = lazyio.Blocks([((5, 5), 1.0)], (10**5, 10**5), "f8")
        assert write(one, path, overwrite=True).plan.chunk_nbytes > 2**15

    def test_what_was_suggested_gives_way(self, path):
        blocks = lazyio.Blocks([(np.s_[0:20, 0:30], np.ones((20, 30)))], (10**5, 10**5), "f8")
        assert write(blocks, path, chunk_nbytes="64 KiB").plan.chunk_nbytes > 2**15

    def test_it_is_taken_once(self, path):
        blocks = lazyio.Blocks([((0,), 1)], (3,), "i4")
        write(blocks, path)
        with pytest.raises(OptionError, match="used up"):
            write(blocks, path, overwrite=True)

    def test_text_and_records(self, path):
        text = np.dtypes.StringDType()
        write(lazyio.Blocks([([1, 3], np.array(["a", "bc"], text))], (5,), text), path)
        assert lazyio.open(path).compute().tolist() == ["", "a", "", "bc", ""]
        record = np.dtype([("x", "i4"), ("y", "f8")])
        part = np.array([(1, 2.5)], record)
        write(lazyio.Blocks([(slice(2, 3), part)], (5,), record), path, overwrite=True)
        assert read(path)["y"].tolist() == [0, 0, 2.5, 0, 0]

    def test_shards_and_several(self, tmp_path):
        pairs = [(np.s_[a : a + 3], np.arange(a, a + 3)) for a in (90, 1, 40, 41)]
        whole = np.zeros(100, "i8")
        for region, part in pairs:
            whole[region] = part
        arrays = {
            "a": lazyio.Blocks(pairs, 100, "i8"),
            "b": lazyio.Stream(range(10)),
            "c": Pairs(pairs, (100,), dtype="i8"),
        }
        lazyio.to_zarr(arrays, tmp_path / "x.zarr", chunks=4, shards=8)
        group = zarr.open_group(tmp_path / "x.zarr", mode="r")
        for key, values in {"a": whole, "b": np.arange(10), "c": whole}.items():
            np.testing.assert_array_equal(group[key][...], values)

    @pytest.mark.parametrize("store", ["x.zip", "memory"])
    def test_other_stores(self, tmp_path, store):
        target = zarr.storage.MemoryStore() if store == "memory" else tmp_path / store
        pairs = [(np.s_[a : a + 2], np.arange(2)) for a in (0, 2, 4, 0)]
        lazyio.to_zarr(Pairs(pairs, (6,), dtype="i8"), target, chunks=2)
        np.testing.assert_array_equal(lazyio.open(target).compute(), [0, 1] * 3)

    def test_an_open_file(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            lazyio.to_hdf5(lazyio.Blocks([((1, 2), 5)], (3, 3), "i4"), file, "sparse")
            assert file["sparse"][...].tolist() == [[0, 0, 0], [0, 0, 5], [0, 0, 0]]

    def test_into_a_large_file(self, tmp_path, monkeypatch):
        """A file that is changed in place: what was handed over cannot be read back there."""
        monkeypatch.setattr("lazyio.storage.hdf5.file.COPIED_NBYTES", 1000)
        path = tmp_path / "x.h5"
        lazyio.to_hdf5(np.arange(10000), path, "first")
        pairs = [(np.s_[a : a + 2], np.arange(2) + a) for a in (0, 2, 4, 0)]
        lazyio.to_hdf5(Pairs(pairs, (6,), chunk_shape=(2,)), path, "second")
        assert read(path, "second").tolist() == [0, 1, 2, 3, 4, 5]
        assert lazyio.verify(path).status == "ok"

    def test_computing_all_of_it_is_refused(self, path):
        write(lazyio.Blocks([((0, 0), 1)], (10**6, 10**6), "f8"), path, chunks=(100, 100))
        opened = lazyio.open(path)
        for take in (opened.compute, lambda: np.asarray(opened)):
            with pytest.raises(MemoryError, match=r"takes 7\.28 TiB, and this machine has"):
                take()
        assert opened[:3, :3].compute().sum() == 1


WRONG = [
    ((np.s_[0:3], np.ones(4)), r"data of shape \(4,\) does not fit"),
    ((np.s_[8:12], np.ones(4)), "leads out of axis 0, which ends at 10"),
    (([3, 1], np.ones(2)), "do not increase"),
    (([3, 3], np.ones(2)), "some come twice"),
    ((np.s_[0, 0], 1), "more axes than the array"),
    ((np.s_[::-1], np.ones(10)), "goes backwards"),
    (("x", 1), "give an int, a slice"),
    ((np.s_[0:2], np.ones(2) * 1j), "its dtype is complex128, of which float64 cannot hold"),
    ((np.s_[0.5:2], 1), "no integer"),
]


@pytest.mark.parametrize(("pair", "match"), WRONG)
@pytest.mark.parametrize("kind", ["blocks", "iterator"])
def test_what_does_not_fit(path, pair, match, kind):
    """Named by its number; and nothing is published."""
    pairs = [(np.s_[0:2], np.ones(2)), pair]
    data = lazyio.Blocks(pairs, 10, "f8") if kind == "blocks" else Pairs(pairs, (10,))
    with pytest.raises(BlockError, match=f"(block|item) 1.*{match}"):
        write(data, path)
    assert not path.exists()
    assert not leftovers(path)


def test_items_that_are_none(path):
    for item in (3, (1, 2, 3), "ab c"):
        with pytest.raises(BlockError, match="item 0 is no pair"):
            write(lazyio.Blocks([item], 10, "f8"), path)
    with pytest.raises(OptionError, match="not iterable"):
        lazyio.Blocks(3, 10, "f8")
    with pytest.raises(OptionError, match="resume=True"):
        write(lazyio.Blocks([], 10, "f8"), path, resume=True)


ODD = [
    ((np.s_[0:3], np.ma.array([1.0, 2, 3], mask=[0, 1, 0])), "masked elements"),
    (([True, False, True], np.ones(2)), "the mask on axis 0 has 3 elements"),
    (([-2, -1], np.ones(2)), "count from the start"),
    ((0, None), "there is no data"),
    ((0, "text"), "cannot hold"),
]


@pytest.mark.parametrize(("pair", "match"), ODD)
def test_what_h5py_would_not_take(path, pair, match):
    with pytest.raises(BlockError, match=f"block 0.*{match}"):
        write(lazyio.Blocks([pair], 10, "f8"), path)


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("error", [IndexError, ValueError, BlockError, KeyboardInterrupt])
def test_blocks_that_fail(path, after, error):
    """At any item, with any error: nothing is published."""

    def pairs():
        for at in range(after):
            yield (at,), 1
        raise error

    expected = KeyboardInterrupt if error is KeyboardInterrupt else BlockError
    with pytest.raises(expected):
        write(lazyio.Blocks(pairs(), 10, "f8"), path)
    assert not path.exists()


def test_blocks_that_fail_at_first_are_not_taken_for_none(path):
    """Another call with them fails as the first one did."""

    class Late:
        n = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.n += 1
            if self.n == 1:
                raise OSError("not yet")
            raise StopIteration

    blocks = lazyio.Blocks(Late(), 10, "f8")
    for _ in range(2):
        with pytest.raises(BlockError, match="block 0 did not come: OSError: not yet"):
            write(blocks, path)
    assert not path.exists()


def test_fields_in_another_order(path):
    """Numpy would go by their order, at any depth."""
    inner = np.dtype([("x", "i4"), ("y", "i4")])
    other = np.dtype([("y", "i4"), ("x", "i4")])
    with pytest.raises(BlockError, match="cannot hold"):
        write(lazyio.Blocks([((0,), np.zeros((), [("a", other)]))], 3, [("a", inner)]), path)


@pytest.mark.parametrize("dtype", [">i4", ">f8", "S4", "U4", "?", "c16"])
@pytest.mark.parametrize("version", [None, 2, 3])
def test_a_single_element(tmp_path, dtype, version):
    value = np.array("ab" if dtype[0] in "SU" else 2).astype(dtype)
    blocks = lazyio.Blocks([((), value)], (), dtype)
    if version is None:
        lazyio.to_hdf5(blocks, tmp_path / "x.h5")
        assert lazyio.open(tmp_path / "x.h5").compute() == value
    else:
        lazyio.to_zarr(blocks, tmp_path / "x.zarr", zarr_format=version)
        assert zarr.open_array(tmp_path / "x.zarr", mode="r")[()] == value


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["f8", "i4", "c16", "U3", "i4,f8"])
def test_what_is_not_there_in_other_stores(version, dtype):
    """As in a folder: zero, or no text."""
    value = np.ones(1, "f8").astype(dtype) if dtype != "U3" else np.array(["a"])
    for store in (zarr.storage.MemoryStore(), {}):
        lazyio.to_zarr(
            lazyio.Blocks([(slice(0, 1), value)], 6, dtype), store, zarr_format=version, chunks=3
        )
        found = zarr.open_array(store, mode="r")[...]
        assert found[0] == value[0]
        assert (found[1:3] == np.zeros(2, value.dtype)).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_nothing_to_store(path, shape):
    write(lazyio.Blocks([], shape, "f8"), path)
    assert read(path).shape == shape


def test_text_of_no_length(path):
    write(lazyio.Blocks([((1,), "word")], 3, str), path)
    assert lazyio.open(path).compute().tolist() == ["", "word", ""]


def test_a_filter_that_a_plugin_brings_later(tmp_path):
    """libhdf5 would write its name over what comes next; in a process of its own."""
    code = (
        "import sys, numpy as np, lazyio; sys.modules.pop('hdf5plugin', None)\n"
        "ones = lambda: (__import__('hdf5plugin') and np.ones(10) for _ in range(3))\n"
        "for codec in ('zstd', 'lz4', 'blosc'):\n"
        "    pairs = ((slice(at * 10, at * 10 + 10), x) for at, x in enumerate(ones()))\n"
        "    lazyio.to_hdf5(lazyio.Blocks(pairs, 30, 'f8'), codec + '.h5', compression=codec,"
        " chunks=10)\n"
        "    assert lazyio.verify(codec + '.h5').status == 'ok'\n"
        "    stream = lazyio.Stream(ones(), batched=True)\n"
        "    lazyio.to_hdf5(stream, codec + '.h5', 'y', compression=codec, chunks=10)\n"
        "    assert lazyio.verify(codec + '.h5').status == 'ok'\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    # Where netCDF4 was imported, this leads to plugins of another libhdf5.
    env = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)


def test_plugins_of_another_libhdf5(tmp_path):
    """netCDF4 leads libhdf5 to its own, which fail in h5py's."""
    code = (
        "import netCDF4, numpy as np, lazyio\n"
        "for codec in ('blosc', 'zstd', 'lz4', 'blosc2', 'bitshuffle'):\n"
        "    lazyio.to_hdf5(np.arange(1000.0), 'x.h5', mode='w', compression=codec)\n"
        "    assert lazyio.verify('x.h5').status == 'ok'\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)


def test_a_limit_too_small(path):
    with pytest.raises(PlanError, match=r"smallest limit that would do is memory_limit=\d+"):
        write(lazyio.Blocks([], (1000, 1000), "f8"), path, chunks=-1, memory_limit="20 MiB")
    blocks = ((at * 2, 1) for at in range(2000))
    with pytest.raises(BlockError, match=r"chunks of .* are touched"):
        write(lazyio.Blocks(blocks, 4000, "i1"), path, chunks=1, memory_limit="8 KiB", workers=1)


class TestIterators:
    """HDMF's, as they are."""

    def test_iter_sin(self, path):
        """PyNWB's: a hole where nothing came."""

        def rows():
            for at in range(9):
                yield None if at in (2, 3) else np.sin(np.arange(10) + at)

        write(DataChunkIterator(data=rows(), buffer_size=2), path)
        whole = np.sin(np.arange(10) + np.arange(9)[:, None])
        whole[2:4] = 0
        np.testing.assert_array_equal(read(path), whole)
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                assert file["data"].maxshape == (None, 10)

    @pytest.mark.parametrize("options", [{}, {"iter_axis": 1}, {"buffer_size": 13}])
    def test_as_hdmf_writes_it(self, path, options):
        values = np.arange(1000 * 7).reshape(1000, 7)
        write(DataChunkIterator(data=values, **options), path)
        np.testing.assert_array_equal(read(path), values)

    @pytest.mark.parametrize("kind", ["rows", "holes", "axis", "files", "scattered", "wrapped"])
    def test_the_file_is_as_hdmf_makes_it(self, tmp_path, kind):
        """Values, dtype, extents and bounds, and chunks where the iterator says them."""
        values = np.arange(60.0).reshape(20, 3)
        files = [values[:, at].copy() for at in range(3)]
        spread = [
            (np.s_[a : a + 2, b : b + 2], np.full((2, 2), a + b)) for a in (8, 0) for b in (6, 2)
        ]

        def make():
            return {
                "rows": lambda: DataChunkIterator(data=iter(values), buffer_size=7),
                "holes": lambda: DataChunkIterator(data=iter([values[0], None, values[2]])),
                "axis": lambda: DataChunkIterator(data=values, iter_axis=1, buffer_size=2),
                # One file for each channel, as in PyNWB's tutorial.
                "files": lambda: Pairs(
                    ((np.s_[:, at], column) for at, column in enumerate(files)), (20, 3)
                ),
                "scattered": lambda: Pairs(spread, (4, 4), (None, None), (2, 2)),
                "wrapped": lambda: H5DataIO(
                    Pairs(spread, (4, 4), (None, None), (2, 2)),
                    fillvalue=np.nan,
                    compression="gzip",
                ),
            }[kind]()

        column = VectorData(name="x", description="x", data=make())
        with HDF5IO(tmp_path / "theirs.h5", mode="w", manager=get_manager()) as io:
            io.write(SimpleMultiContainer(name="root", containers=[column]), cache_spec=False)
        lazyio.to_hdf5(make(), tmp_path / "ours.h5", "x")
        with h5py.File(tmp_path / "theirs.h5") as one, h5py.File(tmp_path / "ours.h5") as other:
            theirs, ours = one["x"], other["x"]
            np.testing.assert_array_equal(ours[...], theirs[...])
            for fact in ("shape", "maxshape", "dtype", "compression"):
                assert getattr(ours, fact) == getattr(theirs, fact)
            np.testing.assert_equal(ours.fillvalue, theirs.fillvalue)
            if kind in ("scattered", "wrapped"):
                assert ours.chunks == theirs.chunks

    def test_settings_hold(self, tmp_path):
        iterator = Pairs([(np.s_[0:5, :], np.ones((5, 4)))], (5, 4), (None, 4), chunk_shape=(5, 2))
        wrapped = H5DataIO(iterator, compression="gzip", compression_opts=5, shuffle=True)
        lazyio.to_hdf5(wrapped, tmp_path / "x.h5")
        with h5py.File(tmp_path / "x.h5") as file:
            dataset = file["data"]
            assert dataset.chunks == (5, 2)
            assert dataset.compression_opts == 5
            assert dataset.shuffle
            assert dataset.maxshape == (None, 4)
        other = H5DataIO(Pairs([((0, 0), 1)], (5, 4), chunk_shape=(5, 2)), chunks=(3, 3))
        lazyio.to_hdf5(other, tmp_path / "x.h5", "other")
        with h5py.File(tmp_path / "x.h5") as file:
            assert file["other"].chunks == (3, 3)

    def test_random_access_keeps_its_chunks(self, tmp_path):
        class Random(Generic):
            def _get_data(self, selection):
                return np.ones((100, 30), "i2")[selection]

            def _get_maxshape(self):
                return (100, 30)

            def _get_dtype(self):
                return np.dtype("i2")

        lazyio.to_hdf5(Random(chunk_shape=(20, 15), buffer_shape=(40, 30)), tmp_path / "x.h5")
        with h5py.File(tmp_path / "x.h5") as file:
            assert file["data"].chunks == (20, 15)

    def test_complete_chunks_do_not_wait(self, tmp_path, monkeypatch):
        """Of a long iteration in order only little is in memory, and nothing in scratch."""
        monkeypatch.setattr("lazyio.execution.assembler.Scratch.append", None)
        row = np.ones((64, 512))
        pairs = ((np.s_[at : at + 64, :], row * at) for at in range(0, 64 * 400, 64))
        lazyio.to_hdf5(
            Pairs(pairs, (0, 512), (None, 512), (128, 512)),
            tmp_path / "x.h5",
            memory_limit="16 MiB",
        )
        with h5py.File(tmp_path / "x.h5") as file:
            assert file["data"].shape == (25600, 512)
            np.testing.assert_array_equal(file["data"][::64, 0], np.arange(0, 25600, 64))

    @pytest.mark.parametrize("codec", [None, "gzip", "szip", "lzf"])
    def test_a_chunk_that_is_touched_again(self, tmp_path, codec):
        """It is read back, and written again with what came for it."""
        big = np.arange(2**18, dtype="f8").reshape(512, 512)
        pairs = [(np.s_[at : at + 64, :], big[at : at + 64]) for at in range(0, 512, 64)]
        pairs += [(np.s_[3:5, 7], np.array([-1.0, -2.0])), (np.s_[3, 7], -5.0)]
        path = tmp_path / "x.h5"
        report = lazyio.to_hdf5(
            Pairs(pairs, (512, 512), chunk_shape=(64, 512)), path, compression=codec
        )
        whole = big.copy()
        whole[3:5, 7] = -5, -2
        np.testing.assert_array_equal(read(path), whole)
        assert report.n_chunks == 9
        assert lazyio.verify(path).status == "ok"

    def test_a_chunk_that_becomes_empty_again(self, tmp_path):
        ones = np.ones((512, 512))
        pairs = [(np.s_[:, :], ones), (np.s_[:, :], ones * 0)]
        path = tmp_path / "x.zarr"
        lazyio.to_zarr(Pairs(pairs, (512, 512), chunk_shape=(256, 512)), path)
        assert not read(path).any()
        assert lazyio.verify(path).status == "ok"

    def test_buffers_that_are_used_again(self, path):
        """HDMF has written a chunk before it asks for the next."""

        def chunks():
            buffer = np.empty((64, 512))
            for at in range(0, 2048, 64):
                buffer[...] = at
                yield np.s_[at : at + 64, :], buffer

        write(Pairs(chunks(), (2048, 512), chunk_shape=(64, 512)), path)
        np.testing.assert_array_equal(read(path)[:, 5] // 64, np.arange(2048) // 64)

    def test_used_up(self, path):
        iterator = Pairs([((0,), 1)], (3,))
        write(iterator, path)
        with pytest.raises(OptionError, match="the Pairs was used up"):
            write(iterator, path, overwrite=True)
        other = DataChunkIterator(data=iter(np.ones((3, 3))), buffer_size=2)
        list(other)
        with pytest.raises(OptionError, match="yields nothing: it was used up"):
            write(other, path, overwrite=True)
        assert read(path).tolist() == [1, 0, 0]

    def test_an_iterator_that_fails(self, path):
        def chunks():
            yield (0,), 1
            msg = "the disk of the camera"
            raise OSError(msg)

        with pytest.raises(BlockError, match="item 1 of the Pairs did not come: OSError: the disk"):
            write(Pairs(chunks(), (3,)), path)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("facts", "match"),
        [
            ({"shape": (3,), "maxshape": (2,)}, "does not hold"),
            ({"shape": (3, 3), "maxshape": (3,)}, "as many axes each"),
            ({"shape": (3,), "maxshape": (2.5,)}, "give an integer or None"),
            ({"shape": (3,), "chunk_shape": (2, 2)}, "as many axes each"),
            ({"shape": (3,), "chunk_shape": (0,)}, "chunk"),
        ],
    )
    def test_facts_that_cannot_be(self, path, facts, match):
        with pytest.raises((OptionError, PlanError), match=match):
            write(Pairs([((0,), 1)], **facts), path)


class TestSparse:
    """scipy's matrices and arrays."""

    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
    @pytest.mark.parametrize("chunks", ["auto", (7, 11)])
    def test_every_kind(self, path, kind, chunks):
        sparse = pytest.importorskip("scipy.sparse")
        rng = np.random.default_rng(0)
        points = rng.integers(0, 90, 50), rng.integers(0, 130, 50)
        matrix = sparse.coo_array((rng.random(50), points), (90, 130))
        # Twice the same place: their sum is what is there.
        write(matrix.asformat(kind), path, chunks=chunks)
        np.testing.assert_allclose(read(path), matrix.toarray())
        assert lazyio.verify(path).status == "ok"

    def test_only_what_is_there(self, path):
        sparse = pytest.importorskip("scipy.sparse")
        matrix = sparse.csr_matrix(([1.0, 2.0], ([5, 10**6 - 1], [7, 10**6 - 1])), (10**6, 10**6))
        assert write(matrix, path, chunks=(10, 10)).n_chunks == n_stored(path) == 2
        assert lazyio.open(path)[10**6 - 1, 10**6 - 3 :].compute().tolist() == [0, 0, 2]

    def test_what_it_is_not(self, path):
        sparse = pytest.importorskip("scipy.sparse")
        matrix = sparse.csr_matrix(np.eye(3))
        fill = "fillvalue" if path.suffix == ".h5" else "fill_value"
        with pytest.raises(OptionError, match="a sparse matrix is zero"):
            write(matrix, path, **{fill: 5.0})
        with pytest.raises(OptionError, match="no rows and columns"):
            write(sparse.coo_array(np.ones(3)), path)
