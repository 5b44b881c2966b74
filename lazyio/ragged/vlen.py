"""Datasets whose elements are rows: HDF5's variable-length types, and VLArrays of PyTables."""

import contextlib
import functools
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np

from lazyio.codecs.hdf5_chunks import decoder_for, filters_of
from lazyio.dtypes import TEXT, Shape, as_dtype, nbytes_of
from lazyio.errors import DamagedDataError, SourceError, UnsupportedDtypeError
from lazyio.ragged.rows import BATCH_ROWS, cut_rows
from lazyio.ragged.runs import Integers
from lazyio.sources.base import Array, Source
from lazyio.sources.files import describing, open_for_reading, read_exactly, reading
from lazyio.sources.hdf5_layout import StoredPayloads
from lazyio.sources.identity import Identity, SeenFile, all_unchanged
from lazyio.sources.libhdf5 import open_hdf5, require_filters
from lazyio.sources.path_policy import allowed_folders, files_behind

_OBJECT, _BYTES, _TEXT = "object", "vlstring", "vlunicode"
"""What PyTables calls rows that it makes of one Python object."""
_MOST_GAP = 64
"""Rows that are read for nothing rather than by another call of libhdf5."""


@dataclass(frozen=True, kw_only=True)
class VlenRows:
    """A dataset of one axis whose elements are rows; read by libhdf5."""

    path: str
    """Absolute path of the file."""
    key: str
    """Path of the dataset inside it."""
    n_rows: int
    """How many there are."""
    dtype: np.dtype[Any]
    """Type of an element."""
    item_shape: Shape = ()
    """Extents of an element of a row."""
    kind: str = ""
    """What PyTables makes rows of; nothing where they are arrays."""
    shapes: Source | None = None
    """Extents of each row, of shape ``(n, axes)``, where they are stored beside it."""
    handle: h5py.Dataset | None = None
    """The dataset, where only an open handle leads to it."""
    identity: Identity | None = None
    """The state of the file that is read."""
    others: tuple[SeenFile, ...] = field(default=(), repr=False)
    """Files that it leads to, in which its elements lie."""

    @property
    def n_axes(self) -> int:
        """Axes of a row of which the extents differ."""
        return 1 if self.shapes is None else self.shapes.shape[1]

    @property
    def parts(self) -> tuple[Source, ...]:
        """What else is read of it."""
        return () if self.shapes is None else (self.shapes,)

    def one(self, number: int) -> Array:
        """Return a row."""
        return self.read(np.array([number]))[0]

    def read(self, numbers: Integers) -> list[Array]:
        """Return rows, those that lie together by one call of libhdf5."""
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        cuts = np.flatnonzero(np.diff(ordered) > _MOST_GAP) + 1
        rows: list[Any] = [None] * len(numbers)
        with self._opened() as dataset:
            for part in np.split(order, cuts) if len(order) else ():
                first, last = int(numbers[part[0]]), int(numbers[part[-1]])
                found = self._rows(dataset, first, last + 1)
                previous = -1
                for at in part.tolist():
                    row = found[numbers[at] - first]
                    # Nobody is to change a row by changing another.
                    rows[at] = row.copy() if numbers[at] == previous else row
                    previous = numbers[at]
        return rows

    def spans(self, nbytes: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of rows that are taken together.

        One by one, where it is unknown how long they are.
        """
        start = 0
        while start < self.n_rows:
            stop = min(self.n_rows, start + BATCH_ROWS)
            with self._opened() as dataset:
                lengths = lengths_as_stored(dataset, self.path, start, stop)
            if lengths is None:
                yield from ((at, at + 1) for at in range(start, stop))
            else:
                item_nbytes = max(1, nbytes_of(self.item_shape, self.dtype))
                yield from cut_rows(lengths * item_nbytes, start, nbytes)
            start = stop

    @contextlib.contextmanager
    def _opened(self) -> Iterator[h5py.Dataset]:
        if self.handle is not None:
            if not self.handle:
                msg = "the dataset's file has been closed; keep it open, or give path and key"
                raise SourceError(msg)
            yield self.handle
            return
        with (
            all_unchanged(self.others),
            reading(self.path, self.identity),
            open_hdf5(self.path, self.identity) as file,
        ):
            yield file[self.key]

    def _rows(self, dataset: h5py.Dataset, start: int, stop: int) -> list[Array]:
        require_filters(dataset, f"{self.path}: dataset {self.key!r}")
        try:
            found = dataset[start:stop]
        except OSError as error:
            msg = f"{self.path}: rows {start} to {stop} of {self.key!r} cannot be decoded: {error}"
            raise DamagedDataError(msg) from error
        rows = [self._as_row(row, start + at) for at, row in enumerate(found)]
        if self.shapes is None:
            return rows
        extents = self.shapes.read((slice(start, stop), slice(0, self.n_axes))).tolist()
        return [
            self._shaped(row, shape, start + at)
            for at, (row, shape) in enumerate(zip(rows, extents, strict=True))
        ]

    def _as_row(self, row: Any, number: int) -> Array:
        if self.kind == _TEXT:
            text = np.asarray(row, np.uint32).astype("<u4").tobytes().decode("utf-32-le")
            return np.array([text], TEXT)
        if self.kind == _BYTES:
            return np.array([self._decoded(row, number)], TEXT)
        if self.kind == _OBJECT:
            return _unpickled(row, self.dtype, f"row {number} of {self.key!r}")
        found: Array = np.asarray(row)
        if not len(found):
            # Of what was never stored h5py makes an empty row of a type that it likes.
            return np.empty((0, *self.item_shape), self.dtype)
        if not self.dtype.isnative and found.dtype.isnative and not _h5py_swaps_bytes():
            found = found.view(self.dtype)
        return found.astype(self.dtype, copy=False).reshape(len(row), *self.item_shape)

    def _decoded(self, row: Any, number: int) -> str:
        try:
            return np.asarray(row, np.uint8).tobytes().decode()
        except UnicodeDecodeError as error:
            msg = (
                f"{self.path}: row {number} of {self.key!r} is no text in UTF-8: {error}; read "
                "its bytes by PyTables"
            )
            raise DamagedDataError(msg) from error

    def _shaped(self, row: Array, shape: list[int], number: int) -> Array:
        if min(shape) < 0 or np.prod(shape, dtype=object) != len(row):
            msg = (
                f"{self.path}: row {number} of {self.key!r} has {len(row)} elements, and the "
                f"shape {tuple(shape)} is stored beside it; one of them is damaged"
            )
            raise DamagedDataError(msg)
        return row.reshape(shape)


_DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
"""What is stored in place of a row, which lies in a heap."""


def lengths_as_stored(dataset: h5py.Dataset, path: str, start: int, stop: int) -> Integers | None:
    """Return how many elements rows have, ``None`` where that cannot be told without reading them.

    It is for choosing how many rows to read at once, and nothing else.
    """
    try:
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            if offset is None:
                return None
            found = np.empty(stop - start, _DESCRIPTOR)
            with open_for_reading(path) as file:
                view = memoryview(found.view(np.uint8))
                read_exactly(file, offset + start * _DESCRIPTOR.itemsize, view)
            return found["length"].astype(np.int64)
        length = dataset.chunks[0]
        decoder = decoder_for(filters_of(dataset), _DESCRIPTOR.itemsize)
        if decoder is None:
            return None
        payloads, parts = StoredPayloads(dataset), []
        for number in range(start // length, -(-stop // length)):
            chunk = np.zeros(length, _DESCRIPTOR)
            payload = payloads.find((number * length,))
            if payload is not None:
                raw = np.frombuffer(payload[1], np.uint8)
                decoder.decode(raw, payload[0], chunk.view(np.uint8))
            parts.append(chunk["length"])
        first = start // length * length
        return np.concatenate(parts)[start - first : stop - first].astype(np.int64)
    except (OSError, RuntimeError, ValueError):
        return None


@functools.cache
def _h5py_swaps_bytes() -> bool:
    """Return whether h5py gives rows of the other byte order their values.

    Its versions until now give the bytes as they are stored, and say that they are native.
    """
    other = np.dtype(np.int16).newbyteorder("S")
    with h5py.File("lazyio-probe", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("x", (1,), h5py.vlen_dtype(other))
        dataset[0] = np.array([1], other)
        return bool(dataset[0][0] == 1)


def vlen_rows(
    path: str,
    key: str,
    *,
    allow_external: object = None,
    allow_pickle: bool = False,
) -> VlenRows | None:
    """Return the rows of a dataset of a file, ``None`` where its elements are no rows."""
    folders = allowed_folders(path, allow_external)
    with describing(path) as (_, identity), open_hdf5(path, identity) as file:
        others = files_behind(file, key, folders)
        dataset = file.get(key)
        if not isinstance(dataset, h5py.Dataset):
            return None
        found = rows_in(dataset, path, key, allow_pickle=allow_pickle)
        return None if found is None else replace(found, identity=identity, others=others)


def rows_in(
    dataset: h5py.Dataset, path: str, key: str, *, allow_pickle: bool = False
) -> VlenRows | None:
    """Return the rows of an open dataset, ``None`` where its elements are no rows."""
    element = h5py.check_vlen_dtype(dataset.dtype)
    name = f"{path}: dataset {key!r}"
    if not isinstance(element, np.dtype):
        return None  # Text is of variable length, too, and h5py calls it Python's.
    if len(dataset.shape) != 1:
        msg = f"{name} has shape {dataset.shape}; rows are read of datasets with one axis"
        raise UnsupportedDtypeError(msg)
    kind = dataset.attrs.get("PSEUDOATOM", "")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    dtype, item_shape = element.base, element.shape
    if kind == _OBJECT:
        dtype = _dtype_of_objects(dataset, name, allow_pickle=allow_pickle)
    elif kind in (_TEXT, _BYTES):
        dtype = TEXT
    elif kind:
        msg = f"{name} is a VLArray of {kind!r}, which is not known here; read it by PyTables"
        raise UnsupportedDtypeError(msg)
    elif dtype.hasobject:
        msg = f"{name} has rows of {dtype}, which have no fixed size; rows of numbers are read"
        raise UnsupportedDtypeError(msg)
    elif dataset.id.get_type().get_super().get_class() == h5py.h5t.BITFIELD:
        dtype = np.dtype(bool)  # As PyTables stores them; h5py takes them for numbers.
    return VlenRows(
        path=path,
        key=key,
        n_rows=int(dataset.shape[0]),
        dtype=as_dtype(dtype),
        item_shape=tuple(map(int, item_shape)),
        kind=kind,
    )


def _dtype_of_objects(dataset: h5py.Dataset, name: str, *, allow_pickle: bool) -> np.dtype[Any]:
    """Return the type of the first object, where unpickling them was asked for."""
    if not allow_pickle:
        msg = (
            f"{name} is a VLArray of Python objects, which are pickles: reading one runs whatever "
            "program is in it. If you have made the file yourself, give allow_pickle=True"
        )
        raise UnsupportedDtypeError(msg)
    if not dataset.shape[0]:
        return np.dtype(float)
    found = _loaded(dataset[0], f"row 0 of {name}")
    return TEXT if found.dtype.kind == "U" else found.dtype


def _unpickled(row: Any, dtype: np.dtype[Any], name: str) -> Array:
    found = _loaded(row, name)
    if found.dtype.kind == "U":
        found = found.astype(TEXT)
    if not np.can_cast(found.dtype, dtype, "safe"):
        msg = f"{name} holds {found.dtype}, and the first row {dtype}; rows have one type"
        raise UnsupportedDtypeError(msg)
    return found.astype(dtype, copy=False)


def _loaded(row: Any, name: str) -> Array:
    """Return an object of a VLArray as an array with one axis."""
    try:
        found = np.atleast_1d(pickle.loads(np.asarray(row, np.uint8).tobytes()))
    except Exception as error:
        msg = f"{name} cannot be unpickled: {type(error).__name__}: {error}"
        raise DamagedDataError(msg) from error
    if found.dtype.hasobject and found.dtype.kind != "T":
        msg = f"{name} holds an object that is no array of numbers or text; read it by PyTables"
        raise UnsupportedDtypeError(msg)
    if found.ndim != 1:
        msg = f"{name} holds an array of shape {found.shape}; objects with one axis are read"
        raise UnsupportedDtypeError(msg)
    return found
