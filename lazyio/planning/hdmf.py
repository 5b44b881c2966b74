"""HDMF's GenericDataChunkIterator shapes, to the digit.

Ported from the behaviour of HDMF 6.2 (``_get_default_chunk_shape`` and
``_get_default_buffer_shape``): chunks keep the array's proportions, buffers
are chunks scaled by one integer. Its roots are floats there; here they are
exact integers.
"""

import math

from lazyio.spec import Shape

CHUNK_NBYTES = 10_000_000
"""HDMF's ``chunk_mb=10``."""
BLOCK_NBYTES = 1_000_000_000
"""HDMF's ``buffer_gb=1``."""


def hdmf_chunk_shape(shape: Shape, itemsize: int, chunk_nbytes: int) -> Shape:
    """Return the chunk shape that HDMF chooses.

    Examples
    --------
    >>> hdmf_chunk_shape((20000, 5000), 4, 10_000_000)
    (3160, 790)
    """
    smallest = min(shape)
    ratio = [extent // smallest for extent in shape]
    while math.prod(ratio) * itemsize > chunk_nbytes and math.prod(ratio) != 1:
        divisor = min(extent for extent in ratio if extent != 1)
        ratio = [extent if extent == 1 else extent // divisor for extent in ratio]
    scale = _scale(chunk_nbytes, math.prod(ratio) * itemsize, len(shape))
    return tuple(
        max(1, min(scale * part, extent)) for part, extent in zip(ratio, shape, strict=True)
    )


def hdmf_block_shape(shape: Shape, chunk_shape: Shape, itemsize: int, block_nbytes: int) -> Shape:
    """Return the buffer shape that HDMF chooses.

    Examples
    --------
    >>> hdmf_block_shape((20000, 5000), (3160, 790), 4, 200_000_000)
    (12640, 3160)
    """
    scale = max(1, _scale(block_nbytes, math.prod(chunk_shape) * itemsize, len(shape)))
    return tuple(
        min(scale * chunk, extent) for chunk, extent in zip(chunk_shape, shape, strict=True)
    )


def _scale(budget: int, nbytes: int, ndim: int) -> int:
    """Return the largest k with ``k ** ndim * nbytes <= budget``."""
    scale = int((budget / nbytes) ** (1 / ndim))
    while scale**ndim * nbytes > budget:
        scale -= 1
    while (scale + 1) ** ndim * nbytes <= budget:
        scale += 1
    return scale
