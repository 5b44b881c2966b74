"""From the arguments of a writer to the file or store that it grows, locked."""

import contextlib
import errno
from pathlib import Path
from typing import Any

import zarr

from lazyio.errors import OptionError, TargetError
from lazyio.options import check_flags
from lazyio.pushing.hdf5 import Hdf5Place
from lazyio.pushing.hdf5_ways import FOLLOWED_LIBVER, Followed, Logged, Way, make_file
from lazyio.pushing.place import Place
from lazyio.pushing.zarr import ZarrPlace
from lazyio.safety.workdir import WorkDirectory
from lazyio.sources.zarr import zarr_kind
from lazyio.targets.building import engine_works
from lazyio.writing.allocation import format_of_target
from lazyio.writing.places import (
    check_file,
    check_mode,
    file_to_replace,
    is_local,
    refuse_zip,
    store_path,
    target_path,
    without_scheme,
)


def open_place(path: Any, *, format: str | None, mode: str, swmr: bool, keeps_old: bool) -> Place:
    """Return the file or store to grow.

    Parameters
    ----------
    path, format, mode, swmr
        As :func:`lazyio.writer` takes them.
    keeps_old : bool
        Whether everything may have to be brought back to what it was.

    Raises
    ------
    OptionError, TargetError, TargetExistsError, TargetLockedError
        When it cannot be written.
    """
    check_mode(mode)
    check_flags(swmr=swmr)
    path = without_scheme(path)
    if not is_local(path):
        msg = f"path={path!r}: a writer grows files and folders of this machine; give a path"
        raise OptionError(msg)
    if format_of_target(path, format) == "hdf5":
        return _hdf5(target_path(path), mode, swmr=swmr, keeps_old=keeps_old)
    if swmr:
        msg = "swmr=True is of HDF5; a Zarr store can be followed as it is, leave it out"
        raise OptionError(msg)
    return _zarr(store_path(path), mode, keeps_old=keeps_old)


def _hdf5(path: Path, mode: str, *, swmr: bool, keeps_old: bool) -> Place:
    if not swmr and not engine_works():
        msg = "libhdf5 does not do here what a growing file needs (see the log); give swmr=True"
        raise TargetError(errno.ENOSYS, msg)
    check_file(path, mode, is_file=True)
    work = WorkDirectory(path)
    try:
        # Again, now that no other writer can be between.
        check_file(path, mode, is_file=True)
        is_new = mode not in ("a", "r+") or not path.exists()
        if is_new:
            make_file(work, FOLLOWED_LIBVER if swmr else None, keeps_old=keeps_old)
        else:
            with file_to_replace(path):
                pass  # Looked at only: whether it is HDF5, and nobody's.
    except BaseException:
        work.__exit__(None, None, None)
        raise
    way: Way = Followed(work) if swmr else Logged(work)
    return Hdf5Place(path, way, is_new=is_new, keeps_old=keeps_old, is_followed=swmr)


def _zarr(root: Path, mode: str, *, keeps_old: bool) -> Place:
    refuse_zip(root)
    check_file(root, mode, is_file=False)
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(WorkDirectory(root))
        # Again, now that no other writer can be between.
        check_file(root, mode, is_file=False)
        is_new = not root.exists()
        if is_new:
            zarr.create_group(work.built)
            work.built.rename(root)
        elif (zarr_kind(root) or ("",))[0] != "group":
            msg = f"{root} is no Zarr group, in which arrays could grow; choose another path"
            raise TargetError(errno.ENOTDIR, msg)
        return ZarrPlace(
            root,
            stack.pop_all(),
            is_new=is_new,
            # As in to_zarr: the named arrays only, and nothing else of the store.
            replaces=mode == "w",
            keeps_old=keeps_old,
        )
