"""An advisory lock on a file, which the kernel drops when its holder dies."""

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lazyio.errors import TargetError, TargetLockedError

if sys.platform == "win32":  # No flock there; msvcrt locks a byte range instead.
    import msvcrt
else:
    import fcntl

NAME = "lock"
"""Of the lock in a hidden folder."""

_PATIENCE, _PAUSE = 30.0, 0.02
_MOST_TRIES = 1000
"""Writers that may come and go between two steps, before the file system is to blame."""
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


def enter(folder: Path, target: Path) -> int:
    """Make a hidden folder, where it is not there, and lock it.

    Returns
    -------
    int
        Descriptor; closing it drops the lock. The folder stays until :func:`leave`.

    Raises
    ------
    TargetLockedError
        When another has it.
    TargetError
        When the place cannot be written, or has no working locks.
    """
    for _ in range(_MOST_TRIES):
        try:
            folder.mkdir(exist_ok=True)
            if folder.is_symlink():
                msg = f"{folder} is a link, and what it leads to is not ours; remove it"
                raise TargetError(errno.ELOOP, msg)
            descriptor = acquire(folder / NAME, target)
        except FileNotFoundError:
            continue  # Removed by the one before us, between our two steps.
        except TargetLockedError:
            raise
        except TargetError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise
        except OSError as error:
            msg = f"{folder.parent} cannot be written: {error.strerror}"
            raise TargetError(error.errno, msg) from error
        if _is_same_file(descriptor, folder / NAME):
            return descriptor
        os.close(descriptor)
    msg = f"{folder.parent} takes no folder for the work, or loses it at once; write elsewhere"
    raise TargetError(errno.ENOENT, msg)


def leave(folder: Path) -> None:
    """Remove a hidden folder that holds nothing but the lock, which is held."""
    (folder / NAME).unlink(missing_ok=True)
    # From here on it may be another's: only an empty one is removed.
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether the lock that we hold is the one that others will see."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def acquire(path: Path, target: Path) -> int:
    """Lock a file for this process and return its descriptor.

    Parameters
    ----------
    path : Path
        The lock file; made if it is not there.
    target : Path
        What the lock protects, named in errors.

    Returns
    -------
    int
        Descriptor; closing it drops the lock.

    Raises
    ------
    TargetLockedError
        When another writer holds it; names process, host and since when.
    TargetError
        When the file system has no working locks.
    """
    # A link in place of the lock would lead to a file that is not ours.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        _lock(descriptor)
    except OSError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        if error.errno not in _BUSY:
            path.unlink(missing_ok=True)
        if error.errno in _BUSY:
            msg = (
                f"{target} is being written by {holder}; wait for it to finish, or stop it. "
                "Nothing was changed"
            )
            raise TargetLockedError(error.errno, msg) from None
        msg = (
            f"{path.parent.parent} is on a file system without working locks ({error.strerror}), "
            "where two writers could harm each other; write to a local disk and copy the result"
        )
        raise TargetError(error.errno, msg) from error
    try:
        _write_holder(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Keep other programs from writing to a file, as HDF5 libraries keep each other.

    Raises
    ------
    TargetLockedError
        When one has it open for writing.
    """
    with _flocked(path, "LOCK_SH", patience=0):
        yield


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other programs from a file altogether, once they have closed it.

    Raises
    ------
    TargetLockedError
        When they do not in half a minute.
    """
    with _flocked(path, "LOCK_EX", patience=_PATIENCE):
        yield


class FileLock:
    """The lock that HDF5 libraries have on a file: shared, and for moments alone.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    TargetLockedError
        When another program has it open for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR)
        try:
            _wait_for(self._descriptor, path, "LOCK_SH", patience=0)
        except BaseException:
            os.close(self._descriptor)
            raise

    @contextlib.contextmanager
    def alone(self, patience: float) -> Iterator[None]:
        """Keep other programs from the file altogether, once they have closed it.

        Raises
        ------
        TargetLockedError
            When they have not after so many seconds.
        """
        try:
            _wait_for(self._descriptor, self._path, "LOCK_EX", patience=patience)
            yield
        finally:
            # Also where it was not to be had: asking for it has let go of the other.
            _wait_for(self._descriptor, self._path, "LOCK_SH", patience=patience)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


@contextlib.contextmanager
def _flocked(path: Path, kind: str, *, patience: float) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        _wait_for(descriptor, path, kind, patience=patience)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path, kind: str, *, patience: float) -> None:
    if sys.platform == "win32":
        return
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, getattr(fcntl, kind) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            if time.monotonic() > until:
                msg = (
                    f"{path} is open in another program, or elsewhere in this one; close it "
                    "there, and make the same call again"
                )
                raise TargetLockedError(error.errno, msg) from None
            time.sleep(_PAUSE)
        else:
            return


def is_held(path: Path) -> bool:
    """Return whether a lock file is held by anybody."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


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
    facts = {}
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(os.read(descriptor, 4096))
    if not facts:
        return "another process"
    if facts["pid"] == os.getpid() and facts["host"] == socket.gethostname():
        return "another call of this process; several arrays, {key: array}, go into one call"
    return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
