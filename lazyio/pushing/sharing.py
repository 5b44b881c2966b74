"""How arrays that grow at the same time share the memory limit."""

from collections.abc import Sequence

from lazyio.errors import PlanError
from lazyio.planning.budget import ENCODE_COPIES
from lazyio.pushing.place import Opened
from lazyio.sizes import format_size
from lazyio.spec import nbytes_of

_SLAB_NBYTES = 4 * 2**20
"""Of a slab of more than one row of chunks: larger ones leave the cache before they are written."""


def slab_lengths(several: Sequence[Opened], limit_nbytes: int, workers: int) -> list[int]:
    """Return for each array how many elements a slab of it has.

    Of each there are slabs for all workers and one that is filled, and each
    worker encodes one chunk at a time::

        (sum of (workers + 1) x slab  +  workers x encode) x 9/8  <=  memory_limit
    """
    share = _share(several, limit_nbytes, workers)
    return [_length(one, share // (workers + 1)) for one in several]


def slab_counts(
    several: Sequence[Opened], lengths: Sequence[int], limit_nbytes: int, workers: int
) -> list[int]:
    """Return for each array how many slabs of a length there is room for.

    More than all workers have at a time are used while the disk does not keep up.
    """
    share = _share(several, limit_nbytes, workers)
    return [
        max(workers + 1, share // max(1, _row_nbytes(one) * (length // one.unit)))
        for one, length in zip(several, lengths, strict=True)
    ]


def _share(several: Sequence[Opened], limit_nbytes: int, workers: int) -> int:
    """Return the bytes that slabs of one array may take."""
    chunk = max(nbytes_of(one.target.chunk_shape, one.target.dtype) for one in several)
    return (limit_nbytes * 8 // 9 - workers * ENCODE_COPIES * chunk) // len(several)


def workers_within(opened: Opened, limit_nbytes: int, workers: int) -> int:
    """Return how many workers there is memory for, at least one."""
    while workers > 1 and not all(slab_lengths([opened], limit_nbytes, workers)):
        workers -= 1
    return workers


def refuse_overfull(several: Sequence[Opened], limit_nbytes: int, workers: int) -> None:
    """Refuse arrays for which there is no memory."""
    if all(slab_lengths(several, limit_nbytes, workers)):
        return
    chunk = max(nbytes_of(one.target.chunk_shape, one.target.dtype) for one in several)
    row = max(map(_row_nbytes, several))
    each = (workers + 1) * row * len(several)
    needed = -(-(each + workers * ENCODE_COPIES * chunk) * 9 // 8)
    msg = (
        f"memory_limit={format_size(limit_nbytes)} ({limit_nbytes} bytes) is too small for "
        f"{len(several)} arrays, of each of which {workers + 1} rows of chunks are held; give "
        f"memory_limit={needed}, or smaller chunks"
    )
    raise PlanError(msg)


def _length(opened: Opened, room_nbytes: int) -> int:
    row = _row_nbytes(opened)
    n_rows = min(room_nbytes // row, max(1, _SLAB_NBYTES // row))
    return max(0, n_rows) * opened.unit


def _row_nbytes(opened: Opened) -> int:
    return max(1, nbytes_of(opened.with_length(opened.unit), opened.target.dtype))
