"""A dask array as a source of parts, each computed when it is read."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

from lazyio.dtypes import Shape
from lazyio.regions import Region
from lazyio.sources.base import Array


@dataclass(frozen=True, kw_only=True)
class GraphSource:
    """A dask array; what is read of it is computed by dask's own scheduler."""

    array: da.Array

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return tuple(map(int, self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """Its largest blocks: one is computed as a whole."""
        return tuple(max(1, *sizes, 1) for sizes in self.array.chunks) if self.array.ndim else None

    def read(self, region: Region) -> Array:
        """Return a part, computed now."""
        return np.array(self.array[region].compute())
