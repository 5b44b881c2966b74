"""What an HDF5 codec is: its name and number, what is typed of it, and who encodes and decodes it.

A family of codecs is a module with one of these, and a line in ``hdf5_filters.CODECS``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.codecs.workspace import Bytes
from lazyio.dtypes import is_integer
from lazyio.errors import OptionError

DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALEOFFSET = 1, 2, 3, 4, 5, 6
LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD, BLOSC2 = 32000, 32001, 32004, 32008, 32015, 32026

Options = tuple[int, ...]
"""A filter's client data."""
Compress = Callable[[Bytes], bytes | Bytes]
Decompress = Callable[[Bytes, Bytes], None]


@dataclass(frozen=True, kw_only=True)
class ChunkFacts:
    """What options may depend on."""

    dtype: np.dtype[Any]
    """Type of an element."""
    nbytes: int
    """Bytes of a whole chunk."""

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize


def no_options(name: str, opts: Any, _: ChunkFacts) -> Options:
    """Return the client data of a codec that takes none."""
    if opts is not None:
        msg = f"compression_opts={opts!r}: {name} takes none"
        raise OptionError(msg)
    return ()


def unsigned(options: Options, _: ChunkFacts) -> Options:
    """Return client data as HDF5 stores them; hdf5plugin gives zstd's negative levels signed."""
    return tuple(value % 2**32 for value in options)


def level_option(name: str, opts: Any, levels: range, default: int) -> int:
    """Return the level that was typed."""
    opts = only_one(opts)
    if opts is None:
        return default
    if not is_integer(opts) or opts not in levels:
        msg = f"compression_opts={opts!r}: {name} takes a level from {levels[0]} to {levels[-1]}"
        raise OptionError(msg)
    return int(opts)


def only_one(opts: Any) -> Any:
    """Return the option that is alone in a tuple or list, and any other as it is."""
    return opts[0] if isinstance(opts, (tuple, list)) and len(opts) == 1 else opts


def require_size(n_decoded: int, nbytes: int) -> None:
    """Refuse what does not decode to the bytes of a chunk."""
    if n_decoded != nbytes:
        msg = f"it decodes to {n_decoded} bytes instead of {nbytes}"
        raise ValueError(msg)


def refuse_above(most: int, name: str, facts: ChunkFacts) -> None:
    """Refuse a chunk that is larger than a codec takes."""
    if facts.nbytes > most:
        msg = f"a chunk of {facts.nbytes} bytes is more than {name} takes (2 GiB); choose a smaller"
        raise OptionError(msg)


def signed(value: int) -> int:
    """Return a number that HDF5 has stored as unsigned."""
    return value - 2**32 if value >= 2**31 else value


def _none(_: Options, __: int) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One codec with a name of its own; any other filter goes by its number."""

    name: str
    """As it is typed."""
    filter_id: int
    """As HDF5 registers it."""
    encoded_by: str
    """Libraries in the order they are tried; ``libhdf5`` encodes under its lock."""
    without: str
    """What happens where none of them is installed."""
    read_with: str
    """What a stock h5py needs to read it."""
    is_argument: bool = False
    """Whether it is no compression, but an argument of its own."""
    options: Callable[[str, Any, ChunkFacts], Options] = no_options
    """Client data of what is typed as ``compression_opts``."""
    options_by_id: Callable[[Options, ChunkFacts], Options] = unsigned
    """The same of client data that are given with the number of the filter."""
    as_given: Callable[[Options], Options] = tuple
    """Client data as they are given, of what a file says."""
    compressor: Callable[[Options, int], Compress | None] = _none
    """What encodes elements of some bytes, ``None`` where libhdf5 must."""
    decompressor: Callable[[Options, int], Decompress | None] = _none
    """What decodes them."""
    is_self_contained: bool = False
    """Whether what does not shrink is stored in its payload, not under a mask bit."""
