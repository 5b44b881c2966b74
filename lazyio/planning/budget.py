"""The memory budget: how many bytes a run may hold, as exact integers.

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

from dataclasses import dataclass

COPIES = 2
_DECODE_COPIES = 2
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
