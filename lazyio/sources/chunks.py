"""A region of a chunked array, told chunk by chunk."""

import itertools
from collections.abc import Iterator

from lazyio.codecs.workspace import Workspace
from lazyio.grid import Region, n_along, overlap
from lazyio.sources.base import Array
from lazyio.spec import Shape


def touched_chunks(
    region: Region, chunk_shape: Shape
) -> Iterator[tuple[tuple[int, ...], Region, Region]]:
    """Yield every chunk that a region has elements of, in C order.

    Parameters
    ----------
    region : tuple of slice
        A part of the array.
    chunk_shape : tuple of int
        Extents of a chunk.

    Yields
    ------
    index : tuple of int
        Position in the grid of chunks.
    inside, outside : tuple of slice
        What is wanted of the chunk, counted from the chunk's corner and from
        the region's.

    Examples
    --------
    >>> for index, inside, outside in touched_chunks((slice(3, 9),), (4,)):
    ...     print(index, inside[0].start, inside[0].stop, outside[0].start)
    (0,) 3 4 0
    (1,) 0 4 1
    (2,) 0 1 5
    """
    if any(part.start == part.stop for part in region):
        return
    ranges = (
        range(part.start // step, n_along(part.stop, step))
        for part, step in zip(region, chunk_shape, strict=True)
    )
    for index in itertools.product(*ranges):
        yield index, *overlap(region, chunk_shape, index)


def whole_chunk(part: Array, chunk_shape: Shape, workspace: Workspace) -> Array:
    """Return where to decode a chunk: straight into place where it is wanted whole.

    Parameters
    ----------
    part : ndarray
        The part of the result that is wanted of the chunk.
    chunk_shape : tuple of int
        Extents of the chunk.
    workspace : Workspace
        The calling thread's own.

    Returns
    -------
    ndarray
        C-ordered, of the chunk's shape: ``part`` itself, or memory to copy from.

    Examples
    --------
    >>> import numpy as np
    >>> part = np.zeros((2, 3))
    >>> whole_chunk(part, (2, 3), Workspace()) is part
    True
    >>> whole_chunk(part[:, :2], (2, 3), Workspace()).shape
    (2, 3)
    """
    if part.shape == chunk_shape and part.flags.c_contiguous:
        return part
    return workspace.array("chunk", chunk_shape, part.dtype)
