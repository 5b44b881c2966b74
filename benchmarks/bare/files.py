"""Bare files: all payloads in one, or a file each."""

import os
import threading
from pathlib import Path
from typing import Any, Protocol, Self


class Sink(Protocol):
    """Takes payloads from several threads."""

    def put(self, number: int, payload: Any) -> int:
        """Write a chunk's payload; return its position."""
        ...

    def get(self, position: int, nbytes: int) -> bytes:
        """Return a payload."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class SoleFile:
    """One file that payloads are appended to.

    Parameters
    ----------
    path : str
        The file.
    mode : {"w", "r"}
        Whether to make it.
    """

    def __init__(self, path: str, mode: str) -> None:
        self._file = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if mode == "w" else 0))
        self._end = 0
        self._lock = threading.Lock()

    def put(self, number: int, payload: Any) -> int:  # noqa: ARG002 - the order is the position
        """Append a payload; return where it begins."""
        with self._lock:
            position = self._end
            self._end += len(payload)
        _write_all(os.pwrite(self._file, payload, position), payload)
        return position

    def get(self, position: int, nbytes: int) -> bytes:
        """Return the payload that begins at a position."""
        return os.pread(self._file, nbytes, position)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)


class Folder:
    """One folder with a file per payload.

    Parameters
    ----------
    path : str
        The folder.
    mode : {"w", "r"}
        Whether to make it.
    """

    def __init__(self, path: str, mode: str) -> None:
        self._path = path
        if mode == "w":
            Path(path).mkdir()

    def put(self, number: int, payload: Any) -> int:
        """Write a payload to a file of that number."""
        file = os.open(f"{self._path}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _write_all(os.write(file, payload), payload)
        finally:
            os.close(file)
        return number

    def get(self, position: int, nbytes: int) -> bytes:  # noqa: ARG002 - it is the whole file
        """Return the payload of a number."""
        return Path(self._path, str(position)).read_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _write_all(written: int, payload: Any) -> None:
    if written != len(payload):
        msg = f"only {written} of {len(payload)} bytes were written; is the disk full?"
        raise OSError(msg)
