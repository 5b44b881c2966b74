"""The manifest of a dataset: where each of its chunks lies, on disk where they are very many.

A row takes 24 bytes, so that a million chunks would take 24 MB of a memory limit that may
be smaller. Beyond some thousand rows they go to a file without a name, and come back by pages.
"""

import array
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.spill import Spill

Rows = npt.NDArray[Any]

ROW = np.dtype([("key", "<i8"), ("address", "<i8"), ("nbytes", "<u4"), ("mask", "<u4")])
"""Flat position in the grid of chunks, address and bytes in the file, filters left out."""
_NO_ROWS, _NO_KEYS = np.empty(0, ROW), np.empty(0, np.int64)
_PAGE = 4096
"""Rows that are read at once."""
_MOST_IN_MEMORY = 4 * _PAGE
_MOST_PAGES = 4
"""Of a file that stay in memory; threads that read in order use one each."""


class Manifest:
    """Rows of chunks that are stored, in the order of their positions."""

    def __init__(self, rows: Rows, spill: Spill | None = None, first_keys: Rows = _NO_KEYS) -> None:
        self._rows = rows
        self._spill = spill
        self._first_keys = first_keys
        self._pages: OrderedDict[int, Rows] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows) if self._spill is None else len(self._spill)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, at most."""
        if self._spill is None:
            return int(self._rows.nbytes)
        return int(self._first_keys.nbytes) + _MOST_PAGES * _PAGE * ROW.itemsize

    def find(self, key: int) -> tuple[int, int, int] | None:
        """Return address, bytes and filter mask of a chunk, ``None`` if it is not stored."""
        rows, at = self._at(key)
        if at == len(rows) or rows["key"][at] != key:
            return None
        _, address, nbytes, mask = rows[at].tolist()
        return address, nbytes, mask

    def n_between(self, begin: int, end: int) -> int:
        """Return how many chunks are stored from one position to before another."""
        return self._rank(end) - self._rank(begin)

    def keys_between(self, begin: int, end: int) -> Iterator[Rows]:
        """Yield the positions of those, some thousand at a time."""
        first, last = self._rank(begin), self._rank(end)
        while first < last:
            page, at = divmod(first, _PAGE)
            rows = self._page(page)[at : at + last - first]
            yield rows["key"]
            first += len(rows)

    def _rank(self, key: int) -> int:
        """Return how many chunks are stored before a position."""
        if self._spill is None:
            return int(np.searchsorted(self._rows["key"], key))
        page = max(0, int(np.searchsorted(self._first_keys, key, "right")) - 1)
        return page * _PAGE + int(np.searchsorted(self._page(page)["key"], key))

    def _at(self, key: int) -> tuple[Rows, int]:
        if self._spill is None:
            rows = self._rows
        else:
            page = int(np.searchsorted(self._first_keys, key, "right")) - 1
            rows = self._page(max(0, page))
        return rows, int(np.searchsorted(rows["key"], key))

    def _page(self, number: int) -> Rows:
        if self._spill is None:
            return self._rows[number * _PAGE : (number + 1) * _PAGE]
        with self._lock:
            if (held := self._pages.get(number)) is not None:
                self._pages.move_to_end(number)
                return held
        found = self._spill.read(number * _PAGE, (number + 1) * _PAGE)
        with self._lock:
            self._pages[number] = found
            while len(self._pages) > _MOST_PAGES:
                self._pages.popitem(last=False)
        return found


NOTHING = Manifest(_NO_ROWS)


class ManifestMaker:
    """Takes rows in any order, and makes a manifest of them."""

    def __init__(self) -> None:
        self._waiting: list[Rows] = []
        self._n_waiting = 0
        self._spill: Spill | None = None
        self._first_keys = array.array("q")
        self._last_key = -1
        self._is_sorted = True

    def add(self, keys: Rows, places: Rows) -> None:
        """Take positions, and for each of them address, bytes and filter mask."""
        rows = np.empty(len(keys), ROW)
        rows["key"] = keys
        rows["address"] = places[:, 0]
        # No chunk is larger, whatever a damaged file says of one.
        rows["nbytes"] = np.minimum(places[:, 1], 2**32 - 1)
        rows["mask"] = places[:, 2]
        if len(keys):
            is_next = int(keys[0]) > self._last_key and bool((keys[1:] > keys[:-1]).all())
            self._is_sorted = self._is_sorted and is_next
            self._last_key = int(keys[-1])
        self._waiting.append(rows)
        self._n_waiting += len(rows)
        # What has to be sorted stays in memory: only one kind of index lists chunks so.
        if self._is_sorted and self._n_waiting > _MOST_IN_MEMORY:
            self._write_out(keeping=self._n_waiting % _PAGE)

    def finish(self) -> Manifest:
        """Return what was added."""
        if self._spill is not None and self._is_sorted:
            self._write_out(keeping=0)
        if self._spill is not None and self._is_sorted:
            return Manifest(_NO_ROWS, self._spill, np.array(self._first_keys, np.int64))
        written = _NO_ROWS if self._spill is None else self._spill.read(0, len(self._spill))
        rows = np.concatenate([written, *self._waiting])
        if not self._is_sorted:
            rows.sort(order="key")
        return Manifest(rows)

    def _write_out(self, *, keeping: int) -> None:
        """Write whole pages to a file, but for the last rows."""
        rows = np.concatenate([_NO_ROWS, *self._waiting])
        out, kept = rows[: len(rows) - keeping], rows[len(rows) - keeping :]
        try:
            self._spill = self._spill or Spill(ROW)
            self._spill.append(out)
        except OSError:
            # No room for it: memory then has to do.
            self._is_sorted = False
            return
        self._first_keys.extend(out["key"][::_PAGE].tolist())
        self._waiting, self._n_waiting = [kept.copy()], len(kept)
