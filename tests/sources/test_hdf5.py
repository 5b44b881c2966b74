"""HDF5 datasets: every layout, filter and dtype that stock h5py writes."""

import os
import pickle
import tracemalloc
from dataclasses import replace

import h5py
import hdf5plugin
import numpy as np
import pytest
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
    assert_same,
    whole,
)

import lazyio
from lazyio.codecs.workspace import Workspace
from lazyio.errors import DamagedDataError, SourceChangedError, SourceError, UnsupportedDtypeError
from lazyio.sources import hdf5 as hdf5_module
from lazyio.sources.base import fills_memory
from lazyio.sources.hdf5 import Hdf5Source, dataset_keys, hdf5_source

MATRIX = np.arange(37 * 23, dtype="<i2").reshape(37, 23)
CHUNKS = {"chunks": (8, 5)}
EARLY = h5py.h5d.ALLOC_TIME_EARLY


def _structured():
    out = np.zeros((20, 6), [("time", "<f8"), ("xy", "<i2", (2,)), ("name", "S3")])
    out["time"] = np.arange(120).reshape(20, 6)
    out["xy"] = np.arange(240).reshape(20, 6, 2)
    out["name"] = np.arange(120).reshape(20, 6).astype("S3")
    return out


# Name: values, and what create_dataset is given beside them.
CASES = {
    "contiguous": (MATRIX, {}),
    "chunked": (MATRIX, CHUNKS),
    "one-chunk": (MATRIX, {"chunks": (37, 23)}),
    "resizable": (MATRIX, {**CHUNKS, "maxshape": (None, 23)}),
    "resizable-both": (MATRIX, {**CHUNKS, "maxshape": (None, None)}),
    "gzip": (MATRIX, {**CHUNKS, "compression": "gzip"}),
    "gzip-shuffle": (MATRIX, {**CHUNKS, "compression": "gzip", "shuffle": True}),
    "shuffle-only": (MATRIX, {**CHUNKS, "shuffle": True}),
    "fletcher32": (MATRIX, {**CHUNKS, "fletcher32": True}),
    "odd-fletcher32": (np.arange(35, dtype="u1"), {"chunks": (7,), "fletcher32": True}),
    "all-filters": (
        MATRIX,
        {**CHUNKS, "compression": "gzip", "shuffle": True, "fletcher32": True},
    ),
    "lzf": (MATRIX, {**CHUNKS, "compression": "lzf"}),
    "lzf-noise": (
        np.random.default_rng(1).integers(0, 256, (64, 64)).astype("u1"),
        {"chunks": (16, 64), "compression": "lzf"},
    ),
    "scaleoffset": (MATRIX, {**CHUNKS, "scaleoffset": 0}),
    "zstd": (MATRIX, {**CHUNKS, **hdf5plugin.Zstd(clevel=3)}),
    "blosc": (MATRIX, {**CHUNKS, **hdf5plugin.Blosc(cname="zstd")}),
    "blosc-bitshuffle": (MATRIX, {**CHUNKS, **hdf5plugin.Blosc(cname="lz4", shuffle=2)}),
    "blosc-no-shuffle": (MATRIX, {**CHUNKS, **hdf5plugin.Blosc(cname="zlib", shuffle=0)}),
    "blosc2": (MATRIX, {**CHUNKS, **hdf5plugin.Blosc2()}),
    "bitshuffle": (MATRIX, {**CHUNKS, **hdf5plugin.Bitshuffle()}),
    "lz4": (MATRIX, {**CHUNKS, **hdf5plugin.LZ4()}),
    "big-endian": (MATRIX.astype(">i4"), {**CHUNKS, "compression": "gzip", "shuffle": True}),
    "big-endian-contiguous": (MATRIX.astype(">f8"), {}),
    "complex": (MATRIX * (1 + 2j), {**CHUNKS, "compression": "gzip"}),
    "complex-contiguous": ((MATRIX * (1 + 2j)).astype(">c8"), {}),
    "bool": (MATRIX % 3 == 0, {**CHUNKS, "compression": "gzip", "shuffle": True}),
    "half": (MATRIX.astype("f2"), CHUNKS),
    "bytes": (MATRIX.astype("S4"), CHUNKS),
    "structured": (_structured(), {**CHUNKS, "compression": "gzip", "shuffle": True}),
    "structured-contiguous": (_structured(), {}),
    "enum": (
        MATRIX % 3,
        {**CHUNKS, "dtype": h5py.enum_dtype({"a": 0, "b": 1, "c": 2}, basetype="<i2")},
    ),
    "utf-8": (
        np.array([["é".encode(), b"", b"abcdef"]], h5py.string_dtype("utf-8", 6)),
        {"chunks": (1, 2)},
    ),
    "enum-big-endian": (
        MATRIX % 2,
        {**CHUNKS, "dtype": h5py.enum_dtype({"on": 0, "off": 1}, basetype=">u2")},
    ),
    "times-as-opaque": (
        np.arange(12).astype(h5py.opaque_dtype("M8[us]")).reshape(3, 4),
        {"chunks": (2, 3)},
    ),
    "bytes-as-opaque": (np.array([b"\0\1\2", b"abc"], "V3"), {}),
    "nested": (
        np.zeros((5, 3), [("a", [("x", ">i2", (2, 2)), ("b", "?")]), ("c", "<c8"), ("d", "V4")]),
        CHUNKS | {"chunks": (2, 3)},
    ),
    "late": (MATRIX, {"steps": [("set_alloc_time", h5py.h5d.ALLOC_TIME_LATE)]}),
    "eight-axes": (
        np.arange(1008, dtype="<u4").reshape(2, 1, 3, 7, 1, 2, 3, 4),
        {"chunks": (1, 1, 2, 3, 1, 2, 2, 3)},
    ),
    "scalar": (np.array(42, "<i8"), {}),
    "scalar-structured": (_structured()[3, 4], {}),
    "one-element": (np.full((1, 1), 3.5), {"chunks": (1, 1), "compression": "gzip"}),
    "no-rows": (np.empty((0, 7), "<i2"), {}),
    "no-rows-chunked": (np.empty((0, 7), "<i2"), {"chunks": (4, 7), "maxshape": (None, 7)}),
    "four-axes": (np.arange(840.0).reshape(4, 5, 6, 7), {"chunks": (3, 2, 6, 4)}),
    "compact": (np.arange(12, dtype="<i2"), {"steps": [("set_layout", h5py.h5d.COMPACT)]}),
    # Filters in an order that h5py does not write but HDF5 allows.
    "checksum-then-gzip": (MATRIX, {**CHUNKS, "steps": [("set_fletcher32",), ("set_deflate", 4)]}),
    "gzip-then-shuffle": (MATRIX, {**CHUNKS, "steps": [("set_deflate", 4), ("set_shuffle",)]}),
    "gzip-twice": (MATRIX, {**CHUNKS, "steps": [("set_deflate", 1), ("set_deflate", 9)]}),
}


def _create(path, values, options, **file_options):
    options = dict(options)
    with h5py.File(path, "w", **file_options) as file:
        steps = options.pop("steps", ())
        if steps:
            options["dcpl"] = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for name, *arguments in steps:
            getattr(options["dcpl"], name)(*arguments)
        file.create_dataset("group/raw", data=values, **options)


@pytest.fixture
def path(tmp_path):
    """Where the file lies."""
    return tmp_path / "scan.h5"


class TestHdf5(SourceContract, TravelsContract, ReadsIntoContract):
    """What was written with h5py reads the same."""

    @pytest.fixture(params=CASES.values(), ids=CASES)
    def case(self, request):
        """Values and storage."""
        return request.param

    @pytest.fixture
    def expected(self, case):
        """Return what h5py was given, with the dtype that it gives back."""
        values, options = case
        return np.asarray(values, dtype=options.get("dtype"))

    @pytest.fixture
    def source(self, case, path):
        """Return the dataset, opened."""
        _create(path, *case)
        return hdf5_source(path, "group/raw")


class TestHdf5File(StoredContract):
    """The file is read where it lies, and is open only during a read."""

    @pytest.fixture
    def expected(self):
        """Return what the dataset holds."""
        return MATRIX

    @pytest.fixture(params=["contiguous", "gzip", "lzf"])
    def source(self, path, request):
        """Return the dataset, opened."""
        _create(path, *CASES[request.param])
        return hdf5_source(path, "group/raw")


class TestChunkIndexes(SourceContract, TravelsContract):
    """Every structure in which HDF5 keeps the places of chunks."""

    @pytest.fixture(
        params=[
            pytest.param(("earliest", CHUNKS), id="btree-1"),
            pytest.param(("latest", {"chunks": (37, 23)}), id="single"),
            pytest.param(("latest", {"chunks": (37, 23), "compression": "gzip"}), id="single-gzip"),
            pytest.param(("latest", CHUNKS), id="fixed-array"),
            pytest.param(("latest", {**CHUNKS, "compression": "gzip"}), id="fixed-array-gzip"),
            pytest.param(
                ("latest", {**CHUNKS, "steps": [("set_alloc_time", EARLY)]}), id="implicit"
            ),
            pytest.param(("latest", {**CHUNKS, "maxshape": (None, 23)}), id="extensible-array"),
            pytest.param(("latest", {**CHUNKS, "maxshape": (None, None)}), id="btree-2"),
        ]
    )
    def source(self, path, request):
        """Return the dataset, opened."""
        libver, options = request.param
        _create(path, MATRIX, options, libver=libver)
        return hdf5_source(path, "group/raw")

    @pytest.fixture
    def expected(self):
        """Return what the dataset holds."""
        return MATRIX


class TestUserBlock(SourceContract, TravelsContract):
    """A file whose first bytes are not HDF5's, as MATLAB writes them."""

    @pytest.fixture(params=["contiguous", "chunked", "all-filters"])
    def source(self, path, request):
        """Return the dataset, opened."""
        _create(path, *CASES[request.param], userblock_size=1024)
        return hdf5_source(path, "group/raw")

    @pytest.fixture
    def expected(self):
        """Return what the dataset holds."""
        return MATRIX


class TestHoles(SourceContract, TravelsContract):
    """Chunks that were never written hold the fill value."""

    @pytest.fixture(params=[None, -7], ids=["zero", "given"])
    def fillvalue(self, request):
        """Return the dataset's fill value."""
        return request.param

    @pytest.fixture(params=[{}, {"compression": "gzip", "shuffle": True}], ids=["plain", "gzip"])
    def source(self, path, request, fillvalue):
        """Return a dataset of which a middle part was written."""
        with h5py.File(path, "w") as file:
            made = file.create_dataset(
                "raw", (37, 23), "<i2", fillvalue=fillvalue, **CHUNKS, **request.param
            )
            made[10:20, 3:9] = MATRIX[10:20, 3:9]
        return hdf5_source(path, "raw")

    @pytest.fixture
    def expected(self, fillvalue):
        """Return the fill value around what was written."""
        out = np.full((37, 23), fillvalue or 0, "<i2")
        out[10:20, 3:9] = MATRIX[10:20, 3:9]
        return out


class TestNothingWritten(SourceContract, TravelsContract):
    """A dataset without any storage is all fill value."""

    @pytest.fixture(params=[{}, CHUNKS], ids=["contiguous", "chunked"])
    def source(self, path, request):
        """Return the dataset, opened."""
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", (37, 23), "<f4", fillvalue=np.nan, **request.param)
        return hdf5_source(path, "raw")

    @pytest.fixture
    def expected(self):
        """All fill value."""
        return np.full((37, 23), np.nan, "<f4")


class TestFilterMasks(SourceContract, TravelsContract):
    """A chunk may be stored without some of the dataset's filters."""

    @pytest.fixture
    def source(self, path):
        """Four chunks: all filters, none, only shuffle, only gzip."""
        from zlib import compress

        with h5py.File(path, "w") as file:
            made = file.create_dataset(
                "raw", (16, 10), "<i2", chunks=(4, 10), compression="gzip", shuffle=True
            )
            made[:4] = MATRIX[:4, :10]
            plain = [np.ascontiguousarray(MATRIX[at : at + 4, :10]) for at in (4, 8, 12)]
            shuffled = plain[1].view("u1").reshape(-1, 2).T.tobytes()
            made.id.write_direct_chunk((4, 0), plain[0].tobytes(), 0b11)
            made.id.write_direct_chunk((8, 0), shuffled, 0b10)
            made.id.write_direct_chunk((12, 0), compress(plain[2].tobytes()), 0b01)
        return hdf5_source(path, "raw")

    @pytest.fixture
    def expected(self):
        """Return what h5py reads too."""
        return MATRIX[:16, :10].copy()


class TestShrunk(SourceContract, TravelsContract):
    """A dataset that was made smaller after it was written."""

    @pytest.fixture
    def source(self, path):
        """Return the dataset, opened."""
        _create(path, MATRIX, {**CHUNKS, "maxshape": (None, None), "compression": "gzip"})
        with h5py.File(path, "a") as file:
            file["group/raw"].resize((19, 11))
        return hdf5_source(path, "group/raw")

    @pytest.fixture
    def expected(self):
        """Return what is left."""
        return MATRIX[:19, :11].copy()


class TestVirtual(SourceContract, TravelsContract):
    """A virtual dataset of two files in its own folder."""

    @pytest.fixture
    def source(self, tmp_path):
        """Return the dataset, opened."""
        layout = h5py.VirtualLayout((37, 23), "<i2")
        for name, rows in (("a.h5", slice(0, 20)), ("b.h5", slice(20, 37))):
            with h5py.File(tmp_path / name, "w") as file:
                file["raw"] = MATRIX[rows]
            layout[rows] = h5py.VirtualSource(name, "raw", MATRIX[rows].shape)
        with h5py.File(tmp_path / "both.h5", "w") as file:
            file.create_virtual_dataset("raw", layout)
        return hdf5_source(tmp_path / "both.h5", "raw")

    @pytest.fixture
    def expected(self):
        """Both files."""
        return MATRIX


TEXT = np.array(
    [["", "a", "naïve" * 30], ["\n", "𝛼β", "x"], ["end", "", "nul-less"]], np.dtypes.StringDType()
)
LAYOUTS = {"contiguous": {}, "chunked": {"chunks": (2, 2)}, "gzip": {"compression": "gzip"}}


class TestText(SourceContract, TravelsContract):
    """Text of any length is numpy's own type for it."""

    @pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
    def source(self, path, request):
        """Return the dataset, opened."""
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=TEXT, dtype=h5py.string_dtype(), **request.param)
        return hdf5_source(path, "raw")

    @pytest.fixture
    def expected(self):
        """Return what the dataset holds."""
        return TEXT

    def test_read_gives_new_memory(self, source, expected):
        """A part is the caller's own."""
        part = source.read(whole(expected.shape))
        part[...] = "changed"
        assert_same(source.read(whole(expected.shape)), expected)

    def test_takes_no_plain_memory(self, source):
        """Text does not lie in memory that one can be given."""
        assert not fills_memory(source)


@pytest.mark.parametrize("open_file", [False, True], ids=["path", "handle"])
def test_text_without_axes_and_elements(path, open_file):
    """One text, no text at all, and text that was never written."""
    with h5py.File(path, "w") as file:
        file.create_dataset("one", data="naïve", dtype=h5py.string_dtype())
        file.create_dataset("ascii", data="plain", dtype=h5py.string_dtype("ascii"))
        file.create_dataset("none", (0, 3), dtype=h5py.string_dtype())
        file.create_dataset("holes", (4,), dtype=h5py.string_dtype(), chunks=(2,))
    with h5py.File(path, "r+" if open_file else "r") as file:

        def read(key):
            return np.asarray(lazyio.open(file[key]).compute(scheduler="sync"))

        assert read("one")[()] == "naïve"
        assert read("ascii")[()] == "plain"
        assert read("none").shape == (0, 3)
        assert read("holes").tolist() == ["", "", "", ""]
        assert read("holes").dtype == np.dtypes.StringDType()


def test_text_that_is_not_utf8(path):
    """Bytes that are no UTF-8 are damaged, and the region is named."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset("raw", (2,), dtype=h5py.string_dtype())
        made[0] = b"\xff\xfe"
    with pytest.raises(DamagedDataError, match=r"dataset '/raw' cannot be decoded at \[0:2\].*utf"):
        lazyio.from_hdf5(path).compute(scheduler="sync")


def test_text_that_is_stored_in_part(path):
    """libhdf5 has no fill value for missing chunks of a file that is open for reading."""
    wanted = np.full((30, 4), "fill", "O")
    wanted[3], wanted[29, 3] = "ö", ""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "x", (30, 4), h5py.string_dtype(), chunks=(7, 3), fillvalue="fill", maxshape=(None, 4)
        )
        dataset[3], dataset[29, 3] = "ö", ""
    found = lazyio.open(path)
    for part in (np.s_[:], np.s_[5:9, 1:], np.s_[14:20], np.s_[3:4, 2:3], np.s_[28:]):
        assert found[part].compute().tolist() == wanted[part].tolist()


def test_enum_keeps_its_names(path):
    """An enum is read as its integers; its names travel with the dtype to the next file."""
    names = {"rest": 0, "run": 1}
    _create(path, MATRIX % 2, {"dtype": h5py.enum_dtype(names, basetype="<i2")})
    array = lazyio.from_hdf5(path)
    assert array.dtype == np.dtype("<i2")
    assert h5py.check_enum_dtype(array.dtype) == names
    assert h5py.check_enum_dtype(array.compute(scheduler="sync").dtype) == names
    sent = pickle.loads(pickle.dumps(array))
    assert h5py.check_enum_dtype(sent.dtype) == names


def test_fixed_text_keeps_its_encoding(path):
    """Text of one length is bytes; what they encode travels with the dtype."""
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=np.array([b"a"], h5py.string_dtype("utf-8", 3)))
    array = lazyio.from_hdf5(path)
    assert array.dtype == np.dtype("S3")
    assert h5py.check_string_dtype(array.dtype).encoding == "utf-8"


@pytest.mark.parametrize("chunks", [None, (3,)], ids=["contiguous", "chunked"])
def test_opaque_with_a_tag(path, chunks):
    """Bytes under another maker's tag are bytes."""
    values = np.array([b"abcde", b"\0\1\2\3\4", b"", b"zz"], "V5")
    with h5py.File(path, "w") as file:
        tagged = h5py.h5t.create(h5py.h5t.OPAQUE, 5)
        tagged.set_tag(b"frame header")
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if chunks:
            properties.set_chunk(chunks)
        space = h5py.h5s.create_simple((4,))
        made = h5py.h5d.create(file.id, b"raw", tagged, space, properties)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values, tagged)
    array = lazyio.from_hdf5(path)
    assert array.dtype == np.dtype("V5")
    assert array.compute(scheduler="sync").tobytes() == values.tobytes()
    assert array[1:3].compute(scheduler="sync").tobytes() == values[1:3].tobytes()


def test_bit_field_is_unsigned(path):
    """Bits are read as the unsigned integers that h5py takes them for."""
    values = np.array([0, 1, 128, 255], "u1")
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((4,))
        made = h5py.h5d.create(file.id, b"raw", h5py.h5t.STD_B8LE, space)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values, h5py.h5t.STD_B8LE)
    assert_same(lazyio.from_hdf5(path).compute(scheduler="sync"), values)


@pytest.mark.parametrize("name", ["naïve", "two\nlines", " ", "a:b::c", "ключ", "'quoted'"])
def test_odd_names(tmp_path, name):
    """Files and datasets may be named as one likes."""
    path = tmp_path / f"{name}.h5"
    with h5py.File(path, "w") as file:
        file[name] = MATRIX
    source = hdf5_source(path, name)
    assert source.location == (str(path), f"/{name}")
    copy = pickle.loads(pickle.dumps(source))
    assert_same(copy.read(whole(MATRIX.shape)), MATRIX)


def test_a_million_million_chunks(path):
    """A dataset of 10**12 chunks, none of them stored, opens and reads in little memory."""
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (10**9, 10**9), "<i2", chunks=(1000, 1000), fillvalue=-1)
    tracemalloc.start()
    array = lazyio.from_hdf5(path)
    corner = array[-3:, 5:8].compute(scheduler="sync")
    peak_nbytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (corner == -1).all()
    assert peak_nbytes < 128 * 2**20


def test_rewritten_dataset_is_looked_up_again(path):
    """Places of chunks are looked up anew by who reads whatever is there."""
    _create(path, *CASES["gzip"])
    source = replace(hdf5_source(path, "group/raw"), identity=None)
    source.read(whole(MATRIX.shape))
    _create(path, np.ascontiguousarray(MATRIX[::-1]), {**CHUNKS, "compression": "gzip"})
    assert (source.read(whole(MATRIX.shape)) == MATRIX[::-1]).all()


@pytest.mark.parametrize("key", ["group/raw", "/group/raw", "group//raw/"])
def test_key_is_a_path(path, key):
    """A key is a path as h5py takes it."""
    _create(path, MATRIX, {})
    assert lazyio.from_hdf5(path, key).shape == MATRIX.shape


def test_sole_dataset_needs_no_key(path):
    """Where there is one dataset, however deep, it is meant."""
    _create(path, MATRIX, {})
    assert lazyio.from_hdf5(path).shape == MATRIX.shape


@pytest.mark.parametrize(
    ("key", "match"),
    [
        pytest.param(
            None, "holds 2 datasets; give the key of one: 'group/raw', 'other'", id="no-key"
        ),
        pytest.param("none", "has no dataset 'none'; its datasets are 'group/raw'", id="missing"),
        pytest.param("other/deeper", "has no dataset 'other/deeper'", id="below-dataset"),
        pytest.param("group", "'group' is a group.*the datasets in it: 'group/raw'", id="group"),
        pytest.param("/", "'/' is a group", id="root"),
        pytest.param("", "no dataset ''|'' is a group", id="empty"),
        pytest.param("type", "'type' is .*not a dataset", id="named-type"),
        pytest.param("broken", "'/broken' leads to '/nowhere'.*not there", id="dangling-link"),
        pytest.param("nu\0l", "no dataset", id="null-byte"),
        pytest.param(7, "key=7|no dataset 7", id="number"),
    ],
)
def test_key_that_is_no_dataset(path, key, match):
    """A key that is no dataset is answered with those that are."""
    _create(path, MATRIX, {})
    with h5py.File(path, "a") as file:
        file["other"] = 1
        file["type"] = np.dtype("<i2")
        file["broken"] = h5py.SoftLink("/nowhere")
    with pytest.raises(lazyio.LazyioError, match=match):
        lazyio.from_hdf5(path, key)


def test_file_without_datasets(path):
    """A file that holds no dataset says so."""
    h5py.File(path, "w").close()
    with pytest.raises(SourceError, match="holds no dataset"):
        lazyio.from_hdf5(path)


def test_empty_dataspace(path):
    """A dataset without a shape is nothing to read."""
    with h5py.File(path, "w") as file:
        file["raw"] = h5py.Empty("f4")
    with pytest.raises(SourceError, match=r"empty \(a null dataspace\)"):
        lazyio.from_hdf5(path)


@pytest.mark.parametrize(
    ("dtype", "match"),
    [
        pytest.param(h5py.vlen_dtype("<i2"), "variable-length rows", id="rows"),
        pytest.param(h5py.vlen_dtype(h5py.string_dtype()), "variable-length rows", id="text-rows"),
        pytest.param(h5py.ref_dtype, "references to other objects", id="references"),
        pytest.param(h5py.regionref_dtype, "references to other objects", id="region-references"),
        pytest.param([("a", "<i2"), ("b", h5py.string_dtype())], "no fixed size", id="field"),
    ],
)
def test_elements_without_a_fixed_size(path, dtype, match):
    """What has no fixed size is refused, by name and with what it is."""
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (3,), dtype)
    with pytest.raises(UnsupportedDtypeError, match=f"scan.h5: dataset '/raw' .*{match}"):
        lazyio.from_hdf5(path)


def test_array_elements_are_refused_or_read(path):
    """Elements that are arrays are axes of the array, or are refused; never another shape."""
    dtype = np.dtype(("<i2", (3,)))
    with h5py.File(path, "w") as file:
        made = file.create_dataset("raw", (5,), dtype)
        made[...] = np.arange(15).reshape(5, 3)
    try:
        array = lazyio.from_hdf5(path)
    except UnsupportedDtypeError as error:
        assert "raw" in str(error)  # noqa: PT017
        return
    assert array.shape == array.compute(scheduler="sync").shape


def test_damaged_chunk_names_its_region(path):
    """A chunk that does not decode is a DamagedDataError with file, dataset and region."""
    _create(path, *CASES["gzip"])
    with h5py.File(path, "r") as file:
        chunk = file["group/raw"].id.get_chunk_info_by_coord((8, 5))
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    array = lazyio.from_hdf5(path)
    assert (array[:8].compute(scheduler="sync") == MATRIX[:8]).all()
    with pytest.raises(DamagedDataError, match=r"scan\.h5: the chunk \[8:16, 5:10\] of dataset"):
        array.compute(scheduler="sync")


@pytest.mark.parametrize("name", ["fletcher32", "all-filters"])
def test_checksum_is_checked(path, name):
    """One flipped bit in a chunk with a checksum is found."""
    _create(path, *CASES[name])
    with h5py.File(path, "r") as file:
        chunk = file["group/raw"].id.get_chunk_info_by_coord((0, 0))
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size - 6)
        byte = file.read(1)[0]
        file.seek(chunk.byte_offset + chunk.size - 6)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(DamagedDataError, match=r"the chunk \[0:8, 0:5\] .* damaged"):
        lazyio.from_hdf5(path).compute(scheduler="sync")


def test_damaged_chunk_read_by_libhdf5(path):
    """A damaged chunk whose filter is libhdf5's own is a DamagedDataError too."""
    _create(path, *CASES["lz4"])
    with h5py.File(path, "r") as file:
        chunk = file["group/raw"].id.get_chunk_info_by_coord((8, 5))
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with pytest.raises(DamagedDataError, match=r"scan\.h5.*group/raw"):
        lazyio.from_hdf5(path).compute(scheduler="sync")


def test_unknown_filter(path):
    """A filter that nobody here has is a SourceError at opening, with its number and name."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset("raw", (4,), "<i2", chunks=(4,))
        properties = made.id.get_create_plist()
        properties.set_filter(400, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"odd", h5py.h5t.STD_I16LE, space, properties)
    with pytest.raises(SourceError, match="dataset '/odd' needs HDF5 filter 400"):
        lazyio.from_hdf5(path, "odd")


@pytest.mark.parametrize("name", ["contiguous", "gzip", "lz4"])
def test_file_cut_after_opening(path, name):
    """A file that was cut short since is a SourceError naming it when it is read."""
    _create(path, *CASES[name])
    array = lazyio.from_hdf5(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SourceError, match=r"scan\.h5"):
        array.compute(scheduler="sync")


def test_dataset_gone_after_opening(path):
    """A dataset that was removed since is not read, and its file is named."""
    _create(path, *CASES["gzip"])
    array = lazyio.from_hdf5(path)
    h5py.File(path, "w").close()
    with pytest.raises(SourceChangedError, match=r"scan\.h5 was cut short from"):
        array.compute(scheduler="sync")


def test_not_hdf5(path):
    """A file that is something else is a SourceError naming it."""
    path.write_bytes(b"plain text")
    with pytest.raises(SourceError, match=r"scan\.h5 cannot be opened as HDF5"):
        lazyio.from_hdf5(path)


def test_folder(tmp_path):
    """A folder is no HDF5 file."""
    with pytest.raises(SourceError, match="cannot be opened as HDF5"):
        lazyio.from_hdf5(tmp_path)


def test_missing_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(SourceError, match=r"none\.h5 does not exist"):
        lazyio.from_hdf5(tmp_path / "none.h5", "raw")


@pytest.mark.parametrize(
    "name",
    [
        "gzip-shuffle",
        "zstd",
        "blosc",
        "lz4",
        "lzf",
        "lzf-noise",
        "bitshuffle",
        "blosc2",
        "structured",
        "bytes",
    ],
)
def test_chunks_are_decoded_outside_libhdf5(path, name, monkeypatch):
    """What lazyio encodes it decodes as well, records and text included."""
    values, options = CASES[name]
    _create(path, values, options)
    source = hdf5_source(path, "group/raw")
    monkeypatch.setattr(Hdf5Source, "_read_with_libhdf5", None)
    region = tuple(slice(0, extent) for extent in values.shape)
    np.testing.assert_array_equal(source.read(region), values)


@pytest.mark.parametrize("name", ["scaleoffset", "gzip-twice", "checksum-then-gzip"])
def test_chunks_are_left_to_libhdf5(path, name, monkeypatch):
    """Filters that are not known here, or in another order, are not guessed at."""
    _create(path, *CASES[name])
    asked = []
    monkeypatch.setattr(Hdf5Source, "_read_with_libhdf5", lambda *given: asked.append(given))
    hdf5_source(path, "group/raw").read((slice(0, 1), slice(0, 1)))
    assert len(asked) == 1


def test_chunks_that_are_wanted_whole_are_decoded_in_place(path, monkeypatch):
    """No copy is made of a chunk that is as wide as the result."""
    _create(path, MATRIX, {"chunks": (8, 23), "compression": "gzip", "shuffle": True})
    source = hdf5_source(path, "group/raw")
    region = (slice(8, 24), slice(0, 23))
    monkeypatch.setattr(Workspace, "array", None)
    np.testing.assert_array_equal(source.read(region), MATRIX[region])


def test_holes_in_records(path):
    """Records that were never written hold the fill value, field by field."""
    values = _structured()
    fill = np.zeros((), values.dtype)
    fill["name"], fill["time"] = b"no", -1
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "raw", values.shape, values.dtype, chunks=(5, 3), fillvalue=fill, compression="gzip"
        )
        made[6:9, 1:2] = values[6:9, 1:2]
        expected = made[...]
    np.testing.assert_array_equal(lazyio.from_hdf5(path).compute(scheduler="sync"), expected)


def test_a_detectors_frame(shared_data, monkeypatch):
    """A bitshuffled frame of a real detector reads as h5py reads it, without libhdf5."""
    path = shared_data / "detector_bitshuffle.h5"
    with h5py.File(path) as file:
        (key,) = dataset_keys(file)
        expected = file[key][...]
    monkeypatch.setattr(Hdf5Source, "_read_with_libhdf5", None)
    found = lazyio.from_hdf5(path, key).compute(scheduler="sync")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(1000,), (100, 10)])
def test_part_of_an_unfiltered_chunk(tmp_path, shape, monkeypatch):
    """No more of it is read than is wanted, if that is little; the rest is as with any other."""
    values = np.arange(1000).reshape(shape)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=tuple(extent // 2 for extent in shape))
    source = hdf5_source(tmp_path / "x.h5", "x")
    asked = []
    read = hdf5_module.read_exactly

    def note(file, offset, view):
        asked.append(len(view))
        read(file, offset, view)

    monkeypatch.setattr(hdf5_module, "read_exactly", note)
    monkeypatch.setattr("lazyio.sources.files.read_exactly", note)
    for start, stop in ((3, 7), (40, 60), (0, shape[0])):
        asked.clear()
        region = (slice(start, stop), *(slice(0, extent) for extent in shape[1:]))
        np.testing.assert_array_equal(source.read(region), values[region])
        if stop - start < 10 and len(shape) == 1:
            assert asked == [8 * (stop - start)]
