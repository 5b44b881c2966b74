"""Elements that lazyio stored as something else, given back as what they were."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lazyio.dtypes import DTYPE_ATTRIBUTE, Shape, original, stored
from lazyio.regions import Region
from lazyio.sources.base import Array, Source, Stored, lies_in_rows


class StoredSource(Source, Stored, Protocol):
    """A source that lies in a file or store."""


@dataclass(frozen=True, kw_only=True)
class ElementwiseSource:
    """A stored array of which every element is taken as another one."""

    part: StoredSource
    """The array as it is stored."""
    dtype: np.dtype[Any]
    """Type of an element as it is read."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """What is read."""
        return (self.part,)

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return self.part.shape

    @property
    def chunk_shape(self) -> Shape | None:
        """What the stored array decodes at once."""
        return self.part.chunk_shape

    @property
    def location(self) -> tuple[str, str]:
        """Path and key of the stored array."""
        return self.part.location

    @property
    def in_rows(self) -> bool:
        """Whether the stored array is one C-ordered run of bytes."""
        return lies_in_rows(self.part)


@dataclass(frozen=True, kw_only=True)
class DecodedSource(ElementwiseSource):
    """A stored array whose elements are times, or text of one length, in memory."""

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        # Looked up here, because what encodes and decodes does not travel.
        return stored(self.dtype, "hdf5").decode(self.part.read(region))


def decoded(part: StoredSource, attrs: Mapping[str, Any]) -> Source:
    """Return a stored array as what it was, if one of its attributes says so."""
    if DTYPE_ATTRIBUTE not in attrs:
        return part
    was = original(part.dtype, {DTYPE_ATTRIBUTE: attrs[DTYPE_ATTRIBUTE]})
    return part if was is None else DecodedSource(part=part, dtype=was.original)
