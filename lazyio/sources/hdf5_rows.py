"""Short reads of whole rows of chunks that no filter was applied to."""

from array import array
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from lazyio.sources.base import Array
from lazyio.sources.files import read_at, read_every, will_need
from lazyio.sources.manifest import Manifest

_PAGE = 4096
"""Addresses that are looked up at once."""
_MOST_PAGES = 32
_MOST_FOUND = 16
"""Chunks that are looked up one by one, before it pays to look up many."""
_ABSENT = -1


@dataclass(frozen=True, kw_only=True)
class RowsOfChunks:
    """Rows that lie in an open file as they are, some in each chunk."""

    descriptor: int
    """Of the file."""
    manifest: Manifest
    """Where the chunks lie, of which each holds whole rows."""
    rows_per_chunk: int
    """Rows of each."""
    row_nbytes: int
    """Bytes of each row."""
    _pages: dict[int, "array[int]"] = field(default_factory=dict, repr=False)
    """Addresses of chunks, those at hand."""
    _found: dict[int, int] = field(default_factory=dict, repr=False)
    """Addresses of the first few that were asked for."""

    is_serial: ClassVar[bool] = False
    is_plain: ClassVar[bool] = True

    def read_rows(self, start: int, out: Array, step: int = 1) -> bool:
        """Fill ``out`` with every so many rows from one on; return whether they were all there."""
        if step > 1:
            return read_every(self.read_rows, start, out, step)
        done, count = 0, len(out)
        while done < count:
            chunk, first = divmod(start + done, self.rows_per_chunk)
            address = self._address_of(chunk)
            if address == _ABSENT:
                return False
            n_here = self._n_rows_from(chunk, address, first + count - done) - first
            part = out if n_here == count else out[done : done + n_here]
            if not read_at(self.descriptor, address + first * self.row_nbytes, part):
                return False
            done += n_here
        return True

    def will_need(self, start: int, stop: int) -> bool:
        """Have the system read the chunks of rows ahead into its own cache."""
        row = start - start % self.rows_per_chunk
        while row < stop:
            chunk = row // self.rows_per_chunk
            address = self._address_of(chunk)
            n_here = self.rows_per_chunk
            if address != _ABSENT:
                n_here = self._n_rows_from(chunk, address, stop - row)
                if not will_need(self.descriptor, address, n_here * self.row_nbytes):
                    return False
            row += n_here
        return True

    def _n_rows_from(self, chunk: int, address: int, most: int) -> int:
        """Return how many rows, at most so many, lie in one run from the first of a chunk on."""
        nbytes, count = self.rows_per_chunk * self.row_nbytes, self.rows_per_chunk
        while count < most:
            chunk, address = chunk + 1, address + nbytes
            if self._address_of(chunk) != address:
                break
            count += self.rows_per_chunk
        return min(count, most)

    def _address_of(self, chunk: int) -> int:
        """Return where a chunk lies, ``_ABSENT`` if it is not stored, or not as it should be."""
        page = self._pages.get(chunk // _PAGE)
        if page is not None:
            return page[chunk % _PAGE]
        if len(self._found) >= _MOST_FOUND:
            return self._looked_up(chunk // _PAGE)[chunk % _PAGE]
        if chunk not in self._found:
            place = self.manifest.find(chunk)
            is_whole = place is not None and place[1] == self.rows_per_chunk * self.row_nbytes
            self._found[chunk] = place[0] if place is not None and is_whole else _ABSENT
        return self._found[chunk]

    def _looked_up(self, number: int) -> "array[int]":
        """Return the addresses of some thousand chunks."""
        first, nbytes = number * _PAGE, self.rows_per_chunk * self.row_nbytes
        found = np.full(_PAGE, _ABSENT, np.int64)
        for rows in self.manifest.rows_between(first, first + _PAGE):
            whole = rows[rows["nbytes"] == nbytes]
            found[whole["key"] - first] = whole["address"]
        if len(self._pages) >= _MOST_PAGES:
            self._pages.clear()
        page = self._pages[number] = array("q", found.tobytes())
        return page
