"""The arrays of an index as they are written: checked as they are read, and counted anew."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.dtypes import Shape
from lazyio.iterables.stream import Element, Stream
from lazyio.ragged.feed import FeedPart
from lazyio.ragged.index import Index
from lazyio.regions import Region
from lazyio.sources.base import Array, Source

VALUES, OFFSETS, SHAPES = "values", "offsets", "shapes"
"""Names of the arrays in the group of some rows."""


@dataclass(frozen=True, kw_only=True)
class ShiftedOffsets:
    """Offsets of rows that go behind others."""

    index: Index
    """The rows."""
    shift: int = 0
    """What is added to each offset."""
    n_skipped: int = 0
    """Offsets at the begin that are left out."""
    dtype = np.dtype(np.int64)

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return (self.index.n_rows + 1 - self.n_skipped,)

    @property
    def chunk_shape(self) -> Shape | None:
        """That of the offsets."""
        return self.index.offsets.chunk_shape

    @property
    def parts(self) -> tuple[Source, ...]:
        """What it reads."""
        return (self.index.offsets,)

    def read(self, region: Region) -> Array:
        """Return offsets, seen to rise."""
        start, stop = region[0].start + self.n_skipped, region[0].stop + self.n_skipped
        return self.index.checked_offsets(start, stop) + self.shift


@dataclass(frozen=True, kw_only=True)
class CheckedShapes:
    """Shapes of rows, seen to fit their lengths; of rows with one axis the lengths."""

    index: Index
    """The rows."""
    dtype = np.dtype(np.int64)

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        shapes = self.index.shapes
        return (self.index.n_rows, 1) if shapes is None else shapes.shape

    @property
    def chunk_shape(self) -> Shape | None:
        """That of the shapes."""
        return None if self.index.shapes is None else self.index.shapes.chunk_shape

    @property
    def parts(self) -> tuple[Source, ...]:
        """What it reads."""
        shapes = self.index.shapes
        return (self.index.offsets,) if shapes is None else (self.index.offsets, shapes)

    def read(self, region: Region) -> Array:
        """Return shapes of rows."""
        found = self.index.read(region[0].start, region[0].stop)
        shapes = found.lengths[:, np.newaxis] if found.shapes is None else found.shapes
        return shapes[:, region[1]]


class PartStream(Stream):
    """The stream of one array of a feed, which counts by rows.

    Parameters
    ----------
    part : FeedPart
        Its batches.
    dtype : numpy.dtype
        Type of an element.
    item_shape : tuple of int
        Extents of an element.
    expected_length : int, optional
        How many elements there will be, about.
    """

    has_own_pace = True

    def __init__(
        self,
        part: FeedPart,
        dtype: np.dtype[Any],
        item_shape: Shape,
        expected_length: int | None = None,
    ) -> None:
        super().__init__(part, dtype=dtype, batched=True, expected_length=expected_length)
        self._part = part
        self._item_shape = item_shape

    @property
    def item_shape(self) -> Shape:
        """Extents of an element, also where there is no row."""
        return self._item_shape

    def pace(self, _: Element) -> float:
        """Return of how many rows the last batch was."""
        return self._part.n_rows
