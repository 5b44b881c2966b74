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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
    is_many = len(list(itertools.islice(_files_below(root), _MANY + 1))) > _MANY
    if is_many and _sync_file_system(root):
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # A few at a time: there may be millions of names.
        for some in _batches(_files_below(root)):
            _drain(pool.map(sync_file, some))
        for some in _batches(_folders_below(root)):
            _drain(pool.map(sync_folder, some))


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
        _drain(pool.map(_sync_if_there, files))
        _drain(pool.map(sync_folder, folders))


def sync_above(root: Path, path: Path) -> None:
    """Have the name of something on the disk, and those of the folders from there up to a root."""
    for folder in _between(root, path):
        sync_folder(folder)


def _between(root: Path, path: Path) -> list[Path]:
    """Return the folders above a path, up to a root and with it."""
    above = path.parents
    return [folder for folder in above if folder == root or root in folder.parents]


def _sync_if_there(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        sync_file(path)


def _files_below(root: Path) -> Iterator[Path]:
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(Path(entry))
            else:
                yield Path(entry)


def _folders_below(root: Path) -> Iterator[Path]:
    yield root
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _folders_below(Path(entry))


def _batches(paths: Iterator[Path]) -> Iterator[list[Path]]:
    while some := list(itertools.islice(paths, _BATCH)):
        yield some


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(root: Path) -> bool:
    """Have a whole file system on the disk, and return whether there is such a call."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    syncfs = getattr(libc, "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(root, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
    return True


def _drain(results: Iterable[object]) -> None:
    for _ in results:
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
