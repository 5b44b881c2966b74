"""Chunks of HDF5 datasets as they are stored: payloads that are copied without decoding them."""

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from io import FileIO
from typing import Protocol

import h5py
import numpy as np

from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.dtypes import Shape
from lazyio.regions import Region, flat_index, grid_shape, index_at, n_along, touched
from lazyio.sources.files import read_exactly, reading
from lazyio.sources.identity import Identity, SeenFile
from lazyio.sources.manifest import ROW, Manifest, Rows, manifest_of

RUN_NBYTES = 4 * 2**20
"""Of payloads that lie side by side and are read at once."""

Put = Callable[[Shape, Bytes, int], object]
"""Takes index, payload and filter mask of a chunk."""


class PayloadSource(Protocol):
    """Where the chunks of an array are stored already as they are to be."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where everything lies that it reads."""

    def require_unchanged(self) -> None:
        """Raise ``SourceChangedError`` where it is not as it was."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of all payloads, and of the largest."""

    def chunks_in(self, region: Region) -> Iterator[int]:
        """Yield the positions of the chunks of a block that are stored."""

    def copy(
        self,
        region: Region,
        put: Put,
        workspace: Workspace,
        *,
        except_for: Collection[int],
    ) -> None:
        """Hand over the chunks of a block, but for some that are known by their positions."""


@dataclass(frozen=True, kw_only=True)
class StoredChunks:
    """The chunks of one dataset; blocks are runs of chunks in C order."""

    path: str
    """The file."""
    identity: Identity
    """The state of it that is read."""
    shape: Shape
    """Extents of the dataset."""
    chunk_shape: Shape
    """Extents of a chunk."""
    manifest: Manifest = field(repr=False, compare=False)
    """Where the chunks lie."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def require_unchanged(self) -> None:
        """Raise where the file is not as it was."""
        SeenFile(path=self.path, identity=self.identity).check()

    @property
    def n_stored(self) -> int:
        """Chunks that are stored."""
        return len(self.manifest)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of all payloads, and of the largest."""
        whole = largest = 0
        for rows in self._rows(0, self._n_chunks):
            whole += int(rows["nbytes"].sum(dtype=np.int64))
            largest = max(largest, int(rows["nbytes"].max()))
        return whole, largest

    @property
    def is_sparse(self) -> bool:
        """Whether chunks are missing."""
        return len(self.manifest) < self._n_chunks

    def touch(self, region: Region) -> bool:
        """Return whether any chunk is stored of which a part lies in a region."""
        if not self.manifest.n_between(*self._ends(region)):
            return False
        grid = self._grid
        places = (flat_index(index, grid) for index, _, _ in touched(region, self.chunk_shape))
        return any(self.manifest.find(place) is not None for place in places)

    def chunks_in(self, region: Region) -> Iterator[int]:
        """Yield the positions of the chunks of a block that are stored."""
        for rows in self._rows(*self._ends(region)):
            yield from rows["key"].tolist()

    def copy(
        self,
        region: Region,
        put: Put,
        workspace: Workspace,
        *,
        except_for: Collection[int] = (),
    ) -> None:
        """Hand over the chunks of a block, but for some that are known by their positions.

        They come in the order in which they lie in the file, so that those that lie
        side by side are read at once.
        """
        grid = self._grid
        with reading(self.path, self.identity) as file:
            for rows in self._rows(*self._ends(region)):
                if except_for:
                    rows = rows[[key not in except_for for key in rows["key"].tolist()]]
                ordered = rows[np.argsort(rows["address"], kind="stable")]
                for key, payload, mask in _payloads(file, ordered, workspace):
                    put(index_at(key, grid), payload, mask)

    def _rows(self, begin: int, end: int) -> Iterator[Rows]:
        return self.manifest.rows_between(begin, end)

    @property
    def _grid(self) -> Shape:
        return grid_shape(self.shape, self.chunk_shape)

    @property
    def _n_chunks(self) -> int:
        grid = self._grid
        return flat_index(tuple(count - 1 for count in grid), grid) + 1

    def _ends(self, region: Region) -> tuple[int, int]:
        """Return the position of the first chunk of a block, and that behind the last."""
        steps = self.chunk_shape
        first = tuple(part.start // step for part, step in zip(region, steps, strict=True))
        last = tuple((part.stop - 1) // step for part, step in zip(region, steps, strict=True))
        return flat_index(first, self._grid), flat_index(last, self._grid) + 1


def stored_chunks(dataset: h5py.Dataset, path: str, identity: Identity) -> StoredChunks | None:
    """Return the stored chunks of a dataset, ``None`` where libhdf5 does not tell their places."""
    manifest = manifest_of(dataset)
    if manifest is None:
        return None
    return StoredChunks(
        path=path,
        identity=identity,
        shape=tuple(map(int, dataset.shape)),
        chunk_shape=tuple(map(int, dataset.chunks)),
        manifest=manifest,
    )


@dataclass(frozen=True, kw_only=True)
class ChunkBox:
    """A box of chunks of one dataset that are chunks of another."""

    chunks: StoredChunks
    """Of the dataset that they are stored in."""
    first: Shape
    """Position of the first in there, along each axis."""
    at: Shape
    """Position of that in the other dataset."""
    count: Shape
    """Chunks along each axis."""

    def within(self, first: Shape, behind: Shape) -> Iterator[tuple[int, Shape]]:
        """Yield those that lie between two positions: as stored, and their positions."""
        low = tuple(map(max, first, self.at))
        high = tuple(
            min(end, at + count) for end, at, count in zip(behind, self.at, self.count, strict=True)
        )
        sides = (range(start, max(start, stop)) for start, stop in zip(low, high, strict=True))
        grid = grid_shape(self.chunks.shape, self.chunks.chunk_shape)
        for index in itertools.product(*sides):
            there = tuple(
                part - at + origin
                for part, at, origin in zip(index, self.at, self.first, strict=True)
            )
            yield flat_index(there, grid), index


@dataclass(frozen=True, kw_only=True)
class JoinedChunks:
    """Chunks of several datasets that are those of one, such as of a virtual dataset."""

    shape: Shape
    """Extents of the one."""
    chunk_shape: Shape
    """Extents of a chunk of any of them."""
    boxes: tuple[ChunkBox, ...] = field(repr=False)
    """Where its chunks are stored; others are not."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files."""
        return tuple(dict.fromkeys(one.chunks.path for one in self.boxes))

    def require_unchanged(self) -> None:
        """Raise where a file is not as it was."""
        for one in self.boxes:
            one.chunks.require_unchanged()

    @property
    def n_stored(self) -> int:
        """Chunks that are stored, at most."""
        return sum(len(one.chunks.manifest) for one in self.boxes)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of all payloads, and of the largest."""
        each = [one.chunks.sizes for one in self.boxes]
        return sum(whole for whole, _ in each), max((most for _, most in each), default=0)

    def chunks_in(self, region: Region) -> Iterator[int]:
        """Yield the positions of the chunks of a block that are stored."""
        grid = grid_shape(self.shape, self.chunk_shape)
        for one in self.boxes:
            for place, index in one.within(*self._ends(region)):
                if one.chunks.manifest.find(place) is not None:
                    yield flat_index(index, grid)

    def copy(
        self,
        region: Region,
        put: Put,
        workspace: Workspace,
        *,
        except_for: Collection[int] = (),
    ) -> None:
        """Hand over the chunks of a block, but for some that are known by their positions."""
        grid = grid_shape(self.shape, self.chunk_shape)
        for one in self.boxes:
            wanted = {
                place: index
                for place, index in one.within(*self._ends(region))
                if not except_for or flat_index(index, grid) not in except_for
            }
            found = ((place, one.chunks.manifest.find(place)) for place in wanted)
            rows = np.array([(place, *row) for place, row in found if row is not None], ROW)
            if len(rows):
                ordered = rows[np.argsort(rows["address"], kind="stable")]
                with reading(one.chunks.path, one.chunks.identity) as file:
                    for key, payload, mask in _payloads(file, ordered, workspace):
                        put(wanted[key], payload, mask)

    def _ends(self, region: Region) -> tuple[Shape, Shape]:
        """Return the position of the first chunk of a block, and that behind the last."""
        steps = self.chunk_shape
        first = tuple(part.start // step for part, step in zip(region, steps, strict=True))
        behind = tuple(n_along(part.stop, step) for part, step in zip(region, steps, strict=True))
        return first, behind


def _payloads(file: FileIO, rows: Rows, workspace: Workspace) -> Iterator[tuple[int, Bytes, int]]:
    """Yield position, payload and mask of chunks, in the order in which they lie in the file."""
    for run in _runs(rows):
        first = int(run["address"][0])
        nbytes = int(run["address"][-1]) + int(run["nbytes"][-1]) - first
        raw = workspace.buffer("payloads", nbytes)
        read_exactly(file, first, memoryview(raw))
        for key, address, length, mask in run.tolist():
            at = address - first
            yield key, raw[at : at + length], mask


def _runs(rows: Rows) -> Iterator[Rows]:
    """Yield payloads that lie side by side, as many as are read at once."""
    begin, nbytes = 0, 0
    ends = (rows["address"] + rows["nbytes"]).tolist()
    for at, (address, length) in enumerate(
        zip(rows["address"].tolist(), rows["nbytes"].tolist(), strict=True)
    ):
        is_next = at == begin or address == ends[at - 1]
        if at > begin and (not is_next or nbytes + length > RUN_NBYTES):
            yield rows[begin:at]
            begin, nbytes = at, 0
        nbytes += length
    if begin < len(rows):
        yield rows[begin:]
