"""Public: a numpy-like view of anything, over a bounded window of memory."""

import math
import os
import weakref
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any, Self

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, as_dtype
from lazyio.errors import OptionError, SourceError, UnsupportedDtypeError
from lazyio.execution.dask_arrays import source_of
from lazyio.inputs import recognise
from lazyio.opening.blocks import require_known_shape
from lazyio.options import check_flags, limit_of
from lazyio.os_errors import system_errors
from lazyio.regions import Region
from lazyio.sources.adapters import unwrapped
from lazyio.sources.base import Source
from lazyio.sources.lookup import source_for
from lazyio.windowing.computed import ComputedSource
from lazyio.windowing.engine import Engine
from lazyio.windowing.layout import layout_of
from lazyio.windowing.selection import selection_of
from lazyio.windowing.watch import Watch

Array = npt.NDArray[Any]


class Window:
    """An array that is read through a window of memory; made by :func:`lazyio.window`.

    It is indexed as numpy's arrays are: by integers, slices with any step, an
    ellipsis, and a list of integers or a mask along one axis. What it gives is
    always a copy.
    """

    def __init__(self, source: Source, limit: int, *, prefetch: bool) -> None:
        self._source = source
        self._limit = limit
        self._prefetch = prefetch
        self._shape: Shape = tuple(map(int, source.shape))
        self._dtype = as_dtype(source.dtype)
        self._layout = layout_of(source, limit)
        self._rows = self._layout.grid.axes[0].largest if self._layout.grid.is_rows else 0
        row_nbytes = self._dtype.itemsize * math.prod(self._shape[1:])
        self._most_rows = _SHORT_NBYTES // max(1, row_nbytes)
        self._is_closed = False
        self._begin()
        _WINDOWS.add(self)

    def _begin(self) -> None:
        """Start with nothing in memory, as in a child of a fork."""
        self._engine = Engine(self._source, self._layout, prefetch=self._prefetch)
        self._cells = self._engine.cells
        self._watch = Watch.of(self._source)
        self._end = weakref.finalize(self, self._engine.close)

    @system_errors(SourceError)
    def _prepare(self) -> None:
        """Open files now, so that the first read need not."""
        self._engine.prepare()

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.size * self._dtype.itemsize

    @property
    def limits(self) -> Region:
        """The part around what was read last that is in memory, as one slice for each axis."""
        return self._engine.held_box()

    @property
    def hits(self) -> int:
        """Reads that memory had everything for."""
        return self._engine.hits

    @property
    def misses(self) -> int:
        """Reads that had to wait for the source."""
        return self._engine.misses

    @property
    def nbytes_read(self) -> int:
        """Bytes of elements that were read from the source, also ahead."""
        return self._engine.cells.nbytes_read

    def close(self) -> None:
        """Let go of memory, threads and files; nothing can be read any more."""
        self._is_closed = True
        self._end()
        self._engine.crew.join()

    def __len__(self) -> int:
        if not self._shape:
            msg = "a window of an array without axes has no length"
            raise TypeError(msg)
        return self._shape[0]

    def __iter__(self) -> Iterator[Any]:
        for row in range(len(self)):
            yield self[row]

    def __getitem__(self, key: Any) -> Any:
        """Return a part as an array of its own, or one element."""
        # Consecutive batches are taken from one cell, without a lock and without a call.
        if type(key) is slice and (near := self._cells.near) is not None and key.step is None:
            low, high, rows, number = near
            start, stop = key.start, key.stop
            if type(start) is int and type(stop) is int and low <= start < stop <= high:
                taken = rows[start - low : stop - low].copy()
                if monotonic() > self._watch.due:
                    self._watch.check()
                # Where another thread took its memory meanwhile, the copy is worth nothing.
                if self._cells.seen.get(number) is near:
                    engine = self._engine
                    engine.hits += 1
                    engine.latest, engine.last_start, engine.last_stop = number, start, stop
                    return taken
        found = self._at_once(key) if self._rows else None
        return self._read(key) if found is None else found

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several rows, in one read: torch's ``DataLoader`` asks for a batch so."""
        return list(self[list(indices)])

    @system_errors(SourceError)
    def _read(self, key: Any) -> Any:
        """Return any part."""
        if self._is_closed:
            msg = "the window has been closed; open it again with lazyio.window"
            raise SourceError(msg)
        selection = selection_of(key, self._shape)
        self._watch.check_if_due()
        return selection.result(self._engine.read(selection))

    def _at_once(self, key: Any) -> Any:
        """Return rows that lie in one cell which was used before, ``None`` for anything else.

        A batch from memory takes a few microseconds so, of which most go to the copy.
        """
        rows, step = key, 1
        rest: tuple[Any, ...] = ()
        if type(key) is tuple and key and all(type(part) in _BASIC for part in key):
            rows, rest = key[0], key[1:]
        if type(rows) is slice:
            start, stop, step = rows.start, rows.stop, rows.step
            step = 1 if step is None else step
            if type(start) is not int or type(stop) is not int or type(step) is not int:
                return None
        elif type(rows) is int:
            start, stop = rows, rows + 1
        elif type(rows) is list or type(rows) is np.ndarray:
            return self._listed_at_once(rows)
        else:
            return None
        if not (0 <= start < stop and step > 0 and stop - start <= self._most_rows):
            return None
        engine = self._engine
        number = start // self._rows
        # Short copies are made under the lock, where no other thread takes the cell's memory.
        with engine.cells.lock:
            held = engine.cells.touch(number)
            if held is not None and stop > held[1]:
                held = None
            if held is not None:
                found = _taken(held[2], start - held[0], stop - held[0], rows, rest)
                if found is not None:
                    engine.hits += 1
                    engine.latest, engine.last_start, engine.last_stop = number, start, stop
        if held is not None:
            self._watch.check_if_due()
            return found
        found = None if rest else engine.rows_past(start, stop, step)
        if found is None or not self._is_as_it_was():
            return None
        return found[0] if type(rows) is int else found

    def _is_as_it_was(self) -> bool:
        """Return whether the window is still open, and raise where a file has changed.

        The number of a file that was closed meanwhile may be that of another by now.
        """
        self._watch.check()
        return not self._is_closed

    def _listed_at_once(self, key: Any) -> Any:
        """Return the rows of a list that lie in such cells, or that are as quick to read."""
        try:
            rows = np.asarray(key)
        except ValueError:
            return None
        most = min(_MOST_LISTED, self._most_rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not 0 < rows.size <= most:
            return None
        engine, per_cell = self._engine, self._rows
        out: Array = np.empty((rows.size, *self._shape[1:]), self._dtype)
        missing: list[tuple[int, int]] = []
        with engine.cells.lock:
            for at, row in enumerate(rows.tolist()):
                held = engine.cells.touch(row // per_cell)
                if held is None or row >= held[1]:
                    missing.append((at, row))
                else:
                    out[at] = held[2][row - held[0]]
            engine.hits += not missing
        if not missing:
            self._watch.check_if_due()
        elif not (engine.each_row_past(missing, out) and self._is_as_it_was()):
            return None
        return out

    def __array__(self, dtype: npt.DTypeLike | None = None, *, copy: bool | None = None) -> Array:
        """Return all of it in memory, as numpy asks for it."""
        if copy is False:
            msg = "a window's elements are in a file; numpy.asarray(window) makes a copy of them"
            raise ValueError(msg)
        found: Array = np.asarray(self[...])
        return found if dtype is None else found.astype(dtype, copy=False)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<lazyio window: shape {self._shape}, {self._dtype}>"

    def __reduce__(self) -> Any:
        return _arrived, (self._source, self._limit, self._prefetch)


_BASIC = (slice, int, type(...))
"""Parts of an index that numpy takes as views."""
_MOST_LISTED = 1024
"""Rows of a list that are copied one by one; more are sorted by their cells first."""
_SHORT_NBYTES = 512 * 2**10
"""That are copied while other threads wait, and from a file without a thought."""


def _taken(cell: Array, start: int, stop: int, rows: Any, rest: tuple[Any, ...]) -> Any:
    """Return a copy of rows of a cell, or of parts of them, ``None`` where there are none such."""
    inside = start if type(rows) is int else slice(start, stop, rows.step)
    try:
        found: Any = cell[(inside, *rest)] if rest else cell[inside]
    except IndexError:
        return None
    # A record is a view as well.
    return found if isinstance(found, str) else found.copy()


def _arrived(source: Source, limit: int, prefetch: bool) -> Window:
    """Return a window that was sent: nothing in memory, no thread and no open file."""
    return Window(source, limit, prefetch=prefetch)


def window(
    obj: Any, key: str | None = None, *, memory_limit: int | str = "256 MiB", prefetch: bool = True
) -> Window:
    """Return a numpy-like view of anything, through a bounded window of memory.

    Parts that were read stay in memory while there is room, and what is likely
    to be read next is read ahead by threads: for minibatches forward, backward,
    in steps, in shuffled blocks or at random.

    Parameters
    ----------
    obj : path-like, array-like, dask array or Source
        Anything that :func:`open` takes. For options of its format give
        ``lazyio.open(path, ...)``.
    key : str, optional
        Path of the array inside it; not needed where there is only one.
    memory_limit : int or str
        Bytes for everything that the window holds: parts in memory, those that
        are read ahead, and what decodes them. What it gives is a copy, and
        yours. ``"auto"`` is half of what is free.
    prefetch : bool
        Whether to read ahead.

    Returns
    -------
    Window
        With ``shape``, ``dtype``, ``ndim``, ``size``, ``nbytes`` and ``len()``,
        indexed as a numpy array. ``limits`` is the part around the last read
        that is in memory, ``hits`` and ``misses`` count reads that it had, and
        had not, everything for; ``nbytes_read`` is what was read from the source.
        It is closed by ``close()`` or at the end of a ``with`` block, is safe in
        threads, and travels to another process as its paths.

    Raises
    ------
    PlanError
        When a chunk of the source does not fit ``memory_limit``.
    SourceError, UnknownFormatError, OptionError
        As :func:`open` does; ``SourceChangedError`` by a read of a file that has changed.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> np.save("images.npy", np.arange(1000).reshape(250, 4))
    >>> with lazyio.window("images.npy") as images:
    ...     for start in range(0, len(images), 50):
    ...         batch = images[start : start + 50]
    >>> batch.shape, batch[-1].tolist()
    ((50, 4), [996, 997, 998, 999])
    """
    check_flags(prefetch=prefetch)
    made = Window(_source_of(obj, key), limit_of(memory_limit), prefetch=prefetch)
    made._prepare()
    return made


@system_errors(SourceError)
def _source_of(obj: Any, key: str | None) -> Source:
    given, key = unwrapped(obj, key)
    if not isinstance(given, da.Array):
        return source_for(given, key)
    if key is not None:
        msg = f"key={key!r} is for files and groups; a dask array is one array"
        raise OptionError(msg)
    require_known_shape(given)
    recognise(given)  # Refuses blocks that are no plain arrays.
    if isinstance(given._meta, np.ma.MaskedArray):
        msg = (
            "the dask array's blocks are masked, and a window gives plain arrays; fill the gaps "
            "first, with dask.array.ma.filled(array, value)"
        )
        raise UnsupportedDtypeError(msg)
    return source_of(given) or ComputedSource(array=given)


_WINDOWS: "weakref.WeakSet[Window]" = weakref.WeakSet()
"""Those of this process, of which a child gets copies when it is forked."""


def _pause_all() -> None:
    for one in list(_WINDOWS):
        one._engine.crew.pause()


def _resume_all() -> None:
    for one in list(_WINDOWS):
        one._engine.crew.resume()


def _begin_all() -> None:
    for one in list(_WINDOWS):
        one._end.detach()
        one._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_begin_all)
