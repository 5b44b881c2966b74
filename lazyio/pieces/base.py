"""What an array is whose parts come once, in any order."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from lazyio.grid import Bounds
from lazyio.pieces.selections import Part
from lazyio.spec import Shape


class Pieces(Protocol):
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
