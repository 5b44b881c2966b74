"""A change of an HDF5 file, all of it or nothing: in a copy, or in place through a log."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py

from lazyio.atomic.fsync import require_space
from lazyio.atomic.workdir import WorkDirectory
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.hdf5.file import OpenMode, building, in_place, is_added_in_place, resumable
from lazyio.storage.hdf5.file_form import FileForm

Result = TypeVar("Result")

Advice = tuple[tuple[str, str], ...]


def open_for_change(
    work: WorkDirectory,
    old: Path | None,
    libver: Any,
    *,
    nbytes: int = 0,
    resume: bool = False,
    is_read: bool = False,
    form: FileForm | None = None,
) -> contextlib.AbstractContextManager[OpenMode]:
    """Return the file that is built: a new one, a copy of the old one, or that itself.

    ``is_read`` says that what is written is made of other datasets of the file;
    ``form`` how a new one is made.
    """
    is_in_place = work.is_in_place
    if not work.is_resumed:
        copied = old.stat().st_size if old is not None and is_read else 0
        require_space(work.path.parent, nbytes + copied, work.target)
        is_in_place = old is not None and is_added_in_place(old, work.built, is_read=is_read)
    n_good_bytes = work.n_good_bytes
    if is_in_place and not work.is_in_place:
        with disk_errors(work.target.parent):
            work.begin_in_place()
    work.save_job()
    if is_in_place:
        return in_place(work)
    if resume:
        return resumable(work.built, libver, old=old, form=form)
    nbytes = 0 if old is None else n_good_bytes
    return building(work.built, libver, nbytes=nbytes, form=form)


def publish_change(work: WorkDirectory) -> Advice:
    """Publish what was built, once it is closed, and return what is to be said of it."""
    if work.is_in_place:
        # It was changed when it was closed.
        work.has_name()
        what = "a large file was changed in place through a write-ahead log"
        return (("changed-in-place", what),)
    work.publish()
    return ()


def change_file(
    work: WorkDirectory, old: Path | None, change: Callable[[h5py.File], Result]
) -> Result:
    """Have a function change a file, or make a new one, and publish that; return its result."""
    with open_for_change(work, old, None) as built:
        result = built.call(lambda: change(built.file))
    publish_change(work)
    return result
