"""What a stock h5py stored is decoded outside libhdf5; damage is seen."""

import contextlib
import struct
import tracemalloc

import h5py
import hdf5plugin
import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.codecs import zstd
from lazyio.codecs.hdf5_chunks import decoder_for, encoder_for
from lazyio.codecs.hdf5_filters import Filter, parse_filters
from lazyio.codecs.workspace import Workspace

CODECS = {
    "none": {},
    "gzip-1": {"compression": "gzip", "compression_opts": 1},
    "gzip-9": {"compression": "gzip", "compression_opts": 9},
    "zstd": {**hdf5plugin.Zstd(clevel=3)},
    "blosc-lz4": {**hdf5plugin.Blosc()},
    "blosc-zstd-bit": {**hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=2)},
    "blosc-blosclz": {**hdf5plugin.Blosc(cname="blosclz", clevel=5, shuffle=0)},
    "lz4": {**hdf5plugin.LZ4()},
    "lz4-blocks": {**hdf5plugin.LZ4(nbytes=300)},
    "lzf": {"compression": "lzf"},
    "bitshuffle": {**hdf5plugin.Bitshuffle(cname="none")},
    "bitshuffle-lz4": {**hdf5plugin.Bitshuffle()},
    "bitshuffle-lz4-blocks": {**hdf5plugin.Bitshuffle(nelems=16)},
    "bitshuffle-zstd": {**hdf5plugin.Bitshuffle(cname="zstd", clevel=1)},
}
COMPRESSED = [name for name in CODECS if name not in ("none", "bitshuffle")]
DTYPES = ["u1", "i2", ">f4", "f8", "c16", "S7", [("a", "<i4"), ("b", "<f8")]]
SHAPE = (24, 17)
SAID = r"\w"
"""Whatever the codec's library says of it."""


def smooth(shape, dtype):
    """Return an array that compresses, of which no two planes are alike."""
    itemsize = np.dtype(dtype).itemsize
    count = np.arange(int(np.prod(shape)) * itemsize) // 5 % 100
    return count.astype("u1").view(dtype).reshape(shape)


def filters_of(chunk, keywords):
    """Return the filters of keywords for a chunk as libhdf5 describes them in a file."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "data", chunk.shape, chunk.dtype, chunks=chunk.shape, **keywords
        )
        settings = dataset.id.get_create_plist()
        pipeline = [settings.get_filter(at) for at in range(settings.get_nfilters())]
    return tuple(Filter(filter_id=number, options=tuple(opts)) for number, _, opts, _ in pipeline)


def stored_by_h5py(chunk, keywords):
    """Return the payload and the mask that libhdf5 stores."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", data=chunk, chunks=chunk.shape, **keywords)
        mask, payload = dataset.id.read_direct_chunk((0,) * chunk.ndim)
        return np.frombuffer(payload, np.uint8), mask


def encoded(chunk, keywords):
    """Return the payload and the mask as lazyio encodes a chunk, and the file's filters."""
    facts = {"dtype": chunk.dtype, "chunk_nbytes": chunk.nbytes}
    filters = parse_filters(**{"compression": None, **keywords}, **facts)
    payload, mask = encoder_for(filters, chunk.dtype.itemsize).encode(chunk, Workspace())
    return np.frombuffer(bytes(payload), np.uint8), mask, filters_of(chunk, keywords)


def decode(payload, mask, filters, itemsize, nbytes):
    """Return the bytes that a payload decodes to."""
    out = np.full(nbytes, 7, np.uint8)
    decoder_for(filters, itemsize).decode(payload, mask, out)
    return out.tobytes()


@pytest.mark.parametrize("fletcher32", [False, True], ids=["plain", "fletcher32"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_h5py_stored(dtype, codec, shuffle, fletcher32):
    """Every codec with and without shuffle and checksum is decoded to the chunk."""
    keywords = {**codec, "shuffle": shuffle, "fletcher32": fletcher32}
    chunk = smooth(SHAPE, dtype)
    payload, mask = stored_by_h5py(chunk, keywords)
    found = decode(payload, mask, filters_of(chunk, keywords), chunk.dtype.itemsize, chunk.nbytes)
    assert found == chunk.tobytes()


@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(["u1", "i2", ">f4", "f8", "S5"]),
    codec=st.sampled_from(sorted(CODECS)),
    shuffle=st.booleans(),
    fletcher32=st.booleans(),
    n_values=st.integers(1, 256),
    seed=st.integers(0, 99),
)
@settings(max_examples=250, deadline=None)
def test_inverse_of_encoding(shape, dtype, codec, shuffle, fletcher32, n_values, seed):
    """What lazyio encodes, incompressible or not, it decodes to the same bytes."""
    keywords = {**CODECS[codec], "shuffle": shuffle, "fletcher32": fletcher32}
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    values = np.random.default_rng(seed).integers(0, n_values, nbytes, np.uint8)
    chunk = values.view(dtype).reshape(shape)
    payload, mask, filters = encoded(chunk, keywords)
    found = decode(payload, mask, filters, chunk.dtype.itemsize, nbytes)
    assert found == values.tobytes()


@pytest.mark.parametrize("fletcher32", [False, True], ids=["plain", "fletcher32"])
@pytest.mark.parametrize("n_masked", range(4))
def test_masks_are_honoured(n_masked, fletcher32):
    """Filters whose bit is set were not applied, alone and together."""
    chunk = smooth(SHAPE, "f4")
    keywords = {**CODECS["gzip-1"], "shuffle": True, "fletcher32": fletcher32}
    filters = filters_of(chunk, keywords)
    skipped = [bool(n_masked & 1), bool(n_masked & 2)]
    applied = [step for step, skip in zip(filters, skipped, strict=False) if not skip]
    applied += [step for step in filters if step.name == "fletcher32"]
    payload, none = encoder_for(tuple(applied), 4).encode(chunk, Workspace())
    assert none == 0
    payload = np.frombuffer(bytes(payload), np.uint8)
    assert decode(payload, n_masked, filters, 4, chunk.nbytes) == chunk.tobytes()


def test_mask_without_the_checksum():
    """A checksum that was left out is neither stripped nor tested."""
    chunk = smooth(SHAPE, "f4")
    filters = filters_of(chunk, {"fletcher32": True})
    payload = chunk.reshape(-1).view(np.uint8)
    assert decode(payload, 1, filters, 4, chunk.nbytes) == chunk.tobytes()


@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_checksum_sees_every_flipped_byte(codec, shuffle):
    """With a checksum no changed byte of the payload gets through."""
    keywords = {**codec, "shuffle": shuffle, "fletcher32": True}
    chunk = smooth(SHAPE, "f4")
    payload, mask, filters = encoded(chunk, keywords)
    for at in range(0, payload.size, max(1, payload.size // 60)):
        damaged = payload.copy()
        damaged[at] ^= 0x41
        with pytest.raises(ValueError, match="its Fletcher checksum is wrong"):
            decode(damaged, mask, filters, 4, chunk.nbytes)


@pytest.mark.parametrize("nbytes", range(4))
def test_payload_shorter_than_its_checksum(nbytes):
    """A payload of less than a checksum is refused."""
    filters = (Filter(filter_id=3),)
    with pytest.raises(ValueError, match="too short for its checksum"):
        decode(np.zeros(nbytes, np.uint8), 0, filters, 1, 10)


@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", ["gzip-1", "gzip-9"])
def test_zlib_streams_see_every_flipped_byte(codec, shuffle):
    """A zlib stream's own checksum is tested; what fails is a ``ValueError``."""
    chunk = smooth(SHAPE, "f4")
    payload, mask, filters = encoded(chunk, {**CODECS[codec], "shuffle": shuffle})
    outcomes = set()
    for at in range(2, payload.size, max(1, payload.size // 60)):
        damaged = payload.copy()
        damaged[at] ^= 0x41
        try:
            found = decode(damaged, mask, filters, 4, chunk.nbytes)
            # The last bits before the stream's checksum are padding.
            outcomes.add("same" if found == chunk.tobytes() else "different")
        except ValueError:
            outcomes.add("refused")
    assert outcomes - {"same"} == {"refused"}


@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", COMPRESSED)
def test_damaged_headers(codec, shuffle):
    """A stream whose first bytes are not its codec's is a ``ValueError``."""
    chunk = smooth(SHAPE, "f4")
    payload, mask, filters = encoded(chunk, {**CODECS[codec], "shuffle": shuffle})
    damaged = payload.copy()
    damaged[:4] = 0xEE
    with pytest.raises(ValueError, match=SAID):
        decode(damaged, mask, filters, 4, chunk.nbytes)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99], ids=["none", "header", "half", "most"])
@pytest.mark.parametrize("codec", CODECS)
def test_truncated_payloads(codec, keep):
    """A payload that was cut short is a ``ValueError``, and nothing beyond it is read."""
    chunk = smooth((48, 34), "f4")
    payload, mask, filters = encoded(chunk, {**CODECS[codec]})
    # A part of the whole payload: a decoder that reads on would find what was cut.
    short = payload[: int(payload.size * keep)]
    with pytest.raises(ValueError, match=SAID):
        decode(short, mask, filters, 4, chunk.nbytes)


@pytest.mark.parametrize("change", [-4, 4, 400], ids=["less", "more", "much-more"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", CODECS)
def test_payloads_of_another_length(codec, shuffle, change):
    """What decodes to more or fewer bytes than a chunk has is a ``ValueError``."""
    chunk = smooth(SHAPE, "f4")
    payload, mask, filters = encoded(chunk, {**CODECS[codec], "shuffle": shuffle})
    with pytest.raises(ValueError, match=SAID):
        decode(payload, mask, filters, 4, chunk.nbytes + change)


def claims(codec, n_claimed):
    """Return a payload that decodes to many zeros, or says so."""
    zeros = np.zeros(n_claimed, np.uint8)
    if codec == "zstd":
        return numcodecs.Zstd().encode(zeros), (Filter(filter_id=32015),)
    if codec == "blosc":
        buffer = numcodecs.Blosc("lz4").encode(zeros)
        assert struct.unpack("<I", bytes(buffer[4:8])) == (n_claimed,)
        return buffer, (Filter(filter_id=32001),)
    return numcodecs.Zlib(9).encode(zeros), (Filter(filter_id=1, options=(9,)),)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "blosc"])
def test_sizes_are_checked_before_allocation(codec):
    """A payload that claims to be far larger than a chunk is refused unseen."""
    buffer, filters = claims(codec, 2**25)
    payload = np.frombuffer(buffer, np.uint8)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=SAID):
            decode(payload, 0, filters, 1, 4000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("codec", ["lz4-blocks", "bitshuffle-lz4-blocks", "bitshuffle-zstd"])
def test_every_flipped_byte_is_survived(codec):
    """Sizes inside a payload are not believed: damage gives wrong bytes or an error."""
    chunk = smooth(SHAPE, "f4")
    payload, mask, filters = encoded(chunk, CODECS[codec])
    for at in range(payload.size):
        damaged = payload.copy()
        damaged[at] ^= 0xFF
        with contextlib.suppress(ValueError):
            assert len(decode(damaged, mask, filters, 4, chunk.nbytes)) == chunk.nbytes


@pytest.mark.parametrize("codec", ["lz4", "bitshuffle-lz4"])
def test_blocks_of_a_size_that_cannot_be(codec):
    """Blocks of no bytes, or of no whole elements, are refused."""
    chunk = smooth(SHAPE, "f4")
    payload, mask, filters = encoded(chunk, CODECS[codec])
    for n_claimed in (0, 30):
        damaged = payload.copy()
        damaged[8:12].view(">u4")[0] = n_claimed
        with pytest.raises(ValueError, match=r"blocks of|cut short|lz4|LZ4"):
            decode(damaged, mask, filters, 4, chunk.nbytes)


@pytest.mark.parametrize("codec", ["gzip-1", "zstd", "blosc-lz4", "lz4", "lzf", "bitshuffle-lz4"])
def test_one_workspace_for_many_chunks(codec):
    """Chunks of differing sizes are decoded in the same memory, one after another."""
    workspace = Workspace()
    for n_rows in (40, 3, 24, 40):
        for dtype in ("f8", "i2", "S3"):
            chunk = smooth((n_rows, 17), dtype)
            keywords = {**CODECS[codec], "shuffle": True, "fletcher32": True}
            payload, mask, filters = encoded(chunk, keywords)
            out = np.full(chunk.nbytes, 7, np.uint8)
            decoder_for(filters, chunk.dtype.itemsize).decode(payload, mask, out, workspace)
            assert out.tobytes() == chunk.tobytes()


@pytest.mark.parametrize(
    "steps",
    [
        {4: ()},
        {307: ()},
        {1: (), 2: ()},
        {3: (), 2: ()},
        {1: (), 32015: ()},
        # Options that are not those of this bitshuffle: of older ones, of other elements.
        {32008: ()},
        {32008: (0, 4, 8, 0, 2)},
        {32008: (0, 4, 2, 12, 2)},
        {32008: (0, 4, 2, 0, 1)},
    ],
    ids=str,
)
def test_left_to_libhdf5(steps):
    """Filters that lazyio does not undo, and a shuffle that is not first, are libhdf5's."""
    filters = tuple(Filter(filter_id=number, options=opts) for number, opts in steps.items())
    assert decoder_for(filters, 2) is None


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {1: ()},
        {2: (), 1: ()},
        {2: (), 1: (), 3: ()},
        {2: (), 32015: (), 3: ()},
        {32001: ()},
        {3: ()},
        {2: ()},
        {32000: ()},
        {2: (), 32004: ()},
        {32008: (0, 4, 2, 0, 2), 3: ()},
        {32008: (0, 4, 2)},
    ],
    ids=str,
)
def test_undone_here(steps):
    """Shuffle, checksums and each codec of ours are undone outside libhdf5."""
    filters = tuple(Filter(filter_id=number, options=opts) for number, opts in steps.items())
    assert decoder_for(filters, 2) is not None


def test_a_zstd_frame_that_hides_its_size_is_no_bomb():
    """Runs of 128 KiB in four bytes each are refused before they are decoded."""
    block = (128 * 2**10 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + 8000 * block
    with pytest.raises(ValueError, match="may hold"):
        zstd.decompress(np.frombuffer(frame, np.uint8), np.empty(1000, np.uint8))
