"""From what a user has to the adapter that reads it: by type, content or suffix."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from lazyio.atomic.log import superblock_in
from lazyio.errors import OptionError, SourceError, UnknownFormatError
from lazyio.sources import hdf5
from lazyio.sources import raw as npy
from lazyio.sources.adapters import array_like_source
from lazyio.sources.base import Source, listed
from lazyio.sources.cf_decoded import decoded
from lazyio.sources.files import existing, open_for_reading
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5 import open_dataset_source
from lazyio.sources.raw import raw_sources
from lazyio.sources.zarr_metadata import NODE_METADATA, is_zarr, require_zarr

if TYPE_CHECKING:
    from lazyio.sources.zarr import ZarrSource

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


def source_for(
    obj: Any,
    key: str | None = None,
    *,
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    allow_external: object = None,
) -> Source:
    """Return the source for a path or an array-like."""
    if isinstance(obj, (str, os.PathLike)):
        return _from_path(obj, key, format, storage_options, dict(options or {}), allow_external)
    if format == "raw" and isinstance(obj, (list, tuple)):
        return _from_raw(obj, key, dict(options or {}))
    refuse_path_options(
        obj,
        format=format,
        storage_options=storage_options,
        options=options,
        allow_external=allow_external,
    )
    if isinstance(obj, h5py.Group) or is_zarr(obj, "Group"):
        return _from_group(obj, key)
    if is_zarr(obj, "Store", "StorePath"):
        return zarr_array_source(obj, key)
    if key is not None:
        msg = f"key={key!r} is for files and groups; {type(obj).__name__} is one array"
        raise OptionError(msg)
    return array_source(obj)


def refuse_path_options(obj: object, **given: object) -> None:
    """Raise where options that are for paths were given with something else."""
    names = [name for name, value in given.items() if value not in (None, {})]
    if names:
        msg = (
            f"{', '.join(names)}: format and adapter options are for paths; "
            f"{type(obj).__name__} says itself what it is"
        )
        raise OptionError(msg)


def zarr_array_source(
    store: Any,
    path: Any,
    storage_options: Mapping[str, Any] | None = None,
    allow_external: object = None,
) -> Source:
    """Return the source for an array in a Zarr store, its elements as they were."""
    require_zarr()
    from lazyio.sources.zarr import zarr_source

    return _from_zarr_array(zarr_source(store, path, storage_options, allow_external))


def _from_zarr_array(source: "ZarrSource") -> Source:
    with foreign_errors(f"{source.array.store_path}: its attributes"):
        return decoded(source, source.array.attrs)


def array_source(obj: Any) -> Source:
    """Return the source for something that is an array already, or reads like one."""
    if isinstance(obj, h5py.Dataset):
        return open_dataset_source(obj)
    if is_zarr(obj, "Array"):
        require_zarr()
        from lazyio.sources.zarr import watched_array

        return _from_zarr_array(watched_array(obj))
    return array_like_source(obj)


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the format that a path's content, or else its suffix, speaks for."""
    found = Path(path)
    if found.is_dir():
        if any((found / name).exists() for name in NODE_METADATA):
            return "zarr"
    elif found.is_file():
        with open_for_reading(str(found)) as file:
            head = file.read(8) or b""
            is_hdf5 = superblock_in(file.fileno()) is not None
        if is_hdf5:
            return "hdf5"
        if head.startswith(npy.MAGIC):
            return "npy"
        if _is_zip(found):
            return "zarr" if _is_zipped_zarr(found) else None
    return SUFFIXES.get(found.suffix.lower())


def _looked_up(path: Path) -> str | None:
    """Return the format of what lies at a path, or say that it cannot be read."""
    try:
        return format_of(path)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise SourceError(error.errno, msg) from error


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
    kind = given_format or ("zarr" if is_url else _looked_up(existing(path)))
    if kind is None:
        msg = (
            f"{path} is of no known format: neither its content nor its suffix is one of "
            f"{', '.join(SUFFIXES)}; give format=, or use from_raw for headerless binary data"
        )
        raise UnknownFormatError(msg)
    if kind == "raw":
        return _from_raw(path, key, options)
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
    return zarr_array_source(path, key, storage_options, allow_external)


def _from_raw(paths: Any, key: str | None, options: dict[str, Any]) -> Source:
    if key is not None:
        msg = f"key={key!r}: a raw file holds one array and no keys"
        raise OptionError(msg)
    if not {"shape", "dtype"} <= set(options) <= {"shape", "dtype", "offset", "order"}:
        msg = "raw files take shape= and dtype=, and may take offset= and order="
        raise OptionError(msg)
    return raw_sources(paths, **options)


def _is_zip(path: Path) -> bool:
    with open_for_reading(str(path)) as file:
        return file.read(2) == b"PK" and zipfile.is_zipfile(file)


def _is_zipped_zarr(path: Path) -> bool:
    """Return whether a zip file holds the metadata of a Zarr array or group, or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except Exception:  # noqa: BLE001 - zipfile raises errors of every kind of a damaged file.
        return True  # So that what reads Zarr says what is wrong with it.
    return not names.isdisjoint(NODE_METADATA)


def _from_group(group: Any, key: str | None) -> Source:
    if isinstance(group, h5py.Group):
        paths = hdf5.dataset_keys(group)
    else:
        require_zarr()
        from lazyio.sources.zarr import array_paths

        paths = array_paths(group)
    if key is None and len(paths) == 1:
        key = paths[0]
    if key is None or key.strip("/") not in paths:
        what = "give the key of one" if key is None else f"there is no {key!r}"
        found = f"{len(paths)} arrays; {what}: {listed(paths)}"
        msg = f"{group.name} holds {found if paths else 'no array; check the path'}"
        raise SourceError(msg)
    return array_source(group[key])
