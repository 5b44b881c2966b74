"""Blosc 1 buffers, filter 32001 and Zarr's ``blosc``.

The shuffle is blosc's own, inside the buffer. The library comes with
numcodecs, releases the GIL and works single-threaded when called from
threads other than the main one, as workers do.
"""

import struct
from collections.abc import Callable

from lazyio.codecs.libraries import required
from lazyio.codecs.workspace import Bytes
from lazyio.errors import OptionError

Compress = Callable[[Bytes], bytes]

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
