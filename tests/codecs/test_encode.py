"""What is encoded outside libhdf5 is read back by a stock h5py."""

import io
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.codecs.hdf5_chunks import encoder_for
from lazyio.codecs.hdf5_filters import Filter, as_given, parse_filters
from lazyio.codecs.workspace import Workspace

CODECS = {
    "none": {},
    "gzip-0": {"compression": "gzip", "compression_opts": 0},
    "gzip-1": {"compression": "gzip", "compression_opts": 1},
    "gzip-4": {"compression": "gzip", "compression_opts": 4},
    "gzip-9": {"compression": "gzip", "compression_opts": 9},
    "zstd-1": {**hdf5plugin.Zstd(clevel=1)},
    "zstd-fast": {**hdf5plugin.Zstd(clevel=-5)},
    "blosc-lz4": {**hdf5plugin.Blosc()},
    "blosc-zstd-bit": {**hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=2)},
    "blosc-zlib-none": {**hdf5plugin.Blosc(cname="zlib", clevel=9, shuffle=0)},
    "blosc-blosclz": {**hdf5plugin.Blosc(cname="blosclz", clevel=5)},
    "lz4": {**hdf5plugin.LZ4()},
    "lz4-blocks": {**hdf5plugin.LZ4(nbytes=300)},
    "lzf": {"compression": "lzf"},
    "bitshuffle": {**hdf5plugin.Bitshuffle(cname="none")},
    "bitshuffle-lz4": {**hdf5plugin.Bitshuffle()},
    "bitshuffle-lz4-blocks": {**hdf5plugin.Bitshuffle(nelems=16)},
    "bitshuffle-zstd": {**hdf5plugin.Bitshuffle(cname="zstd", clevel=1)},
}
DTYPES = ["u1", "i2", ">i2", ">f4", "f8", "c16", "S7", "bool", [("a", "<i4"), ("b", "<f8")]]
SHAPE = (24, 17)


def smooth(shape, dtype):
    """Return an array that compresses."""
    dtype = np.dtype(dtype)
    count = np.arange(int(np.prod(shape))) // 5 % 100
    if dtype.fields:
        array = np.zeros(shape, dtype)
        for name in dtype.names:
            array[name] = count.reshape(shape)
        return array
    return count.reshape(shape).astype(dtype)


def noise(shape, dtype, seed=0):
    """Return random bytes as an array."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, nbytes, np.uint8).view(dtype).reshape(shape)


def encode(chunk, keywords, workspace=None):
    """Return the payload and the mask of a chunk."""
    facts = {"dtype": chunk.dtype, "chunk_nbytes": chunk.nbytes}
    filters = parse_filters(**{"compression": None, **keywords}, **facts)
    encoder = encoder_for(filters, chunk.dtype.itemsize)
    return encoder.encode(chunk, workspace or Workspace())


def read_back(chunk, keywords, payload, mask):
    """Return what h5py reads of a chunk that is stored as a payload."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        dataset = file.create_dataset(
            "data", chunk.shape, chunk.dtype, chunks=chunk.shape, **keywords
        )
        dataset.id.write_direct_chunk((0,) * chunk.ndim, bytes(payload), filter_mask=mask)
    # Opened again: libhdf5 2.0 forgets the mask of the last chunk written through a handle.
    with h5py.File(buffer, "r") as file:
        return file["data"][()]


@pytest.mark.parametrize("fletcher32", [False, True], ids=["plain", "fletcher32"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_h5py_reads_it(dtype, codec, shuffle, fletcher32):
    """Every codec with and without shuffle and checksum is read back equal."""
    keywords = {**codec, "shuffle": shuffle, "fletcher32": fletcher32}
    chunk = smooth(SHAPE, dtype)
    payload, mask = encode(chunk, keywords)
    expected = chunk.astype("S7") if chunk.dtype.kind == "S" else chunk
    np.testing.assert_array_equal(read_back(chunk, keywords, payload, mask), expected)


@pytest.mark.parametrize("codec", ["gzip-4", "zstd-1", "blosc-lz4", "blosc-zstd-bit"])
def test_smooth_chunks_shrink(codec):
    """What compresses is compressed, with no filter left out."""
    chunk = smooth((100, 100), "i4")
    payload, mask = encode(chunk, {**CODECS[codec], "shuffle": True})
    assert mask == 0
    assert len(payload) < chunk.nbytes / 4


@pytest.mark.parametrize("fletcher32", [False, True], ids=["plain", "fletcher32"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", ["gzip-0", "gzip-1", "gzip-4", "zstd-1"])
def test_incompressible_chunks_use_the_mask(codec, shuffle, fletcher32):
    """A chunk that does not shrink is stored as it is, the codec masked out."""
    keywords = {**CODECS[codec], "shuffle": shuffle, "fletcher32": fletcher32}
    chunk = noise(SHAPE, "f8")
    payload, mask = encode(chunk, keywords)
    assert mask == (2 if shuffle else 1)
    assert len(payload) == chunk.nbytes + 4 * fletcher32
    np.testing.assert_array_equal(
        read_back(chunk, keywords, payload, mask).view("u8"), chunk.view("u8")
    )


@pytest.mark.parametrize("codec", ["blosc-lz4", "blosc-zstd-bit"])
def test_incompressible_chunks_stay_blosc_buffers(codec):
    """Blosc stores what it cannot shrink in a buffer of its own, so nothing is masked."""
    chunk = noise(SHAPE, "u8")
    payload, mask = encode(chunk, CODECS[codec])
    assert mask == 0
    assert len(payload) == chunk.nbytes + 16
    np.testing.assert_array_equal(read_back(chunk, CODECS[codec], payload, mask), chunk)


VIEWS = {
    "columns": lambda a: a[:, 5:22],
    "box": lambda a: a[3:19, 4:20],
    "transposed": lambda a: a.T,
    "steps": lambda a: a[::2, ::3],
    "backwards": lambda a: a[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[0], (9, a.shape[1])),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
@pytest.mark.parametrize("codec", ["none", "gzip-1", "zstd-1", "blosc-lz4"])
def test_strided_chunks(codec, shuffle, view):
    """A part of a block in any strides is stored in C order."""
    keywords = {**CODECS[codec], "shuffle": shuffle}
    chunk = view(noise((24, 30), "u4") % 50)
    payload, mask = encode(chunk, keywords)
    np.testing.assert_array_equal(read_back(chunk, keywords, payload, mask), chunk)


@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(["u1", "i2", ">f4", "f8", "c16", "S5"]),
    codec=st.sampled_from(sorted(CODECS)),
    shuffle=st.booleans(),
    fletcher32=st.booleans(),
    n_values=st.integers(1, 256),
    seed=st.integers(0, 99),
)
@settings(max_examples=250, deadline=None)
def test_any_chunk(shape, dtype, codec, shuffle, fletcher32, n_values, seed):
    """Chunks of any shape and content, small and incompressible ones too, come back."""
    keywords = {**CODECS[codec], "shuffle": shuffle, "fletcher32": fletcher32}
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    values = np.random.default_rng(seed).integers(0, n_values, nbytes, np.uint8)
    chunk = values.view(dtype).reshape(shape)
    payload, mask = encode(chunk, keywords)
    assert read_back(chunk, keywords, payload, mask).tobytes() == chunk.tobytes()


@pytest.mark.parametrize("itemsize", [255, 256, 300])
@pytest.mark.parametrize("codec", ["gzip-4", "zstd-1", "blosc-lz4"])
def test_wide_elements(codec, itemsize):
    """Elements wider than blosc's header counts are encoded, too."""
    chunk = smooth((50,), f"S{itemsize}")
    payload, mask = encode(chunk, {**CODECS[codec], "shuffle": True})
    found = read_back(chunk, {**CODECS[codec], "shuffle": True}, payload, mask)
    np.testing.assert_array_equal(found, chunk)


def test_one_workspace_for_many_chunks():
    """Chunks of different sizes, codecs and dtypes after each other do not mix."""
    workspace = Workspace()
    for dtype in ("f8", "u1", "i2"):
        for codec in ("none", "zstd-1", "gzip-4"):
            for n_rows in (24, 3, 11):
                keywords = {**CODECS[codec], "shuffle": True, "fletcher32": True}
                chunk = smooth((n_rows, 17), dtype)[:, ::2]
                payload, mask = encode(chunk, keywords, workspace)
                found = read_back(chunk, keywords, payload, mask)
                np.testing.assert_array_equal(found, chunk)


def test_the_chunk_is_left_alone():
    """Encoding reads a chunk that may not be written."""
    chunk = smooth(SHAPE, "f4")
    chunk.flags.writeable = False
    before = chunk.tobytes()
    for codec in CODECS.values():
        encode(chunk, {**codec, "shuffle": True, "fletcher32": True})
    assert chunk.tobytes() == before


@pytest.mark.parametrize("level", range(2, 10))
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffle"])
def test_gzip_is_no_larger_than_h5pys(level, shuffle):
    """From level 2 on the size is that of h5py's chunk, or less, within 1 %."""
    rng = np.random.default_rng(8)
    walk = rng.normal(0, 5, (2000, 64)).cumsum(0)
    chunk = (walk + rng.normal(0, 3, walk.shape)).astype("i2")
    keywords = {"compression": "gzip", "compression_opts": level, "shuffle": shuffle}
    payload, mask = encode(chunk, keywords)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", data=chunk, chunks=chunk.shape, **keywords)
        stored = dataset.id.get_storage_size()
    assert mask == 0
    assert len(payload) <= 1.01 * stored
    assert len(zlib.decompress(payload)) == chunk.nbytes


SAME_LIBRARY = [name for name in CODECS if name.startswith(("lz", "bitshuffle"))]


@pytest.mark.parametrize("content", [smooth, noise], ids=["smooth", "noise"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f8", "S7", [("a", "<i4"), ("b", "<f8")]], ids=str)
@pytest.mark.parametrize("codec", SAME_LIBRARY)
def test_payload_is_that_of_libhdf5(codec, dtype, content):
    """Where the library is the filter's own, payload and mask are the same to the byte."""
    chunk = content((45, 37), dtype)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", data=chunk, chunks=chunk.shape, **CODECS[codec])
        expected = dataset.id.read_direct_chunk((0, 0))
    payload, mask = encode(chunk, CODECS[codec])
    assert (mask, bytes(payload)) == expected


@pytest.mark.parametrize(
    ("codec", "masked"), [("lzf", 1), ("lz4", 0), ("lz4-blocks", 0), ("bitshuffle-lz4", 0)]
)
def test_incompressible_chunks_by_each_filters_rule(codec, masked):
    """LZF goes under its mask bit, LZ4 and bitshuffle store inside their own payload."""
    chunk = noise((300, 40), "u8")
    payload, mask = encode(chunk, CODECS[codec])
    assert mask == masked
    assert len(payload) >= chunk.nbytes
    np.testing.assert_array_equal(read_back(chunk, CODECS[codec], payload, mask), chunk)


@pytest.mark.parametrize(
    "compression",
    ["szip", "nbit", "scaleoffset", hdf5plugin.BZip2(), hdf5plugin.Zfp()],
    ids=str,
)
def test_left_to_libhdf5(compression):
    """Filters that lazyio does not encode are left to libhdf5."""
    filters = parse_filters(compression, dtype=np.dtype("i2"), chunk_nbytes=2000)
    assert encoder_for(filters, 2) is None


@pytest.mark.parametrize("options", [(12, 2), (0, 1)], ids=["block", "codec"])
def test_bitshuffle_that_cannot_be_is_left_to_libhdf5(options):
    """Options that the filter refuses are left to libhdf5, which says so."""
    filters = parse_filters(32008, options, dtype=np.dtype("i2"), chunk_nbytes=2000)
    assert encoder_for(filters, 2) is None


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_filters_as_a_file_describes_them(codec):
    """An existing dataset is added to with the filters that its file names."""
    chunk = smooth(SHAPE, "f4")
    keywords = {**codec, "shuffle": True, "fletcher32": True}
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "data", chunk.shape, chunk.dtype, chunks=chunk.shape, **keywords
        )
        settings = dataset.id.get_create_plist()
        pipeline = [settings.get_filter(at) for at in range(settings.get_nfilters())]
    described = (Filter(filter_id=step[0], options=tuple(step[2])) for step in pipeline)
    payload, mask = encoder_for(tuple(map(as_given, described)), 4).encode(chunk, Workspace())
    expected, expected_mask = encode(chunk, keywords)
    assert (bytes(payload), mask) == (bytes(expected), expected_mask)


@pytest.mark.parametrize("numbers", [(1, 2), (3, 1), (1, 1), (2, 3, 1)], ids=str)
def test_unusual_orders_are_left_to_libhdf5(numbers):
    """A shuffle behind a codec, a checksum before one, two codecs: not ours."""
    filters = tuple(Filter(filter_id=number, options=(4,)) for number in numbers)
    assert encoder_for(filters, 4) is None
