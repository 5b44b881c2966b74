"""The files of a Zarr array in a local folder, read and decoded without zarr-python.

Its event loop costs ten times a plain read for each chunk. What it knows of
the array, codecs and names of files, is asked of its metadata once.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.storage

from lazyio.codecs.fill import Fill
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.codecs.zarr_chain import Chain, chain_of
from lazyio.elements import is_text
from lazyio.errors import DamagedDataError, OptionError, UnsafeFileError
from lazyio.grid import Region, box, format_region, n_along, overlap, touched
from lazyio.sources.base import Array
from lazyio.sources.confine import is_inside, require_inside
from lazyio.sources.files import opened_path, read_exactly, read_region, require_stored
from lazyio.sources.zarr_folder import OpenFolder
from lazyio.spec import Shape, nbytes_of

_MOST_MISSING = 1000
"""Objects that are asked for and not there, before a listing tells which ones are."""

_NUMBER = re.compile(r"(?<=[/.])\d+(?=[/.]|$)")


@dataclass(frozen=True, kw_only=True)
class ZarrObjects:
    """Where the objects of an array lie and what decodes them."""

    metadata: Any
    """The array's metadata, as zarr-python holds it."""
    shape: Shape
    """Extents of the array."""
    chain: Chain
    """What decodes a whole object, a chunk or a shard."""
    fill: Fill
    """What a reader gets where no object is."""
    folders: tuple[Path, ...] = ()
    """Where symbolic links may lead; none where that is not asked."""

    def read_into(self, folder: OpenFolder, region: Region, out: Array) -> None:
        """Fill ``out`` with a part; of a shard only inner chunks in it are decoded."""
        workspace = Workspace()
        n_missing = 0
        for index, inside, outside in touched(region, self.chain.shape):
            part = out[outside] if outside else out
            if self._read_one(folder, index, inside, part, workspace):
                continue
            part[...] = self.fill.value
            n_missing += 1
            if n_missing > _MOST_MISSING:
                self._read_what_is_there(folder, region, out, workspace)
                return

    def _read_what_is_there(
        self, folder: OpenFolder, region: Region, out: Array, workspace: Workspace
    ) -> None:
        """Read from a mostly empty array, without asking for each object."""
        out[...] = self.fill.value
        for index in stored_objects(folder, self.metadata, region, self.chain.shape):
            inside, outside = overlap(region, self.chain.shape, index)
            if not self._read_one(folder, index, inside, out[outside], workspace):
                out[outside] = self.fill.value

    def _read_one(
        self,
        folder: OpenFolder,
        index: Shape,
        inside: Region,
        part: Array,
        workspace: Workspace,
    ) -> bool:
        """Fill memory with a part of an object, and return whether there is one."""
        name = self.metadata.encode_chunk_key(index)
        file = folder.open(name)
        if file is None:
            return False
        with file:
            if self.folders and not is_inside(opened_path(file), self.folders):
                path = folder.path_of(name)
                require_inside(path, folder.path_of(""), "a symbolic link", self.folders)
            try:
                self._decode(file, inside, part, workspace)
            except UnsafeFileError:
                raise
            except Exception as error:  # Each codec has exceptions of its own.
                folder.check_object(name, os.fstat(file.fileno()))
                where = format_region(box(self.shape, self.chain.shape, index))
                msg = f"{folder.path_of(name)}, which holds {where}, is damaged: {error}"
                raise DamagedDataError(msg) from error
            folder.check_object(name, os.fstat(file.fileno()))
        return True

    def _decode(self, file: FileIO, inside: Region, part: Array, workspace: Workspace) -> None:
        nbytes = os.fstat(file.fileno()).st_size
        fetch = partial(_fetch, file, workspace)
        if self.chain.shard is not None:
            self.chain.shard.read(fetch, nbytes, inside, part, workspace)
            return
        is_in_place = self.chain.is_identity and part.flags.c_contiguous
        if is_in_place and nbytes == nbytes_of(self.chain.shape, part.dtype):
            read_region(file, 0, self.chain.shape, inside, part)
            return
        require_stored(file, 0, nbytes, nbytes_of(self.chain.shape, self.chain.dtype))
        chunk = workspace.place_for(part, self.chain.shape)
        self.chain.decode(fetch(0, nbytes), chunk, workspace)
        if chunk is not part:
            part[...] = chunk[inside]


def index_named(metadata: Any, ndim: int, name: str) -> tuple[int, ...] | None:
    """Return the position of the object of a name in an array's folder, else ``None``."""
    index = tuple(map(int, _NUMBER.findall(f"/{name}")))[:ndim]
    is_one = len(index) == ndim and metadata.encode_chunk_key(index) == name
    return index if is_one else None


def stored_objects(
    folder: OpenFolder, metadata: Any, region: Region, step: Shape
) -> Iterator[tuple[int, ...]]:
    """Yield the positions of objects that are there, of those that a region touches."""
    rows = [
        range(part.start // size, n_along(part.stop, size))
        for part, size in zip(region, step, strict=True)
    ]
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for entry, is_folder in folder.entries(here):
            name = f"{here}/{entry}" if here else entry
            numbers = map(int, _NUMBER.findall(f"/{name}"))
            if any(at not in row for at, row in zip(numbers, rows, strict=False)):
                continue
            index = index_named(metadata, len(rows), name)
            if index is not None:
                yield index
            elif is_folder:
                waiting.append(name)


def objects_of(array: zarr.Array[Any], folders: tuple[Path, ...] = ()) -> ZarrObjects | None:
    """Return how an array's files are read, ``None`` where zarr-python must do it."""
    if not isinstance(array.store, zarr.storage.LocalStore):
        return None
    dtype = np.dtype(array.dtype)
    if is_text(dtype):
        return None
    fill = Fill(array.metadata.fill_value, dtype)
    try:
        chain = chain_of(array.metadata.to_dict(), dtype, fill)
    except OptionError:
        # What cannot be encoded here may be read by zarr-python all the same.
        return None
    if chain is None:
        return None
    return ZarrObjects(
        metadata=array.metadata,
        shape=tuple(map(int, array.shape)),
        chain=chain,
        fill=fill,
        folders=folders,
    )


def _fetch(file: FileIO, workspace: Workspace, offset: int, nbytes: int) -> Bytes:
    """Return bytes of a file, good until the next call."""
    raw = workspace.buffer("raw", nbytes)
    read_exactly(file, offset, memoryview(raw))
    return raw
