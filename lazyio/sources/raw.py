"""Raw binary files and .npy files."""

import ast
import math
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import FileIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import MAX_NDIM, Shape, as_dtype, as_shape, is_integer
from lazyio.errors import OptionError, SourceError, TruncatedSourceError, UnsupportedDtypeError
from lazyio.regions import Region, box_shape, boxes
from lazyio.sources.base import Array, FillsNew, ReadsRows, Source
from lazyio.sources.concatenated import joined
from lazyio.sources.files import (
    LONG_RUN_NBYTES,
    PAGE_NBYTES,
    OpenedFile,
    Readable,
    RowsOfFile,
    describing,
    existing,
    kept_open,
    read_region,
    reading,
    run_of,
)
from lazyio.sources.identity import Identity, SeenFile

_SLAB_NBYTES = 2 * 2**20
_LINE_NBYTES = 64


@dataclass(frozen=True, kw_only=True)
class RawSource(FillsNew):
    """An array that lies in a file as one run of bytes."""

    path: str
    """Absolute path."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element, with its byte order."""
    offset: int = 0
    """Bytes before the array."""
    order: Literal["C", "F"] = "C"
    """``F`` where the first axis is the fastest."""
    identity: Identity
    """The state of the file that is read."""

    @property
    def chunk_shape(self) -> Shape | None:
        """In F order, a page of the file; else whole rows are read, pages and all."""
        return self._column_of(PAGE_NBYTES)

    @property
    def run_shape(self) -> Shape | None:
        """In F order, what is worth a read of its own: part of a column."""
        return self._column_of(LONG_RUN_NBYTES)

    def _column_of(self, nbytes: int) -> Shape | None:
        if self.in_rows:
            return None
        return run_of(self.shape[::-1], self.dtype.itemsize, nbytes)[::-1]

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file; it has no keys."""
        return self.path, ""

    @property
    def in_rows(self) -> bool:
        """Whether the last axis is the fastest."""
        return self.order == "C" or len(self.shape) < 2

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        return (
            "lazyio.RawSource",
            self.path,
            self.identity,
            self.shape,
            self.dtype.str if self.dtype.fields is None else repr(self.dtype.descr),
            self.offset,
            self.order,
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the file."""
        return (self.path,)

    def require_unchanged(self) -> None:
        """Raise where the file is not as it was."""
        SeenFile(path=self.path, identity=self.identity).check()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        with self.contents() as file:
            self.fill(file, region, out)

    def contents(self) -> AbstractContextManager[Readable]:
        """Open what the elements lie in, for reads that go through it in order."""
        return reading(self.path, self.identity)

    def fill(self, file: Readable, region: Region, out: Array) -> None:
        """Fill ``out`` with a part of opened contents."""
        if self.in_rows:
            read_region(file, self.offset, self.shape, region, out)
        else:
            self._read_turned(file, region, out)

    def opened(self) -> AbstractContextManager[OpenedFile]:
        """Open the file for many reads."""
        return kept_open(self)

    def read_from(self, file: FileIO, region: Region, out: Array, _: Workspace) -> None:
        """Fill ``out`` with a part, from the open file."""
        self.fill(file, region, out)

    def rows_in(self, file: FileIO, row_nbytes: int) -> ReadsRows | None:
        """Return what reads whole rows, ``None`` where the elements are not in C order."""
        if not self.in_rows:
            return None
        return RowsOfFile(descriptor=file.fileno(), offset=self.offset, row_nbytes=row_nbytes)

    def slab_shape(self, shape: Shape) -> Shape:
        """Return how much of a part is turned at once, axes as in the file."""
        return _slab_shape(shape, self.dtype.itemsize)

    def _read_turned(self, file: Readable, region: Region, out: Array) -> None:
        """Fill C-ordered memory from a file in F order, slab by slab.

        A slab is read in long runs and turned while the processor's cache holds it.
        """
        if out.size == 0:
            return
        turned = out.T
        corner = [part.start for part in reversed(region)]
        slab_shape = self.slab_shape(turned.shape)
        held: Array = np.empty(math.prod(slab_shape), self.dtype)
        for place in boxes(turned.shape, slab_shape):
            wanted = tuple(
                slice(start + part.start, start + part.stop)
                for start, part in zip(corner, place, strict=True)
            )
            extents = box_shape(place)
            slab = held[: math.prod(extents)].reshape(extents)
            read_region(file, self.offset, self.shape[::-1], wanted, slab)
            turned[place] = slab


def _slab_shape(shape: Shape, itemsize: int) -> Shape:
    """Return how much of a part is turned at once, axes as in the file.

    Along the slowest axis of the file, which is the fastest in memory, it
    fills whole cache lines; the rest goes to long runs.
    """
    room = max(1, _SLAB_NBYTES // itemsize)
    slab = [1] * len(shape)
    slab[0] = min(shape[0], max(1, _LINE_NBYTES // itemsize))
    for axis in reversed(range(len(shape))):
        others = math.prod(slab) // slab[axis]
        slab[axis] = max(slab[axis], min(shape[axis], room // others))
    return tuple(slab)


def raw_source(
    path: str | os.PathLike[str],
    shape: int | Iterable[int],
    dtype: npt.DTypeLike,
    *,
    offset: int = 0,
    order: str = "C",
) -> RawSource:
    """Return the source for a headerless file, after checking its size."""
    found = existing(path)
    if not found.is_file():
        msg = f"{found} is not a file; raw data lies in a file"
        raise SourceError(msg)
    if order not in ("C", "F"):
        msg = f'order={order!r} is not an order; give "C" (last axis fastest) or "F"'
        raise OptionError(msg)
    element = as_dtype(dtype)
    if element.hasobject:
        msg = f"dtype {element} has no fixed size, which raw data needs; give a length, as in 'S8'"
        raise UnsupportedDtypeError(msg)
    if element.itemsize == 0:
        msg = f"dtype {element} has elements of 0 bytes; give a length, such as 'S8'"
        raise OptionError(msg)
    if not is_integer(offset) or offset < 0:
        msg = f"offset={offset!r} is not a number of bytes; give an integer of at least 0"
        raise OptionError(msg)
    with describing(str(found)) as (_, identity):
        size = identity.nbytes
    extents = _solve_extent(shape, element.itemsize, size - int(offset), str(found))
    nbytes = math.prod(extents) * element.itemsize
    if size != offset + nbytes:
        detail = (
            f"{found} has {size} bytes, but shape {extents} of {element} at offset {offset} "
            f"takes {offset + nbytes}"
        )
        if size < offset + nbytes:
            msg = f"{detail}: it is too short; check shape and dtype, or give -1 for one axis"
            raise TruncatedSourceError(msg)
        msg = (
            f"{detail}: {size - offset - nbytes} bytes are left over; check shape and dtype, or "
            f"skip a header with offset={size - nbytes}"
        )
        raise SourceError(msg)
    return RawSource(
        path=str(found),
        shape=extents,
        dtype=element,
        offset=int(offset),
        order="C" if order == "C" else "F",
        identity=identity,
    )


def raw_sources(
    paths: object,
    shape: int | Iterable[int],
    dtype: npt.DTypeLike,
    *,
    offset: int = 0,
    order: str = "C",
) -> Source:
    """Return the source for one headerless file, or for several joined on axis 0."""
    if isinstance(paths, (str, os.PathLike)):
        return raw_source(paths, shape, dtype, offset=offset, order=order)
    files = list(paths) if isinstance(paths, Iterable) else []
    if not files or not all(isinstance(file, (str, os.PathLike)) for file in files):
        msg = f"path={paths!r}; give the path of a raw file, or a list of at least one"
        raise OptionError(msg)
    # An iterator would be used up by the first file.
    extents = tuple(shape) if isinstance(shape, Iterable) else shape
    parts = [raw_source(file, extents, dtype, offset=offset, order=order) for file in files]
    return joined(parts, 0)


def _solve_extent(shape: int | Iterable[int], itemsize: int, nbytes: int, path: str) -> Shape:
    """Return the shape with its one -1, if any, worked out from the file's size."""
    given = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    unknown = [axis for axis, extent in enumerate(given) if extent == -1]
    if not unknown or len(given) > MAX_NDIM:
        return as_shape(given)
    if len(unknown) > 1:
        msg = f"shape={given} has {len(unknown)} unknown extents; one axis at most may be -1"
        raise OptionError(msg)
    known = as_shape(tuple(1 if extent == -1 else extent for extent in given))
    each = math.prod(known) * itemsize
    if each == 0 or nbytes % each or nbytes < 0:
        msg = (
            f"{path} has {max(0, nbytes)} bytes of data, which is no multiple of {each}, the bytes "
            f"of one step along axis {unknown[0]}; check shape, dtype and offset"
        )
        raise SourceError(msg)
    return tuple(nbytes // each if extent == -1 else int(extent) for extent in given)


MAGIC = b"\x93NUMPY"
_MOST_HEADER_NBYTES = 10_000


def npy_source(path: str | os.PathLike[str]) -> RawSource:
    """Return the source for an ``.npy`` file, after reading its header."""
    found = existing(path)
    if not found.is_file():
        msg = f"{found} is not a file; an .npy array is one"
        raise SourceError(msg)
    with describing(str(found)) as (file, identity):
        return _described(str(found), file, identity)


def _described(path: str, file: FileIO, identity: Identity) -> RawSource:
    try:
        shape, fortran, dtype = npy_header(file)
        offset = file.tell()
    except Exception as error:
        msg = f"{path} is not a readable .npy file: {error}"
        raise SourceError(msg) from error
    if dtype.hasobject:
        msg = f"{path} holds pickled objects, which are never loaded; save it as numbers instead"
        raise UnsupportedDtypeError(msg)
    needed = offset + math.prod(shape) * dtype.itemsize
    if identity.nbytes < needed:
        msg = (
            f"{path} has {identity.nbytes} bytes, its header ({shape} {dtype}) says {needed}; "
            "it was cut short, copy or save it again"
        )
        raise TruncatedSourceError(msg)
    return RawSource(
        path=path,
        shape=tuple(map(int, shape)),
        dtype=dtype,
        offset=offset,
        order="F" if fortran and len(shape) > 1 else "C",
        identity=identity,
    )


def _header_3_0(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header that numpy writes for names outside Latin-1: 2.0 in UTF-8."""
    length = _require_length(file)
    file.seek(4, os.SEEK_CUR)
    facts = ast.literal_eval(file.read(length).decode("utf-8"))
    shape, fortran = facts["shape"], facts["fortran_order"]
    is_shape = isinstance(shape, tuple) and all(isinstance(extent, int) for extent in shape)
    if set(facts) != {"descr", "fortran_order", "shape"} or not is_shape:
        msg = "its header has other keys than descr, fortran_order and shape"
        raise ValueError(msg)
    return shape, bool(fortran), npy_format.descr_to_dtype(facts["descr"])


def _require_length(file: Any) -> int:
    """Return the length of a header, before it is read; it may claim to be gigabytes."""
    length = int.from_bytes(file.read(4), "little")
    file.seek(-4, os.SEEK_CUR)
    if length > _MOST_HEADER_NBYTES:
        msg = f"its header of {length} bytes is too long"
        raise ValueError(msg)
    return length


def npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether it is in F order, and the dtype; what follows are the elements."""
    version = npy_format.read_magic(file)
    if version == (1, 0):
        header = npy_format.read_array_header_1_0(file)
    elif version == (2, 0):
        _require_length(file)
        header = npy_format.read_array_header_2_0(file)
    elif version == (3, 0):
        header = _header_3_0(file)
    else:
        msg = f"format version {version} is not known"
        raise ValueError(msg)
    shape, fortran, dtype = header
    if any(extent < 0 for extent in shape):
        msg = f"its shape {shape} is negative"
        raise ValueError(msg)
    return shape, fortran, dtype
