"""Virtual datasets, read from the datasets that they join: in parallel, and without libhdf5.

libhdf5 reads one at a time, under its lock, and decodes chunks of all files on one thread.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lazyio.dtypes import Shape
from lazyio.regions import Region, box_shape
from lazyio.sources.base import (
    Array,
    FillsNew,
    ReadsInto,
    Source,
    Watched,
    lies_in_rows,
    reading_unit,
)
from lazyio.sources.concatenated import joined, stacked
from lazyio.sources.files import reading
from lazyio.sources.hdf5_layout import VirtualPiece
from lazyio.sources.identity import Identity, SeenFile, all_unchanged

_READ_ALIKE = "iufcb"
"""Kinds of elements that are the same bytes in both datasets where their dtypes are the same."""


class WholeDataset(Source, Watched, Protocol):
    """A virtual dataset as libhdf5 reads it."""

    @property
    def path(self) -> str:
        """File that it is in."""

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file and key of the dataset."""

    @property
    def identity(self) -> Identity | None:
        """The state of the file that is read."""

    @property
    def others(self) -> tuple[SeenFile, ...]:
        """Files that it leads to."""


@dataclass(frozen=True, kw_only=True)
class VirtualSource(FillsNew):
    """A virtual dataset of which every part is all of another dataset."""

    whole: WholeDataset
    """The dataset: where it is, and which files are to stay as they are."""
    inside: Source
    """What it is made of, joined."""

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return self.whole.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.whole.dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """What is decoded at once."""
        return self.inside.chunk_shape

    @property
    def run_shape(self) -> Shape | None:
        """What is worth a read of its own."""
        return reading_unit(self.inside)

    @property
    def in_rows(self) -> bool:
        """Whether what it is made of are runs of bytes that follow each other."""
        return lies_in_rows(self.inside)

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file and key of the dataset."""
        return self.whole.location

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the file, and of those that it leads to."""
        return self.whole.paths

    def require_unchanged(self) -> None:
        """Raise where one of the files is not as it was."""
        self.whole.require_unchanged()

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        return self.whole.__dask_tokenize__()  # type: ignore[attr-defined]

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        others = [file for file in self.whole.others if file.holds(region)]
        with all_unchanged(others), reading(self.whole.path, self.whole.identity):
            if isinstance(self.inside, ReadsInto):
                self.inside.read_into(region, out)
            else:
                out[...] = self.inside.read(region)


def can_be_joined(pieces: Sequence[VirtualPiece], dtype: np.dtype[Any], *, is_enum: bool) -> bool:
    """Return whether pieces are boxes of plain numbers, each of all of another dataset."""
    return (
        dtype.kind in _READ_ALIKE
        and not is_enum
        and bool(pieces)
        and all(
            not piece.is_pattern
            and piece.region is not None
            and piece.n_elements == math.prod(box_shape(piece.region))
            for piece in pieces
        )
    )


def joined_pieces(
    shape: Shape, dtype: np.dtype[Any], pieces: Sequence[VirtualPiece], parts: Sequence[Source]
) -> Source | None:
    """Return sources joined as their pieces lie; ``None`` where that is no row of them."""
    regions = [piece.region or () for piece in pieces]
    for piece, part in zip(pieces, parts, strict=True):
        taken = piece.source_region
        is_all = taken is None or box_shape(taken) == part.shape
        if part.dtype != dtype or not is_all:
            return None
    if all(part.shape == box_shape(region) for part, region in zip(parts, regions, strict=True)):
        return _in_a_row(shape, regions, parts)
    for axis in range(len(shape)):
        if _are_slices(shape, regions, parts, axis):
            order = sorted(range(len(parts)), key=lambda at: regions[at][axis].start)
            starts = [regions[at][axis].start for at in order]
            in_order = [parts[at] for at in order]
            return stacked(in_order, axis) if starts == [*range(shape[axis])] else None
    return None


def _in_a_row(shape: Shape, regions: Sequence[Region], parts: Sequence[Source]) -> Source | None:
    """Return sources that follow each other along one axis, and fill the others."""
    partly = [
        axis
        for axis, extent in enumerate(shape)
        if any((region[axis].start, region[axis].stop) != (0, extent) for region in regions)
    ]
    if len(partly) > 1 or not shape or (not partly and len(parts) > 1):
        return None
    axis = partly[0] if partly else 0
    order = sorted(range(len(parts)), key=lambda at: regions[at][axis].start)
    end = 0
    for at in order:
        if regions[at][axis].start != end:
            return None
        end = regions[at][axis].stop
    return joined([parts[at] for at in order], axis) if end == shape[axis] else None


def _are_slices(
    shape: Shape, regions: Sequence[Region], parts: Sequence[Source], axis: int
) -> bool:
    """Return whether every source is one index along an axis that it has not itself."""
    others = (*shape[:axis], *shape[axis + 1 :])
    return all(
        part.shape == others and box_shape(region) == (*shape[:axis], 1, *shape[axis + 1 :])
        for part, region in zip(parts, regions, strict=True)
    )
