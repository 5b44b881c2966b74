"""Whole files that are bytes in memory: HDF5 and .npy, told apart by how they begin."""

import hashlib
import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from lazyio.atomic.log import SIGNATURE
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import (
    OptionError,
    SourceError,
    TruncatedSourceError,
    UnknownFormatError,
    UnsafeFileError,
    UnsupportedDtypeError,
)
from lazyio.regions import Region
from lazyio.sources.base import Array, FillsNew, Source
from lazyio.sources.cf_decoded import decoded
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.function import ArraySource
from lazyio.sources.hdf5 import dataset_at, describe_dataset, read_placed, small_attributes
from lazyio.sources.libhdf5 import bound_metadata, read_dataset
from lazyio.sources.manifest import Placement, place_in
from lazyio.sources.path_policy import refuse_links
from lazyio.sources.raw import MAGIC, npy_header

NAME = "the HDF5 file in memory"
"""What errors call one."""


class BytesFile(io.RawIOBase):
    """Bytes that are read like a file, without a copy of them."""

    name = NAME

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def seekable(self) -> bool:
        """Return that it is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return where it is."""
        return self._at

    def readinto(self, view: Any, /) -> int:
        """Fill a view from there, or the first part of it."""
        part = self._data[self._at : self._at + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)


@dataclass(frozen=True, kw_only=True)
class InMemoryHdf5Source(FillsNew):
    """A dataset of an HDF5 file that is bytes in memory; they travel with it."""

    data: memoryview
    """The file."""
    key: str
    """Path of the dataset inside it."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once; ``None`` for contiguous datasets."""
    in_rows: bool
    """Whether it is contiguous."""

    @property
    def location(self) -> tuple[str, str]:
        """What errors call it, and the key of the dataset."""
        return NAME, self.key

    def __reduce__(self) -> Any:
        facts = (self.key, self.shape, self.dtype, self.chunk_shape, self.in_rows)
        return _arrived, (bytes(self.data), *facts)

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        return "lazyio.InMemoryHdf5Source", hashlib.sha256(self.data).hexdigest(), self.key

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        placement, name = self._placement, f"{NAME}: dataset {self.key!r}"
        if placement is not None:
            file, nbytes = BytesFile(self.data), len(self.data)
            read_placed(file, placement, self, region, out, Workspace(), nbytes=nbytes, name=name)
            return
        with _opened(self.data) as file:
            read_dataset(dataset_at(file, self.key, NAME), region, out, name)

    @cached_property
    def _placement(self) -> Placement | None:
        """Where its elements lie, ``None`` where libhdf5 has to read them."""
        with foreign_errors(NAME), _opened(self.data) as file:
            return place_in(dataset_at(file, self.key, NAME))


def _arrived(data: bytes, *facts: Any) -> InMemoryHdf5Source:
    """Return a source that was sent."""
    key, shape, dtype, chunk_shape, in_rows = facts
    return InMemoryHdf5Source(
        data=memoryview(data),
        key=key,
        shape=shape,
        dtype=dtype,
        chunk_shape=chunk_shape,
        in_rows=in_rows,
    )


def _opened(data: memoryview) -> h5py.File:
    """Return the open file, or say why there is none."""
    try:
        return bound_metadata(h5py.File(BytesFile(data), "r"))
    except OSError as error:
        reason = str(error).partition("(")[2].rstrip(")") or str(error)
        msg = f"{NAME} ({len(data)} bytes) cannot be opened: {reason}; was it cut short?"
        raise SourceError(msg) from error


def is_file_in_memory(obj: object) -> bool:
    """Return whether something is bytes that could be a file.

    Examples
    --------
    >>> is_file_in_memory(b"abc"), is_file_in_memory(io.BytesIO()), is_file_in_memory("abc")
    (True, True, False)
    """
    return isinstance(obj, (bytes, bytearray, memoryview, io.BytesIO))


def in_memory_source(obj: Any, key: str | None, format: str | None = None) -> Source:
    """Return the source for an array in a file that is bytes in memory."""
    data = _bytes_of(obj)
    found = _format_of(data)
    if format not in (None, found):
        kind = "neither HDF5 nor .npy" if found is None else found
        msg = f"format={format!r}: the {type(obj).__name__} of {len(data)} bytes is {kind}"
        raise OptionError(msg)
    if found == "npy":
        if key is not None:
            msg = f"key={key!r}: a .npy file holds one array and no keys"
            raise OptionError(msg)
        return _npy_source(data)
    if found == "hdf5":
        return _hdf5_source(data, key)
    msg = (
        f"{type(obj).__name__} of {len(data)} bytes is taken for the content of a file, and begins "
        "neither as HDF5 nor as .npy; give a path as str, or numpy.frombuffer(...) of plain numbers"
    )
    raise UnknownFormatError(msg)


def _bytes_of(obj: Any) -> memoryview:
    """Return the bytes without a copy; of a BytesIO those that it holds now."""
    view = memoryview(obj.getvalue() if isinstance(obj, io.BytesIO) else obj)
    if not view.c_contiguous:
        msg = f"a {type(obj).__name__} with gaps is no file; give bytes(view)"
        raise OptionError(msg)
    return view.cast("B")


def _format_of(data: memoryview) -> str | None:
    if bytes(data[: len(MAGIC)]) == MAGIC:
        return "npy"
    at = 0
    # At 0, or behind a block of the user's at 512, 1024, 2048 and so on.
    while at < len(data):
        if data[at : at + len(SIGNATURE)] == SIGNATURE:
            return "hdf5"
        at = max(512, 2 * at)
    return None


def _hdf5_source(data: memoryview, key: str | None) -> Source:
    with foreign_errors(NAME), _opened(data) as file:
        name = key if isinstance(key, str) else str(dataset_at(file, key, NAME).name)
        try:
            refuse_links(file, name, ())
        except UnsafeFileError as error:
            msg = (
                f"{NAME}: {name!r} leads to another file, and what is in memory has no folder that "
                "it could lie in; write the bytes to a file there, and open that by its path"
            )
            raise UnsafeFileError(msg) from error
        dataset = dataset_at(file, name, NAME)
        facts = describe_dataset(dataset, NAME)
        source = InMemoryHdf5Source(
            data=data,
            key=facts.key,
            shape=facts.shape,
            dtype=facts.dtype,
            chunk_shape=facts.chunk_shape,
            in_rows=facts.in_rows,
        )
        return decoded(source, small_attributes(dataset))


def _npy_source(data: memoryview) -> Source:
    file = io.BytesIO(data[: 2**16])
    try:
        shape, fortran, dtype = npy_header(file)
    except Exception as error:
        msg = f"the .npy file in memory has no readable header: {error}"
        raise SourceError(msg) from error
    if dtype.hasobject:
        msg = "the .npy file in memory holds pickled objects, which are never loaded"
        raise UnsupportedDtypeError(msg)
    offset = file.tell()
    if len(data) < offset + nbytes_of(shape, dtype):
        msg = (
            f"the .npy file in memory has {len(data)} bytes, its header ({shape} {dtype}) says "
            f"{offset + nbytes_of(shape, dtype)}; it was cut short"
        )
        raise TruncatedSourceError(msg)
    flat = np.frombuffer(data, dtype, math.prod(shape), offset)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return ArraySource(array=array, shape=array.shape, dtype=dtype, kind="the .npy file in memory")
