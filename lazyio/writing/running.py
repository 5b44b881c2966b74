"""What every order has beside its arrays: how it runs, and where parts of chunks wait."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazyio.run.schedulers import scheduler_for
from lazyio.run.write import Job, run

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
    advice: tuple[tuple[str, str], ...] = ()
    """On what no plan knows of."""

    def write(self, jobs: Sequence[Job], scratch: Path) -> int:
        """Run jobs and return the number of their blocks."""
        scheduler = scheduler_for(self.scheduler)
        return run(jobs, scratch=scratch, progress=self.progress, scheduler=scheduler)


@contextlib.contextmanager
def scratch_beside(path: Path | None) -> Iterator[Path]:
    """Yield where parts of chunks may wait: beside an open file, where it has a folder."""
    folder = path.parent if path is not None and path.exists() else None
    if folder is not None and not os.access(folder, os.W_OK):
        folder = None
    with tempfile.TemporaryDirectory(prefix=".lazyio-", dir=folder) as made:
        yield Path(made, "scratch")
