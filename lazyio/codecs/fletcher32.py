"""Fletcher's checksum of 32 bits as HDF5 stores it behind a chunk, filter 3.

Two sums over big-endian 16-bit words, modulo 65535: of the words, and of the
running sums. Both are linear, and swapping the bytes of a word is multiplying
by 256 modulo 65535, so little-endian words give the same sums, swapped.
"""

import numpy as np

from lazyio.codecs.workspace import Bytes

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
