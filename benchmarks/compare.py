"""Contenders taking turns over rows and arrays."""

import math
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import READ, STOCK, WRITE, Array, Job, Row, to_json
from benchmarks.child import ChildError, run_child

_SUFFIXES = {"hdf5": "h5", "zarr": "zarr"}


@dataclass(kw_only=True)
class Timing:
    """All runs of one contender at one row of one array."""

    array: str
    row: Row
    contender: str
    seconds: list[float] = field(default_factory=list)
    nbytes: int = 0
    """Of what was written, or is read."""

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it; every first run was checked."""
        return {
            "array": self.array,
            "row": self.row.name,
            "contender": self.contender,
            "median": self.median,
            "min": min(self.seconds),
            "seconds": self.seconds,
            "nbytes": self.nbytes,
        }


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of one array, and who takes part."""

    array: Array
    row: Row
    contenders: tuple[str, ...]


class Contest:
    """Runs, with what was missing and what failed on the way.

    Parameters
    ----------
    folder : Path
        Where outputs go; each is removed after its run.
    repeats, threads : int
        Runs of each contender; threads that each may use.
    is_synced : bool
        Whether a run ends when what was written is on the disk.
    patience : float
        Seconds; who has taken more at a row does not run again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        repeats: int,
        threads: int,
        is_synced: bool = False,
        patience: float = math.inf,
    ) -> None:
        self._folder = folder
        self._repeats = repeats
        self._threads = threads
        self._is_synced = is_synced
        self._patience = patience
        self.missing: dict[str, str] = {}
        """Contender to the module that it lacks."""
        self.failed: dict[tuple[str, str, str], str] = {}
        """Array, row and contender to what its process said."""
        self.synced_after: set[str] = set()
        """Contenders without means of their own, whose files were synced for them."""

    def run(self, case: Case) -> list[Timing]:
        """Return the timings of those that are here and did not fail.

        Parameters
        ----------
        case : Case
            What to do, and who takes turns.
        """
        output = self._folder / f"output.{_SUFFIXES[case.row.format]}"
        timings = _timings(case)
        self._store([case], [output])
        for repetition in range(self._repeats):
            for timing in self._still_in(timings):
                if sum(timing.seconds) > self._patience:
                    continue
                job = self._job(case, timing.contender, output, is_checked=repetition == 0)
                self._turn([job], [timing])
                if case.row.action == WRITE:
                    _remove(output)
        _remove(output)
        return list(self._still_in(timings))

    def run_once(self, cases: Sequence[Case]) -> list[list[Timing]]:
        """Return the timings of one run each, all of a contender's in one process.

        Parameters
        ----------
        cases : sequence of Case
            What to do.
        """
        timings = [_timings(case) for case in cases]
        inputs = [
            self._folder / f"{number}.{_SUFFIXES[case.row.format]}"
            for number, case in enumerate(cases)
        ]
        self._store(cases, inputs)
        batches: dict[str, list[tuple[Job, Timing]]] = {}
        for case, path, row in zip(cases, inputs, timings, strict=True):
            for timing in row:
                name = timing.contender
                output = path if case.row.action == READ else path.with_stem(f"{path.stem}-{name}")
                job = self._job(case, name, output, is_checked=True)
                batches.setdefault(name, []).append((job, timing))
        for batch in batches.values():
            self._turn(*map(list, zip(*batch, strict=True)))
        return [list(self._still_in(row)) for row in timings]

    def _job(self, case: Case, contender: str, output: Path, *, is_checked: bool) -> Job:
        return Job(
            contender=contender,
            array=case.array,
            row=case.row,
            output=str(output),
            threads=self._threads,
            is_checked=is_checked,
            is_synced=self._is_synced and case.row.action == WRITE,
            action=case.row.action,
        )

    def _store(self, cases: Sequence[Case], outputs: Sequence[Path]) -> None:
        """Write what is to be read, with stock h5py or zarr-python."""
        for name in STOCK.values():
            pairs = [
                (case, replace(self._job(case, name, output, is_checked=True), action=WRITE))
                for case, output in zip(cases, outputs, strict=True)
                if case.row.action == READ and STOCK[case.row.format] == name
            ]
            if pairs:
                jobs = [job for _, job in pairs]
                self._turn(jobs, [_timing(case, name) for case, _ in pairs])

    def _still_in(self, timings: Iterable[Timing]) -> Iterable[Timing]:
        for timing in timings:
            key = (timing.array, timing.row.name, timing.contender)
            if timing.contender not in self.missing and key not in self.failed:
                yield timing

    def _turn(self, jobs: Sequence[Job], timings: Sequence[Timing]) -> None:
        """Run jobs of one contender in one process, and note what came of each."""
        try:
            outcomes = run_child("one", to_json(jobs))
        except ChildError as error:
            outcomes = [{"failed": str(error)}] * len(jobs)
        for job, timing, outcome in zip(jobs, timings, outcomes, strict=True):
            self._note(job, timing, outcome)

    def _note(self, job: Job, timing: Timing, outcome: dict[str, Any]) -> None:
        name = job.contender
        said = f"{timing.array} {timing.row.name} {name}"
        if "failed" in outcome:
            self.failed[timing.array, timing.row.name, name] = outcome["failed"]
            print(f"{said} failed:\n{outcome['failed']}", file=sys.stderr)
        elif "missing" in outcome:
            self.missing[name] = outcome["missing"]
        else:
            timing.seconds.append(outcome["seconds"])
            timing.nbytes = outcome["nbytes"]
            if outcome["is_synced_after"]:
                self.synced_after.add(name)
            print(f"{said}: {outcome['seconds']:.3f} s", file=sys.stderr)


def _timings(case: Case) -> list[Timing]:
    return [_timing(case, name) for name in case.contenders]


def _timing(case: Case, contender: str) -> Timing:
    return Timing(array=case.array.name, row=case.row, contender=contender)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
