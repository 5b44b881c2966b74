"""An HDF5 file that lies in a BytesIO as a place to write to: complete, or untouched."""

import contextlib
import errno
import io
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import h5py

from lazyio.errors import TargetError, TargetExistsError
from lazyio.writing.hdf5_backend import GroupAttributes, NewDatasets
from lazyio.writing.hdf5_settings import Hdf5Item
from lazyio.writing.request import Build, Heads, Place
from lazyio.writing.run_options import RunOptions
from lazyio.writing.target_checks import check_key_is_free

NAME = "the HDF5 file in memory"
"""What reports and errors call it."""


@dataclass(frozen=True, kw_only=True)
class FileBuffer:
    """A BytesIO that holds a file, or is to hold one."""

    content: io.BytesIO
    """Of the caller; without bytes it is a file that does not exist."""
    mode: str
    """h5py's file mode."""

    def check(self) -> None:
        """Refuse what the mode does not allow, and bytes that are no file."""
        if self.content.closed:
            msg = "the BytesIO to write into has been closed; give one that is open"
            raise TargetError(errno.EBADF, msg)
        nbytes = self.content.getbuffer().nbytes
        if nbytes and self.mode in ("w-", "x"):
            msg = (
                f"the BytesIO holds {nbytes} bytes, and mode={self.mode!r} makes only new files; "
                "pass mode='a' to add to it (mode='w' replaces all of it)"
            )
            raise TargetExistsError(errno.EEXIST, msg)
        if not nbytes and self.mode == "r+":
            msg = "the BytesIO is empty, and mode='r+' adds to existing files; pass mode='a'"
            raise TargetError(errno.ENOENT, msg)
        if self.is_kept:
            self.open().close()

    @property
    def is_kept(self) -> bool:
        """Whether the file that it holds is added to."""
        return self.mode in ("a", "r+") and self.content.getbuffer().nbytes > 0

    def open(self) -> h5py.File:
        """Return the file that it holds, open for reading."""
        try:
            return h5py.File(io.BytesIO(self.content.getvalue()), "r")
        except OSError as error:
            msg = (
                f"the BytesIO holds {self.content.getbuffer().nbytes} bytes that are no HDF5 "
                f"file: {error}; pass mode='w' to replace them"
            )
            raise TargetError(errno.EINVAL, msg) from error

    @contextlib.contextmanager
    def as_path(self) -> Iterator[Path]:
        """Yield the name of a temporary file, which is copied back unless there is an error."""
        self.check()
        with tempfile.TemporaryDirectory(prefix="lazyio-") as folder:
            path = Path(folder, "memory.h5")
            if self.is_kept:
                path.write_bytes(self.content.getbuffer())
            yield path
            self._take(path)

    def _take(self, path: Path) -> None:
        """Put the complete file into the buffer, whose position is at its start then."""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                # In one call, which gets all of the memory before it changes a byte.
                self.content.seek(0)
                self.content.write(view)
                self.content.truncate(len(view))
            except (BufferError, MemoryError) as error:
                msg = (
                    f"{len(view)} bytes cannot be put into the BytesIO: {error!r}; it "
                    "is as it was. Release its views (getbuffer), or write to a path"
                )
                raise TargetError(errno.ENOMEM, msg) from error
            self.content.seek(0)


@dataclass(frozen=True, kw_only=True)
class InMemoryFile(Place[Hdf5Item]):
    """A file in a BytesIO: it is built in a temporary one, and copied when that is complete."""

    buffer: FileBuffer
    """Where it lies."""
    overwrite: bool
    """Whether existing datasets may be replaced."""
    libver: Any = None
    """File format bounds."""
    group_attrs: GroupAttributes = field(default_factory=dict)
    """Attributes of groups in it, by their paths."""

    format: ClassVar[str] = "hdf5"

    def check(self, items: Sequence[Hdf5Item]) -> None:
        """Refuse what the mode does not allow, and keys that are taken."""
        self.buffer.check()
        if not self.buffer.is_kept:
            return
        with self.buffer.open() as file:
            for item in items:
                check_key_is_free(file, item.arranged.key, replace=self.overwrite)

    @contextlib.contextmanager
    def build(
        self, items: Sequence[Hdf5Item], running: RunOptions, heads: Heads
    ) -> Iterator[Build]:
        """Build the file elsewhere, and copy it into the caller's buffer at the end."""
        self.check(items)
        with self.buffer.as_path() as path:
            place = NewDatasets(
                path=path,
                mode=self.buffer.mode,
                overwrite=self.overwrite,
                libver=self.libver,
                group_attrs=self.group_attrs,
            )
            with place.build(items, running, heads) as build:
                yield build

    def __reduce__(self) -> Any:
        msg = (
            "a BytesIO cannot be filled by another process, which would fill a copy; write to a "
            "path, or compute with scheduler='threads'"
        )
        raise TargetError(errno.EXDEV, msg)
