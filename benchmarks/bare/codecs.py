"""Chunks to payloads with the fastest library known for each codec, and back.

Payloads are the codec's own, without what a format wraps around them, but for
lz4, whose framing costs nothing and is needed to read what others wrote.
"""

from collections.abc import Callable
from typing import Any

import deflate
import google_crc32c
import imagecodecs
import numcodecs
import numpy as np
from isal import isal_zlib
from numcodecs import blosc

from benchmarks.bare.shuffle import Gather, Shuffle, unshuffle
from benchmarks.cases import Row

Compress = Callable[[np.ndarray], Any]
Decompress = Callable[[bytes], Any]

_CRC_NBYTES = 4
_SZIP_NN_RAW = 32 | 128
_SZIP_PIXELS = 8
_SZIP_SCANLINE = 128 * _SZIP_PIXELS


def encoder(row: Row, dtype: np.dtype, chunk: tuple[int, ...]) -> Callable[[np.ndarray], Any]:
    """Return what turns a chunk into its payload, for one thread.

    Parameters
    ----------
    row : Row
        Format and codec.
    dtype : dtype
        Type of an element.
    chunk : tuple of int
        Chunk shape.
    """
    gather = Shuffle(dtype, chunk) if row.shuffle else Gather(dtype, chunk)
    compress = _compressor(row, dtype.itemsize)
    if row.is_checksummed:
        return lambda one: _with_checksum(compress(gather(one)))
    return lambda one: compress(gather(one))


def decoder(row: Row, dtype: np.dtype, chunk: tuple[int, ...]) -> Callable[[bytes], np.ndarray]:
    """Return what turns a payload into its whole chunk.

    Parameters
    ----------
    row : Row
        Format and codec.
    dtype : dtype
        Type of an element.
    chunk : tuple of int
        Chunk shape.
    """
    decompress = _decompressor(row, dtype.itemsize, dtype.itemsize * int(np.prod(chunk)))

    def decode(payload: bytes) -> np.ndarray:
        plain = decompress(payload[:-_CRC_NBYTES] if row.is_checksummed else payload)
        if not row.shuffle:
            return np.frombuffer(plain, dtype).reshape(chunk)
        out = np.empty(chunk, dtype)
        unshuffle(plain, out)
        return out

    return decode


def _with_checksum(payload: Any) -> bytes:
    plain = bytes(payload)
    return plain + google_crc32c.value(plain).to_bytes(_CRC_NBYTES, "little")


def _compressor(row: Row, itemsize: int) -> Compress:
    level, cname = row.level, row.cname
    scan = (_SZIP_NN_RAW, _SZIP_PIXELS, 8 * itemsize, _SZIP_SCANLINE)
    blosc2 = {"compressor": cname, "shuffle": "shuffle", "typesize": itemsize, "numthreads": 1}
    known: dict[str, Compress] = {
        "none": lambda chunk: memoryview(_flat(chunk)),
        # A file of zlib's size at level 9 takes one more of libdeflate.
        "gzip": lambda chunk: deflate.zlib_compress(chunk, 10 if level == 9 else level),
        "zstd": numcodecs.Zstd(level).encode,
        "blosc": lambda chunk: blosc.compress(chunk, cname.encode(), level, blosc.SHUFFLE),
        "blosc2": lambda chunk: imagecodecs.blosc2_encode(chunk, level, **blosc2),
        # The same two steps, over larger pieces than the filter's: nothing is faster.
        "bitshuffle": lambda chunk: blosc.compress(chunk, b"lz4", 1, blosc.BITSHUFFLE),
        "lz4": lambda chunk: imagecodecs.lz4h5_encode(_flat(chunk)),
        "lzf": lambda chunk: imagecodecs.lzf_encode(_flat(chunk), header=False),
        "szip": lambda chunk: imagecodecs.szip_encode(_flat(chunk), *scan),
    }
    if row.family == "gzip" and level == 1:
        return lambda chunk: isal_zlib.compress(chunk, 1)
    return known[row.family]


def _flat(chunk: np.ndarray) -> np.ndarray:
    return chunk.reshape(-1).view("u1")


def _decompressor(row: Row, itemsize: int, nbytes: int) -> Decompress:
    scan = (_SZIP_NN_RAW, _SZIP_PIXELS, 8 * itemsize, _SZIP_SCANLINE)
    known: dict[str, Decompress] = {
        "none": lambda payload: payload,
        "gzip": lambda payload: deflate.zlib_decompress(payload, nbytes),
        "zstd": numcodecs.Zstd().decode,
        "blosc": blosc.decompress,
        "blosc2": lambda payload: imagecodecs.blosc2_decode(payload, numthreads=1),
        "bitshuffle": blosc.decompress,
        "lz4": imagecodecs.lz4h5_decode,
        "lzf": lambda payload: imagecodecs.lzf_decode(payload, header=False, out=nbytes),
        "szip": lambda payload: imagecodecs.szip_decode(payload, *scan, out=nbytes),
    }
    return known[row.family]
