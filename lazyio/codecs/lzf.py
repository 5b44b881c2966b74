"""LZF streams without a header, filter 32000, which every h5py has.

The library is the one that h5py brings for its own filter; called by way of
ctypes it needs no lock of libhdf5 and releases the GIL. A chunk that does not
shrink is stored as it is, under its mask bit. imagecodecs takes half the time by
``python -m benchmarks codecs``; it is large, and lzf is kept for files of old.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from lazyio.codecs.base import LZF, Codec, Compress
from lazyio.codecs.libraries import optional, shared_functions
from lazyio.codecs.workspace import Bytes

_SIGNATURE = (ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint)
_MOST_LITERALS = 32
_MIN_NBYTES = 4
"""liblzf looks at bytes behind shorter ones, and never shortens them."""


@cache
def library() -> Any:
    """Return h5py's liblzf, ``None`` where h5py was built without its names."""
    h5z = optional("h5py.h5z")
    if h5z is None or h5z.__file__ is None:
        return None
    arguments = dict.fromkeys(("lzf_compress", "lzf_decompress"), _SIGNATURE)
    return shared_functions(h5z.__file__, arguments, returns=ctypes.c_uint)


def is_available() -> bool:
    """Return whether LZF can be had outside libhdf5."""
    return library() is not None


def compressor() -> Compress:
    """Return a function from bytes to an LZF stream, a longer one where none is shorter.

    Examples
    --------
    >>> data = np.zeros(1000, np.uint8)
    >>> stream, out = compressor()(data), np.ones(1000, np.uint8)
    >>> decompress(stream, out)
    >>> stream.size < 50, int(out.sum())
    (True, 0)
    """
    functions = library()

    def compress(data: Bytes) -> Bytes:
        if data.size < _MIN_NBYTES:
            return _as_it_is(data)
        stream = np.empty(data.size, np.uint8)
        room = stream.ctypes.data, stream.size
        nbytes = functions.lzf_compress(data.ctypes.data, data.size, *room)
        return stream[:nbytes] if nbytes else _as_it_is(data)

    return compress


def _as_it_is(data: Bytes) -> Bytes:
    """Return a stream of nothing but literals: runs of up to 32 bytes behind their number."""
    n_whole, left = divmod(data.size, _MOST_LITERALS)
    stream = np.empty(data.size + n_whole + (left > 0), np.uint8)
    runs = stream[: n_whole * (1 + _MOST_LITERALS)].reshape(n_whole, 1 + _MOST_LITERALS)
    runs[:, 0] = _MOST_LITERALS - 1
    runs[:, 1:] = data[: data.size - left].reshape(n_whole, _MOST_LITERALS)
    if left:
        stream[-left - 1] = left - 1
        stream[-left:] = data[-left:]
    return stream


def decompress(stream: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a stream."""
    packed = np.ascontiguousarray(stream)
    nbytes = library().lzf_decompress(packed.ctypes.data, packed.size, out.ctypes.data, out.size)
    if nbytes != out.size:
        msg = f"it is no LZF stream of {out.size} bytes"
        raise ValueError(msg)


CODEC = Codec(
    name="lzf",
    filter_id=LZF,
    encoded_by="h5py's liblzf, libhdf5",
    without="never missing: h5py brings it",
    read_with="nothing",
    compressor=lambda *_: compressor() if is_available() else None,
    decompressor=lambda *_: decompress if is_available() else None,
)
