"""The bytes that HDF5 stores for a chunk, back to its elements, outside libhdf5."""

from dataclasses import dataclass
from typing import Any

from lazyio.codecs.families import Decompress, decompressor, in_usual_order
from lazyio.codecs.filters import FLETCHER32, SHUFFLE, Filter
from lazyio.codecs.fletcher32 import fletcher32
from lazyio.codecs.shuffle import room_for_planes, unshuffle
from lazyio.codecs.workspace import Bytes, Workspace


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What turns a payload into a whole chunk; made by :func:`decoder_for`."""

    filters: tuple[Filter, ...]
    """In the order in which they were applied."""
    itemsize: int
    """Bytes per element."""
    decompress: Decompress | None
    """What undoes the compression filter, if any."""

    def decode(
        self, payload: Bytes, mask: int, out: Bytes, workspace: Workspace | None = None
    ) -> None:
        """Fill ``out`` with the bytes of a chunk."""
        data = payload
        numbers = [step.filter_id for at, step in enumerate(self.filters) if not mask >> at & 1]
        if numbers and numbers[-1] == FLETCHER32:
            data = _checked(data)
            numbers.pop()
        is_shuffled = bool(numbers) and numbers[0] == SHUFFLE
        if is_shuffled:
            del numbers[0]
        room = out
        if is_shuffled and self.itemsize > 1:
            workspace = workspace or Workspace()
            room = room_for_planes(out.size, workspace)
        if numbers and self.decompress is not None:
            self.decompress(data, room)
            data = room
        _require(data, out.size)
        if room is not out and workspace is not None:
            unshuffle(data, self.itemsize, out, workspace)
        elif data is not out:
            out[:] = data


def decoder_for(filters: tuple[Filter, ...], itemsize: int) -> Decoder | None:
    """Return the decoder of a list of filters, ``None`` where libhdf5 must do it.

    Examples
    --------
    >>> decoder_for((Filter(filter_id=1, options=(4,)),), 2) is not None
    True
    >>> decoder_for((Filter(filter_id=4, options=(32, 8)),), 2) is None
    True
    """
    if not in_usual_order(filters):
        return None
    decompress = None
    for step in filters:
        if step.filter_id not in (SHUFFLE, FLETCHER32):
            decompress = decompressor(step, itemsize)
            if decompress is None:
                return None
    return Decoder(filters=filters, itemsize=itemsize, decompress=decompress)


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
