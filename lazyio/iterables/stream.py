"""Streams: elements or batches of unknown number."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import OF_A_TABLE, TEXT, Shape, as_dtype, is_integer, is_table
from lazyio.errors import BlockError, OptionError
from lazyio.iterables.elements import as_elements, axis_within, dtype_of_elements, in_rows
from lazyio.iterables.items import ENDED, Items

Element = npt.NDArray[Any] | None
"""One or more elements, the axis that grows first; ``None`` for one that is left out."""


class Stream:
    """An array that is taken from an iterable, once, to be written as it comes.

    Its dtype and the shape of its elements are those of the first item, which
    is looked at and not lost.

    Parameters
    ----------
    iterable : iterable of array-like or None
        Elements along ``axis``; or arrays of several of them, if ``batched``.
        ``None`` leaves an element out: it reads as fill value.
    dtype : dtype-like, optional
        Type of an element, where the first item is not to say it.
    axis : int
        Along which it grows.
    batched : bool
        Whether an item has that axis itself.
    expected_length : int, optional
        How many elements there will be, about: chunks are made for that many.

    Raises
    ------
    OptionError
        When an argument is none of these.

    Examples
    --------
    >>> import lazyio, numpy as np
    >>> stream = lazyio.Stream(np.sin(np.arange(10) + row) for row in range(100))
    >>> stream.maxshape, stream.dtype
    ((None, 10), dtype('float64'))
    >>> lazyio.to_hdf5(stream, "sines.h5", mode="w").plan.shape
    (100, 10)
    """

    has_own_pace: ClassVar[bool] = False
    """Whether it counts by something else than its elements."""

    def __init__(
        self,
        iterable: Iterable[Any],
        *,
        dtype: npt.DTypeLike | None = None,
        axis: int = 0,
        batched: bool = False,
        expected_length: int | None = None,
    ) -> None:
        if isinstance(iterable, (str, bytes)) or not hasattr(iterable, "__iter__"):
            msg = f"iterable={type(iterable).__name__} is not iterable; give a generator, a list"
            raise OptionError(msg)
        if is_table(iterable):
            msg = f"iterable={type(iterable).__name__} is a table; {OF_A_TABLE}"
            raise OptionError(msg)
        if isinstance(iterable, Mapping):
            msg = "going through a mapping yields its keys; give its values, or write it by itself"
            raise OptionError(msg)
        if batched not in (True, False):
            msg = f"batched={batched!r}; give True or False"
            raise OptionError(msg)
        if not is_integer(axis):
            msg = f"axis={axis!r} is no integer"
            raise OptionError(msg)
        if expected_length is not None and (not is_integer(expected_length) or expected_length < 0):
            msg = f"expected_length={expected_length!r} is no number of elements"
            raise OptionError(msg)
        self._given_dtype = None if dtype is None else dtype_of_elements(dtype)
        self._given_axis = int(axis)
        self.batched = batched
        self.expected_length = None if expected_length is None else int(expected_length)
        self._items = Items(
            lambda: iter(iterable),
            "the stream",
            "item {} of the stream",
            skips_none=True,
            names_itself=self.has_own_pace,
        )

    @functools.cached_property
    def _first(self) -> tuple[np.dtype[Any], Shape, bool] | None:
        """Dtype and shape of the first item, and whether it is text of Python's."""
        item = self._items.first()
        if item is ENDED:
            return None
        try:
            first = np.asarray(item)
        except Exception as error:
            msg = f"item {self._items.n_skipped} of the stream is no array: {error}"
            raise BlockError(msg) from error
        if self.batched and first.ndim == 0:
            msg = "the first item of the stream is a single element, no batch; batched=False"
            raise OptionError(msg)
        is_text = first.dtype.kind == "U" and not isinstance(item, np.ndarray)
        return first.dtype, tuple(map(int, first.shape)), is_text

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        first = self._first
        if self._given_dtype is not None:
            return self._given_dtype
        if first is None:
            msg = "the stream has no item to take a dtype from; give dtype="
            raise OptionError(msg)
        dtype, _, is_text = first
        # Text of Python has any length, whatever that of the first item is.
        return TEXT if is_text else as_dtype(dtype)

    @property
    def is_empty(self) -> bool:
        """Whether nothing comes at all, and no hole either."""
        return self._first is None and not self._items.n_skipped

    @property
    def item_shape(self) -> Shape:
        """Extents of an element, without the axis along which they come."""
        if self._first is None:
            return ()
        _, shape, _ = self._first
        if not self.batched:
            return shape
        axis = axis_within(self._given_axis, len(shape))
        return tuple(extent for at, extent in enumerate(shape) if at != axis)

    @property
    def axis(self) -> int:
        """Along which it grows, counted from the first."""
        return axis_within(self._given_axis, len(self.item_shape) + 1)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        """Extents of the whole array, ``None`` where it grows."""
        axis, shape = self.axis, self.item_shape
        return (*shape[:axis], None, *shape[axis:])

    def pace(self, elements: Element) -> float:
        """Return how far the elements that came last have brought it.

        Of the streams of one call the one is taken next that is behind all others.
        """
        return 1 if elements is None else len(elements)

    def take(self) -> Iterator[Element]:
        """Yield elements, or several at a time, with the axis that grows first; once.

        Raises
        ------
        OptionError
            When it has been taken before.
        BlockError
            When an item has another shape, or elements that the dtype cannot
            hold; named by its number.
        """
        self._items.take()
        return self._taken()

    def _taken(self) -> Iterator[Element]:
        dtype, shape, axis = self.dtype, self.item_shape, self.axis
        number, items = self._items.n_skipped, self._items
        yield from itertools.repeat(None, number)
        while (item := items.next(number)) is not ENDED:
            if item is None:
                yield None
            elif self.batched or type(item) is not np.ndarray:
                yield self._rows(item, number, shape, axis)
            elif item.dtype == dtype and item.shape == shape:
                yield item[np.newaxis]
            else:
                yield self._rows(item, number, shape, axis)
            number += 1

    def _rows(self, item: Any, number: int, shape: Shape, axis: int) -> npt.NDArray[Any]:
        """Return an item as elements of the stream's dtype, where that loses nothing."""
        dtype = self.dtype
        try:
            # One that was asked for may be rounded to.
            found = as_elements(item, dtype, is_lenient=self._given_dtype is not None)
        except Exception as error:
            msg = f"item {number} of the stream is no array of {dtype}: {error}"
            raise BlockError(msg) from error
        if self.batched:
            rows = in_rows(found, shape, axis)
        else:
            rows = found[np.newaxis] if found.shape == shape else None
        if rows is None:
            what = f"batches of elements of shape {shape}" if self.batched else f"shape {shape}"
            msg = (
                f"item {number} of the stream has shape {found.shape}, and the first one had "
                f"{what}; all elements have one shape"
            )
            raise BlockError(msg)
        return rows
