"""An array that is done: chunks that are computed again are compared, and nothing is written."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.grid import box
from lazyio.safety.digests import digest_of_elements
from lazyio.safety.keeping import TwoResultsError
from lazyio.spec import Shape
from lazyio.targets.base import Rewritable


class Comparable(Rewritable, Protocol):
    """A target that knows what becomes of elements by storing them."""

    def as_stored(self, index: Sequence[int], chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a chunk's elements as they come back, which lossy codecs change."""


class Compared:
    """The chunks of an array, against which others are held."""

    n_written = 0
    is_read_back = True

    def __init__(self, target: Comparable) -> None:
        self._target = target

    @property
    def shape(self) -> Shape:
        """Extents of the array, in elements."""
        return self._target.shape

    @property
    def chunk_shape(self) -> Shape:
        """Extents of its chunks."""
        return self._target.chunk_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self._target.dtype

    @property
    def fill_value(self) -> Any:
        """What a reader gets where nothing was written."""
        return self._target.fill_value

    @property
    def engine(self) -> str:
        """How chunks got there."""
        return self._target.engine

    def read_chunk(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return a chunk's elements, cut at the end of the array."""
        return self._target.read_chunk(index)

    def write_chunk(self, index: Sequence[int], chunk: npt.NDArray[Any], _: Workspace) -> None:
        """Compare a chunk with the one that is there; see :func:`require_equal`."""
        require_equal(self._target, index, chunk)

    def finish(self) -> int:
        """Return the bytes that were written, which are none."""
        return 0


def require_equal(target: Comparable, index: Sequence[int], chunk: npt.NDArray[Any]) -> None:
    """Refuse a chunk that is not the one that is there."""
    again = target.as_stored(index, chunk)
    if digest_of_elements(again) != digest_of_elements(target.read_chunk(index)):
        raise TwoResultsError.at(box(target.shape, target.chunk_shape, index))
