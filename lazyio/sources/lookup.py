"""From what a user has to the adapter that reads it: by type, content or suffix."""

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from lazyio.atomic.log import superblock_in
from lazyio.errors import OptionError, SourceError, UnknownFormatError
from lazyio.sources import hdf5, matlab, netcdf3, nifti, pytables, tiff
from lazyio.sources import raw as npy
from lazyio.sources.adapters import array_like_source
from lazyio.sources.base import Source, chosen
from lazyio.sources.cf_decoded import decoded
from lazyio.sources.concatenated import joined, stacked
from lazyio.sources.files import absolute, existing, open_for_reading
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5 import open_dataset_source
from lazyio.sources.in_memory import in_memory_source, is_file_in_memory
from lazyio.sources.patterns import (
    checked_join,
    files_in,
    is_of_one_format,
    is_pattern,
    matching,
    of_no_format,
)
from lazyio.sources.plugins import is_recognised, plugin_names, plugin_source
from lazyio.sources.pytables import is_file_or_group, is_node, node_in, node_source
from lazyio.sources.raw import raw_sources
from lazyio.sources.zarr_metadata import NODE_METADATA, is_zarr, require_zarr

if TYPE_CHECKING:
    from lazyio.sources.zarr import ZarrSource


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A format of files that are only read."""

    name: str
    """What ``format=`` calls it."""
    suffixes: tuple[str, ...]
    """Of its files, in lower case."""
    magic: tuple[bytes, ...] = ()
    """With one of which its files begin; none where they do not say what they are."""
    open: Callable[..., Source]
    """Returns the source for a path; for a path and a key where its files have keys."""
    keys: Callable[[str], list[str]] | None = None
    """Returns the keys of the arrays in a file; ``None`` where each file holds one array."""
    is_stacked: Callable[[str], bool] | None = None
    """Returns whether several such files are stacked, where they are not always concatenated."""

    def source(self, path: str | os.PathLike[str], key: str | None) -> Source:
        """Return the source for an array in a file."""
        if self.keys is not None:
            return self.open(path, key)
        if key is not None:
            msg = f"key={key!r}: a {self.suffixes[0]} file holds one array and no keys"
            raise OptionError(msg)
        return self.open(path)

    def array_keys(self, path: str) -> list[str | None]:
        """Return the keys of the arrays in a file: ``None`` alone where it has one and no keys."""
        return [None] if self.keys is None else [*self.keys(path)]


FILE_FORMATS = [
    FileFormat(name="npy", suffixes=(".npy",), magic=(npy.MAGIC,), open=npy.npy_source),
    FileFormat(
        name="tiff",
        suffixes=(".tif", ".tiff"),
        magic=tiff.MAGIC,
        open=tiff.tiff_source,
        keys=tiff.tiff_keys,
        is_stacked=tiff.is_image,
    ),
    FileFormat(
        name="netcdf3",
        suffixes=(".nc3",),
        magic=netcdf3.MAGIC,
        open=netcdf3.netcdf3_source,
        keys=netcdf3.netcdf3_keys,
    ),
    FileFormat(
        name="nifti",
        suffixes=nifti.SUFFIXES,
        open=nifti.nifti_source,
    ),
    FileFormat(
        name="matlab",
        suffixes=(".mat",),
        magic=(matlab.MAGIC,),
        open=matlab.matlab_source,
        keys=matlab.matlab_keys,
    ),
    # Without suffixes or first bytes: PyTables reads only what it is asked to read.
    FileFormat(
        name="pytables",
        suffixes=(),
        open=pytables.pytables_source,
        keys=pytables.pytables_keys,
    ),
]
"""A new one is a module with a source, and a line here."""

TARGET_SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".he5": "hdf5",
    ".nc": "hdf5",
    ".nc4": "hdf5",
    ".nwb": "hdf5",
    ".zarr": "zarr",
}
"""Of what is written as well."""


def suffixes() -> dict[str, str]:
    """Return the formats of files by their suffix."""
    of_sources = {suffix: one.name for one in FILE_FORMATS for suffix in one.suffixes}
    return of_sources | TARGET_SUFFIXES


def _by_suffix(name: str) -> str | None:
    """Return the format that a name's end speaks for, of which some have two dots."""
    ends = (kind for suffix, kind in suffixes().items() if name.lower().endswith(suffix))
    return next(ends, None)


def file_format(name: str | None) -> FileFormat | None:
    """Return the format of a name, where it is one of files that are only read."""
    return next((one for one in FILE_FORMATS if one.name == name), None)


def source_for(
    obj: Any,
    key: str | None = None,
    *,
    format: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    allow_external: object = None,
    join: object = None,
) -> Source:
    """Return the source for a path or an array-like."""
    if isinstance(obj, (str, os.PathLike)):

        def from_one(path: str | os.PathLike[str]) -> Source:
            given = dict(options or {})
            return _from_path(path, key, format, storage_options, given, allow_external)

        several = files_of(obj, format)
        if several is not None:
            return joined_files(several, [from_one(path) for path in several], join, format)
        refuse_join(obj, join)
        return from_one(obj)
    if format == "raw" and isinstance(obj, (list, tuple)):
        return _from_raw(obj, key, dict(options or {}))
    if is_file_in_memory(obj):
        refuse_path_options(
            obj, storage_options=storage_options, options=options, allow_external=allow_external
        )
        return in_memory_source(obj, key, format)
    refuse_path_options(
        obj,
        format=format,
        storage_options=storage_options,
        options=options,
        allow_external=allow_external,
        join=join,
    )
    if isinstance(obj, h5py.Group) or is_zarr(obj, "Group"):
        return _from_group(obj, key)
    if is_zarr(obj, "Store", "StorePath"):
        return zarr_array_source(obj, key)
    if is_file_or_group(obj):
        return array_source(node_in(obj, key))
    return array_source(obj, key)


def files_of(path: str | os.PathLike[str], format: str | None = None) -> list[str] | None:
    """Return the files that a glob or a folder stands for; ``None`` for what is opened itself."""
    if is_pattern(path):
        return matching(path)
    # To HDF5 a folder is an error, to Zarr a store, and to a plugin whatever it says.
    is_of_files = format in (None, "raw") or file_format(format) is not None
    if "://" in os.fspath(path) or not is_of_files or not os.path.isdir(path):
        return None
    folder = absolute(path)
    if format_of(folder) is not None:
        return None
    files = files_in(folder)
    if format is None:
        formats = {file: _looked_up(Path(file)) for file in files}
        if not is_of_one_format(formats):
            if is_recognised(path):
                return None
            raise UnknownFormatError(of_no_format(folder, formats))
    return files


def joined_files(
    paths: list[str], parts: list[Source], join: object, format: str | None = None
) -> Source:
    """Return the arrays of several files as one, as was asked for or as suits the format."""
    wanted = checked_join(join)
    if wanted is None:
        one = file_format(format or format_of(paths[0]))
        is_stacked = one is not None and one.is_stacked is not None and one.is_stacked(paths[0])
        wanted = "stack" if is_stacked else "concatenate"
    return stacked(parts, 0) if wanted == "stack" else joined(parts, 0)


def join_for_untrusted(paths: list[str], join: object, format: str | None) -> str:
    """Return how files of strangers are joined: none of them is looked into here."""
    wanted = checked_join(join)
    one = file_format(format or format_of(paths[0]))
    if wanted is None and one is not None and one.is_stacked is not None:
        msg = (
            f"{one.name} files of one page are stacked, others concatenated; with trusted=False "
            'say which: join="stack" or join="concatenate"'
        )
        raise OptionError(msg)
    return wanted or "concatenate"


def refuse_join(path: object, join: object) -> None:
    """Raise where one file or folder is to be joined with others."""
    if checked_join(join) is not None:
        msg = f"join={join!r} is for several files, given as a glob or a folder; {path} is one"
        raise OptionError(msg)


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


def array_source(obj: Any, key: str | None = None) -> Source:
    """Return the source for something that is an array already, or reads like one.

    What is neither may be known to a plugin, and then have keys.
    """
    try:
        source = _array_source(obj)
    except (UnknownFormatError, SourceError) as error:
        found, broken = plugin_source(obj, key, {})
        if found is not None:
            return found
        if broken:
            msg = f"{error}{broken}"
            raise type(error)(msg) from error
        raise
    if key is not None:
        msg = f"key={key!r} is for files and groups; {type(obj).__name__} is one array"
        raise OptionError(msg)
    return source


def _array_source(obj: Any) -> Source:
    if isinstance(obj, h5py.Dataset):
        return open_dataset_source(obj)
    if is_node(obj):
        return _from_node(obj)
    if is_zarr(obj, "Array"):
        require_zarr()
        from lazyio.sources.zarr import watched_array

        return _from_zarr_array(watched_array(obj))
    return array_like_source(obj)


def _from_node(node: Any) -> Source:
    return node_source(node, hdf5.hdf5_source)


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
        for one in FILE_FORMATS:
            if one.magic and head.startswith(one.magic):
                return one.name
        if _is_zip(found):
            return "zarr" if _is_zipped_zarr(found) else None
    return _by_suffix(found.name)


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
    names = [*(one.name for one in FILE_FORMATS), "hdf5", "zarr", "raw"]
    if given_format is not None and given_format not in names:
        return _from_plugin(path, key, given_format, options, names)
    is_url = "://" in str(path)
    kind = given_format or ("zarr" if is_url else _looked_up(existing(path)))
    if kind is None:
        found, broken = plugin_source(path, key, options)
        if found is not None:
            return found
        msg = (
            f"{path} is of no known format: neither its content nor its suffix is one of "
            f"{', '.join(suffixes())}; give format=, or use from_raw for headerless binary data"
            f"{broken}"
        )
        raise UnknownFormatError(msg)
    if kind == "raw":
        return _from_raw(path, key, options)
    if options:
        msg = f"{', '.join(options)}: not an option of {kind} files"
        raise OptionError(msg)
    if (one := file_format(kind)) is not None:
        return one.source(path, key)
    if kind == "hdf5":
        is_turned = given_format is None and matlab.is_matlab(path)
        open_file = matlab.matlab_source if is_turned else hdf5.hdf5_source
        return open_file(path, key, allow_external)
    return zarr_array_source(path, key, storage_options, allow_external)


def _from_plugin(
    path: str | os.PathLike[str],
    key: str | None,
    name: str,
    options: dict[str, Any],
    names: list[str],
) -> Source:
    """Return the source by the plugin that was asked for."""
    found, _ = plugin_source(path, key, options, name)
    if found is None:
        known = ", ".join([*names, *plugin_names()])
        msg = f"format={name!r} is not a format; give one of {known}"
        raise OptionError(msg)
    return found


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
    wanted = None if key is None else key.strip("/")
    return array_source(group[chosen(paths, wanted, group.name, "array")])
