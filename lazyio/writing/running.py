"""What every order has beside its arrays: how it runs, and where parts of chunks wait."""

import contextlib
import os
import tempfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lazyio.errors import BlockError, OptionError, ResumeError
from lazyio.grid import n_boxes
from lazyio.run.part import Job
from lazyio.run.schedulers import scheduler_for
from lazyio.run.write import Ran, run
from lazyio.safety.digests import MOST_CHUNKS, Noted
from lazyio.spec import Shape
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

        Raises
        ------
        OptionError
            When such a job has more chunks than can be numbered.
        """
        can_be_numbered = n_boxes(shape, chunk_shape) <= MOST_CHUNKS
        if self.resume and not can_be_numbered:
            msg = (
                f"resume=True: shape {shape} in chunks of {chunk_shape} has more than "
                f"{MOST_CHUNKS} chunks, which a journal cannot number; choose larger chunks"
            )
            raise OptionError(msg)
        return Noted() if can_be_numbered and (self.digests or self.resume) else None

    def write(
        self,
        jobs: Sequence[Job],
        scratch: Path,
        unsure: Container[str] = (),
    ) -> Ran:
        """Run jobs, and return how many blocks they have.

        Raises
        ------
        ResumeError
            When an array of which that is not sure is not the one that was
            begun: before anything more of it is written.
        SourceChangedError
            When a file was changed while it was read.
        """
        doubtful = [job for job in jobs if job.key in unsure]
        try:
            self.compare(doubtful)
        except BlockError as error:
            names = ", ".join(job.key for job in doubtful)
            msg = (
                f"{names}: the data is not that of the interrupted job ({error}); make the same "
                "call again, or remove the job with: lazyio clean"
            )
            raise ResumeError(msg) from error
        sources = Unchanged(jobs) if self.watches_sources else None
        scheduler = scheduler_for(self.scheduler)
        ran = run(jobs, scratch=scratch, progress=self.progress, scheduler=scheduler)
        if sources is not None:
            sources.check()
        return ran

    def compare(self, jobs: Sequence[Job]) -> None:
        """Compute a chunk of each array again that is there, and compare the two.

        Raises
        ------
        BlockError
            When it comes out otherwise.
        """
        again = [
            replace(job, only=min(job.keeping.kept))
            for job in jobs
            if job.keeping is not None and job.keeping.kept
        ]
        if not again:
            return
        scheduler = scheduler_for(self.scheduler)
        with tempfile.TemporaryDirectory(prefix="lazyio-") as folder:
            run(again, scratch=Path(folder, "scratch"), progress=False, scheduler=scheduler)


@contextlib.contextmanager
def scratch_beside(path: Path | None) -> Iterator[Path]:
    """Yield where parts of chunks may wait: beside an open file, where it has a folder."""
    folder = path.parent if path is not None and path.exists() else None
    if folder is not None and not os.access(folder, os.W_OK):
        folder = None
    with tempfile.TemporaryDirectory(prefix=".lazyio-", dir=folder) as made:
        yield Path(made, "scratch")
