"""Public: open a writer that is pushed to, as an acquisition loop does it."""

import contextlib
import errno
from typing import Any

from lazyio.appending.backend import DROP, KEEP, AppendBackend
from lazyio.appending.hdf5 import Hdf5AppendBackend
from lazyio.appending.hdf5_commit import FOLLOWED_LIBVER, LoggedFile, SwmrFile, make_file
from lazyio.appending.writer import Writer
from lazyio.atomic.fsync import sync_folder, sync_tree
from lazyio.atomic.workdir import WorkDirectory
from lazyio.errors import OptionError, TargetError
from lazyio.options import check_flags, limit_of
from lazyio.os_errors import system_errors
from lazyio.sources.zarr_metadata import require_zarr, zarr_kind
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.hdf5.file import engine_works
from lazyio.writing.allocate import format_of_target
from lazyio.writing.target_checks import (
    check_file,
    check_mode,
    file_to_replace,
    is_local,
    refuse_zip,
    store_path,
    target_path,
    without_scheme,
)


@system_errors(TargetError)
def writer(
    path: Any,
    *,
    format: str | None = None,
    mode: str = "a",
    swmr: bool = False,
    on_error: str = KEEP,
    memory_limit: int | str | None = None,
) -> Writer:
    """Open a file or store whose arrays grow by what is appended to them.

    What was appended is flushed by :meth:`~lazyio.appending.writer.Writer.flush`, when the writer
    is closed, and every two seconds. The file is visible while it grows: it is at
    any time what it was at the last flush, also after a kill, and writing goes
    on when it is opened again.

    Parameters
    ----------
    path : path-like
        HDF5, unless it is a Zarr store, its suffix is ``.zarr``, or ``format``
        says otherwise.
    format : {"hdf5", "zarr"}, optional
        Where path and suffix should not decide.
    mode : {"a", "w", "w-", "x", "r+"}
        h5py's file mode: add or create, new file, must not exist, must exist.
    swmr : bool
        Whether other processes may follow an HDF5 file while it grows, by
        ``h5py.File(path, libver="latest", swmr=True)``. All arrays are then
        created before the first is appended to.
    on_error : {"keep", "drop"}
        What becomes of what was appended when an exception leaves the ``with``
        block: it is flushed, or all is brought back to what it was before.
    memory_limit : int or str, optional
        Bytes for all that is in flight; 1 GiB by default.

    Returns
    -------
    Writer
        A context manager.

    Raises
    ------
    TargetLockedError
        When another writer is at work on it.
    TargetExistsError, TargetError
        When the mode does not allow what is there, or it cannot be written.
    OptionError
        When an argument is none of these.

    Examples
    --------
    >>> import h5py, lazyio, numpy as np
    >>> with lazyio.writer("session.h5", mode="w") as w:
    ...     voltage = w.create("voltage", dtype="i2", item_shape=(4,), compression="gzip")
    ...     times = w.create("times", dtype="f8", item_shape=())
    ...     for at in range(3):
    ...         voltage.append(np.full((100, 4), at, "i2"))
    ...         times.append(at / 30)
    >>> with h5py.File("session.h5") as file:
    ...     file["voltage"].shape, file["times"].shape
    ((300, 4), (3,))
    """
    if on_error not in (KEEP, DROP):
        msg = f'on_error={on_error!r}; give "keep", or "drop" to undo what was appended'
        raise OptionError(msg)
    limit = limit_of(memory_limit)
    backend = _backend(path, format=format, mode=mode, swmr=swmr, keeps_old=on_error == DROP)
    return Writer(backend, name=str(path), on_error=on_error, memory_limit=limit)


def _backend(
    path: Any, *, format: str | None, mode: str, swmr: bool, keeps_old: bool
) -> AppendBackend:
    """Return the file or store to grow."""
    check_mode(mode)
    check_flags(swmr=swmr)
    path = without_scheme(path)
    if not is_local(path):
        msg = f"path={path!r}: a writer grows files and folders of this machine; give a path"
        raise OptionError(msg)
    is_hdf5 = format_of_target(path, format) == "hdf5"
    if is_hdf5:
        if not swmr and not engine_works():
            msg = "libhdf5 does not do here what a growing file needs (see the log); give swmr=True"
            raise TargetError(errno.ENOSYS, msg)
        path = target_path(path)
    else:
        if swmr:
            msg = "swmr=True is of HDF5; a Zarr store can be followed as it is, leave it out"
            raise OptionError(msg)
        path = store_path(path)
        require_zarr()
        refuse_zip(path)
    check_file(path, mode, is_file=is_hdf5)
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(WorkDirectory(path))
        # Again, now that no other writer can be between.
        check_file(path, mode, is_file=is_hdf5)
        is_new = not path.exists()
        if is_hdf5:
            is_new |= mode not in ("a", "r+")
            return _hdf5(work, stack, swmr=swmr, is_new=is_new, keeps_old=keeps_old)
        # As in to_zarr: the named arrays only are replaced, and nothing else of the store.
        return _zarr(work, stack, is_new=is_new, replaces=mode == "w", keeps_old=keeps_old)


def _hdf5(
    work: WorkDirectory, stack: contextlib.ExitStack, *, swmr: bool, is_new: bool, keeps_old: bool
) -> AppendBackend:
    if is_new:
        make_file(work, FOLLOWED_LIBVER if swmr else None, keeps_old=keeps_old)
    else:
        with file_to_replace(work.target):
            pass  # Looked at only: whether it is HDF5, and nobody's.
    strategy = (SwmrFile if swmr else LoggedFile)(work, stack)
    return Hdf5AppendBackend(strategy, is_new=is_new, keeps_old=keeps_old)


def _zarr(work: WorkDirectory, stack: contextlib.ExitStack, **options: bool) -> AppendBackend:
    import zarr

    from lazyio.appending.zarr import ZarrAppendBackend

    root = work.target
    if options["is_new"]:
        with disk_errors(root.parent):
            zarr.create_group(work.built)
            sync_tree(work.built)
            work.built.rename(root)
            sync_folder(root.parent)
    elif (zarr_kind(root) or ("",))[0] != "group":
        msg = f"{root} is no Zarr group, in which arrays could grow; choose another path"
        raise TargetError(errno.ENOTDIR, msg)
    return ZarrAppendBackend(root, stack.pop_all(), **options)
