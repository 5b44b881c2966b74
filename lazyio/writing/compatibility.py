"""How an existing array differs from what was asked for, and where data goes in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazyio.dtypes import Shape, as_dtype, is_integer, is_same_value, is_text
from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.regions import Region, each_axis


@dataclass(frozen=True, kw_only=True)
class ArrayFacts:
    """What an existing array is; or what is asked of it, ``None`` where that was left open."""

    name: str = ""
    """What to call it in an error."""
    dtype: Any = None
    """Type of an element."""
    chunk_shape: Sequence[int | None] | None = None
    """Its chunks, ``None`` where it has none; on an axis, where it was left open."""
    codec: str | None = None
    """Its filters, as a person reads them."""
    fill_value: Any = None
    """What a reader gets where nothing was written, as an element of the array."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Its attributes."""
    item_shape: Shape | None = None
    """Extents of an element, where it grows by elements."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else may be asked for, by the name of its argument."""


def refuse_differences(existing: ArrayFacts, asked: ArrayFacts, given: Input) -> None:
    """Raise when an existing dataset is not what was asked for.

    Values that keep their meaning in the dataset's dtype are cast.
    """
    found = differences(existing, asked, given)
    if found:
        msg = (
            f"{existing.name} differs from what was asked for: {'; '.join(found)}. Leave these "
            "out, or write a new dataset"
        )
        raise OptionError(msg)


def differences(existing: ArrayFacts, asked: ArrayFacts, given: Input) -> list[str]:
    """Return in what an existing dataset is not what was asked for, each as a clause."""
    return [*_dtype_differences(existing, asked, given), *_other_differences(existing, asked)]


def _dtype_differences(existing: ArrayFacts, asked: ArrayFacts, given: Input) -> list[str]:
    units = existing.attrs.get("units")
    is_bare = given.dtype.kind in "mM" and existing.dtype.kind not in "mM"
    # Where nothing says what its numbers are, who gives a dtype knows.
    if is_bare and (asked.dtype is None or units is not None):
        told = f" {units!r}" if isinstance(units, str) else ""
        text = (
            f"its dtype is {existing.dtype}, and the data are times; numbers of its units{told} "
            "go there: (data - start) // unit, where that leaves no rest and no time is missing; "
            "or let xarray encode them"
        )
        return [text]
    if asked.dtype is not None:
        wanted = as_dtype(asked.dtype)
        if wanted != existing.dtype:
            return [f"its dtype is {existing.dtype}, not {wanted}"]
        return []
    if not _holds_all(existing.dtype, given.dtype):
        if given.dtype.kind in "mM":
            text = (
                f"its dtype is {existing.dtype}, in which not every {given.dtype} of the data has "
                f"a value; .astype({str(existing.dtype)!r}) would cut them"
            )
            if given.dtype.kind != existing.dtype.kind:
                text = (
                    f"its dtype is {existing.dtype}, and the data are {given.dtype}: points in "
                    "time and durations are not the same; subtract or add a start first"
                )
            return [text]
        text = f"its dtype is {existing.dtype}, which not every {given.dtype} of the data has a "
        if given.dtype.kind == "S" and is_text(existing.dtype):
            text = (
                "its elements are text, and the data are bytes; decode them first, those in ASCII "
                "with .astype('U')"
            )
        elif "SUT".count(given.dtype.kind) or "SUT".count(existing.dtype.kind):
            text += "value in, and text that is cut is lost; write a new dataset for it"
        else:
            text += (
                f"value in; pass dtype={str(existing.dtype)!r} or use .astype to cast all the same"
            )
        return [text]
    return []


def _holds_all(stored: np.dtype[Any], given: np.dtype[Any]) -> bool:
    """Return whether every value of one dtype has one in another.

    numpy calls more than that safe: large integers as floats, numbers as text.
    """
    if given.kind in "SUT" or stored.kind in "SUT":
        # Text of any length holds every other.
        if is_text(stored):
            return given.kind in "UT"
        return given.kind == stored.kind and given.itemsize <= stored.itemsize
    if given.kind in "mM":
        return stored.kind == given.kind and np.can_cast(given, stored, "safe")
    if given.kind in "iu" and stored.kind in "fc":
        part = np.dtype(f"f{stored.itemsize // 2}") if stored.kind == "c" else stored
        return 8 * given.itemsize - (given.kind == "i") <= np.finfo(part).nmant + 1
    return np.can_cast(given, stored, "safe")


def _other_differences(existing: ArrayFacts, asked: ArrayFacts) -> list[str]:
    found = []
    if asked.item_shape not in (None, existing.item_shape):
        found.append(f"its elements have shape {existing.item_shape}, not {asked.item_shape}")
    if asked.chunk_shape is not None and not _fits(existing.chunk_shape, asked.chunk_shape):
        found.append(f"its chunks are {existing.chunk_shape}, not {tuple(asked.chunk_shape)}")
    if asked.codec is not None and asked.codec != existing.codec:
        found.append(f"its filters are {existing.codec}, not {asked.codec}")
    if asked.fill_value is not None and not is_same_value(asked.fill_value, existing.fill_value):
        found.append(f"its fill value is {existing.fill_value}, not {asked.fill_value}")
    for name, value in asked.others.items():
        if existing.others.get(name) != value:
            found.append(f"its {name} is {existing.others.get(name)}, not {value}")
    for name, value in asked.attrs.items():
        if name not in existing.attrs:
            found.append(f"it has no attribute {name!r}")
        elif not is_same_value(value, existing.attrs[name]):
            found.append(f"its attribute {name!r} is {existing.attrs[name]!r}, not {value!r}")
    return found


def _fits(chunk_shape: Sequence[int | None] | None, wanted: Sequence[int | None]) -> bool:
    return chunk_shape is not None and all(
        wish in (None, chunk) for wish, chunk in zip(wanted, chunk_shape, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class TargetRegion:
    """A part of an existing array."""

    region: Region
    """The part, in elements of the array once it has grown."""
    shape: Shape
    """Extents of the array once it has grown."""
    new_axes: tuple[int, ...] = ()
    """Axes that were given by an integer, which the data does not have."""


def done_region(window: TargetRegion, seen: Shape, *, appends: bool) -> Region:
    """Return where a part lies if it has been written already.

    Examples
    --------
    >>> done_region(TargetRegion(region=(slice(8, 10),), shape=(10,)), (8,), appends=True)
    (slice(6, 8, None),)
    """
    if not appends:
        return window.region
    return tuple(
        slice(2 * part.start - part.stop, part.start) if part.start == extent else part
        for part, extent in zip(window.region, seen, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class GrowableShape:
    """What is known of an existing array when a part of it is to be written."""

    name: str
    """What to call it in an error."""
    shape: Shape
    """Extents as they are."""
    max_shape: tuple[int | None, ...]
    """How far each axis may grow, ``None`` without bound."""
    dims: tuple[str | None, ...] = ()
    """Names of its axes, where it has them."""


def window_for(
    room: GrowableShape, data_shape: Shape, region: Any, append_dim: Any
) -> TargetRegion:
    """Return where data goes: into a region, behind what is there, or over all of it."""
    if region is not None and append_dim is not None:
        msg = "region and append_dim both say where the data goes; give one of them"
        raise OptionError(msg)
    if region is not None:
        return window_at(region, room, data_shape)
    if append_dim is not None:
        return window_behind(append_dim, room, data_shape)
    return whole(room, data_shape)


def window_of(region: Any, room: GrowableShape) -> Region:
    """Return the part of an array that a region stands for, as far as it is there."""
    return tuple(_bounds(part, axis, room) for axis, part in enumerate(_parts(region, room)))


def whole(room: GrowableShape, data_shape: Shape) -> TargetRegion:
    """Return the window that is all of an array."""
    if data_shape != room.shape:
        msg = (
            f"{room.name} has shape {room.shape}, the data {data_shape}; give data of the same "
            "shape, or region= for the part that it is"
        )
        raise OptionError(msg)
    return TargetRegion(region=tuple(slice(0, extent) for extent in room.shape), shape=room.shape)


def window_at(region: Any, room: GrowableShape, data_shape: Shape) -> TargetRegion:
    """Return where a region lies, once the array has grown for it.

    Examples
    --------
    >>> room = GrowableShape(name="x", shape=(8, 10), max_shape=(None, 10))
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
    return TargetRegion(region=found, shape=grown, new_axes=new_axes)


def window_behind(append_dim: Any, room: GrowableShape, data_shape: Shape) -> TargetRegion:
    """Return where data lies that is appended along an axis.

    Examples
    --------
    >>> room = GrowableShape(name="x", shape=(8, 10), max_shape=(None, 10), dims=("time", "x"))
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
    return TargetRegion(region=found, shape=grown)


def axis_of(append_dim: Any, room: GrowableShape) -> int:
    """Return the axis that is meant by its number or name."""
    if isinstance(append_dim, str) and append_dim in room.dims:
        return room.dims.index(append_dim)
    ndim = len(room.shape)
    if is_integer(append_dim) and -ndim <= append_dim < ndim:
        return int(append_dim) % ndim
    named = f" or one of {room.dims}" if any(room.dims) else ""
    msg = f"append_dim={append_dim!r} is no axis of {room.name}; give 0 to {ndim - 1}{named}"
    raise OptionError(msg)


def _parts(region: Any, room: GrowableShape) -> Sequence[Any]:
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
    parts = each_axis(tuple(region) if isinstance(region, list) else region, ndim)
    known = all(isinstance(part, slice) or is_integer(part) for part in parts)
    if len(parts) != ndim or not known:
        msg = (
            f"region={region!r} is no part of {room.name}, which has shape {room.shape}; give a "
            "tuple of integers and slices, one an axis"
        )
        raise OptionError(msg)
    return parts


def _bounds(part: Any, axis: int, room: GrowableShape) -> slice:
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


def _check_growth(grown: Shape, room: GrowableShape) -> None:
    for axis, (extent, bound) in enumerate(zip(grown, room.max_shape, strict=True)):
        if bound is not None and extent > bound:
            msg = (
                f"{room.name} cannot grow to {extent} along axis {axis}: its maxshape is "
                f"{room.max_shape}; write a new dataset with maxshape= that leaves room"
            )
            raise OptionError(msg)
