"""Plans for one-pass input and for a part of an array."""

import math
from dataclasses import replace

from lazyio.dtypes import Shape
from lazyio.planning.budget import Budget, LimitTooSmall, count_of
from lazyio.planning.plan import Plan, gather_room
from lazyio.regions import Region

_LARGEST_NBYTES = 4 * 2**20
"""Of a slab of more than one row of chunks: it is encoded while it is in the cache."""


def plan_stream(plan: Plan, axis: int, itemsize: int, *, workers_fixed: bool = False) -> Plan:
    """Return a plan whose blocks are slabs of a stream.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((100000, 64), "i2", chunks=(1000, 16), memory_limit="4 MiB", workers=2)
    >>> plan_stream(plan, 0, 2).block_shape
    (6000, 64)
    """
    unit = plan.layout.unit_shape
    row = unit[axis] * _element_nbytes(plan, axis, itemsize)
    shard = 0 if plan.shard_shape is None else math.prod(unit) * plan.dtype.itemsize
    beside = {"chunk_nbytes": plan.chunk_nbytes, "shard_nbytes": shard}
    workers = plan.workers
    while True:
        budget = Budget(limit_nbytes=plan.memory_limit, workers=workers)
        n_rows = budget.room_nbytes(**beside) // row
        if n_rows > 0 or workers == 1 or workers_fixed:
            break
        workers -= 1
    if n_rows < 1:
        needed = budget.peak_nbytes(block_nbytes=row, **beside)
        why = (
            f"{count_of(unit[axis], 'element')} of the stream, which make one row of chunks "
            f"{unit}, with {count_of(workers, 'worker')} need {needed} bytes"
        )
        raise LimitTooSmall(plan.memory_limit, why, needed)
    n_rows = max(1, min(n_rows, _LARGEST_NBYTES // row))
    shape = list(plan.shape)
    shape[axis] = n_rows * unit[axis]
    return replace(
        plan,
        layout=replace(plan.layout, block_shape=tuple(max(1, extent) for extent in shape)),
        workers=workers,
        gather_nbytes=0,
        peak_nbytes=budget.peak_nbytes(block_nbytes=n_rows * row, **beside),
    )


def _element_nbytes(plan: Plan, axis: int, itemsize: int) -> int:
    others = [extent for at, extent in enumerate(plan.shape) if at != axis]
    return max(1, math.prod(others) * max(itemsize, plan.dtype.itemsize))


_REASON = "each chunk is put together in memory, or in scratch, and stored if any part of it comes"
_LEAST_CHUNKS = 2
"""That wait at least: one that is laid over, and one on its way to scratch."""


def plan_assembled(plan: Plan, itemsize: int, *, workers_fixed: bool = False) -> Plan:
    """Return a plan whose blocks are single chunks, or shards, and all other memory is to wait in.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((10**6, 10**6), "f8", chunks=(100, 100), memory_limit="4 MiB")
    >>> scattered = plan_assembled(plan, 8)
    >>> scattered.block_shape, scattered.peak_nbytes <= scattered.memory_limit
    ((100, 100), True)
    """
    unit = plan.layout.unit_shape
    nbytes = math.prod(unit) * max(itemsize, plan.dtype.itemsize)
    beside = {
        "chunk_nbytes": plan.chunk_nbytes,
        "shard_nbytes": 0 if plan.shard_shape is None else math.prod(unit) * plan.dtype.itemsize,
    }
    limit, workers = plan.memory_limit, plan.workers
    least = _LEAST_CHUNKS * nbytes * 9 // 8
    while True:
        peak = Budget(limit_nbytes=limit, workers=workers).peak_nbytes(
            block_nbytes=nbytes, **beside
        )
        if peak + least <= limit or workers == 1 or workers_fixed:
            break
        workers -= 1
    if peak + least > limit:
        why = (
            f"chunks of {unit} {plan.dtype} that are assembled by {count_of(workers, 'worker')} "
            f"need {peak + least} bytes"
        )
        raise LimitTooSmall(limit, why, peak + least)
    return replace(
        plan,
        layout=replace(plan.layout, block_shape=unit),
        workers=workers,
        gather_nbytes=(limit - peak) * 8 // 9,
        peak_nbytes=limit,
        reasons=(*plan.reasons[:1], _REASON),
        read_shape=None,
        n_reads=None,
        edges=None,
    )


def at_shape(plan: Plan, shape: Shape) -> Plan:
    """Return the plan of what has grown, with the extents that it came to."""
    return replace(plan, layout=replace(plan.layout, shape=shape))


def plan_region(plan: Plan, start: Shape) -> Plan:
    """Return a plan whose blocks follow the chunk grid of the array around it.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((100,), "i2", chunks=(10,), block_shape=(30,))
    >>> plan_region(plan, (7,)).edges
    ((23, 30, 30, 17),)
    """
    unit = plan.layout.unit_shape
    offsets = tuple(at % step for at, step in zip(start, unit, strict=True))
    if not any(offsets):
        return plan
    if plan.edges is not None or plan.read_shape is not None:
        gather = plan.gather_nbytes or gather_room(plan, plan.memory_limit - plan.peak_nbytes)
        peak = plan.peak_nbytes - plan.gather_nbytes + gather
        return replace(plan, gather_nbytes=gather, peak_nbytes=peak)
    edges = tuple(
        _edges(extent, block, offset)
        for extent, block, offset in zip(plan.shape, plan.block_shape, offsets, strict=True)
    )
    return replace(plan, edges=edges)


def cuts_chunks(region: Region, shape: Shape, chunk_shape: Shape) -> bool:
    """Return whether a part begins or ends inside a chunk of the array around it.

    Examples
    --------
    >>> cuts_chunks((slice(10, 20),), (25,), (10,)), cuts_chunks((slice(20, 25),), (25,), (10,))
    (False, False)
    >>> cuts_chunks((slice(10, 19),), (25,), (10,))
    True
    """
    return any(
        part.start % chunk or (part.stop % chunk and part.stop < extent)
        for part, extent, chunk in zip(region, shape, chunk_shape, strict=True)
    )


def _edges(extent: int, block: int, offset: int) -> tuple[int, ...]:
    """Return the sizes of blocks along an axis, the first cut short by the offset."""
    if extent <= block:
        return (extent,) if extent else ()
    first = block - offset
    rest = extent - first
    n_whole, last = divmod(rest, block)
    return (first, *([block] * n_whole), *([last] if last else []))
