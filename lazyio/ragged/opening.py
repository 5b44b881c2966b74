"""Public: open ragged rows, whichever way they are stored."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.dtypes import Shape
from lazyio.errors import DamagedDataError, OptionError, SourceError, UnsupportedDtypeError
from lazyio.options import check_flags, is_untrusted, limit_of
from lazyio.os_errors import system_errors
from lazyio.ragged.index import Index
from lazyio.ragged.parts import OFFSETS, SHAPES, VALUES
from lazyio.ragged.ragged import Ragged
from lazyio.ragged.rows import IndexedRows, RowReader
from lazyio.ragged.vlen import rows_in, vlen_rows
from lazyio.regions import Region
from lazyio.sources.base import Array, Source
from lazyio.sources.files import existing
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.lookup import format_of, source_for
from lazyio.sources.path_policy import allowed_folders, refuse_links
from lazyio.sources.untrusted import untrusted_source

_INDEX = "_index"
_PAIRS, _SHAPE = "_start_and_stop", "_shape"
"""Ends of the names of arrays that belong to another one beside them."""


@dataclass(frozen=True, kw_only=True)
class EndOffsets:
    """An index of ends, as NWB has it, with the 0 in front at which the first row begins."""

    ends: Source
    """Where each row ends."""

    @property
    def shape(self) -> Shape:
        """Extents: one more than there are rows."""
        return (self.ends.shape[0] + 1,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.ends.dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """That of the ends."""
        return self.ends.chunk_shape

    @property
    def parts(self) -> tuple[Source, ...]:
        """What it reads."""
        return (self.ends,)

    def read(self, region: Region) -> Array:
        """Return offsets."""
        start, stop = region[0].start, region[0].stop
        found = self.ends.read((slice(max(0, start - 1), max(0, stop - 1)),))
        return np.concatenate([np.zeros(1, self.dtype), found]) if start == 0 < stop else found


@system_errors(SourceError)
def open_ragged(
    path: Any,
    key: str,
    *,
    allow_external: Any = None,
    trusted: bool = True,
    allow_pickle: bool = False,
) -> Ragged:
    """Open rows of differing length or shape, of which only the index is read at first.

    Parameters
    ----------
    path : path-like, h5py.Group or zarr.Group
        HDF5 file or Zarr store.
    key : str
        Of a group with ``values`` and ``offsets``, as :func:`to_hdf5` and :func:`to_zarr` write
        it; of a column of NWB or of HDMF's DynamicTable, beside which lies its index (where that
        has an index as well, rows are those of the inner one); of a VLArray of PyTables, or
        another HDF5 dataset of variable-length rows; or of an array ``x`` beside which lie
        ``x_start_and_stop``, or ``x_shape``, or both.
    allow_external : list of path-like, optional
        Folders, beside the file's own, that links may lead to.
    trusted : bool
        ``False`` for a file of a stranger, which limited child processes read, as in :func:`open`.
        Rows with an index are read so; VLArrays and other rows of variable length are not.
    allow_pickle : bool
        Whether Python objects of a VLArray are unpickled, which runs whatever program is in them:
        only for files that you have made yourself.

    Returns
    -------
    Ragged
        Its rows, of the one state that the file has now.

    Raises
    ------
    SourceError
        When there is nothing like it at that key; the message lists what was looked for.
    DamagedDataError
        When an index does not fit its values.
    UnsupportedDtypeError
        When rows are no numbers or text, or of variable length in a file that is not trusted.
    UnsafeFileError
        When a link leads to a folder that is not allowed; or when the file is not trusted, and
        crashes what reads it, or takes too long or too much memory.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> rows = lazyio.Ragged(np.arange(6), [0, 2, 2, 6])
    >>> report = lazyio.to_hdf5(rows, "spikes.h5", "units", mode="w")
    >>> lazyio.open_ragged("spikes.h5", "units")[-1]
    array([2, 3, 4, 5])
    """
    check_flags(allow_pickle=allow_pickle)
    place = _place_of(path, key, allow_external, is_foreign=is_untrusted(path, trusted))
    reader = _in_group(place) or _of_variable_length(place, allow_pickle) or _beside(place)
    if reader is None:
        msg = (
            f"{place.name} has no ragged rows at {key!r}: no group with {VALUES!r} and "
            f"{OFFSETS!r}, no dataset of variable length, and no array with another beside it that "
            f"ends in {_INDEX!r} or {_PAIRS!r}; plain arrays are opened by lazyio.open"
        )
        raise SourceError(msg)
    return Ragged.of_reader(reader)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A file or store, and the key in it that was asked for."""

    container: Any
    """Path, or open group."""
    key: str
    name: str
    """What errors call the file or store."""
    present: frozenset[str]
    """Arrays there are, of those that are looked for."""
    allow_external: Any
    is_foreign: bool
    """Whether child processes alone read it."""

    def has(self, *keys: str) -> bool:
        """Return whether there are arrays of all these keys."""
        return self.present.issuperset(keys)

    def array(self, key: str) -> Source:
        """Return the source of an array."""
        return _source(self.container, key, self.allow_external, is_foreign=self.is_foreign)

    def indexed(self, values: str, offsets: Source, index: str, shapes: str) -> IndexedRows:
        """Return rows of values with an index, both by their keys."""
        source = self.array(values)
        if not source.shape:
            msg = f"{self.name}: {values!r} is a single element, of which no part could be a row"
            raise SourceError(msg)
        found = Index(
            offsets=offsets,
            shapes=self.array(shapes) if self.has(shapes) else None,
            n_values=source.shape[0],
            name=f"{self.name}: {index!r}",
            is_stored=True,
        )
        found.check()
        return IndexedRows(values=source, index=found)


def _source(container: Any, key: str, allow_external: Any, *, is_foreign: bool) -> Source:
    if is_foreign:
        return untrusted_source(container, key, limit_of(None), {"format": None}, allow_external)
    return source_for(container, key, allow_external=allow_external)


def _place_of(path: Any, key: Any, allow_external: Any, *, is_foreign: bool) -> _Place:
    if not isinstance(key, str) or not key.strip("/"):
        msg = f"key={key!r} names nothing in a file; give the path of the rows"
        raise OptionError(msg)
    name = key.strip("/")
    is_path = isinstance(path, (str, os.PathLike))
    if is_path and "://" not in str(path):
        path = existing(path)
    stem = name.removesuffix(_INDEX)
    wanted = [name, stem, stem.removesuffix(_INDEX)]
    wanted += [f"{name}/{part}" for part in (VALUES, OFFSETS, SHAPES)]
    wanted += [name + end for end in (_INDEX, _PAIRS, _SHAPE)]
    return _Place(
        container=path,
        key=name,
        name=str(path) if is_path else f"the open {type(path).__name__}",
        present=_present(path, wanted, allow_external, is_foreign=is_foreign),
        allow_external=allow_external,
        is_foreign=is_foreign,
    )


def _present(
    container: Any, keys: Iterable[str], allow_external: Any, *, is_foreign: bool
) -> frozenset[str]:
    """Return keys of which there are arrays, readable or not."""
    if is_foreign:
        return frozenset(key for key in keys if _has_foreign(container, key, allow_external))
    if isinstance(container, Path) and format_of(container) == "hdf5":
        folders = allowed_folders(str(container), allow_external)
        with open_hdf5(str(container)) as file:
            return frozenset(key for key in keys if _leads_to_array(file, key, folders))
    return frozenset(key for key in keys if _has_array(container, key))


def _leads_to_array(file: h5py.File, key: str, folders: Sequence[Path]) -> bool:
    """Return whether a file has an array; links are followed where that is allowed."""
    item = file
    for name in key.split("/"):
        link = item.get(name, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            return False
        if not isinstance(link, h5py.HardLink):
            refuse_links(file, key, folders)
            return _has_array(file, key)
        item = item[name]
    return isinstance(item, h5py.Dataset)


def _has_array(container: Any, key: str) -> bool:
    if isinstance(container, h5py.Group):
        with contextlib.suppress(KeyError, ValueError, RuntimeError, OSError):
            return isinstance(container.get(key), h5py.Dataset)
        return False
    with contextlib.suppress(SourceError, KeyError):
        source_for(container, key)
        return True
    return False


def _has_foreign(path: Any, key: str, allow_external: Any) -> bool:
    """Return whether a child process finds an array."""
    try:
        _source(path, key, allow_external, is_foreign=True)
    except UnsupportedDtypeError:
        return True
    except SourceError as error:
        # What the system refuses, or what a link leads to, is no missing array.
        if type(error) is not SourceError or error.errno is not None:
            raise
        return False
    return True


def _in_group(place: _Place) -> RowReader | None:
    values, offsets, shapes = (f"{place.key}/{name}" for name in (VALUES, OFFSETS, SHAPES))
    if not place.has(values, offsets):
        return None
    return place.indexed(values, place.array(offsets), offsets, shapes)


def _of_variable_length(place: _Place, allow_pickle: bool) -> RowReader | None:
    """Return the rows of a dataset whose elements are rows."""
    if not place.has(place.key):
        return None
    container, key = place.container, place.key
    if place.is_foreign:
        _refuse_variable_length(place)
        return None
    found = None
    if isinstance(container, Path) and format_of(container) == "hdf5":
        found = vlen_rows(
            str(container), key, allow_external=place.allow_external, allow_pickle=allow_pickle
        )
    elif isinstance(container, h5py.Group):
        dataset = container[key]
        found = rows_in(dataset, str(container.file.filename), key, allow_pickle=allow_pickle)
        found = None if found is None else replace(found, handle=dataset)
    if found is None or not place.has(key + _SHAPE):
        return found
    shapes = place.array(key + _SHAPE)
    if len(shapes.shape) != 2 or shapes.shape[0] != found.n_rows or shapes.dtype.kind not in "iu":
        msg = (
            f"{place.name}: {key + _SHAPE!r} is {shapes.dtype} of shape {shapes.shape}, and {key!r}"
            f" has {found.n_rows} rows; shapes of rows are integers of shape (n, axes)"
        )
        raise DamagedDataError(msg)
    return replace(found, shapes=shapes)


def _refuse_variable_length(place: _Place) -> None:
    """Raise where a child process cannot read the array that was asked for."""
    try:
        place.array(place.key)
    except UnsupportedDtypeError as error:
        msg = (
            f"{place.name}: {place.key!r} is not read with trusted=False, which takes rows with "
            f"an index only: {error}"
        )
        raise UnsupportedDtypeError(msg) from error


def _beside(place: _Place) -> RowReader | None:
    """Return rows of an array by what lies beside it: ends of rows, or starts and stops."""
    key = place.key
    stem = key.removesuffix(_INDEX)
    if stem != key and place.has(key, stem):
        if stem.removesuffix(_INDEX) != stem and place.has(stem.removesuffix(_INDEX)):
            msg = (
                f"{place.name}: {key!r} is the index of an index, whose rows are lists of rows; "
                f"open {stem!r}, and take the rows that it counts: rows[ends[i - 1]:ends[i]] with "
                f"ends = lazyio.open(path, {key!r})"
            )
            raise SourceError(msg)
        return place.indexed(stem, EndOffsets(ends=place.array(key)), key, "")
    if place.has(key, key + _INDEX):
        ends = EndOffsets(ends=place.array(key + _INDEX))
        return place.indexed(key, ends, key + _INDEX, "")
    if place.has(key, key + _PAIRS):
        return place.indexed(key, place.array(key + _PAIRS), key + _PAIRS, key + _SHAPE)
    return None
