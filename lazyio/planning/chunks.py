"""The chunk: what the user fixed, and for the rest the search that suits it.

Inside blocks or shards that stand already a chunk divides them, where that
gives one of a useful size. Where windows are known it is the chunk that costs
the least to read them out of, else the one that favours no reader.
"""

import math

from lazyio.errors import PlanError
from lazyio.planning.access import AccessCost, overheads_of
from lazyio.planning.allotment import (
    USEFUL_CHUNK_NBYTES,
    has_given_blocks,
    least_block_nbytes,
    least_chunk_nbytes,
    least_shard_nbytes,
)
from lazyio.planning.boundaries import chunk_shape_within, common_step
from lazyio.planning.budget import Budget
from lazyio.planning.choices import Choice
from lazyio.planning.given import Given
from lazyio.planning.pricing import Bounds
from lazyio.planning.solver import raise_to, solve_chunk_shape
from lazyio.planning.suiting import suit_windows
from lazyio.planning.wishes import MAX_CHUNK_NBYTES
from lazyio.spec import Shape, nbytes_of

DEFAULT_CHUNK_NBYTES = {"hdf5": 2**20, "zarr": 4 * 2**20}
_LOWER_PART = 4
"""Windows may shrink a chunk to this part of the upper bound: smaller ones cost too many.

In HDF5 to one that is worth having: there a chunk is no file of its own.
"""


def choose_chunk(given: Given, budget: Budget) -> Shape:
    """Return the chunk: what is fixed, and the solver's choice for the rest."""
    if given.is_chunk_fixed:
        return _checked_limit(given.least_chunk, given)
    upper = _upper_nbytes(given, budget)
    itemsize = given.facts.dtype.itemsize
    shape = given.facts.shape
    steps = _steps(given)
    if steps is not None:
        is_open = tuple(_is_open(given, axis, step) for axis, step in enumerate(steps))
        least = _useful_nbytes(given)
        within = chunk_shape_within(
            steps, shape, itemsize, upper, given.chunk, least_nbytes=least, is_open=is_open
        )
        if within is not None:
            free_steps = [None if free else step for step, free in zip(steps, is_open, strict=True)]
            return _checked_limit(_suited(given, within, upper, free_steps), given)
    anywhere = _raised(given, solve_chunk_shape(shape, itemsize, upper, given.chunk), upper)
    suited = _suited(given, anywhere, upper, [None] * len(shape))
    return _checked_limit(suited, given)


def _raised(given: Given, chunk: Shape, upper_nbytes: int) -> Shape:
    """Return a chunk of no less than the lower bound, if the user gave one."""
    lower, _ = given.wishes.chunk_nbytes or (None, 0)
    if lower is None:
        return chunk
    itemsize = max(1, given.facts.dtype.itemsize)
    shape = tuple(max(1, extent) for extent in given.facts.shape)
    free = [wish is None for wish in given.chunk]
    return raise_to(chunk, shape, -(-lower // itemsize), upper_nbytes // itemsize, free)


def _upper_nbytes(given: Given, budget: Budget) -> int:
    """Return the upper bound of a chunk in bytes, lowered until a block of it fits."""
    facts, wishes = given.facts, given.wishes
    _, upper = wishes.chunk_nbytes or (None, DEFAULT_CHUNK_NBYTES[wishes.format])
    beside = {"source_chunk_nbytes": given.source_chunk_nbytes}
    if has_given_blocks(given):
        # The block stands; its chunks have what is left beside it.
        is_auto = given.shard == "auto"
        room = budget.chunk_room_beside(
            block_nbytes=least_block_nbytes(given),
            shard_nbytes=0 if is_auto else least_shard_nbytes(given),
            in_shards=is_auto,
            **beside,
        )
        room = max(room, least_chunk_nbytes(given))
    else:
        room = budget.chunk_room_nbytes(
            itemsize=facts.dtype.itemsize,
            held_itemsize=facts.itemsize,
            in_shards=given.shard is not None,
            **beside,
        )
    return min(upper, max(1, room), MAX_CHUNK_NBYTES)


def _steps(given: Given) -> Shape | None:
    """Return what chunk edges must divide to stay inside one shard or block."""
    facts = given.facts
    if isinstance(given.shard, tuple):
        return given.least_shard
    if given.block is not None:
        return given.block
    if facts.edges is not None:
        return tuple(map(common_step, facts.edges, facts.shape))
    return None


def _is_open(given: Given, axis: int, step: int) -> bool:
    """Return whether any chunk extent keeps to a step along an axis."""
    if isinstance(given.shard, tuple):
        # A shard over the whole axis grows to whole chunks; one of a given extent does not.
        return given.shard[axis] == -1
    return step >= given.facts.shape[axis]


def _useful_nbytes(given: Given) -> int:
    """Return the bytes below which a chunk is not worth having for dividing blocks."""
    if given.block is not None or given.shard not in (None, "auto"):
        # Small chunks inside what was asked for.
        return 1
    own = math.prod(max((1, *sizes)) for sizes in given.facts.edges or ())
    lower, _ = given.wishes.chunk_nbytes or (None, 0)
    return max(lower or 1, min(USEFUL_CHUNK_NBYTES, own * given.facts.dtype.itemsize))


def _suited(given: Given, known: Shape, upper_nbytes: int, steps: list[int | None]) -> Shape:
    """Return the chunk that suits the windows, if any are known; else the known one."""
    shape = tuple(max(1, extent) for extent in given.facts.shape)
    itemsize = max(1, given.facts.dtype.itemsize)
    upper = max(1, upper_nbytes // itemsize)
    if not given.windows or math.prod(given.facts.shape) == 0 or math.prod(known) > upper:
        return known
    choices = [
        Choice(extent=extent, step=step, fixed=fixed)
        for extent, step, fixed in zip(shape, steps, given.chunk, strict=True)
    ]
    lower, _ = given.wishes.chunk_nbytes or (None, 0)
    if lower is None:
        least = -(-upper // _LOWER_PART)
        if given.wishes.format == "hdf5":
            least = min(least, -(-USEFUL_CHUNK_NBYTES // itemsize))
    else:
        least = -(-lower // itemsize)
    least = min(least, upper, math.prod(choice.most for choice in choices))
    cost = AccessCost(
        shape=shape,
        windows=given.windows,
        itemsize=itemsize,
        overheads=overheads_of(
            given.wishes.format,
            given.wishes.codec,
            whole_chunks=given.wishes.reads_whole_chunks,
        ),
    )
    return suit_windows(cost, choices, Bounds(lower=least, upper=upper), known)


def _checked_limit(chunk: Shape, given: Given) -> Shape:
    nbytes = nbytes_of(chunk, given.facts.dtype)
    bounds = given.wishes.chunk_nbytes
    if bounds and nbytes > bounds[1] and math.prod(chunk) > 1:
        msg = (
            f"a chunk of {chunk} {given.facts.dtype} is {nbytes} bytes, over chunk_nbytes="
            f"{bounds[1]}; fix fewer or smaller extents, or raise chunk_nbytes"
        )
        raise PlanError(msg)
    return chunk
