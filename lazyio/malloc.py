"""What lazyio asks of glibc's malloc, for which Python has no words; elsewhere it costs nothing.

``tests/test_malloc.py`` fails where the two do not have their effect any more.
"""

import ctypes
import functools

import numpy as np

_MOST_KEPT_NBYTES = 30 * 2**20
"""glibc raises its threshold to 32 MiB, and no further."""


def keep_freed(nbytes: int) -> None:
    """Have blocks of memory kept when they are freed, instead of being unmapped each.

    The threshold for unmapping rises to the size of the largest mapped block
    that was ever freed, and so does, doubled, what is kept at the end of the
    heap: so one block is taken and freed, and no larger one than is asked
    for, so that larger blocks still go back at once. It is never touched.
    ``mallopt`` would set the threshold for good, and for all of the process.
    """
    np.empty(min(nbytes + nbytes // 8 + 4096, _MOST_KEPT_NBYTES), np.uint8)


def give_back() -> None:
    """Return to the system what was freed, which is kept for the thread that had it.

    libhdf5 takes and frees very many small pieces when it goes through an index of chunks.
    """
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


@functools.cache
def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None  # Not of a system that has one under no name.
