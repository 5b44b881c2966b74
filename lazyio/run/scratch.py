"""A file for parts of chunks that do not fit in memory; appended to, read back."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lazyio.errors import TruncatedSourceError
from lazyio.spill import PlacedFile
from lazyio.targets.disk import disk_errors

Bytes = npt.NDArray[np.uint8]


class Scratch:
    """A file that any thread may add to; made at the first piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None
        self._placed: Any = None
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
                    self._placed = PlacedFile(self._file)
                begin = self._end
                self._end += data.size
            self._placed.write(memoryview(data), begin)
        return begin

    def replace(self, begin: int, data: Bytes) -> None:
        """Write bytes in place of as many that begin there."""
        with disk_errors(self._path.parent.parent):
            self._placed.write(memoryview(data), begin)

    def read(self, begin: int, out: Bytes) -> None:
        """Fill ``out`` with the bytes that begin there."""
        view = memoryview(out)
        if len(view) and self._placed.read(view, begin) < len(view):
            msg = f"{self._path} ends before byte {begin + len(view)}; it was cut while in use"
            raise TruncatedSourceError(msg)

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
