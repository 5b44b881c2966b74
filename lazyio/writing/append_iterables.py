"""Append or place one-pass input in an existing array."""

from dataclasses import replace
from functools import partial
from operator import add
from typing import Any

from lazyio.dtypes import Shape
from lazyio.errors import OptionError
from lazyio.inputs import Input, from_pieces
from lazyio.iterables.base import BlockIterator, OffsetBlocks, appended_parts, offset_parts
from lazyio.iterables.blocks import Blocks
from lazyio.iterables.hdmf import HdmfBlocks
from lazyio.iterables.sparse import SparseBlocks
from lazyio.iterables.stream import Stream
from lazyio.regions import Bounds
from lazyio.writing.compatibility import (
    GrowableShape,
    TargetRegion,
    axis_of,
    window_behind,
    window_of,
)


def offset_input(
    given: Input, room: GrowableShape, region: Any, append_dim: Any
) -> tuple[Input, TargetRegion]:
    """Return a stream or iterator as it goes into an existing array."""
    whole = TargetRegion(region=tuple(slice(0, extent) for extent in room.shape), shape=room.shape)
    if region is not None and (append_dim is not None or window_of(region, room) != whole.region):
        msg = (
            f"region={region!r}: what comes piece by piece says itself where it goes in "
            f"{room.name}, or is appended; give region=... for all of it, or append_dim="
        )
        raise OptionError(msg)
    if given.stream is not None:
        pieces: BlockIterator = _appended(given.stream, room, append_dim)
    elif given.pieces is not None:
        pieces = _placed(given.pieces, room, append_dim)
    else:
        return given, whole
    # Bounds are those that are there, and so are chunks, where it only recommends others.
    recommended = None if given.pieces is None else given.pieces.chunk_shape
    settings = {name: value for name, value in given.settings.items() if name != "maxshape"}
    if settings.get("chunks") == recommended:
        settings.pop("chunks", None)
    return replace(from_pieces(pieces), dims=given.dims, settings=settings), whole


def _appended(stream: Stream, room: GrowableShape, append_dim: Any) -> OffsetBlocks:
    if append_dim is None:
        msg = (
            f"{room.name} already exists; give append_dim={stream.axis} to append a stream "
            "at its end, or overwrite=True"
        )
        raise OptionError(msg)
    axis = axis_of(append_dim, room)
    if not stream.is_empty:
        _refuse_misfit(stream, room, append_dim, axis)
    bounds = tuple(
        bound if at == axis else extent
        for at, (extent, bound) in enumerate(zip(room.shape, room.max_shape, strict=True))
    )
    return OffsetBlocks(
        dtype=stream.dtype,
        shape=room.shape,
        max_shape=bounds,
        is_in_order=True,
        parts=partial(appended_parts, stream, room.shape),
        stream=stream,
    )


def _refuse_misfit(stream: Stream, room: GrowableShape, append_dim: Any, axis: int) -> None:
    """Refuse elements that do not continue an array, before the first of them is taken."""
    if axis != stream.axis:
        msg = f"append_dim={append_dim!r}: the stream grows along axis {stream.axis}; give axis="
        raise OptionError(msg)
    window_behind(append_dim, room, tuple(extent or 1 for extent in stream.maxshape))


def _placed(pieces: BlockIterator, room: GrowableShape, append_dim: Any) -> OffsetBlocks:
    """Return pieces that go where they say, or as far behind what is there."""
    if isinstance(pieces, SparseBlocks):
        msg = (
            f"{room.name} already exists, and a sparse matrix is zero where nothing is stored; "
            "write it anew, or the parts that are to change as lazyio.Blocks"
        )
        raise OptionError(msg)
    axis = None if append_dim is None else axis_of(append_dim, room)
    start = tuple(extent if at == axis else 0 for at, extent in enumerate(room.shape))
    is_same_rank = len(pieces.shape) == len(room.shape)
    reach = tuple(map(add, start, pieces.shape)) if is_same_rank else ()
    fits = is_same_rank and all(
        bound is None or extent <= bound
        for extent, bound in zip(reach, room.max_shape, strict=True)
    )
    is_whole = reach == room.shape or axis is not None
    if not fits or (isinstance(pieces, Blocks) and not is_whole):
        msg = (
            f"{room.name} has shape {room.shape} and maxshape {room.max_shape}, which does not "
            f"take pieces of an array of {pieces.shape}; give the shape that is there"
        )
        raise OptionError(msg)
    bounds = _bounds(pieces, room, start)
    if isinstance(pieces, HdmfBlocks) and axis is None:
        # What it selects up to the end reaches to that of what is there.
        pieces = pieces.within(bounds, tuple(map(max, pieces.shape, room.shape)))
    return OffsetBlocks(
        dtype=pieces.dtype,
        shape=room.shape,
        max_shape=bounds,
        is_in_order=pieces.is_in_order,
        parts=partial(offset_parts, pieces, start),
    )


def _bounds(pieces: BlockIterator, room: GrowableShape, start: Shape) -> Bounds:
    """Return how far an array may grow for pieces: no farther than either says."""
    found = []
    for extent, own, bound, at in zip(
        room.shape, pieces.max_shape, room.max_shape, start, strict=True
    ):
        known = [one for one in (None if own is None else own + at, bound) if one is not None]
        found.append(max(extent, min(known)) if known else None)
    return tuple(found)
