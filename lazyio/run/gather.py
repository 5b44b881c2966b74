"""From blocks to whole chunks: each chunk is committed once, by whoever completes it.

A block may cover chunks whole, or only parts of them. Whole chunks go straight
to the target. Parts wait in memory until their chunk is complete; when the
memory for waiting is used up, the parts of further chunks go to a scratch
file and are put together at the end.
"""

import itertools
import math
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.elements import is_text
from lazyio.errors import BlockError
from lazyio.grid import Region, box_shape, format_region
from lazyio.run.scratch import Scratch
from lazyio.spec import Shape, nbytes_of
from lazyio.targets.base import Target

Index = tuple[int, ...]

_FLUSH_NBYTES = 2**20
_WAITING_NBYTES = 640
"""What Python keeps for one waiting chunk, beside its elements."""


@dataclass(slots=True)
class Waiting:
    """A chunk of which parts are still to come."""

    index: Index
    """Its position in the grid of chunks."""
    shape: Shape
    """Its extents, cut at the array's end."""
    n_missing: int
    """Elements that are still to come."""
    held: npt.NDArray[Any] | None
    """Its elements so far, where it waits in memory."""
    pieces: "array[int]" = field(default_factory=lambda: array("q"))
    """For each part in scratch: where it begins there, then start and stop per axis."""


class Gatherer:
    """Takes blocks from any thread and hands whole chunks to a target."""

    def __init__(
        self,
        target: Target,
        *,
        memory_nbytes: int,
        scratch: Scratch,
        window: Region | None = None,
        waits_for: Callable[[Index], bool] | None = None,
    ) -> None:
        self._target = target
        self._window = window or tuple(slice(0, extent) for extent in target.shape)
        self._waits_for = waits_for
        self._free_nbytes = memory_nbytes
        self._scratch = scratch
        self._lock = threading.Lock()
        self._waiting: dict[Index, Waiting] = {}
        self._spilled: list[Waiting] = []

    def accept(self, region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
        """Commit the chunks that a block completes, and keep the rest of it."""
        if not region:
            self._target.write_chunk((), block, workspace)
            return
        if not block.size:
            return
        pending: list[tuple[Waiting, Shape, npt.NDArray[Any]]] = []
        pending_nbytes = 0
        axes = [
            _parts(part, bounds, chunk)
            for part, bounds, chunk in zip(
                region, self._window, self._target.chunk_shape, strict=True
            )
        ]
        all_whole = all(part.is_whole for parts in axes for part in parts)
        for parts in itertools.product(*axes):
            index = tuple([part.index for part in parts])
            piece = block[tuple([part.in_block for part in parts])]
            if all_whole or all(part.is_whole for part in parts):
                self._target.write_chunk(index, piece, workspace)
                continue
            if self._waits_for is not None and not self._waits_for(index):
                continue
            corner = tuple(part.in_chunk for part in parts)
            waiting = self._waiting_at(index)
            if waiting.held is not None:
                waiting.held[_box_at(corner, piece.shape)] = piece
                self._count(waiting, piece.size, workspace)
                continue
            pending.append((waiting, corner, piece))
            pending_nbytes += piece.nbytes
            if pending_nbytes >= _FLUSH_NBYTES:
                self._spill(pending, workspace)
                pending, pending_nbytes = [], 0
        self._spill(pending, workspace)

    def spilled(self) -> Iterator[Waiting]:
        """Yield the chunks that lie in scratch, once all blocks have been taken."""
        incomplete = [index for index, waiting in self._waiting.items() if waiting.n_missing]
        if incomplete:
            where = format_region(self._box(incomplete[0]))
            msg = f"the blocks left chunk {where} incomplete; they must cover the whole array"
            raise BlockError(msg)
        yield from self._spilled

    def commit_spilled(self, waiting: Waiting, workspace: Workspace) -> None:
        """Put a chunk together from its parts in scratch and commit it."""
        chunk = workspace.array("gathered", waiting.shape, self._target.dtype)
        ndim = len(waiting.shape)
        step = 1 + 2 * ndim
        for at in range(0, len(waiting.pieces), step):
            begin, *bounds = waiting.pieces[at : at + step]
            where = tuple(map(slice, bounds[:ndim], bounds[ndim:]))
            part = chunk[where]
            packed = workspace.array("part", part.shape, part.dtype)
            self._scratch.read(begin, packed.reshape(-1).view(np.uint8))
            part[...] = packed
        self._target.write_chunk(waiting.index, chunk, workspace)

    def _waiting_at(self, index: Index) -> Waiting:
        with self._lock:
            waiting = self._waiting.get(index)
            if waiting is None:
                waiting = self._waiting[index] = self._begin(index)
            return waiting

    def _begin(self, index: Index) -> Waiting:
        dtype = self._target.dtype
        shape = box_shape(self._box(index))
        nbytes = nbytes_of(shape, dtype) + _WAITING_NBYTES
        held = None
        # Text lies elsewhere in memory, and has no bytes to put into a file.
        if nbytes <= self._free_nbytes or is_text(dtype):
            self._free_nbytes -= nbytes
            held = np.empty(shape, dtype)
        return Waiting(index=index, shape=shape, n_missing=math.prod(shape), held=held)

    def _box(self, index: Index) -> Region:
        """Return the part of a chunk that lies in the window."""
        return tuple(
            slice(max(at * chunk, bounds.start), min((at + 1) * chunk, bounds.stop))
            for at, chunk, bounds in zip(index, self._target.chunk_shape, self._window, strict=True)
        )

    def _count(self, waiting: Waiting, n_more: int, workspace: Workspace) -> None:
        """Count elements that came; whoever counts the last commits the chunk."""
        with self._lock:
            waiting.n_missing -= n_more
            if waiting.n_missing:
                return
            del self._waiting[waiting.index]
        held = waiting.held
        if held is None:
            with self._lock:
                self._spilled.append(waiting)
            return
        self._target.write_chunk(waiting.index, held, workspace)
        with self._lock:
            self._free_nbytes += held.nbytes + _WAITING_NBYTES
        waiting.held = None

    def _spill(
        self,
        pending: Sequence[tuple[Waiting, Shape, npt.NDArray[Any]]],
        workspace: Workspace,
    ) -> None:
        """Write parts to scratch in one go, and note where each begins."""
        if not pending:
            return
        packed = workspace.buffer("spill", sum(piece.nbytes for _, _, piece in pending))
        offsets = []
        at = 0
        for _, _, piece in pending:
            flat = packed[at : at + piece.nbytes].view(piece.dtype).reshape(piece.shape)
            np.copyto(flat, piece)
            offsets.append(at)
            at += piece.nbytes
        begin = self._scratch.append(packed)
        for (waiting, corner, piece), offset in zip(pending, offsets, strict=True):
            stops = [a + n for a, n in zip(corner, piece.shape, strict=True)]
            with self._lock:
                waiting.pieces.extend((begin + offset, *corner, *stops))
        for waiting, _, piece in pending:
            self._count(waiting, piece.size, workspace)


@dataclass(frozen=True, slots=True)
class _Part:
    """Where a block and one row of chunks overlap along one axis."""

    index: int
    in_block: slice
    in_chunk: int
    is_whole: bool


def _parts(part: slice, bounds: slice, chunk: int) -> list[_Part]:
    found = []
    first, last = part.start + bounds.start, part.stop + bounds.start
    for index in range(first // chunk, -(-last // chunk)):
        begin, end = max(index * chunk, bounds.start), min((index + 1) * chunk, bounds.stop)
        start, stop = max(begin, first), min(end, last)
        found.append(
            _Part(
                index=index,
                in_block=slice(start - first, stop - first),
                in_chunk=start - begin,
                is_whole=start == begin and stop == end,
            )
        )
    return found


def _box_at(corner: Shape, shape: Shape) -> Region:
    return tuple(slice(a, a + n) for a, n in zip(corner, shape, strict=True))
