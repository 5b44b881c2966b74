"""What a writer asks of the file or store that grows, whatever the format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import NotedDigests
from lazyio.dtypes import Shape, Stored, as_dtype, as_shape
from lazyio.errors import OptionError
from lazyio.inputs import Input, recognise
from lazyio.iterables.elements import axis_within
from lazyio.iterables.stream import Stream
from lazyio.regions import Region, span, with_extent
from lazyio.sources.base import Source
from lazyio.storage.base import Growing, Target

KEEP, DROP = "keep", "drop"
"""What becomes of what was appended before an error."""


OF_BOTH = ("chunks", "chunk_nbytes", "access", "compression", "compression_opts", "shuffle")
"""Settings of an array that both formats have."""
OF_HDF5 = ("fletcher32",)
OF_ZARR = ("shards", "compressors", "filters")
OF_ONE = frozenset((*OF_HDF5, *OF_ZARR))
"""Those of one of them."""


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
    memory_limit: int
    """Bytes for this array and its share of the workers."""
    digests: bool = True
    """Whether digests of its chunks are stored."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it is to be stored, by the names that the settings of its format have."""
    starts_at: int | None = None
    """Elements that an existing array is taken up behind, whatever comes after them."""

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
        axis = axis_within(self.axis, len(items) + 1)
        length = self.expected_length
        return recognise(Stream([sample], dtype=dtype, axis=axis, expected_length=length))


@dataclass(kw_only=True)
class OpenedArray:
    """An array of the writer: where its end is, and what it was before."""

    target: GrowingTarget
    """Takes its chunks."""
    form: Stored
    """How its elements are stored."""
    axis: int
    """Along which it grows."""
    length: int
    """Elements that were there."""
    head: npt.NDArray[Any] | None = None
    """Elements, as stored, of the last row of chunks; ``None`` where that is all there."""
    most: int | None = None
    """Elements that it may have, ``None`` without bound."""
    is_untold: bool = False
    """Whether it was made just now, and readers do not see it before a flush."""
    noted: NotedDigests | None = field(default_factory=NotedDigests)
    """Digests of the chunks that are written; ``None`` where none are stored."""
    made_at: Any = None
    """What was made for it, itself or the outermost group; ``None`` if it was there."""
    known: Any = None
    """Digests that there were."""
    last: dict[Any, Any] = field(default_factory=dict)
    """What is stored of the last row of chunks, where it may have to be put back."""

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
        return with_extent(self.target.shape, self.axis, length)

    @property
    def now(self) -> int:
        """Elements that it has by now."""
        return self.target.shape[self.axis]

    @property
    def last_row(self) -> Region:
        """Region of the last row of chunks that there was; empty where all rows are whole."""
        begin = self.length // self.unit * self.unit
        return span(self.target.shape, self.axis, begin, self.length)

    def read_head(self, source: Source) -> bool:
        """Read the last row of chunks, unless it is whole, and return whether it is not."""
        if self.length % self.unit:
            self.head = source.read(self.last_row).astype(self.target.dtype, copy=False)
        return self.head is not None


class AppendBackend(Protocol):
    """A file or store that grows. One thread at a time calls it, but for the targets."""

    format: str
    """``hdf5`` or ``zarr``."""
    own_options: tuple[str, ...]
    """Settings of an array that the other format has not."""

    def create(self, asked: ArrayOptions) -> OpenedArray:
        """Make an array, or take up one that is there; no chunk is being written meanwhile."""

    def last_element(self, key: str) -> npt.NDArray[Any] | None:
        """Return the last element of an array along its first axis, ``None`` if it is not there.

        Of an array of a writer it is the one that was there before; empty where there was none.
        """

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
