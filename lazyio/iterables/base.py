"""One-pass input: what every kind of it has, and where it goes in an existing array."""

from collections.abc import Iterator
from operator import add
from typing import Any, Protocol

import numpy as np

from lazyio.dtypes import Shape
from lazyio.iterables.selections import Part
from lazyio.iterables.stream import Stream
from lazyio.regions import Bounds


class BlockIterator(Protocol):
    """An array that comes in parts, once; where they overlap the last one holds."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    @property
    def shape(self) -> Shape:
        """Extents to begin with."""

    @property
    def max_shape(self) -> Bounds:
        """How far it may grow as parts come, ``None`` without bound."""

    @property
    def old_shape(self) -> Shape | None:
        """Extents in which there may be something already, ``None`` in an array of its own."""

    @property
    def chunk_shape(self) -> Shape | None:
        """Chunks that suit its parts, where it knows."""

    @property
    def is_in_order(self) -> bool:
        """Whether parts seldom come back to a chunk that was complete."""

    def take(self, chunk_shape: Shape, /) -> Iterator[Part]:
        """Yield regions with their elements; once."""


class OffsetBlocks:
    """Pieces that say themselves where in an array they go, or how far behind what is there."""

    def __init__(self, pieces: BlockIterator, shape: Shape, bounds: Bounds, start: Shape) -> None:
        self._pieces = pieces
        self._start = start
        self.old_shape: Shape | None = shape
        self.shape = shape
        self.max_shape = bounds
        self.dtype: np.dtype[Any] = pieces.dtype
        self.is_in_order = pieces.is_in_order

    @property
    def chunk_shape(self) -> Shape | None:
        """Those that are there already; nothing else suits them."""
        return None

    def take(self, chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.iterables.base.BlockIterator`."""
        # First of all nothing, at the far corner: the array reaches as far as theirs does.
        reach = tuple(map(add, self._start, self._pieces.shape))
        yield tuple(slice(at, at) for at in reach), np.empty((0,) * len(reach), self.dtype)
        for region, elements in self._pieces.take(chunk_shape):
            pairs = zip(region, self._start, strict=True)
            yield tuple(slice(part.start + at, part.stop + at) for part, at in pairs), elements


class AppendedStream:
    """A stream whose elements go behind those of an array."""

    is_in_order = True

    def __init__(self, stream: Stream, shape: Shape, bounds: Bounds) -> None:
        self._stream = stream
        self.old_shape: Shape | None = shape
        self.shape = shape
        self.max_shape = bounds
        self.dtype: np.dtype[Any] = stream.dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """Those that are there already; nothing else suits them."""
        return None

    def take(self, _chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.iterables.base.BlockIterator`."""
        axis = self._stream.axis
        at = self.shape[axis]
        for elements in self._stream.take():
            n_elements = 1 if elements is None else len(elements)
            region = [slice(0, extent) for extent in self.shape]
            region[axis] = slice(at, at + n_elements)
            at += n_elements
            if elements is None:
                # Nothing is there, but the array reaches over it.
                region[axis] = slice(at, at)
                empty = tuple(part.stop - part.start for part in region)
                yield tuple(region), np.empty(empty, self.dtype)
            else:
                yield tuple(region), np.moveaxis(elements, 0, axis)
