"""What it costs to read windows out of chunks, independent of their number.

The cost of a window, as bytes that could have been read instead:

* where whole chunks are decoded, ``chunks x overhead + their bytes``;
* where only the wanted part is read (HDF5 without filters), ``chunks x
  overhead + runs x run + wanted bytes``; a run is what lies together both in
  the chunk and in the memory that the window is read to.

It is divided by the cost of the window in one piece. The objective of a chunk
shape is the weighted mean of these ratios; the mean, because a product would
give up one reader to please another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lazyio.planning.access_windows import Window
from lazyio.planning.overlaps import elements_sum, matched_sum, touched_sum
from lazyio.spec import Shape

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
