"""What runs leave that are at work or were killed: told, finished, or removed."""

import contextlib
import errno
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lazyio.atomic import hdf5_superblock as superblock
from lazyio.atomic import lock
from lazyio.atomic import log as redo
from lazyio.atomic import publish_steps as names
from lazyio.atomic.claims import Claim, folders_in
from lazyio.atomic.journal import NAME as JOB
from lazyio.atomic.journal import last_of_each, records_in
from lazyio.atomic.workdir import BUILT, JOURNAL, WorkDirectory, hidden_path, remove_all_of
from lazyio.errors import OptionError, SourceError, TargetError, TargetLockedError
from lazyio.os_errors import system_errors

_PATIENCE, _PAUSE = 5.0, 0.02
"""Seconds that a reader waits for a change that is being applied, which takes milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A hidden folder, of a run that is at work or was killed."""

    path: Path
    """The folder."""
    target: Path
    """What was to be written."""
    is_resumable: bool
    """Whether it holds a job that can be resumed."""
    is_interrupted: bool
    """Whether it holds a change of the target that is to be finished."""
    n_chunks: int
    """Chunks of that job that are noted as written."""
    is_locked: bool
    """Whether a run is at work on it."""
    is_region: bool = False
    """Whether it holds a region of the target, and not all of it."""
    claim: Claim | None = None
    """Which region that is, where that is known."""

    def __str__(self) -> str:
        """Return what it is, and what to do with it."""
        if self.is_locked:
            return f"{self.name}: is being written"
        if self.is_interrupted:
            return (
                f"{self.target}: a change was interrupted; finish it with: lazyio recover "
                f"{self.target}"
            )
        if self.is_resumable:
            return (
                f"{self.name}: an interrupted job, {self.n_chunks} chunks written; resume it "
                f"with resume=True, or remove it with: lazyio clean {self.target}"
            )
        return f"{self.name}: left by a killed run; the next one removes it, or lazyio clean"

    @property
    def name(self) -> str:
        """What to call it in an error."""
        return str(self.target) if self.claim is None else self.claim.of(self.target)


def leftovers(target: Path) -> list[Leftover]:
    """Return the hidden folders of a target, and of the arrays in it where it is a store."""
    found = [(hidden_path(target), target)]
    if target.is_dir():
        found += [
            (Path(entry.path), target / _name_of(entry.name))
            for entry in os.scandir(target)
            if entry.name.startswith(".")
            and entry.name.endswith(names.FOLDER)
            and entry.name != names.FOLDER
        ]
    return [left for path, of in found if path.is_dir() for left in _leftovers_in(path, of)]


def _leftovers_in(path: Path, target: Path) -> list[Leftover]:
    """Return the hidden folders of regions of an array; its own, where it holds anything else."""
    regions = [
        replace(_leftover(region, target), is_region=True, claim=Claim.load(region))
        for region in folders_in(path)
    ]
    own = {lock.NAME, *(region.path.name for region in regions)}
    try:
        is_all = own.issuperset(os.listdir(path))
    except FileNotFoundError:
        return []  # Whoever was at work on it has just left.
    return regions if regions and is_all else [*regions, _leftover(path, target)]


@system_errors(TargetError)
def recover(path: str | os.PathLike[str]) -> list[str]:
    """Finish changes of a file or store that were interrupted, and remove what killed runs left.

    Parameters
    ----------
    path : path-like
        The file or store.

    Returns
    -------
    list of str
        What was done, a line each. Interrupted jobs that can be resumed are left alone.

    Raises
    ------
    TargetLockedError
        When a run is at work on it, or another program has it open.
    TargetError
        When it is another file by now than the one that was being changed; neither is touched.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> report = lazyio.to_hdf5(np.arange(3), "sound.h5")
    >>> lazyio.recover("sound.h5")
    []
    """
    target = _target_of(path)
    told = []
    if names.finish(target, tidy=True):
        told.append(f"{target}: an interrupted change was finished")
    for left in leftovers(target):
        if left.is_resumable and not left.is_interrupted:
            told.append(str(left))
            continue
        _clear_up(left)
        done = "what was left is removed"
        if left.is_interrupted:
            done = "an interrupted change was finished"
        told.append(f"{left.target}: {done}")
    return told


@system_errors(TargetError)
def clean(path: str | os.PathLike[str]) -> list[Path]:
    """Remove what killed runs have left of a file or store, jobs that could be resumed too.

    A change that is complete in its log is never given up.

    Parameters
    ----------
    path : path-like
        The file or store.

    Returns
    -------
    list of Path
        The folders that were removed.

    Raises
    ------
    TargetLockedError
        When a run is at work on it.
    TargetError
        When a change was interrupted that has to be finished: by :func:`recover`.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> report = lazyio.to_hdf5(np.arange(3), "sound.h5")
    >>> lazyio.clean("sound.h5")
    []
    """
    target = _target_of(path)
    removed, interrupted = [], []
    names.refuse_begun(target)
    names.finish(target, tidy=True)
    for left in leftovers(target):
        if redo.is_committed(left.path):
            interrupted.append(left)
        elif _remove(left):
            removed.append(left.path)
    if interrupted:
        msg = "; ".join(map(str, interrupted))
        raise TargetError(errno.EBUSY, msg)
    return removed


def tidy(target: Path) -> None:
    """Finish what a killed run left at a target, unless somebody is at work on it."""
    names.finish(target)
    for left in leftovers(target):
        if left.is_locked or (left.is_resumable and not left.is_interrupted):
            continue
        try:
            _clear_up(left)
        except TargetLockedError:
            # Whoever is at work on it does this; of a file that is read nothing can be finished.
            if left.is_interrupted:
                raise


def _clear_up(left: Leftover) -> None:
    """Finish the change that a killed run was making, and remove the rest."""
    if left.is_region:
        _remove(left)
        return
    with WorkDirectory(left.target, folder=left.path.parent):
        pass  # Entering it finishes the change, and leaving it removes the rest.


def _remove(left: Leftover) -> bool:
    """Remove a hidden folder with all that is in it; return whether it was there."""
    with contextlib.ExitStack() as stack:
        try:
            held = lock.acquire(left.path / lock.NAME, left.name)
        except FileNotFoundError:
            return False  # Whoever was at work on it has just left.
        stack.callback(held.release)
        if redo.is_committed(left.path):
            raise TargetError(errno.EBUSY, str(replace(left, is_interrupted=True, is_locked=False)))
        # What is still to be moved from there.
        names.finish(left.target)
        file_lock = lock.FileLock(left.target) if left.target.is_file() else None
        if file_lock is not None:
            stack.callback(file_lock.close)
        remove_all_of(left.path, left.target, file_lock)
        lock.leave(left.path, held)
    if left.is_region:
        _remove_empty(left.path.parent, left.target)
    return True


def _remove_empty(folder: Path, target: Path) -> None:
    """Remove the hidden folder of an array in which no region is left, unless it is in use."""
    try:
        held = lock.acquire(folder / lock.NAME, target)
    except (FileNotFoundError, TargetLockedError):
        return
    try:
        if not set(os.listdir(folder)) - {lock.NAME}:
            lock.leave(folder, held)
    finally:
        held.release()


def refuse_half_applied(path: Path) -> None:
    """Refuse to read a file that is half changed; nothing is touched."""
    until = time.monotonic() + _PATIENCE
    while redo.is_half_applied(path):
        is_dead = not lock.is_held(hidden_path(path) / lock.NAME) and redo.is_half_applied(path)
        if is_dead or time.monotonic() > until:
            remedy = f"is complete in {hidden_path(path)}; finish it with: lazyio recover {path}"
            if not redo.is_committed(hidden_path(path)):
                remedy = (
                    f"{hidden_path(path)}, which held it, is gone; restore the file from a copy"
                )
            msg = f"{path} cannot be read: a change of it was interrupted, and {remedy}"
            raise SourceError(errno.EBUSY, msg)
        time.sleep(_PAUSE)


def interruption_of(path: Path) -> str | None:
    """Return why a file cannot be opened, where that is a killed writer's doing."""
    folder = hidden_path(path)
    if _is_interrupted(folder) and not lock.is_held(folder / lock.NAME):
        return f"its writer was killed; make it readable with: lazyio recover {path}"
    return None


def _target_of(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (TypeError, ValueError) as error:
        msg = f"path={path!r} is not a path of this machine: {error}"
        raise OptionError(msg) from error


def _is_interrupted(folder: Path) -> bool:
    """Return whether a target cannot be read as it is, or a change of it is to be finished."""
    return redo.is_committed(folder) or (folder / superblock.FOLLOWED).exists()


def _leftover(path: Path, target: Path) -> Leftover:
    # Without either the job is done, and was killed before it had removed this.
    is_there = (path / BUILT).exists() or redo.is_begun(path)
    is_resumable = (path / JOB).exists() and is_there
    records, _ = records_in(path / JOURNAL)
    return Leftover(
        path=path,
        target=target,
        is_resumable=is_resumable,
        is_interrupted=_is_interrupted(path),
        n_chunks=len(last_of_each(records)),
        is_locked=lock.is_held(path / lock.NAME),
    )


def _name_of(hidden: str) -> str:
    return hidden.removeprefix(".").removesuffix(".lazyio").replace("%2F", os.sep)
