"""Writing one array to one target: blocks in, whole chunks out, then done."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.blocks import read_block
from lazyio.codecs.workspace import Workspace
from lazyio.grid import Region, box_shape, boxes
from lazyio.planning import Plan
from lazyio.run.gather import Gatherer, Waiting
from lazyio.run.graph import run_graph
from lazyio.run.progress import Progress
from lazyio.run.pull import pull
from lazyio.run.scratch import Scratch
from lazyio.sources.base import ReadsInto, Source
from lazyio.spec import nbytes_of
from lazyio.targets.base import Target

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
    """Where blocks are read from; else there is an array."""
    array: da.Array | None = None
    """Graph that computes blocks."""
    key: str
    """What progress calls it."""
    progress: Any
    """As the user gave it."""
    scratch: Path
    """Where parts of chunks may wait."""


def run(job: Job) -> int:
    """Write every block of a job and return their number.

    Raises
    ------
    BlockError
        When a block raises or is not what it should be.
    TargetError
        When the disk is full or fails.
    """
    plan = job.plan
    n_blocks = plan.n_tasks
    _keep_freed_payloads(plan.chunk_nbytes)
    with ExitStack() as stack:
        scratch = stack.enter_context(Scratch(job.scratch))
        gatherer = Gatherer(job.target, memory_nbytes=plan.gather_nbytes, scratch=scratch)
        progress = stack.enter_context(
            Progress(
                job.progress,
                key=job.key,
                n_total=n_blocks,
                total_nbytes=plan.nbytes,
                itemsize=plan.dtype.itemsize,
            )
        )
        if job.source is not None:
            _from_source(job.source, plan, gatherer, progress)
        elif job.array is not None and job.array.size:
            _from_graph(job.array, plan, gatherer, progress)
        pull(
            gatherer.spilled(),
            gatherer.commit_spilled,
            n_threads=plan.workers,
            on_done=_ignore,
        )
    return n_blocks


def _keep_freed_payloads(nbytes: int) -> None:
    """Teach glibc's malloc to keep freed payloads, instead of unmapping each.

    Its threshold for unmapping rises to the size of the largest mapped block
    that was ever freed, and so does, doubled, what it keeps at the end of the
    heap: no more than a payload is asked for, so that larger blocks still go
    back at once. Elsewhere it costs nothing: the memory is never touched.
    """
    np.empty(min(nbytes + nbytes // 8 + 4096, _MOST_KEPT_NBYTES), np.uint8)


def _from_source(source: Source, plan: Plan, gatherer: Gatherer, progress: Progress) -> None:
    """Read blocks that suit the target, each into its thread's own memory."""

    def work(region: Region, workspace: Workspace) -> None:
        for part in _stripes(region, source, plan):
            out = None
            if isinstance(source, ReadsInto):
                out = workspace.array("block", box_shape(part), source.dtype)
            block = read_block(source, part, out)
            gatherer.accept(part, block.astype(plan.dtype, copy=False), workspace)

    n_threads = max(1, min(plan.workers, plan.n_tasks))
    pull(_read_regions(plan), work, n_threads=n_threads, on_done=progress.advance)


def _stripes(region: Region, source: Source, plan: Plan) -> Iterator[Region]:
    """Cut a block of a plain file into rows of chunks, to encode from the cache.

    A source with chunks of its own is read by whole blocks: a cut would
    decode the chunks on it twice.
    """
    is_plain = getattr(source, "in_rows", False) and plan.read_shape is None
    if not is_plain or not region:
        return iter((region,))
    shape = box_shape(region)
    row_nbytes = max(1, nbytes_of((plan.chunk_shape[0], *shape[1:]), plan.dtype))
    rows = plan.chunk_shape[0] * max(1, _STRIPE_NBYTES // row_nbytes)
    first = region[0]
    starts = range(first.start, first.stop, rows)
    return ((slice(at, min(at + rows, first.stop)), *region[1:]) for at in starts)


def _from_graph(array: da.Array, plan: Plan, gatherer: Gatherer, progress: Progress) -> None:
    cast = array.astype(plan.dtype) if array.dtype != plan.dtype else array

    def consume(region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
        gatherer.accept(region, block, workspace)

    def note(region: Region) -> None:
        if all(part.stop > part.start for part in region):
            progress.advance(region)

    run_graph(cast, consume, n_workers=plan.workers, on_done=note)


def _read_regions(plan: Plan) -> Iterator[Region]:
    return plan.regions() if plan.read_shape is None else boxes(plan.shape, plan.read_shape)


def _ignore(chunk: Waiting) -> None:
    """Count nothing: the blocks were counted when they were read."""
