"""The report of a write, put together from what became of each array."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lazyio.planning import Plan
from lazyio.planning.plan import Advice
from lazyio.run.report import WriteReport

logger = logging.getLogger("lazyio")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one array."""

    key: str
    """Under which it was written."""
    plan: Plan
    """How it was cut."""
    nbytes: int
    """Bytes that were written, before encoding."""
    stored_nbytes: int = 0
    """Bytes of its payloads."""
    engine: str
    """How they got there."""
    n_chunks: int | None = None
    """Chunks that were written, where those are not the plan's."""

    @property
    def written_chunks(self) -> int:
        """Chunks that were written."""
        return self.plan.n_chunks if self.n_chunks is None else self.n_chunks


def report_on(
    path: str, outcomes: Sequence[Outcome], *, n_blocks: int, began: float, advice: Advice
) -> WriteReport:
    """Return the report of a write that is done."""
    plans = {outcome.key: outcome.plan for outcome in outcomes}
    engines = dict.fromkeys(outcome.engine for outcome in outcomes)
    found = dict.fromkeys([*(pair for plan in plans.values() for pair in plan.advice), *advice])
    report = WriteReport(
        path=path,
        keys=tuple(plans),
        nbytes=sum(outcome.nbytes for outcome in outcomes),
        stored_nbytes=sum(outcome.stored_nbytes for outcome in outcomes),
        seconds=time.perf_counter() - began,
        n_blocks=n_blocks,
        n_chunks=sum(outcome.written_chunks for outcome in outcomes),
        n_resumed=0,
        peak_nbytes=max((plan.peak_nbytes for plan in plans.values()), default=0),
        engine=", ".join(engines),
        advice=tuple(found),
        plans=plans,
    )
    logger.info("published %s: %s", path, report)
    return report
