"""The memory budget: bytes that a run may hold, and the workers that share them, as exact integers.

One number, the user's ``memory_limit``, covers everything in flight at once::

    workers x (copies x block + decode + encode + shard) x 9/8  <=  memory_limit

``copies``
    How often a block stands in memory at once: as it was read, and as the
    result of the user's own work on it.
``decode``
    The compressed and the decoded form of one chunk of the source, or of the
    target where what is there is merged.
``encode``
    One chunk as it is padded, shuffled (with a half and a quarter on the way),
    compressed and given its checksum.
``shard``
    One encoded shard, at most as large as its elements, where Zarr has shards.
``9/8``
    What the allocator keeps beside the arrays themselves, and a shard's index.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from lazyio.errors import PlanError
from lazyio.planning.request import CheckedRequest
from lazyio.units import format_size

Made = TypeVar("Made")

COPIES = 2
_DECODE_COPIES = 2
_LARGEST_LIMIT = 2**60
"""Beyond which nobody looks for a limit that would do."""
ENCODE_COPIES = 4


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What one worker holds at its fullest, in bytes.

    Examples
    --------
    >>> Footprint(block=1000, chunk=500).nbytes
    4000
    """

    block: int = 0
    """A block."""
    chunk: int = 0
    """A chunk that is encoded."""
    decoded: int = 0
    """Chunks that are decoded, of the source or of the target."""
    shard: int = 0
    """A shard that is encoded; 0 without shards."""

    @property
    def nbytes(self) -> int:
        """All of it, with its copies."""
        encode = ENCODE_COPIES * self.chunk + self.shard
        return COPIES * self.block + _DECODE_COPIES * self.decoded + encode


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The bytes that one run may hold, and how many workers share them.

    Examples
    --------
    >>> budget = Budget(limit_nbytes=9000, workers=2)
    >>> budget.peak_nbytes(Footprint(block=1000, chunk=500))
    9000
    >>> budget.room(Footprint(block=1), beside=Footprint(chunk=500))
    1000
    """

    limit_nbytes: int
    """Bytes, upper bound of everything in flight."""
    workers: int
    """Blocks in flight at once."""
    workers_fixed: bool = False
    """Whether the user chose ``workers``."""

    def peak_nbytes(self, each: Footprint) -> int:
        """Return the bytes held when every worker is at its fullest."""
        return -(-self.workers * each.nbytes * 9 // 8)

    def room(self, one: Footprint, *, beside: Footprint) -> int:
        """Return how many times something fits beside what a worker holds; may be negative."""
        share = self.limit_nbytes * 8 // 9 // self.workers
        return (share - beside.nbytes) // one.nbytes

    def at_most(self, workers: int) -> "Budget":
        """Return the budget with no more workers than that, unless the user chose them."""
        if self.workers_fixed or workers >= self.workers:
            return self
        return replace(self, workers=max(1, workers))

    def fit(self, each: Footprint, what: str, *, waiting_nbytes: int = 0) -> "Budget":
        """Return the budget with as many workers as something fits, or refuse the limit."""
        free = self.limit_nbytes - waiting_nbytes
        fitted = self.at_most(free * 8 // max(1, 9 * each.nbytes))
        needed = fitted.peak_nbytes(each) + waiting_nbytes
        if needed > self.limit_nbytes:
            why = (
                f"{what} with {count_of(fitted.workers, 'worker')} needs {needed} bytes "
                f"({format_size(needed)})"
            )
            raise limit_too_small(self.limit_nbytes, why, needed)
        return fitted


DEFAULT_LIMIT = 2**30
USEFUL_CHUNK_NBYTES = 64 * 2**10
"""A chunk that is worth having, where smaller ones would divide given blocks or suit windows."""


def limit_too_small(limit: int, why: str, least: int) -> PlanError:
    """Return the error of a limit into which something does not fit, and one into which it does."""
    error = PlanError(
        f"memory_limit={format_size(limit)} ({limit} bytes) is too small: {why}; "
        f"the smallest limit that would do is memory_limit={least}"
    )
    error.shortage = (limit, why, least)
    return error


def within_limit(make: Callable[[int | None], Made]) -> Made:
    """Make plans; where the limit is too small, find the smallest into which all of them fit.

    What refuses a limit knows what it needs itself, and not what comes after it.
    ``make`` takes the limit to plan for, ``None`` for that of the user.
    """
    try:
        return make(None)
    except PlanError as error:
        if error.shortage is None:
            raise
        low, why, first = error.shortage
        limit, high = low, first
        while not _fits(make, high):
            low, high = high, 2 * high
            if high > _LARGEST_LIMIT:
                raise
        while high - low > 1:
            # The first guess is nearly always the right one.
            middle = high - 1 if high == first else (low + high) // 2
            if _fits(make, middle):
                high = middle
            else:
                low = middle
        raise limit_too_small(limit, why, high) from None


def _fits(make: Callable[[int | None], object], limit: int) -> bool:
    try:
        make(limit)
    except PlanError:
        return False
    return True


def count_of(number: int, what: str) -> str:
    """Return a number with what it counts.

    Examples
    --------
    >>> count_of(1, "worker"), count_of(2, "worker")
    ('1 worker', '2 workers')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def allot(given: CheckedRequest) -> Budget:
    """Return the budget, workers lowered until the least of everything fits."""
    budget = Budget(
        limit_nbytes=given.wishes.memory_limit or DEFAULT_LIMIT,
        workers=given.wishes.workers,
        workers_fixed=given.wishes.workers_fixed,
    )
    return budget.fit(least_footprint(given), _what_is_fixed(given))


def has_given_blocks(given: CheckedRequest) -> bool:
    """Return whether chunks have to find room beside blocks that stand already."""
    return (
        given.block is not None or given.facts.edges is not None or isinstance(given.shard, tuple)
    )


def least_footprint(given: CheckedRequest) -> Footprint:
    """Return what a worker holds of the smallest block, shard and chunk that are allowed."""
    facts = given.facts
    itemsize = max(1, facts.dtype.itemsize)
    unit = given.least_shard or given.least_chunk
    ends = zip(unit, facts.shape, strict=True)
    block = math.prod(min(edge, max(1, extent)) for edge, extent in ends)
    if given.block is not None:
        block = math.prod(given.block)
    elif given.largest_own_block is not None:
        block = max(block, math.prod(given.largest_own_block))
    chunk = math.prod(given.least_chunk) * itemsize
    if not given.is_chunk_fixed and has_given_blocks(given):
        # Smaller ones are not worth having beside blocks that stand.
        chunk = max(chunk, min(USEFUL_CHUNK_NBYTES, block * facts.itemsize))
    shard = 0 if given.least_shard is None else math.prod(given.least_shard) * itemsize
    return Footprint(
        block=block * facts.itemsize,
        chunk=chunk,
        decoded=given.decoded_nbytes,
        shard=chunk if given.shard == "auto" else shard,
    )


def _what_is_fixed(given: CheckedRequest) -> str:
    facts = given.facts
    shard = f", with the encoded shard of {given.shard}," if isinstance(given.shard, tuple) else ""
    if given.block is not None:
        return f"a block of {given.block} {facts.dtype}{shard}"
    if given.largest_own_block is not None:
        return f"the array's own largest block of {given.largest_own_block} {facts.dtype}{shard}"
    if facts.is_part:
        return f"chunks of {given.least_shard or given.least_chunk} {facts.dtype}"
    if shard:
        return f"a shard of {given.shard} {facts.dtype}, held and encoded,"
    least = f"a chunk of at least {given.least_chunk} {facts.dtype}"
    if facts.source_chunk_shape is not None:
        return f"decoding the source's chunk of {facts.source_chunk_shape} for {least}"
    return least
