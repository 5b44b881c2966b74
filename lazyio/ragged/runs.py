"""Which elements to read for some rows: few long runs instead of one read for each row."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

GAP_NBYTES = 16 * 2**10
"""What is read for nothing in the time that another read takes to begin."""
RUN_NBYTES = 4 * 2**20
"""Of one read, unless a single row or two chunks are larger."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Elements that are read at once, and the rows in them."""

    start: int
    """First element."""
    stop: int
    """One beyond the last."""
    rows: Integers
    """Positions of its rows among those that were asked for."""
    is_followed: bool = True
    """Whether another one may begin in the chunk in which it ends: the next, or a later call's."""

    def n_decoded(self, chunk_length: int) -> int:
        """Return how many elements the chunks have that it touches."""
        begin = self.start // chunk_length * chunk_length
        return -(-self.stop // chunk_length) * chunk_length - begin


def runs_of(
    starts: Integers, stops: Integers, *, itemsize: int, chunk_length: int | None = None
) -> Iterator[Run]:
    """Yield runs that hold all rows that are not empty.

    Rows share a run where little lies between them, or where they share a chunk.

    Examples
    --------
    >>> starts, stops = np.array([0, 10**6, 5]), np.array([5, 10**6 + 1, 9])
    >>> [(run.start, run.stop, run.rows.tolist()) for run in runs_of(starts, stops, itemsize=1)]
    [(0, 9, [0, 2]), (1000000, 1000001, [1])]
    """
    order = np.argsort(starts, kind="stable")
    order = order[stops[order] > starts[order]]
    if not len(order):
        return
    begins, reach = starts[order], np.maximum.accumulate(stops[order])
    is_far = (begins[1:] - reach[:-1]) * itemsize > GAP_NBYTES
    if chunk_length is not None:
        # A chunk is decoded as a whole, whatever is wanted of it.
        is_far &= begins[1:] // chunk_length > (reach[:-1] - 1) // chunk_length
    cuts = np.flatnonzero(is_far) + 1
    # The chunk at which a run ends is decoded again for the next one.
    most = max(1, RUN_NBYTES // max(1, itemsize), 2 * (chunk_length or 0))
    for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(order)], strict=True):
        at = first
        while at < last:
            # Rows end in the order of their starts, or lie within each other.
            end = at + int(np.searchsorted(reach[at:last], begins[at] + most, "right"))
            end = max(at + 1, end)
            rows = order[at:end]
            yield Run(
                start=int(begins[at]),
                stop=int(stops[rows].max()),
                rows=rows,
                is_followed=end < last or last == len(order),
            )
            at = end
