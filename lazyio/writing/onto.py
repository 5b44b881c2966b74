"""What comes once and goes into an array that is there: where its parts belong."""

from dataclasses import replace
from typing import Any

from lazyio.errors import OptionError
from lazyio.grid import Bounds
from lazyio.inputs import Input, from_pieces
from lazyio.pieces.base import Pieces
from lazyio.pieces.blocks import Blocks
from lazyio.pieces.placed import Appended, Placed
from lazyio.pieces.stream import Stream
from lazyio.writing.windows import Room, Window, axis_of, window_behind


def onto(given: Input, room: Room, region: Any, append_dim: Any) -> tuple[Input, Window]:
    """Return a stream or iterator as it goes into an array that is there.

    Parameters
    ----------
    given : Input
        A stream, which is appended; or pieces, which go where they say.
    room : Room
        The array.
    region, append_dim : optional
        As the user gave them.

    Raises
    ------
    OptionError
        When it does not go there.
    """
    if region is not None:
        msg = (
            f"region={region!r}: what comes piece by piece says itself where it goes, or is "
            "appended; leave it out"
        )
        raise OptionError(msg)
    whole = Window(region=tuple(slice(0, extent) for extent in room.shape), shape=room.shape)
    if given.stream is not None:
        pieces: Pieces = _appended(given.stream, room, append_dim)
    elif given.pieces is not None:
        pieces = _placed(given.pieces, room, append_dim)
    else:
        return given, whole
    # Chunks and bounds are those that are there, whatever it would have liked.
    settings = {
        name: value for name, value in given.settings.items() if name not in ("chunks", "maxshape")
    }
    return replace(from_pieces(pieces), dims=given.dims, settings=settings), whole


def _appended(stream: Stream, room: Room, append_dim: Any) -> Appended:
    if append_dim is None:
        msg = (
            f"{room.name} is there already; give append_dim={stream.axis} for a stream to go on "
            "at its end, or overwrite=True"
        )
        raise OptionError(msg)
    axis = axis_of(append_dim, room)
    if axis != stream.axis:
        msg = f"append_dim={append_dim!r}: the stream grows along axis {stream.axis}; give axis="
        raise OptionError(msg)
    # As one element would, so that what does not fit is told before the first is taken.
    window_behind(append_dim, room, tuple(extent or 1 for extent in stream.maxshape))
    bounds = tuple(
        bound if at == axis else extent
        for at, (extent, bound) in enumerate(zip(room.shape, room.max_shape, strict=True))
    )
    return Appended(stream, room.shape, bounds)


def _placed(pieces: Pieces, room: Room, append_dim: Any) -> Placed:
    if append_dim is not None:
        msg = f"append_dim={append_dim!r}: its pieces say themselves where they go; leave it out"
        raise OptionError(msg)
    fits = len(pieces.shape) == len(room.shape) and all(
        bound is None or extent <= bound
        for extent, bound in zip(pieces.shape, room.max_shape, strict=False)
    )
    if not fits or (isinstance(pieces, Blocks) and pieces.shape != room.shape):
        msg = (
            f"{room.name} has shape {room.shape} and maxshape {room.max_shape}, which does not "
            f"take pieces of an array of {pieces.shape}; give the shape that is there"
        )
        raise OptionError(msg)
    return Placed(pieces, room.shape, _bounds(pieces, room))


def _bounds(pieces: Pieces, room: Room) -> Bounds:
    """Return how far an array may grow for pieces: no farther than either says."""
    found = []
    for extent, own, bound in zip(room.shape, pieces.max_shape, room.max_shape, strict=True):
        known = [one for one in (own, bound) if one is not None]
        found.append(max(extent, min(known)) if known else None)
    return tuple(found)
