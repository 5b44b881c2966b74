"""A source as a dask array: in the blocks that were asked for, or those of a plan."""

import math
from contextlib import suppress
from typing import Any

import dask.array as da
import numpy as np

from lazyio.dtypes import as_dtype, is_integer, nbytes_of
from lazyio.errors import OptionError, PlanError
from lazyio.execution.dask_arrays import as_blocks, masked_blocks, source_of
from lazyio.options import limit_of, plan_request
from lazyio.planning import ArraySpec, Plan, search_blocks, solve
from lazyio.planning.access import Window, as_windows
from lazyio.regions import grid_shape
from lazyio.sources.base import Source, lies_in_rows, reading_unit
from lazyio.sources.lookup import array_source
from lazyio.units import format_size

_MOST_BLOCKS = 2**27
"""Along one axis; dask keeps the extent of each, which is a gigabyte."""


def as_planned_blocks(source: Source, chunks: Any, memory_limit: Any, access: Any) -> da.Array:
    """Return a source as blocks: the user's own, or the plan's along its chunks."""
    windows = as_windows(access, source.shape)
    block_shape = None
    if isinstance(chunks, Plan):
        block_shape = chunks.block_shape
        if len(block_shape) != len(source.shape):
            msg = f"the plan is for shape {chunks.shape}, the source has shape {source.shape}"
            raise OptionError(msg)
    elif not (isinstance(chunks, str) and chunks == "auto"):
        if chunks is None or chunks is True:
            msg = f'chunks={chunks!r}; give "auto", a block shape, an integer, -1 or a Plan'
            raise OptionError(msg)
        block_shape = given_blocks(chunks, source)
    if block_shape is None:
        block_shape = reading_block(source, memory_limit, windows)
    else:
        _require_room(source, memory_limit)
    longest = max(grid_shape(source.shape, block_shape), default=1)
    if longest > _MOST_BLOCKS:
        msg = (
            f"shape {source.shape} has {longest} blocks of {block_shape} along one axis, and dask "
            f"can list {_MOST_BLOCKS}; give larger blocks with chunks= or memory_limit=, or check "
            "the shape: a damaged file may speak of any"
        )
        raise PlanError(msg)
    return as_blocks(source, block_shape)


def _require_room(source: Source, memory_limit: Any) -> None:
    """Refuse a source of which not one chunk fits: a part of it decodes a whole one.

    A file may speak of chunks of any size, whatever blocks are asked for.
    """
    nbytes = nbytes_of(source.chunk_shape or (), as_dtype(source.dtype))
    if nbytes > limit_of(memory_limit):
        msg = (
            f"a chunk of {source.chunk_shape} takes {format_size(nbytes)}, more than memory_limit "
            f"of {format_size(limit_of(memory_limit))}; give at least {nbytes}. The chunks are "
            "the source's own: reading less decodes a whole one"
        )
        raise PlanError(msg)


def array_in_blocks(given: Any, chunks: Any, memory_limit: Any, access: Any) -> da.Array:
    """Return an array-like as blocks; one of dask keeps its own unless others are asked for."""
    if isinstance(given, np.ma.MaskedArray):
        planned = as_planned_blocks(
            array_source(np.asarray(given.data)), chunks, memory_limit, access
        )
        return masked_blocks(given, tuple(map(int, planned.chunksize)))
    if not isinstance(given, da.Array):
        return as_planned_blocks(array_source(given), chunks, memory_limit, access)
    is_open = isinstance(chunks, str) and chunks == "auto"
    source = source_of(given)
    if source is not None and not (is_open and access is None):
        # What was only opened is read in other blocks: no block waits for parts of others.
        return as_planned_blocks(source, chunks, memory_limit, access)
    if access is not None:
        msg = (
            f"access={access!r} suits the blocks of what is read; a dask array has its blocks "
            "already, give chunks= to change them"
        )
        raise OptionError(msg)
    if is_open:
        return given
    require_known_shape(given)
    block_shape = chunks.block_shape if isinstance(chunks, Plan) else given_blocks(chunks, given)
    reblocked: da.Array = given.rechunk(block_shape)
    return reblocked


def given_blocks(chunks: Any, source: Source | da.Array) -> tuple[int, ...]:
    """Return the block shape that the user gave in any of dask's forms."""
    sizes = chunks if isinstance(chunks, (tuple, list)) else (chunks,) * len(source.shape)
    try:
        edges = da.core.normalize_chunks(sizes, shape=source.shape, dtype=source.dtype)
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        msg = f"chunks={chunks!r} does not cut shape {source.shape} into blocks: {error}"
        raise OptionError(msg) from error
    fits = len(edges) == len(source.shape) and all(
        all(is_integer(n) and n >= 0 for n in axis) for axis in edges
    )
    if not fits:
        msg = f"chunks={chunks!r} does not cut shape {source.shape}; give one extent per axis"
        raise OptionError(msg)
    return tuple(max((1, *axis)) for axis in edges)


def reading_block(
    source: Source, memory_limit: Any, windows: tuple[Window, ...]
) -> tuple[int, ...]:
    """Return the block of a plan whose chunks are the source's own, or long runs of it."""
    run_shape = reading_unit(source)
    if run_shape != source.chunk_shape:
        # A limit too small for long runs may do for short ones.
        with suppress(PlanError):
            return _block_of(source, run_shape, memory_limit, windows)
    if source.chunk_shape is None:
        return _block_of(source, None, memory_limit, windows)
    with suppress(PlanError):
        return _block_of(source, source.chunk_shape, memory_limit, windows)
    try:
        # Nothing is encoded in chunks of the source's size where it is only read.
        return _block_of(source, None, memory_limit, (), block_shape=source.chunk_shape)
    except PlanError as error:
        msg = f"{error}. The chunks are the source's own: reading less decodes a whole one"
        raise PlanError(msg) from error


def _block_of(
    source: Source,
    unit: tuple[int, ...] | None,
    memory_limit: Any,
    windows: tuple[Window, ...],
    *,
    block_shape: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Return the block of a plan in chunks of some unit, suited to windows."""
    facts = ArraySpec(
        shape=source.shape,
        dtype=as_dtype(source.dtype),
        source_chunk_shape=source.chunk_shape,
        in_rows=lies_in_rows(source),
    )
    wishes = plan_request(
        memory_limit=memory_limit,
        chunks=unit or "auto",
        block_shape=block_shape,
        access=[(window.shape, window.weight) for window in windows] or None,
    )
    return search_blocks(solve(facts, wishes))


def require_known_shape(array: da.Array) -> None:
    """Refuse an array of which dask does not know the extents."""
    if any(math.isnan(extent) for extent in array.shape):
        msg = (
            f"the array's chunks {array.chunks} are not known (NaN); call .compute_chunk_sizes() "
            "first, which computes it once"
        )
        raise PlanError(msg)
