"""One chunk to the bytes that HDF5 stores for it, outside libhdf5 and its lock."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.families import SELF_CONTAINED, Compress, compressor, in_usual_order
from lazyio.codecs.filters import FLETCHER32, SHUFFLE, Filter
from lazyio.codecs.fletcher32 import fletcher32
from lazyio.codecs.shuffle import shuffle
from lazyio.codecs.workspace import Bytes, Workspace

Payload = bytes | npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns a whole chunk into its payload; made by :func:`encoder_for`."""

    shuffles: bool
    """Whether byte planes go into the compressor."""
    compress: Compress | None
    """The compressor, if any."""
    skip_mask: int
    """Filter mask of a chunk whose compression was left out, 0 if it never is."""
    checksums: bool
    """Whether a Fletcher checksum follows."""

    def encode(self, chunk: npt.NDArray[Any], workspace: Workspace) -> tuple[Payload, int]:
        """Return the payload of a chunk and its filter mask."""
        packed = self._pack(chunk, workspace)
        payload: Payload = packed
        mask = 0
        if self.compress is not None:
            payload = self.compress(packed)
            if self.skip_mask and len(payload) >= packed.size:
                payload, mask = packed, self.skip_mask
        if self.checksums:
            payload = _with_checksum(payload, workspace)
        return payload, mask

    def _pack(self, chunk: npt.NDArray[Any], workspace: Workspace) -> Bytes:
        if self.shuffles:
            return shuffle(chunk, workspace)
        if chunk.flags.c_contiguous:
            return chunk.reshape(-1).view(np.uint8)
        packed = workspace.array("packed", chunk.shape, chunk.dtype)
        np.copyto(packed, chunk)
        return packed.reshape(-1).view(np.uint8)


def encoder_for(filters: tuple[Filter, ...], itemsize: int) -> Encoder | None:
    """Return the encoder of a list of filters, ``None`` where libhdf5 must do it.

    Examples
    --------
    >>> gzip = (Filter(filter_id=1, options=(4,)),)
    >>> payload, mask = encoder_for(gzip, 2).encode(np.zeros(1000, "int16"), Workspace())
    >>> len(payload) < 100, mask
    (True, 0)
    """
    if not in_usual_order(filters):
        return None
    shuffles = checksums = False
    compress = None
    skip_mask = 0
    for at, step in enumerate(filters):
        if step.filter_id == SHUFFLE:
            # With elements of one byte the planes are the data.
            shuffles = itemsize > 1
        elif step.filter_id == FLETCHER32:
            checksums = True
        else:
            compress = compressor(step, itemsize)
            if compress is None:
                return None
            skip_mask = 0 if step.filter_id in SELF_CONTAINED else 1 << at
    return Encoder(shuffles=shuffles, compress=compress, skip_mask=skip_mask, checksums=checksums)


def _with_checksum(payload: Payload, workspace: Workspace) -> Payload:
    data = np.frombuffer(payload, np.uint8)
    # The padded chunk has been used by now, unless it is the payload itself.
    joined = workspace.buffer("padded", data.size + 4)
    if np.may_share_memory(joined, data):
        joined = workspace.buffer("checked", data.size + 4)
    joined[: data.size] = data
    joined[data.size :].view("<u4")[0] = fletcher32(data)
    return joined
