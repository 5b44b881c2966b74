"""Chunks of arrays that will grow: larger than what is there on the first day.

An axis that may grow counts as long as it would have to be for its chunks to
fill up, or as long as it may get.
"""

import math
from dataclasses import replace

from lazyio.errors import PlanError
from lazyio.planning.budget import Budget
from lazyio.planning.chunks import DEFAULT_CHUNK_NBYTES
from lazyio.planning.facts import Facts, Wishes
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.planning.solve import solve
from lazyio.planning.wishes import chunk_wishes
from lazyio.sizes import format_size
from lazyio.spec import Shape, nbytes_of

Bounds = tuple[int | None, ...]

_N_CHUNKS = 16
"""Chunks that an array without bound is thought to have at least."""


def growing_chunk(facts: Facts, wishes: Wishes, max_shape: Bounds) -> Shape | None:
    """Return the chunk of an array that may grow, ``None`` where its extents decide.

    Parameters
    ----------
    facts : Facts
        The array as it is.
    wishes : Wishes
        What the user asked for.
    max_shape : tuple of int or None
        How far each axis may grow, ``None`` without bound.

    Examples
    --------
    >>> import numpy as np
    >>> facts = Facts(shape=(0, 10), dtype=np.dtype("float64"))
    >>> growing_chunk(facts, Wishes(), (None, 10))
    (13107, 10)
    """
    if not facts.shape or isinstance(wishes.chunks, Plan) or wishes.chunks is True:
        return None
    wanted = _wanted(facts, wishes, max_shape)
    if wanted == facts.shape:
        return None
    later = replace(facts, shape=wanted, edges=None, source_chunk_shape=None, in_rows=False)
    return solve(later, replace(wishes, block_shape=None, access=None)).chunk_shape


def with_chunk(plan: Plan, chunk_shape: Shape, shard_shape: Shape | None = None) -> Plan:
    """Return a plan with chunks that reach beyond the array, and what they take of memory.

    Parameters
    ----------
    plan : Plan
        Whose chunks, or units, are the same but cut at the end of the array.
    chunk_shape : tuple of int
        The chunks as they are stored.
    shard_shape : tuple of int, optional
        The shards as they are stored, where there are any.

    Raises
    ------
    PlanError
        When they do not fit the memory limit.
    """
    unit = shard_shape or chunk_shape
    if chunk_shape == plan.chunk_shape and unit == plan.layout.unit_shape:
        return plan
    more = nbytes_of(unit, plan.dtype) - nbytes_of(plan.layout.unit_shape, plan.dtype)
    more = max(0, more)
    alone = Budget(limit_nbytes=plan.memory_limit, workers=plan.workers)
    peak = plan.peak_nbytes + alone.peak_nbytes(block_nbytes=0, chunk_nbytes=more)
    # Parts of chunks have as much less to wait in.
    spared = min(plan.gather_nbytes, max(0, peak - plan.memory_limit))
    if peak - spared > plan.memory_limit:
        msg = (
            f"memory_limit={format_size(plan.memory_limit)} is too small for chunks of "
            f"{chunk_shape} {plan.dtype}; the smallest limit that would do is "
            f"memory_limit={peak - spared}"
        )
        raise PlanError(msg)
    layout = Layout(
        shape=plan.shape,
        chunk_shape=chunk_shape,
        shard_shape=shard_shape,
        block_shape=plan.block_shape,
    )
    gather = plan.gather_nbytes - spared
    return replace(plan, layout=layout, peak_nbytes=peak - spared, gather_nbytes=gather)


def _wanted(facts: Facts, wishes: Wishes, max_shape: Bounds) -> Shape:
    """Return the extents by which to choose a chunk."""
    open_axes = [
        bound is None or bound > extent
        for bound, extent in zip(max_shape, facts.shape, strict=True)
    ]
    unclipped = replace(
        facts,
        shape=tuple(2**62 if free else n for free, n in zip(open_axes, facts.shape, strict=True)),
        edges=None,
    )
    fixed = chunk_wishes(wishes.chunks, unclipped, wishes.dims)
    upper = wishes.chunk_nbytes[1] if wishes.chunk_nbytes else DEFAULT_CHUNK_NBYTES[wishes.format]
    n_wanted = _N_CHUNKS * upper // max(1, facts.dtype.itemsize)
    known = math.prod(
        max(1, extent) for extent, free in zip(facts.shape, open_axes, strict=True) if not free
    )
    n_free = sum(free and wish is None for free, wish in zip(open_axes, fixed, strict=True))
    each = math.ceil((n_wanted / known) ** (1 / max(1, n_free)))
    wanted = []
    for extent, bound, free, wish in zip(facts.shape, max_shape, open_axes, fixed, strict=True):
        most = each if wish is None else wish
        grown = max(extent, most if bound is None else min(bound, most))
        wanted.append(grown if free else extent)
    return tuple(wanted)
