"""Zarr's codecs from bytes to bytes: compressors and checksums, v2 and v3."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs import blosc, deflate, zstd
from lazyio.codecs.libraries import optional, required
from lazyio.codecs.workspace import Bytes

Payload = bytes | bytearray | npt.NDArray[Any]
Described = Mapping[str, Any]
"""Configuration of a codec as the metadata gives it."""

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
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
    decode: Callable[[Bytes, Bytes | None], Bytes]
    """From bytes, and where to put them if their size is known, to bytes.

    Raises whatever the library does of damaged bytes.
    """
    trailer: Callable[[Bytes], bytes] | None = None
    """From bytes to what follows them, where the codec leaves them as they are."""


def bytes_step(name: str, settings: Described) -> BytesStep | None:
    """Return a codec of v3 by its name, ``None`` where zarr must do it.

    Examples
    --------
    >>> step = bytes_step("gzip", {"level": 5})
    >>> stored = np.frombuffer(step.encode(np.zeros(100, np.uint8)), np.uint8)
    >>> step.decode(stored, None).size
    100
    >>> bytes_step("numcodecs.pickle", {}) is None
    True
    """
    if name == "zstd":
        encode = zstd.compressor(settings["level"], checksum=settings["checksum"])
        return _sized(encode, zstd.decompress, numcodec("zstd", {}))
    if name == "blosc":
        return _blosc(settings)
    if name == "gzip":
        return _sized(_gzip(settings["level"]), deflate.decompress_gzip, numcodec("gzip", {}))
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
    known = {
        "zstd": zstd.decompress,
        "blosc": blosc.decompress,
        "zlib": deflate.decompress,
        "gzip": deflate.decompress_gzip,
    }
    if identifier in known:
        return _sized(codec.encode, known[identifier], codec)
    return BytesStep(encode=codec.encode, decode=lambda data, _: as_bytes(codec.decode(data)))


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


def _sized(
    encode: Callable[[Any], Payload], decompress: Callable[[Bytes, Bytes], None], codec: Any
) -> BytesStep:
    """Return a step that decodes straight into place where the size is known."""

    def decode(data: Bytes, out: Bytes | None) -> Bytes:
        if out is None:
            if decompress is blosc.decompress:
                blosc.check_size(data)
            return as_bytes(codec.decode(data))
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
    return _sized(encode, blosc.decompress, numcodec("blosc", {}))


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

    def decode(data: Bytes, _: Bytes | None) -> Bytes:
        content, stored = data[:-4], int.from_bytes(data[-4:].tobytes(), "little")
        if data.size < 4 or library.value(content) != stored:
            msg = "its CRC32C checksum is wrong"
            raise ValueError(msg)
        return content

    return BytesStep(encode=encode, decode=decode, trailer=trailer)


def plain(value: Any) -> Any:
    """Return a setting that may be a member of one of zarr's enumerations as it is stored."""
    return getattr(value, "value", value)
