"""What is in a file or store, array by array: how it is cut and coded, and how large it is."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.atomic.publish_steps import check_finished
from lazyio.codecs.hdf5_filters import NAMES
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import UnknownFormatError, UnsafeFileError, UnsupportedDtypeError
from lazyio.libhdf5_calls import named
from lazyio.os_errors import walk
from lazyio.ragged.parts import OFFSETS, VALUES
from lazyio.sources.base import Encoded
from lazyio.sources.files import existing
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5 import dataset_keys
from lazyio.sources.hdf5_layout import dtype_of
from lazyio.sources.hdf5_links import FileLink, links_in
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.lookup import FILE_FORMATS, FileFormat, file_format, format_of
from lazyio.sources.matlab import is_matlab
from lazyio.sources.path_policy import allowed_folders
from lazyio.sources.zarr_metadata import METADATA_FILES, require_zarr
from lazyio.units import format_size
from lazyio.untrusted.helper import ask
from lazyio.untrusted.messages import dtype_received, dtype_to_send

CONTIGUOUS, VIRTUAL, RAW_FILES = "contiguous", "virtual", "in raw files"
"""Layouts of datasets without chunks."""


@dataclass(frozen=True, kw_only=True)
class ArrayInfo:
    """One array, as it is stored."""

    key: str
    """Under which it lies."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element; bytes where numpy has none like it."""
    chunk_shape: Shape | None
    """Extents of a chunk; ``None`` where it has none."""
    codecs: str
    """What its chunks are encoded with, in the order that it is applied."""
    nbytes: int
    """Bytes of all its elements: what it would take in memory, whole."""
    occupied_nbytes: int
    """Bytes of the chunks that are stored, decoded; the others read as fill value."""
    stored_nbytes: int
    """Bytes that they take as they are stored."""
    layout: str = CONTIGUOUS
    """Where its elements are, if it has no chunks."""
    note: str = ""
    """What it belongs to, where that can be told from its name and those beside it."""

    def __str__(self) -> str:
        """Return one line."""
        cut = f"chunks {self.chunk_shape}" if self.chunk_shape else self.layout
        sizes = format_size(self.nbytes)
        if self.layout != CONTIGUOUS:
            # In other files, where it is counted.
            return f"{self.key}: {self.shape} {self.dtype}, {cut}, {sizes}"
        if self.occupied_nbytes != self.nbytes:
            sizes += f", {format_size(self.occupied_nbytes)} occupied"
        factor = f" ({_ratio(self.nbytes, self.stored_nbytes)}x)" if self.stored_nbytes else ""
        sizes += f", stored as {format_size(self.stored_nbytes)}{factor}"
        note = f", {self.note}" if self.note else ""
        return f"{self.key}: {self.shape} {self.dtype}, {cut}, {self.codecs}, {sizes}{note}"

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON can hold it."""
        return {**vars(self), "dtype": dtype_to_send(self.dtype)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "ArrayInfo":
        """Return what :meth:`to_dict` gave, as it came back from JSON."""
        shapes = {
            name: None if facts[name] is None else tuple(map(int, facts[name]))
            for name in ("shape", "chunk_shape")
        }
        return cls(**{**facts, **shapes, "dtype": dtype_received(facts["dtype"])})


def info_of(path: str | os.PathLike[str], *, trusted: bool = True) -> list[ArrayInfo]:
    """Return the arrays of a file or store."""
    if trusted:
        return info_here(path)
    found = str(existing(path))
    answer, _ = ask(found, {"do": "info"})
    with foreign_errors(found, UnsafeFileError):
        return [ArrayInfo.from_dict(facts) for facts in answer["arrays"]]


def links_of(path: str | os.PathLike[str], *, trusted: bool = True) -> list[FileLink]:
    """Return what leads out of an HDF5 file, or from one place of it to another."""
    if trusted:
        return links_here(path)
    found = str(existing(path))
    answer, _ = ask(found, {"do": "links"})
    with foreign_errors(found, UnsafeFileError):
        return [FileLink.from_dict(facts) for facts in answer["links"]]


def links_here(path: str | os.PathLike[str]) -> list[FileLink]:
    """Return the same, found by this process."""
    found = existing(path)
    if format_of(found) != "hdf5":
        return []
    with open_hdf5(str(found)) as file:
        return list(links_in(file, allowed_folders(str(found), None)))


def info_here(path: str | os.PathLike[str]) -> list[ArrayInfo]:
    """Return what is in a file or store, read by this process."""
    found = existing(path)
    kind = format_of(found)
    if kind == "hdf5":
        return _with_notes(list(_in_hdf5(str(found))))
    if kind == "zarr":
        return _with_notes(list(_in_zarr(found)))
    if (one := file_format(kind)) is not None:
        return list(_in_file(one, str(found)))
    names = ", ".join(one.name for one in FILE_FORMATS)
    msg = f"{found} is of no known format; lazyio reads HDF5, Zarr, {names}"
    raise UnknownFormatError(msg)


def _in_file(one: FileFormat, path: str) -> Iterator[ArrayInfo]:
    """Return the arrays of a file that is only read."""
    for key in one.array_keys(path):
        source = one.source(path, key)
        nbytes = nbytes_of(source.shape, source.dtype)
        is_encoded = isinstance(source, Encoded)
        yield ArrayInfo(
            key=key or Path(path).name,
            shape=source.shape,
            dtype=source.dtype,
            chunk_shape=source.chunk_shape if is_encoded else None,
            codecs=source.codecs if isinstance(source, Encoded) else "none",
            nbytes=nbytes,
            occupied_nbytes=nbytes,
            stored_nbytes=source.stored_nbytes if isinstance(source, Encoded) else nbytes,
        )


def _with_notes(arrays: list[ArrayInfo]) -> list[ArrayInfo]:
    """Return arrays, those with a note that say where ragged rows are."""
    keys = {one.key for one in arrays}
    found = []
    for one in arrays:
        group, _, name = one.key.rpartition("/")
        is_index = name == OFFSETS and f"{group}/{VALUES}" in keys
        if is_index and one.shape and len(one.shape) == 1 and one.dtype.kind in "iu":
            one = replace(one, note=f"of {one.shape[0] - 1} ragged rows in {group or '/'}")
        found.append(one)
    return found


def _in_hdf5(path: str) -> Iterator[ArrayInfo]:
    order = -1 if is_matlab(path) else 1  # MATLAB has the axes the other way round.
    with open_hdf5(path) as file:
        for key in dataset_keys(file):
            dataset: h5py.Dataset = file[named(key)]
            properties = dataset.id.get_create_plist()
            numbers = [properties.get_filter(at)[0] for at in range(properties.get_nfilters())]
            stored = int(dataset.id.get_storage_size())
            dtype = _dtype_in(dataset)
            nbytes = math.prod(dataset.shape or ()) * dtype.itemsize
            occupied = nbytes if stored else 0
            if dataset.chunks is not None:
                chunk_nbytes = math.prod(dataset.chunks) * dtype.itemsize
                # Chunks at the end of the array reach beyond it.
                occupied = min(occupied, dataset.id.get_num_chunks() * chunk_nbytes)
            yield ArrayInfo(
                key=f"/{key}",
                shape=dataset.shape and dataset.shape[::order],
                dtype=dtype,
                chunk_shape=dataset.chunks and dataset.chunks[::order],
                codecs=" + ".join(NAMES.get(number, str(number)) for number in numbers) or "none",
                nbytes=nbytes,
                occupied_nbytes=occupied,
                stored_nbytes=stored,
                layout=_layout(dataset),
            )


def _layout(dataset: h5py.Dataset) -> str:
    if dataset.is_virtual:
        return VIRTUAL
    return RAW_FILES if dataset.id.get_create_plist().get_external_count() else CONTIGUOUS


def _dtype_in(dataset: h5py.Dataset) -> np.dtype[Any]:
    try:
        return dtype_of(dataset)
    except UnsupportedDtypeError:
        return np.dtype((np.void, dataset.id.get_type().get_size()))


def _in_zarr(path: Path) -> Iterator[ArrayInfo]:
    require_zarr()
    import zarr

    from lazyio.sources.zarr import array_paths, confined_store, zarr_source

    check_finished(path, below=True)
    with foreign_errors(f"{path}: its Zarr metadata"):
        found = zarr.open(confined_store(path), mode="r")
        keys = array_paths(found) if isinstance(found, zarr.Group) else [""]
    for key in keys:
        array: Any = zarr_source(str(path), key or None).array
        unit_nbytes = math.prod(array.shards or array.chunks) * array.dtype.itemsize
        nbytes = math.prod(array.shape) * array.dtype.itemsize
        n_objects, stored = _objects(array)
        yield ArrayInfo(
            key=f"/{key}" if key else path.name,
            shape=array.shape,
            dtype=array.dtype,
            chunk_shape=array.chunks,
            codecs=" + ".join(type(codec).__name__ for codec in array.compressors) or "none",
            nbytes=nbytes,
            occupied_nbytes=min(nbytes, n_objects * unit_nbytes),
            stored_nbytes=stored,
        )


def _objects(array: Any) -> tuple[int, int]:
    """Return number and bytes of the objects of an array.

    zarr-python would look for every chunk that there may be, of which there can be billions.
    """
    from lazyio.storage.zarr.array import local_folder

    folder = local_folder(array)
    if folder is None:
        return int(array.nchunks_initialized), int(array.nbytes_stored())
    sizes = [
        os.path.getsize(os.path.join(below, name))
        for below, _, names in walk(folder)
        for name in names
        if name not in METADATA_FILES
    ]
    return len(sizes), sum(sizes)


def _ratio(nbytes: int, stored: int) -> str:
    # What a damaged file says may be too large for a float.
    return f"{nbytes / stored:.2f}" if nbytes < 100 * stored else f"{nbytes // stored:,}"
