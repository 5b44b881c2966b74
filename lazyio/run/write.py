"""Writing arrays to their targets: blocks in, whole chunks out, then done."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.blocks import read_block
from lazyio.codecs.workspace import Workspace
from lazyio.errors import BlockError
from lazyio.grid import Region, box_shape, boxes, cuts, format_region, touched
from lazyio.pieces.base import Pieces
from lazyio.pieces.slabs import Slab, slabs
from lazyio.pieces.stream import Stream
from lazyio.planning import Plan
from lazyio.run.elsewhere import run_elsewhere
from lazyio.run.gate import Gate
from lazyio.run.gather import Gatherer, Waiting
from lazyio.run.graph import Delivery
from lazyio.run.local import run_here
from lazyio.run.patchwork import Patchwork, Ready
from lazyio.run.progress import Progress
from lazyio.run.pull import pull
from lazyio.run.schedulers import Scheduler
from lazyio.run.scratch import Scratch
from lazyio.safety.keeping import Keeping
from lazyio.sources.base import Source, fills_memory, lies_in_rows
from lazyio.spec import nbytes_of
from lazyio.targets.base import Growing, Rewritable, Target

logger = logging.getLogger("lazyio")

RESUMING = "resuming:"
"""How the message begins that says how many blocks are there already."""

Item = TypeVar("Item")

Convert = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

_STRIPE_NBYTES = 4 * 2**20
_MOST_KEPT_NBYTES = 30 * 2**20


@dataclass(frozen=True, kw_only=True)
class Job:
    """One array on its way to one target."""

    plan: Plan
    """How it is cut."""
    target: Target
    """Where its chunks go."""
    source: Source | None = None
    """Where blocks are read from; else there is an array, or nothing to write."""
    array: da.Array | None = None
    """Graph that computes blocks."""
    stream: Stream | None = None
    """Where elements come from in one go."""
    pieces: Pieces | None = None
    """Where parts come from in any order, once."""
    key: str
    """What progress calls it."""
    window: Region | None = None
    """The part of the target that is written; by default all of it."""
    convert: Convert
    """From a block to elements as they are stored."""
    keeping: Keeping | None = None
    """What is there already, from a run that was killed."""

    only: int | None = None
    """The one chunk to compute, and to compare with what is kept of it."""

    @property
    def comes_once(self) -> bool:
        """Whether what has been taken of the data cannot be had again."""
        return self.stream is not None or self.pieces is not None

    def is_kept(self, region: Region) -> bool:
        """Return whether a block need not be computed."""
        if self.keeping is None:
            return False
        if self.only is not None:
            return self.only not in self.keeping.chunks_in(region)
        return self.keeping.covers(region)

    def waits_for(self, index: Sequence[int]) -> bool:
        """Return whether parts of a chunk are to be put together."""
        if self.keeping is None:
            return True
        chunk = self.keeping.number(index)
        return chunk == self.only if self.only is not None else chunk not in self.keeping.kept

    def regions(self) -> Iterator[Region]:
        """Yield where its blocks lie."""
        if self.source is None and self.array is not None:
            return cuts(self.array.chunks)
        plan = self.plan
        return plan.regions() if plan.read_shape is None else boxes(plan.shape, plan.read_shape)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run came to."""

    n_blocks: int
    """Blocks of all arrays."""
    n_kept: int = 0
    """Those of them that were there already."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A job while it runs."""

    job: Job
    gatherer: Gatherer
    scratch: Scratch
    progress: Progress
    gate: Gate

    def accept(self, region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
        elements = self.converted(region, block)
        with self.gate:
            self.gatherer.accept(region, elements, workspace)

    def converted(self, region: Region, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a block as the target has its elements."""
        try:
            return self.job.convert(block)
        except (ValueError, TypeError, OverflowError) as error:
            msg = f"block {format_region(region)} of {self.job.key!r} cannot be stored: {error}"
            raise BlockError(msg) from error

    def commit(self, chunk: Waiting, workspace: Workspace) -> None:
        with self.gate:
            self.gatherer.commit_spilled(chunk, workspace)

    def wait(self, regions: Sequence[Region], *, is_ending: bool) -> None:
        """Say which blocks are under way, when nothing has come for long."""
        named = ", ".join(f"{self.job.key} {format_region(region)}".strip() for region in regions)
        self.progress.wait(named)
        if is_ending and named:
            logger.warning("waiting for what is being read: %s; Ctrl-C leaves at once", named)

    def take(self, slab: Slab, workspace: Workspace) -> None:
        """Convert a slab of a stream, and commit the chunks that it fills."""
        block, slab.block = slab.block, None
        if block is None:
            return
        target, region = self.job.target, slab.region_in(block.shape)
        elements = self.converted(region, block)
        if slab.is_hole is not None:
            holes = np.moveaxis(elements, slab.axis, 0)
            holes[slab.is_hole] = target.fill_value
        for index, _, inside in touched(region, target.chunk_shape):
            part = inside[slab.axis]
            if slab.has_data(part.start, part.stop):
                with self.gate:
                    target.write_chunk(index, elements[inside], workspace)
        slab.give_back()

    def advance(self, region: Region) -> None:
        nbytes = nbytes_of(box_shape(region), self.job.plan.dtype)
        if nbytes or not region:
            self.progress.advance(self.job.key, region, nbytes)


@dataclass(frozen=True)
class _Due:
    """Something that is to be written by whichever thread is free."""

    part: _Part
    region: Region
    write: Callable[[Workspace], None]


def run(jobs: Sequence[Job], *, scratch: Path, progress: Any, scheduler: Scheduler) -> Ran:
    """Write every block of some jobs that is not there already.

    Jobs that read from a source do so one after the other, each in the
    blocks that suit it; those that have graphs are one graph.

    Parameters
    ----------
    jobs : sequence of Job
        Each with a target of its own.
    scratch : Path
        Where parts of chunks may wait.
    progress : bool or callable
        As the user gave it.
    scheduler : Scheduler
        What computes graphs.

    Returns
    -------
    Ran
        How many blocks there are, and how many of them were kept.

    Raises
    ------
    BlockError
        When a block raises or is not what it should be.
    TargetError
        When the disk is full or fails.
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
            Progress(progress, n_total=n_blocks, total_nbytes=sum(job.plan.nbytes for job in busy))
        )
        gate = Gate()
        stack.callback(gate.shut)
        parts = [_begin(job, pieces, told, gate) for job in busy]
        n_kept = sum(map(_tell_kept, parts))
        if n_kept:
            logger.info("%s %d/%d blocks", RESUMING, n_kept, n_blocks)
        for part in parts:
            if part.job.source is not None:
                _from_source(part, part.job.source)
        # What comes straight from a source has an array as well, which is not computed.
        _from_graphs([part for part in parts if part.job.source is None], scheduler)
        n_blocks += _coming_once([part for part in parts if part.job.comes_once])
        for part in parts:
            spilled = list(part.gatherer.spilled())
            pull(
                spilled,
                part.commit,
                n_threads=min(len(spilled), part.job.plan.workers),
                on_done=_ignore,
            )
    return Ran(n_blocks=n_blocks, n_kept=n_kept)


def _tell_kept(part: _Part) -> int:
    """Count the blocks that are there already, and return their number."""
    keeping = part.job.keeping
    if keeping is None or not keeping.kept or part.job.only is not None:
        return 0
    kept = [region for region in part.job.regions() if part.job.is_kept(region)]
    for region in kept:
        part.advance(region)
    return len(kept)


def _begin(job: Job, scratch: Scratch, progress: Progress, gate: Gate) -> _Part:
    gatherer = Gatherer(
        job.target,
        memory_nbytes=job.plan.gather_nbytes,
        scratch=scratch,
        window=job.window,
        waits_for=job.waits_for,
    )
    return _Part(job=job, gatherer=gatherer, scratch=scratch, progress=progress, gate=gate)


def _keep_freed_payloads(nbytes: int) -> None:
    """Teach glibc's malloc to keep freed payloads, instead of unmapping each.

    Its threshold for unmapping rises to the size of the largest mapped block
    that was ever freed, and so does, doubled, what it keeps at the end of the
    heap: no more than a payload is asked for, so that larger blocks still go
    back at once. Elsewhere it costs nothing: the memory is never touched.
    """
    np.empty(min(nbytes + nbytes // 8 + 4096, _MOST_KEPT_NBYTES), np.uint8)


def _from_source(part: _Part, source: Source) -> None:
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


def _stripes(region: Region, source: Source, job: Job) -> Iterator[Region]:
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


def _at_once(part: _Part) -> Iterator[_Due]:
    """Yield what is to be written of a job whose data come once, as they come."""
    return _from_stream(part) if part.job.pieces is None else _from_pieces(part)


def _from_stream(part: _Part) -> Iterator[_Due]:
    plan, stream, target = part.job.plan, part.job.stream, part.job.target
    if stream is None or not isinstance(target, Growing):
        return
    axis, shape = stream.axis, plan.shape

    def grow(length: int) -> None:
        with part.gate:
            target.grow((*shape[:axis], length, *shape[axis + 1 :]))

    for slab in slabs(stream, plan.block_shape[axis], grow):
        yield _Due(part, slab.region_in(shape), functools.partial(part.take, slab))


def _from_pieces(part: _Part) -> Iterator[_Due]:
    pieces, target = part.job.pieces, part.job.target
    if pieces is None or not isinstance(target, Rewritable):
        return
    patchwork = Patchwork(
        target,
        pieces.max_shape,
        memory_nbytes=part.job.plan.gather_nbytes,
        scratch=part.scratch,
        hands_over_early=pieces.is_in_order,
        old_shape=pieces.old_shape,
    )

    def write(ready: Ready, workspace: Workspace) -> None:
        with part.gate:
            patchwork.write(ready, workspace)

    def due(ready: Ready) -> _Due:
        return _Due(part, patchwork.region_of(ready), functools.partial(write, ready))

    for region, elements in pieces.take(target.chunk_shape):
        converted = part.converted(region, elements)
        with part.gate:
            patchwork.grow(region)
        yield from map(due, patchwork.lay(region, converted))
    yield from map(due, patchwork.rest())


def _coming_once(parts: Sequence[_Part]) -> int:
    """Take from all streams and iterators in turn, and return how often something was written."""
    if not parts:
        return 0
    n_written = 0

    def count(due: _Due) -> None:
        nonlocal n_written
        n_written += 1
        due.part.advance(due.region)

    pull(
        _in_turn([_at_once(part) for part in parts]),
        lambda due, workspace: due.write(workspace),
        n_threads=min(part.job.plan.workers for part in parts),
        on_done=count,
        on_wait=_told_of(parts),
    )
    return n_written


def _told_of(parts: Sequence[_Part]) -> Callable[..., None]:
    """Return what says that streams are waited for."""
    names = "the next item of " + ", ".join(part.job.key or "the stream" for part in parts)

    def wait(_: Sequence[object], *, is_ending: bool) -> None:
        parts[0].progress.wait(names)
        if is_ending:
            logger.warning("waiting for %s; Ctrl-C leaves at once", names)

    return wait


def _in_turn(several: Sequence[Iterator[Item]]) -> Iterator[Item]:
    """Yield from several iterators, one from each, until all are at their ends."""
    waiting = list(several)
    while waiting:
        for one in list(waiting):
            found = list(itertools.islice(one, 1))
            if found:
                yield from found
            else:
                waiting.remove(one)


def _from_graphs(parts: Sequence[_Part], scheduler: Scheduler) -> None:
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
        run_elsewhere(deliveries, scheduler, n_workers=n_workers)


def _ignore(chunk: Waiting) -> None:
    """Count nothing: the blocks were counted when they were read."""
