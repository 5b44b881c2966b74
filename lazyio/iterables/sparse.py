"""Sparse matrices as scipy has them: chunks of which something is there."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazyio.dtypes import Shape, as_dtype
from lazyio.errors import OptionError
from lazyio.iterables.selections import Part
from lazyio.regions import Bounds

_SQUARE_NBYTES = 1 << 13
"""Of a chunk, where nobody says anything: a point alone fills one."""


def is_sparse(obj: Any) -> bool:
    """Return whether something is one of scipy's sparse matrices or arrays."""
    library = type(obj).__module__.partition(".")[0]
    return library == "scipy" and all(hasattr(obj, name) for name in ("tocsr", "nnz", "shape"))


class SparseBlocks:
    """The chunks of a sparse matrix in which something is stored."""

    is_in_order = True
    old_shape: Shape | None = None

    def __init__(self, matrix: Any) -> None:
        if len(matrix.shape) != 2:
            msg = (
                f"a sparse array of shape {matrix.shape} has no rows and columns; make it one of "
                "two axes with .reshape"
            )
            raise OptionError(msg)
        self.shape: Shape = tuple(map(int, matrix.shape))
        self.dtype: np.dtype[Any] = as_dtype(matrix.dtype)
        self._matrix = matrix

    @property
    def max_shape(self) -> Bounds:
        """Its extents, beyond which it does not grow."""
        return self.shape

    @property
    def chunk_shape(self) -> Shape | None:
        """Small squares: each is stored whole, also for a single point."""
        edge = max(1, int((_SQUARE_NBYTES // max(1, self.dtype.itemsize)) ** 0.5))
        rows, columns = (max(1, min(edge, extent)) for extent in self.shape)
        return rows, columns

    def take(self, chunk_shape: Shape) -> Iterator[Part]:
        """Yield whole chunks; see :class:`~lazyio.iterables.base.BlockIterator`."""
        kind = getattr(self._matrix, "format", "")
        axis = 1 if kind == "csc" else 0
        step = chunk_shape[axis]
        if kind in ("csr", "csc"):
            for start in self._starts(self.shape[axis], step):
                rows = [slice(None)] * 2
                rows[axis] = slice(start, start + step)
                part = self._matrix[tuple(rows)].tocoo()
                yield from self._row_of_chunks(part, axis, start, chunk_shape)
            return
        points = self._matrix.tocoo()
        # Not by rows first: of those there may be more than memory has room for.
        rows = points.row // step
        order = np.argsort(rows, kind="stable")
        firsts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        for first, last in zip(firsts, [*firsts[1:], len(order)], strict=True):
            here = order[first:last]
            start = int(rows[here[0]]) * step
            places = points.row[here] - start, points.col[here]
            part = type(points)((points.data[here], places), shape=(step, self.shape[1]))
            yield from self._row_of_chunks(part, 0, start, chunk_shape)

    def _starts(self, extent: int, step: int) -> list[int]:
        """Return where rows of chunks begin in which something is stored, of a compressed one."""
        edges = np.append(np.arange(0, extent, step), extent)
        is_there = np.diff(self._matrix.indptr[edges]) > 0
        found: list[int] = edges[:-1][is_there].tolist()
        return found

    def _row_of_chunks(
        self, points: Any, axis: int, start: int, chunk_shape: Shape
    ) -> Iterator[Part]:
        """Yield the chunks of one row, or column, of them."""
        other = 1 - axis
        # The same point may be stored several times, and is then their sum.
        points.sum_duplicates()
        places = (points.row, points.col)
        step = chunk_shape[other]
        order = np.argsort(places[other] // step, kind="stable")
        inside, along = places[axis][order], places[other][order]
        values = points.data[order]
        numbers = along // step
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for first, last in zip(firsts, [*firsts[1:], len(numbers)], strict=True):
            begin = int(numbers[first]) * step
            region = [slice(0, 0)] * 2
            region[axis] = slice(start, min(start + chunk_shape[axis], self.shape[axis]))
            region[other] = slice(begin, min(begin + step, self.shape[other]))
            chunk = np.zeros([part.stop - part.start for part in region], self.dtype)
            index = [inside[first:last], along[first:last] - begin]
            chunk[tuple(index if axis == 0 else index[::-1])] = values[first:last]
            yield tuple(region), chunk
