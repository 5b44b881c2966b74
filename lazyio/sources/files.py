"""Reading parts of files: whole runs, short reads, and files that are too short."""

import errno
import itertools
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, most_stored
from lazyio.errors import (
    SourceError,
    TruncatedSourceError,
    UnsafeFileError,
)
from lazyio.regions import Region, box_shape
from lazyio.sources.base import Array, ReadsRows
from lazyio.sources.identity import (
    Identity,
    changed,
    checked_around,
    identity_of,
    is_unchanged,
    require_same,
    settled,
)

PAGE_NBYTES = 4096
"""What is fetched at least, however little is read."""
LONG_RUN_NBYTES = 64 * 2**10
"""From here on, a read costs little beside its bytes."""
MOST_METADATA_NBYTES = 64 * 2**20
"""Of one JSON file: consolidated metadata of some 50,000 arrays."""
_STRIPE_NBYTES = 2**20
_BETWEEN_NBYTES = 256 * 2**10
"""That are read at once of rows of which every so many is wanted."""
_MOST_GAP_NBYTES = 48 * 2**10
"""What is read for nothing in the time that another read takes to begin."""


class Readable(Protocol):
    """What gives bytes from a position on."""

    @property
    def name(self) -> Any:
        """What an error calls it."""

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""

    def readinto(self, view: memoryview, /) -> int | None:
        """Fill a view from there, or the first part of it; 0 at the end."""


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of something that is there."""
    found = absolute(path)
    try:
        facts = found.stat()
    except FileNotFoundError:
        raise SourceError(errno.ENOENT, f"{found} does not exist; {_looked_up(path)}") from None
    except OSError as error:
        msg = f"{found} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error
    require_regular_file(facts, str(found))
    return found


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of something that need not be there."""
    name = os.fspath(path)
    if "\0" in name:
        msg = f"path={name!r} holds a NUL, which no file name can; check the path"
        raise SourceError(errno.EINVAL, msg)
    try:
        return Path(os.path.abspath(name))
    except FileNotFoundError as error:
        msg = f"{name} is looked up from the working directory, which is gone; give a whole path"
        raise SourceError(error.errno, msg) from error


def _looked_up(path: str | os.PathLike[str]) -> str:
    if os.path.isabs(path):
        return "check the path"
    return f"check the path, which is looked up from {Path.cwd()}"


def require_regular(path: str) -> None:
    """Raise where a path leads to a pipe, a socket or a device: opening one may never end."""
    try:
        facts = os.stat(path)
    except OSError:
        # Whoever opens it says what is wrong.
        return
    require_regular_file(facts, path)


def require_regular_file(facts: os.stat_result, path: str) -> None:
    """Raise unless what the system says of something is that it is a file, or a folder."""
    # A folder does not open as a file, and whoever tries says so.
    if stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode):
        return
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(facts.st_mode), "a device")
    msg = f"{path} is {kind}; only files are read. Copy what it gives to a file first"
    raise UnsafeFileError(msg)


def open_for_reading(path: str, name: str = "", folder: int | None = None) -> FileIO:
    """Return an unbuffered file, or say why there is none; a name is looked up in an open folder.

    A pipe is opened without waiting for its other end, which may never come.
    """

    def opener(_: str, flags: int) -> int:
        return os.open(name or path, flags | getattr(os, "O_NONBLOCK", 0), dir_fd=folder)

    try:
        file = FileIO(path, "r", opener=opener)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error
    try:
        require_regular_file(os.fstat(file.fileno()), path)
    except UnsafeFileError:
        file.close()
        raise
    return file


def opened_path(file: FileIO) -> str:
    """Return where an open file lies, whatever symbolic links have led to it."""
    try:
        # One call, and of what is open: a link may be changed after it was followed.
        return os.readlink(f"/proc/self/fd/{file.fileno()}")
    except OSError:
        return os.path.realpath(os.fsdecode(file.name))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a file of JSON holds, read only where its size is that of metadata."""
    with open_for_reading(str(path)) as file:
        require_metadata_size(os.fstat(file.fileno()).st_size)
        try:
            return json.loads(file.readall())
        except RecursionError:
            msg = "it is nested too deeply"
            raise ValueError(msg) from None


def require_metadata_size(nbytes: int) -> None:
    """Raise where metadata are too large to be any."""
    if nbytes > MOST_METADATA_NBYTES:
        msg = f"its {nbytes} bytes are more than metadata take ({MOST_METADATA_NBYTES})"
        raise ValueError(msg)


def open_source_file(path: str, identity: Identity | None) -> FileIO:
    """Return the open file of a source, which may have been removed since it was described."""
    try:
        return open_for_reading(path)
    except SourceError as error:
        if identity is not None and error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise changed(path, "was removed", error.errno) from error
        raise


@contextmanager
def reading(path: str, identity: Identity | None) -> Iterator[FileIO]:
    """Open a file to read it as it was when it was described."""
    with open_source_file(path, identity) as file:
        if identity is None:
            yield file
            return
        with checked_around(lambda: _require_state(file, identity)):
            yield file


@contextmanager
def describing(path: str) -> Iterator[tuple[FileIO, Identity]]:
    """Open a file whose header is read, and say so where that fails because it is changed.

    The identity comes first: what is changed behind it is found when it is read.
    """
    with open_for_reading(path) as file:
        identity = settled(file.fileno())
        with checked_around(lambda: _require_state(file, identity), is_new=True):
            yield file, identity


class ReadsFromFile(Protocol):
    """A source that reads from a file that is open already."""

    @property
    def path(self) -> str:
        """Absolute path of the file."""

    @property
    def identity(self) -> Identity | None:
        """The state of the file that is read; ``None`` for whatever is there."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    def read_from(self, file: FileIO, region: Region, out: Array, workspace: Workspace) -> None:
        """Fill ``out`` with a part."""

    def rows_in(self, file: FileIO, row_nbytes: int) -> ReadsRows | None:
        """Return what reads whole rows of some bytes, ``None`` unless they lie as they are."""


@dataclass(frozen=True, kw_only=True)
class RowsOfFile:
    """Rows that lie in an open file as one run of bytes."""

    descriptor: int
    """Of the file."""
    offset: int
    """Where they begin."""
    row_nbytes: int
    """Bytes of each."""

    is_serial: ClassVar[bool] = False
    is_plain: ClassVar[bool] = True

    def read_rows(self, start: int, out: Array, step: int = 1) -> bool:
        """Fill ``out`` with every so many rows from one on; return whether they were all there."""
        if step > 1:
            return read_every(self.read_rows, start, out, step)
        return read_at(self.descriptor, self.offset + start * self.row_nbytes, out)

    def will_need(self, start: int, stop: int) -> bool:
        """Have the system read rows ahead into its own cache, without a thread of ours."""
        at, nbytes = self.offset + start * self.row_nbytes, (stop - start) * self.row_nbytes
        return will_need(self.descriptor, at, nbytes)


def read_at(descriptor: int, offset: int, out: Array) -> bool:
    """Fill ``out`` from a byte of an open file on; return whether all of it was there."""
    # Not every type of elements can be seen as plain memory.
    place = out if out.dtype.kind in "biufc" else out.view(np.uint8)
    return os.preadv(descriptor, [place], offset) == out.nbytes


def will_need(descriptor: int, offset: int, nbytes: int) -> bool:
    """Have the system read a part of an open file into its cache; return whether it can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.posix_fadvise(descriptor, offset, nbytes, os.POSIX_FADV_WILLNEED)
    return True


def read_every(read: Callable[[int, Array], bool], start: int, out: Array, step: int) -> bool:
    """Fill ``out`` with every so many rows, those between them read as well, a few at a time."""
    n_rows = max(1, _BETWEEN_NBYTES // max(1, step * out[:1].nbytes))
    for first in range(0, len(out), n_rows):
        part = out[first : first + n_rows]
        between = np.empty(((len(part) - 1) * step + 1, *out.shape[1:]), out.dtype)
        if not read(start + first * step, between):
            return False
        part[...] = between[::step]
    return True


@dataclass(kw_only=True)
class OpenedFile:
    """A source of which the file stays open for many reads, each checked as if it was opened anew.

    One thread reads from it at a time: the file has one position.
    """

    source: ReadsFromFile
    """What is read."""
    file: FileIO
    """Open."""
    workspace: Workspace | None = None
    """Memory that is used again for each read, if it may be kept between them."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.source.dtype

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        identity, workspace = self.source.identity, self.workspace or Workspace()
        if identity is None:
            self.source.read_from(self.file, region, out, workspace)
            return
        with checked_around(lambda: _require_state(self.file, identity)):
            self.source.read_from(self.file, region, out, workspace)

    def keep_memory(self) -> None:
        """Keep what decodes a chunk between reads."""
        self.workspace = Workspace()

    def rows(self, row_nbytes: int) -> ReadsRows | None:
        """Return what reads whole rows of some bytes, if that is one call each."""
        if not hasattr(os, "preadv") or self.dtype.hasobject:
            return None
        return self.source.rows_in(self.file, row_nbytes)


@contextmanager
def kept_open(source: ReadsFromFile) -> Iterator[OpenedFile]:
    """Open the file of a source for many reads."""
    with open_source_file(source.path, source.identity) as file:
        if source.identity is not None:
            _require_state(file, source.identity)
        yield OpenedFile(source=source, file=file)


def _require_state(file: FileIO, identity: Identity) -> None:
    # This is asked twice for every read, however short.
    if is_unchanged(identity, file.fileno()):
        return
    path = os.fsdecode(file.name)
    require_same(path, identity, identity_of(path, file.fileno()))


def read_region(file: Readable, offset: int, shape: Shape, region: Region, out: Array) -> None:
    """Fill ``out`` with a part of a C-ordered array that lies in a file.

    Notes
    -----
    A part that is one run of bytes is read straight into place. Short runs
    that lie close together are read with what is between them, a stripe at a
    time: one long read and a strided copy beat thousands of short reads.
    """
    if out.size == 0:
        return
    itemsize = out.dtype.itemsize
    wanted = box_shape(region)
    # Axes after `split` are taken whole: one run covers them and part of `split`.
    split = len(shape) - 1
    while split > 0 and wanted[split] == shape[split]:
        split -= 1
    inner = math.prod(shape[split + 1 :]) * itemsize
    if not shape:
        read_exactly(file, offset, memoryview(out.reshape(1).view(np.uint8)))
        return
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    run = wanted[split] * inner
    start = offset + sum(part.start * step for part, step in zip(region, strides, strict=True))
    flat = out.reshape(-1).view(np.uint8)
    outer = wanted[:split]
    row = strides[split - 1] if split else run
    if split and run < LONG_RUN_NBYTES and row - run <= _MOST_GAP_NBYTES:
        _read_stripes(file, start, outer, strides, row, run, flat)
        return
    for at, index in enumerate(itertools.product(*map(range, outer))):
        where = start + sum(i * step for i, step in zip(index, strides, strict=False))
        read_exactly(file, where, memoryview(flat[at * run : (at + 1) * run]))


def _read_stripes(
    file: Readable, start: int, outer: Shape, strides: list[int], row: int, run: int, flat: Array
) -> None:
    """Read neighbouring rows together and keep the run that is wanted of each."""
    n_rows = outer[-1]
    per_stripe = max(1, min(n_rows, _STRIPE_NBYTES // row))
    stripe = np.empty(per_stripe * row, np.uint8)
    done = 0
    for index in itertools.product(*map(range, outer[:-1])):
        base = start + sum(i * step for i, step in zip(index, strides, strict=False))
        for first in range(0, n_rows, per_stripe):
            count = min(per_stripe, n_rows - first)
            # The last row ends with its run: there may be nothing behind it.
            nbytes = (count - 1) * row + run
            read_exactly(file, base + first * row, memoryview(stripe[:nbytes]))
            rows = np.lib.stride_tricks.as_strided(stripe, (count, run), (row, 1))
            flat[done : done + count * run].reshape(count, run)[:] = rows
            done += count * run


def run_of(shape: Shape, itemsize: int, nbytes: int) -> Shape:
    """Return the part of a C-ordered file that is one run of about so many bytes.

    Examples
    --------
    >>> run_of((1000, 64, 32), 2, 65536), run_of((10**6,), 2, 65536)
    ((16, 64, 32), (32768,))
    """
    room = max(1, nbytes // max(1, itemsize))
    run = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        run[axis] = max(1, min(shape[axis], room))
        room //= run[axis]
    return tuple(run)


def read_exactly(file: Readable, offset: int, view: memoryview) -> None:
    """Read until the view is full; one call may give less than was asked for."""
    file.seek(offset)
    got = 0
    while got < len(view):
        count = file.readinto(view[got:])
        if not count:
            msg = (
                f"{file.name} ends too early: wanted {len(view)} bytes from byte {offset}, "
                f"got {got}; it was truncated while in use, or is not what its header says"
            )
            raise TruncatedSourceError(msg)
        got += count


def require_stored(
    file: Readable, size: int, address: int, nbytes: int, decoded_nbytes: int
) -> None:
    """Raise where an encoded chunk cannot be as long as the file says, before memory is taken."""
    if address < 0 or nbytes < 0 or address + nbytes > size:
        msg = (
            f"{file.name} ends too early: it has {size} bytes, and {nbytes} are wanted from byte "
            f"{address}; it was truncated while in use, or is not what its header says"
        )
        raise TruncatedSourceError(msg)
    if nbytes > most_stored(decoded_nbytes):
        msg = f"it has {nbytes} bytes as it is stored, and {decoded_nbytes} when it is decoded"
        raise ValueError(msg)
