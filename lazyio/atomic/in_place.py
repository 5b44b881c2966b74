"""A file that is changed in place, while nobody else writes to it."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from lazyio.atomic import log as redo
from lazyio.atomic.descriptors import write_at
from lazyio.atomic.journal import NAME as JOB
from lazyio.atomic.lock import FileLock
from lazyio.atomic.log import WriteAheadLog
from lazyio.errors import TargetError, TargetLockedError

logger = logging.getLogger("lazyio")


class InPlaceFile:
    """A file whose old bytes stay as they are until all of a change is on the disk."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        lock: FileLock,
        advise: Callable[[str, str], object],
        check_lock: Callable[[], object] | None = None,
    ) -> None:
        self.path = path
        self._folder = folder
        self._lock = lock
        self._advise = advise
        self._check_lock = check_lock
        self.descriptor = lock.descriptor
        begun = redo.base_of(folder)
        if begun is None:
            redo.begin(folder, self.descriptor)
            begun = redo.base_now(self.descriptor)
        self._base = begun
        self._log = WriteAheadLog(folder)
        self._facts = os.fstat(self.descriptor)
        # Behind the old end a killed run may have written already.
        self._end = self._facts.st_size
        self._end_lock = threading.Lock()
        self.stuck: TargetError | None = None
        """Why a change that is made is in the log only, where the disk failed; no other can follow.
        """

    @property
    def base_nbytes(self) -> int:
        """Length of the file before the change."""
        return self._base.nbytes

    def write(self, view: memoryview, at: int, *, is_payload: bool) -> None:
        """Write what lies behind the old end, and note in the log what belongs over old bytes."""
        n_old = self._n_old(at, len(view))
        if n_old < len(view):
            with self._end_lock:
                if self._end == self._base.nbytes:
                    # From here on our own writes change size and time.
                    self._check_unchanged()
                self._end = max(self._end, at + len(view))
        self._put(view, at, n_old, is_payload=is_payload)

    def read(self, at: int, nbytes: int) -> bytes:
        """Return a payload that an earlier run has written, or what else is there."""
        n_old = self._n_old(at, nbytes)
        old = self._log.payload(at, n_old) if n_old else b""
        return old + os.pread(self.descriptor, nbytes - n_old, at + n_old)

    def _n_old(self, at: int, nbytes: int) -> int:
        """Return how many of some bytes lie before the old end, the first ones."""
        return min(nbytes, max(0, self._base.nbytes - at))

    def _put(self, view: memoryview, at: int, n_old: int, *, is_payload: bool) -> None:
        """Note the first bytes in the log, and write the others behind the old end."""
        if n_old:
            self._log.add(at, view[:n_old], is_payload=is_payload)
        if n_old < len(view):
            write_at(self.descriptor, view[n_old:], at + n_old)

    def commit(
        self,
        hand_over: Callable[[], Iterable[tuple[int, bytes]]],
        nbytes: int,
        *,
        patience: float,
        may_be_later: bool = False,
        is_followed: bool = False,
    ) -> None:
        """Make the change, once programs that read the file have closed it."""
        try:
            with self._lock.exclusive(patience):
                self._write_log(hand_over(), nbytes)
                self._apply()
        except TargetLockedError:
            if not (self._lock.is_shared and (may_be_later or is_followed)):
                raise
            self._write_log(hand_over(), nbytes)
            if is_followed:
                self._apply()
                return
            logger.warning(
                "%s is open in another program. What was written last is complete in %s, and is in "
                "the file after: lazyio recover %s",
                self.path,
                self._folder,
                self.path,
            )

    def _write_log(self, left: Iterable[tuple[int, bytes]], nbytes: int) -> None:
        """Have all of the change on the disk, behind the old end and in the log."""
        self._check_unchanged()
        if os.fstat(self.descriptor).st_nlink > 1:
            redo.take_own_copy(self.path, self._folder, self._lock, self._base.nbytes)
            facts = os.fstat(self.descriptor)
            self._base = self._base._replace(device=facts.st_dev, inode=facts.st_ino)
            self._log.rebase(self._base)
        for at, data in left:
            self._put(memoryview(data), at, self._n_old(at, len(data)), is_payload=False)
        os.fsync(self.descriptor)
        self._log.commit(self.descriptor, nbytes)

    def _apply(self) -> None:
        """Make the change that is in the log, which is dead before others may open the file.

        The change is made from here on: a disk that fails is told, and raises nothing.
        """
        try:
            redo.apply(self._folder, self.descriptor)
            # Before the log: a job that is done is not one to be resumed.
            (self._folder / JOB).unlink(missing_ok=True)
            self._base = redo.base_now(self.descriptor)
            self._log.restart(self._base)
        except OSError as error:
            msg = (
                f"{self.path} could not be changed: {error.strerror}; the change is complete in "
                f"{self._folder}, and is made by: lazyio recover {self.path}"
            )
            self.stuck = TargetError(error.errno, msg)
            self._advise("not-applied", msg)
            return
        self._facts = os.fstat(self.descriptor)
        self._end = self._base.nbytes

    def end_log(self) -> None:
        """Have no log any more: what is written from now on is not taken back."""
        redo.forget(self._folder)

    def close(self) -> None:
        """Close the log, which stays."""
        self._log.close()

    def _check_unchanged(self) -> None:
        """Refuse to go on when another program has changed, moved or replaced the file."""
        if self._check_lock is not None:
            self._check_lock()
        now = os.fstat(self.descriptor)
        try:
            is_here = os.path.samestat(self.path.stat(), now)
        except FileNotFoundError:
            is_here = False
        if not is_here:
            msg = "was moved, removed or replaced"
            raise self._changed(msg)
        if self._end == self._base.nbytes:
            # Programs that do not lock the file are told by its size and time.
            seen = self._facts.st_size, self._facts.st_mtime_ns
            is_same = (now.st_size, now.st_mtime_ns) == seen
        else:
            # They cut off what lies behind the end that they know of, or write another end.
            is_same = now.st_size == self._end
            is_same = is_same and redo.base_now(self.descriptor).head == self._base.head
        if not is_same:
            msg = "was changed"
            raise self._changed(msg)

    def _changed(self, what: str) -> TargetError:
        msg = (
            f"{self.path} {what} by another program while it was being written; it is as that "
            "program left it. What was to be written since the last flush is not in it"
        )
        return TargetError(errno.EBUSY, msg)
