"""The byte shuffle, gathered from a strided slice in one pass by casts; and its inverse."""

import struct

import numpy as np
from numcodecs import blosc


class Shuffle:
    """Chunks to byte planes, in a buffer that is used again.

    Parameters
    ----------
    dtype : dtype
        Type of an element, of 2, 4 or 8 bytes.
    chunk : tuple of int
        Chunk shape; smaller edge chunks are padded with zeros.
    """

    def __init__(self, dtype: np.dtype, chunk: tuple[int, ...]) -> None:
        if dtype.itemsize not in (2, 4, 8):
            msg = f"the limit shuffles elements of 2, 4 or 8 bytes, not {dtype}"
            raise ValueError(msg)
        self._bits = np.dtype(f"u{dtype.itemsize}")
        self._planes = np.zeros((dtype.itemsize, *chunk), "u1")
        sizes = [size for size in (4, 2) if size < dtype.itemsize]
        self._halves = [np.empty(chunk, f"u{size}") for size in sizes]

    def __call__(self, chunk: np.ndarray) -> np.ndarray:
        """Return the planes of a chunk, one after the other, until the next call."""
        edge = tuple(map(slice, chunk.shape))
        planes = self._planes[(slice(None), *edge)]
        if planes.shape != self._planes.shape:
            self._planes[...] = 0
        _split(chunk.view(self._bits), planes, [half[edge] for half in self._halves])
        return self._planes.reshape(-1)


class Gather:
    """Chunks to contiguous memory; whole contiguous chunks pass untouched.

    Parameters
    ----------
    dtype : dtype
        Type of an element.
    chunk : tuple of int
        Chunk shape; smaller edge chunks are padded with zeros.
    """

    def __init__(self, dtype: np.dtype, chunk: tuple[int, ...]) -> None:
        self._buffer = np.zeros(chunk, dtype)

    def __call__(self, chunk: np.ndarray) -> np.ndarray:
        """Return the chunk in one piece, until the next call."""
        if chunk.shape == self._buffer.shape and chunk.flags.c_contiguous:
            return chunk
        if chunk.shape != self._buffer.shape:
            self._buffer[...] = 0
        self._buffer[tuple(map(slice, chunk.shape))] = chunk
        return self._buffer


def unshuffle(planes: bytes | bytearray, out: np.ndarray) -> None:
    """Put byte planes together again.

    blosc's own unshuffle is the fastest there is: the planes go into a frame
    whose only block says that it is shuffled and stored.

    Parameters
    ----------
    planes : bytes
        As many as ``out`` has.
    out : ndarray
        Contiguous.
    """
    n = out.nbytes
    flags = 0x31
    header = struct.pack("<BBBBIIIII", 2, 1, flags, out.itemsize, n, n, n + 24, 20, n)
    blosc.decompress(b"".join((header, planes)), out)


def _split(bits: np.ndarray, planes: np.ndarray, halves: list[np.ndarray]) -> None:
    """Write the bytes of elements to their planes, halving wide elements first."""
    middle = len(planes) // 2
    width = 8 * middle
    if not halves:
        np.copyto(planes[0], bits, casting="unsafe")
        np.right_shift(bits, width, out=planes[1], casting="unsafe")
        return
    half, *rest = halves
    np.copyto(half, bits, casting="unsafe")
    _split(half, planes[:middle], rest)
    np.right_shift(bits, width, out=half, casting="unsafe")
    _split(half, planes[middle:], rest)
