"""Chunks that are put together from parts which come in any order."""

import math
from dataclasses import replace

from lazyio.errors import PlanError
from lazyio.planning.budget import Budget
from lazyio.planning.plan import Plan
from lazyio.sizes import format_size
from lazyio.spec import Shape

_REASON = "each chunk is put together in memory, or in scratch, and stored if any part of it comes"
_LEAST_CHUNKS = 2
"""That wait at least: one that is laid over, and one on its way to scratch."""


def in_units(plan: Plan, itemsize: int, *, workers_fixed: bool = False) -> Plan:
    """Return a plan whose blocks are single chunks, or shards, and all other memory is to wait in.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((10**6, 10**6), "f8", chunks=(100, 100), memory_limit="4 MiB")
    >>> scattered = in_units(plan, 8)
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
        msg = (
            f"memory_limit={format_size(limit)} ({limit} bytes) is too small to put chunks of "
            f"{unit} {plan.dtype} together with {workers} worker{'s' if workers > 1 else ''}; "
            f"the smallest limit that would do is memory_limit={peak + least}"
        )
        raise PlanError(msg)
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
