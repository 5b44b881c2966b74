"""A file for parts of chunks that do not fit in memory; appended to, read back."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lazyio.errors import TruncatedSourceError
from lazyio.targets.disk import disk_errors

Bytes = npt.NDArray[np.uint8]


class Scratch:
    """A file that any thread may add to; made at the first piece.

    Parameters
    ----------
    path : Path
        Where the file goes; who gives it also removes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None
        self._end = 0

    @property
    def nbytes(self) -> int:
        """Bytes written so far."""
        return self._end

    def append(self, data: Bytes) -> int:
        """Write bytes at the end and return where they begin."""
        with disk_errors(self._path.parent.parent):
            with self._lock:
                if self._file is None:
                    self._file = self._path.open("w+b", buffering=0)
                begin = self._end
                self._end += data.size
            self._write(memoryview(data), begin)
        return begin

    def replace(self, begin: int, data: Bytes) -> None:
        """Write bytes in place of as many that begin there."""
        with disk_errors(self._path.parent.parent):
            self._write(memoryview(data), begin)

    def read(self, begin: int, out: Bytes) -> None:
        """Fill ``out`` with the bytes that begin there."""
        view = memoryview(out)
        got = 0
        while got < len(view):
            count = self._read_once(view[got:], begin + got)
            if not count:
                msg = f"{self._path} ends before byte {begin + len(view)}; it was cut while in use"
                raise TruncatedSourceError(msg)
            got += count

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, view: memoryview, begin: int) -> None:
        done = 0
        while done < len(view):
            if hasattr(os, "pwrite"):
                done += os.pwrite(self._file.fileno(), view[done:], begin + done)
            else:  # Windows: one file position, so one thread at a time.
                with self._lock:
                    self._file.seek(begin + done)
                    done += self._file.write(view[done:])

    def _read_once(self, view: memoryview, begin: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], begin)
        with self._lock:
            self._file.seek(begin)
            return int(self._file.readinto(view))
