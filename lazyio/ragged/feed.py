"""Rows that come one after the other, taken apart into values, offsets and shapes."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.dtypes import TEXT, Shape, as_dtype
from lazyio.errors import BlockError, OptionError
from lazyio.iterables.elements import as_elements
from lazyio.iterables.items import ENDED, Items
from lazyio.ragged.rows import BATCH_NBYTES, BATCH_ROWS
from lazyio.ragged.runs import Integers
from lazyio.sources.base import Array

_MOST_LOOKED_AT = 1000
"""Rows without elements and without a dtype that come before one that has them."""


@dataclass(frozen=True, kw_only=True)
class RowFacts:
    """What all rows have in common."""

    dtype: np.dtype[Any]
    """Type of an element."""
    item_shape: Shape = ()
    """Extents of an element of a row."""
    n_axes: int = 1
    """Axes of a row of which the extents differ."""
    is_lenient: bool = False
    """Whether numbers are rounded to the dtype, because it was asked for."""

    def as_row(self, row: Any, name: Callable[[], str]) -> Array:
        """Return a row as an array of the dtype; refuse what is none."""
        if _says_nothing(row):
            return np.empty((0,) * self.n_axes + self.item_shape, self.dtype)
        try:
            # Mostly it is one already, where each costs some microseconds.
            is_one = type(row) is np.ndarray and row.dtype == self.dtype
            found = row if is_one else as_elements(row, self.dtype, is_lenient=self.is_lenient)
        except Exception as error:
            msg = f"{name()} is no array of {self.dtype}: {error}"
            raise BlockError(msg) from error
        n_axes = self.n_axes
        if found.ndim != n_axes + len(self.item_shape) or found.shape[n_axes:] != self.item_shape:
            wanted = ", ".join(["n"] * n_axes + list(map(str, self.item_shape)))
            comma = "," if n_axes + len(self.item_shape) == 1 else ""
            msg = f"{name()} has shape {found.shape}; all rows have the shape ({wanted}{comma})"
            raise BlockError(msg)
        return found

    def flat(self, row: Array) -> Array:
        """Return the elements of a row along one axis."""
        return row if self.n_axes == 1 else row.reshape(-1)


def facts_of_rows(first: Any, dtype: Any, item_shape: Shape | None) -> RowFacts:
    """Return what all rows are, from the first of them and from what was asked for."""
    array = np.asarray(first)
    if dtype is None:
        is_text = array.dtype.kind == "U" and not isinstance(first, np.ndarray)
        found = TEXT if is_text else as_dtype(array.dtype)
    else:
        found = as_dtype(dtype)
        found = TEXT if found.kind == "U" and not found.itemsize else found
    n_axes = 1 if item_shape is not None else array.ndim
    if not n_axes:
        msg = "the first row is a single element, no row; give rows with at least one axis"
        raise OptionError(msg)
    return RowFacts(
        dtype=found, item_shape=item_shape or (), n_axes=n_axes, is_lenient=dtype is not None
    )


def _says_nothing(row: Any) -> bool:
    """Return whether a row is an empty list, which is of no dtype."""
    return isinstance(row, (list, tuple)) and not len(row)


class RowStream:
    """Rows that are taken from an iterable, once.

    Parameters
    ----------
    rows : iterable of array-like
        The rows.
    dtype : dtype-like, optional
        Type of an element, where the first row is not to say it.
    item_shape : tuple of int, optional
        Extents of an element of a row, where rows differ along their first axis only.
    """

    def __init__(self, rows: Iterable[Any], *, dtype: Any, item_shape: Shape | None) -> None:
        self._dtype, self._item_shape = dtype, item_shape
        self._items = Items(lambda: iter(rows), "the rows", "row {}")
        self._facts: RowFacts | None = None
        self._head: list[Any] = []

    @property
    def facts(self) -> RowFacts:
        """What all rows are; the first is looked at, and not lost."""
        if self._facts is None:
            self._facts = self._looked_at()
        return self._facts

    def _looked_at(self) -> RowFacts:
        first = self._items.first()
        if self._dtype is None and _says_nothing(first):
            # An empty list is of no dtype; the first row that has elements says it.
            self._items.next(0)
            self._head = [first]
            while len(self._head) < _MOST_LOOKED_AT and _says_nothing(first):
                first = self._items.next(len(self._head))
                if first is ENDED:
                    break
                self._head.append(first)
        if first is ENDED:
            if self._dtype is None:
                msg = "there is no row to take a dtype from; give dtype="
                raise OptionError(msg)
            first = np.empty(0, as_dtype(self._dtype))
        return facts_of_rows(first, self._dtype, self._item_shape)

    def take(self) -> Iterator[Array]:
        """Yield the rows; once."""
        facts = self.facts
        self._items.take()
        at = 0

        def name() -> str:
            return f"row {at}"

        for row in self._head:
            yield facts.as_row(row, name)
            at += 1
        while (row := self._items.next(at)) is not ENDED:
            yield facts.as_row(row, name)
            at += 1


Batch = tuple[Array, Integers, list[Array]]
"""Elements of some rows, how many each of them has, and the rows."""


class Feed:
    """Rows of one iterable as batches of values, offsets and shapes, which are taken in turn.

    Whichever is asked for the next batch takes some rows, and keeps for the others what is
    theirs. So that this stays little, each tells of how many rows its last batch was.

    Parameters
    ----------
    rows : iterable of ndarray
        The rows, as :class:`RowFacts` has them.
    facts : RowFacts
        What they are.
    base : int or None
        Elements that are there already, behind which they go; ``None`` begins the offsets.
    has_shapes : bool
        Whether shapes are asked for.
    """

    def __init__(
        self, rows: Iterable[Array], facts: RowFacts, base: int | None, *, has_shapes: bool
    ) -> None:
        self._batches = self.batches(rows, facts)
        self._base = self._at = base or 0
        self._n_axes = facts.n_axes
        names = ("values", *(("shapes",) if has_shapes else ()), "offsets")
        self.parts = {name: FeedPart(self) for name in names}
        self._n_rows = 0
        if base is None:
            self.parts["offsets"].put(np.zeros(1, np.int64), 0)
        self._is_all = not (self.advance() and self.advance())

    @staticmethod
    def batches(rows: Iterable[Array], facts: RowFacts) -> Iterator[Batch]:
        """Yield some rows at a time, with their elements end to end, and how many each has."""
        waiting = iter(rows)
        while True:
            taken: list[Array] = []
            nbytes = 0
            for row in itertools.islice(waiting, BATCH_ROWS):
                nbytes += max(row.nbytes, row.itemsize)
                # A generator may use the memory of a row for the next one.
                taken.append(row.copy() if nbytes < BATCH_NBYTES else row)
                if nbytes >= BATCH_NBYTES:
                    break
            if not taken:
                return
            flat = [facts.flat(row) for row in taken]
            lengths = np.array([len(row) for row in flat], np.int64)
            yield flat[0] if len(flat) == 1 else np.concatenate(flat), lengths, taken

    def expected(self, name: str, n_rows: int | None) -> int | None:
        """Return how long one of the arrays will be, about, ``None`` where nobody knows.

        All of a few rows are there by now; of more of them the first tell how long they are.
        """
        n_rows = self._n_rows if self._is_all else n_rows
        if n_rows is None:
            return None
        if name == "values":
            n_taken = self._at - self._base
            return -(-n_taken * n_rows // max(1, self._n_rows))
        return n_rows + (name == "offsets")

    def advance(self) -> bool:
        """Take some rows, and return whether there were any."""
        taken = next(self._batches, None)
        if taken is None:
            return False
        values, lengths, rows = taken
        self.parts["values"].put(values, len(rows))
        self.parts["offsets"].put(self._at + np.cumsum(lengths), len(rows))
        self._at += int(lengths.sum())
        self._n_rows += len(rows)
        if "shapes" in self.parts:
            shapes = np.array([row.shape[: self._n_axes] for row in rows], np.int64)
            self.parts["shapes"].put(shapes, len(rows))
        return True


class FeedPart:
    """The batches of one array of a feed, as an iterator."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._waiting: deque[tuple[Array, int]] = deque()
        self.n_rows = 0
        """Of how many rows the last batch was."""

    def put(self, batch: Array, n_rows: int) -> None:
        """Keep a batch until it is asked for."""
        self._waiting.append((batch, n_rows))

    def __iter__(self) -> Iterator[Array]:
        """Return itself."""
        return self

    def __next__(self) -> Array:
        """Return the next batch, which may be empty: rows may be."""
        if not self._waiting and not self._feed.advance():
            raise StopIteration
        batch, self.n_rows = self._waiting.popleft()
        return batch
