"""gzip as HDF5 and zlib know it: zlib streams (RFC 1950), filter 1.

Level 1 takes ISA-L, nine times as fast as zlib; from level 2 on libdeflate,
which is smaller and twice as fast at the same level; zlib where neither is
installed. All three release the GIL and any zlib reads what they write.
"""

import zlib
from collections.abc import Callable

from lazyio.codecs.libraries import optional
from lazyio.codecs.workspace import Bytes

Compress = Callable[[Bytes], bytes]

LEVELS = range(10)
DEFAULT_LEVEL = 4


def compressor(level: int) -> Compress:
    """Return a function from bytes to a zlib stream at one level.

    Parameters
    ----------
    level : int
        0 to 9; 0 stores.

    Returns
    -------
    callable
        Safe to call from several threads.

    Examples
    --------
    >>> import numpy as np
    >>> stream = compressor(4)(np.zeros(1000, np.uint8))
    >>> zlib.decompress(stream) == bytes(1000)
    True
    """
    isal = optional("isal.isal_zlib")
    libdeflate = optional("deflate")
    if level == 1 and isal is not None:
        return lambda data: bytes_of(isal.compress(data, 1))
    if level >= 1 and libdeflate is not None:
        return lambda data: bytes_of(libdeflate.zlib_compress(data, level))
    return lambda data: zlib.compress(data, level)


def decompress(stream: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a zlib stream.

    Raises
    ------
    ValueError
        When the stream is damaged or of another length.
    """
    libdeflate = optional("deflate")
    if libdeflate is not None:
        try:
            data = libdeflate.zlib_decompress(stream, out.size)
        except libdeflate.DeflateError as error:
            raise ValueError(str(error)) from error
    else:
        data = _inflated(stream, out.size)
    if len(data) != out.size:
        msg = f"it decodes to {len(data)} bytes instead of {out.size}"
        raise ValueError(msg)
    out[:] = memoryview(data)


def _inflated(stream: Bytes, nbytes: int) -> bytes:
    state = zlib.decompressobj()
    try:
        # One byte more than there should be, so that a longer stream is seen.
        data = state.decompress(stream, nbytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not state.eof:
        msg = f"the stream is cut short, or longer than {nbytes} bytes"
        raise ValueError(msg)
    return data


def library(level: int) -> str:
    """Return the name of the library that encodes at this level."""
    if level == 1 and optional("isal.isal_zlib") is not None:
        return "ISA-L"
    if level >= 1 and optional("deflate") is not None:
        return "libdeflate"
    return "zlib"


def bytes_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return what a C library gave as the bytes it is, without a copy if it is bytes."""
    return data if isinstance(data, bytes) else bytes(data)
