"""The file object through which libhdf5 writes: metadata held back, places of payloads caught."""

import bisect
import functools
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from lazyio.safety.redo import write_at

_LEAST_REGION = 1 << 24


_ZEROS = bytes(1 << 16)

_METADATA_NBYTES = 1 << 19
"""What libhdf5 keeps of a file's metadata: its own 32 MiB would be as much as a memory limit.

Chunks come about in order, so that no more is needed.
"""


def bound_metadata(file: h5py.File) -> h5py.File:
    """Have libhdf5 keep little of a file's metadata in memory, and return the file."""
    cache = file.id.get_mdc_config()
    cache.max_size = _METADATA_NBYTES
    cache.min_size = min(cache.min_size, _METADATA_NBYTES)
    cache.initial_size = min(cache.initial_size, _METADATA_NBYTES)
    file.id.set_mdc_config(cache)
    return file


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

    def put(self, at: int, data: bytes) -> None:
        """Hold bytes, in place of any that were held there."""
        there = self._parts.get(at)
        if there is None or len(there) != len(data):
            self.drop(at, len(data))
            bisect.insort(self._starts, at)
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
            if start < at:
                left.append((start, data[: at - start]))
            if start + len(data) > end:
                left.append((end, data[end - start :]))
        self._starts[first:last] = [start for start, _ in left]
        self._parts.update(left)

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

    Parameters
    ----------
    descriptor : int
        The file.
    nbytes : int
        Bytes that are there already.
    name : str
        What h5py calls it.
    holds : bool
        Whether what is written is held; else it goes to the file at once.
    write : callable, optional
        Writes bytes at a place, where that is not just to the descriptor.
    """

    def __init__(
        self,
        descriptor: int,
        nbytes: int,
        name: str,
        *,
        holds: bool = True,
        write: Callable[[memoryview, int], object] | None = None,
    ) -> None:
        self.held = Held()
        self.end = nbytes
        self.failed: BaseException | None = None
        self.passes_nbytes: int | None = None
        """Least size of writes beyond what was there that go to the file at once; ``None`` of none.
        """
        self._holds = holds
        self._base = nbytes
        self._descriptor = descriptor
        self._write_through = write or functools.partial(write_at, descriptor)
        self._name = name
        self._at = 0
        self._region: Any = None
        self._region_at = 0
        self._region_nbytes = 0
        self._caught: tuple[int, int, int] | None = None

    def catch(self, nbytes: int) -> memoryview:
        """Return memory of that size whose next write is a payload's place."""
        if nbytes > self._region_nbytes:
            self._grow(nbytes)
        self._caught = None
        return memoryview(self._region)[:nbytes]

    def caught(self) -> tuple[int, int, int] | None:
        """Return address, bytes, and offset in the region of what was caught."""
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
        self._base = self.end

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
        if self._region_nbytes:
            offset = _address_of(view) - self._region_at
            if 0 <= offset < self._region_nbytes:
                self._caught = at, nbytes, offset
                self.held.drop(at, nbytes)
                return
        least = self.passes_nbytes
        is_passed = least is not None and nbytes >= least and at >= self._base
        if is_passed or not self._holds:
            self._write_through(view, at)
            self.held.drop(at, nbytes)
            return
        self.held.put(at, bytes(view))

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
