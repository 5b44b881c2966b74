"""A full or failing disk, as one error that says what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazyio.errors import LazyioError, TargetError
from lazyio.grid import Region, format_region

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the file system, or libhdf5's word for it, into a TargetError.

    Raises
    ------
    TargetError
        With the ``errno`` where there is one.
    """
    try:
        yield
    except LazyioError:
        raise
    except (OSError, RuntimeError) as error:
        raise target_error(error, folder) from error


@contextmanager
def store_errors(name: str, region: Region | None = None) -> Iterator[None]:
    """Turn an error of a store behind a URL, of whatever library, into a TargetError.

    Parameters
    ----------
    name : str
        What the store is called.
    region : tuple of slice, optional
        The part of an array that was being written.

    Raises
    ------
    TargetError
        With the ``errno`` where there is one.
    """
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


def target_error(error: Exception, folder: Path) -> TargetError:
    """Return the TargetError for an error of the file system or of libhdf5.

    For the one call that is made for every chunk, where a context manager
    would take as long as the call.
    """
    number = getattr(error, "errno", None) or _errno_in(str(error))
    reason = os.strerror(number) if number else str(error)
    remedy = "free space or choose another disk" if number in _FULL else "choose another disk"
    msg = f"writing under {folder} failed: {reason}; {remedy}"
    return TargetError(number, msg)


def _errno_in(text: str) -> int | None:
    """Return the errno that libhdf5 puts in the words of an error."""
    _, found, rest = text.partition("errno = ")
    digits = rest.split(",")[0].strip()
    return int(digits) if found and digits.isdigit() else None
