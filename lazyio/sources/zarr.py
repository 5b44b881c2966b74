"""Zarr arrays, v2 and v3, in any store that zarr-python opens."""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors

from lazyio.errors import DamagedDataError, OptionError, SourceError, UnsupportedDtypeError
from lazyio.grid import Region, box_shape, format_region, n_along, overlap
from lazyio.sources.base import Array, listed
from lazyio.sources.files import existing, fingerprint
from lazyio.spec import Shape

METADATA = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True, kw_only=True)
class ZarrSource:
    """A Zarr array; it travels as its store and path, as zarr pickles it."""

    array: zarr.Array[Any]
    """The array, opened for reading."""
    in_rows: bool = False

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return tuple(map(int, self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return np.dtype(self.array.dtype)

    @property
    def chunk_shape(self) -> Shape | None:
        """What is fetched at once: the shard where there is one."""
        return tuple(map(int, self.array.shards or self.array.chunks))

    @property
    def location(self) -> tuple[str, str]:
        """Path of the store, empty for stores without one, and path inside it."""
        root = getattr(self.array.store, "root", "")
        return str(root), self.array.path

    def __dask_tokenize__(self) -> Any:
        """Return what names the same array in any process."""
        # A replaced array is told by its folder; a chunk that was rewritten is not.
        root, path = self.location
        folder = Path(root, path)
        facts = [fingerprint(str(folder / name)) for name in METADATA if (folder / name).is_file()]
        return (
            "lazyio.ZarrSource",
            str(self.array.store_path),
            self.array.metadata.to_dict(),
            facts if root else None,
        )

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        out: Array = np.empty(box_shape(region), self.dtype)
        self.read_into(region, out)
        return out

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, a chunk at a time.

        zarr-python would decode ten chunks at once, in memory that nobody counts.
        """
        root = self.location[0]
        if root and not os.path.isdir(root):
            msg = f"{root} is not there any more; a missing store would read as its fill value"
            raise SourceError(msg)
        chunk_shape = self.chunk_shape or ()
        touched = [
            range(part.start // step, n_along(part.stop, step))
            for part, step in zip(region, chunk_shape, strict=True)
        ]
        for index in itertools.product(*touched):
            _, inside = overlap(region, chunk_shape, index)
            if all(part.stop > part.start for part in inside):
                wanted = tuple(
                    slice(whole.start + part.start, whole.start + part.stop)
                    for whole, part in zip(region, inside, strict=True)
                )
                out[inside] = self._decode(wanted)

    def _decode(self, region: Region) -> Array:
        try:
            return np.asarray(self.array[region] if region else self.array[()])
        except Exception as error:  # Each codec of zarr has exceptions of its own.
            msg = (
                f"{self.array.store_path}: the chunks at {format_region(region)} cannot be read: "
                f"{type(error).__name__}: {error}"
            )
            raise DamagedDataError(msg) from error


def zarr_source(
    store: Any, path: Any, storage_options: Mapping[str, Any] | None = None
) -> ZarrSource:
    """Return the source for an array in a store.

    Parameters
    ----------
    store : path-like, str or zarr store
        A directory, a URL or a store object.
    path : str or None
        Path of the array inside it; ``None`` where the store has only one.
    storage_options : mapping, optional
        For a URL, as fsspec takes them.

    Returns
    -------
    ZarrSource
        Only metadata has been read.

    Raises
    ------
    OptionError
        When the path is no string, or a package for the URL is missing.
    SourceError
        When the store or array is missing, or its metadata cannot be read.
    UnsupportedDtypeError
        When its elements have no fixed size.
    """
    name = str(store)
    if path is not None and not isinstance(path, str):
        msg = f"path={path!r} is no path inside a Zarr store; give a string"
        raise OptionError(msg)
    if isinstance(store, (str, os.PathLike)) and "://" not in name:
        store = name = str(existing(store))
        _check_metadata(Path(name), path)
    options: dict[str, Any] = {}
    if storage_options:
        options["storage_options"] = dict(storage_options)
    try:
        item = zarr.open(store, path=path or None, mode="r", **options)
    except (FileNotFoundError, zarr.errors.BaseZarrError) as error:
        where = f" at {path!r}" if path else ""
        msg = f"{name} has no Zarr array{where}: {error}"
        raise SourceError(msg) from error
    except ImportError as error:
        msg = f"{name} cannot be opened: {error}; install the package that it names"
        raise OptionError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{name} has Zarr metadata that cannot be read: {error}"
        raise SourceError(msg) from error
    if isinstance(item, zarr.Group):
        item = _sole_array(item, name)
    return describe_array(item)


def describe_array(array: zarr.Array[Any]) -> ZarrSource:
    """Return the source for a zarr array that is open already."""
    if np.dtype(array.dtype).hasobject or not np.dtype(array.dtype).itemsize:
        msg = (
            f"{array.store_path} holds elements of type {array.dtype}, which have no fixed size; "
            "arrays of fixed-size elements are read"
        )
        raise UnsupportedDtypeError(msg)
    return ZarrSource(array=array)


def array_paths(group: zarr.Group) -> list[str]:
    """Return the paths of all arrays below a group."""
    members = group.members(max_depth=None)
    return sorted(path for path, item in members if isinstance(item, zarr.Array))


def _sole_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    paths = array_paths(group)
    if len(paths) == 1:
        found = group[paths[0]]
        if isinstance(found, zarr.Array):
            return found
    msg = f"{name} holds {len(paths)} arrays; give the path of one: {listed(paths)}"
    raise SourceError(msg)


def _check_metadata(store: Path, path: str | None) -> None:
    """Name the metadata file that is no JSON, which zarr's own error does not."""
    for name in METADATA:
        file = store.joinpath(*(path or "").split("/")) / name
        if not file.is_file():
            continue
        try:
            facts = json.loads(file.read_bytes())
            if not isinstance(facts, dict) or not facts:
                msg = "it is not a JSON object with members"
                raise ValueError(msg)
        except ValueError as error:
            msg = f"{file} is damaged: {error}; restore it from a copy, the chunks may be intact"
            raise SourceError(msg) from error
