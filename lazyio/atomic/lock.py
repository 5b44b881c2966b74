"""An advisory lock on a file, which the kernel drops when its holder dies.

Where the file system has no such locks, that of a hidden folder is kept by a heartbeat.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lazyio.atomic import heartbeat
from lazyio.errors import TargetError, TargetLockedError

if sys.platform == "win32":  # No flock there; msvcrt locks a byte range instead.
    import msvcrt
else:
    import fcntl

NAME = "lock"
"""Of the lock in a hidden folder."""

_PAUSE = 0.02
_MOST_TRIES = 1000
"""Writers that may come and go between two steps, before the file system is to blame."""
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}

_HELD: dict[int, tuple[int, int]] = {}
"""Descriptors of locks, with device and inode of their files.

A child that is forked shares them, and would hold the locks on when this process is dead.
"""


def _held(descriptor: int) -> int:
    """Return a descriptor of which forked children are to let go."""
    facts = os.fstat(descriptor)
    _HELD[descriptor] = facts.st_dev, facts.st_ino
    return descriptor


def release(descriptor: int) -> None:
    """Let go of a lock; nothing was written by it that closing it could tell of."""
    _HELD.pop(descriptor, None)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _let_go_in_child() -> None:
    """Close the descriptors of locks in a forked child; the parent holds them on."""
    for descriptor, file in _HELD.items():
        with contextlib.suppress(OSError):
            facts = os.fstat(descriptor)
            if (facts.st_dev, facts.st_ino) == file:
                os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


class FolderLock(Protocol):
    """The lock of a hidden folder, which this process holds."""

    mark: str
    """What tells names of this holder from those of one that may think it holds the lock still."""

    def is_there(self) -> bool:
        """Return whether what we hold is the lock that others will see."""

    def check(self, target: Path) -> None:
        """Refuse to go on where another process holds it by now."""

    def remove(self) -> None:
        """Remove the lock, which is held until it is released."""

    def release(self) -> None:
        """Let go of the lock."""


class KernelLock:
    """The lock of a hidden folder, by the kernel."""

    mark = ""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def is_there(self) -> bool:
        """Return whether what we hold is the lock that others will see."""
        return _is_same_file(self._descriptor, self._path)

    def check(self, target: Path) -> None:
        """Do nothing: while a process is there, nobody takes its lock from it."""

    def remove(self) -> None:
        """Remove the lock, which is held until it is released."""
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go of the lock."""
        release(self._descriptor)


def enter(folder: Path, target: Path) -> FolderLock:
    """Make a hidden folder, where it is not there, and lock it."""
    for _ in range(_MOST_TRIES):
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            if folder.is_symlink():
                msg = f"{folder} is a link, and what it leads to is not ours; remove it"
                raise TargetError(errno.ELOOP, msg)
            held = acquire(folder / NAME, target)
        except FileNotFoundError:
            continue  # Removed by the one before us, between our two steps.
        except TargetLockedError:
            raise
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()
            if isinstance(error, TargetError):
                raise
            msg = f"{folder.parent} cannot be written: {error.strerror}"
            raise TargetError(error.errno, msg) from error
        if held.is_there():
            return held
        held.release()
    msg = f"{folder.parent} takes no folder for the work, or loses it at once; write elsewhere"
    raise TargetError(errno.ENOENT, msg)


def leave(folder: Path, held: FolderLock) -> None:
    """Remove a hidden folder that holds nothing but its lock; that is still to be released."""
    held.remove()
    # From here on it may be another's: only an empty one is removed.
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether the lock that we hold is the one that others will see."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def acquire(path: Path, target: Path | str) -> FolderLock:
    """Take the lock of a hidden folder for this process."""
    # A link in place of the lock would lead to a file that is not ours.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = _held(os.open(path, flags, 0o666))
    except IsADirectoryError:
        return heartbeat.acquire(path, target)
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in heartbeat.NO_LOCKS:
            with contextlib.suppress(OSError):
                # One with a holder in it is of a machine that has locks here. By now there may be
                # a folder: the lock of another process.
                if not os.fstat(descriptor).st_size:
                    path.unlink()
            release(descriptor)
            return heartbeat.acquire(path, target)
        holder = _holder(descriptor)
        release(descriptor)
        if error.errno in _BUSY:
            msg = (
                f"{target} is being written by {holder}; wait for it to finish, or stop it. "
                "Nothing was changed"
            )
            raise TargetLockedError(error.errno, msg) from None
        path.unlink(missing_ok=True)
        msg = (
            f"{path.parent.parent} is on a file system whose locks do not work "
            f"({error.strerror}), where two writers could harm each other; write to a local disk "
            "and copy the result"
        )
        raise TargetError(error.errno, msg) from error
    try:
        _write_holder(descriptor)
    except BaseException:
        # Nobody else has it, so that the place is left as it was.
        with contextlib.suppress(OSError):
            path.unlink()
        release(descriptor)
        raise
    return KernelLock(path, descriptor)


class FileLock:
    """The lock that HDF5 libraries take on a file: shared while we work, exclusive for moments.

    While it is held other programs may read the file, and none opens it for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_shared = True
        """Whether no other program can open the file for writing."""
        for _ in range(_MOST_TRIES):
            self.descriptor = _opened(path)
            is_locked = self._try("LOCK_SH")
            # Replaced between the two steps, it is another file that others will open.
            is_same = _is_same_file(self.descriptor, path)
            if is_locked and is_same:
                return
            self.close()
            if is_same:
                break
        msg = "is open for writing"
        raise self._busy(msg)

    @contextlib.contextmanager
    def exclusive(self, patience: float) -> Iterator[None]:
        """Keep other programs from the file altogether, once they have closed it.

        A lock cannot be converted: for a moment there is none, and another program may come
        between. What the file is then is for the caller to look at, before it is changed.
        """
        until = time.monotonic() + patience
        while not self.try_exclusive():
            # Asking has let go of the shared lock: without it a reader could go on as a writer.
            self.is_shared = self._try("LOCK_SH")
            if time.monotonic() >= until:
                msg = "is open"
                raise self._busy(msg)
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            # What was done under it is done, whether the other can be had or not.
            with contextlib.suppress(OSError):
                self.is_shared = self._try("LOCK_SH")

    def try_exclusive(self) -> bool:
        """Keep all others from the file, if nobody has it open; else no lock is left."""
        return self._try("LOCK_EX")

    def move_to(self, other: "FileLock") -> None:
        """Hold the lock of another file from now on, under the same descriptor."""
        os.dup2(other.descriptor, self.descriptor, inheritable=False)
        _held(self.descriptor)
        other.close()

    def close(self) -> None:
        """Let go of the file."""
        release(self.descriptor)

    def _try(self, kind: str) -> bool:
        """Take the lock if that is possible now; what was held is gone in either case."""
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(self.descriptor, getattr(fcntl, kind) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in heartbeat.NO_LOCKS:
                # Nor do HDF5 libraries lock it: other programs are told by its size and time.
                return True
            if error.errno not in _BUSY:
                raise
            return False
        return True

    def _busy(self, what: str) -> TargetLockedError:
        by = holder_of(self._path) or "in another program, or elsewhere in this one"
        msg = (
            f"{self._path} {what} {by}; close it there, and make the same call again. Nothing was "
            "changed"
        )
        return TargetLockedError(errno.EAGAIN, msg)


def _opened(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY)
    return _held(descriptor)


def holder_of(path: Path) -> str | None:
    """Return who holds a lock on a file, in words; ``None`` where the system does not tell.

    Nothing is locked to find out.
    """
    pids = _pids_with_lock(path)
    for pid in sorted(pids):
        if pid == os.getpid():
            return "elsewhere in this process"
        name = ""
        with contextlib.suppress(OSError):
            name = f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
        return f"in process {pid}{name}"
    return None


def _pids_with_lock(path: Path) -> set[int]:
    """Return the processes that the system names as holders of a lock on a file."""
    try:
        facts = path.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    place = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    found = set()
    for line in lines:
        fields = line.split()
        # "1: FLOCK ADVISORY WRITE 1908 fe:00:2327395 0 EOF"; one that waits has "->" before.
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == place:
            found.add(int(fields[4]))
    return found - {os.getpid()} or found


def is_held(path: Path) -> bool:
    """Return whether a lock file is held by anybody, without asking for it.

    Who asks for a lock, if only to see whether it is free, keeps others from it for that moment.
    """
    if path.is_dir():
        return heartbeat.is_held(path)
    if _pids_with_lock(path):
        return True
    try:
        facts = json.loads(path.read_bytes())
        if facts["host"] != socket.gethostname():
            return True  # Nothing tells whether it still runs.
        if Path("/proc/locks").exists():
            return False
        os.kill(facts["pid"], 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _write_holder(descriptor: int) -> None:
    """Say in the lock file who holds it, for the message that others get."""
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(facts).encode())


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        return heartbeat.holder_in(os.read(descriptor, 4096))
    return heartbeat.holder_in(b"")
