"""A part of an array that is there already: chunks at its rim keep what lies outside."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Workspace
from lazyio.grid import Region, box, box_shape
from lazyio.spec import Shape
from lazyio.targets.base import Rewritable
from lazyio.targets.in_process import Shared


class WindowTarget:
    """Part of an existing array, which takes its own chunks' shares of the window.

    A chunk that the window covers goes to the array as it is. One that it cuts
    is read, overlaid and written once.
    """

    def __init__(self, target: Rewritable, window: Region, shared: Shared | None = None) -> None:
        self._target = target
        self._window = window
        self._shared = shared

    @property
    def shape(self) -> Shape:
        """Extents of the whole array, in elements."""
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
        """How chunks get there."""
        return self._target.engine

    @property
    def n_written(self) -> int:
        """Chunks that were encoded and stored."""
        return self._target.n_written

    def write_chunk(
        self, index: Sequence[int], chunk: npt.NDArray[Any], workspace: Workspace
    ) -> None:
        """Encode a chunk, with what is there around the window, and commit it."""
        if self._shared is None:
            _merge(self._target, self._window, index, chunk, workspace)
            return
        with self._shared.alone_at(index, self._target) as target:
            _merge(target, self._window, index, chunk, workspace)

    def finish(self) -> int:
        """Finish the array and return the bytes of all payloads written."""
        return self._target.finish()


def _merge(
    target: Rewritable,
    window: Region,
    index: Sequence[int],
    chunk: npt.NDArray[Any],
    workspace: Workspace,
) -> None:
    """Write a chunk, with what is there around a window."""
    place = box(target.shape, target.chunk_shape, index)
    if chunk.shape == box_shape(place):
        target.write_chunk(index, chunk, workspace)
        return
    whole = target.read_chunk(index)
    # Counted from the start of the chunk, whatever part of it lies in the window.
    inside = tuple(
        slice(max(0, bounds.start - part.start), min(part.stop, bounds.stop) - part.start)
        for part, bounds in zip(place, window, strict=True)
    )
    whole[inside] = chunk
    target.write_chunk(index, whole, workspace)
