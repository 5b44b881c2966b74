"""Block shapes: as many whole units as one worker's share of memory holds.

A unit is what is written at once, a chunk or a shard. Two searches:

* In C order, last axis first, whole axes while they fit, then as many units as
  do, spread evenly over the axis. At least half of the room is always used.
* For a source with chunks of its own, over combinations of extents per axis,
  those that cost the fewest repeated reads of the source.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lazyio.grid import n_along, n_boxes
from lazyio.planning.factors import divisors
from lazyio.planning.reads import elements_read, read_amplification
from lazyio.spec import Shape

TASK_NBYTES = 2 * 2**20
"""What one more task costs, as bytes that could have been read instead."""
_LADDER = 1.5
_BINS = 96


def fill_blocks(shape: Shape, unit: Shape, room: int) -> Shape:
    """Return the C-order block of whole units within ``room`` elements.

    Examples
    --------
    >>> fill_blocks((700000, 384), (13000, 96), 32 * 2**20)
    (78000, 384)
    """
    block = [min(step, max(1, extent)) for step, extent in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        others = math.prod(block) // block[axis]
        if others * shape[axis] <= room:
            block[axis] = max(block[axis], shape[axis])
            continue
        n_units = n_along(shape[axis], unit[axis])
        fitting = max(1, room // (others * unit[axis]))
        # As many blocks as before, of even size: the same count, a lower peak.
        even = n_along(n_units, n_along(n_units, fitting))
        block[axis] = min(even * unit[axis], max(1, shape[axis]))
    return tuple(block)


def align_blocks(shape: Shape, unit: Shape, source_chunk: Shape, room: int, itemsize: int) -> Shape:
    """Return the block that costs the least to read from a chunked source.

    Examples
    --------
    >>> align_blocks((780, 144, 192), (30, 144, 192), (1, 144, 192), 2**22, 4)
    (150, 144, 192)
    """
    greedy = fill_blocks(shape, unit, room)
    if read_amplification(shape, greedy, source_chunk) == 1.0 or math.prod(shape) == 0:
        return greedy

    def cost(block: Shape) -> float:
        read = math.prod(map(elements_read, shape, block, source_chunk)) * itemsize
        return read + TASK_NBYTES * n_boxes(shape, block)

    options = [_axis_options(*facts, room) for facts in zip(shape, unit, source_chunk, strict=True)]
    found = _search(shape, source_chunk, options, room, itemsize)
    fitting = [block for block in (*found, greedy) if math.prod(block) <= room or block == greedy]
    return min(fitting, key=cost)


def _axis_options(extent: int, unit: int, source_chunk: int, room: int) -> list[int]:
    """Return block extents worth trying along one axis."""
    n_units = n_along(extent, unit)
    counts = {1, n_units}
    rung = 1.0
    while rung < n_units:
        counts.update((int(rung), n_along(n_units, n_along(n_units, int(rung)))))
        rung *= _LADDER
    shared = math.lcm(unit, source_chunk) // unit
    most = max(1, room // unit)
    for multiple in (1, 2, 3, 4, max(1, most // shared), max(1, most // shared // 2)):
        counts.add(multiple * shared)
    # Just below or above whole source chunks: one chunk is read twice per block.
    for multiple in (1, 2, 4, 8, 16):
        counts.update((source_chunk * multiple // unit, n_along(source_chunk * multiple, unit)))
    counts.update(d for d in divisors(n_units)[:12])
    sizes = {min(count * unit, extent) for count in counts if 1 <= count <= n_units}
    return sorted(size for size in sizes if size <= room) or [min(unit, extent)]


def _search(
    shape: Shape,
    source_chunk: Shape,
    options: Sequence[Sequence[int]],
    room: int,
    itemsize: int,
) -> list[Shape]:
    """Combine axis by axis; keep the cheapest of each size, judged three ways."""
    sizes = np.ones(1)
    reads = np.ones(1)
    counts = np.ones(1)
    picks: list[tuple[int, ...]] = [()]
    for axis, extents in enumerate(options):
        step_reads = [elements_read(shape[axis], e, source_chunk[axis]) for e in extents]
        step_counts = [n_along(shape[axis], e) for e in extents]
        sizes = np.multiply.outer(sizes, np.asarray(extents, float)).ravel()
        reads = np.multiply.outer(reads, np.asarray(step_reads, float)).ravel()
        counts = np.multiply.outer(counts, np.asarray(step_counts, float)).ravel()
        kept = _thin(sizes, reads, counts, room)
        picks = [(*picks[at // len(extents)], extents[at % len(extents)]) for at in kept]
        sizes, reads, counts = sizes[kept], reads[kept], counts[kept]
    cost = reads * itemsize + TASK_NBYTES * counts
    best = itertools.islice(np.argsort(cost), 4)
    return [picks[at] for at in best]


def _thin(
    sizes: npt.NDArray[np.float64],
    reads: npt.NDArray[np.float64],
    counts: npt.NDArray[np.float64],
    room: int,
) -> npt.NDArray[np.intp]:
    """Return the entries to go on with: per size bin the best of three mixes."""
    fits = np.flatnonzero(sizes <= room)
    if len(fits) <= _BINS:
        return fits
    span = math.log(max(2, room))
    bins = (np.log(sizes[fits]) * (_BINS / span)).astype(np.int64)
    log_reads, log_counts = np.log(reads[fits]), np.log(counts[fits])
    kept = []
    for weight in (0.0, 0.3, 1.0):
        order = np.lexsort((log_reads + weight * log_counts, bins))
        first = np.unique(bins[order], return_index=True)[1]
        kept.append(fits[order[first]])
    return np.unique(np.concatenate(kept))
