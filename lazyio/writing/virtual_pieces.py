"""The datasets that a virtual one is made of, and what they must have in common."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import h5py
import numpy as np
import numpy.typing as npt

from lazyio.dtypes import (
    DTYPE_ATTRIBUTE,
    Shape,
    Stored,
    is_integer,
    is_same_value,
    is_text,
    original,
)
from lazyio.errors import OptionError
from lazyio.execution.dask_arrays import source_of
from lazyio.options import as_fill_value
from lazyio.sources.adapters import unwrapped
from lazyio.sources.base import Source, name_of
from lazyio.sources.cf_decoded import DecodedSource
from lazyio.sources.hdf5 import OpenDatasetSource, hdf5_source
from lazyio.sources.hdf5_layout import attributes_of
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.lookup import array_source
from lazyio.storage.hdf5.attributes import RESERVED
from lazyio.storage.hdf5.dataset import element_dtype
from lazyio.writing.link_targets import LinkTarget, dataset_behind, link_target_in
from lazyio.writing.target_checks import refuse_bytes

_MEANING = (
    DTYPE_ATTRIBUTE,
    *("units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value"),
    *("_Unsigned", "unit", "conversion", "offset"),
)
"""Attributes of CF and NWB without which the same numbers mean something else."""
_NOT_KEPT = (*RESERVED, "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict")
"""Attributes that tie a dataset to others of its file."""
_OF_FIELDS = "iufc"
"""Kinds of numbers, of which libhdf5 converts the byte order."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Indices along the axis at which there is no dataset."""

    extent: int


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A dataset that becomes a part of a virtual one."""

    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element, as lazyio reads it."""
    target: LinkTarget
    """Where it lies."""
    kind: h5py.h5t.TypeID
    """Type of an element, as it is stored."""
    form: Stored
    """What its elements are made of."""
    fill_value: Any
    """What it reads as where nothing was written; ``None`` where it does not say so."""
    attrs: Mapping[str, Any]
    """Its attributes."""

    @property
    def location(self) -> tuple[str, str]:
        """Path and key, by which an error names it."""
        return self.target.path, self.target.key


def pieces_of(items: Any) -> list[Piece | Gap]:
    """Return what a virtual dataset is to be made of."""
    is_one = isinstance(items, (str, bytes, os.PathLike, Mapping)) or hasattr(items, "shape")
    given = [] if is_one or not isinstance(items, Iterable) else list(items)
    found = [_part(item, at) for at, item in enumerate(given)]
    if not any(isinstance(part, Piece) for part in found):
        msg = f"items={items!r}; give a list with at least one dataset, such as 'day1.h5::samples'"
        raise OptionError(msg)
    return found


def _part(item: Any, at: int) -> Piece | Gap:
    if is_integer(item):
        if item < 0:
            msg = f"item {at} is {item}; a gap has no negative extent"
            raise OptionError(msg)
        return Gap(extent=int(item))
    source = _source_of(item, at)
    location = dataset_behind(source)
    if location is None:
        msg = (
            f"{name_of(source, at)} is not all of a dataset of an HDF5 file on a disk; write it to "
            "one with lazyio.to_hdf5, or join arrays of any kind with lazyio.concatenate"
        )
        raise OptionError(msg)
    path, key = os.path.abspath(location[0]), location[1]
    with _opened(source, path) as file:
        return _described(file, path, key, source)


def _source_of(item: Any, at: int) -> Any:
    """Return the source for an item, or what it is instead."""
    if isinstance(item, tuple):
        if len(item) != 2 or not isinstance(item[0], (str, os.PathLike)):
            msg = f"item {at} is {item!r}; a tuple is a path and a key"
            raise OptionError(msg)
        return hdf5_source(*item)
    array, _ = unwrapped(item)
    if isinstance(array, da.Array):
        return source_of(array) or array
    if not isinstance(array, (str, os.PathLike)):
        return array_source(array)
    path, key = os.fspath(array), ""
    if not os.path.exists(path):
        path, _, key = path.partition("::")
    return hdf5_source(path, key or None)


@contextlib.contextmanager
def _opened(source: Source, path: str) -> Iterator[h5py.File]:
    """Yield the file of a source; that which the caller has open, where that is all there is."""
    held = source.part if isinstance(source, DecodedSource) else source
    if isinstance(held, OpenDatasetSource):
        yield held.array.file
        return
    with open_hdf5(path) as file:
        yield file


def _described(file: h5py.File, path: str, key: str, source: Source) -> Piece:
    refuse_bytes(key, "key")
    dataset = file[key]
    stored, attrs = element_dtype(dataset), attributes_of(dataset)[0]
    properties = dataset.id.get_create_plist()
    says_fill = properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    return Piece(
        shape=source.shape,
        dtype=source.dtype,
        target=link_target_in(file, path, key),
        # Of its own: one that is named belongs to its file.
        kind=dataset.id.get_type().copy(),
        form=original(stored, attrs) or Stored(original=stored, dtype=stored),
        fill_value=dataset.fillvalue if says_fill and stored.kind in _OF_FIELDS else None,
        attrs={
            name: value
            for name, value in attrs.items()
            if name not in _NOT_KEPT and not _holds_references(value)
        },
    )


def _holds_references(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return any(map(_holds_references, value.ravel().tolist()))
    if isinstance(value, (tuple, list)):
        return any(map(_holds_references, value))
    return isinstance(value, h5py.Reference)


def common_type(
    pieces: Sequence[Piece], dtype: np.dtype[Any], fill_value: Any
) -> tuple[h5py.h5t.TypeID, npt.NDArray[Any] | None]:
    """Return the stored type of all pieces, and what gaps are filled with."""
    first = pieces[0]
    kind, stored = first.kind, first.form.dtype
    for at, piece in enumerate(pieces):
        if piece.kind.equal(first.kind):
            continue
        if stored.kind not in _OF_FIELDS or h5py.check_enum_dtype(stored) is not None:
            msg = (
                f"{name_of(piece, at)} is stored as another type than {name_of(first, 0)}, though "
                f"both are {dtype} in memory: text or names of values differ; leave one out, or "
                "write it anew with lazyio.to_hdf5"
            )
            raise OptionError(msg)
        # They differ in byte order.
        stored = stored.newbyteorder("=")
        kind = h5py.h5t.py_create(stored, logical=True)
    fill = None
    if fill_value is not None:
        if is_text(first.form.original) or stored.hasobject:
            msg = f"fillvalue={fill_value!r}: gaps in text are empty; leave it out"
            raise OptionError(msg)
        element = as_fill_value("fillvalue", fill_value, first.form.original)
        fill = np.array(first.form.encode_one(element), stored)
    elif first.fill_value is not None and all(
        piece.fill_value is not None and is_same_value(piece.fill_value, first.fill_value)
        for piece in pieces
    ):
        fill = np.array(first.fill_value, stored)
    return kind, fill


def common_attributes(pieces: Sequence[Piece], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that all pieces have alike, and those that are given.

    Numbers that mean different things are not joined.
    """
    first = pieces[0]
    for at, piece in enumerate(pieces):
        for name in _MEANING:
            one, other = first.attrs.get(name), piece.attrs.get(name)
            if name in given or (one is None and other is None):
                continue
            if one is None or other is None or not is_same_value(one, other):
                msg = (
                    f"{name_of(piece, at)} has {_said(name, other)}, {name_of(first, 0)} has "
                    f"{_said(name, one)}: the same numbers would mean different things; write one "
                    f"of them anew, or say what holds for all with attrs={{{name!r}: ...}}"
                )
                raise OptionError(msg)
    alike = {
        name: value
        for name, value in first.attrs.items()
        if all(
            name in piece.attrs and is_same_value(value, piece.attrs[name]) for piece in pieces[1:]
        )
    }
    return {**alike, **given}


def _said(name: str, value: Any) -> str:
    return f"no {name}" if value is None else f"{name}={value!r}"
