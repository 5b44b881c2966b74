"""The chunk: what the user fixed, and for the rest the search that suits it.

Inside blocks or shards that stand already a chunk divides them, where that
gives one of a useful size. Where windows are known it is the chunk that costs
the least to read them out of, else the default one.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import PlanError
from lazyio.planning.access import AccessCost, Bounds, overheads_of
from lazyio.planning.access_search import search_chunk
from lazyio.planning.boundaries import chunk_shape_within
from lazyio.planning.budget import (
    USEFUL_CHUNK_NBYTES,
    Budget,
    Footprint,
    has_given_blocks,
    least_footprint,
)
from lazyio.planning.default_chunks import Choice, raise_to, solve_chunk_shape
from lazyio.planning.request import MAX_CHUNK_NBYTES, CheckedRequest

DEFAULT_CHUNK_NBYTES = {"hdf5": 2**20, "zarr": 4 * 2**20}
_LOWER_PART = 4
"""Windows may shrink a chunk to this part of the upper bound: smaller ones cost too many.

In HDF5 to one that is worth having: there a chunk is no file of its own.
"""


def choose_chunk(given: CheckedRequest, budget: Budget) -> Shape:
    """Return the chunk: what is fixed, and the solver's choice for the rest."""
    if given.is_chunk_fixed:
        return _checked_limit(given.least_chunk, given)
    upper = _upper_nbytes(given, budget)
    chosen = _within_blocks(given, upper)
    if chosen is None:
        chosen = solve_chunk_shape(
            given.facts.shape, given.facts.dtype.itemsize, upper, given.chunk
        )
        chosen = _suited(given, _raised(given, chosen, upper), upper)
    chosen = tuple(wish or edge for wish, edge in zip(given.chunk, chosen, strict=True))
    return _checked_limit(_with_room(given, chosen, upper), given)


def _within_blocks(given: CheckedRequest, upper_nbytes: int) -> Shape | None:
    """Return a chunk of a useful size that divides given shards or blocks, if there is any."""
    facts = given.facts
    # What chunk edges must divide to stay inside one shard or block.
    steps = given.least_shard if isinstance(given.shard, tuple) else given.block_steps
    if steps is None:
        return None
    is_open = tuple(_is_open(given, axis, step) for axis, step in enumerate(steps))
    within = chunk_shape_within(
        steps,
        facts.shape,
        facts.dtype.itemsize,
        upper_nbytes,
        given.chunk,
        least_nbytes=_useful_nbytes(given),
        is_open=is_open,
    )
    if within is None:
        return None
    closed = [None if free else step for step, free in zip(steps, is_open, strict=True)]
    return _suited(given, within, upper_nbytes, closed)


def _raised(given: CheckedRequest, chunk: Shape, upper_nbytes: int) -> Shape:
    """Return a chunk of no less than the lower bound, if the user gave one."""
    lower, _ = given.wishes.chunk_nbytes or (None, 0)
    if lower is None:
        return chunk
    itemsize = max(1, given.facts.dtype.itemsize)
    shape = tuple(max(1, extent) for extent in given.facts.shape)
    free = [wish is None for wish in given.chunk]
    return raise_to(chunk, shape, -(-lower // itemsize), upper_nbytes // itemsize, free)


def _upper_nbytes(given: CheckedRequest, budget: Budget) -> int:
    """Return the upper bound of a chunk in bytes, lowered until a block of it fits."""
    facts, wishes = given.facts, given.wishes
    _, upper = wishes.chunk_nbytes or (None, DEFAULT_CHUNK_NBYTES[wishes.format])
    in_shards = given.shard == "auto"
    if has_given_blocks(given):
        # The block stands; its chunks have what is left beside it.
        least = least_footprint(given)
        stands = replace(least, chunk=0, shard=0 if in_shards else least.shard)
        room = budget.room(Footprint(chunk=1, shard=int(in_shards)), beside=stands)
        room = max(room, least.chunk)
    else:
        each = Footprint(
            block=facts.itemsize,
            chunk=facts.dtype.itemsize,
            shard=facts.dtype.itemsize * in_shards,
        )
        beside = Footprint(decoded=given.decoded_nbytes)
        room = budget.room(each, beside=beside) * facts.dtype.itemsize
    return min(upper, max(1, room), MAX_CHUNK_NBYTES)


def _is_open(given: CheckedRequest, axis: int, step: int) -> bool:
    """Return whether any chunk extent keeps to a step along an axis."""
    if isinstance(given.shard, tuple):
        # A shard over the whole axis grows to whole chunks; one of a given extent does not.
        return given.shard[axis] == -1
    return step >= given.facts.shape[axis]


def _useful_nbytes(given: CheckedRequest) -> int:
    """Return the bytes below which a chunk is not worth having for dividing blocks."""
    if given.block is not None or given.shard not in (None, "auto"):
        # Small chunks inside what was asked for.
        return 1
    own = math.prod(max((1, *sizes)) for sizes in given.facts.edges or ())
    lower, _ = given.wishes.chunk_nbytes or (None, 0)
    return max(lower or 1, min(USEFUL_CHUNK_NBYTES, own * given.facts.dtype.itemsize))


def _suited(
    given: CheckedRequest,
    known: Shape,
    upper_nbytes: int,
    steps: Sequence[int | None] | None = None,
) -> Shape:
    """Return the chunk that suits the windows, if any are known; else the known one."""
    shape = tuple(max(1, extent) for extent in given.facts.shape)
    itemsize = max(1, given.facts.dtype.itemsize)
    upper = max(1, upper_nbytes // itemsize)
    if not given.windows or math.prod(given.facts.shape) == 0 or math.prod(known) > upper:
        return known
    choices = [
        Choice(extent=extent, step=step, fixed=fixed)
        for extent, step, fixed in zip(
            shape, steps or [None] * len(shape), given.chunk, strict=True
        )
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
    return search_chunk(cost, choices, Bounds(lower=least, upper=upper), known)


def _checked_limit(chunk: Shape, given: CheckedRequest) -> Shape:
    nbytes = nbytes_of(chunk, given.facts.dtype)
    bounds = given.wishes.chunk_nbytes
    if bounds and nbytes > bounds[1] and math.prod(chunk) > 1:
        msg = (
            f"a chunk of {chunk} {given.facts.dtype} is {nbytes} bytes, over chunk_nbytes="
            f"{bounds[1]}; fix fewer or smaller extents, or raise chunk_nbytes"
        )
        raise PlanError(msg)
    return chunk


_EXPECTED = 1024
"""Elements to expect on an axis that is empty and may grow without bound, as h5py does."""


def _with_room(given: CheckedRequest, chunk: Shape, upper_nbytes: int) -> Shape:
    """Return the chunk, longer along axes that are empty by now and may grow."""
    facts = given.facts
    expected: list[int] = []
    fixed: list[int | None] = []
    for extent, longest, wish, edge in zip(
        facts.shape, facts.longest_chunk, given.chunk, chunk, strict=True
    ):
        is_open = wish is None and not extent and longest > 0
        expected.append(min(_EXPECTED, longest) if is_open else max(extent, edge))
        fixed.append(None if is_open else edge)
    if None not in fixed:
        return chunk
    return solve_chunk_shape(tuple(expected), max(1, facts.dtype.itemsize), upper_nbytes, fixed)
