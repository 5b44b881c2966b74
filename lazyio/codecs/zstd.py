"""Zstandard frames with their content size, filter 32015 and Zarr's ``zstd``.

By ``python -m benchmarks codecs`` as fast as numcodecs itself, imagecodecs and zarr, to a tenth.

numcodecs brings libzstd and comes with zarr; it releases the GIL, and a
frame costs no more with it than with a reused ``zstandard`` compressor.
"""

from typing import Any

from lazyio.codecs.base import (
    ZSTD,
    ChunkFacts,
    Codec,
    Compress,
    Options,
    level_option,
    require_size,
    signed,
)
from lazyio.codecs.libraries import optional, required
from lazyio.codecs.workspace import Bytes

LEVELS = range(-131072, 23)
DEFAULT_LEVEL = 3
_RAW, _RUN = 0, 1
_MOST_IN_BLOCK = 128 * 2**10
_MOST_GROWTH, _LEAST_ROOM = 16, 16 * 2**20
"""How much more than it should a frame without a size may seem to hold, before it is a bomb."""
_MAGIC = bytes.fromhex("28b52ffd")
HEADER_NBYTES = 18
"""Of the longest one."""


def compressor(level: int, *, checksum: bool = False) -> Compress:
    """Return a function from bytes to a zstd frame.

    Examples
    --------
    >>> import numpy as np
    >>> frame, out = compressor(1)(np.zeros(1000, np.uint8)), np.ones(1000, np.uint8)
    >>> decompress(np.frombuffer(frame, np.uint8), out)
    >>> int(out.sum())
    0
    """
    numcodecs = required("numcodecs", what='compression="zstd"', extra="fast")
    encode: Compress = numcodecs.Zstd(level=level, checksum=checksum).encode
    return encode


def decompress(frame: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a zstd frame."""
    numcodecs = required("numcodecs", what="a zstd chunk", extra="fast")
    claimed = content_size(frame[:HEADER_NBYTES].tobytes())
    if claimed not in (None, out.size):
        msg = f"its frame holds {claimed} bytes instead of {out.size}"
        raise ValueError(msg)
    if claimed is None and most_content(frame) > max(_MOST_GROWTH * out.size, _LEAST_ROOM):
        msg = f"its frame may hold {most_content(frame)} bytes instead of {out.size}"
        raise ValueError(msg)
    try:
        # A frame that does not say its size is not decoded into memory that it may exceed.
        content = numcodecs.Zstd().decode(frame, out=out if claimed is not None else None)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    if claimed is None:
        require_size(len(content), out.size)
        out[:] = memoryview(content)


def most_content(frame: Bytes) -> int:
    """Return the most bytes that a frame can hold, from the headers of its blocks.

    A block holds at most 128 KiB (RFC 8878, 3.1.1.2).
    """
    header = frame[:HEADER_NBYTES].tobytes()
    at = 5 + (not header[4] & 0x20) + (0, 1, 2, 4)[header[4] & 3]
    most = 0
    while at + 3 <= len(frame):
        block = int.from_bytes(frame[at : at + 3].tobytes(), "little")
        size, kind = block >> 3, block >> 1 & 3
        # A run is one byte, of which the size says how often.
        at += 3 + (1 if kind == _RUN else size)
        most += size if kind in (_RAW, _RUN) else _MOST_IN_BLOCK
        if block & 1:
            break
    return most


def content_size(header: bytes) -> int | None:
    """Return the bytes that a zstd frame says it holds, ``None`` where it does not say.

    The header as in RFC 8878, 3.1.1.1: magic number, descriptor, and, as the
    descriptor says, window, dictionary and content size.

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


def _options(name: str, opts: Any, _: ChunkFacts) -> Options:
    return (level_option(name, opts, LEVELS, DEFAULT_LEVEL) % 2**32,)


CODEC = Codec(
    name="zstd",
    filter_id=ZSTD,
    encoded_by="numcodecs",
    without="OptionError naming lazyio[fast]",
    read_with="hdf5plugin",
    options=_options,
    compressor=lambda options, _: compressor(signed(options[0]) if options else DEFAULT_LEVEL),
    decompressor=lambda *_: decompress if optional("numcodecs") is not None else None,
)
