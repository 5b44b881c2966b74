"""HDMF's GenericDataChunkIterator: its shapes to the digit, and a plan by its rules.

Ported from the behaviour of HDMF 6.2 (``_get_default_chunk_shape`` and
``_get_default_buffer_shape``): chunks keep the array's proportions, buffers
are chunks scaled by one integer. Its roots are floats there; here they are
exact integers.
"""

import math

from lazyio.dtypes import Shape
from lazyio.errors import OptionError, PlanError
from lazyio.planning.access import access_amplification
from lazyio.planning.advice import advice_on
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.planning.request import MAX_CHUNK_NBYTES, CheckedRequest

CHUNK_NBYTES = 10_000_000
"""HDMF's ``chunk_mb=10``."""
BLOCK_NBYTES = 1_000_000_000
"""HDMF's ``buffer_gb=1``."""


def hdmf_chunk_shape(shape: Shape, itemsize: int, chunk_nbytes: int) -> Shape:
    """Return the chunk shape that HDMF chooses.

    Examples
    --------
    >>> hdmf_chunk_shape((20000, 5000), 4, 10_000_000)
    (3160, 790)
    """
    smallest = min(shape)
    ratio = [extent // smallest for extent in shape]
    while math.prod(ratio) * itemsize > chunk_nbytes and math.prod(ratio) != 1:
        divisor = min(extent for extent in ratio if extent != 1)
        ratio = [extent if extent == 1 else extent // divisor for extent in ratio]
    scale = _scale(chunk_nbytes, math.prod(ratio) * itemsize, len(shape))
    return tuple(
        max(1, min(scale * part, extent)) for part, extent in zip(ratio, shape, strict=True)
    )


def hdmf_block_shape(shape: Shape, chunk_shape: Shape, itemsize: int, block_nbytes: int) -> Shape:
    """Return the buffer shape that HDMF chooses.

    Examples
    --------
    >>> hdmf_block_shape((20000, 5000), (3160, 790), 4, 200_000_000)
    (12640, 3160)
    """
    scale = max(1, _scale(block_nbytes, math.prod(chunk_shape) * itemsize, len(shape)))
    return tuple(
        min(scale * chunk, extent) for chunk, extent in zip(chunk_shape, shape, strict=True)
    )


def _scale(budget: int, nbytes: int, ndim: int) -> int:
    """Return the largest k with ``k ** ndim * nbytes <= budget``."""
    scale = int((budget / nbytes) ** (1 / ndim))
    while scale**ndim * nbytes > budget:
        scale -= 1
    while (scale + 1) ** ndim * nbytes <= budget:
        scale += 1
    return scale


def solve_hdmf(given: CheckedRequest) -> Plan:
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
    costs = given.costs(chunk)
    return Plan(
        layout=layout,
        dtype=facts.dtype,
        format=wishes.format,
        workers=1,
        memory_limit=limit,
        limit_is_auto=wishes.limit_is_auto,
        peak_nbytes=math.prod(block) * itemsize,
        access_amplification=access_amplification(costs),
        windows=costs,
        advice=advice_on(given, layout, None),
        reasons=('shapes as HDMF computes them (strategy="hdmf"), one buffer at a time',),
    )
