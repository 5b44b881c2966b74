"""HDF5 decides where each payload lies, and others write it there.

h5py works on a file object of ours. To reserve a place, a chunk is "written"
from a region of memory that nothing else uses: what HDF5 hands to the file
object at an address in that region is no metadata, and where it hands it to is
where the payload belongs. Metadata stay in memory until all payloads have
landed. The same calls in the same order give the same places, so that a
killed job is gone on with by making them again.
"""

import atexit
import bisect
import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from lazyio.errors import LazyioError
from lazyio.safety.redo import RedoLog, write_at

Result = TypeVar("Result")

_LEAST_REGION = 1 << 24
_LARGE_NBYTES = 1 << 16
_ZEROS = bytes(1 << 16)


class EngineError(LazyioError, RuntimeError):
    """libhdf5 did not do what the engine relies on."""


class Held:
    """Ranges of bytes that have not been written yet, and lie over those of a file.

    Examples
    --------
    >>> held = Held()
    >>> held.put(10, b"abcdef")
    >>> held.drop(12, 2)
    >>> held.put(11, b"X")
    >>> sorted(held.ranges())
    [(10, b'a'), (11, b'X'), (14, b'ef')]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: dict[int, bytes] = {}

    def put(self, at: int, data: bytes) -> None:
        """Hold bytes, in place of any that were held there."""
        there = self._parts.get(at)
        if there is None or len(there) != len(data):
            self.drop(at, len(data))
            bisect.insort(self._starts, at)
        self._parts[at] = data

    def drop(self, at: int, nbytes: int) -> None:
        """Hold nothing in a range any more."""
        end = at + nbytes
        first = self._first_touching(at)
        last = bisect.bisect_left(self._starts, end)
        touched = self._starts[first:last]
        if not touched:
            return
        left = []
        for start in touched:
            data = self._parts.pop(start)
            if start < at:
                left.append((start, data[: at - start]))
            if start + len(data) > end:
                left.append((end, data[end - start :]))
        self._starts[first:last] = [start for start, _ in left]
        self._parts.update(left)

    def lay_over(self, at: int, view: memoryview) -> None:
        """Put what is held of a range over what a file has there."""
        end = at + len(view)
        first = self._first_touching(at)
        for start in self._starts[first : bisect.bisect_left(self._starts, end)]:
            data = self._parts[start]
            begin, stop = max(at, start), min(end, start + len(data))
            view[begin - at : stop - at] = data[begin - start : stop - start]

    def ranges(self) -> Iterator[tuple[int, bytes]]:
        """Yield all that is held, in the order of the file."""
        return ((start, self._parts[start]) for start in self._starts)

    def _first_touching(self, at: int) -> int:
        first = bisect.bisect_right(self._starts, at)
        if first and self._starts[first - 1] + len(self._parts[self._starts[first - 1]]) > at:
            first -= 1
        return first


class HeldFile:
    """The file object that h5py is given.

    libhdf5 cannot take an exception from it: the first is kept, and from then
    on everything that is written is swallowed.

    Parameters
    ----------
    descriptor : int
        The file.
    nbytes : int
        Bytes that are there already.
    name : str
        What h5py calls it.
    holds : bool
        Whether what is written is held; else it goes to the file at once.
    """

    def __init__(self, descriptor: int, nbytes: int, name: str, *, holds: bool = True) -> None:
        self.held = Held()
        self.end = nbytes
        self.failed: BaseException | None = None
        self.passes_large = False
        """Whether large writes beyond what was there go to the file at once."""
        self._holds = holds
        self._base = nbytes
        self._descriptor = descriptor
        self._name = name
        self._at = 0
        self._region: Any = None
        self._region_at = 0
        self._region_nbytes = 0
        self._caught: tuple[int, int, int] | None = None

    def catch(self, nbytes: int) -> memoryview:
        """Return memory of that size whose next write is a payload's place."""
        if nbytes > self._region_nbytes:
            self._grow(nbytes)
        self._caught = None
        return memoryview(self._region)[:nbytes]

    def caught(self) -> tuple[int, int, int] | None:
        """Return address, bytes, and offset in the region of what was caught."""
        return self._caught

    def _grow(self, nbytes: int) -> None:
        self._region_nbytes = max(_LEAST_REGION, 1 << (nbytes - 1).bit_length())
        # Never touched, so that it takes no memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._region = mmap.mmap(-1, self._region_nbytes, flags=flags)
        self._region_at = _address_of(self._region)

    # What h5py calls, on whatever thread calls h5py.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset if whence == os.SEEK_SET else self.end + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes; h5py knows file objects by this method, and calls the next."""
        data = bytearray(nbytes)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        """Fill memory from the file and what is held over it."""
        view = memoryview(buffer).cast("B")
        try:
            at, done = self._at, 0
            while done < len(view):
                read = os.preadv(self._descriptor, [view[done:]], at + done)
                if not read:
                    break
                done += read
            for begin in range(done, len(view), len(_ZEROS)):
                part = view[begin : begin + len(_ZEROS)]
                part[:] = _ZEROS[: len(part)]
            self.held.lay_over(at, view)
        except BaseException as error:  # noqa: BLE001 - libhdf5 cannot take it
            self._fail(error)
        return len(view)

    def write(self, buffer: Any) -> int:
        """Catch a payload's place, or hold metadata."""
        view = memoryview(buffer)
        nbytes = view.nbytes
        try:
            if self.failed is None:
                self._write(view, nbytes)
        except BaseException as error:  # noqa: BLE001 - libhdf5 cannot take it
            self._fail(error)
        return nbytes

    def _write(self, view: memoryview, nbytes: int) -> None:
        at = self._at
        self.end = max(self.end, at + nbytes)
        if self._region_nbytes:
            offset = _address_of(view) - self._region_at
            if 0 <= offset < self._region_nbytes:
                self._caught = at, nbytes, offset
                self.held.drop(at, nbytes)
                return
        is_large = self.passes_large and nbytes >= _LARGE_NBYTES and at >= self._base
        if is_large or not self._holds:
            write_at(self._descriptor, view, at)
            self.held.drop(at, nbytes)
            return
        self.held.put(at, bytes(view))

    def truncate(self, size: int | None = None) -> int:
        """Remember where the file is to end."""
        self.end = self._at if size is None else size
        return self.end

    def flush(self) -> None:
        """Do nothing: what is held stays held."""

    def __repr__(self) -> str:
        return self._name

    def _fail(self, error: BaseException) -> None:
        if self.failed is None:
            self.failed = error


_LIVE: set["LayoutEngine"] = set()


class LayoutEngine:
    """A file in which places are reserved; its metadata are written last.

    Parameters
    ----------
    path : Path
        The file; made if it is not there.
    libver : optional
        File format bounds, as in h5py.
    nbytes : int
        Bytes of the file that are good; what lies behind them is an earlier
        run's, and kept until it is written over.
    log : RedoLog, optional
        Takes what belongs over those bytes, where the file is one that others
        read. It is committed when the file is closed.
    holds : bool
        Whether metadata are held until then. Else the engine does no more than
        keep errors of the file system from libhdf5, which may crash on them.
    """

    def __init__(
        self,
        path: Path,
        libver: Any,
        *,
        nbytes: int = 0,
        log: RedoLog | None = None,
        holds: bool = True,
    ) -> None:
        self.path = path
        self._base = nbytes
        self._log = log
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._lock = threading.Lock()
        # libhdf5 is called on a thread of its own, which no signal interrupts.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lazyio-layout")
        self._object = HeldFile(self._descriptor, nbytes, str(path), holds=holds)
        mode = "r+" if nbytes else "w"
        try:
            self.file: h5py.File = self.call(
                lambda: h5py.File(self._object, mode, libver=libver, locking=False)
            )
        except BaseException:
            self._thread.shutdown()
            os.close(self._descriptor)
            raise
        _LIVE.add(self)

    @property
    def descriptor(self) -> int:
        """Of the file, for payloads."""
        return self._descriptor

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        if threading.current_thread().name.startswith("lazyio-layout"):
            return function()
        found = self._thread.submit(function).result()
        self._raise_failure()
        return found

    def settle(self) -> None:
        """Give all metadata that stand their places, once before the first payload."""
        self.call(self.file.flush)

    def reserve(
        self,
        dataset: h5py.Dataset,
        corner: Sequence[int],
        nbytes: int,
        mask: int,
        on_reserved: Callable[[int], object],
    ) -> int:
        """Return where the payload of a chunk belongs.

        ``on_reserved`` is told first, before another place is reserved.

        Raises
        ------
        EngineError
            When libhdf5 did not ask for that many bytes to be written in one piece.
        """
        if threading.current_thread() is threading.main_thread():
            return self.call(lambda: self._reserve(dataset, corner, nbytes, mask, on_reserved))
        return self._reserve(dataset, corner, nbytes, mask, on_reserved)

    def _reserve(
        self,
        dataset: h5py.Dataset,
        corner: Sequence[int],
        nbytes: int,
        mask: int,
        on_reserved: Callable[[int], object],
    ) -> int:
        with self._lock:
            dataset.id.write_direct_chunk(tuple(corner), self._object.catch(nbytes), mask)
            self._raise_failure()
            caught = self._object.caught()
            if caught is None or caught[1:] != (nbytes, 0):
                msg = f"libhdf5 did not write a chunk of {nbytes} bytes in one piece, but {caught}"
                raise EngineError(msg)
            on_reserved(caught[0])
            return caught[0]

    def write(self, payload: Any, address: int) -> None:
        """Write a payload to its place, or into the log where old bytes are there."""
        view = memoryview(payload)
        view = view.cast("B") if view.ndim != 1 or view.format != "B" else view
        if self._log is not None and address < self._base:
            self._log.add(address, view, is_payload=True)
        else:
            write_at(self._descriptor, view, address)

    def read(self, address: int, nbytes: int) -> bytes:
        """Return a payload that an earlier run has written, or what else is there."""
        if self._log is not None and address < self._base:
            return self._log.payload(address, nbytes)
        return os.pread(self._descriptor, nbytes, address)

    def check(self) -> None:
        """Raise what has gone wrong below libhdf5, if anything has."""
        self._raise_failure()

    def finishing(self) -> None:
        """From now on no more places are reserved: large data go to the file at once."""
        self._object.passes_large = True

    def close(self) -> None:
        """Close the file and write its metadata."""
        self.call(self.file.close)
        self._thread.shutdown()
        _LIVE.discard(self)
        try:
            for at, data in self._object.held.ranges():
                # What begins in the old bytes and ends behind them goes to both.
                old = max(0, self._base - at) if self._log is not None else 0
                if old and self._log is not None:
                    self._log.add(at, memoryview(data)[:old], is_payload=False)
                if data[old:]:
                    write_at(self._descriptor, memoryview(data)[old:], at + old)
            if self._log is None:
                os.ftruncate(self._descriptor, self._object.end)
            else:
                os.fsync(self._descriptor)
                self._log.commit(self._object.end)
        finally:
            os.close(self._descriptor)
            if self._log is not None:
                self._log.close()

    def abandon(self) -> None:
        """Close the file and write nothing more; payloads that are there stay."""
        self._thread.submit(self.close_at_exit).result()
        self._thread.shutdown()
        _LIVE.discard(self)
        os.close(self._descriptor)
        if self._log is not None:
            self._log.close()

    def close_at_exit(self) -> None:
        """Close the file for libhdf5, and write nothing."""
        self._object.failed = self._object.failed or EngineError("abandoned")
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self.file.close()

    def _raise_failure(self) -> None:
        if self._object.failed is not None:
            raise self._object.failed


@atexit.register
def _abandon_all() -> None:
    """Close what is still open: libhdf5 may crash when it is left to the end of the process."""
    for engine in list(_LIVE):
        engine.close_at_exit()


def _address_of(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])
