"""Zarr stores that are no plain folder: what is in them, and what may be written there."""

import errno
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr
import zarr.errors
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, StorePath, ZipStore

from lazyio.errors import OptionError, TargetError, TargetExistsError
from lazyio.sources.zarr import store_name

Node = zarr.Array[Any] | zarr.Group


def store_behind(store: Any, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """Return the store that a user means, and the path inside it that theirs count from."""
    if isinstance(store, zarr.Group):
        return store.store, store.path
    if isinstance(store, StorePath):
        return store.store, store.path
    if isinstance(store, (str, os.PathLike)):
        return _behind_url(str(store), storage_options), ""
    return (zarr.storage.MemoryStore(store) if isinstance(store, dict) else store), ""


def _behind_url(url: str, storage_options: Mapping[str, Any] | None) -> Any:
    options = dict(storage_options) if storage_options else None
    try:
        return FsspecStore.from_url(url, storage_options=options)
    except (ImportError, ValueError) as error:
        msg = f"{url} cannot be opened: {error}; install the package that it names"
        raise OptionError(msg) from error


def check_mode_of(store: Any, inside: str, mode: str) -> None:
    """Refuse what the mode does not allow of a store that is open, or lies behind a URL."""
    name = node_name(store, inside)
    if store.read_only:
        msg = f"{name} is open for reading only; open it with mode='r+' or 'a'"
        raise TargetError(errno.EROFS, msg)
    if mode not in ("w-", "x", "r+"):
        return
    is_there = node_at(store, inside) is not None
    if is_there and mode != "r+":
        msg = f"{name} is there already, and mode={mode!r} makes only new ones; pass mode='a'"
        raise TargetExistsError(errno.EEXIST, msg)
    if not is_there and mode == "r+":
        msg = f"{name} holds nothing, and mode='r+' adds to existing ones only; pass mode='a'"
        raise TargetError(errno.ENOENT, msg)


def check_place_in(store: Any, path: str, zarr_format: int, *, replace: bool) -> None:
    """Refuse a place in a store that holds anything but an array that may be replaced."""
    parts = path.split("/") if path else []
    above = ["/".join(parts[:depth]) for depth in range(len(parts))]
    for group in above:
        found = node_at(store, group)
        name = node_name(store, group)
        if isinstance(found, zarr.Array):
            msg = f"{name} is an array, and an array holds no other; choose another path"
            raise TargetError(errno.ENOTDIR, msg)
        version = None if found is None else found.metadata.zarr_format
        if version not in (None, zarr_format):
            msg = (
                f"{name} is a Zarr v{version} group, to which no v{zarr_format} "
                "array can be added; choose another store, or zarr_format"
            )
            raise TargetError(errno.EEXIST, msg)
    found = node_at(store, path)
    name = node_name(store, path)
    if isinstance(found, zarr.Group):
        msg = f"{name} is a group of arrays, which is not replaced; give path= for an array in it"
        raise TargetExistsError(errno.EEXIST, msg)
    if found is not None and not replace:
        msg = f"{name} is there already; pass overwrite=True to replace it, or another path"
        raise TargetExistsError(errno.EEXIST, msg)
    # Chunks without metadata would come to light between those of the new array.
    if found is None and not replace and not sync(store.is_empty(path)):
        msg = (
            f"{name} holds objects and no array, left by a run that failed or by others; pass "
            "overwrite=True to remove all of them, or another path"
        )
        raise TargetExistsError(errno.ENOTEMPTY, msg)


def check_open_array(array: "zarr.Array[Any]", *, grows: bool) -> None:
    """Refuse an open array that cannot be written, or not as is asked."""
    if array.read_only:
        msg = f"{array.store_path} is open for reading only; open it with mode='r+' or 'a'"
        raise TargetError(errno.EROFS, msg)
    if grows and isinstance(array.store, ZipStore):
        msg = (
            f"{array.store_path} cannot grow: nothing can be changed in a .zip file; write a new "
            "one, or a directory"
        )
        raise TargetError(errno.EROFS, msg)


def node_at(store: Any, path: str) -> Node | None:
    """Return the array or group at a path, ``None`` where there is nothing."""
    if isinstance(store, LocalStore) and not store.root.exists():
        return None  # zarr would make the folder, to look into it.
    mode: Any = "r" if store.read_only else "r+"
    try:
        return zarr.open(store, path=path, mode=mode)
    except (FileNotFoundError, zarr.errors.NodeNotFoundError):
        return None


def renew_consolidated(store: Any, path: str) -> None:
    """Bring consolidated metadata up to date in every group above an array that has some."""
    if isinstance(store, ZipStore):
        return
    parts = path.split("/") if path else []
    with warnings.catch_warnings():
        # That v3 has no specification of it yet is known to whoever made it.
        warnings.simplefilter("ignore")
        for depth in reversed(range(len(parts))):
            above = "/".join(parts[:depth])
            group = node_at(store, above)
            if isinstance(group, zarr.Group) and group.metadata.consolidated_metadata is not None:
                version: Any = group.metadata.zarr_format
                zarr.consolidate_metadata(store, path=above or None, zarr_format=version)


def node_name(store: Any, path: str) -> str:
    """Return what an error or a report calls an array or group."""
    return f"{store_name(store)}/{path}" if path else store_name(store)


def resolved_name(store: Any) -> Path:
    """Return a store as sources are compared with it, links followed where it is a path."""
    name = store_name(store)
    return Path(os.path.realpath(name) if os.path.exists(name) else name)
