"""What every order has beside its arrays: how it runs, and where parts of chunks wait."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lazyio.errors import OptionError, ResumeError
from lazyio.grid import Region, n_boxes
from lazyio.run.part import Job
from lazyio.run.schedulers import scheduler_for
from lazyio.run.write import Ran, run
from lazyio.safety.digests import MOST_CHUNKS, Noted
from lazyio.safety.keeping import Keeping, TwoResultsError
from lazyio.spec import Shape
from lazyio.targets.compared import Comparable, Compared
from lazyio.targets.window import WindowTarget
from lazyio.writing.arrange import Arranged
from lazyio.writing.unchanged import Unchanged

OPEN_HANDLE = (
    "open-handle",
    "written into what the caller has open: without lock, and not undone if it fails",
)
"""Advice on a target that is not built under a hidden name."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How the jobs of one call are run."""

    progress: Any
    """As the user gave it."""
    scheduler: Any
    """As the user gave it."""
    digests: bool = True
    """Whether digests of what is written are stored with it."""
    resume: bool = False
    """Whether a job that was killed is gone on with."""
    trusts: bool = False
    """Whether that is done without computing a chunk again that is there."""
    watches_sources: bool = True
    """Whether files that are read must stay as they are."""
    advice: tuple[tuple[str, str], ...] = ()
    """On what no plan knows of."""

    def for_handle(self) -> "Running":
        """Return how to write into what the caller has open, which others may be at work on.

        Digests are not ours to renew, and a file that is read may be the one
        that is written.
        """
        return replace(self, digests=False, watches_sources=False)

    def noted(self, shape: Shape, chunk_shape: Shape) -> Noted | None:
        """Return what takes the digests of one array, ``None`` where none are kept.

        A job that can be gone on with has them anyway, and by them it is
        known again once it is done.
        """
        can_be_numbered = n_boxes(shape, chunk_shape) <= MOST_CHUNKS
        if self.resume and not can_be_numbered:
            msg = (
                f"resume=True: shape {shape} in chunks of {chunk_shape} has more than "
                f"{MOST_CHUNKS} chunks, which a journal cannot number; choose larger chunks"
            )
            raise OptionError(msg)
        return Noted() if can_be_numbered and (self.digests or self.resume) else None

    def write(self, jobs: Sequence[Job], scratch: Path) -> Ran:
        """Run jobs, and return how many blocks they have."""
        begun = [job for job in jobs if job.keeping is not None and job.keeping.kept]
        if begun and not self.trusts:
            self._require_same(begun)
        sources = Unchanged(jobs) if self.watches_sources else None
        scheduler = scheduler_for(self.scheduler)
        ran = run(jobs, scratch=scratch, progress=self.progress, scheduler=scheduler)
        if sources is not None:
            sources.check()
        return ran

    def _require_same(self, begun: Sequence[Job]) -> None:
        """Compute a chunk of each array again that was begun, and compare the two."""
        try:
            self._compare([replace(job, only=_telling(job)) for job in begun])
        except TwoResultsError as error:
            names = ", ".join(job.key for job in begun)
            msg = (
                f"{names}: the data is not that of the interrupted job ({error}); make the same "
                "call again, or remove the job with: lazyio clean"
            )
            raise ResumeError(msg) from error

    def is_same(self, arranged: Arranged, target: Comparable, window: Region | None = None) -> bool:
        """Return whether what is done comes out again: its last chunk is computed and compared."""
        place = tuple(slice(0, n) for n in target.shape) if window is None else window
        if any(
            part.start < 0 or part.stop > n for part, n in zip(place, target.shape, strict=True)
        ):
            return False
        is_nothing = any(part.start >= part.stop for part in place)
        if self.trusts or arranged.given.is_empty or is_nothing:
            return True
        compared = Compared(target)
        keeping = Keeping(
            array=0,
            journal=None,
            shape=target.shape,
            chunk_shape=target.chunk_shape,
            corner=tuple(part.start for part in place),
        )
        last = tuple(
            (part.stop - 1) // step for part, step in zip(place, target.chunk_shape, strict=True)
        )
        into = compared if window is None else WindowTarget(compared, window)
        job = arranged.job(into, window, keeping)
        try:
            self._compare([replace(job, only=keeping.number(last))])
        except TwoResultsError:
            return False
        return True

    def _compare(self, jobs: Sequence[Job]) -> None:
        """Compute the one chunk of each job."""
        scheduler = scheduler_for(self.scheduler)
        with tempfile.TemporaryDirectory(prefix="lazyio-") as folder:
            run(jobs, scratch=Path(folder, "scratch"), progress=False, scheduler=scheduler)


def _telling(job: Job) -> int:
    """Return the chunk that is best to be computed again.

    The one of the most bytes: one of zeros comes out of edited code as well. Of
    several the last: code is edited for what comes where it stopped.
    """
    kept = {} if job.keeping is None else job.keeping.kept
    return max(kept, key=lambda chunk: (kept[chunk].nbytes, chunk))


@contextlib.contextmanager
def scratch_beside(path: Path | None) -> Iterator[Path]:
    """Yield where parts of chunks may wait: beside an open file, where it has a folder."""
    folder = path.parent if path is not None and path.exists() else None
    if folder is not None and not os.access(folder, os.W_OK):
        folder = None
    with tempfile.TemporaryDirectory(prefix=".lazyio-", dir=folder) as made:
        yield Path(made, "scratch")
