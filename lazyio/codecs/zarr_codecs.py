"""Zarr's codecs, v2 and v3: from array to array, and from bytes to bytes."""

import bz2
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lazyio.codecs import blosc, deflate, zstd
from lazyio.codecs.libraries import optional, required
from lazyio.codecs.workspace import Bytes
from lazyio.dtypes import Shape

Described = Mapping[str, Any]
"""Configuration of a codec as the metadata gives it."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ArrayStep:
    """One codec from array to array, for chunks of one shape and dtype."""

    encode: Callable[[Array], Array]
    """From an array of any strides to one of ``shape`` and ``dtype``."""
    decode: Callable[[Array], Array]
    """And back."""
    shape: Shape
    """Extents of what it gives."""
    dtype: np.dtype[Any]
    """Type of an element of what it gives."""


def array_step(
    name: str, settings: Described, shape: Shape, dtype: np.dtype[Any]
) -> ArrayStep | None:
    """Return a codec by its name, ``None`` where zarr must do it.

    Examples
    --------
    >>> step = array_step("transpose", {"order": (1, 0)}, (2, 3), np.dtype("int16"))
    >>> step.shape, step.decode(step.encode(np.zeros((2, 3), "int16"))).shape
    ((3, 2), (2, 3))
    """
    if name == "transpose":
        return _transpose(settings["order"], shape, dtype)
    if name.startswith("numcodecs."):
        return _numcodecs(name.removeprefix("numcodecs."), settings, shape, dtype)
    return None


def _transpose(order: Any, shape: Shape, dtype: np.dtype[Any]) -> ArrayStep | None:
    if isinstance(order, str) or sorted(order) != list(range(len(shape))):
        return None
    axes = tuple(map(int, order))
    back = tuple(map(int, np.argsort(axes)))
    return ArrayStep(
        encode=lambda chunk: chunk.transpose(axes),
        decode=lambda chunk: chunk.transpose(back),
        shape=tuple(shape[axis] for axis in axes),
        dtype=dtype,
    )


def _numcodecs(
    identifier: str, settings: Described, shape: Shape, dtype: np.dtype[Any]
) -> ArrayStep | None:
    given = {key: value for key, value in settings.items() if value is not None}
    # What is left out is taken from the array, as zarr does.
    missing = {"fixedscaleoffset": "dtype", "quantize": "dtype", "astype": "decode_dtype"}
    if identifier in missing:
        given.setdefault(missing[identifier], dtype.str)
    codec = numcodec(identifier, given)
    if codec is None:
        return None
    facts = _encoded_facts(identifier, given, shape, dtype)
    if facts is None:
        return None
    encoded_shape, encoded_dtype = facts

    def encode(chunk: Array) -> Array:
        encoded = np.asarray(codec.encode(np.ascontiguousarray(chunk)))
        # BitRound gives integers for the bits of floats.
        return encoded.reshape(encoded_shape).view(encoded_dtype)

    def decode(chunk: Array) -> Array:
        decoded = np.asarray(codec.decode(np.ascontiguousarray(chunk)))
        return decoded.reshape(shape)

    return ArrayStep(encode=encode, decode=decode, shape=encoded_shape, dtype=encoded_dtype)


def _encoded_facts(
    identifier: str, settings: Described, shape: Shape, dtype: np.dtype[Any]
) -> tuple[Shape, np.dtype[Any]] | None:
    """Return shape and dtype of what a filter gives, ``None`` for those unknown."""
    if identifier == "packbits":
        # A byte that counts the bits that were added, then eight elements in each.
        return (1 + math.ceil(math.prod(shape) / 8),), np.dtype(np.uint8)
    if identifier in ("delta", "fixedscaleoffset"):
        return shape, np.dtype(settings.get("astype", dtype))
    if identifier == "astype":
        return shape, np.dtype(settings["encode_dtype"])
    is_kept = np.dtype(settings.get("astype", dtype)) == dtype
    return (shape, dtype) if identifier in ("bitround", "quantize") and is_kept else None


Payload = bytes | bytearray | npt.NDArray[Any]


_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_MOST_DICTIONARY_NBYTES = 128 * 2**20
"""Of lzma; at its highest level it has 64 MiB."""
_EITHER = 32
"""Added to the window bits, it makes zlib take its own header or gzip's."""
_NUMCODECS = {
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    *("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
}
"""Codecs of numcodecs that never unpickle and give bytes of a size that can be told."""


@dataclass(frozen=True, kw_only=True)
class BytesStep:
    """One codec from bytes to bytes."""

    encode: Callable[[Any], Payload]
    """From a contiguous array."""
    decode: Callable[[Bytes, Bytes | None, int], Bytes]
    """From bytes, where to put them if their size is known, and the most there may be, to bytes.

    Raises whatever the library does of damaged bytes, and ``ValueError`` where
    there would be more.
    """
    trailer: Callable[[Bytes], bytes] | None = None
    """From bytes to what follows them, where the codec leaves them as they are."""


def bytes_step(name: str, settings: Described) -> BytesStep | None:
    """Return a codec of v3 by its name, ``None`` where zarr must do it.

    Examples
    --------
    >>> step = bytes_step("gzip", {"level": 5})
    >>> stored = np.frombuffer(step.encode(np.zeros(100, np.uint8)), np.uint8)
    >>> step.decode(stored, None, 1000).size
    100
    >>> step.decode(stored, None, 99)
    Traceback (most recent call last):
    ValueError: it decodes to more than 99 bytes
    >>> bytes_step("numcodecs.pickle", {}) is None
    True
    """
    if name == "zstd":
        encode = zstd.compressor(settings["level"], checksum=settings["checksum"])
        return _sized(encode, "zstd", numcodec("zstd", {}))
    if name == "blosc":
        return _blosc(settings)
    if name == "gzip":
        return _sized(_gzip(settings["level"]), "gzip", numcodec("gzip", {}))
    if name == "crc32c":
        return _crc32c()
    if name.startswith("numcodecs."):
        return numcodecs_step(name.removeprefix("numcodecs."), settings)
    return None


def numcodecs_step(identifier: str, settings: Described) -> BytesStep | None:
    """Return a codec of numcodecs, as v2 names them, ``None`` where zarr must do it."""
    codec = numcodec(identifier, settings)
    if codec is None:
        return None
    if identifier in _INTO_PLACE:
        return _sized(codec.encode, identifier, codec)
    return BytesStep(
        encode=codec.encode, decode=lambda data, _, most: decode_at_most(codec, data, most)
    )


def decode_at_most(codec: Any, data: Bytes, most: int) -> Bytes:
    """Return what a codec of numcodecs decodes, which may not be more than some bytes.

    A few bytes may claim to be gigabytes, or be that: libraries allocate what
    is claimed, or decode to the end.
    """
    name = codec.codec_id
    if name in ("gzip", "zlib"):
        # Of several members, which gzip may have, each ends where the next begins.
        found = _unpacked(lambda: zlib.decompressobj(zlib.MAX_WBITS | _EITHER), data, most)
    elif name == "bz2":
        found = _unpacked(bz2.BZ2Decompressor, data, most)
    elif name == "lzma":
        # Raw streams have no header that could ask for gigabytes.
        limit = None if codec.format == lzma.FORMAT_RAW else _MOST_DICTIONARY_NBYTES
        found = _unpacked(
            lambda: lzma.LZMADecompressor(codec.format, limit, codec.filters), data, most
        )
    else:
        claimed = _claimed(name, data)
        if claimed is not None and claimed > most:
            _refuse(most)
        found = as_bytes(codec.decode(data))
    if found.size > most:
        _refuse(most)
    return found


def _claimed(name: str, data: Bytes) -> int | None:
    """Return the bytes that a payload says it decodes to, or the most it can."""
    if name == "lz4":
        return int.from_bytes(data[:4].tobytes(), "little")
    if name == "zstd":
        size = zstd.content_size(data[: zstd.HEADER_NBYTES].tobytes())
        return zstd.most_content(data) if size is None else size
    return blosc.check_size(data) if name == "blosc" else None


def _unpacked(decompressor: Callable[[], Any], data: Bytes, most: int) -> Bytes:
    """Return the content of one stream or more, as far as one byte too many."""
    parts: list[bytes] = []
    rest = data.tobytes()
    total = 0
    while rest and total <= most:
        state = decompressor()
        part = state.decompress(rest, most - total + 1)
        parts.append(part)
        total += len(part)
        if not state.eof and total <= most:
            msg = "the stream is cut short"
            raise ValueError(msg)
        rest = state.unused_data
    return as_bytes(b"".join(parts))


def _refuse(most: int) -> NoReturn:
    msg = f"it decodes to more than {most} bytes"
    raise ValueError(msg)


def numcodec(identifier: str, settings: Described) -> Any:
    """Return an object of numcodecs, ``None`` if it has none or not a harmless one."""
    numcodecs = optional("numcodecs")
    if numcodecs is None or identifier not in _NUMCODECS:
        return None
    try:
        return numcodecs.get_codec({**settings, "id": identifier})
    except (ValueError, TypeError, ImportError):
        # Made by a later version, or it needs a library that is not installed.
        return None


def as_bytes(data: Any) -> Bytes:
    """Return what a codec gave as its bytes in memory order, without a copy.

    Examples
    --------
    >>> as_bytes(np.ones((2, 2), "int16", order="F")).size, as_bytes(b"abc").tolist()
    (8, [97, 98, 99])
    """
    if isinstance(data, np.ndarray):
        return data.reshape(-1, order="A").view(np.uint8)
    return np.frombuffer(data, np.uint8)


_INTO_PLACE = {
    "zstd": zstd.decompress,
    "blosc": blosc.decompress,
    "zlib": deflate.decompress,
    "gzip": deflate.decompress_gzip,
}
"""What decodes into memory of the right size."""


def _sized(encode: Callable[[Any], Payload], identifier: str, codec: Any) -> BytesStep:
    """Return a step that decodes straight into place where the size is known."""
    decompress = _INTO_PLACE[identifier]

    def decode(data: Bytes, out: Bytes | None, most: int) -> Bytes:
        if out is None:
            return decode_at_most(codec, data, most)
        decompress(data, out)
        return out

    return BytesStep(encode=encode, decode=decode)


def _blosc(settings: Described) -> BytesStep | None:
    shuffle = _SHUFFLES.get(str(plain(settings["shuffle"])))
    if shuffle is None or not settings.get("typesize"):
        return None
    encode = blosc.compressor(
        str(plain(settings["cname"])),
        settings["clevel"],
        shuffle,
        typesize=settings["typesize"],
        blocksize=settings["blocksize"],
    )
    return _sized(encode, "blosc", numcodec("blosc", {}))


def _gzip(level: int) -> Callable[[Any], bytes]:
    isal = optional("isal.igzip")
    libdeflate = optional("deflate")
    if level == 1 and isal is not None:
        return lambda data: deflate.bytes_of(isal.compress(data, 1))
    if level >= 1 and libdeflate is not None:
        return lambda data: deflate.bytes_of(libdeflate.gzip_compress(data, level))
    encode: Callable[[Any], bytes]
    encode = required("numcodecs", what="gzip", extra="fast").GZip(level).encode
    return encode


def _crc32c() -> BytesStep | None:
    library = optional("google_crc32c")
    if library is None:
        return None

    def trailer(data: Bytes) -> bytes:
        return struct.pack("<I", library.value(data))

    def encode(data: Any) -> Payload:
        raw = as_bytes(data)
        return np.concatenate([raw, as_bytes(trailer(raw))])

    def decode(data: Bytes, _: Bytes | None, __: int) -> Bytes:
        content, stored = data[:-4], int.from_bytes(data[-4:].tobytes(), "little")
        if data.size < 4 or library.value(content) != stored:
            msg = "its CRC32C checksum is wrong"
            raise ValueError(msg)
        return content

    return BytesStep(encode=encode, decode=decode, trailer=trailer)


def plain(value: Any) -> Any:
    """Return a setting that may be a member of one of zarr's enumerations as it is stored."""
    return getattr(value, "value", value)
