"""Public: the array that is appended to, and the threads that write its slabs."""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from lazyio.appending.backend import OpenedArray
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, is_text
from lazyio.errors import BlockError, OptionError, TargetError
from lazyio.execution.slabs import Elements, Slab, Slabs
from lazyio.execution.threads import Trouble
from lazyio.iterables.elements import as_elements, in_rows
from lazyio.os_errors import system_errors

_Task = tuple[Callable[[Workspace], object], Callable[[], object]]
"""What writes something, and what is called afterwards."""


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
        self._trouble = Trouble()
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
        with self._changed:
            if owner in self._held:
                self._parked.append((write, done))
                return
            self._n_left += 1
        self._tasks.put((write, done))

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
        self._trouble.check()

    def fail(self, error: BaseException) -> None:
        """Write nothing more, because of this."""
        if self._trouble.note(error):
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
            write, done = task
            try:
                self.check()
                write(workspace)
            except BaseException as error:  # noqa: BLE001 - raised by the next call of the user
                self.fail(error)
            finally:
                done()
                with self._changed:
                    self._n_left -= 1
                    self._changed.notify_all()


_MOST_WAIT = 0.002
"""Seconds to wait for a slab that is being written, before there is another."""

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
    opened : OpenedArray
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
        super().__init__(opened.item_shape, opened.target.dtype, opened.axis, size=0)
        self.name = name
        self.opened = opened
        self._pool = pool
        self._n_buffers = self._most_buffers = n_buffers
        self._begin_writer = begin
        self._lock = threading.Lock()
        self._grow_lock = threading.Lock()
        self._gate = contextlib.nullcontext()
        self._is_closed = False
        self._start = opened.length // opened.unit * opened.unit
        self._told = self._pending = opened.length
        self._is_lenient = is_lenient
        form, dtype = opened.form, opened.target.dtype
        is_plain = form.dtype == form.original == dtype and not is_text(dtype)
        # Elements of that dtype are stored as they are.
        self._quick: Any = dtype if is_plain else _NONE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.opened.form.original

    @property
    def shape(self) -> Shape:
        """Extents, with all that was appended."""
        return self.opened.with_length(len(self))

    @property
    def axis(self) -> int:
        """Along which it grows."""
        return self._axis

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
        is_quick = type(batch) is np.ndarray and batch.dtype == self._quick
        if is_quick and batch.shape == self._shape:
            with self._lock:
                at = self._filled
                if at < self._room:
                    self._elements[at] = batch
                    at += 1
                    self._filled = at
                    if at == self._room:
                        self._turn()
                    return
        try:
            elements = self._rows(batch) if is_quick else self._converted(batch)
        except Exception as error:
            msg = f"a batch for {self.name} after {len(self)} elements cannot be appended: {error}"
            raise BlockError(msg) from error
        self._extend(elements)

    def _converted(self, batch: Any) -> Elements:
        """Return a batch as it is stored, with the axis of growth first."""
        form, dtype = self.opened.form, self.opened.target.dtype
        rows = self._rows(as_elements(batch, form.original, is_lenient=self._is_lenient))
        return form.encode(rows).astype(dtype, copy=False)

    def _rows(self, batch: Elements) -> Elements:
        if batch.shape == self._shape:
            return batch[np.newaxis]
        rows = in_rows(batch, self._shape, self._axis)
        if rows is None:
            wanted = [str(extent) for extent in self._shape]
            wanted.insert(self._axis, "n")
            msg = (
                f"its shape is {batch.shape}, give elements of shape {self._shape}, or batches of "
                f"shape ({', '.join(wanted)})"
            )
            raise ValueError(msg)
        return rows

    @system_errors(TargetError)
    def _extend(self, elements: Elements) -> None:
        self._begin_writer()
        with self._lock:
            self.refuse_beyond(len(elements))
            begin = 0
            while begin < len(elements) or self._is_closed:
                begin = self.put(elements, begin)
                if self.is_full:
                    self._turn()

    def refuse_beyond(self, n_elements: int) -> None:
        """Refuse elements that the array has no room for."""
        most = self.opened.most
        if most is not None and self._length + n_elements > most:
            msg = (
                f"{n_elements} elements for {self.name}, which has {self._length} and may have "
                f"{most}; write it anew with a larger maxshape"
            )
            raise BlockError(msg)

    @property
    def _length(self) -> int:
        return max(self.opened.length, self._start + self._filled)

    def fit(self, n_elements: int, most_buffers: int) -> None:
        """Use slabs of so many elements from now on, whole rows of chunks, and so many at most."""
        with self._lock:
            self._most_buffers = most_buffers
            if n_elements == self._size:
                return
            self._size = n_elements
            # Buffers of the other size are let go of, as soon as they are written.
            self._free, self._n_made = queue.SimpleQueue(), 0
            if not self._filled:
                return
            n_whole = self._filled // self.opened.unit * self.opened.unit
            if n_whole > self._written:
                self._submit(self._slab(self._start + n_whole, _nothing))
            # What is left is less than a row of chunks, which every slab has room for.
            rest = self._elements[n_whole : self._filled]
            self._start += n_whole
            self._filled = self._room = self._written = 0
            if len(rest):
                super()._begin()
                self.put(rest, 0)
                self._bound_room()

    def hand_over(self) -> bool:
        """Have all written that was appended so far, and let what comes later wait for it."""
        with self._lock:
            length = self._length
            if length == self._told:
                return False
            unit = self.opened.unit
            # What a flush that readers delayed has had written is not written again.
            if self._filled > self._written and length != self._pending:
                self._submit(self._slab(length, _nothing))
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

    def _begin(self) -> None:
        """Take memory to fill, as soon as there is some."""
        super()._begin()
        opened = self.opened
        if opened.head is not None and self._start < opened.length:
            self._filled = opened.length - self._start
            self._elements[: self._filled] = np.moveaxis(opened.head, opened.axis, 0)
        self._bound_room()

    def _bound_room(self) -> None:
        if self.opened.most is not None:
            self._room = min(self._size, self.opened.most - self._start)

    def _buffer(self, wait: float | None = 0) -> Elements:
        self._check()
        if self._n_made >= self._n_buffers:
            # One that was used is in the processor's cache; a new one is taken when the disk does
            # not keep up, so that an acquisition loop need not wait while there is room.
            wait = None if self._n_made >= self._most_buffers else _MOST_WAIT
        block = super()._buffer(wait)
        self._check()
        return block

    def _check(self) -> None:
        if self._is_closed:
            msg = f"{self.name} is closed; open it again with lazyio.writer to go on"
            raise OptionError(msg)
        self._pool.check()

    def _turn(self) -> None:
        """Have the slab that is full written, and begin another when something comes."""
        self._submit(self.turned())

    def _submit(self, slab: Slab) -> None:
        self._pool.submit(self, functools.partial(self._write, slab), slab.give_back)

    def _write(self, slab: Slab, workspace: Workspace) -> None:
        target = self.opened.target
        with self._grow_lock:
            if slab.stop > target.shape[slab.axis]:
                target.grow(self.opened.with_length(slab.stop))
        slab.write(slab.elements, target, workspace, self._gate)


def _nothing() -> None:
    """Do nothing: the memory is still being filled, or not used again."""
