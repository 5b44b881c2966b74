"""Where an array may be written: checked before anything is computed or made."""

import contextlib
import errno
import os
import posixpath
import reprlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import h5py

from lazyio.atomic.hdf5_digests import GROUP
from lazyio.atomic.log import is_half_applied
from lazyio.atomic.publish_steps import is_hidden_name
from lazyio.atomic.recovery import tidy
from lazyio.errors import OptionError, TargetError, TargetExistsError, TargetLockedError
from lazyio.inputs import Input
from lazyio.libhdf5_calls import named
from lazyio.os_errors import errno_of
from lazyio.sources.base import listed
from lazyio.sources.zarr_metadata import METADATA_FILES, is_zarr, zarr_kind
from lazyio.storage.disk_errors import check_writable
from lazyio.writing.refusals import Refusals

_STORES = ("Store", "StorePath", "Group")
_MODES = ("a", "w", "w-", "x", "r+")
_METADATA_FILES = frozenset(METADATA_FILES)
_NO_NAMES = frozenset((".", ".."))
_OF_ARRAYS = ("zarr.json", ".zarray")


def check_mode(mode: str) -> None:
    """Refuse a mode that h5py does not have."""
    if mode not in _MODES:
        msg = f"mode={mode!r} is not a mode; give one of {', '.join(map(repr, _MODES))}"
        raise OptionError(msg)


def without_slash(key: Any) -> Any:
    """Return a key as HDF5 takes it: slashes at its end say nothing.

    Examples
    --------
    >>> without_slash("g/x/"), without_slash("/")
    ('g/x', '/')
    """
    return (key.rstrip("/") or key) if isinstance(key, str) else key


def check_key(key: Any) -> str:
    """Return a key, unless it names no dataset, or one in lazyio's own group."""
    is_path = isinstance(key, str) and "\0" not in key
    if not is_path or not key.strip("/") or key.endswith("/"):
        given = reprlib.repr(key)
        msg = f"key={given} does not name a dataset; give a path inside the file, such as '/data'"
        raise OptionError(msg)
    refuse_bytes(key, "key")
    parts = [part for part in key.split("/") if part]
    if not _NO_NAMES.isdisjoint(parts):
        # HDF5 has no way up: '..' would be the name of a group, and '.' of none.
        msg = f"key={key!r} has '.' or '..' as a name; give the path from the root of the file"
        raise OptionError(msg)
    if parts[0] == GROUP:
        msg = f"key={key!r} lies in the group {GROUP!r}, which is for digests; choose another key"
        raise OptionError(msg)
    return str(key)


def refuse_bytes(key: str, what: str) -> None:
    """Refuse a name that is no UTF-8: h5py reads what has one, and makes none."""
    name = named(key)
    if isinstance(name, bytes):
        msg = (
            f"{what}={key!r} is no UTF-8, of which h5py makes names and links; what is there gets "
            f"another name by h5py.File(path, 'r+').move({name!r}, 'new')"
        )
        raise OptionError(msg)


def target_path(path: Any) -> Path:
    """Return the absolute path of a file to write, links resolved."""
    if not isinstance(path, (str, os.PathLike)):
        given = reprlib.repr(path)
        msg = f"path={given} is not a path; give the name of a file, or an open h5py object"
        raise OptionError(msg)
    if is_url(path):
        msg = f"{path} is a URL, and HDF5 is written to files only; write here, then copy it"
        raise OptionError(msg)
    resolved = _resolved(path)
    if os.fsdecode(path).endswith(os.sep) and not resolved.is_dir():
        msg = f"path={str(path)!r} names a folder; give the name of a file in it"
        raise TargetError(errno.EISDIR, msg)
    tidy(resolved)
    return resolved


def _resolved(path: str | os.PathLike[str]) -> Path:
    """Return a path with links followed: what a link points to is replaced, and not the link."""
    if "\0" in os.fsdecode(path):
        msg = f"path={path!r} holds a null byte, which no file name may"
        raise OptionError(msg)
    if not os.fsdecode(path):
        msg = f"path={path!r} is empty, and stands for the working directory; give a name"
        raise TargetError(errno.EINVAL, msg)
    resolved = Path(os.path.realpath(path))
    try:
        resolved.stat()
    except (FileNotFoundError, PermissionError):
        return resolved
    except OSError as error:
        msg = f"{resolved} cannot be written: {error.strerror}"
        raise TargetError(error.errno, msg) from error
    return resolved


def is_url(store: Any) -> bool:
    """Return whether a store is named by a URL."""
    return isinstance(store, (str, os.PathLike)) and "://" in str(store)


def without_scheme(store: Any) -> Any:
    """Return the path that a ``file://`` URL stands for, anything else as it is.

    Examples
    --------
    >>> without_scheme("file:///data/a%20b.zarr"), without_scheme("s3://bucket/a.zarr")
    ('/data/a b.zarr', 's3://bucket/a.zarr')
    """
    if is_url(store) and str(store).startswith("file://"):
        return url2pathname(urlsplit(str(store)).path)
    return store


def is_local(store: Any) -> bool:
    """Return whether a store is named by a path on this machine."""
    return isinstance(store, (str, os.PathLike)) and not is_url(store)


def check_store(store: Any) -> None:
    """Refuse what zarr-python takes for no store."""
    # A mapping is a store in memory, which holds objects and nothing else.
    is_memory = isinstance(store, MutableMapping) and all(
        hasattr(value, "as_numpy_array") for value in store.values()
    )
    if is_url(store) or is_memory or is_zarr(store, *_STORES):
        return
    msg = (
        f"store={reprlib.repr(store)} is no store; give the path of a directory, a URL, a zarr "
        "store, Group or Array, or for several arrays open ones by the same keys"
    )
    raise OptionError(msg)


def store_path(store: Any) -> Path:
    """Return the absolute path of a local store to write, links resolved.

    What a killed run has begun to publish in it is finished first.
    """
    resolved = _resolved(store)
    tidy(resolved)
    return resolved


def link_at(root: Path, name: str) -> Path | None:
    """Return where an array lies that a link in a store leads to, ``None`` for any other."""
    found = os.path.realpath(root / name)
    return None if found == os.path.join(os.path.realpath(root), name).rstrip("/") else Path(found)


def check_zip_place(given: Mapping[str, Input], path: Path, mode: str, *, replace: bool) -> None:
    """Refuse a ``.zip`` file that is there, unless all that it holds may be replaced."""
    check_file(path, mode, is_file=True)
    if path.exists() and mode != "w":
        others = _others_in_zip(path, given)
        if others or not replace:
            held = f", with {listed(others)} in it" if others else ""
            msg = (
                f"{path} already exists{held}, and a .zip file is replaced as a whole; write to "
                "another path, or pass mode='w' if all of it may go"
            )
            raise TargetExistsError(errno.EEXIST, msg)
    for one in given.values():
        refuse_own_source(one, path, None)


def _others_in_zip(path: Path, given: Mapping[str, Input]) -> list[str]:
    """Return the arrays in a ``.zip`` file that are not written anew."""
    import zarr
    from zarr.storage import ZipStore

    from lazyio.sources.zarr import array_paths

    try:
        with ZipStore(path, mode="r") as store:
            item = zarr.open(store, mode="r")
            found = array_paths(item) if isinstance(item, zarr.Group) else [""]
    except Exception:  # noqa: BLE001 - whatever a file that is no such archive comes to
        return ["what cannot be read as Zarr"]
    return [name for name in found if name not in given]


def refuse_zip(path: Path) -> None:
    """Refuse to write a part of what is in a ``.zip`` file."""
    if path.suffix == ".zip":
        msg = (
            f"{path} is a .zip file, in which nothing can be changed; write a new one, or a "
            "directory"
        )
        raise TargetError(errno.EROFS, msg)


def array_path(path: str | None) -> str:
    """Return the path of an array inside its store, empty for the store itself."""
    is_text = path is None or isinstance(path, str)
    name = (path or "").strip("/") if is_text else ""
    parts = name.split("/") if name else []
    if (
        not is_text
        or "\0" in name
        or any(not part or part in _NO_NAMES or part.startswith("__") for part in parts)
        or any(map(is_hidden_name, parts))
        or parts[:1] == [GROUP]
        or not _METADATA_FILES.isdisjoint(parts)
    ):
        msg = (
            f"path={path!r} is not a path inside a Zarr store; give names joined by '/', none of "
            "them '.', '..', that of a metadata file, or one of lazyio's own"
        )
        raise OptionError(msg)
    return name


def check_file(path: Path, mode: str, *, is_file: bool, is_whole: bool = False) -> None:
    """Refuse what the mode does not allow, and a file where a folder is, or the reverse.

    ``is_whole`` says that nothing can be added to what is there.
    """
    if is_whole and path.exists() and mode in ("w-", "x"):
        msg = (
            f"{path} already exists, and mode={mode!r} makes only new ones; give another path, or "
            "mode='w' (on the command line --overwrite) to replace it"
        )
        raise TargetExistsError(errno.EEXIST, msg)
    if path.exists() and mode in ("w-", "x"):
        msg = (
            f"{path} already exists, and mode={mode!r} makes only new ones; pass mode='a' to add "
            "to it, or another path (mode='w' replaces all of it)"
        )
        raise TargetExistsError(errno.EEXIST, msg)
    if path.exists() and not path.is_dir() and not path.is_file():
        msg = f"{path} is neither a file nor a folder, and is not replaced; choose another path"
        raise TargetError(errno.EINVAL, msg)
    if path.exists() and path.is_dir() == is_file:
        kind, wanted = ("directory", "file") if is_file else ("file", "directory")
        msg = f"{path} is a {kind}, and the target is a {wanted}; choose another path"
        raise TargetError(errno.EISDIR if is_file else errno.ENOTDIR, msg)
    if not path.exists() and mode == "r+":
        msg = f"{path} does not exist, and mode='r+' adds to existing ones only; pass mode='a'"
        raise TargetError(errno.ENOENT, msg)
    check_writable(path)


def check_array_writable(root: Path, name: str) -> None:
    """Refuse an array that may not be written, and a store that may not be added to."""
    array = root / name
    check_writable(root, array, *(array / one for one in _OF_ARRAYS))


def check_open_file(item: h5py.Group | h5py.Dataset) -> None:
    """Refuse an open file that is closed by now, or was opened for reading."""
    if not item:
        msg = "the h5py object given to write into has been closed; open its file again"
        raise TargetError(errno.EBADF, msg)
    if item.file.mode == "r":
        msg = f"{item.file.filename} is open for reading only; open it with mode 'r+' or 'a'"
        raise TargetError(errno.EROFS, msg)


@contextlib.contextmanager
def file_to_replace(path: Path) -> Iterator[h5py.File]:
    """Open a file for a look at what it holds; one that is in use is refused."""
    if not _is_hdf5(path):
        msg = f"{path} already exists and is no HDF5 file; pass mode='w' to replace it"
        raise TargetError(errno.EINVAL, msg)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if errno_of(error) == errno.EAGAIN:
            msg = f"{path} is open for writing in another program; close it there: {error}"
            raise TargetLockedError(errno.EAGAIN, msg) from error
        msg = (
            f"{path} cannot be opened as HDF5: {error}; restore it from a copy, or write to "
            "another path"
        )
        raise TargetError(errno_of(error) or errno.EIO, msg) from error
    with file:
        # libhdf5 hands out the file that is open already, whatever the mode asked for.
        if file.mode != "r":
            msg = f"{path} is open for writing in this process; close it, and call again"
            raise TargetError(errno.EBUSY, msg)
        yield file


def _is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5; one that is being changed has no signature for a moment."""
    if h5py.is_hdf5(path):
        return True
    if is_half_applied(path):
        msg = f"{path} is being changed by another process; make the same call again"
        raise TargetLockedError(errno.EAGAIN, msg)
    return bool(h5py.is_hdf5(path))


def check_key_is_free(group: h5py.Group, key: str, *, replace: bool) -> None:
    """Refuse what may not be replaced, before anything is copied or computed."""
    where, kind = group.file.filename, kind_at(group, key)
    if kind == "below a link":
        msg = f"{where} has an external link on the way to {key!r}; write to that file itself"
        raise TargetError(errno.EXDEV, msg)
    if kind == "below a dataset":
        parents = [part for part in key.split("/") if part][:-1]
        msg = (
            f"{where}: {'/'.join(parents)!r}, on the way to {key!r}, is or lies below a dataset, "
            "which holds no other; choose another key"
        )
        raise TargetError(errno.ENOTDIR, msg)
    # What a soft link leads to stays.
    is_soft = replace and isinstance(group.get(key, getlink=True), h5py.SoftLink)
    if kind == "group" and not is_soft:
        msg = f"{where}: {key!r} is a group, which is never replaced; give a key inside it"
        raise TargetExistsError(errno.EEXIST, msg)
    if kind == "dataset" and not replace:
        msg = (
            f"{where} has {key!r} already; pass overwrite=True to replace it, or another key "
            "(mode='w' replaces the whole file)"
        )
        raise TargetExistsError(errno.EEXIST, msg)


def kind_at(group: h5py.Group, key: str) -> str | None:
    """Return what lies at a key: a dataset or link to one, a group, what bars the way, or nothing.

    Keys count from the group, also those that begin with a slash.
    """
    parts = [part for part in key.split("/") if part]
    at = ""
    for depth, part in enumerate(parts, start=1):
        if at and isinstance(group.get(at), h5py.Dataset):
            return "below a dataset"
        at = posixpath.join(at, part)
        link = group.get(at, getlink=True)
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            return "dataset" if depth == len(parts) else "below a link"
    return "group" if isinstance(group.get(at), h5py.Group) else "dataset"


def check_place(root: Path, name: str, zarr_format: int, *, replace: bool) -> None:
    """Refuse a place that holds anything but an array that may be replaced.

    What is replaced is removed, so a folder of other things never is.
    """
    final = root / name if name else root
    if name and link_at(root, name) is not None:
        msg = f"{final} is or lies behind a link; write to what it leads to, by its own path"
        raise TargetError(errno.ELOOP, msg)
    for place in {root, final}:
        _refuse_other_things(place)
    refuse_taken(
        lambda path: zarr_kind(root / path),
        lambda path: str(root / path),
        name,
        zarr_format,
        replace=replace,
    )


def _refuse_other_things(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and zarr_kind(folder) is None:
        msg = f"{folder} is a folder of other things, no Zarr store; choose another path"
        raise TargetError(errno.ENOTEMPTY, msg)


def check_whole_store(root: Path, mode: str) -> None:
    """Refuse a store that may not be written as a whole, in place of the one that is there."""
    check_file(root, mode, is_file=False, is_whole=True)
    _refuse_folder_of_process(root)
    check_array_writable(root, "")
    _refuse_other_things(root)


def refuse_taken(
    kind_of: Callable[[str], tuple[str, int] | None],
    name_of: Callable[[str], str],
    path: str,
    zarr_format: int,
    *,
    replace: bool,
) -> None:
    """Refuse a path in a store at which, or above which, there is what is not replaced."""
    parts = path.split("/") if path else []
    for depth in range(len(parts)):
        above = "/".join(parts[:depth])
        kind, version = kind_of(above) or (None, None)
        name = name_of(above)
        if kind == "array":
            msg = f"{name} is an array, and an array holds no other; choose another path"
            raise TargetError(errno.ENOTDIR, msg)
        if version not in (None, zarr_format):
            msg = (
                f"{name} is a Zarr v{version} {kind}, to which no v{zarr_format} array can be "
                "added; choose another store, or zarr_format"
            )
            raise TargetError(errno.EEXIST, msg)
    kind, _ = kind_of(path) or (None, None)
    name = name_of(path)
    if kind == "group":
        msg = f"{name} is a group of arrays, which is not replaced; give path= for an array in it"
        raise TargetExistsError(errno.EEXIST, msg)
    if kind == "array" and not replace:
        msg = f"{name} already exists; pass overwrite=True to replace it, or another path"
        raise TargetExistsError(errno.EEXIST, msg)


def check_hdf5_place(given: Mapping[str, Input], path: Path, mode: str, *, replace: bool) -> bool:
    """Refuse a file that may not be written, and return whether it is added to."""
    check_file(path, mode, is_file=True)
    is_kept = mode in ("a", "r+") and path.exists()
    refusals = Refusals(len(given))
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(file_to_replace(path)) if is_kept else None
        for key, one in given.items():
            with refusals.of(None):
                refuse_own_source(one, path, None if file is None else key)
                if file is not None:
                    check_key_is_free(file, key, replace=replace)
    refusals.check()
    return is_kept


def check_zarr_place(
    given: Input, root: Path, name: str, mode: str, zarr_format: int, *, replace: bool
) -> bool:
    """Refuse a store that may not be written, and return whether it is added to."""
    check_file(root, mode, is_file=False)
    if not name:
        _refuse_folder_of_process(root)
    check_array_writable(root, name)
    refuse_own_source(given, root, name)
    check_place(root, name, zarr_format, replace=replace)
    return bool(name) and root.exists()


def _refuse_folder_of_process(root: Path) -> None:
    """Refuse to replace the folder that this process works in, or one above it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return
    if root == here or root in here.parents:
        msg = (
            f"{root} is the working directory or a folder above it, and would be replaced; give "
            "path= for an array in it, or another store"
        )
        raise TargetError(errno.EBUSY, msg)


def refuse_own_source(given: Input, target: Path, key: str | None) -> None:
    """Refuse to replace what is being read; another key of the same file is fine.

    Keys are compared as if they went on from the path, as those of Zarr do.
    ``None`` stands for the whole file.
    """
    wanted = os.path.normpath(f"{target}/{key or ''}")
    for location, inside in given.locations:
        # A store may lie in memory, or behind a URL.
        whole = os.path.realpath(location) if os.path.exists(location) else location
        is_same = whole == str(target) if key is None else False
        if is_same or os.path.normpath(f"{whole}/{inside}") == wanted:
            msg = (
                f"{whole} {inside} is the source of this array and cannot be its target; "
                "write to another path, then replace it"
            )
            raise TargetError(errno.EINVAL, msg)
