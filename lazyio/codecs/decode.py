"""The bytes that HDF5 stores for a chunk, back to its elements, outside libhdf5."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazyio.codecs import blosc, deflate, zstd
from lazyio.codecs.filters import BLOSC, DEFLATE, FLETCHER32, SHUFFLE, ZSTD, Filter
from lazyio.codecs.fletcher32 import fletcher32
from lazyio.codecs.libraries import optional
from lazyio.codecs.shuffle import unshuffle
from lazyio.codecs.workspace import Bytes

Decompress = Callable[[Bytes, int], bytes | Bytes]

_DECOMPRESS: dict[int, Decompress] = {
    DEFLATE: deflate.decompress,
    ZSTD: zstd.decompress,
    BLOSC: blosc.decompress,
}


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What turns a payload into a whole chunk; made by :func:`decoder_for`."""

    filters: tuple[Filter, ...]
    """In the order in which they were applied."""
    itemsize: int
    """Bytes per element."""

    def decode(self, payload: Bytes, mask: int, out: Bytes) -> None:
        """Fill ``out`` with the bytes of a chunk.

        Parameters
        ----------
        payload : ndarray of uint8
            As stored.
        mask : int
            Bit i is set where filter i was not applied.
        out : ndarray of uint8
            As many bytes as the chunk has.

        Raises
        ------
        ValueError
            When the payload does not decode to that many bytes, or its
            checksum is wrong.
        """
        data = payload
        for at in reversed(range(len(self.filters))):
            if mask >> at & 1:
                continue
            number = self.filters[at].filter_id
            if number == FLETCHER32:
                data = _checked(data)
            elif number == SHUFFLE:
                _require(data, out.size)
                unshuffle(data, self.itemsize, out)
                return
            else:
                data = np.frombuffer(_DECOMPRESS[number](data, out.size), np.uint8)
        _require(data, out.size)
        out[:] = data


def decoder_for(filters: tuple[Filter, ...], itemsize: int) -> Decoder | None:
    """Return the decoder of a list of filters, ``None`` where libhdf5 must do it.

    Examples
    --------
    >>> decoder_for((Filter(filter_id=1, options=(4,)),), 2) is not None
    True
    >>> decoder_for((Filter(filter_id=32000),), 2) is None
    True
    """
    known = {FLETCHER32, SHUFFLE, DEFLATE}
    if optional("numcodecs") is not None:
        known |= {ZSTD, BLOSC}
    numbers = [step.filter_id for step in filters]
    # The shuffle first, the checksum last, as h5py and netCDF put them; else the
    # sizes in between are not those of the chunk.
    in_order = SHUFFLE not in numbers[1:] and FLETCHER32 not in numbers[:-1]
    return Decoder(filters=filters, itemsize=itemsize) if in_order and known >= {*numbers} else None


def _checked(data: Bytes) -> Bytes:
    if data.size < 4:
        msg = "it is too short for its checksum"
        raise ValueError(msg)
    content, stored = data[:-4], int.from_bytes(data[-4:].tobytes(), "little")
    if fletcher32(content) != stored:
        msg = "its Fletcher checksum is wrong"
        raise ValueError(msg)
    return content


def _require(data: Any, nbytes: int) -> None:
    if data.size != nbytes:
        msg = f"it decodes to {data.size} bytes instead of {nbytes}"
        raise ValueError(msg)
