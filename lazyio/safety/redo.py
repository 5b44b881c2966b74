"""Changes to a file that is too large to copy: all of them, or none.

What goes behind the file's end may be written there at once, since nothing
leads to it. All else goes into a log in the hidden folder first. Once the log is
complete and on the disk, the change is made: from it, now or by whoever comes
next. Making it twice does no harm.
"""

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from lazyio.safety.digests import digest_of
from lazyio.safety.sync import sync_folder

BASE, LOG = "base", "redo"
"""In a hidden folder: the size that the file had, and the log."""

_MAGIC = b"lazyio-1"
_HEAD = struct.Struct("<QQ16s")
_FOOT = struct.Struct("<QQ16s8s")
_COPY_NBYTES = 1 << 20


class RedoLog:
    """Ranges of bytes that are to be written over those of a file.

    Parameters
    ----------
    folder : Path
        The hidden folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder / LOG, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._lock = threading.Lock()
        self._end = 0
        self._ranges: list[tuple[int, int, int]] = []

    def add(self, at: int, view: memoryview) -> None:
        """Note bytes that belong at a place of the file; later ones go over earlier ones."""
        head = _HEAD.pack(at, len(view), digest_of(view).to_bytes(16, "little"))
        with self._lock:
            begin, self._end = self._end, self._end + len(head) + len(view)
        write_at(self._descriptor, memoryview(head), begin)
        write_at(self._descriptor, view, begin + len(head))

    def commit(self, nbytes: int) -> None:
        """Have the log on the disk: from now on the change is made, whatever happens.

        Parameters
        ----------
        nbytes : int
            Bytes that the file then has.

        Raises
        ------
        OSError
            When the disk fails; the change is then not made.
        """
        os.fsync(self._descriptor)
        foot = _FOOT.pack(self._end, nbytes, b"", _MAGIC)
        digest = digest_of(foot).to_bytes(16, "little")
        foot = _FOOT.pack(self._end, nbytes, digest, _MAGIC)
        write_at(self._descriptor, memoryview(foot), self._end)
        os.fsync(self._descriptor)
        sync_folder(self._folder)

    def close(self) -> None:
        """Close the log, which stays."""
        os.close(self._descriptor)


def begin(folder: Path, nbytes: int) -> None:
    """Note how large a file is before anything is written behind its end."""
    with open(folder / BASE, "w") as file:
        file.write(str(nbytes))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def is_begun(folder: Path) -> bool:
    """Return whether a file may have something behind its end, or be half changed."""
    return (folder / BASE).exists()


def mend(folder: Path, target: Path, *, keep_tail: bool = False) -> str:
    """Finish the change to a file, or take it back, and return which.

    Parameters
    ----------
    folder : Path
        The hidden folder, whose lock is held.
    target : Path
        The file.
    keep_tail : bool
        Whether what lies behind its end is left, for a job that goes on.

    Returns
    -------
    str
        ``"finished"``, ``"undone"``, or ``"kept"``.
    """
    if _is_committed(folder / LOG):
        apply(folder, target)
        return "finished"
    if keep_tail:
        return "kept"
    with contextlib.suppress(ValueError, FileNotFoundError):
        nbytes = int((folder / BASE).read_text())
        if target.exists() and target.stat().st_size > nbytes:
            os.truncate(target, nbytes)
    forget(folder)
    return "undone"


def apply(folder: Path, target: Path) -> None:
    """Make the change that a complete log describes; may be done again.

    Raises
    ------
    OSError
        When the disk fails; it is then to be made again.
    """
    descriptor = os.open(target, os.O_RDWR)
    log = os.open(folder / LOG, os.O_RDONLY)
    try:
        end, nbytes = _foot(log)
        for at, begins, length in _ranges(log, end):
            for done in range(0, length, _COPY_NBYTES):
                part = os.pread(log, min(_COPY_NBYTES, length - done), begins + done)
                write_at(descriptor, memoryview(part), at + done)
        os.ftruncate(descriptor, nbytes)
        os.fsync(descriptor)
    finally:
        os.close(log)
        os.close(descriptor)
    forget(folder)


def forget(folder: Path) -> None:
    """Remove the log: the change is made, or is not to be made."""
    (folder / LOG).unlink(missing_ok=True)
    sync_folder(folder)
    (folder / BASE).unlink(missing_ok=True)


def write_at(descriptor: int, view: memoryview, at: int) -> None:
    """Write bytes at a place, however many calls it takes.

    Raises
    ------
    OSError
        When the file system takes no more.
    """
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], at + done)


def _is_committed(path: Path) -> bool:
    """Return whether a log is complete: its foot, and all that it speaks of."""
    if not path.exists():
        return False
    log = os.open(path, os.O_RDONLY)
    try:
        end, _ = _foot(log)
        for _, begins, length in _ranges(log, end):
            head = _HEAD.unpack(os.pread(log, _HEAD.size, begins - _HEAD.size))
            data = os.pread(log, length, begins)
            if digest_of(data).to_bytes(16, "little") != head[2]:
                return False
    except ValueError:
        return False
    finally:
        os.close(log)
    return True


def _foot(log: int) -> tuple[int, int]:
    size = os.fstat(log).st_size
    raw = os.pread(log, _FOOT.size, max(0, size - _FOOT.size))
    if len(raw) < _FOOT.size:
        msg = "the log is not complete"
        raise ValueError(msg)
    end, nbytes, digest, magic = _FOOT.unpack(raw)
    blank = _FOOT.pack(end, nbytes, b"", magic)
    is_right = digest_of(blank).to_bytes(16, "little") == digest and end == size - _FOOT.size
    if magic != _MAGIC or not is_right:
        msg = "the log is not complete"
        raise ValueError(msg)
    return end, nbytes


def _ranges(log: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each range its place in the file, its place in the log, and its bytes."""
    at = 0
    while at < end:
        raw = os.pread(log, _HEAD.size, at)
        if len(raw) < _HEAD.size:
            msg = "the log is not complete"
            raise ValueError(msg)
        place, nbytes, _ = _HEAD.unpack(raw)
        yield place, at + _HEAD.size, nbytes
        at += _HEAD.size + nbytes
