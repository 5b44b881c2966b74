"""HDF5's byte shuffle: all first bytes of the elements, all second bytes, ...

A strided chunk is gathered and shuffled in one pass: narrowing casts run at
memory speed, where a transposed copy of bytes takes three to five times as
long. Back again blosc's unshuffle is faster than anything numpy has: planes
that stand behind a header are a blosc buffer whose content was only stored.
The bytes are those of libhdf5's filter 2.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.libraries import optional
from lazyio.codecs.workspace import Bytes, Workspace

_UNSIGNED: dict[int, np.dtype[Any]] = {
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}
_HEADER = struct.Struct("<BBBBIIIII")
_SHUFFLED, _NOT_SPLIT, _LZ4 = 1, 0x10, 1 << 5
_MAX_ITEMSIZE = 255
_MAX_NBYTES = 2**31 - 1 - _HEADER.size - 16
"""Blosc counts in signed 32 bits."""


def shuffle(chunk: npt.NDArray[np.generic], workspace: Workspace) -> Bytes:
    """Return the byte planes of a chunk.

    Examples
    --------
    >>> shuffle(np.array([0x0102, 0x0304], "<u2"), Workspace()).tolist()
    [2, 4, 1, 3]
    """
    size = chunk.dtype.itemsize
    planes = workspace.buffer("planes", chunk.nbytes)
    if size not in _UNSIGNED or not _is_row_major(chunk):
        flat = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
        np.copyto(planes.reshape(size, -1), flat.reshape(-1, size).T)
        return planes
    # Little-endian words, whatever the dtype's own order: plane k is byte k in memory.
    words = chunk.view(_UNSIGNED[size])
    _split(words, planes.reshape(size, *chunk.shape), workspace)
    return planes


def room_for_planes(nbytes: int, workspace: Workspace) -> Bytes:
    """Return where planes are best put before :func:`unshuffle`, to save a copy."""
    return workspace.buffer("frame", _HEADER.size + nbytes)[_HEADER.size :]


def unshuffle(planes: Bytes, itemsize: int, out: Bytes, workspace: Workspace) -> None:
    """Put the elements whose byte planes are given into ``out``.

    Examples
    --------
    >>> out = np.empty(4, np.uint8)
    >>> unshuffle(np.array([2, 4, 1, 3], np.uint8), 2, out, Workspace())
    >>> out.view("<u2").tolist()
    [258, 772]
    """
    blosc = optional("numcodecs.blosc")
    if blosc is None or itemsize > _MAX_ITEMSIZE or not 0 < planes.size <= _MAX_NBYTES:
        _unshuffle_with_numpy(planes, itemsize, out)
        return
    frame = workspace.buffer("frame", _HEADER.size + planes.size)
    frame[: _HEADER.size] = memoryview(_stored_header(planes.size, itemsize))
    room = frame[_HEADER.size :]
    if room.ctypes.data != planes.ctypes.data:
        room[:] = planes
    blosc.decompress(frame, out)


def _stored_header(nbytes: int, itemsize: int) -> bytes:
    """Return what makes a blosc buffer of shuffled bytes: one block, stored, not split."""
    flags = _SHUFFLED | _NOT_SPLIT | _LZ4
    whole = nbytes + _HEADER.size
    # The block begins behind the offset and its own size; that size says it is stored.
    return _HEADER.pack(2, 1, flags, itemsize, nbytes, nbytes, whole, _HEADER.size - 4, nbytes)


def _unshuffle_with_numpy(planes: Bytes, itemsize: int, out: Bytes) -> None:
    whole = planes.size // itemsize * itemsize
    rows = planes[:whole].reshape(itemsize, -1)
    if itemsize == 2:
        # One multiply-add pass over both planes, at memory speed.
        words = out[:whole].view("<u2")
        np.multiply(rows[1], np.uint16(256), out=words, dtype="<u2")
        np.add(words, rows[0], out=words)
    else:
        elements = out[:whole].reshape(-1, itemsize)
        for at, row in enumerate(rows):
            elements[:, at] = row
    out[whole:] = planes[whole:]


def _is_row_major(chunk: npt.NDArray[np.generic]) -> bool:
    return chunk.ndim > 0 and chunk.strides[-1] == chunk.dtype.itemsize


def _split(
    words: npt.NDArray[np.unsignedinteger], planes: npt.NDArray[np.uint8], workspace: Workspace
) -> None:
    """Halve the words until they are bytes; low halves are the first planes."""
    half = planes.shape[0] // 2
    bits = np.array(8 * half, words.dtype)
    if half == 1:
        np.copyto(planes[0], words, casting="unsafe")
        np.right_shift(words, bits, out=planes[1], casting="unsafe")
        return
    part = workspace.array(f"halves{half}", words.shape, _UNSIGNED[half])
    np.copyto(part, words, casting="unsafe")
    _split(part, planes[:half], workspace)
    np.right_shift(words, bits, out=part, casting="unsafe")
    _split(part, planes[half:], workspace)
