"""Blosc 1 buffers, filter 32001 and Zarr's ``blosc``.

By ``python -m benchmarks codecs`` as fast as numcodecs itself and zarr, to a tenth.

The shuffle is blosc's own, inside the buffer. The library comes with
numcodecs, releases the GIL and works single-threaded when called from
threads other than the main one, as workers do.
"""

import struct
from typing import Any

from lazyio.codecs.base import BLOSC, ChunkFacts, Codec, Compress, Options, refuse_above
from lazyio.codecs.libraries import optional, required
from lazyio.codecs.workspace import Bytes
from lazyio.errors import OptionError

LEVELS = range(10)
_HEADER_NBYTES = 16
CNAMES = {"blosclz": 0, "lz4": 1, "lz4hc": 2, "snappy": 3, "zlib": 4, "zstd": 5}
SHUFFLES = {"no": 0, "byte": 1, "bit": 2}
DEFAULT = ("lz4", 5, "byte")
MAX_NBYTES = 2**31 - 17
"""Blosc counts in signed 32 bits and adds a header of 16 bytes."""


def compressor(
    cname: str, level: int, shuffle: int, *, typesize: int, blocksize: int = 0
) -> Compress:
    """Return a function from bytes to a blosc buffer.

    Examples
    --------
    >>> import numpy as np
    >>> buffer = compressor("lz4", 5, 1, typesize=2)(np.zeros(1000, np.uint8))
    >>> out = np.ones(1000, np.uint8)
    >>> decompress(np.frombuffer(buffer, np.uint8), out)
    >>> int(out.sum())
    0
    """
    blosc = required("numcodecs.blosc", what='compression="blosc"', extra="fast")
    if cname not in blosc.list_compressors():
        built = ", ".join(blosc.list_compressors())
        msg = f"blosc compressor {cname!r} is not in the installed numcodecs; it has {built}"
        raise OptionError(msg)
    name = cname.encode()
    # A typesize over 255 does not fit blosc's header; its own filter falls back on 1.
    size = typesize if typesize <= 255 else 1

    def compress(data: Bytes) -> bytes:
        # blosc takes the element size from the buffer's own item size.
        buffer = data if size == 1 else data.view(f"V{size}")
        compressed: bytes = blosc.compress(buffer, name, level, shuffle, blocksize)
        return compressed

    return compress


def decompress(buffer: Bytes, out: Bytes) -> None:
    """Fill ``out`` with the content of a blosc buffer."""
    blosc = required("numcodecs.blosc", what="a blosc chunk", extra="fast")
    _check_header(buffer[:_HEADER_NBYTES].tobytes(), len(buffer), out.size)
    try:
        blosc.decompress(buffer, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def check_size(buffer: Bytes) -> int:
    """Return the bytes that a buffer decodes to, of one that is as long as it says.

    The library would read beyond the end of a shorter one.
    """
    header = buffer[:_HEADER_NBYTES].tobytes()
    claimed = int.from_bytes(header[4:8], "little")
    if claimed > MAX_NBYTES:
        msg = f"its header speaks of {claimed} bytes, more than blosc has"
        raise ValueError(msg)
    _check_header(header, len(buffer), claimed)
    return claimed


def _check_header(header: bytes, size: int, nbytes: int) -> None:
    """Compare what the header claims with what is there: the library believes it."""
    if len(header) < _HEADER_NBYTES:
        msg = "it is too short for a blosc header"
        raise ValueError(msg)
    claimed_nbytes, _, claimed_size = struct.unpack("<III", header[4:])
    if claimed_nbytes != nbytes or claimed_size != size:
        msg = (
            f"its header speaks of {claimed_nbytes} bytes in {claimed_size}, there should be "
            f"{nbytes} in {size}"
        )
        raise ValueError(msg)


def typed_options(name: str, opts: Any) -> tuple[int, int, int]:
    """Return level, shuffle and compressor as numbers, which blosc2 takes, too."""
    if opts is None:
        opts = DEFAULT
    try:
        cname, level, shuffle = opts
        valid = cname in CNAMES and level in LEVELS and shuffle in SHUFFLES
    except (TypeError, ValueError):
        valid = False
    if not valid:
        msg = (
            f"compression_opts={opts!r}: {name} takes (cname, clevel, shuffle), with cname one of "
            f"{', '.join(CNAMES)}, clevel 0 to 9 and shuffle no, byte or bit"
        )
        raise OptionError(msg)
    return int(level), SHUFFLES[shuffle], CNAMES[cname]


def completed(options: Options) -> tuple[int, int, int]:
    """Return level, shuffle and compressor, those of the filter where they are not given."""
    level, shuffle, code = (*options, *_BY_FILTER[len(options) :])
    return level, shuffle, code


_BY_FILTER = (5, 1, CNAMES["blosclz"])


def _client_data(options: Options, facts: ChunkFacts) -> Options:
    refuse_above(MAX_NBYTES, "blosc", facts)
    typesize = facts.itemsize if facts.itemsize <= 255 else 1
    # What the filter's own set_local would put there: versions, element and chunk size.
    return (2, 2, typesize, facts.nbytes, *completed(options))


def _compressor(options: Options, itemsize: int) -> Compress | None:
    level, shuffle, code = completed(options[4:7])
    names = {code: name for name, code in CNAMES.items()}
    if code not in names or not itemsize:
        return None
    return compressor(names[code], level, shuffle, typesize=itemsize)


CODEC = Codec(
    name="blosc",
    filter_id=BLOSC,
    encoded_by="numcodecs",
    without="OptionError naming lazyio[fast]",
    read_with="hdf5plugin",
    options=lambda name, opts, facts: _client_data(typed_options(name, opts), facts),
    options_by_id=lambda given, facts: _client_data(given[4:7], facts),
    compressor=_compressor,
    decompressor=lambda *_: decompress if optional("numcodecs") is not None else None,
    is_self_contained=True,
)
