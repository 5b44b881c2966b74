"""HDF5 filters: from what a user typed to what the file says and who encodes it.

Every spelling ends in the same list of filters: a name, a filter id with its
options as h5py takes them, an hdf5plugin object, or ``**hdf5plugin.Zstd()``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.codecs import bitshuffle, blosc, deflate, lz4, zstd
from lazyio.dtypes import is_integer
from lazyio.errors import OptionError

DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALEOFFSET = 1, 2, 3, 4, 5, 6
LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD, BLOSC2 = 32000, 32001, 32004, 32008, 32015, 32026

_SZIP_METHODS = {"ec": 4, "nn": 32}
_SCALE_FLOATS, _SCALE_INTEGERS = 0, 2


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One row of the table of codecs: what it is and who encodes it."""

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


_ARGUMENTS = {"shuffle", "fletcher32"}
"""What is no compression, but an argument of its own."""

CODECS = (
    Codec(
        name="gzip",
        filter_id=DEFLATE,
        encoded_by="ISA-L (level 1), libdeflate (from level 2), zlib",
        without="zlib is part of Python: correct and slower",
        read_with="nothing",
    ),
    Codec(
        name="zstd",
        filter_id=ZSTD,
        encoded_by="numcodecs",
        without="OptionError naming lazyio[fast]",
        read_with="hdf5plugin",
    ),
    Codec(
        name="blosc",
        filter_id=BLOSC,
        encoded_by="numcodecs",
        without="OptionError naming lazyio[fast]",
        read_with="hdf5plugin",
    ),
    Codec(
        name="shuffle",
        filter_id=SHUFFLE,
        encoded_by="numpy",
        without="never missing",
        read_with="nothing",
    ),
    Codec(
        name="fletcher32",
        filter_id=FLETCHER32,
        encoded_by="numpy",
        without="never missing",
        read_with="nothing",
    ),
    Codec(
        name="lz4",
        filter_id=LZ4,
        encoded_by="numcodecs, libhdf5 with a plugin",
        without="OptionError naming lazyio[plugins]",
        read_with="hdf5plugin",
    ),
    Codec(
        name="lzf",
        filter_id=LZF,
        encoded_by="h5py's liblzf, libhdf5",
        without="never missing: h5py brings it",
        read_with="nothing",
    ),
    Codec(
        name="bitshuffle",
        filter_id=BITSHUFFLE,
        encoded_by="hdf5plugin's bitshuffle, libhdf5 with a plugin",
        without="OptionError naming lazyio[plugins]",
        read_with="hdf5plugin",
    ),
    Codec(
        name="szip",
        filter_id=SZIP,
        encoded_by="libhdf5",
        without="OptionError: built without it",
        read_with="nothing",
    ),
    Codec(
        name="nbit",
        filter_id=NBIT,
        encoded_by="libhdf5",
        without="never missing",
        read_with="nothing",
    ),
    Codec(
        name="scaleoffset",
        filter_id=SCALEOFFSET,
        encoded_by="libhdf5",
        without="never missing",
        read_with="nothing",
    ),
    Codec(
        name="blosc2",
        filter_id=BLOSC2,
        encoded_by="hdf5plugin's C-Blosc2, libhdf5 with a plugin",
        without="OptionError naming lazyio[plugins]",
        read_with="hdf5plugin",
    ),
)
"""Every codec with a name of its own; any other filter goes by its id."""

_IDS = {codec.name: codec.filter_id for codec in CODECS if codec.name not in _ARGUMENTS}
NAMES = {codec.filter_id: codec.name for codec in CODECS}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One step of a chunk's way to disk, as the HDF5 file names it."""

    filter_id: int
    """Registered number."""
    options: tuple[int, ...] = ()
    """The filter's client data."""

    @property
    def name(self) -> str:
        """Name, or the number where it has none."""
        return NAMES.get(self.filter_id, str(self.filter_id))


def parse_filters(
    compression: Any,
    compression_opts: Any = None,
    *,
    shuffle: bool | None = None,
    fletcher32: bool = False,
    dtype: np.dtype[Any],
    chunk_nbytes: int,
) -> tuple[Filter, ...]:
    """Return the filters in the order in which they are applied.

    Examples
    --------
    >>> import numpy as np
    >>> facts = {"dtype": np.dtype("int16"), "chunk_nbytes": 2**20}
    >>> [f.name for f in parse_filters("gzip", 4, shuffle=True, **facts)]
    ['shuffle', 'gzip']
    >>> parse_filters("zstd", 1, **facts)[0].options
    (1,)
    """
    facts = _ChunkFacts(dtype=dtype, nbytes=chunk_nbytes)
    filters = []
    if shuffle:
        filters.append(Filter(filter_id=SHUFFLE, options=(dtype.itemsize,)))
    step = _compression_filter(compression, compression_opts, facts)
    if step is not None:
        # As in h5py: scaleoffset needs the elements, so it comes before their shuffle.
        filters.insert(0 if step.filter_id == SCALEOFFSET else len(filters), step)
    if fletcher32 and step is not None and step.filter_id == SCALEOFFSET:
        msg = "fletcher32=True with scaleoffset, which HDF5 does not check; drop one of them"
        raise OptionError(msg)
    if step is not None and step.filter_id == NBIT and (shuffle or fletcher32):
        msg = "nbit with shuffle or fletcher32, of which libhdf5 makes wrong values; drop those"
        raise OptionError(msg)
    if fletcher32:
        filters.append(Filter(filter_id=FLETCHER32))
    return tuple(filters)


def advice_on_filters(filters: tuple[Filter, ...]) -> tuple[tuple[str, str], ...]:
    """Return ``(code, message)`` pairs on filters that are seldom worth their time.

    Examples
    --------
    >>> [code for code, _ in advice_on_filters((Filter(filter_id=1, options=(9,)),))]
    ['gzip-9']
    """
    if any(step.filter_id == DEFLATE and step.options[0] == 9 for step in filters):
        text = "gzip level 9 takes much longer than level 4 to save a percent or two"
        return (("gzip-9", text),)
    return ()


def as_given(step: Filter) -> Filter:
    """Return a filter that a file describes as :func:`parse_filters` would give it.

    Examples
    --------
    >>> as_given(Filter(filter_id=BITSHUFFLE, options=(0, 4, 2, 0, 2))).options
    (0, 2)
    """
    if step.filter_id == BITSHUFFLE:
        # Three numbers of the plugin's own come first in the file.
        return Filter(filter_id=BITSHUFFLE, options=step.options[3:])
    return step


def blosc_defaults() -> tuple[int, int, int]:
    """Return the level, shuffle and compressor of blosc's filter when not given."""
    return (5, 1, blosc.CNAMES["blosclz"])


@dataclass(frozen=True, kw_only=True)
class _ChunkFacts:
    dtype: np.dtype[Any]
    nbytes: int

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


def _compression_filter(compression: Any, opts: Any, facts: _ChunkFacts) -> Filter | None:
    if compression is None or compression is False:
        if opts is not None:
            msg = f"compression_opts={opts!r} without compression; name one, or drop the options"
            raise OptionError(msg)
        return None
    if compression is True:
        compression = "gzip"
    if hasattr(compression, "filter_id"):
        compression, opts = _from_object(compression)
    elif isinstance(compression, Mapping) and "compression" in compression:
        compression, opts = compression["compression"], compression.get("compression_opts")
    if isinstance(compression, (int, np.integer)):
        return _by_id(int(compression), opts, facts)
    if not isinstance(compression, str) or compression.lower() not in _IDS:
        msg = (
            f"compression={compression!r} is not a codec lazyio knows; give one of "
            f"{', '.join(_IDS)}, a filter id or an hdf5plugin object"
        )
        raise OptionError(msg)
    return _by_name(compression.lower(), opts, facts)


def _from_object(plugin: Any) -> tuple[int, Any]:
    return int(plugin.filter_id), tuple(plugin.filter_options)


def _by_id(number: int, opts: Any, facts: _ChunkFacts) -> Filter:
    if number in range(10) and opts is None:
        # As in h5py, where compression=4 has always meant gzip at level 4.
        return Filter(filter_id=DEFLATE, options=(number,))
    if number < 1 or number > 65535:
        msg = f"compression={number} is not a filter id; ids are 1 to 65535"
        raise OptionError(msg)
    try:
        options = tuple(int(value) for value in (opts if opts is not None else ()))
    except (TypeError, ValueError):
        msg = (
            f"compression_opts={opts!r} for filter {number}; a filter given by its id takes a "
            "tuple of integers, its client data"
        )
        raise OptionError(msg) from None
    if number == DEFLATE:
        return _by_name("gzip", options[0] if options else None, facts)
    if number == BLOSC:
        return _blosc_filter(options[4:7], facts)
    if number == LZ4:
        return _lz4_filter(options or None, facts)
    # HDF5 stores client data as unsigned; hdf5plugin gives zstd's negative levels signed.
    return Filter(filter_id=number, options=tuple(value % 2**32 for value in options))


def _by_name(name: str, opts: Any, facts: _ChunkFacts) -> Filter:
    if name == "gzip":
        return Filter(filter_id=DEFLATE, options=(_level(name, opts, deflate),))
    if name == "zstd":
        return Filter(filter_id=ZSTD, options=(_level(name, opts, zstd) % 2**32,))
    if name == "blosc":
        return _blosc_filter(_blosc_options(name, opts), facts)
    if name == "blosc2":
        return Filter(filter_id=BLOSC2, options=(0, 0, 0, 0, *_blosc_options(name, opts)))
    if name == "szip":
        return _szip_filter(opts)
    if name == "lz4":
        return _lz4_filter(opts, facts)
    if name == "bitshuffle":
        return Filter(filter_id=BITSHUFFLE, options=_bitshuffle_options(opts))
    if name == "scaleoffset":
        return _scaleoffset_filter(opts, facts)
    if opts is not None:
        msg = f"compression_opts={opts!r}: {name} takes none"
        raise OptionError(msg)
    return Filter(filter_id=_IDS[name])


def _level(name: str, opts: Any, family: Any) -> int:
    if isinstance(opts, (tuple, list)) and len(opts) == 1:
        opts = opts[0]
    if opts is None:
        return int(family.DEFAULT_LEVEL)
    if (
        isinstance(opts, bool)
        or not isinstance(opts, (int, np.integer))
        or opts not in family.LEVELS
    ):
        low, high = family.LEVELS[0], family.LEVELS[-1]
        msg = f"compression_opts={opts!r}: {name} takes a level from {low} to {high}"
        raise OptionError(msg)
    return int(opts)


def _blosc_options(name: str, opts: Any) -> tuple[int, int, int]:
    if opts is None:
        opts = blosc.DEFAULT
    try:
        cname, level, shuffle = opts
        valid = cname in blosc.CNAMES and level in blosc.LEVELS and shuffle in blosc.SHUFFLES
    except (TypeError, ValueError):
        valid = False
    if not valid:
        msg = (
            f"compression_opts={opts!r}: {name} takes (cname, clevel, shuffle), with cname one of "
            f"{', '.join(blosc.CNAMES)}, clevel 0 to 9 and shuffle no, byte or bit"
        )
        raise OptionError(msg)
    return int(level), blosc.SHUFFLES[shuffle], blosc.CNAMES[cname]


def _blosc_filter(options: tuple[int, ...], facts: _ChunkFacts) -> Filter:
    _require_below(blosc.MAX_NBYTES, "blosc", facts)
    level, shuffle, code = (*options, *blosc_defaults()[len(options) :])
    typesize = facts.itemsize if facts.itemsize <= 255 else 1
    # What the filter's own set_local would put there: versions, element and chunk size.
    return Filter(filter_id=BLOSC, options=(2, 2, typesize, facts.nbytes, level, shuffle, code))


def _require_below(most: int, name: str, facts: _ChunkFacts) -> None:
    if facts.nbytes > most:
        msg = f"a chunk of {facts.nbytes} bytes is more than {name} takes (2 GiB); choose a smaller"
        raise OptionError(msg)


def _lz4_filter(opts: Any, facts: _ChunkFacts) -> Filter:
    _require_below(lz4.MAX_NBYTES, "lz4", facts)
    if isinstance(opts, (tuple, list)) and len(opts) == 1:
        opts = opts[0]
    block_nbytes = 0 if opts is None else opts
    if not is_integer(block_nbytes) or not 0 <= block_nbytes <= lz4.MAX_BLOCK_NBYTES:
        most = lz4.MAX_BLOCK_NBYTES
        msg = f"compression_opts={opts!r}: lz4 takes the bytes of a block, up to {most}, or 0"
        raise OptionError(msg)
    return Filter(filter_id=LZ4, options=(int(block_nbytes),))


def _bitshuffle_options(opts: Any) -> tuple[int, ...]:
    try:
        cname, level = ("lz4", 0) if opts is None else opts
        valid = cname in bitshuffle.CNAMES and is_integer(level)
        valid = valid and (level in zstd.LEVELS if cname == "zstd" else level == 0)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        msg = (
            f"compression_opts={opts!r}: bitshuffle takes (cname, clevel), with cname one of "
            f"{', '.join(bitshuffle.CNAMES)} and a clevel for zstd, else 0"
        )
        raise OptionError(msg)
    # The block size, 0 for the library's own choice, comes first.
    options = (0, bitshuffle.CNAMES[cname])
    return (*options, int(level) % 2**32) if cname == "zstd" else options


def _scaleoffset_filter(opts: Any, facts: _ChunkFacts) -> Filter:
    kind = facts.dtype.kind
    if isinstance(opts, (tuple, list)) and len(opts) == 1:
        opts = opts[0]
    if kind in "iu" and (opts is None or opts is True):
        opts = 0
    if kind not in "iuf" or not is_integer(opts) or opts < 0:
        msg = (
            f"compression_opts={opts!r} with dtype {facts.dtype}: scaleoffset takes the bits to "
            "keep of an integer, 0 for as many as it needs, or the decimals to keep of a float"
        )
        raise OptionError(msg)
    method = _SCALE_FLOATS if kind == "f" else _SCALE_INTEGERS
    return Filter(filter_id=SCALEOFFSET, options=(method, int(opts)))


def _szip_filter(opts: Any) -> Filter:
    try:
        method, pixels = opts if opts is not None else ("nn", 8)
        valid = method in _SZIP_METHODS and pixels in range(2, 33, 2)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        msg = f"compression_opts={opts!r}: szip takes ('nn' or 'ec', even number from 2 to 32)"
        raise OptionError(msg)
    return Filter(filter_id=SZIP, options=(_SZIP_METHODS[method], pixels))
