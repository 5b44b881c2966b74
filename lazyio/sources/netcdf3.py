"""netCDF-3, the classic format: its header says where each variable lies, and nothing is encoded.

Variables along the record dimension lie in records, one behind the other, each of which
holds a row of all such variables. The header is the format's own, of versions 1, 2 and 5.
"""

import math
import os
import struct
from dataclasses import dataclass
from io import FileIO
from typing import Any

import numpy as np

from lazyio.dtypes import MAX_NDIM, Shape, nbytes_of
from lazyio.errors import SourceError, TruncatedSourceError
from lazyio.regions import Region
from lazyio.sources.base import Array, FillsNew, Source, chosen
from lazyio.sources.files import LONG_RUN_NBYTES, describing, existing, read_region, reading
from lazyio.sources.identity import Identity, SeenFile
from lazyio.sources.raw import RawSource

MAGIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_TYPES = ("i1", "S1", ">i2", ">i4", ">f4", ">f8", "u1", ">u2", ">u4", ">i8", ">u8")
_DTYPES = {number: np.dtype(name) for number, name in enumerate(_TYPES, start=1)}
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_SLAB_NBYTES = 2**20
_MOST_NAME_NBYTES = 2**16
_READ_NBYTES = 2**16


@dataclass(frozen=True, kw_only=True)
class _Variable:
    """A variable as the header describes it."""

    dimensions: tuple[int, ...]
    """Numbers of its dimensions."""
    dtype: np.dtype[Any]
    """Type of an element."""
    begin: int
    """Byte at which it starts, or its part of the first record."""


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What the header says."""

    n_records: int | None
    """How many there are; ``None`` where only the size of the file tells."""
    lengths: tuple[int, ...]
    """Of dimensions; 0 for that of records."""
    variables: dict[str, _Variable]

    def row_shape(self, variable: _Variable) -> Shape:
        """Return the extents of what lies at once: all, or the part in one record."""
        lengths = tuple(self.lengths[number] for number in variable.dimensions)
        return lengths[1:] if self.has_records(variable) else lengths

    def has_records(self, variable: _Variable) -> bool:
        """Return whether a variable lies in records."""
        return bool(variable.dimensions) and self.lengths[variable.dimensions[0]] == 0

    @property
    def record_nbytes(self) -> int:
        """Bytes from one record to the next."""
        rows = [
            nbytes_of(self.row_shape(one), one.dtype)
            for one in self.variables.values()
            if self.has_records(one)
        ]
        # A single variable is packed, whatever the size of its elements.
        return rows[0] if len(rows) == 1 else sum(_padded(row) for row in rows)


def _padded(nbytes: int) -> int:
    return -(-nbytes // 4) * 4


class _Reader:
    """Numbers and names of a header, read a piece at a time: it may claim to be of any length."""

    def __init__(self, file: FileIO, version: int) -> None:
        self._file = file
        self._held = b""
        self._at = 0
        self._count, self._offset = {1: ("I", "I"), 2: ("I", "Q"), 5: ("Q", "Q")}[version]

    def take(self, nbytes: int) -> bytes:
        """Return the next bytes."""
        while len(self._held) - self._at < nbytes:
            piece = self._file.read(max(_READ_NBYTES, nbytes))
            if not piece:
                msg = "the file ends in its header"
                raise TruncatedSourceError(msg)
            self._held, self._at = self._held[self._at :] + piece, 0
        self._at += nbytes
        return self._held[self._at - nbytes : self._at]

    def _number(self, kind: str) -> int:
        return int(struct.unpack(f">{kind}", self.take(struct.calcsize(kind)))[0])

    def number(self) -> int:
        """Return a number of 32 bits."""
        return self._number("I")

    def count(self) -> int:
        """Return how many there are of something."""
        return self._number(self._count)

    def offset(self) -> int:
        """Return a place in the file."""
        return self._number(self._offset)

    @property
    def streaming(self) -> int:
        """The number of records of a file whose writer has not said it."""
        return (1 << 8 * struct.calcsize(self._count)) - 1

    def name(self) -> str:
        """Return a name."""
        length = self.count()
        if length > _MOST_NAME_NBYTES:
            msg = f"a name of {length} bytes"
            raise ValueError(msg)
        return self.take(_padded(length))[:length].decode("utf-8", "surrogateescape")

    def list_of(self, tag: int) -> int:
        """Return the length of a list of one kind."""
        found, length = self.number(), self.count()
        if found not in (0, tag) or (found == 0 and length):
            msg = f"a list of kind {found} where one of kind {tag} is due"
            raise ValueError(msg)
        return length

    def skip_attributes(self) -> None:
        """Go to behind a list of attributes."""
        for _ in range(self.list_of(_ATTRIBUTES)):
            self.name()
            dtype = self.dtype()
            left = _padded(self.count() * dtype.itemsize)
            while left:
                left -= len(self.take(min(left, _READ_NBYTES)))

    def dtype(self) -> np.dtype[Any]:
        """Return the type of elements."""
        number = self.number()
        if number not in _DTYPES:
            msg = f"elements of type {number}"
            raise ValueError(msg)
        return _DTYPES[number]


def _header(file: FileIO) -> _Header:
    magic = file.read(4) or b""
    if magic not in MAGIC:
        msg = "it does not begin with CDF and version 1, 2 or 5"
        raise ValueError(msg)
    reader = _Reader(file, magic[3])
    n_records = reader.count()
    lengths = []
    for _ in range(reader.list_of(_DIMENSIONS)):
        reader.name()
        lengths.append(reader.count())
    reader.skip_attributes()
    variables = {}
    for _ in range(reader.list_of(_VARIABLES)):
        name, n_axes = reader.name(), reader.count()
        if n_axes > MAX_NDIM:
            msg = f"variable {name!r} has {n_axes} axes, and numpy's arrays have {MAX_NDIM}"
            raise ValueError(msg)
        dimensions = tuple(reader.count() for _ in range(n_axes))
        if any(number >= len(lengths) for number in dimensions):
            msg = f"variable {name!r} has a dimension that is not there"
            raise ValueError(msg)
        if any(lengths[number] == 0 for number in dimensions[1:]):
            msg = f"variable {name!r} has the record dimension in another place than the first"
            raise ValueError(msg)
        reader.skip_attributes()
        dtype = reader.dtype()
        reader.count()  # Its bytes, which are wrong for large ones, and follow from the rest.
        variables[name] = _Variable(dimensions=dimensions, dtype=dtype, begin=reader.offset())
    return _Header(
        n_records=None if n_records == reader.streaming else n_records,
        lengths=tuple(lengths),
        variables=variables,
    )


@dataclass(frozen=True, kw_only=True)
class RecordSource(FillsNew):
    """A variable along the record dimension, among others."""

    path: str
    """Absolute path."""
    key: str
    """Name of the variable."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    begin: int
    """Byte at which its first row starts."""
    record_nbytes: int
    """Bytes from one row to the next."""
    identity: Identity
    """The state of the file that is read."""

    @property
    def chunk_shape(self) -> Shape | None:
        """``None``: nothing is encoded."""
        return None

    @property
    def in_rows(self) -> bool:
        """``True``: each row is a run of bytes."""
        return True

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file, and name of the variable."""
        return self.path, self.key

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the file."""
        return (self.path,)

    def require_unchanged(self) -> None:
        """Raise where the file is not as it was."""
        SeenFile(path=self.path, identity=self.identity).check()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part: short rows several at a time, long ones one by one."""
        if not out.size:
            return
        rows, rest, inner = region[0], region[1:], self.shape[1:]
        row_nbytes = nbytes_of(inner, self.dtype)
        is_short = row_nbytes < LONG_RUN_NBYTES
        n_rows = max(1, _SLAB_NBYTES // row_nbytes) if is_short else 1
        with reading(self.path, self.identity) as file:
            for start in range(rows.start, rows.stop, n_rows):
                stop = min(start + n_rows, rows.stop)
                place = out[start - rows.start : stop - rows.start]
                if is_short:
                    place[...] = self._whole_rows(file, start, stop)[(slice(None), *rest)]
                else:
                    offset = self.begin + start * self.record_nbytes
                    read_region(file, offset, inner, rest, place[0])

    def _whole_rows(self, file: FileIO, start: int, stop: int) -> Array:
        """Return short rows, read with what is between them where that is little."""
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        flat = found.reshape(stop - start, -1).view(np.uint8)
        records = (self.shape[0], self.record_nbytes)
        region = (slice(start, stop), slice(0, flat.shape[1]))
        read_region(file, self.begin, records, region, flat)
        return found


def netcdf3_keys(path: str) -> list[str]:
    """Return the names of the variables of a file."""
    with describing(path) as (file, _):
        return [*_read(file, path).variables]


def netcdf3_source(path: str | os.PathLike[str], key: str | None = None) -> Source:
    """Return the source for a variable, after reading the header."""
    found = existing(path)
    if not found.is_file():
        msg = f"{found} is not a file; netCDF-3 is one"
        raise SourceError(msg)
    with describing(str(found)) as (file, identity):
        header = _read(file, str(found))
        wanted = key.strip("/") if isinstance(key, str) else key
        name = chosen([*header.variables], wanted, str(found), "variable")
        return _described(str(found), name, header, identity)


def _read(file: FileIO, path: str) -> _Header:
    try:
        return _header(file)
    except TruncatedSourceError as error:
        msg = f"{path} was cut short: {error}; copy it again"
        raise TruncatedSourceError(msg) from error
    except (ValueError, OverflowError, MemoryError) as error:
        msg = f"{path} is not a readable netCDF-3 file: {error}"
        raise SourceError(msg) from error


def _described(path: str, key: str, header: _Header, identity: Identity) -> Source:
    variable = header.variables[key]
    row_shape, dtype = header.row_shape(variable), variable.dtype
    row_nbytes = nbytes_of(row_shape, dtype)
    shape, needed = row_shape, variable.begin + row_nbytes
    if header.has_records(variable):
        n_records = header.n_records
        if n_records is None:
            first = min(one.begin for one in header.variables.values() if header.has_records(one))
            n_records = max(0, identity.nbytes - first) // max(1, header.record_nbytes)
        shape = (n_records, *row_shape)
        needed = variable.begin + max(0, n_records - 1) * header.record_nbytes + row_nbytes
    if math.prod(shape) and identity.nbytes < needed:
        msg = (
            f"{path} has {identity.nbytes} bytes, and variable {key!r} of shape {shape} {dtype} "
            f"takes it to {needed}; it was cut short, copy it again"
        )
        raise TruncatedSourceError(msg)
    if not header.has_records(variable) or header.record_nbytes == row_nbytes:
        return RawSource(
            path=path, shape=shape, dtype=dtype, offset=variable.begin, identity=identity
        )
    return RecordSource(
        path=path,
        key=key,
        shape=shape,
        dtype=dtype,
        begin=variable.begin,
        record_nbytes=header.record_nbytes,
        identity=identity,
    )
