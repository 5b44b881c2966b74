"""Onto the disk, so that a power cut takes nothing back; and whether there is room.

A failed fsync is never tried again: the kernel may have dropped the pages, and
would then say of a second one that all is well.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lazyio.atomic.descriptors import opened
from lazyio.errors import TargetError
from lazyio.units import format_size

_AT_ONCE = 8
_BATCH = 1024
_MANY = 2000
"""Files beyond which one call for the whole file system is quicker."""


def sync_file(path: Path) -> None:
    """Have a file's content on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    if sys.platform != "win32":
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file, whole or not at all, and have its content on the disk.

    Which content it has is sure once its folder is there, too; see :func:`sync_folder`.
    """
    built = path.with_name(f"{path.name}.partial")
    try:
        with built.open("wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        built.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            built.unlink()
        raise


def sync_tree(root: Path) -> None:
    """Have all below a folder on the disk."""
    is_many = len(list(itertools.islice(_below(root, folders=False), _MANY + 1))) > _MANY
    if is_many and _sync_file_system(root):
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        _each(pool, sync_file, _below(root, folders=False))
        _each(pool, sync_folder, _below(root, folders=True))


def sync_names(root: Path, names: Iterable[str]) -> None:
    """Have some files below a folder on the disk, and every folder on the way to them.

    A file that is no longer there has no name to be lost.
    """
    files = {Path(name) for name in names}
    if len(files) > _MANY and _sync_file_system(root):
        return
    folders = {root}
    for parent in {path.parent for path in files}:
        folders |= {parent, *_between(root, parent)}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        _each(pool, _sync_if_there, files)
        _each(pool, sync_folder, folders)


def sync_above(root: Path, path: Path) -> None:
    """Have the name of something on the disk, and those of the folders from there up to a root."""
    for folder in _between(root, path):
        sync_folder(folder)


def _between(root: Path, path: Path) -> list[Path]:
    """Return the folders above a path, up to a root and with it."""
    return [folder for folder in path.parents if folder.is_relative_to(root)]


def _sync_if_there(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        sync_file(path)


def _below(root: Path, *, folders: bool) -> Iterator[Path]:
    """Yield the files below a folder, or that and all folders."""
    if folders:
        yield root
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry), folders=folders)
            elif not folders:
                yield Path(entry)


def _sync(path: Path, flags: int) -> None:
    with opened(path, flags) as descriptor:
        os.fsync(descriptor)


def _sync_file_system(root: Path) -> bool:
    """Have a whole file system on the disk, and return whether there is such a call."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    syncfs = getattr(libc, "syncfs", None)
    if syncfs is None:
        return False
    with opened(root) as descriptor:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return True


def _each(pool: ThreadPoolExecutor, sync: Callable[[Path], object], paths: Iterable[Path]) -> None:
    """Sync each of some paths, a few at a time: there may be millions of names."""
    left = iter(paths)
    while some := list(itertools.islice(left, _BATCH)):
        for _ in pool.map(sync, some):
            pass


def require_space(folder: Path, nbytes: int, target: Path) -> None:
    """Refuse to begin what cannot end."""
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        msg = (
            f"{target} needs {format_size(nbytes)}, and {format_size(free)} are free at {folder}; "
            "free space, choose another disk, or compress"
        )
        raise TargetError(errno.ENOSPC, msg)
