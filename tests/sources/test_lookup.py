"""From what a user has to the adapter that reads it."""

import io
import pickle
import shutil
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hdmf.data_utils import DataChunkIterator, GenericDataChunkIterator

import lazyio
from lazyio.dtypes import stored
from lazyio.errors import OptionError, SourceError, UnknownFormatError
from lazyio.sources.function import ArraySource, SerialSource
from lazyio.sources.hdf5 import Hdf5Source
from lazyio.sources.lookup import array_source, format_of, source_for
from lazyio.sources.raw import RawSource
from lazyio.sources.zarr import ZarrSource

MATRIX = np.arange(60, dtype="<i4").reshape(12, 5)


@pytest.fixture
def folder(tmp_path):
    """One file or store of each format, each holding the same array."""
    np.save(tmp_path / "image.npy", MATRIX)
    MATRIX.tofile(tmp_path / "image.raw")
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["raw"] = MATRIX
    zarr.create_array(tmp_path / "image.zarr", data=MATRIX)
    return tmp_path


def values(array):
    """Compute a dask array."""
    return np.asarray(array.compute(scheduler="sync"))


@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
@pytest.mark.parametrize(
    ("suffix", "kind"), [("npy", RawSource), ("h5", Hdf5Source), ("zarr", ZarrSource)]
)
def test_paths(folder, suffix, kind, as_path):
    """A path opens with the adapter of its format."""
    path = as_path(folder / f"image.{suffix}")
    assert isinstance(source_for(path), kind)
    assert (values(lazyio.open(path)) == MATRIX).all()


@pytest.mark.parametrize("suffix", ["", ".bin", ".npy", ".h5", ".zarr", ".dat.gz"])
@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_content_decides(folder, kind, suffix):
    """A file's first bytes decide, whatever its suffix."""
    path = folder / f"copy{suffix}"
    shutil.copyfile(folder / f"image.{kind}", path)
    assert (values(lazyio.open(path)) == MATRIX).all()


@pytest.mark.parametrize("suffix", ["", ".dir", ".npy", ".h5"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_content_of_a_folder_decides(tmp_path, suffix, zarr_format):
    """A folder's metadata decides, whatever its suffix."""
    zarr.create_array(tmp_path / f"copy{suffix}", data=MATRIX, zarr_format=zarr_format)
    assert (values(lazyio.open(tmp_path / f"copy{suffix}")) == MATRIX).all()


@pytest.mark.parametrize("suffix", [".h5", ".HDF5", ".he5", ".nc", ".nc4", ".NWB"])
def test_suffixes_of_hdf5(tmp_path, suffix):
    """HDF5 goes by many suffixes, in any case; they are asked where there is no content."""
    (tmp_path / f"image{suffix}").touch()
    assert format_of(tmp_path / f"image{suffix}") == "hdf5"


@pytest.mark.parametrize("name", ["image.h5", "image.mat", "image"])
def test_hdf5_behind_a_user_block(tmp_path, name):
    """HDF5 may begin after a block of the user's own, as MATLAB writes it: content decides."""
    with h5py.File(tmp_path / name, "w", userblock_size=512) as file:
        file["raw"] = MATRIX
    assert (values(lazyio.open(tmp_path / name)) == MATRIX).all()


def test_format_overrides(folder):
    """format= decides against content and suffix."""
    opened = lazyio.open(folder / "image.npy", format="raw", shape=(-1,), dtype="u1")
    assert opened.shape == ((folder / "image.npy").stat().st_size,)
    shutil.copyfile(folder / "image.h5", folder / "image.bin")
    assert (values(lazyio.open(folder / "image.bin", format="hdf5")) == MATRIX).all()
    with pytest.raises(SourceError, match=r"image\.npy cannot be opened as HDF5"):
        lazyio.open(folder / "image.npy", format="hdf5")


def test_raw_options(folder):
    """Raw files take the options of from_raw."""
    path = folder / "image.raw"
    opened = lazyio.open(path, format="raw", shape=(-1, 5), dtype="<i4", offset=20, order="C")
    assert (values(opened) == MATRIX[1:]).all()


@pytest.mark.parametrize(
    ("name", "options", "error", "match"),
    [
        pytest.param("none.npy", {}, SourceError, r"none\.npy does not exist", id="missing-npy"),
        pytest.param("none.h5", {}, SourceError, r"none\.h5 does not exist", id="missing-hdf5"),
        pytest.param("none.zarr", {}, SourceError, r"none\.zarr does not exist", id="missing-zarr"),
        pytest.param("none", {}, SourceError, "none does not exist", id="missing"),
        pytest.param(
            "none.raw",
            {"format": "raw", "shape": (1,), "dtype": "u1"},
            SourceError,
            r"none\.raw does not exist",
            id="missing-raw",
        ),
        pytest.param(
            "image.raw",
            {},
            UnknownFormatError,
            "no known format.*give format=.*from_raw",
            id="suffix",
        ),
        pytest.param("", {}, UnknownFormatError, "no known format", id="folder"),
        pytest.param(
            "image.raw", {"format": "jpeg"}, OptionError, "format='jpeg'.*npy", id="format"
        ),
        pytest.param(
            "image.raw", {"format": "raw"}, OptionError, "take shape= and dtype=", id="raw"
        ),
        pytest.param(
            "image.raw",
            {"format": "raw", "shape": (1,), "dtype": "u1", "skip": 3},
            OptionError,
            "raw files take",
            id="raw-option",
        ),
        pytest.param(
            "image.npy",
            {"dtype": "u1"},
            OptionError,
            "dtype: not an option of npy",
            id="npy-option",
        ),
        pytest.param(
            "image.h5", {"offset": 3}, OptionError, "offset: not an option", id="h5-option"
        ),
        pytest.param("image.npy", {"key": "a"}, OptionError, "holds one array", id="npy-key"),
        pytest.param(
            "image.raw",
            {"format": "raw", "shape": (60,), "dtype": "<i4", "key": "a"},
            OptionError,
            "key='a'",
            id="raw-key",
        ),
        pytest.param("image.h5", {"key": "a"}, SourceError, "no dataset 'a'.*'raw'", id="hdf5-key"),
        pytest.param(
            "image.zarr", {"key": "a"}, SourceError, "no Zarr array at 'a'", id="zarr-key"
        ),
    ],
)
def test_paths_that_do_not_open(folder, name, options, error, match):
    """What does not open says what was given, what is wrong and what to do."""
    with pytest.raises(error, match=match):
        lazyio.open(folder / name, **options)


def test_several_arrays_are_listed(folder):
    """Without a key the sole array is meant; of several the error lists them, the first of many."""
    with h5py.File(folder / "many.h5", "w") as file:
        for number in range(20):
            file[f"group/{number:02}"] = MATRIX
    with pytest.raises(
        SourceError, match=r"holds 20 datasets.*'group/00', .*'group/11' and 8 more"
    ):
        lazyio.open(folder / "many.h5")
    assert (values(lazyio.open(folder / "many.h5", "group/13")) == MATRIX).all()


OBJECTS = {
    "ndarray": (lambda folder: MATRIX, ArraySource),
    "memmap": (
        lambda folder: np.memmap(folder / "image.raw", "<i4", "r", shape=(12, 5)),
        RawSource,
    ),
    "npy-memmap": (lambda folder: np.load(folder / "image.npy", mmap_mode="r"), RawSource),
    "zarr": (lambda folder: zarr.open(folder / "image.zarr", mode="r"), ZarrSource),
    "list": (lambda folder: MATRIX.tolist(), ArraySource),
}


@pytest.mark.parametrize(("make", "kind"), OBJECTS.values(), ids=OBJECTS)
def test_objects(folder, make, kind):
    """An array that is open already goes by its type."""
    assert isinstance(array_source(make(folder)), kind)
    assert (values(lazyio.open(make(folder))) == MATRIX).all()


def test_open_groups(folder):
    """A group that is open already is asked for its sole array, or for a key."""
    with h5py.File(folder / "image.h5", "r") as file:
        assert (values(lazyio.open(file)) == MATRIX).all()
        assert (values(lazyio.open(file, "/raw")) == MATRIX).all()
        with pytest.raises(SourceError, match="holds 1 arrays; there is no 'none': 'raw'"):
            lazyio.open(file, "none")
    made = zarr.create_group(folder / "group.zarr")
    made.create_array("a/b", data=MATRIX)
    assert (values(lazyio.open(made)) == MATRIX).all()
    made.create_array("c", data=MATRIX)
    assert (values(lazyio.open(made, "a/b")) == MATRIX).all()
    with pytest.raises(SourceError, match="holds 2 arrays; give the key of one: 'a/b', 'c'"):
        lazyio.open(made)


@pytest.fixture(params=[2, 3])
def zipped(request, tmp_path):
    """Return a zip file that holds a Zarr store of one array, with a time in its attributes."""
    path = tmp_path / "session.bin"
    with zarr.storage.ZipStore(path, mode="w") as store:
        root = zarr.create_group(store, zarr_format=request.param)
        root.create_array("group/raw", data=MATRIX, chunks=(5, 5))
    return path


@pytest.mark.parametrize("suffix", [".zarr.zip", ".zip", ".bin"])
def test_zip_files_are_known_by_content(zipped, suffix):
    """A zip file with Zarr metadata in it is a store, whatever its suffix."""
    path = zipped.rename(zipped.with_suffix(suffix))
    assert format_of(path) == "zarr"
    array = lazyio.open(path)
    assert (values(array) == MATRIX).all()
    assert (values(pickle.loads(pickle.dumps(array))) == MATRIX).all()
    assert lazyio.open(str(path), "group/raw").shape == MATRIX.shape
    assert lazyio.from_zarr(path, "group/raw").shape == MATRIX.shape


def test_other_zip_files(tmp_path):
    """A zip file of anything else, numpy's .npz among them, is of no known format."""
    np.savez(tmp_path / "arrays.npz", a=MATRIX)
    with pytest.raises(UnknownFormatError, match=r"arrays\.npz is of no known format"):
        lazyio.open(tmp_path / "arrays.npz")
    (tmp_path / "PK.bin").write_bytes(b"PK not a zip file at all")
    with pytest.raises(UnknownFormatError, match=r"PK\.bin is of no known format"):
        lazyio.open(tmp_path / "PK.bin")


def test_zarr_stores():
    """A store is opened like the folder it may be."""
    store = zarr.storage.MemoryStore()
    root = zarr.create_group(store)
    root.create_array("a/b", data=MATRIX)
    assert (values(lazyio.open(store)) == MATRIX).all()
    assert (values(lazyio.open(store, "a/b")) == MATRIX).all()
    assert (values(lazyio.from_zarr(store, "a/b")) == MATRIX).all()
    assert (values(lazyio.open(root.store_path / "a")) == MATRIX).all()
    root.create_array("c", data=MATRIX)
    with pytest.raises(SourceError, match="holds 2 arrays"):
        lazyio.open(store)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_times_in_zarr_come_back(tmp_path, zarr_format):
    """Times that lazyio stored as integers are times again, however the array is opened."""
    times = np.arange(6).astype("M8[ms]")
    how = stored(times.dtype, "zarr")
    root = zarr.create_group(tmp_path / "x.zarr", zarr_format=zarr_format)
    made = root.create_array("t", data=how.encode(times), attributes=dict(how.attrs))
    root.create_array("plain", data=how.encode(times), attributes={"units": how.attrs["units"]})
    for array in (
        lazyio.open(tmp_path / "x.zarr", "t"),
        lazyio.from_zarr(tmp_path / "x.zarr", "t"),
        lazyio.open(made),
        lazyio.open(root, "t"),
    ):
        assert array.dtype == times.dtype
        assert (values(array) == times).all()
    assert lazyio.open(tmp_path / "x.zarr", "plain").dtype == np.dtype("i8")


def test_a_million_million_chunks_of_zarr(tmp_path):
    """An array of 10**12 chunks, none of them stored, opens and reads at once."""
    zarr.create_array(
        tmp_path / "huge.zarr",
        shape=(10**9, 10**9),
        chunks=(1000, 1000),
        dtype="<i2",
        fill_value=-1,
    )
    tracemalloc.start()
    array = lazyio.open(tmp_path / "huge.zarr")
    corner = values(array[-3:, 5:8])
    peak_nbytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (corner == -1).all()
    assert peak_nbytes < 128 * 2**20


@pytest.mark.parametrize("name", ["naïve", "two\nlines", " ", "a:b", "ключ", "'quoted'"])
def test_odd_names(tmp_path, name):
    """Files may be named as one likes."""
    np.save(tmp_path / f"{name}.npy", MATRIX)
    zarr.create_array(tmp_path / f"{name}.zarr", data=MATRIX)
    # Newer releases of zarr take a text path for a URL, and drop its line breaks.
    for suffix in ("npy", "zarr") if "\n" not in name else ("npy",):
        array = lazyio.open(tmp_path / f"{name}.{suffix}")
        assert (values(pickle.loads(pickle.dumps(array))) == MATRIX).all()


def test_open_files(folder):
    """A file object says nothing of its format, and is answered with what to give instead."""
    with (folder / "image.h5").open("rb") as file:
        with pytest.raises(UnknownFormatError, match=r"BufferedReader is an open file.*h5py\.File"):
            lazyio.open(file)
        with h5py.File(file, "r") as opened:
            assert (values(lazyio.open(opened)) == MATRIX).all()
    with pytest.raises(UnknownFormatError, match="BytesIO of 0 bytes is taken for the content"):
        lazyio.open(io.BytesIO())


def test_list_of_paths(folder):
    """A list of paths is no array; what joins them is named."""
    with pytest.raises(OptionError, match=r"list of paths is no array.*lazyio\.concatenate"):
        lazyio.open([folder / "image.npy", folder / "image.h5"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        pytest.param({"key": "a"}, "key='a' is for files and groups; ndarray is one", id="key"),
        pytest.param({"format": "npy"}, "are for paths; ndarray", id="format"),
        pytest.param({"dtype": "u1"}, "are for paths; ndarray", id="option"),
        pytest.param({"storage_options": {"anon": True}}, "are for paths", id="storage"),
        pytest.param({"allow_external": ["/"]}, "are for paths", id="external"),
    ],
)
def test_options_of_paths_are_not_for_arrays(options, match):
    """An option that would mean nothing is refused, not swallowed."""
    with pytest.raises(OptionError, match=match):
        lazyio.open(MATRIX, **options)


class Iterator(GenericDataChunkIterator):
    """What a user of HDMF has already."""

    n_reads = 0

    def _get_data(self, selection):
        type(self).n_reads += 1
        return MATRIX[selection]

    def _get_maxshape(self):
        return MATRIX.shape

    def _get_dtype(self):
        return MATRIX.dtype


@pytest.mark.parametrize("take", [lazyio.open, lazyio.from_source, lazyio.from_array])
def test_hdmf_iterator_is_taken_as_it_is(take):
    """A GenericDataChunkIterator subclass is random access: its three facts are a source."""
    iterator = Iterator(chunk_shape=(3, 5), buffer_shape=(6, 5))
    before = Iterator.n_reads
    opened = take(iterator)
    assert isinstance(array_source(iterator), SerialSource)
    assert opened.dtype == MATRIX.dtype
    assert Iterator.n_reads == before
    assert (values(opened) == MATRIX).all()
    assert Iterator.n_reads > before


def test_hdmf_iterator_is_written(tmp_path):
    """It is written like any source."""
    lazyio.to_hdf5(Iterator(buffer_shape=(6, 5), chunk_shape=(3, 5)), tmp_path / "x.h5")
    assert (values(lazyio.open(tmp_path / "x.h5")) == MATRIX).all()


ONCE = {
    "generator": lambda: (row for row in MATRIX),
    "iterator": lambda: iter(MATRIX),
    "map": lambda: map(np.sin, MATRIX),
    "zip": lambda: zip([1], [2], strict=True),
    "hdmf": lambda: DataChunkIterator(data=iter(MATRIX), buffer_size=2),
}


@pytest.mark.parametrize("take", [lazyio.open, lazyio.from_array, lazyio.from_source, lazyio.plan])
@pytest.mark.parametrize("make", ONCE.values(), ids=ONCE)
def test_what_can_be_gone_through_once(make, take):
    """One-shot iterators have no random access: a SourceError says so."""
    with pytest.raises(SourceError, match=r"can only be gone through once.*to_hdf5"):
        take(make())


@pytest.mark.parametrize("given", [{}, {1}, 1.5j.conjugate, None, lazyio], ids=type)
def test_what_is_no_array(given):
    """Anything else is of no known format, and its type is named."""
    with pytest.raises(UnknownFormatError, match=f"{type(given).__name__} is no path and no array"):
        lazyio.open(given)
