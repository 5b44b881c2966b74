"""What arrays that are joined must have in common: axes, dtype, and best a grid of chunks."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from lazyio.errors import OptionError
from lazyio.sources.base import Source, lies_in_rows, name_of, reading_unit
from lazyio.sources.files import LONG_RUN_NBYTES, PAGE_NBYTES, run_of
from lazyio.spec import Shape, is_integer

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
                "arrays that are joined have one dtype: open the one and convert it with "
                f'.astype("{first}")'
            )
            raise OptionError(msg)
        differ = True
    return first.newbyteorder("=") if differ else first


def joint_chunk(parts: Sequence[Source], axis: int) -> Shape | None:
    """Return the chunk whose grid suits that of every part, or nearly."""
    filled = [part for part in parts if 0 not in part.shape]
    own = [_own(part, part.chunk_shape, axis, PAGE_NBYTES) for part in filled]
    return _joint(filled, own, axis)


def joint_run(parts: Sequence[Source], axis: int) -> Shape | None:
    """Return what is worth a read of its own in every part, or nearly."""
    filled = [part for part in parts if 0 not in part.shape]
    own = [_own(part, reading_unit(part), axis, LONG_RUN_NBYTES) for part in filled]
    return _joint(filled, own, axis)


def _joint(filled: Sequence[Source], own: Sequence[Shape | None], axis: int) -> Shape | None:
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
