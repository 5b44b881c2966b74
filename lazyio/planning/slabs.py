"""Blocks of what comes once: whole elements, as many as make whole rows of chunks."""

import math
from dataclasses import replace

from lazyio.errors import PlanError
from lazyio.planning.budget import Budget
from lazyio.planning.plan import Plan
from lazyio.sizes import format_size

_LARGEST_NBYTES = 4 * 2**20
"""Of a slab of more than one row of chunks: it is encoded while it is in the cache."""


def in_slabs(plan: Plan, axis: int, itemsize: int, *, workers_fixed: bool = False) -> Plan:
    """Return a plan whose blocks are slabs of a stream.

    Examples
    --------
    >>> import lazyio
    >>> plan = lazyio.plan((100000, 64), "i2", chunks=(1000, 16), memory_limit="4 MiB", workers=2)
    >>> in_slabs(plan, 0, 2).block_shape
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
        msg = (
            f"memory_limit={format_size(plan.memory_limit)} ({plan.memory_limit} bytes) is too "
            f"small: {unit[axis]} elements of the stream, which make one row of chunks {unit}, "
            f"with {workers} worker{'s' if workers > 1 else ''} need {needed} bytes; give "
            f"memory_limit={needed}, or shorter chunks"
        )
        raise PlanError(msg)
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
