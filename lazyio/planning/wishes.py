"""Chunk and shard extents in every form that a user may give them, as one extent per axis."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from lazyio.errors import OptionError, PlanError
from lazyio.planning.boundaries import Edges, common_step
from lazyio.planning.facts import Facts
from lazyio.planning.plan import Plan
from lazyio.sizes import format_size
from lazyio.spec import Shape, is_integer

MAX_CHUNK_NBYTES = 2**32 - 1
"""HDF5 keeps the size of a chunk in 32 bits."""


def chunk_wishes(chunks: Any, facts: Facts, dims: tuple[str, ...]) -> list[int | None]:
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


def shard_wishes(shards: Any, shape: Shape) -> tuple[int, ...] | Literal["auto"] | None:
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
