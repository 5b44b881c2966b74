"""What the user fixed, checked and in one form, before anything is decided."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from lazyio.errors import OptionError
from lazyio.planning.access_windows import Window, as_windows
from lazyio.planning.facts import Facts, Wishes
from lazyio.planning.layout import Layout
from lazyio.planning.plan import Plan
from lazyio.planning.wishes import chunk_wishes, shard_wishes
from lazyio.spec import Shape


@dataclass(frozen=True, kw_only=True)
class Given:
    """An array, and what is fixed of its chunks, shards and blocks."""

    facts: Facts
    """What is known of the array."""
    wishes: Wishes
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


def as_given(facts: Facts, wishes: Wishes) -> Given:
    """Return what is fixed, or refuse what does not go together."""
    chunk = chunk_wishes(wishes.chunks, facts, wishes.dims)
    shard = shard_wishes(wishes.shards, facts.shape)
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
    given = Given(
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


def _check_tiling(given: Given) -> None:
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
