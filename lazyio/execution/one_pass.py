"""Data that come once: taken in turn by the calling thread, and written by others."""

import functools
import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lazyio.codecs.workspace import Workspace
from lazyio.execution.assembler import AssembledChunk, OnePassAssembler
from lazyio.execution.slabs import Slab, Slabs
from lazyio.execution.task import TaskRun
from lazyio.execution.threads import Trouble, feed
from lazyio.iterables.base import OffsetBlocks
from lazyio.regions import Region, with_extent
from lazyio.storage.base import Growing, Rewritable


@dataclass(frozen=True)
class _Due:
    """Something that is to be written by whichever thread is free."""

    part: TaskRun
    region: Region
    write: Callable[[Workspace], None]


_Step = _Due | float
"""Something to be written, or how many elements were taken just now."""


def _at_once(part: TaskRun, trouble: Trouble) -> Iterator[_Step]:
    """Yield what is to be written of a job whose data come once, as they come."""
    return (_from_stream if part.job.pieces is None else _from_pieces)(part, trouble)


def _from_stream(part: TaskRun, trouble: Trouble) -> Iterator[_Step]:
    plan, stream, target = part.job.plan, part.job.stream, part.job.target
    if stream is None or not isinstance(target, Growing):
        return
    axis, shape = stream.axis, plan.shape
    slabs = Slabs(stream.item_shape, stream.dtype, axis, plan.block_shape[axis])

    def write(slab: Slab, workspace: Workspace) -> None:
        converted = part.converted(slab.region, slab.elements)
        slab.write(converted, part.job.target, workspace, part.gate)
        slab.give_back()

    def due() -> _Due:
        slab = slabs.turned()
        with part.gate:
            target.grow(with_extent(shape, axis, slab.stop))
        return _Due(part, slab.region, functools.partial(write, slab))

    for elements in trouble.checked(stream.take()):
        begin, n_elements = 0, 1 if elements is None else len(elements)
        while begin < n_elements:
            begin = slabs.put(elements, begin)
            if slabs.is_full:
                yield due()
        # So that several streams can be taken in turn.
        yield stream.pace(elements)
    if slabs.n_filled:
        yield due()


def _from_pieces(part: TaskRun, trouble: Trouble) -> Iterator[_Step]:
    pieces, target = part.job.pieces, part.job.target
    if pieces is None or not isinstance(target, Rewritable):
        return
    patchwork = OnePassAssembler(
        target,
        pieces.max_shape,
        memory_nbytes=part.job.plan.gather_nbytes,
        scratch=part.scratch,
        hands_over_early=pieces.is_in_order,
        old_shape=pieces.old_shape,
        shared=part.job.shared,
    )

    def write(ready: AssembledChunk, workspace: Workspace) -> None:
        with part.gate:
            patchwork.write(ready, workspace)

    def due(ready: AssembledChunk) -> _Due:
        return _Due(part, patchwork.region_of(ready), functools.partial(write, ready))

    for region, elements in trouble.checked(pieces.take(target.chunk_shape)):
        converted = part.converted(region, elements)
        with part.gate:
            patchwork.grow(region)
        yield from map(due, patchwork.lay(region, converted))
        own = pieces.stream if isinstance(pieces, OffsetBlocks) else None
        if own is not None and own.has_own_pace:
            yield own.pace(elements)
        else:
            yield elements.size / max(1, math.prod(target.shape[1:]))
    yield from map(due, patchwork.rest())


def write_one_pass(parts: Sequence[TaskRun]) -> int:
    """Take from all streams and iterators in turn, and return how often something was written.

    Only the calling thread advances them.
    """
    if not parts:
        return 0
    n_written = 0

    def count(due: _Due) -> None:
        nonlocal n_written
        n_written += 1
        due.part.advance(due.region)

    names = "the next item of " + ", ".join(part.job.key or "the stream" for part in parts)
    feed(
        lambda trouble: _in_turn([_at_once(part, trouble) for part in parts]),
        lambda due, workspace: due.write(workspace),
        n_threads=min(part.job.plan.workers for part in parts),
        on_done=count,
        on_wait=functools.partial(parts[0].progress.wait, names),
    )
    return n_written


def _in_turn(several: Sequence[Iterator[_Step]]) -> Iterator[_Due]:
    """Yield what is to be written, each time from the data of which fewest elements were taken.

    One device may feed several of them through queues: none may run ahead of the others.
    """
    taken = [(0.0, at) for at in range(len(several))]
    while taken:
        n_taken, at = heapq.heappop(taken)
        for step in several[at]:
            if isinstance(step, _Due):
                yield step
            else:
                heapq.heappush(taken, (n_taken + step, at))
                break
