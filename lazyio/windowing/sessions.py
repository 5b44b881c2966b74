"""Files that stay open between reads, one for each thread that reads at the same time."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

from lazyio.sources.base import KeptOpen, OpenedSource, ReadsInto, ReadsRows, Source

_Held = tuple[AbstractContextManager[OpenedSource], OpenedSource]
"""What closes an open file, and what reads from it."""


class Sessions:
    """A source, and its file opened as often as it is read at the same time.

    Opening costs more than a short read.
    """

    def __init__(self, source: Source, most: int) -> None:
        self._source = source
        self._most = most
        self._open = source.opened if isinstance(source, KeptOpen) else None
        self._lock = threading.Lock()
        self._free: list[_Held] = []
        self._rows: ReadsRows | None = None
        self._read_by_rows: _Held | None = None
        self._has_looked = False
        self._n_closed = 0

    @contextlib.contextmanager
    def reader(self) -> Iterator[Source | ReadsInto]:
        """Give what reads the source; it is opened again after an error."""
        source = self._source
        if self._open is None:
            yield source
            return
        with self._lock:
            held = self._free.pop() if self._free else None
            n_closed = self._n_closed
        if held is None:
            opening = self._open()
            held = opening, opening.__enter__()
            held[1].keep_memory()
        try:
            yield held[1]
        except BaseException:
            held[0].__exit__(None, None, None)
            raise
        with self._lock:
            # What was read while all was closed is not kept for anybody.
            if len(self._free) < self._most and n_closed == self._n_closed:
                self._free.append(held)
                return
        held[0].__exit__(None, None, None)

    def rows(self, row_nbytes: int) -> ReadsRows | None:
        """Return what reads whole rows from a file that stays open, if they are read so."""
        if self._open is None:
            return None
        with self._lock:
            if not self._has_looked:
                opening = self._open()
                held = opening, opening.__enter__()
                try:
                    self._rows = held[1].rows(row_nbytes)
                except BaseException:
                    opening.__exit__(None, None, None)
                    raise
                self._has_looked = True
                if self._rows is not None:
                    self._read_by_rows = held
                else:
                    held[1].keep_memory()
                    self._free.append(held)
            return self._rows

    def close(self) -> None:
        """Close every file that nobody is reading."""
        with self._lock:
            held, self._free = self._free, []
            self._n_closed += 1
            if self._read_by_rows is not None:
                held.append(self._read_by_rows)
            self._rows, self._read_by_rows, self._has_looked = None, None, False
        for opening, _ in held:
            opening.__exit__(None, None, None)
