"""The chunk: what the user fixed, and for the rest the search that suits it.

Inside blocks or shards that stand already a chunk divides them, where that
gives one of a useful size. Where windows are known it is the chunk that costs
the least to read them out of, else the one that favours no reader.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazyio.dtypes import Shape, is_integer, nbytes_of
from lazyio.errors import PlanError
from lazyio.planning.access import AccessCost, Bounds, overheads_of
from lazyio.planning.access_search import search_chunk
from lazyio.planning.boundaries import chunk_shape_within, common_step
from lazyio.planning.budget import (
    USEFUL_CHUNK_NBYTES,
    Budget,
    LimitTooSmall,
    count_of,
    has_given_blocks,
    least_block_nbytes,
    least_chunk_nbytes,
    least_shard_nbytes,
)
from lazyio.planning.default_chunks import Choice, raise_to, solve_chunk_shape
from lazyio.planning.plan import Plan
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


def _steps(given: CheckedRequest) -> Shape | None:
    """Return what chunk edges must divide to stay inside one shard or block."""
    facts = given.facts
    if isinstance(given.shard, tuple):
        return given.least_shard
    if given.block is not None:
        return given.block
    if facts.edges is not None:
        return tuple(map(common_step, facts.edges, facts.shape))
    return None


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
    given: CheckedRequest, known: Shape, upper_nbytes: int, steps: list[int | None]
) -> Shape:
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


def growing_chunk_shape(
    plan: Plan, max_shape: Sequence[int | None], asked: Sequence[int | None], upper_nbytes: int
) -> Shape:
    """Return chunks for an array that is to grow.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((10, 64), "i2")
    >>> growing_chunk_shape(plan, (None, 64), (1000, None), 2**20)
    (1000, 64)
    >>> plan = lazyio.plan((0, 64), "i2")
    >>> growing_chunk_shape(plan, (None, 64), (None, None), 2**20)
    (1024, 64)
    """
    expected = []
    fixed: list[int | None] = []
    rows = zip(plan.shape, plan.chunk_shape, max_shape, asked, strict=True)
    for extent, chunk, bound, wish in rows:
        if bound is not None and bound <= extent:
            expected.append(extent)
            fixed.append(chunk)
            continue
        reach = wish if wish is None or bound is None else min(wish, bound)
        least = _EXPECTED if bound is None else min(bound, _EXPECTED)
        expected.append(max(extent or least, reach or 0))
        fixed.append(reach if reach is not None or not extent else chunk)
    if all(fixed):
        return tuple(chunk or 1 for chunk in fixed)
    itemsize = max(1, plan.dtype.itemsize)
    return solve_chunk_shape(tuple(expected), itemsize, upper_nbytes, fixed)


def extents_asked(chunks: Any, ndim: int, dims: Sequence[str] = ()) -> list[int | None]:
    """Return the chunk extents that a user gave, as they are, ``None`` for all others.

    Examples
    --------
    >>> extents_asked({"time": 1000}, 2, ("time", "channel")), extents_asked((-1, 5), 2)
    ([1000, None], [None, 5])
    """
    if isinstance(chunks, Plan):
        chunks = chunks.chunk_shape
    if isinstance(chunks, Mapping):
        names = dims or (None,) * ndim
        keys = [{axis, axis - ndim, name} for axis, name in enumerate(names)]
        chunks = [next((chunks[key] for key in same & chunks.keys()), None) for same in keys]
    if chunks is None or isinstance(chunks, (str, bool)):
        return [None] * ndim
    if is_integer(chunks):
        chunks = [chunks] * ndim
    return [int(chunk) if is_integer(chunk) and chunk > 0 else None for chunk in chunks]


def with_chunks(
    plan: Plan, chunk_shape: Shape, *, n_copies: int = 0, workers_fixed: bool = False
) -> Plan:
    """Return a plan with larger chunks, and the memory that they take.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((10, 64), "i2")
    >>> with_chunks(plan, (1000, 64)).chunk_shape
    (1000, 64)
    """
    nbytes = math.prod(chunk_shape) * plan.dtype.itemsize
    beside = plan.peak_nbytes - plan.gather_nbytes
    more = Budget(limit_nbytes=plan.memory_limit, workers=1).peak_nbytes(
        block_nbytes=0, chunk_nbytes=nbytes - plan.chunk_nbytes
    )
    each = -(-beside // plan.workers) + more + n_copies * nbytes
    workers = plan.workers
    if not workers_fixed:
        workers = max(1, min(workers, plan.memory_limit // max(1, each)))
    if workers * each > plan.memory_limit:
        why = (
            f"chunks of {chunk_shape} {plan.dtype} with {count_of(workers, 'worker')} need "
            f"{workers * each} bytes"
        )
        raise LimitTooSmall(plan.memory_limit, why, workers * each)
    gather = min(plan.gather_nbytes, (plan.memory_limit - workers * each) // 2)
    return replace(
        plan,
        layout=replace(plan.layout, chunk_shape=chunk_shape),
        workers=workers,
        gather_nbytes=gather,
        peak_nbytes=workers * each + gather,
    )
