"""One array on its way to one target, and the end after which nothing is written any more."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.atomic.journal import ResumeState
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import nbytes_of
from lazyio.errors import BlockError
from lazyio.execution.assembler import Assembler, PartialChunk, Scratch
from lazyio.execution.progress import Progress
from lazyio.iterables.base import BlockIterator
from lazyio.iterables.stream import Slab, Stream
from lazyio.planning import Plan
from lazyio.regions import Region, box_shape, boxes, cuts, format_region, touched
from lazyio.sources.base import Source
from lazyio.storage.base import Target
from lazyio.storage.region_target import SharedArray


class WriteGate:
    """Lets threads in as long as it is open; a context manager of each.

    A thread whose block hangs cannot be ended. When it comes back after the
    run was given up, what it would write to may have another owner.

    Examples
    --------
    >>> gate = WriteGate()
    >>> with gate:
    ...     pass
    >>> gate.shut()
    >>> with gate:
    ...     pass
    Traceback (most recent call last):
    ...
    lazyio.errors.BlockError: the run was stopped before this block
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_inside = 0
        self._is_shut = False

    def __enter__(self) -> Self:
        """Go in, and return itself."""
        with self._condition:
            if self._is_shut:
                msg = "the run was stopped before this block"
                raise BlockError(msg)
            self._n_inside += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""
        with self._condition:
            self._n_inside -= 1
            self._condition.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait for those inside; that is not interrupted.

        They are writing, which comes to an end.
        """
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                with self._condition:
                    self._is_shut = True
                    while self._n_inside:
                        self._condition.wait()
                break
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted


logger = logging.getLogger("lazyio")

Convert = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class WriteTask:
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
    pieces: BlockIterator | None = None
    """Where parts come from in any order, once."""
    key: str
    """What progress calls it."""
    window: Region | None = None
    """The part of the target that is written; by default all of it."""
    convert: Convert
    """From a block to elements as they are stored."""
    keeping: ResumeState | None = None
    """What is there already, from a run that was killed."""
    shared: SharedArray | None = None
    """What other threads may write to as well."""
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
class TaskRun:
    """A job while it runs."""

    job: WriteTask
    gatherer: Assembler
    scratch: Scratch
    progress: Progress
    gate: WriteGate

    def accept(self, region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
        """Convert a block, commit the chunks that it completes, and keep the rest of it."""
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

    def commit(self, chunk: PartialChunk, workspace: Workspace) -> None:
        """Commit a chunk whose parts lie in scratch."""
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
        """Count a block that is done."""
        nbytes = nbytes_of(box_shape(region), self.job.plan.dtype)
        if nbytes or not region:
            self.progress.advance(self.job.key, region, nbytes)
