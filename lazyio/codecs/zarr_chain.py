"""Zarr's chain of codecs, from an array's metadata to functions of ours; shards of inner chunks.

The index holds offset and bytes of every inner chunk in C order, both 2^64-1
for one that is not stored. It stands at the end or at the start.

From array to array, then to bytes, then from bytes to bytes; a shard is an
array made bytes by a chain of its own for each inner chunk. What is not known
here is zarr-python's to do.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lazyio.codecs.base import require_size
from lazyio.codecs.chunk_reading import read_chunks
from lazyio.codecs.workspace import Bytes, Fill, Workspace
from lazyio.codecs.zarr_codecs import (
    ArrayStep,
    BytesStep,
    Described,
    Payload,
    array_step,
    as_bytes,
    bytes_step,
    numcodecs_step,
    plain,
)
from lazyio.dtypes import Shape, most_stored, nbytes_of
from lazyio.regions import Region, boxes, grid_shape, n_boxes

Array = npt.NDArray[Any]
Fetch = Callable[[int, int], Bytes]
"""From offset and length to bytes of a shard, good until the next call."""

_MISSING = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Index:
    """How a shard's index is written."""

    n_chunks: int
    """Inner chunks of a shard."""
    byte_order: str
    """``<`` or ``>``."""
    checksum: BytesStep | None
    """What adds a CRC32C behind it, if anything does."""
    is_first: bool
    """Whether it stands before the inner chunks."""

    @property
    def nbytes(self) -> int:
        """Bytes of the index, checksum included."""
        return 16 * self.n_chunks + 4 * (self.checksum is not None)

    def encode(self, entries: npt.NDArray[np.uint64]) -> Bytes:
        """Return the index of ``(n_chunks, 2)`` offsets and lengths."""
        raw = as_bytes(entries.astype(f"{self.byte_order}u8"))
        return raw if self.checksum is None else as_bytes(self.checksum.encode(raw))

    def decode(self, raw: Bytes) -> npt.NDArray[np.uint64]:
        """Return offsets and lengths."""
        try:
            entries = raw if self.checksum is None else self.checksum.decode(raw, None, 0)
        except ValueError as error:
            msg = f"the index of a shard: {error}"
            raise ValueError(msg) from error
        # A copy, because the bytes are good until the next call only.
        found = np.frombuffer(entries.tobytes(), f"{self.byte_order}u8")
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
    inner: "Chain"
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
                yield self.index.encode(entries)
        yield from payloads
        if not self.index.is_first and (entries != _MISSING).any():
            yield self.index.encode(entries)

    def encode(self, shard: Array, workspace: Workspace) -> bytearray:
        """Return the bytes of a whole shard; where nothing is stored, those of its index."""
        body = bytearray()
        for piece in self.pieces(shard, workspace):
            body += memoryview(piece)
        nothing = np.full((self.index.n_chunks, 2), _MISSING, np.uint64)
        return body or bytearray(memoryview(self.index.encode(nothing)))

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

        def read_part(index: Shape, inside: Region, part: Array) -> bool:
            offset, length = entries[int(np.ravel_multi_index(index, grid))].tolist()
            if offset == length == _MISSING:
                return False
            if offset + length > nbytes:
                msg = f"inner chunk {index} lies beyond its end"
                raise ValueError(msg)
            if length > most_stored(math.prod(self.chunk_shape) * out.dtype.itemsize):
                msg = f"inner chunk {index} has {length} bytes, more than any codec makes of it"
                raise ValueError(msg)
            payload = fetch(offset, length)
            workspace.decode_part(
                part,
                inside,
                self.chunk_shape,
                lambda chunk: self.inner.decode(payload, chunk, workspace),
            )
            return True

        read_chunks(region, self.chunk_shape, out, self.fill.value, read_part)

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
    checksum = bytes_step("crc32c", {})
    if names not in (["bytes"], ["bytes", "crc32c"]) or checksum is None:
        return None
    is_big = str(plain(steps[0][1].get("endian", "little"))) == "big"
    return Index(
        n_chunks=n_boxes(shape, chunk_shape),
        byte_order=">" if is_big else "<",
        checksum=checksum if "crc32c" in names else None,
        is_first=str(plain(settings.get("index_location", "end"))) == "start",
    )


@dataclass(frozen=True, kw_only=True)
class Elements:
    """Elements as bytes, one after another."""

    shape: Shape
    """Extents of the array."""
    dtype: np.dtype[Any]
    """Type of an element as it is stored, byte order included."""
    order: Literal["C", "F"] = "C"
    """Which axis is fastest: the last, or the first."""
    is_typed: bool = False
    """Whether the next codec is given elements instead of bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return nbytes_of(self.shape, self.dtype)

    def encode(self, chunk: Array, _: Workspace) -> Array:
        """Return elements in a row, or their bytes."""
        elements = chunk.astype(self.dtype, copy=False).ravel(self.order)
        return elements if self.is_typed else elements.view(np.uint8)

    def decode(self, payload: Bytes, out: Array, _: Workspace) -> None:
        """Fill a whole array from its bytes, which may lie there already."""
        require_size(payload.size, self.nbytes)
        if payload.ctypes.data != out.ctypes.data:
            out[...] = payload.view(self.dtype).reshape(self.shape, order=self.order)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What turns a whole chunk or shard into its object and back; see :func:`chain_of`."""

    shape: Shape
    """Extents of the chunk or shard."""
    dtype: np.dtype[Any]
    """Type of an element in memory."""
    arrays: tuple[ArrayStep, ...]
    """Codecs from array to array, in the order in which they are applied."""
    content: Elements | Shard
    """What makes bytes of an array."""
    after: tuple[BytesStep, ...]
    """Codecs from bytes to bytes."""

    @property
    def shard(self) -> Shard | None:
        """The shard, where parts of it can be read on their own."""
        is_bare = isinstance(self.content, Shard) and not self.arrays and not self.after
        return self.content if is_bare and isinstance(self.content, Shard) else None

    @property
    def is_identity(self) -> bool:
        """Whether an object is the chunk as it lies in memory, so that parts of it can be read."""
        content = self.content
        if isinstance(content, Shard) or self.arrays or self.after:
            return False
        return content.dtype == self.dtype and content.order == "C"

    def encode(self, chunk: Array, workspace: Workspace) -> Payload:
        """Return the bytes of a whole chunk."""
        payload = self._content(chunk, workspace)
        for codec in self.after:
            payload = codec.encode(payload)
        return payload

    def pieces(self, chunk: Array, workspace: Workspace) -> Iterator[Bytes]:
        """Yield the same bytes in pieces, each good until the next.

        What only adds to them takes no copy, and of a shard no more is in
        memory than one inner chunk.
        """
        if self.shard is not None:
            yield from self.shard.pieces(chunk, workspace)
            return
        payload = self._content(chunk, workspace)
        for codec in self.after[:-1]:
            payload = codec.encode(payload)
        for last in self.after[-1:]:
            if last.trailer is None:
                payload = last.encode(payload)
            else:
                raw = as_bytes(payload)
                yield raw
                payload = last.trailer(raw)
        yield as_bytes(payload)

    def _content(self, chunk: Array, workspace: Workspace) -> Payload:
        for step in self.arrays:
            chunk = step.encode(chunk)
        return self.content.encode(chunk, workspace)

    def decode(self, payload: Bytes, out: Array, workspace: Workspace) -> None:
        """Fill a whole chunk from its bytes."""
        room = self._room(out, workspace)
        data = payload
        most = most_stored(self.content.nbytes)
        for at, codec in reversed([*enumerate(self.after)]):
            # What the first codec was given has the size of the elements.
            data = codec.decode(data, room if at == 0 else None, most)
        if not self.arrays:
            self.content.decode(data, out, workspace)
            return
        last = self.arrays[-1]
        array = np.empty(last.shape, last.dtype)
        self.content.decode(data, array, workspace)
        for step in reversed(self.arrays):
            array = step.decode(array)
        out[...] = array

    def _room(self, out: Array, workspace: Workspace) -> Bytes | None:
        """Return where the elements are decoded to, at best their place in the chunk."""
        content = self.content
        if isinstance(content, Shard):
            return None
        is_same = content.dtype == out.dtype and (content.order == "C" or out.ndim < 2)
        if is_same and not self.arrays:
            return out.reshape(-1).view(np.uint8)
        return workspace.buffer("decoded", content.nbytes)


_EXACT = {
    *("bytes", "transpose", "sharding_indexed", "gzip", "zstd", "blosc", "zlib", "lz4", "bz2"),
    *("lzma", "shuffle", "crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3"),
}


def is_exact(metadata: Mapping[str, Any]) -> bool:
    """Return whether an array's codecs surely give the elements back that they were given.

    Examples
    --------
    >>> is_exact({"codecs": ({"name": "bytes"}, {"name": "numcodecs.bitround"})})
    False
    """
    described = metadata.get("codecs")
    if described is None:
        steps = [*(metadata["filters"] or ()), metadata["compressor"]]
        return all(step is None or step["id"] in _EXACT for step in steps)
    for codec in described:
        inner = (codec.get("configuration") or {}).get("codecs")
        is_known = str(codec["name"]).removeprefix("numcodecs.") in _EXACT
        if not is_known or (inner is not None and not is_exact({"codecs": inner})):
            return False
    return True


def chain_of(
    metadata: Mapping[str, Any], dtype: np.dtype[Any], fill: Fill, *, keep_empty: bool = False
) -> Chain | None:
    """Return the codecs of an array, ``None`` where zarr-python must do it.

    Examples
    --------
    >>> import zarr
    >>> array = zarr.create_array({}, shape=(10,), chunks=(5,), dtype="int16")
    >>> chain = chain_of(array.metadata.to_dict(), array.dtype, Fill(0, array.dtype))
    >>> chunk, found = np.arange(5, dtype="int16"), np.zeros(5, "int16")
    >>> payload = np.frombuffer(chain.encode(chunk, Workspace()), np.uint8)
    >>> chain.decode(payload, found, Workspace())
    >>> found.tolist()
    [0, 1, 2, 3, 4]
    """
    if metadata["zarr_format"] == 2:
        return _chain_of_v2(metadata, dtype)
    grid = metadata["chunk_grid"]
    if grid["name"] != "regular" or metadata.get("storage_transformers"):
        return None
    shape = tuple(map(int, grid["configuration"]["chunk_shape"]))
    return _chain(metadata["codecs"], shape, dtype, fill, keep_empty)


def _chain_of_v2(metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> Chain | None:
    shape = tuple(map(int, metadata["chunks"]))
    described = [*(metadata["filters"] or ()), metadata["compressor"]]
    after = []
    for settings in described:
        if settings is None:
            continue
        step = numcodecs_step(settings["id"], settings)
        if step is None:
            return None
        after.append(step)
    content = Elements(shape=shape, dtype=dtype, order=metadata["order"], is_typed=True)
    return Chain(shape=shape, dtype=dtype, arrays=(), content=content, after=tuple(after))


def _chain(
    codecs: Sequence[Described], shape: Shape, dtype: np.dtype[Any], fill: Fill, keep_empty: bool
) -> Chain | None:
    arrays: list[ArrayStep] = []
    content: Elements | Shard | None = None
    after: list[BytesStep] = []
    inner_shape, inner_dtype = shape, dtype
    for codec in codecs:
        name, settings = codec["name"], codec.get("configuration") or {}
        if content is not None:
            step = bytes_step(name, settings)
            if step is None:
                return None
            after.append(step)
        elif name in ("bytes", "sharding_indexed"):
            if name == "bytes":
                content = _elements(settings, inner_shape, inner_dtype)
            elif inner_dtype == dtype:
                content = _shard(settings, inner_shape, inner_dtype, fill, keep_empty)
            if content is None:
                return None
        else:
            turned = array_step(name, settings, inner_shape, inner_dtype)
            if turned is None:
                return None
            arrays.append(turned)
            inner_shape, inner_dtype = turned.shape, turned.dtype
    if content is None:
        return None
    return Chain(
        shape=shape, dtype=dtype, arrays=tuple(arrays), content=content, after=tuple(after)
    )


def _elements(settings: Described, shape: Shape, dtype: np.dtype[Any]) -> Elements | None:
    endian = settings.get("endian")
    is_big = str(plain(endian)) == "big"
    if dtype.fields is not None and (is_big or dtype.newbyteorder("<") != dtype):
        return None
    stored = dtype if endian is None else dtype.newbyteorder(">" if is_big else "<")
    return Elements(shape=shape, dtype=stored)


def _shard(
    settings: Described, shape: Shape, dtype: np.dtype[Any], fill: Fill, keep_empty: bool
) -> Shard | None:
    chunk_shape = tuple(map(int, settings["chunk_shape"]))
    inner = _chain(settings["codecs"], chunk_shape, dtype, fill, keep_empty)
    index = index_of(settings, shape, chunk_shape)
    if inner is None or index is None:
        return None
    return Shard(
        nbytes=nbytes_of(shape, dtype) + index.nbytes,
        shape=shape,
        chunk_shape=chunk_shape,
        inner=inner,
        index=index,
        fill=fill,
        keep_empty=keep_empty,
    )
