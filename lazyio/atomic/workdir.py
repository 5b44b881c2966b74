"""The hidden sibling in which a target is built, and the rename that publishes it.

``.<name>.lazyio/`` lies beside the target, on the same file system. While it
exists, the job is not complete; the final name is old or complete at any time.
A directory left by a killed run is cleared by the next one, once its lock is
free, unless it holds a job that can be resumed.
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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lazyio.atomic import hdf5_superblock as superblock
from lazyio.atomic import journal as job
from lazyio.atomic import lock
from lazyio.atomic import log as redo
from lazyio.atomic import publish_steps as names
from lazyio.atomic.claims import Claim, dead_folders
from lazyio.atomic.fsync import sync_file, sync_folder, sync_tree
from lazyio.atomic.in_place import InPlaceFile
from lazyio.atomic.journal import NAME as JOB
from lazyio.atomic.patience import Patience
from lazyio.atomic.publish_steps import PublishSteps, naming
from lazyio.errors import LazyioError, ResumeError, TargetError

logger = logging.getLogger("lazyio")

BUILT = "data"
"""In a hidden folder: what is being built."""
JOURNAL = "journal"
"""In a hidden folder: the chunks that it has written."""

COPIED_NBYTES = 64 << 20
"""Files up to this size are copied to be changed; larger ones are changed in place."""

_NAME_MAX = 255
_MOST_INTERRUPTS = 10
_MOST_REMOVALS = 10
_PAUSE = 0.02
"""Of Ctrl-C while a run clears up, which takes a moment."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class WorkDirectory:
    """The locked hidden sibling of one target; a context manager.

    Leaving the context removes it, whether the target was published or not.
    """

    def __init__(
        self,
        target: Path,
        *,
        folder: Path | None = None,
        facts: job.Facts | None = None,
        facts_of_target: Callable[[], job.Facts] | None = None,
        claim: Claim | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.target = target
        self.claim = claim
        """The region that is written, where it is not all of the target."""
        self._folder = folder or target.parent
        self._in_store = folder is not None
        self._above = self.path = hidden_path(target, self._folder)
        if claim is not None:
            self.path = self._above / _hidden_name(claim.name)
        if not self._folder.is_dir():
            msg = f"the folder {self._folder} does not exist; create it first"
            raise TargetError(errno.ENOENT, msg)
        self._facts = self._own_facts = facts
        self._facts_of_target = facts_of_target
        self._is_published = self._is_in_place = False
        self.is_kept = False
        """Whether leaving the context is to keep what is not published."""
        self.is_resumed = False
        """Whether there is a job that this one resumes."""
        self.advice: list[tuple[str, str]] = []
        """On what went wrong after the target was published, which took nothing back."""
        self.file_lock: lock.FileLock | None = None
        """Keeps other programs from writing to an existing file."""
        self._process = os.getpid()
        self._lock: lock.FolderLock | None = None
        (patience or Patience()).retry(self._begin)
        # What others did while this one waited is part of what is there.
        self._seen = _signature(target)

    def _begin(self) -> None:
        """Lock the target, or a region of it, and take up or clear away what others have left."""
        if self.claim is None:
            self._enter()
            return
        held = lock.enter(self._above, self.target)
        try:
            self._finish_steps()
            self._refuse_job_in(self._above)
            remove_all_of(self._above, self.target, None)
            self._settle_regions()
            self._enter()
        finally:
            with contextlib.suppress(OSError):
                lock.leave(self._above, held)
            held.release()

    def _finish_steps(self) -> None:
        """Finish what has been begun in the store of the target."""
        # A store, where it is given: groups on the way to the target may not be there yet.
        names.finish(*{self.target, self._folder if self._in_store else self.target})

    def _settle_regions(self) -> None:
        """Refuse to begin where regions are written that are in the way; clear up after others."""
        for path, theirs, held in dead_folders(self._above, self.target, self.claim, self.path):
            # What it had begun to publish is moved from there.
            self._finish_steps()
            if is_job_in(path):
                if self.claim is None or theirs is None or self.claim.meets(theirs):
                    self._refuse_job_in(path)
                continue
            remove_all_of(path, self.target, None)
            lock.leave(path, held)

    def _refuse_job_in(self, path: Path) -> None:
        """Refuse to go on where an interrupted job is kept that is not this one."""
        if is_job_in(path):
            msg = (
                f"{path} holds an interrupted job; pass resume=True to resume it, or "
                f"remove it with: lazyio clean {self.target}"
            )
            raise ResumeError(msg)

    def _enter(self) -> None:
        """Lock the hidden folder, and take up or clear away what a killed run has left in it."""
        held = self._lock = lock.enter(self.path, self.target)
        try:
            if self.claim is None:
                self._finish_steps()
                self._settle_regions()
            self._mend()
            self.lock_file()
            if self._own_facts is not None:
                # What already exists is part of what a job is: its result holds it. Others may
                # have changed it until now.
                there = {} if self._facts_of_target is None else self._facts_of_target()
                place = self._size_and_place()
                self._facts = {**self._own_facts, **there, "target": place}
            self._look_for_job()
            if not self.is_resumed:
                self._clear()
            if self.claim is not None:
                self.claim.save(self.path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                lock.leave(self.path, held)
            self._unlock()
            if isinstance(error, LazyioError) or not isinstance(error, OSError):
                raise
            msg = f"{self.path}, left by a killed run, cannot be cleared: {error.strerror}"
            raise TargetError(error.errno, msg) from error

    @property
    def built(self) -> Path:
        """Where the target is built."""
        # What another has taken over can be resumed by its name, and else is nobody's.
        mark = "" if self._own_facts is not None or self._lock is None else self._lock.mark
        return self.path / f"{BUILT}{mark}"

    @property
    def scratch(self) -> Path:
        """Where parts of chunks wait that do not fit in memory."""
        return self.path / "scratch"

    @property
    def journal(self) -> Path:
        """Where the chunks of the job are noted."""
        return self.path / JOURNAL

    @property
    def is_in_place(self) -> bool:
        """Whether what is there is changed in place, and no copy of it."""
        return self._is_in_place or redo.is_begun(self.path)

    @property
    def n_good_bytes(self) -> int:
        """Bytes of what already exists, without what has been written behind them."""
        begun = redo.base_of(self.path)
        if begun is not None:
            return begun.nbytes
        return self.target.stat().st_size if self.target.exists() else 0

    def lock_file(self) -> None:
        """Keep other programs from writing to the file that has the target's name now."""
        self._unlock_file()
        if self.target.is_file():
            self.file_lock = lock.FileLock(self.target)

    def _unlock_file(self) -> None:
        if self.file_lock is not None:
            self.file_lock.close()
            self.file_lock = None

    def in_place(self) -> InPlaceFile:
        """Return the existing file, to be changed in place."""
        self._is_in_place = True  # Not to be looked up again, once it is changed.
        return InPlaceFile(
            self.target, self.path, self._locked_file(), self._advise, self.check_lock
        )

    def begin_in_place(self) -> None:
        """Note what the existing file is like, before it is changed in place."""
        redo.begin(self.path, self._locked_file().descriptor)

    def _locked_file(self) -> lock.FileLock:
        if self.file_lock is None:
            msg = f"{self.target} is not there any more; it was removed by another program"
            raise TargetError(errno.ENOENT, msg)
        return self.file_lock

    def save_job(self) -> None:
        """Say what the job is; from now on it is kept until it is published."""
        if self._facts is not None:
            job.save(self.path / JOB, self._facts)

    def publish(self) -> None:
        """Give what was built its final name, replacing what had it."""
        self.settle()
        self.give_name()

    def check_lock(self) -> None:
        """Refuse to go on where another process has taken the lock over."""
        if self._lock is not None:
            self._lock.check(self.target)

    def check_unchanged(self) -> None:
        """Refuse to replace what is not what it was, or what is another's by now."""
        self.check_lock()
        if _signature(self.target) != self._seen:
            msg = (
                f"{self.target} was changed by another program while it was being written anew; "
                "it is as that program left it, run the same call again"
            )
            raise TargetError(errno.EBUSY, msg)

    def settle(self) -> None:
        """Have what was built on the disk."""
        self.check_unchanged()
        try:
            # On the disk before it has the name, so that a power cut leaves old or new.
            if self.built.is_dir():
                sync_tree(self.built)
            else:
                sync_file(self.built)
        except OSError as error:
            msg = (
                f"{self.path} could not be put on the disk: {error.strerror}; nothing is published"
            )
            raise TargetError(error.errno, msg) from error

    def has_name(self) -> None:
        """Say that what was built has been given its name."""
        self._is_published = True

    def give_name(self) -> None:
        """Give what is on the disk its final name; see :meth:`publish`."""
        self.check_lock()
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
        self._is_published = True
        try:
            sync_folder(self.target.parent)
        except OSError as error:
            self._advise(
                "not-synced",
                f"{self.target} is complete, but its name could not be put on the disk: "
                f"{error.strerror}; a power cut might take it back",
            )

    def _advise(self, code: str, text: str) -> None:
        self.advice.append((code, text))
        logger.warning("%s", text)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._process:
            return  # A forked child has no part in the job.
        interrupted: KeyboardInterrupt | None = None
        for _ in range(_MOST_INTERRUPTS):
            try:
                self._leave(error)
                break
            except KeyboardInterrupt as found:
                interrupted = found
        if interrupted is not None and error is None:
            raise interrupted

    def _leave(self, error: BaseException | None) -> None:
        """Clear up, unless there is something to be kept; let go of the target."""
        is_kept = self.is_kept or (self.path / JOB).exists()
        if self._holds_a_change() or (not self._is_published and is_kept):
            shutil.rmtree(self.scratch, ignore_errors=True)
            self._unlock()
            logger.info("kept %s, to be resumed", self.path)
            return
        # The lock file goes last: until then no other writer may take this place.
        # From then on the folder may be theirs, so only an empty one is removed.
        try:
            # Another program may have moved the store away, and this folder with it; or have
            # taken it over, with all that is in it now.
            if self._lock is not None and self._lock.is_there():
                self._clear()
                lock.leave(self.path, self._lock)
        except OSError as failure:
            text = (
                f"{self.path} could not be removed: {failure.strerror}; the next call on that path "
                "removes it, or lazyio clean"
            )
            self._advise("not-cleared", text)
            if error is not None:
                error.add_note(text)
        self._unlock()
        if self.claim is not None:
            # Of the last region; while there is another one, or a lock, it is not empty.
            with contextlib.suppress(OSError):
                self._above.rmdir()
        logger.info("left %s", self.path)

    def _holds_a_change(self) -> bool:
        """Return whether there is a change that is complete, or that cannot be told."""
        try:
            return redo.is_committed(self.path)
        except OSError:
            return True

    def _unlock(self) -> None:
        """Let go of the target, once."""
        self._unlock_file()
        if self._lock is not None:
            held, self._lock = self._lock, None
            held.release()

    def _look_for_job(self) -> None:
        """Take up an interrupted job, if it is the same one."""
        if not is_job_in(self.path):
            return  # Or published just before the end, or killed just after the beginning.
        there = job.load(self.path / JOB)
        if self._facts is None:
            self._refuse_job_in(self.path)
            return
        if there is None:
            logger.warning("%s is damaged; the job begins anew", self.path / JOB)
            return
        found = job.compared(there, self._facts)
        if found:
            job.refuse(self.path, self.target, found)
        self.is_resumed = True

    def _mend(self) -> None:
        """Finish the change of a file that a run had begun to make."""
        if redo.is_committed(self.path):
            trouble = redo.recover(self.path, self.target)
            logger.warning("%s: a change that was interrupted has been finished", self.target)
            if trouble is not None:
                self._advise("not-cleared", trouble)

    def _size_and_place(self) -> list[int | str] | None:
        """Return what the target is known by, also with something behind its end."""
        signature = _signature(self.target)
        if signature is None:
            return None
        if self.is_in_place or (len(signature) > 1 and signature[1] > COPIED_NBYTES):
            # What is behind the end of the old file changes size and time, but not its head.
            return [signature[0], self.n_good_bytes, redo.head_of(self.target)]
        return [*signature]

    def _clear(self) -> None:
        """Remove what a run leaves; put back an old target that has no successor."""
        remove_all_of(self.path, self.target, self.file_lock)


def hidden_path(target: Path, folder: Path | None = None) -> Path:
    """Return where a target is built; see :class:`WorkDirectory`."""
    folder = folder or target.parent
    return folder / _hidden_name(str(target.relative_to(folder)).replace(os.sep, "%2F"))


def is_job_in(path: Path) -> bool:
    """Return whether a hidden folder holds a job that was interrupted before it was published."""
    is_there = (path / BUILT).exists() or redo.is_begun(path)
    return (path / JOB).exists() and is_there


def remove_all_of(path: Path, target: Path, file_lock: lock.FileLock | None) -> None:
    """Remove all but the lock from a hidden folder; put back what has no successor."""
    # First, so that nothing is ever taken for a job that is not all there.
    (path / JOB).unlink(missing_ok=True)
    if redo.is_begun(path):
        redo.undo(path, file_lock)
    superblock.unmark_followed(path, target)
    old = path / "old"
    if old.exists() and not target.exists():
        old.rename(target)
    for name in os.listdir(path):
        item = path / name
        if name == lock.NAME or names.is_hidden_name(name):
            continue  # Regions have locks of their own.
        if item.is_dir() and not item.is_symlink():
            _remove_tree(item)
        else:
            item.unlink(missing_ok=True)


def _remove_tree(folder: Path) -> None:
    """Remove a folder; a thread of zarr-python may still add to it for a moment after an error."""
    for n_left in reversed(range(_MOST_REMOVALS)):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder, ignore_errors=n_left > 0)
        if not folder.exists():
            return
        time.sleep(_PAUSE)


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


Advice = tuple[tuple[str, str], ...]


def publish_in(
    home: Path, works: Sequence[WorkDirectory], steps: Callable[[], PublishSteps]
) -> Advice:
    """Make what was built part of a store: all of it, or nothing."""
    for work in works:
        work.settle()
    with naming(home):
        for work in works:
            work.check_unchanged()
        wanted = steps()
        if works and wanted == PublishSteps(moves=((works[0].built, works[0].target),)):
            works[0].give_name()
            return ()
        try:
            begun = wanted.begin(home)
        except OSError as error:
            msg = f"{home} could not be written: {error.strerror}; nothing is published"
            raise TargetError(error.errno, msg) from error
        # From here on it is made, whatever happens: now, or by the next call that writes.
        for work in works:
            work.is_kept = True
        try:
            begun.take(home)
        except OSError as error:
            what = (
                f"the change is complete, and could not be made visible: {error.strerror}; it is "
                f"made by the next call that writes to {home}, or: lazyio recover {home}"
            )
            return (("unfinished", what),)
        for work in works:
            work.has_name()
    return ()
