"""Every kind of element that Zarr has a place for, and what becomes of the others."""

import dask.array as da
import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
import zarr.codecs.numcodecs as v3_numcodecs
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

import lazyio
from lazyio.dtypes import TEXT
from lazyio.errors import OptionError, UnsupportedDtypeError

RECORD = np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3")])
PLAIN = ["?", "i1", "u2", ">u2", "i4", ">i8", "u8", "f2", ">f2", "f4", ">f8", "c8", ">c16"]
UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "25s"]

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not")


def forms(values, blocks=3):
    """Return an array as it is, and as a graph that cuts across chunks."""
    graph = da.from_array(values, chunks=blocks).map_blocks(lambda block: block, dtype=values.dtype)
    return {"array": values, "graph": graph}


def read(path):
    return zarr.open_array(path, mode="r")[...]


def with_tensorstore(path, version):
    driver = "zarr3" if version == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec).result().read().result()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "x.zarr"


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", PLAIN)
def test_numbers_come_back(out, dtype, version, form):
    """The same values to zarr-python and tensorstore; v2 keeps the byte order."""
    values = (np.arange(-5, 6) * 3).astype("i8").astype(dtype)
    report = lazyio.to_zarr(forms(values)[form], out, chunks=4, zarr_format=version)
    assert report.engine == "direct"
    found = read(out)
    assert found.dtype == (dtype if version == 2 else np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(with_tensorstore(out, version).astype(dtype), values)
    np.testing.assert_array_equal(lazyio.open(out), values)


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shards", [None, (8,)])
def test_records_and_fixed_text(out, version, form, shards):
    """Bytes, text of one length and records, also inside of shards."""
    if version == 2 and shards:
        pytest.skip("v2 has no shards")
    options = {"chunks": 4, "shards": shards, "zarr_format": version, "mode": "w"}
    record = np.zeros(11, RECORD)
    record["a"], record["b"], record["c"] = np.arange(11), np.arange(11) / 2, b"xy"
    for values in (
        np.array([b"x" * (at % 6) for at in range(11)], "S5"),
        np.array(["日本"[: at % 3] for at in range(11)], "U3"),
        np.array(["ab"[: at % 3] for at in range(11)], ">U3"),
        record,
    ):
        lazyio.to_zarr(forms(values)[form], out, **options)
        np.testing.assert_array_equal(lazyio.open(out), values)
        if not (shards and values.dtype.names and zarr.__version__.startswith("3.1.")):
            # In which zarr-python neither writes nor reads records in shards.
            np.testing.assert_array_equal(read(out), values)


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shards", [None, (8, 8)])
def test_text_of_any_length(out, version, form, shards):
    """zarr-python encodes it, and the report says so; lazyio reads it."""
    if version == 2 and shards:
        pytest.skip("v2 has no shards")
    words = ["a", "", "日本語", "x" * 1000, "e\u0301"]
    values = np.array([words[at % 5] for at in range(77)]).astype(TEXT).reshape(11, 7)
    options = {"chunks": 4, "zarr_format": version, "fill_value": "?"}
    report = lazyio.to_zarr(forms(values)[form], out, shards=shards, **options)
    assert report.engine == "zarr-python"
    assert read(out).tolist() == values.tolist()
    found = lazyio.open(out)
    assert found.dtype == TEXT
    np.testing.assert_array_equal(found, values)
    lazyio.to_zarr(np.array([["b"] * 7]), out, region=np.s_[12:13])
    assert lazyio.open(out)[11].compute().tolist() == ["?"] * 7
    assert lazyio.open(out)[12].compute().tolist() == ["b"] * 7


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("unit", UNITS)
def test_times_come_back(out, unit, order, version, form):
    """As integers with CF units, and through lazyio as what they were."""
    days = ["2001-02-03", "NaT", "1960-01-01", "1999-12-31", "2038-02-01"]
    values = np.array(days, "M8[D]").astype(f"{order}M8[{unit}]")
    lazyio.to_zarr(forms(values)[form], out, chunks=4, zarr_format=version)
    array = zarr.open_array(out)
    assert array.dtype == "i8"
    assert array.attrs["units"].endswith("since 1970-01-01")
    found = lazyio.open(out)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    if unit in ("Y", "M"):
        return  # Of no length that would be always the same.
    durations = np.array([5, -7], f"{order}m8[{unit}]")
    lazyio.to_zarr(durations, out, mode="w", zarr_format=version)
    np.testing.assert_array_equal(lazyio.open(out), durations)


@pytest.mark.parametrize(
    ("dtype", "match"),
    [
        ("m8[Y]", "CF conventions cannot express"),
        ("M8[ps]", "CF conventions cannot express"),
        (object, "Python objects"),
        ([("a", object)], "Python objects"),
        ("g", "Zarr has no type for dtype"),
        ([("a", "i2", (2,))], "a record with arrays as fields"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_elements_without_a_place_are_refused(out, dtype, match, version):
    """At once, whether it is computed now or later."""
    for compute in (True, False):
        with pytest.raises(UnsupportedDtypeError, match=match):
            lazyio.to_zarr(np.zeros(3, dtype), out, zarr_format=version, compute=compute)
    assert not out.exists()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill_value", "stored"),
    [
        ("f4", np.nan, np.float32(np.nan)),
        ("f8", np.inf, np.inf),
        ("f2", -np.inf, -np.inf),
        ("f8", -0.0, -0.0),
        ("i2", -1, -1),
        ("u8", 2**64 - 1, 2**64 - 1),
        ("?", True, True),
        ("c8", 1j, 1j),
        ("c16", complex(np.nan, -np.inf), complex(np.nan, -np.inf)),
        ("S3", b"ab", b"ab"),
        ("U3", "日本", "日本"),
        (TEXT, "日本語", "日本語"),
        ("M8[s]", np.datetime64("1970-01-02"), 86400),
        ("M8[s]", np.datetime64("NaT", "s"), np.iinfo("i8").min),
        ("m8[ms]", np.timedelta64(2, "s"), 2000),
        ([("a", "i2"), ("b", "f4")], (1, 2.0), (1, 2.0)),
        (">i4", 258, 258),
    ],
    ids=str,
)
def test_fill_values(out, dtype, fill_value, stored, version):
    """What was never written reads as it, bit for bit; chunks full of it take no room."""
    values = np.zeros(6, dtype)
    if dtype != TEXT:
        values[3:] = fill_value
    lazyio.to_zarr(values, out, fill_value=fill_value, chunks=(3,), zarr_format=version)
    array = zarr.open_array(out, mode="r+")
    assert len([file for file in out.rglob("*") if file.name in ("1", "0")]) == (
        2 if dtype == TEXT else 1
    )
    array.resize((9,))
    wanted = np.asarray(np.array(stored, array.dtype))
    assert array[8:].tobytes() == wanted.tobytes() or array[8] == stored
    if dtype != TEXT:
        assert array[3:6].tobytes() == np.repeat(wanted, 3).tobytes()
    assert (
        lazyio.open(out).compute().tobytes()[-1:] == lazyio.open(out)[8:].compute().tobytes()[-1:]
    )


@pytest.mark.parametrize(
    ("dtype", "fill_value"), [("i2", 1e6), ("i2", 0.5), ("u1", -1), ("S2", b"abc"), ("i4", "a")]
)
def test_fill_values_that_are_none(out, dtype, fill_value):
    with pytest.raises(OptionError, match="is no value of dtype"):
        lazyio.to_zarr(np.zeros(3, dtype), out, fill_value=fill_value)


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("version", [2, 3])
def test_gaps_get_the_fill_value(out, form, version):
    """Numpy's own, or the one that is asked for."""
    values = np.ma.array(np.arange(7.0), mask=[0, 1, 0, 0, 0, 0, 1])
    masked = da.from_array(values, chunks=3, asarray=False) if form == "graph" else values
    lazyio.to_zarr(masked, out, chunks=4, zarr_format=version)
    np.testing.assert_array_equal(read(out), values.filled(1e20))
    assert zarr.open_array(out).fill_value == 1e20
    lazyio.to_zarr(masked, out, mode="w", fill_value=-9, dtype="i2", zarr_format=version)
    np.testing.assert_array_equal(read(out), values.filled(-9))
    assert read(out).dtype == "i2"


@pytest.mark.parametrize("empty", [None, False, True])
@pytest.mark.parametrize("engine", ["direct", "zarr-python"])
@pytest.mark.parametrize("shards", [None, (4, 4)])
def test_chunks_of_fill_value(out, monkeypatch, empty, engine, shards):
    """Not stored unless asked for, by whoever encodes."""
    if engine == "zarr-python":
        monkeypatch.setattr("lazyio.storage.zarr.array.chain_of", lambda *_, **__: None)
    values = np.full((8, 8), 7, "i2")
    values[0, 0] = 1
    options = {"chunks": (2, 2), "shards": shards, "fill_value": 7, "write_empty_chunks": empty}
    report = lazyio.to_zarr(values, out, compressors=None, **options)
    assert report.engine == engine
    stored = [file for file in (out / "c").rglob("*") if file.is_file()]
    n_all = 4 if shards else 16
    assert len(stored) == (n_all if empty else 1)
    np.testing.assert_array_equal(read(out), values)
    np.testing.assert_array_equal(with_tensorstore(out, 3), values)


@pytest.mark.parametrize("value", [5, "yes", np.array([True])])
def test_flags_that_are_none(out, value):
    with pytest.raises(OptionError, match="write_empty_chunks="):
        lazyio.to_zarr(np.ones(3), out, write_empty_chunks=value)


V3_CODECS = {
    "auto": "auto",
    "none": None,
    "empty": [],
    "one": ZstdCodec(level=3),
    "list": [ZstdCodec(level=1)],
    "tuple": (GzipCodec(level=1), Crc32cCodec()),
    "blosc": BloscCodec(cname="zlib", clevel=2, shuffle="noshuffle"),
    "configuration": {"name": "gzip", "configuration": {"level": 2}},
    "numcodecs-lz4": lambda: v3_numcodecs.LZ4(),
    "numcodecs-bz2": lambda: v3_numcodecs.BZ2(level=1),
    "numcodecs-shuffle-zlib": lambda: [
        v3_numcodecs.Shuffle(elementsize=2),
        v3_numcodecs.Zlib(level=1),
    ],
    "numcodecs-crc32": lambda: v3_numcodecs.CRC32(),
}
V2_CODECS = {
    "auto": "auto",
    "none": None,
    "empty": [],
    "one": numcodecs.Zstd(level=3),
    "list": [numcodecs.LZMA()],
    "tuple": (numcodecs.BZ2(1),),
    "blosc": numcodecs.Blosc(cname="lz4hc", shuffle=numcodecs.Blosc.BITSHUFFLE),
    "configuration": {"id": "gzip", "level": 2},
}


@pytest.mark.parametrize("codec", V3_CODECS.values(), ids=V3_CODECS)
@pytest.mark.parametrize("shards", [None, (400, 64)])
def test_compressors_of_v3(out, recording, codec, shards):
    """One, several or none, as zarr takes them; what its own array says is what was asked."""
    # Those of numcodecs warn when they are made, which is not for the collection of tests.
    codec = codec() if callable(codec) else codec
    options = {"chunks": (100, 32), "shards": shards}
    lazyio.to_zarr(forms(recording, 130)["graph"], out, compressors=codec, **options)
    np.testing.assert_array_equal(read(out), recording)
    like = zarr.create_array({}, shape=(1000, 64), dtype="i2", compressors=codec, **options)
    assert zarr.open_array(out).compressors == like.compressors


@pytest.mark.parametrize("codec", V2_CODECS.values(), ids=V2_CODECS)
def test_compressors_of_v2(out, recording, codec):
    """One or none, in a list or not."""
    lazyio.to_zarr(recording, out, chunks=(100, 32), compressors=codec, zarr_format=2)
    np.testing.assert_array_equal(read(out), recording)
    given = codec[0] if isinstance(codec, (list, tuple)) and codec else codec
    plain = None if codec == [] else given
    like = zarr.create_array({}, shape=(9,), dtype="i2", compressors=plain, zarr_format=2)
    assert zarr.open_array(out).compressors == like.compressors


def test_filters(out, recording):
    """Of v3 from array to array, of v2 any of numcodecs; none where none are wanted."""
    for version, filters in (
        (3, [TransposeCodec(order=(1, 0)), v3_numcodecs.Delta(dtype="<i2")]),
        (3, (v3_numcodecs.FixedScaleOffset(scale=1, offset=3, dtype="<i2"),)),
        (3, None),
        (3, []),
        (2, [numcodecs.Delta("<i2"), numcodecs.Shuffle(2)]),
        (2, None),
    ):
        options = {"chunks": (100, 30), "zarr_format": version, "mode": "w"}
        lazyio.to_zarr(recording, out, filters=filters, **options)
        np.testing.assert_array_equal(read(out), recording)
        assert len(zarr.open_array(out).filters) == len(filters or ())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"compressors": numcodecs.Zstd()}, r"zarr\.codecs, such as ZstdCodec.*zarr_format=2"),
        ({"compressors": [numcodecs.Zlib()]}, "is a codec of numcodecs"),
        ({"compressors": "zstd"}, "cannot be created"),
        ({"compressors": BytesCodec()}, "Expected a BytesBytesCodec"),
        ({"compressors": [ShardingCodec(chunk_shape=(5,))]}, "Expected a BytesBytesCodec"),
        ({"compressors": ZstdCodec(), "zarr_format": 2}, "cannot be created"),
        ({"filters": [BytesCodec(endian="big")]}, "Expected an ArrayArrayCodec"),
        ({"filters": [ZstdCodec()]}, "Expected an ArrayArrayCodec"),
        ({"filters": [ShardingCodec(chunk_shape=(5,))]}, "Expected an ArrayArrayCodec"),
        ({"compressors": [numcodecs.Zlib(), numcodecs.Zstd()], "zarr_format": 2}, "single codec"),
    ],
)
def test_codecs_that_are_none(out, options, match):
    """How elements become bytes is no compressor and no filter: zarr chooses it."""
    with pytest.raises(OptionError, match=match):
        lazyio.to_zarr(np.arange(10), out, **options)
    assert not out.exists()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("shape", "names"),
    [((3,), "time"), ((3,), ["time"]), ((3, 2), (None, "x")), ((3, 2), ("x", None)), ((), ())],
)
def test_names_of_axes(out, shape, names, version):
    """Some may have none; one may stand alone."""
    lazyio.to_zarr(np.ones(shape), out, dimension_names=names, zarr_format=version)
    array = zarr.open_array(out)
    found = array.attrs.get("_ARRAY_DIMENSIONS", ())
    if version == 3:
        assert "_ARRAY_DIMENSIONS" not in array.attrs
        found = array.metadata.dimension_names or ()
    assert list(found) == ([names] if isinstance(names, str) else list(names))
    if shape:
        named = next(name for name in found if name)
        lazyio.to_zarr(np.ones(shape), out, append_dim=named)


@pytest.mark.parametrize("names", [("x",), "xy", (1, 2), ("x", ""), 5, {"x", "y"}, ["x"] * 3])
@pytest.mark.parametrize("version", [2, 3])
def test_names_that_are_none(out, names, version):
    with pytest.raises(OptionError, match="give one name"):
        lazyio.to_zarr(np.ones((3, 2)), out, dimension_names=names, zarr_format=version)
    assert not out.exists()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (997,), (13, 0, 3), (1,) * 8, (2,) * 8])
@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("version", [2, 3])
def test_shapes(out, shape, form, version):
    """No axis, no elements, primes, eight axes, from blocks that do not fit."""
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape)
    lazyio.to_zarr(forms(values, 2)[form], out, chunks=3 if shape else "auto", zarr_format=version)
    found = np.asarray(read(out))
    assert found.shape == shape
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", ["f4", "i8", ">u2", "c8", "S7"])
@pytest.mark.parametrize("form", ["array", "graph"])
def test_casts(out, dtype, form):
    """As numpy's astype makes them."""
    values = np.arange(11.0)
    lazyio.to_zarr(forms(values)[form], out, chunks=4, dtype=dtype, zarr_format=2)
    assert read(out).dtype == dtype
    np.testing.assert_array_equal(read(out), values.astype(dtype))
