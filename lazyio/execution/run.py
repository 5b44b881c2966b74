"""Writing arrays to their targets: blocks in, whole chunks out, then done."""

import functools
import logging
import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import dask.array as da

from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.dtypes import Shape, nbytes_of
from lazyio.execution.assembler import Assembler, Scratch
from lazyio.execution.dask_arrays import as_blocks, is_read_anywhere, read_block
from lazyio.execution.dask_graphs import Delivery, Elsewhere, run_here
from lazyio.execution.one_pass import write_one_pass
from lazyio.execution.progress import Progress
from lazyio.execution.ranks import RankPart, Ranks, RankTask, run_ranks
from lazyio.execution.remote import run_remote
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.task import TaskRun, WriteGate, WriteTask
from lazyio.execution.threads import feed, pull
from lazyio.execution.workers import BATCH_NBYTES, aligned_edges
from lazyio.malloc import give_back, keep_freed
from lazyio.planning import Plan
from lazyio.regions import Region, box_shape, n_along
from lazyio.sources.base import Source, fills_memory, lies_in_rows
from lazyio.sources.function import SerialSource
from lazyio.sources.stored_chunks import PayloadSource
from lazyio.storage.base import ChunkWriter, TakesEncoded, TakesPayloads

logger = logging.getLogger("lazyio")

RESUMING = "resuming:"
"""How the message begins that says how many blocks are there already."""

_STRIPE_NBYTES = 4 * 2**20


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
        _spread(job, scheduler)
        for job in jobs
        if job.source is not None
        or job.array is not None
        or job.comes_once
        or job.payloads is not None
    ]
    n_blocks = sum(_n_blocks(job) for job in busy if not job.comes_once)
    for job in busy:
        keep_freed(job.plan.chunk_nbytes)
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
                _make_room_after(part, len(parts))
            elif part.job.payloads is not None:
                _undecoded(part, part.job.payloads)
        # What comes straight from a source has an array as well, which is not computed.
        _from_graphs([part for part in parts if part.job.source is None], scheduler, scratch)
        n_blocks += write_one_pass([part for part in parts if part.job.comes_once])
        for part in parts:
            spilled = list(part.assembler.spilled())
            pull(spilled, part.commit, n_threads=min(len(spilled), part.job.plan.workers))
    return Ran(n_blocks=n_blocks, n_kept=n_kept)


def _make_room_after(part: TaskRun, n_parts: int) -> None:
    """Return what an array's threads had, which else is kept beside what the next one takes."""
    plan = part.job.plan
    if n_parts > 1 and plan.peak_nbytes > plan.memory_limit // 8:
        give_back()


def _nbytes_to_come(busy: Sequence[WriteTask]) -> int | None:
    """Return the bytes of all arrays, ``None`` where one comes without saying how long it is."""
    if any(job.stream is not None and job.stream.expected_length is None for job in busy):
        return None
    if any(job.pieces is not None and None in job.pieces.max_shape for job in busy):
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
    assembler = Assembler(
        job.target,
        memory_nbytes=job.plan.gather_nbytes,
        scratch=scratch,
        window=job.window,
        waits_for=job.waits_for,
    )
    return TaskRun(job=job, assembler=assembler, scratch=scratch, progress=progress, gate=gate)


def _from_source(part: TaskRun, source: Source) -> None:
    """Read blocks that suit the target, each into its thread's own memory."""
    plan, dtype = part.job.plan, source.dtype

    def work(region: Region, workspace: Workspace) -> None:
        if part.job.is_left_out(region):
            return
        for stripe in _stripes(region, source, part.job):
            out = None
            if fills_memory(source):
                out = workspace.array("block", box_shape(stripe), dtype)
            part.accept(stripe, read_block(source, stripe, out), workspace)

    n_threads = max(1, min(plan.workers, plan.n_tasks))
    wanted = (region for region in part.job.regions() if not part.job.is_kept(region))
    pull(wanted, work, n_threads=n_threads, on_done=part.advance, on_wait=part.wait)


def _undecoded(part: TaskRun, payloads: PayloadSource) -> None:
    """Copy chunks as they are stored."""
    job, target = part.job, cast("TakesPayloads", part.job.target)
    kept = {} if job.keeping is None else job.keeping.kept

    def put(index: Shape, payload: Bytes, mask: int) -> None:
        with part.gate:
            target.copy_payload(index, payload, mask)

    def work(region: Region, workspace: Workspace) -> None:
        payloads.copy(region, put, workspace, except_for=kept)

    wanted = (region for region in job.regions() if not job.is_kept(region))
    n_threads = max(1, min(job.plan.workers, job.plan.n_tasks))
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


def _spread(job: WriteTask, scheduler: Scheduler) -> WriteTask:
    """Return a job as it suits a cluster: sources are read there, in blocks of whole chunks."""
    if scheduler.kind == "ranks":
        return _on_ranks(job, scheduler.ranks.size)
    if scheduler.kind != "cluster" or _chunk_writer(job) is None:
        return job
    plan, array, source = job.plan, job.array, job.source
    if source is not None:
        if not is_read_anywhere(source):
            return job
        edges = plan.edges or _regular(plan.shape, plan.read_shape or plan.block_shape)
        array = as_blocks(source, edges)
    if array is None:
        return job
    return replace(job, array=_aligned(array, job), source=None)


def _aligned(array: da.Array, job: WriteTask) -> da.Array:
    """Return an array in blocks of whole chunks of a job's target."""
    edges = aligned_edges(array.chunks, job.target.chunk_shape, _corner(job))
    return array if edges == array.chunks else array.rechunk(edges)


def _corner(job: WriteTask) -> Shape:
    """Return where in its target a job begins."""
    return tuple(part.start for part in job.window or ()) or (0,) * len(job.target.shape)


def _on_ranks(job: WriteTask, n_ranks: int) -> WriteTask:
    """Return a job as it suits ranks of MPI: a graph in blocks of whole chunks, or its parts."""
    if job.comes_once or job.payloads is not None:
        return job
    plan, array, source = job.plan, job.array, job.source
    unit, n_wanted = job.target.chunk_shape, n_ranks * plan.workers
    step = _finer(plan.read_shape or plan.block_shape, unit, plan.shape, n_wanted)
    if job.parts:
        parts = tuple(_part_of_rank(part, step, job) for part in job.parts)
        return replace(job, parts=parts, source=None, array=None)
    if source is not None:
        array = as_blocks(source, _regular(plan.shape, step))
    return job if array is None else replace(job, array=_aligned(array, job), source=None)


def _finer(step: Shape, unit: Shape, shape: Shape, n_wanted: int) -> Shape:
    """Return extents of blocks, smaller where there are not as many as are wanted.

    Examples
    --------
    >>> _finer((100, 10), (8, 10), (100, 10), 4)
    (32, 10)
    """
    found = [max(1, min(size, extent)) for size, extent in zip(step, shape, strict=True)]
    while math.prod(n_along(n, size) for n, size in zip(shape, found, strict=True)) < n_wanted:
        longest = max(
            range(len(found)), key=lambda axis: n_along(found[axis], unit[axis]), default=None
        )
        n_units = 1 if longest is None else n_along(found[longest], unit[longest])
        if longest is None or n_units == 1:
            break
        found[longest] = -(-n_units // 2) * unit[longest]
    return tuple(found)


def _part_of_rank(part: RankPart, step: Shape, job: WriteTask) -> RankPart:
    """Return the part of a rank in blocks of whole chunks."""
    edges = _regular(part.shape, step) if part.edges is None else part.edges
    corner = tuple(map(operator.add, part.corner, _corner(job)))
    return replace(part, edges=aligned_edges(edges, job.target.chunk_shape, corner))


def _regular(shape: Shape, step: Shape) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of regular blocks along each axis."""
    return tuple(
        (*(size,) * (extent // size), *((extent % size,) if extent % size or not extent else ()))
        for extent, size in zip(shape, step, strict=True)
    )


def _n_blocks(job: WriteTask) -> int:
    """Return how many blocks a job has."""
    if job.parts:
        return sum(1 for _ in job.regions())
    if job.source is None and job.array is not None and job.array.size:
        return int(job.array.npartitions)
    return job.plan.n_tasks


def _chunk_writer(job: WriteTask) -> ChunkWriter | None:
    """Return what other processes write a job's chunks with, where they can."""
    is_whole = job.only is None and job.shared is None and job.stored is None
    return job.target.chunk_writer() if is_whole and isinstance(job.target, TakesEncoded) else None


_MOST_WAITING = 64 * 2**20
"""Bytes of payloads of one thread of a worker, whose places are asked for together."""

_MOST_IN_TURN = 64 * 2**20
"""Bytes of blocks that one task of a cluster writes, one after the other."""


def _batch_nbytes(plan: Plan) -> int:
    """Return the bytes of payloads that may wait, of which a plan counts those of one block."""
    left = max(0, plan.memory_limit - plan.peak_nbytes) // max(1, plan.workers)
    return min(min(plan.block_nbytes, BATCH_NBYTES) + left, _MOST_WAITING)


def _elsewhere(part: TaskRun, *, is_alone: bool = False) -> Elsewhere | None:
    """Return how other processes write the blocks of an array."""
    job = part.job
    writer = _chunk_writer(job)
    if writer is None or not isinstance(job.target, TakesEncoded):
        return None
    return Elsewhere(
        target=job.target,
        writer=writer,
        key=job.key,
        convert=job.convert,
        window=job.window,
        take=part.take,
        batch_nbytes=_batch_nbytes(job.plan) if is_alone else BATCH_NBYTES,
        group_nbytes=min(_MOST_IN_TURN, job.plan.memory_limit // 8),
    )


def _from_graphs(parts: Sequence[TaskRun], scheduler: Scheduler, scratch: Path) -> None:
    """Compute the blocks of all graphs in one pass."""
    if scheduler.kind == "ranks":
        _from_ranks(parts, scheduler.ranks, scratch)
        return
    is_here = scheduler.kind in ("threads", "synchronous")
    deliveries = [
        Delivery(
            array=part.job.array,
            consume=part.accept,
            on_done=part.advance,
            is_kept=part.job.is_kept,
            elsewhere=None if is_here else _elsewhere(part, is_alone=len(parts) == 1),
        )
        for part in parts
        if part.job.array is not None and (part.job.array.size or not part.job.array.ndim)
    ]
    if not deliveries:
        return
    n_workers = min(part.job.plan.workers for part in parts)
    if is_here:
        run_here(deliveries, scheduler, n_workers=n_workers)
    else:
        run_remote(deliveries, scheduler, n_workers=n_workers, folder=scratch.parent)


def _from_ranks(parts: Sequence[TaskRun], ranks: Ranks, scratch: Path) -> None:
    """Compute the blocks of all graphs, each on one of the ranks."""
    tasks = [
        RankTask(
            key=part.job.key,
            array=part.job.array,
            parts=part.job.parts,
            consume=part.accept,
            on_done=part.advance,
            is_kept=part.job.is_kept,
            elsewhere=_elsewhere(part),
        )
        for part in parts
        if part.job.parts or (part.job.array is not None and not part.job.comes_once)
    ]
    if tasks:
        n_workers = min(part.job.plan.workers for part in parts)
        run_ranks(tasks, ranks, n_workers=n_workers, folder=scratch.parent)
