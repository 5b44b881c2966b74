"""Bits of the same weight side by side, in small blocks, then LZ4 or zstd: filter 32008.

By ``python -m benchmarks codecs`` encoding takes as long as imagecodecs', and decoding 0.6 of it.

The library is the one inside hdf5plugin, which writing and reading such a
file with h5py need anyway; called by way of ctypes it needs no lock of
libhdf5 and releases the GIL. Its decoder believes the sizes in a payload, so
they are added up before it is called.
"""

import ctypes
import struct
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lazyio.codecs import lz4, zstd
from lazyio.codecs.base import BITSHUFFLE, ChunkFacts, Codec, Compress, Decompress, Options, signed
from lazyio.codecs.libraries import optional, shared_functions
from lazyio.codecs.workspace import Bytes
from lazyio.dtypes import is_integer
from lazyio.errors import OptionError

NONE, LZ4, ZSTD = 0, 2, 3
"""What follows the shuffle, as the filter's client data names it."""
CNAMES = {"none": NONE, "lz4": LZ4, "zstd": ZSTD}
_HEADER = struct.Struct(">QI")
_SIZES = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t)
_IN_OUT = (ctypes.c_void_p, ctypes.c_void_p, *_SIZES)
_UNIT = 8
"""Elements that a block has a multiple of; a remainder below that follows as it is."""


@cache
def library() -> Any:
    """Return hdf5plugin's bitshuffle, ``None`` where it is missing or has threads."""
    plugins = optional("hdf5plugin")
    if plugins is None or plugins.get_config().build_config.openmp:
        return None
    arguments = {
        "bshuf_bitshuffle": _IN_OUT,
        "bshuf_bitunshuffle": _IN_OUT,
        "bshuf_compress_lz4": _IN_OUT,
        "bshuf_decompress_lz4": _IN_OUT,
        "bshuf_compress_lz4_bound": _SIZES,
        "bshuf_compress_zstd": (*_IN_OUT, ctypes.c_int),
        "bshuf_decompress_zstd": _IN_OUT,
        "bshuf_compress_zstd_bound": _SIZES,
        "bshuf_default_block_size": _SIZES[:1],
    }
    for file in Path(plugins.PLUGIN_PATH).glob("*h5bshuf.*"):
        return shared_functions(str(file), arguments, returns=ctypes.c_int64)
    return None


def is_available() -> bool:
    """Return whether bitshuffle can be had outside libhdf5."""
    return library() is not None


def compressor(itemsize: int, block: int, follows: int, level: int) -> Compress:
    """Return a function from bytes to the payload of the bitshuffle filter.

    Examples
    --------
    >>> payload = compressor(2, 0, LZ4, 0)(np.zeros(1000, np.uint8))
    >>> out = np.ones(1000, np.uint8)
    >>> decompress(payload, out, itemsize=2, block=0, follows=LZ4)
    >>> payload.size < 100, int(out.sum())
    (True, 0)
    """
    functions = library()
    block = block or functions.bshuf_default_block_size(itemsize)
    if follows == NONE:
        return lambda data: _bit_planes(functions.bshuf_bitshuffle, data, itemsize, block)
    is_zstd = follows == ZSTD
    bound = functions.bshuf_compress_zstd_bound if is_zstd else functions.bshuf_compress_lz4_bound
    function = functions.bshuf_compress_zstd if is_zstd else functions.bshuf_compress_lz4
    levels = (level,) if is_zstd else ()

    def compress(data: Bytes) -> Bytes:
        n_elements = data.size // itemsize
        payload = np.empty(_HEADER.size + bound(n_elements, itemsize, block), np.uint8)
        payload[: _HEADER.size] = memoryview(_HEADER.pack(data.size, block * itemsize))
        place = payload.ctypes.data + _HEADER.size
        nbytes = function(data.ctypes.data, place, n_elements, itemsize, block, *levels)
        _check(nbytes)
        return payload[: _HEADER.size + nbytes]

    return compress


def decompress(payload: Bytes, out: Bytes, *, itemsize: int, block: int, follows: int) -> None:
    """Fill ``out`` with the content of a payload."""
    functions = library()
    packed = np.ascontiguousarray(payload)
    if out.size % itemsize:
        msg = f"{out.size} bytes are no whole number of elements of {itemsize}"
        raise ValueError(msg)
    if follows == NONE:
        if packed.size != out.size:
            msg = f"it has {packed.size} bytes instead of {out.size}"
            raise ValueError(msg)
        _check(_shuffled(functions.bshuf_bitunshuffle, packed, out, itemsize, block))
        return
    # A payload says itself how long its blocks are.
    block = _check_blocks(packed, out.size, itemsize)
    is_zstd = follows == ZSTD
    function = functions.bshuf_decompress_zstd if is_zstd else functions.bshuf_decompress_lz4
    _check(_shuffled(function, packed[_HEADER.size :], out, itemsize, block))


def _bit_planes(function: Any, data: Bytes, itemsize: int, block: int) -> Bytes:
    planes = np.empty(data.size, np.uint8)
    _check(_shuffled(function, data, planes, itemsize, block))
    return planes


def _shuffled(function: Any, source: Bytes, out: Bytes, itemsize: int, block: int) -> int:
    n_elements = out.size // itemsize
    return int(function(source.ctypes.data, out.ctypes.data, n_elements, itemsize, block))


def _check(result: int) -> None:
    if result < 0:
        msg = f"bitshuffle's error {result}"
        raise ValueError(msg)


def _check_blocks(payload: Bytes, nbytes: int, itemsize: int) -> int:
    """Return the elements of a block, after adding up the sizes of all blocks."""
    block_nbytes = lz4.read_header(payload, nbytes)
    block, rest = divmod(block_nbytes, itemsize)
    if rest or block % _UNIT:
        msg = f"its blocks of {block_nbytes} bytes are no multiple of 8 elements of {itemsize}"
        raise ValueError(msg)
    n_elements = nbytes // itemsize
    n_blocks = n_elements // block + (n_elements % block >= _UNIT)
    view, at, end = memoryview(payload), _HEADER.size, payload.size
    for _ in range(n_blocks):
        # Beyond the end this is a shorter number, and the sum is wrong all the same.
        at += 4 + int.from_bytes(view[at : at + 4], "big")
        if at > end:
            break
    if at + n_elements % _UNIT * itemsize != end:
        msg = "its blocks do not add up to its length"
        raise ValueError(msg)
    return block


def _options(_: str, opts: Any, __: ChunkFacts) -> Options:
    try:
        cname, level = ("lz4", 0) if opts is None else opts
        valid = cname in CNAMES and is_integer(level)
        valid = valid and (level in zstd.LEVELS if cname == "zstd" else level == 0)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        msg = (
            f"compression_opts={opts!r}: bitshuffle takes (cname, clevel), with cname one of "
            f"{', '.join(CNAMES)} and a clevel for zstd, else 0"
        )
        raise OptionError(msg)
    # The block size, 0 for the library's own choice, comes first.
    options = (0, CNAMES[cname])
    return (*options, int(level) % 2**32) if cname == "zstd" else options


def _compressor(options: Options, itemsize: int) -> Compress | None:
    block, follows, level = (*options, 0, 0, 0)[:3]
    is_known = block % 8 == 0 and follows in CNAMES.values()
    if not itemsize or not is_known or not is_available():
        return None
    return compressor(itemsize, block, follows, signed(level))


def _decompressor(options: Options, itemsize: int) -> Decompress | None:
    # In the file three numbers of the plugin's own come first, the element size last of them.
    block, follows = (*options[3:], 0, 0)[:2]
    is_known = options[2:3] == (itemsize,) and follows in CNAMES.values()
    if not is_known or block % 8 or not is_available():
        return None
    return partial(decompress, itemsize=itemsize, block=block, follows=follows)


CODEC = Codec(
    name="bitshuffle",
    filter_id=BITSHUFFLE,
    encoded_by="hdf5plugin's bitshuffle, libhdf5 with a plugin",
    without="OptionError naming lazyio[plugins]",
    read_with="hdf5plugin",
    options=_options,
    # Three numbers of the plugin's own come first in the file.
    as_given=lambda options: options[3:],
    compressor=_compressor,
    decompressor=_decompressor,
    is_self_contained=True,
)
