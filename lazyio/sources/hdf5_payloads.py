"""Small chunks of an HDF5 dataset that stays open: found by libhdf5, and decoded outside it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import h5py
import numpy as np

from lazyio.codecs.chunk_reading import read_chunks
from lazyio.codecs.hdf5_chunks import Decoder
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, most_stored, nbytes_of
from lazyio.errors import DamagedDataError
from lazyio.regions import Region, box, format_region
from lazyio.sources.base import Array, ReadsRows
from lazyio.sources.files import read_every
from lazyio.sources.foreign import NO_MEMORY, described
from lazyio.sources.hdf5_layout import StoredPayloads
from lazyio.sources.identity import checked_around


def damaged(name: str, where: Region, error: Exception) -> DamagedDataError:
    """Return the error of a chunk of a dataset, which is called by its file's name and its own."""
    why = error if isinstance(error, ValueError) else described(error)
    what = f"is damaged: {why}"
    if isinstance(error, MemoryError):
        what = f"cannot be decoded: {NO_MEMORY}"
    owner, _, dataset = name.rpartition(": ")
    msg = f"{owner}: the chunk {format_region(where)} of {dataset} {what}"
    return DamagedDataError(msg)


@dataclass(kw_only=True)
class OpenedPayloads:
    """A dataset of which no list of chunks is made, as that takes longer than to read some.

    Of each, libhdf5 gives what is stored, under h5py's lock.
    """

    dataset: h5py.Dataset
    """Open."""
    decoder: Decoder
    """What undoes the filters."""
    name: str
    """What errors call it."""
    require_unchanged: Callable[[], None]
    """Raises where the file is not as it was."""
    workspace: Workspace = field(default_factory=Workspace)
    """Memory that is used again for each read."""

    def __post_init__(self) -> None:
        self._shape: Shape = self.dataset.shape
        self._chunk_shape: Shape = self.dataset.chunks
        self._dtype: np.dtype[Any] = self.dataset.dtype
        self._fill_value: Any = self.dataset.fillvalue
        self._stored = StoredPayloads(self.dataset)
        self._most_nbytes = most_stored(nbytes_of(self._chunk_shape, self._dtype))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._dtype

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        with checked_around(self.require_unchanged):
            self._read(region, out, self.workspace)

    def keep_memory(self) -> None:
        """Do nothing: what decodes a chunk is kept in any case."""

    def rows(self, row_nbytes: int) -> ReadsRows | None:
        """Return itself."""
        del row_nbytes
        return self

    is_serial: ClassVar[bool] = False
    is_plain: ClassVar[bool] = False

    def read_rows(self, start: int, out: Array, step: int = 1) -> bool:
        """Fill ``out`` with every so many rows from one on, in memory of each call's own."""
        if step > self._chunk_shape[0]:
            return all(
                self.read_rows(start + at * step, out[at : at + 1]) for at in range(len(out))
            )
        if step > 1:
            return read_every(self.read_rows, start, out, step)
        inner = (slice(0, extent) for extent in self._shape[1:])
        self._read((slice(start, start + len(out)), *inner), out, Workspace())
        return True

    def will_need(self, start: int, stop: int) -> bool:
        """Say that it is best decoded ahead."""
        del start, stop
        return False

    def _read(self, region: Region, out: Array, workspace: Workspace) -> None:
        def read_part(index: Shape, inside: Region, part: Array) -> bool:
            return self._read_part(index, inside, part, workspace)

        read_chunks(region, self._chunk_shape, out, self._fill_value, read_part)

    def _read_part(self, index: Shape, inside: Region, part: Array, workspace: Workspace) -> bool:
        """Decode a chunk and keep what is wanted of it; return whether it is stored at all."""
        try:
            corner = [at * step for at, step in zip(index, self._chunk_shape, strict=True)]
            found = self._stored.find(corner)
            if found is None:
                return False
            mask, payload = found
            if len(payload) > self._most_nbytes:
                msg = f"it has {len(payload)} bytes as it is stored"
                raise ValueError(msg)
            raw = np.frombuffer(payload, np.uint8)
            chunk = workspace.place_for(part, self._chunk_shape)
            self.decoder.decode(raw, mask, chunk.reshape(-1).view(np.uint8), workspace)
        except (ValueError, MemoryError, OverflowError, RuntimeError, OSError) as error:
            where = box(self._shape, self._chunk_shape, index)
            raise damaged(self.name, where, error) from error
        if chunk is not part:
            part[...] = chunk[inside]
        return True
