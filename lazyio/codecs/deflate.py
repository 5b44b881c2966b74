"""gzip as HDF5 and zlib know it: zlib streams (RFC 1950), filter 1.

By ``python -m benchmarks codecs`` nine times as fast as zlib at level 1 and twice at level 4;
Zarr's gzip three to four times as fast as zarr's own.

Level 1 takes ISA-L, nine times as fast as zlib; from level 2 on libdeflate,
about twice as fast; zlib where neither is installed. All three release the GIL
and any zlib reads what they write.

Who names a level asks for its size. libdeflate's levels are not zlib's: from 5
on the next one is taken, which is smaller and still faster; below, chunks that
shrink very well are looked at more closely, for there zlib may be better.
"""

import zlib
from types import ModuleType
from typing import Any

import numpy as np

from lazyio.codecs.base import (
    DEFLATE,
    ChunkFacts,
    Codec,
    Compress,
    Options,
    level_option,
    require_size,
)
from lazyio.codecs.libraries import optional
from lazyio.codecs.workspace import Bytes

LEVELS = range(10)
DEFAULT_LEVEL = 4
_LEVELS = {5: 6, 6: 7, 7: 8, 8: 9, 9: 10}
"""Level of libdeflate for one of zlib, where its own of that name is larger too often."""
_OTHERS = (5, 7)
"""Levels to try where a sample says that zlib does better."""
_WELL, _AS_GOOD = 0.45, 1.003
"""Part that a chunk shrinks to before anything is tried, and what counts as no larger."""
_SAMPLE_NBYTES, _N_SAMPLES = 2**14, 4
_GZIP = 16
"""Added to the window bits, it makes zlib take gzip's header."""


def compressor(level: int) -> Compress:
    """Return a function from bytes to a zlib stream at one level.

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
        if level in _LEVELS:
            return lambda data: bytes_of(libdeflate.zlib_compress(data, _LEVELS[level]))
        return lambda data: _no_larger(libdeflate, data, level)
    return lambda data: zlib.compress(data, level)


def _no_larger(libdeflate: ModuleType, data: Bytes, level: int) -> bytes:
    """Return a stream that is hardly larger than zlib's, as far as a sample of the chunk tells."""
    stream = bytes_of(libdeflate.zlib_compress(data, level))
    if len(stream) >= _WELL * data.size:
        return stream
    sample = _sample_of(data)
    most = _AS_GOOD * len(zlib.compress(sample, level))
    if len(libdeflate.zlib_compress(sample, level)) <= most:
        return stream
    for other in _OTHERS:
        if len(libdeflate.zlib_compress(sample, other)) <= most:
            return bytes_of(libdeflate.zlib_compress(data, other))
    return zlib.compress(data, level)


def _sample_of(data: Bytes) -> Bytes:
    """Return some pieces of a chunk, the same each time: of planes that differ, too."""
    if data.size <= 2 * _SAMPLE_NBYTES:
        return data
    nbytes, step = _SAMPLE_NBYTES // _N_SAMPLES, data.size // _N_SAMPLES
    starts = [at * step + (step - nbytes) // 2 for at in range(_N_SAMPLES)]
    return np.concatenate([data[start : start + nbytes] for start in starts])


def decompress(stream: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a zlib stream."""
    libdeflate = optional("deflate")
    if libdeflate is None:
        _inflate(stream, out, zlib.MAX_WBITS)
        return
    try:
        data = libdeflate.zlib_decompress(stream, out.size)
    except libdeflate.DeflateError as error:
        raise ValueError(str(error)) from error
    require_size(len(data), out.size)
    out[:] = memoryview(data)


def decompress_gzip(stream: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a gzip file of one member or more, as Zarr has them."""
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
    require_size(done, out.size)


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


def _options(name: str, opts: Any, _: ChunkFacts) -> Options:
    return (level_option(name, opts, LEVELS, DEFAULT_LEVEL),)


CODEC = Codec(
    name="gzip",
    filter_id=DEFLATE,
    encoded_by="ISA-L (level 1), libdeflate (from level 2), zlib",
    without="zlib is part of Python: correct and slower",
    read_with="nothing",
    options=_options,
    options_by_id=lambda given, facts: _options("gzip", given[0] if given else None, facts),
    compressor=lambda options, _: compressor(options[0]),
    decompressor=lambda *_: decompress,
)
