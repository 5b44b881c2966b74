"""Zstandard frames with their content size, filter 32015 and Zarr's ``zstd``.

numcodecs brings libzstd and comes with zarr; it releases the GIL, and a
frame costs no more with it than with a reused ``zstandard`` compressor.
"""

from collections.abc import Callable

import numpy as np

from lazyio.codecs.libraries import required
from lazyio.codecs.workspace import Bytes

Compress = Callable[[Bytes], bytes]

LEVELS = range(-131072, 23)
DEFAULT_LEVEL = 3
_MAGIC = bytes.fromhex("28b52ffd")
_HEADER_NBYTES = 18


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


def decompress(frame: bytes | Bytes, nbytes: int) -> Bytes:
    """Return the content of a zstd frame, of which the length is known.

    Raises
    ------
    ValueError
        When the frame is damaged or longer than that.
    """
    numcodecs = required("numcodecs", what="a zstd chunk", extra="fast")
    claimed = content_size(bytes(frame[:_HEADER_NBYTES]))
    if claimed not in (None, nbytes):
        msg = f"its frame holds {claimed} bytes instead of {nbytes}"
        raise ValueError(msg)
    content = np.empty(nbytes, np.uint8) if claimed is not None else None
    try:
        decoded = numcodecs.Zstd().decode(frame, out=content)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return np.frombuffer(decoded, np.uint8)


def content_size(header: bytes) -> int | None:
    """Return the bytes that a zstd frame says it holds, ``None`` where it does not say.

    The header as in RFC 8878, 3.1.1.1: magic number, descriptor, and, as the
    descriptor says, window, dictionary and content size.

    Raises
    ------
    ValueError
        When it is no zstd frame, or cut short.

    Examples
    --------
    >>> content_size(bytes.fromhex("28b52ffd 60 e802 0000"))
    1000
    """
    if header[:4] != _MAGIC or len(header) < 5:
        msg = "it is no zstd frame"
        raise ValueError(msg)
    descriptor = header[4]
    is_single_segment = bool(descriptor & 0x20)
    width = (0, 2, 4, 8)[descriptor >> 6] or int(is_single_segment)
    if not width:
        return None
    begin = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    field = header[begin : begin + width]
    if len(field) < width:
        msg = "its zstd header is cut short"
        raise ValueError(msg)
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)
