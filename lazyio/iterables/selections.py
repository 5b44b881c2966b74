"""Selections as h5py and HDMF know them, taken apart into regions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, is_integer
from lazyio.errors import BlockError
from lazyio.iterables.elements import as_elements
from lazyio.regions import Bounds, Region, each_axis, view_of

Part = tuple[Region, npt.NDArray[Any]]
"""A region, and the elements that belong there."""


Positions = Sequence[int] | npt.NDArray[np.int64]
"""Of a selection along one axis, rising."""


class _Run(NamedTuple):
    """Elements that lie one after another along an axis, and which of the data they take."""

    start: int
    stop: int
    at: int


def _runs(numbers: Positions) -> Iterator[_Run]:
    """Yield what lies one after another, one run at a time: there may be millions."""
    if isinstance(numbers, range) and numbers.step == 1:
        if numbers:
            yield _Run(numbers.start, numbers.stop, 0)
        return
    begin = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield _Run(int(numbers[begin]), int(numbers[end - 1]) + 1, begin)
            begin = end


def placed(
    label: str, selection: Any, data: Any, dtype: np.dtype[Any], shape: Shape, bounds: Bounds
) -> Iterator[Part]:
    """Return the regions of a selection with elements of a dtype; errors call it by its label."""
    try:
        return parts_of(selection, as_elements(data, dtype), shape, bounds)
    except (TypeError, ValueError) as error:
        msg = f"{label}, at {selection!r}, does not fit: {error}"
        raise BlockError(msg) from error


def parts_of(
    selection: Any, data: npt.NDArray[Any], shape: Shape, bounds: Bounds
) -> Iterator[Part]:
    """Return the regions that a selection is made of, each with its elements.

    Examples
    --------
    >>> parts = parts_of(([0, 1, 5], 2), np.array([7, 8, 9]), (10, 10), (10, 10))
    >>> for region, part in parts:
    ...     print(region, part.ravel())
    (slice(0, 2, None), slice(2, 3, None)) [7 8]
    (slice(5, 6, None), slice(2, 3, None)) [9]
    """
    each = _expanded(selection, len(bounds))
    if sum(not isinstance(one, slice) and not is_integer(one) for one in each) > 1:
        msg = f"selection {selection!r} has more than one list of numbers; give one at a time"
        raise ValueError(msg)
    axes = [
        _axis(one, extent, number)
        for number, (one, extent) in enumerate(zip(each, shape, strict=True))
    ]
    for number, (one, axis, bound) in enumerate(zip(each, axes, bounds, strict=True)):
        _check_reach(one, axis, bound, number)
    return _cut(_fitted(selection, data, axes), axes)


def _cut(elements: npt.NDArray[Any], axes: Sequence[Positions]) -> Iterator[Part]:
    for runs in _products(axes):
        region = tuple(slice(run.start, run.stop) for run in runs)
        inside = tuple(slice(run.at, run.at + run.stop - run.start) for run in runs)
        yield region, elements[view_of(inside)]


def _products(axes: Sequence[Positions]) -> Iterator[tuple[_Run, ...]]:
    """Yield every combination of runs; itertools.product would first list them all."""
    if not axes:
        yield ()
        return
    for run in _runs(axes[0]):
        for rest in _products(axes[1:]):
            yield (run, *rest)


def _expanded(selection: Any, ndim: int) -> list[Any]:
    """Return one selection for each axis, Ellipsis and what was left out spelled out."""
    each = each_axis(selection, ndim)
    if any(one is Ellipsis for one in each):
        msg = f"selection {selection!r} has more than one Ellipsis"
        raise ValueError(msg)
    if len(each) > ndim:
        msg = f"selection {selection!r} has more axes than the array, which has {ndim}"
        raise ValueError(msg)
    return each


def _axis(selection: Any, extent: int, number: int) -> Positions:
    if is_integer(selection):
        at = int(selection) + (extent if selection < 0 else 0)
        return range(at, at + 1)
    if isinstance(selection, slice):
        return _of_slice(selection, extent, number)
    return _of_list(selection, extent, number)


def _of_slice(selection: slice, extent: int, number: int) -> Positions:
    ends = (selection.start, selection.stop, selection.step)
    if not all(end is None or is_integer(end) for end in ends):
        msg = f"{selection} on axis {number} has an end that is no integer"
        raise ValueError(msg)
    start, stop = (
        default if end is None else int(end) + (extent if end < 0 else 0)
        for end, default in ((selection.start, 0), (selection.stop, extent))
    )
    step = 1 if selection.step is None else int(selection.step)
    if step < 1:
        msg = f"{selection} on axis {number} goes backwards; give a step of at least 1"
        raise ValueError(msg)
    return range(start, max(start, stop), step)


def _of_list(selection: Any, extent: int, number: int) -> Positions:
    try:
        found = np.asarray(selection)
    except (ValueError, TypeError) as error:
        msg = f"{selection!r} on axis {number} selects nothing: {error}"
        raise ValueError(msg) from error
    if found.dtype == bool and found.ndim == 1:
        if len(found) != extent:
            msg = f"the mask on axis {number} has {len(found)} elements, and the axis {extent}"
            raise ValueError(msg)
        found = np.flatnonzero(found)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        msg = f"{selection!r} on axis {number}: give an int, a slice, Ellipsis or a list of ints"
        raise ValueError(msg)
    numbers = found.astype(np.int64)
    if (np.diff(numbers) <= 0).any():
        msg = f"the numbers on axis {number} do not increase, or some come twice: {selection!r}"
        raise ValueError(msg)
    if len(numbers) and numbers[0] < 0:
        msg = f"{selection!r} on axis {number}: numbers in a list count from the start"
        raise ValueError(msg)
    return numbers


def _check_reach(selection: Any, axis: Positions, bound: int | None, number: int) -> None:
    if isinstance(axis, range):
        start, stop = axis.start, axis.stop
    else:
        start, stop = 0, int(axis[-1]) + 1 if len(axis) else 0
    if start < 0 or (bound is not None and stop > bound):
        end = "" if bound is None else f", which ends at {bound}"
        msg = f"{selection!r} leads out of axis {number}{end}"
        raise ValueError(msg)


def _fitted(selection: Any, data: npt.NDArray[Any], axes: Sequence[Positions]) -> npt.NDArray[Any]:
    """Return the data with an axis for each of the array's."""
    wanted = tuple(map(len, axes))
    if data.shape == wanted:
        return data
    if data.ndim == 0:
        return np.broadcast_to(data, wanted)
    if [n for n in data.shape if n != 1] == [n for n in wanted if n != 1]:
        return data.reshape(wanted)
    msg = f"data of shape {data.shape} does not fit the selection {selection!r}, of shape {wanted}"
    raise ValueError(msg)
