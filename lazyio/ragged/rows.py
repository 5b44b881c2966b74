"""Where rows come from: values with an index, or a list of arrays; read by their numbers."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from dask.system import CPU_COUNT

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, nbytes_of
from lazyio.execution.threads import pull
from lazyio.options import default_workers
from lazyio.ragged.index import Index
from lazyio.ragged.runs import Integers, Run, runs_of
from lazyio.ragged.stretches import Read, Stretches
from lazyio.sources.base import Array, Source

BATCH_NBYTES = 2**20
"""Of rows that are taken together, unless one is larger."""
BATCH_ROWS = 2**14
"""How many of them at most."""

_THREAD_NBYTES = 2**20
"""Of chunks that are decoded, for which another thread is worth its beginning."""


class RowReader(Protocol):
    """Rows that can be read in any order."""

    @property
    def n_rows(self) -> int:
        """How many there are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    @property
    def item_shape(self) -> Shape:
        """Extents of an element of a row, the same in all rows."""

    @property
    def n_axes(self) -> int:
        """Axes of a row of which the extents differ."""

    def one(self, number: int) -> Array:
        """Return a row, of which the number is not out of range."""

    def read(self, numbers: Integers) -> list[Array]:
        """Return rows, in the order of the numbers, of which none is out of range."""

    def spans(self, nbytes: int) -> Iterator[tuple[int, int]]:
        """Yield numbers of the first row, and of one beyond the last, of about so many bytes."""


def cut_rows(sizes: Integers, start: int, nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of rows that are taken together, of the bytes of each from some row on.

    Examples
    --------
    >>> list(cut_rows(np.array([3, 3, 9, 0]), 10, nbytes=6))
    [(10, 12), (12, 13), (13, 14)]
    """
    total = np.concatenate([[0], np.cumsum(sizes)])
    at = 0
    while at < len(sizes):
        end = int(np.searchsorted(total, total[at] + nbytes, "right")) - 1
        end = max(at + 1, end)
        yield start + at, start + end
        at = end


@dataclass(frozen=True, kw_only=True)
class IndexedRows:
    """Rows that lie end to end in an array."""

    values: Source
    """Elements of all rows, along the first axis."""
    index: Index
    """Which of them are of which row."""

    @property
    def n_rows(self) -> int:
        """How many there are."""
        return self.index.n_rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.values.dtype

    @property
    def item_shape(self) -> Shape:
        """Extents of an element of a row."""
        return self.values.shape[1:]

    @property
    def n_axes(self) -> int:
        """Axes of a row of which the extents differ."""
        shapes = self.index.shapes
        return 1 if shapes is None else shapes.shape[1]

    @property
    def item_nbytes(self) -> int:
        """Bytes of an element of a row, at least 1."""
        return max(1, nbytes_of(self.item_shape, self.dtype))

    @cached_property
    def _stretches(self) -> Stretches:
        return Stretches(values=self.values)

    def read(self, numbers: Integers) -> list[Array]:
        """Return rows, read in few long runs."""
        if len(numbers) == 1:
            return [self.one(int(numbers[0]))]
        bounds = self.index.bounds(numbers)
        empty = np.empty((0, *self.item_shape), self.dtype)
        rows: list[Array] = [empty] * len(numbers)
        chunk_length = self._stretches.chunk_length
        runs = list(
            runs_of(
                bounds.starts,
                bounds.stops,
                itemsize=self.item_nbytes,
                chunk_length=chunk_length,
            )
        )

        def take(several: list[Run], workspace: Workspace) -> None:
            with self._stretches.reading() as read:
                for run in several:
                    starts, stops = bounds.starts[run.rows], bounds.stops[run.rows]
                    self._take(read, run, starts, stops, rows, workspace)

        nbytes = self.item_nbytes * sum(run.n_decoded(chunk_length or 1) for run in runs)
        n_threads = min(default_workers(), CPU_COUNT, len(runs), nbytes // _THREAD_NBYTES)
        if chunk_length is None or n_threads < 2:
            take(runs, Workspace())
        else:
            cuts = [len(runs) * at // n_threads for at in range(n_threads + 1)]
            parts = [runs[begin:end] for begin, end in itertools.pairwise(cuts)]
            pull(parts, take, n_threads=n_threads)
        if bounds.shapes is None:
            return [row if len(row) else row.copy() for row in rows]
        shapes = bounds.shapes.tolist()
        inner = self.item_shape
        return [row.reshape((*shape, *inner)) for row, shape in zip(rows, shapes, strict=True)]

    def one(self, number: int) -> Array:
        """Return a row, without what it takes to sort out several."""
        start, stop, shape = self.index.row(number)
        inner = self.item_shape
        if start == stop:
            return np.empty(((0,) if shape is None else shape) + inner, self.dtype)
        row = self._stretches.one(start, stop)
        return row if shape is None else row.reshape(shape + inner)

    def _take(
        self,
        read: Read,
        run: Run,
        starts: Integers,
        stops: Integers,
        rows: list[Array],
        workspace: Workspace,
    ) -> None:
        """Put the rows of a run into their places, in memory that no two of them share."""
        start, stop = run.start, run.stop
        is_shared = bool((starts[1:] < stops[:-1]).any())
        # A row must not keep much more in memory than itself and its neighbours.
        copies = is_shared or 2 * int((stops - starts).sum()) < stop - start
        length = self._stretches.chunk_length
        if copies and length is not None and not run.is_followed:
            # Whole chunks are decoded straight into place.
            start = start // length * length
            stop = min(self.values.shape[0], -(-stop // length) * length)
        room = None
        if copies and not self.dtype.hasobject:
            room = workspace.array("run", (stop - start, *self.item_shape), self.dtype)
        block = read(start, stop, room, keeps=run.is_followed)
        copies = copies or not block.flags.writeable
        begins, ends = (starts - start).tolist(), (stops - start).tolist()
        for row, begin, end in zip(run.rows.tolist(), begins, ends, strict=True):
            rows[row] = block[begin:end].copy() if copies else block[begin:end]

    def spans(self, nbytes: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of rows that are taken together."""
        start = 0
        while start < self.n_rows:
            stop = min(self.n_rows, start + BATCH_ROWS)
            lengths = self.index.read(start, stop).lengths
            yield from cut_rows(lengths * self.item_nbytes, start, nbytes)
            start = stop


@dataclass(frozen=True, kw_only=True)
class ListedRows:
    """Rows that are arrays in memory."""

    rows: Sequence[Array]
    """The arrays, each of the dtype."""
    dtype: np.dtype[Any]
    item_shape: Shape = ()
    n_axes: int = 1

    @property
    def n_rows(self) -> int:
        """How many there are."""
        return len(self.rows)

    def one(self, number: int) -> Array:
        """Return a copy of a row."""
        return self.rows[number].copy()

    def read(self, numbers: Integers) -> list[Array]:
        """Return copies of rows."""
        return [self.rows[number].copy() for number in numbers.tolist()]

    def spans(self, nbytes: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of rows that are taken together."""
        start = held = 0
        for number, row in enumerate(self.rows):
            held += max(1, row.nbytes)
            if held >= nbytes or number + 1 - start == BATCH_ROWS:
                yield start, number + 1
                start, held = number + 1, 0
        if start < self.n_rows:
            yield start, self.n_rows
