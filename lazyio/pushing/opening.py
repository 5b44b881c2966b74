"""From the arguments of a writer to the file or store that it grows, locked."""

import errno
from pathlib import Path
from typing import Any

from lazyio.errors import OptionError, TargetError
from lazyio.options import check_flags
from lazyio.pushing.hdf5 import Hdf5Place
from lazyio.pushing.hdf5_ways import FOLLOWED_LIBVER, Followed, Logged, Way, make_file
from lazyio.pushing.place import Place
from lazyio.safety.workdir import WorkDirectory
from lazyio.targets.building import engine_works
from lazyio.writing.allocation import format_of_target
from lazyio.writing.places import (
    check_file,
    check_mode,
    file_to_replace,
    is_local,
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
    raise NotImplementedError


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
