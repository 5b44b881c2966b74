"""The hidden sibling in which a target is built, and the rename that publishes it.

``.<name>.lazyio/`` lies beside the target, on the same file system. While it
exists, the job is not complete; the final name is old or complete at any time.
A directory left by a killed run is cleared by the next one, once its lock is
free.
"""

import contextlib
import ctypes
import errno
import hashlib
import logging
import os
import shutil
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from lazyio.errors import TargetError, TargetLockedError
from lazyio.safety import lock

logger = logging.getLogger("lazyio")

_NAME_MAX = 255
_MOST_TRIES = 1000
"""Writers that may come and go between two steps, before the file system is to blame."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class WorkDirectory:
    """The locked hidden sibling of one target; a context manager.

    Leaving the context removes it, whether the target was published or not.

    Parameters
    ----------
    target : Path
        Absolute path of what will be published, links resolved.
    folder : Path, optional
        Where to work, on the same file system; by default the target's own
        folder. For targets whose folder is to be made when they are published.

    Raises
    ------
    TargetError
        When the folder is missing or cannot be written.
    TargetLockedError
        When another writer is at work on the target.
    """

    def __init__(self, target: Path, *, folder: Path | None = None) -> None:
        self.target = target
        self._folder = folder or target.parent
        name = str(target.relative_to(self._folder)).replace(os.sep, "%2F")
        self.path = self._folder / _hidden_name(name)
        if not self._folder.is_dir():
            msg = f"the folder {self._folder} does not exist; create it first"
            raise TargetError(errno.ENOENT, msg)
        self._descriptor = self._enter()
        try:
            self._clear()
        except OSError as error:
            os.close(self._descriptor)
            msg = f"{self.path}, left by a killed run, cannot be cleared: {error.strerror}"
            raise TargetError(error.errno, msg) from error
        self._seen = _signature(target)

    @property
    def built(self) -> Path:
        """Where the target is built."""
        return self.path / "data"

    @property
    def scratch(self) -> Path:
        """Where parts of chunks wait that do not fit in memory."""
        return self.path / "scratch"

    def publish(self) -> None:
        """Give what was built its final name, replacing what had it.

        Raises
        ------
        TargetError
            When something else has changed or taken the name meanwhile, or the
            rename fails; what has the name keeps it.
        """
        if _signature(self.target) != self._seen:
            msg = (
                f"{self.target} was changed by another program while it was being written anew; "
                "it is as that program left it, run the same call again"
            )
            raise TargetError(errno.EBUSY, msg)
        try:
            if self.target.is_dir():
                _exchange(self.built, self.target, self.path / "old")
            else:
                if self.target.exists():
                    shutil.copymode(self.target, self.built)
                self.built.replace(self.target)
        except OSError as error:
            msg = f"{self.target} could not be replaced: {error.strerror}; it is as it was"
            raise TargetError(error.errno, msg) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The lock file goes last: until then no other writer may take this place.
        # From then on the folder may be theirs, so only an empty one is removed.
        try:
            self._clear()
            (self.path / "lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.rmdir()
        finally:
            os.close(self._descriptor)
        logger.info("removed %s", self.path)

    def _enter(self) -> int:
        for _ in range(_MOST_TRIES):
            try:
                self.path.mkdir(exist_ok=True)
                if self.path.is_symlink():
                    msg = f"{self.path} is a link, and what it leads to is not ours; remove it"
                    raise TargetError(errno.ELOOP, msg)
                descriptor = lock.acquire(self.path / "lock", self.target)
            except FileNotFoundError:
                continue  # Removed by the writer before us, between our two steps.
            except TargetLockedError:
                raise
            except TargetError:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
                raise
            except OSError as error:
                msg = f"{self._folder} cannot be written: {error.strerror}"
                raise TargetError(error.errno, msg) from error
            if _is_same_file(descriptor, self.path / "lock"):
                return descriptor
            os.close(descriptor)
        msg = f"{self._folder} takes no folder for the work, or loses it at once; write elsewhere"
        raise TargetError(errno.ENOENT, msg)

    def _clear(self) -> None:
        """Remove what a run leaves; put back an old target that has no successor."""
        old = self.path / "old"
        if old.exists() and not self.target.exists():
            old.rename(self.target)
        for item in (self.built, self.scratch, old):
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)


def _signature(target: Path) -> tuple[int, ...] | None:
    """Return what changes when something is written to a target, ``None`` if it is not there.

    Of a folder only its identity: what is inside has times of its own.
    """
    try:
        facts = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        return (facts.st_ino,)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _hidden_name(name: str) -> str:
    hidden = f".{name}.lazyio"
    if len(os.fsencode(hidden)) <= _NAME_MAX:
        return hidden
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.lazyio"


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Return whether the lock that we hold is the one that others will see."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _exchange(new: Path, target: Path, aside: Path) -> None:
    """Swap two directories in one step where the system can, else in two."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None:
        paths = os.fsencode(new), os.fsencode(target)
        if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise
