"""Parts of a cell that are read without the rest of it: boxes, those that lie close as one."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.regions import Region
from lazyio.windowing.grid import Places

_GAP_NBYTES = 16 * 2**10
"""What is read for nothing rather than beginning another read."""
_MOST_RUNS = 64
"""Reads of their own in a cell, instead of loading it."""

_Along = tuple[slice, Any, Any]
"""What is read along an axis, what is taken of that, and where it goes."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A box that is read, what is taken of it, and where that goes in the result."""

    region: Region
    """The box."""
    taken: tuple[Any, ...]
    """In the box."""
    where: tuple[Any, ...]
    """In the result."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the box is taken, in its own order."""
        return all(
            taken == slice(None) for taken in self.taken if isinstance(taken, slice)
        ) and all(isinstance(taken, slice) for taken in self.taken)


def runs_of(cell: Region, places: Places, unit: Shape, out: npt.NDArray[Any]) -> list[Run] | None:
    """Return the boxes that a part of a cell is read in, ``None`` where they are too many."""
    row_nbytes, has_chunks = out.itemsize, max(unit) > 1
    axes: list[list[_Along]] = []
    count = 1
    for axis in reversed(range(len(cell))):
        _, taken, where = places[axis]
        # Of chunks, each that lies between would be decoded.
        gap = unit[axis] if has_chunks else max(1, _GAP_NBYTES // row_nbytes)
        low, extent = cell[axis].start, cell[axis].stop - cell[axis].start
        if isinstance(taken, slice):
            along = _evenly(low, range(extent)[taken], where, gap)
        else:
            along = _anyhow(low, taken, where, gap)
        count *= len(along)
        if count > _MOST_RUNS:
            return None
        axes.insert(0, along)
        row_nbytes *= max(1, extent)
    return [
        Run(
            region=tuple(box for box, _, _ in one),
            taken=tuple(taken for _, taken, _ in one),
            where=tuple(where for _, _, where in one),
        )
        for one in itertools.product(*axes)
    ]


def _evenly(low: int, wanted: range, where: slice, gap: int) -> list[_Along]:
    """Return one box around evenly spaced positions that lie close, else one for each."""
    first, last = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
    if abs(wanted.step) <= gap or len(wanted) == 1:
        taken = (
            slice(None) if wanted.step == 1 or len(wanted) == 1 else slice(None, None, wanted.step)
        )
        return [(slice(low + first, low + last + 1), taken, where)]
    return [
        (slice(low + at, low + at + 1), slice(None), slice(to, to + 1))
        for at, to in zip(wanted, range(where.start, where.stop), strict=True)
    ]


def _anyhow(
    low: int, wanted: npt.NDArray[np.intp], where: npt.NDArray[np.intp], gap: int
) -> list[_Along]:
    """Return boxes around positions in any order, those that lie close in one."""
    order = np.argsort(wanted, kind="stable")
    wanted, where = wanted[order], where[order]
    breaks = np.flatnonzero(np.diff(wanted) > gap) + 1
    found: list[_Along] = []
    for inside, outside in zip(np.split(wanted, breaks), np.split(where, breaks), strict=True):
        first, last = int(inside[0]), int(inside[-1])
        found.append((slice(low + first, low + last + 1), inside - first, outside))
    return found
