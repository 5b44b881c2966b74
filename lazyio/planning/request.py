"""What a plan starts from: the facts of an array, and what its user fixed, in one form."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lazyio.dtypes import Shape, is_integer
from lazyio.errors import OptionError, PlanError
from lazyio.planning.access import Window, as_windows
from lazyio.planning.boundaries import Edges, common_step
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.units import format_size


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """What is known of an array before anything is decided."""

    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    source_chunk_shape: Shape | None = None
    """Chunk that the source decodes at once, where it has one."""
    in_rows: bool = False
    """Whether the source is one C-ordered run of bytes."""
    edges: Edges | None = None
    """Blocks that the array already has, each computed as a whole."""
    held_itemsize: int = 0
    """Bytes of an element as blocks hold it, where that is wider than on disk."""

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory, at least 1."""
        return max(1, self.dtype.itemsize, self.held_itemsize)


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What the user asked for; ``None`` or ``"auto"`` leaves it to the solver."""

    memory_limit: int | None = None
    """Bytes for everything in flight."""
    limit_is_auto: bool = False
    """Whether the limit is what was found to be free."""
    workers: int = 1
    """Blocks in flight at once."""
    workers_fixed: bool = False
    """Whether the user chose ``workers``."""
    chunks: Any = "auto"
    """Chunk extents in any of the forms that :func:`lazyio.plan` takes."""
    chunk_nbytes: tuple[int | None, int] | None = None
    """Lower (``None`` where it was not given) and upper bound of a chunk, in bytes."""
    block_shape: Shape | None = None
    """Extents of a block."""
    shards: Any = None
    """Shard extents, ``"auto"``, or ``None`` for a file of its own for each chunk."""
    access: Any = None
    """Windows in any of the forms that :func:`lazyio.plan` takes."""
    reads_whole_chunks: bool = True
    """Whether a chunk is read whole for any part of it."""
    codec: str | None = None
    """Name of the codec, if it is known, or ``"none"``: decides what a chunk costs to look up."""
    format: Literal["hdf5", "zarr"] = "hdf5"
    """Whose default chunk size to take, and whose costs of reading."""
    strategy: Literal["auto", "hdmf"] = "auto"
    """Whose rules to follow."""
    dims: tuple[str, ...] = field(default=())
    """Names of the axes, where chunks are given by name."""


MAX_CHUNK_NBYTES = 2**32 - 1
"""HDF5 keeps the size of a chunk in 32 bits."""


def user_chunks(chunks: Any, facts: ArraySpec, dims: tuple[str, ...]) -> list[int | None]:
    """Return the chunk extent that the user fixed on each axis, or ``None``."""
    shape = facts.shape
    if chunks is True and facts.edges is not None:
        chunks = _own_blocks(facts.edges)
    if isinstance(chunks, Plan):
        chunks = chunks.chunk_shape
    if chunks is True or (isinstance(chunks, str) and chunks == "auto"):
        return [None] * len(shape)
    if isinstance(chunks, Mapping):
        chunks = _by_axis(chunks, shape, dims)
    if not isinstance(chunks, (tuple, list)):
        chunks = (chunks,) * len(shape)
    if len(chunks) != len(shape):
        msg = (
            f"chunks={tuple(chunks)} has {len(chunks)} axes, the array's shape {shape} has "
            f"{len(shape)}; give one extent per axis, None where the solver may choose"
        )
        raise OptionError(msg)
    fixed = [_one_wish(chunk, extent) for chunk, extent in zip(chunks, shape, strict=True)]
    nbytes = facts.dtype.itemsize * math.prod(wish or 1 for wish in fixed)
    if nbytes > MAX_CHUNK_NBYTES:
        msg = (
            f"a chunk of {tuple(wish or 1 for wish in fixed)} {facts.dtype} is "
            f"{format_size(nbytes)}; HDF5 and Zarr codecs stop below 4 GiB, choose a smaller chunk"
        )
        raise PlanError(msg)
    return fixed


def user_shards(shards: Any, shape: Shape) -> tuple[int, ...] | Literal["auto"] | None:
    """Return the shard extents that the user fixed, -1 for whole axes."""
    if shards is None or not shape:
        return None
    if isinstance(shards, str) and shards == "auto":
        return "auto"
    extents = shards if isinstance(shards, (tuple, list)) else (shards,) * len(shape)
    if len(extents) != len(shape):
        msg = (
            f"shards={tuple(extents)} has {len(extents)} axes, the array's shape {shape} has "
            f'{len(shape)}; give one extent per axis, or "auto"'
        )
        raise OptionError(msg)
    for extent in extents:
        if not is_integer(extent) or (extent < 1 and extent != -1):
            msg = (
                f"shards holds {extent!r}; an axis takes a positive integer, a multiple of the "
                'chunk, or -1 for the whole axis; or give shards="auto"'
            )
            raise OptionError(msg)
    return tuple(int(extent) for extent in extents)


def _own_blocks(edges: Edges) -> Any:
    """Return the blocks of a dask array as chunks, where they are regular."""
    extents = [max((1, *sizes)) for sizes in edges]
    regular = all(
        common_step(sizes, sum(sizes)) % extent == 0 or extent >= sum(sizes)
        for sizes, extent in zip(edges, extents, strict=True)
    )
    return tuple(extents) if regular else "auto"


def _by_axis(chunks: Mapping[Any, Any], shape: Shape, dims: tuple[str, ...]) -> tuple[Any, ...]:
    by_axis: list[Any] = [None] * len(shape)
    for name, chunk in chunks.items():
        axis = dims.index(name) if name in dims else name
        if not is_integer(axis) or not -len(shape) <= axis < len(shape):
            known = f"its dimensions are {dims}" if dims else "it has no named dimensions"
            msg = f"chunks names axis {name!r}; the array has {len(shape)} axes and {known}"
            raise OptionError(msg)
        by_axis[axis] = chunk
    return tuple(by_axis)


def _one_wish(chunk: Any, extent: int) -> int | None:
    if chunk is None or (isinstance(chunk, str) and chunk == "auto"):
        return None
    if not is_integer(chunk) or (chunk < 1 and chunk != -1):
        msg = (
            f"chunks holds {chunk!r}; an axis takes a positive integer, -1 for the whole axis, "
            'or None or "auto" to leave it to the solver'
        )
        raise OptionError(msg)
    return max(1, extent if chunk == -1 else min(int(chunk), extent))


@dataclass(frozen=True, kw_only=True)
class CheckedRequest:
    """An array, and what is fixed of its chunks, shards and blocks."""

    facts: ArraySpec
    """What is known of the array."""
    wishes: PlanRequest
    """What the user asked for, as it was typed."""
    chunk: tuple[int | None, ...]
    """Chunk extents; ``None`` where the solver may choose."""
    block: Shape | None
    """Block extents, if they are fixed."""
    shard: tuple[int, ...] | Literal["auto"] | None
    """Shard extents, -1 for as many chunks as cover the axis."""
    windows: tuple[Window, ...]
    """What readers will ask for."""

    @property
    def is_chunk_fixed(self) -> bool:
        """Whether nothing of the chunk is left to choose."""
        return None not in self.chunk

    @property
    def least_chunk(self) -> Shape:
        """The smallest chunk that what is fixed allows."""
        return tuple(extent or 1 for extent in self.chunk)

    @property
    def least_shard(self) -> Shape | None:
        """The smallest shard that was asked for; ``None`` without shards."""
        if self.shard is None:
            return None
        if self.shard == "auto":
            return self.least_chunk
        pairs = zip(self.shard, self.facts.shape, strict=True)
        return tuple(max(1, extent) if edge == -1 else edge for edge, extent in pairs)

    @property
    def source_chunk_nbytes(self) -> int:
        """Bytes of one decoded chunk of the source; 0 where it has none."""
        if self.facts.source_chunk_shape is None:
            return 0
        return math.prod(self.facts.source_chunk_shape) * self.facts.itemsize

    @property
    def largest_own_block(self) -> Shape | None:
        """The largest block that the array already has, if it has any."""
        if self.facts.edges is None:
            return None
        return tuple(max(sizes, default=0) for sizes in self.facts.edges)


def checked_request(facts: ArraySpec, wishes: PlanRequest) -> CheckedRequest:
    """Return what is fixed, or refuse what does not go together."""
    chunk = user_chunks(wishes.chunks, facts, wishes.dims)
    shard = user_shards(wishes.shards, facts.shape)
    block = wishes.block_shape
    if block is not None:
        # Blocks that were asked for, whatever blocks the array has now.
        facts = replace(facts, edges=None)
    followed = wishes.chunks if isinstance(wishes.chunks, Plan) else None
    if followed is not None and followed.shape == facts.shape:
        if block is None and facts.edges is None:
            block = followed.block_shape
        if wishes.shards is None and wishes.format == "zarr":
            shard = followed.shard_shape
    given = CheckedRequest(
        facts=facts,
        wishes=wishes,
        chunk=tuple(chunk),
        block=None if block is None else _within(block, facts.shape),
        shard=shard,
        windows=as_windows(wishes.access, facts.shape, wishes.dims),
    )
    _check_tiling(given)
    return given


def _within(block: Shape, shape: Shape) -> Shape:
    if len(block) != len(shape):
        msg = (
            f"block_shape={block} has {len(block)} axes, the array's shape {shape} has "
            f"{len(shape)}; give one extent per axis"
        )
        raise OptionError(msg)
    return tuple(min(edge, max(1, extent)) for edge, extent in zip(block, shape, strict=True))


def _check_tiling(given: CheckedRequest) -> None:
    """Raise where a fixed block, shard and chunk do not tile each other."""
    shape, chunk = given.facts.shape, given.least_chunk
    shard = None
    if isinstance(given.shard, tuple):
        triples = zip(given.shard, chunk, shape, strict=True)
        shard = tuple(
            -(-max(1, extent) // step) * step if edge == -1 else edge
            for edge, step, extent in triples
        )
    block = given.block or tuple(max(1, extent) for extent in shape)
    # A layout cannot be built misaligned.
    Layout(shape=shape, chunk_shape=chunk, shard_shape=shard, block_shape=block)
