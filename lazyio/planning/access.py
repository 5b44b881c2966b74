"""Access windows, and what it costs to read them out of chunks, whatever their number.

A window of ``w`` elements lies anywhere along an axis of ``S``, each of its
``S - w + 1`` places as likely as another. How many chunks it touches, how many
elements they hold and whether it is exactly one of them are sums over all
places, and have closed forms in integers, whatever the number of chunks. Over
several axes the expectations multiply.

The cost of a window, as bytes that could have been read instead:

* where whole chunks are decoded, ``chunks x overhead + their bytes``;
* where only the wanted part is read (HDF5 without filters), ``chunks x
  overhead + runs x run + wanted bytes``; a run is what lies together both in
  the chunk and in the memory that the window is read to.

It is divided by the cost of the window in one piece. The objective of a chunk
shape is the weighted mean of these ratios; the mean, because a product would
give up one reader to please another.

A price is a sum of products with one factor per axis, so that all
combinations of extents along two axes are one matrix product. Sizes are
compared as floats, which hold every integer up to the largest chunk.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, is_integer
from lazyio.errors import OptionError
from lazyio.planning.axes import by_axis

_FORMS = (
    "give window shapes such as [(30000, 1), (1, 384)], or pairs of a shape and a weight, such "
    "as [((30000, 1), 2.5)]"
)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part that readers ask for, anywhere in the array."""

    shape: Shape
    """Elements along each axis, none beyond the array."""
    weight: float = 1.0
    """How much it counts beside the others."""


def as_windows(access: Any, shape: Shape, dims: tuple[str, ...] = ()) -> tuple[Window, ...]:
    """Return the windows that a user described.

    Examples
    --------
    >>> [window.shape for window in as_windows([(30000, 1), (1, None)], (700000, 384))]
    [(30000, 1), (1, 384)]
    >>> as_windows(((100, -1), 2), (700000, 384))
    (Window(shape=(100, 384), weight=2.0),)
    """
    if access is None:
        return ()
    found = [_window(one, shape, dims) for one in _listed(access, len(shape))]
    if not found:
        msg = f"access={access!r} holds no window; {_FORMS}"
        raise OptionError(msg)
    return tuple(found)


def _listed(access: Any, ndim: int) -> list[Any]:
    """Return what was given as a list of windows and pairs."""
    if isinstance(access, np.ndarray):
        access = access.tolist()
    if isinstance(access, Mapping) or _is_extent(access) or _is_pair(access):
        return [access]
    if not isinstance(access, (tuple, list)):
        msg = f"access={access!r} is no window; {_FORMS}"
        raise OptionError(msg)
    if all(map(_is_extent, access)) and (access or not ndim):
        # One axis and several numbers: each is a window.
        return list(access) if ndim == 1 and len(access) > 1 else [access]
    return list(access)


def _is_extent(value: Any) -> bool:
    return value is None or is_integer(value)


def _is_pair(value: Any) -> bool:
    """Return whether a value is a window and its weight."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and isinstance(value[0], (tuple, list, Mapping, np.ndarray))
        and not isinstance(value[1], (tuple, list, Mapping, np.ndarray))
    )


def _window(given: Any, shape: Shape, dims: tuple[str, ...]) -> Window:
    extents, weight = given if _is_pair(given) else (given, 1.0)
    is_number = isinstance(weight, Real) and not isinstance(weight, (bool, np.bool_))
    if not is_number or not math.isfinite(weight) or weight <= 0:
        msg = f"access gives a window the weight {weight!r}; a weight is a number above 0"
        raise OptionError(msg)
    if isinstance(extents, Mapping):
        extents = by_axis("access", extents, len(shape), dims)
    if isinstance(extents, np.ndarray):
        extents = extents.tolist()
    if _is_extent(extents):
        extents = (extents,)
    if not isinstance(extents, (tuple, list)):
        msg = f"access holds {extents!r}, which is no window; {_FORMS}"
        raise OptionError(msg)
    if len(extents) != len(shape):
        msg = (
            f"access holds the window {tuple(extents)} of {len(extents)} axes, the array's shape "
            f"{shape} has {len(shape)}; give one extent per axis, -1 for a whole axis"
        )
        raise OptionError(msg)
    cut = tuple(_extent(part, end, extents) for part, end in zip(extents, shape, strict=True))
    return Window(shape=cut, weight=float(weight))


def _extent(part: Any, end: int, extents: Any) -> int:
    if part is None or (is_integer(part) and part == -1):
        return max(1, end)
    if not is_integer(part) or part < 1:
        msg = (
            f"access holds the window {tuple(extents)} with the extent {part!r}; an extent is an "
            "integer of at least 1, or -1 or None for the whole axis"
        )
        raise OptionError(msg)
    return max(1, min(int(part), end))


Number = Any
"""An integer, or an array of integers, to each of which the formula is applied."""


def touched_sum(extent: int, window: Number, chunk: Number) -> Number:
    """Return the chunks that a window touches, summed over all its places.

    Examples
    --------
    >>> touched_sum(10, 3, 4)  # places 0 to 7 touch 1, 1, 2, 2, 1, 1, 2 and 2
    12
    """
    places = extent - window + 1
    return (
        places
        + _floor_sum(extent, chunk)
        - _floor_sum(window - 1, chunk)
        - _floor_sum(places, chunk)
    )


def elements_sum(extent: int, window: Number, chunk: Number, touched: Number) -> Number:
    """Return the elements of the chunks that a window touches, summed over all its places.

    Examples
    --------
    >>> elements_sum(10, 3, 4, touched_sum(10, 3, 4))  # twice each 4, 8, 4 and 6
    44
    """
    last_start = (extent - 1) // chunk * chunk
    clear = last_start - window + 1
    # Places that do not reach the last chunk: none where it begins within every window.
    clear = clear * (clear > 0)
    reach_last = extent - window + 1 - clear
    return chunk * touched - (last_start + chunk - extent) * reach_last


def matched_sum(extent: int, window: Number, chunk: Number) -> Number:
    """Return the chunks that a window is exactly, summed over all its places.

    Examples
    --------
    >>> matched_sum(10, 4, 4), matched_sum(10, 5, 4)  # at places 0 and 4
    (2, 0)
    """
    return extent // chunk * (window == chunk)


def _floor_sum(stop: Number, chunk: Number) -> Number:
    """Return the sum of ``x // chunk`` for ``0 <= x < stop``."""
    whole = stop // chunk
    return chunk * (whole * (whole - 1) // 2) + whole * (stop - whole * chunk)


Floats = npt.NDArray[np.float64]
_MACHINE_EXTENT = 2**30
"""Below it, the sums of an axis fit 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Overheads:
    """What reading costs beside bytes, in bytes that could have been read instead."""

    chunk_nbytes: int
    """For each chunk: looking it up, seeking, calling the codec."""
    run_nbytes: int = 0
    """For each run of bytes, where only the wanted part of a chunk is read."""
    whole_chunks: bool = True
    """Whether a chunk is read and decoded whole for any part of it."""


_KIB = 2**10

# Latency of a chunk times bandwidth, as `python -m benchmarks reads` finds them with all in
# the page cache: the geometric mean of the readers there, as a power of two. The figures are
# in docs/explanation/calibration.md.
CHUNK_OVERHEAD_NBYTES = {
    ("hdf5", "none"): 128 * _KIB,
    ("hdf5", "gzip"): 4 * _KIB,
    ("hdf5", "zstd"): 64 * _KIB,
    ("zarr", "none"): 512 * _KIB,
    ("zarr", "gzip"): 16 * _KIB,
    ("zarr", "zstd"): 128 * _KIB,
}
# The same for HDF5 without filters, where chunks do not fit libhdf5's chunk cache.
PART_OVERHEAD_NBYTES = 32 * _KIB
RUN_OVERHEAD_NBYTES = 8 * _KIB
USUAL_CODEC = "zstd"


def overheads_of(
    format: Literal["hdf5", "zarr"], codec: str | None = None, *, whole_chunks: bool = True
) -> Overheads:
    """Return what reading costs beside bytes."""
    if format == "hdf5" and not whole_chunks:
        return Overheads(
            chunk_nbytes=PART_OVERHEAD_NBYTES, run_nbytes=RUN_OVERHEAD_NBYTES, whole_chunks=False
        )
    usual = CHUNK_OVERHEAD_NBYTES[format, USUAL_CODEC]
    return Overheads(chunk_nbytes=CHUNK_OVERHEAD_NBYTES.get((format, codec or ""), usual))


@dataclass(frozen=True, kw_only=True)
class WindowCost:
    """What reading one window costs, on average over all its places."""

    window: Window
    """The window."""
    n_chunks: float
    """Chunks touched."""
    nbytes: float
    """Bytes read, or decoded."""
    wanted_nbytes: int
    """Bytes of the window itself."""

    @property
    def amplification(self) -> float:
        """Bytes read over bytes wanted, 1.0 at best."""
        return self.nbytes / self.wanted_nbytes if self.wanted_nbytes else 1.0


def window_costs(
    windows: Sequence[Window], shape: Shape, chunk: Shape, itemsize: int, *, whole_chunks: bool
) -> tuple[WindowCost, ...]:
    """Return what each window costs to read out of chunks, from exact fractions.

    Examples
    --------
    >>> window = Window(shape=(3,))
    >>> window_costs([window], (10,), (4,), 2, whole_chunks=True)[0].n_chunks  # 12 of 8 places
    1.5
    """
    return tuple(_window_cost(one, shape, chunk, itemsize, whole_chunks) for one in windows)


def _window_cost(
    window: Window, shape: Shape, chunk: Shape, itemsize: int, whole_chunks: bool
) -> WindowCost:
    n_chunks, elements = Fraction(1), Fraction(1)
    wanted = math.prod(window.shape) * itemsize if all(shape) else 0
    for end, part, edge in zip(shape, window.shape, chunk, strict=True):
        if not end:
            n_chunks *= 0
            continue
        touched = touched_sum(end, part, edge)
        n_chunks *= Fraction(touched, end - part + 1)
        elements *= Fraction(elements_sum(end, part, edge, touched), end - part + 1)
    return WindowCost(
        window=window,
        n_chunks=float(n_chunks),
        nbytes=float(elements * itemsize) if whole_chunks and wanted else float(wanted),
        wanted_nbytes=wanted,
    )


def access_amplification(costs: Sequence[WindowCost]) -> float | None:
    """Return the weighted mean of bytes read over bytes wanted; ``None`` without windows."""
    if not costs:
        return None
    total = sum(cost.window.weight for cost in costs)
    return sum(cost.window.weight * cost.amplification for cost in costs) / total


@dataclass(frozen=True, kw_only=True)
class AccessCost:
    """The mean cost of windows, as a sum of products with one factor for each axis.

    ``weights @ prod(factors of each axis)``: that is what lets whole grids of
    chunk shapes be priced with a matrix product. The terms, each with one row
    per window, are chunks and elements; or, where only the wanted part is
    read, chunks, wanted elements and the ways in which a run can end.
    """

    shape: Shape
    """Extents of the array, each at least 1."""
    windows: tuple[Window, ...]
    """What readers ask for."""
    itemsize: int
    """Bytes per element."""
    overheads: Overheads
    """What reading costs beside bytes."""

    def weights(self) -> Floats:
        """Return the coefficient of each row."""
        wanted = np.array([math.prod(w.shape) for w in self.windows], float) * self.itemsize
        share = np.array([w.weight for w in self.windows])
        alone = self.overheads.chunk_nbytes + self.overheads.run_nbytes + wanted
        each = share / share.sum() / alone
        coefficients = [self.overheads.chunk_nbytes, self.itemsize]
        if not self.overheads.whole_chunks:
            coefficients += [self.overheads.run_nbytes] * (len(self.shape) + 1)
        return np.outer(coefficients, each).ravel()

    def factors(self, axis: int, extents: Sequence[int]) -> Floats:
        """Return the factor of each row for some chunk extents along one axis."""
        end = self.shape[axis]
        # Machine integers where they hold the sums, Python's where they would not.
        kind: Any = np.int64 if end < _MACHINE_EXTENT else object
        window = np.array([[w.shape[axis]] for w in self.windows], kind)
        chunk = np.array([extents], kind)
        places = end - window + 1
        touched_sums = touched_sum(end, window, chunk)
        touched = _float(touched_sums / places)
        if self.overheads.whole_chunks:
            elements = elements_sum(end, window, chunk, touched_sums)
            return np.concatenate([touched, _float(elements / places)])
        matched = _float(matched_sum(end, window, chunk) / places)
        rows = np.broadcast_to(_float(window), touched.shape)
        # Runs end at an axis where chunk and window differ: along the axes before it each
        # row is a run of its own, along those after it all is one run.
        ends = [
            rows if axis < ending else touched - matched if axis == ending else matched
            for ending in range(len(self.shape))
        ]
        return np.concatenate([touched, rows, *ends, matched])

    def mean(self, chunk: Shape) -> float:
        """Return the mean cost of a chunk shape; 1.0 is each window in one piece."""
        rows = self.weights()
        for axis, edge in enumerate(chunk):
            rows = rows * self.factors(axis, [edge])[:, 0]
        return float(rows.sum())


def _float(numbers: npt.NDArray[Any]) -> Floats:
    return numbers.astype(np.float64)


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
