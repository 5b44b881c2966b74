"""A lock for file systems on which the kernel has none: exclusive creation, and a heartbeat.

The lock is a folder with one file in it, named by an identity that its holder has made up. It is
taken by renaming such a folder into its place, which succeeds only where there is none, or an
empty one. While it is held, a thread of its holder counts on in that file. Who waits for it and
has seen the count stand still for half a minute, by a clock of its own, takes it over by renaming
the file: to one name from one name, so that of several who try only one succeeds, and none
where the holder has come back and let go. Who has lost a lock finds no file of its name any more;
that is asked for before anything is published.
"""

import contextlib
import errno
import functools
import json
import logging
import os
import shutil
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazyio.errors import TargetError, TargetLockedError

logger = logging.getLogger("lazyio")

INTERVAL = 2.0
"""Seconds from one sign of life to the next."""
MOST_MISSED = 15
"""Signs of life that may be missing before a lock is taken over."""

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, 524}
"""Errors of a file system without locks; the last one is ENOTSUPP, which Linux lets out."""

_TRIES, _PAUSE = 50, 0.001
"""For a file in place of the lock, of one who is just finding out that there are no locks."""


@dataclass(frozen=True, kw_only=True)
class _Sighting:
    """A lock as it was seen, and since when it has not changed."""

    name: str
    content: bytes
    since: float


_SIGHTINGS: dict[str, _Sighting] = {}
"""Of locks that this process has asked for in vain, by their paths."""


class HeartbeatLock:
    """The lock of a hidden folder, which this process holds and keeps alive."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._file = path / name
        self.mark = f"-{name}"
        self._process = os.getpid()
        self._n_beats = 0
        self._since = time.ctime()
        self._counting = threading.Lock()
        self._ended = threading.Event()

    def begin(self) -> None:
        """Give signs of life from now on."""
        self._beat()
        threading.Thread(target=self._keep, name="lazyio-heartbeat", daemon=True).start()

    def is_there(self) -> bool:
        """Return whether it is still ours."""
        return self._file.exists()

    def check(self, target: Path) -> None:
        """Refuse to go on where another process has taken the lock over."""
        try:
            self._beat()
        except OSError as error:
            msg = (
                f"{target} is locked by another process by now, for this one has given no sign of "
                f"life for {INTERVAL * MOST_MISSED:g} s ({error.strerror}): it was suspended, or "
                "its file system did not answer. Nothing was published; make the same call again"
            )
            raise TargetError(errno.ESTALE, msg) from error

    def remove(self) -> None:
        """Let others have the lock, where it is still ours."""
        if os.getpid() != self._process:
            return
        with contextlib.suppress(OSError):
            self._file.unlink()
            # Another may have come in between: only an empty one is removed.
            self._path.rmdir()

    def release(self) -> None:
        """Let go of the lock."""
        self._ended.set()
        self.remove()

    def _keep(self) -> None:
        while not self._ended.wait(INTERVAL):
            try:
                self._beat()
            except FileNotFoundError:
                if not self._ended.is_set():
                    logger.error("%s was taken over by another process", self._path)
                return
            except OSError as error:
                logger.warning("%s cannot be kept alive: %s", self._path, error)

    def _beat(self) -> None:
        """Count on in the file, which is not made again where it is gone."""
        with self._counting:
            self._n_beats += 1
            content = _content(self._n_beats, self._since)
            descriptor = os.open(self._file, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                os.write(descriptor, content)
                os.ftruncate(descriptor, len(content))  # It may have been another's before.
            finally:
                os.close(descriptor)


def acquire(path: Path, target: Path | str) -> HeartbeatLock:
    """Take a lock for this process, or take it over from one that is dead."""
    name = uuid.uuid4().hex
    _wait_for_file(path, target)
    found = _sighted(path)
    if found is not None:
        if not _is_dead(found):
            raise _locked(target, found)
        try:
            # From a name that no other lock ever has: of several who try it one succeeds.
            os.rename(path / found.name, path / name)
        except FileNotFoundError:
            raise _locked(target, None) from None
        logger.warning("%s is taken over from %s", path, holder_in(found.content))
    else:
        _put(path, name, target)
    _SIGHTINGS.pop(str(path), None)
    lock = HeartbeatLock(path, name)
    lock.begin()
    return lock


def is_held(path: Path) -> bool:
    """Return whether a lock is held, as far as is known; nothing is changed to find out."""
    found = _sighted(path)
    return found is not None and not _is_dead(found)


def holder_in(content: bytes) -> str:
    """Return who holds a lock, in words."""
    facts = _facts(content)
    if not facts:
        return "another process"
    if facts["pid"] == os.getpid() and facts["host"] == socket.gethostname():
        return "another call of this process; several arrays, {key: array}, go into one call"
    return f"process {facts['pid']} on {facts['host']} since {facts['since']}"


def _put(path: Path, name: str, target: Path | str) -> None:
    """Put a lock into its place, where there is none."""
    prepared = path.with_name(f"{path.name}.{name}")
    prepared.mkdir()
    try:
        (prepared / name).write_bytes(_content(0, time.ctime()))
        os.rename(prepared, path)
    except OSError as error:
        shutil.rmtree(prepared, ignore_errors=True)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise _locked(target, _sighted(path)) from None


def _sighted(path: Path) -> _Sighting | None:
    """Return the lock at a path, and since when it has been as it is."""
    try:
        name = next(iter(sorted(os.listdir(path))), None)
        content = b"" if name is None else (path / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        name = None
    if name is None:
        _SIGHTINGS.pop(str(path), None)
        return None
    before = _SIGHTINGS.get(str(path))
    if before is None or (before.name, before.content) != (name, content):
        before = _Sighting(name=name, content=content, since=time.monotonic())
        _SIGHTINGS[str(path)] = before
    return before


def _is_dead(found: _Sighting) -> bool:
    """Return whether the holder of a lock gives no sign of life any more."""
    if time.monotonic() - found.since > INTERVAL * MOST_MISSED:
        return True
    facts = _facts(found.content)
    if facts.get("machine") is None or facts["machine"] != _machine():
        return False
    # A process of this boot, which this one can see: then the system knows.
    return bool(_started(int(facts["pid"])) != facts.get("started"))


def _wait_for_file(path: Path, target: Path | str) -> None:
    """Refuse to go on where the kernel's lock was taken, which cannot be asked for here.

    Who is just finding out that there are no locks has an empty file there for a moment.
    """
    for _ in range(_TRIES):
        if path.is_dir() or not os.path.lexists(path):
            return
        time.sleep(_PAUSE)
    with contextlib.suppress(OSError):
        if not path.lstat().st_size:
            path.unlink()  # Of one who was killed at that moment.
            return
    msg = (
        f"{target} was or is being written by a process on a machine on which its file system has "
        f"locks, and here it has none. If no such process is at work any more, remove {path}; and "
        "mount the file system alike on all machines. Nothing was changed"
    )
    raise TargetLockedError(errno.EAGAIN, msg)


def _locked(target: Path | str, found: _Sighting | None) -> TargetLockedError:
    holder = "another process" if found is None else holder_in(found.content)
    msg = (
        f"{target} is being written by {holder}; wait for it to finish, or stop it: its lock is "
        f"taken over once it has given no sign of life for {INTERVAL * MOST_MISSED:g} s. Nothing "
        "was changed"
    )
    return TargetLockedError(errno.EAGAIN, msg)


def _content(n_beats: int, since: str) -> bytes:
    facts = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": since,
        "machine": _machine(),
        "started": _started(os.getpid()),
        "beat": f"{n_beats:012d}",
    }
    return json.dumps(facts).encode()


def _facts(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        facts = json.loads(content)
        if isinstance(facts, dict) and facts.keys() >= {"pid", "host", "since"}:
            return facts
    return {}


@functools.cache
def _machine() -> str | None:
    """Return what processes have in common that can see each other, ``None`` if not known."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return None


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks; ``None`` where there is none of that number."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # One that has been killed has a number until its parent asks for it.
        return None if fields[0] in "ZX" else fields[19]
    return None
