"""The command ``lazyio convert``: arrays of files to HDF5 or Zarr, one or many."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.cli_arguments import (
    add_codec,
    add_cut,
    add_running,
    extents,
    extents_or_auto,
    hdf5_codec,
    running_of,
    windows_of,
    zarr_codec,
)
from lazyio.dtypes import DTYPE_ATTRIBUTE, is_same_value
from lazyio.errors import OptionError, SourceError, UnknownFormatError, UnsupportedDtypeError
from lazyio.execution.report import WriteReport
from lazyio.info import info_of
from lazyio.libhdf5_calls import named
from lazyio.opening.open import open as open_lazily
from lazyio.sources.files import existing
from lazyio.sources.hdf5 import column_in, dataset_keys
from lazyio.sources.hdf5_layout import attributes_of
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.lookup import TARGET_SUFFIXES, file_format, files_of, format_of
from lazyio.sources.patterns import JOINS, is_pattern
from lazyio.sources.pytables import class_of, is_of_pytables
from lazyio.sources.zarr_metadata import require_zarr, zarr_kind
from lazyio.writing.to_hdf5 import DEFAULT_KEY, to_hdf5
from lazyio.writing.to_zarr import to_zarr

_OF_THE_FILE = {
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "_NCProperties",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_nc3_strict",
}
"""Attributes by which netCDF ties a dataset to others of its file."""
_SUFFIXES = {"hdf5": ".h5", "zarr": ".zarr"}
"""Of files that are written to a folder."""


def add_convert(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument(
        "sources",
        metavar="SRC",
        nargs="+",
        help="file or store, as path or path::key, or several as a quoted pattern or a folder; "
        "more than one go to a folder, or to one file by keys",
    )
    add_opening(command)
    command.add_argument("target", metavar="DST", help="file, store or folder to write")
    command.add_argument("--all", action="store_true", help="every array of SRC, by its own key")
    add_cut(command)
    command.add_argument(
        "--key",
        help="name of the target's array (default: HDF5 the source's, or data; Zarr the store); of "
        "several arrays that of their group",
    )
    command.add_argument(
        "--format", choices=("hdf5", "zarr"), help="target format, where the suffix does not say it"
    )
    add_codec(command, "gzip for HDF5, zarr's own for Zarr")
    command.add_argument(
        "--no-attributes", action="store_true", help="leave the attributes of the source out"
    )
    add_running(command, "an array of that key (overwrite=True)")
    command.set_defaults(run=_convert)


def add_opening(command: argparse.ArgumentParser) -> None:
    """Declare how several files are one array, and what a raw file does not say itself."""
    command.add_argument(
        "--join",
        choices=JOINS,
        help="how the files of a pattern or folder become one array (default: along axis 0, but "
        "images are stacked)",
    )
    command.add_argument("--shape", help="of a raw file, such as -1,384")
    command.add_argument("--dtype", help="of a raw file, such as int16; else cast to this type")
    command.add_argument(
        "--offset", type=int, default=0, help="bytes before the data of a raw file"
    )


@dataclass(frozen=True, kw_only=True)
class SourceArray:
    """One array of a file."""

    path: str
    """The file or store."""
    key: str | None
    """Of the array in it, where that was said."""
    array: Any
    """The array, lazily."""

    @property
    def stem(self) -> str:
        """What files and arrays are called that are made of its file."""
        return _stem(self.path)


def _stem(path: str) -> str:
    """Return what files and arrays are called that are made of a file, folder or pattern.

    Examples
    --------
    >>> _stem("a/b.h5"), _stem("a/frames/"), _stem("a/day_*.h5"), _stem("a/*.h5")
    ('b', 'frames', 'day', 'a')
    """
    path = path.rstrip("/")
    if not is_pattern(path):
        return Path(path).stem
    *folders, name = Path(path).parts
    for part in (Path(name).stem, *reversed(folders)):
        # Signs of a pattern would make one of the name that is written, too.
        if plain := re.sub(r"\[[^]]*\]|[*?]+", "", part).strip("-_./ "):
            return plain
    return DEFAULT_KEY.strip("/")


def source_array(given: str, arguments: argparse.Namespace) -> SourceArray:
    """Return the array that a path, or path and key, stand for."""
    path, _, key = given.partition("::")
    options: dict[str, Any] = {}
    if arguments.shape is None and arguments.offset:
        msg = "--offset is for raw files, which need --shape and --dtype too"
        raise OptionError(msg)
    if arguments.shape is not None:
        if arguments.dtype is None:
            msg = "--shape says that SRC is a raw file, which needs --dtype too"
            raise OptionError(msg)
        shape = extents(arguments.shape, "--shape")
        options = {"format": "raw", "shape": shape, "dtype": arguments.dtype}
        options["offset"] = arguments.offset
    options |= {"memory_limit": arguments.memory_limit, "join": _join_of(path, arguments)}
    try:
        array = open_lazily(path, key or None, **options)
    except SourceError as error:
        if key or arguments.shape is not None or len(_keys_in(_first_of(path))) < 2:
            raise
        msg = f"{error}; a key is given behind the path: {path}::KEY"
        raise SourceError(msg) from None
    return SourceArray(path=path, key=key or None, array=array)


def _join_of(path: str, arguments: argparse.Namespace) -> Any:
    """Return how files are joined; of a single file beside a pattern nothing is said."""
    sources = getattr(arguments, "sources", ())
    if arguments.join is None or len(sources) < 2 or files_of(path) is not None:
        return arguments.join
    others = (files_of(given.partition("::")[0]) for given in sources)
    return arguments.join if all(one is None for one in others) else None


def _all_arrays(given: str, arguments: argparse.Namespace) -> Iterator[SourceArray]:
    """Yield every array of a file, but for those that cannot be read.

    Of a pattern or folder those that its first file has, each joined over all of them.
    """
    path, _, key = given.partition("::")
    if key:
        msg = f"{given}: --all is for every array of a file; leave ::{key} out, or --all"
        raise OptionError(msg)
    is_raw = arguments.shape is not None
    keys = [] if is_raw else _keys_in(_first_of(path))
    if not keys:
        yield source_array(given, arguments)
    for name in keys:
        try:
            yield source_array(f"{path}::{name}", arguments)
        except UnsupportedDtypeError as error:
            print(f"array {name!r} is left out: {error}", file=sys.stderr)


def _first_of(path: str) -> Path:
    """Return a file, or the first of a pattern or folder."""
    return existing((files_of(path) or [path])[0])


def _keys_in(path: Path) -> list[str]:
    """Return the keys of the arrays in a file or store; none where it is one array."""
    kind = format_of(path)
    if (one := file_format(kind)) is not None:
        found: list[str | None] = [*one.array_keys(str(path))]
    else:
        found = [array.key for array in info_of(path)] if kind in ("hdf5", "zarr") else []
    return [key for name in found if name and (key := name.strip("/"))]


def cut_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the target's array is to be cut."""
    return {
        "dtype": arguments.dtype,
        "chunks": extents_or_auto(arguments.chunks, "--chunks"),
        "access": windows_of(arguments),
        "shards": extents_or_auto(arguments.shards, "--shards"),
        "memory_limit": arguments.memory_limit,
    }


def _convert(arguments: argparse.Namespace) -> None:
    folder = _folder(arguments)
    if folder is None:
        print(_written(arguments, arguments.sources, arguments.target))
        return
    suffix = _SUFFIXES[arguments.format or "hdf5"]
    stems = [_stem(given.partition("::")[0]) for given in arguments.sources]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        msg = f"several sources would be written to {twice[0]}{suffix}; give them one at a time"
        raise OptionError(msg)
    os.makedirs(folder, exist_ok=True)
    for given, stem in zip(arguments.sources, stems, strict=True):
        print(_written(arguments, [given], os.path.join(folder, stem + suffix)))


def _folder(arguments: argparse.Namespace) -> str | None:
    """Return the folder that sources go to, each as a file; ``None`` where all go to one."""
    target: str = arguments.target
    is_named = Path(target).suffix.lower() in TARGET_SUFFIXES
    is_folder = not is_named and os.path.isdir(target) and not _is_store(target)
    is_wanted = target.endswith(os.sep) or (len(arguments.sources) > 1 and not is_named)
    return target if is_folder or is_wanted else None


def _is_store(path: str) -> bool:
    return zarr_kind(Path(path)) is not None


def _written(arguments: argparse.Namespace, sources: Sequence[str], target: str) -> WriteReport:
    """Write arrays to one file or store, and return the report."""
    kind = arguments.format or TARGET_SUFFIXES.get(Path(target).suffix.lower())
    if kind is None:
        msg = (
            f"{target} has none of the suffixes {', '.join(TARGET_SUFFIXES)}; give "
            "--format hdf5 or --format zarr"
        )
        raise UnknownFormatError(msg)
    if arguments.all:
        arrays = [one for given in sources for one in _all_arrays(given, arguments)]
    else:
        arrays = [source_array(given, arguments) for given in sources]
    is_one = len(sources) == 1 and not arguments.all
    found = {} if is_one else _by_key(arrays, is_prefixed=len(sources) > 1, is_all=arguments.all)
    options = {
        **cut_of(arguments),
        **running_of(arguments),
        "overwrite": arguments.overwrite,
    }
    attributes: Any = None
    if not arguments.no_attributes:
        each = {key: attributes_in(one, arguments) for key, one in found.items()}
        attributes = attributes_in(arrays[0], arguments) if is_one else each
    data = arrays[0].array if is_one else {key: one.array for key, one in found.items()}
    key = arguments.key or (arrays[0].key if is_one and kind == "hdf5" else None)
    if kind == "hdf5":
        if options.pop("shards") is not None:
            msg = f"--shards {arguments.shards}: HDF5 has no shards; leave it out, or write Zarr"
            raise OptionError(msg)
        options |= hdf5_codec(arguments.compression or "gzip", arguments)
        return to_hdf5(data, target, key or DEFAULT_KEY, attrs=attributes, **options)
    stored = np.dtype(arguments.dtype or arrays[0].array.dtype)
    options["compressors"] = zarr_codec(arguments.compression, arguments, stored)
    return to_zarr(data, target, key, attributes=attributes, **options)


def _by_key(
    arrays: Sequence[SourceArray], *, is_prefixed: bool, is_all: bool
) -> Mapping[str, SourceArray]:
    """Return several arrays by the keys that they are written to."""
    found: dict[str, SourceArray] = {}
    for one in arrays:
        key = (one.key or "").strip("/")
        if is_all and is_prefixed:
            key = f"{one.stem}/{key}" if key else one.stem
        key = key or one.stem
        if key in found:
            msg = f"several arrays would be written to {key!r}; give them one at a time, with --key"
            raise OptionError(msg)
        found[key] = one
    if not found:
        msg = "none of the arrays can be read; there is nothing to write"
        raise OptionError(msg)
    return found


def attributes_in(one: SourceArray, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the source says of its array, but for what only its own file can mean.

    Of several files it is what all of them say.
    """
    if arguments.shape is not None:
        return {}
    first, *others = files_of(one.path) or [one.path]
    found = _attributes_in(first, one.key)
    for other in others:
        if not found:
            break
        also = _attributes_in(other, one.key)
        found = {
            name: value
            for name, value in found.items()
            if name in also and is_same_value(value, also[name])
        }
    return found


def _attributes_in(path: str, key: str | None) -> dict[str, Any]:
    """Return the attributes of an array in one file or store."""
    kind = format_of(existing(path))
    if kind == "zarr":
        require_zarr()
        from lazyio.sources.zarr import zarr_source

        found = dict(zarr_source(path, key).array.attrs)
    elif kind == "hdf5":
        with open_hdf5(path) as file:
            name, column = column_in(file, key or dataset_keys(file)[0])
            # What is said of a table is said of none of its columns.
            attrs, left_out = ({}, []) if column else attributes_of(file[named(name)])
            if class_of(file[named(name)]) is not None:
                attrs = {one: value for one, value in attrs.items() if not is_of_pytables(one)}
            attrs = {one: value for one, value in attrs.items() if not one.startswith("MATLAB_")}
        for name in left_out:
            print(f"attribute {name!r} is left out: numpy has no such type", file=sys.stderr)
        found = {name: _plain(name, attrs[name]) for name in attrs if name not in _OF_THE_FILE}
    else:
        found = {}
    if DTYPE_ATTRIBUTE in found:
        # Times come back as times, of which the writer says anew how they lie there.
        for name in (DTYPE_ATTRIBUTE, "units", "calendar"):
            found.pop(name, None)
    return found


def _plain(name: str, value: Any) -> Any:
    """Return an attribute of HDF5 as one that either format takes."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.shape == (1,):
        # netCDF keeps single values as lists of one.
        value = value[0]
    if isinstance(value, str):
        # Of bytes that are no UTF-8 h5py makes a surrogate each.
        value = value.encode(errors="surrogateescape")
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        print(f"attribute {name!r} is no UTF-8: it is read as Latin-1", file=sys.stderr)
        return value.decode("latin-1")
