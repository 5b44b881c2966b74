"""Chunks and shards of a Zarr array, encoded and written by another process than opened it.

Each object has its own name, so that nothing need be agreed on but who writes which.
"""

import contextlib
import functools
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import FsspecStore, ObjectStore

from lazyio.atomic.descriptors import opened, write_at
from lazyio.atomic.digests import digest_of, digest_of_elements
from lazyio.codecs.workspace import Bytes, Fill, Kept, Workspace
from lazyio.codecs.zarr_chain import Chain, chain_of, is_exact
from lazyio.dtypes import Shape
from lazyio.errors import OptionError
from lazyio.regions import box, flat_index, index_at
from lazyio.sources.zarr import store_name
from lazyio.storage.base import EncodedChunk, PayloadPlace, padded
from lazyio.storage.disk_errors import disk_errors, store_errors


@dataclass(frozen=True, kw_only=True)
class ZarrChunkWriter:
    """What encodes and writes chunks or shards of an array in another process."""

    array: "zarr.Array[Any]"
    """The array; its store need not know of it yet."""
    folder: Path | None
    """Where its objects lie, ``None`` where that is no local folder."""
    shape: Shape
    """Extents of the array, in elements."""
    chunk_shape: Shape
    """Extents of what one object holds."""
    grid: Shape
    """Objects along each axis, by which they are numbered."""
    keeps_empty: bool
    """Whether objects are stored that hold the fill value only."""
    has_digests: bool
    """Whether digests are kept of what is written."""

    @functools.cached_property
    def _chain(self) -> tuple[Chain, Fill]:
        """What encodes chunks, which has to be there where it was elsewhere."""
        metadata = self.array.metadata
        fill = Fill(metadata.fill_value, self.elements)
        chain = chain_of(metadata.to_dict(), self.elements, fill, keep_empty=self.keeps_empty)
        if chain is None:
            msg = (
                f"this process cannot encode chunks of {metadata}, and the one that opened the "
                "array can; install the same packages on all of them"
            )
            raise OptionError(msg)
        return chain, fill

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: codecs are found anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_chain"}

    @property
    def is_remote(self) -> bool:
        """Whether it writes to no file system, but to a store that is reached from anywhere."""
        return self.folder is None

    @property
    def elements(self) -> np.dtype[Any]:
        """Type of an element."""
        return np.dtype(self.array.dtype)

    def encode(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace, kept: Kept
    ) -> tuple[EncodedChunk, Bytes]:
        """Return a chunk as it is to be stored, and its payload, which is kept there.

        What goes to a store that is no folder is encoded when it is written.
        """
        elements = digest_of_elements(chunk)
        number = flat_index(index, self.grid)
        if self.folder is None:
            own = np.array(chunk, self.elements, order="C").reshape(-1).view(np.uint8)
            return EncodedChunk(chunk=number, nbytes=own.size, digest=0, elements=elements), own
        chain, fill = self._chain
        whole = np.ascontiguousarray(padded(chunk, self.chunk_shape, fill.value, workspace))
        if chain.shard is None and not self.keeps_empty and fill.is_all_of(whole):
            own = np.empty(0, np.uint8)
        else:
            own = kept.keep(chain.pieces(whole, workspace))
        rim = None
        if self.has_digests and chunk.shape != self.chunk_shape:
            rim = elements if is_exact(self.array.metadata.to_dict()) else self._rim(chunk, own)
        encoded = EncodedChunk(
            chunk=number,
            nbytes=own.size,
            digest=digest_of(own) if own.size else 0,
            elements=elements,
            rim=rim,
        )
        return encoded, own

    def _rim(self, chunk: npt.NDArray[Any], payload: Bytes) -> int:
        """Return the digest of what a reader gets of a chunk, of which codecs leave out a part."""
        chain, fill = self._chain
        whole = np.full(self.chunk_shape, fill.value, self.elements)
        if payload.size:
            chain.decode(payload, whole, Workspace())
        return digest_of_elements(whole[tuple(map(slice, chunk.shape))])

    def write(
        self,
        chunks: Sequence[tuple[EncodedChunk, Bytes, PayloadPlace]],
        *,
        scratch: Path,
        syncs: bool,
    ) -> None:
        """Write objects; ``syncs`` has them on the disk afterwards."""
        for encoded, payload, _ in chunks:
            index = index_at(encoded.chunk, self.grid)
            region = box(self.shape, self.chunk_shape, index)
            if self.folder is None:
                place = f"{store_name(self.array.store)}/{self.array.path}".rstrip("/")
                part = tuple(bounds.stop - bounds.start for bounds in region)
                with store_errors(place, region):
                    self.array[region or ()] = payload.view(self.elements).reshape(part)
            elif encoded.nbytes:
                with disk_errors(self.folder):
                    self._write_object(index, payload, scratch, syncs=syncs)

    def _write_object(
        self, index: Sequence[int], payload: Bytes, scratch: Path, *, syncs: bool
    ) -> None:
        """Write an object under another name, and then give it its own."""
        name = f"{self.folder}/{self.array.metadata.encode_chunk_key(tuple(index))}"
        built = scratch / f"{uuid.uuid4().hex}.object"
        try:
            with opened(built, os.O_WRONLY | os.O_CREAT) as descriptor:
                write_at(descriptor, memoryview(payload), 0)
                if syncs:
                    os.fsync(descriptor)
            try:
                os.replace(built, name)
            except FileNotFoundError:
                self._make_folders(os.path.dirname(name))
                os.replace(built, name)
        except BaseException:
            built.unlink(missing_ok=True)
            raise

    def _make_folders(self, folder: str) -> None:
        """Make a folder below the array's own, which is not made again once it is gone."""
        inside = os.path.relpath(folder, self.folder)
        at = str(self.folder)
        for part in inside.split(os.sep):
            at = os.path.join(at, part)
            with contextlib.suppress(FileExistsError):
                os.mkdir(at)


def travels(store: Any) -> bool:
    """Return whether another process reaches what a store reaches here."""
    if isinstance(store, FsspecStore):
        protocol = getattr(store.fs, "protocol", "")
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        return not names & {"memory", "file", "local", "zip", "tar", "reference"}
    if isinstance(store, ObjectStore):
        return "Memory" not in type(store.store).__name__
    return False
