"""Chunks that fit the blocks an array already has.

The chunk divides the greatest common divisor of the inner block boundaries,
so that no chunk lies in two blocks and nothing has to be re-blocked.
"""

import heapq
import itertools
import math
from collections.abc import Sequence

from lazyio.dtypes import Shape
from lazyio.planning.default_chunks import divisors, ideal_extents
from lazyio.regions import n_along

Edges = tuple[tuple[int, ...], ...]
"""Sizes of the blocks along each axis, as in ``dask.array.Array.chunks``."""

_LEAST_CHUNK_NBYTES = 64 * 2**10
_NEAR = 8
_LARGE = 4


def common_step(sizes: Sequence[int], extent: int) -> int:
    """Return the largest step that every inner boundary of an axis falls on.

    Examples
    --------
    >>> common_step((100, 100, 50), 250)
    100
    >>> common_step((100, 60, 90), 250)
    20
    """
    inner = [stop for stop in itertools.accumulate(sizes) if 0 < stop < extent]
    return math.gcd(*inner) if inner else max(1, extent)


def divides_steps(chunk_shape: Shape, steps: Shape, shape: Shape) -> bool:
    """Return whether no chunk lies in two blocks.

    Examples
    --------
    >>> divides_steps((50, 4), (100, 7), (250, 7))
    True
    """
    # A step that reaches the end of its axis stands for no inner boundary at all.
    return all(
        step >= extent or step % chunk == 0
        for chunk, step, extent in zip(chunk_shape, steps, shape, strict=True)
    )


def chunk_shape_within(
    steps: Shape,
    shape: Shape,
    itemsize: int,
    limit_nbytes: int,
    fixed: Sequence[int | None] | None = None,
    *,
    least_nbytes: int = _LEAST_CHUNK_NBYTES,
    is_open: Sequence[bool] | None = None,
) -> Shape | None:
    """Return a chunk shape of a useful size that divides given blocks, if any.

    Examples
    --------
    >>> chunk_shape_within((1000, 400), (2500, 400), 2, 100_000)
    (250, 200)
    >>> chunk_shape_within((1, 400), (2000, 400), 2, 100_000) is None
    True
    """
    wishes = list(fixed or [None] * len(shape))
    room = max(1, limit_nbytes // max(1, itemsize))
    if is_open is None:
        is_open = tuple(step >= end for step, end in zip(steps, shape, strict=True))
    chosen = _best_divisors(steps, shape, wishes, room, is_open)
    if any(
        step % chunk and not free for step, chunk, free in zip(steps, chosen, is_open, strict=True)
    ):
        return None
    useful = min(least_nbytes, limit_nbytes, math.prod(shape) * itemsize)
    is_users = all(wish is not None for wish in wishes)
    return chosen if is_users or math.prod(chosen) * itemsize >= useful else None


def _best_divisors(
    steps: Shape, shape: Shape, wishes: list[int | None], room: int, is_open: Sequence[bool]
) -> Shape:
    """Return divisors of the steps nearest the ideal, their product within room.

    Where an axis has no inner boundary any extent will do, best an even one.
    """
    free = [axis for axis, wish in enumerate(wishes) if wish is None and steps[axis] > 1]
    chosen = [wish if wish is not None else 1 for wish in wishes]
    room //= math.prod(chosen)
    extents = [min(steps[axis], max(1, shape[axis])) for axis in free]
    if room < 1 or not free:
        return tuple(chosen)
    if math.prod(extents) <= room:
        ideal = [float(extent) for extent in extents]
    else:
        ideal = ideal_extents(extents, room)
    # A state: minus the elements taken, distance from the ideal, extents.
    states: list[tuple[float, int, tuple[int, ...]]] = [(0.0, room, ())]
    for axis, extent, wish in zip(free, extents, ideal, strict=True):
        grown = [
            (cost + _distance(divisor, wish), left // divisor, (*taken, divisor))
            for cost, left, taken in states
            for divisor in _extents_near(steps[axis], extent, wish, left, is_open=is_open[axis])
        ]
        states = heapq.nsmallest(64, grown)
    best = min(states, key=lambda state: state[0] + math.log(room / math.prod(state[2])))
    for axis, divisor in zip(free, best[2], strict=True):
        chosen[axis] = divisor
    return tuple(chosen)


def _distance(extent: int, wish: float) -> float:
    return 0.15 * math.log(extent / wish) ** 2


def _extents_near(step: int, most: int, wish: float, room: int, *, is_open: bool) -> list[int]:
    even: set[int] = set()
    top = min(most, room)
    if is_open:
        for target in (top, max(1, min(int(wish), top))):
            even.add(n_along(step, n_along(step, target)))
    fitting = [divisor for divisor in divisors(step) if divisor <= top]
    near = heapq.nsmallest(_NEAR, fitting, key=lambda d: abs(math.log(d / wish)))
    return sorted({*even, *near, *fitting[-_LARGE:]})
