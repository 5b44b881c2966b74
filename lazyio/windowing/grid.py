"""The cells that a window holds: whole chunks of a source, several where those are small."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.regions import Region, flat_index, index_at, n_along
from lazyio.windowing.selection import Positions

Part = tuple[int, Any, Any]
"""A cell along an axis, what is taken of it, and where that goes in the result."""
Places = Sequence[Part]
"""One for each axis."""


@dataclass(frozen=True, kw_only=True)
class RegularAxis:
    """Cells of one extent; the last may be cut short."""

    extent: int
    """Elements."""
    step: int
    """Elements of a cell."""

    @property
    def largest(self) -> int:
        """Elements of the largest cell."""
        return min(self.extent, self.step)

    def __len__(self) -> int:
        return n_along(self.extent, self.step)

    def cell_at(self, position: int) -> int:
        """Return the cell that an element lies in."""
        return position // self.step

    def cells_at(self, positions: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the cells that elements lie in."""
        return positions // self.step

    def bounds(self, cell: int) -> tuple[int, int]:
        """Return where a cell begins and ends."""
        return cell * self.step, min(self.extent, (cell + 1) * self.step)


@dataclass(frozen=True, kw_only=True)
class IrregularAxis:
    """Cells between given edges, as dask has them."""

    edges: tuple[int, ...]
    """Where each begins, and where the last one ends."""

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "IrregularAxis":
        """Return the axis of cells of given extents; those without elements are left out."""
        return cls(edges=tuple(accumulate((size for size in sizes if size), initial=0)))

    @property
    def extent(self) -> int:
        """Elements."""
        return self.edges[-1]

    @property
    def largest(self) -> int:
        """Elements of the largest cell."""
        return max((high - low for low, high in pairwise(self.edges)), default=0)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def cell_at(self, position: int) -> int:
        """Return the cell that an element lies in."""
        return int(np.searchsorted(self.edges, position, "right")) - 1

    def cells_at(self, positions: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return the cells that elements lie in."""
        return np.searchsorted(self.edges, positions, "right") - 1

    def bounds(self, cell: int) -> tuple[int, int]:
        """Return where a cell begins and ends."""
        return self.edges[cell], self.edges[cell + 1]


Axis = RegularAxis | IrregularAxis


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells of an array, numbered in C order."""

    axes: tuple[Axis, ...]
    """Along each axis of the array."""
    counts: Shape
    """Number of cells along each axis."""

    @classmethod
    def of(cls, axes: Sequence[Axis]) -> "Grid":
        """Return the grid of some axes."""
        return cls(axes=tuple(axes), counts=tuple(map(len, axes)))

    def region(self, number: int) -> Region:
        """Return the part of the array that a cell is."""
        index = index_at(number, self.counts)
        return tuple(slice(*axis.bounds(cell)) for axis, cell in zip(self.axes, index, strict=True))

    def number(self, index: Sequence[int]) -> int:
        """Return the number of a cell."""
        return flat_index(index, self.counts)

    @property
    def cell_shape(self) -> Shape:
        """Return the largest extents of a cell."""
        return tuple(axis.largest for axis in self.axes)

    @property
    def is_rows(self) -> bool:
        """Whether every cell holds whole rows, all of one number: found by a division."""
        is_regular = bool(self.axes) and isinstance(self.axes[0], RegularAxis)
        return is_regular and all(count == 1 for count in self.counts[1:])

    def split(self, axes: Sequence[Positions]) -> list[list[Part]]:
        """Return, along each axis, the cells that positions lie in, and what is taken of each.

        Examples
        --------
        >>> grid = Grid.of([RegularAxis(extent=10, step=4)])
        >>> [(cell, part) for cell, part, _ in grid.split([range(3, 9, 3)])[0]]
        [(0, slice(3, 4, 3)), (1, slice(2, 3, 3))]
        """
        return [
            list(_along(axis, wanted) if isinstance(wanted, range) else _scattered(axis, wanted))
            for axis, wanted in zip(self.axes, axes, strict=True)
        ]


def _along(axis: Axis, wanted: range) -> Iterator[Part]:
    """Yield the cells of evenly spaced positions."""
    done, count, step = 0, len(wanted), wanted.step
    while done < count:
        first = wanted[done]
        cell = axis.cell_at(first)
        low, high = axis.bounds(cell)
        room = (high - 1 - first) // step if step > 0 else (first - low) // -step
        n_here = min(count - done, room + 1)
        last = first + (n_here - 1) * step - low
        end = last + 1 if step > 0 else last - 1
        yield cell, slice(first - low, end if end >= 0 else None, step), slice(done, done + n_here)
        done += n_here


def _scattered(axis: Axis, wanted: npt.NDArray[np.intp]) -> Iterator[Part]:
    """Yield the cells of any positions, each cell once."""
    cells = axis.cells_at(wanted)
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])).tolist()
    for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
        cell = int(ordered[start])
        places = order[start:stop]
        yield cell, wanted[places] - axis.bounds(cell)[0], places


_FEW_UNITS = 16
"""That are large enough to be held by themselves."""


def cell_shape(
    shape: Shape, unit: Shape | None, itemsize: int, nbytes: int, row_nbytes: int = 0
) -> Shape:
    """Return the cells of a source: its chunks, or as many whole ones as make some bytes.

    Chunks that lie side by side are one cell as far as that takes no more than ``row_nbytes``.

    Examples
    --------
    >>> cell_shape((10**6, 64), (4096, 64), 4, 2**20), cell_shape((10**6, 64), (16, 64), 4, 2**20)
    ((4096, 64), (4096, 64))
    >>> cell_shape((10**6, 64), None, 4, 2**20)
    (4096, 64)
    """
    chunk = (1,) * len(shape) if unit is None else unit
    cell = [max(1, min(edge, extent)) for edge, extent in zip(chunk, shape, strict=True)]
    rows = [*cell[:1], *(max(1, extent) for extent in shape[1:])]
    if math.prod(rows) * itemsize <= row_nbytes:
        # Whole rows: those are found at once.
        cell = rows
    size = math.prod(cell) * itemsize
    for axis in reversed(range(len(shape))):
        if _FEW_UNITS * size > nbytes:
            break
        n_units = min(n_along(shape[axis], cell[axis]), nbytes // max(1, size))
        size *= n_units
        cell[axis] = min(shape[axis], cell[axis] * n_units) or 1
    return tuple(cell)
