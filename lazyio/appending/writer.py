"""Public: the writer, which several arrays are appended to."""

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from lazyio.appending.array import GrowingArray, Pool
from lazyio.appending.backend import (
    DROP,
    OF_BOTH,
    OF_ONE,
    AppendBackend,
    ArrayOptions,
    OpenedArray,
)
from lazyio.appending.ragged import GrowingRows, rows_asked
from lazyio.atomic.log import PATIENCE
from lazyio.dtypes import is_integer, nbytes_of
from lazyio.errors import OptionError, PlanError, TargetError, TargetLockedError
from lazyio.options import NONE, check_flags, default_workers
from lazyio.os_errors import system_errors
from lazyio.planning.budget import ENCODE_COPIES
from lazyio.ragged.feed import RowFacts
from lazyio.units import format_size
from lazyio.writing.allocate import refuse_of_other_format
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

_ALSO_CALLED = {
    "fillvalue": "fill_value",
    "attrs": "attributes",
    "dims": "dimension_names",
}
"""Settings that both formats have, and what users of Zarr call them."""


def _settings_in(given: Mapping[str, Any], backend: AppendBackend) -> dict[str, Any]:
    """Return what the arguments of a call say of how an array is stored, none of another format."""
    others = sorted(OF_ONE - set(backend.own_options))
    refuse_of_other_format(Writer.create, backend.format, {name: given[name] for name in others})
    own = {name: given[name] for name in (*OF_BOTH, *backend.own_options)}
    # What nobody gives may be anything in an array that is there.
    named = {name: _either(given, name, other) for name, other in _ALSO_CALLED.items()}
    return own | {name: value for name, value in named.items() if value is not None}


def _either(given: Mapping[str, Any], name: str, other: str) -> Any:
    """Return a setting that may be given by either of two names."""
    if given[name] is not None and given[other] is not None:
        msg = f"{name} and {other} are two names of one setting; give one of them"
        raise OptionError(msg)
    return given[other] if given[name] is None else given[name]


_PAUSE = 0.05
_ROOM_FOR = 8
"""Arrays of the same size that chunks are made for: more may be created later."""


class Writer:
    """A file or store that grows; made by :func:`lazyio.writer`.

    Parameters
    ----------
    backend : AppendBackend
        The file or store.
    name : str
        What errors call it.
    on_error : str
        What becomes of what was appended before an error.
    memory_limit : int
        Bytes for all that is in flight.
    """

    def __init__(
        self, backend: AppendBackend, *, name: str, on_error: str, memory_limit: int
    ) -> None:
        self.name = name
        self._backend = backend
        self._on_error = on_error
        self._limit = memory_limit
        self._n_workers = default_workers()
        # Of what changes the file: held while it is flushed or an array is made.
        self._lock = threading.Lock()
        self._begin_lock = threading.Lock()
        self._arrays: dict[str, GrowingArray] = {}
        self._rows: list[GrowingRows] = []
        self._is_closed = self._is_closing = self._is_begun = False
        self._is_delayed = self._is_untold = False
        self._pool = Pool(self._stop)
        self._flusher = Flusher(self._flush)

    @overload
    def create(
        self,
        key: str,
        *,
        dtype: npt.DTypeLike | None = None,
        item_shape: Any = None,
        axis: int = 0,
        expected_length: int | None = None,
        chunks: Any = "auto",
        compression: Any = None,
        compression_opts: Any = None,
        shuffle: bool | None = None,
        ragged: Literal[False] = False,
    ) -> GrowingArray: ...

    @overload
    def create(
        self,
        key: str,
        *,
        dtype: npt.DTypeLike | None = None,
        item_shape: Any = None,
        axis: int = 0,
        expected_length: int | None = None,
        chunks: Any = "auto",
        compression: Any = None,
        compression_opts: Any = None,
        shuffle: bool | None = None,
        ragged: Literal[True],
    ) -> GrowingRows: ...

    @system_errors(TargetError)
    def create(
        self,
        key: str,
        *,
        dtype: npt.DTypeLike | None = None,
        item_shape: int | Sequence[int | None] | None = None,
        axis: int = 0,
        expected_length: int | None = None,
        chunks: Any = "auto",
        chunk_nbytes: int | str | tuple[int | str, int | str] | None = None,
        access: Any = None,
        compression: Any = None,
        compression_opts: Any = None,
        shuffle: bool | None = None,
        fletcher32: bool = False,
        fillvalue: Any = None,
        attrs: Mapping[str, Any] | None = None,
        dims: Sequence[str] | None = None,
        shards: Any = None,
        compressors: Any = NONE,
        filters: Any = "auto",
        fill_value: Any = None,
        attributes: Mapping[str, Any] | None = None,
        dimension_names: Sequence[str | None] | None = None,
        digests: bool = True,
        ragged: bool = False,
    ) -> GrowingArray | GrowingRows:
        """Make an array, or take up one that is there to go on at its end.

        What is said of an array that is there must be so, or be left out.

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
        chunks, chunk_nbytes, access : optional
            As in :func:`lazyio.plan`; ``-1`` is not known along the axis of growth.
        compression, compression_opts, shuffle : optional
            As in :func:`lazyio.to_hdf5`; for Zarr ``"gzip"``, ``"zstd"``, ``"blosc"``,
            a level, or a codec of zarr-python.
        fletcher32 : bool
            HDF5's checksum of every chunk.
        fillvalue, attrs, dims : optional
            As in :func:`lazyio.to_hdf5`, for both formats; ``fill_value``, ``attributes`` and
            ``dimension_names`` are the same by the names that they have in
            :func:`lazyio.to_zarr`.
        shards, compressors, filters : optional
            As in :func:`lazyio.to_zarr`, for Zarr; ``compressors`` instead of ``compression``.
        digests : bool
            Whether to store digests, by which :func:`lazyio.verify` finds damage. They take
            some bytes for every chunk: ``False`` suits many short arrays.
        ragged : bool
            Whether rows of differing length are appended, as :func:`lazyio.open_ragged` reads
            them. ``item_shape`` is then what each of the elements of a row has, by default
            ``()``; or, with ``None`` in it, such as ``(None, None)``, the axes of rows of
            differing shape. ``expected_length`` counts rows; what is said of chunks, fill value,
            attributes and axes holds for the values.

        Returns
        -------
        GrowingArray or GrowingRows
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

        Examples
        --------
        >>> import h5py, lazyio, numpy as np
        >>> with lazyio.writer("described.h5", mode="w") as w:
        ...     x = w.create(
        ...         "x",
        ...         dtype="f4",
        ...         item_shape=(4,),
        ...         compression="gzip",
        ...         fillvalue=np.nan,
        ...         dims=("time", "channel"),
        ...         attrs={"units": "V"},
        ...     )
        ...     x.append(np.zeros((10, 4), "f4"))
        >>> with h5py.File("described.h5") as file:
        ...     file["x"].attrs["units"], file["x"].dims[0][0].name
        ('V', '/time')
        """
        given = locals()
        self._check_open()
        check_flags(ragged=ragged)
        key = without_slash(key)
        check_key(key)
        name = "/".join(filter(None, key.split("/")))
        check_flags(digests=digests)
        settings = _settings_in(given, self._backend)
        if ragged:
            return self._create_rows(
                name, dtype, item_shape, axis, expected_length, settings, digests=bool(digests)
            )
        return self._create(
            ArrayOptions(
                key=name,
                dtype=dtype,
                item_shape=item_shape,
                axis=axis,
                expected_length=expected_length,
                digests=bool(digests),
                settings=settings,
                memory_limit=self._limit,
            )
        )

    def _create(self, asked: ArrayOptions) -> GrowingArray:
        """Make an array with its share of the memory limit."""
        if asked.key in self._arrays:
            msg = f"{asked.key!r} was created by this writer before; append to what that returned"
            raise OptionError(msg)
        asked = replace(asked, memory_limit=self._limit // (len(self._arrays) + 1))
        with self._quiet():
            opened = self._opened(asked)
            try:
                return self._added(asked, opened)
            except BaseException:
                self._backend.take_back()
                raise

    def _create_rows(
        self,
        key: str,
        dtype: Any,
        item_shape: Any,
        axis: Any,
        expected_length: Any,
        settings: dict[str, Any],
        *,
        digests: bool,
    ) -> GrowingRows:
        """Make the arrays of ragged rows, or take up those that are there behind the last row."""
        if not is_integer(axis) or axis != 0:
            msg = f"axis={axis!r}: ragged rows lie along the first axis; leave it out"
            raise OptionError(msg)
        n_before = len(self._arrays)
        last = self._backend.last_element(f"{key}/offsets")
        end = 0 if last is None or not last.size else int(last.ravel()[0])
        shapes = self._backend.last_element(f"{key}/shapes")
        wanted = rows_asked(
            key,
            dtype=dtype,
            item_shape=item_shape,
            expected_length=expected_length,
            settings=settings,
            digests=digests,
            memory_limit=self._limit,
            is_there=last is not None,
            shaped_axes=0 if shapes is None or shapes.ndim != 2 else shapes.shape[1],
            end=end,
        )
        try:
            arrays = {name: self._create(asked) for name, asked in wanted.items()}
            return self._rows_of(key, arrays, end, is_lenient=dtype is not None)
        except BaseException:
            with self._quiet():
                for _ in range(len(self._arrays) - n_before):
                    self._arrays.popitem()
                    self._backend.take_back()
            raise

    def _rows_of(
        self, key: str, arrays: dict[str, GrowingArray], end: int, *, is_lenient: bool
    ) -> GrowingRows:
        values, offsets = arrays["values"], arrays["offsets"]
        if not len(offsets):
            offsets.append(np.zeros(1, np.int64))
        shapes = arrays.get("shapes")
        facts = RowFacts(
            dtype=values.dtype,
            item_shape=values.opened.item_shape,
            n_axes=1 if shapes is None else shapes.opened.item_shape[0],
            is_lenient=is_lenient,
        )
        if values.opened.now < end:
            msg = (
                f"{self.name}/{key} has {values.opened.now} values, and offsets up to {end}: it is "
                "damaged, or was written by something else; write it anew"
            )
            raise TargetError(errno.EINVAL, msg)
        rows = GrowingRows(f"{self.name}/{key}", arrays, facts, end)
        self._rows.append(rows)
        return rows

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
            self._backend.abandon()
            raise
        self._end()
        self._backend.close()

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
                self._backend.drop()
            else:
                self.close()
        except Exception as other:  # noqa: BLE001 - the first error is the one to be told
            error.add_note(f"closing {self.name} failed as well: {other}")

    def _opened(self, asked: ArrayOptions) -> OpenedArray:
        """Have an array made, with chunks that leave room for others where that can be."""
        few = replace(asked, memory_limit=asked.memory_limit // _ROOM_FOR)
        with contextlib.suppress(PlanError):
            return self._backend.create(few)
        return self._backend.create(asked)

    def _added(self, asked: ArrayOptions, opened: OpenedArray) -> GrowingArray:
        """Give an array that stands its share of memory and workers."""
        if not self._arrays:
            self._n_workers = workers_within(opened, self._limit, self._n_workers)
        several = [*(one.opened for one in self._arrays.values()), opened]
        refuse_overfull(several, self._limit, self._n_workers)
        self._pool.start(self._n_workers)
        array = GrowingArray(
            f"{self.name}/{asked.key}",
            opened,
            self._pool,
            n_buffers=self._n_workers + 1,
            is_lenient=asked.dtype is not None,
            begin=self._begin,
        )
        self._arrays[asked.key] = array
        self._is_untold |= opened.is_untold
        lengths = slab_lengths(several, self._limit, self._n_workers)
        counts = slab_counts(several, lengths, self._limit, self._n_workers)
        for one, length, count in zip(self._arrays.values(), lengths, counts, strict=True):
            one.fit(length, count)
        return array

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Have no chunk written, and nothing flushed."""
        with self._lock:
            try:
                for array in self._arrays.values():
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
                    self._backend.begin()
                    self._is_begun = True

    def _stop(self) -> None:
        for array in list(self._arrays.values()):
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

    def _handed_over(self) -> list[GrowingArray]:
        """Have all arrays hand over what they have, while no row is between two of them."""
        with contextlib.ExitStack() as stack:
            for rows in self._rows:
                stack.enter_context(rows.lock)
            return [array for array in self._arrays.values() if array.hand_over()]

    def _commit(self) -> None:
        """Have all written that was appended so far, and readers see it."""
        with self._lock:
            try:
                self._pool.check()
                new = self._handed_over()
                self._pool.drain()
                if (new or self._is_untold) and not self._is_closing:
                    self._backend.commit()
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
