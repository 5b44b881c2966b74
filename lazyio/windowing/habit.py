"""What will be read next, guessed from what was: steps of one kind that follow each other."""

from collections.abc import Iterator

from lazyio.dtypes import Shape
from lazyio.windowing.grid import Grid
from lazyio.windowing.selection import Positions

_SURE = 2
"""Steps of one kind after which more than one cell is read ahead."""
_DENSE = 0.5
"""Part of what lies on the way."""
_MOST_STEPS = 256
"""To look ahead for cells that are not there yet."""

Box = tuple[tuple[int, int], ...]
"""First position along each axis, and the one behind the last."""


def box_around(axes: tuple[Positions, ...]) -> Box | None:
    """Return the box of evenly spaced positions, ``None`` of positions in no order."""
    found = []
    for wanted in axes:
        if not isinstance(wanted, range) or not wanted:
            return None
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        found.append((low, high + 1))
    return tuple(found)


class Habit:
    """How far each read lies from the one before it, and how often that was the same.

    Examples
    --------
    >>> from lazyio.windowing.grid import RegularAxis
    >>> grid, habit = Grid.of([RegularAxis(extent=100, step=10)]), Habit()
    >>> for start in (0, 10, 20):
    ...     habit.note(grid, ((start, start + 10),))
    >>> list(habit.ahead(grid, 2))
    [3, 4]
    """

    def __init__(self) -> None:
        self._last: Box | None = None
        self._delta: Shape = ()
        self._streak = 0
        self._share = 1.0

    @property
    def is_sure(self) -> bool:
        """Whether reads have followed each other in one way for a while."""
        return self._streak >= _SURE

    @property
    def is_dense(self) -> bool:
        """Whether most of what lies on the way is read."""
        if not self._streak or self._last is None:
            return False
        share = self._share
        for (low, high), by in zip(self._last, self._delta, strict=True):
            share *= min(1.0, (high - low) / abs(by)) if by else 1.0
        return share >= _DENSE

    def overtake(self, rows: tuple[int, int]) -> None:
        """Take rows that were read meanwhile, from memory, for those that were read last."""
        if self._last is not None:
            self._last = (rows, *self._last[1:])

    def jump(self) -> None:
        """Take what was read last for the beginning of something new, as of a shuffled block."""
        self._streak = min(self._streak, 1)

    def note(self, grid: Grid, box: Box | None, share: float = 1.0) -> None:
        """Take the box of which a share is read now, ``None`` for positions in no order."""
        last, self._last = self._last, box
        self._share = share
        if box is None or last is None:
            self._streak = 0
            return
        delta = tuple(now[0] - before[0] for now, before in zip(box, last, strict=True))
        if not any(delta):
            return
        is_next = _touches(box, last)
        if delta == self._delta or (is_next and self._streak and _same_way(delta, self._delta)):
            self._streak += 1
        elif is_next or (self._streak and _is_small(grid, delta, self._delta)):
            self._streak = max(1, self._streak)
        elif self._streak >= _SURE:
            # A jump, as between shuffled blocks: what comes behind it is likely as it was before.
            self._streak = 1
            return
        else:
            self._streak = 0
        self._delta = delta

    def ahead(self, grid: Grid, count: int) -> Iterator[int]:
        """Yield cells in the order in which they will be needed, about as many as are asked for."""
        if self._last is None or not self._streak:
            return
        stride = _stride(grid, self._last, self._delta)
        n_found = 0
        done = set(_cells(grid, self._last))
        for step in range(1, _MOST_STEPS):
            moved = tuple(
                (low + step * stride * by, high + step * stride * by)
                for (low, high), by in zip(self._last, self._delta, strict=True)
            )
            numbers = _cells(grid, moved)
            if not numbers:
                return
            for number in numbers:
                if number not in done:
                    done.add(number)
                    n_found += 1
                    yield number
            if n_found >= count:
                return


def _touches(box: Box, last: Box) -> bool:
    """Return whether one box begins where the other ends, along one axis, and is level with it."""
    moved = [(now, before) for now, before in zip(box, last, strict=True) if now[0] != before[0]]
    if len(moved) != 1:
        return False
    now, before = moved[0]
    return before[0] <= now[0] <= before[1] or now[0] <= before[0] <= now[1]


def _same_way(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(
        (a > 0) - (a < 0) == (b > 0) - (b < 0) for a, b in zip(one, other, strict=True)
    )


def _is_small(grid: Grid, delta: Shape, before: Shape) -> bool:
    """Return whether a step leads to the next cell at most, in the way that it went before."""
    return _same_way(delta, before) and all(
        abs(by) <= 2 * (axis.bounds(0)[1] if len(axis) else 1)
        for by, axis in zip(delta, grid.axes, strict=True)
    )


def _stride(grid: Grid, box: Box, delta: Shape) -> int:
    """Return how many steps make a move of at most one cell."""
    strides = [
        max(
            1,
            (
                axis.bounds(min(len(axis) - 1, axis.cell_at(low)))[1]
                - axis.bounds(min(len(axis) - 1, axis.cell_at(low)))[0]
            )
            // abs(by),
        )
        for (low, _), by, axis in zip(box, delta, grid.axes, strict=True)
        if by
    ]
    return min(strides, default=1)


def _cells(grid: Grid, box: Box) -> list[int]:
    """Return the cells that a box touches, none where it lies outside the array."""
    numbers = [0]
    for (low, high), axis, count in zip(box, grid.axes, grid.counts, strict=True):
        first, last = max(low, 0), min(high, axis.extent)
        if first >= last:
            return []
        cells = range(axis.cell_at(first), axis.cell_at(last - 1) + 1)
        numbers = [number * count + cell for number in numbers for cell in cells]
    return numbers
