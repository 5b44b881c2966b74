"""HDF5's byte shuffle: all first bytes of the elements, all second bytes, ...

A strided chunk is gathered and shuffled in one pass: narrowing casts run at
memory speed, where a transposed copy of bytes takes three to five times as
long. The bytes are those of libhdf5's filter 2.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Bytes, Workspace

_UNSIGNED: dict[int, np.dtype[Any]] = {
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}


def shuffle(chunk: npt.NDArray[np.generic], workspace: Workspace) -> Bytes:
    """Return the byte planes of a chunk.

    Parameters
    ----------
    chunk : ndarray
        Any strides, elements of a fixed size.
    workspace : Workspace
        Where the planes are put; the next call overwrites them.

    Returns
    -------
    ndarray of uint8
        As many bytes as the chunk has, plane after plane.

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


def unshuffle(planes: Bytes, itemsize: int, out: Bytes) -> None:
    """Put the elements whose byte planes are given into ``out``.

    Parameters
    ----------
    planes : ndarray of uint8
        Byte planes; bytes beyond a whole number of elements follow unchanged.
    itemsize : int
        Bytes per element.
    out : ndarray of uint8
        As many bytes as ``planes``.

    Examples
    --------
    >>> out = np.empty(4, np.uint8)
    >>> unshuffle(np.array([2, 4, 1, 3], np.uint8), 2, out)
    >>> out.view("<u2").tolist()
    [258, 772]
    """
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
