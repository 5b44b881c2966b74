"""What an index asks for along each axis, as numpy has it."""

import operator
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.errors import SelectionError

Array = npt.NDArray[Any]
Positions = range | npt.NDArray[np.intp]
"""Along one axis, in the order in which they are asked for."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Positions along every axis, and what is made of the elements that they give."""

    axes: tuple[Positions, ...]
    """One entry for each axis of the array."""
    shape: Shape
    """Extents of the result, before axes are moved to the front."""
    front: Shape = ()
    """Axes of the result that numpy puts first."""
    is_scalar: bool = False
    """Whether the result is one element, and no array."""

    @property
    def box_shape(self) -> Shape:
        """Extents of the elements that are read, with an axis for each of the array's."""
        return tuple(map(len, self.axes))

    def result(self, elements: Array) -> Any:
        """Return what the index stands for, given the elements."""
        found = elements.reshape(self.shape)
        if self.front:
            found = np.moveaxis(found, self.front, range(len(self.front)))
        return found[()] if self.is_scalar else found


def selection_of(key: Any, shape: Shape) -> Selection:
    """Return what an index of an array stands for.

    Examples
    --------
    >>> selection_of((slice(None, None, -1), 3), (4, 5)).axes
    (range(3, -1, -1), range(3, 4))
    >>> selection_of(([3, 1],), (4, 5)).shape
    (2, 5)
    """
    given = key if isinstance(key, tuple) else (key,)
    parts = _each_axis(given, shape)
    axes: list[Positions] = []
    extents: list[int] = []
    listed: tuple[int, Shape] | None = None
    for axis, (part, extent) in enumerate(zip(parts, shape, strict=True)):
        if isinstance(part, slice):
            axes.append(_range_of(part, extent))
            extents.append(len(axes[-1]))
            continue
        number = _integer(part)
        if number is not None:
            at = _within(number, extent, axis)
            axes.append(range(at, at + 1))
            continue
        if listed is not None:
            msg = (
                f"index {key!r} has lists for two axes; give one list at a time, and take the "
                "other from what it gives: window[rows][:, columns]"
            )
            raise SelectionError(msg)
        indices = _indices(part, extent, axis)
        listed = len(extents), indices.shape
        extents += indices.shape
        axes.append(_as_range(indices.reshape(-1)))
    return Selection(
        axes=tuple(axes),
        shape=tuple(extents),
        front=_front(given, *listed) if listed is not None else (),
        is_scalar=not any(isinstance(part, slice) for part in parts)
        and listed is None
        and not _has_ellipsis(given),
    )


def _each_axis(given: tuple[Any, ...], shape: Shape) -> list[Any]:
    """Return one part for each axis."""
    parts = list(given)
    dots = [at for at, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        msg = f"index {given!r} has {len(dots)} ellipses (...); give one at most"
        raise SelectionError(msg)
    at, n_dots = (dots[0], 1) if dots else (len(parts), 0)
    missing = len(shape) - len(parts) + n_dots
    if missing < 0:
        msg = (
            f"index {given!r} has {len(parts) - n_dots} parts, and an array of shape {shape} has "
            f"{len(shape)} axes; leave some out"
        )
        raise SelectionError(msg)
    parts[at : at + n_dots] = [slice(None)] * missing
    return parts


def _has_ellipsis(given: Sequence[Any]) -> bool:
    return any(part is Ellipsis for part in given)


def _range_of(part: slice, extent: int) -> range:
    try:
        return range(extent)[part]
    except (TypeError, ValueError) as error:
        msg = f"{part!r} is no slice of an axis of {extent} elements: {error}; give integers"
        raise SelectionError(msg) from error


def _integer(part: Any) -> int | None:
    """Return a whole number, numpy's too, ``None`` for all else."""
    if isinstance(part, (bool, np.bool_)) or getattr(part, "ndim", False):
        return None
    try:
        return operator.index(part)
    except TypeError:
        return None


def _within(number: int, extent: int, axis: int) -> int:
    if not -extent <= number < extent:
        msg = (
            f"index {number} is outside axis {axis}, which has {extent} elements; give "
            f"{-extent} to {extent - 1}"
        )
        raise SelectionError(msg)
    return number + extent if number < 0 else number


def _indices(part: Any, extent: int, axis: int) -> npt.NDArray[np.intp]:
    """Return a list or a mask as positions, none of them negative."""
    try:
        found = np.asarray(part) if part is not None else np.asarray(part, object)
    except ValueError as error:
        msg = f"index {part!r} is no list of integers: {error}"
        raise SelectionError(msg) from error
    if found.size == 0 and found.dtype.kind == "f":
        found = found.astype(np.intp)  # A list without elements is of no type.
    if found.dtype == bool and found.ndim == 1:
        if len(found) != extent:
            msg = (
                f"a mask of {len(found)} elements does not fit axis {axis}, which has {extent}; "
                "give one for each"
            )
            raise SelectionError(msg)
        return np.flatnonzero(found)
    if found.dtype.kind not in "iu" or found.ndim == 0:
        msg = (
            f"index {reprlib.repr(part)} is neither an integer, a slice, a list of integers nor a "
            "mask along one axis, which are what a window takes"
        )
        raise SelectionError(msg)
    if found.size:
        _within(int(found.min()), extent, axis)
        _within(int(found.max()), extent, axis)
    at = found.astype(np.intp)
    return np.where(at < 0, at + extent, at) if found.dtype.kind == "i" else at


def _as_range(indices: npt.NDArray[np.intp]) -> Positions:
    """Return positions as a range where they are one."""
    if len(indices) == 0:
        return range(0)
    if len(indices) == 1:
        return range(int(indices[0]), int(indices[0]) + 1)
    first, second, last = int(indices[0]), int(indices[1]), int(indices[-1])
    step = second - first
    if step == 0 or last - first != step * (len(indices) - 1) or (np.diff(indices) != step).any():
        return indices
    return range(first, last + (1 if step > 0 else -1), step)


def _front(given: Sequence[Any], at: int, shape: Shape) -> Shape:
    """Return the axes of a list that numpy puts first: beside integers that are not next to it."""
    kinds = "".join(
        "-" if isinstance(part, slice) or part is Ellipsis else "i" for part in given
    ).strip("-")
    return tuple(range(at, at + len(shape))) if "-" in kinds and at else ()
