"""Regions of arrays, and the arithmetic of regular grids of chunks.

Pure integers; the last box of an axis may be cut short by the array's end.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from lazyio.dtypes import Shape, is_integer
from lazyio.errors import OptionError

Region = tuple[slice, ...]
"""A box in an array: one step-1 slice with non-negative bounds per axis."""

Bounds = tuple[int | None, ...]
"""How far each axis of an array may reach, ``None`` without end."""


def n_along(extent: int, step: int) -> int:
    """Return how many boxes of ``step`` elements cover ``extent`` elements.

    Examples
    --------
    >>> n_along(10, 4), n_along(0, 4)
    (3, 0)
    """
    return -(-extent // step)


def grid_shape(shape: Shape, step: Shape) -> Shape:
    """Return the number of boxes along each axis."""
    return tuple(map(n_along, shape, step))


def n_boxes(shape: Shape, step: Shape) -> int:
    """Return the number of boxes that cover an array.

    Examples
    --------
    >>> n_boxes((10, 5), (4, 5))
    3
    """
    return math.prod(grid_shape(shape, step))


def open_grid(bounds: Sequence[int | None], step: Shape) -> Shape:
    """Return a grid that is as long as chunks can be numbered, along axes without bound.

    Examples
    --------
    >>> open_grid((None, 10), (4, 5)) == (2**62, 2)
    True
    >>> open_grid((None, 3, None), (1, 3, 1)) == (2**31, 1, 2**31)
    True
    """
    closed = [
        None if bound is None else n_along(bound, size)
        for bound, size in zip(bounds, step, strict=True)
    ]
    room = 2**63 // max(1, math.prod(count for count in closed if count))
    n_open = closed.count(None)
    # The whole root of a power of two, so that their product is never more.
    each = 1 << (room.bit_length() - 1) // n_open if n_open else 1
    return tuple(each if count is None else count for count in closed)


def open_along(shape: Shape, axis: int) -> Bounds:
    """Return the bounds of an array that grows along one axis.

    Examples
    --------
    >>> open_along((8, 10), 0)
    (None, 10)
    """
    return (*shape[:axis], None, *shape[axis + 1 :])


def with_extent(shape: Shape, axis: int, extent: int) -> Shape:
    """Return a shape with another extent along an axis.

    Examples
    --------
    >>> with_extent((4, 5), 0, 9)
    (9, 5)
    """
    return (*shape[:axis], extent, *shape[axis + 1 :])


def span(shape: Shape, axis: int, start: int, stop: int) -> Region:
    """Return the region of some elements along an axis, whole along all others.

    Examples
    --------
    >>> span((4, 5), 1, 2, 3)
    (slice(0, 4, None), slice(2, 3, None))
    """
    return tuple(
        slice(start, stop) if at == axis else slice(0, extent) for at, extent in enumerate(shape)
    )


def check_numbered(shape: Shape, step: Shape, grid: Shape) -> None:
    """Refuse extents with more chunks than a grid has numbers for."""
    if any(n > count for n, count in zip(grid_shape(shape, step), grid, strict=True)):
        msg = (
            f"shape {shape} has more chunks of {step} than the {grid} that can be numbered; give "
            "larger chunks, or a maxshape that bounds some axes"
        )
        raise OptionError(msg)


def box(shape: Shape, step: Shape, index: Sequence[int]) -> Region:
    """Return one box of the grid, cut at the array's end.

    Examples
    --------
    >>> box((10, 5), (4, 5), (2, 0))
    (slice(8, 10, None), slice(0, 5, None))
    """
    return tuple(
        slice(i * s, min((i + 1) * s, n)) for n, s, i in zip(shape, step, index, strict=True)
    )


def boxes(shape: Shape, step: Shape) -> Iterator[Region]:
    """Yield every box of the grid in C order, last axis fastest."""
    if not shape:
        yield ()
        return
    # Not itertools.product, which would first list every box of every axis.
    for start in range(0, shape[0], step[0]):
        head = slice(start, min(start + step[0], shape[0]))
        for tail in boxes(shape[1:], step[1:]):
            yield (head, *tail)


def cuts(edges: Sequence[Sequence[int]]) -> Iterator[Region]:
    """Yield the boxes between given edges in C order.

    Examples
    --------
    >>> [box[0] for box in cuts([(2, 3)])]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    axes = []
    for sizes in edges:
        stops = list(itertools.accumulate(sizes, initial=0))
        axes.append([slice(a, b) for a, b in itertools.pairwise(stops)])
    return itertools.product(*axes)


def rows_of(shape: Shape, itemsize: int, nbytes: int) -> Shape:
    """Return the longest run of an array in C order of at most some bytes, as a box.

    Examples
    --------
    >>> rows_of((1000, 64), 2, 2**14)
    (128, 64)
    >>> rows_of((1000, 100000), 2, 2**14)
    (1, 8192)
    """
    room = max(1, nbytes // max(1, itemsize))
    found = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        found[axis] = max(1, min(shape[axis], room // math.prod(found)))
        if found[axis] < shape[axis]:
            break
    return tuple(found)


def flat_index(index: Sequence[int], grid: Shape) -> int:
    """Return the position of a box in C order.

    Examples
    --------
    >>> flat_index((1, 2), (4, 5)), flat_index((), ())
    (7, 0)
    """
    found = 0
    for at, count in zip(index, grid, strict=True):
        found = found * count + at
    return found


def index_at(position: int, grid: Shape) -> tuple[int, ...]:
    """Return the box that lies at a position in C order.

    Examples
    --------
    >>> index_at(7, (4, 5)), index_at(0, ())
    ((1, 2), ())
    """
    index = []
    for count in reversed(grid):
        position, at = divmod(position, count)
        index.append(at)
    return tuple(reversed(index))


def box_shape(region: Region) -> Shape:
    """Return the number of elements of a box along each axis."""
    return tuple(part.stop - part.start for part in region)


def view_of(region: Region) -> tuple[Any, ...]:
    """Return an index that gives a view of a box, also of an array without axes.

    Examples
    --------
    >>> import numpy as np
    >>> type(np.array(2, ">i4")[view_of(())]).__name__
    'ndarray'
    """
    return (*region, ...)


def overlap(region: Region, step: Shape, index: Sequence[int]) -> tuple[Region, Region]:
    """Return where a region and a box of the grid overlap, seen from both.

    Examples
    --------
    >>> overlap((slice(3, 9),), (4,), (1,))
    ((slice(0, 4, None),), (slice(1, 5, None),))
    """
    starts = [max(part.start, i * s) for part, s, i in zip(region, step, index, strict=True)]
    stops = [min(part.stop, (i + 1) * s) for part, s, i in zip(region, step, index, strict=True)]
    in_box = tuple(
        slice(a - i * s, b - i * s) for a, b, s, i in zip(starts, stops, step, index, strict=True)
    )
    in_region = tuple(
        slice(a - part.start, b - part.start)
        for a, b, part in zip(starts, stops, region, strict=True)
    )
    return in_box, in_region


def touched(region: Region, step: Shape) -> Iterator[tuple[tuple[int, ...], Region, Region]]:
    """Yield every box of the grid that a region has elements of, in C order.

    Examples
    --------
    >>> for index, in_box, in_region in touched((slice(3, 9),), (4,)):
    ...     print(index, in_box[0].start, in_box[0].stop, in_region[0].start)
    (0,) 3 4 0
    (1,) 0 4 1
    (2,) 0 1 5
    """
    if any(part.start == part.stop for part in region):
        return
    ranges = (
        range(part.start // size, n_along(part.stop, size))
        for part, size in zip(region, step, strict=True)
    )
    for index in itertools.product(*ranges):
        yield index, *overlap(region, step, index)


def n_touched(region: Region, step: Shape) -> int:
    """Return how many boxes of a grid a region touches.

    Examples
    --------
    >>> n_touched((slice(9, 21),), (10,)), n_touched((slice(9, 9),), (10,))
    (3, 0)
    """
    if any(part.start >= part.stop for part in region):
        return 0
    return math.prod(
        n_along(part.stop, edge) - part.start // edge
        for part, edge in zip(region, step, strict=True)
    )


def cuts_chunks(region: Region, shape: Shape, chunk_shape: Shape) -> bool:
    """Return whether a part begins or ends inside a chunk of the array around it.

    Examples
    --------
    >>> cuts_chunks((slice(10, 20),), (25,), (10,)), cuts_chunks((slice(20, 25),), (25,), (10,))
    (False, False)
    >>> cuts_chunks((slice(10, 19),), (25,), (10,))
    True
    """
    return any(
        part.start % chunk or (part.stop % chunk and part.stop < extent)
        for part, extent, chunk in zip(region, shape, chunk_shape, strict=True)
    )


def is_multiple(extent: int, unit: int, end: int) -> bool:
    """Return whether a box edge falls on a unit's edge, or on the axis' end."""
    return extent % unit == 0 or extent >= end


def each_axis(selection: Any, ndim: int) -> list[Any]:
    """Return a part for each axis, an Ellipsis and axes that were left out spelled out.

    Where there are too many parts they are returned as they are.

    Examples
    --------
    >>> each_axis((1, ..., 2), 3)
    [1, slice(None, None, None), 2]
    """
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    dots = [at for at, part in enumerate(parts) if part is Ellipsis]
    at, n_dots = (dots[0], 1) if len(dots) == 1 else (len(parts), 0)
    parts[at : at + n_dots] = [slice(None)] * (ndim - len(parts) + n_dots)
    return parts


def as_region(region: Any, shape: Shape) -> Region:
    """Return a region as full slices, one per axis.

    Examples
    --------
    >>> as_region((slice(1, None), 2), (4, 5))
    (slice(1, 4, None), slice(2, 3, None))
    """
    parts = each_axis(region, len(shape))
    if len(parts) != len(shape):
        msg = f"region {region!r} has {len(parts)} axes, the array has shape {shape}"
        raise OptionError(msg)
    return tuple(map(_as_slice, parts, shape))


def _as_slice(part: Any, extent: int) -> slice:
    if isinstance(part, slice):
        start, stop, step = part.indices(extent)
        if step == 1:
            return slice(start, max(start, stop))
        msg = f"region step {part.step} is not 1; read the whole range and slice the result"
        raise OptionError(msg)
    if not is_integer(part):
        msg = f"region part {part!r} is neither an integer nor a slice"
        raise OptionError(msg)
    start = int(part) + (extent if part < 0 else 0)
    if not 0 <= start < extent:
        msg = f"index {part} is outside an axis of {extent} elements"
        raise OptionError(msg)
    return slice(start, start + 1)


def format_region(region: Region) -> str:
    """Return a region as it is written in numpy.

    Examples
    --------
    >>> format_region((slice(0, 10), slice(3, 4)))
    '[0:10, 3:4]'
    """
    return "[" + ", ".join(f"{part.start}:{part.stop}" for part in region) + "]"
