"""What has come of a chunk, and which chunks have been: sets kept as few boxes and ranges."""

import bisect
import math

from lazyio.grid import Region

_MOST_BOXES = 16


class Covered:
    """Whether boxes that come one after another cover a chunk, none of it twice.

    Examples
    --------
    >>> covered = Covered(6)
    >>> for at in range(3):
    ...     covered.add((slice(at, at + 1), slice(0, 2)))
    >>> covered.is_complete
    True
    >>> covered.add((slice(0, 1), slice(0, 1)))
    >>> covered.is_complete
    False
    """

    __slots__ = ("_boxes", "_is_lost", "_n_missing")

    def __init__(self, n_elements: int) -> None:
        self._n_missing = n_elements
        self._boxes: list[Region] = []
        self._is_lost = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing; never so once boxes overlap, or are too many."""
        return not self._n_missing and not self._is_lost

    def add(self, box: Region) -> None:
        """Count a box in."""
        if self._is_lost:
            return
        if any(_overlap(box, other) for other in self._boxes):
            self._is_lost = True
            return
        self._n_missing -= math.prod(part.stop - part.start for part in box)
        longer = _joined(self._boxes[-1], box) if self._boxes else None
        if longer is not None:
            self._boxes[-1] = longer
        else:
            self._boxes.append(box)
            self._is_lost = len(self._boxes) > _MOST_BOXES


def _overlap(one: Region, other: Region) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def _joined(one: Region, other: Region) -> Region | None:
    """Return a box with the next one at its end along one axis, ``None`` if it is not there."""
    differing = [axis for axis, part in enumerate(one) if part != other[axis]]
    if len(differing) != 1 or one[differing[0]].stop != other[differing[0]].start:
        return None
    axis = differing[0]
    return (*one[:axis], slice(one[axis].start, other[axis].stop), *one[axis + 1 :])


class Ranges:
    """A set of integers that mostly come one after another.

    Examples
    --------
    >>> ranges = Ranges()
    >>> for number in (3, 4, 9, 5, 8):
    ...     ranges.add(number)
    >>> [number in ranges for number in (2, 3, 5, 6, 8, 9, 10)]
    [False, True, True, False, True, True, False]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __contains__(self, number: int) -> bool:
        """Return whether it was added."""
        at = bisect.bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    def add(self, number: int) -> None:
        """Add a number."""
        if number in self:
            return
        at = bisect.bisect_left(self._starts, number)
        continues = at > 0 and self._stops[at - 1] == number
        precedes = at < len(self._starts) and self._starts[at] == number + 1
        if continues and precedes:
            self._stops[at - 1] = self._stops.pop(at)
            del self._starts[at]
        elif continues:
            self._stops[at - 1] = number + 1
        elif precedes:
            self._starts[at] = number
        else:
            self._starts.insert(at, number)
            self._stops.insert(at, number + 1)
