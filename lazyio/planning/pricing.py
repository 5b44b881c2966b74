"""Prices of many chunk shapes at once.

A price is a sum of products with one factor per axis, so that all
combinations of extents along two axes are one matrix product. Sizes are
compared as floats, which hold every integer up to the largest chunk.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lazyio.planning.access import AccessCost, Floats
from lazyio.spec import Shape

_MOST_COMBINATIONS = 30_000
_TOO_SMALL = 1e12
"""Price of a chunk below the lower bound; the smaller, the dearer."""

Ladders = Sequence[Sequence[int]]
"""Per axis, extents to choose from."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many elements a chunk may have."""

    lower: int
    """The least, where the choices allow as many."""
    upper: int
    """The most."""


@dataclass(frozen=True)
class Prices:
    """Mean costs of windows, infinite for chunks that are too large, huge for too small."""

    cost: AccessCost
    """The windows, and what reading costs."""
    bounds: Bounds
    """How many elements a chunk may have."""

    @cached_property
    def _weights(self) -> Floats:
        return self.cost.weights()

    def of(self, shape: Shape) -> float:
        """Return the price of one shape."""
        return float(self._bounded(self.cost.mean(shape), np.array(float(math.prod(shape)))))

    def cheapest(self, ladders: Ladders, starts: Sequence[Shape]) -> Shape:
        """Return the cheapest shape of given extents."""
        factors = self._factors(ladders)
        if math.prod(map(len, ladders)) <= _MOST_COMBINATIONS:
            prices, _ = self._grid(ladders, factors)
            return _picked(ladders, int(prices.argmin()))
        return min(self._descend(ladders, factors, start) for start in starts)[1]

    def best_ranked(self, ladders: Ladders, ranks: Ladders, most: float) -> Shape | None:
        """Return the shape with the highest sum of ranks, then the largest, up to a price."""
        prices, sizes = self._grid(ladders, self._factors(ladders))
        total = np.zeros(1)
        for each in ranks:
            total = np.add.outer(total, np.array(each)).ravel()
        allowed = np.flatnonzero(prices <= most)
        if not allowed.size:
            return None
        order = np.lexsort((prices[allowed], -sizes[allowed], -total[allowed]))
        return _picked(ladders, int(allowed[order[0]]))

    def _factors(self, ladders: Ladders) -> list[Floats]:
        return [self.cost.factors(axis, extents) for axis, extents in enumerate(ladders)]

    def _grid(self, ladders: Ladders, factors: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Return price and size of every combination, the last axis fastest."""
        sizes = np.ones(1)
        rows = self._weights[:, None]
        for extents, each in zip(ladders, factors, strict=True):
            sizes = np.multiply.outer(sizes, np.array(extents, float)).ravel()
            if each is factors[-1]:
                return self._bounded((rows.T @ each).ravel(), sizes), sizes
            rows = (rows[:, :, None] * each[:, None, :]).reshape(len(rows), -1)
        return self._bounded(rows.sum(axis=0), sizes), sizes

    def _descend(
        self, ladders: Ladders, factors: Sequence[Floats], start: Shape
    ) -> tuple[float, Shape]:
        """Improve two axes at a time, over all combinations of the two, until none gains."""
        at = [list(ladder).index(edge) for ladder, edge in zip(ladders, start, strict=True)]
        active = [axis for axis, ladder in enumerate(ladders) if len(ladder) > 1]
        lowest, improved = math.inf, True
        while improved:
            improved = False
            for first, second in itertools.combinations(active, 2):
                prices = self._pair(ladders, factors, at, first, second)
                best = int(prices.argmin())
                if prices.flat[best] < lowest * (1 - 1e-12):
                    lowest, improved = float(prices.flat[best]), True
                    at[first], at[second] = divmod(best, len(ladders[second]))
        return lowest, tuple(ladder[pick] for ladder, pick in zip(ladders, at, strict=True))

    def _pair(
        self,
        ladders: Ladders,
        factors: Sequence[Floats],
        at: Sequence[int],
        first: int,
        second: int,
    ) -> Floats:
        """Return the prices of all combinations along two axes, the others as they are."""
        rows, size = self._weights, 1.0
        for axis, pick in enumerate(at):
            if axis not in (first, second):
                rows = rows * factors[axis][:, pick]
                size *= ladders[axis][pick]
        prices = (factors[first] * rows[:, None]).T @ factors[second]
        sizes = np.multiply.outer(np.array(ladders[first], float) * size, ladders[second])
        return self._bounded(prices, sizes)

    def _bounded(self, prices: Floats | float, sizes: Floats) -> Floats:
        short = np.maximum(0.0, self.bounds.lower / sizes - 1)
        return np.where(sizes > self.bounds.upper, np.inf, prices + _TOO_SMALL * short)


def _picked(ladders: Ladders, at: int) -> Shape:
    """Return the combination at a place in the grid."""
    picks = np.unravel_index(at, tuple(map(len, ladders)))
    return tuple(ladder[int(pick)] for ladder, pick in zip(ladders, picks, strict=True))
