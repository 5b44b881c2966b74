"""Several names given as one: all of them, or none.

One rename is one step; an array that takes its place in a store with metadata
for all of it is more. What is to be done is written down first. Once that is on
the disk it is done, now or by whoever comes next, and doing it twice does no harm.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazyio.errors import TargetError, TargetLockedError
from lazyio.safety import job, lock
from lazyio.safety.sync import sync_folder, write_whole

FOLDER = ".lazyio"
"""In a store whose names are being given: the lock, and what is to be done."""

_STEPS = "steps.json"
_OF_GROUPS = ("zarr.json", ".zgroup")
_PATIENCE, _PAUSE = 30.0, 0.02


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is to be done in a store."""

    moves: tuple[tuple[Path, Path], ...]
    """From where, in a hidden folder, to where in the store."""
    files: Mapping[Path, bytes]
    """Small files, with what they are to hold."""

    def save(self, home: Path) -> None:
        """Have it on the disk that these are to be done: from now on they are.

        Raises
        ------
        OSError
            When the disk fails; none of them is done then.
        """
        facts: dict[str, Any] = {
            "moves": [[_below(home, one), _below(home, other)] for one, other in self.moves],
            "files": {_below(home, path): data.hex() for path, data in self.files.items()},
        }
        try:
            job.save(home / FOLDER / _STEPS, facts)
            sync_folder(home / FOLDER)
        except BaseException:
            (home / FOLDER / _STEPS).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, home: Path) -> "Steps | None":
        """Return what has been begun, ``None`` where that is nothing, or not ours."""
        facts = job.load(home / FOLDER / _STEPS)
        if facts is None:
            return None
        steps = cls(
            moves=tuple((home / one, home / other) for one, other in facts["moves"]),
            files={home / path: bytes.fromhex(data) for path, data in facts["files"].items()},
        )
        # A store may come from a stranger, who could have written this.
        return steps if steps.stay_in(home) else None

    def stay_in(self, home: Path) -> bool:
        """Return whether nothing outside of the store is touched, links followed."""
        inside = Path(os.path.realpath(home))
        paths = [*itertools.chain.from_iterable(self.moves), *self.files]
        return all(inside in Path(os.path.realpath(path)).parents for path in paths)

    def take(self, home: Path) -> None:
        """Do them, however many are done already.

        Raises
        ------
        TargetError
            When the disk fails; they are then done by the next call on that store.
        """
        try:
            for built, final in self.moves:
                _move(built, final)
            for path, data in self.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
            for folder in {path.parent for path in (*self.files, *(to for _, to in self.moves))}:
                sync_folder(folder)
            (home / FOLDER / _STEPS).unlink(missing_ok=True)
            sync_folder(home / FOLDER)
        except OSError as error:
            msg = (
                f"{home} could not be changed: {error.strerror}; what is to be done is known in "
                f"{home / FOLDER}, and is done by: lazyio recover {home}"
            )
            raise TargetError(error.errno, msg) from error


def _move(built: Path, final: Path) -> None:
    """Give a folder its name; what had it goes aside, into the hidden folder."""
    if not built.exists():
        return  # Done before.
    # Two renames, and no exchange: after one of those nothing tells which is which.
    if final.exists():
        final.rename(built.parent / "old")
    final.parent.mkdir(parents=True, exist_ok=True)
    built.rename(final)
    # What is left of a job that is done is not to be gone on with.
    (built.parent / job.NAME).unlink(missing_ok=True)


def is_hidden_name(name: str) -> bool:
    """Return whether a name in a folder is one of lazyio's own.

    Examples
    --------
    >>> is_hidden_name(".lazyio"), is_hidden_name(".x.h5.lazyio"), is_hidden_name(".x")
    (True, True, False)
    """
    return name.startswith(".") and name.endswith(FOLDER)


@contextlib.contextmanager
def naming(home: Path) -> Iterator[None]:
    """Be the only one who gives names in a store, and finish what another has begun.

    Raises
    ------
    TargetLockedError
        When another is at it for half a minute.
    TargetError
        When the disk fails.
    """
    folder = home / FOLDER
    descriptor = _entered(folder, home)
    try:
        begun = Steps.load(home)
        if begun is not None:
            begun.take(home)
        yield
    finally:
        try:
            if Steps.load(home) is None:
                # Not all there, or not ours: nothing is to be done by it.
                for name in (_STEPS, f"{_STEPS}.partial"):
                    (folder / name).unlink(missing_ok=True)
                lock.leave(folder)
        finally:
            os.close(descriptor)


def finish(path: Path, *, tidy: bool = False) -> bool:
    """Finish what has been begun in a store that a path is, or lies in.

    Parameters
    ----------
    path : Path
        The store, or an array in it.
    tidy : bool
        Whether to remove as well what a run leaves that was killed before.

    Returns
    -------
    bool
        Whether there was anything.

    Raises
    ------
    TargetLockedError, TargetError
        When another is at it, or the disk fails.
    """
    above = [path, *_stores_above(path)]
    begun = {home for home in above if (home / FOLDER / _STEPS).exists()}
    for home in begun | {home for home in above if tidy and (home / FOLDER).exists()}:
        with naming(home):
            pass  # Entering it finishes them.
    return bool(begun)


def _stores_above(path: Path) -> Iterator[Path]:
    """Yield the groups that a path lies in; other folders above it may be anybody's."""
    for folder in path.parents:
        if not any((folder / name).is_file() for name in _OF_GROUPS):
            return
        yield folder


def _entered(folder: Path, home: Path) -> int:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return lock.enter(folder, home)
        except TargetLockedError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


def _below(home: Path, path: Path) -> str:
    return path.relative_to(home).as_posix()
