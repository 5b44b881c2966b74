"""What a writer asks of the file or store that grows, whatever the format."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import Shape, Stored, as_dtype, as_shape, is_integer
from lazyio.errors import OptionError
from lazyio.inputs import Input, recognise
from lazyio.iterables.stream import Stream
from lazyio.storage.base import Growing, Target

KEEP, DROP = "keep", "drop"
"""What becomes of what was appended before an error."""


class GrowingTarget(Target, Growing, Protocol):
    """An array that takes chunks and becomes longer."""


@dataclass(frozen=True, kw_only=True)
class ArrayOptions:
    """What the user says of an array, as it was given."""

    key: str
    """Path in the file or store."""
    dtype: Any = None
    """Type of an element; ``None`` takes that of an existing array."""
    item_shape: Any = None
    """Extents of an element; ``None`` as above."""
    axis: Any = 0
    """Along which it grows."""
    expected_length: int | None = None
    """How many elements there will be, about."""
    chunks: Any = "auto"
    """As in :func:`lazyio.plan`."""
    compression: Any = None
    """Of the format's own names, or ``None``."""
    compression_opts: Any = None
    """A level, or what else the codec takes."""
    shuffle: bool | None = None
    """Whether bytes are shuffled before."""
    memory_limit: int
    """Bytes for this array and its share of the workers."""
    workers: int
    """Threads that encode."""

    @property
    def items(self) -> Shape | None:
        """Extents of an element, checked; ``None`` where they were left out."""
        if self.item_shape is None:
            return None
        is_empty = isinstance(self.item_shape, tuple) and not self.item_shape
        given = () if is_empty else as_shape(self.item_shape, "item_shape")
        if 0 in given:
            msg = f"item_shape={self.item_shape!r} has no elements; every extent is at least 1"
            raise OptionError(msg)
        return given

    def axis_in(self, ndim: int) -> int:
        """Return the axis of growth, counted from the first."""
        axis = int(self.axis) if is_integer(self.axis) else ndim
        axis = axis + ndim if axis < 0 else axis
        if not is_integer(self.axis) or not 0 <= axis < ndim:
            msg = f"axis={self.axis!r} is none of an array with {ndim} axes"
            raise OptionError(msg)
        return axis

    def as_input(self) -> Input:
        """Return a new array, to be planned as a stream of such elements."""
        items = self.items
        if self.dtype is None or items is None:
            msg = (
                f"{self.key!r} is not there yet; give dtype= and item_shape= of its elements "
                "(item_shape=() for single numbers)"
            )
            raise OptionError(msg)
        dtype = as_dtype(self.dtype)
        sample = np.broadcast_to(np.zeros((), dtype), items)
        axis = self.axis_in(len(items) + 1)
        length = self.expected_length
        return recognise(Stream([sample], dtype=dtype, axis=axis, expected_length=length))


@dataclass(frozen=True, kw_only=True)
class OpenedArray:
    """An array that stands, and where its end is."""

    target: GrowingTarget
    """Takes its chunks."""
    form: Stored
    """How its elements are stored."""
    axis: int
    """Along which it grows."""
    length: int
    """Elements that are there."""
    head: npt.NDArray[Any] | None = None
    """Elements, as stored, of the last row of chunks; ``None`` where that is all there."""
    most: int | None = None
    """Elements that it may have, ``None`` without bound."""
    is_untold: bool = False
    """Whether it was made just now, and readers do not see it before a flush."""

    @property
    def item_shape(self) -> Shape:
        """Extents of an element."""
        shape = self.target.shape
        return (*shape[: self.axis], *shape[self.axis + 1 :])

    @property
    def unit(self) -> int:
        """Elements in a row of chunks."""
        return self.target.chunk_shape[self.axis]

    def with_length(self, length: int) -> Shape:
        """Return its extents with so many elements."""
        shape = self.target.shape
        return (*shape[: self.axis], length, *shape[self.axis + 1 :])


class AppendBackend(Protocol):
    """A file or store that grows. One thread at a time calls it, but for the targets."""

    def create(self, wish: ArrayOptions) -> OpenedArray:
        """Make an array, or take up one that is there; no chunk is being written meanwhile."""

    def take_back(self) -> None:
        """Bring the array created last back to what it was; nothing was written to it."""

    def begin(self) -> None:
        """Get ready for the first chunk of all."""

    def commit(self) -> None:
        """Have the arrays on the disk and visible as they are; no chunk is being written."""

    def close(self) -> None:
        """Store digests and close, after a last commit."""

    def abandon(self) -> None:
        """Close, and leave what was committed last."""

    def drop(self) -> None:
        """Bring everything back to what it was, and close."""


def last_row(shape: Sequence[int], axis: int, unit: int) -> tuple[slice, ...]:
    """Return the region of the last row of chunks; empty where all rows are whole.

    Examples
    --------
    >>> last_row((10, 3), 0, 4)
    (slice(8, 10, None), slice(0, 3, None))
    """
    region = [slice(0, extent) for extent in shape]
    region[axis] = slice(shape[axis] // unit * unit, shape[axis])
    return tuple(region)
