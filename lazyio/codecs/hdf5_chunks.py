"""A chunk to the bytes that HDF5 stores for it and back, outside libhdf5 and its lock.

Encoders take a filter as it is given, decoders as a file describes it: the two
differ where a plugin puts numbers of its own before those it was given.
"""

import functools
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.codecs.base import FLETCHER32, SHUFFLE, Compress, Decompress, require_size
from lazyio.codecs.hdf5_filters import BY_ID, Filter
from lazyio.codecs.libraries import optional
from lazyio.codecs.shuffle import fletcher32, room_for_planes, shuffle, unshuffle
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.errors import SourceError


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
    codec = BY_ID.get(step.filter_id)
    return None if codec is None else codec.compressor(step.options, itemsize)


def decompressor(step: Filter, itemsize: int) -> Decompress | None:
    """Return what decodes a compression filter here, ``None`` where libhdf5 must."""
    codec = BY_ID.get(step.filter_id)
    return None if codec is None else codec.decompressor(step.options, itemsize)


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
    compress, skip_mask = None, 0
    for at, step in enumerate(filters):
        if step.filter_id not in (SHUFFLE, FLETCHER32):
            compress = compressor(step, itemsize)
            if compress is None:
                return None
            skip_mask = 0 if BY_ID[step.filter_id].is_self_contained else 1 << at
    numbers = [step.filter_id for step in filters]
    # With elements of one byte the planes are the data.
    shuffles = SHUFFLE in numbers and itemsize > 1
    checksums = FLETCHER32 in numbers
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
        require_size(data.size, out.size)
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


_BUILT_IN = range(1, 32)


def filters_of(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """Return the filters of a dataset in the order in which they are applied."""
    return tuple(step for step, _ in labelled_filters(dataset))


def labelled_filters(dataset: h5py.Dataset) -> list[tuple[Filter, str]]:
    """Return them with what the maker of the dataset called each."""
    properties = dataset.id.get_create_plist()
    described = [properties.get_filter(at) for at in range(properties.get_nfilters())]
    return [
        (Filter(filter_id=number, options=tuple(opts)), label.decode(errors="replace").strip())
        for number, _, opts, label in described
    ]


def libhdf5_has(number: int) -> bool:
    """Return whether libhdf5 can apply a filter, by a plugin where there is one.

    Examples
    --------
    >>> libhdf5_has(1), libhdf5_has(9)
    (True, False)
    """
    load_plugins(number)
    return bool(h5py.h5z.filter_avail(number))


class FilterInUseError(SourceError):
    """A filter of another libhdf5 cannot be replaced while a dataset that has it is open."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(
            f"HDF5 filter {number} was found in HDF5_PLUGIN_PATH, for another libhdf5, and cannot "
            "be replaced while a dataset that has it is open; close its file and try again, or "
            "import hdf5plugin before netCDF4"
        )

    def __reduce__(self) -> Any:
        return FilterInUseError, (self.number,)


@functools.cache
def load_plugins(number: int) -> None:
    """Register hdf5plugin's filter with libhdf5, where it is not built in.

    In place of one that libhdf5 has found itself: HDF5_PLUGIN_PATH may lead to
    those of another libhdf5, as netCDF4 sets it, which fail in this one.
    """
    plugins = None if number in _BUILT_IN else optional("hdf5plugin")
    if plugins is None:
        return
    registered = plugins.get_config().registered_filters
    for name in [name for name, known in plugins.FILTERS.items() if known == number]:
        # It leaves one alone that already exists, and says that it does not know it.
        if registered.get(name, "unknown") == "unknown":
            try:
                plugins.register(name, force=True)
            except RuntimeError as error:
                raise FilterInUseError(number) from error


def remedy_for(number: int, otherwise: str) -> str:
    """Return how to get a filter that is missing."""
    if number in _BUILT_IN or optional("hdf5plugin") is not None:
        return otherwise
    return f'run pip install "lazyio[plugins]", or {otherwise}'
