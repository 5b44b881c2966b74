"""Bare files: all payloads in one, or a file each."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self


class Sink(Protocol):
    """Takes payloads from several threads."""

    def put(self, number: int, payloads: Sequence[Any]) -> tuple[str, int]:
        """Write a unit's payloads, one after the other; return the file and where they begin."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class SoleFile:
    """One file that payloads are appended to.

    Parameters
    ----------
    path : str
        The file, which is made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._end = 0
        self._lock = threading.Lock()

    def put(self, number: int, payloads: Sequence[Any]) -> tuple[str, int]:  # noqa: ARG002 - appended
        """Append payloads."""
        nbytes = sum(map(len, payloads))
        with self._lock:
            position = self._end
            self._end += nbytes
        _require(os.pwritev(self._file, payloads, position), nbytes)
        return self._path, position

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)


class Folder:
    """One folder with a file per unit.

    Parameters
    ----------
    path : str
        The folder, which is made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        Path(path).mkdir()

    def put(self, number: int, payloads: Sequence[Any]) -> tuple[str, int]:
        """Write payloads to a file of that number."""
        path = f"{self._path}/{number}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _require(os.writev(file, payloads), sum(map(len, payloads)))
        finally:
            os.close(file)
        return path, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def sync(path: str) -> None:
    """Force a file, or all files and folders below a folder, to the disk.

    Parameters
    ----------
    path : str
        The file or folder.
    """
    for one in [Path(path), *Path(path).rglob("*")]:
        file = os.open(one, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _require(written: int, nbytes: int) -> None:
    if written != nbytes:
        msg = f"only {written} of {nbytes} bytes were written; is the disk full?"
        raise OSError(msg)
