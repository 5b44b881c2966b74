"""Chunk shapes where no access pattern was given, and the extents that an axis may have.

The ideal chunk keeps the square root of the array's proportions: between a
cube (all axes alike) and the array's own ratio, it has the best worst case
over readers of lines and planes. The search, in four steps:

1. Take what the user fixed; if the rest fits whole, take it whole.
2. Solve for real extents ``clip(scale * sqrt(S_i), 1, S_i)`` whose product is
   the limit.
3. Round, thinnest axis first, over extents that divide the axis evenly or
   nearly so; a narrow beam keeps the best combinations.
4. Grow the result while that fills more than it pads.

Floats only propose; every limit is tested in exact integers.
"""

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lazyio.dtypes import Shape
from lazyio.regions import n_along

_PRIME_BOUND = 4096


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """Return divisors of a positive integer in rising order.

    Primes up to 4096 are split off; a larger cofactor is kept whole, so the
    cost does not depend on the number. Nothing is lost for it in practice: an
    extent with two prime factors above 4096 has no divisor of a useful size.

    Examples
    --------
    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    found = [1]
    rest = number
    prime = 2
    while prime <= _PRIME_BOUND and prime * prime <= rest:
        power = 1
        base = list(found)
        while rest % prime == 0:
            rest //= prime
            power *= prime
            found += [divisor * power for divisor in base]
        prime += 1 if prime == 2 else 2
    if rest > 1:
        found += [divisor * rest for divisor in found]
    return tuple(sorted(found))


def nearest(sorted_numbers: Sequence[int], wish: float) -> list[int]:
    """Return the numbers on either side of a wish, one or two of them.

    Examples
    --------
    >>> nearest((1, 2, 3, 4, 6, 12), 5)
    [4, 6]
    """
    at = bisect_left(sorted_numbers, wish)
    return list(sorted_numbers[max(0, at - 1) : at + 1])


_ALL_BELOW = 4
_WHOLE_PARTS = (1, 2, 3, 4)
_PADDED_PART = 8


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The extents that one axis may have.

    Examples
    --------
    >>> Choice(extent=100, step=60).between(4, 20, 8)
    [4, 5, 6, 10, 12, 15, 20]
    >>> Choice(extent=100, unit=30).between(1, 100, 8)
    [30, 60, 90, 100]
    """

    extent: int
    """Elements along the axis, at least 1."""
    step: int | None = None
    """What an extent has to divide, if anything."""
    unit: int = 1
    """What an extent has to be a multiple of, short of the whole axis."""
    fixed: int | None = None
    """The only extent there is, where the user chose it."""

    @property
    def most(self) -> int:
        """The largest extent."""
        return self.fixed or min(self.extent, self.step or self.extent)

    @property
    def is_free(self) -> bool:
        """Whether any extent will do."""
        return self.fixed is None and self.step is None and self.unit == 1

    def between(self, low: float, high: float, count: int) -> list[int]:
        """Return some of the extents between two bounds, in rising order."""
        if self.fixed is not None:
            return [self.fixed]
        low, high = max(1.0, low), min(high, self.most)
        if self.step is not None:
            found: Iterable[int] = (d for d in divisors(self.step) if d <= self.extent)
        else:
            found = self._spread(low, max(low, high), count)
        everything = sorted(set(found))
        inside = _thinned([e for e in everything if low <= e <= high], 2 * count + 8)
        return inside or [min(everything, key=lambda extent: abs(math.log(extent / low)))]

    def below(self, wish: float) -> int:
        """Return the largest candidate <= target, else the smallest above it."""
        near = self.between(wish / 2, wish, 2)
        return max((extent for extent in near if extent <= wish), default=self.between(1, 1, 1)[0])

    def _spread(self, low: float, high: float, count: int) -> set[int]:
        n_units = n_along(self.extent, self.unit)
        ratio = (high / low) ** (1 / max(1, count - 1))
        targets = [low * ratio**rung for rung in range(count)]
        targets += [rung * self.unit for rung in range(1, _ALL_BELOW)]
        targets += [self.extent / parts for parts in _WHOLE_PARTS]
        found: set[int] = set()
        for target in targets:
            n = min(n_units, max(1, math.ceil(target / self.unit - 1e-9)))
            even = n_along(n_units, n_along(n_units, n))
            found.update((min(n * self.unit, self.extent), min(even * self.unit, self.extent)))
        return {edge for edge in found if not self.is_free or self.pads_little(edge)}

    def pads_little(self, edge: int) -> bool:
        """Return whether chunks of an extent reach at most an eighth beyond the axis.

        What is padded is stored, too. Pieces that are as even as can be always do.
        """
        n_pieces = n_along(self.extent, edge)
        is_even = edge <= n_along(self.extent, n_pieces)
        return is_even or n_pieces * edge * _PADDED_PART <= self.extent * (_PADDED_PART + 1)


def _thinned(extents: list[int], most: int) -> list[int]:
    """Return an even choice of extents, the first and the last among them."""
    if len(extents) <= most:
        return extents
    return [extents[at * (len(extents) - 1) // (most - 1)] for at in range(most)]


_BEAM = 12
_BEAM_MANY_AXES = 6
_SHAPE_WEIGHT = 0.15
_REMAINDER_WEIGHT = 0.04
_SMALL_EXTENT = 64
_NEAR_DIVISOR = 1.6


def solve_chunk_shape(
    shape: Shape, itemsize: int, limit_nbytes: int, fixed: Sequence[int | None] | None = None
) -> Shape:
    """Return the chunk shape of at most ``limit_nbytes`` that suits any reader.

    Examples
    --------
    >>> solve_chunk_shape((700000, 384), 2, 2**20)
    (4000, 128)
    >>> solve_chunk_shape((700000, 384), 2, 2**20, (None, 1))
    (350000, 1)
    """
    extents = [max(1, extent) for extent in shape]
    chosen = [
        min(wish, extent) if wish is not None else (1 if extent == 1 else None)
        for wish, extent in zip(fixed or [None] * len(shape), extents, strict=True)
    ]
    room = max(1, limit_nbytes // max(1, itemsize)) // math.prod(c for c in chosen if c)
    free = [axis for axis, extent in enumerate(chosen) if extent is None]
    solved = _fill([extents[axis] for axis in free], room) if free else []
    for axis, extent in zip(free, solved, strict=True):
        chosen[axis] = extent
    return tuple(extent or 1 for extent in chosen)


def raise_to(chunk: Shape, shape: Shape, least: int, most: int, free: Sequence[bool]) -> Shape:
    """Return a chunk of at least as many elements as asked for, where that is possible.

    Examples
    --------
    >>> raise_to((25, 25), (100, 75), 650, 700, (True, True))
    (26, 25)
    """
    grown = list(chunk)
    # The longest axes first: there a few elements more change the proportions least.
    for axis in sorted(range(len(grown)), key=lambda axis: -grown[axis]):
        others = math.prod(grown) // grown[axis]
        if free[axis] and others * grown[axis] < least:
            fitting = max(grown[axis], min(shape[axis], most // others))
            grown[axis] = min(fitting, n_along(least, others))
    return tuple(grown)


def ideal_extents(extents: Sequence[int], room: int) -> list[float]:
    """Return ``clip(scale * sqrt(S_i), 1, S_i)`` with the product ``room``.

    The logarithm of the product is piecewise linear in the logarithm of the
    scale and bends where an axis reaches 1 or its full extent.

    Examples
    --------
    >>> ideal_extents([400, 100], 200)
    [20.0, 10.0]
    """
    logs = [math.log(extent) for extent in extents]
    wish = math.log(room)

    def total(scale: float) -> float:
        return sum(min(max(scale + log / 2, 0.0), log) for log in logs)

    bends = sorted({sign * log / 2 for log in logs for sign in (-1, 1)})
    low = bends[0]
    for high in bends[1:]:
        if total(high) >= wish:
            rise = total(high) - total(low)
            scale = low + (high - low) * ((wish - total(low)) / rise if rise else 0.0)
            break
        low = high
    else:
        scale = bends[-1]
    return [round(math.exp(min(max(scale + log / 2, 0.0), log)), 9) for log in logs]


def _fill(extents: list[int], room: int) -> list[int]:
    """Return extents for free axes whose product is at most ``room``."""
    if room < 1:
        return [1] * len(extents)
    if math.prod(extents) <= room:
        return extents
    ideal = ideal_extents(extents, room)
    return _grow(_round(extents, ideal, room), extents, ideal, room)


def _round(extents: list[int], ideal: list[float], room: int) -> list[int]:
    thin_first = sorted(range(len(extents)), key=ideal.__getitem__)
    beam = _BEAM if len(extents) <= 4 else _BEAM_MANY_AXES
    last = thin_first[-1]
    # A state: cost so far, room left, extents in the order of thin_first.
    states: list[tuple[float, int, tuple[int, ...]]] = [(0.0, room, ())]
    wish = math.prod(ideal)
    for axis in thin_first:
        wish /= ideal[axis]
        grown = []
        for cost, left, taken in states:
            # What the axes before took or left moves the wish of those to come.
            target = ideal[axis] if axis != last else float(min(left, extents[axis]))
            for extent in _candidates(extents[axis], target, left):
                rest = left // extent
                fill = math.log(max(1.0, rest / wish)) if axis == last else 0.0
                step = _axis_cost(extent, extents[axis], ideal[axis]) + fill
                grown.append((cost + step, rest, (*taken, extent)))
        # What is left over beyond the wish of the axes to come cannot be used.
        states = heapq.nsmallest(beam, grown)
    best = min(states)[2]
    rounded = [1] * len(extents)
    for axis, extent in zip(thin_first, best, strict=True):
        rounded[axis] = extent
    return rounded


def _axis_cost(extent: int, axis_extent: int, ideal: float) -> float:
    """Return the cost of one axis: padding, distance to the ideal, remainder."""
    padding = n_along(axis_extent, extent) * extent / axis_extent
    shape = math.log(extent / ideal)
    remainder = _REMAINDER_WEIGHT if axis_extent % extent else 0.0
    # -ln(extent) is this axis' share of -ln(fill).
    return 2 * math.log(padding) + _SHAPE_WEIGHT * shape * shape + remainder - math.log(extent)


def _candidates(axis_extent: int, wish: float, room: int) -> set[int]:
    top = min(axis_extent, room)
    n_wish = n_along(axis_extent, max(1, math.ceil(min(wish, top))))
    counts = {n_wish - 1, n_wish, n_wish + 1}
    if n_wish <= 16:
        counts.add(n_wish - 2)
    found = {n_along(axis_extent, n) for n in counts if n >= 1}
    for divisor in nearest(divisors(axis_extent), wish):
        if wish / _NEAR_DIVISOR <= divisor <= wish * _NEAR_DIVISOR:
            found.add(divisor)
    if axis_extent <= _SMALL_EXTENT:
        near = range(max(1, math.ceil(wish * 0.75)), min(top, math.ceil(wish)) + 1)
        if near:
            found.add(min(near, key=lambda n: (n_along(axis_extent, n) * n, -n)))
    return {extent for extent in found if extent <= top} or {max(1, min(int(wish), top))}


def _grow(chosen: list[int], extents: list[int], ideal: list[float], room: int) -> list[int]:
    """Step axes up, most wanting first, while that fills more than it pads."""
    grown = list(chosen)
    size = math.prod(grown)
    open_axes = set(range(len(grown)))
    while open_axes:
        axis = min(open_axes, key=lambda a: grown[a] / ideal[a])
        others = size // grown[axis]
        step = _next_extent(grown[axis], extents[axis], room // others)
        if step is None:
            open_axes.discard(axis)
            continue
        grown[axis], size = step, others * step
    return grown


def _next_extent(extent: int, axis_extent: int, room: int) -> int | None:
    """Return the largest worthwhile extent above ``extent`` within ``room``."""
    top = min(room, axis_extent)
    if top <= extent:
        return None
    options = {n_along(axis_extent, n_along(axis_extent, top)), top}
    options.update(nearest(divisors(axis_extent), top))
    worth = [o for o in options if extent < o <= top and _worthwhile(extent, o, axis_extent)]
    return max(worth, default=None)


def _worthwhile(before: int, after: int, axis_extent: int) -> bool:
    padded_before = n_along(axis_extent, before) * before
    padded_after = n_along(axis_extent, after) * after
    waste = math.log(padded_after / padded_before)
    remainder = bool(axis_extent % after) - bool(axis_extent % before)
    return math.log(after / before) > 2 * waste + _REMAINDER_WEIGHT * remainder
