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
_GZIP = 16
"""Added to the window bits, it makes zlib take gzip's header."""


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
    if libdeflate is None:
        _inflate(stream, out, zlib.MAX_WBITS)
        return
    try:
        data = libdeflate.zlib_decompress(stream, out.size)
    except libdeflate.DeflateError as error:
        raise ValueError(str(error)) from error
    _require(len(data), out.size)
    out[:] = memoryview(data)


def decompress_gzip(stream: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a gzip file of one member or more, as Zarr has them.

    Raises
    ------
    ValueError
        When the stream is damaged or of another length.
    """
    libdeflate = optional("deflate")
    if libdeflate is not None:
        try:
            data = libdeflate.gzip_decompress(stream, out.size)
        except libdeflate.DeflateError:
            # Damaged, or of several members: zlib tells which.
            data = b""
        if len(data) == out.size:
            out[:] = memoryview(data)
            return
    _inflate(stream, out, zlib.MAX_WBITS | _GZIP)


def _inflate(stream: Bytes, out: Bytes, window: int) -> None:
    done, rest = 0, memoryview(stream).cast("B")
    while len(rest):
        state = zlib.decompressobj(window)
        try:
            # One byte more than there should be, so that a longer stream is seen.
            data = state.decompress(rest, out.size - done + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if not state.eof or done + len(data) > out.size:
            msg = f"the stream is cut short, or longer than {out.size} bytes"
            raise ValueError(msg)
        out[done : done + len(data)] = memoryview(data)
        done += len(data)
        rest = memoryview(state.unused_data if window & _GZIP else b"")
    _require(done, out.size)


def _require(n_decoded: int, nbytes: int) -> None:
    if n_decoded != nbytes:
        msg = f"it decodes to {n_decoded} bytes instead of {nbytes}"
        raise ValueError(msg)


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
