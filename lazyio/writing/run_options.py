"""How a call runs, now or delayed, and what it reports."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lazyio.atomic.digests import MOST_CHUNKS, NotedDigests
from lazyio.atomic.journal import ResumeState, TwoResultsError
from lazyio.atomic.patience import Patience
from lazyio.dtypes import Shape
from lazyio.errors import OptionError, ResumeError, SourceChangedError
from lazyio.execution.dask_arrays import held_in, location_of
from lazyio.execution.progress import check_progress
from lazyio.execution.ranks import Own
from lazyio.execution.report import WriteReport, named
from lazyio.execution.run import Ran, run
from lazyio.execution.schedulers import scheduler_for
from lazyio.execution.task import WriteTask
from lazyio.options import check_flags, check_lock_timeout, check_resume, is_trust
from lazyio.planning import Plan
from lazyio.planning.plan import Advice, at_shape
from lazyio.regions import Region, n_boxes, n_touched
from lazyio.sources.base import Watched, leaves_of
from lazyio.sources.identity import SeenFile, seen_files
from lazyio.storage.region_target import Comparable, ComparisonTarget, RegionTarget
from lazyio.writing.array_plan import PlannedArray


class SourceGuard:
    """What some arrays are read from, as it was when it was opened.

    Of what lazyio has not opened itself, such as a memmap that was given to
    dask, it is as it was when the write began.
    """

    def __init__(self, jobs: Iterable[WriteTask | Own]) -> None:
        held = [leaf for job in jobs for leaf in _held(job)]
        self._watched = [one for one in held if isinstance(one, Watched)]
        others = [location_of(one) for one in held if not isinstance(one, Watched)]
        paths = {where[0] for where in others if where is not None}
        seen = seen_files(SeenFile(path=path, identity=None) for path in paths)
        self._seen = [file for file in seen if file.is_file]

    def check(self) -> None:
        """Refuse to go on when one of them is not as it was."""
        try:
            for source in self._watched:
                source.require_unchanged()
            for file in self._seen:
                file.check()
        except SourceChangedError as error:
            msg = f"{error}; what was made of it is not published"
            number = error.errno
            raise (
                SourceChangedError(msg) if number is None else SourceChangedError(number, msg)
            ) from error


def _held(job: WriteTask | Own) -> Iterator[Any]:
    """Yield what a job reads: sources, and arrays of other libraries."""
    if job.source is not None:
        yield from leaves_of(job.source)
    elif isinstance(job, WriteTask) and job.payloads is not None:
        yield job.payloads
    elif job.array is not None:
        for held in held_in(job.array):
            yield from leaves_of(held)


logger = logging.getLogger("lazyio")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one array."""

    key: str
    """Under which it was written."""
    plan: Plan
    """How it was cut."""
    nbytes: int = 0
    """Bytes that were written, before encoding."""
    stored_nbytes: int = 0
    """Bytes of its payloads."""
    n_chunks: int = 0
    """Chunks that were written."""
    engine: str
    """How they got there."""
    advice: Advice = ()
    """What is to be said of its elements."""


def outcome_of(
    arranged: PlannedArray, job: WriteTask, chunk_shape: Shape, *, has_mark: bool
) -> Outcome:
    """Return what has become of an array, once its job is done; finishes its target.

    ``has_mark`` says whether readers can tell a masked element from others.

    A plan counts the chunks of its own array: of a part these are not the
    target's, which begin elsewhere.
    """
    plan, window = job.plan, job.window
    stored_nbytes = job.target.finish()
    if job.comes_once:
        plan = at_shape(plan, job.target.shape)
    n_chunks = plan.n_chunks if window is None else n_touched(window, chunk_shape)
    nbytes = plan.nbytes
    if job.pieces is not None:
        # Of the rest nothing was there to be written.
        n_chunks = job.target.n_written
        nbytes = min(nbytes, n_chunks * plan.block_nbytes)
    advice: Advice = ()
    if arranged.masked and not has_mark:
        what = (
            f"masked elements of {arranged.key!r} were stored as {job.target.fill_value!r}, and "
            "nothing in the array tells them from others; give fill_value= or fillvalue= when it "
            "is made, with an attribute _FillValue"
        )
        advice = (("mask-lost", what),)
    return Outcome(
        key=arranged.key,
        plan=plan,
        advice=advice,
        nbytes=nbytes,
        stored_nbytes=stored_nbytes,
        n_chunks=n_chunks,
        engine=job.target.engine,
    )


def done_before(arranged: PlannedArray) -> Outcome:
    """Return what became of an array that an earlier call of the same job has written."""
    plan = arranged.plan
    return Outcome(
        key=arranged.key, plan=plan, nbytes=plan.nbytes, n_chunks=plan.n_chunks, engine="kept"
    )


def _advice_on_arrays(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """Yield what is to be said of arrays, each thing once; of several arrays with their keys."""
    keys: dict[tuple[str, str], list[str]] = {}
    of_plans = [(pair, outcome.key) for outcome in outcomes for pair in outcome.plan.advice]
    of_elements = [(pair, outcome.key) for outcome in outcomes for pair in outcome.advice]
    for pair, key in [*of_plans, *of_elements]:
        keys.setdefault(pair, []).append(key)
    for (code, message), of in keys.items():
        yield code, message if len(outcomes) == 1 else f"{named(of)}: {message}"


def report_on(
    path: str, outcomes: Sequence[Outcome], *, ran: Ran, began: float, advice: Advice
) -> WriteReport:
    """Return the report of a write that is done."""
    plans = {outcome.key: outcome.plan for outcome in outcomes}
    engines = dict.fromkeys(outcome.engine for outcome in outcomes)
    found = dict.fromkeys([*_advice_on_arrays(outcomes), *advice])
    report = WriteReport(
        path=path,
        keys=tuple(plans),
        nbytes=sum(outcome.nbytes for outcome in outcomes),
        stored_nbytes=sum(outcome.stored_nbytes for outcome in outcomes),
        seconds=time.perf_counter() - began,
        n_blocks=ran.n_blocks,
        n_chunks=sum(outcome.n_chunks for outcome in outcomes),
        n_resumed=ran.n_kept,
        peak_nbytes=max((plan.peak_nbytes for plan in plans.values()), default=0),
        engine=", ".join(engines),
        advice=tuple(found),
        plans=plans,
    )
    logger.info("published %s: %s", path, report)
    return report


REGION_LOCK_TIMEOUT = 60.0
"""Seconds for which the lock is waited for to write ``region=`` of what lies at a path."""

OPEN_HANDLE = (
    "open-handle",
    "written into what the caller has open: without lock, and not undone if it fails",
)
"""Advice on a target that is not built under a hidden name."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the jobs of one call are run."""

    progress: Any
    """As the user gave it."""
    scheduler: Any
    """As the user gave it."""
    digests: bool = True
    """Whether digests of what is written are stored with it."""
    resume: bool = False
    """Whether a job that was killed is resumed."""
    trusts: bool = False
    """Whether that is done without computing a chunk again that is there."""
    lock_timeout: float | None = None
    """Seconds for which the lock of the target is waited for; ``None`` is what is usual."""
    watches_sources: bool = True
    """Whether files that are read must stay as they are."""
    advice: tuple[tuple[str, str], ...] = ()
    """On what no plan knows of."""

    @classmethod
    def of(
        cls,
        *,
        resume: Any,
        digests: Any,
        progress: Any,
        compute: Any,
        scheduler: Any,
        lock_timeout: Any = None,
    ) -> "RunOptions":
        """Return the arguments of a function, none of them wrong."""
        check_flags(digests=digests, compute=compute)
        check_resume(resume)
        check_lock_timeout(lock_timeout)
        check_progress(progress)
        scheduler_for(scheduler)
        return cls(
            progress=progress,
            scheduler=scheduler,
            digests=digests,
            resume=bool(resume),
            trusts=is_trust(resume),
            lock_timeout=lock_timeout,
        )

    def waiting(self, *, is_region: bool) -> "RunOptions":
        """Return how long the lock of a path is waited for, where nobody said so.

        Who writes parts of an array expects others who do the same.
        """
        usual = REGION_LOCK_TIMEOUT if is_region else 0.0
        return self if self.lock_timeout is not None else replace(self, lock_timeout=usual)

    @property
    def patience(self) -> Patience:
        """What waits for the lock of the target."""
        return Patience(self.lock_timeout or 0.0, argument="lock_timeout")

    def for_handle(self) -> "RunOptions":
        """Return how to write into what the caller has open, which others may be at work on.

        Digests are not ours to renew, and a file that is read may be the one
        that is written.
        """
        return replace(self, digests=False, watches_sources=False)

    def noted(self, shape: Shape, chunk_shape: Shape) -> NotedDigests | None:
        """Return what takes the digests of one array, ``None`` where none are kept.

        A job that can be resumed has them anyway, and by them it is
        known again once it is done.
        """
        can_be_numbered = n_boxes(shape, chunk_shape) <= MOST_CHUNKS
        if self.resume and not can_be_numbered:
            msg = (
                f"resume=True: shape {shape} in chunks of {chunk_shape} has more than "
                f"{MOST_CHUNKS} chunks, which a journal cannot number; choose larger chunks"
            )
            raise OptionError(msg)
        return NotedDigests() if can_be_numbered and (self.digests or self.resume) else None

    def write(self, jobs: Sequence[WriteTask], scratch: Path) -> Ran:
        """Run jobs, and return how many blocks they have."""
        # What is copied as it is stored comes of a file that is known to be the same.
        begun = [
            job
            for job in jobs
            if job.keeping is not None and job.keeping.kept and job.payloads is None
        ]
        if begun and not self.trusts:
            self._require_same(begun)
        sources = SourceGuard(jobs) if self.watches_sources else None
        scheduler = scheduler_for(self.scheduler)
        ran = run(jobs, scratch=scratch, progress=self.progress, scheduler=scheduler)
        if sources is not None:
            sources.check()
        return ran

    def _require_same(self, begun: Sequence[WriteTask]) -> None:
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

    def is_same(
        self, arranged: PlannedArray, target: Comparable, window: Region | None = None
    ) -> bool:
        """Return whether what is done comes out again: its last chunk is computed and compared."""
        place = tuple(slice(0, n) for n in target.shape) if window is None else window
        if any(
            part.start < 0 or part.stop > n for part, n in zip(place, target.shape, strict=True)
        ):
            return False
        is_nothing = any(part.start >= part.stop for part in place)
        is_copied = arranged.payloads is not None
        if self.trusts or arranged.given.is_empty or is_nothing or is_copied:
            return True
        compared = ComparisonTarget(target)
        keeping = ResumeState(
            array=0,
            journal=None,
            shape=target.shape,
            chunk_shape=target.chunk_shape,
            corner=tuple(part.start for part in place),
        )
        last = tuple(
            (part.stop - 1) // step for part, step in zip(place, target.chunk_shape, strict=True)
        )
        into = compared if window is None else RegionTarget(compared, window)
        job = arranged.job(into, window, keeping)
        try:
            self._compare([replace(job, only=keeping.number(last))])
        except TwoResultsError:
            return False
        return True

    def _compare(self, jobs: Sequence[WriteTask]) -> None:
        """Compute the one chunk of each job."""
        scheduler = scheduler_for(self.scheduler)
        with tempfile.TemporaryDirectory(prefix="lazyio-") as folder:
            run(jobs, scratch=Path(folder, "scratch"), progress=False, scheduler=scheduler)


def _telling(job: WriteTask) -> int:
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
