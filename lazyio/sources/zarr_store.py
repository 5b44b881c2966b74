"""Stores that zarr-python reads a stranger's array through, in a folder or a zip file.

Every byte that it reads comes by way of ``get``: what is no regular file, lies
outside the store's folder, or is too large to be metadata is refused there.
"""

import asyncio
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, ZipStore

from lazyio.errors import SourceError
from lazyio.sources.confine import allowed_folders, require_inside
from lazyio.sources.files import require_metadata_size

METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class ConfinedStore(LocalStore):
    """A local folder, of which nothing is read that lies outside."""

    def __init__(
        self, root: Path | str, *, folders: Sequence[Path] = (), read_only: bool = True
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._folders = tuple(folders) or allowed_folders(str(root), None)

    def with_read_only(self, read_only: bool = False) -> "ConfinedStore":
        """Return the same store; zarr asks for it when it opens one."""
        return type(self)(self.root, folders=self._folders, read_only=read_only)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return an object, or a part of it, ``None`` where there is none."""
        await asyncio.to_thread(self._check, key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of objects."""
        return [await self.get(key, prototype, one) for key, one in key_ranges]

    def _check(self, key: str) -> None:
        path = os.path.join(self.root, key)
        try:
            nbytes = os.stat(path).st_size
        except OSError:
            return
        require_inside(path, str(self.root), repr(key), self._folders)
        if _is_metadata(key):
            _require_metadata_size(path, nbytes)


class SizedZipStore(ZipStore):
    """A zip file, of which no metadata are unpacked that are too large to be any."""

    def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if not self._is_open:
            self._sync_open()
        try:
            entry = self._zf.getinfo(key)
        except KeyError:
            return None
        if _is_metadata(key):
            _require_metadata_size(f"{self.path}: {key}", entry.file_size)
        return super()._get(key, prototype, byte_range)


def confined_store(path: Path, folders: Sequence[Path] = ()) -> Any:
    """Return the store for a folder or a zip file."""
    if not os.path.isfile(path):
        return ConfinedStore(path, folders=folders)
    if not zipfile.is_zipfile(path):
        msg = f"{path} is a file, but no zip file; a Zarr store is a folder or a zip file"
        raise SourceError(msg)
    return SizedZipStore(path, mode="r")


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in METADATA_NAMES


def _require_metadata_size(path: str, nbytes: int) -> None:
    try:
        require_metadata_size(nbytes)
    except ValueError as error:
        msg = f"{path} is damaged: {error}"
        raise SourceError(msg) from error
