"""Public: arrays of lazyio and dask as data of PyNWB's containers."""

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk

from lazyio.dtypes import Shape
from lazyio.errors import OptionError
from lazyio.opening.open import from_array
from lazyio.planner import plan
from lazyio.planning import Plan
from lazyio.regions import Region


class ArrayIterator(AbstractDataChunkIterator):  # type: ignore[misc]
    """An array that HDMF takes in blocks; made by :func:`iterator`."""

    def __init__(self, array: da.Array, cut: Plan) -> None:
        self.array = array
        """The array, which lazyio takes as it is."""
        self.plan = cut
        """How HDMF gets it."""
        self._left = self._blocks()
        self._is_used_up = False

    @property
    def shape(self) -> Shape:
        """Extents, which containers compare with others."""
        return self.plan.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.plan.dtype

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        """Extents: it does not grow, but HDF5 has no chunks where an extent stays zero."""
        return tuple(extent or None for extent in self.plan.shape)

    def __len__(self) -> int:
        """Return the extent of the first axis."""
        return self.plan.shape[0]

    def __iter__(self) -> Iterator[DataChunk]:
        """Return itself."""
        return self

    def __next__(self) -> DataChunk:
        """Return the next block, computed now."""
        if self._is_used_up:
            msg = (
                "this iterator has been written to its end; make a new one for another dataset, or "
                "write with lazyio.nwb.write, which takes it again"
            )
            raise OptionError(msg)
        region = next(self._left, None)
        if region is None:
            # HDMF would leave the datasets of all who ask again empty.
            self._is_used_up = True
            raise StopIteration
        return DataChunk(data=self.array[region].compute(), selection=region)

    def recommended_chunk_shape(self) -> Shape:
        """Return the chunks of the plan."""
        return self.plan.chunk_shape

    def recommended_data_shape(self) -> Shape:
        """Return the extents."""
        return self.plan.shape

    def _blocks(self) -> Iterator[Region]:
        yield from self.plan.regions()


def iterator(array: Any, **options: Any) -> ArrayIterator:
    """Return an array as data for a container of PyNWB or HDMF.

    ``lazyio.nwb.write`` writes it in parallel, and ``NWBHDF5IO.write`` block by block.

    Parameters
    ----------
    array : dask.array.Array or array-like
        What :func:`lazyio.open` gives, any array of dask, or anything that can be indexed.
    **options
        ``chunks``, ``access``, ``memory_limit``, ... of :func:`lazyio.plan`, for who does not write
        with lazyio.

    Returns
    -------
    ArrayIterator
        An ``AbstractDataChunkIterator`` of HDMF.

    Examples
    --------
    >>> import dask.array as da, lazyio.nwb
    >>> lazyio.nwb.iterator(da.ones((1000, 64))).maxshape
    (1000, 64)
    """
    found = array if isinstance(array, da.Array) else from_array(array)
    return ArrayIterator(found, plan(found, **options))
