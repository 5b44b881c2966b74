"""Where the chunks of an HDF5 dataset lie in its file, looked up once a process.

``chunk_iter`` costs a microsecond a chunk; ``get_chunk_info`` is linear in
the number of chunks for every call.
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.codecs.dataset_filters import filters_of
from lazyio.codecs.decode import Decoder, decoder_for
from lazyio.errors import SourceChangedError, SourceError, UnsafeFileError
from lazyio.grid import Region, flat_index, grid_shape, n_touched
from lazyio.memory import give_back
from lazyio.sources.confine import raw_segments, refuse_links
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5_layout import each_stored_chunk, is_byte_for_byte
from lazyio.sources.identity import Identity
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.manifest import NOTHING, Manifest, ManifestMaker
from lazyio.sources.raw_storage import Segment
from lazyio.spec import Shape

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


class _LookUp:
    """What was found for one source in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: tuple[Identity, Placement | None] | None = None

    @property
    def nbytes(self) -> int:
        found = None if self.held is None else self.held[1]
        return _LEAST_NBYTES + (0 if found is None else found.manifest.nbytes)


class _Held:
    """What was looked up in this process last, in bounded memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_token: OrderedDict[str, _LookUp] = OrderedDict()

    def of(self, token: str) -> _LookUp:
        """Return what is there for a source."""
        with self._lock:
            found = self._by_token.setdefault(token, _LookUp())
            self._by_token.move_to_end(token)
            return found

    def trim(self) -> None:
        """Forget what was not asked for the longest, where all of it is too much."""
        with self._lock:
            nbytes = sum(one.nbytes for one in self._by_token.values())
            while nbytes > _MOST_NBYTES and len(self._by_token) > 1:
                nbytes -= self._by_token.popitem(last=False)[1].nbytes


_HELD = _Held()


class PlacementCache:
    """Looks a dataset's placement up when first asked, once in each process.

    The tasks of a graph share it: copies that travelled know each other by a token. The
    lookup is done again for another state of the file.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token or uuid.uuid4().hex

    def get(
        self,
        path: str,
        key: str,
        identity: Identity,
        *,
        is_watched: bool,
        folders: Sequence[Path] = (),
    ) -> Placement | None:
        """Return the placement, ``None`` where libhdf5 has to read."""
        known = _HELD.of(self._token)
        with known.lock:
            if known.held is None or known.held[0] != identity:
                found = _look_up(path, key, identity if is_watched else None, folders)
                known.held = (identity, found)
                _HELD.trim()
            return known.held[1]

    def __reduce__(self) -> Any:
        """Leave the content behind: it is cheaper to look up than to send with every task."""
        return PlacementCache, (self._token,)

    def __eq__(self, other: object) -> bool:
        """Say that a cache adds nothing to what a source is."""
        return isinstance(other, PlacementCache)

    def __hash__(self) -> int:
        return 0


def _look_up(
    path: str, key: str, identity: Identity | None, folders: Sequence[Path]
) -> Placement | None:
    try:
        with foreign_errors(f"{path}: dataset {key!r}"), open_hdf5(path, identity) as file:
            if folders:
                refuse_links(file, key, folders)
            dataset = file[key]
            # What this process has not yet written out only libhdf5 knows, and
            # the addresses behind an external link are those of another file.
            if file.mode != "r" or dataset.file.filename != file.filename:
                return None
            return _place(dataset)
    except (SourceChangedError, UnsafeFileError):
        raise
    except OSError as error:
        cause = error.__cause__ or error
        msg = f"{path}: dataset {key!r} cannot be read any more: {cause}; was the file replaced?"
        raise SourceError(msg) from error


def _place(dataset: h5py.Dataset) -> Placement | None:
    decoder = _decoder_of(dataset)
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
    grid = grid_shape(dataset.shape, dataset.chunks)
    maker = ManifestMaker()

    def take(index: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> None:
        keys = np.zeros(len(index), np.int64)
        for axis, n_chunks in enumerate(grid):
            keys = keys * n_chunks + index[:, axis]
        maker.add(keys, places)

    if not each_stored_chunk(dataset, take):
        return None
    manifest = maker.finish()
    if len(manifest) > _MANY:
        give_back()
    return Placement(manifest=manifest, **found)


def is_decoded_here(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset is read without libhdf5, which need not have its filters."""
    return _decoder_of(dataset) is not None


def _decoder_of(dataset: h5py.Dataset) -> Decoder | None:
    if dataset.is_virtual or not is_byte_for_byte(dataset):
        return None
    return decoder_for(filters_of(dataset), dataset.dtype.itemsize)
