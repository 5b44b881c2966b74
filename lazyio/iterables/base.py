"""One-pass input: what every kind of it has, and where it goes in an existing array."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import add
from typing import Any, Protocol

import numpy as np

from lazyio.dtypes import Shape
from lazyio.iterables.selections import Part
from lazyio.iterables.stream import Stream
from lazyio.regions import Bounds, span


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


@dataclass(frozen=True, kw_only=True)
class OffsetBlocks:
    """Parts that go into an existing array, in which they know their places."""

    dtype: np.dtype[Any]
    shape: Shape
    max_shape: Bounds
    is_in_order: bool
    parts: Callable[[Shape], Iterator[Part]]
    """Yields regions of the array with their elements."""
    chunk_shape: Shape | None = None
    """Those of the array suit, and no others."""
    stream: Stream | None = None
    """What they are the elements of, where they are appended."""

    @property
    def old_shape(self) -> Shape | None:
        """Extents of the array."""
        return self.shape

    def take(self, chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.iterables.base.BlockIterator`."""
        return self.parts(chunk_shape)


def offset_parts(pieces: BlockIterator, start: Shape, chunk_shape: Shape) -> Iterator[Part]:
    """Yield parts that say themselves where they go, that far behind the origin."""
    # First of all nothing, at the far corner: the array reaches as far as theirs does.
    reach = tuple(map(add, start, pieces.shape))
    yield tuple(slice(at, at) for at in reach), np.empty((0,) * len(reach), pieces.dtype)
    for region, elements in pieces.take(chunk_shape):
        pairs = zip(region, start, strict=True)
        yield tuple(slice(part.start + at, part.stop + at) for part, at in pairs), elements


def appended_parts(stream: Stream, shape: Shape, _chunk_shape: Shape) -> Iterator[Part]:
    """Yield the elements of a stream, one behind the other, behind those of an array."""
    axis = stream.axis
    at = shape[axis]
    for elements in stream.take():
        begin = at
        at += 1 if elements is None else len(elements)
        # Where one is left out nothing is, but the array reaches over it.
        region = span(shape, axis, at if elements is None else begin, at)
        if elements is None:
            elements = np.empty((0, *stream.item_shape), stream.dtype)
        yield region, np.moveaxis(elements, 0, axis)
