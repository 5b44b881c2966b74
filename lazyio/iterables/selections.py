"""Selections as h5py and HDMF know them, taken apart into regions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, is_integer
from lazyio.regions import Bounds, Region, view_of

Part = tuple[Region, npt.NDArray[Any]]
"""A region, and the elements that belong there."""


@dataclass(frozen=True)
class _Run:
    """Elements that lie one after another along an axis, and which of the data they take."""

    start: int
    stop: int
    at: int


@dataclass(frozen=True)
class _Axis:
    """A selection along one axis."""

    numbers: Sequence[int] | npt.NDArray[np.int64]
    """The positions, rising."""

    @property
    def length(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def runs(self) -> Iterator[_Run]:
        """Yield what lies one after another, one run at a time: there may be millions."""
        numbers = self.numbers
        if isinstance(numbers, range) and numbers.step == 1:
            if numbers:
                yield _Run(numbers.start, numbers.stop, 0)
            return
        begin = 0
        for end in range(1, len(numbers) + 1):
            if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
                yield _Run(int(numbers[begin]), int(numbers[end - 1]) + 1, begin)
                begin = end


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
        _axis(one, extent, bound, number)
        for number, (one, extent, bound) in enumerate(zip(each, shape, bounds, strict=True))
    ]
    return _cut(_fitted(selection, data, axes), axes)


def _cut(elements: npt.NDArray[Any], axes: Sequence[_Axis]) -> Iterator[Part]:
    for runs in _products(axes):
        region = tuple(slice(run.start, run.stop) for run in runs)
        inside = tuple(slice(run.at, run.at + run.stop - run.start) for run in runs)
        yield region, elements[view_of(inside)]


def _products(axes: Sequence[_Axis]) -> Iterator[tuple[_Run, ...]]:
    """Yield every combination of runs; itertools.product would first list them all."""
    if not axes:
        yield ()
        return
    for run in axes[0].runs():
        for rest in _products(axes[1:]):
            yield (run, *rest)


def _expanded(selection: Any, ndim: int) -> list[Any]:
    """Return one selection for each axis, Ellipsis and what was left out spelled out."""
    given = list(selection) if isinstance(selection, tuple) else [selection]
    dots = [at for at, one in enumerate(given) if one is Ellipsis]
    if len(dots) > 1:
        msg = f"selection {selection!r} has more than one Ellipsis"
        raise ValueError(msg)
    n_left_out = ndim - (len(given) - len(dots))
    if n_left_out < 0:
        msg = f"selection {selection!r} has more axes than the array, which has {ndim}"
        raise ValueError(msg)
    at = dots[0] if dots else len(given)
    return [*given[:at], *([slice(None)] * n_left_out), *given[at + len(dots) :]]


def _axis(selection: Any, extent: int, bound: int | None, number: int) -> _Axis:
    if is_integer(selection):
        at = int(selection) + (extent if selection < 0 else 0)
        _check_reach(selection, at, at + 1, bound, number)
        return _Axis(range(at, at + 1))
    if isinstance(selection, slice):
        return _of_slice(selection, extent, bound, number)
    return _of_list(selection, extent, bound, number)


def _of_slice(selection: slice, extent: int, bound: int | None, number: int) -> _Axis:
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
    stop = max(start, stop)
    _check_reach(selection, start, stop, bound, number)
    return _Axis(range(start, stop, step))


def _of_list(selection: Any, extent: int, bound: int | None, number: int) -> _Axis:
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
    if len(numbers):
        if numbers[0] < 0:
            msg = f"{selection!r} on axis {number}: numbers in a list count from the start"
            raise ValueError(msg)
        _check_reach(selection, int(numbers[0]), int(numbers[-1]) + 1, bound, number)
    return _Axis(numbers)


def _check_reach(selection: Any, start: int, stop: int, bound: int | None, number: int) -> None:
    if start < 0 or (bound is not None and stop > bound):
        end = "" if bound is None else f", which ends at {bound}"
        msg = f"{selection!r} leads out of axis {number}{end}"
        raise ValueError(msg)


def _fitted(selection: Any, data: npt.NDArray[Any], axes: Sequence[_Axis]) -> npt.NDArray[Any]:
    """Return the data with an axis for each of the array's."""
    wanted = tuple(axis.length for axis in axes)
    if data.shape == wanted:
        return data
    if data.ndim == 0:
        return np.broadcast_to(data, wanted)
    if [n for n in data.shape if n != 1] == [n for n in wanted if n != 1]:
        return data.reshape(wanted)
    msg = f"data of shape {data.shape} does not fit the selection {selection!r}, of shape {wanted}"
    raise ValueError(msg)
