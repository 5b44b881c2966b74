"""What a user says of compression in the words of both formats, as zarr-python takes it."""

from typing import Any

import numcodecs
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from lazyio.errors import OptionError
from lazyio.pushing.place import Wish
from lazyio.spec import is_integer

_LEVELS = {"gzip": 4, "zstd": 3, "blosc": 5}
"""Codecs that have a name in both formats, with the level that they have by default."""


def compressors_for(wish: Wish, zarr_format: int, *, default: Any = None) -> Any:
    """Return the compressors of an array."""
    codec, level, shuffle = wish.compression, wish.compression_opts, wish.shuffle
    if not isinstance(codec, str) or codec == "auto":
        if level is not None or shuffle is not None:
            what = "compression_opts" if level is not None else "shuffle"
            msg = f"{what} goes with compression= gzip, zstd or blosc; give it to the codec itself"
            raise OptionError(msg)
        return default if codec is None else codec
    if codec not in _LEVELS:
        msg = (
            f"compression={codec!r} is none that Zarr has by that name; give one of "
            f"{', '.join(_LEVELS)}, or a codec of zarr.codecs"
        )
        raise OptionError(msg)
    if shuffle and codec != "blosc":
        msg = f"shuffle=True: {codec} of Zarr has no shuffle; leave it out, or give 'blosc'"
        raise OptionError(msg)
    if level is not None and not is_integer(level):
        msg = f"compression_opts={level!r} is no level; give an integer"
        raise OptionError(msg)
    level = _LEVELS[codec] if level is None else int(level)
    return _made(codec, level, shuffle=shuffle is not False, zarr_format=zarr_format)


def _made(codec: str, level: int, *, shuffle: bool, zarr_format: int) -> Any:
    if codec == "gzip":
        return numcodecs.GZip(level) if zarr_format == 2 else GzipCodec(level=level)
    if codec == "zstd":
        return numcodecs.Zstd(level) if zarr_format == 2 else ZstdCodec(level=level)
    if zarr_format == 2:
        kind = numcodecs.Blosc.SHUFFLE if shuffle else numcodecs.Blosc.NOSHUFFLE
        return numcodecs.Blosc(cname="zstd", clevel=level, shuffle=kind)
    return BloscCodec(cname="zstd", clevel=level, shuffle="shuffle" if shuffle else "noshuffle")
