"""One array on its way to one target, and the end after which nothing is written any more."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import dask.array as da
import numpy.typing as npt

from lazyio.atomic.journal import ResumeState
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import nbytes_of
from lazyio.errors import BlockError
from lazyio.execution.assembler import Assembler, PartialChunk, Scratch
from lazyio.execution.progress import Progress
from lazyio.execution.ranks import RankPart
from lazyio.execution.workers import WrittenBlock, converted
from lazyio.iterables.base import BlockIterator
from lazyio.iterables.stream import Stream
from lazyio.planning import Plan
from lazyio.regions import Region, box_shape, boxes, cuts, format_region
from lazyio.sources.base import Source
from lazyio.sources.stored_chunks import PayloadSource, StoredChunks
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

    def __exit__(self, *_: object) -> None:
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
    payloads: PayloadSource | None = None
    """Where chunks come from that are encoded already."""
    stored: StoredChunks | None = None
    """Chunks of the source that are stored, where the target leaves out what is not."""
    key: str
    """What progress calls it."""
    on_masked: Callable[[], object]
    """Told when elements of a block that another process has written were masked."""
    window: Region | None = None
    """The part of the target that is written; by default all of it."""
    convert: Convert
    """From a block to elements as they are stored."""
    keeping: ResumeState | None = None
    """What already exists, from a run that was killed."""
    shared: SharedArray | None = None
    """What other threads may write to as well."""
    parts: tuple[RankPart, ...] = ()
    """What each rank of MPI gives of it, where none has all of it."""
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
        if self.payloads is not None:
            return all(chunk in self.keeping.kept for chunk in self.payloads.chunks_in(region))
        if self.only is not None:
            return self.only not in self.keeping.chunks_in(region)
        return self.keeping.covers(region)

    def is_left_out(self, region: Region) -> bool:
        """Return whether there is nothing in a block to be read or written."""
        # Where blocks cut across chunks, others wait for all parts of those.
        is_whole = self.stored is not None and self.plan.read_shape is None
        return is_whole and self.stored is not None and not self.stored.touch(region)

    def waits_for(self, index: Sequence[int]) -> bool:
        """Return whether parts of a chunk are to be put together."""
        if self.keeping is None:
            return True
        chunk = self.keeping.number(index)
        return chunk == self.only if self.only is not None else chunk not in self.keeping.kept

    def regions(self) -> Iterator[Region]:
        """Yield where its blocks lie."""
        if self.parts:
            return itertools.chain.from_iterable(part.regions() for part in self.parts)
        if self.source is None and self.array is not None:
            return cuts(self.array.chunks)
        plan = self.plan
        return plan.regions() if plan.read_shape is None else boxes(plan.shape, plan.read_shape)


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """A job while it runs."""

    job: WriteTask
    assembler: Assembler
    scratch: Scratch
    progress: Progress
    gate: WriteGate

    def accept(self, region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
        """Convert a block, commit the chunks that it completes, and keep the rest of it."""
        elements = self.converted(region, block)
        with self.gate:
            self.assembler.accept(region, elements, workspace)

    def take(self, written: WrittenBlock, land: Callable[[], object], workspace: Workspace) -> None:
        """Take note of what another process has written of a block, and take the rest."""
        with self.gate:
            land()
        if written.has_masked:
            self.job.on_masked()
        for region, piece in written.pieces:
            with self.gate:
                self.assembler.accept(region, piece, workspace)

    def converted(self, region: Region, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a block as the target has its elements."""
        return converted(self.job.convert, block, region, self.job.key)

    def commit(self, chunk: PartialChunk, workspace: Workspace) -> None:
        """Commit a chunk whose parts lie in scratch."""
        with self.gate:
            self.assembler.commit_spilled(chunk, workspace)

    def wait(self, regions: Sequence[Region], *, is_ending: bool) -> None:
        """Say which blocks are under way, when nothing has come for long."""
        named = ", ".join(f"{self.job.key} {format_region(region)}".strip() for region in regions)
        self.progress.wait(named)
        if is_ending and named:
            logger.warning("waiting for what is being read: %s; Ctrl-C leaves at once", named)

    def advance(self, region: Region) -> None:
        """Count a block that is done."""
        nbytes = nbytes_of(box_shape(region), self.job.plan.dtype)
        if nbytes or not region:
            self.progress.advance(self.job.key, region, nbytes)
