"""Everything that a user may get wrong: one clear error, nothing computed, nothing left behind."""

import errno
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.codecs import libraries
from lazyio.errors import (
    BlockError,
    LazyioError,
    OptionError,
    PlanError,
    SourceError,
    TargetError,
    TargetExistsError,
    TargetLockedError,
    TruncatedSourceError,
    UnknownFormatError,
    UnsupportedDtypeError,
)

DATA = Path(__file__).parents[2] / "shared" / "data"
MATRIX = np.arange(60 * 40, dtype="<i4").reshape(60, 40)


def listing(folder):
    """Return every file and folder below one, hidden ones too, with what the files hold."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found


@contextmanager
def refused(folder, error, match):
    """Expect exactly this class of error, and a folder that is as it was."""
    before = listing(folder)
    with pytest.raises(LazyioError, match=match) as caught:
        yield caught
    assert type(caught.value) is error
    assert listing(folder) == before


@pytest.fixture
def blocks():
    """Return a dask array that notes when one of its blocks is computed."""
    computed = []

    def note(block):
        computed.append(block.shape)
        return block

    array = da.from_array(MATRIX, chunks=(20, 40)).map_blocks(
        note, dtype=MATRIX.dtype, meta=np.empty((0, 0), MATRIX.dtype)
    )
    yield array
    assert computed == []


def write_hdf5(data, folder, **options):
    """Write to a new HDF5 file."""
    return lazyio.to_hdf5(data, folder / "new.h5", "x", **options)


def write_zarr(data, folder, **options):
    """Write to a new Zarr store."""
    return lazyio.to_zarr(data, folder / "new.zarr", **options)


WRITERS = [pytest.param(write_hdf5, id="hdf5"), pytest.param(write_zarr, id="zarr")]
both = pytest.mark.parametrize("write", WRITERS)


@pytest.fixture(scope="session")
def made_files(tmp_path_factory):
    """Return a folder with one file or store of each format, made once."""
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "old.npy", MATRIX)
    MATRIX.tofile(folder / "old.raw")
    with h5py.File(folder / "old.h5", "w") as file:
        file.create_dataset("x", data=MATRIX, chunks=(8, 8), compression="gzip")
        file["other"] = MATRIX
        file["group/deep"] = MATRIX
    store = zarr.create_group(folder / "old.zarr")
    store.create_array("x", data=MATRIX, chunks=(20, 40))
    store.create_array("group/deep", data=MATRIX)
    zarr.create_array(folder / "array.zarr", data=MATRIX, chunks=(20, 40))
    (folder / "plain").mkdir()
    (folder / "plain" / "thesis.txt").write_text("years of work")
    (folder / "notes.txt").write_text("plain text")
    return folder


@pytest.fixture
def files(made_files, tmp_path):
    """Return a folder of a test's own with one file or store of each format."""
    return Path(shutil.copytree(made_files, tmp_path / "files"))


class TestPublicNames:
    """What ``lazyio`` itself holds."""

    @pytest.mark.parametrize("name", lazyio.__all__)
    def test_exists_and_is_documented(self, name):
        """Every public name is there, says what it is, and shows it."""
        item = getattr(lazyio, name)
        assert inspect.getdoc(item)
        assert callable(item)

    @pytest.mark.parametrize(
        "name", [name for name in lazyio.__all__ if inspect.isfunction(getattr(lazyio, name))]
    )
    def test_is_no_stub(self, name):
        """No public function is a promise only: until a name works it is absent."""
        code = inspect.getsource(getattr(lazyio, name))
        body = code.split('"""')[-1]
        assert "NotImplementedError" not in code
        assert "return" in body
        assert ">>>" in inspect.getdoc(getattr(lazyio, name))

    def test_all_is_sorted_and_unique(self):
        """The list of public names is in order, each once."""
        assert sorted(set(lazyio.__all__)) == sorted(lazyio.__all__)

    def test_names_are_those_of_the_interface(self):
        """Nothing is public that the interface does not name."""
        interface = (
            "plan Plan open from_array from_raw from_npy from_hdf5 from_zarr from_function "
            "from_source Source concatenate stack Stream Blocks Ragged open_ragged window to_hdf5 "
            "to_zarr allocate writer WriteReport link virtual consolidate repack recover clean "
            "verify VerifyReport LazyioError"
        )
        assert set(lazyio.__all__) <= set(interface.split())

    @pytest.mark.parametrize(
        ("name", "builtin"),
        [
            ("PlanError", ValueError),
            ("OptionError", ValueError),
            ("UnknownFormatError", ValueError),
            ("SourceError", OSError),
            ("TruncatedSourceError", SourceError),
            ("SourceChangedError", SourceError),
            ("UnsafeFileError", SourceError),
            ("BlockError", RuntimeError),
            ("TargetExistsError", FileExistsError),
            ("TargetLockedError", OSError),
            ("TargetError", OSError),
            ("ResumeError", ValueError),
            ("DamagedDataError", OSError),
            ("UnsupportedDtypeError", TypeError),
        ],
    )
    def test_errors_are_builtins_too(self, name, builtin):
        """Each error is a LazyioError and what a caller would have caught anyway."""
        error = getattr(lazyio.errors, name)
        assert issubclass(error, LazyioError)
        assert issubclass(error, builtin)
        assert inspect.getdoc(error)


class TestSources:
    """What cannot be opened is not opened in part."""

    @pytest.mark.parametrize(
        ("name", "key", "error", "match"),
        [
            pytest.param(
                "notes.txt", None, UnknownFormatError, "no known format.*give format=", id="suffix"
            ),
            pytest.param("plain", None, UnknownFormatError, "no known format", id="folder"),
            pytest.param("none.npy", None, SourceError, "none.npy does not exist", id="npy"),
            pytest.param("none.h5", "x", SourceError, "none.h5 does not exist", id="hdf5"),
            pytest.param("none.zarr", "x", SourceError, "none.zarr does not exist", id="zarr"),
            pytest.param("old.h5", "y", SourceError, "no dataset 'y'.*'group/deep'", id="key"),
            pytest.param("old.h5", None, SourceError, "3 datasets; give the key", id="no-key"),
            pytest.param("old.h5", "group", SourceError, "'group' is a group", id="group"),
            pytest.param("old.zarr", "y", SourceError, "no Zarr array at 'y'", id="path"),
            pytest.param("old.zarr", None, SourceError, "2 arrays; give the path", id="no-path"),
        ],
    )
    @pytest.mark.parametrize("take", ["open", "plan", "write"])
    def test_not_there(self, files, name, key, error, match, take):
        """A missing or unknown source is one error, whoever is asked to open it."""
        if take == "open":
            with refused(files, error, match):
                lazyio.open(files / name, key)
        elif key is None:
            with refused(files, error, match):
                lazyio.plan(files / name) if take == "plan" else write_hdf5(files / name, files)

    def test_raw_file_shorter_than_its_shape(self, files):
        """A short file names both sizes."""
        with refused(files, TruncatedSourceError, r"9600 bytes.*takes 9760.*too short"):
            lazyio.from_raw(files / "old.raw", (61, 40), "<i4")

    def test_raw_file_longer_than_its_shape(self, files):
        """A long file names what is left over and the offset that would skip it."""
        with refused(files, SourceError, r"160 bytes are left over.*offset=160"):
            lazyio.from_raw(files / "old.raw", (59, 40), "<i4")

    def test_truncated_npy(self, files):
        """A .npy file cut at any byte of its header is a SourceError, in its data truncated."""
        content = (files / "old.npy").read_bytes()
        header = len(content) - MATRIX.nbytes
        for length in [*range(header), *range(header, len(content), 997)]:
            (files / "old.npy").write_bytes(content[:length])
            error = TruncatedSourceError if length >= header else SourceError
            with pytest.raises(SourceError, match=r"old\.npy") as caught:
                lazyio.open(files / "old.npy")
            assert type(caught.value) is error

    @pytest.mark.parametrize("libver", ["earliest", "v114"])
    def test_truncated_hdf5(self, tmp_path, libver):
        """An HDF5 file cut anywhere is a SourceError naming it, at opening."""
        path = tmp_path / "old.h5"
        with h5py.File(path, "w", libver=libver) as file:
            file.create_dataset("x", data=MATRIX, chunks=(8, 8), compression="gzip")
        content = path.read_bytes()
        for length in [*range(1, 200, 13), *range(200, len(content) - 1, 397), len(content) - 1]:
            path.write_bytes(content[:length])
            with pytest.raises(SourceError, match=r"old\.h5 .*(opened as HDF5|truncated)"):
                lazyio.open(path, "x")

    def test_empty_hdf5(self, tmp_path):
        """A file of no bytes is a SourceError naming it."""
        (tmp_path / "old.h5").touch()
        with refused(tmp_path, SourceError, r"old\.h5"):
            lazyio.open(tmp_path / "old.h5")

    @pytest.mark.parametrize("cut", [0, 1, 40, 200])
    def test_truncated_zarr_metadata(self, files, cut):
        """A zarr.json cut short is named."""
        text = (files / "array.zarr" / "zarr.json").read_bytes()
        (files / "array.zarr" / "zarr.json").write_bytes(text[:cut])
        with refused(files, SourceError, r"array\.zarr.zarr\.json is damaged"):
            lazyio.open(files / "array.zarr")

    @pytest.mark.parametrize(
        "change",
        [
            {"shape": "wide"},
            {"codecs": [{"name": "nope"}]},
            {"node_type": None},
            {"data_type": 5},
            {"zarr_format": 7},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_garbled_zarr_metadata(self, files, change):
        """A zarr.json that makes no sense is named."""
        path = files / "array.zarr" / "zarr.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
        with refused(files, SourceError, r"array\.zarr"):
            lazyio.open(files / "array.zarr")

    @pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
    def test_vendor_filter(self):
        """A filter that only its maker has is named at opening, with what would help."""
        with pytest.raises(SourceError, match=r"filter 401 .*HDF5_PLUGIN_PATH"):
            lazyio.open(DATA / "maxwell_vendor_filter.h5", "data_store/data0000/groups/routed/raw")


class Foreign:
    """The least of an array library other than numpy: sparse, or on a GPU."""

    def __init__(self, shape=(0, 0), dtype="<i4"):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)

    def __getitem__(self, index):
        return Foreign(tuple(0 for _ in self.shape), self.dtype)

    def astype(self, dtype, **options):
        return Foreign(self.shape, dtype)

    def __array_function__(self, function, types, arguments, options):
        return NotImplemented


@both
class TestWhatIsNoPlainArray:
    """Elements and blocks that have no plain bytes."""

    def test_object_array(self, tmp_path, write):
        """Python objects have no bytes."""
        with refused(tmp_path, UnsupportedDtypeError, r"Python objects.*\.astype"):
            write(np.array([1, "a"], object), tmp_path)

    def test_object_dask_array(self, tmp_path, write, blocks):
        """Nor have those of a dask array."""
        with refused(tmp_path, UnsupportedDtypeError, r"Python objects.*\.astype"):
            write(blocks.astype(object), tmp_path)

    def test_object_dtype_wished(self, tmp_path, write, blocks):
        """dtype=object is refused as well."""
        with refused(tmp_path, UnsupportedDtypeError, "Python objects"):
            write(blocks, tmp_path, dtype=object)

    def test_unknown_dtype_wished(self, tmp_path, write, blocks):
        """A dtype that numpy does not know is named."""
        with refused(tmp_path, OptionError, "dtype='int17' is not a numpy dtype"):
            write(blocks, tmp_path, dtype="int17")

    def test_variable_length_rows(self, tmp_path, write):
        """A dataset of rows of any length is named."""
        with h5py.File(tmp_path / "rows.h5", "w") as file:
            file.create_dataset("x", (2,), h5py.vlen_dtype("<i2"))
        with refused(tmp_path, UnsupportedDtypeError, "rows.h5.*variable-length rows"):
            write(tmp_path / "rows.h5", tmp_path)

    def test_unknown_block_sizes(self, tmp_path, write, blocks):
        """NaN chunk sizes are a PlanError with the remedy."""
        unknown = blocks[:, 0]
        unknown = unknown[unknown.map_blocks(lambda block: block > 3, dtype=bool)]
        with refused(tmp_path, PlanError, r"not known \(NaN\).*compute_chunk_sizes"):
            write(unknown, tmp_path)

    def test_foreign_blocks(self, tmp_path, write):
        """Blocks of another library are named, with how to make them numpy's."""
        array = da.zeros((8, 8), chunks=4, dtype="<i4").map_blocks(
            lambda block: Foreign(block.shape), dtype="<i4", meta=Foreign()
        )
        assert isinstance(array._meta, Foreign)
        with refused(tmp_path, UnsupportedDtypeError, r"Foreign have no plain bytes.*asarray"):
            write(array, tmp_path)

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: (row for row in MATRIX), id="generator"),
            pytest.param(lambda: iter(MATRIX), id="iterator"),
        ],
    )
    def test_one_shot_iterators(self, tmp_path, write, make):
        """What can be gone through only once has no blocks."""
        with refused(tmp_path, SourceError, "gone through once"):
            write(make(), tmp_path)

    @pytest.mark.parametrize(
        "given", [None, object(), write_hdf5], ids=["none", "object", "function"]
    )
    def test_no_array_at_all(self, tmp_path, write, given):
        """Anything else is named by its type."""
        with refused(tmp_path, UnknownFormatError, f"{type(given).__name__} is no path and no"):
            write(given, tmp_path)


@both
class TestPlans:
    """Shapes and sizes that do not go together."""

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            pytest.param(
                {"memory_limit": "1 KiB", "chunks": (60, 40)},
                PlanError,
                r"memory_limit=1 KiB.*too small.*would do is memory_limit=\d+",
                id="limit",
            ),
            pytest.param(
                {"memory_limit": 10}, PlanError, r"10 B.*own largest block", id="limit-own-blocks"
            ),
            pytest.param({"memory_limit": 0}, OptionError, "memory_limit=0 is not a size", id="0"),
            pytest.param({"memory_limit": -5}, OptionError, "memory_limit=-5", id="negative"),
            pytest.param({"memory_limit": ""}, OptionError, "memory_limit=''", id="empty"),
            pytest.param({"memory_limit": "lots"}, OptionError, "limit='lots'", id="word"),
            pytest.param({"memory_limit": "64 XB"}, OptionError, "'64 XB'.*64 MiB", id="unit"),
            pytest.param({"memory_limit": "-1 GB"}, OptionError, "'-1 GB'", id="negative-text"),
            pytest.param({"memory_limit": "1 GB GB"}, OptionError, "'1 GB GB'", id="two-units"),
            pytest.param({"memory_limit": "0.1 B"}, OptionError, "'0.1 B'", id="part-of-a-byte"),
            pytest.param({"memory_limit": 1.5}, OptionError, "memory_limit=1.5", id="fraction"),
            pytest.param({"memory_limit": float("nan")}, OptionError, "limit=nan", id="nan"),
            pytest.param({"memory_limit": float("inf")}, OptionError, "limit=inf", id="infinite"),
            pytest.param({"memory_limit": True}, OptionError, "memory_limit=True", id="bool"),
            pytest.param({"memory_limit": [1]}, OptionError, r"memory_limit=\[1\]", id="list"),
            pytest.param(
                {"memory_limit": np.array([1, 2])}, OptionError, "memory_limit=array", id="array"
            ),
            pytest.param(
                {"chunk_nbytes": "big"}, OptionError, "chunk_nbytes='big'", id="chunk-size"
            ),
            pytest.param({"chunk_nbytes": (9, 3)}, OptionError, "above the upper", id="bounds"),
            pytest.param(
                {"chunk_nbytes": (1, 2, 3)}, OptionError, "upper bound, or", id="3-bounds"
            ),
            pytest.param({"workers": 0}, OptionError, "workers=0; give an integer", id="workers"),
            pytest.param({"workers": 1.5}, OptionError, "workers=1.5", id="workers-float"),
            pytest.param({"workers": True}, OptionError, "workers=True", id="workers-bool"),
            pytest.param({"workers": "many"}, OptionError, "workers='many'", id="workers-word"),
            pytest.param(
                {"chunks": (8,)}, OptionError, r"has 1 axes, the array's shape", id="rank"
            ),
            pytest.param({"chunks": (8, 8, 8)}, OptionError, "has 3 axes", id="rank-more"),
            pytest.param({"chunks": (0, 8)}, OptionError, "chunks holds 0", id="zero"),
            pytest.param({"chunks": (-2, 8)}, OptionError, "chunks holds -2", id="below"),
            pytest.param({"chunks": (8.0, 8)}, OptionError, "chunks holds 8.0", id="float"),
            pytest.param({"chunks": "square"}, OptionError, "chunks='square'", id="words"),
            pytest.param({"chunks": {"time": 5}}, OptionError, "names axis 'time'", id="name"),
            pytest.param({"chunks": {2: 5}}, OptionError, "names axis 2", id="axis"),
            pytest.param({"chunks": 1.5}, OptionError, "chunks=1.5", id="chunks-float"),
        ],
    )
    def test_sizes_and_shapes(self, tmp_path, write, blocks, options, error, match):
        """A size or shape that cannot be is named before anything is computed."""
        with refused(tmp_path, error, match):
            write(blocks, tmp_path, **options)

    def test_the_limit_that_would_do_does(self, tmp_path, write):
        """The limit that the error names is enough."""
        with pytest.raises(PlanError, match="the smallest limit that would do is") as caught:
            write(MATRIX, tmp_path, memory_limit=1000, chunks=(60, 40))
        limit = int(re.search(r"memory_limit=(\d+)$", str(caught.value))[1])
        assert write(MATRIX, tmp_path, memory_limit=limit, chunks=(60, 40)).n_chunks == 1

    def test_chunk_over_4_gib(self, tmp_path, write):
        """A chunk that no codec takes is refused before it is made."""
        array = lazyio.from_function(lambda region: None, (2**20, 2**13), "u1")
        with refused(tmp_path, PlanError, r"8 GiB; HDF5 and Zarr codecs stop below 4 GiB"):
            write(array, tmp_path, chunks=-1, memory_limit="1 TiB")

    def test_chunk_over_the_limit_of_ones_own(self, tmp_path, write, blocks):
        """Chunks that are fixed and a bound that forbids them contradict each other."""
        with refused(tmp_path, PlanError, "over chunk_nbytes=100; fix fewer"):
            write(blocks, tmp_path, chunks=(8, 8), chunk_nbytes=100)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        pytest.param(((4, 4),), {}, OptionError, "give dtype", id="no-dtype"),
        pytest.param(((-4, 4), "i2"), {}, OptionError, "negative extent", id="negative"),
        pytest.param(((4.0, 4), "i2"), {}, OptionError, "not a shape", id="float"),
        pytest.param((("a", 4), "i2"), {}, OptionError, "not a shape", id="word"),
        pytest.param(((1,) * 33, "i2"), {}, OptionError, "33 axes.*at most 32", id="rank"),
        pytest.param(((4,), "O"), {}, UnsupportedDtypeError, "Python objects", id="objects"),
        pytest.param(((4,), "(2,)i2"), {}, UnsupportedDtypeError, "shape", id="subarray"),
        pytest.param(((4,), "i2"), {"format": "tiff"}, OptionError, "format='tiff'", id="format"),
        pytest.param(((4,), "i2"), {"strategy": "best"}, OptionError, "'best'", id="strategy"),
        pytest.param(
            ((4,), "i2"), {"source_chunks": (2, 2)}, OptionError, "does not fit", id="source-rank"
        ),
        pytest.param(((4,), "i2"), {"block_shape": (0,)}, OptionError, "at least 1", id="block-0"),
        pytest.param(((4,), "i2"), {"block_shape": (2, 2)}, OptionError, "2 axes", id="block-rank"),
        pytest.param(
            ((100,), "i2"),
            {"chunks": 8, "block_shape": (20,)},
            PlanError,
            "not a multiple of chunk_shape .* use 16 or 24",
            id="block-misaligned",
        ),
        pytest.param(((4,), "i2"), {"shards": (2,)}, OptionError, "has no shards", id="shards"),
        pytest.param(((4,), "i2"), {"access": [(0,)]}, OptionError, "extent 0", id="access"),
        pytest.param(
            (MATRIX,), {"source_chunks": (2, 2)}, OptionError, "says itself", id="chunked"
        ),
        pytest.param(((2**40,), "u1"), {"chunks": 2**33}, PlanError, "below 4 GiB", id="4-gib"),
    ],
)
def test_plans_that_cannot_be(tmp_path, arguments, options, error, match):
    """Plan refuses what does not go together, with what would."""
    with refused(tmp_path, error, match):
        lazyio.plan(*arguments, **options)


def _raise(region):
    msg = "no tape in the drive"
    raise ValueError(msg)


def _masked(region):
    return np.ma.masked_less(MATRIX[region], 1000)


FAULTS = {
    "raises": (_raise, "ValueError: no tape in the drive"),
    "short": (lambda region: MATRIX[region][:-1], r"\(\d+, 40\)"),
    "one-row": (lambda region: MATRIX[region][:1], r"\(1, 40\)"),
    "scalar": (lambda region: np.int32(3), r"\(\)"),
    "extra-axis": (lambda region: MATRIX[region][None], r"\(1, \d+, 40\)"),
    "wider": (lambda region: MATRIX[region].astype("i8"), "int64"),
    "float": (lambda region: MATRIX[region] / 2, "float64"),
    "text": (lambda region: MATRIX[region].astype("U9"), "<U9"),
    "list": (lambda region: MATRIX[region].tolist(), "list"),
    "none": (lambda region: None, "NoneType"),
    "masked": (_masked, "MaskedArray"),
}


class Own:
    """A Source whose blocks beyond row 40 are not what it says."""

    shape, dtype, chunk_shape = MATRIX.shape, MATRIX.dtype, (20, 40)

    def __init__(self, fault):
        self.fault = fault

    def read(self, region):
        return self.fault(region) if region[0].stop > 40 else MATRIX[region].copy()


def _graph(fault):
    def work(block, block_info=None):
        (start, stop), *_ = block_info[0]["array-location"]
        return fault((slice(start, stop), slice(0, 40))) if start >= 40 else block

    return da.from_array(MATRIX, chunks=(20, 40)).map_blocks(
        work, dtype=MATRIX.dtype, meta=np.empty((0, 0), MATRIX.dtype)
    )


def _function(fault):
    return lazyio.from_function(Own(fault).read, MATRIX.shape, MATRIX.dtype, source_chunks=(20, 40))


def _own(fault):
    return lazyio.from_source(Own(fault))


GIVEN = {
    "map_blocks": _graph,
    "function": _function,
    "function-and-work": lambda fault: _function(fault).rechunk((20, 40)) + 0,
    "source": _own,
    "source-itself": Own,
    "source-and-work": lambda fault: _own(fault).rechunk((20, 40)) + 0,
}


# A graph's masked blocks are filled, so they are no fault.
FAILING = [
    pytest.param(make, *fault, id=f"{given}-{name}")
    for given, make in GIVEN.items()
    for name, fault in FAULTS.items()
    if (given, name) != ("map_blocks", "masked")
]


@both
@pytest.mark.parametrize(("make", "fault", "match"), FAILING)
def test_blocks_that_fail(files, write, make, fault, match):
    """A block that raises, or is not what it should be, is a BlockError; no target appears."""
    where = r"\[\d+:60, 0:40\]"
    with refused(files, BlockError, rf"(?s){where}.*{match}|{match}.*{where}") as caught:
        write(make(fault), files, chunks=(20, 40), workers=1)
    if fault is _raise:
        causes = [caught.value]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        assert isinstance(causes[-1], ValueError)


@pytest.mark.parametrize(("fault", "match"), list(FAULTS.values())[:3], ids=list(FAULTS)[:3])
@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_blocks_that_fail_leave_the_old_file(files, make, fault, match):
    """A failing block leaves what was there byte for byte, also where it was to be replaced."""
    options = {"chunks": (20, 40), "workers": 1}
    for mode in ("a", "w"):
        with refused(files, BlockError, match):
            lazyio.to_hdf5(make(fault), files / "old.h5", "x", mode=mode, overwrite=True, **options)
    with refused(files, BlockError, match):
        lazyio.to_hdf5(make(fault), files / "old.h5", "new/y", **options)
    with refused(files, BlockError, match):
        lazyio.to_zarr(make(fault), files / "array.zarr", overwrite=True, **options)
    for path in ("x", "y", "far/away/y"):
        with refused(files, BlockError, match):
            lazyio.to_zarr(make(fault), files / "old.zarr", path, overwrite=True, **options)
    with refused(files, BlockError, match):
        lazyio.to_zarr(make(fault), files / "new.zarr", "far/away/y", **options)


class TestTargetsThatAreThere:
    """What is there is replaced only when that was said."""

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            pytest.param({}, TargetExistsError, "has 'x' already; pass overwrite=True", id="a"),
            pytest.param({"mode": "r+"}, TargetExistsError, "has 'x' already", id="r+"),
            pytest.param({"mode": "x"}, TargetExistsError, "mode='x' makes only new", id="x"),
            pytest.param({"mode": "w-"}, TargetExistsError, "mode='w-' makes only new", id="w-"),
            pytest.param({"mode": "z"}, OptionError, "mode='z' is not a mode", id="z"),
            pytest.param({"mode": None}, OptionError, "mode=None is not a mode", id="none"),
            pytest.param({"mode": ["a"]}, OptionError, "is not a mode", id="list"),
            pytest.param({"overwrite": "yes"}, OptionError, "overwrite='yes'; give True", id="yes"),
            pytest.param({"overwrite": 1}, OptionError, "overwrite=1; give True or False", id="1"),
        ],
    )
    def test_hdf5(self, files, blocks, options, error, match):
        """An existing dataset or file is left as it is."""
        with refused(files, error, match):
            lazyio.to_hdf5(blocks, files / "old.h5", "x", **options)

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            pytest.param({}, TargetExistsError, "already exists; pass overwrite=True", id="a"),
            pytest.param({"mode": "r+"}, TargetExistsError, "already exists", id="r+"),
            pytest.param({"mode": "x"}, TargetExistsError, "mode='x' makes only new", id="x"),
            pytest.param({"mode": "w-"}, TargetExistsError, "mode='w-' makes only new", id="w-"),
            pytest.param({"mode": "z"}, OptionError, "mode='z' is not a mode", id="z"),
            pytest.param({"overwrite": None}, OptionError, "overwrite=None; give True", id="none"),
        ],
    )
    @pytest.mark.parametrize(("store", "path"), [("old.zarr", "x"), ("array.zarr", None)])
    def test_zarr(self, files, blocks, store, path, options, error, match):
        """An existing array or store is left as it is."""
        with refused(files, error, match):
            lazyio.to_zarr(blocks, files / store, path, **options)

    @both
    def test_nothing_to_add_to(self, tmp_path, write, blocks):
        """mode="r+" wants something that is there."""
        with refused(tmp_path, TargetError, "does not exist, and mode='r.' adds") as caught:
            write(blocks, tmp_path, mode="r+")
        assert caught.value.errno == errno.ENOENT

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_hdf5_key_below_a_dataset(self, files, blocks, overwrite):
        """A dataset holds no other: the key is refused."""
        with refused(files, TargetError, "'x'.*dataset"):
            lazyio.to_hdf5(blocks, files / "old.h5", "x/deeper", overwrite=overwrite)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_hdf5_key_of_a_group(self, files, blocks, overwrite):
        """Overwrite speaks of one dataset: a group and all it holds is never replaced."""
        with refused(files, TargetExistsError, "group"):
            lazyio.to_hdf5(blocks, files / "old.h5", "group", overwrite=overwrite)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("store", ["old.zarr", "array.zarr"])
    def test_zarr_path_below_an_array(self, files, blocks, store, overwrite):
        """An array holds no other: the path is refused."""
        with refused(files, TargetError, "array"):
            lazyio.to_zarr(blocks, files / store, "x/deeper", overwrite=overwrite)

    @pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"mode": "w"}], ids=repr)
    @pytest.mark.parametrize("path", [None, "group"])
    def test_zarr_path_of_a_group(self, files, blocks, path, options):
        """A group and all it holds is never replaced by an array."""
        with refused(files, TargetExistsError, "group"):
            lazyio.to_zarr(blocks, files / "old.zarr", path, **options)

    @pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"mode": "w"}], ids=repr)
    @both
    def test_folder_of_other_things(self, files, blocks, write, options):
        """A folder that is no store is never replaced, whatever was said."""
        to = lazyio.to_hdf5 if write is write_hdf5 else lazyio.to_zarr
        with refused(files, TargetError, "plain is a (directory|folder)"):
            to(blocks, files / "plain", **options)

    @pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"mode": "w"}], ids=repr)
    @pytest.mark.parametrize("path", [None, "x"])
    def test_zarr_store_that_is_a_file(self, files, blocks, path, options):
        """A file is no store."""
        with refused(files, TargetError, r"notes\.txt is a file"):
            lazyio.to_zarr(blocks, files / "notes.txt", path, **options)

    @pytest.mark.parametrize("options", [{}, {"overwrite": True}], ids=repr)
    def test_hdf5_file_that_is_another(self, files, blocks, options):
        """A file that is no HDF5 is not added to; mode="w" would replace it."""
        with refused(files, TargetError, "no HDF5 file; pass mode='w'|cannot be opened as HDF5"):
            lazyio.to_hdf5(blocks, files / "notes.txt", **options)

    def test_zarr_of_another_format(self, files, blocks):
        """Arrays of two formats do not go into one store."""
        with refused(files, TargetError, "v3 group, to which no v2 array can be added"):
            lazyio.to_zarr(blocks, files / "old.zarr", "y", zarr_format=2)

    @pytest.mark.parametrize(
        ("key", "match"),
        [
            ("", "does not name a dataset"),
            ("/", "does not name a dataset"),
            ("//", "does not name a dataset"),
            (".", "key='.'"),
            ("a/./b", "'a/./b'"),
            ("nu\0l", "key='nu"),
            (None, "key=None does not name"),
            (5, "key=5 does not name"),
            (b"x", "key=b'x' does not name"),
        ],
    )
    @pytest.mark.parametrize("name", ["old.h5", "new.h5"])
    def test_hdf5_keys_that_cannot_be(self, files, blocks, name, key, match):
        """A key that names no dataset is refused before anything is made."""
        with refused(files, OptionError, re.escape(match).replace("\0", ".")):
            lazyio.to_hdf5(blocks, files / name, key)

    @pytest.mark.parametrize(
        "path", ["..", "a/../b", "a//b", "./a", "__odd", "nu\0l", 5, b"x"], ids=repr
    )
    @pytest.mark.parametrize("name", ["old.zarr", "new.zarr"])
    def test_zarr_paths_that_cannot_be(self, files, blocks, name, path):
        """A path that leaves the store, or names nothing, is refused before anything is made."""
        with refused(files, OptionError, "path=.* is not a path inside a Zarr store"):
            lazyio.to_zarr(blocks, files / name, path)

    @pytest.mark.parametrize("path", [None, 5, b"new", object()], ids=["none", "5", "bytes", "obj"])
    @pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
    def test_no_path(self, tmp_path, blocks, to, path):
        """What is no path is refused by type or value."""
        with refused(tmp_path, OptionError, "give the (name of a file|path of a directory)"):
            to(blocks, path)

    @pytest.mark.parametrize("options", [{}, {"mode": "w"}, {"overwrite": True}], ids=repr)
    @pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
    @pytest.mark.parametrize("path", ["", "."])
    def test_the_folder_itself(self, files, blocks, to, path, options, monkeypatch):
        """The folder that one is in is no target."""
        monkeypatch.chdir(files)
        with refused(files, TargetError, "directory|folder"):
            to(blocks, path, **options)

    @pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
    def test_path_with_a_null_byte(self, tmp_path, blocks, to):
        """A path that no file system takes is refused."""
        with refused(tmp_path, OptionError, "path=.*nu"):
            to(blocks, str(tmp_path / "nu\0l"))

    @pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
    def test_name_that_is_too_long(self, tmp_path, blocks, to):
        """A name that no file system takes is refused."""
        with refused(tmp_path, TargetError, "name too long") as caught:
            to(blocks, tmp_path / ("n" * 300))
        assert caught.value.errno == errno.ENAMETOOLONG


class TestOwnSource:
    """What is being read is never replaced."""

    @pytest.mark.parametrize(
        "work",
        [
            pytest.param(lambda array: array, id="straight"),
            pytest.param(lambda array: array + 1, id="work"),
            pytest.param(lambda array: array.map_blocks(np.negative), id="map_blocks"),
            pytest.param(lambda array: da.concatenate([array, da.ones_like(array)]), id="joined"),
            pytest.param(lambda array: array[::2].rechunk((5, 5)), id="rechunked"),
        ],
    )
    @pytest.mark.parametrize(
        ("make", "to"),
        [
            pytest.param(
                lambda files: lazyio.open(files / "old.h5", "x"),
                lambda data, files: lazyio.to_hdf5(data, files / "old.h5", "/x", overwrite=True),
                id="hdf5",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "old.h5", "x"),
                lambda data, files: lazyio.to_hdf5(data, files / "old.h5", "y", mode="w"),
                id="hdf5-whole-file",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "link.h5", "x"),
                lambda data, files: lazyio.to_hdf5(data, files / "old.h5", "y", mode="w"),
                id="hdf5-through-link",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "old.h5", "x"),
                lambda data, files: lazyio.to_hdf5(data, files / "link.h5", "y", mode="w"),
                id="hdf5-into-link",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "old.npy"),
                lambda data, files: lazyio.to_hdf5(data, files / "old.npy", mode="w"),
                id="npy",
            ),
            pytest.param(
                lambda files: lazyio.from_raw(files / "old.raw", MATRIX.shape, MATRIX.dtype),
                lambda data, files: lazyio.to_hdf5(data, files / "old.raw", mode="w"),
                id="raw",
            ),
            pytest.param(
                lambda files: lazyio.from_array(
                    np.memmap(files / "old.raw", "<i4", "r", shape=MATRIX.shape)
                ),
                lambda data, files: lazyio.to_hdf5(data, files / "old.raw", mode="w"),
                id="memmap",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "array.zarr"),
                lambda data, files: lazyio.to_zarr(data, files / "array.zarr", overwrite=True),
                id="zarr",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "old.zarr", "x"),
                lambda data, files: lazyio.to_zarr(data, files / "old.zarr", "x", mode="w"),
                id="zarr-path",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "old.zarr" / "x"),
                lambda data, files: lazyio.to_zarr(data, files / "old.zarr", "/x/", overwrite=True),
                id="zarr-folder-and-path",
            ),
            pytest.param(
                lambda files: lazyio.open(files / "old.zarr", "x"),
                lambda data, files: lazyio.to_zarr(data, files / "old.zarr/x", overwrite=True),
                id="zarr-path-and-folder",
            ),
            pytest.param(
                lambda files: da.from_zarr(str(files / "array.zarr")),
                lambda data, files: lazyio.to_zarr(data, files / "array.zarr", overwrite=True),
                id="dask-zarr",
            ),
        ],
    )
    def test_is_not_replaced(self, files, make, to, work):
        """Writing over one's own source is refused by name, however it is spelled."""
        (files / "link.h5").symlink_to("old.h5")
        data = work(make(files))
        with refused(files, TargetError, "is the source of this array.*another path"):
            to(data, files)

    @pytest.mark.parametrize("options", [{"mode": "w"}, {"overwrite": True}], ids=repr)
    def test_a_dataset_that_dask_was_given(self, files, options):
        """A dataset inside da.from_array is seen too."""
        with h5py.File(files / "old.h5", "r") as file:
            data = da.from_array(file["x"], chunks=(20, 40)) + 1
            with refused(files, TargetError, "is the source of this array"):
                lazyio.to_hdf5(data, files / "old.h5", "x", **options)

    @both
    def test_a_closed_dataset_that_dask_was_given(self, files, write):
        """A dataset whose file was closed since cannot be read, and that is what is said."""
        with h5py.File(files / "old.h5", "r") as file:
            data = da.from_array(file["x"], chunks=(20, 40)) + 1
        with refused(files, SourceError, "closed"):
            write(data, files)

    def test_another_key_of_the_file_is_fine(self, files):
        """What is not replaced may be read while its file gets another dataset."""
        lazyio.to_hdf5(lazyio.open(files / "old.h5", "x") + 1, files / "old.h5", "y")
        with h5py.File(files / "old.h5") as file:
            np.testing.assert_array_equal(file["y"][...], MATRIX + 1)
            np.testing.assert_array_equal(file["x"][...], MATRIX)

    def test_another_array_of_the_store_is_fine(self, files):
        """So may an array while its store gets another."""
        lazyio.to_zarr(lazyio.open(files / "old.zarr", "x") + 1, files / "old.zarr", "y")
        np.testing.assert_array_equal(zarr.open(files / "old.zarr/y")[...], MATRIX + 1)
        np.testing.assert_array_equal(zarr.open(files / "old.zarr/x")[...], MATRIX)


NOT_WRITABLE = """
import json, os, sys
import dask.array as da, numpy as np
import lazyio
folder, spare = sys.argv[1:]
computed = []
def note(block):
    computed.append(block.shape)
    return block
# Everything is imported while the interpreter's own files can still be read.
for to, name in ((lazyio.to_hdf5, "a.h5"), (lazyio.to_zarr, "a.zarr")):
    to(da.ones((4, 4)), f"{spare}/{name}")
    try:
        to(da.ones((4, 4)), f"{spare}/none/{name}")
    except lazyio.LazyioError:
        pass
array = da.ones((4, 4), chunks=2).map_blocks(note, dtype="f8", meta=np.empty((0, 0)))
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
said = []
for to, name in (
    (lazyio.to_hdf5, "new.h5"),
    (lazyio.to_zarr, "new.zarr"),
    (lazyio.to_hdf5, "old.h5"),
    (lazyio.to_zarr, "old.zarr"),
):
    try:
        to(array, f"{folder}/{name}", "y")
        said.append([name, "nothing", "", 0])
    except BaseException as error:
        said.append([name, type(error).__name__, str(error), getattr(error, "errno", 0)])
sys.stdout.write(json.dumps([said, computed]))
"""


class TestPlaces:
    """Folders that cannot be written."""

    @both
    def test_missing_folder(self, tmp_path, write, blocks):
        """A missing folder is said before anything is computed, and is not made."""
        with refused(tmp_path, TargetError, "none does not exist; create it first") as caught:
            write(blocks, tmp_path / "none")
        assert caught.value.errno == errno.ENOENT

    @both
    def test_folder_that_is_a_file(self, files, write, blocks):
        """A path below a file is no place."""
        with refused(files, TargetError, r"notes\.txt") as caught:
            write(blocks, files / "notes.txt")
        assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR)

    def test_folder_that_is_not_writable(self, tmp_path):
        """A folder without permission is said before anything is computed."""
        # Not below tmp_path, which nobody but its owner may enter.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lazyio.to_hdf5(np.ones((4, 4)), folder / "old.h5", "x")
            lazyio.to_zarr(np.ones((4, 4)), folder / "old.zarr", "x")
            folder.chmod(0o555)
            before = listing(folder)
            done = subprocess.run(
                [sys.executable, "-c", NOT_WRITABLE, name, str(tmp_path)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert listing(folder) == before
            folder.chmod(0o755)
        said, computed = json.loads(done.stdout)
        assert computed == []
        for target, kind, text, number in said:
            assert (target, kind) == (target, "TargetError")
            assert "cannot be written" in text
            assert name in text
            assert number == errno.EACCES


HOLDER = """
import sys
from pathlib import Path
from lazyio.atomic.workdir import WorkDirectory
with WorkDirectory(Path(sys.argv[1])) as work:
    work.built.write_bytes(b"the first")
    sys.stdout.write("held")
    sys.stdout.flush()
    sys.stdin.read()
    work.publish()
"""


@pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
@pytest.mark.parametrize("options", [{}, {"mode": "w"}, {"overwrite": True}], ids=repr)
def test_two_writers(tmp_path, blocks, to, options):
    """The second writer is told who is at work, and the first is not harmed."""
    target = tmp_path / "target"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        assert first.stdout.read(4) == b"held"
        with refused(
            tmp_path, TargetLockedError, f"target is being written by process {first.pid}"
        ):
            to(blocks, target, **options)
        assert listing(tmp_path)[".target.lazyio/data"] == b"the first"
        first.communicate(b"")
    assert first.returncode == 0
    assert listing(tmp_path) == {"target": b"the first"}


class TestCompression:
    """Codecs, levels and options."""

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            pytest.param(
                {"compression": "rar"}, "compression='rar' is not a codec.*gzip", id="name"
            ),
            pytest.param({"compression": ""}, "compression=''", id="empty"),
            pytest.param({"compression": 1.5}, "compression=1.5", id="float"),
            pytest.param(
                {"compression": -1}, "compression=-1 is not a filter id", id="id-negative"
            ),
            pytest.param({"compression": 10**9}, "is not a filter id", id="id-large"),
            pytest.param({"compression": 400}, r"filter 400 \(400\) is not available", id="id"),
            pytest.param({"compression": ["gzip"]}, r"compression=\['gzip'\]", id="list"),
            pytest.param({"compression_opts": 4}, "opts=4 without compression", id="opts-only"),
            pytest.param(
                {"compression": "gzip", "compression_opts": 10}, "level from 0 to 9", id="gzip-10"
            ),
            pytest.param(
                {"compression": "gzip", "compression_opts": -1}, "level from 0 to 9", id="gzip--1"
            ),
            pytest.param(
                {"compression": "gzip", "compression_opts": "best"}, "opts='best'", id="gzip-word"
            ),
            pytest.param(
                {"compression": "gzip", "compression_opts": True}, "opts=True", id="gzip-bool"
            ),
            pytest.param(
                {"compression": "gzip", "compression_opts": 1.0}, "opts=1.0", id="gzip-float"
            ),
            pytest.param(
                {"compression": "zstd", "compression_opts": 99}, "zstd takes a level", id="zstd-99"
            ),
            pytest.param(
                {"compression": "lzf", "compression_opts": 3}, "lzf takes none", id="lzf-opts"
            ),
            pytest.param(
                {"compression": "blosc", "compression_opts": 5}, "takes .cname", id="blosc-level"
            ),
            pytest.param(
                {"compression": "blosc", "compression_opts": ("zstd", 5)}, "clevel", id="blosc-2"
            ),
            pytest.param(
                {"compression": "blosc", "compression_opts": ("rar", 5, "byte")},
                "cname one of",
                id="blosc-cname",
            ),
            pytest.param(
                {"compression": "blosc", "compression_opts": ("zstd", 10, "byte")},
                "clevel 0 to 9",
                id="blosc-clevel",
            ),
            pytest.param(
                {"compression": "blosc2", "compression_opts": ("zstd", 5, "some")},
                "shuffle no, byte or bit",
                id="blosc-shuffle",
            ),
            pytest.param(
                {"compression": "blosc", "compression_opts": ([], 5, "bit")},
                "cname one of",
                id="blosc-list",
            ),
            pytest.param(
                {"compression": "blosc", "compression_opts": ("zstd", 5, ["bit"])},
                "shuffle no, byte or bit",
                id="blosc-shuffle-list",
            ),
            pytest.param(
                {"compression": "szip", "compression_opts": ("nn", 7)}, "szip takes", id="szip"
            ),
            pytest.param(
                {"compression": "szip", "compression_opts": 7}, "szip takes", id="szip-number"
            ),
            pytest.param(
                {"compression": 32015, "compression_opts": "three"},
                "takes a tuple of integers",
                id="id-opts",
            ),
            pytest.param(
                {"compression": 32015, "compression_opts": 3}, "tuple of integers", id="id-opts-int"
            ),
            pytest.param({"shuffle": "byte"}, "shuffle='byte'", id="shuffle-word"),
            pytest.param({"fletcher32": "yes"}, "fletcher32='yes'; give True", id="fletcher32"),
            pytest.param({"digests": "yes"}, "digests='yes'; give True", id="digests"),
        ],
    )
    def test_hdf5(self, tmp_path, blocks, options, match):
        """A codec, level or option that is none is named with those that are."""
        with refused(tmp_path, OptionError, match):
            write_hdf5(blocks, tmp_path, **options)

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"compressors": "rar"}, id="name"),
            pytest.param({"compressors": 5}, id="number"),
            pytest.param({"compressors": {"name": "rar"}}, id="dict"),
            pytest.param({"compressors": object()}, id="object"),
            pytest.param({"filters": "rar"}, id="filter"),
            pytest.param({"filters": [object()]}, id="filter-object"),
            pytest.param({"zarr_format": 4}, id="format"),
            pytest.param({"zarr_format": "3"}, id="format-text"),
            pytest.param({"dimension_names": ["a"]}, id="too-few-names"),
            pytest.param({"dimension_names": [1, 2]}, id="names-numbers"),
        ],
    )
    @pytest.mark.parametrize("path", [None, "far/away/x"])
    def test_zarr(self, files, blocks, path, options):
        """A codec or option that is none is refused, and no group is left on the way."""
        store = "new.zarr" if path is None else "old.zarr"
        if options.get("zarr_format") == 2:
            store = "new.zarr"
        with refused(files, OptionError, r"zarr_format=|cannot be created|compressors=|names="):
            lazyio.to_zarr(blocks, files / store, path, **options)

    @pytest.mark.parametrize("name", ["zstd", "blosc"])
    def test_missing_numcodecs(self, tmp_path, blocks, name, monkeypatch):
        """A codec whose library is not installed names the extra that brings it."""
        for module in [name for name in sys.modules if name.partition(".")[0] == "numcodecs"]:
            monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setitem(sys.modules, "numcodecs", None)
        libraries.optional.cache_clear()
        try:
            with refused(tmp_path, OptionError, rf'"{name}" needs numcodecs.*lazyio\[fast\]'):
                write_hdf5(blocks, tmp_path, compression=name)
        finally:
            libraries.optional.cache_clear()

    def test_missing_plugins(self, tmp_path):
        """A filter whose plugin is not installed names the extra that brings it."""
        code = (
            "import json, os, sys\n"
            "sys.modules['hdf5plugin'] = None\n"
            "os.environ.pop('HDF5_PLUGIN_PATH', None)\n"
            "import lazyio, numpy as np\n"
            "said = []\n"
            "for name in ('bitshuffle', 'blosc2', 32013):\n"
            "    try:\n"
            "        lazyio.to_hdf5(np.ones(9), sys.argv[1] + '/x.h5', compression=name)\n"
            "    except Exception as error:\n"
            "        said.append([name, type(error).__name__, str(error)])\n"
            "sys.stdout.write(json.dumps(said))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        said = json.loads(done.stdout)
        assert [(name, kind) for name, kind, _ in said] == [
            (name, "OptionError") for name in ("bitshuffle", "blosc2", 32013)
        ]
        assert all(str(name) in text and "lazyio[plugins]" in text for name, _, text in said)
        assert listing(tmp_path) == {}


class TestValues:
    """Fill values, attributes and bounds that cannot be stored."""

    @pytest.mark.parametrize(
        ("dtype", "value"),
        [
            pytest.param("u1", 300, id="too-large"),
            pytest.param("u1", -1, id="negative"),
            pytest.param("i4", 1.5, id="fraction"),
            pytest.param("i4", float("nan"), id="nan"),
            pytest.param("i4", float("inf"), id="infinite"),
            pytest.param("i4", "many", id="word"),
            pytest.param("i4", [1, 2], id="list"),
            pytest.param("i4", object(), id="object"),
            pytest.param("f4", "many", id="word-float"),
            pytest.param("f4", 1j, id="complex"),
            pytest.param("f4", 1e300, id="float-too-large"),
            pytest.param("i4", 2**40, id="wide"),
            pytest.param("S2", b"long", id="bytes-too-long"),
        ],
    )
    @both
    def test_fill_value(self, tmp_path, write, dtype, value):
        """A fill value that is no value of the dtype is refused, not bent."""
        name = "fillvalue" if write is write_hdf5 else "fill_value"
        data = np.zeros((4, 4), dtype)
        with refused(tmp_path, OptionError, f"{name}="):
            write(data, tmp_path, **{name: value})

    @pytest.mark.parametrize(
        "maxshape",
        [(60, 39), (10, None), (None,), (None, None, None), (60.5, None), "all", -1, (None, -1)],
        ids=repr,
    )
    def test_maxshape(self, tmp_path, blocks, maxshape):
        """Bounds below the shape, or for other axes, are refused."""
        with refused(tmp_path, OptionError, r"maxshape=.*does not hold shape \(60, 40\)"):
            write_hdf5(blocks, tmp_path, maxshape=maxshape)

    @pytest.mark.parametrize(
        "attrs",
        [
            pytest.param({"a": object()}, id="object"),
            pytest.param({"a": {"b": object()}}, id="dict"),
            pytest.param({"a": [1, [2, 3j]]}, id="ragged"),
            pytest.param({"a": lambda: 1}, id="function"),
            pytest.param({"a": np.zeros(100_000)}, id="large"),
            pytest.param({1: "a"}, id="number-name"),
            pytest.param({"": 1}, id="empty-name"),
            pytest.param({"nu\0l": 1}, id="null-name"),
            pytest.param("abc", id="text"),
            pytest.param(5, id="number"),
            pytest.param([("a", 1)], id="pairs"),
        ],
    )
    def test_hdf5_attributes(self, tmp_path, blocks, attrs):
        """An attribute that HDF5 has no form for is named."""
        with refused(tmp_path, OptionError, "attr"):
            write_hdf5(blocks, tmp_path, attrs=attrs)

    @pytest.mark.parametrize(
        "attributes",
        [
            pytest.param({"a": object()}, id="object"),
            pytest.param({"a": {1, 2}}, id="set"),
            pytest.param({"a": 1j}, id="complex"),
            pytest.param({("a", "b"): 1}, id="tuple-name"),
            pytest.param("abc", id="text"),
            pytest.param(5, id="number"),
        ],
    )
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_zarr_attributes(self, tmp_path, blocks, attributes, zarr_format):
        """An attribute that JSON has no form for is refused."""
        with refused(tmp_path, OptionError, "attribute|JSON|cannot be created"):
            write_zarr(blocks, tmp_path, attributes=attributes, zarr_format=zarr_format)

    @pytest.mark.parametrize(
        ("libver", "match"),
        [
            pytest.param("latest", 'libver="latest".*leave it out', id="latest"),
            pytest.param(("latest", "latest"), 'libver="latest"', id="latest-pair"),
            pytest.param("newest", "libver='newest'", id="word"),
            pytest.param(("v114", "earliest"), "libver=", id="reversed"),
            pytest.param(5, "libver=5", id="number"),
            pytest.param(("earliest", "v110", "v114"), "libver=", id="three"),
        ],
    )
    def test_libver(self, tmp_path, blocks, libver, match):
        """Formats that others cannot read, or that are none, are refused."""
        with refused(tmp_path, OptionError, match):
            write_hdf5(blocks, tmp_path, libver=libver)

    @pytest.mark.parametrize("progress", ["yes", 5, [1]], ids=repr)
    @both
    def test_progress(self, tmp_path, write, blocks, progress):
        """Progress is a bool or a callable."""
        with refused(tmp_path, OptionError, "progress="):
            write(blocks, tmp_path, progress=progress)


class TestNotYet:
    """What the interface names and this version does not do says so, and does nothing."""

    def test_other_dask_collections(self, tmp_path):
        """A bag or a delayed value is no array."""
        import dask
        import dask.bag

        for given in (dask.bag.from_sequence([1, 2]), dask.delayed(MATRIX)):
            with refused(tmp_path, OptionError, "is not an array; convert it first"):
                write_hdf5(given, tmp_path)

    @pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr, lazyio.open, lazyio.plan])
    def test_unknown_arguments(self, tmp_path, blocks, to):
        """A misspelled argument is Python's own error, or names what there is."""
        writes = to in (lazyio.to_hdf5, lazyio.to_zarr)
        arguments = (blocks, tmp_path / "new") if writes else (blocks,)
        with pytest.raises((TypeError, OptionError), match=r"chunkz|adapter options"):
            to(*arguments, chunkz=3)
        assert os.listdir(tmp_path) == []
