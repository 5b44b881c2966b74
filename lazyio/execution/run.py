"""Writing arrays to their targets: blocks in, whole chunks out, then done."""

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import nbytes_of
from lazyio.execution.assembler import Assembler, PartialChunk, Scratch
from lazyio.execution.dask_arrays import read_block
from lazyio.execution.dask_graphs import Delivery, run_here
from lazyio.execution.one_pass import write_one_pass
from lazyio.execution.progress import Progress
from lazyio.execution.remote import run_remote
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.task import TaskRun, WriteGate, WriteTask
from lazyio.execution.threads import feed, pull
from lazyio.regions import Region, box_shape
from lazyio.sources.base import Source, fills_memory, lies_in_rows
from lazyio.sources.function import SerialSource

logger = logging.getLogger("lazyio")

RESUMING = "resuming:"
"""How the message begins that says how many blocks are there already."""

_STRIPE_NBYTES = 4 * 2**20
_MOST_KEPT_NBYTES = 30 * 2**20


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run came to."""

    n_blocks: int
    """Blocks of all arrays."""
    n_kept: int = 0
    """Those of them that were there already."""


def run(jobs: Sequence[WriteTask], *, scratch: Path, progress: Any, scheduler: Scheduler) -> Ran:
    """Write every block of some jobs that is not there already.

    Jobs that read from a source do so one after the other, each in the
    blocks that suit it; those that have graphs are one graph.
    """
    busy = [
        job for job in jobs if job.source is not None or job.array is not None or job.comes_once
    ]
    n_blocks = sum(job.plan.n_tasks for job in busy if not job.comes_once)
    for job in busy:
        _keep_freed_payloads(job.plan.chunk_nbytes)
    with ExitStack() as stack:
        pieces = stack.enter_context(Scratch(scratch))
        told = stack.enter_context(
            Progress(progress, n_total=n_blocks, total_nbytes=_nbytes_to_come(busy))
        )
        gate = WriteGate()
        stack.callback(gate.shut)
        parts = [_begin(job, pieces, told, gate) for job in busy]
        n_kept = sum(map(_tell_kept, parts))
        if n_kept:
            logger.info("%s %d/%d blocks", RESUMING, n_kept, n_blocks)
        for part in parts:
            source = part.job.source
            if isinstance(source, SerialSource) and source.has_one_thread:
                _on_this_thread(part, source)
            elif source is not None:
                _from_source(part, source)
        # What comes straight from a source has an array as well, which is not computed.
        _from_graphs([part for part in parts if part.job.source is None], scheduler)
        n_blocks += write_one_pass([part for part in parts if part.job.comes_once])
        for part in parts:
            spilled = list(part.gatherer.spilled())
            pull(
                spilled,
                part.commit,
                n_threads=min(len(spilled), part.job.plan.workers),
                on_done=_ignore,
            )
    return Ran(n_blocks=n_blocks, n_kept=n_kept)


def _nbytes_to_come(busy: Sequence[WriteTask]) -> int | None:
    """Return the bytes of all arrays, ``None`` where one is a stream of unknown length."""
    if any(job.stream is not None and job.stream.expected_length is None for job in busy):
        return None
    return sum(job.plan.nbytes for job in busy)


def _tell_kept(part: TaskRun) -> int:
    """Count the blocks that are there already, and return their number."""
    keeping = part.job.keeping
    if keeping is None or not keeping.kept or part.job.only is not None:
        return 0
    kept = [region for region in part.job.regions() if part.job.is_kept(region)]
    for region in kept:
        part.advance(region)
    return len(kept)


def _begin(job: WriteTask, scratch: Scratch, progress: Progress, gate: WriteGate) -> TaskRun:
    gatherer = Assembler(
        job.target,
        memory_nbytes=job.plan.gather_nbytes,
        scratch=scratch,
        window=job.window,
        waits_for=job.waits_for,
    )
    return TaskRun(job=job, gatherer=gatherer, scratch=scratch, progress=progress, gate=gate)


def _keep_freed_payloads(nbytes: int) -> None:
    """Teach glibc's malloc to keep freed payloads, instead of unmapping each.

    Its threshold for unmapping rises to the size of the largest mapped block
    that was ever freed, and so does, doubled, what it keeps at the end of the
    heap: no more than a payload is asked for, so that larger blocks still go
    back at once. Elsewhere it costs nothing: the memory is never touched.
    """
    np.empty(min(nbytes + nbytes // 8 + 4096, _MOST_KEPT_NBYTES), np.uint8)


def _from_source(part: TaskRun, source: Source) -> None:
    """Read blocks that suit the target, each into its thread's own memory."""
    plan, dtype = part.job.plan, source.dtype

    def work(region: Region, workspace: Workspace) -> None:
        for stripe in _stripes(region, source, part.job):
            out = None
            if fills_memory(source):
                out = workspace.array("block", box_shape(stripe), dtype)
            part.accept(stripe, read_block(source, stripe, out), workspace)

    n_threads = max(1, min(plan.workers, plan.n_tasks))
    wanted = (region for region in part.job.regions() if not part.job.is_kept(region))
    pull(wanted, work, n_threads=n_threads, on_done=part.advance, on_wait=part.wait)


def _on_this_thread(part: TaskRun, source: Source) -> None:
    """Read blocks on the calling thread alone, and have others encode and write them."""
    plan = part.job.plan
    wanted = (region for region in part.job.regions() if not part.job.is_kept(region))

    def work(item: tuple[Region, Any], workspace: Workspace) -> None:
        part.accept(*item, workspace)

    feed(
        lambda trouble: (
            (region, read_block(source, region)) for region in trouble.checked(wanted)
        ),
        work,
        # One more block is being read, and copied.
        n_threads=max(1, min(plan.workers - 1, plan.n_tasks)),
        on_done=lambda item: part.advance(item[0]),
        on_wait=functools.partial(part.progress.wait, f"the next block of {part.job.key}"),
    )


def _stripes(region: Region, source: Source, job: WriteTask) -> Iterator[Region]:
    """Cut a block of a plain file into rows of chunks or shards, to encode from the cache.

    A source with chunks of its own is read by whole blocks: a cut would
    decode the chunks on it twice.
    """
    plan = job.plan
    is_plain = lies_in_rows(source) and plan.read_shape is None
    if not is_plain or not region or job.window is not None:
        return iter((region,))
    shape = box_shape(region)
    unit = plan.layout.unit_shape[0]
    row_nbytes = max(1, nbytes_of((unit, *shape[1:]), plan.dtype))
    rows = unit * max(1, _STRIPE_NBYTES // row_nbytes)
    first = region[0]
    starts = range(first.start, first.stop, rows)
    return ((slice(at, min(at + rows, first.stop)), *region[1:]) for at in starts)


def _from_graphs(parts: Sequence[TaskRun], scheduler: Scheduler) -> None:
    """Compute the blocks of all graphs in one pass."""
    deliveries = [
        Delivery(
            array=part.job.array,
            consume=part.accept,
            on_done=part.advance,
            is_kept=part.job.is_kept,
        )
        for part in parts
        if part.job.array is not None and (part.job.array.size or not part.job.array.ndim)
    ]
    if not deliveries:
        return
    n_workers = min(part.job.plan.workers for part in parts)
    if scheduler.kind in ("threads", "synchronous"):
        run_here(deliveries, scheduler, n_workers=n_workers)
    else:
        run_remote(deliveries, scheduler, n_workers=n_workers)


def _ignore(chunk: PartialChunk) -> None:
    """Count nothing: the blocks were counted when they were read."""
