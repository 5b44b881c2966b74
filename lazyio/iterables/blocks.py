"""Blocks that lie anywhere in an array, most of which may be empty."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, as_shape
from lazyio.errors import BlockError, OptionError
from lazyio.iterables.selections import Part, parts_of
from lazyio.iterables.stream import dtype_of_elements, fitted
from lazyio.regions import Bounds

_LEAST_NBYTES, _MOST_NBYTES = 512, 2**20
"""Of a block whose extents are taken for those of a chunk."""


class Blocks:
    """An array of which only some regions are there, in any order; the last one wins.

    Chunks that no region touches are not stored. Parts of chunks are put
    together, in memory or beside the target, so that each one is encoded once.

    Parameters
    ----------
    iterable : iterable of (region, array-like)
        A region is what h5py takes as a selection: ints, slices, Ellipsis, an
        increasing list.
    shape : tuple of int
        Extents of the whole array.
    dtype : dtype-like
        Type of an element; numbers of blocks are rounded to it, as long as integers stay the same.
    fill_value : scalar
        What everything else reads as.

    Raises
    ------
    OptionError
        When an argument is none of these.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> here = (slice(70, 80), slice(20, 30))
    >>> blocks = lazyio.Blocks([(here, np.ones((10, 10)))], (10**6, 10**6), "f8")
    >>> report = lazyio.to_hdf5(blocks, "sparse.h5", chunks=(10, 10), mode="w")
    >>> report.n_chunks, report.stored_nbytes
    (1, 800)
    >>> lazyio.open("sparse.h5")[75, 28:32].compute()
    array([1., 1., 0., 0.])
    """

    is_in_order = False
    old_shape: Shape | None = None

    def __init__(
        self,
        iterable: Iterable[tuple[Any, Any]],
        shape: Any,
        dtype: npt.DTypeLike,
        *,
        fill_value: Any = 0,
    ) -> None:
        if not hasattr(iterable, "__iter__"):
            kind = type(iterable).__name__
            msg = f"iterable={kind} is not iterable; give (region, array) pairs"
            raise OptionError(msg)
        self.shape: Shape = as_shape(shape)
        self.dtype: np.dtype[Any] = dtype_of_elements(dtype)
        self.fill_value = fill_value
        self._iterable = iterable
        self._pairs: Iterator[Any] | None = None
        self._head: list[Any] = []
        self._is_taken = False

    @property
    def max_shape(self) -> Bounds:
        """Its extents, beyond which it does not grow."""
        return self.shape

    @property
    def chunk_shape(self) -> Shape | None:
        """Extents of the first block, where that makes a chunk."""
        if self._is_taken:
            return None
        self._peek()
        if not self._head:
            return None
        try:
            region, _ = next(self._parts(0, self._head[0]))
        except (BlockError, StopIteration):
            return None  # It is told where it is taken, with its number.
        found = tuple(part.stop - part.start for part in region)
        nbytes = self.dtype.itemsize
        for extent in found:
            nbytes *= extent
        return found if _LEAST_NBYTES <= nbytes <= _MOST_NBYTES else None

    def take(self, _chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.iterables.base.BlockIterator`."""
        if self._is_taken:
            msg = "the blocks were used up by an earlier call; make new ones of a new iterable"
            raise OptionError(msg)
        self._peek()
        self._is_taken = True
        return self._taken()

    def _taken(self) -> Iterator[Part]:
        for number in itertools.count():
            if number:
                self._next(number)
            if not self._head:
                return
            yield from self._parts(number, self._head.pop())

    def _peek(self) -> None:
        """Look at the first pair, once; it is not lost."""
        if self._pairs is None:
            try:
                self._pairs = iter(self._iterable)
            except Exception as error:
                msg = f"the blocks do not begin: {type(error).__name__}: {error}"
                raise BlockError(msg) from error
            self._next(0)

    def _next(self, number: int) -> None:
        """Get another pair, if there is one."""
        try:
            self._head = list(itertools.islice(self._pairs or (), 1))
        except Exception as error:
            msg = f"block {number} did not come: {type(error).__name__}: {error}"
            raise BlockError(msg) from error

    def _parts(self, number: int, pair: Any) -> Iterator[Part]:
        try:
            # HDMF's DataChunk names them.
            is_chunk = hasattr(pair, "selection") and hasattr(pair, "data")
            selection, data = (pair.selection, pair.data) if is_chunk else pair
        except (TypeError, ValueError) as error:
            msg = f"item {number} is no pair of a region and its elements: {error}"
            raise BlockError(msg) from error
        try:
            elements = fitted(data, self.dtype)
            return parts_of(selection, elements, self.shape, self.shape)
        except (ValueError, TypeError) as error:
            msg = f"block {number}, at {selection!r}, does not fit: {error}"
            raise BlockError(msg) from error
