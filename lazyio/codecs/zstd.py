"""Zstandard frames with their content size, filter 32015 and Zarr's ``zstd``.

numcodecs brings libzstd and comes with zarr; it releases the GIL, and a
frame costs no more with it than with a reused ``zstandard`` compressor.
"""

from collections.abc import Callable

from lazyio.codecs.libraries import required
from lazyio.codecs.workspace import Bytes

Compress = Callable[[Bytes], bytes]

LEVELS = range(-131072, 23)
DEFAULT_LEVEL = 3


def compressor(level: int, *, checksum: bool = False) -> Compress:
    """Return a function from bytes to a zstd frame.

    Parameters
    ----------
    level : int
        -131072 to 22; 0 is the library's default, 3.
    checksum : bool
        Whether the frame ends with a checksum of its content.

    Returns
    -------
    callable
        Safe to call from several threads.

    Examples
    --------
    >>> import numpy as np
    >>> frame = compressor(1)(np.zeros(1000, np.uint8))
    >>> bytes(decompress(frame, 1000)) == bytes(1000)
    True
    """
    numcodecs = required("numcodecs", what='compression="zstd"', extra="fast")
    encode: Compress = numcodecs.Zstd(level=level, checksum=checksum).encode
    return encode


def decompress(frame: bytes | Bytes, nbytes: int) -> bytes:
    """Return the content of a zstd frame; ``nbytes`` is what it should hold."""
    del nbytes  # The frame itself says it.
    numcodecs = required("numcodecs", what="a zstd chunk", extra="fast")
    content: bytes = numcodecs.Zstd().decode(frame)
    return content
