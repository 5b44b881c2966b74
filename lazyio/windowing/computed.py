"""Dask arrays as sources: a block is computed when it is read."""

import os
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np

from lazyio.dtypes import Shape
from lazyio.errors import UnsupportedDtypeError
from lazyio.regions import Region
from lazyio.sources.base import Array
from lazyio.windowing.grid import Grid, IrregularAxis


@dataclass(frozen=True, kw_only=True)
class ComputedSource:
    """A dask array that is computed block by block."""

    array: da.Array
    """The array."""
    process: int = field(default_factory=os.getpid, compare=False)
    """In which it was made: dask's threads are not there in a fork of it."""

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return tuple(map(int, self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found

    @property
    def chunk_shape(self) -> Shape | None:
        """The largest block."""
        return tuple(map(int, self.array.chunksize))

    def grid(self) -> Grid:
        """Return its blocks as cells."""
        return Grid.of([IrregularAxis.of(sizes) for sizes in self.array.chunks])

    def read(self, region: Region) -> Array:
        """Return a part, computed now."""
        scheduler = None if os.getpid() == self.process else "synchronous"
        part = self.array[region].compute(scheduler=scheduler)
        if isinstance(part, np.ma.MaskedArray):
            msg = "the array's blocks are masked arrays; fill the gaps first: dask.array.ma.filled"
            raise UnsupportedDtypeError(msg)
        return np.asarray(part)

    def __reduce__(self) -> Any:
        return _arrived, (self.array,)


def _arrived(array: da.Array) -> ComputedSource:
    return ComputedSource(array=array, process=0)
