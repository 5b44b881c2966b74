"""How a window reads: from cells in memory, from cells loaded now, or past them."""

import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import nbytes_of
from lazyio.errors import SourceError
from lazyio.execution.dask_arrays import read_block
from lazyio.os_errors import system_errors
from lazyio.regions import Region, box_shape
from lazyio.sources.base import ReadsRows, Source, Watched, fills_memory, lies_in_rows
from lazyio.windowing.cells import Cells
from lazyio.windowing.crew import Crew
from lazyio.windowing.errands import Errands
from lazyio.windowing.grid import Places
from lazyio.windowing.habit import Box, Habit, box_around
from lazyio.windowing.layout import Layout
from lazyio.windowing.runs import Run, runs_of
from lazyio.windowing.selection import Positions, Selection
from lazyio.windowing.sessions import Sessions

Array = npt.NDArray[Any]
Item = TypeVar("Item")

_LONG_NBYTES = 256 * 2**10
"""From here on, rows of a file are read straight into the result."""
_PIECE_NBYTES = 4 * 2**20
"""Of what is read past the cells, by each of several threads."""
_CELLS_AHEAD = 4
"""That the system is told of."""
_DENSE = 4
"""Part of its cells, one in so many, from which on a read loads them whole."""
_FEW_NBYTES, _FEW_CELLS = 2 * 2**20, 2
"""That are held of what the system's cache holds as well, whichever is more."""
_PASSING_NBYTES, _PASSING_CELLS = 8 * 2**20, 10
"""That are held of what passes by and does not fit as a whole, with what is read ahead of it."""
_MOST_GUESSED = 64
"""Cells of a read, beyond which there is no room to guess the next one."""


class Engine:
    """Everything of a window that belongs to one process: cells, threads and open files."""

    def __init__(self, source: Source, layout: Layout, *, prefetch: bool) -> None:
        self.source = source
        self.layout = layout
        self.hits = 0
        self.misses = 0
        self.latest: int | None = None
        """The cell of rows that was read last, where that was one in memory."""
        self._recent: Region | None = None
        self.last_start = self.last_stop = -1
        """Of the rows that were read last, however."""
        self._before = -1, -1
        """Those of the read before, where it went past the habit."""
        self._has_jumped = False
        """Whether rows went past it that did not follow those before them."""
        self.sessions = Sessions(source, layout.n_loads)
        self._rows: ReadsRows | None = None
        self._told: set[int] = set()
        """Cells that the system was told to read ahead."""
        self._fills = fills_memory(source)
        self._watched = source if isinstance(source, Watched) else None
        self.cells = Cells(
            layout.grid,
            self._load,
            itemsize=source.dtype.itemsize,
            room=layout.room,
            decode_nbytes=layout.decode_nbytes,
            n_loads=layout.n_loads,
            is_resident=layout.is_resident,
            buffer_nbytes=layout.cell_nbytes if self._fills else 0,
        )
        self.crew = Crew(layout.n_threads, self.cells.load_ahead)
        self._prefetches = prefetch
        self._habit = Habit()
        self._habit_lock = threading.Lock()
        self._touches: dict[int, int] = {}
        self._most_touches = layout.most_touches
        self._units_per_cell = layout.units_per_cell
        nbytes = nbytes_of(source.shape, source.dtype)
        self._is_too_large = nbytes > layout.room
        self._in_rows = lies_in_rows(source)

    def close(self) -> None:
        """Let go of everything."""
        self.crew.stop()
        self._rows = None
        self.cells.clear()
        self.sessions.close()

    def prepare(self) -> None:
        """Open what is to be open for all reads."""
        if self._rows is None and self.layout.grid.is_rows:
            row_nbytes = self.source.dtype.itemsize * math.prod(self.source.shape[1:])
            self._rows = self.sessions.rows(row_nbytes)
            self.cells.passing_nbytes = self._passing_nbytes

    def read(self, selection: Selection) -> Array:
        """Return the elements of a selection, in memory of their own."""
        out: Array = np.empty(selection.box_shape, self.source.dtype)
        self.prepare()
        if not out.size:
            self._count(is_hit=True)
            return out
        region = _as_region(selection)
        if region is not None and self._is_long(out.nbytes):
            self._count(is_hit=False)
            self._read_long(region, out)
            return out
        parts = self.layout.grid.split(selection.axes)
        wanted: dict[int, Places] = {
            self.layout.grid.number([cell for cell, _, _ in places]): places
            for places in itertools.product(*parts)
        }
        self._note(selection, len(wanted))
        missing = self._copy_present(wanted, out)
        self._count(is_hit=not missing)
        self.latest = None
        self._recent = tuple(
            slice(min(cell for cell, _, _ in along), max(cell for cell, _, _ in along) + 1)
            for along in parts
        )
        if missing and self.layout.is_coarse and self._is_sparse(selection, len(wanted)):
            missing = self._read_past(missing, out, region if len(missing) == len(wanted) else None)
        if missing:
            self._load_all(missing, out)
        return out

    @system_errors(SourceError)
    def rows_past(self, start: int, stop: int, step: int) -> Array | None:
        """Return rows that no cell in memory has, ``None`` where that is not as quick as it gets.

        They are read past the cells. Rows that go on from those before them are better read with
        what follows: where they lie as they are in a file, with the rest of their cell, here and
        now, for the system has read on already.
        """
        is_next, goes_back = start == self.last_stop, stop == self.last_start
        self._before = self.last_start, self.last_stop
        self.last_start, self.last_stop = start, stop
        if self._rows is None or stop > self.source.shape[0]:
            return None
        if step == 1 and (is_next or goes_back):
            return self._rows_of_next(start, stop, is_next) if self._rows.is_plain else None
        number = self.layout.grid.axes[0].cell_at(start)
        if not self._rows.is_plain and self._is_worth_loading(number):
            return None
        count = (stop - start + step - 1) // step
        out: Array = np.empty((count, *self.source.shape[1:]), self.source.dtype)
        if not self._rows.read_rows(start, out, step):
            return None
        self._has_jumped = True
        with self.cells.lock:
            self.misses += 1
            self.cells.nbytes_read += out.nbytes
        return out

    def _rows_of_next(self, start: int, stop: int, is_forward: bool) -> Array | None:
        """Return rows of a cell that is loaded now, ``None`` where they lie in two."""
        axis = self.layout.grid.axes[0]
        number = axis.cell_at(start)
        if stop > axis.bounds(number)[1]:
            return None
        if self._prefetches:
            step = 1 if is_forward else -1
            ahead = range(number, number + step * (_CELLS_AHEAD + 1), step)[1:]
            self._have_read_ahead([one for one in ahead if 0 <= one < len(axis)])
        self.cells.pin(number)
        try:
            with self.cells.lock:
                held = self.cells.touch(number)
                self.misses += 1
            self.latest = number
            return None if held is None else held[2][start - held[0] : stop - held[0]].copy()
        finally:
            self.cells.unpin([number])

    @system_errors(SourceError)
    def each_row_past(self, rows: Sequence[tuple[int, int]], out: Array) -> bool:
        """Fill rows of ``out``, each read past the cells; return whether all of them were there."""
        found = self._rows
        if found is None or not self._are_apart([row for _, row in rows], found):
            return False
        if not all(
            0 <= row < self.source.shape[0] and found.read_rows(row, out[at : at + 1])
            for at, row in rows
        ):
            return False
        with self.cells.lock:
            self.misses += 1
            self.cells.nbytes_read += len(rows) * out[:1].nbytes
        return True

    def _are_apart(self, rows: Sequence[int], reads: ReadsRows) -> bool:
        """Return whether rows are best read one by one: not many in a chunk, or often in a cell."""
        if reads.is_plain:
            return True
        unit, axis = self.layout.unit[0], self.layout.grid.axes[0]
        if not reads.is_serial and 2 * len({row // unit for row in rows}) < len(rows):
            return False
        return not any(self._is_worth_loading(axis.cell_at(row)) for row in rows)

    def _is_worth_loading(self, number: int) -> bool:
        """Return whether a cell is read from so often that it is better held, and there is room."""
        touches = self._touches[number] = self._touches.get(number, 0) + 1
        return touches > self._most_touches and self.cells.fits(self.layout.cell_nbytes)

    def held_box(self) -> Region:
        """Return the largest box of cells in memory around what was read last."""
        held, grid = self.cells.numbers(), self.layout.grid
        recent = self._recent
        if (row := self.latest) is not None:
            recent = (slice(row, row + 1), *(slice(0, 1) for _ in grid.counts[1:]))
        if recent is None or not _all_held(grid, recent, held):
            return (slice(0, 0),) * len(grid.axes)
        box = list(recent)
        for axis, count in enumerate(grid.counts):
            for step in (-1, 1):
                while True:
                    at = box[axis].start - 1 if step < 0 else box[axis].stop
                    layer = (*box[:axis], slice(at, at + 1), *box[axis + 1 :])
                    if not 0 <= at < count or not _all_held(grid, layer, held):
                        break
                    low, high = box[axis].start, box[axis].stop
                    box[axis] = slice(min(low, at), max(high, at + 1))
        return tuple(
            slice(axis.bounds(cells.start)[0], axis.bounds(cells.stop - 1)[1])
            for axis, cells in zip(grid.axes, box, strict=True)
        )

    @property
    def _is_in_system(self) -> bool:
        """Whether rows lie as they are in a file, which the system's cache holds."""
        return self._rows is not None and self._rows.is_plain

    @property
    def _passing_nbytes(self) -> int | None:
        """Bytes that are held while reads pass by in order, ``None`` where they do not.

        Memory that is used again early is still in the processor's cache.
        """
        if self._is_in_system:
            return max(_FEW_NBYTES, _FEW_CELLS * self.layout.cell_nbytes)
        if self._is_too_large and self._habit.is_sure:
            return max(_PASSING_NBYTES, _PASSING_CELLS * self.layout.cell_nbytes)
        return None

    def _count(self, *, is_hit: bool) -> None:
        with self.cells.lock:
            self.hits += is_hit
            self.misses += not is_hit

    def _load(self, region: Region, buffer: Array | None) -> Array:
        """Return a cell, read now, in a buffer where there is one."""
        out = None
        if buffer is not None:
            shape, dtype = box_shape(region), self.source.dtype
            out = buffer[: nbytes_of(shape, dtype)].view(dtype).reshape(shape)
        if out is not None and self._is_read_at_once(region[0].start, out):
            return out
        with self.sessions.reader() as reader:
            return self._fill(reader, region, out)

    def _is_read_at_once(self, start: int, out: Array) -> bool:
        """Return whether a cell of rows that lie as they are was filled, with little ado."""
        rows = self._rows
        if rows is None or not rows.is_plain or self._watched is None:
            return False
        # The number of a file that was closed meanwhile may be that of another by now.
        if not rows.read_rows(start, out) or self._rows is not rows:
            return False
        self._watched.require_unchanged()
        return True

    def _fill(self, reader: Any, region: Region, out: Array | None) -> Array:
        if reader is self.source or out is None:
            return read_block(self.source, region, out)
        reader.read_into(region, out)
        return out

    def _note(self, selection: Selection, n_cells: int) -> None:
        """Take note of what is read, and have read ahead what is likely to follow."""
        if n_cells > _MOST_GUESSED or self.layout.is_resident:
            return
        layout = self.layout
        with self._habit_lock:
            before, self._before = self._before, (-1, -1)
            if before[0] >= 0:
                self._habit.overtake(before)
            has_jumped, self._has_jumped = self._has_jumped, False
            if has_jumped:
                self._habit.jump()
            box = box_around(selection.axes)
            share = 1.0 if box is None else _share_of(selection, box)
            self._habit.note(layout.grid, box, share)
            self.cells.passing_nbytes = self._passing_nbytes
            is_serial = self._rows is not None and self._rows.is_serial
            is_blind = has_jumped or (layout.is_coarse and not self._habit.is_dense)
            if is_serial or is_blind or not self._prefetches:
                return
            count = n_cells
            if self._habit.is_sure:
                count = 2 * max(n_cells, layout.n_threads)
            # Half of the room at most, or what is read ahead would push itself out.
            most = layout.room // 2 // max(1, layout.cell_nbytes)
            ahead = list(self._habit.ahead(layout.grid, max(1, min(count, most))))
        self._have_read_ahead(self.cells.absent(ahead))

    def _have_read_ahead(self, numbers: Sequence[int]) -> None:
        """Have cells read by the system where that can, else by threads."""
        if numbers and not self._system_reads_ahead(numbers):
            self.crew.read_ahead(numbers)

    def _system_reads_ahead(self, numbers: Sequence[int]) -> bool:
        """Leave reading ahead to the system where its cache is as good as memory of ours."""
        rows = self._rows
        if rows is None or not rows.is_plain:
            return False
        told, self._told = self._told, set(numbers)
        untold = [self.layout.grid.region(number)[0] for number in self._told - told]
        if not all(rows.will_need(one.start, one.stop) for one in untold):
            self._told = set()
        return bool(self._told)

    def _copy_present(self, wanted: dict[int, Places], out: Array) -> dict[int, Places]:
        """Copy from cells in memory, and return what is missing."""
        present = self.cells.pin_present(wanted)
        try:
            for number, cell in present.items():
                _copy(cell, wanted[number], out)
        finally:
            self.cells.unpin(present)
        return {number: places for number, places in wanted.items() if number not in present}

    def _load_all(self, missing: dict[int, Places], out: Array) -> None:
        """Load cells and copy from each, several at a time."""

        def work(item: tuple[int, Places]) -> None:
            number, places = item
            cell = self.cells.pin(number)
            try:
                _copy(cell, places, out)
            finally:
                self.cells.unpin([number])

        self._share_out(missing.items(), work)

    def _is_long(self, nbytes: int) -> bool:
        """Return whether a read goes past the cells: they would be copied for nothing."""
        if not self._fills:
            return False
        return nbytes > self.layout.room // 2 or (self._in_rows and nbytes >= _LONG_NBYTES)

    def _read_long(self, region: Region, out: Array) -> None:
        """Fill ``out`` straight from the source, several pieces at a time."""

        def work(piece: tuple[Region, Array]) -> None:
            wanted, part = piece
            with self.cells.reading_past(part.nbytes):
                is_rows = box_shape(wanted[1:]) == self.source.shape[1:]
                if is_rows and self._is_read_at_once(wanted[0].start, part):
                    return
                with self.sessions.reader() as reader:
                    self._fill(reader, wanted, part)

        self._share_out(list(_pieces(region, out, self.source.chunk_shape)), work)

    def _share_out(self, items: Collection[Item], work: Callable[[Item], None]) -> None:
        """Work on items, with the help of other threads where that is any."""
        if self._rows is not None and self._rows.is_serial:
            for item in items:
                work(item)
        else:
            Errands(items, work).run(self.crew)

    def _is_sparse(self, selection: Selection, n_cells: int) -> bool:
        """Return whether a read decodes little of its cells, and nothing speaks for the rest."""
        if self._habit.is_dense:
            return False
        n_units = 1.0
        for wanted, unit in zip(selection.axes, self.layout.unit, strict=True):
            n_units *= _n_units(wanted, unit)
        return n_units * _DENSE < n_cells * self._units_per_cell

    def _read_past(
        self, missing: dict[int, Places], out: Array, region: Region | None
    ) -> dict[int, Places]:
        """Read parts of cells without loading those, and return the cells that are to be."""
        left: dict[int, Places] = {}
        past: list[Run] = []
        for number, places in missing.items():
            if self._is_worth_loading(number):
                runs = None
            else:
                runs = runs_of(self.layout.grid.region(number), places, self.layout.unit, out)
            if runs is None:
                left[number] = places
            else:
                past += runs
        if region is not None and not left and self._fills and len(missing) > 1:
            # Longer reads than one for each cell.
            self._read_long(region, out)
            return {}
        with self.sessions.reader() as reader:
            for run in past:
                self._read_run(reader, run, out)
        return left

    def _read_run(self, reader: Any, run: Run, out: Array) -> None:
        shape = box_shape(run.region)
        if self._rows is not None and run.is_whole and shape[1:] == self.source.shape[1:]:
            with self.cells.reading_past(nbytes_of(shape, out.dtype)):
                if self._rows.read_rows(run.region[0].start, out[run.where]):
                    return
        with self.cells.reading_past(nbytes_of(shape, out.dtype)):
            if run.is_whole and self._fills and out[run.where].flags.c_contiguous:
                self._fill(reader, run.region, out[run.where])
                return
            held = np.empty(shape, out.dtype) if self._fills else None
            out[run.where] = self._fill(reader, run.region, held)[run.taken]


def _n_units(wanted: Positions, unit: int) -> int:
    """Return how many boxes of some extent positions along an axis lie in."""
    if not isinstance(wanted, range):
        return len(np.unique(wanted // unit))
    low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
    return min(len(wanted), high // unit - low // unit + 1)


def _share_of(selection: Selection, box: Box) -> float:
    """Return the part of a box that is selected."""
    size = math.prod(high - low for low, high in box)
    return math.prod(selection.box_shape) / max(1, size)


def _as_region(selection: Selection) -> Region | None:
    """Return a selection as a region, if it is one."""
    found = []
    for wanted in selection.axes:
        if not isinstance(wanted, range) or (wanted.step != 1 and len(wanted) > 1):
            return None
        found.append(slice(wanted[0], wanted[-1] + 1))
    return tuple(found)


def _all_held(grid: Any, box: Region, held: set[int]) -> bool:
    cells = itertools.product(*(range(part.start, part.stop) for part in box))
    return all(grid.number(index) in held for index in cells)


def _copy(cell: Array, places: Places, out: Array) -> None:
    """Copy what is wanted of a cell to where it goes."""
    if not places:
        out[...] = cell
        return
    out[tuple(where for _, _, where in places)] = cell[tuple(taken for _, taken, _ in places)]


def _pieces(
    region: Region, out: Array, chunk_shape: tuple[int, ...] | None
) -> Iterator[tuple[Region, Array]]:
    """Cut a region along its first axis, between chunks, into parts that lie in one run each."""
    axis = next((at for at, part in enumerate(region) if part.stop - part.start > 1), None)
    if axis is None:
        yield region, out
        return
    whole = region[axis]
    unit = 1 if chunk_shape is None else chunk_shape[axis]
    row_nbytes = max(1, out.nbytes // (whole.stop - whole.start))
    step = max(1, _PIECE_NBYTES // (row_nbytes * unit)) * unit
    for start in range(whole.start // step * step, whole.stop, step):
        low, high = max(start, whole.start), min(start + step, whole.stop)
        place = (slice(None),) * axis + (slice(low - whole.start, high - whole.start),)
        yield (*region[:axis], slice(low, high), *region[axis + 1 :]), out[place]
