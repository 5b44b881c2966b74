"""What a backend is: a place that takes whole chunks, from any thread.

A target knows its format and its encoder and nothing of sources or dask. Who
opens the file or store that it lies in also closes and publishes it.
"""

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import NotedDigests, Rows, renumbered
from lazyio.atomic.journal import Record, ResumeState
from lazyio.codecs.workspace import Bytes, Kept, Workspace
from lazyio.dtypes import Shape
from lazyio.regions import Bounds, Region, box, box_shape, grid_shape, index_at, open_grid


class Target(Protocol):
    """An array on its way to disk.

    A chunk is given to :meth:`write_chunk` whole and once; chunks may come in
    any order and from several threads at a time.
    """

    @property
    def shape(self) -> Shape:
        """Extents of the array, in elements."""

    @property
    def chunk_shape(self) -> Shape:
        """Extents of what is given to :meth:`write_chunk`, but at the array's end."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    @property
    def fill_value(self) -> Any:
        """What a reader gets where nothing was written."""

    @property
    def engine(self) -> str:
        """How chunks get there, in words for the report."""

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it."""

    @property
    def n_written(self) -> int:
        """Chunks that were encoded and stored."""

    def finish(self) -> int:
        """Write what comes last, and return the bytes of all payloads."""


@runtime_checkable
class Rewritable(Target, Protocol):
    """A target of which chunks that are there can be read."""

    @property
    def is_read_back(self) -> bool:
        """Whether that goes for chunks that it was given itself, which may then be given again."""

    def read_chunk(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return a chunk's elements, cut at the end of the array; fill value if not stored."""


class TakesPayloads(Target, Protocol):
    """A target that takes chunks as they are stored elsewhere, too."""

    def copy_payload(self, index: Sequence[int], payload: Any, mask: int) -> None:
        """Commit a chunk as it was stored elsewhere, with the same filters."""


@runtime_checkable
class Growing(Protocol):
    """A target whose array is not as long yet as it will be."""

    def grow(self, shape: Shape) -> None:
        """Take chunks within these extents from now on; never fewer than before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedChunk:
    """A chunk that another process has encoded."""

    chunk: int
    """Its position in the grid of chunks."""
    nbytes: int
    """Bytes of its payload; 0 where nothing needs to be stored."""
    mask: int = 0
    """HDF5's filter mask."""
    digest: int
    """Of the payload."""
    elements: int
    """Digest of the elements, which other encoders do not change."""
    rim: int | None = None
    """The same, where the end of the array cuts the chunk and others may come beside them."""


class PlaceKind(IntEnum):
    """What becomes of a payload that another process has encoded."""

    WRITE = 0
    """That process writes it, at an offset in the file."""
    SEND = 1
    """It is sent to the process that has the file open."""
    KEPT = 2
    """It is there already."""
    STALE = 3
    """Nobody waits for it any more: the job has ended."""


@dataclass(frozen=True, slots=True)
class PayloadPlace:
    """Where the payload of a chunk goes."""

    kind: PlaceKind
    """Who writes it."""
    offset: int = 0
    """Where it begins, in a file that all chunks lie in."""


class ChunkWriter(Protocol):
    """What encodes and writes chunks of an array in another process; it can be pickled."""

    @property
    def shape(self) -> Shape:
        """Extents of the array, in elements."""

    @property
    def chunk_shape(self) -> Shape:
        """Extents of a chunk, or of a shard."""

    @property
    def is_remote(self) -> bool:
        """Whether it writes to no file system, but to a store that is reached from anywhere."""

    @property
    def elements(self) -> np.dtype[Any]:
        """Type of an element."""

    def encode(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace, kept: Kept
    ) -> tuple[EncodedChunk, Bytes]:
        """Return a chunk as it is to be stored, and its payload, which is kept there."""

    def write(
        self,
        chunks: Sequence[tuple[EncodedChunk, Bytes, PayloadPlace]],
        *,
        scratch: Path,
        syncs: bool,
    ) -> None:
        """Write payloads to their places.

        What is not all there yet may lie in the folder ``scratch``; ``syncs`` has all on the disk
        afterwards.
        """


@runtime_checkable
class TakesEncoded(Protocol):
    """A target whose chunks other processes encode, and write where they can."""

    def chunk_writer(self) -> "ChunkWriter | None":
        """Return what other processes write with, ``None`` where they cannot."""

    def place(self, chunk: EncodedChunk) -> PayloadPlace:
        """Return where a payload goes; the same chunk is asked for once."""

    def land(self, chunk: EncodedChunk, place: PayloadPlace, payload: Bytes | None) -> None:
        """Take note of a chunk that is in its place, or put the payload there that was sent."""


class ChunkTarget:
    """What a target of either format keeps: its grid, digests, the journal, and counts."""

    def __init__(
        self,
        shape: Sequence[int],
        chunk_shape: Sequence[int],
        *,
        noted: NotedDigests | None,
        bounds: Bounds | None,
    ) -> None:
        self.shape: Shape = tuple(map(int, shape))
        self.chunk_shape: Shape = tuple(map(int, chunk_shape))
        self.grid: Shape = self._own_grid if bounds is None else open_grid(bounds, self.chunk_shape)
        """By which chunks are numbered, in an array that may grow up to its bounds."""
        self.n_written = 0
        """Chunks that were encoded and stored."""
        self.keeping: ResumeState | None = None
        """Chunks that are there from a run that was killed, and the journal."""
        self._noted = noted
        self._lock = threading.Lock()
        self._stored_nbytes = 0

    def at_shape(self, shape: Shape) -> Self:
        """Return a target for the array with those extents, which has written nothing yet."""
        other = copy.copy(self)
        other.shape = shape
        other.n_written = other._stored_nbytes = 0
        return other

    def count_for(self, other: Self) -> None:
        """Count what was written here as another's."""
        other._count(self._stored_nbytes, self.n_written)

    def rows(self, noted: NotedDigests) -> Rows:
        """Return the digests that were noted, chunks numbered as the array is now."""
        return renumbered(noted.rows(), self.grid, self._own_grid)

    def rims(self, noted: NotedDigests) -> Rows:
        """Return the same of the elements of chunks that were cut."""
        # Written before the kill, and only compared or left alone since.
        for chunk, record in self._kept.items():
            rim = self._kept_rim(record) if self._is_cut(chunk) else None
            if rim is not None:
                noted.note_rim(chunk, rim)
        return renumbered(noted.rims(), self.grid, self._own_grid)

    def _kept_rim(self, record: Record) -> int | None:
        """Return the digest of the elements of a chunk that is cut, and there from before."""
        raise NotImplementedError

    @property
    def _own_grid(self) -> Shape:
        """Chunks along each axis, as long as the array is now."""
        return grid_shape(self.shape, self.chunk_shape)

    @property
    def _kept(self) -> dict[int, Record]:
        return {} if self.keeping is None else self.keeping.kept

    @property
    def _all_nbytes(self) -> int:
        """Bytes of the payloads that were written, and of those that are there from before."""
        return self._stored_nbytes + sum(record.nbytes for record in self._kept.values())

    def _count(self, nbytes: int, n_chunks: int = 1) -> None:
        with self._lock:
            self._stored_nbytes += nbytes
            self.n_written += n_chunks

    def _region(self, index: Sequence[int]) -> Region:
        return box(self.shape, self.chunk_shape, index)

    def _region_of(self, chunk: int) -> Region:
        return self._region(index_at(chunk, self.grid))

    def _is_cut(self, chunk: int) -> bool:
        """Return whether a chunk reaches past the end of the array."""
        return box_shape(self._region_of(chunk)) != self.chunk_shape


def padded(
    chunk: npt.NDArray[Any], shape: Shape, fill_value: Any, workspace: Workspace
) -> npt.NDArray[Any]:
    """Return a chunk at its full extents, the rest filled.

    Chunks are stored whole, also where they reach past the end of the array.

    Examples
    --------
    >>> padded(np.ones(2, "int8"), (3,), 7, Workspace()).tolist()
    [1, 1, 7]
    """
    if chunk.shape == shape:
        return chunk
    whole = workspace.array("padded", shape, chunk.dtype)
    whole[...] = fill_value
    whole[tuple(map(slice, chunk.shape))] = chunk
    return whole
