"""The write-ahead log of a file that is changed in place: all of the change, or none of it.

A file that is too large to be copied is changed in place. What goes behind its end may be
written there at once, since nothing leads to it. All else goes into a log in the hidden folder
first. Once the log is complete and on the disk, the change is committed; then it is applied.

A log is applied only to the bytes that it was made for. It holds a digest of what every range
held before and of what it will hold: each range must be in one of these states, and the length
of the file as well. Else the file is another by now, and neither it nor the log is touched.

While a log is applied, a marker stands in place of the file's signature, so that no program
opens a file that is half changed. Once the change is durable the log is emptied, before
others may open the file: from then on it cannot be applied again.
"""

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import struct
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lazyio.atomic.descriptors import opened, read_at, write_at
from lazyio.atomic.digests import Hash, digest_of
from lazyio.atomic.fsync import sync_file, sync_folder
from lazyio.atomic.journal import NAME as JOB
from lazyio.atomic.lock import FileLock
from lazyio.atomic.unwritten_ranges import UnwrittenRanges
from lazyio.errors import LazyioError, TargetError

LOG = "redo"
"""In a hidden folder: the log."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MARKER = b"\x89lzy"
"""How what stands in place of the signature begins while a log is applied; 4 random bytes follow.
"""

_MAGIC = b"lazyio-2"
_HEADER = struct.Struct("<8sQQQ16s")
_ENTRY = struct.Struct("<QQ16s?")
_RANGE = struct.Struct("<QQQ16s16s")
_FOOT = struct.Struct("<QQQQQ8s8s")
_DIGEST_NBYTES = 16
_NOWHERE = 2**64 - 1
"""In place of where a range lies in the log: it is only compared."""

_COPY_NBYTES = 1 << 20
_HEAD_NBYTES = 96
"""Of the longest superblock, with the end of the file in it."""

_MOST_SAMPLES = 64
_COPY = "data"
"""In a hidden folder: what is being built."""


class FileState(NamedTuple):
    """What a file was before anything was written to it or behind its end; as in the header."""

    nbytes: int
    """Its length."""
    device: int
    inode: int
    head: bytes
    """Digest of its superblock, in which HDF5 says how long a file is."""


class Range(NamedTuple):
    """Bytes of a file that a committed log speaks of; as in its table."""

    place: int
    """Where they begin in the file."""
    logged_at: int
    """Where they lie in the log; :data:`_NOWHERE` where the file must hold them already."""
    nbytes: int
    before: bytes
    """Digest of what was there."""
    after: bytes
    """Digest of what is to be there."""


class Change(NamedTuple):
    """A change that is complete in its log; as in the foot."""

    ranges: tuple[Range, ...]
    nbytes_before: int
    """Length of the file when the change was committed."""
    nbytes_after: int
    """Length that it has then."""
    superblock_at: int
    """Where the signature lies."""
    marker: bytes
    """What stands in its place while the log is applied; no other log has the same."""

    @property
    def logged(self) -> Iterator[Range]:
        """The ranges that are to be copied."""
        return (one for one in self.ranges if one.logged_at != _NOWHERE)


class WriteAheadLog:
    """Ranges of bytes that are to be written over those of a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder / LOG, os.O_RDWR)
        self._lock = threading.Lock()
        self._end = _HEADER.size + _DIGEST_NBYTES
        # Place in the file, place in the log, bytes: of every entry, 24 bytes each.
        self._entries = array("Q")
        self._payloads: dict[int, tuple[int, int]] = {}
        self._take_up()

    def add(self, at: int, view: memoryview, *, is_payload: bool) -> None:
        """Note bytes that belong at a place of the file; later ones go over earlier ones."""
        head = _ENTRY.pack(at, len(view), _seeded(view, at, is_payload), is_payload)
        with self._lock:
            begin, self._end = self._end, self._end + len(head) + len(view)
            self._entries.extend((at, begin + len(head), len(view)))
        write_at(self._descriptor, memoryview(head), begin)
        write_at(self._descriptor, view, begin + len(head))

    def payload(self, at: int, nbytes: int) -> bytes:
        """Return a payload that is noted for a place, or nothing."""
        begin, length = self._payloads.get(at, (0, 0))
        return read_at(self._descriptor, nbytes, begin) if length == nbytes else b""

    def _take_up(self) -> None:
        """Find the payloads that are whole; what comes behind is written again."""
        size = os.fstat(self._descriptor).st_size
        at = self._end
        while at + _ENTRY.size <= size:
            raw = read_at(self._descriptor, _ENTRY.size, at)
            place, nbytes, digest, is_payload = _ENTRY.unpack(raw)
            begin = at + _ENTRY.size
            if not is_payload or begin + nbytes > size:
                break
            if _seeded(read_at(self._descriptor, nbytes, begin), place, is_payload) != digest:
                break
            self._payloads[place] = begin, nbytes
            self._entries.extend((place, begin, nbytes))
            at = begin + nbytes
        self._end = at
        os.ftruncate(self._descriptor, self._end)

    def commit(self, target: int, nbytes: int) -> None:
        """Have the log on the disk: from now on the change is made, whatever happens."""
        try:
            self._commit(target, nbytes)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, _HEADER.size + _DIGEST_NBYTES)
            raise

    def _commit(self, target: int, nbytes: int) -> None:
        base = _base_in(self._descriptor)
        before = os.fstat(target).st_size
        superblock_at = superblock_in(target)
        if base is None or superblock_at is None:
            raise OSError(errno.EIO, "the file or its log is damaged")
        ranges = [
            Range(
                place,
                begin,
                length,
                _digest_in(target, place, length),
                _digest_in(self._descriptor, begin, length),
            )
            for place, begin, length in _final(self._entries)
        ]
        for place, length in _samples(base.nbytes, before):
            digest = _digest_in(target, place, length)
            ranges.append(Range(place, _NOWHERE, length, digest, digest))
        table = b"".join(_RANGE.pack(*one) for one in ranges)
        marker = MARKER + secrets.token_bytes(len(SIGNATURE) - len(MARKER))
        foot = _FOOT.pack(self._end, len(ranges), before, nbytes, superblock_at, marker, _MAGIC)
        digest = _foot_digest(self._descriptor, table, foot)
        write_at(self._descriptor, memoryview(table + foot + digest), self._end)
        os.fsync(self._descriptor)

    def restart(self, base: FileState) -> None:
        """Begin the log of the next change: the one that it holds is made and durable."""
        # Emptied first: what a later header says must not be read with an older foot.
        os.ftruncate(self._descriptor, _HEADER.size + _DIGEST_NBYTES)
        self.rebase(base)
        self._end, self._payloads = _HEADER.size + _DIGEST_NBYTES, {}
        self._entries = array("Q")

    def rebase(self, base: FileState) -> None:
        """Say what the file is like that the log is for, on the disk."""
        write_at(self._descriptor, memoryview(_packed(base)), 0)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the log, which stays; what matters of it has been forced to the disk."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def begin(folder: Path, target: int) -> None:
    """Note what a file is like, on the disk, before anything is written behind its end."""
    with opened(folder / LOG, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as log:
        write_at(log, memoryview(_packed(base_now(target))), 0)
        os.fsync(log)
    sync_folder(folder)


def base_now(target: int) -> FileState:
    """Return what a file is like that nothing has been written behind."""
    facts = os.fstat(target)
    return FileState(facts.st_size, facts.st_dev, facts.st_ino, _head_in(target))


def is_begun(folder: Path) -> bool:
    """Return whether a file may have something behind its end, or be half changed."""
    return base_of(folder) is not None


def base_of(folder: Path) -> FileState | None:
    """Return what a file was before it was changed, ``None`` where it was not."""
    with contextlib.suppress(FileNotFoundError), opened(folder / LOG) as log:
        return _base_in(log)
    return None


def head_of(target: Path) -> str:
    """Return a digest of where HDF5 says how long a file is; it may begin behind a user block."""
    with opened(target) as descriptor:
        return _head_in(descriptor).hex()


def superblock_in(descriptor: int, signature: bytes = SIGNATURE) -> int | None:
    """Return where HDF5's superblock lies, ``None`` where there is none.

    At 0, or behind a block of the user's at 512, 1024, 2048 and so on.
    """
    size, at = os.fstat(descriptor).st_size, 0
    while at < size:
        if read_at(descriptor, len(signature), at) == signature:
            return at
        at = max(512, 2 * at)
    return None


def is_half_applied(path: Path) -> bool:
    """Return whether a marker stands in place of a file's signature."""
    if not hasattr(os, "pread"):
        return False  # Nothing is changed in place there.
    with contextlib.suppress(OSError), opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        return superblock_in(descriptor, MARKER) is not None
    return False


def undo(folder: Path, lock: FileLock | None) -> None:
    """Take back what was written behind the end of a file, and forget the log.

    A file that another program has changed, replaced or has open is left as it is: HDF5 takes no
    notice of what lies behind its end.
    """
    base = base_of(folder)
    if base is not None and lock is not None:
        with contextlib.suppress(OSError), lock.exclusive(patience=0):
            now = base_now(lock.descriptor)
            is_same = (now.device, now.inode, now.head) == (base.device, base.inode, base.head)
            if is_same and now.nbytes > base.nbytes:
                os.ftruncate(lock.descriptor, base.nbytes)
    # It is not complete, so that nobody could take it for a change that is to be made.
    (folder / LOG).unlink(missing_ok=True)


def apply(folder: Path, target: int) -> None:
    """Make the change that a committed log describes, and have it on the disk."""
    with opened(folder / LOG) as log:
        change = _committed_in(log)
        write_at(target, memoryview(change.marker), change.superblock_at)
        os.fsync(target)
        for one in change.logged:
            for done in range(0, one.nbytes, _COPY_NBYTES):
                nbytes = min(_COPY_NBYTES, one.nbytes - done)
                part = memoryview(read_at(log, nbytes, one.logged_at + done))
                _write_around(target, part, one.place + done, change.superblock_at)
        os.ftruncate(target, change.nbytes_after)
        os.fsync(target)
        write_at(target, memoryview(SIGNATURE), change.superblock_at)
        os.fsync(target)


def _write_around(target: int, part: memoryview, at: int, superblock_at: int) -> None:
    """Write bytes to their place, but for the signature, which comes last and by itself."""
    skipped, signature_ends = 0, superblock_at + len(SIGNATURE)
    if at < signature_ends and at + len(part) > superblock_at:
        write_at(target, part[: max(0, superblock_at - at)], at)
        skipped = min(len(part), signature_ends - at)
    write_at(target, part[skipped:], at + skipped)


def misfit(folder: Path, target: int) -> str | None:
    """Return in what a file is another than the one that a log was made for."""
    with opened(folder / LOG) as log:
        change = _committed_in(log)
    stands = read_at(target, len(SIGNATURE), change.superblock_at)
    if stands != SIGNATURE:
        both = zip(stands, SIGNATURE, change.marker, strict=False)
        if len(stands) == len(SIGNATURE) and all(at in (old, new) for at, old, new in both):
            # Nobody could open it since: what is torn is ours, and is written again.
            return None
        return "it does not begin as it did"
    nbytes = os.fstat(target).st_size
    if nbytes not in (change.nbytes_before, change.nbytes_after):
        return (
            f"it has {nbytes} bytes, and had {change.nbytes_before} when the change was committed"
        )
    for one in change.ranges:
        if one.place + one.nbytes > nbytes:
            continue  # It is cut off by the change, which is made.
        if _digest_in(target, one.place, one.nbytes) not in (one.before, one.after):
            return f"bytes {one.place} to {one.place + one.nbytes} hold something else by now"
    return None


def recover(folder: Path, target: Path) -> str | None:
    """Make the change that a committed log describes, and then forget it."""
    try:
        lock = FileLock(target)
    except FileNotFoundError:
        raise _refused(folder, target, "it is not there any more") from None
    try:
        with lock.exclusive(patience=PATIENCE):
            why = misfit(folder, lock.descriptor)
            if why is not None:
                raise _refused(folder, target, why)
            is_open_to_all = superblock_in(lock.descriptor) is not None
            if is_open_to_all and os.fstat(lock.descriptor).st_nlink > 1:
                base = base_of(folder)
                take_own_copy(target, folder, lock, base.nbytes if base else 0)
            apply(folder, lock.descriptor)
            return _forgotten(folder, target)
    except LazyioError:
        raise
    except OSError as error:
        msg = (
            f"{target} could not be changed: {error.strerror}; the change is complete in {folder}, "
            f"and is made by: lazyio recover {target}"
        )
        raise TargetError(error.errno, msg) from error
    finally:
        lock.close()


def _forgotten(folder: Path, target: Path) -> str | None:
    """Forget the log of a change that is made; return what goes wrong with that."""
    try:
        # Before the log: a job that is done is not one to be resumed.
        (folder / JOB).unlink(missing_ok=True)
        forget(folder)
    except OSError as error:
        return f"{target} has been changed, but {folder} could not be cleared: {error.strerror}"
    return None


def take_own_copy(path: Path, folder: Path, lock: FileLock, old_nbytes: int) -> None:
    """Give a path a file of its own, where another name leads to the same one.

    That name is a snapshot, which stays what it is; what was written behind its end is cut off.
    """
    copy = folder / _COPY
    shutil.copyfile(path, copy)
    shutil.copymode(path, copy)
    sync_file(copy)
    own = FileLock(copy)
    own.try_exclusive()  # Nobody else knows it yet.
    os.replace(copy, path)
    sync_folder(path.parent)
    os.ftruncate(lock.descriptor, old_nbytes)
    lock.move_to(own)


PATIENCE = 30.0
"""Seconds to wait for programs that have a file open."""


def _refused(folder: Path, target: Path, why: str) -> TargetError:
    msg = (
        f"a change of {target} was interrupted, and cannot be finished: {why}. Both are left as "
        f"they are. To keep {target} as it is, and give the change up, remove {folder}; to "
        f"have the change, put the file back that it was made for, then: lazyio recover {target}"
    )
    return TargetError(errno.EBUSY, msg)


def forget(folder: Path) -> None:
    """Remove the log: the change is made, or is not to be made."""
    with contextlib.suppress(FileNotFoundError):
        with opened(folder / LOG, os.O_WRONLY) as log:
            # Dead on the disk at once: the name of a file may come back after a power cut.
            os.ftruncate(log, 0)
            os.fsync(log)
        (folder / LOG).unlink()
        sync_folder(folder)


def is_committed(folder: Path) -> bool:
    """Return whether a log is complete: its foot, and all that it speaks of."""
    with contextlib.suppress(FileNotFoundError, ValueError), opened(folder / LOG) as log:
        return all(
            _digest_in(log, one.logged_at, one.nbytes) == one.after
            for one in _committed_in(log).logged
        )
    return False


def _committed_in(log: int) -> Change:
    """Return the change that a log describes."""
    size = os.fstat(log).st_size
    raw = read_at(log, _FOOT.size + _DIGEST_NBYTES, max(0, size - _FOOT.size - _DIGEST_NBYTES))
    foot, digest = raw[: _FOOT.size], raw[_FOOT.size :]
    if len(foot) < _FOOT.size or _base_in(log) is None or foot[-len(_MAGIC) :] != _MAGIC:
        raise ValueError(_INCOMPLETE)
    table_at, n_ranges, *facts, _ = _FOOT.unpack(foot)
    table_nbytes = size - _FOOT.size - _DIGEST_NBYTES - table_at
    if table_nbytes != n_ranges * _RANGE.size:
        raise ValueError(_INCOMPLETE)
    table = read_at(log, table_nbytes, table_at)
    if _foot_digest(log, table, foot) != digest:
        raise ValueError(_INCOMPLETE)
    return Change(tuple(map(Range._make, _RANGE.iter_unpack(table))), *facts)


_INCOMPLETE = "the log is not complete"


def _packed(base: FileState) -> bytes:
    header = _HEADER.pack(_MAGIC, *base)
    return header + _as_bytes(digest_of(header))


def _base_in(log: int) -> FileState | None:
    raw = read_at(log, _HEADER.size + _DIGEST_NBYTES, 0)
    header, digest = raw[: _HEADER.size], raw[_HEADER.size :]
    if len(header) < _HEADER.size or _as_bytes(digest_of(header)) != digest:
        return None
    magic, *facts = _HEADER.unpack(header)
    return FileState(*facts) if magic == _MAGIC else None


def _head_in(descriptor: int) -> bytes:
    at = superblock_in(descriptor)
    head = b"" if at is None else read_at(descriptor, _HEAD_NBYTES, at + len(SIGNATURE))
    return _as_bytes(digest_of(head))


def _foot_digest(log: int, table: bytes, foot: bytes) -> bytes:
    """Return the digest by which a log is known to be complete: of all but what it is to copy."""
    hash_ = Hash()
    for part in (read_at(log, _HEADER.size + _DIGEST_NBYTES, 0), table, foot):
        hash_.update(part)
    return _as_bytes(hash_.value)


def _digest_in(descriptor: int, at: int, nbytes: int) -> bytes:
    """Return the digest of a part of a file, as far as it reaches."""
    hash_ = Hash()
    done = 0
    while done < nbytes:
        piece = read_at(descriptor, min(_COPY_NBYTES, nbytes - done), at + done)
        if not piece:
            break
        hash_.update(piece)
        done += len(piece)
    return _as_bytes(hash_.value)


def _samples(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield pieces of what lies behind the old end: all of it, or evenly spread samples.

    They tell whether another program has written there since.
    """
    n_pieces = -(-(stop - start) // _COPY_NBYTES)
    n_taken = min(n_pieces, _MOST_SAMPLES)
    for at in range(n_taken):
        # The first and the last are among them.
        piece = at if n_taken == n_pieces else at * (n_pieces - 1) // (n_taken - 1)
        place = start + piece * _COPY_NBYTES
        yield place, min(_COPY_NBYTES, stop - place)


def _final(entries: "array[int]") -> list[tuple[int, int, int]]:
    """Return place, place in the log and bytes of what is written in the end, in file order.

    Examples
    --------
    >>> _final(array("Q", [10, 100, 6, 12, 200, 2, 10, 300, 1]))
    [(10, 300, 1), (11, 101, 1), (12, 200, 2), (14, 104, 2)]
    """
    last: dict[tuple[int, int], int] = {}
    for at in range(0, len(entries), 3):
        place, begin, nbytes = entries[at : at + 3]
        # Behind those that came between, over which it goes.
        last.pop((place, nbytes), None)
        last[place, nbytes] = begin
    found = sorted((place, begin, nbytes) for (place, nbytes), begin in last.items())
    is_apart = all(one[0] + one[2] <= other[0] for one, other in itertools.pairwise(found))
    if is_apart:
        return found
    left = UnwrittenRanges[range]()
    for (place, nbytes), begin in last.items():
        left.put(place, range(begin, begin + nbytes))
    return [(place, logged.start, len(logged)) for place, logged in left.ranges()]


def _seeded(data: bytes | memoryview, place: int, is_payload: bool) -> bytes:
    """Return the digest of an entry, which is another at any other place."""
    return _as_bytes(digest_of(data, seed=2 * place + is_payload))


def _as_bytes(digest: int) -> bytes:
    return digest.to_bytes(_DIGEST_NBYTES, "little")
