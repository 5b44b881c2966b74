"""The index of ragged rows: where each of them begins and ends, and its shape."""

from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from lazyio.errors import DamagedDataError, LazyioError, OptionError
from lazyio.ragged.recent import Recent
from lazyio.ragged.runs import Integers
from lazyio.sources.base import Array, Source

MOST_AXES = 32
_BLOCK_ROWS = 8192
"""Rows of an index without chunks that are read at once."""
_MOST_BLOCK_ROWS = 2**16
_MOST_ROWS = 2**20
"""Rows of an index that are looked at at once, where all are looked at."""
_RECENT_NBYTES = 2**24
"""Of the blocks of an index that are kept."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Where some rows lie among the values, and their shapes."""

    starts: Integers
    """First element of each row."""
    stops: Integers
    """One beyond its last."""
    shapes: Integers | None = None
    """Extents of each row, where rows have more than one axis."""

    @property
    def lengths(self) -> Integers:
        """Elements of each row."""
        return self.stops - self.starts

    def at(self, positions: Any) -> "Bounds":
        """Return those of some of the rows."""
        shapes = None if self.shapes is None else self.shapes[positions]
        return Bounds(starts=self.starts[positions], stops=self.stops[positions], shapes=shapes)


@dataclass(frozen=True, kw_only=True)
class Index:
    """Offsets, or pairs of start and stop, with shapes where rows have them."""

    offsets: Source
    """One more than there are rows; or, of shape ``(n, 2)``, start and stop of each."""
    shapes: Source | None = None
    """Extents of each row, of shape ``(n, axes)``."""
    n_values: int
    """Elements along the first axis of the values."""
    name: str = "the offsets"
    """What errors call it."""
    is_stored: bool = False
    """Whether it was opened from a file, which is damaged where it does not hold."""
    blocks: Recent[Bounds] = field(
        default_factory=lambda: Recent(_RECENT_NBYTES), repr=False, compare=False
    )
    """What was read of it last."""

    def __dask_tokenize__(self) -> Any:
        """Return what names the same rows in any process."""
        return "lazyio.ragged.Index", self.offsets, self.shapes, self.n_values

    @property
    def has_pairs(self) -> bool:
        """Whether each row has a start and a stop of its own, and rows may leave gaps."""
        return len(self.offsets.shape) == 2

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        n_offsets = self.offsets.shape[0]
        return n_offsets if self.has_pairs else n_offsets - 1

    @property
    def block_rows(self) -> int:
        """Rows that are read at once."""
        chunk = self.offsets.chunk_shape
        return min(_MOST_BLOCK_ROWS, max(1024, chunk[0])) if chunk else _BLOCK_ROWS

    def check(self) -> None:
        """Raise where the arrays cannot be an index, without a look at more than its ends."""
        shape = self.offsets.shape
        is_pair = len(shape) == 2 and shape[1] == 2
        if not is_pair and (len(shape) != 1 or not shape[0]):
            self._refuse(f"their shape is {shape}, give one offset more than there are rows, (n+1)")
        if self.offsets.dtype.kind not in "iu":
            self._refuse(f"they are {self.offsets.dtype}, give whole numbers")
        if self.shapes is not None:
            self._check_shapes(self.shapes)
        if self.n_rows:
            self.read(0, 1)
            self.read(self.n_rows - 1, self.n_rows)
        elif not is_pair:
            self._check_offsets(_integers(self.offsets, 0, 1), 0)

    def check_all(self) -> None:
        """Raise where any row is none."""
        self.check()
        for start in range(0, self.n_rows, _MOST_ROWS):
            self.read(start, min(self.n_rows, start + _MOST_ROWS))

    def ends(self) -> tuple[int, int]:
        """Return where the first row begins and the last one ends, of offsets."""
        first = int(_integers(self.offsets, 0, 1)[0])
        return first, int(_integers(self.offsets, self.n_rows, self.n_rows + 1)[0])

    def row(self, number: int) -> tuple[int, int, tuple[int, ...] | None]:
        """Return where one row begins and ends, and its shape."""
        block, at = divmod(number, self.block_rows)
        found = self._block(block)
        shape = None if found.shapes is None else tuple(found.shapes[at].tolist())
        return int(found.starts[at]), int(found.stops[at]), shape

    def bounds(self, numbers: Integers) -> Bounds:
        """Return where rows lie, in the order of their numbers; each row is checked.

        Blocks of the index that are wanted and lie together are read at once.
        """
        step = self.block_rows
        if not len(numbers):
            none = np.empty(0, np.int64)
            axes = 0 if self.shapes is None else self.shapes.shape[1]
            shapes = None if self.shapes is None else np.empty((0, axes), np.int64)
            return Bounds(starts=none, stops=none, shapes=shapes)
        first, last = int(numbers.min()), int(numbers.max())
        if last - first < 4 * len(numbers) + step and last - first >= step:
            # Most of them are wanted.
            return self.read(first, last + 1).at(numbers - first)
        if first // step == last // step:
            return self._block(first // step).at(numbers - first // step * step)
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        cuts = np.flatnonzero(np.diff(ordered // step)) + 1
        found = []
        for part in np.split(ordered, cuts):
            block = int(part[0]) // step
            found.append(self._block(block).at(part - block * step))
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return _joined(found, places)

    def read(self, start: int, stop: int) -> Bounds:
        """Return where rows lie from one to before another."""
        if self.has_pairs:
            pairs = _integers(self.offsets, start, stop)
            starts, stops = pairs[:, 0], pairs[:, 1]
            is_wrong = (starts < 0) | (stops < starts) | (stops > self.n_values)
            if is_wrong.any():
                self._refuse_row(start + int(is_wrong.argmax()), starts, stops, start)
        else:
            offsets = _integers(self.offsets, start, stop + 1)
            self._check_offsets(offsets, start)
            starts, stops = offsets[:-1], offsets[1:]
        shapes = None
        if self.shapes is not None:
            shapes = _integers(self.shapes, start, stop)
            self._check_products(shapes, stops - starts, start)
        return Bounds(starts=starts, stops=stops, shapes=shapes)

    def checked_offsets(self, start: int, stop: int) -> Integers:
        """Return offsets from one to before another, seen to rise from the one before them."""
        before = max(0, start - 1)
        offsets = _integers(self.offsets, before, stop)
        self._check_offsets(offsets, before)
        return offsets[start - before :]

    def _block(self, number: int) -> Bounds:
        found = self.blocks.get(number)
        if found is None:
            start = number * self.block_rows
            found = self.read(start, min(self.n_rows, start + self.block_rows))
            # Where rows lie end to end, starts and stops are the same array.
            n_each = 1 + self.has_pairs + (0 if self.shapes is None else self.shapes.shape[1])
            self.blocks.put(number, found, nbytes=8 * n_each * (len(found.starts) + 1))
        return found

    def _check_offsets(self, offsets: Integers, start: int) -> None:
        is_wrong = (offsets < 0) | (offsets > self.n_values)
        is_wrong[1:] |= offsets[1:] < offsets[:-1]
        if is_wrong.any():
            # An offset that is wrong is the end of the row before it.
            at = max(0, int(is_wrong.argmax()) - 1)
            if len(offsets) > 1:
                self._refuse_row(start + at, offsets[:-1], offsets[1:], start)
            self._refuse(f"the only one is {offsets[0]}, and there are {self.n_values} values")

    def _check_shapes(self, shapes: Source) -> None:
        if shapes.dtype.kind not in "iu" or len(shapes.shape) != 2:
            self._refuse(
                f"the shapes are {shapes.dtype} of shape {shapes.shape}, give integers "
                "of shape (n, axes)"
            )
        if shapes.shape[0] != self.n_rows:
            self._refuse(f"there are shapes of {shapes.shape[0]} rows, and {self.n_rows} rows")
        if not 0 < shapes.shape[1] <= MOST_AXES:
            self._refuse(f"the shapes have {shapes.shape[1]} axes, give 1 to {MOST_AXES}")

    def _check_products(self, shapes: Integers, lengths: Integers, start: int) -> None:
        # Extents whose product is beyond 64 bits would come out as some other number.
        is_wrong = (shapes < 0).any(axis=1) | (shapes.prod(axis=1) != lengths)
        is_wrong |= shapes.astype(float).prod(axis=1) > 2.0**62
        if is_wrong.any():
            at = int(is_wrong.argmax())
            self._refuse(
                f"row {start + at} has shape {tuple(shapes[at].tolist())} and {lengths[at]} "
                "elements, give shapes whose products are the lengths of the rows"
            )

    def _refuse_row(self, row: int, starts: Integers, stops: Integers, start: int) -> NoReturn:
        begin, end = int(starts[row - start]), int(stops[row - start])
        self._refuse(
            f"row {row} goes from element {begin} to {end} of {self.n_values}; they have to rise, "
            "from 0 on and no farther than there are values"
        )

    def _refuse(self, what: str) -> NoReturn:
        error: type[LazyioError] = DamagedDataError if self.is_stored else OptionError
        msg = f"{self.name} are no index of rows: {what}"
        raise error(msg)


def _integers(source: Source, start: int, stop: int) -> Integers:
    """Return rows of an array of whole numbers; what 64 bits do not hold becomes negative."""
    others = tuple(slice(0, extent) for extent in source.shape[1:])
    found: Array = source.read((slice(start, stop), *others))
    return found.astype(np.int64)


def _joined(several: list[Bounds], order: Integers) -> Bounds:
    shapes = [one.shapes for one in several if one.shapes is not None]
    return Bounds(
        starts=np.concatenate([one.starts for one in several])[order],
        stops=np.concatenate([one.stops for one in several])[order],
        shapes=np.concatenate(shapes)[order] if shapes else None,
    )
