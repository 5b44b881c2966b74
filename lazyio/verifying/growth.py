"""Arrays that another program has made longer: what of a chunk is old, and what is new."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.fill import Fill
from lazyio.elements import is_text
from lazyio.grid import Region, box, flat_index, grid_shape, index_at
from lazyio.safety.digests import Table, digest_of_elements
from lazyio.spec import Shape
from lazyio.verifying.findings import SINCE, Read, not_read


@dataclass(frozen=True, kw_only=True)
class Extents:
    """Extents of an array, when it was written and now."""

    old: Shape
    """When it was written; as now, where that was not noted."""
    new: Shape
    """As they are now."""
    step: Shape
    """Of what has one digest."""

    @classmethod
    def of(cls, table: Table, shape: Shape, step: Shape) -> "Extents":
        """Return those of an array."""
        new = tuple(map(int, shape))
        return cls(old=new if table.shape is None else table.shape, new=new, step=step)

    @property
    def is_growth(self) -> bool:
        """Whether no axis has become shorter."""
        is_same_rank = len(self.old) == len(self.new)
        return is_same_rank and all(a <= b for a, b in zip(self.old, self.new, strict=True))

    @property
    def old_grid(self) -> Shape:
        """Chunks along each axis, when it was written; by it digests are numbered."""
        return grid_shape(self.old, self.step)

    def region_of(self, number: int) -> Region:
        """Return what a chunk held, by its number then."""
        return box(self.old, self.step, index_at(number, self.old_grid))

    def number_of(self, index: tuple[int, ...]) -> int | None:
        """Return the number that a chunk had, ``None`` where it is new."""
        if any(at >= count for at, count in zip(index, self.old_grid, strict=True)):
            return None
        return flat_index(index, self.old_grid)

    def is_open(self, number: int) -> bool:
        """Return whether new elements may lie beside the old ones of a chunk."""
        region = self.region_of(number)
        return any(
            part.stop == old < new and old % size
            for part, old, new, size in zip(region, self.old, self.new, self.step, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class OpenChunks:
    """Checks the old elements of chunks to which another program has added others."""

    table: Table
    extents: Extents
    read: Callable[[Region], npt.NDArray[Any]]
    """Returns elements, as a reader gets them."""
    fill_value: Any
    """Of elements that are not stored."""

    def check(self, number: int, nbytes: int) -> Read:
        """Return what has become of the old elements of a chunk whose payload is another one."""
        region = self.extents.region_of(number)
        if not self.extents.is_open(number):
            return Read(region=region, nbytes=nbytes, wrong=f"it {SINCE}")
        try:
            elements = self.read(region)
        except Exception as error:  # noqa: BLE001 - codecs have exceptions of their own
            return not_read(error, region)
        expected = self.table.find_rim(number)
        if self.table.find(number) is None:
            expected = digest_of_elements(self._filled(elements))
        if expected is None:
            # Written by an earlier version.
            what = "elements were added to it; whether the old ones are the same cannot be told"
            return Read(region=region, nbytes=nbytes, anew=what)
        is_same = digest_of_elements(elements) == expected
        return Read(region=region, nbytes=nbytes, wrong=None if is_same else f"it {SINCE}")

    def _filled(self, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        value = self.fill_value
        if is_text(like.dtype):
            return np.full(like.shape, value or "", like.dtype)
        return np.full(like.shape, Fill(value, like.dtype).value, like.dtype)


def grown_line(extents: Extents) -> str:
    """Return what is said of an array that has grown."""
    return f"it has grown from shape {extents.old} to {extents.new} since it was written"
