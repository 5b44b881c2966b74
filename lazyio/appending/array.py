"""Public: the array that is appended to, and the slabs that it fills."""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyio.appending.backend import OpenedArray
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, Stored, is_text
from lazyio.errors import BlockError, OptionError, TargetError
from lazyio.iterables.stream import as_elements, unmasked
from lazyio.os_errors import system_errors
from lazyio.regions import touched


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What fits an array.

    Examples
    --------
    >>> from lazyio.dtypes import stored
    >>> form = stored(np.dtype("i2"), "hdf5")
    >>> batches = Batches(form=form, stored=form.dtype, item_shape=(2,), axis=1, is_lenient=True)
    >>> batches.rows([[1, 3, 5], [2, 4, 6]]).tolist()
    [[1, 2], [3, 4], [5, 6]]
    """

    form: Stored
    """How elements are stored."""
    stored: np.dtype[Any]
    """Type of an element as the target has it."""
    item_shape: Shape
    """Extents of an element."""
    axis: int
    """Along which the array grows."""
    is_lenient: bool
    """Whether numbers are rounded to the dtype, because it was asked for."""

    @property
    def are_plain(self) -> bool:
        """Whether elements of that dtype are stored as they are."""
        return self.form.dtype == self.form.original == self.stored and not is_text(self.stored)

    def rows(self, batch: Any) -> npt.NDArray[Any]:
        """Return a batch as it is stored, with the axis of growth first."""
        dtype = self.form.original
        if type(batch) is np.ndarray and batch.dtype == dtype and self.are_plain:
            return self._in_rows(batch)
        found = unmasked(batch)
        is_lenient = self.is_lenient or not hasattr(batch, "dtype")
        cast = as_elements(found, dtype, is_lenient=is_lenient)
        if cast is None:
            msg = (
                f"its dtype is {found.dtype}, of which {dtype} cannot hold every value that is "
                "there; make the array with a dtype that does, for .astype would cut them"
            )
            raise ValueError(msg)
        return self.form.encode(self._in_rows(cast)).astype(self.stored, copy=False)

    def _in_rows(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        items = self.item_shape
        if batch.shape == items:
            return batch[np.newaxis]
        if batch.ndim == len(items) + 1:
            rows = np.moveaxis(batch, self.axis, 0)
            if rows.shape[1:] == items:
                return rows
        wanted = [str(extent) for extent in items]
        wanted.insert(self.axis, "n")
        msg = (
            f"its shape is {batch.shape}, give elements of shape {items}, or batches of shape "
            f"({', '.join(wanted)})"
        )
        raise ValueError(msg)


class _Task(NamedTuple):
    owner: object
    write: Callable[[Workspace], object]
    done: Callable[[], object]


class Pool:
    """A few threads, and what they have to do.

    After the first error nothing more is written, and everything that waits is
    given back: whoever has buffers out gets them again.
    """

    def __init__(self, on_failed: Callable[[], object]) -> None:
        self._on_failed = on_failed
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._n_left = 0
        self._held: set[object] = set()
        self._parked: list[_Task] = []
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self, n_threads: int) -> None:
        """Work on so many slabs at once; once there are threads there are no more of them."""
        for at in range(len(self._threads), n_threads):
            thread = threading.Thread(target=self._loop, name=f"lazyio-push-{at}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(
        self,
        owner: object,
        write: Callable[[Workspace], object],
        done: Callable[[], object],
    ) -> None:
        """Have something written; ``done`` is called afterwards, come what may."""
        task = _Task(owner, write, done)
        with self._changed:
            if owner in self._held:
                self._parked.append(task)
                return
            self._n_left += 1
        self._tasks.put(task)

    def hold(self, owner: object) -> None:
        """Let what this owner submits from now on wait until :meth:`release`."""
        with self._changed:
            self._held.add(owner)

    def release(self) -> None:
        """Let all go on that waits."""
        with self._changed:
            parked, self._parked = self._parked, []
            self._held.clear()
            self._n_left += len(parked)
        for task in parked:
            self._tasks.put(task)

    def drain(self) -> None:
        """Return when all is written that does not wait."""
        with self._changed:
            while self._n_left:
                self._changed.wait()
        self.check()

    def check(self) -> None:
        """Raise what went wrong first, if anything has."""
        if self._failure is not None:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """Write nothing more, because of this."""
        with self._changed:
            is_first = self._failure is None
            if is_first:
                self._failure = error
        if is_first:
            self._on_failed()

    def close(self) -> None:
        """Let the threads end, once what they have begun is done."""
        self.release()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        workspace = Workspace()
        while (task := self._tasks.get()) is not None:
            try:
                if self._failure is None:
                    task.write(workspace)
            except BaseException as error:  # noqa: BLE001 - raised by the next call of the user
                self.fail(error)
            finally:
                task.done()
                with self._changed:
                    self._n_left -= 1
                    self._changed.notify_all()


Array = npt.NDArray[Any]

_MOST_WAIT = 0.002
"""Seconds to wait for a slab that is being written, before there is another."""


class Slabs:
    """Elements on their way to whole rows of chunks."""

    def __init__(self, name: str, opened: OpenedArray, pool: Pool, *, n_buffers: int) -> None:
        self.name = name
        self._opened = opened
        self._pool = pool
        self._n_buffers = self._most_buffers = n_buffers
        self._lock = threading.Lock()
        self._grow_lock = threading.Lock()
        self._is_closed = False
        self._size = 0
        self._free: queue.SimpleQueue[Array] = queue.SimpleQueue()
        self._n_made = 0
        self._block: Array | None = None
        self._elements: Array = np.empty(0)
        # Of the slab that is filled: its first element, how many there are, have room, are written.
        self._start = opened.length // opened.unit * opened.unit
        self._filled = self._room = self._written = 0
        self._told = self._pending = opened.length

    @property
    def _length(self) -> int:
        return max(self._opened.length, self._start + self._filled)

    def fit(self, n_elements: int, most_buffers: int) -> None:
        """Use slabs of so many elements from now on, whole rows of chunks, and so many at most."""
        with self._lock:
            self._most_buffers = most_buffers
            if n_elements == self._size:
                return
            self._size = n_elements
            # Buffers of the other size are let go of, as soon as they are written.
            self._free, self._n_made = queue.SimpleQueue(), 0
            if self._block is None:
                return
            n_whole = self._filled // self._opened.unit * self._opened.unit
            if n_whole > self._written:
                self._submit(self._block, self._start + n_whole, _nothing)
            # What is left is less than a row of chunks, which every slab has room for.
            rest = self._elements[n_whole : self._filled]
            self._start += n_whole
            self._block = self._buffer()
            self._elements = np.moveaxis(self._block, self._opened.axis, 0)
            self._elements[: len(rest)] = rest
            self._filled, self._room, self._written = len(rest), n_elements, 0

    def hand_over(self) -> bool:
        """Have all written that was appended so far, and let what comes later wait for it."""
        with self._lock:
            length = self._length
            if length == self._told:
                return False
            unit = self._opened.unit
            # What a flush that readers delayed has had written is not written again.
            if self._block is not None and self._filled > self._written and length != self._pending:
                self._submit(self._block, length, _nothing)
                self._written = self._filled // unit * unit
            self._pool.hold(self)
            self._pending = length
        return True

    def has_told(self) -> None:
        """Take note that readers see what was handed over."""
        self._told = self._pending

    def stop(self, *, is_closed: bool) -> None:
        """Let the next append find out that it cannot go on."""
        # Without the lock, which an append has that waits for a buffer.
        self._is_closed = self._is_closed or is_closed
        self._room = 0

    def _fill(self, elements: Array) -> None:
        """Put elements, the axis of growth first, into as many slabs as it takes; locked."""
        begin, n_elements = 0, len(elements)
        while begin < n_elements or self._is_closed:
            if self._filled >= self._room:
                self._begin()
            at, room = self._filled, self._size
            stop = min(room, at + n_elements - begin)
            end = begin + stop - at
            self._elements[at:stop] = elements[begin:end]
            self._filled, begin = stop, end
            if stop == room:
                self._turn()

    def _begin(self) -> None:
        """Take a buffer to fill, as soon as there is one."""
        if self._is_closed:
            msg = f"{self.name} is closed; open it again with lazyio.writer to go on"
            raise OptionError(msg)
        self._pool.check()
        block = self._buffer()
        self._pool.check()
        self._elements = np.moveaxis(block, self._opened.axis, 0)
        head, length = self._opened.head, self._opened.length
        if head is not None and self._start < length:
            self._filled = length - self._start
            block[(slice(None),) * self._opened.axis + (slice(0, self._filled),)] = head
        most = self._opened.most
        room = self._size if most is None else min(self._size, most - self._start)
        self._block, self._room = block, room

    def _buffer(self) -> Array:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            if self._n_made >= self._n_buffers:
                # One that was used is in the processor's cache; a new one is taken when the disk
                # does not keep up, so that an acquisition loop need not wait while there is room.
                with contextlib.suppress(queue.Empty):
                    wait = None if self._n_made >= self._most_buffers else _MOST_WAIT
                    return self._free.get(timeout=wait)
        self._n_made += 1
        return np.empty(self._opened.with_length(self._size), self._opened.target.dtype)

    def _turn(self) -> None:
        """Have the slab that is full written, and begin another when something comes."""
        block, free, stop = self._block, self._free, self._start + self._filled
        if block is not None:
            self._submit(block, stop, lambda: free.put(block))
        self._block = None
        self._start, self._filled, self._room, self._written = stop, 0, 0, 0

    def _submit(self, block: Array, stop: int, done: Callable[[], object]) -> None:
        """Have the elements of a slab written that are not yet, as far as some one."""
        start, first = self._start, self._start + self._written
        self._pool.submit(
            self, lambda workspace: self._write(block, start, first, stop, workspace), done
        )

    def _write(self, block: Array, start: int, first: int, stop: int, workspace: Workspace) -> None:
        """Write some of the elements of a slab, from the beginning of a row of chunks on."""
        opened = self._opened
        target, axis = opened.target, opened.axis
        with self._grow_lock:
            if stop > target.shape[axis]:
                target.grow(opened.with_length(stop))
        region = [slice(0, extent) for extent in target.shape]
        region[axis] = slice(first, stop)
        part = block[(slice(None),) * axis + (slice(first - start, stop - start),)]
        for index, _, inside in touched(tuple(region), target.chunk_shape):
            target.write_chunk(index, part[inside], workspace)


def _nothing() -> None:
    """Do nothing: the buffer is still being filled, or not used again."""


_NONE = object()
"""In place of the dtype of which elements are copied as they are: they never are."""


class GrowingArray(Slabs):
    """An array of a :func:`lazyio.writer`, which grows by what is appended to it.

    Made by :meth:`~lazyio.appending.writer.Writer.create`. Several threads may append,
    each batch as a whole.

    Parameters
    ----------
    name : str
        What errors call it.
    opened : Opened
        The array as it stands.
    pool : Pool
        Writes slabs that are full.
    n_buffers : int
        Slabs that are filled or being written at once.
    is_lenient : bool
        Whether numbers are rounded to the dtype, because it was asked for.
    begin : callable
        Called before anything is taken, at least the first time.
    """

    def __init__(
        self,
        name: str,
        opened: OpenedArray,
        pool: Pool,
        *,
        n_buffers: int,
        is_lenient: bool,
        begin: Callable[[], object],
    ) -> None:
        super().__init__(name, opened, pool, n_buffers=n_buffers)
        self._begin_writer = begin
        self._item_shape = opened.item_shape
        self._batches = Batches(
            form=opened.form,
            stored=opened.target.dtype,
            item_shape=opened.item_shape,
            axis=opened.axis,
            is_lenient=is_lenient,
        )
        self._quick: Any = opened.target.dtype if self._batches.are_plain else _NONE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._opened.form.original

    @property
    def shape(self) -> Shape:
        """Extents, with all that was appended."""
        return self._opened.with_length(len(self))

    @property
    def axis(self) -> int:
        """Along which it grows."""
        return self._opened.axis

    def __len__(self) -> int:
        """Return how many elements there are along the axis of growth."""
        with self._lock:
            return self._length

    def append(self, batch: Any) -> None:
        """Append elements.

        They are copied: the batch may be used again at once.

        Parameters
        ----------
        batch : array-like
            One element, of the array's ``item_shape``; or several, with the
            axis of growth in its place. Numbers of another dtype are taken
            where none of them changes its value.

        Raises
        ------
        BlockError
            When it is neither, or does not fit the dtype; nothing of it was appended.
        TargetError
            When an earlier batch could not be written.

        Examples
        --------
        >>> import lazyio, numpy as np
        >>> with lazyio.writer("grown.h5", mode="w") as w:
        ...     x = w.create("x", dtype="i2", item_shape=(4,))
        ...     x.append(np.arange(4))
        ...     x.append(np.zeros((10, 4), "i2"))
        ...     x.shape
        (11, 4)
        """
        if type(batch) is not np.ndarray or batch.dtype != self._quick:
            elements = self._rows_of(batch)
        elif batch.shape == self._item_shape:
            with self._lock:
                at = self._filled
                if at < self._room:
                    self._elements[at] = batch
                    at += 1
                    self._filled = at
                    if at == self._room:
                        self._turn()
                    return
            elements = batch[np.newaxis]
        else:
            elements = self._rows_of(batch)
        self._extend(elements)

    def _rows_of(self, batch: Any) -> Array:
        try:
            return self._batches.rows(batch)
        except Exception as error:
            msg = f"a batch for {self.name} after {len(self)} elements cannot be appended: {error}"
            raise BlockError(msg) from error

    @system_errors(TargetError)
    def _extend(self, elements: Array) -> None:
        self._begin_writer()
        with self._lock:
            self._refuse_beyond(len(elements))
            self._fill(elements)

    def _refuse_beyond(self, n_elements: int) -> None:
        most = self._opened.most
        if most is not None and self._length + n_elements > most:
            msg = (
                f"{n_elements} elements for {self.name}, which has {self._length} and may have "
                f"{most}; write it anew with a larger maxshape"
            )
            raise BlockError(msg)
