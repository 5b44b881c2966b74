"""Reading parts of files: whole runs, short reads, and files that are too short."""

import errno
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np

from lazyio.errors import SourceChangedError, SourceError, TruncatedSourceError
from lazyio.grid import Region, box_shape
from lazyio.sources.base import Array
from lazyio.sources.identity import Identity, changed, identity_of, settled, unchanged
from lazyio.spec import Shape

PAGE_NBYTES = 4096
"""What is fetched at least, however little is read."""
LONG_RUN_NBYTES = 64 * 2**10
"""From here on, a read costs little beside its bytes."""
_STRIPE_NBYTES = 2**20
_MOST_GAP_NBYTES = 48 * 2**10
"""What is read for nothing in the time that another read takes to begin."""


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of something that is there.

    Raises
    ------
    SourceError
        When nothing is at that path.
    """
    found = Path(os.path.abspath(path))
    if not found.exists():
        msg = f"{found} does not exist; check the path, which is looked up from {Path.cwd()}"
        raise SourceError(msg)
    return found


def open_for_reading(path: str) -> FileIO:
    """Return an unbuffered file, or say why there is none."""
    try:
        return FileIO(path, "r")
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error


@contextmanager
def reading(path: str, identity: Identity | None) -> Iterator[FileIO]:
    """Open a file to read it as it was when it was described.

    Parameters
    ----------
    path : str
        Where it lies.
    identity : Identity or None
        What it was then; ``None`` reads whatever is there.

    Raises
    ------
    SourceChangedError
        When it is another, or was changed while it was read.
    SourceError
        When it cannot be read.
    """
    try:
        file = open_for_reading(path)
    except SourceError as error:
        if identity is not None and error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise changed(path, "was removed", error.errno) from error
        raise
    with file:
        if identity is None:
            yield file
            return
        with unchanged(path, identity, file):
            yield file


@contextmanager
def describing(path: str) -> Iterator[tuple[FileIO, Identity]]:
    """Open a file whose header is read, and say so where that fails because it is changed.

    The identity comes first: what is changed behind it is found when it is read.
    """
    with open_for_reading(path) as file:
        identity = settled(file.fileno())
        try:
            yield file, identity
        except Exception as error:
            what = identity.difference(identity_of(path, file.fileno()))
            if what and not isinstance(error, SourceChangedError):
                raise changed(path, what) from error
            raise


def read_region(file: FileIO, offset: int, shape: Shape, region: Region, out: Array) -> None:
    """Fill ``out`` with a part of a C-ordered array that lies in a file.

    Parameters
    ----------
    file : FileIO
        Unbuffered file.
    offset : int
        Bytes before the array.
    shape : tuple of int
        Extents of the array.
    region : tuple of slice
        The part.
    out : ndarray
        C-ordered, of the region's shape and the array's dtype.

    Raises
    ------
    TruncatedSourceError
        When the file ends before the part does.

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
    file: FileIO, start: int, outer: Shape, strides: list[int], row: int, run: int, flat: Array
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

    Parameters
    ----------
    shape : tuple of int
        Extents of the array.
    itemsize : int
        Bytes per element.
    nbytes : int
        Bytes, upper bound of the run, but for a single element.

    Returns
    -------
    tuple of int
        Elements per axis, the trailing axes whole.

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


def read_exactly(file: FileIO, offset: int, view: memoryview) -> None:
    """Read until the view is full; one call may give less than was asked for.

    Raises
    ------
    TruncatedSourceError
        When the file ends first.
    """
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
