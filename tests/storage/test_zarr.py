"""The Zarr target, with chunks and shards encoded here and by zarr-python."""

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
from target_contract import CHUNK_SHAPE, SHAPE, TargetContract
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec

from lazyio.codecs.workspace import Workspace
from lazyio.errors import OptionError
from lazyio.regions import box, grid_shape
from lazyio.sources.zarr import zarr_source
from lazyio.storage.zarr.array import ZarrOptions, ZarrTarget, create_array


class ZarrContract(TargetContract):
    """An array with the options of the subclass; shards are what is written whole."""

    options = {}
    path = ""
    inner_chunk_shape = None

    def make(self, folder, dtype="int32", fill=None):
        """Return a target in a new store."""
        is_sharded = self.inner_chunk_shape is not None
        array = create_array(
            folder / "data",
            self.path,
            shape=SHAPE,
            chunk_shape=self.inner_chunk_shape or CHUNK_SHAPE,
            shard_shape=CHUNK_SHAPE if is_sharded else None,
            dtype=np.dtype(dtype),
            options=ZarrOptions(fill_value=fill, **self.options),
        )
        return ZarrTarget(array)

    def read(self, folder):
        """Return what zarr-python reads."""
        return zarr.open_array(folder / "data", path=self.path or None, mode="r")[:]


class TestPlain(ZarrContract):
    """Uncompressed."""

    options = {"compressors": None}


class TestZstd(ZarrContract):
    """Encoded here, in a group."""

    options = {"compressors": ZstdCodec(level=1)}
    path = "group/x"


class TestV2(ZarrContract):
    """v2 metadata."""

    options = {"zarr_format": 2}


class TestTranspose(ZarrContract):
    """Axes in another order."""

    options = {"filters": [TransposeCodec(order=(1, 0))]}


class TestShards(ZarrContract):
    """Several chunks in each object."""

    inner_chunk_shape = (5, 3)


class TestShardsOfOneChunk(ZarrContract):
    """As many shards as chunks, uncompressed, in a group."""

    inner_chunk_shape = CHUNK_SHAPE
    options = {"compressors": None}
    path = "group/x"


class TestThroughZarrPython(ZarrContract):
    """Codecs that are not known here."""

    inner_chunk_shape = (1, 6)

    @pytest.fixture(autouse=True)
    def unknown(self, monkeypatch):
        """Know none."""
        monkeypatch.setattr("lazyio.storage.zarr.array.chain_of", lambda *_, **__: None)

    def test_says_so(self, folder):
        """The report tells who encodes."""
        assert self.make(folder).engine == "zarr-python"


def make(folder, values, chunk_shape, shards=None, **options):
    """Return a target for an array in a new store."""
    array = create_array(
        folder,
        "",
        shape=values.shape,
        chunk_shape=chunk_shape,
        shard_shape=shards,
        dtype=values.dtype,
        options=ZarrOptions(**options),
    )
    return ZarrTarget(array, keeps_empty=bool(options.get("write_empty_chunks")))


def write(folder, values, chunk_shape, **options):
    """Write an array chunk by chunk, or shard by shard; return what its objects take."""
    target = make(folder, values, chunk_shape, **options)
    assert target.engine == "direct"
    for index in np.ndindex(grid_shape(target.shape, target.chunk_shape)):
        region = box(target.shape, target.chunk_shape, index)
        target.write_chunk(index, values[region], Workspace())
    return target.finish()


def objects(folder):
    """Return the sizes of all objects by name."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): file.stat().st_size
        for file in files
        if file.name not in ("zarr.json", ".zarray", ".zattrs")
    }


def with_tensorstore(folder, driver="zarr3"):
    """Return what tensorstore reads."""
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
    return tensorstore.open(spec).result().read().result()


@pytest.mark.parametrize(
    "compressors",
    [None, ZstdCodec(level=1), GzipCodec(level=5), BloscCodec(cname="zstd", shuffle="bitshuffle")],
    ids=["plain", "zstd", "gzip", "blosc"],
)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "f8"])
def test_shards_are_read_by_others(tmp_path, dtype, compressors):
    """zarr-python and tensorstore read every element, at the end of the array, too."""
    values = (np.arange(37 * 23) % 200).reshape(37, 23).astype(dtype)
    stored = write(tmp_path / "a", values, (8, 5), shards=(16, 10), compressors=compressors)
    array = zarr.open_array(tmp_path / "a", mode="r")
    assert (array.chunks, array.shards) == ((8, 5), (16, 10))
    np.testing.assert_array_equal(array[...], values)
    np.testing.assert_array_equal(with_tensorstore(tmp_path / "a"), values)
    found = zarr_source(tmp_path / "a", None).read((slice(0, 37), slice(0, 23)))
    np.testing.assert_array_equal(found, values)
    assert len(objects(tmp_path / "a")) == 9
    assert stored == sum(objects(tmp_path / "a").values())


BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}


@pytest.mark.parametrize(
    "codec",
    [
        {"name": "gzip", "configuration": {"level": 5}},
        {"name": "zstd", "configuration": {"level": 1}},
        {"name": "blosc", "configuration": BLOSC},
        {"name": "crc32c"},
    ],
    ids=lambda codec: codec["name"],
)
@pytest.mark.parametrize("index_location", ["start", "end"])
def test_shards_of_tensorstore_are_read(tmp_path, index_location, codec):
    """What tensorstore wrote, an index at the start and inner chunks left out included."""
    values = np.arange(37 * 23, dtype="<i4").reshape(37, 23)
    values[:20, :7] = 0
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    shard = {
        "chunk_shape": [8, 5],
        "codecs": [*codecs, codec],
        "index_codecs": [*codecs, {"name": "crc32c"}],
        "index_location": index_location,
    }
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "a")},
        "metadata": {
            "shape": [37, 23],
            "data_type": "int32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 10]}},
            "codecs": [{"name": "sharding_indexed", "configuration": shard}],
        },
    }
    tensorstore.open(spec, create=True).result().write(values).result()
    source = zarr_source(tmp_path / "a", None)
    assert source.chunk_shape == (8, 5)
    for region in ((slice(0, 37), slice(0, 23)), (slice(3, 30), slice(6, 11))):
        np.testing.assert_array_equal(source.read(region), values[region])


@pytest.mark.parametrize(
    "options", [{"shards": (12,)}, {"shards": (10,), "zarr_format": 2}], ids=["odd", "v2"]
)
def test_shards_that_cannot_be(tmp_path, options):
    """Shards of no whole chunks, or in v2, are refused before anything is written."""
    with pytest.raises(OptionError, match="the Zarr array cannot be created"):
        make(tmp_path / "a", np.zeros(20, "i2"), (5,), **options)


@pytest.mark.parametrize("shards", [None, (10, 10)], ids=["chunks", "shards"])
@pytest.mark.parametrize("dtype", ["i2", "f8", "c16", "S3", "M8[s]", "bool"])
def test_objects_of_fill_value(tmp_path, dtype, shards):
    """They are not stored, unless asked for; readers get the fill value both times."""
    values = np.zeros((20, 20), dtype)
    fill = 0 if np.dtype(dtype).kind in "ifcb" else None
    if np.dtype(dtype).kind == "M":
        values[...] = "NaT"
    assert write(tmp_path / "a", values, (5, 10), shards=shards, fill_value=fill) == 0
    assert objects(tmp_path / "a") == {}
    options = {"shards": shards, "fill_value": fill, "write_empty_chunks": True}
    assert write(tmp_path / "b", values, (5, 10), **options) > 0
    assert len(objects(tmp_path / "b")) == (8 if shards is None else 4)
    for name in "ab":
        found = zarr.open_array(tmp_path / name, mode="r")[...]
        np.testing.assert_array_equal(found, values)


def test_inner_chunks_of_fill_value_take_no_room(tmp_path):
    """Of a shard that holds anything else only the other chunks are stored."""
    values = np.zeros((16, 16), "i4")
    values[0, 0] = 1
    options = {"shards": (16, 16), "compressors": None}
    index_nbytes = 16 * 16 + 4
    assert write(tmp_path / "a", values, (4, 4), **options) == 64 + index_nbytes
    stored = write(tmp_path / "b", values, (4, 4), **options, write_empty_chunks=True)
    assert stored == values.nbytes + index_nbytes
    for name in "ab":
        np.testing.assert_array_equal(with_tensorstore(tmp_path / name), values)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not:zarr.errors.ZarrUserWarning")
def test_filters_see_elements_in_the_order_that_is_stored(tmp_path):
    """v3 has no byte order in its dtypes: big-endian input is turned before a filter sees it."""
    values = np.arange(40, dtype=">i4").reshape(8, 5)
    filters = [zarr.codecs.numcodecs.Delta(dtype="<i4")]
    write(tmp_path / "a", values, (4, 5), filters=filters)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], values)


def test_v2_filters(tmp_path):
    """Objects of numcodecs, in v2."""
    values = np.arange(40, dtype=">i4").reshape(8, 5)
    options = {"filters": [numcodecs.Delta(">i4")], "compressors": numcodecs.LZMA()}
    write(tmp_path / "a", values, (4, 5), zarr_format=2, **options)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], values)
