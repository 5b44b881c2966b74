"""What lazyio asks of glibc's malloc, for which Python has no words; elsewhere it costs nothing.

``tests/test_malloc.py`` fails where the two do not have their effect any more.
"""

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

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


@contextlib.contextmanager
def freed_is_kept(nbytes: int) -> Iterator[None]:
    """Have freed memory kept meanwhile, also in a process that was told to give it back at once.

    So dask tells its workers by an environment variable, with which glibc no longer adapts: each
    buffer of an encoder is then mapped and unmapped for every chunk. Afterwards what was told
    holds again.
    """
    if _TOLD is None:
        keep_freed(nbytes)
        yield
        return
    _tell(_TOLD, +1)
    try:
        yield
    finally:
        _tell(_TOLD, -1)


@dataclass
class _Told:
    """What the environment says of malloc; glibc reads it once."""

    trim: int
    mmap: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    n_inside: int = 0
    """Threads that have it otherwise now."""


_TRIM, _MMAP = -1, -3
"""Numbers of ``mallopt``."""
_DEFAULT_NBYTES = 128 * 2**10


def _told() -> _Told | None:
    """Return what the environment says, ``None`` where glibc adapts by itself."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    told = [os.environ.get(name, "") for name in names]
    if not any(map(str.isdigit, told)):
        return None
    trim, mmap = (int(one) if one.isdigit() else _DEFAULT_NBYTES for one in told)
    return _Told(trim=trim, mmap=mmap)


_TOLD = _told()


def _tell(told: _Told, change: int) -> None:
    """Set thresholds for the first thread that comes, and set them back for the last that goes."""
    mallopt = getattr(_libc(), "mallopt", None)
    with told.lock:
        told.n_inside += change
        is_first = (change, told.n_inside) == (1, 1)
        if mallopt is not None and (is_first or not told.n_inside):
            mallopt(_MMAP, max(told.mmap, 32 * 2**20) if is_first else told.mmap)
            mallopt(_TRIM, max(told.trim, 64 * 2**20) if is_first else told.trim)


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
