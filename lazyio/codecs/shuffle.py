"""HDF5's byte shuffle, filter 2, and its checksum fletcher32, filter 3.

By ``python -m benchmarks codecs`` the shuffle takes a fifth to a third of the time of numcodecs',
and undoing it a third. The checksum takes a quarter longer than imagecodecs', which is optional
and large; numcodecs makes a copy of the chunk with it.

A strided chunk is gathered and shuffled in one pass: narrowing casts run at
memory speed, where a transposed copy of bytes takes three to five times as
long. Back again blosc's unshuffle is faster than anything numpy has: planes
that stand behind a header are a blosc buffer whose content was only stored.
The bytes are those of libhdf5's filter 2.

Two sums over big-endian 16-bit words, modulo 65535: of the words, and of the
running sums. Both are linear, and swapping the bytes of a word is multiplying
by 256 modulo 65535, so little-endian words give the same sums, swapped.
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


_MODULUS = 65535
_ROW = 8192
"""Words added at once; 2**15 rows of them do not overflow 64 bits."""


def fletcher32(data: Bytes) -> int:
    """Return the checksum of bytes.

    Examples
    --------
    >>> hex(fletcher32(np.frombuffer(b"abcde", np.uint8)))
    '0x4ff029c7'
    """
    words = data[: data.size // 2 * 2].view("<u2")
    first, second = _sums(words)
    if data.size % 2:
        # The last word is byte << 8 in big-endian terms, byte in swapped ones.
        first += int(data[-1])
        second += first
    low, high = _reduced(first), _reduced(second)
    return (high << 16) | low


def _sums(words: np.ndarray[tuple[int], np.dtype[np.uint16]]) -> tuple[int, int]:
    """Return the sum of the words and the sum of the running sums."""
    n_rows = words.size // _ROW
    rows = words[: n_rows * _ROW].reshape(n_rows, _ROW)
    columns = np.zeros(_ROW, np.uint64)
    running = np.zeros(_ROW, np.uint64)
    for row in rows:
        np.add(columns, row, out=columns)
        np.add(running, columns, out=running)
    # A word in row r of n and column c is counted (n - r) * _ROW - c times:
    # running holds (n - r) of each, columns one of each.
    first = _total(columns)
    offsets = np.arange(_ROW, dtype=np.uint64)
    second = _ROW * _total(running) - _total(columns * offsets)
    rest = words[n_rows * _ROW :].astype(np.uint64)
    counts = np.arange(rest.size, 0, -1, dtype=np.uint64)
    return first + int(rest.sum()), second + rest.size * first + int((rest * counts).sum())


def _total(sums: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> int:
    """Return a sum that may pass 64 bits, as for chunks near 4 GiB."""
    high = int((sums >> np.uint64(32)).sum())
    low = int((sums & np.uint64(2**32 - 1)).sum())
    return (high << 32) + low


def _reduced(total: int) -> int:
    """Return a sum of swapped words as HDF5 folds it: 0 only for no data at all."""
    swapped = total * 256 % _MODULUS
    return _MODULUS if swapped == 0 and total else swapped
