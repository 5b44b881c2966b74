"""Deferred metadata: HDF5 decides where payloads lie, others write them, metadata come last.

h5py works on a file object of ours. To reserve a place, a chunk is "written"
from a region of memory that nothing else uses: what HDF5 hands to the file
object at an address in that region is no metadata, and where it hands it to is
where the payload belongs. Metadata stay in memory until all payloads have
landed. The same calls in the same order give the same places, so that a
killed job is resumed by making them again.
"""

import atexit
import contextlib
import errno
import functools
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from lazyio.atomic.descriptors import WRITES_AT_ONCE, is_on_nfs, opened, write_at
from lazyio.atomic.hdf5_superblock import marked
from lazyio.atomic.in_place import InPlaceFile
from lazyio.atomic.log import superblock_in
from lazyio.atomic.unwritten_ranges import UnwrittenRanges
from lazyio.errors import LazyioError, TargetLockedError
from lazyio.libhdf5_calls import write_direct_chunk
from lazyio.sources.libhdf5 import bound_metadata
from lazyio.storage.hdf5.file_form import FileForm

_LEAST_REGION = 1 << 24


_ZEROS = bytes(1 << 16)

_MOST_ADDRESS = 2**63 - 1
_LARGE_NBYTES = 1 << 16
"""Of data that are no metadata, and go to the file at once."""

HELD_NBYTES = 1 << 20
"""Of what belongs behind the bytes that stay, which is then written; there it harms nobody."""


class DeferredMetadataFile:
    """The file object that h5py is given.

    libhdf5 cannot take an exception from it: the first is kept, and from then
    on everything that is written is swallowed.
    """

    def __init__(
        self,
        descriptor: int,
        nbytes: int,
        name: str,
        *,
        keeps_old: bool,
        write: Callable[[memoryview, int], object],
    ) -> None:
        self.held = UnwrittenRanges[bytes]()
        self.end = nbytes
        self.failed: BaseException | None = None
        self._keeps_old = keeps_old
        self._base = nbytes if keeps_old else 0
        self._held_below = 0
        self._descriptor = descriptor
        self._write_through = write
        self._name = name
        self._at = 0
        self._region: Any = None
        self._region_at = 0
        self._region_nbytes = 0
        self._is_catching = False
        self._caught: tuple[int, int, int] | None = None
        self._marked_at: int | None = None

    def follow(self) -> None:
        """Write at once from now on; nothing is held."""
        self._marked_at = superblock_in(self._descriptor)

    def catch(self, nbytes: int) -> memoryview:
        """Return memory of that size whose next write is a payload's place."""
        if nbytes > self._region_nbytes:
            self._grow(nbytes)
        self._caught = None
        self._is_catching = True
        return memoryview(self._region)[:nbytes]

    def caught(self) -> tuple[int, int, int] | None:
        """Return address, bytes, and offset in the region of what was caught."""
        self._is_catching = False
        return self._caught

    def _grow(self, nbytes: int) -> None:
        self._region_nbytes = max(_LEAST_REGION, 1 << (nbytes - 1).bit_length())
        # Never touched, so that it takes no memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._region = mmap.mmap(-1, self._region_nbytes, flags=flags)
        self._region_at = _address_of(self._region)

    def begin_anew(self) -> None:
        """Take all that is held for written: from now on it is part of what was there."""
        self.held = UnwrittenRanges()
        self._held_below = 0
        self._base = self.end if self._keeps_old else 0

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
            if at > _MOST_ADDRESS:
                # It goes on after an error with an address that it does not have.
                raise OSError(errno.EIO, "libhdf5 reads where nothing can be")
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
        if self._marked_at is not None:
            write_at(self._descriptor, marked(view, self._marked_at - at), at)
            return
        if self._is_catching:
            offset = _address_of(view) - self._region_at
            if 0 <= offset < self._region_nbytes:
                self._caught = at, nbytes, offset
                self.held.drop(at, nbytes)
                return
        if nbytes >= _LARGE_NBYTES and at >= self._base:
            self._write_through(view, at)
            self.held.drop(at, nbytes)
            return
        self.held.put(at, bytes(view))
        if self.held.nbytes - self._held_below > HELD_NBYTES:
            self._hand_on()

    def _hand_on(self) -> None:
        """Write what is held and lies over nothing that is to stay."""
        for at, data in self.held.take_from(self._base):
            self._write_through(memoryview(data), at)
        self._held_below = self.held.nbytes

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


def _address_of(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])


Result = TypeVar("Result")

CACHE_NBYTES = 1 << 20
"""Of chunks that libhdf5 encodes itself, for each dataset: it would take eight times that."""


_SMALL_NBYTES = 1 << 15
"""Payloads below it are written while libhdf5 waits, which takes less than a call of its own."""


class EngineError(LazyioError, RuntimeError):
    """libhdf5 did not do what the engine relies on."""


_LIVE: set["DeferredMetadata"] = set()


class DeferredMetadata:
    """A file in which places are reserved; its metadata are written last."""

    def __init__(
        self,
        path: Path,
        libver: Any,
        *,
        nbytes: int = 0,
        in_place: InPlaceFile | None = None,
        on_overwrite: Callable[[list[tuple[int, int]]], object] | None = None,
        form: FileForm | None = None,
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
        self._object = DeferredMetadataFile(
            self._descriptor,
            nbytes,
            str(path),
            keeps_old=in_place is not None or on_overwrite is not None,
            write=functools.partial(self.write, is_payload=False),
        )
        mode = "r+" if nbytes else "w"
        try:
            self.file: h5py.File = self.call(
                lambda: bound_metadata(self._opened(mode, libver, form))
            )
        except BaseException:
            self._thread.shutdown()
            self._close_descriptor()
            raise
        _LIVE.add(self)
        _watch_the_end()

    def _opened(self, mode: str, libver: Any, form: FileForm | None) -> h5py.File:
        """Return the file, as it is or made anew."""
        if form is not None:
            driver = h5py.h5fd.fileobj_driver
            return form.create(
                str(self.path),
                cache_nbytes=CACHE_NBYTES,
                set_driver=lambda access: access.set_fileobj_driver(driver, self._object),
            )
        return h5py.File(
            self._object,
            mode,
            libver=libver,
            locking=False,
            # The netCDF library adds to no group whose links are not numbered.
            track_order=True,
            rdcc_nbytes=CACHE_NBYTES,
        )

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

        def take_next() -> int:
            with self._lock:
                self.check()
                try:
                    at = self._caught_at(dataset, tuple(corner), nbytes, mask)
                    on_reserved(at)
                except BaseException as error:  # noqa: BLE001 - kept, and raised
                    # A place that was given and not taken note of would not be given again: the
                    # places of all that follow would come out otherwise when the job is resumed.
                    raise self._fail(error) from None
                return at

        return self._uninterrupted(take_next)

    def _caught_at(
        self, dataset: h5py.Dataset, corner: tuple[int, ...], nbytes: int, mask: int
    ) -> int:
        """Have libhdf5 give a payload its place, and return that."""
        if mask and self._base:
            # Over an old chunk of as many bytes libhdf5 would keep that one's mask.
            write_direct_chunk(dataset, corner, self._object.catch(nbytes + 1), mask)
        write_direct_chunk(dataset, corner, self._object.catch(nbytes), mask)
        self.check()
        caught = self._object.caught()
        if caught is None or caught[1:] != (nbytes, 0):
            msg = f"libhdf5 did not write a chunk of {nbytes} bytes in one piece, but {caught}"
            raise EngineError(msg)
        return caught[0]

    def _uninterrupted(self, function: Callable[[], Result]) -> Result:
        """Call something that uses the file, where no signal interrupts it."""
        if threading.current_thread() is threading.main_thread():
            return self.call(function)
        return function()

    def _fail(self, error: BaseException) -> BaseException:
        """Write nothing more, and return what has gone wrong first."""
        self._object.failed = self._object.failed or error
        return self._object.failed

    def putter(self, dataset: h5py.Dataset) -> Callable[[Sequence[int], Any, int], None]:
        """Return what writes a chunk's payload to its place, from any thread.

        It takes the chunk's corner, the payload and its filter mask; nobody
        takes note of the place.
        """

        def put(corner: Sequence[int], payload: Any, mask: int) -> None:
            # Over old bytes a payload goes into the log, and is not held.
            if len(payload) < _SMALL_NBYTES and self._in_place is None:
                self._hand_over(dataset, corner, payload, mask)
                return
            address = self.reserve(dataset, corner, len(payload), mask, lambda _: None)
            self.write(payload, address)

        return put

    def _hand_over(
        self, dataset: h5py.Dataset, corner: Sequence[int], payload: Any, mask: int
    ) -> None:
        """Have libhdf5 hand a payload to the file object, which writes it."""
        try:
            self._uninterrupted(lambda: write_direct_chunk(dataset, corner, payload, mask))
        finally:
            # What went wrong below libhdf5 says more than what that made of it.
            self.check()

    def write(self, data: Any, address: int, *, is_payload: bool = True) -> None:
        """Write a payload to its place, or into the log where old bytes are there.

        Or metadata that are not held, behind what was there.
        """
        view = memoryview(data)
        view = view.cast("B") if view.ndim != 1 or view.format != "B" else view
        if self._in_place is not None:
            self._in_place.write(view, address, is_payload=is_payload)
        else:
            write_at(self._descriptor, view, address)

    @property
    def is_lent(self) -> bool:
        """Whether other processes may write payloads to their places in :attr:`path`.

        Not where a file is changed in place: what a process writes late, after the change was
        given up, would lie in the file that all others know.
        """
        return self._in_place is None and (not self._is_on_nfs or self._is_shared)

    @functools.cached_property
    def _is_on_nfs(self) -> bool:
        return is_on_nfs(self.path)

    @functools.cached_property
    def _is_shared(self) -> bool:
        """Whether what is written here leaves alone what other machines write beside it."""
        with opened(self.path, os.O_RDWR | WRITES_AT_ONCE) as other:
            os.dup2(other, self._descriptor, inheritable=False)
        return bool(WRITES_AT_ONCE)

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
        self._required_in_place().end_log()
        self._object.follow()
        self._is_followed = True

    def _commit(self, patience: float, is_followed: bool) -> None:
        in_place = self._required_in_place()
        try:
            self.file.flush()
            self.check()
            in_place.commit(
                self._object.held.ranges,
                self._object.end,
                patience=patience,
                is_followed=is_followed,
            )
            if in_place.stuck is not None:
                raise in_place.stuck
        except TargetLockedError:
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._object.begin_anew()
        self._base = self._object.end

    def _required_in_place(self) -> InPlaceFile:
        if self._in_place is None:
            msg = "only a file that is changed in place is committed or followed before its end"
            raise EngineError(msg)
        return self._in_place

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
        self._fail(EngineError("abandoned"))
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self.file.close()

    def check(self) -> None:
        """Raise what has gone wrong below libhdf5, if anything has."""
        if self._object.failed is not None:
            raise self._object.failed


@functools.cache
def _watch_the_end() -> None:
    """See to it, once there is an engine, that none is left open at the end of the process."""
    atexit.register(_abandon_all)


def _abandon_all() -> None:
    """Close what is still open: libhdf5 may crash when it is left to the end of the process."""
    for engine in list(_LIVE):
        engine.close_at_exit()
