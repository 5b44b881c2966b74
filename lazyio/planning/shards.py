"""Shards: how many chunks go into one object of a Zarr store.

A shard is whole chunks, and may reach over the end of the array. It is encoded
in memory before it is written, so it is no larger than a block; within that
it is large enough to keep the number of files small. It is evened out as blocks
are: the count of shards stays, the largest gets smaller.
"""

import math

from lazyio.grid import grid_shape, n_along, n_boxes
from lazyio.planning.boundaries import common_step
from lazyio.planning.factors import divisors
from lazyio.planning.given import Given
from lazyio.spec import Shape

MAX_FILES = 10_000
"""Shards grow until there are no more than that, where the block allows."""
MANY_FILES = 100_000
"""From here on listing and copying a store takes minutes."""
_SHARD_NBYTES = 128 * 2**20
_MAX_INNER_CHUNKS = 65_536


def choose_shard(given: Given, chunk: Shape, room_nbytes: int, block_nbytes: int) -> Shape | None:
    """Return the shard: what the user fixed, or one that makes few files."""
    if given.shard is None:
        return None
    shape = given.facts.shape
    if given.shard != "auto":
        return tuple(
            max(1, n_along(extent, step)) * step if edge == -1 else edge
            for edge, step, extent in zip(given.shard, chunk, shape, strict=True)
        )
    itemsize = max(1, given.facts.dtype.itemsize)
    total = math.prod(shape) * itemsize
    wanted = min(room_nbytes, block_nbytes, max(_SHARD_NBYTES, total // MAX_FILES))
    free = _filled(shape, chunk, wanted // itemsize, (0,) * len(shape))
    steps = _steps(given)
    if steps is None:
        return free
    aligned = _filled(shape, chunk, wanted // itemsize, steps)
    # Cutting across blocks that the array has is worth it only against a flood of files.
    is_flood = n_boxes(shape, aligned) > MANY_FILES
    return free if given.block is None and is_flood else aligned


def _steps(given: Given) -> Shape | None:
    """Return what shard edges must divide to stay in one block; 0 where nothing."""
    shape = given.facts.shape
    if given.block is not None:
        steps = given.block
    elif given.facts.edges is not None:
        steps = tuple(map(common_step, given.facts.edges, shape))
    else:
        return None
    return tuple(0 if step >= extent else step for step, extent in zip(steps, shape, strict=True))


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
