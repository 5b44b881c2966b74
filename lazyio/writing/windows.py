"""Where data goes in an array that is there already, and whether it has to grow for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazyio.errors import OptionError
from lazyio.grid import Region
from lazyio.spec import Shape, is_integer


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of an existing array."""

    region: Region
    """The part, in elements of the array once it has grown."""
    shape: Shape
    """Extents of the array once it has grown."""
    new_axes: tuple[int, ...] = ()
    """Axes that were given by an integer, which the data does not have."""


def done_region(window: Window, seen: Shape, *, appends: bool) -> Region:
    """Return where a part lies if it has been written already.

    Examples
    --------
    >>> done_region(Window(region=(slice(8, 10),), shape=(10,)), (8,), appends=True)
    (slice(6, 8, None),)
    """
    if not appends:
        return window.region
    return tuple(
        slice(2 * part.start - part.stop, part.start) if part.start == extent else part
        for part, extent in zip(window.region, seen, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is known of an existing array when a part of it is to be written."""

    name: str
    """What to call it in an error."""
    shape: Shape
    """Extents as they are."""
    max_shape: tuple[int | None, ...]
    """How far each axis may grow, ``None`` without bound."""
    dims: tuple[str | None, ...] = ()
    """Names of its axes, where it has them."""


def window_for(room: Room, data_shape: Shape, region: Any, append_dim: Any) -> Window:
    """Return where data goes: into a region, behind what is there, or over all of it."""
    if region is not None and append_dim is not None:
        msg = "region and append_dim both say where the data goes; give one of them"
        raise OptionError(msg)
    if region is not None:
        return window_at(region, room, data_shape)
    if append_dim is not None:
        return window_behind(append_dim, room, data_shape)
    return whole(room, data_shape)


def window_of(region: Any, room: Room) -> Region:
    """Return the part of an array that a region stands for, as far as it is there."""
    return tuple(_bounds(part, axis, room) for axis, part in enumerate(_parts(region, room)))


def whole(room: Room, data_shape: Shape) -> Window:
    """Return the window that is all of an array."""
    if data_shape != room.shape:
        msg = (
            f"{room.name} has shape {room.shape}, the data {data_shape}; give data of the same "
            "shape, or region= for the part that it is"
        )
        raise OptionError(msg)
    return Window(region=tuple(slice(0, extent) for extent in room.shape), shape=room.shape)


def window_at(region: Any, room: Room, data_shape: Shape) -> Window:
    """Return where a region lies, once the array has grown for it.

    Examples
    --------
    >>> room = Room(name="x", shape=(8, 10), max_shape=(None, 10))
    >>> window_at((slice(8, 10), slice(None)), room, (2, 10)).shape
    (10, 10)
    >>> window_at((3, slice(0, 4)), room, (4,)).region
    (slice(3, 4, None), slice(0, 4, None))
    """
    parts = _parts(region, room)
    found = tuple(_bounds(part, axis, room) for axis, part in enumerate(parts))
    new_axes = tuple(axis for axis, part in enumerate(parts) if not isinstance(part, slice))
    lengths = tuple(
        part.stop - part.start for axis, part in enumerate(found) if axis not in new_axes
    )
    if lengths != data_shape:
        msg = (
            f"region {region!r} of {room.name}, which has shape {room.shape}, takes data of shape "
            f"{lengths}, not {data_shape}; give a region of that shape"
        )
        raise OptionError(msg)
    grown = tuple(max(part.stop, extent) for part, extent in zip(found, room.shape, strict=True))
    _check_growth(grown, room)
    return Window(region=found, shape=grown, new_axes=new_axes)


def window_behind(append_dim: Any, room: Room, data_shape: Shape) -> Window:
    """Return where data lies that is appended along an axis.

    Examples
    --------
    >>> room = Room(name="x", shape=(8, 10), max_shape=(None, 10), dims=("time", "channel"))
    >>> window_behind("time", room, (5, 10)).region
    (slice(8, 13, None), slice(0, 10, None))
    """
    axis = axis_of(append_dim, room)
    others = [extent for at, extent in enumerate(room.shape) if at != axis]
    if len(data_shape) != len(room.shape) or others != [
        extent for at, extent in enumerate(data_shape) if at != axis
    ]:
        msg = (
            f"append_dim={append_dim!r}: data of shape {data_shape} does not continue {room.name}, "
            f"which has shape {room.shape}; all extents but that of axis {axis} are the same"
        )
        raise OptionError(msg)
    found = tuple(
        slice(extent, extent + data_shape[at]) if at == axis else slice(0, extent)
        for at, extent in enumerate(room.shape)
    )
    grown = tuple(part.stop for part in found)
    _check_growth(grown, room)
    return Window(region=found, shape=grown)


def axis_of(append_dim: Any, room: Room) -> int:
    """Return the axis that is meant by its number or name."""
    if isinstance(append_dim, str) and append_dim in room.dims:
        return room.dims.index(append_dim)
    ndim = len(room.shape)
    if is_integer(append_dim) and -ndim <= append_dim < ndim:
        return int(append_dim) % ndim
    named = f" or one of {room.dims}" if any(room.dims) else ""
    msg = f"append_dim={append_dim!r} is no axis of {room.name}; give 0 to {ndim - 1}{named}"
    raise OptionError(msg)


def _parts(region: Any, room: Room) -> Sequence[Any]:
    """Return an integer or slice for each axis."""
    ndim = len(room.shape)
    if isinstance(region, Mapping):
        by_axis: list[Any] = [slice(None)] * ndim
        for name, part in region.items():
            if name not in room.dims:
                msg = f"region names axis {name!r}; {room.name} has the axes {room.dims or 'none'}"
                raise OptionError(msg)
            by_axis[room.dims.index(name)] = part
        return by_axis
    parts = list(region) if isinstance(region, (tuple, list)) else [region]
    dots = [at for at, part in enumerate(parts) if part is Ellipsis]
    if len(dots) == 1:
        parts[dots[0] : dots[0] + 1] = [slice(None)] * (ndim - len(parts) + 1)
    parts += [slice(None)] * (ndim - len(parts))
    known = all(isinstance(part, slice) or is_integer(part) for part in parts)
    if len(parts) != ndim or not known:
        msg = (
            f"region={region!r} is no part of {room.name}, which has shape {room.shape}; give a "
            "tuple of integers and slices, one an axis"
        )
        raise OptionError(msg)
    return parts


def _bounds(part: Any, axis: int, room: Room) -> slice:
    extent = room.shape[axis]
    if not isinstance(part, slice):
        start = int(part) + (extent if part < 0 else 0)
        found = slice(start, start + 1)
    else:
        bounds = (part.start, part.stop)
        if part.step not in (None, 1) or not all(b is None or is_integer(b) for b in bounds):
            msg = f"region has {part} on axis {axis}; give whole numbers and no step but 1"
            raise OptionError(msg)
        low, high = (None if b is None else int(b) + (extent if b < 0 else 0) for b in bounds)
        start = 0 if low is None else low
        found = slice(start, max(start, extent if high is None else high))
    if found.start < 0:
        msg = f"region begins before the start of axis {axis}, which has {extent} elements"
        raise OptionError(msg)
    return found


def _check_growth(grown: Shape, room: Room) -> None:
    for axis, (extent, bound) in enumerate(zip(grown, room.max_shape, strict=True)):
        if bound is not None and extent > bound:
            msg = (
                f"{room.name} cannot grow to {extent} along axis {axis}: its maxshape is "
                f"{room.max_shape}; write a new dataset with maxshape= that leaves room"
            )
            raise OptionError(msg)
