"""The slab that is being filled, those that are being written, and the buffers they use."""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.errors import OptionError
from lazyio.grid import touched
from lazyio.pushing.place import Opened
from lazyio.pushing.pool import Pool

Array = npt.NDArray[Any]

_MOST_WAIT = 0.002
"""Seconds to wait for a slab that is being written, before there is another."""


class Slabs:
    """Elements on their way to whole rows of chunks."""

    def __init__(self, name: str, opened: Opened, pool: Pool, *, n_buffers: int) -> None:
        self.name = name
        self._opened = opened
        self._pool = pool
        self._n_buffers = self._most_buffers = n_buffers
        self._lock = threading.Lock()
        self._grow_lock = threading.Lock()
        self._is_closed = False
        self._size = 0
        self._free: queue.SimpleQueue[Array] = queue.SimpleQueue()
        self._n_made = 0
        self._block: Array | None = None
        self._elements: Array = np.empty(0)
        # Of the slab that is filled: its first element, how many there are, have room, are written.
        self._start = opened.length // opened.unit * opened.unit
        self._filled = self._room = self._written = 0
        self._told = self._pending = opened.length

    @property
    def _length(self) -> int:
        return max(self._opened.length, self._start + self._filled)

    def fit(self, n_elements: int, most_buffers: int) -> None:
        """Use slabs of so many elements from now on, whole rows of chunks, and so many at most."""
        with self._lock:
            self._most_buffers = most_buffers
            if n_elements == self._size:
                return
            self._size = n_elements
            # Buffers of the other size are let go of, as soon as they are written.
            self._free, self._n_made = queue.SimpleQueue(), 0
            if self._block is None:
                return
            n_whole = self._filled // self._opened.unit * self._opened.unit
            if n_whole > self._written:
                self._submit(self._block, self._start + n_whole, _nothing)
            # What is left is less than a row of chunks, which every slab has room for.
            rest = self._elements[n_whole : self._filled]
            self._start += n_whole
            self._block = self._buffer()
            self._elements = np.moveaxis(self._block, self._opened.axis, 0)
            self._elements[: len(rest)] = rest
            self._filled, self._room, self._written = len(rest), n_elements, 0

    def hand_over(self) -> bool:
        """Have all written that was appended so far, and let what comes later wait for it."""
        with self._lock:
            length = self._length
            if length == self._told:
                return False
            unit = self._opened.unit
            # What a flush that readers delayed has had written is not written again.
            if self._block is not None and self._filled > self._written and length != self._pending:
                self._submit(self._block, length, _nothing)
                self._written = self._filled // unit * unit
            self._pool.hold(self)
            self._pending = length
        return True

    def has_told(self) -> None:
        """Take note that readers see what was handed over."""
        self._told = self._pending

    def stop(self, *, is_closed: bool) -> None:
        """Let the next append find out that it cannot go on."""
        # Without the lock, which an append has that waits for a buffer.
        self._is_closed = self._is_closed or is_closed
        self._room = 0

    def _fill(self, elements: Array) -> None:
        """Put elements, the axis of growth first, into as many slabs as it takes; locked."""
        begin, n_elements = 0, len(elements)
        while begin < n_elements or self._is_closed:
            if self._filled >= self._room:
                self._begin()
            at, room = self._filled, self._size
            stop = min(room, at + n_elements - begin)
            end = begin + stop - at
            self._elements[at:stop] = elements[begin:end]
            self._filled, begin = stop, end
            if stop == room:
                self._turn()

    def _begin(self) -> None:
        """Take a buffer to fill, as soon as there is one."""
        if self._is_closed:
            msg = f"{self.name} is closed; open it again with lazyio.writer to go on"
            raise OptionError(msg)
        self._pool.check()
        block = self._buffer()
        self._pool.check()
        self._elements = np.moveaxis(block, self._opened.axis, 0)
        head, length = self._opened.head, self._opened.length
        if head is not None and self._start < length:
            self._filled = length - self._start
            block[(slice(None),) * self._opened.axis + (slice(0, self._filled),)] = head
        most = self._opened.most
        room = self._size if most is None else min(self._size, most - self._start)
        self._block, self._room = block, room

    def _buffer(self) -> Array:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            if self._n_made >= self._n_buffers:
                # One that was used is in the processor's cache; a new one is taken when the disk
                # does not keep up, so that an acquisition loop need not wait while there is room.
                with contextlib.suppress(queue.Empty):
                    wait = None if self._n_made >= self._most_buffers else _MOST_WAIT
                    return self._free.get(timeout=wait)
        self._n_made += 1
        return np.empty(self._opened.with_length(self._size), self._opened.target.dtype)

    def _turn(self) -> None:
        """Have the slab that is full written, and begin another when something comes."""
        block, free, stop = self._block, self._free, self._start + self._filled
        if block is not None:
            self._submit(block, stop, lambda: free.put(block))
        self._block = None
        self._start, self._filled, self._room, self._written = stop, 0, 0, 0

    def _submit(self, block: Array, stop: int, done: Callable[[], object]) -> None:
        """Have the elements of a slab written that are not yet, as far as some one."""
        start, first = self._start, self._start + self._written
        self._pool.submit(
            self, lambda workspace: self._write(block, start, first, stop, workspace), done
        )

    def _write(self, block: Array, start: int, first: int, stop: int, workspace: Workspace) -> None:
        """Write some of the elements of a slab, from the beginning of a row of chunks on."""
        opened = self._opened
        target, axis = opened.target, opened.axis
        with self._grow_lock:
            if stop > target.shape[axis]:
                target.grow(opened.with_length(stop))
        region = [slice(0, extent) for extent in target.shape]
        region[axis] = slice(first, stop)
        part = block[(slice(None),) * axis + (slice(first - start, stop - start),)]
        for index, _, inside in touched(tuple(region), target.chunk_shape):
            target.write_chunk(index, part[inside], workspace)


def _nothing() -> None:
    """Do nothing: the buffer is still being filled, or not used again."""
