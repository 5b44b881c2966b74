"""Zarr's shards: inner chunks one after another, and an index of where they lie.

The index holds offset and bytes of every inner chunk in C order, both 2^64-1
for one that is not stored. It stands at the end or at the start.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyio.codecs.fill import Fill
from lazyio.codecs.libraries import optional
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.codecs.zarr_bytes import Payload, as_bytes, plain
from lazyio.grid import Region, boxes, grid_shape, n_boxes, touched
from lazyio.spec import Shape, most_stored

Array = npt.NDArray[Any]
Fetch = Callable[[int, int], Bytes]
"""From offset and length to bytes of a shard, good until the next call."""

_MISSING = 2**64 - 1


class InnerCodec(Protocol):
    """What turns a whole inner chunk into its payload and back."""

    def encode(self, chunk: Array, workspace: Workspace) -> Payload:
        """Return the payload of a C-ordered chunk."""

    def decode(self, payload: Bytes, out: Array, workspace: Workspace) -> None:
        """Fill a C-ordered chunk."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """How a shard's index is written."""

    n_chunks: int
    """Inner chunks of a shard."""
    byte_order: str
    """``<`` or ``>``."""
    has_checksum: bool
    """Whether a CRC32C of it follows."""
    is_first: bool
    """Whether it stands before the inner chunks."""

    @property
    def nbytes(self) -> int:
        """Bytes of the index, checksum included."""
        return 16 * self.n_chunks + 4 * self.has_checksum

    def encode(self, entries: npt.NDArray[np.uint64]) -> bytes:
        """Return the index of ``(n_chunks, 2)`` offsets and lengths."""
        raw = entries.astype(f"{self.byte_order}u8").tobytes()
        return raw + struct.pack("<I", _crc32c(raw)) if self.has_checksum else raw

    def decode(self, raw: Bytes) -> npt.NDArray[np.uint64]:
        """Return offsets and lengths."""
        entries = raw[: 16 * self.n_chunks].tobytes()
        stored = int.from_bytes(raw[len(entries) :].tobytes(), "little")
        if self.has_checksum and _crc32c(entries) != stored:
            msg = "the checksum of its index is wrong"
            raise ValueError(msg)
        found = np.frombuffer(entries, f"{self.byte_order}u8")
        return found.reshape(self.n_chunks, 2).astype(np.uint64)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What turns a whole shard into bytes and any part of it back."""

    shape: Shape
    """Extents of the shard."""
    nbytes: int
    """Bytes of its elements and its index."""
    chunk_shape: Shape
    """Extents of an inner chunk."""
    inner: InnerCodec
    """What encodes an inner chunk."""
    index: Index
    """How the index is written."""
    fill: Fill
    """What inner chunks hold that are not stored."""
    keep_empty: bool
    """Whether inner chunks that hold only the fill value are stored."""

    def pieces(self, shard: Array, workspace: Workspace) -> Iterator[Bytes]:
        """Yield the bytes of a whole shard, each piece good until the next.

        An inner chunk can be written before the next is encoded: a shard takes
        no more memory than one of them beside its elements.
        """
        entries = np.full((self.index.n_chunks, 2), _MISSING, np.uint64)
        payloads = self._payloads(shard, entries, workspace)
        if self.index.is_first:
            # It says how long each is: they are to be kept till all are known.
            payloads = iter([payload.copy() for payload in payloads])
            if (entries != _MISSING).any():
                yield as_bytes(self.index.encode(entries))
        yield from payloads
        if not self.index.is_first and (entries != _MISSING).any():
            yield as_bytes(self.index.encode(entries))

    def encode(self, shard: Array, workspace: Workspace) -> bytearray:
        """Return the bytes of a whole shard; where nothing is stored, those of its index."""
        body = bytearray()
        for piece in self.pieces(shard, workspace):
            body += memoryview(piece)
        nothing = np.full((self.index.n_chunks, 2), _MISSING, np.uint64)
        return body or bytearray(self.index.encode(nothing))

    def _payloads(
        self, shard: Array, entries: npt.NDArray[np.uint64], workspace: Workspace
    ) -> Iterator[Bytes]:
        """Yield what is stored of each inner chunk, and note where it will lie."""
        offset = self.index.nbytes if self.index.is_first else 0
        held = workspace.array(f"inner{self.chunk_shape}", self.chunk_shape, shard.dtype)
        for at, region in enumerate(boxes(self.shape, self.chunk_shape)):
            chunk = shard[region]
            if not chunk.flags.c_contiguous:
                np.copyto(held, chunk)
                chunk = held
            if not self.keep_empty and self.fill.is_all_of(chunk):
                continue
            payload = as_bytes(self.inner.encode(chunk, workspace))
            entries[at] = offset, payload.size
            offset += payload.size
            yield payload

    def decode(self, payload: Bytes, out: Array, workspace: Workspace) -> None:
        """Fill a whole shard from its bytes."""
        whole = tuple(slice(0, extent) for extent in self.shape)

        def fetch(offset: int, nbytes: int) -> Bytes:
            return payload[offset : offset + nbytes]

        self.read(fetch, payload.size, whole, out, workspace)

    def read(
        self, fetch: Fetch, nbytes: int, region: Region, out: Array, workspace: Workspace
    ) -> None:
        """Fill ``out`` with a part of a shard; only inner chunks in it are decoded."""
        entries = self._read_index(fetch, nbytes)
        grid = grid_shape(self.shape, self.chunk_shape)
        for index, inside, outside in touched(region, self.chunk_shape):
            offset, length = entries[int(np.ravel_multi_index(index, grid))].tolist()
            part = out[outside]
            if offset == length == _MISSING:
                part[...] = self.fill.value
                continue
            if offset + length > nbytes:
                msg = f"inner chunk {index} lies beyond its end"
                raise ValueError(msg)
            if length > most_stored(math.prod(self.chunk_shape) * out.dtype.itemsize):
                msg = f"inner chunk {index} has {length} bytes, more than any codec makes of it"
                raise ValueError(msg)
            chunk = workspace.place_for(part, self.chunk_shape)
            self.inner.decode(fetch(offset, length), chunk, workspace)
            if chunk is not part:
                part[...] = chunk[inside]

    def _read_index(self, fetch: Fetch, nbytes: int) -> npt.NDArray[np.uint64]:
        if nbytes < self.index.nbytes:
            msg = "it is too short for the index of a shard"
            raise ValueError(msg)
        offset = 0 if self.index.is_first else nbytes - self.index.nbytes
        return self.index.decode(fetch(offset, self.index.nbytes))


def index_of(settings: Mapping[str, Any], shape: Shape, chunk_shape: Shape) -> Index | None:
    """Return how a shard's index is written, ``None`` where zarr must do it."""
    steps = [(step["name"], step.get("configuration") or {}) for step in settings["index_codecs"]]
    names = [name for name, _ in steps]
    if names not in (["bytes"], ["bytes", "crc32c"]) or optional("google_crc32c") is None:
        return None
    is_big = str(plain(steps[0][1].get("endian", "little"))) == "big"
    return Index(
        n_chunks=n_boxes(shape, chunk_shape),
        byte_order=">" if is_big else "<",
        has_checksum="crc32c" in names,
        is_first=str(plain(settings.get("index_location", "end"))) == "start",
    )


def _crc32c(data: bytes) -> int:
    library: Any = optional("google_crc32c")
    return int(library.value(data))
