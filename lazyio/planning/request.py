"""What a plan starts from: the facts of an array, and what its user fixed, in one form."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lazyio.dtypes import Shape, is_integer, nbytes_of
from lazyio.errors import OptionError, PlanError
from lazyio.planning.access import Window, WindowCost, as_windows, window_costs
from lazyio.planning.axes import per_axis
from lazyio.planning.boundaries import Edges, common_step
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.regions import Bounds, n_along
from lazyio.units import format_size


@dataclass(frozen=True, kw_only=True)
class OnePass:
    """How an array arrives that can be had only once."""

    axis: int | None = None
    """Along which the elements of a stream follow each other; ``None`` for blocks anywhere."""
    has_length: bool = True
    """Whether it is known how long it will be."""
    chunk_shape: Shape | None = None
    """Chunk that suits its blocks, where it tells of one."""


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
    max_shape: Bounds | None = None
    """How far it may grow: its chunks may be longer than what there is of it."""
    one_pass: OnePass | None = None
    """How it arrives, where it can be had only once."""
    is_part: bool = False
    """Whether it goes into an existing array, whose chunks are those of the request."""
    merges_chunks: bool = False
    """Whether chunks of that array are read, as parts of them are written."""

    @property
    def longest_chunk(self) -> Shape:
        """The longest chunk along each axis; 0 where there is nothing, and never will be."""
        if self.max_shape is None:
            return self.shape
        ends = zip(self.max_shape, self.shape, strict=True)
        return tuple(_ENDLESS if end is None else max(end, extent) for end, extent in ends)

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory, at least 1."""
        return max(1, self.dtype.itemsize, self.held_itemsize)


_ENDLESS = 2**63


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
    if chunks is True and facts.edges is not None:
        chunks = _own_blocks(facts.edges)
    fixed = [
        _fixed(wish, extent, longest)
        for wish, extent, longest in zip(
            _as_typed(chunks, facts.shape, dims), facts.shape, facts.longest_chunk, strict=True
        )
    ]
    nbytes = facts.dtype.itemsize * math.prod(wish or 1 for wish in fixed)
    if nbytes > MAX_CHUNK_NBYTES:
        msg = (
            f"a chunk of {tuple(wish or 1 for wish in fixed)} {facts.dtype} is "
            f"{format_size(nbytes)}; HDF5 and Zarr codecs stop below 4 GiB, choose a smaller chunk"
        )
        raise PlanError(msg)
    return fixed


def _fixed(wish: int | None, extent: int, longest: int) -> int | None:
    """Return an extent within what is there or may be; the whole of nothing is no wish."""
    if wish == -1:
        return None if not extent and longest else max(1, extent)
    return None if wish is None else max(1, min(wish, longest))


def extents_asked(chunks: Any, shape: Shape, dims: tuple[str, ...] = ()) -> list[int | None]:
    """Return the chunk extents that a user gave, as they are, ``None`` for all others.

    Examples
    --------
    >>> extents_asked({"time": 1000}, (9, 9), ("time", "channel")), extents_asked((-1, 5), (9, 9))
    ([1000, None], [None, 5])
    """
    return [None if wish == -1 else wish for wish in _as_typed(chunks, shape, dims)]


def _as_typed(chunks: Any, shape: Shape, dims: tuple[str, ...]) -> list[int | None]:
    """Return what was given for each axis: an extent, -1 for the whole axis, or ``None``."""
    if isinstance(chunks, Plan):
        chunks = chunks.chunk_shape
    if chunks is True or chunks is None or (isinstance(chunks, str) and chunks == "auto"):
        return [None] * len(shape)
    hint = "give one extent per axis, None where the solver may choose"
    return [_one_wish(chunk) for chunk in per_axis("chunks", chunks, shape, dims, hint=hint)]


def _one_wish(chunk: Any) -> int | None:
    if chunk is None or (isinstance(chunk, str) and chunk == "auto"):
        return None
    if not is_integer(chunk) or (chunk < 1 and chunk != -1):
        msg = (
            f"chunks holds {chunk!r}; an axis takes a positive integer, -1 for the whole axis, "
            'or None or "auto" to leave it to the solver'
        )
        raise OptionError(msg)
    return int(chunk)


def user_shards(shards: Any, shape: Shape) -> tuple[int, ...] | Literal["auto"] | None:
    """Return the shard extents that the user fixed, -1 for whole axes."""
    if shards is None or not shape:
        return None
    if isinstance(shards, str) and shards == "auto":
        return "auto"
    extents = per_axis("shards", shards, shape, hint='give one extent per axis, or "auto"')
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


@dataclass(frozen=True, kw_only=True)
class CheckedRequest:
    """An array, and what is fixed of its chunks, shards and blocks."""

    facts: ArraySpec
    """What is known of the array."""
    wishes: PlanRequest
    """What the user asked for, as it was typed."""
    asked: tuple[int | None, ...]
    """Chunk extents that the user gave as numbers."""
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
    def decoded_nbytes(self) -> int:
        """Bytes of the chunks that a worker decodes: of the source, and of an existing array."""
        source, merged = self.facts.source_chunk_shape, self.least_shard or self.least_chunk
        nbytes = 0 if source is None else math.prod(source) * self.facts.itemsize
        return nbytes + nbytes_of(merged, self.facts.dtype) * self.facts.merges_chunks

    @property
    def largest_own_block(self) -> Shape | None:
        """The largest block that the array already has, if it has any."""
        if self.facts.edges is None:
            return None
        return tuple(max(sizes, default=0) for sizes in self.facts.edges)

    @property
    def block_steps(self) -> Shape | None:
        """What divides every edge of blocks that stand already, if any do."""
        if self.block is not None or self.facts.edges is None:
            return self.block
        return tuple(map(common_step, self.facts.edges, self.facts.shape))

    def costs(self, chunk: Shape) -> tuple[WindowCost, ...]:
        """Return what each window costs to read out of chunks."""
        return window_costs(
            self.windows,
            self.facts.shape,
            chunk,
            max(1, self.facts.dtype.itemsize),
            whole_chunks=self.wishes.reads_whole_chunks or self.wishes.format == "zarr",
        )


def checked_request(facts: ArraySpec, wishes: PlanRequest) -> CheckedRequest:
    """Return what is fixed, or refuse what does not go together."""
    chunk = user_chunks(wishes.chunks, facts, wishes.dims)
    shard = user_shards(wishes.shards, facts.shape)
    block = None if facts.one_pass is not None else wishes.block_shape
    if block is not None:
        # Blocks that were asked for, whatever blocks the array has now.
        facts = replace(facts, edges=None)
    followed = wishes.chunks if isinstance(wishes.chunks, Plan) else None
    if followed is not None and followed.shape == facts.shape:
        if block is None and facts.edges is None and facts.one_pass is None:
            block = followed.block_shape
        if wishes.shards is None and wishes.format == "zarr":
            shard = followed.shard_shape
    if block is not None:
        edges = per_axis("block_shape", block, facts.shape, hint="give one extent per axis")
        block = tuple(min(edge, max(1, end)) for edge, end in zip(edges, facts.shape, strict=True))
    given = CheckedRequest(
        facts=facts,
        wishes=wishes,
        asked=tuple(extents_asked(wishes.chunks, facts.shape, wishes.dims)),
        chunk=tuple(chunk),
        block=block,
        shard=shard,
        windows=as_windows(wishes.access, facts.shape, wishes.dims),
    )
    _check_tiling(given)
    return given


def shard_of(shard: tuple[int, ...], chunk: Shape, shape: Shape) -> Shape:
    """Return a shard as it was given, of whole chunks where it is to hold a whole axis."""
    return tuple(
        n_along(max(1, extent), step) * step if edge == -1 else edge
        for edge, step, extent in zip(shard, chunk, shape, strict=True)
    )


def _check_tiling(given: CheckedRequest) -> None:
    """Raise where a fixed block, shard and chunk do not tile each other."""
    shape, chunk = given.facts.shape, given.least_chunk
    shard = shard_of(given.shard, chunk, shape) if isinstance(given.shard, tuple) else None
    block = given.block or tuple(max(1, extent) for extent in shape)
    # A layout cannot be built misaligned.
    Layout(shape=shape, chunk_shape=chunk, shard_shape=shard, block_shape=block)
