"""What lazyio asks of glibc's malloc, for which Python has no words; elsewhere it costs nothing.

``tests/test_malloc.py`` fails where the two do not have their effect any more.
"""

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator

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
    buffer of an encoder is then mapped and unmapped for every chunk. What was told holds again
    soon after the last thread has left.
    """
    if _TOLD is None:
        keep_freed(nbytes)
        yield
        return
    _TOLD.enter()
    try:
        yield
    finally:
        _TOLD.leave()


_TRIM, _MMAP = -1, -3
"""Numbers of ``mallopt``."""
_DEFAULT_NBYTES = 128 * 2**10
_KEPT_MMAP, _KEPT_TRIM = 32 * 2**20, 64 * 2**20
"""As far as glibc goes by itself."""
_LINGERING = 1.0
"""Seconds until what was told holds again: the next task comes in milliseconds."""


class _Told:
    """What the environment says of malloc, which glibc reads once."""

    def __init__(self, *, trim: int, mmap: int) -> None:
        self._trim, self._mmap = trim, mmap
        self._lock = threading.Lock()
        self._n_inside = 0
        self._timer: threading.Timer | None = None

    def enter(self) -> None:
        """Have freed memory kept."""
        with self._lock:
            self._n_inside += 1
            if self._timer is None:
                self._set(max(self._trim, _KEPT_TRIM), max(self._mmap, _KEPT_MMAP))

    def leave(self) -> None:
        """Have it given back soon, where nobody comes."""
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside and self._timer is None:
                self._timer = threading.Timer(_LINGERING, self._restore)
                self._timer.daemon = True
                self._timer.start()

    def _restore(self) -> None:
        with self._lock:
            self._timer = None
            if self._n_inside:
                return
            self._set(self._trim, self._mmap)
        give_back()

    def _set(self, trim: int, mmap: int) -> None:
        mallopt = getattr(_libc(), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP, mmap)
            mallopt(_TRIM, trim)


def _told() -> _Told | None:
    """Return what the environment says, ``None`` where glibc adapts by itself."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    told = [os.environ.get(name, "") for name in names]
    if not any(map(str.isdigit, told)):
        return None
    trim, mmap = (int(one) if one.isdigit() else _DEFAULT_NBYTES for one in told)
    return _Told(trim=trim, mmap=mmap)


_TOLD = _told()


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
