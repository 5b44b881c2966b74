"""A stream in slabs: as many elements as make whole rows of chunks."""

import functools
import queue
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.grid import Region
from lazyio.pieces.stream import Stream
from lazyio.spec import Shape


@dataclass(kw_only=True)
class Slab:
    """A part of a stream that goes to chunks of its own."""

    start: int
    """Number of its first element."""
    length: int
    """How many elements it has."""
    axis: int
    """Along which they lie."""
    block: npt.NDArray[Any] | None
    """The elements; ``None`` once they have been taken."""
    is_hole: npt.NDArray[np.bool_] | None
    """For each element whether it was left out; ``None`` where none was."""
    give_back: Callable[[], object]
    """To be called once nobody uses the elements any more: the next slab may lie there."""

    def region_in(self, shape: Shape) -> Region:
        """Return where it lies in an array of these extents on all other axes."""
        region = [slice(0, extent) for extent in shape]
        region[self.axis] = slice(self.start, self.start + self.length)
        return tuple(region)

    def has_data(self, start: int, stop: int) -> bool:
        """Return whether any of some of its elements, counted from its first, is there."""
        return self.is_hole is None or not bool(self.is_hole[start:stop].all())


def slabs(
    stream: Stream, items: Iterable[Any], n_elements: int, on_grown: Callable[[int], object]
) -> Iterator[Slab | int]:
    """Yield a stream in slabs of so many elements, the last one shorter.

    After each item comes how many elements it had, so that several streams can be taken in turn.
    """
    gathering = _Gathering(stream, n_elements)
    for elements in items:
        n_left = 1 if elements is None else len(elements)
        begin = 0
        while n_left:
            done = gathering.put(elements, begin, n_left)
            begin, n_left = begin + done, n_left - done
            if gathering.is_full:
                on_grown(gathering.start + n_elements)
                yield gathering.finished()
        yield 1 if elements is None else len(elements)
    if gathering.n_filled:
        on_grown(gathering.start + gathering.n_filled)
        yield gathering.finished()


class _Gathering:
    """The slab that is being filled."""

    def __init__(self, stream: Stream, n_elements: int) -> None:
        self.start = 0
        self.n_filled = 0
        self._axis = stream.axis
        shape = list(stream.item_shape)
        shape.insert(self._axis, n_elements)
        self._shape: Shape = tuple(shape)
        self._dtype = stream.dtype
        self._n_elements = n_elements
        self._blank = np.zeros((), stream.dtype)[()]
        self._block: npt.NDArray[Any] | None = None
        self._is_hole: npt.NDArray[np.bool_] | None = None
        # Memory that has been written once costs nothing to write again.
        self._free: queue.SimpleQueue[npt.NDArray[Any]] = queue.SimpleQueue()

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes into it."""
        return self.n_filled == self._n_elements

    def _begin(self) -> None:
        try:
            self._block = self._free.get_nowait()
        except queue.Empty:
            self._block = np.empty(self._shape, self._dtype)
        self._elements = np.moveaxis(self._block, self._axis, 0)
        self._is_hole = None

    def put(self, elements: npt.NDArray[Any] | None, begin: int, n_left: int) -> int:
        """Put elements from some one on into it, and return how many had room."""
        if self._block is None:
            self._begin()
        at = self.n_filled
        if elements is None:
            if self._is_hole is None:
                self._is_hole = np.zeros(self._n_elements, bool)
            self._is_hole[at] = True
            self._elements[at] = self._blank
            n_put = 1
        elif n_left == 1:
            self._elements[at] = elements[begin]
            n_put = 1
        else:
            n_put = min(n_left, self._n_elements - at)
            self._elements[at : at + n_put] = elements[begin : begin + n_put]
        self.n_filled += n_put
        return n_put

    def finished(self) -> Slab:
        """Return the slab, and begin the next one."""
        length, block, is_hole = self.n_filled, self._block, self._is_hole
        whole = (slice(None),) * self._axis + (slice(0, length),)
        slab = Slab(
            start=self.start,
            length=length,
            axis=self._axis,
            block=None if block is None else block[whole],
            is_hole=None if is_hole is None else is_hole[:length],
            give_back=functools.partial(self._free.put, block) if block is not None else _nothing,
        )
        self.start, self.n_filled = self.start + length, 0
        # Whoever has the slab lets go of it: the next one is made when there is something in it.
        self._block = None
        return slab


def _nothing() -> None:
    """Do nothing: there is no memory to be given back."""
