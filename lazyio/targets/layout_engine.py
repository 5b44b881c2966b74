"""HDF5 decides where each payload lies, and others write it there.

h5py works on a file object of ours. To reserve a place, a chunk is "written"
from a region of memory that nothing else uses: what HDF5 hands to the file
object at an address in that region is no metadata, and where it hands it to is
where the payload belongs. Metadata stay in memory until all payloads have
landed. The same calls in the same order give the same places, so that a
killed job is gone on with by making them again.
"""

import atexit
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import h5py

from lazyio.errors import LazyioError
from lazyio.safety.redo import RedoLog, write_at
from lazyio.targets.held_file import HeldFile, bound_metadata

Result = TypeVar("Result")

_CACHE_NBYTES = 1 << 20
"""Of chunks that libhdf5 encodes itself, for each dataset: it would take eight times that."""


_SMALL_NBYTES = 1 << 15
"""Payloads below it are written while libhdf5 waits, which takes less than a call of its own."""


class EngineError(LazyioError, RuntimeError):
    """libhdf5 did not do what the engine relies on."""


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
    on_overwrite : callable, optional
        Told which ranges of those bytes, by place and number, are about to be
        written over when the file is closed, where there is no log.
    """

    def __init__(
        self,
        path: Path,
        libver: Any,
        *,
        nbytes: int = 0,
        log: RedoLog | None = None,
        on_overwrite: Callable[[list[tuple[int, int]]], object] | None = None,
    ) -> None:
        self.path = path
        self._base = nbytes
        self._log = log
        self._on_overwrite = on_overwrite
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._lock = threading.Lock()
        # libhdf5 is called on a thread of its own, which no signal interrupts.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lazyio-layout")
        keeps_old = log is not None or on_overwrite is not None
        self._object = HeldFile(self._descriptor, nbytes, str(path), keeps_old=keeps_old)
        mode = "r+" if nbytes else "w"
        try:
            self.file: h5py.File = self.call(
                lambda: bound_metadata(
                    h5py.File(
                        self._object,
                        mode,
                        libver=libver,
                        locking=False,
                        rdcc_nbytes=_CACHE_NBYTES,
                    )
                )
            )
        except BaseException:
            self._thread.shutdown()
            os.close(self._descriptor)
            raise
        _LIVE.add(self)
        _watch_the_end()

    def call(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, on the thread that may."""
        if threading.current_thread().name.startswith("lazyio-layout"):
            return function()
        try:
            found = self._thread.submit(function).result()
        except Exception:
            # What went wrong below libhdf5 says more than what that made of it.
            self.check()
            raise
        self.check()
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
            self.check()
            try:
                return self._reserve_next(dataset, tuple(corner), nbytes, mask, on_reserved)
            except BaseException as error:  # noqa: BLE001 - kept, and raised
                # A place that was given and not taken note of would not be given again: the
                # places of all that follow would come out otherwise when the job is resumed.
                self._object.failed = self._object.failed or error
                raise self._object.failed from None

    def _reserve_next(
        self,
        dataset: h5py.Dataset,
        corner: tuple[int, ...],
        nbytes: int,
        mask: int,
        on_reserved: Callable[[int], object],
    ) -> int:
        if mask and self._base:
            # Over an old chunk of as many bytes libhdf5 would keep that one's mask.
            longer = self._object.catch(nbytes + 1)
            dataset.id.write_direct_chunk(corner, longer, mask)
        dataset.id.write_direct_chunk(corner, self._object.catch(nbytes), mask)
        self.check()
        caught = self._object.caught()
        if caught is None or caught[1:] != (nbytes, 0):
            msg = f"libhdf5 did not write a chunk of {nbytes} bytes in one piece, but {caught}"
            raise EngineError(msg)
        on_reserved(caught[0])
        return caught[0]

    def putter(self, dataset: h5py.Dataset) -> Callable[[Sequence[int], Any, int], None]:
        """Return what writes a chunk's payload to its place, from any thread.

        It takes the chunk's corner, the payload and its filter mask; nobody
        takes note of the place.
        """

        def put(corner: Sequence[int], payload: Any, mask: int) -> None:
            if len(payload) < _SMALL_NBYTES:
                self._pass(dataset, corner, payload, mask)
                return
            address = self.reserve(dataset, corner, len(payload), mask, _ignore)
            self.write(payload, address)

        return put

    def _pass(self, dataset: h5py.Dataset, corner: Sequence[int], payload: Any, mask: int) -> None:
        """Have libhdf5 hand a payload to the file object, which writes it."""
        if threading.current_thread() is threading.main_thread():
            self.call(lambda: dataset.id.write_direct_chunk(tuple(corner), payload, mask))
            return
        dataset.id.write_direct_chunk(corner, payload, mask)
        if self._object.failed is not None:
            raise self._object.failed

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

    def commit(self) -> None:
        """Bring the file to where its metadata stand now, and go on.

        All payloads whose places were given have been written, and no other
        thread writes meanwhile. The log of the change is complete on the disk
        before the file changes.

        Raises
        ------
        OSError, EngineError
            When that fails; nothing more is written then.
        """
        # On the engine's thread to the end, whatever interrupts the one that waits for it.
        self.call(self._commit)

    def _commit(self) -> None:
        if self._log is None:
            msg = "a file without a log has no state to be brought to before its end"
            raise EngineError(msg)
        try:
            self.file.flush()
            self.check()
            self._hand_over()
            os.fsync(self._descriptor)
            self._log.commit(self._object.end)
            self._log.make(self.path)
        except BaseException as error:
            self._object.failed = self._object.failed or error
            raise
        self._object.begin_anew()
        self._base = self._object.end

    def close(self) -> None:
        """Close the file and write its metadata."""
        self.call(self.file.close)
        self._thread.shutdown()
        _LIVE.discard(self)
        try:
            if self._on_overwrite is not None:
                held = self._object.held.ranges()
                self._on_overwrite([(at, len(data)) for at, data in held if at < self._base])
            self._hand_over()
            if self._log is None:
                os.ftruncate(self._descriptor, self._object.end)
            else:
                os.fsync(self._descriptor)
                self._log.commit(self._object.end)
        finally:
            os.close(self._descriptor)
            if self._log is not None:
                self._log.close()

    def _hand_over(self) -> None:
        """Write what is held: behind the good bytes to its place, over them into the log."""
        for at, data in self._object.held.ranges():
            # What begins in the old bytes and ends behind them goes to both.
            old = max(0, self._base - at) if self._log is not None else 0
            if old and self._log is not None:
                self._log.add(at, memoryview(data)[:old], is_payload=False)
            if data[old:]:
                write_at(self._descriptor, memoryview(data)[old:], at + old)

    def abandon(self) -> None:
        """Close the file and write nothing more; payloads that are there stay."""
        if self not in _LIVE:
            return
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

    def check(self) -> None:
        """Raise what has gone wrong below libhdf5, if anything has."""
        if self._object.failed is not None:
            raise self._object.failed


def _ignore(_: int) -> None:
    """Take no note of a place: nobody makes the same calls again."""


@functools.cache
def _watch_the_end() -> None:
    """See to it, once there is an engine, that none is left open at the end of the process."""
    atexit.register(_abandon_all)


def _abandon_all() -> None:
    """Close what is still open: libhdf5 may crash when it is left to the end of the process."""
    for engine in list(_LIVE):
        engine.close_at_exit()
