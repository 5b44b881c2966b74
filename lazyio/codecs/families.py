"""Which family encodes and decodes a compression filter, where libhdf5 need not.

Encoders take a filter as it is given, decoders as a file describes it: the two
differ where a plugin puts numbers of its own before those it was given.
"""

from collections.abc import Callable
from functools import partial

from lazyio.codecs import bitshuffle, blosc, blosc2, deflate, lz4, lzf, zstd
from lazyio.codecs.filters import (
    BITSHUFFLE,
    BLOSC,
    BLOSC2,
    DEFLATE,
    FLETCHER32,
    LZ4,
    LZF,
    SHUFFLE,
    ZSTD,
    Filter,
    blosc_defaults,
)
from lazyio.codecs.libraries import optional
from lazyio.codecs.workspace import Bytes

Compress = Callable[[Bytes], bytes | Bytes]
Decompress = Callable[[Bytes, Bytes], None]

SELF_CONTAINED = {BLOSC, BLOSC2, LZ4, BITSHUFFLE}
"""Filters that store what does not shrink inside their own payload, not under a mask bit."""


def in_usual_order(filters: tuple[Filter, ...]) -> bool:
    """Return whether it is a shuffle, a codec and a checksum, or some of them, in that order.

    So h5py and netCDF put them. In any other order the sizes in between are
    not those of the chunk, and libhdf5 has to do it.

    Examples
    --------
    >>> in_usual_order((Filter(filter_id=2), Filter(filter_id=1), Filter(filter_id=3)))
    True
    >>> in_usual_order((Filter(filter_id=1), Filter(filter_id=2)))
    False
    """
    numbers = [step.filter_id for step in filters]
    n_codecs = sum(number not in (SHUFFLE, FLETCHER32) for number in numbers)
    return SHUFFLE not in numbers[1:] and FLETCHER32 not in numbers[:-1] and n_codecs <= 1


def compressor(step: Filter, itemsize: int) -> Compress | None:
    """Return what encodes a compression filter here, ``None`` where libhdf5 must."""
    number, options = step.filter_id, step.options
    if number == DEFLATE:
        return deflate.compressor(options[0])
    if number == ZSTD:
        return zstd.compressor(_signed(options[0]) if options else zstd.DEFAULT_LEVEL)
    if number == LZ4 and optional("numcodecs") is not None:
        return lz4.compressor(options[0] if options else 0)
    if number == LZF and lzf.is_available():
        return lzf.compressor()
    if number == BITSHUFFLE and itemsize and bitshuffle.is_available():
        return _bit_shuffler(options, itemsize)
    if number == BLOSC:
        return _blosc_compressor(options, itemsize)
    if number == BLOSC2 and itemsize and blosc2.is_available():
        return _blosc2_compressor(options)
    return None


def decompressor(step: Filter, itemsize: int) -> Decompress | None:
    """Return what decodes a compression filter here, ``None`` where libhdf5 must."""
    has_numcodecs = optional("numcodecs") is not None
    if step.filter_id == BITSHUFFLE:
        return _bit_unshuffler(step.options, itemsize)
    known: dict[int, tuple[bool, Decompress]] = {
        DEFLATE: (True, deflate.decompress),
        ZSTD: (has_numcodecs, zstd.decompress),
        BLOSC: (has_numcodecs, blosc.decompress),
        BLOSC2: (blosc2.is_available(), blosc2.decompress),
        LZ4: (has_numcodecs, lz4.decompress),
        LZF: (lzf.is_available(), lzf.decompress),
    }
    is_available, decompress = known.get(step.filter_id, (False, deflate.decompress))
    return decompress if is_available else None


def _blosc_compressor(options: tuple[int, ...], itemsize: int) -> Compress | None:
    level, shuffle, code = (*options[4:7], *blosc_defaults()[len(options[4:7]) :])
    names = {code: name for name, code in blosc.CNAMES.items()}
    if code not in names or not itemsize:
        return None
    return blosc.compressor(names[code], level, shuffle, typesize=itemsize)


def _blosc2_compressor(options: tuple[int, ...]) -> Compress | None:
    given = (*options[:4], *(0,) * (4 - len(options)))
    level, shuffle, code = (*options[4:7], *blosc_defaults()[len(options[4:7]) :])
    is_known = code in blosc.CNAMES.values() and shuffle in blosc.SHUFFLES.values()
    if not is_known or not blosc2.has(code) or level not in blosc.LEVELS:
        return None
    if given[3] > blosc2.MAX_NBYTES or len(options[8:]) != (*options, *(0,) * 8)[7]:
        return None
    return blosc2.compressor((*given, level, shuffle, code, *options[7:]))


def _bit_shuffler(options: tuple[int, ...], itemsize: int) -> Compress | None:
    block, follows, level = (*options, 0, 0, 0)[:3]
    if block % 8 or follows not in bitshuffle.CNAMES.values():
        return None
    return bitshuffle.compressor(itemsize, block, follows, _signed(level))


def _bit_unshuffler(options: tuple[int, ...], itemsize: int) -> Decompress | None:
    # In the file three numbers of the plugin's own come first, the element size last of them.
    block, follows = (*options[3:], 0, 0)[:2]
    is_known = options[2:3] == (itemsize,) and follows in bitshuffle.CNAMES.values()
    if not is_known or block % 8 or not bitshuffle.is_available():
        return None
    return partial(bitshuffle.decompress, itemsize=itemsize, block=block, follows=follows)


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value
