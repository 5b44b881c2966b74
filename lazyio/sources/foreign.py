"""Errors that libraries raise of damaged files, made ours in one place.

h5py, zarr, zipfile, json, zlib and struct raise whatever went wrong inside
them: ``RuntimeError`` of a B-tree, ``KeyError`` of metadata, ``MemoryError``
of an extent. A caller is told the file and the reason, as ``SourceError``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lazyio.errors import LazyioError, SourceError
from lazyio.os_errors import errno_of

NO_MEMORY = (
    "there is not enough memory; use a smaller memory_limit or fewer workers. If that does not "
    "help, the file may be damaged"
)


@contextmanager
def foreign_errors(name: str, kind: type[OSError] = SourceError) -> Iterator[None]:
    """Raise what a library raises of a file as an error of lazyio, with the cause chained.

    Examples
    --------
    >>> with foreign_errors("scan.h5"):
    ...     raise KeyError("B-tree")
    Traceback (most recent call last):
    lazyio.errors.SourceError: scan.h5 is damaged: KeyError: 'B-tree'; restore it from a copy
    """
    try:
        yield
    except LazyioError:
        raise
    except Exception as error:
        number = errno_of(error)
        if number:
            raise kind(number, f"{name} cannot be read: {os.strerror(number)}") from error
        if isinstance(error, MemoryError):
            msg = f"{name} cannot be read: {NO_MEMORY}"
            raise kind(msg) from error
        msg = f"{name} is damaged: {described(error)}; restore it from a copy"
        raise kind(msg) from error


def described(error: BaseException) -> str:
    """Return an error of a library in one line: what a damaged file says may be of any length.

    Examples
    --------
    >>> described(KeyError("x")), described(MemoryError())
    ("KeyError: 'x'", 'MemoryError')
    """
    text = " ".join(str(error).split())
    short = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


_MOST_TEXT = 300
