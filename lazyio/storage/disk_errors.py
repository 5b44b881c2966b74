"""A full or failing disk, as one error that says what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazyio.errors import LazyioError, TargetError
from lazyio.os_errors import errno_of, remedy_for
from lazyio.regions import Region, format_region
from lazyio.units import format_size

_IS_EFFECTIVE = os.access in os.supports_effective_ids


def check_writable(*paths: Path) -> None:
    """Refuse what is there and may not be written, though its folder would let it be replaced."""
    for path in paths:
        if path.exists() and not os.access(path, os.W_OK, effective_ids=_IS_EFFECTIVE):
            msg = f"{path} cannot be written: its permissions forbid it; choose another path"
            raise TargetError(errno.EACCES, msg)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the file system, or libhdf5's word for it, into a TargetError."""
    try:
        yield
    except LazyioError:
        raise
    except (OSError, RuntimeError) as error:
        raise target_error(error, folder) from error


@contextmanager
def store_errors(name: str, region: Region | None = None) -> Iterator[None]:
    """Turn an error of a store behind a URL, of whatever library, into a TargetError."""
    try:
        yield
    except LazyioError:
        raise
    except Exception as error:
        what = "" if region is None else f"chunk {format_region(region)} of "
        msg = (
            f"writing {what}{name} failed: {type(error).__name__}: {error}; make the call again "
            "when the store answers"
        )
        raise TargetError(getattr(error, "errno", None) or errno.EIO, msg) from error


_OF_LIBHDF5 = "ynchronously "
"""In every error of libhdf5's own that h5py passes on: "Can't synchronously write data"."""


def target_error(error: Exception, folder: Path) -> TargetError:
    """Return the TargetError for an error of the file system or of libhdf5.

    For the one call that is made for every chunk, where a context manager
    would take as long as the call. One of ours says more than we know here.
    """
    if isinstance(error, TargetError):
        return error
    number = errno_of(error)
    reason = os.strerror(number) if number else str(error)
    remedy = remedy_for(number)
    if number is None and _OF_LIBHDF5 in reason:
        remedy = "libhdf5 does not do this: write a new dataset of another type or compression"
    msg = f"writing under {folder} failed: {reason}{_room(folder, number)}; {remedy}"
    return TargetError(number or errno.EIO, msg)


def _room(folder: Path, number: int | None) -> str:
    """Say how much is free on a disk that is full."""
    if number != errno.ENOSPC:
        return ""
    try:
        return f", with {format_size(shutil.disk_usage(folder).free)} free"
    except OSError:
        return ""
