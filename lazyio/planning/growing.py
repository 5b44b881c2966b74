"""Chunks that reach beyond an array: one that is to grow, or is part of a larger one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazyio.errors import PlanError
from lazyio.planning.budget import Budget
from lazyio.planning.plan import Plan
from lazyio.planning.solver import solve_chunk_shape
from lazyio.sizes import format_size
from lazyio.spec import Shape, is_integer

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
        msg = (
            f"memory_limit={format_size(plan.memory_limit)} ({plan.memory_limit} bytes) is too "
            f"small for chunks of {chunk_shape} {plan.dtype} with {workers} "
            f"worker{'s' if workers > 1 else ''}; the smallest limit that would do is "
            f"memory_limit={workers * each}"
        )
        raise PlanError(msg)
    gather = min(plan.gather_nbytes, (plan.memory_limit - workers * each) // 2)
    return replace(
        plan,
        layout=replace(plan.layout, chunk_shape=chunk_shape),
        workers=workers,
        gather_nbytes=gather,
        peak_nbytes=workers * each + gather,
    )
