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
from lazyio.safety.sync import sync_folder, write_whole

BASE, LOG = "base", "redo"
"""In a hidden folder: the size that the file had, and the log."""

_MAGIC = b"lazyio-1"
_HEAD = struct.Struct("<QQ16s?")
_FOOT = struct.Struct("<QQ16s8s")
_COPY_NBYTES = 1 << 20
_HEAD_NBYTES = 96
"""Of the longest superblock, with the end of the file in it."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Noted = tuple[int, int, int, bytes, bool]
"""Place in the file, place in the log, bytes, their digest, and whether they are a payload."""


class RedoLog:
    """Ranges of bytes that are to be written over those of a file.

    Parameters
    ----------
    folder : Path
        The hidden folder. Payloads that a killed run has noted there are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder / LOG, os.O_RDWR | os.O_CREAT, 0o666)
        self._lock = threading.Lock()
        self._end = 0
        self._payloads: dict[int, tuple[int, int]] = {}
        self._take_up()

    def add(self, at: int, view: memoryview, *, is_payload: bool) -> None:
        """Note bytes that belong at a place of the file; later ones go over earlier ones."""
        head = _HEAD.pack(at, len(view), _digest(view, at, is_payload), is_payload)
        with self._lock:
            begin, self._end = self._end, self._end + len(head) + len(view)
        write_at(self._descriptor, memoryview(head), begin)
        write_at(self._descriptor, view, begin + len(head))

    def payload(self, at: int, nbytes: int) -> bytes:
        """Return a payload that is noted for a place, or nothing."""
        begin, length = self._payloads.get(at, (0, 0))
        return os.pread(self._descriptor, nbytes, begin) if length == nbytes else b""

    def _take_up(self) -> None:
        """Find the payloads that are whole; what comes behind is written again."""
        size = os.fstat(self._descriptor).st_size
        for place, begin, nbytes, digest, is_payload in _noted(self._descriptor, size):
            whole = os.pread(self._descriptor, nbytes, begin)
            if not is_payload or _digest(whole, place, is_payload) != digest:
                break
            self._payloads[place] = begin, nbytes
            self._end = begin + nbytes
        os.ftruncate(self._descriptor, self._end)

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

    def make(self, target: Path) -> None:
        """Make the change that was committed, and begin the log of the next one.

        Raises
        ------
        OSError
            When the disk fails; the change is then made by whoever comes next.
        """
        apply(self._folder, target)
        begin(self._folder, target)
        # Should the disk not hear of this, the same change is made once more.
        os.ftruncate(self._descriptor, 0)
        self._end, self._payloads = 0, {}

    def close(self) -> None:
        """Close the log, which stays."""
        os.close(self._descriptor)


def begin(folder: Path, target: Path) -> None:
    """Note what a file is like before anything is written behind its end."""
    write_whole(folder / BASE, f"{target.stat().st_size} {head_of(target)}".encode())
    sync_folder(folder)


def is_begun(folder: Path) -> bool:
    """Return whether a file may have something behind its end, or be half changed."""
    return (folder / BASE).exists()


def base_of(folder: Path) -> int:
    """Return how large a file was before anything was written behind its end."""
    return int((folder / BASE).read_text().split()[0])


def head_of(target: Path) -> str:
    """Return a digest of where HDF5 says how long a file is; it may begin behind a user block."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        at = superblock_in(descriptor)
        head = b"" if at is None else os.pread(descriptor, _HEAD_NBYTES, at + len(_SIGNATURE))
        return f"{digest_of(head):032x}"
    finally:
        os.close(descriptor)


def superblock_in(descriptor: int) -> int | None:
    """Return where HDF5's superblock lies, ``None`` where there is none.

    At 0, or behind a block of the user's at 512, 1024, 2048 and so on.
    """
    size, at = os.fstat(descriptor).st_size, 0
    while at < size:
        if os.pread(descriptor, len(_SIGNATURE), at) == _SIGNATURE:
            return at
        at = max(512, 2 * at)
    return None


def undo(folder: Path, target: Path) -> None:
    """Take back what was written behind the end of a file; its lock is held."""
    with contextlib.suppress(ValueError, FileNotFoundError, IndexError):
        nbytes, head = (folder / BASE).read_text().split()
        # Another program may have written since: then what is behind is no longer ours.
        if target.stat().st_size > int(nbytes) and head_of(target) == head:
            os.truncate(target, int(nbytes))
    forget(folder)


def apply(folder: Path, target: Path) -> None:
    """Make the change that a complete log describes; may be done again until it is forgotten.

    Raises
    ------
    OSError
        When the disk fails; it is then to be made again.
    """
    descriptor = os.open(target, os.O_RDWR)
    log = os.open(folder / LOG, os.O_RDONLY)
    try:
        end, nbytes = _foot(log)
        for at, begins, length, *_ in _ranges(log, end):
            for done in range(0, length, _COPY_NBYTES):
                part = os.pread(log, min(_COPY_NBYTES, length - done), begins + done)
                write_at(descriptor, memoryview(part), at + done)
        os.ftruncate(descriptor, nbytes)
        os.fsync(descriptor)
    finally:
        os.close(log)
        os.close(descriptor)


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


def is_committed(folder: Path) -> bool:
    """Return whether a log is complete: its foot, and all that it speaks of."""
    path = folder / LOG
    if not path.exists():
        return False
    log = os.open(path, os.O_RDONLY)
    try:
        end, _ = _foot(log)
        for place, begins, length, digest, is_payload in _ranges(log, end):
            if _digest(os.pread(log, length, begins), place, is_payload) != digest:
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


def _ranges(log: int, end: int) -> Iterator[Noted]:
    """Yield all ranges of a complete log."""
    last = 0
    for noted in _noted(log, end):
        yield noted
        last = noted[1] + noted[2]
    if last != end:
        msg = "the log is not complete"
        raise ValueError(msg)


def _noted(log: int, end: int) -> Iterator[Noted]:
    """Yield ranges one after another, as far as there are heads of them."""
    at = 0
    while at < end:
        raw = os.pread(log, _HEAD.size, at)
        if len(raw) < _HEAD.size:
            return
        place, nbytes, digest, is_payload = _HEAD.unpack(raw)
        if at + _HEAD.size + nbytes > end:
            return
        yield place, at + _HEAD.size, nbytes, digest, is_payload
        at += _HEAD.size + nbytes


def _digest(data: bytes | memoryview, place: int, is_payload: bool) -> bytes:
    """Return the digest of a range, which is another at any other place."""
    return digest_of(data, seed=2 * place + is_payload).to_bytes(16, "little")
