"""HDF5 filters: from what a user typed to what the file says and who encodes it.

Every spelling ends in the same list of filters: a name, a filter id with its
options as h5py takes them, an hdf5plugin object, or ``**hdf5plugin.Zstd()``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lazyio.codecs import bitshuffle, blosc, blosc2, deflate, lz4, lzf, zstd
from lazyio.codecs.base import (
    DEFLATE,
    FLETCHER32,
    NBIT,
    SCALEOFFSET,
    SHUFFLE,
    SZIP,
    ChunkFacts,
    Codec,
    Options,
    only_one,
    unsigned,
)
from lazyio.dtypes import is_integer
from lazyio.errors import OptionError

_SZIP_METHODS = {"ec": 4, "nn": 32}
_SCALE_FLOATS, _SCALE_INTEGERS = 0, 2


def _szip_options(_: str, opts: Any, __: ChunkFacts) -> Options:
    try:
        method, pixels = opts if opts is not None else ("nn", 8)
        valid = method in _SZIP_METHODS and pixels in range(2, 33, 2)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        msg = f"compression_opts={opts!r}: szip takes ('nn' or 'ec', even number from 2 to 32)"
        raise OptionError(msg)
    return (_SZIP_METHODS[method], pixels)


def _scaleoffset_options(_: str, opts: Any, facts: ChunkFacts) -> Options:
    kind = facts.dtype.kind
    opts = only_one(opts)
    if kind in "iu" and (opts is None or opts is True):
        opts = 0
    if kind not in "iuf" or not is_integer(opts) or opts < 0:
        msg = (
            f"compression_opts={opts!r} with dtype {facts.dtype}: scaleoffset takes the bits to "
            "keep of an integer, 0 for as many as it needs, or the decimals to keep of a float"
        )
        raise OptionError(msg)
    return (_SCALE_FLOATS if kind == "f" else _SCALE_INTEGERS, int(opts))


CODECS = (
    deflate.CODEC,
    zstd.CODEC,
    blosc.CODEC,
    Codec(
        name="shuffle",
        filter_id=SHUFFLE,
        encoded_by="numpy",
        without="never missing",
        read_with="nothing",
        is_argument=True,
    ),
    Codec(
        name="fletcher32",
        filter_id=FLETCHER32,
        encoded_by="numpy",
        without="never missing",
        read_with="nothing",
        is_argument=True,
    ),
    lz4.CODEC,
    lzf.CODEC,
    bitshuffle.CODEC,
    Codec(
        name="szip",
        filter_id=SZIP,
        encoded_by="libhdf5",
        without="OptionError: built without it",
        read_with="nothing",
        options=_szip_options,
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
        options=_scaleoffset_options,
    ),
    blosc2.CODEC,
)
"""Every codec with a name of its own; any other filter goes by its number."""

BY_NAME = {codec.name: codec for codec in CODECS if not codec.is_argument}
BY_ID = {codec.filter_id: codec for codec in CODECS}
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
    facts = ChunkFacts(dtype=dtype, nbytes=chunk_nbytes)
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
    >>> as_given(Filter(filter_id=32008, options=(0, 4, 2, 0, 2))).options
    (0, 2)
    """
    codec = BY_ID.get(step.filter_id)
    return step if codec is None else replace(step, options=codec.as_given(step.options))


def _compression_filter(compression: Any, opts: Any, facts: ChunkFacts) -> Filter | None:
    if compression is None or compression is False:
        if opts is not None:
            msg = f"compression_opts={opts!r} without compression; name one, or drop the options"
            raise OptionError(msg)
        return None
    if compression is True:
        compression = "gzip"
    if hasattr(compression, "filter_id"):
        compression, opts = int(compression.filter_id), tuple(compression.filter_options)
    elif isinstance(compression, Mapping) and "compression" in compression:
        compression, opts = compression["compression"], compression.get("compression_opts")
    if isinstance(compression, (int, np.integer)):
        return _by_id(int(compression), opts, facts)
    if not isinstance(compression, str) or compression.lower() not in BY_NAME:
        msg = (
            f"compression={compression!r} is not a codec lazyio knows; give one of "
            f"{', '.join(BY_NAME)}, a filter id or an hdf5plugin object"
        )
        raise OptionError(msg)
    codec = BY_NAME[compression.lower()]
    return Filter(filter_id=codec.filter_id, options=codec.options(codec.name, opts, facts))


def _by_id(number: int, opts: Any, facts: ChunkFacts) -> Filter:
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
    codec = BY_ID.get(number)
    by_id = unsigned if codec is None else codec.options_by_id
    return Filter(filter_id=number, options=by_id(options, facts))
