"""A full or failing disk, as one error that says what to do."""

import errno
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from lazyio.errors import LazyioError, SourceError, TargetError
from lazyio.grid import Region, format_region
from lazyio.sizes import format_size

P = ParamSpec("P")
Result = TypeVar("Result")

_IN_WORDS = re.compile(r"(?:errno = |\[Errno )(\d+)")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_THREAD = "can't start new thread"
"""All that Python says of it."""
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


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


def system_errors(
    kind: type[TargetError] | type[SourceError],
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Return a decorator of public functions: what the system refuses is an error of that kind.

    Whatever call it was: of the file system, or for want of descriptors,
    memory or threads. What a user's own code raises is a BlockError by then.

    Raises
    ------
    TargetError, SourceError
        With the ``errno``.
    """
    doing = "writing" if kind is TargetError else "reading"

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(function)
        def told(*args: P.args, **kwargs: P.kwargs) -> Result:
            try:
                return function(*args, **kwargs)
            except LazyioError:
                raise
            except (OSError, RuntimeError) as error:
                number = errno_of(error)
                if number is None:
                    raise
                where = getattr(error, "filename", None)
                what = doing if where is None else f"{doing} {os.fsdecode(where)}"
                msg = f"{what} failed: {os.strerror(number)}; {_remedy(number)}"
                raise kind(number, msg) from error

        return told

    return decorate


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
    number = errno_of(error)
    reason = os.strerror(number) if number else str(error)
    msg = f"writing under {folder} failed: {reason}{_room(folder, number)}; {_remedy(number)}"
    return TargetError(number or errno.EIO, msg)


def errno_of(error: BaseException) -> int | None:
    """Return the number of an error of the system, also where libhdf5 put it into words."""
    number: int | None = getattr(error, "errno", None)
    if number is None and isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return errno.EAGAIN
    return number or _errno_in(str(error))


def _room(folder: Path, number: int | None) -> str:
    """Say how much is free on a disk that is full."""
    if number not in _FULL:
        return ""
    try:
        return f", with {format_size(shutil.disk_usage(folder).free)} free"
    except OSError:
        return ""


def _remedy(number: int | None) -> str:
    if number in _FULL:
        return "free space, raise the limit, or choose another disk"
    if number in _SHORT:
        return "raise the limit of this process, or use fewer workers"
    return "choose another disk"


def _errno_in(text: str) -> int | None:
    """Return the errno that libhdf5 and shutil put in the words of an error."""
    found = _IN_WORDS.search(text)
    return int(found[1]) if found else None
