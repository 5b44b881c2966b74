"""Arrays of several files or stores as one, and what they must have in common."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lazyio.dtypes import Shape, is_integer, nbytes_of
from lazyio.errors import OptionError
from lazyio.regions import Region, box_shape
from lazyio.sources.base import (
    Array,
    FillsNew,
    ReadsInto,
    Source,
    lies_in_rows,
    name_of,
    reading_unit,
)
from lazyio.sources.files import LONG_RUN_NBYTES, PAGE_NBYTES, run_of
from lazyio.sources.function import checked_part

_MOST_CHUNKS = 8
"""How many chunks of a part may make one of the whole, for the sake of its grid."""


class HasFacts(Protocol):
    """What joining asks of an array, lazy or not."""

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""


def common_axis(parts: Sequence[HasFacts], axis: Any, *, is_new: bool = False) -> int:
    """Return the axis that arrays are joined along, counted from the start."""
    first = parts[0].shape
    n_axes = len(first) + is_new
    if not is_integer(axis) or not -n_axes <= axis < n_axes:
        hint = "; stack gives them an axis" if not first and not is_new else ""
        msg = f"axis={axis!r} is not an axis of the result, which has {n_axes} of them{hint}"
        raise OptionError(msg)
    along = int(axis) % n_axes
    for at, part in enumerate(parts):
        if _others(part.shape, along, is_new) != _others(first, along, is_new):
            rule = "shapes must be equal" if is_new else f"only axis {along} may differ"
            msg = (
                f"{name_of(part, at)} has shape {tuple(part.shape)}, {name_of(parts[0], 0)} has "
                f"{tuple(first)}; {rule}: slice or reshape the one, or leave it out"
            )
            raise OptionError(msg)
    return along


def _others(shape: Shape, axis: int, is_new: bool) -> tuple[int | None, ...]:
    """Return the extents that must agree; the one that may differ is left open."""
    return tuple(shape) if is_new else (*shape[:axis], None, *shape[axis + 1 :])


def _remedy(one: np.dtype[Any], other: np.dtype[Any]) -> str:
    """Say what holds the values of both, if numpy has anything."""
    try:
        both = np.result_type(one, other)
    except (TypeError, ValueError):
        return "leave one out"
    if both.hasobject or not (np.can_cast(one, both, "safe") and np.can_cast(other, both, "safe")):
        return "leave one out"
    return f'open them and convert each with .astype("{both}")'


def common_dtype(parts: Sequence[HasFacts]) -> np.dtype[Any]:
    """Return the dtype of all arrays, native where only their byte order differs."""
    first = parts[0].dtype
    differ = False
    for at, part in enumerate(parts):
        if part.dtype == first:
            continue
        if part.dtype.newbyteorder("=") != first.newbyteorder("="):
            msg = (
                f"{name_of(part, at)} has dtype {part.dtype}, {name_of(parts[0], 0)} has {first}; "
                f"arrays that are joined have one dtype: {_remedy(first, part.dtype)}"
            )
            raise OptionError(msg)
        differ = True
    return first.newbyteorder("=") if differ else first


def joint_unit(
    parts: Sequence[Source], axis: int, unit_of: Callable[[Source], Shape | None], nbytes: int
) -> Shape | None:
    """Return the unit whose grid suits that of every part, or nearly."""
    filled = [part for part in parts if 0 not in part.shape]
    own = [_own(part, unit_of(part), axis, nbytes) for part in filled]
    if not any(own):
        return None
    # A part without chunks can be cut anywhere, as if its chunks were elements.
    chunks = [chunk or (1,) * len(part.shape) for chunk, part in zip(own, filled, strict=True)]
    extents = [part.shape[axis] for part in filled]
    return tuple(
        common_step(extents, sizes)
        if at == axis
        else min(_common_multiple(sizes), filled[0].shape[at])
        for at, sizes in enumerate(zip(*chunks, strict=True))
    )


def _own(part: Source, unit: Shape | None, axis: int, nbytes: int) -> Shape | None:
    """Return what is read at once of a part, within its extents."""
    if unit is not None:
        return tuple(map(min, unit, part.shape))
    if lies_in_rows(part) and math.prod(part.shape[:axis]) > 1:
        # Across the files rows are scattered; within each, there are runs.
        return run_of(part.shape, part.dtype.itemsize, nbytes)
    return None


def common_step(extents: Sequence[int], chunks: Sequence[int]) -> int:
    """Return the chunk extent that suits parts which follow each other.

    Examples
    --------
    >>> common_step([40, 40, 17], [10, 20, 10])
    20
    >>> common_step([25, 25, 25], [10, 10, 10])
    25
    """
    largest = max(chunks)
    boundaries = list(itertools.accumulate(extents))[:-1]

    def cuts_none(step: int) -> bool:
        return all(boundary % step == 0 for boundary in boundaries) and all(
            step % chunk == 0 or extent <= step
            for extent, chunk in zip(extents, chunks, strict=True)
        )

    for step in (largest, math.lcm(*chunks), extents[0]):
        if step <= _MOST_CHUNKS * largest and cuts_none(step):
            return step
    return largest


def _common_multiple(sizes: Sequence[int]) -> int:
    """Return the least extent that whole chunks of every size make, if it is moderate."""
    multiple = math.lcm(*sizes)
    return multiple if multiple <= _MOST_CHUNKS * max(sizes) else max(sizes)


_SLAB_NBYTES = 2 * 2**20
"""What is copied at a time where parts lie side by side in a block."""


@dataclass(frozen=True, kw_only=True)
class JoinedSource(FillsNew):
    """Sources that follow each other along an axis; each is read where it lies."""

    parts: tuple[Source, ...]
    """In the order in which they follow each other."""
    axis: int
    """Along which they do."""
    starts: tuple[int, ...]
    """For each part, where it starts along the axis."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element; native where the parts differ in byte order."""
    chunk_shape: Shape | None
    """What is fetched or decoded at once, in elements, or ``None``."""
    run_shape: Shape | None
    """What is worth a read of its own, in elements, or ``None``."""

    @property
    def in_rows(self) -> bool:
        """Whether the parts are runs of bytes that follow each other."""
        return math.prod(self.shape[: self.axis]) == 1 and all(map(lies_in_rows, self.parts))

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part, from the sources that it touches and no others."""
        if out.size == 0:
            return
        along = region[self.axis]
        # Of several parts that start at one index, all but the last are empty.
        for at in range(bisect_right(self.starts, along.start) - 1, len(self.parts)):
            start = self.starts[at]
            if start >= along.stop:
                return
            part = self.parts[at]
            low = max(along.start, start)
            high = min(along.stop, start + part.shape[self.axis])
            wanted = (
                *region[: self.axis],
                slice(low - start, high - start),
                *region[self.axis + 1 :],
            )
            place = slice(low - along.start, high - along.start)
            _fill(part, wanted, out[(slice(None),) * self.axis + (place,)], at)


@dataclass(frozen=True, kw_only=True)
class LiftedSource(FillsNew):
    """A source with one more axis, of one element."""

    part: Source
    """What is read."""
    axis: int
    """Where the new axis stands among the others."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """What is read."""
        return (self.part,)

    @property
    def shape(self) -> Shape:
        """Extents, in elements."""
        return self._lift(self.part.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.part.dtype

    @property
    def chunk_shape(self) -> Shape | None:
        """What the source decodes at once."""
        return None if self.part.chunk_shape is None else self._lift(self.part.chunk_shape)

    @property
    def run_shape(self) -> Shape | None:
        """What is worth a read of its own."""
        unit = reading_unit(self.part)
        return None if unit is None else self._lift(unit)

    @property
    def in_rows(self) -> bool:
        """Whether the source is one C-ordered run of bytes, which an axis of 1 leaves it."""
        return lies_in_rows(self.part)

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        if out.size:
            wanted = (*region[: self.axis], *region[self.axis + 1 :])
            _fill(self.part, wanted, out.reshape(box_shape(wanted)), 0)

    def _lift(self, shape: Shape) -> Shape:
        return (*shape[: self.axis], 1, *shape[self.axis :])


def _fill(part: Source, region: Region, out: Array, at: int) -> None:
    """Fill part of a block from one source, without a copy on the way where it can be."""
    if isinstance(part, ReadsInto) and out.flags.c_contiguous and out.dtype == part.dtype:
        part.read_into(region, out)
        return
    for wanted, place in slabs(part, region):
        out[place] = checked_part(part.read(wanted), wanted, part.dtype, name_of(part, at))


def slabs(part: Source, region: Region) -> Iterator[tuple[Region, Region]]:
    """Cut a region into slabs of whole chunks, so that what is copied is never a second block."""
    shape = box_shape(region)
    axis = next((at for at, extent in enumerate(shape) if extent > 1), None)
    if axis is None:
        yield region, (slice(None),) * len(shape)
        return
    unit = 1 if part.chunk_shape is None else part.chunk_shape[axis]
    row_nbytes = max(1, nbytes_of(shape, part.dtype) // shape[axis])
    step = max(1, _SLAB_NBYTES // (row_nbytes * unit)) * unit
    whole = region[axis]
    for start in range(whole.start // unit * unit, whole.stop, step):
        low, high = max(start, whole.start), min(start + step, whole.stop)
        wanted = (*region[:axis], slice(low, high), *region[axis + 1 :])
        place = slice(low - whole.start, high - whole.start)
        yield wanted, (slice(None),) * axis + (place,)


def joined(parts: Sequence[Source], axis: int) -> Source:
    """Return sources one after another along an axis that they have."""
    dtype = common_dtype(parts)
    along = common_axis(parts, axis)
    if len(parts) == 1:
        return parts[0]
    extents = [part.shape[along] for part in parts]
    *starts, stop = itertools.accumulate(extents, initial=0)
    first = parts[0].shape
    return JoinedSource(
        parts=tuple(parts),
        axis=along,
        starts=tuple(starts),
        shape=(*first[:along], stop, *first[along + 1 :]),
        dtype=dtype,
        chunk_shape=joint_unit(parts, along, lambda part: part.chunk_shape, PAGE_NBYTES),
        run_shape=joint_unit(parts, along, reading_unit, LONG_RUN_NBYTES),
    )


def stacked(parts: Sequence[Source], axis: int) -> Source:
    """Return sources of one shape side by side along a new axis."""
    along = common_axis(parts, axis, is_new=True)
    common_dtype(parts)  # Here, where parts are still known by their files.
    return joined([LiftedSource(part=part, axis=along) for part in parts], along)
