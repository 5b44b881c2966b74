"""The memory budget: bytes that a run may hold, and the workers that share them, as exact integers.

One number, the user's ``memory_limit``, covers everything in flight at once::

    workers x (copies x block + decode + encode + shard) x 9/8  <=  memory_limit

``copies``
    How often a block stands in memory at once: as it was read, and as the
    result of the user's own work on it.
``decode``
    The compressed and the decoded form of one chunk of the source.
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
from dataclasses import dataclass
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
class Budget:
    """The bytes that one run may hold, and how many workers share them.

    Examples
    --------
    >>> budget = Budget(limit_nbytes=9000, workers=2)
    >>> budget.peak_nbytes(block_nbytes=1000, chunk_nbytes=500)
    9000
    >>> budget.room_nbytes(chunk_nbytes=500)
    1000
    """

    limit_nbytes: int
    """Bytes, upper bound of everything in flight."""
    workers: int
    """Blocks in flight at once."""

    def peak_nbytes(
        self,
        *,
        block_nbytes: int,
        chunk_nbytes: int,
        source_chunk_nbytes: int = 0,
        shard_nbytes: int = 0,
    ) -> int:
        """Return the bytes held when every worker is at its fullest."""
        beside = _beside(chunk_nbytes, source_chunk_nbytes, shard_nbytes)
        return -(-self.workers * (COPIES * block_nbytes + beside) * 9 // 8)

    def room_nbytes(
        self, *, chunk_nbytes: int, source_chunk_nbytes: int = 0, shard_nbytes: int = 0
    ) -> int:
        """Return the largest block in bytes that still fits; may be negative."""
        beside = _beside(chunk_nbytes, source_chunk_nbytes, shard_nbytes)
        return (self._each_nbytes - beside) // COPIES

    def chunk_room_beside(
        self,
        *,
        block_nbytes: int,
        source_chunk_nbytes: int = 0,
        shard_nbytes: int = 0,
        in_shards: bool = False,
    ) -> int:
        """Return the largest chunk in bytes that fits beside a given block; may be negative.

        ``in_shards`` leaves room for a shard of that one chunk.
        """
        held = COPIES * block_nbytes + _beside(0, source_chunk_nbytes, shard_nbytes)
        return (self._each_nbytes - held) // (ENCODE_COPIES + in_shards)

    def chunk_room_nbytes(
        self,
        *,
        itemsize: int = 1,
        held_itemsize: int = 1,
        source_chunk_nbytes: int = 0,
        in_shards: bool = False,
    ) -> int:
        """Return the largest chunk in bytes for which a block of one chunk fits.

        Elements of a block may be wider in memory than on disk. ``in_shards``
        leaves room for a shard of that one chunk.
        """
        element = COPIES * held_itemsize + (ENCODE_COPIES + in_shards) * itemsize
        beside = _beside(0, source_chunk_nbytes, 0)
        return (self._each_nbytes - beside) // element * itemsize

    def shard_room_nbytes(
        self,
        *,
        chunk_nbytes: int,
        itemsize: int = 1,
        held_itemsize: int = 1,
        source_chunk_nbytes: int = 0,
    ) -> int:
        """Return the largest shard in bytes for which a block of one shard fits."""
        beside = _beside(chunk_nbytes, source_chunk_nbytes, 0)
        return (self._each_nbytes - beside) // (COPIES * held_itemsize + itemsize) * itemsize

    @property
    def _each_nbytes(self) -> int:
        return self.limit_nbytes * 8 // 9 // self.workers


def _beside(chunk_nbytes: int, source_chunk_nbytes: int, shard_nbytes: int) -> int:
    """Return the bytes that a worker holds beside its block."""
    return _DECODE_COPIES * source_chunk_nbytes + ENCODE_COPIES * chunk_nbytes + shard_nbytes


DEFAULT_LIMIT = 2**30
USEFUL_CHUNK_NBYTES = 64 * 2**10
"""A chunk that is worth having, where smaller ones would divide given blocks or suit windows."""


class LimitTooSmall(PlanError):
    """A memory limit into which something does not fit, and one into which it does."""

    def __init__(self, limit: int, why: str, least: int) -> None:
        super().__init__(limit, why, least)
        self.limit, self.why, self.least = limit, why, least

    def __str__(self) -> str:
        return (
            f"memory_limit={format_size(self.limit)} ({self.limit} bytes) is too small: "
            f"{self.why}; "
            f"the smallest limit that would do is memory_limit={self.least}"
        )


def within_limit(make: Callable[[int | None], Made]) -> Made:
    """Make plans; where the limit is too small, find the smallest into which all of them fit.

    What refuses a limit knows what it needs itself, and not what comes after it.
    ``make`` takes the limit to plan for, ``None`` for that of the user.
    """
    try:
        return make(None)
    except LimitTooSmall as error:
        low, high = error.limit, error.least
        while not _fits(make, high):
            low, high = high, 2 * high
            if high > _LARGEST_LIMIT:
                raise PlanError(str(error)) from None
        while high - low > 1:
            # The first guess is nearly always the right one.
            middle = high - 1 if high == error.least else (low + high) // 2
            if _fits(make, middle):
                high = middle
            else:
                low = middle
        raise PlanError(str(LimitTooSmall(error.limit, error.why, high))) from None


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
        why = (
            f"{_what_is_fixed(given)} with {count_of(workers, 'worker')} needs {needed} bytes "
            f"({format_size(needed)})"
        )
        raise LimitTooSmall(limit, why, each if not wishes.workers_fixed else needed)
    return budget


def has_given_blocks(given: CheckedRequest) -> bool:
    """Return whether chunks have to find room beside blocks that stand already."""
    return (
        given.block is not None or given.facts.edges is not None or isinstance(given.shard, tuple)
    )


def least_block_nbytes(given: CheckedRequest) -> int:
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


def least_shard_nbytes(given: CheckedRequest) -> int:
    """Return the bytes of the smallest shard; 0 without shards."""
    if given.least_shard is None:
        return 0
    if given.shard == "auto":
        return least_chunk_nbytes(given)
    return math.prod(given.least_shard) * max(1, given.facts.dtype.itemsize)


def least_chunk_nbytes(given: CheckedRequest) -> int:
    """Return the bytes of the smallest chunk that is worth having beside given blocks."""
    least = math.prod(given.least_chunk) * max(1, given.facts.dtype.itemsize)
    if given.is_chunk_fixed or not has_given_blocks(given):
        return least
    return max(least, min(USEFUL_CHUNK_NBYTES, least_block_nbytes(given)))


def _what_is_fixed(given: CheckedRequest) -> str:
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
