"""The manifest of an HDF5 dataset: where each of its chunks lies, looked up once in a process.

A row takes 24 bytes, so that a million chunks would take 24 MB of a memory limit that may
be smaller. Beyond some thousand rows they go to a file without a name, and come back by pages.

``chunk_iter`` costs a microsecond a chunk; ``get_chunk_info`` is linear in
the number of chunks for every call.
"""

import array
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.codecs.hdf5_chunks import Decoder, decoder_for, filters_of
from lazyio.dtypes import Shape
from lazyio.errors import SourceChangedError, SourceError, UnsafeFileError
from lazyio.libhdf5_calls import named
from lazyio.malloc import give_back
from lazyio.regions import Region, flat_index, grid_shape, n_touched
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5_layout import Segment, each_stored_chunk, is_byte_for_byte
from lazyio.sources.identity import Identity
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.path_policy import raw_segments, refuse_links
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

    def pages(self) -> Iterator[Rows]:
        """Yield all rows, some thousand at a time."""
        for number in range(-(-len(self) // _PAGE)):
            yield self._page(number)

    def find(self, key: int) -> tuple[int, int, int] | None:
        """Return address, bytes and filter mask of a chunk, ``None`` if it is not stored."""
        _, rows, at = self._at(key)
        if at == len(rows) or rows["key"][at] != key:
            return None
        _, address, nbytes, mask = rows[at].tolist()
        return address, nbytes, mask

    def n_between(self, begin: int, end: int) -> int:
        """Return how many chunks are stored from one position to before another."""
        return self._rank(end) - self._rank(begin)

    def keys_between(self, begin: int, end: int) -> Iterator[Rows]:
        """Yield the positions of those, some thousand at a time."""
        return (rows["key"] for rows in self.rows_between(begin, end))

    def rows_between(self, begin: int, end: int) -> Iterator[Rows]:
        """Yield the rows of those, some thousand at a time."""
        first, last = self._rank(begin), self._rank(end)
        while first < last:
            page, at = divmod(first, _PAGE)
            rows = self._page(page)[at : at + last - first]
            yield rows
            first += len(rows)

    def _rank(self, key: int) -> int:
        """Return how many chunks are stored before a position."""
        first, _, at = self._at(key)
        return first + at

    def _at(self, key: int) -> tuple[int, Rows, int]:
        """Return the rows where a position is or would be, how many come before, and its place."""
        first, rows = 0, self._rows
        if self._spill is not None:
            page = max(0, int(np.searchsorted(self._first_keys, key, "right")) - 1)
            first, rows = page * _PAGE, self._page(page)
        return first, rows, int(rows["key"].searchsorted(key))

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


_MOST_NBYTES = 4 * 2**20
"""Of all that is known of the places of chunks, in a process."""
_MANY = 10_000
"""Chunks for whose index libhdf5 has taken megabytes."""
_LEAST_NBYTES = 2**10
"""Of what is known of one dataset."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What is needed to read a dataset without libhdf5."""

    offset: int | None = None
    """Bytes before the data of a contiguous dataset, else ``None``."""
    manifest: Manifest = NOTHING
    """Where its chunks lie that are stored, by flat position in the grid."""
    decoder: Decoder
    """What undoes the filters."""
    fill_value: Any
    """What chunks hold that are not stored."""
    segments: tuple[Segment, ...] = ()
    """Parts of raw files, where those hold the elements."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, at most."""
        return self.manifest.nbytes

    def stored_in(self, region: Region, chunk_shape: Shape, grid: Shape) -> Iterator[Shape] | None:
        """Yield the positions of stored chunks that a region touches.

        ``None`` where it touches no more than may be stored: then looking for
        each of them costs less.
        """
        first = tuple(part.start // step for part, step in zip(region, chunk_shape, strict=True))
        last = tuple(
            (part.stop - 1) // step for part, step in zip(region, chunk_shape, strict=True)
        )
        ends = flat_index(first, grid), flat_index(last, grid) + 1
        if n_touched(region, chunk_shape) <= self.manifest.n_between(*ends):
            return None
        return self._between(*ends, first, last, grid)

    def _between(
        self, begin: int, end: int, first: Shape, last: Shape, grid: Shape
    ) -> Iterator[Shape]:
        for left in self.manifest.keys_between(begin, end):
            inside = np.ones(len(left), bool)
            positions = []
            for axis in reversed(range(len(grid))):
                left, at = np.divmod(left, grid[axis])
                inside &= (at >= first[axis]) & (at <= last[axis])
                positions.append(at)
            yield from map(tuple, np.column_stack(positions[::-1])[inside].tolist())


class HasSize(Protocol):
    """What is known of the places of a source's chunks."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, at most."""


class _LookUp:
    """What was found for one source in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: tuple[Identity, Any] | None = None
        self.counted_nbytes = 0
        """What it adds to the sum of all; 0 once it is forgotten."""

    @property
    def nbytes(self) -> int:
        found: HasSize | None = None if self.held is None else self.held[1]
        return _LEAST_NBYTES + (0 if found is None else found.nbytes)


class _Held:
    """What was looked up in this process last, in bounded memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_token: OrderedDict[str, _LookUp] = OrderedDict()
        self._nbytes = 0

    def of(self, token: str) -> _LookUp:
        """Return what is there for a source."""
        with self._lock:
            found = self._by_token.setdefault(token, _LookUp())
            self._by_token.move_to_end(token)
            self._count(found)
            return found

    def trim(self, changed: _LookUp) -> None:
        """Forget what was not asked for the longest, where all of it is too much."""
        with self._lock:
            if changed.counted_nbytes:
                self._count(changed)
            while self._nbytes > _MOST_NBYTES and len(self._by_token) > 1:
                _, forgotten = self._by_token.popitem(last=False)
                self._nbytes -= forgotten.counted_nbytes
                forgotten.counted_nbytes = 0

    def _count(self, one: _LookUp) -> None:
        """Have the sum of all agree with one that was added, or has changed."""
        self._nbytes += one.nbytes - one.counted_nbytes
        one.counted_nbytes = one.nbytes


_HELD = _Held()


Found = TypeVar("Found", bound="HasSize | None")


def looked_up(token: str, identity: Identity, look_up: Callable[[], Found]) -> Found:
    """Return what is known of a source, looked up once in each process for all that have its token.

    It is looked up again for another state of the file.
    """
    known = _HELD.of(token)
    with known.lock:
        if known.held is None or known.held[0] != identity:
            known.held = (identity, look_up())
            _HELD.trim(known)
        found: Found = known.held[1]
        return found


def placement_of(
    token: str,
    path: str,
    key: str,
    identity: Identity,
    *,
    is_watched: bool,
    folders: Sequence[Path] = (),
) -> Placement | None:
    """Return a dataset's placement, ``None`` where libhdf5 has to read."""
    watched = identity if is_watched else None
    return looked_up(token, identity, lambda: _look_up(path, key, watched, folders))


def _look_up(
    path: str, key: str, identity: Identity | None, folders: Sequence[Path]
) -> Placement | None:
    try:
        with foreign_errors(f"{path}: dataset {key!r}"), open_hdf5(path, identity) as file:
            if folders:
                refuse_links(file, key, folders)
            dataset = file[named(key)]
            # What this process has not yet written out only libhdf5 knows, and
            # the addresses behind an external link are those of another file.
            if file.mode != "r" or dataset.file.filename != file.filename:
                return None
            return place_in(dataset)
    except (SourceChangedError, UnsafeFileError):
        raise
    except OSError as error:
        cause = error.__cause__ or error
        msg = f"{path}: dataset {key!r} cannot be read any more: {cause}; was the file replaced?"
        raise SourceError(msg) from error


def place_in(dataset: h5py.Dataset) -> Placement | None:
    """Return where the elements of a dataset lie, ``None`` where libhdf5 has to read them."""
    decoder = decoder_of(dataset)
    if decoder is None or not dataset.shape or not dataset.size:
        return None
    found = {"decoder": decoder, "fill_value": dataset.fillvalue}
    if dataset.external:
        return Placement(segments=raw_segments(dataset), **found)
    if dataset.chunks is None:
        # Where nothing is stored, libhdf5 counts the user block from an address that is none.
        offset = dataset.id.get_offset() if dataset.id.get_storage_size() else None
        if offset is None:
            return None
        return Placement(offset=offset, **found)
    manifest = manifest_of(dataset)
    if manifest is None:
        return None
    if len(manifest) > _MANY:
        give_back()
    return Placement(manifest=manifest, **found)


def manifest_of(dataset: h5py.Dataset) -> Manifest | None:
    """Return where the stored chunks of a dataset lie, ``None`` where libhdf5 may tell it wrong."""
    grid = grid_shape(dataset.shape, dataset.chunks)
    maker = ManifestMaker()

    def take(index: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> None:
        keys = np.zeros(len(index), np.int64)
        for axis, n_chunks in enumerate(grid):
            keys = keys * n_chunks + index[:, axis]
        maker.add(keys, places)

    return maker.finish() if each_stored_chunk(dataset, take) else None


def is_decoded_here(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset is read without libhdf5, which need not have its filters."""
    return decoder_of(dataset) is not None


def decoder_of(dataset: h5py.Dataset) -> Decoder | None:
    """Return what undoes the filters of a dataset, ``None`` where libhdf5 has to read it."""
    if dataset.is_virtual or not is_byte_for_byte(dataset):
        return None
    return decoder_for(filters_of(dataset), dataset.dtype.itemsize)
