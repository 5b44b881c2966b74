"""Public: rows of differing length or shape that are appended to."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.appending.array import GrowingArray
from lazyio.appending.backend import ArrayOptions
from lazyio.dtypes import Shape, is_integer
from lazyio.errors import OptionError
from lazyio.execution.slabs import Elements
from lazyio.iterables.elements import dtype_of_elements
from lazyio.ragged.feed import Feed, RowFacts
from lazyio.ragged.ragged import Ragged


class GrowingRows:
    """Ragged rows of a :func:`lazyio.writer`, which become more by what is appended.

    Made by :meth:`~lazyio.appending.writer.Writer.create` with ``ragged=True``. Several threads may
    append; a flush has each row whole, or not at all.

    Parameters
    ----------
    name : str
        What errors call them.
    arrays : dict of str to GrowingArray
        Values, offsets, and shapes where rows have more than one axis that differs.
    facts : RowFacts
        What all rows are.
    end : int
        Elements of the rows that were there.
    """

    def __init__(
        self, name: str, arrays: dict[str, GrowingArray], facts: RowFacts, end: int
    ) -> None:
        self.name = name
        self.lock = threading.Lock()
        self._arrays = arrays
        self._facts = facts
        self._end = end

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._facts.dtype

    @property
    def item_shape(self) -> Shape:
        """Extents of an element of a row."""
        return self._facts.item_shape

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._arrays["offsets"]) - 1

    def append(self, row: npt.ArrayLike) -> None:
        """Append a row, which may be empty.

        Parameters
        ----------
        row : array-like
            Of as many axes as all rows have. It is copied.

        Raises
        ------
        BlockError
            When it has other axes, or does not fit the dtype; nothing of it was appended.
        TargetError
            When an earlier row could not be written.

        Examples
        --------
        >>> import lazyio
        >>> with lazyio.writer("units.h5", mode="w") as w:
        ...     spikes = w.create("spikes", dtype="f8", ragged=True)
        ...     spikes.append([0.1, 0.5])
        ...     spikes.append([])
        >>> lazyio.open_ragged("units.h5", "spikes")[:]
        [array([0.1, 0.5]), array([], dtype=float64)]
        """
        found = self._facts.as_row(row, lambda: f"the row for {self.name} after {len(self)} rows")
        values = self._facts.flat(found)
        with self.lock:
            self._refuse_beyond(len(values), 1)
            end = self._end + len(values)
            # An element by itself is the fastest way to append to an index.
            self._put(values, np.array(end), np.array(found.shape[: self._facts.n_axes]))
            self._end = end

    def extend(self, rows: Iterable[npt.ArrayLike] | Ragged) -> None:
        """Append several rows, a few at a time.

        Parameters
        ----------
        rows : iterable of array-like, or Ragged
            The rows.

        Raises
        ------
        BlockError
            When one of them does not fit; some of those before it have been appended by then.
        """

        def checked() -> Iterator[npt.NDArray[Any]]:
            for number, row in enumerate(rows):
                yield self._facts.as_row(row, lambda: f"row {number} for {self.name}")  # noqa: B023

        for values, lengths, several in Feed.batches(checked(), self._facts):
            with self.lock:
                self._refuse_beyond(len(values), len(several))
                ends = self._end + np.cumsum(lengths)
                n_axes = self._facts.n_axes
                shapes = np.array([row.shape[:n_axes] for row in several], np.int64)
                self._put(values, ends, shapes)
                self._end = int(ends[-1])

    def _refuse_beyond(self, n_values: int, n_rows: int) -> None:
        """Refuse rows for which there is no room, before anything of them is appended."""
        self._arrays["values"].refuse_beyond(n_values)
        self._arrays["offsets"].refuse_beyond(n_rows)

    def _put(self, values: Elements, ends: Elements, shapes: Elements) -> None:
        """Append the elements of rows, then what says where they are."""
        if len(values):
            self._arrays["values"].append(values)
        if "shapes" in self._arrays:
            self._arrays["shapes"].append(shapes)
        self._arrays["offsets"].append(ends)


_INDEX_NBYTES = 2**17
"""Of a chunk of offsets or shapes: it is decoded for the sake of a single row."""
_LEAST_NBYTES = 2**12
_PARTS = 64
"""Chunks of an index for which there is memory: slabs of all arrays take theirs, too."""


_OF_INDEX = ("compression", "compression_opts", "shuffle", "fletcher32", "compressors")
"""What is said of values that holds for offsets and shapes, too."""


def rows_asked(
    key: str,
    *,
    dtype: Any,
    item_shape: Any,
    expected_length: int | None,
    settings: Mapping[str, Any],
    digests: bool,
    memory_limit: int,
    is_there: bool,
    shaped_axes: int,
    end: int,
) -> dict[str, ArrayOptions]:
    """Return the arrays of some rows, values first: no reader sees an offset beyond them."""
    n_axes, items = _axes(item_shape, is_there=is_there)
    has_shapes = shaped_axes > 0
    if is_there and item_shape is not None and (n_axes > 1) != (shaped_axes > 1):
        msg = (
            f"item_shape={item_shape!r}: the rows of {key!r} that are there have "
            f"{'shapes' if has_shapes else 'no shapes'}; leave it out, or choose another key"
        )
        raise OptionError(msg)
    found = {
        "values": ArrayOptions(
            key=f"{key}/values",
            dtype=None if dtype is None else dtype_of_elements(dtype),
            item_shape=items,
            memory_limit=memory_limit,
            starts_at=end if is_there else None,
            digests=digests,
            settings=settings,
        )
    }
    of_index = {name: value for name, value in settings.items() if name in _OF_INDEX}
    n_elements = {"offsets": 1}
    if n_axes > 1 or has_shapes:
        n_elements = {"shapes": n_axes, "offsets": 1}
    for name, n_each in n_elements.items():
        nbytes = max(_LEAST_NBYTES, min(_INDEX_NBYTES, memory_limit // _PARTS))
        rows = max(1, nbytes // (8 * n_each))
        if expected_length is not None and is_integer(expected_length):
            rows = max(1, min(rows, expected_length + 1))
        is_known = is_there and name == "shapes" and item_shape is None
        found[name] = ArrayOptions(
            key=f"{key}/{name}",
            dtype=np.int64,
            item_shape=None if is_known else (n_each,) if name == "shapes" else (),
            expected_length=expected_length,
            memory_limit=memory_limit,
            digests=digests,
            settings={
                **of_index,
                "chunks": "auto" if is_there else (rows, n_each) if name == "shapes" else rows,
            },
        )
    return found


def _axes(item_shape: Any, *, is_there: bool) -> tuple[int, Any]:
    """Return how many axes of a row differ, and the extents of its elements."""
    if item_shape is None:
        return 1, None if is_there else ()
    if not isinstance(item_shape, (tuple, list)) or None not in item_shape:
        return 1, item_shape
    if any(extent is not None for extent in item_shape):
        msg = (
            f"item_shape={item_shape!r}: give None for every axis of rows that differ in shape, or "
            "the extents behind the first axis alone"
        )
        raise OptionError(msg)
    return len(item_shape), ()
