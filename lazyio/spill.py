"""A file without a name, for bookkeeping that would not stay within a memory limit."""

import os
import tempfile
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt


class PlacedFile:
    """A file that any thread writes to and reads from at any place."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, view: memoryview, at: int) -> None:
        """Write all bytes to a place."""
        done = 0
        while done < len(view):
            if hasattr(os, "pwrite"):
                done += os.pwrite(self._file.fileno(), view[done:], at + done)
            else:  # Windows: one file position, so one thread at a time.
                with self._lock:
                    self._file.seek(at + done)
                    done += self._file.write(view[done:])

    def read(self, view: memoryview, at: int) -> int:
        """Fill bytes from a place, and return how many there were before the file ended."""
        done = 0
        while done < len(view):
            count = self._read_once(view[done:], at + done)
            if not count:
                break
            done += count
        return done

    def _read_once(self, view: memoryview, at: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], at)
        with self._lock:
            self._file.seek(at)
            return int(self._file.readinto(view))


class Spill:
    """Rows of one type that are added at the end, and read back from anywhere by any thread.

    Examples
    --------
    >>> spill = Spill(np.dtype("i8"))
    >>> spill.append(np.arange(5))
    >>> len(spill), spill.read(1, 3).tolist()
    (5, [1, 2])
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        # Without a name: it is gone when nobody has it open any more.
        self._file = tempfile.TemporaryFile(prefix="lazyio-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._placed = PlacedFile(self._file)
        self._lock = threading.Lock()
        self._n_rows = 0
        self.dtype = dtype

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows; none of them is there where that fails."""
        view = memoryview(np.ascontiguousarray(rows, self.dtype.base).reshape(-1).view(np.uint8))
        with self._lock:
            self._placed.write(view, self._n_rows * self.dtype.itemsize)
            self._n_rows += len(rows)

    def read(self, begin: int, end: int) -> npt.NDArray[Any]:
        """Return the rows from one to before another, or to the last that there is."""
        out = np.empty(max(0, min(end, self._n_rows) - begin), self.dtype)
        view = memoryview(out.reshape(-1).view(np.uint8))
        if self._placed.read(view, begin * self.dtype.itemsize) < len(view):
            msg = "a temporary file ends before what was written to it"
            raise OSError(msg)
        return out

    def mapped(self) -> npt.NDArray[Any]:
        """Return all rows as an array that is read from the file where it is looked at."""
        if not self._n_rows:
            return np.empty(0, self.dtype)
        return np.memmap(self._file, self.dtype, "r", shape=(self._n_rows,))
