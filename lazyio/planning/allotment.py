"""How many workers share the memory limit: as many as what is fixed leaves room for."""

import math

from lazyio.errors import PlanError
from lazyio.planning.budget import Budget
from lazyio.planning.given import Given
from lazyio.sizes import format_size

DEFAULT_LIMIT = 2**30
USEFUL_CHUNK_NBYTES = 64 * 2**10
"""A chunk that is worth having, where smaller ones would divide given blocks or suit windows."""


def allot(given: Given) -> Budget:
    """Return the budget, workers lowered until the least of everything fits."""
    wishes = given.wishes
    limit = wishes.memory_limit or DEFAULT_LIMIT
    least = {
        "block_nbytes": least_block_nbytes(given),
        "chunk_nbytes": least_chunk_nbytes(given),
        "source_chunk_nbytes": given.source_chunk_nbytes,
        "shard_nbytes": least_shard_nbytes(given),
    }
    each = Budget(limit_nbytes=limit, workers=1).peak_nbytes(**least)
    workers = wishes.workers
    if not wishes.workers_fixed:
        workers = max(1, min(workers, limit // max(1, each)))
    budget = Budget(limit_nbytes=limit, workers=workers)
    needed = budget.peak_nbytes(**least)
    if needed > limit:
        msg = (
            f"memory_limit={format_size(limit)} ({limit} bytes) is too small: "
            f"{_what_is_fixed(given)} with {workers} worker{'s' if workers > 1 else ''} needs "
            f"{needed} bytes ({format_size(needed)}); the smallest limit that would do is "
            f"memory_limit={each if not wishes.workers_fixed else needed}"
        )
        raise PlanError(msg)
    return budget


def has_given_blocks(given: Given) -> bool:
    """Return whether chunks have to find room beside blocks that stand already."""
    return (
        given.block is not None or given.facts.edges is not None or isinstance(given.shard, tuple)
    )


def least_block_nbytes(given: Given) -> int:
    """Return the bytes of the smallest block that what is fixed allows."""
    facts = given.facts
    if given.block is not None:
        return math.prod(given.block) * facts.itemsize
    unit = given.least_shard or given.least_chunk
    least = math.prod(
        min(edge, max(1, extent)) for edge, extent in zip(unit, facts.shape, strict=True)
    )
    if given.largest_own_block is not None:
        least = max(least, math.prod(given.largest_own_block))
    return least * facts.itemsize


def least_shard_nbytes(given: Given) -> int:
    """Return the bytes of the smallest shard; 0 without shards."""
    if given.least_shard is None:
        return 0
    if given.shard == "auto":
        return least_chunk_nbytes(given)
    return math.prod(given.least_shard) * max(1, given.facts.dtype.itemsize)


def least_chunk_nbytes(given: Given) -> int:
    """Return the bytes of the smallest chunk that is worth having beside given blocks."""
    least = math.prod(given.least_chunk) * max(1, given.facts.dtype.itemsize)
    if given.is_chunk_fixed or not has_given_blocks(given):
        return least
    return max(least, min(USEFUL_CHUNK_NBYTES, least_block_nbytes(given)))


def _what_is_fixed(given: Given) -> str:
    facts = given.facts
    shard = f", with the encoded shard of {given.shard}," if isinstance(given.shard, tuple) else ""
    if given.block is not None:
        return f"a block of {given.block} {facts.dtype}{shard}"
    if given.largest_own_block is not None:
        return f"the array's own largest block of {given.largest_own_block} {facts.dtype}{shard}"
    if shard:
        return f"a shard of {given.shard} {facts.dtype}, held and encoded,"
    least = f"a chunk of at least {given.least_chunk} {facts.dtype}"
    if facts.source_chunk_shape is not None:
        return f"decoding the source's chunk of {facts.source_chunk_shape} for {least}"
    return least
