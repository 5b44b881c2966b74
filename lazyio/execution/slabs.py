"""Slabs: elements of a stream or of a writer, gathered into whole rows of chunks."""

import contextlib
import queue
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape
from lazyio.regions import Region, span, touched
from lazyio.storage.base import Target

Elements = npt.NDArray[Any]

_NOTHING: Elements = np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Slab:
    """Elements that are to be written, from the beginning of a row of chunks on."""

    block: Elements
    """All that lies in the same memory."""
    start: int
    """Number of its first element."""
    first: int
    """First element to be written."""
    stop: int
    """One beyond the last."""
    axis: int
    """Along which they lie."""
    is_hole: npt.NDArray[np.bool_] | None
    """For each element of the block whether it was left out; ``None`` where none was."""
    give_back: Callable[[], object]
    """To be called once nobody uses the elements any more: the next slab may lie there."""

    @property
    def region(self) -> Region:
        """Where it goes in the array."""
        return span(self.block.shape, self.axis, self.first, self.stop)

    @property
    def elements(self) -> Elements:
        """What is to be written."""
        here = slice(self.first - self.start, self.stop - self.start)
        return self.block[(slice(None),) * self.axis + (here,)]

    def write(
        self,
        elements: Elements,
        target: Target,
        workspace: Workspace,
        gate: AbstractContextManager[Any],
    ) -> None:
        """Write its elements, as the target has them; chunks of which none came are left out."""
        is_hole = self.is_hole
        if is_hole is not None:
            is_hole = is_hole[self.first - self.start : self.stop - self.start]
            np.moveaxis(elements, self.axis, 0)[is_hole] = target.fill_value
        for index, _, inside in touched(self.region, target.chunk_shape):
            if is_hole is None or not is_hole[inside[self.axis]].all():
                with gate:
                    target.write_chunk(index, elements[inside], workspace)


class Slabs:
    """Elements on their way to whole rows of chunks; filled by one thread at a time.

    Parameters
    ----------
    item_shape : tuple of int
        Extents of an element.
    dtype : numpy.dtype
        Type of an element in memory.
    axis : int
        Along which the array grows.
    size : int
        Elements of a slab.
    """

    def __init__(self, item_shape: Shape, dtype: np.dtype[Any], axis: int, size: int) -> None:
        self._axis = axis
        self._shape = item_shape
        self._dtype = dtype
        self._size = size
        # Memory that has been written once costs nothing to write again.
        self._free: queue.SimpleQueue[Elements] = queue.SimpleQueue()
        self._n_made = 0
        self._block = self._elements = _NOTHING
        self._is_hole: npt.NDArray[np.bool_] | None = None
        # Of the slab that is filled: its first element, how many there are, have room, are written.
        self._start = self._filled = self._room = self._written = 0

    @property
    def n_filled(self) -> int:
        """Elements of the slab that is filled."""
        return self._filled

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes into it."""
        return self._filled == self._size

    def put(self, elements: Elements | None, begin: int) -> int:
        """Put elements, their axis first, from some one on into the slab; return where it is full.

        ``None`` leaves one out.
        """
        if self._filled >= self._room:
            self._begin()
        at = self._filled
        if elements is None:
            if self._is_hole is None:
                self._is_hole = np.zeros(self._size, bool)
            self._is_hole[at] = True
            self._elements[at] = np.zeros((), self._dtype)
            self._filled = at + 1
            return 1
        n_elements = len(elements) - begin
        if n_elements == 1:
            # Mostly so, where each costs a microsecond.
            self._elements[at] = elements[begin]
            self._filled = at + 1
            return begin + 1
        stop = min(self._size, at + n_elements)
        end = begin + stop - at
        self._elements[at:stop] = elements[begin:end]
        self._filled = stop
        return end

    def turned(self) -> Slab:
        """Return the slab, of which something is there, and begin another when something comes."""
        block, free = self._block, self._free
        slab = self._slab(self._start + self._filled, lambda: free.put(block))
        self._block = self._elements = _NOTHING
        self._is_hole = None
        self._start = slab.stop
        self._filled = self._room = self._written = 0
        return slab

    def _slab(self, stop: int, give_back: Callable[[], object]) -> Slab:
        """Return the elements of a slab that are not yet written, as far as some one."""
        return Slab(
            block=self._block,
            start=self._start,
            first=self._start + self._written,
            stop=stop,
            axis=self._axis,
            is_hole=self._is_hole,
            give_back=give_back,
        )

    def _begin(self) -> None:
        """Take memory to fill."""
        self._block = self._buffer()
        self._elements = np.moveaxis(self._block, self._axis, 0)
        self._room = self._size

    def _buffer(self, wait: float | None = 0) -> Elements:
        """Return memory that is free, or gets so within some seconds; else more of it."""
        with contextlib.suppress(queue.Empty):
            return self._free.get(timeout=wait)
        items = self._shape
        self._n_made += 1
        return np.empty((*items[: self._axis], self._size, *items[self._axis :]), self._dtype)
