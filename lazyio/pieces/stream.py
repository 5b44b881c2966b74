"""Data of unknown length: elements, or batches of them, that come one after another."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.elements import TEXT
from lazyio.errors import BlockError, OptionError
from lazyio.pieces.casting import as_elements, dtype_of_elements, unmasked
from lazyio.spec import OF_A_TABLE, Shape, as_dtype, is_integer, is_table

_ENDED = object()

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
        self._iterable = iterable
        self._items: Iterator[Any] | None = None
        self._n_holes = 0
        self._first: tuple[np.dtype[Any], Shape] | None = None
        self._head: list[Any] = []
        self._failure: BaseException | None = None
        self._is_peeked = self._is_taken = self._is_text = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        self._peek()
        if self._given_dtype is not None:
            return self._given_dtype
        if self._first is None:
            msg = "the stream has no item to take a dtype from; give dtype="
            raise OptionError(msg)
        dtype, _ = self._first
        # Text of Python has any length, whatever that of the first item is.
        return TEXT if self._is_text else as_dtype(dtype)

    @property
    def item_shape(self) -> Shape:
        """Extents of an element, without the axis along which they come."""
        self._peek()
        if self._first is None:
            return ()
        _, shape = self._first
        if not self.batched:
            return shape
        axis = self._axis_in(len(shape))
        return tuple(extent for at, extent in enumerate(shape) if at != axis)

    @property
    def axis(self) -> int:
        """Along which it grows, counted from the first."""
        return self._axis_in(len(self.item_shape) + 1)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        """Extents of the whole array, ``None`` where it grows."""
        axis, shape = self.axis, self.item_shape
        return (*shape[:axis], None, *shape[axis:])

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
        self._peek()
        if self._is_taken:
            msg = "the stream was used up by an earlier call; make a new one of a new iterable"
            raise OptionError(msg)
        self._is_taken = True
        return self._taken()

    def _taken(self) -> Iterator[Element]:
        dtype, shape, axis = self.dtype, self.item_shape, self.axis
        yield from itertools.repeat(None, self._n_holes)
        number = self._n_holes
        while (item := self._next(number)) is not _ENDED:
            if item is None:
                yield None
            elif self.batched:
                yield self._batch(item, number, shape, axis)
            elif type(item) is np.ndarray and item.dtype == dtype and item.shape == shape:
                yield item[np.newaxis]
            else:
                yield self._element(item, number, shape)[np.newaxis]
            number += 1

    def _element(self, item: Any, number: int, shape: Shape) -> npt.NDArray[Any]:
        found = self._converted(item, number)
        if found.shape != shape:
            msg = (
                f"item {number} of the stream has shape {found.shape}, and the first one had "
                f"{shape}; all elements have one shape"
            )
            raise BlockError(msg)
        return found

    def _batch(self, item: Any, number: int, shape: Shape, axis: int) -> npt.NDArray[Any]:
        found = self._converted(item, number)
        if found.ndim != len(shape) + 1:
            msg = (
                f"item {number} of the stream has {found.ndim} axes, and the first one had "
                f"{len(shape) + 1}; all batches have the same"
            )
            raise BlockError(msg)
        found = np.moveaxis(found, axis, 0)
        if found.shape[1:] != shape:
            msg = (
                f"item {number} of the stream has elements of shape {found.shape[1:]}, and the "
                f"first one had {shape}; all elements have one shape"
            )
            raise BlockError(msg)
        return found

    def _next(self, number: int) -> Any:
        """Return the next item, or the mark of the end."""
        if self._head:
            return self._head.pop()
        try:
            return next(self._items or iter(()), _ENDED)
        except Exception as error:
            msg = f"item {number} of the stream did not come: {type(error).__name__}: {error}"
            raise BlockError(msg) from error

    def _peek(self) -> None:
        """Look at the first item that is none left out."""
        if self._failure is not None:
            raise self._failure
        if self._is_peeked:
            return
        self._is_peeked = True
        try:
            self._look()
        except BaseException as error:
            # What has come until then is gone: another try would begin behind it.
            self._failure = error
            raise

    def _look(self) -> None:
        try:
            self._items = iter(self._iterable)
        except Exception as error:
            msg = f"the stream does not begin: {type(error).__name__}: {error}"
            raise BlockError(msg) from error
        while (item := self._next(self._n_holes)) is not _ENDED:
            if item is None:
                self._n_holes += 1
                continue
            try:
                first = np.asarray(item)
            except Exception as error:
                msg = f"item {self._n_holes} of the stream is no array: {error}"
                raise BlockError(msg) from error
            self._is_text = first.dtype.kind == "U" and not isinstance(item, np.ndarray)
            self._first, self._head = (first.dtype, tuple(map(int, first.shape))), [item]
            if self.batched and first.ndim == 0:
                msg = "the first item of the stream is a single element, no batch; batched=False"
                raise OptionError(msg)
            break

    def _axis_in(self, ndim: int) -> int:
        axis = self._given_axis + ndim if self._given_axis < 0 else self._given_axis
        if not 0 <= axis < ndim:
            msg = f"axis={self._given_axis} is none of an array with {ndim} axes"
            raise OptionError(msg)
        return axis

    def _converted(self, item: Any, number: int) -> npt.NDArray[Any]:
        """Return an item as an array of the stream's dtype, where that loses nothing."""
        dtype = self.dtype
        try:
            found = unmasked(item)
            # Python's numbers have no dtype of their own; one that was asked for may be rounded to.
            is_lenient = self._given_dtype is not None or not hasattr(item, "dtype")
            cast = as_elements(found, dtype, is_lenient=is_lenient)
        except Exception as error:
            msg = f"item {number} of the stream is no array of {dtype}: {error}"
            raise BlockError(msg) from error
        if cast is None:
            remedy = "convert the items with .astype"
            if self._given_dtype is None:
                remedy = f"give dtype=, or {remedy}"
            msg = (
                f"item {number} of the stream has dtype {found.dtype}, of which {dtype} cannot "
                f"hold every value that is there; {remedy}"
            )
            raise BlockError(msg)
        return cast
