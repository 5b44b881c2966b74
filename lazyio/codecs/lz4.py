"""LZ4 blocks behind HDF5's own header, filter 32004.

By ``python -m benchmarks codecs`` as fast as imagecodecs', to a tenth; only the header is ours.

The chunk's bytes and the block's bytes, both big-endian, then each block with
its size in front; a block that does not shrink is stored as it is. numcodecs
brings liblz4, which releases the GIL and never writes beyond what it is given,
as the plugin's own decoder may.
"""

import struct
from typing import Any

import numpy as np

from lazyio.codecs.base import LZ4, ChunkFacts, Codec, Compress, Options, only_one, refuse_above
from lazyio.codecs.libraries import optional, required
from lazyio.codecs.workspace import Bytes
from lazyio.dtypes import is_integer
from lazyio.errors import OptionError

MAX_NBYTES = 2**31 - 1
"""The filter counts a chunk in signed 32 bits."""
MAX_BLOCK_NBYTES = 0x7E000000
"""Where liblz4 stops."""
_BLOCK_NBYTES = 2**30
"""The filter's own choice."""
_HEADER = struct.Struct(">QI")


def compressor(block_nbytes: int = 0) -> Compress:
    """Return a function from bytes to the payload of the LZ4 filter.

    Examples
    --------
    >>> payload = compressor()(np.zeros(1000, np.uint8))
    >>> out = np.ones(1000, np.uint8)
    >>> decompress(np.frombuffer(payload, np.uint8), out)
    >>> int(out.sum())
    0
    """
    lz4 = required("numcodecs.lz4", what='compression="lz4"', extra="fast")

    def compress(data: Bytes) -> bytes:
        step = min(block_nbytes or _BLOCK_NBYTES, data.size)
        parts: list[Any] = [_HEADER.pack(data.size, step)]
        for at in range(0, data.size, step or 1):
            block = data[at : at + step]
            # numcodecs puts the size before compression in front, little-endian.
            packed = memoryview(lz4.compress(block))[4:]
            stored = packed if len(packed) < block.size else memoryview(block)
            parts += (len(stored).to_bytes(4, "big"), stored)
        return b"".join(parts)

    return compress


def decompress(payload: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a payload."""
    lz4 = required("numcodecs.lz4", what="an lz4 chunk", extra="fast")
    step = read_header(payload, out.size)
    at = _HEADER.size
    for begin in range(0, out.size, step):
        block = out[begin : begin + step]
        stored_nbytes = int.from_bytes(payload[at : at + 4].tobytes(), "big")
        at += 4 + stored_nbytes
        if at > payload.size:
            msg = "its last block is cut short"
            raise ValueError(msg)
        stored = payload[at - stored_nbytes : at]
        if stored_nbytes == block.size:
            block[:] = stored
        else:
            _decompress_block(lz4, stored, block)


def read_header(payload: Bytes, nbytes: int) -> int:
    """Return the bytes of a block, after comparing the header with what is there.

    The header is that of bitshuffle's payloads, too.
    """
    if payload.size < _HEADER.size:
        msg = "it is too short for its header"
        raise ValueError(msg)
    claimed, block_nbytes = _HEADER.unpack(payload[: _HEADER.size].tobytes())
    if claimed != nbytes or not block_nbytes:
        msg = (
            f"its header speaks of {claimed} bytes in blocks of {block_nbytes}, "
            f"there should be {nbytes}"
        )
        raise ValueError(msg)
    return int(block_nbytes)


def _decompress_block(lz4: Any, stored: Bytes, block: Bytes) -> None:
    sized = np.empty(stored.size + 4, np.uint8)
    sized[:4].view("<u4")[0] = block.size
    sized[4:] = stored
    try:
        lz4.decompress(sized, block)
    except (RuntimeError, ValueError) as error:
        raise ValueError(str(error)) from error


def _options(_: str, opts: Any, facts: ChunkFacts) -> Options:
    refuse_above(MAX_NBYTES, "lz4", facts)
    opts = only_one(opts)
    block_nbytes = 0 if opts is None else opts
    if not is_integer(block_nbytes) or not 0 <= block_nbytes <= MAX_BLOCK_NBYTES:
        most = MAX_BLOCK_NBYTES
        msg = f"compression_opts={opts!r}: lz4 takes the bytes of a block, up to {most}, or 0"
        raise OptionError(msg)
    return (int(block_nbytes),)


def _compressor(options: Options, _: int) -> Compress | None:
    has_library = optional("numcodecs") is not None
    return compressor(options[0] if options else 0) if has_library else None


CODEC = Codec(
    name="lz4",
    filter_id=LZ4,
    encoded_by="numcodecs, libhdf5 with a plugin",
    without="OptionError naming lazyio[plugins]",
    read_with="hdf5plugin",
    options=_options,
    options_by_id=lambda given, facts: _options("lz4", given or None, facts),
    compressor=_compressor,
    decompressor=lambda *_: decompress if optional("numcodecs") is not None else None,
    is_self_contained=True,
)
