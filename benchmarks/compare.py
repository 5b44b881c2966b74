"""Contenders taking turns over rows and arrays."""

import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Array, Job, Row
from benchmarks.child import ChildError, run_child


@dataclass(kw_only=True)
class Timing:
    """All runs of one contender at one row of one array."""

    array: str
    row: str
    contender: str
    seconds: list[float] = field(default_factory=list)
    nbytes: int = 0

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it; every first run was read back."""
        return {
            "array": self.array,
            "row": self.row,
            "contender": self.contender,
            "median": self.median,
            "min": min(self.seconds),
            "seconds": self.seconds,
            "nbytes": self.nbytes,
        }


class Contest:
    """Runs, with what was missing and what failed on the way.

    Parameters
    ----------
    folder : Path
        Where outputs go; each is removed after its run.
    repeats, threads : int
        Runs of each contender; threads that each may use.
    """

    def __init__(self, folder: Path, *, repeats: int, threads: int) -> None:
        self._folder = folder
        self._repeats = repeats
        self._threads = threads
        self.missing: dict[str, str] = {}
        """Contender to the module that it lacks."""
        self.failed: dict[tuple[str, str, str], str] = {}
        """Array, row and contender to what its process said."""

    def run(self, array: Array, row: Row, contenders: Sequence[str]) -> list[Timing]:
        """Return the timings of those that are here and did not fail.

        Parameters
        ----------
        array : Array
            What to write.
        row : Row
            How to write it.
        contenders : sequence of str
            Who takes turns.
        """
        timings = [Timing(array=array.name, row=row.name, contender=name) for name in contenders]
        for repetition in range(self._repeats):
            for timing in self._still_in(timings):
                job = Job(
                    contender=timing.contender,
                    array=array,
                    row=row,
                    output=str(self._folder / f"output.{'h5' if row.format == 'hdf5' else 'zarr'}"),
                    threads=self._threads,
                    is_checked=repetition == 0,
                )
                self._turn(job, timing)
        return list(self._still_in(timings))

    def _still_in(self, timings: Iterable[Timing]) -> Iterable[Timing]:
        for timing in timings:
            name = timing.contender
            if name not in self.missing and (timing.array, timing.row, name) not in self.failed:
                yield timing

    def _turn(self, job: Job, timing: Timing) -> None:
        try:
            outcome = run_child("one", job.to_json())
        except ChildError as error:
            self.failed[timing.array, timing.row, timing.contender] = str(error)
            print(f"{job.array.name} {job.row.name} {job.contender} failed:\n{error}")
            return
        finally:
            _remove(Path(job.output))
        if "missing" in outcome:
            self.missing[job.contender] = outcome["missing"]
            print(f"{job.contender} is skipped: there is no module {outcome['missing']!r}")
            return
        timing.seconds.append(outcome["seconds"])
        timing.nbytes = outcome["nbytes"]
        said = f"{job.array.name} {job.row.name} {job.contender}: {outcome['seconds']:.3f} s"
        print(said, file=sys.stderr)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
