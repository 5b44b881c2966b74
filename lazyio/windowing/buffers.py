"""Memory for cells: pieces of one size, which are used again."""

from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]

_SLAB_NBYTES = 32 * 2**20
"""That are asked for at once: large enough for numpy to ask for large pages."""


class Buffers:
    """Pieces of memory of one size, at most so many.

    To get memory from the system page by page takes as long as decoding what goes there. So it is
    asked for in slabs, of which the system gives large pages when they are written to, and kept.

    Examples
    --------
    >>> buffers = Buffers(1000, most=3)
    >>> one = buffers.take()
    >>> buffers.give_back(one)
    >>> one.size, buffers.take() is one
    (1000, True)
    """

    def __init__(self, nbytes: int, most: int) -> None:
        self._nbytes = nbytes
        self._n_left = most
        self._free: list[Buffer] = []

    def take(self) -> Buffer:
        """Return a piece that nobody uses."""
        if not self._free:
            count = max(1, min(self._n_left, _SLAB_NBYTES // self._nbytes))
            self._n_left -= count
            slab = np.empty((count, self._nbytes), np.uint8)
            self._free = list(slab[::-1])
        return self._free.pop()

    def give_back(self, buffer: npt.NDArray[Any]) -> None:
        """Take a piece back; that of last is given out first, while the processor still has it."""
        self._free.append(buffer)
