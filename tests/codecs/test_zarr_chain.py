"""Zarr's codecs: what lazyio encodes zarr-python reads, and the other way round."""

import tracemalloc
import warnings

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.codecs import numcodecs as in_v3
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from lazyio.codecs.workspace import Fill, Workspace
from lazyio.codecs.zarr_chain import Chain, chain_of
from lazyio.codecs.zarr_codecs import as_bytes, decode_at_most, numcodec

pytestmark = [
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not:zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore:Combining a `sharding:zarr.errors.ZarrUserWarning"),
]

SHAPE = (6, 10)
V2 = {"zarr_format": 2}


def from_numcodecs(name, **config):
    """Return a codec of numcodecs for v3, which warns when it is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(in_v3, name)(**config)


# What create_array is given; the dtype fits the codec.
CASES = {
    "plain": ("<i4", {"compressors": None}),
    "zstd": ("<i4", {"compressors": ZstdCodec(level=3)}),
    "zstd-checksum": ("<f8", {"compressors": ZstdCodec(level=-5, checksum=True)}),
    "blosc-lz4": ("<i2", {"compressors": BloscCodec(cname="lz4", shuffle="shuffle")}),
    "blosc-zstd": ("<f4", {"compressors": BloscCodec(cname="zstd", shuffle="bitshuffle")}),
    "gzip-1": ("<i4", {"compressors": GzipCodec(level=1)}),
    "gzip-9": ("<i4", {"compressors": GzipCodec(level=9)}),
    "gzip-0": ("<i4", {"compressors": GzipCodec(level=0)}),
    "crc32c": ("<i4", {"compressors": Crc32cCodec()}),
    "zstd-crc32c": ("<i4", {"compressors": [ZstdCodec(), Crc32cCodec()]}),
    "crc32c-zstd": ("<i4", {"compressors": [Crc32cCodec(), ZstdCodec()]}),
    "gzip-blosc-zstd": ("<i4", {"compressors": [GzipCodec(), BloscCodec(typesize=1), ZstdCodec()]}),
    "big-endian": ("<i4", {"serializer": BytesCodec(endian="big")}),
    "big-endian-plain": ("<f8", {"serializer": BytesCodec(endian="big"), "compressors": None}),
    "transpose": ("<i4", {"filters": TransposeCodec(order=(1, 0))}),
    "transpose-plain": ("<i4", {"filters": TransposeCodec(order=(1, 0)), "compressors": None}),
    "transpose-big": (
        "<i4",
        {"filters": TransposeCodec(order=(1, 0)), "serializer": BytesCodec(endian="big")},
    ),
    "bool": ("bool", {}),
    "complex": ("<c16", {}),
    "half": ("<f2", {"serializer": BytesCodec(endian="big")}),
    "text": ("<U3", {}),
    "bytes": ("S5", {}),
    "time": ("<M8[ms]", {}),
    "records": ([("a", "<i2"), ("b", "<f8"), ("c", "S3")], {}),
    "v3-delta": ("<i4", {"filters": from_numcodecs("Delta", dtype="<i4")}),
    "v3-delta-astype": ("<i4", {"filters": from_numcodecs("Delta", dtype="<i4", astype="<i2")}),
    "v3-scale": (
        "<f8",
        {
            "filters": from_numcodecs(
                "FixedScaleOffset", offset=1, scale=10, dtype="<f8", astype="<i2"
            )
        },
    ),
    "v3-quantize": ("<f8", {"filters": from_numcodecs("Quantize", digits=3, dtype="<f8")}),
    "v3-bitround": ("<f4", {"filters": from_numcodecs("BitRound", keepbits=9)}),
    "v3-astype": (
        "<f8",
        {"filters": from_numcodecs("AsType", encode_dtype="<f4", decode_dtype="<f8")},
    ),
    "v3-packbits": ("bool", {"filters": from_numcodecs("PackBits")}),
    "v3-shuffle-zlib": (
        "<i4",
        {
            "compressors": [
                from_numcodecs("Shuffle", elementsize=4),
                from_numcodecs("Zlib", level=2),
            ]
        },
    ),
    "v3-bz2": ("<i4", {"compressors": from_numcodecs("BZ2", level=2)}),
    "v3-lzma": ("<i4", {"compressors": from_numcodecs("LZMA")}),
    "v3-lz4": ("<i4", {"compressors": from_numcodecs("LZ4")}),
    "v3-zstd": ("<i4", {"compressors": from_numcodecs("Zstd", level=2)}),
    "v3-blosc": ("<i4", {"compressors": from_numcodecs("Blosc", cname="zstd")}),
    "v3-gzip": ("<i4", {"compressors": from_numcodecs("GZip", level=2)}),
    "v3-fletcher32": ("<i4", {"compressors": from_numcodecs("Fletcher32")}),
    "v3-crc32": ("<i4", {"compressors": from_numcodecs("CRC32")}),
    "v2-plain": ("<i4", {**V2, "compressors": None}),
    "v2-zstd": ("<i4", {**V2, "compressors": numcodecs.Zstd(level=1)}),
    "v2-blosc": (">f8", {**V2, "compressors": numcodecs.Blosc()}),
    "v2-blosc-bit": ("<i2", {**V2, "compressors": numcodecs.Blosc(shuffle=-1)}),
    "v2-zlib": ("<i4", {**V2, "compressors": numcodecs.Zlib(level=3)}),
    "v2-gzip": ("<i4", {**V2, "compressors": numcodecs.GZip(level=3)}),
    "v2-bz2": ("<i4", {**V2, "compressors": numcodecs.BZ2(level=3)}),
    "v2-lzma": ("<i4", {**V2, "compressors": numcodecs.LZMA()}),
    "v2-lz4": ("<i4", {**V2, "compressors": numcodecs.LZ4()}),
    "v2-fortran": ("<i4", {**V2, "order": "F"}),
    "v2-fortran-plain": (">i4", {**V2, "order": "F", "compressors": None}),
    "v2-fortran-delta": ("<i4", {**V2, "order": "F", "filters": [numcodecs.Delta("<i4")]}),
    "v2-delta": ("<i4", {**V2, "filters": [numcodecs.Delta("<i4")]}),
    "v2-delta-plain": ("<i4", {**V2, "filters": [numcodecs.Delta("<i4")], "compressors": None}),
    "v2-shuffle": ("<i4", {**V2, "filters": [numcodecs.Shuffle(4)]}),
    "v2-scale": (
        "<f8",
        {**V2, "filters": [numcodecs.FixedScaleOffset(1, 10, dtype="<f8", astype="<i2")]},
    ),
    "v2-quantize": ("<f8", {**V2, "filters": [numcodecs.Quantize(3, "<f8")]}),
    "v2-packbits": ("bool", {**V2, "filters": [numcodecs.PackBits()]}),
    "v2-astype": ("<f8", {**V2, "filters": [numcodecs.AsType("<f4", "<f8")]}),
    "v2-two": ("<i4", {**V2, "filters": [numcodecs.Delta("<i4"), numcodecs.Shuffle(4)]}),
    "v2-crc32": ("<i4", {**V2, "filters": [numcodecs.CRC32()]}),
    "v2-big-endian": (">i4", V2),
    "v2-records": ([("a", ">i2"), ("b", "<f8")], V2),
    "v2-time": ("<m8[s]", V2),
    "v2-text": (">U3", V2),
}
SHARDED = {
    "end": {},
    "start": {"index_location": "start"},
    "no-checksum": {"index_codecs": [BytesCodec()]},
    "big-index": {"index_codecs": [BytesCodec(endian="big"), Crc32cCodec()]},
    "transposed": {"codecs": [TransposeCodec(order=(1, 0)), BytesCodec(), ZstdCodec()]},
    "plain": {"codecs": [BytesCodec(endian="big")]},
    "crc32c": {"codecs": [BytesCodec(), GzipCodec(level=1), Crc32cCodec()]},
    "nested": {
        "chunk_shape": (3, 10),
        "codecs": [ShardingCodec(chunk_shape=(3, 5), codecs=[BytesCodec(), ZstdCodec()])],
    },
    "nested-whole": {
        "chunk_shape": (3, 5),
        "codecs": [ShardingCodec(chunk_shape=(3, 5), codecs=[BytesCodec(), ZstdCodec()])],
    },
}


def sharded(**options):
    """Return what create_array is given for shards of one chunk."""
    inner = {"chunk_shape": (3, 5), "codecs": [BytesCodec(), ZstdCodec()], **options}
    return {"serializer": ShardingCodec(**inner), "compressors": None, "filters": None}


CASES |= {f"sharded-{name}": ("<i4", sharded(**given)) for name, given in SHARDED.items()}
CASES["sharded-zstd-behind"] = ("<i4", {**sharded(), "compressors": ZstdCodec()})
CASES["sharded-transposed-before"] = (
    "<i4",
    {**sharded(chunk_shape=(2, 2)), "filters": TransposeCodec(order=(1, 0))},
)


def values_of(dtype, seed=0):
    """Return values of a dtype that every filter of these tests gives back as they are."""
    dtype = np.dtype(dtype)
    small = np.random.default_rng(seed).integers(0, 100, SHAPE)
    if dtype.fields:
        out = np.zeros(SHAPE, dtype)
        for name in dtype.names:
            out[name] = small.astype(dtype[name])
        return out
    return small.astype(dtype)


def make(dtype, options, fill_value=0, shape=SHAPE):
    """Return an array of one chunk in memory, and its store."""
    store = zarr.storage.MemoryStore()
    if np.dtype(dtype).kind in "VSUM":
        fill_value = None
    array = zarr.create_array(
        store, shape=shape, chunks=shape, dtype=dtype, fill_value=fill_value, **options
    )
    return array, store


def chain_for(array, **options):
    """Return the chain of an array."""
    dtype = np.dtype(array.dtype)
    fill = Fill(array.metadata.fill_value, dtype)
    return chain_of(array.metadata.to_dict(), dtype, fill, **options)


def stored(store, array):
    """Return the bytes of the first object, None where it is not stored."""
    key = array.metadata.encode_chunk_key((0,) * array.ndim)
    found = sync(store.get(key, default_buffer_prototype()))
    return None if found is None else np.frombuffer(found.to_bytes(), np.uint8)


def put(store, array, payload):
    """Store bytes as the first object."""
    key = array.metadata.encode_chunk_key((0,) * array.ndim)
    buffer = default_buffer_prototype().buffer.from_bytes(as_bytes(payload).tobytes())
    sync(store.set(key, buffer))


@pytest.mark.parametrize(("dtype", "options"), CASES.values(), ids=CASES)
def test_decodes_what_zarr_encoded(dtype, options):
    """An object that zarr-python stored comes back as the chunk."""
    array, store = make(dtype, options)
    array[...] = values = values_of(dtype)
    out = np.empty(SHAPE, array.dtype)
    chain_for(array).decode(stored(store, array), out, Workspace())
    np.testing.assert_array_equal(out, values)
    np.testing.assert_array_equal(out, array[...])


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize(("dtype", "options"), CASES.values(), ids=CASES)
def test_zarr_decodes_what_is_encoded(dtype, options, layout):
    """zarr-python reads an object that lazyio encoded from a chunk of any strides."""
    array, store = make(dtype, options)
    values = values_of(dtype).astype(array.dtype)
    chunk = np.asfortranarray(values) if layout == "F" else values
    if layout == "strided":
        chunk = np.repeat(values, 2, axis=1)[:, ::2]
    put(store, array, chain_for(array).encode(chunk, Workspace()))
    np.testing.assert_array_equal(array[...], values)


@given(
    case=st.sampled_from(sorted(CASES)),
    kind=st.sampled_from(["zeros", "ramp", "noise", "half"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=300, deadline=None)
def test_round_trip(case, kind, seed):
    """Chunks of any content come back, with one workspace for both ways."""
    dtype, options = CASES[case]
    array, _ = make(dtype, options)
    values = values_of(dtype, seed).astype(array.dtype)
    if kind == "zeros":
        values = np.zeros_like(values)
    elif kind == "ramp" and values.dtype.kind in "iuf":
        values = np.arange(values.size, dtype=values.dtype).reshape(SHAPE)
    elif kind == "half":
        values[:3] = np.zeros((), values.dtype)
    chain, workspace = chain_for(array), Workspace()
    payload = as_bytes(chain.encode(values, workspace)).copy()
    pieces = [piece.tobytes() for piece in chain.pieces(values, workspace)]
    assert b"".join(pieces) == payload.tobytes() or (chain.shard and not pieces)
    out = np.empty_like(values, order="C")
    chain.decode(payload, out, workspace)
    assert out.tobytes() == values.tobytes()


@pytest.mark.parametrize("name", ["zstd-checksum", "gzip-9", "crc32c", "v2-zlib", "sharded-end"])
def test_damage_is_seen(name):
    """Every flipped byte of an object that is checked raises; nothing else happens."""
    dtype, options = CASES[name]
    array, _ = make(dtype, options)
    values, chain = values_of(dtype), chain_for(array)
    payload = as_bytes(chain.encode(values, Workspace())).copy()
    outcomes = []
    for at in range(payload.size):
        damaged = payload.copy()
        damaged[at] ^= 0x41
        out = np.empty_like(values)
        try:
            chain.decode(damaged, out, Workspace())
            outcomes.append((out == values).all())
        except (ValueError, RuntimeError):
            outcomes.append(None)
    # Of gzip's header some bytes are free to be anything; inner chunks have no checksum here.
    if name == "sharded-end":
        assert outcomes[-68:] == [None] * 68
    else:
        assert False not in outcomes
        assert sum(outcome is None for outcome in outcomes) > 0.8 * len(outcomes)


@pytest.mark.parametrize("nbytes", [0, 1, 3, 7])
@pytest.mark.parametrize("name", [name for name in CASES if "plain" in name or "sharded" in name])
def test_objects_that_are_too_short(name, nbytes):
    """An object of a few bytes is refused, whatever its codecs."""
    array, _ = make(*CASES[name])
    out = np.empty(SHAPE, array.dtype)
    with pytest.raises((ValueError, RuntimeError, ZeroDivisionError, IndexError), match=r"\w"):
        chain_for(array).decode(np.zeros(nbytes, np.uint8), out, Workspace())


def test_gzip_of_several_members():
    """A gzip object may be several, one after another, as Python's own module writes them."""
    array, _ = make("<i4", CASES["gzip-9"][1])
    values = values_of("<i4")
    raw = values.tobytes()
    members = [numcodecs.GZip().encode(raw[:100]), numcodecs.GZip().encode(raw[100:])]
    out = np.empty_like(values)
    chain_for(array).decode(np.frombuffer(b"".join(members), np.uint8), out, Workspace())
    np.testing.assert_array_equal(out, values)


def test_no_copy_where_nothing_is_to_be_done():
    """A chunk that is stored as it is, is what is written."""
    array, _ = make("<i4", {"compressors": None})
    values = values_of("<i4")
    assert np.shares_memory(chain_for(array).encode(values, Workspace()), values)


@pytest.mark.parametrize(
    "codec",
    [
        {"name": "no-such-codec"},
        {"name": "vlen-utf8"},
        {"name": "numcodecs.pickle", "configuration": {}},
        {"name": "numcodecs.zfpy", "configuration": {}},
        {"name": "numcodecs.delta", "configuration": {"no": "such option"}},
        {"name": "transpose", "configuration": {"order": "F"}},
        {"name": "transpose", "configuration": {"order": (0, 0)}},
        {"name": "blosc", "configuration": {"shuffle": "odd"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["first", "last", "inner"])
def test_unknown_codecs_are_left_to_zarr(codec, where):
    """One codec that is not known is enough."""
    array, _ = make("<i4", sharded())
    metadata = array.metadata.to_dict()
    shard = metadata["codecs"][0]
    if where == "inner":
        shard = {**shard, "configuration": {**shard["configuration"], "codecs": [codec]}}
        metadata["codecs"] = [shard]
    else:
        metadata["codecs"] = [codec, shard] if where == "first" else [shard, codec]
    assert chain_of(metadata, np.dtype("<i4"), Fill(0, np.dtype("<i4"))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_grid": {"name": "rectilinear", "configuration": {}}},
        {"storage_transformers": ({"name": "anything"},)},
        {"codecs": ()},
    ],
    ids=str,
)
def test_unknown_metadata_is_left_to_zarr(change):
    """Another grid, transformers, no codecs: not ours."""
    array, _ = make("<i4", {})
    metadata = array.metadata.to_dict() | change
    assert chain_of(metadata, np.dtype("<i4"), Fill(0, np.dtype("<i4"))) is None


def test_unknown_codecs_of_v2_are_left_to_zarr():
    """A codec that unpickles is not even made."""
    array, _ = make("<i4", V2)
    for change in ({"compressor": {"id": "pickle"}}, {"filters": [{"id": "no-such"}]}):
        metadata = array.metadata.to_dict() | change
        assert chain_of(metadata, np.dtype("<i4"), Fill(0, np.dtype("<i4"))) is None


def test_big_endian_records_are_left_to_zarr():
    """Fields of another byte order have no form of ours."""
    dtype = np.dtype([("a", ">i2"), ("b", "<f8")])
    array, _ = make([("a", "<i2"), ("b", "<f8")], {})
    assert chain_of(array.metadata.to_dict(), dtype, Fill(None, dtype)) is None


@pytest.mark.parametrize("keep_empty", [False, True], ids=["left-out", "stored"])
@pytest.mark.parametrize("index_location", ["start", "end"])
def test_inner_chunks_of_fill_value(keep_empty, index_location):
    """They are left out of a shard unless asked for; zarr-python reads both."""
    array, store = make("<i4", sharded(index_location=index_location), fill_value=7)
    values = np.full(SHAPE, 7, "<i4")
    values[3:, :5] = 1
    chain = chain_for(array, keep_empty=keep_empty)
    payload = as_bytes(chain.encode(values, Workspace()))
    put(store, array, payload)
    np.testing.assert_array_equal(array[...], values)
    index = payload[:64] if index_location == "start" else payload[-68:-4]
    entries = index.view("<u8").reshape(4, 2)
    n_missing = (entries == 2**64 - 1).all(axis=1).sum()
    assert n_missing == (0 if keep_empty else 3)


@pytest.mark.parametrize("index_location", ["start", "end"])
def test_pieces_of_a_shard(index_location):
    """One for each inner chunk and the index, in the order of the file; none if all is fill."""
    array, store = make("<i4", sharded(index_location=index_location))
    chain, values = chain_for(array), values_of("<i4")
    pieces = [piece.copy() for piece in chain.shard.pieces(values, Workspace())]
    assert len(pieces) == 5
    put(store, array, np.concatenate(pieces))
    np.testing.assert_array_equal(array[...], values)
    assert not [*chain.shard.pieces(np.zeros_like(values), Workspace())]


@pytest.mark.parametrize("name", [*(name for name in CASES if name.startswith("sharded-"))])
def test_parts_of_a_shard(name):
    """Any part of a shard is read by its index; where it is not, the chain says so."""
    array, store = make(*CASES[name])
    array[...] = values = values_of("<i4")
    payload, chain = stored(store, array), chain_for(array)
    if name in ("sharded-zstd-behind", "sharded-transposed-before"):
        assert chain.shard is None
        return
    for region in np.ndindex(4, 5):
        part = tuple(slice(at, at + 3) for at in region)
        out = np.empty((3, 3), "<i4")
        chain.shard.read(
            lambda offset, nbytes: payload[offset : offset + nbytes],
            payload.size,
            part,
            out,
            Workspace(),
        )
        np.testing.assert_array_equal(out, values[part])


def test_numcodecs_is_not_needed_to_say_no(monkeypatch):
    """Without numcodecs its codecs are left to zarr."""
    array, _ = make("<i4", V2)
    monkeypatch.setattr("lazyio.codecs.zarr_codecs.optional", lambda _: None)
    assert chain_for(array) is None


def test_checksums_without_their_library(monkeypatch):
    """Without google-crc32c chunks and indexes that are checked are left to zarr."""
    checked, _ = make("<i4", {"compressors": Crc32cCodec()})
    shard, _ = make("<i4", sharded())
    assert isinstance(chain_for(checked), Chain)
    monkeypatch.setattr("lazyio.codecs.zarr_codecs.optional", lambda _: None)
    assert chain_for(checked) is None
    assert chain_for(shard) is None


@pytest.mark.parametrize("name", ["gzip", "zlib", "bz2", "lzma", "lz4", "zstd", "blosc"])
def test_a_bomb_is_not_unpacked(name):
    """However a payload unpacks, no more is taken than the chunk may have."""
    codec = numcodec(name, {})
    payload = np.frombuffer(numcodecs.get_codec({"id": name}).encode(bytes(10**7)), np.uint8)
    assert decode_at_most(codec, payload, 10**7).size == 10**7
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 100000 bytes"):
            decode_at_most(codec, payload, 100_000)
        # lzma has a dictionary of 8 MiB.
        assert tracemalloc.get_traced_memory()[1] < 9 * 10**6
    finally:
        tracemalloc.stop()
    if name in ("gzip", "bz2"):
        twice = np.concatenate([payload, payload])
        assert decode_at_most(codec, twice, 2 * 10**7).size == 2 * 10**7
