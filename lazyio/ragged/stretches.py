"""Stretches of the elements of rows: read where they lie, or decoded, no chunk more than once."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from lazyio.dtypes import nbytes_of
from lazyio.execution.dask_arrays import read_block
from lazyio.ragged.recent import Recent
from lazyio.regions import Region
from lazyio.sources.base import Array, KeptOpen, MayLiePlain, ReadsInto, ReadsRows, Source, Watched

_RECENT_NBYTES = 2**24
"""Of the chunks that are kept."""

_PIECE_NBYTES = 2**18
"""Of what is kept where nothing is decoded."""

Decode = Callable[[int, int, Array | None], Array]
"""Returns elements from one to before another, in memory that is given or other memory."""


class Read(Protocol):
    """What reads one of several stretches."""

    def __call__(self, start: int, stop: int, out: Array | None, *, keeps: bool) -> Array:
        """Do the same as what decodes, and keep the chunk in which they end, if asked to."""


@dataclass(frozen=True, kw_only=True)
class Stretches:
    """Elements along the first axis of an array."""

    values: Source
    """The array."""
    chunks: Recent[Array] = field(
        default_factory=lambda: Recent(_RECENT_NBYTES), repr=False, compare=False
    )
    """Those that were decoded last in which a stretch ended: mostly the next one begins there."""

    @property
    def item_nbytes(self) -> int:
        """Bytes of an element along the first axis, at least 1."""
        return max(1, nbytes_of(self.values.shape[1:], self.values.dtype))

    @cached_property
    def chunk_length(self) -> int | None:
        """Elements that are decoded at once, ``None`` where any can be read."""
        chunk = self.values.chunk_shape
        return chunk[0] if chunk and self._plain is None else None

    @cached_property
    def _plain(self) -> MayLiePlain | None:
        """The array, where it lies in a file just as it is in memory."""
        values = self.values
        if isinstance(values, MayLiePlain):
            with values.reading_rows() as rows:
                return None if rows is None else values
        return None

    @cached_property
    def _kept_length(self) -> int | None:
        """Elements of a chunk that is small enough to be kept."""
        length = self.chunk_length
        is_small = length is not None and length * self.item_nbytes <= _RECENT_NBYTES // 2
        return length if is_small else None

    @cached_property
    def _piece_length(self) -> int | None:
        """Elements that are kept of an array as it lies, which is small enough to be kept whole."""
        is_small = self.values.shape[0] * self.item_nbytes <= _RECENT_NBYTES // 2
        return -(-_PIECE_NBYTES // self.item_nbytes) if self._plain and is_small else None

    @cached_property
    def _watched(self) -> Watched | None:
        return self.values if isinstance(self.values, Watched) else None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Read]:
        """Give what reads several stretches: the file is opened once for all of them."""
        with contextlib.ExitStack() as stack:
            if self._plain is not None:
                rows = stack.enter_context(self._plain.reading_rows())
                yield functools.partial(self._read, rows, self._decoded)
                return
            decode: Decode = self._decoded
            if isinstance(self.values, KeptOpen) and not self.values.dtype.hasobject:
                opened = stack.enter_context(self.values.opened())
                opened.keep_memory()
                decode = functools.partial(self._decoded_by, opened)
            yield functools.partial(self._read, None, decode)

    def one(self, start: int, stop: int) -> Array:
        """Return a single stretch as a new array."""
        length = self._kept_length if self._plain is None else self._piece_length
        if self._plain is None or length is not None:
            found = self._joined(self._decoded, start, stop, None, length)
        else:
            with self._plain.reading_rows() as rows:
                found = self._read(rows, self._decoded, start, stop, None, keeps=False)
        return found if found.flags.writeable else found.copy()

    def _read(
        self,
        rows: ReadsRows | None,
        decode: Decode,
        start: int,
        stop: int,
        out: Array | None,
        *,
        keeps: bool,
    ) -> Array:
        if rows is None:
            return self._joined(decode, start, stop, out, self._kept_length, keeps=keeps)
        room = self._room(start, stop) if out is None else out
        return room if rows.read_rows(start, room) else decode(start, stop, room)

    def _joined(
        self,
        decode: Decode,
        start: int,
        stop: int,
        out: Array | None,
        length: int | None,
        *,
        keeps: bool = True,
    ) -> Array:
        """Return a stretch, of which the first and the last chunk of a length may be kept."""
        if length is None:
            return decode(start, stop, out)
        first, last = start // length, (stop - 1) // length
        head = self.chunks.get(first)
        begin = start if head is None else min(stop, (first + 1) * length)
        is_cut = keeps and stop < min(self.values.shape[0], (last + 1) * length)
        end = max(begin, last * length) if is_cut else stop
        if (begin, end) == (start, stop):
            return decode(start, stop, out)
        room = self._room(start, stop) if out is None else out
        if head is not None:
            room[: begin - start] = head[start - first * length : begin - first * length]
        if begin < end:
            middle = room[begin - start : end - start]
            found = decode(begin, end, middle)
            if found is not middle:
                middle[...] = found
        if end < stop:
            tail = self._chunk(decode, last, length)
            room[end - start :] = tail[end - last * length : stop - last * length]
        elif begin == stop and self._watched is not None:
            self._watched.require_unchanged()
        return room

    def _chunk(self, decode: Decode, number: int, length: int) -> Array:
        found = self.chunks.get(number)
        if found is None:
            stop = min(self.values.shape[0], (number + 1) * length)
            found = decode(number * length, stop, None)
            self.chunks.put(number, found, nbytes=max(1, found.nbytes))
        elif self._watched is not None:
            self._watched.require_unchanged()
        return found

    def _decoded(self, start: int, stop: int, out: Array | None) -> Array:
        return read_block(self.values, self._region(start, stop), out)

    def _decoded_by(self, opened: ReadsInto, start: int, stop: int, out: Array | None) -> Array:
        room = self._room(start, stop) if out is None else out
        opened.read_into(self._region(start, stop), room)
        return room

    def _region(self, start: int, stop: int) -> Region:
        return (slice(start, stop), *(slice(0, extent) for extent in self.values.shape[1:]))

    def _room(self, start: int, stop: int) -> Array:
        return np.empty((stop - start, *self.values.shape[1:]), self.values.dtype)
