"""Public: the writer, which several arrays are appended to."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from lazyio.appending.array import GrowingArray, Pool
from lazyio.appending.backend import DROP, AppendBackend, ArrayOptions, OpenedArray
from lazyio.atomic.log import PATIENCE
from lazyio.dtypes import nbytes_of
from lazyio.errors import OptionError, PlanError, TargetError, TargetLockedError
from lazyio.options import default_workers
from lazyio.os_errors import system_errors
from lazyio.planning.budget import ENCODE_COPIES
from lazyio.units import format_size
from lazyio.writing.target_checks import check_key, without_slash

INTERVAL = 2.0
"""Seconds after which what was appended is flushed without being asked for."""


class Flusher:
    """A thread of its own, so that what interrupts the user's leaves no flush half done."""

    def __init__(self, flush: Callable[[bool], object]) -> None:
        self._flush = flush
        self._changed = threading.Condition()
        self._n_asked = self._n_done = 0
        self._errors: dict[int, BaseException] = {}
        self._is_ending = False
        self._thread = threading.Thread(target=self._loop, name="lazyio-flush", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Return when all is flushed that there was when this was called."""
        with self._changed:
            self._n_asked += 1
            ticket = self._n_asked
            self._changed.notify_all()
            while self._n_done < ticket and self._thread.is_alive():
                self._changed.wait(INTERVAL)
            error = self._errors.pop(ticket, None)
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread, once it has done what it is at."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_ending or self._n_asked > self._n_done, INTERVAL
                )
                if self._is_ending:
                    return
                first, last = self._n_done + 1, self._n_asked
            error = None
            try:
                self._flush(last >= first)
            except BaseException as raised:  # noqa: BLE001 - handed to whoever asked
                error = raised
            with self._changed:
                if error is not None:
                    self._errors |= dict.fromkeys(range(first, last + 1), error)
                self._n_done = last
                self._changed.notify_all()


_SLAB_NBYTES = 4 * 2**20
"""Of a slab of more than one row of chunks: larger ones leave the cache before they are written."""


def slab_lengths(several: Sequence[OpenedArray], limit_nbytes: int, workers: int) -> list[int]:
    """Return for each array how many elements a slab of it has.

    Of each there are slabs for all workers and one that is filled, and each
    worker encodes one chunk at a time::

        (sum of (workers + 1) x slab  +  workers x encode) x 9/8  <=  memory_limit
    """
    share = _share(several, limit_nbytes, workers)
    return [_length(one, share // (workers + 1)) for one in several]


def slab_counts(
    several: Sequence[OpenedArray], lengths: Sequence[int], limit_nbytes: int, workers: int
) -> list[int]:
    """Return for each array how many slabs of a length there is room for.

    More than all workers have at a time are used while the disk does not keep up.
    """
    share = _share(several, limit_nbytes, workers)
    return [
        max(workers + 1, share // max(1, _row_nbytes(one) * (length // one.unit)))
        for one, length in zip(several, lengths, strict=True)
    ]


def _share(several: Sequence[OpenedArray], limit_nbytes: int, workers: int) -> int:
    """Return the bytes that slabs of one array may take."""
    chunk = max(nbytes_of(one.target.chunk_shape, one.target.dtype) for one in several)
    return (limit_nbytes * 8 // 9 - workers * ENCODE_COPIES * chunk) // len(several)


def workers_within(opened: OpenedArray, limit_nbytes: int, workers: int) -> int:
    """Return how many workers there is memory for, at least one."""
    while workers > 1 and not all(slab_lengths([opened], limit_nbytes, workers)):
        workers -= 1
    return workers


def refuse_overfull(several: Sequence[OpenedArray], limit_nbytes: int, workers: int) -> None:
    """Refuse arrays for which there is no memory."""
    if all(slab_lengths(several, limit_nbytes, workers)):
        return
    chunk = max(nbytes_of(one.target.chunk_shape, one.target.dtype) for one in several)
    row = max(map(_row_nbytes, several))
    each = (workers + 1) * row * len(several)
    needed = -(-(each + workers * ENCODE_COPIES * chunk) * 9 // 8)
    msg = (
        f"memory_limit={format_size(limit_nbytes)} ({limit_nbytes} bytes) is too small for "
        f"{len(several)} arrays, of each of which {workers + 1} rows of chunks are held; give at "
        f"least memory_limit={needed}, or smaller chunks"
    )
    raise PlanError(msg)


def _length(opened: OpenedArray, room_nbytes: int) -> int:
    row = _row_nbytes(opened)
    n_rows = min(room_nbytes // row, max(1, _SLAB_NBYTES // row))
    return max(0, n_rows) * opened.unit


def _row_nbytes(opened: OpenedArray) -> int:
    return max(1, nbytes_of(opened.with_length(opened.unit), opened.target.dtype))


logger = logging.getLogger("lazyio")

_PAUSE = 0.05
_ROOM_FOR = 8
"""Arrays of the same size that chunks are made for: more may be created later."""


class Writer:
    """A file or store that grows; made by :func:`lazyio.writer`.

    Parameters
    ----------
    place : Place
        The file or store.
    name : str
        What errors call it.
    on_error : str
        What becomes of what was appended before an error.
    memory_limit : int
        Bytes for all that is in flight.
    """

    def __init__(
        self, place: AppendBackend, *, name: str, on_error: str, memory_limit: int
    ) -> None:
        self.name = name
        self._place = place
        self._on_error = on_error
        self._limit = memory_limit
        self._n_workers = default_workers()
        # Of what changes the file: held while it is flushed or an array is made.
        self._lock = threading.Lock()
        self._begin_lock = threading.Lock()
        self._arrays: dict[str, tuple[GrowingArray, OpenedArray]] = {}
        self._is_closed = self._is_closing = self._is_begun = False
        self._is_delayed = self._is_untold = False
        self._pool = Pool(self._stop)
        self._flusher = Flusher(self._flush)

    @system_errors(TargetError)
    def create(
        self,
        key: str,
        *,
        dtype: npt.DTypeLike | None = None,
        item_shape: int | Sequence[int] | None = None,
        axis: int = 0,
        expected_length: int | None = None,
        chunks: Any = "auto",
        compression: Any = None,
        compression_opts: Any = None,
        shuffle: bool | None = None,
    ) -> GrowingArray:
        """Make an array, or take up one that is there to go on at its end.

        Parameters
        ----------
        key : str
            Path of the array; groups on the way are made.
        dtype : dtype-like
            Type of an element. Of an existing array it may be left out.
        item_shape : tuple of int
            Extents of an element, ``()`` for single numbers; as above.
        axis : int
            Along which it grows.
        expected_length : int, optional
            How many elements there will be, about: chunks are made for that many.
        chunks : optional
            As in :func:`lazyio.plan`; ``-1`` is not known along the axis of growth.
        compression, compression_opts, shuffle : optional
            As in :func:`lazyio.to_hdf5`; for Zarr ``"gzip"``, ``"zstd"``, ``"blosc"``,
            a level, or a codec of zarr-python.

        Returns
        -------
        GrowingArray
            To append to.

        Raises
        ------
        OptionError
            When the writer is closed, has that array already, or what is there
            differs: lists everything in which it does.
        PlanError
            When the memory limit leaves no room for another array.
        TargetExistsError, TargetError, UnsupportedDtypeError
            When the array cannot be made, or cannot grow.
        """
        self._check_open()
        key = without_slash(key)
        check_key(key)
        name = "/".join(filter(None, key.split("/")))
        if name in self._arrays:
            msg = f"{key!r} was created by this writer before; append to what that returned"
            raise OptionError(msg)
        wish = ArrayOptions(
            key=name,
            dtype=dtype,
            item_shape=item_shape,
            axis=axis,
            expected_length=expected_length,
            chunks=chunks,
            compression=compression,
            compression_opts=compression_opts,
            shuffle=shuffle,
            memory_limit=self._limit // (len(self._arrays) + 1),
            workers=self._n_workers,
        )
        with self._quiet():
            opened = self._opened(wish)
            try:
                return self._added(wish, opened)
            except BaseException:
                self._place.take_back()
                raise

    @system_errors(TargetError)
    def flush(self) -> None:
        """Have all that was created and appended on the disk, where readers see it.

        Raises
        ------
        TargetLockedError
            When readers have an HDF5 file open for more than half a minute, who would see it half
            changed; with ``swmr=True`` they may. What was appended waits for the next flush, and
            appends go on.
        TargetError
            When the disk fails. What was flushed before is kept.
        """
        self._check_open()
        self._flusher.ask()

    @system_errors(TargetError)
    def close(self) -> None:
        """Flush, and close; closing again does nothing.

        Where readers have an HDF5 file open for more than half a minute, the last change stays
        complete beside the file, as a warning says, and is made by the next call that writes to it
        or by :func:`lazyio.recover`.

        Raises
        ------
        TargetError
            When the disk fails. What was flushed before is kept.
        """
        if self._is_closed:
            return
        try:
            self._begin()
            # What it commits in the end is done in one step with closing it.
            self._is_closing = True
            self._flusher.ask()
        except BaseException:
            self._end()
            self._place.abandon()
            raise
        self._end()
        self._place.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            if self._on_error == DROP and not self._is_closed:
                self._end()
                self._place.drop()
            else:
                self.close()
        except Exception as other:  # noqa: BLE001 - the first error is the one to be told
            error.add_note(f"closing {self.name} failed as well: {other}")

    def _opened(self, wish: ArrayOptions) -> OpenedArray:
        """Have an array made, with chunks that leave room for others where that can be."""
        few = replace(wish, memory_limit=wish.memory_limit // _ROOM_FOR)
        with contextlib.suppress(PlanError):
            return self._place.create(few)
        return self._place.create(wish)

    def _added(self, wish: ArrayOptions, opened: OpenedArray) -> GrowingArray:
        """Give an array that stands its share of memory and workers."""
        if not self._arrays:
            self._n_workers = workers_within(opened, self._limit, self._n_workers)
        several = [*(one for _, one in self._arrays.values()), opened]
        refuse_overfull(several, self._limit, self._n_workers)
        self._pool.start(self._n_workers)
        array = GrowingArray(
            f"{self.name}/{wish.key}",
            opened,
            self._pool,
            n_buffers=self._n_workers + 1,
            is_lenient=wish.dtype is not None,
            begin=self._begin,
        )
        self._arrays[wish.key] = array, opened
        self._is_untold |= opened.is_untold
        lengths = slab_lengths(several, self._limit, self._n_workers)
        counts = slab_counts(several, lengths, self._limit, self._n_workers)
        for (one, _), length, count in zip(self._arrays.values(), lengths, counts, strict=True):
            one.fit(length, count)
        return array

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Have no chunk written, and nothing flushed."""
        with self._lock:
            try:
                for array, _ in self._arrays.values():
                    self._pool.hold(array)
                self._pool.drain()
                yield
            finally:
                self._pool.release()

    def _check_open(self) -> None:
        if self._is_closed:
            msg = f"the writer of {self.name} is closed; open it again with lazyio.writer"
            raise OptionError(msg)

    def _begin(self) -> None:
        """Let the file get ready for chunks, once."""
        if not self._is_begun:
            with self._begin_lock:
                if not self._is_begun:
                    self._place.begin()
                    self._is_begun = True

    def _stop(self) -> None:
        for array, _ in list(self._arrays.values()):
            array.stop(is_closed=self._is_closed)

    def _end(self) -> None:
        """Take nothing more, and let all threads end."""
        self._is_closed = True
        self._stop()
        self._flusher.close()
        self._pool.close()

    def _flush(self, is_asked: bool) -> None:
        """Flush what there is, on the flusher's thread.

        While programs read the file, appends go on: what they bring waits behind the file's end.
        """
        if not is_asked and not self._is_begun:
            return
        self._begin()
        until = time.monotonic() + (PATIENCE if is_asked else 0)
        while True:
            try:
                self._commit()
            except TargetLockedError as error:
                if not self._is_delayed:
                    logger.warning("%s waits to be flushed: %s", self.name, error)
                self._is_delayed = True
                if time.monotonic() < until:
                    time.sleep(_PAUSE)
                    continue
                if is_asked:
                    raise
            else:
                self._is_delayed = False
            return

    def _commit(self) -> None:
        """Have all written that was appended so far, and readers see it."""
        with self._lock:
            try:
                self._pool.check()
                new = [array for array, _ in self._arrays.values() if array.hand_over()]
                self._pool.drain()
                if (new or self._is_untold) and not self._is_closing:
                    self._place.commit()
                    self._is_untold = False
                    for array in new:
                        array.has_told()
            except TargetLockedError:
                raise
            except BaseException as error:
                self._pool.fail(error)
                raise
            finally:
                self._pool.release()
