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

from lazyio.direct_chunks import write_direct_chunk
from lazyio.errors import LazyioError, TargetLockedError
from lazyio.safety.in_place import InPlaceFile
from lazyio.safety.redo import write_at
from lazyio.sources.libhdf5 import bound_metadata
from lazyio.targets.held_file import HeldFile

Result = TypeVar("Result")

_CACHE_NBYTES = 1 << 20
"""Of chunks that libhdf5 encodes itself, for each dataset: it would take eight times that."""


_SMALL_NBYTES = 1 << 15
"""Payloads below it are written while libhdf5 waits, which takes less than a call of its own."""


class EngineError(LazyioError, RuntimeError):
    """libhdf5 did not do what the engine relies on."""


_LIVE: set["LayoutEngine"] = set()


class LayoutEngine:
    """A file in which places are reserved; its metadata are written last."""

    def __init__(
        self,
        path: Path,
        libver: Any,
        *,
        nbytes: int = 0,
        in_place: InPlaceFile | None = None,
        on_overwrite: Callable[[list[tuple[int, int]]], object] | None = None,
    ) -> None:
        self.path = path
        self._in_place = in_place
        self._on_overwrite = on_overwrite
        self._is_followed = False
        if in_place is None:
            self._base = nbytes
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        else:
            self._base = nbytes = in_place.base_nbytes
            self._descriptor = in_place.descriptor
        self._lock = threading.Lock()
        # libhdf5 is called on a thread of its own, which no signal interrupts.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lazyio-layout")
        self._object = HeldFile(
            self._descriptor,
            nbytes,
            str(path),
            keeps_old=in_place is not None or on_overwrite is not None,
            write=self._write_behind,
        )
        mode = "r+" if nbytes else "w"
        try:
            self.file: h5py.File = self.call(
                lambda: bound_metadata(
                    h5py.File(
                        self._object,
                        mode,
                        libver=libver,
                        locking=False,
                        # The netCDF library adds to no group whose links are not numbered.
                        track_order=True,
                        rdcc_nbytes=_CACHE_NBYTES,
                    )
                )
            )
        except BaseException:
            self._thread.shutdown()
            self._close_descriptor()
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
            write_direct_chunk(dataset, corner, longer, mask)
        write_direct_chunk(dataset, corner, self._object.catch(nbytes), mask)
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
            # Over old bytes a payload goes into the log, and is not held.
            if len(payload) < _SMALL_NBYTES and self._in_place is None:
                self._pass(dataset, corner, payload, mask)
                return
            address = self.reserve(dataset, corner, len(payload), mask, _ignore)
            self.write(payload, address)

        return put

    def _pass(self, dataset: h5py.Dataset, corner: Sequence[int], payload: Any, mask: int) -> None:
        """Have libhdf5 hand a payload to the file object, which writes it."""
        if threading.current_thread() is threading.main_thread():
            self.call(lambda: write_direct_chunk(dataset, corner, payload, mask))
            return
        try:
            write_direct_chunk(dataset, corner, payload, mask)
        finally:
            # What went wrong below libhdf5 says more than what that made of it.
            self.check()

    def write(self, payload: Any, address: int) -> None:
        """Write a payload to its place, or into the log where old bytes are there."""
        view = memoryview(payload)
        view = view.cast("B") if view.ndim != 1 or view.format != "B" else view
        if self._in_place is not None:
            self._in_place.write(view, address, is_payload=True)
        else:
            write_at(self._descriptor, view, address)

    def _write_behind(self, view: memoryview, address: int) -> None:
        """Write metadata that are not held, behind what was there."""
        if self._in_place is not None:
            self._in_place.write(view, address, is_payload=False)
        else:
            write_at(self._descriptor, view, address)

    def read(self, address: int, nbytes: int) -> bytes:
        """Return a payload that an earlier run has written, or what else is there."""
        if self._in_place is not None:
            return self._in_place.read(address, nbytes)
        return os.pread(self._descriptor, nbytes, address)

    def commit(self, *, patience: float = 0.0, is_followed: bool = False) -> None:
        """Bring the file to where its metadata stand now, and go on.

        All payloads whose places were given have been written, and no other
        thread writes meanwhile. The log of the change is complete on the disk
        before the file changes.
        """
        # On the engine's thread to the end, whatever interrupts the one that waits for it.
        self.call(lambda: self._commit(patience, is_followed))

    def follow(self) -> None:
        """From now on write at once whatever libhdf5 writes, in its order, and without a log.

        All has been committed.
        """
        if self._in_place is None:
            msg = "only a file that others read is followed"
            raise EngineError(msg)
        self._in_place.end_log()
        self._object.follow()
        self._is_followed = True

    def _commit(self, patience: float, is_followed: bool) -> None:
        if self._in_place is None:
            msg = "only a file that is changed in place has a state to be brought to before its end"
            raise EngineError(msg)
        try:
            self.file.flush()
            self.check()
            self._in_place.commit(
                self._object.held.ranges,
                self._object.end,
                patience=patience,
                is_followed=is_followed,
            )
            if self._in_place.stuck is not None:
                raise self._in_place.stuck
        except TargetLockedError:
            raise
        except BaseException as error:
            self._object.failed = self._object.failed or error
            raise
        self._object.begin_anew()
        self._base = self._object.end

    def close(self, *, patience: float = 0.0, may_be_later: bool = False) -> None:
        """Close the file and write its metadata; see :meth:`InPlaceFile.commit`."""
        try:
            self.call(self.file.close)
        except BaseException:
            self.abandon()
            raise
        _LIVE.discard(self)
        try:
            if self._is_followed:
                os.ftruncate(self._descriptor, self._object.end)
            elif self._in_place is not None:
                in_place, held = self._in_place, self._object.held
                # Not on the caller's thread, which may be interrupted.
                self._thread.submit(
                    in_place.commit,
                    held.ranges,
                    self._object.end,
                    patience=patience,
                    may_be_later=may_be_later,
                ).result()
            else:
                self._write_held()
        finally:
            self._thread.shutdown()
            self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._in_place is None:
            os.close(self._descriptor)

    def _write_held(self) -> None:
        """Write what is held to its place, in a file that nobody else knows."""
        held = self._object.held
        if self._on_overwrite is not None:
            self._on_overwrite([(at, len(data)) for at, data in held.ranges() if at < self._base])
        for at, data in held.ranges():
            write_at(self._descriptor, memoryview(data), at)
        os.ftruncate(self._descriptor, self._object.end)

    def abandon(self) -> None:
        """Close the file and write nothing more; payloads that are there stay."""
        if self not in _LIVE:
            return
        self._thread.submit(self.close_at_exit).result()
        self._thread.shutdown()
        _LIVE.discard(self)
        self._close_descriptor()

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
