"""From blocks to whole chunks: each chunk is committed once, by whoever completes it.

A block may cover chunks whole, or only parts of them. Whole chunks go straight
to the target. Parts wait in memory until their chunk is complete; when the
memory for waiting is used up, the parts of further chunks go to a scratch
file and are put together at the end.

Each chunk is handed over once, when nothing more comes; or, where parts come
in order, as soon as it is complete. Should a part come for it after all, it
is read back and handed over again.
"""

import bisect
import itertools
import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, is_text, nbytes_of
from lazyio.errors import BlockError, TruncatedSourceError
from lazyio.regions import (
    Bounds,
    Region,
    box,
    box_shape,
    flat_index,
    format_region,
    n_along,
    touched,
    view_of,
)
from lazyio.spill import PlacedFile
from lazyio.storage.base import Growing, Rewritable, Target
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.region_target import SharedArray

Bytes = npt.NDArray[np.uint8]


class Scratch:
    """A file that any thread may add to; made at the first piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None
        self._placed: Any = None
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Bytes written so far."""
        return self._end

    def append(self, data: Bytes) -> int:
        """Write bytes at the end and return where they begin."""
        with disk_errors(self._path.parent.parent):
            with self._lock:
                if self._file is None:
                    self._file = self._path.open("w+b", buffering=0)
                    self._placed = PlacedFile(self._file)
                begin = self._end
                self._end += data.size
            self._placed.write(memoryview(data), begin)
        return begin

    def replace(self, begin: int, data: Bytes) -> None:
        """Write bytes in place of as many that begin there."""
        with disk_errors(self._path.parent.parent):
            self._placed.write(memoryview(data), begin)

    def read(self, begin: int, out: Bytes) -> None:
        """Fill ``out`` with the bytes that begin there."""
        view = memoryview(out)
        if len(view) and self._placed.read(view, begin) < len(view):
            msg = f"{self._path} ends before byte {begin + len(view)}; it was cut while in use"
            raise TruncatedSourceError(msg)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


_MOST_BOXES = 16


class Coverage:
    """Whether boxes that come one after another cover a chunk, none of it twice.

    Examples
    --------
    >>> covered = Coverage(6)
    >>> for at in range(3):
    ...     covered.add((slice(at, at + 1), slice(0, 2)))
    >>> covered.is_complete
    True
    >>> covered.add((slice(0, 1), slice(0, 1)))
    >>> covered.is_complete
    False
    """

    __slots__ = ("_boxes", "_is_lost", "_n_missing")

    def __init__(self, n_elements: int) -> None:
        self._n_missing = n_elements
        self._boxes: list[Region] = []
        self._is_lost = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing; never so once boxes overlap, or are too many."""
        return not self._n_missing and not self._is_lost

    def add(self, box: Region) -> None:
        """Count a box in."""
        if self._is_lost:
            return
        if any(_overlap(box, other) for other in self._boxes):
            self._is_lost = True
            return
        self._n_missing -= math.prod(part.stop - part.start for part in box)
        longer = _joined(self._boxes[-1], box) if self._boxes else None
        if longer is not None:
            self._boxes[-1] = longer
        else:
            self._boxes.append(box)
            self._is_lost = len(self._boxes) > _MOST_BOXES


def _overlap(one: Region, other: Region) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def _joined(one: Region, other: Region) -> Region | None:
    """Return a box with the next one at its end along one axis, ``None`` if it is not there."""
    differing = [axis for axis, part in enumerate(one) if part != other[axis]]
    if len(differing) != 1 or one[differing[0]].stop != other[differing[0]].start:
        return None
    axis = differing[0]
    return (*one[:axis], slice(one[axis].start, other[axis].stop), *one[axis + 1 :])


class IndexRanges:
    """A set of integers that mostly come one after another.

    Examples
    --------
    >>> ranges = IndexRanges()
    >>> for number in (3, 4, 9, 5, 8):
    ...     ranges.add(number)
    >>> [number in ranges for number in (2, 3, 5, 6, 8, 9, 10)]
    [False, True, True, False, True, True, False]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __contains__(self, number: int) -> bool:
        """Return whether it was added."""
        at = bisect.bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    def add(self, number: int) -> None:
        """Add a number."""
        if number in self:
            return
        at = bisect.bisect_left(self._starts, number)
        continues = at > 0 and self._stops[at - 1] == number
        precedes = at < len(self._starts) and self._starts[at] == number + 1
        if continues and precedes:
            self._stops[at - 1] = self._stops.pop(at)
            del self._starts[at]
        elif continues:
            self._stops[at - 1] = number + 1
        elif precedes:
            self._starts[at] = number
        else:
            self._starts.insert(at, number)
            self._stops.insert(at, number + 1)


Index = tuple[int, ...]

_FLUSH_NBYTES = 2**20
_WAITING_NBYTES = 640
"""What Python keeps for one waiting chunk, beside its elements."""


@dataclass(slots=True)
class PartialChunk:
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


class Assembler:
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
        self._waiting: dict[Index, PartialChunk] = {}
        self._spilled: list[PartialChunk] = []

    def accept(self, region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
        """Commit the chunks that a block completes, and keep the rest of it."""
        if not region:
            self._target.write_chunk((), block, workspace)
            return
        if not block.size:
            return
        pending: list[tuple[PartialChunk, Shape, npt.NDArray[Any]]] = []
        pending_nbytes = 0
        axes = [
            parts_along(part, bounds, chunk)
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

    def spilled(self) -> Iterator[PartialChunk]:
        """Yield the chunks that lie in scratch, once all blocks have been taken."""
        incomplete = [index for index, waiting in self._waiting.items() if waiting.n_missing]
        if incomplete:
            where = format_region(self._box(incomplete[0]))
            msg = f"the blocks left chunk {where} incomplete; they must cover the whole array"
            raise BlockError(msg)
        yield from self._spilled

    def commit_spilled(self, waiting: PartialChunk, workspace: Workspace) -> None:
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

    def _waiting_at(self, index: Index) -> PartialChunk:
        with self._lock:
            waiting = self._waiting.get(index)
            if waiting is None:
                waiting = self._waiting[index] = self._begin(index)
            return waiting

    def _begin(self, index: Index) -> PartialChunk:
        dtype = self._target.dtype
        shape = box_shape(self._box(index))
        nbytes = nbytes_of(shape, dtype) + _WAITING_NBYTES
        held = None
        # Text lies elsewhere in memory, and has no bytes to put into a file.
        if nbytes <= self._free_nbytes or is_text(dtype):
            self._free_nbytes -= nbytes
            held = np.empty(shape, dtype)
        return PartialChunk(index=index, shape=shape, n_missing=math.prod(shape), held=held)

    def _box(self, index: Index) -> Region:
        """Return the part of a chunk that lies in the window."""
        return tuple(
            slice(max(at * chunk, bounds.start), min((at + 1) * chunk, bounds.stop))
            for at, chunk, bounds in zip(index, self._target.chunk_shape, self._window, strict=True)
        )

    def _count(self, waiting: PartialChunk, n_more: int, workspace: Workspace) -> None:
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
        pending: Sequence[tuple[PartialChunk, Shape, npt.NDArray[Any]]],
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
class ChunkPart:
    """Where a block and one row of chunks overlap along one axis."""

    index: int
    in_block: slice
    in_chunk: int
    is_whole: bool


def parts_along(part: slice, bounds: slice, chunk: int) -> list[ChunkPart]:
    """Return the rows of chunks that a block touches along one axis, in a window."""
    found = []
    first, last = part.start + bounds.start, part.stop + bounds.start
    for index in range(first // chunk, -(-last // chunk)):
        begin, end = max(index * chunk, bounds.start), min((index + 1) * chunk, bounds.stop)
        start, stop = max(begin, first), min(end, last)
        found.append(
            ChunkPart(
                index=index,
                in_block=slice(start - first, stop - first),
                in_chunk=start - begin,
                is_whole=start == begin and stop == end,
            )
        )
    return found


def _box_at(corner: Shape, shape: Shape) -> Region:
    return tuple(slice(a, a + n) for a, n in zip(corner, shape, strict=True))


_HELD_NBYTES, _PLACE_NBYTES = 900, 240
"""What Python keeps for a chunk in memory beside its elements, and for one in scratch."""
_UNBOUND = 2**62
"""Chunks along an axis without end."""
_BATCH_NBYTES = 2**20
"""Of complete chunks that go together: tiny ones in order, so that HDF5's index is filled well."""


@dataclass(slots=True)
class _Held:
    """A chunk in memory."""

    chunk: npt.NDArray[Any]
    """Its elements."""
    is_laid: npt.NDArray[np.bool_] | None
    """For each whether it has come; ``None`` where the others are those that are stored."""
    data: npt.NDArray[np.uint8]
    """The bytes of both; none of text, which lies elsewhere."""
    covered: Coverage | None = None
    """What has come of it, where it may be written before all has come."""


@dataclass(slots=True)
class AssembledChunk:
    """A chunk that is to be written."""

    index: Index
    """Its position in the grid of chunks."""
    held: _Held | None
    """It, let go of once it is written; ``None`` where it lies in scratch."""
    place: int = 0
    """Where in scratch."""


class OnePassAssembler:
    """Chunks of which something has come; in memory, or in scratch beyond a limit.

    Parts are laid by one thread at a time; chunks that are ready may be
    written by others meanwhile.
    """

    def __init__(
        self,
        target: Rewritable,
        bounds: Bounds,
        *,
        memory_nbytes: int,
        scratch: Scratch,
        hands_over_early: bool,
        old_shape: Shape | None = None,
        shared: SharedArray | None = None,
    ) -> None:
        self._target = target
        self._bounds = bounds
        self._shape = target.chunk_shape
        self._shared = shared
        self._n_elements = math.prod(self._shape)
        self._nbytes = self._n_elements * (target.dtype.itemsize + (shared is not None))
        self._memory_nbytes = memory_nbytes
        self._batch_nbytes = min(_BATCH_NBYTES, memory_nbytes // 2)
        self._scratch = scratch
        self._is_early = hands_over_early and target.is_read_back
        self._held: OrderedDict[Index, _Held] = OrderedDict()
        self._places: dict[Index, int] = {}
        self._complete: set[Index] = set()
        self._old_shape = old_shape or (0,) * len(self._shape)
        self._handed_over = IndexRanges()
        self._under_way: set[Index] = set()
        self._landed = threading.Condition()

    def grow(self, region: Region) -> None:
        """Let the array reach as far as a part does that is to be laid."""
        grown = tuple(
            max(extent, part.stop) for extent, part in zip(self._target.shape, region, strict=True)
        )
        if grown != self._target.shape and isinstance(self._target, Growing):
            self._target.grow(grown)
            if self._shared is not None:
                self._shared.reach(grown)

    def lay(self, region: Region, elements: npt.NDArray[Any]) -> Iterator[AssembledChunk]:
        """Lay a part over what is there, and yield the chunks that it completes."""
        for index, in_chunk, in_region in touched(region, self._shape):
            held = self._at(index)
            held.chunk[in_chunk] = elements[view_of(in_region)]
            if held.is_laid is not None:
                held.is_laid[in_chunk] = True
            if held.covered is not None:
                held.covered.add(in_chunk)
                if held.covered.is_complete:
                    self._complete.add(index)
                    yield from self._batch()
                else:
                    self._complete.discard(index)

    def _batch(self) -> Iterator[AssembledChunk]:
        """Yield the chunks that are complete, once they are many enough."""
        n_complete = len(self._complete)
        is_many = n_complete * self._nbytes >= self._batch_nbytes
        # Else they would be put aside one by one, for want of room.
        is_full = 2 * n_complete * (self._nbytes + _HELD_NBYTES) >= self._memory_nbytes
        if not (is_many or is_full):
            return
        batch = sorted(self._complete)
        self._complete.clear()
        for index in batch:
            yield self._hand_over(index, self._held.pop(index))

    def rest(self) -> Iterator[AssembledChunk]:
        """Yield all chunks that wait, in the order of the grid, once nothing more comes."""
        for index in sorted(self._held.keys() | self._places.keys()):
            held = self._held.pop(index, None)
            if held is not None:
                yield self._hand_over(index, held)
            else:
                yield AssembledChunk(index, None, self._places[index])

    def write(self, ready: AssembledChunk, workspace: Workspace) -> None:
        """Write a chunk, cut at the end of the array; from any thread."""
        try:
            held, ready.held = ready.held, None
            if held is None:
                held = self._room(workspace.buffer("patched", self._nbytes))
                self._scratch.read(ready.place, held.data)
            if self._shared is None:
                self._write(self._target, ready.index, held, workspace)
                return
            with self._shared.alone_at(ready.index, self._target) as target:
                self._write(target, ready.index, held, workspace)
        finally:
            with self._landed:
                self._under_way.discard(ready.index)
                self._landed.notify_all()

    def _write(self, target: Rewritable, index: Index, held: _Held, workspace: Workspace) -> None:
        """Write a chunk as far as the array reaches, with what is stored where nothing has come."""
        inside = view_of(_from_corner(box(target.shape, self._shape, index)))
        chunk = held.chunk[inside]
        if held.is_laid is not None and not held.is_laid[inside].all():
            new, chunk = chunk, target.read_chunk(index)
            chunk[held.is_laid[inside]] = new[held.is_laid[inside]]
        target.write_chunk(index, chunk, workspace)

    def region_of(self, ready: AssembledChunk) -> Region:
        """Return where a chunk lies."""
        return box(self._target.shape, self._shape, ready.index)

    def _hand_over(self, index: Index, held: _Held) -> AssembledChunk:
        if self._is_early:
            self._under_way.add(index)
            self._handed_over.add(self._number(index))
        return AssembledChunk(index, held)

    def _at(self, index: Index) -> _Held:
        """Return a chunk in memory, wherever it was."""
        held = self._held.get(index)
        if held is not None:
            self._held.move_to_end(index)
            return held
        self._make_room()
        held = self._held[index] = self._taken_up(index)
        return held

    def _taken_up(self, index: Index) -> _Held:
        """Return a chunk with what is there of it: in scratch, written before, or old."""
        held = self._room()
        if index in self._places:
            self._scratch.read(self._places[index], held.data)
            return held
        held.chunk[...] = self._target.fill_value
        if held.is_laid is not None:
            held.is_laid[...] = False
        if self._is_early and self._number(index) in self._handed_over:
            self._wait_for(index)
            self._lay_stored(held, index, self._target.shape)
            return held
        held.covered = Coverage(self._n_elements_of(index)) if self._is_early else None
        old = self._lay_stored(held, index, self._old_shape)
        if held.covered is not None and old is not None:
            held.covered.add(old)
        return held

    def _room(self, data: npt.NDArray[np.uint8] | None = None) -> _Held:
        """Return memory for a chunk, of which the elements are not set."""
        dtype, is_shared = self._target.dtype, self._shared is not None
        if is_text(dtype):
            is_laid = np.empty(self._shape, np.bool_) if is_shared else None
            return _Held(np.empty(self._shape, dtype), is_laid, np.empty(0, np.uint8))
        if data is None:
            data = np.empty(self._nbytes, np.uint8)
        split = self._n_elements * dtype.itemsize
        chunk = data[:split].view(dtype).reshape(self._shape)
        is_laid = data[split:].view(np.bool_).reshape(self._shape) if is_shared else None
        return _Held(chunk, is_laid, data)

    def _lay_stored(self, held: _Held, index: Index, shape: Shape) -> Region | None:
        """Lay what the target has of a chunk, as far as some extents, and return where that is."""
        inside = tuple(
            slice(0, max(0, min(step, extent - at * step)))
            for at, step, extent in zip(index, self._shape, shape, strict=True)
        )
        if not all(part.stop for part in inside):
            return None
        if held.is_laid is None:
            held.chunk[inside] = self._target.read_chunk(index)[inside]
        return inside

    def _wait_for(self, index: Index) -> None:
        """Return once a chunk that was handed over has been written."""
        with self._landed:
            while index in self._under_way:
                self._landed.wait()

    def _number(self, index: Index) -> int:
        """Return a number for a chunk, those along the last axes one after another."""
        grid = tuple(
            _UNBOUND if bound is None else n_along(bound, step)
            for bound, step in zip(self._bounds, self._shape, strict=True)
        )
        return flat_index(index, grid)

    def _n_elements_of(self, index: Index) -> int:
        """Return how many elements a chunk has as far as the array may reach."""
        ends = tuple(
            (at + 1) * step if bound is None else bound
            for at, step, bound in zip(index, self._shape, self._bounds, strict=True)
        )
        return math.prod(box_shape(box(ends, self._shape, index)))

    def _make_room(self) -> None:
        """Put the chunk aside that was not touched for longest, where one more has no room."""
        # Text lies elsewhere in memory, and has no bytes to put into a file.
        if not self._held or is_text(self._target.dtype):
            return
        kept = len(self._places) * _PLACE_NBYTES
        if kept > self._memory_nbytes:
            msg = (
                f"{len(self._places)} chunks of {self._shape} are touched, of which memory_limit "
                "does not even hold where each of them lies; give larger chunks, or a larger limit"
            )
            raise BlockError(msg)
        n_held = len(self._held) + 1
        if n_held * (self._nbytes + _HELD_NBYTES) + kept <= self._memory_nbytes:
            return
        index, held = self._held.popitem(last=False)
        self._complete.discard(index)
        if index in self._places:
            self._scratch.replace(self._places[index], held.data)
        else:
            self._places[index] = self._scratch.append(held.data)


def _from_corner(place: Region) -> Region:
    return tuple(map(slice, box_shape(place)))
