"""A plan by HDMF's rules: one buffer at a time, its limit for that buffer alone."""

import math

from lazyio.errors import OptionError, PlanError
from lazyio.planning.given import Given
from lazyio.planning.hdmf import (
    BLOCK_NBYTES,
    CHUNK_NBYTES,
    hdmf_block_shape,
    hdmf_chunk_shape,
)
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.planning.remarks import advice_on
from lazyio.planning.wishes import MAX_CHUNK_NBYTES


def solve_hdmf(given: Given) -> Plan:
    """Return HDMF's shapes; its limit is for one buffer, and there is one."""
    facts, wishes, fixed = given.facts, given.wishes, given.chunk
    if given.shard is not None:
        msg = f'shards={wishes.shards!r}: HDMF has no shards, leave out strategy="hdmf"'
        raise OptionError(msg)
    if any(wish is not None for wish in fixed) and not all(fixed):
        msg = f'chunks={wishes.chunks!r}: strategy="hdmf" takes all extents or none'
        raise OptionError(msg)
    itemsize = max(1, facts.dtype.itemsize)
    chunk_nbytes = wishes.chunk_nbytes[1] if wishes.chunk_nbytes else CHUNK_NBYTES
    chunk_nbytes = min(chunk_nbytes, MAX_CHUNK_NBYTES)
    limit = wishes.memory_limit or BLOCK_NBYTES
    whole = tuple(max(1, extent) for extent in facts.shape)
    empty = not facts.shape or 0 in facts.shape
    if fixed and all(wish is not None for wish in fixed):
        chunk = tuple(wish or 1 for wish in fixed)
    else:
        chunk = whole if empty else hdmf_chunk_shape(facts.shape, itemsize, chunk_nbytes)
    block = wishes.block_shape
    if block is None:
        block = whole if empty else hdmf_block_shape(facts.shape, chunk, itemsize, limit)
    if math.prod(block) * itemsize > limit:
        msg = (
            f"one chunk of {chunk} {facts.dtype} is larger than memory_limit={limit}; the "
            f"smallest limit that would do is memory_limit={math.prod(block) * itemsize}"
        )
        raise PlanError(msg)
    layout = Layout(shape=facts.shape, chunk_shape=chunk, block_shape=block)
    return Plan(
        layout=layout,
        dtype=facts.dtype,
        format=wishes.format,
        workers=1,
        memory_limit=limit,
        limit_is_auto=wishes.limit_is_auto,
        peak_nbytes=math.prod(block) * itemsize,
        advice=advice_on(given, layout, None),
        reasons=('shapes as HDMF computes them (strategy="hdmf"), one buffer at a time',),
    )
