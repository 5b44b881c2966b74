"""Blocks that lie anywhere in an array, most of which may be empty."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, as_shape, nbytes_of
from lazyio.errors import BlockError, OptionError
from lazyio.iterables.elements import dtype_of_elements
from lazyio.iterables.items import ENDED, Items
from lazyio.iterables.selections import Part, placed
from lazyio.regions import Bounds, box_shape

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
        self._items = Items(lambda: iter(iterable), "the blocks", "block {}")

    @property
    def max_shape(self) -> Bounds:
        """Its extents, beyond which it does not grow."""
        return self.shape

    @property
    def chunk_shape(self) -> Shape | None:
        """Extents of the first block, where that makes a chunk."""
        first = ENDED if self._items.is_taken else self._items.first()
        if first is ENDED:
            return None
        try:
            region, _ = next(self._parts(0, first))
        except (BlockError, StopIteration):
            return None  # It is told where it is taken, with its number.
        found = box_shape(region)
        return found if _LEAST_NBYTES <= nbytes_of(found, self.dtype) <= _MOST_NBYTES else None

    def take(self, _chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.iterables.base.BlockIterator`."""
        self._items.take()
        return self._taken()

    def _taken(self) -> Iterator[Part]:
        number = 0
        while (pair := self._items.next(number)) is not ENDED:
            yield from self._parts(number, pair)
            number += 1

    def _parts(self, number: int, pair: Any) -> Iterator[Part]:
        try:
            # HDMF's DataChunk names them.
            is_chunk = hasattr(pair, "selection") and hasattr(pair, "data")
            selection, data = (pair.selection, pair.data) if is_chunk else pair
        except (TypeError, ValueError) as error:
            msg = f"item {number} is no pair of a region and its elements: {error}"
            raise BlockError(msg) from error
        return placed(f"block {number}", selection, data, self.dtype, self.shape, self.shape)
