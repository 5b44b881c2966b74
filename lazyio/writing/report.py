"""The report of a write, put together from what became of each array."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lazyio.grid import n_touched
from lazyio.planning import Plan
from lazyio.planning.plan import Advice
from lazyio.planning.scattered import at_shape
from lazyio.run.part import Job
from lazyio.run.report import WriteReport
from lazyio.run.write import Ran
from lazyio.spec import Shape
from lazyio.writing.arrange import Arranged

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


def outcome_of(arranged: Arranged, job: Job, chunk_shape: Shape, *, has_mark: bool) -> Outcome:
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


def done_before(arranged: Arranged) -> Outcome:
    """Return what became of an array that an earlier call of the same job has written."""
    plan = arranged.plan
    return Outcome(
        key=arranged.key, plan=plan, nbytes=plan.nbytes, n_chunks=plan.n_chunks, engine="kept"
    )


Written = tuple[list[Outcome], Ran, Advice]
"""What became of each array, of blocks, and advice on the way."""


def report_with_done(
    path: str,
    done: Sequence[Arranged],
    write: Callable[[], Written] | None,
    *,
    began: float,
    advice: Advice,
) -> WriteReport:
    """Write what is not done, and return the report of that and of what is done already."""
    outcomes, ran, found = ([], Ran(n_blocks=0), ()) if write is None else write()
    n_done = sum(arranged.plan.n_tasks for arranged in done)
    ran = Ran(n_blocks=ran.n_blocks + n_done, n_kept=ran.n_kept + n_done)
    outcomes = [*map(done_before, done), *outcomes]
    return report_on(path, outcomes, ran=ran, began=began, advice=advice + found)


def report_on(
    path: str, outcomes: Sequence[Outcome], *, ran: Ran, began: float, advice: Advice
) -> WriteReport:
    """Return the report of a write that is done."""
    plans = {outcome.key: outcome.plan for outcome in outcomes}
    engines = dict.fromkeys(outcome.engine for outcome in outcomes)
    of_plans = [pair for plan in plans.values() for pair in plan.advice]
    of_elements = [pair for outcome in outcomes for pair in outcome.advice]
    found = dict.fromkeys([*of_plans, *of_elements, *advice])
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
