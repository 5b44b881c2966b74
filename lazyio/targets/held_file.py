"""The file object through which libhdf5 writes: metadata held back, places of payloads caught."""

import bisect
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lazyio.safety.redo import superblock_in, write_at
from lazyio.safety.superblock import marked

_LEAST_REGION = 1 << 24


_ZEROS = bytes(1 << 16)

_MOST_ADDRESS = 2**63 - 1
_LARGE_NBYTES = 1 << 16
"""Of data that are no metadata, and go to the file at once."""

HELD_NBYTES = 1 << 20
"""Of what belongs behind the bytes that stay, which is then written; there it harms nobody."""


class Held:
    """Ranges of bytes that have not been written yet, and lie over those of a file.

    Examples
    --------
    >>> held = Held()
    >>> held.put(10, b"abcdef")
    >>> held.drop(12, 2)
    >>> held.put(11, b"X")
    >>> sorted(held.ranges())
    [(10, b'a'), (11, b'X'), (14, b'ef')]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: dict[int, bytes] = {}
        self.nbytes = 0
        """Bytes that are held."""

    def put(self, at: int, data: bytes) -> None:
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

    def take_from(self, at: int) -> Iterator[tuple[int, bytes]]:
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

    def lay_over(self, at: int, view: memoryview) -> None:
        """Put what is held of a range over what a file has there."""
        end = at + len(view)
        first = self._first_touching(at)
        for start in self._starts[first : bisect.bisect_left(self._starts, end)]:
            data = self._parts[start]
            begin, stop = max(at, start), min(end, start + len(data))
            view[begin - at : stop - at] = data[begin - start : stop - start]

    def ranges(self) -> Iterator[tuple[int, bytes]]:
        """Yield all that is held, in the order of the file."""
        return ((start, self._parts[start]) for start in self._starts)

    def _first_touching(self, at: int) -> int:
        first = bisect.bisect_right(self._starts, at)
        if first and self._starts[first - 1] + len(self._parts[self._starts[first - 1]]) > at:
            first -= 1
        return first


class HeldFile:
    """The file object that h5py is given.

    libhdf5 cannot take an exception from it: the first is kept, and from then
    on everything that is written is swallowed.
    """

    def __init__(
        self,
        descriptor: int,
        nbytes: int,
        name: str,
        *,
        keeps_old: bool,
        write: Callable[[memoryview, int], object],
    ) -> None:
        self.held = Held()
        self.end = nbytes
        self.failed: BaseException | None = None
        self._keeps_old = keeps_old
        self._base = nbytes if keeps_old else 0
        self._held_below = 0
        self._descriptor = descriptor
        self._write_through = write
        self._name = name
        self._at = 0
        self._region: Any = None
        self._region_at = 0
        self._region_nbytes = 0
        self._is_catching = False
        self._caught: tuple[int, int, int] | None = None
        self._marked_at: int | None = None

    def follow(self) -> None:
        """Write at once from now on; nothing is held."""
        self._marked_at = superblock_in(self._descriptor)

    def catch(self, nbytes: int) -> memoryview:
        """Return memory of that size whose next write is a payload's place."""
        if nbytes > self._region_nbytes:
            self._grow(nbytes)
        self._caught = None
        self._is_catching = True
        return memoryview(self._region)[:nbytes]

    def caught(self) -> tuple[int, int, int] | None:
        """Return address, bytes, and offset in the region of what was caught."""
        self._is_catching = False
        return self._caught

    def _grow(self, nbytes: int) -> None:
        self._region_nbytes = max(_LEAST_REGION, 1 << (nbytes - 1).bit_length())
        # Never touched, so that it takes no memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._region = mmap.mmap(-1, self._region_nbytes, flags=flags)
        self._region_at = _address_of(self._region)

    def begin_anew(self) -> None:
        """Take all that is held for written: from now on it is part of what was there."""
        self.held = Held()
        self._held_below = 0
        self._base = self.end if self._keeps_old else 0

    # What h5py calls, on whatever thread calls h5py.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset if whence == os.SEEK_SET else self.end + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes; h5py knows file objects by this method, and calls the next."""
        data = bytearray(nbytes)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        """Fill memory from the file and what is held over it."""
        view = memoryview(buffer).cast("B")
        try:
            at, done = self._at, 0
            if at > _MOST_ADDRESS:
                # It goes on after an error with an address that it does not have.
                raise OSError(errno.EIO, "libhdf5 reads where nothing can be")
            while done < len(view):
                read = os.preadv(self._descriptor, [view[done:]], at + done)
                if not read:
                    break
                done += read
            for begin in range(done, len(view), len(_ZEROS)):
                part = view[begin : begin + len(_ZEROS)]
                part[:] = _ZEROS[: len(part)]
            self.held.lay_over(at, view)
        except BaseException as error:  # noqa: BLE001 - libhdf5 cannot take it
            self._fail(error)
        return len(view)

    def write(self, buffer: Any) -> int:
        """Catch a payload's place, or hold metadata."""
        view = memoryview(buffer)
        nbytes = view.nbytes
        try:
            if self.failed is None:
                self._write(view, nbytes)
        except BaseException as error:  # noqa: BLE001 - libhdf5 cannot take it
            self._fail(error)
        return nbytes

    def _write(self, view: memoryview, nbytes: int) -> None:
        at = self._at
        self.end = max(self.end, at + nbytes)
        if self._marked_at is not None:
            write_at(self._descriptor, marked(view, self._marked_at - at), at)
            return
        if self._is_catching:
            offset = _address_of(view) - self._region_at
            if 0 <= offset < self._region_nbytes:
                self._caught = at, nbytes, offset
                self.held.drop(at, nbytes)
                return
        if nbytes >= _LARGE_NBYTES and at >= self._base:
            self._write_through(view, at)
            self.held.drop(at, nbytes)
            return
        self.held.put(at, bytes(view))
        if self.held.nbytes - self._held_below > HELD_NBYTES:
            self._hand_on()

    def _hand_on(self) -> None:
        """Write what is held and lies over nothing that is to stay."""
        for at, data in self.held.take_from(self._base):
            self._write_through(memoryview(data), at)
        self._held_below = self.held.nbytes

    def truncate(self, size: int | None = None) -> int:
        """Remember where the file is to end."""
        self.end = self._at if size is None else size
        return self.end

    def flush(self) -> None:
        """Do nothing: what is held stays held."""

    def __repr__(self) -> str:
        return self._name

    def _fail(self, error: BaseException) -> None:
        if self.failed is None:
            self.failed = error


def _address_of(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])
