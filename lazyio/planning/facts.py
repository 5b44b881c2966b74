"""What a plan starts from: the facts of an array, and the wishes of its user."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lazyio.planning.boundaries import Edges
from lazyio.spec import Shape


@dataclass(frozen=True, kw_only=True)
class Facts:
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
class Wishes:
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
