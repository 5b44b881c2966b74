"""Where the chunks of an HDF5 dataset lie in its file, looked up once a process.

``chunk_iter`` costs a microsecond a chunk; ``get_chunk_info`` is linear in
the number of chunks for every call.
"""

import threading
from collections.abc import Sequence
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
from lazyio.sources.confine import raw_segments, refuse_links
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5_layout import is_byte_for_byte, stored_chunks
from lazyio.sources.identity import Identity
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.raw_storage import Segment
from lazyio.spec import Shape


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What is needed to read a dataset without libhdf5."""

    offset: int | None
    """Bytes before the data of a contiguous dataset, else ``None``."""
    keys: npt.NDArray[np.int64]
    """Flat positions in the grid of chunks of those that are stored, rising."""
    places: npt.NDArray[np.int64]
    """For each of them address, bytes and filter mask."""
    decoder: Decoder
    """What undoes the filters."""
    fill_value: Any
    """What chunks hold that are not stored."""
    segments: tuple[Segment, ...] = ()
    """Parts of raw files, where those hold the elements."""

    def find(self, flat_index: int) -> tuple[int, int, int] | None:
        """Return address, bytes and filter mask of a chunk, ``None`` if not stored."""
        at = int(np.searchsorted(self.keys, flat_index))
        if at == len(self.keys) or self.keys[at] != flat_index:
            return None
        address, nbytes, mask = self.places[at].tolist()
        return address, nbytes, mask

    def stored_in(self, region: Region, chunk_shape: Shape, grid: Shape) -> list[Shape] | None:
        """Return the positions of stored chunks that a region touches.

        ``None`` where it touches no more than may be stored: then looking for
        each of them costs less.
        """
        first = tuple(part.start // step for part, step in zip(region, chunk_shape, strict=True))
        last = tuple(
            (part.stop - 1) // step for part, step in zip(region, chunk_shape, strict=True)
        )
        ends = [flat_index(first, grid), flat_index(last, grid) + 1]
        begin, end = np.searchsorted(self.keys, ends)
        if n_touched(region, chunk_shape) <= end - begin:
            return None
        left, inside = self.keys[begin:end], np.ones(end - begin, bool)
        positions = []
        for axis in reversed(range(len(grid))):
            left, at = np.divmod(left, grid[axis])
            inside &= (at >= first[axis]) & (at <= last[axis])
            positions.append(at)
        return [tuple(index) for index in np.column_stack(positions[::-1])[inside].tolist()]


class PlacementCache:
    """Looks a dataset's placement up when first asked; travels empty.

    The lookup is done again for another state of the file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[Identity, Placement | None] | None = None

    def get(
        self,
        path: str,
        key: str,
        identity: Identity,
        *,
        is_watched: bool,
        folders: Sequence[Path] = (),
    ) -> Placement | None:
        """Return the placement, ``None`` where libhdf5 has to read.

        Parameters
        ----------
        path, key : str
            Of the dataset.
        identity : Identity
            Of the open file that is read by it.
        is_watched : bool
            Whether libhdf5 has to find that very file.
        folders : sequence of Path
            Where files that the key leads to may lie; none where that is not asked.

        Raises
        ------
        SourceChangedError
            When it finds another.
        UnsafeFileError
            When the key leads to files outside the folders.
        """
        with self._lock:
            if self._held is None or self._held[0] != identity:
                found = _look_up(path, key, identity if is_watched else None, folders)
                self._held = (identity, found)
            return self._held[1]

    def __reduce__(self) -> Any:
        """Leave the content behind: it is cheaper to look up than to send."""
        return PlacementCache, ()

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
    empty = np.empty(0, np.int64)
    if dataset.external:
        segments = raw_segments(dataset)
        return Placement(
            offset=None, keys=empty, places=empty.reshape(0, 3), segments=segments, **found
        )
    if dataset.chunks is None:
        # Where nothing is stored, libhdf5 counts the user block from an address that is none.
        offset = dataset.id.get_offset() if dataset.id.get_storage_size() else None
        if offset is None:
            return None
        return Placement(offset=offset, keys=empty, places=empty.reshape(0, 3), **found)
    stored = stored_chunks(dataset)
    if stored is None:
        return None
    grid = grid_shape(dataset.shape, dataset.chunks)
    keys = np.zeros(len(stored.index), np.int64)
    for axis, n_chunks in enumerate(grid):
        keys = keys * n_chunks + stored.index[:, axis]
    order = np.argsort(keys)
    return Placement(offset=None, keys=keys[order], places=stored.places[order], **found)


def is_decoded_here(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset is read without libhdf5, which need not have its filters."""
    return _decoder_of(dataset) is not None


def _decoder_of(dataset: h5py.Dataset) -> Decoder | None:
    if dataset.is_virtual or not is_byte_for_byte(dataset):
        return None
    return decoder_for(filters_of(dataset), dataset.dtype.itemsize)
