"""Errors of the system as errors of lazyio: their number, and what to do about them."""

import errno
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from lazyio.errors import LazyioError, SourceError, TargetError

P = ParamSpec("P")
Result = TypeVar("Result")

_IN_WORDS = re.compile(r"(?:errno = |\[Errno )(\d+)")
_FEWER = "raise the limit of this process, or use fewer workers"
_REMEDIES = {
    errno.ENOSPC: "free space or choose another disk",
    errno.EDQUOT: "free space of your quota, or choose another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or choose another disk",
    errno.EACCES: "ask for permission, or choose another folder",
    errno.EPERM: "ask for permission, or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: _FEWER,
    errno.ENFILE: _FEWER,
    errno.ENOMEM: _FEWER,
    errno.EAGAIN: _FEWER,
}
_NO_THREAD = "can't start new thread"
"""All that Python says of it."""


def system_errors(
    kind: type[TargetError] | type[SourceError],
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Return a decorator of public functions: what the system refuses is an error of that kind.

    Whatever call it was: of the file system, or for want of descriptors,
    memory or threads. What a user's own code raises is a BlockError by then.
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
                remedy = remedy_for(number)
                if doing == "reading" and number not in _REMEDIES:
                    remedy = "check the disk, or read a copy"
                msg = f"{what} failed: {os.strerror(number)}; {remedy}"
                raise kind(number, msg) from error

        return told

    return decorate


def walk(
    folder: str | os.PathLike[str], *left_out: int
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what :func:`os.walk` yields, which leaves out what cannot be read."""

    def refuse(error: OSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, *left_out):
            raise error

    return os.walk(os.fspath(folder), onerror=refuse)


def errno_of(error: BaseException) -> int | None:
    """Return the number of an error of the system, also where libhdf5 put it into words."""
    number: int | None = getattr(error, "errno", None)
    if number is None and isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return errno.EAGAIN
    return number or _errno_in(str(error))


def remedy_for(number: int | None) -> str:
    """Return what to do about an error when something could not be written."""
    return _REMEDIES.get(number or 0, "choose another disk")


def _errno_in(text: str) -> int | None:
    """Return the errno that libhdf5 and shutil put in the words of an error."""
    found = _IN_WORDS.search(text)
    return int(found[1]) if found else None
