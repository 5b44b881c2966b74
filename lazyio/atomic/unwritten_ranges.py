"""Ranges of a file that are to be written, where later ones go over earlier ones."""

import bisect
from collections.abc import Iterator
from typing import Generic, TypeVar

Data = TypeVar("Data", bytes, range)
"""What a range is to hold: bytes, or where those lie elsewhere."""


class UnwrittenRanges(Generic[Data]):
    """Ranges of bytes that have not been written yet, and lie over those of a file.

    Examples
    --------
    >>> held = UnwrittenRanges[bytes]()
    >>> held.put(10, b"abcdef")
    >>> held.drop(12, 2)
    >>> held.put(11, b"X")
    >>> sorted(held.ranges())
    [(10, b'a'), (11, b'X'), (14, b'ef')]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: dict[int, Data] = {}
        self.nbytes = 0
        """Bytes that are held."""

    def put(self, at: int, data: Data) -> None:
        """Hold bytes, in place of any that were held there."""
        there = self._parts.get(at)
        last = self._starts[-1] if self._starts else -1
        if at > last and (last < 0 or at >= last + len(self._parts[last])):
            self._starts.append(at)
            self.nbytes += len(data)
        elif there is None or len(there) != len(data):
            self.drop(at, len(data))
            bisect.insort(self._starts, at)
            self.nbytes += len(data)
        self._parts[at] = data

    def drop(self, at: int, nbytes: int) -> None:
        """Hold nothing in a range any more."""
        end = at + nbytes
        first = self._first_touching(at)
        last = bisect.bisect_left(self._starts, end)
        touched = self._starts[first:last]
        if not touched:
            return
        left = []
        for start in touched:
            data = self._parts.pop(start)
            self.nbytes -= len(data)
            if start < at:
                left.append((start, data[: at - start]))
            if start + len(data) > end:
                left.append((end, data[end - start :]))
        self._starts[first:last] = [start for start, _ in left]
        self._parts.update(left)
        self.nbytes += sum(len(data) for _, data in left)

    def take_from(self: "UnwrittenRanges[bytes]", at: int) -> Iterator[tuple[int, bytes]]:
        """Yield what is held from there on, neighbours as one, and hold it no more.

        What begins before stays, also where it ends behind.
        """
        first = bisect.bisect_left(self._starts, at)
        starts = self._starts[first:]
        del self._starts[first:]
        run: list[bytes] = []
        begin = end = 0
        for start in starts:
            data = self._parts.pop(start)
            self.nbytes -= len(data)
            if run and start != end:
                yield begin, b"".join(run)
                run = []
            begin = begin if run else start
            run.append(data)
            end = start + len(data)
        if run:
            yield begin, b"".join(run)

    def lay_over(self: "UnwrittenRanges[bytes]", at: int, view: memoryview) -> None:
        """Put what is held of a range over what a file has there."""
        end = at + len(view)
        first = self._first_touching(at)
        for start in self._starts[first : bisect.bisect_left(self._starts, end)]:
            data = self._parts[start]
            begin, stop = max(at, start), min(end, start + len(data))
            view[begin - at : stop - at] = data[begin - start : stop - start]

    def ranges(self) -> Iterator[tuple[int, Data]]:
        """Yield all that is held, in the order of the file."""
        return ((start, self._parts[start]) for start in self._starts)

    def _first_touching(self, at: int) -> int:
        first = bisect.bisect_right(self._starts, at)
        if first and self._starts[first - 1] + len(self._parts[self._starts[first - 1]]) > at:
            first -= 1
        return first
