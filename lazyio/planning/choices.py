"""Extents that a search may give one axis: any, divisors of a step, multiples of a unit."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lazyio.grid import n_along
from lazyio.planning.factors import divisors

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
        """Return the largest of about the extents up to a wish; the least there is above it."""
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
