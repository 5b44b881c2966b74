"""Cells in memory: those used last, as many as a limit allows, each loaded by one thread."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from lazyio.dtypes import is_text
from lazyio.regions import Region
from lazyio.windowing.buffers import Buffers
from lazyio.windowing.grid import Grid

Array = npt.NDArray[Any]
Held = tuple[int, int, Array, int]
"""A cell that was used: the positions on axis 0 between which it lies, it, and its number."""


class Cells:
    """The cells of an array that are in memory.

    A cell in use is pinned, and stays. Loading one takes room for what decodes it, too.
    A thread never waits for room while it has pinned a cell, so that none waits for ever.
    """

    def __init__(
        self,
        grid: Grid,
        load: Callable[[Region, Array | None], Array],
        *,
        itemsize: int,
        room: int,
        decode_nbytes: int,
        n_loads: int,
        is_resident: bool,
        buffer_nbytes: int,
    ) -> None:
        self.grid = grid
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self.seen: dict[int, Held] = {}
        """Cells that a reader has used; each is taken out before its memory is used again."""
        self.near: Held | None = None
        """The one that rows were taken from last, which stays longest without being touched."""
        self.passing_nbytes: int | None = None
        """That are held where reads pass by in order, and leave behind what is of little use."""
        self.nbytes_read = 0
        self._load = load
        # What is in memory anyway takes none.
        self._itemsize = 0 if is_resident else itemsize
        self._room = room
        self._decode_nbytes = decode_nbytes
        self._n_set_aside = n_loads
        self._n_loads = 0
        self._buffer_nbytes = buffer_nbytes
        self._spare = self._new_buffers()
        self._buffers: dict[int, Array] = {}
        self._held: OrderedDict[int, Array] = OrderedDict()
        self._nbytes: dict[int, int] = {}
        self._pins: dict[int, int] = {}
        self._loading: dict[int, int] = {}
        self._held_nbytes = 0
        self._in_flight_nbytes = 0

    def pin_present(self, numbers: Iterable[int]) -> dict[int, Array]:
        """Return those of some cells that are in memory, all of which are to be unpinned."""
        with self.lock:
            found = {number: self._held[number] for number in numbers if number in self._held}
            for number, array in found.items():
                self._use(number, array)
            return found

    def pin(self, number: int) -> Array:
        """Return a cell, loaded if it has to be; it is to be unpinned."""
        with self.lock:
            while number not in self._held:
                if number not in self._loading and self._make_room(number, spares_unseen=False):
                    break
                self._changed.wait()
            else:
                return self._use(number, self._held[number])
        return self._fetch(number, pins=True)

    def unpin(self, numbers: Iterable[int]) -> None:
        """Let go of cells."""
        with self.lock:
            for number in numbers:
                self._pins[number] -= 1
                if not self._pins[number]:
                    del self._pins[number]
            self._changed.notify_all()

    def load_ahead(self, number: int) -> bool:
        """Load a cell that may be needed soon; return whether there was room for it."""
        with self.lock:
            if number in self._held or number in self._loading:
                return True
            if not self._make_room(number, spares_unseen=True):
                return False
        self._fetch(number, pins=False)
        return True

    def touch(self, number: int) -> Held | None:
        """Return a cell that was used before, if it is in memory; the lock is held."""
        found = self.seen.get(number)
        if found is not None:
            self._held.move_to_end(number)
            self.near = found
        return found

    def numbers(self) -> set[int]:
        """Return the cells that are in memory."""
        with self.lock:
            return set(self._held)

    def fits(self, nbytes: int) -> bool:
        """Return whether there is room for some bytes without any cell going."""
        with self.lock:
            taken = self._held_nbytes + self._in_flight_nbytes
            return taken + nbytes <= self._room

    @contextmanager
    def reading_past(self, nbytes: int) -> Iterator[None]:
        """Have room for decoding what goes past the cells, and count its bytes."""
        with self.lock:
            while (taken := self._take(0, spares_unseen=False)) is None:
                self._changed.wait()
        try:
            yield
        finally:
            with self.lock:
                self.nbytes_read += nbytes
                self._give_back(taken)

    def absent(self, numbers: Iterable[int]) -> list[int]:
        """Return those of some cells that are not in memory."""
        with self.lock:
            return [number for number in numbers if number not in self._held]

    def clear(self) -> None:
        """Forget all cells."""
        with self.lock:
            self._held.clear()
            self._nbytes.clear()
            self._buffers.clear()
            self._spare = self._new_buffers()
            self.seen.clear()
            self.near = None
            self._held_nbytes = 0

    def cell_nbytes(self, number: int) -> int:
        """Return the bytes that a cell takes, without text that lies elsewhere."""
        if self._buffer_nbytes:
            return self._buffer_nbytes
        nbytes = self._itemsize
        for part in self.grid.region(number):
            nbytes *= part.stop - part.start
        return nbytes

    def _use(self, number: int, array: Array) -> Array:
        self._held.move_to_end(number)
        self._pins[number] = self._pins.get(number, 0) + 1
        if number not in self.seen:
            rows = (*self.grid.region(number), slice(0, 0))[0]
            self.seen[number] = rows.start, rows.stop, array, number
        return array

    def _make_room(self, number: int, *, spares_unseen: bool) -> bool:
        """Take room for loading a cell, if there is any."""
        taken = self._take(self.cell_nbytes(number), spares_unseen=spares_unseen)
        if taken is None:
            return False
        self._loading[number] = taken
        if self._spare is not None:
            self._buffers[number] = self._spare.take()
        return True

    def _take(self, nbytes: int, *, spares_unseen: bool) -> int | None:
        """Let go of what was used the longest ago until there is room, and return what was taken.

        What decodes a cell takes room where more are loaded than that is set aside for. ``None``
        where there is no room yet.
        """
        if self._n_loads >= self._n_set_aside:
            nbytes += self._decode_nbytes
        taken = self._held_nbytes + self._in_flight_nbytes
        needed = taken + nbytes - self._room
        is_enough = self.passing_nbytes is not None and taken + nbytes > self.passing_nbytes
        wanted = nbytes if is_enough else 0
        freed, gone = 0, []
        if self.near is not None:
            self._held.move_to_end(self.near[3])
        newest = next(reversed(self._held), None) if spares_unseen else None
        for one in self._held:
            if freed >= max(needed, wanted):
                break
            is_kept = one in self._pins or (
                spares_unseen and (one not in self.seen or one == newest)
            )
            if not is_kept:
                gone.append(one)
                freed += self._nbytes[one]
        if freed < needed:
            return None
        for one in gone:
            self._let_go(one)
        self._in_flight_nbytes += nbytes
        self._n_loads += 1
        return nbytes

    def _give_back(self, taken: int) -> None:
        self._in_flight_nbytes -= taken
        self._n_loads -= 1
        self._changed.notify_all()

    def _let_go(self, number: int) -> None:
        del self._held[number]
        if self.seen.pop(number, None) is self.near:
            self.near = None
        self._held_nbytes -= self._nbytes.pop(number)
        self._give_back_buffer(number)

    def _new_buffers(self) -> Buffers | None:
        """Return the memory that cells of one size lie in, ``None`` for others."""
        nbytes = self._buffer_nbytes
        return Buffers(nbytes, max(1, self._room // nbytes)) if nbytes else None

    def _give_back_buffer(self, number: int) -> None:
        buffer = self._buffers.pop(number, None)
        if self._spare is not None and buffer is not None:
            self._spare.give_back(buffer)

    def _fetch(self, number: int, *, pins: bool) -> Array:
        try:
            array = self._load(self.grid.region(number), self._buffers.get(number))
        except BaseException:
            with self.lock:
                self._give_back_buffer(number)
                self._give_back(self._loading.pop(number))
            raise
        nbytes = self._buffer_nbytes or (_nbytes_of(array) if self._itemsize else 0)
        with self.lock:
            self._give_back(self._loading.pop(number))
            self.nbytes_read += array.nbytes if self._itemsize else 0
            self._held[number] = array
            self._nbytes[number] = nbytes
            self._held_nbytes += nbytes
            return self._use(number, array) if pins else array


def _nbytes_of(array: Array) -> int:
    """Return the bytes that a cell takes, with the text that it holds."""
    if not is_text(array.dtype):
        return int(array.nbytes)
    return int(array.nbytes) + sum(map(len, array.reshape(-1).tolist()))
