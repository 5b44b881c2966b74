"""Stored arrays whose elements are taken as something else: of another dtype, or one field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.dtypes import Shape
from lazyio.errors import SourceError
from lazyio.regions import Region
from lazyio.sources.base import Array, FillsNew, Source, Stored, fills_memory, listed
from lazyio.sources.cf_decoded import ElementwiseSource, StoredSource
from lazyio.sources.concatenated import slabs


@dataclass(frozen=True, kw_only=True)
class ViewedSource(FillsNew, ElementwiseSource):
    """A stored array whose bytes are elements of another dtype."""

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        place = out.view(self.part.dtype)
        if fills_memory(self.part):
            self.part.read_into(region, place)
        else:
            place[...] = self.part.read(region)


@dataclass(frozen=True, kw_only=True)
class FieldSource(FillsNew):
    """One field of records, such as a column of a table."""

    part: StoredSource
    """The records."""
    names: tuple[str, ...]
    """Of the field, and before it of those that it lies in."""
    shape: Shape
    """Extents, in elements: those of the records, and then those that the field has itself."""
    dtype: np.dtype[Any]
    """Type of an element."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """What is read."""
        return (self.part,)

    @property
    def _inner(self) -> Shape:
        return self.shape[len(self.part.shape) :]

    @property
    def chunk_shape(self) -> Shape | None:
        """What the records decode at once."""
        if self.part.chunk_shape is None:
            return None
        return self.part.chunk_shape + tuple(max(1, extent) for extent in self._inner)

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file, and key of the field in it."""
        path, key = self.part.location
        return path, "/".join((key, *self.names))

    @property
    def in_rows(self) -> bool:
        """Whether it is one run of bytes, which a field never is."""
        return False

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, from a few records at a time: they take more than the field."""
        if not out.size:
            return
        n_axes = len(self.part.shape)
        outer, inner = region[:n_axes], region[n_axes:]
        for wanted, place in slabs(self.part, outer):
            found = self.part.read(wanted)
            for name in self.names:
                found = found[name]
            out[place] = found[(slice(None),) * n_axes + inner]


def field_source(part: Source, names: Sequence[str], where: str) -> Source:
    """Return the source for a field of records; records themselves where no name is given."""
    dtype = part.dtype
    for name in names:
        if dtype.fields is None or name not in dtype.fields:
            known = listed(dtype.names or ())
            msg = f"{where} has no column {'/'.join(names)!r}; its columns are {known}"
            raise SourceError(msg)
        dtype = dtype.fields[name][0]
        inner = dtype.shape
        if inner and name is not names[-1]:
            msg = f"{where}: column {name!r} holds arrays of records; give it as the key"
            raise SourceError(msg)
    if not names or not isinstance(part, Stored):
        return part
    return FieldSource(
        part=part,
        names=tuple(names),
        shape=part.shape + tuple(map(int, dtype.shape)),
        dtype=dtype.base,
    )
