"""Zarr's chain of codecs, from an array's own metadata to functions of ours.

From array to array, then to bytes, then from bytes to bytes; a shard is an
array made bytes by a chain of its own for each inner chunk. What is not known
here is zarr-python's to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lazyio.codecs.fill import Fill
from lazyio.codecs.workspace import Bytes, Workspace
from lazyio.codecs.zarr_arrays import ArrayStep, array_step
from lazyio.codecs.zarr_bytes import (
    BytesStep,
    Described,
    Payload,
    as_bytes,
    bytes_step,
    numcodecs_step,
    plain,
)
from lazyio.codecs.zarr_shard import Shard, index_of
from lazyio.spec import Shape, most_stored, nbytes_of

Array = npt.NDArray[Any]


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
        if payload.size != self.nbytes:
            msg = f"it decodes to {payload.size} bytes instead of {self.nbytes}"
            raise ValueError(msg)
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
