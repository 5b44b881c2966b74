"""From what a user has to the adapter that reads it: by type, content or suffix."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from lazyio.errors import OptionError, SourceError, UnknownFormatError, UnsupportedDtypeError
from lazyio.sources import hdf5, npy
from lazyio.sources import zarr as zarr_adapter
from lazyio.sources.base import Source, listed
from lazyio.sources.files import existing
from lazyio.sources.function import ArraySource, FunctionSource
from lazyio.sources.raw import RawSource, raw_source
from lazyio.spec import as_dtype, as_shape

FORMATS = ("npy", "hdf5", "zarr", "raw")
SUFFIXES = {
    ".npy": "npy",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".he5": "hdf5",
    ".nc": "hdf5",
    ".nc4": "hdf5",
    ".nwb": "hdf5",
    ".zarr": "zarr",
}
_ITERATOR_METHODS = ("_get_data", "_get_maxshape", "_get_dtype")


def source_for(
    obj: Any,
    key: str | None = None,
    *,
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    allow_external: object = None,
) -> Source:
    """Return the source for a path or an array-like.

    Parameters
    ----------
    obj : path-like, array-like or Source
        What to read.
    key : str, optional
        Path of the array inside a file or store.
    format : {"npy", "hdf5", "zarr", "raw"}, optional
        When content and suffix should not decide.
    storage_options : mapping, optional
        For a URL, as fsspec takes them.
    options : mapping, optional
        The adapter's own: ``shape``, ``dtype``, ``offset``, ``order`` of raw files.
    allow_external : list of path-like, optional
        Folders that links in an HDF5 file may lead to.

    Returns
    -------
    Source
        The adapter; only metadata has been read.

    Raises
    ------
    UnknownFormatError
        When nothing says what it is.
    SourceError
        When it is missing or cannot be read.
    """
    if isinstance(obj, (str, os.PathLike)):
        return _from_path(obj, key, format, storage_options, dict(options or {}), allow_external)
    if format is not None or options or storage_options or allow_external is not None:
        msg = (
            f"format and adapter options are for paths; {type(obj).__name__} says itself what it is"
        )
        raise OptionError(msg)
    if isinstance(obj, (h5py.Group, zarr.Group)):
        return _from_group(obj, key)
    if key is not None:
        msg = f"key={key!r} is for files and groups; {type(obj).__name__} is one array"
        raise OptionError(msg)
    return array_source(obj)


def array_source(obj: Any) -> Source:
    """Return the source for something that is an array already, or reads like one.

    Raises
    ------
    UnknownFormatError
        When it has no shape, dtype and indexing.
    UnsupportedDtypeError
        When its elements have no fixed size.
    """
    if isinstance(obj, h5py.Dataset):
        return _from_dataset(obj)
    if isinstance(obj, zarr.Array):
        return zarr_adapter.describe_array(obj)
    if isinstance(obj, np.memmap):
        mapped = _from_memmap(obj)
        if mapped is not None:
            return mapped
    if isinstance(obj, np.ma.MaskedArray):
        msg = "a masked array has values that are not there; call .filled(value) first"
        raise UnsupportedDtypeError(msg)
    if all(callable(getattr(obj, name, None)) for name in _ITERATOR_METHODS):
        return FunctionSource(
            function=obj._get_data,
            shape=as_shape(obj._get_maxshape()),
            dtype=as_dtype(obj._get_dtype()),
        )
    if isinstance(obj, (list, tuple, int, float, complex)):
        obj = _from_sequence(obj)
    if not hasattr(obj, "__getitem__") and isinstance(obj, Source):
        return _with_facts(obj)
    if not all(hasattr(obj, name) for name in ("shape", "dtype", "__getitem__")):
        is_stream = hasattr(obj, "__next__") or hasattr(obj, "__iter__")
        if is_stream and not isinstance(obj, (dict, set, frozenset, bytes, bytearray)):
            msg = (
                f"{type(obj).__name__} can only be gone through once, from its start; it has no "
                "shape, dtype and indexing, which a lazy array needs"
            )
            raise SourceError(msg)
        msg = (
            f"{type(obj).__name__} is no path and no array; give one, or an object with "
            "shape, dtype and read(region) (see lazyio.Source)"
        )
        raise UnknownFormatError(msg)
    if isinstance(obj, Source):
        return _with_facts(obj)
    chunks = getattr(obj, "chunks", None)
    regular = isinstance(chunks, tuple) and all(isinstance(c, int) for c in chunks)
    return ArraySource(
        array=obj,
        shape=as_shape(obj.shape),
        dtype=as_dtype(obj.dtype),
        chunk_shape=chunks if regular and chunks else None,
        kind=f"the {type(obj).__name__}",
    )


def _with_facts(source: Source) -> Source:
    """Return a user's source once its facts are seen to be facts."""
    shape = as_shape(source.shape)
    as_dtype(source.dtype)
    if source.chunk_shape is not None:
        chunk_shape = as_shape(source.chunk_shape, "chunk_shape")
        if len(chunk_shape) != len(shape) or 0 in chunk_shape:
            msg = (
                f"chunk_shape={chunk_shape} does not fit shape {shape}; it has one positive "
                "extent for each of its axes"
            )
            raise OptionError(msg)
    return source


def _from_sequence(obj: Any) -> Any:
    try:
        return np.asarray(obj)
    except ValueError as error:
        msg = f"a {type(obj).__name__} of rows that differ in length (ragged) is no array: {error}"
        raise OptionError(msg) from error


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the format that a path's content, or else its suffix, speaks for."""
    found = Path(path)
    if found.is_dir():
        if any((found / name).exists() for name in zarr_adapter.METADATA):
            return "zarr"
    elif found.is_file():
        with found.open("rb") as file:
            head = file.read(8)
        if head == hdf5.MAGIC:
            return "hdf5"
        if head.startswith(npy.MAGIC):
            return "npy"
        if h5py.is_hdf5(found):  # Behind a user block, as MATLAB writes one.
            return "hdf5"
    return SUFFIXES.get(found.suffix.lower())


def _from_path(
    path: str | os.PathLike[str],
    key: str | None,
    given_format: str | None,
    storage_options: Mapping[str, Any] | None,
    options: dict[str, Any],
    allow_external: object,
) -> Source:
    if given_format is not None and given_format not in FORMATS:
        msg = f"format={given_format!r} is not a format; give one of {', '.join(FORMATS)}"
        raise OptionError(msg)
    is_url = "://" in str(path)
    kind = given_format or ("zarr" if is_url else format_of(existing(path)))
    if kind is None:
        msg = (
            f"{path} is of no known format: neither its content nor its suffix is one of "
            f"{', '.join(SUFFIXES)}; give format=, or use from_raw for headerless binary data"
        )
        raise UnknownFormatError(msg)
    if kind == "raw":
        if key is not None:
            msg = f"key={key!r}: a raw file holds one array and no keys"
            raise OptionError(msg)
        if not {"shape", "dtype"} <= set(options) <= {"shape", "dtype", "offset", "order"}:
            msg = "raw files take shape= and dtype=, and may take offset= and order="
            raise OptionError(msg)
        return raw_source(path, **options)
    if options:
        msg = f"{', '.join(options)}: not an option of {kind} files"
        raise OptionError(msg)
    if kind == "npy":
        if key is not None:
            msg = f"key={key!r}: an .npy file holds one array and no keys"
            raise OptionError(msg)
        return npy.npy_source(path)
    if kind == "hdf5":
        return hdf5.hdf5_source(path, key, allow_external)
    return zarr_adapter.zarr_source(path, key, storage_options)


def _from_group(group: Any, key: str | None) -> Source:
    paths = (
        hdf5.dataset_keys(group)
        if isinstance(group, h5py.Group)
        else zarr_adapter.array_paths(group)
    )
    if key is None and len(paths) == 1:
        key = paths[0]
    if key is None or key.strip("/") not in paths:
        what = "give the key of one" if key is None else f"there is no {key!r}"
        msg = f"{group.name} holds {len(paths)} arrays; {what}: {listed(paths)}"
        raise SourceError(msg)
    return array_source(group[key])


def _from_dataset(dataset: h5py.Dataset) -> Source:
    """Let a dataset travel as path and key; one open for writing stays a handle."""
    if not dataset:
        msg = "the dataset's file has been closed; open it again, or give path and key"
        raise SourceError(msg)
    described = hdf5.describe_dataset(dataset, dataset.file.filename)
    if dataset.file.mode == "r" and dataset.file.driver in ("sec2", "stdio"):
        return hdf5.hdf5_source(dataset.file.filename, dataset.name)
    return ArraySource(
        array=dataset,
        shape=described.shape,
        dtype=described.dtype,
        chunk_shape=described.chunk_shape,
        kind=f"the dataset {dataset.name!r} of a file that is open for writing",
    )


def _from_memmap(mapped: np.memmap[Any, Any]) -> RawSource | None:
    """Return where a memmap lies; views and unnamed maps are read as arrays."""
    is_view = isinstance(mapped.base, np.memmap)
    # Mode "c" keeps changes in memory, where the file does not have them.
    if is_view or mapped.filename is None or mapped.dtype.hasobject or mapped.mode == "c":
        return None
    return RawSource(
        path=str(existing(mapped.filename)),
        shape=tuple(map(int, mapped.shape)),
        dtype=mapped.dtype,
        offset=int(mapped.offset),
        order="C" if mapped.flags.c_contiguous else "F",
    )
