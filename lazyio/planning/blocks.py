"""Block and shard shapes: whole units, as many as one worker has memory for.

A block that is no multiple of the source's chunk decodes some chunks more
than once. How often has a closed form, independent of their number.

A unit is what is written at once, a chunk or a shard. Two searches:

* In C order, last axis first, whole axes while they fit, then as many units as
  do, spread evenly over the axis. At least half of the room is always used.
* For a source with chunks of its own, over combinations of extents per axis,
  those that cost the fewest repeated reads of the source.

A shard is whole chunks, and may reach over the end of the array. It is encoded
in memory before it is written, so it is no larger than a block; within that
it is large enough to keep the number of files small. It is evened out as blocks
are: the count of shards stays, the largest gets smaller.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape
from lazyio.planning.default_chunks import divisors
from lazyio.planning.request import CheckedRequest, shard_of
from lazyio.regions import grid_shape, n_along, n_boxes

_ACCESS_NBYTES = 4096
"""What fetching a separate run of bytes costs beside the run itself."""
_LONG_RUN_NBYTES = 64 * 2**10
"""From here on that does not count."""


def touches(extent: int, block: int, chunk: int) -> int:
    """Return how many (block, source chunk) pairs overlap along one axis.

    Every block edge or chunk edge starts a new pair; edges that fall together,
    at multiples of the least common multiple, start one only.

    Examples
    --------
    >>> touches(12, 4, 6)
    4
    """
    if extent == 0:
        return 0
    shared = (extent - 1) // math.lcm(block, chunk)
    return n_along(extent, block) + n_along(extent, chunk) - 1 - shared


def elements_read(extent: int, block: int, chunk: int) -> int:
    """Return the elements decoded along one axis when it is read block by block.

    Examples
    --------
    >>> elements_read(12, 4, 6)
    24
    """
    if extent == 0:
        return 0
    last_chunk_start = (extent - 1) // chunk * chunk
    blocks_on_last = n_along(extent, block) - last_chunk_start // block
    padding = last_chunk_start + chunk - extent
    return touches(extent, block, chunk) * chunk - padding * blocks_on_last


def read_amplification(shape: Shape, block: Shape, source_chunk: Shape) -> float:
    """Return elements decoded over elements wanted; 1.0 when nothing is read twice.

    Examples
    --------
    >>> read_amplification((12, 6), (4, 6), (6, 6))
    2.0
    """
    total = math.prod(shape)
    if total == 0:
        return 1.0
    read = math.prod(map(elements_read, shape, block, source_chunk))
    return read / total


def run_amplification(shape: Shape, block: Shape, itemsize: int) -> float:
    """Return the cost of reading blocks of a C-ordered file, 1.0 at best.

    A block that spans the trailing axes is a few long runs. A narrow one is
    many short runs, each of which costs about a page beside its own bytes,
    though never more than reading the whole row that it lies in.

    Examples
    --------
    >>> run_amplification((700000, 384), (1000, 384), 2)
    1.0
    >>> run_amplification((700000, 384), (1000, 1), 2)
    384.0
    """
    run = itemsize
    for extent, edge in zip(reversed(shape), reversed(block), strict=True):
        run *= min(extent, edge)
        if edge < extent:
            row = run // min(extent, edge) * extent
            if run == 0 or run >= _LONG_RUN_NBYTES:
                return 1.0
            return min((run + _ACCESS_NBYTES) / run, row / run)
    return 1.0


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
        n_units = max(1, n_along(shape[axis], unit[axis]))
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


MAX_FILES = 10_000
"""Shards grow until there are no more than that, where the block allows."""
MANY_FILES = 100_000
"""From here on listing and copying a store takes minutes."""
_SHARD_NBYTES = 128 * 2**20
_MAX_INNER_CHUNKS = 65_536


def choose_shard(
    given: CheckedRequest, chunk: Shape, room_nbytes: int, block_nbytes: int
) -> Shape | None:
    """Return the shard: what the user fixed, or one that makes few files."""
    if given.shard is None:
        return None
    shape = given.facts.shape
    if given.shard != "auto":
        return shard_of(given.shard, chunk, shape)
    itemsize = max(1, given.facts.dtype.itemsize)
    total = math.prod(shape) * itemsize
    wanted = min(room_nbytes, block_nbytes, max(_SHARD_NBYTES, total // MAX_FILES))
    free = _filled(shape, chunk, wanted // itemsize, (0,) * len(shape))
    if given.block_steps is None:
        return free
    # Shard edges divide them to stay in one block; where there is no edge inside, anything does.
    pairs = zip(given.block_steps, shape, strict=True)
    steps = tuple(0 if step >= extent else step for step, extent in pairs)
    aligned = _filled(shape, chunk, wanted // itemsize, steps)
    # Cutting across blocks that the array has is worth it only against a flood of files.
    is_flood = n_boxes(shape, aligned) > MANY_FILES
    return free if given.block is None and is_flood else aligned


def _filled(shape: Shape, chunk: Shape, room: int, steps: Shape) -> Shape:
    """Return whole chunks in C order, of at most ``room`` elements but at least one chunk."""
    counts = [1] * len(shape)
    most_chunks = min(_MAX_INNER_CHUNKS, room // math.prod(chunk))
    grid = grid_shape(shape, chunk)
    for axis in reversed(range(len(shape))):
        n_units = max(1, grid[axis])
        fitting = max(1, most_chunks // math.prod(counts))
        if not steps[axis]:
            # As many shards as before, of even size.
            counts[axis] = n_along(n_units, n_along(n_units, min(n_units, fitting)))
        elif steps[axis] % chunk[axis] == 0:
            whole = divisors(steps[axis] // chunk[axis])
            counts[axis] = max(count for count in whole if count <= fitting)
    return tuple(count * step for count, step in zip(counts, chunk, strict=True))
