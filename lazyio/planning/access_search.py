"""The chunk shape that costs the least to read given windows out of.

1. Along each axis a ladder of extents, each priced once for all windows.
2. With few combinations, all of them; with many, two axes at a time, all
   combinations of the two, until no pair gains, from several starts.
3. Twice more with finer ladders around what was found.
4. Within 5 % of the best, extents that are nicer: that divide the axis, are
   powers of two or multiples of eight; then the larger chunk.
"""

import math
from collections.abc import Sequence

from lazyio.dtypes import Shape
from lazyio.planning.access import AccessCost, Bounds, Overheads, Prices
from lazyio.planning.blocks import TASK_NBYTES
from lazyio.planning.default_chunks import Choice, divisors, nearest
from lazyio.planning.plan import Plan
from lazyio.regions import n_along

_NICE_COMBINATIONS = 4096
_FINE_RATIO, _COARSE_RATIO = 1.25, 1.5
_REFINEMENTS = ((1.3, 13), (1.08, 9))
_NICE_SLACK = 1.05
_NICE_SPAN = 1.2
_HALVINGS = 40


def search_chunk(
    cost: AccessCost, choices: Sequence[Choice], bounds: Bounds, known: Shape
) -> Shape:
    """Return the chunk shape with the least mean cost of all windows.

    Examples
    --------
    >>> from lazyio.planning.access import Overheads
    >>> from lazyio.planning.access import Window
    >>> cost = AccessCost(
    ...     shape=(700000, 384),
    ...     windows=(Window(shape=(30000, 1)),),
    ...     itemsize=2,
    ...     overheads=Overheads(chunk_nbytes=2**15),
    ... )
    >>> choices = [Choice(extent=700000), Choice(extent=384)]
    >>> search_chunk(cost, choices, Bounds(lower=2**17, upper=2**19), (4000, 128))
    (140000, 1)
    """
    prices = Prices(cost, bounds)
    n_active = sum(len(choice.between(1, choice.most, 2)) > 1 for choice in choices)
    found = best_shape(prices, choices, n_active, known)
    nice = _nicest(prices, choices, n_active, found)
    most = prices.of(known)
    return nice if prices.of(nice) <= most else min((found, known), key=prices.of)


def search_blocks(plan: Plan) -> Shape:
    """Choose block shapes that minimise wasted reads."""
    if not plan.windows or plan.source_chunk_shape is None or not all(plan.shape):
        return plan.block_shape
    upper = math.prod(plan.block_shape)
    cost = AccessCost(
        shape=plan.shape,
        windows=tuple(cost.window for cost in plan.windows),
        itemsize=max(1, plan.dtype.itemsize),
        overheads=Overheads(chunk_nbytes=TASK_NBYTES),
    )
    choices = [
        Choice(extent=extent, unit=unit)
        for extent, unit in zip(plan.shape, plan.chunk_shape, strict=True)
    ]
    return search_chunk(
        cost, choices, Bounds(lower=n_along(upper, 4), upper=upper), plan.block_shape
    )


def best_shape(prices: Prices, choices: Sequence[Choice], n_active: int, known: Shape) -> Shape:
    """Return the cheapest shape, nice or not."""
    windows = [window.shape for window in prices.cost.windows]
    alike = tuple(1 for _ in choices)
    widest = tuple(map(max, zip(*windows, strict=True)))
    starts = [known, *(_in_proportion(choices, prices.bounds, to) for to in (alike, widest))]
    ratio = _FINE_RATIO if n_active <= 2 else _COARSE_RATIO
    found = prices.cheapest(
        [
            _ladder(choice, prices.bounds.upper, ratio, each)
            for choice, *each in zip(choices, *starts, strict=True)
        ],
        starts,
    )
    for span, count in _REFINEMENTS:
        ladders = [
            sorted({edge, *choice.between(edge / span, edge * span, count)})
            for choice, edge in zip(choices, found, strict=True)
        ]
        found = prices.cheapest(ladders, [found])
    return found


def _ladder(choice: Choice, upper: int, ratio: float, starts: Sequence[int]) -> list[int]:
    """Return extents over all that fits, those of the starts among them."""
    top = min(choice.most, upper)
    count = 2 + int(math.log(top) / math.log(ratio))
    return sorted({*choice.between(1, top, count), *starts})


def _in_proportion(choices: Sequence[Choice], bounds: Bounds, to: Shape) -> Shape:
    """Return a shape with given proportions and as many elements as the bounds' middle."""
    wish = (math.log(bounds.lower) + math.log(bounds.upper)) / 2

    def scaled(scale: float) -> list[float]:
        return [
            min(max(0.0, scale + math.log(edge)), math.log(choice.most))
            for edge, choice in zip(to, choices, strict=True)
        ]

    low, high = -128.0, 128.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(scaled(middle)) <= wish else (low, middle)
    return tuple(
        choice.below(math.exp(edge) + 1e-9)
        for choice, edge in zip(choices, scaled(low), strict=True)
    )


def _nicest(prices: Prices, choices: Sequence[Choice], n_active: int, found: Shape) -> Shape:
    """Return the nicest shape whose price is within 5 % of one that was found."""
    # One, and so no choice at all, where there are very many axes.
    count = int(_NICE_COMBINATIONS ** (1 / max(1, n_active)) + 1e-9)
    ladders = [
        _nice_extents(choice, edge, count) for choice, edge in zip(choices, found, strict=True)
    ]
    ranks = [
        [niceness(edge, choice.extent) for edge in ladder]
        for choice, ladder in zip(choices, ladders, strict=True)
    ]
    return prices.best_ranked(ladders, ranks, _NICE_SLACK * prices.of(found)) or found


def _nice_extents(choice: Choice, extent: int, count: int) -> list[int]:
    """Return an extent and the nicest around it."""
    low, high = extent / _NICE_SPAN, extent * _NICE_SPAN
    around = set(choice.between(low, high, 9))
    if choice.is_free:
        power = 1 << (extent.bit_length() - 1)
        round_numbers = (power, 2 * power, extent // 8 * 8, (extent // 8 + 1) * 8)
        around.update(n for n in round_numbers if low <= n <= min(high, choice.most))
        around.update(d for d in nearest(divisors(choice.extent), extent) if low <= d <= high)
        around = {edge for edge in around if choice.pads_little(edge)} or {extent}
    ranked = sorted(around, key=lambda edge: (-niceness(edge, choice.extent), abs(edge - extent)))
    return sorted({extent, *ranked[: count - 1]})


def niceness(extent: int, axis_extent: int) -> int:
    """Return how nice a chunk extent is: 3 if it divides the axis, 2 and 1 if it is round.

    Examples
    --------
    >>> niceness(25, 100), niceness(64, 100), niceness(24, 100), niceness(23, 100)
    (3, 2, 1, 0)
    """
    if axis_extent % extent == 0:
        return 3
    if extent & (extent - 1) == 0:
        return 2
    return int(extent % 8 == 0)
