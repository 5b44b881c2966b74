"""Chunks put together from parts that come in any order, the last of which holds.

Each chunk is handed over once, when nothing more comes; or, where parts come
in order, as soon as it is complete. Should a part come for it after all, it
is read back and handed over again.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.elements import is_text
from lazyio.errors import BlockError
from lazyio.grid import Bounds, Region, box, box_shape, flat_index, n_along, touched, view_of
from lazyio.run.covered import Covered, Ranges
from lazyio.run.scratch import Scratch
from lazyio.spec import Shape
from lazyio.targets.base import Growing, Rewritable
from lazyio.targets.in_process import Shared

Index = tuple[int, ...]

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
    covered: Covered | None = None
    """What has come of it, where it may be written before all has come."""


@dataclass(slots=True)
class Ready:
    """A chunk that is to be written."""

    index: Index
    """Its position in the grid of chunks."""
    held: _Held | None
    """It, let go of once it is written; ``None`` where it lies in scratch."""
    place: int = 0
    """Where in scratch."""


class Patchwork:
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
        shared: Shared | None = None,
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
        self._handed_over = Ranges()
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

    def lay(self, region: Region, elements: npt.NDArray[Any]) -> Iterator[Ready]:
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

    def _batch(self) -> Iterator[Ready]:
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

    def rest(self) -> Iterator[Ready]:
        """Yield all chunks that wait, in the order of the grid, once nothing more comes."""
        for index in sorted(self._held.keys() | self._places.keys()):
            held = self._held.pop(index, None)
            if held is not None:
                yield self._hand_over(index, held)
            else:
                yield Ready(index, None, self._places[index])

    def write(self, ready: Ready, workspace: Workspace) -> None:
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

    def region_of(self, ready: Ready) -> Region:
        """Return where a chunk lies."""
        return box(self._target.shape, self._shape, ready.index)

    def _hand_over(self, index: Index, held: _Held) -> Ready:
        if self._is_early:
            self._under_way.add(index)
            self._handed_over.add(self._number(index))
        return Ready(index, held)

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
        held.covered = Covered(self._n_elements_of(index)) if self._is_early else None
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
