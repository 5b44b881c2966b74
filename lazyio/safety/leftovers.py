"""What runs leave that are at work or were killed: told, finished, or removed."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from lazyio.errors import TargetLockedError
from lazyio.safety import lock, names, redo, superblock
from lazyio.safety.job import NAME as JOB
from lazyio.safety.journal import last_of_each, records_in
from lazyio.safety.workdir import BUILT, JOURNAL, WorkDirectory, hidden_path, remove_all_of


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A hidden folder, of a run that is at work or was killed."""

    path: Path
    """The folder."""
    target: Path
    """What was to be written."""
    is_resumable: bool
    """Whether it holds a job that can be gone on with."""
    n_chunks: int
    """Chunks of that job that are noted as written."""
    is_locked: bool
    """Whether a run is at work on it."""

    def __str__(self) -> str:
        """Return what it is, and what to do with it."""
        if self.is_locked:
            return f"{self.target}: is being written"
        if self.is_resumable:
            return (
                f"{self.target}: an interrupted job, {self.n_chunks} chunks written; go on by the "
                f"same call with resume=True, or remove it with: lazyio clean {self.target}"
            )
        return f"{self.target}: left by a killed run; the next one removes it, or lazyio clean"


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
    return [_leftover(path, of) for path, of in found if path.is_dir()]


def recover(target: Path) -> list[str]:
    """Finish, or take back, changes of a target that were interrupted.

    Returns
    -------
    list of str
        What was done; interrupted jobs that can be gone on with are left alone.

    Raises
    ------
    TargetLockedError
        When a run is at work.
    """
    told = []
    if names.finish(target, tidy=True):
        told.append(f"{target}: an interrupted change was finished")
    for left in leftovers(target):
        is_interrupted = _is_interrupted(left.path)
        if left.is_resumable and not is_interrupted:
            told.append(str(left))
            continue
        with WorkDirectory(left.target, folder=left.path.parent):
            pass  # Entering it finishes the change, and leaving it removes the rest.
        done = "what was left is removed"
        if is_interrupted:
            done = "an interrupted change was finished"
        told.append(f"{left.target}: {done}")
    return told


def finish_change(target: Path) -> None:
    """Finish the change of what is about to be read, if one was interrupted.

    A change of a store is waited for, and never finished here.

    Raises
    ------
    SourceError
        When a change of the store was interrupted.
    """
    names.check_finished(target)
    folder = hidden_path(target)
    if _is_interrupted(folder):
        # Who is at work on it finishes it, and readers wait for the file's own lock.
        with contextlib.suppress(TargetLockedError):
            recover(target)


def clean(target: Path) -> list[Path]:
    """Remove what killed runs have left of a target, jobs that could be gone on with too.

    Returns
    -------
    list of Path
        The folders that were removed.

    Raises
    ------
    TargetLockedError
        When a run is at work.
    TargetError
        When a change is complete that is only to be made: that is never discarded.
    """
    removed = []
    names.refuse_begun(target)
    names.finish(target, tidy=True)
    for left in leftovers(target):
        descriptor = lock.acquire(left.path / lock.NAME, left.target)
        try:
            remove_all_of(left.path, left.target)
            lock.leave(left.path)
        finally:
            os.close(descriptor)
        removed.append(left.path)
    return removed


def _is_interrupted(folder: Path) -> bool:
    """Return whether a target cannot be read as it is."""
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
        n_chunks=len(last_of_each(records)),
        is_locked=lock.is_held(path / lock.NAME),
    )


def _name_of(hidden: str) -> str:
    return hidden.removeprefix(".").removesuffix(".lazyio").replace("%2F", os.sep)
