"""Streams: elements or batches of unknown number, and the slabs of whole rows of chunks."""

import functools
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import OF_A_TABLE, TEXT, Shape, as_dtype, is_integer, is_table, is_text
from lazyio.errors import BlockError, OptionError
from lazyio.regions import Region


def dtype_of_elements(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype as it was asked for; text without a length is of any length."""
    found = as_dtype(dtype)
    return TEXT if found.kind == "U" and not found.itemsize else found


def unmasked(data: Any) -> npt.NDArray[Any]:
    """Return what a user gives as an array."""
    if np.ma.is_masked(data):
        msg = "it has masked elements, fill them with .filled(value)"
        raise ValueError(msg)
    return np.asarray(data)


def fitted(data: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return what a user gives as elements of a dtype that was asked for."""
    if data is None:
        msg = "there is no data"
        raise TypeError(msg)
    found = unmasked(data)
    # A dtype was asked for, so that numbers may be rounded to it.
    elements = as_elements(found, dtype, is_lenient=True)
    if elements is None:
        msg = f"of dtype {found.dtype}, {dtype} cannot hold every value that is there"
        raise TypeError(msg)
    return elements


def as_elements(
    found: npt.NDArray[Any], dtype: np.dtype[Any], *, is_lenient: bool
) -> npt.NDArray[Any] | None:
    """Return elements as another dtype, ``None`` where that would change them.

    Examples
    --------
    >>> as_elements(np.array([1, 2]), np.dtype("u1"), is_lenient=True)
    array([1, 2], dtype=uint8)
    >>> as_elements(np.array([1, 300]), np.dtype("u1"), is_lenient=True) is None
    True
    """
    if found.dtype == dtype:
        return found
    if is_text(dtype) and found.dtype.kind in "UT":
        return found.astype(dtype)
    if not _have_same_names(dtype, found.dtype):
        return None  # numpy would go by the order of fields.
    is_other_kind = (dtype.kind in "SUT") != (found.dtype.kind in "SUT")
    if is_other_kind or (dtype.kind in "mM") != (found.dtype.kind in "mM"):
        return None  # numpy would write numbers as text, and take them for times.
    is_safe = np.can_cast(found.dtype, dtype, "safe")
    is_number = dtype.kind in "biufc" and found.dtype.kind in "biufc"
    if not is_safe and not (is_lenient and is_number and _is_no_narrower(found.dtype, dtype)):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        cast = found.astype(dtype)
    if (
        dtype.kind in "mM"
        and found.dtype.kind in "mM"
        and bool(((cast.astype(found.dtype) != found) & ~np.isnat(found)).any())
    ):
        return None  # Safe for numpy is also what lies outside of a finer unit's reach.
    return cast if is_safe or _is_close(found, cast) else None


def _have_same_names(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether records have the same fields in the same order, at every depth."""
    one, other = one.base, other.base
    if one.names != other.names:
        return False
    return all(_have_same_names(one[name], other[name]) for name in one.names or ())


def _is_no_narrower(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether a dtype has all parts of another: complex numbers have two."""
    return other.kind == "c" or one.kind != "c"


def _is_close(found: npt.NDArray[Any], cast: npt.NDArray[Any]) -> bool:
    """Return whether a cast has only rounded: integers are the same, what was finite still is."""
    if cast.dtype.kind in "biu":
        return bool((cast == found).all())
    return bool((np.isfinite(cast) == np.isfinite(found)).all())


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
            remedy = f"give dtype= for one that holds {found.dtype}; .astype would cut them"
            msg = (
                f"item {number} of the stream has dtype {found.dtype}, of which {dtype} cannot "
                f"hold every value that is there; {remedy}"
            )
            raise BlockError(msg)
        return cast


@dataclass(kw_only=True)
class Slab:
    """A part of a stream that goes to chunks of its own."""

    start: int
    """Number of its first element."""
    length: int
    """How many elements it has."""
    axis: int
    """Along which they lie."""
    block: npt.NDArray[Any] | None
    """The elements; ``None`` once they have been taken."""
    is_hole: npt.NDArray[np.bool_] | None
    """For each element whether it was left out; ``None`` where none was."""
    give_back: Callable[[], object]
    """To be called once nobody uses the elements any more: the next slab may lie there."""

    def region_in(self, shape: Shape) -> Region:
        """Return where it lies in an array of these extents on all other axes."""
        region = [slice(0, extent) for extent in shape]
        region[self.axis] = slice(self.start, self.start + self.length)
        return tuple(region)

    def has_data(self, start: int, stop: int) -> bool:
        """Return whether any of some of its elements, counted from its first, is there."""
        return self.is_hole is None or not bool(self.is_hole[start:stop].all())


def slabs(
    stream: Stream, items: Iterable[Any], n_elements: int, on_grown: Callable[[int], object]
) -> Iterator[Slab | int]:
    """Yield a stream in slabs of so many elements, the last one shorter.

    After each item comes how many elements it had, so that several streams can be taken in turn.
    """
    gathering = _Gathering(stream, n_elements)
    for elements in items:
        n_left = 1 if elements is None else len(elements)
        begin = 0
        while n_left:
            done = gathering.put(elements, begin, n_left)
            begin, n_left = begin + done, n_left - done
            if gathering.is_full:
                on_grown(gathering.start + n_elements)
                yield gathering.finished()
        yield 1 if elements is None else len(elements)
    if gathering.n_filled:
        on_grown(gathering.start + gathering.n_filled)
        yield gathering.finished()


class _Gathering:
    """The slab that is being filled."""

    def __init__(self, stream: Stream, n_elements: int) -> None:
        self.start = 0
        self.n_filled = 0
        self._axis = stream.axis
        shape = list(stream.item_shape)
        shape.insert(self._axis, n_elements)
        self._shape: Shape = tuple(shape)
        self._dtype = stream.dtype
        self._n_elements = n_elements
        self._blank = np.zeros((), stream.dtype)[()]
        self._block: npt.NDArray[Any] | None = None
        self._is_hole: npt.NDArray[np.bool_] | None = None
        # Memory that has been written once costs nothing to write again.
        self._free: queue.SimpleQueue[npt.NDArray[Any]] = queue.SimpleQueue()

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes into it."""
        return self.n_filled == self._n_elements

    def _begin(self) -> None:
        try:
            self._block = self._free.get_nowait()
        except queue.Empty:
            self._block = np.empty(self._shape, self._dtype)
        self._elements = np.moveaxis(self._block, self._axis, 0)
        self._is_hole = None

    def put(self, elements: npt.NDArray[Any] | None, begin: int, n_left: int) -> int:
        """Put elements from some one on into it, and return how many had room."""
        if self._block is None:
            self._begin()
        at = self.n_filled
        if elements is None:
            if self._is_hole is None:
                self._is_hole = np.zeros(self._n_elements, bool)
            self._is_hole[at] = True
            self._elements[at] = self._blank
            n_put = 1
        elif n_left == 1:
            self._elements[at] = elements[begin]
            n_put = 1
        else:
            n_put = min(n_left, self._n_elements - at)
            self._elements[at : at + n_put] = elements[begin : begin + n_put]
        self.n_filled += n_put
        return n_put

    def finished(self) -> Slab:
        """Return the slab, and begin the next one."""
        length, block, is_hole = self.n_filled, self._block, self._is_hole
        whole = (slice(None),) * self._axis + (slice(0, length),)
        slab = Slab(
            start=self.start,
            length=length,
            axis=self._axis,
            block=None if block is None else block[whole],
            is_hole=None if is_hole is None else is_hole[:length],
            give_back=functools.partial(self._free.put, block) if block is not None else _nothing,
        )
        self.start, self.n_filled = self.start + length, 0
        # Whoever has the slab lets go of it: the next one is made when there is something in it.
        self._block = None
        return slab


def _nothing() -> None:
    """Do nothing: there is no memory to be given back."""
