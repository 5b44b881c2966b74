"""Zarr arrays, v2 and v3, sharded and not."""

import itertools
import json
import os
import pickle
import shutil
import threading

import numcodecs
import numpy as np
import pytest
import zarr
from dask.base import tokenize
from source_contract import SourceContract, StoredContract, TravelsContract
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import lazyio
from lazyio.codecs.workspace import Workspace
from lazyio.codecs.zarr_chain import Chain
from lazyio.dtypes import TEXT
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SourceChangedError,
    SourceError,
    UnsupportedDtypeError,
)
from lazyio.sources import files
from lazyio.sources.zarr import zarr_source

MATRIX = np.arange(37 * 23, dtype="<i2").reshape(37, 23)
CHUNKS = {"chunks": (8, 5)}
V2 = {"zarr_format": 2}


def _structured():
    out = np.zeros((20, 6), [("time", "<f8"), ("count", "<i2"), ("name", "S3")])
    out["time"] = np.arange(120).reshape(20, 6)
    out["count"] = np.arange(120).reshape(20, 6)
    out["name"] = np.arange(120).reshape(20, 6).astype("S3")
    return out


# Name: values, and what create_array is given beside them.
CASES = {
    "v3": (MATRIX, CHUNKS),
    "v3-one-chunk": (MATRIX, {"chunks": (37, 23)}),
    "v3-plain": (MATRIX, {**CHUNKS, "compressors": None}),
    "v3-zstd": (MATRIX, {**CHUNKS, "compressors": ZstdCodec(level=3, checksum=True)}),
    "v3-blosc": (MATRIX, {**CHUNKS, "compressors": BloscCodec(cname="lz4")}),
    "v3-gzip": (MATRIX, {**CHUNKS, "compressors": GzipCodec(level=1)}),
    "v3-sharded": (MATRIX, {**CHUNKS, "shards": (16, 10)}),
    "v3-sharded-plain": (MATRIX, {**CHUNKS, "shards": (16, 10), "compressors": None}),
    "v3-dots": (MATRIX, {**CHUNKS, "chunk_key_encoding": {"name": "v2", "separator": "."}}),
    "v3-big-endian": (MATRIX.astype(">i4"), CHUNKS),
    "v3-complex": (MATRIX * (1 + 2j), CHUNKS),
    "v3-bool": (MATRIX % 3 == 0, CHUNKS),
    "v3-half": (MATRIX.astype("f2"), CHUNKS),
    "v3-text": (MATRIX.astype("U4"), CHUNKS),
    "v3-bytes": (MATRIX.astype("S4"), CHUNKS),
    "v3-time": (MATRIX.astype("M8[ms]"), CHUNKS),
    "v3-structured": (_structured(), CHUNKS),
    "v3-scalar": (np.array(42, "<i8"), {}),
    "v3-one-element": (np.full((1, 1), 3.5), {"chunks": (1, 1)}),
    "v3-no-rows": (np.empty((0, 7), "<i2"), {"chunks": (1, 7)}),
    "v3-four-axes": (np.arange(840.0).reshape(4, 5, 6, 7), {"chunks": (3, 2, 6, 4)}),
    "v2": (MATRIX, {**CHUNKS, **V2}),
    "v2-plain": (MATRIX, {**CHUNKS, **V2, "compressors": None}),
    "v2-fortran": (MATRIX, {**CHUNKS, **V2, "order": "F"}),
    "v2-delta": (MATRIX, {**CHUNKS, **V2, "filters": [numcodecs.Delta("<i2")]}),
    "v2-blosc": (MATRIX, {**CHUNKS, **V2, "compressors": numcodecs.Blosc()}),
    "v2-big-endian": (MATRIX.astype(">i4"), {**CHUNKS, **V2}),
    "v2-complex": (MATRIX * (1 + 2j), {**CHUNKS, **V2}),
    "v2-bool": (MATRIX % 3 == 0, {**CHUNKS, **V2}),
    "v2-time": (MATRIX.astype("m8[s]"), {**CHUNKS, **V2}),
    "v2-structured": (_structured(), {**CHUNKS, **V2}),
    "v2-scalar": (np.array(42, "<i8"), V2),
    "v2-no-rows": (np.empty((0, 7), "<i2"), {"chunks": (1, 7), **V2}),
}


def _create(path, values, options, **more):
    options = {**options, **more}
    made = zarr.create_array(path, shape=values.shape, dtype=values.dtype, **options)
    made[...] = values
    return made


@pytest.fixture
def path(tmp_path):
    """Where the store lies."""
    return tmp_path / "scan.zarr"


class TestZarr(SourceContract, TravelsContract):
    """What was written with zarr-python reads the same."""

    @pytest.fixture(params=CASES.values(), ids=CASES)
    def case(self, request):
        """Values and storage."""
        return request.param

    @pytest.fixture
    def expected(self, case):
        """Return what zarr was given; v3 keeps the byte order to itself, except inside records."""
        values, options = case
        is_swapped = values.dtype.fields is None and "zarr_format" not in options
        return values.astype(values.dtype.newbyteorder("=")) if is_swapped else values

    @pytest.fixture
    def source(self, case, path):
        """Return the array, opened."""
        _create(path, *case)
        return zarr_source(path, None)


class TestZarrFolder(StoredContract):
    """The store is a folder."""

    @pytest.fixture
    def expected(self):
        """Return what the array holds."""
        return MATRIX

    @pytest.fixture(params=["v3", "v2", "v3-sharded"])
    def source(self, path, request):
        """Return the array, opened."""
        _create(path, *CASES[request.param])
        return zarr_source(path, None)

    def change(self, path):
        """Write the same array again, with other values."""
        zarr_format = zarr.open_array(path, mode="r").metadata.zarr_format
        shutil.rmtree(path)
        _create(path, MATRIX + 1, CASES[f"v{zarr_format}"][1])


class TestHoles(SourceContract, TravelsContract):
    """Chunks that were never written hold the fill value."""

    @pytest.fixture(
        params=[CHUNKS, {**CHUNKS, "shards": (16, 10)}, {**CHUNKS, **V2}],
        ids=["v3", "sharded", "v2"],
    )
    def source(self, path, request):
        """Return an array of which a middle part was written."""
        made = zarr.create_array(path, shape=(37, 23), dtype="<i2", fill_value=-7, **request.param)
        made[10:20, 3:9] = MATRIX[10:20, 3:9]
        return zarr_source(path, None)

    @pytest.fixture
    def expected(self):
        """Return the fill value around what was written."""
        out = np.full((37, 23), -7, "<i2")
        out[10:20, 3:9] = MATRIX[10:20, 3:9]
        return out


class TestMemoryStore(SourceContract, TravelsContract):
    """A store that lies nowhere."""

    def test_token_is_that_of_its_equal(self, source):
        """A store in memory is itself only: a copy may have been changed since."""
        assert tokenize(source) == tokenize(source)

    @pytest.fixture
    def source(self):
        """Return the array, opened."""
        store = zarr.storage.MemoryStore()
        _create(store, *CASES["v3"])
        return zarr_source(store, None)

    @pytest.fixture
    def expected(self):
        """Return what the array holds."""
        return MATRIX


class TestZipStore(SourceContract, TravelsContract):
    """A store in one file."""

    @pytest.fixture
    def source(self, tmp_path):
        """Return the array, opened."""
        with zarr.storage.ZipStore(tmp_path / "scan.zip", mode="w") as store:
            _create(store, MATRIX, {"chunks": (37, 23)})
        store = zarr.storage.ZipStore(tmp_path / "scan.zip", mode="r")
        yield zarr_source(store, None)
        store.close()

    @pytest.fixture
    def expected(self):
        """Return what the array holds."""
        return MATRIX


@pytest.fixture
def decoded(monkeypatch):
    """Return the shapes of what lazyio decodes, in the order in which it does."""
    shapes = []
    decode = Chain.decode

    def note(self, payload, out, workspace):
        shapes.append(self.shape)
        decode(self, payload, out, workspace)

    monkeypatch.setattr(Chain, "decode", note)
    return shapes


def test_chunk_shape_is_what_is_decoded(path):
    """Of a sharded array an inner chunk is decoded at once."""
    _create(path, *CASES["v3-sharded"])
    assert zarr_source(path, None).chunk_shape == (8, 5)


def test_chunk_shape_where_zarr_decodes():
    """zarr-python is asked for a whole shard at once."""
    store = zarr.storage.MemoryStore()
    _create(store, *CASES["v3-sharded"])
    assert zarr_source(store, None).chunk_shape == (16, 10)


@pytest.mark.parametrize(
    ("region", "n_decoded"),
    [
        ((slice(0, 8), slice(0, 5)), 1),
        ((slice(3, 4), slice(2, 3)), 1),
        ((slice(7, 9), slice(4, 6)), 4),
        ((slice(0, 37), slice(0, 1)), 5),
        ((slice(12, 20), slice(8, 12)), 4),
        ((slice(0, 37), slice(0, 23)), 25),
        ((slice(0, 0), slice(0, 23)), 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", ["v3", "v3-sharded", "v2"])
def test_only_what_is_touched_is_decoded(path, decoded, case, region, n_decoded):
    """Each chunk that a region has elements of is decoded once, inner chunks of shards too."""
    _create(path, *CASES[case])
    found = zarr_source(path, None).read(region)
    np.testing.assert_array_equal(found, MATRIX[region])
    assert decoded == [(8, 5)] * n_decoded


def test_blocks_of_a_sharded_array_decode_each_chunk_once(path, decoded):
    """Blocks of the plan follow inner chunks, so that nothing is decoded twice."""
    _create(path, *CASES["v3-sharded"])
    array = lazyio.from_zarr(path, chunks=(8, 10))
    assert (array.compute(scheduler="sync") == MATRIX).all()
    assert decoded == [(8, 5)] * 25


def test_chunks_that_are_wanted_whole_are_decoded_in_place(path, monkeypatch):
    """No copy is made of a chunk that is as wide as the result."""
    _create(path, MATRIX, {"chunks": (8, 23)})
    monkeypatch.setattr(Workspace, "array", None)
    region = (slice(8, 24), slice(0, 23))
    np.testing.assert_array_equal(zarr_source(path, None).read(region), MATRIX[region])


@pytest.mark.parametrize("case", ["v3-plain", "v2-plain"])
def test_part_of_a_plain_chunk_is_all_that_is_read(path, case, monkeypatch):
    """Of a chunk that is stored as it is, rows that are not wanted stay where they are."""
    _create(path, MATRIX, {**CASES[case][1], "chunks": (37, 23)})
    source = zarr_source(path, None)
    monkeypatch.setattr(Workspace, "buffer", None)
    region = (slice(5, 7), slice(0, 23))
    np.testing.assert_array_equal(source.read(region), MATRIX[region])


@pytest.mark.parametrize("nbytes", [0, 50, 37 * 23 * 2 - 1, 37 * 23 * 2 + 1])
def test_plain_chunk_of_another_length(path, nbytes):
    """An object that is longer or shorter than its chunk is damage, whatever is wanted of it."""
    _create(path, MATRIX, {"chunks": (37, 23), "compressors": None})
    (path / "c/0/0").write_bytes(bytes(nbytes))
    with pytest.raises(DamagedDataError, match=rf"it decodes to {nbytes} bytes instead of 1702"):
        zarr_source(path, None).read((slice(0, 1), slice(0, 23)))


@pytest.mark.parametrize("case", ["v3", "v3-sharded", "v3-blosc", "v3-gzip", "v2", "v2-fortran"])
def test_zarr_python_is_not_asked(path, case, monkeypatch):
    """Arrays in a folder whose codecs are known are read without zarr's event loop."""
    _create(path, *CASES[case])
    source = zarr_source(path, None)
    monkeypatch.setattr(zarr.Array, "__getitem__", None)
    np.testing.assert_array_equal(source.read((slice(0, 37), slice(0, 23))), MATRIX)


@pytest.mark.parametrize("case", ["v3", "v3-sharded", "v2-delta"])
def test_codecs_that_are_not_ours_go_through_zarr(path, case, monkeypatch):
    """What is not known here is read all the same."""
    _create(path, *CASES[case])
    monkeypatch.setattr("lazyio.sources.zarr_objects.chain_of", lambda *_, **__: None)
    source = zarr_source(path, None)
    assert source.objects is None
    region = (slice(5, 30), slice(2, 19))
    np.testing.assert_array_equal(source.read(region), MATRIX[region])


def test_compressor_that_cannot_be_encoded(path, monkeypatch):
    """Reading does not fail for what only writing needs."""
    _create(path, *CASES["v3-blosc"])
    monkeypatch.setattr(numcodecs.blosc, "list_compressors", lambda: ["zlib"])
    source = zarr_source(path, None)
    assert source.objects is None
    np.testing.assert_array_equal(source.read((slice(0, 37), slice(0, 23))), MATRIX)


@pytest.mark.parametrize("inside", ["", "deep"])
def test_group_that_is_open(group, inside):
    """A group that is open is a store, and a path counts from it."""
    opened = zarr.open_group(group, mode="r", path=inside or None)
    source = zarr_source(opened, "down/raw" if inside else "deep/down/raw")
    assert source.shape == MATRIX.shape
    with pytest.raises(SourceError, match="no Zarr array at"):
        zarr_source(opened, "nowhere")


def test_array_that_is_open(path):
    """An array that is open is what it is, and has nothing inside it."""
    made = _create(path, *CASES["v3"])
    assert zarr_source(made, None).shape == MATRIX.shape
    with pytest.raises(OptionError, match="path='x' inside an array"):
        zarr_source(made, "x")


@pytest.fixture
def zipped(tmp_path):
    """Return the path of a store in a zip file, with two arrays."""
    path = tmp_path / "scan.zarr.zip"
    with zarr.storage.ZipStore(path, mode="w") as store:
        made = zarr.create_group(store)
        made.create_array("deep/raw", data=MATRIX)
        made.create_array("other", data=np.arange(3))
    return path


def test_path_of_a_zip_file(zipped):
    """A zip file is opened by its path, and travels as it."""
    source = zarr_source(zipped, "deep/raw")
    copy = pickle.loads(pickle.dumps(source))
    assert source.location == copy.location == (str(zipped), "deep/raw")
    assert tokenize(source) == tokenize(copy)
    np.testing.assert_array_equal(copy.read((slice(0, 37), slice(0, 23))), MATRIX)
    assert lazyio.from_zarr(zipped, "other").sum().compute() == 3


def test_token_of_a_zip_file_changes_with_it(zipped):
    """A zip file that was written again is another one."""
    before = tokenize(zarr_source(zipped, "other"))
    os.utime(zipped, ns=(1, 1))
    assert tokenize(zarr_source(zipped, "other")) != before


def test_stores_in_memory_do_not_collide():
    """An address that is used again does not name what lay there before."""
    names = set()
    for value in range(5):
        store = zarr.storage.MemoryStore()
        zarr.create_array(store, data=np.full(4, value))
        names.add(tokenize(zarr_source(store, None)))
        del store
    assert len(names) == 5


class Locked(zarr.storage.MemoryStore):
    """A store that cannot be sent anywhere."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.lock = threading.Lock()


def test_store_that_cannot_be_pickled():
    """It is read by threads of this process all the same."""
    store = Locked()
    _create(store, *CASES["v3-sharded"])
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(store)
    array = lazyio.from_zarr(store)
    np.testing.assert_array_equal(array.compute(scheduler="threads"), MATRIX)


def test_url_in_memory():
    """A URL is opened by way of fsspec, with its options."""
    fs = pytest.importorskip("fsspec").filesystem("memory")
    try:
        _create("memory://lazyio/scan.zarr", *CASES["v3"])
        array = lazyio.from_zarr("memory://lazyio/scan.zarr")
        np.testing.assert_array_equal(array.compute(scheduler="threads"), MATRIX)
    finally:
        fs.rm("/lazyio", recursive=True)


def test_shard_that_points_beyond_its_end(path):
    """An index that is right and speaks of bytes that are not there is damage."""
    options = {**CHUNKS, "shards": (16, 10), "compressors": None}
    _create(path, MATRIX, options)
    shard = path / "c/0/0"
    content = shard.read_bytes()
    # Bytes are missing before the index, which stands at the end with a checksum of its own.
    shard.write_bytes(content[100:])
    with pytest.raises(DamagedDataError, match=r"c/0/0, which holds \[0:16, 0:10\], is damaged"):
        lazyio.from_zarr(path).compute(scheduler="sync")


def test_missing_array_folder(group):
    """An array whose folder is gone does not read as its fill value."""
    source = zarr_source(group, "other")
    shutil.rmtree(group / "other")
    with pytest.raises(SourceChangedError, match="other was removed since it was opened"):
        source.read((slice(0, 3),))


def test_object_that_is_a_folder(path):
    """What is no file at all is no missing chunk either."""
    _create(path, *CASES["v3"])
    (path / "c/0/0").unlink()
    (path / "c/0/0").mkdir()
    with pytest.raises(SourceError, match=r"c/0/0 cannot be read: Is a directory"):
        lazyio.from_zarr(path).compute(scheduler="sync")


@pytest.fixture
def group(path):
    """Return a store with two arrays, one of them deep."""
    made = zarr.create_group(path)
    made.create_array("other", data=np.arange(3))
    made.create_array("deep/down/raw", data=MATRIX)
    return path


@pytest.mark.parametrize("key", ["deep/down/raw", "/deep/down/raw", "deep/down/raw/"])
def test_path_inside_the_store(group, key):
    """An array is found by its path."""
    assert lazyio.from_zarr(group, key).shape == MATRIX.shape


def test_group_inside_the_store(group):
    """The sole array below the path is meant."""
    assert lazyio.from_zarr(group, "deep").shape == MATRIX.shape


@pytest.mark.parametrize("key", ["deep/down/raw", None])
def test_array_folder_and_sole_array(group, key):
    """An array's own folder opens as well, and so does a store that holds only one."""
    opened = lazyio.open(group / "deep", None if key is None else "down/raw")
    assert opened.shape == lazyio.open(group / "deep/down/raw").shape == MATRIX.shape


@pytest.mark.parametrize(
    ("key", "match"),
    [
        pytest.param(
            None, "holds 2 arrays; give the path of one: 'deep/down/raw', 'other'", id="no-key"
        ),
        pytest.param("none", "no Zarr array at 'none'", id="missing"),
        pytest.param("other/deeper", "no Zarr array at 'other/deeper'", id="below-array"),
        pytest.param("../scan.zarr/other", "no Zarr array|not a path|is invalid", id="outside"),
        pytest.param(7, "key=7|path=7|no Zarr array", id="number"),
    ],
)
def test_path_that_is_no_array(group, key, match):
    """A path that is no array is answered by name."""
    with pytest.raises(lazyio.LazyioError, match=match):
        lazyio.from_zarr(group, key)


def test_empty_group(path):
    """A store that holds no array says so."""
    zarr.create_group(path)
    with pytest.raises(SourceError, match="holds no array"):
        lazyio.from_zarr(path)


def test_missing_store(tmp_path):
    """A store that is not there is named."""
    with pytest.raises(SourceError, match=r"none\.zarr does not exist"):
        lazyio.from_zarr(tmp_path / "none.zarr")


def test_folder_that_is_no_store(tmp_path):
    """A folder without metadata is no store."""
    with pytest.raises(SourceError, match="no Zarr array"):
        lazyio.from_zarr(tmp_path)


def test_file_that_is_no_store(tmp_path):
    """A file is no store of folders."""
    (tmp_path / "scan.zarr").write_bytes(b"plain text")
    with pytest.raises(SourceError, match=r"scan\.zarr"):
        lazyio.from_zarr(tmp_path / "scan.zarr")


@pytest.mark.parametrize(("zarr_format", "name"), [(3, "zarr.json"), (2, ".zarray")])
def test_truncated_metadata(path, zarr_format, name):
    """Metadata cut short anywhere is a SourceError naming the store."""
    _create(path, MATRIX, CHUNKS, zarr_format=zarr_format)
    text = (path / name).read_bytes()
    for length in range(0, len(text) - 1, 7):
        (path / name).write_bytes(text[:length])
        with pytest.raises(SourceError, match=r"scan\.zarr"):
            lazyio.open(path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"zarr_format": 9}, id="format"),
        pytest.param({"node_type": "tree"}, id="node"),
        pytest.param({"shape": [-1, 23]}, id="negative"),
        pytest.param({"shape": "wide"}, id="shape"),
        pytest.param({"shape": [37]}, id="rank"),
        pytest.param({"data_type": "int17"}, id="dtype"),
        pytest.param({"data_type": None}, id="no-dtype"),
        pytest.param({"chunk_grid": {"name": "hexagonal"}}, id="grid"),
        pytest.param({"chunk_grid": 5}, id="grid-number"),
        pytest.param({"codecs": [{"name": "no-such-codec"}]}, id="codec"),
        pytest.param({"codecs": []}, id="no-codecs"),
        pytest.param({"codecs": 5}, id="codecs-number"),
        pytest.param({"fill_value": "plenty"}, id="fill-value"),
        pytest.param({"chunk_key_encoding": {"name": "odd"}}, id="keys"),
        pytest.param({"must_understand_this": {"must_understand": True}}, id="extension"),
    ],
)
def test_metadata_that_cannot_be(path, change):
    """Metadata that is JSON and makes no sense is a SourceError naming the store."""
    _create(path, MATRIX, CHUNKS)
    metadata = json.loads((path / "zarr.json").read_bytes())
    (path / "zarr.json").write_text(json.dumps({**metadata, **change}))
    with pytest.raises(SourceError, match=r"scan\.zarr"):
        lazyio.open(path)


@pytest.mark.parametrize("text", ["[]", "5", "null", '"zarr"', "{}"])
def test_metadata_that_is_no_object(path, text):
    """Metadata that is another kind of JSON is a SourceError naming the store."""
    _create(path, MATRIX, CHUNKS)
    (path / "zarr.json").write_text(text)
    with pytest.raises(SourceError, match=r"scan\.zarr"):
        lazyio.open(path)


@pytest.mark.parametrize("version", [2, 3])
def test_text_of_any_length(path, version):
    """zarr-python reads it, a chunk at a time; it is numpy's own text in memory."""
    values = np.array(["a", "", "日本語", "x" * 300, "b"] * 5).astype(TEXT).reshape(5, 5)
    made = zarr.create_array(path, shape=(5, 5), chunks=(2, 3), dtype=str, zarr_format=version)
    made[:4] = values[:4]
    source = zarr_source(path, None)
    assert source.dtype == TEXT
    assert source.objects is None
    wanted = values.copy()
    wanted[4] = ""
    np.testing.assert_array_equal(source.read((slice(0, 5), slice(0, 5))), wanted)
    np.testing.assert_array_equal(source.read((slice(1, 4), slice(2, 4))), wanted[1:4, 2:4])
    array = lazyio.open(path, chunks=(2, 5))
    assert array.dtype == TEXT
    np.testing.assert_array_equal(array.compute(scheduler="processes"), wanted)


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_python_objects_are_refused(path):
    """Bytes of any length are objects, which no array of numpy's holds as values."""
    zarr.create_array(path, shape=(3,), dtype=zarr.dtype.VariableLengthBytes())
    with pytest.raises(UnsupportedDtypeError, match=r"scan\.zarr.*Python objects"):
        zarr_source(path, None)


@pytest.mark.parametrize(
    ("row_nbytes", "most_reads"),
    [(2**10, 1), (40 * 2**10, 20), (100 * 2**10, 256)],
    ids=["short", "long", "too-long"],
)
def test_narrow_windows_of_plain_chunks(path, monkeypatch, row_nbytes, most_reads):
    """Many short runs are one long read, as long as that is not slower."""
    values = np.arange(256 * row_nbytes, dtype="u1").reshape(256, row_nbytes)
    _create(path, values, {"chunks": values.shape, "compressors": None})
    source, sizes = zarr_source(path, None), []
    read = files.read_exactly

    def note(file, offset, view):
        sizes.append(len(view))
        read(file, offset, view)

    monkeypatch.setattr(files, "read_exactly", note)
    region = (slice(0, 256), slice(7, 10))
    np.testing.assert_array_equal(source.read(region), values[region])
    assert 0 < len(sizes) <= most_reads


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *itertools.product(["v3", "v3-plain", "v3-blosc", "v2"], [b"", b"\xff" * 40]),
        # An empty shard has no index, which zarr-python takes for a shard without chunks.
        ("v3-sharded", b"\xff" * 40),
    ],
)
def test_damaged_chunk(path, name, content):
    """A chunk that does not decode is a DamagedDataError naming the store and the region."""
    _create(path, *CASES[name])
    chunk = path / ("0.0" if name == "v2" else "c/0/0")
    chunk.write_bytes(content)
    array = lazyio.open(path)
    with pytest.raises(DamagedDataError, match=r"scan\.zarr.*\[0:"):
        array.compute(scheduler="sync")


def test_array_grown_after_opening(path):
    """An array that was made larger since is not what was opened."""
    _create(path, *CASES["v3"])
    array = lazyio.open(path)
    zarr.open_array(path, mode="r+").append(MATRIX)
    with pytest.raises(SourceChangedError, match=r"zarr\.json was replaced by another file since"):
        array.compute(scheduler="sync")
