"""Chunks to payloads with the fastest library known for each codec, and back."""

from collections.abc import Callable
from typing import Any

import deflate
import numcodecs
import numpy as np
from isal import isal_zlib
from numcodecs import blosc

from benchmarks.bare.shuffle import Gather, Shuffle, unshuffle
from benchmarks.cases import Row


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
    compress = _compressor(row)
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

    def decode(payload: bytes) -> np.ndarray:
        plain = bytes(_decompress(row, payload, dtype.itemsize * int(np.prod(chunk))))
        if not row.shuffle:
            return np.frombuffer(plain, dtype).reshape(chunk)
        out = np.empty(chunk, dtype)
        unshuffle(plain, out)
        return out

    return decode


def _compressor(row: Row) -> Callable[[np.ndarray], Any]:
    if row.family == "gzip" and row.level == 1:
        return lambda chunk: isal_zlib.compress(chunk, 1)
    if row.family == "gzip":
        return lambda chunk: deflate.zlib_compress(chunk, row.level)
    if row.family == "zstd":
        return numcodecs.Zstd(row.level).encode
    if row.family == "blosc":
        return lambda chunk: blosc.compress(chunk, b"zstd", row.level, blosc.SHUFFLE)
    return lambda chunk: memoryview(chunk.reshape(-1).view("u1"))


def _decompress(row: Row, payload: bytes, nbytes: int) -> Any:
    if row.family == "gzip":
        return deflate.zlib_decompress(payload, nbytes)
    if row.family == "zstd":
        return numcodecs.Zstd().decode(payload)
    if row.family == "blosc":
        return blosc.decompress(payload)
    return payload
