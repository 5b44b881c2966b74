"""Any part of a gzip file, without decompressing it from its start each time.

The state of the decompressor is kept at some places, from where another read goes on.
"""

import os
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import Any

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import DamagedDataError
from lazyio.regions import Region
from lazyio.sources.base import Array, ReadsRows
from lazyio.sources.files import Readable, reading, run_of
from lazyio.sources.raw import RawSource

_INPUT_NBYTES = 2**16
_SKIPPED_NBYTES = 2**18
_FIRST_SPACING = 2**21
_MOST_PLACES = 32
"""Of a file, each some 50 kB; when there are more, every other one is forgotten."""
_MOST_FILES = 4
_RUN_NBYTES = 2**20
_GZIP = 31
"""What zlib calls a header of gzip and the largest window."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A state of the decompressor."""

    at: int
    """Bytes that it has given."""
    position: int
    """Where in the file it goes on."""
    engine: Any
    """The decompressor, which is copied before it is used."""


class Places:
    """Places of one file, evenly spaced; any thread adds to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: list[_Place] = []
        self._spacing = _FIRST_SPACING

    def before(self, at: int) -> _Place | None:
        """Return the last place that is not behind some byte."""
        with self._lock:
            number = bisect_right(self._places, at, key=lambda one: one.at)
            return self._places[number - 1] if number else None

    def offer(self, at: int, position: int, engine: Any) -> None:
        """Take a place unless there is one near it."""
        with self._lock:
            number = bisect_right(self._places, at, key=lambda one: one.at)
            last = self._places[number - 1].at if number else 0
            following = self._places[number].at if number < len(self._places) else None
            is_near = following is not None and following - at < self._spacing
            if at - last < self._spacing or is_near:
                return
            self._places.insert(number, _Place(at=at, position=position, engine=engine.copy()))
            if len(self._places) > _MOST_PLACES:
                self._places = self._places[1::2]
                self._spacing *= 2


_HELD: "OrderedDict[Any, Places]" = OrderedDict()
_HELD_LOCK = threading.Lock()


def places_of(token: Any) -> Places:
    """Return the places of a file in one state, which all of a process share."""
    with _HELD_LOCK:
        found = _HELD.setdefault(token, Places())
        _HELD.move_to_end(token)
        while len(_HELD) > _MOST_FILES:
            _HELD.popitem(last=False)
        return found


class GzipReader:
    """A gzip file of one or more members, as the bytes that are compressed in it."""

    def __init__(self, file: FileIO, places: Places) -> None:
        self._file = file
        self._places = places
        self._wanted = 0
        self._furthest = 0
        self._start_at(None)

    @property
    def name(self) -> Any:
        """Path of the file."""
        return self._file.name

    def seek(self, offset: int) -> int:
        """Go to a byte."""
        self._wanted = offset
        return offset

    def readinto(self, view: memoryview) -> int:
        """Fill a view from there, or the first part of it; 0 at the end."""
        place = self._places.before(self._wanted)
        is_nearer = place is not None and place.at > self._at
        if self._wanted < self._at or is_nearer:
            self._start_at(place)
        while self._at < self._wanted:
            if not self._more(min(_SKIPPED_NBYTES, self._wanted - self._at)):
                return 0
        found = self._more(min(_SKIPPED_NBYTES, len(view)))
        view[: len(found)] = found
        self._wanted += len(found)
        self._furthest = max(self._furthest, self._wanted)
        return len(found)

    def check_end(self, nbytes: int) -> None:
        """Read what is behind so many bytes if they were read to their end: their checksum."""
        while self._furthest >= nbytes and self._more(_SKIPPED_NBYTES):
            pass

    def _start_at(self, place: _Place | None) -> None:
        self._at = 0 if place is None else place.at
        self._engine = zlib.decompressobj(_GZIP) if place is None else place.engine.copy()
        self._pending = b""
        self._file.seek(0 if place is None else place.position)

    def _more(self, most_nbytes: int) -> bytes:
        """Return the next bytes, none at the end."""
        while True:
            self._pending = self._pending or self._file.read(_INPUT_NBYTES) or b""
            is_last = not self._pending
            if self._engine.eof:
                # Another member follows, or nothing but zeros.
                self._pending = self._pending.lstrip(b"\0")
                if is_last:
                    return b""
                if not self._pending:
                    continue
                self._engine = zlib.decompressobj(_GZIP)
            found: bytes = self._engine.decompress(self._pending, most_nbytes)
            is_ended = self._engine.eof
            self._pending = self._engine.unused_data if is_ended else self._engine.unconsumed_tail
            if found:
                self._at += len(found)
                if not is_ended:
                    position = self._file.tell() - len(self._pending)
                    self._places.offer(self._at, position, self._engine)
                return found
            if is_last:
                return b""


@dataclass(frozen=True, kw_only=True)
class GzippedSource(RawSource):
    """An array that lies in a gzip file as one run of bytes, once that is decompressed."""

    @property
    def chunk_shape(self) -> Shape | None:
        """A long part of the run: reads that go on where another one ended cost the least."""
        shape = self.shape if self.order == "C" else self.shape[::-1]
        run = run_of(shape, self.dtype.itemsize, _RUN_NBYTES)
        return run if self.order == "C" else run[::-1]

    @property
    def run_shape(self) -> Shape | None:
        """The same part."""
        return self.chunk_shape

    def slab_shape(self, shape: Shape) -> Shape:
        """Return what is read in the order of the file: to go back costs a decompression."""
        return run_of(shape, self.dtype.itemsize, _RUN_NBYTES)

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        return "gzip", super().__dask_tokenize__()

    @contextmanager
    def contents(self) -> Iterator[Readable]:
        """Open the file to read what is compressed in it."""
        with reading(self.path, self.identity) as file, self._decompressed(file) as reader:
            yield reader

    def read_from(self, file: FileIO, region: Region, out: Array, _: Workspace) -> None:
        """Fill ``out`` with a part of what is compressed in the open file."""
        with self._decompressed(file) as reader:
            self.fill(reader, region, out)

    def rows_in(self, _: FileIO, row_nbytes: int) -> ReadsRows | None:
        """Return ``None``: its elements do not lie in the file as they are."""
        del row_nbytes
        return None

    @contextmanager
    def _decompressed(self, file: FileIO) -> Iterator[Readable]:
        reader = GzipReader(file, places_of((self.path, self.identity)))
        try:
            yield reader
            reader.check_end(self.offset + nbytes_of(self.shape, self.dtype))
        except zlib.error as error:
            msg = f"{os.fspath(self.path)} is damaged, it does not decompress: {error}"
            raise DamagedDataError(msg) from error
