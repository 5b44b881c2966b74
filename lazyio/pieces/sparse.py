"""Sparse matrices as scipy has them: chunks of which something is there."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazyio.errors import OptionError
from lazyio.grid import Bounds
from lazyio.pieces.selections import Part
from lazyio.spec import Shape, as_dtype

_SQUARE_NBYTES = 1 << 13
"""Of a chunk, where nobody says anything: a point alone fills one."""


def is_sparse(obj: Any) -> bool:
    """Return whether something is one of scipy's sparse matrices or arrays."""
    library = type(obj).__module__.partition(".")[0]
    return library == "scipy" and all(hasattr(obj, name) for name in ("tocsr", "nnz", "shape"))


class SparsePieces:
    """The chunks of a sparse matrix in which something is stored.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array
        With two axes. One that is compressed by rows or columns is used as it
        is, of any other a compressed copy is made.
    """

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
        """Yield chunks whole; see :class:`~lazyio.pieces.base.Pieces`. It may be taken again."""
        by_columns = getattr(self._matrix, "format", "") == "csc"
        matrix = self._matrix if by_columns else self._matrix.tocsr()
        axis = 1 if by_columns else 0
        for start in range(0, self.shape[axis], chunk_shape[axis]):
            stop = min(start + chunk_shape[axis], self.shape[axis])
            part = matrix[:, start:stop] if by_columns else matrix[start:stop]
            if part.nnz:
                yield from self._row_of_chunks(part.tocoo(), axis, start, chunk_shape)

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
        extents = list(self.shape)
        for first, last in zip(firsts, [*firsts[1:], len(numbers)], strict=True):
            begin = int(numbers[first]) * step
            region = [slice(0, 0)] * 2
            region[axis] = slice(start, min(start + chunk_shape[axis], extents[axis]))
            region[other] = slice(begin, min(begin + step, extents[other]))
            chunk = np.zeros([part.stop - part.start for part in region], self.dtype)
            index = [inside[first:last], along[first:last] - begin]
            chunk[tuple(index if axis == 0 else index[::-1])] = values[first:last]
            yield tuple(region), chunk
