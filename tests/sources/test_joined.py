"""Arrays that lie in several files: one for each day, one for each channel."""

import os
import pickle
from collections import Counter

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    TravelsContract,
    assert_same,
    few,
    regions,
)

import lazyio
from lazyio.errors import OptionError, PlanError, SourceError, TruncatedSourceError
from lazyio.execution.dask_arrays import locations_in, locations_of, source_of
from lazyio.planning.blocks import read_amplification
from lazyio.sources import files
from lazyio.sources.base import lies_in_rows
from lazyio.sources.concatenated import JoinedSource, LiftedSource, joined, stacked
from lazyio.sources.function import ArraySource
from lazyio.sources.hdf5 import hdf5_source
from lazyio.sources.raw import npy_source, raw_source

MATRIX = np.arange(37 * 23, dtype="<i2").reshape(37, 23)


def held(values, chunk_shape=None):
    """Return a source of an array in memory."""
    return ArraySource(
        array=values, shape=values.shape, dtype=values.dtype, chunk_shape=chunk_shape
    )


class Recording:
    """A source that notes which regions were asked of it."""

    def __init__(self, values, chunk_shape=None):
        self.values, self.chunk_shape, self.asked = values, chunk_shape, []
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, region):
        self.asked.append(region)
        return self.values[region].copy()


@pytest.fixture
def days(tmp_path):
    """Three files of different formats and lengths, and one without rows."""
    np.save(tmp_path / "0.npy", MATRIX[:10])
    MATRIX[10:11].tofile(tmp_path / "1.raw")
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file.create_dataset("raw", data=MATRIX[11:30], chunks=(4, 5), compression="gzip")
    np.save(tmp_path / "3.npy", MATRIX[:0])
    zarr.create_array(tmp_path / "4.zarr", data=MATRIX[30:], chunks=(3, 23))
    return tmp_path


class TestConcatenated(SourceContract, TravelsContract, ReadsIntoContract):
    """Files of several formats one after another."""

    @pytest.fixture
    def expected(self):
        """Return what all files hold together."""
        return MATRIX

    @pytest.fixture
    def source(self, days):
        """Return the files, joined."""
        return source_of(
            lazyio.concatenate(
                [
                    days / "0.npy",
                    lazyio.from_raw(days / "1.raw", (-1, 23), "<i2"),
                    days / "2.h5",
                    days / "3.npy",
                    days / "4.zarr",
                ]
            )
        )


AXES = {
    "first": ((20, 3, 4), 0),
    "middle": ((3, 20, 4), 1),
    "last": ((3, 4, 20), -1),
    "only": ((20,), 0),
    "one-before": ((1, 20, 4), 1),
    "eight-axes": ((2, 1, 3, 20, 1, 2, 1, 2), 3),
}


class TestConcatenatedAlong(SourceContract, TravelsContract, ReadsIntoContract):
    """Any axis, of parts that fill memory and parts that do not."""

    @pytest.fixture(params=AXES.values(), ids=AXES)
    def case(self, request):
        """Shape and axis."""
        return request.param

    @pytest.fixture
    def expected(self, case):
        """Return the whole."""
        shape, _ = case
        return np.arange(np.prod(shape), dtype=">f4").reshape(shape)

    @pytest.fixture
    def source(self, case, expected, tmp_path):
        """Return its pieces: two files around an array and an empty part."""
        _, axis = case
        pieces = list(map(np.ascontiguousarray, np.split(expected, [7, 7, 13], axis=axis)))
        for at in (0, 3):
            pieces[at].tofile(tmp_path / f"{at}.raw")
        first, last = (raw_source(tmp_path / f"{at}.raw", pieces[at].shape, ">f4") for at in (0, 3))
        return joined([first, held(pieces[1]), held(pieces[2]), last], axis)


class TestStacked(SourceContract, TravelsContract, ReadsIntoContract):
    """Files side by side along a new axis, anywhere among the others."""

    @pytest.fixture(params=[0, 1, 2, -1, -3])
    def axis(self, request):
        """Position of the new axis."""
        return request.param

    @pytest.fixture
    def pieces(self):
        """Return five arrays of one shape."""
        return np.arange(5 * 7 * 3, dtype="<i4").reshape(5, 7, 3)

    @pytest.fixture
    def expected(self, pieces, axis):
        """Return them as numpy stacks them."""
        return np.ascontiguousarray(np.stack(list(pieces), axis=axis))

    @pytest.fixture
    def source(self, pieces, axis, tmp_path):
        """Return a file each, stacked."""
        for at, piece in enumerate(pieces):
            np.save(tmp_path / f"{at}.npy", piece)
        return stacked([npy_source(tmp_path / f"{at}.npy") for at in range(5)], axis)


class TestLifted(SourceContract, TravelsContract, ReadsIntoContract):
    """One source with one more axis."""

    @pytest.fixture(params=[0, 1, 2])
    def axis(self, request):
        """Position of the new axis."""
        return request.param

    @pytest.fixture
    def expected(self, axis):
        """Return the array with that axis."""
        return np.expand_dims(MATRIX, axis)

    @pytest.fixture
    def source(self, axis, tmp_path):
        """Return a file with that axis."""
        np.save(tmp_path / "scan.npy", MATRIX)
        return LiftedSource(part=npy_source(tmp_path / "scan.npy"), axis=axis)


class TestScalarsStacked(SourceContract, TravelsContract):
    """Arrays without axes make one of one axis."""

    @pytest.fixture
    def expected(self):
        """Return three numbers."""
        return np.array([3.5, 4.5, 5.5])

    @pytest.fixture
    def source(self, expected):
        """Return a source each, stacked."""
        return stacked([held(np.array(value)) for value in expected], 0)


@few
@given(data=st.data())
def test_concatenates_as_numpy_does(data):
    """Any parts, cut at any places, some of them empty, read as numpy joins them."""
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    extents = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    pieces = [
        np.random.default_rng(at).integers(
            0, 99, [extent if i == axis % len(shape) else n for i, n in enumerate(shape)]
        )
        for at, extent in enumerate(extents)
    ]
    chunked = [
        data.draw(st.none() | st.tuples(*(st.integers(1, 4) for _ in shape))) for _ in extents
    ]
    whole = np.concatenate(pieces, axis)
    source = joined([held(*pair) for pair in zip(pieces, chunked, strict=True)], axis)
    assert source.shape == whole.shape
    region = data.draw(regions(whole.shape))
    assert_same(source.read(region), np.ascontiguousarray(whole[region]))
    assert_same(np.asarray(lazyio.from_source(source).compute(scheduler="sync")), whole)


@few
@given(data=st.data())
def test_stacks_as_numpy_does(data):
    """Any number of parts along any new axis reads as numpy stacks them."""
    shape = data.draw(st.lists(st.integers(0, 5), max_size=3).map(tuple))
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    n_parts = data.draw(st.integers(1, 5))
    pieces = [np.random.default_rng(at).integers(0, 99, shape) for at in range(n_parts)]
    whole = np.stack(pieces, axis)
    source = stacked([held(np.asarray(piece)) for piece in pieces], axis)
    region = data.draw(regions(whole.shape))
    assert_same(source.read(region), np.ascontiguousarray(whole[region]))


def test_reads_only_what_a_region_touches():
    """No part is asked beyond the region, and none that it does not touch."""
    parts = [Recording(MATRIX[at : at + 5]) for at in range(0, 35, 5)]
    joined(parts, 0).read((slice(12, 16), slice(3, 9)))
    asked = {at: part.asked for at, part in enumerate(parts) if part.asked}
    assert asked == {
        2: [(slice(2, 5), slice(3, 9))],
        3: [(slice(0, 1), slice(3, 9))],
    }


@pytest.mark.parametrize("chunk_shape", [None, (700, 64)], ids=["plain", "chunked"])
def test_no_second_block_is_held(chunk_shape):
    """Parts side by side are copied slab by slab, each of whole chunks that are read once."""
    values = np.arange(50_000 * 64, dtype="<i4").reshape(50_000, 64)
    part = Recording(values, chunk_shape)
    got = joined([part, part], 1).read((slice(1000, 49_000), slice(0, 64)))
    assert (got == values[1000:49_000]).all()
    assert max((rows.stop - rows.start) * 64 * 4 for rows, _ in part.asked) <= 2 * 2**20
    edges = [part.asked[0][0].start, *(rows.stop for rows, _ in part.asked)]
    assert edges[0] == 1000
    assert edges[-1] == 49_000
    assert [rows.start for rows, _ in part.asked] == edges[:-1]
    if chunk_shape:
        assert all(edge % 700 == 0 for edge in edges[1:-1])


def test_a_block_of_a_stack_opens_its_channels_only(tmp_path, monkeypatch):
    """One file a channel, read in blocks: each file is opened once a block, for that part only."""
    n_channels, n_samples = 60, 40_000
    recording = np.random.default_rng(0).integers(0, 99, (n_samples, n_channels)).astype("<i2")
    paths = [tmp_path / f"{at}.raw" for at in range(n_channels)]
    for path, channel in zip(paths, recording.T, strict=True):
        path.write_bytes(channel.tobytes())
    counted = Counter()
    opened = Counter()
    read_exactly, reading = files.read_exactly, files.reading

    def counting(file, offset, view):
        counted["nbytes"] += len(view)
        counted["n_reads"] += 1
        read_exactly(file, offset, view)

    def noting(path, identity):
        opened[path] += 1
        return reading(path, identity)

    monkeypatch.setattr(files, "read_exactly", counting)
    monkeypatch.setattr("lazyio.sources.raw.reading", noting)
    array = lazyio.stack(
        [lazyio.from_raw(path, -1, "<i2") for path in paths], axis=1, memory_limit="16 MiB"
    )
    assert_same(np.asarray(array.compute(scheduler="sync")), recording)
    assert counted["nbytes"] == recording.nbytes
    assert set(opened.values()) == {array.numblocks[0]}
    # Runs of tens of kilobytes, but for the last of each file.
    assert counted["n_reads"] == n_channels * array.numblocks[0]
    assert array.chunksize[0] >= 32768
    opened.clear()
    assert (array[100:200, 7].compute(scheduler="sync") == recording[100:200, 7]).all()
    assert len(opened) <= array.chunksize[1]


def test_rows_stay_rows(tmp_path):
    """Raw files joined on the first axis are read in long runs, as one raw file is."""
    for at in range(3):
        np.save(tmp_path / f"{at}.npy", MATRIX)
    parts = [npy_source(tmp_path / f"{at}.npy") for at in range(3)]
    assert lies_in_rows(joined(parts, 0))
    assert lies_in_rows(stacked(parts, 0))
    assert not lies_in_rows(joined(parts, 1))
    assert not lies_in_rows(joined([*parts, held(MATRIX)], 0))
    assert joined(parts, 0).chunk_shape is None


def test_items_of_every_kind(days):
    """A path, an open dataset, an array, a DataArray, a dask array and a source go together."""
    with h5py.File(days / "2.h5", "r") as file:
        array = lazyio.concatenate(
            [
                str(days / "0.npy"),
                MATRIX[10:11],
                file["raw"],
                zarr.open(days / "4.zarr", mode="r"),
                xr.DataArray(MATRIX),
                hdf5_source(days / "2.h5", "raw"),
                da.from_array(MATRIX, chunks=10),
            ]
        )
        wanted = np.concatenate([MATRIX, MATRIX, MATRIX[11:30], MATRIX])
        assert_same(np.asarray(array.compute(scheduler="sync")), wanted)


def test_graphs_are_joined_as_graphs(tmp_path):
    """Where an item is computed, blocks stay those of the items, until others are asked for."""
    np.save(tmp_path / "0.npy", MATRIX)
    computed = da.from_array(MATRIX, chunks=(10, 23)) + np.int16(1)
    array = lazyio.concatenate([tmp_path / "0.npy", computed])
    assert array.chunks[0] == (37, 10, 10, 10, 7)
    assert_same(np.asarray(array.compute()), np.concatenate([MATRIX, MATRIX + np.int16(1)]))
    assert lazyio.concatenate([computed, computed], chunks=(20, 23)).chunks[0] == (20, 20, 20, 14)
    stack = lazyio.stack([tmp_path / "0.npy", computed], axis=-1)
    assert_same(np.asarray(stack.compute()), np.stack([MATRIX, MATRIX + np.int16(1)], -1))


def test_masked_items():
    """A masked array keeps its mask among others."""
    masked = np.ma.masked_less(MATRIX, 9)
    array = lazyio.concatenate([MATRIX, masked])
    wanted = np.ma.concatenate([MATRIX, masked])
    got = array.compute(scheduler="sync")
    assert (got.mask == wanted.mask).all()
    assert (got.filled(-1) == wanted.filled(-1)).all()


def test_one_item_is_itself(days):
    """One item is that item; stacked, it has one more axis."""
    assert source_of(lazyio.concatenate([days / "0.npy"])) == npy_source(days / "0.npy")
    assert lazyio.stack([days / "0.npy"]).shape == (1, 10, 23)


def test_takes_an_iterator(days):
    """Items may come from a generator."""
    assert lazyio.stack(days / "0.npy" for _ in range(3)).shape == (3, 10, 23)


def test_byte_orders_become_native():
    """Parts that differ in byte order only are one array of native numbers."""
    source = joined([held(MATRIX), held(MATRIX.astype(">i2"))], 0)
    assert source.dtype == np.dtype("=i2")
    whole = np.concatenate([MATRIX, MATRIX])
    assert_same(source.read((slice(0, 74), slice(0, 23))), whole)
    assert joined([held(MATRIX.astype(">i2"))] * 2, 0).dtype == np.dtype(">i2")
    mixed = lazyio.concatenate([da.ones(3, dtype="<i2") + np.int16(1), np.ones(3, ">i2")])
    assert mixed.dtype == np.dtype("=i2")
    assert mixed.compute().tolist() == [2, 2, 2, 1, 1, 1]


def test_structured_and_text():
    """Records and text of any length are joined like numbers."""
    records = np.zeros((4, 2), [("a", ">f8"), ("b", "S3", (2,))])
    assert joined([held(records)] * 2, 0).read((slice(2, 6), slice(0, 2))).dtype == records.dtype
    text = np.array(["a", "", "naïve" * 20], np.dtypes.StringDType())
    got = joined([held(text)] * 2, 0).read((slice(1, 5),))
    assert got.tolist() == ["", "naïve" * 20, "a", ""]


@pytest.mark.parametrize("join", [lazyio.concatenate, lazyio.stack])
@pytest.mark.parametrize(
    ("other", "match"),
    [
        pytest.param(
            MATRIX[:, :5], r"item 1 has shape \(37, 5\), item 0 \(.*scan\.npy\) has", id="shape"
        ),
        pytest.param(MATRIX[0], r"item 1 has shape \(23,\).*leave it out", id="rank"),
        pytest.param(
            MATRIX.astype("f4"),
            r'item 1 has dtype float32, item 0 \(.*scan\.npy\) has int16.*\.astype\("float32"\)',
            id="dtype",
        ),
        pytest.param(MATRIX.astype("i4"), "has dtype int32.*has int16", id="wider"),
        pytest.param(MATRIX.astype("u2"), "has dtype uint16.*has int16", id="sign"),
        pytest.param(da.ones((37, 23)), "item 1 has dtype float64", id="graph"),
    ],
)
def test_items_that_do_not_go_together(tmp_path, join, other, match):
    """What differs is named with its file, both facts and what to do."""
    np.save(tmp_path / "scan.npy", MATRIX)
    with pytest.raises(OptionError, match=match):
        join([tmp_path / "scan.npy", other])


def test_a_key_is_named(tmp_path):
    """A dataset is named with its file and key."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["a/b"] = MATRIX
    with pytest.raises(OptionError, match=r"item 1 \(.*scan\.h5, '/a/b'\) has shape \(37, 23\)"):
        lazyio.concatenate([MATRIX[:, 1:], tmp_path / "scan.h5"])


@pytest.mark.parametrize(
    ("axis", "match"),
    [
        pytest.param(2, "axis=2 is not an axis of the result, which has 2", id="beyond"),
        pytest.param(-3, "axis=-3 is not an axis", id="negative"),
        pytest.param("time", "axis='time' is not an axis", id="name"),
        pytest.param(True, "axis=True", id="bool"),
        pytest.param(None, "axis=None", id="none"),
    ],
)
def test_axis_that_is_not_there(axis, match):
    """An axis out of range is named with the number of axes."""
    with pytest.raises(OptionError, match=match):
        lazyio.concatenate([MATRIX, MATRIX], axis)


def test_scalars_have_no_axis_to_follow_each_other_on():
    """Arrays without axes are stacked, not concatenated."""
    with pytest.raises(OptionError, match="which has 0 of them; stack gives them an axis"):
        lazyio.concatenate([np.array(1), np.array(2)])
    assert lazyio.stack([np.array(1), np.array(2)]).compute().tolist() == [1, 2]
    with pytest.raises(OptionError, match="axis=1 is not an axis of the result, which has 1"):
        lazyio.stack([np.array(1)], axis=1)


@pytest.mark.parametrize("join", [lazyio.concatenate, lazyio.stack])
@pytest.mark.parametrize(
    "items", [[], (), "scan.npy", b"scan.npy", {"a": MATRIX}, MATRIX, 5, None], ids=repr
)
def test_what_is_no_list_of_items(join, items):
    """Nothing, one path, or one array is no list."""
    with pytest.raises(OptionError, match="give a list of at least one"):
        join(items)


def test_a_missing_file_is_named(tmp_path):
    """An item that does not open says so, as open does."""
    with pytest.raises(SourceError, match=r"none\.npy does not exist"):
        lazyio.stack([tmp_path / "none.npy"])


def test_unknown_block_sizes():
    """A graph whose sizes are not known cannot be joined yet."""
    unknown = da.arange(10)
    with pytest.raises(PlanError, match=r"call \.compute_chunk_sizes"):
        lazyio.concatenate([unknown[unknown > 3], np.arange(3)])


def test_links_may_lead_to_listed_folders(tmp_path):
    """allow_external holds for every file among the items."""
    for name in ("inner", "elsewhere"):
        (tmp_path / name).mkdir()
    with h5py.File(tmp_path / "elsewhere/raw.h5", "w") as file:
        file["x"] = MATRIX
    with h5py.File(tmp_path / "inner/linking.h5", "w") as file:
        file["x"] = h5py.ExternalLink("../elsewhere/raw.h5", "/x")
    # A sole link is not looked through for datasets; a key names it.
    items = [
        lazyio.open(tmp_path / "inner/linking.h5", "x", allow_external=[tmp_path / "elsewhere"]),
        tmp_path / "elsewhere/raw.h5",
    ]
    array = lazyio.concatenate(items, allow_external=[tmp_path / "elsewhere"])
    assert array.shape == (74, 23)


def test_every_file_is_known_to_be_read(tmp_path):
    """What a joined array reads is known, so that no target overwrites it."""
    for at in range(3):
        np.save(tmp_path / f"{at}.npy", MATRIX)
    array = lazyio.stack([tmp_path / f"{at}.npy" for at in range(3)])
    wanted = {(str(tmp_path / f"{at}.npy"), "") for at in range(3)}
    assert locations_in(array) == wanted
    assert locations_in(array + 1) == wanted
    assert locations_of(source_of(array)) == wanted


def test_many_files_are_sent_once(tmp_path):
    """The list of files is one value of the graph, not part of every task."""
    for at in range(200):
        (tmp_path / f"{at}.raw").write_bytes(MATRIX.tobytes())
    items = [lazyio.from_raw(tmp_path / f"{at}.raw", MATRIX.shape, "<i2") for at in range(200)]
    array = lazyio.concatenate(items, chunks=(37, 23))
    sizes = sorted(len(pickle.dumps(task)) for task in dict(array.__dask_graph__()).values())
    assert len(sizes) == 201
    assert sizes[-2] < 1000
    assert (array[-37:].compute(scheduler="sync") == MATRIX).all()


def test_token_changes_with_any_file(tmp_path):
    """A file that was rewritten makes another array."""
    for at in range(2):
        np.save(tmp_path / f"{at}.npy", MATRIX)
    before = lazyio.stack([tmp_path / f"{at}.npy" for at in range(2)])
    os.utime(tmp_path / "1.npy", ns=(1, 1))
    after = lazyio.stack([tmp_path / f"{at}.npy" for at in range(2)])
    assert before.name != after.name
    assert tokenize(source_of(after)) == tokenize(source_of(after))


def test_wrong_parts_are_named():
    """A part that gives another shape than was asked for is named."""

    class Wrong(Recording):
        def read(self, region):
            return self.values[:1]

    source = joined([held(MATRIX), Wrong(MATRIX)], 0)
    with pytest.raises(lazyio.LazyioError, match=r"item 1 gave shape \(1, 23\)"):
        source.read((slice(30, 40), slice(0, 23)))


def test_written_and_read_back(tmp_path):
    """A stack is written in the blocks that suit the target."""
    for at in range(4):
        np.save(tmp_path / f"{at}.npy", MATRIX)
    lazyio.to_hdf5(
        lazyio.stack([tmp_path / f"{at}.npy" for at in range(4)], axis=2),
        tmp_path / "all.h5",
        chunks=(10, 23, 4),
        compression="gzip",
    )
    with h5py.File(tmp_path / "all.h5") as file:
        assert (file["data"][...] == np.stack([MATRIX] * 4, 2)).all()


def test_plan_of_a_joined_array_reads_nothing_twice(tmp_path):
    """The plan's blocks follow the grid that the parts share."""
    for at in range(6):
        with h5py.File(tmp_path / f"{at}.h5", "w") as file:
            file.create_dataset("raw", (1000, 64), "<i2", chunks=(100, 32))
    array = lazyio.concatenate([tmp_path / f"{at}.h5" for at in range(6)], memory_limit="8 MiB")
    source = source_of(array)
    assert isinstance(source, JoinedSource)
    assert read_amplification(array.shape, array.chunksize, source.chunk_shape) == 1.0


class TestRawFiles:
    """from_raw with a list of paths."""

    @pytest.fixture
    def paths(self, tmp_path):
        """Three files of one, three and no rows, behind a header each."""
        rows = [MATRIX[:1], MATRIX[1:4], MATRIX[:0]]
        for at, part in enumerate(rows):
            (tmp_path / f"{at}.raw").write_bytes(b"HEAD" + part.astype(">i2").tobytes())
        return [tmp_path / f"{at}.raw" for at in range(3)]

    @pytest.mark.parametrize("make", [list, tuple, iter], ids=["list", "tuple", "iterator"])
    def test_are_joined(self, paths, make):
        """One axis of -1 is solved for each file."""
        array = lazyio.from_raw(make(paths), (-1, 23), ">i2", offset=4)
        assert_same(np.asarray(array.compute()), MATRIX[:4].astype(">i2"))

    def test_open_takes_them(self, paths):
        """Open takes a list of raw files, too, with all options."""
        array = lazyio.open(paths, format="raw", shape=(-1, 23), dtype=">i2", offset=4, order="C")
        assert_same(np.asarray(array.compute()), MATRIX[:4].astype(">i2"))

    def test_in_f_order(self, tmp_path):
        """Files in F order follow each other on the first axis as well."""
        for at in range(2):
            (tmp_path / f"{at}.raw").write_bytes(MATRIX.tobytes(order="F"))
        paths = [tmp_path / f"{at}.raw" for at in range(2)]
        array = lazyio.from_raw(paths, (37, -1), "<i2", order="F")
        assert_same(np.asarray(array.compute()), np.concatenate([MATRIX, MATRIX]))

    def test_a_wrong_size_is_named(self, paths):
        """Of several files the one that is too short is named."""
        with paths[1].open("ab") as file:
            file.write(b"x")
        with pytest.raises(SourceError, match=r"1\.raw has 139 bytes of data, which is no mult"):
            lazyio.from_raw(paths, (-1, 23), ">i2", offset=4)
        with pytest.raises(TruncatedSourceError, match=r"0\.raw has 50 bytes"):
            lazyio.from_raw(paths, (3, 23), ">i2", offset=4)

    def test_other_axes_agree(self, tmp_path):
        """Files whose solved axis is another than the first have to agree."""
        for at, part in enumerate([MATRIX, MATRIX[:, :5]]):
            (tmp_path / f"{at}.raw").write_bytes(part.tobytes())
        with pytest.raises(OptionError, match=r"item 1 \(.*1\.raw\) has shape \(37, 5\)"):
            lazyio.from_raw([tmp_path / "0.raw", tmp_path / "1.raw"], (37, -1), "<i2")

    @pytest.mark.parametrize("paths", [[], None, 5, [1, 2], [b"a"]], ids=repr)
    def test_what_is_no_path(self, paths):
        """Anything but paths is named."""
        with pytest.raises(OptionError, match="give the path of a raw file, or a list"):
            lazyio.from_raw(paths, (-1,), "<i2")
