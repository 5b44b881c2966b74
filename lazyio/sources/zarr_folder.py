"""The folder of a Zarr array, and whether what is read of it is as it was when it was described.

A Zarr array is many files. Its metadata have an identity; an object, a chunk
or a shard, is as it was if its stamp is not later than the description.
"""

import errno
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from typing import Self

from lazyio.errors import SourceChangedError, SourceError
from lazyio.sources.files import require_regular_file
from lazyio.sources.identity import Identity, changed, require_same, wait_for_tick

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

    @contextmanager
    def unchanged(self, names: Collection[str] = ()) -> Iterator[None]:
        """Refuse what is read unless folder and metadata are those described, before and after."""
        self.check()
        try:
            yield
        except Exception as error:
            if not isinstance(error, SourceChangedError):
                try:
                    self.check(names)
                except SourceChangedError as found:
                    raise found from error
            raise
        self.check(names)

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
        path = self.path_of(name)
        opener = partial(_open_in, self._descriptor, name)
        try:
            file = FileIO(path, "r", opener=opener)
        except (FileNotFoundError, NotADirectoryError):
            self.check_missing(name)
            return None
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise SourceError(error.errno, msg) from error
        try:
            require_regular_file(os.fstat(file.fileno()), path)
        except SourceError:
            file.close()
            raise
        return file

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


def _open_in(folder: int, name: str, _: str, flags: int) -> int:
    """Open something in an open folder, as FileIO wants it."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0), dir_fd=folder)
