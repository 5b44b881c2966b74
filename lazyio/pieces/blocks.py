"""Blocks that lie anywhere in an array, most of which may be empty."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.errors import BlockError, OptionError
from lazyio.grid import Bounds
from lazyio.pieces.casting import as_elements
from lazyio.pieces.selections import Part, parts_of
from lazyio.spec import Shape, as_dtype, as_shape

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
        Type of an element.
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
        self.dtype: np.dtype[Any] = as_dtype(dtype)
        self.fill_value = fill_value
        self._iterable = iterable
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
        # What cannot be read is told where it is taken, with its number.
        try:
            pairs = iter(self._iterable)
            head = list(itertools.islice(pairs, 1))
            self._iterable = itertools.chain(head, pairs)
            region, _ = next(self._parts(0, head[0]))
        except (BlockError, IndexError, StopIteration):
            return None
        found = tuple(part.stop - part.start for part in region)
        nbytes = self.dtype.itemsize
        for extent in found:
            nbytes *= extent
        return found if _LEAST_NBYTES <= nbytes <= _MOST_NBYTES else None

    def take(self, _chunk_shape: Shape) -> Iterator[Part]:
        """Yield regions with their elements; see :class:`~lazyio.pieces.base.Pieces`."""
        if self._is_taken:
            msg = "the blocks were used up by an earlier call; make new ones of a new iterable"
            raise OptionError(msg)
        self._is_taken = True
        return itertools.chain.from_iterable(
            itertools.starmap(self._parts, enumerate(self._iterable))
        )

    def _parts(self, number: int, pair: Any) -> Iterator[Part]:
        try:
            selection, data = pair
        except (TypeError, ValueError) as error:
            msg = f"item {number} is no pair of a region and its elements: {error}"
            raise BlockError(msg) from error
        try:
            found = np.asarray(data)
            elements = as_elements(found, self.dtype, is_lenient=not hasattr(data, "dtype"))
            if elements is None:
                msg = f"dtype {found.dtype}, of which {self.dtype} cannot hold every value"
                raise TypeError(msg)
            return parts_of(selection, elements, self.shape, self.shape)
        except (ValueError, TypeError) as error:
            msg = f"block {number}, at {selection!r}, does not fit: {error}"
            raise BlockError(msg) from error
