"""Files by their descriptors: open for a moment, read and written at a place."""

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_BEGUN_NBYTES = 2**18
"""From which on bytes are sent to the disk at once: for fewer the call costs more than it saves."""
_SYNC_FILE_RANGE_WRITE = 2
"""Of Linux: begin to write, and wait for nothing."""


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file, and close it whatever happens."""
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_at(descriptor: int, view: memoryview, at: int) -> None:
    """Write bytes at a place, however many calls it takes."""
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], at + done)
    begin_sync(descriptor, at, len(view))


def begin_sync(descriptor: int, at: int, nbytes: int) -> None:
    """Have the system begin to bring bytes to the disk, where it can be asked to.

    Of an error the sync at the end tells. It has little to wait for then: the disk is at work
    while chunks are encoded, which makes writing 300 MB without a codec a third faster.
    """
    call = _sync_file_range()
    if call is not None and nbytes >= _BEGUN_NBYTES:
        call(descriptor, at, nbytes, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[..., int] | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    call = getattr(libc, "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


WRITES_AT_ONCE = getattr(os, "O_DSYNC", 0)
"""Flag of a file that other machines write to at the same time.

Without it Linux' NFS may write a whole page, with what it believes that others have beside.
"""


def is_on_nfs(path: Path) -> bool:
    """Return whether a file lies on NFS, as far as the system tells."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    kinds = (line.partition(" - ")[2] for line in mounts if line.split()[2] == number)
    return any(kind.startswith("nfs") for kind in kinds)


def read_at(descriptor: int, nbytes: int, at: int) -> bytes:
    """Read bytes at a place, however many calls it takes; fewer where the file ends."""
    data = os.pread(descriptor, nbytes, at)
    while len(data) < nbytes:
        more = os.pread(descriptor, nbytes - len(data), at + len(data))
        if not more:
            break
        data += more
    return data
