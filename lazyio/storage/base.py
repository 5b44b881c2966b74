"""What a backend is: a place that takes whole chunks, from any thread.

A target knows its format and its encoder and nothing of sources or dask. Who
opens the file or store that it lies in also closes and publishes it.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape


class Target(Protocol):
    """An array on its way to disk.

    A chunk is given to :meth:`write_chunk` whole and once; chunks may come in
    any order and from several threads at a time.
    """

    @property
    def shape(self) -> Shape:
        """Extents of the array, in elements."""

    @property
    def chunk_shape(self) -> Shape:
        """Extents of what is given to :meth:`write_chunk`, but at the array's end."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    @property
    def fill_value(self) -> Any:
        """What a reader gets where nothing was written."""

    @property
    def engine(self) -> str:
        """How chunks get there, in words for the report."""

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk and commit it."""

    @property
    def n_written(self) -> int:
        """Chunks that were encoded and stored."""

    def finish(self) -> int:
        """Write what comes last, and return the bytes of all payloads."""


@runtime_checkable
class Rewritable(Target, Protocol):
    """A target of which chunks that are there can be read."""

    @property
    def is_read_back(self) -> bool:
        """Whether that goes for chunks that it was given itself, which may then be given again."""

    def read_chunk(self, index: Sequence[int]) -> npt.NDArray[Any]:
        """Return a chunk's elements, cut at the end of the array; fill value if not stored."""


@runtime_checkable
class Growing(Protocol):
    """A target whose array is not as long yet as it will be."""

    def grow(self, shape: Shape) -> None:
        """Take chunks within these extents from now on; never fewer than before."""


def padded(
    chunk: npt.NDArray[Any], shape: Shape, fill_value: Any, workspace: Workspace
) -> npt.NDArray[Any]:
    """Return a chunk at its full extents, the rest filled.

    Chunks are stored whole, also where they reach past the end of the array.

    Examples
    --------
    >>> padded(np.ones(2, "int8"), (3,), 7, Workspace()).tolist()
    [1, 1, 7]
    """
    if chunk.shape == shape:
        return chunk
    whole = workspace.array("padded", shape, chunk.dtype)
    whole[...] = fill_value
    whole[tuple(map(slice, chunk.shape))] = chunk
    return whole
