"""The objects of a Zarr array in a local folder, read and decoded without zarr-python.

A Zarr array is many files. Its metadata have an identity; an object, a chunk
or a shard, is as it was if its stamp is not later than the description.

Its event loop costs ten times a plain read for each chunk. What it knows of
the array, codecs and names of files, is asked of its metadata once.
"""

import errno
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
import zarr.storage

from lazyio.codecs.chunk_reading import read_chunks
from lazyio.codecs.workspace import Bytes, Fill, Workspace
from lazyio.codecs.zarr_chain import Chain, chain_of
from lazyio.dtypes import Shape, is_text, nbytes_of
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SourceError,
    UnsafeFileError,
)
from lazyio.regions import Region, box, format_region, n_along
from lazyio.sources.base import Array
from lazyio.sources.files import (
    open_for_reading,
    opened_path,
    read_exactly,
    read_region,
    require_stored,
)
from lazyio.sources.identity import Identity, changed, checked_around, require_same, wait_for_tick
from lazyio.sources.path_policy import is_inside, require_inside

ARRAY_METADATA = ("zarr.json", ".zarray", ".zattrs")
"""Files that say what an array is."""


@dataclass(frozen=True, kw_only=True)
class FolderState:
    """What tells one state of an array's folder from another."""

    path: str
    """Absolute path of the folder."""
    inode: int
    """Its number in the file system."""
    metadata: tuple[Identity | None, ...]
    """Of the files that say what the array is; ``None`` for one that is not there."""
    seen_ns: int
    """When it was described, by this machine's clock."""

    @property
    def token(self) -> tuple[object, ...]:
        """What names the same state in any process, whenever it is described."""
        return self.path, self.inode, self.metadata

    def check(self) -> None:
        """Refuse a folder that is not the one that was described, or has other metadata."""
        with OpenFolder(self.path, self) as folder:
            folder.check()


class OpenFolder:
    """An array's folder while it is read; objects come from it, wherever its path leads by now."""

    def __init__(self, path: str, state: FolderState | None) -> None:
        self._path = path
        self._state = state
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if state is not None and error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise changed(path, "was removed", error.errno) from error
            msg = (
                f"{path} cannot be read: {error.strerror}; a missing store would read as its "
                "fill value"
            )
            raise SourceError(error.errno, msg) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def state_at(self, seen_ns: int) -> FolderState:
        """Return what it is like now, as seen at some time."""
        return FolderState(
            path=self._path,
            inode=os.fstat(self._descriptor).st_ino,
            metadata=tuple(map(self._identity, ARRAY_METADATA)),
            seen_ns=seen_ns,
        )

    def path_of(self, name: str) -> str:
        """Return the path of something in it."""
        return f"{self._path}/{name}" if name else self._path

    def unchanged(self, names: Collection[str] = ()) -> AbstractContextManager[None]:
        """Refuse what is read unless all that :meth:`check` looks at is as it was described."""
        return checked_around(lambda: self.check(names))

    def check(self, names: Collection[str] = ()) -> None:
        """Refuse another folder, other metadata, and objects of these names that were changed."""
        state = self._state
        if state is None:
            return
        for name in names:
            self._check_by_name(name)
        if os.fstat(self._descriptor).st_ino != state.inode:
            raise changed(self._path, "was replaced by another folder")
        for name, identity in zip(ARRAY_METADATA, state.metadata, strict=True):
            now = self._identity(name)
            if identity is not None and now is not None:
                require_same(self.path_of(name), identity, now)
            elif identity is not now:
                raise changed(self.path_of(name), "was removed" if now is None else "was made")

    def open(self, name: str) -> FileIO | None:
        """Return an object open for reading, ``None`` where there is none, and was none."""
        try:
            return open_for_reading(self.path_of(name), name, self._descriptor)
        except SourceError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        self.check_missing(name)
        return None

    def check_object(self, name: str, facts: os.stat_result) -> None:
        """Refuse an object that has been written since the array was described.

        To be called once it has been read.
        """
        if self._is_later(facts):
            raise changed(self.path_of(name), "was written")

    def check_missing(self, name: str) -> None:
        """Refuse a gap where an object may have been, or come, since the array was described."""
        above = name
        while above:
            above = above.rpartition("/")[0]
            try:
                facts = os.stat(above or ".", dir_fd=self._descriptor)
            except FileNotFoundError:
                continue
            if self._is_later(facts):
                raise changed(self.path_of(above), "has had objects made or removed")
            return

    def _check_by_name(self, name: str) -> None:
        """Refuse an object, or a gap, that is not as it was; see the two above."""
        try:
            facts = os.stat(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            self.check_missing(name)
        else:
            self.check_object(name, facts)

    def entries(self, name: str) -> list[tuple[str, bool]]:
        """Return the names in a folder inside, and whether each is a folder itself."""
        try:
            descriptor = os.open(name or ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._descriptor)
        except FileNotFoundError as error:
            raise changed(self.path_of(name), "was removed", error.errno) from error
        try:
            with os.scandir(descriptor) as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries]
            if self._is_later(os.fstat(descriptor)):
                raise changed(self.path_of(name), "has had objects made or removed")
        finally:
            os.close(descriptor)
        return found

    def _is_later(self, facts: os.stat_result) -> bool:
        """Return whether something is younger than the description.

        A stamp from the future is of a file server whose clock is ahead; it tells nothing.
        """
        state = self._state
        return state is not None and state.seen_ns < facts.st_mtime_ns <= time.time_ns()

    def _identity(self, name: str) -> Identity | None:
        try:
            return Identity.of(os.stat(name, dir_fd=self._descriptor))
        except FileNotFoundError:
            return None


def folder_state(path: str) -> FolderState:
    """Return the state of an array's folder, once whatever is changed gets a later stamp."""
    seen_ns = time.time_ns()
    wait_for_tick(seen_ns)
    with OpenFolder(path, None) as folder:
        return folder.state_at(seen_ns)


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
        shape, workspace = self.chain.shape, Workspace()
        read_part = partial(self._read_one, folder, workspace)
        fill = self.fill.value
        if not read_chunks(region, shape, out, fill, read_part, most_missing=_MOST_MISSING):
            # It is mostly empty: a listing tells which objects are there.
            stored = stored_objects(folder, self.metadata, region, shape)
            read_chunks(region, shape, out, fill, read_part, stored=stored)

    def _read_one(
        self,
        folder: OpenFolder,
        workspace: Workspace,
        index: Shape,
        inside: Region,
        part: Array,
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
        require_stored(file, nbytes, 0, nbytes, nbytes_of(self.chain.shape, self.chain.dtype))
        payload, chain = fetch(0, nbytes), self.chain
        workspace.decode_part(
            part, inside, chain.shape, lambda chunk: chain.decode(payload, chunk, workspace)
        )


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


def objects_of(array: "zarr.Array[Any]", folders: tuple[Path, ...] = ()) -> ZarrObjects | None:
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
