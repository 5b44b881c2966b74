"""What reading an array in blocks costs a chunked source.

A block that is no multiple of the source's chunk decodes some chunks more
than once. How often has a closed form, independent of their number.
"""

import math

from lazyio.grid import n_along
from lazyio.spec import Shape

_ACCESS_NBYTES = 4096
"""What fetching a separate run of bytes costs beside the run itself."""
_LONG_RUN_NBYTES = 64 * 2**10
"""From here on that does not count."""


def touches(extent: int, block: int, chunk: int) -> int:
    """Return how many (block, source chunk) pairs overlap along one axis.

    Every block edge or chunk edge starts a new pair; edges that fall together,
    at multiples of the least common multiple, start one only.

    Examples
    --------
    >>> touches(12, 4, 6)
    4
    """
    if extent == 0:
        return 0
    shared = (extent - 1) // math.lcm(block, chunk)
    return n_along(extent, block) + n_along(extent, chunk) - 1 - shared


def elements_read(extent: int, block: int, chunk: int) -> int:
    """Return the elements decoded along one axis when it is read block by block.

    Examples
    --------
    >>> elements_read(12, 4, 6)
    24
    """
    if extent == 0:
        return 0
    last_chunk_start = (extent - 1) // chunk * chunk
    blocks_on_last = n_along(extent, block) - last_chunk_start // block
    padding = last_chunk_start + chunk - extent
    return touches(extent, block, chunk) * chunk - padding * blocks_on_last


def read_amplification(shape: Shape, block: Shape, source_chunk: Shape) -> float:
    """Return elements decoded over elements wanted; 1.0 when nothing is read twice.

    Examples
    --------
    >>> read_amplification((12, 6), (4, 6), (6, 6))
    2.0
    """
    total = math.prod(shape)
    if total == 0:
        return 1.0
    read = math.prod(map(elements_read, shape, block, source_chunk))
    return read / total


def run_amplification(shape: Shape, block: Shape, itemsize: int) -> float:
    """Return the cost of reading blocks of a C-ordered file, 1.0 at best.

    A block that spans the trailing axes is a few long runs. A narrow one is
    many short runs, each of which costs about a page beside its own bytes,
    though never more than reading the whole row that it lies in.

    Examples
    --------
    >>> run_amplification((700000, 384), (1000, 384), 2)
    1.0
    >>> run_amplification((700000, 384), (1000, 1), 2)
    384.0
    """
    run = itemsize
    for extent, edge in zip(reversed(shape), reversed(block), strict=True):
        run *= min(extent, edge)
        if edge < extent:
            row = run // min(extent, edge) * extent
            if run == 0 or run >= _LONG_RUN_NBYTES:
                return 1.0
            return min((run + _ACCESS_NBYTES) / run, row / run)
    return 1.0
