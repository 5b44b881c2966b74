"""Access windows in every form that a user may give them: the parts that readers ask for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from lazyio.errors import OptionError
from lazyio.spec import Shape, is_integer

_FORMS = (
    "give window shapes such as [(30000, 1), (1, 384)], or pairs of a shape and a weight, such "
    "as [((30000, 1), 2.5)]"
)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part that readers ask for, anywhere in the array."""

    shape: Shape
    """Elements along each axis, none beyond the array."""
    weight: float = 1.0
    """How much it counts beside the others."""


def as_windows(access: Any, shape: Shape, dims: tuple[str, ...] = ()) -> tuple[Window, ...]:
    """Return the windows that a user described.

    Examples
    --------
    >>> [window.shape for window in as_windows([(30000, 1), (1, None)], (700000, 384))]
    [(30000, 1), (1, 384)]
    >>> as_windows(((100, -1), 2), (700000, 384))
    (Window(shape=(100, 384), weight=2.0),)
    """
    if access is None:
        return ()
    found = [_window(one, shape, dims) for one in _listed(access, len(shape))]
    if not found:
        msg = f"access={access!r} holds no window; {_FORMS}"
        raise OptionError(msg)
    return tuple(found)


def _listed(access: Any, ndim: int) -> list[Any]:
    """Return what was given as a list of windows and pairs."""
    if isinstance(access, np.ndarray):
        access = access.tolist()
    if isinstance(access, Mapping) or _is_extent(access) or _is_pair(access):
        return [access]
    if not isinstance(access, (tuple, list)):
        msg = f"access={access!r} is no window; {_FORMS}"
        raise OptionError(msg)
    if all(map(_is_extent, access)) and (access or not ndim):
        # One axis and several numbers: each is a window.
        return list(access) if ndim == 1 and len(access) > 1 else [access]
    return list(access)


def _is_extent(value: Any) -> bool:
    return value is None or is_integer(value)


def _is_pair(value: Any) -> bool:
    """Return whether a value is a window and its weight."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and isinstance(value[0], (tuple, list, Mapping, np.ndarray))
        and not isinstance(value[1], (tuple, list, Mapping, np.ndarray))
    )


def _window(given: Any, shape: Shape, dims: tuple[str, ...]) -> Window:
    extents, weight = given if _is_pair(given) else (given, 1.0)
    is_number = isinstance(weight, Real) and not isinstance(weight, (bool, np.bool_))
    if not is_number or not math.isfinite(weight) or weight <= 0:
        msg = f"access gives a window the weight {weight!r}; a weight is a number above 0"
        raise OptionError(msg)
    if isinstance(extents, Mapping):
        extents = _by_axis(extents, shape, dims)
    if isinstance(extents, np.ndarray):
        extents = extents.tolist()
    if _is_extent(extents):
        extents = (extents,)
    if not isinstance(extents, (tuple, list)):
        msg = f"access holds {extents!r}, which is no window; {_FORMS}"
        raise OptionError(msg)
    if len(extents) != len(shape):
        msg = (
            f"access holds the window {tuple(extents)} of {len(extents)} axes, the array's shape "
            f"{shape} has {len(shape)}; give one extent per axis, -1 for a whole axis"
        )
        raise OptionError(msg)
    cut = tuple(_extent(part, end, extents) for part, end in zip(extents, shape, strict=True))
    return Window(shape=cut, weight=float(weight))


def _extent(part: Any, end: int, extents: Any) -> int:
    if part is None or (is_integer(part) and part == -1):
        return max(1, end)
    if not is_integer(part) or part < 1:
        msg = (
            f"access holds the window {tuple(extents)} with the extent {part!r}; an extent is an "
            "integer of at least 1, or -1 or None for the whole axis"
        )
        raise OptionError(msg)
    return max(1, min(int(part), end))


def _by_axis(extents: Mapping[Any, Any], shape: Shape, dims: tuple[str, ...]) -> tuple[Any, ...]:
    by_axis: list[Any] = [None] * len(shape)
    for name, extent in extents.items():
        axis = dims.index(name) if name in dims else name
        if not is_integer(axis) or not -len(shape) <= axis < len(shape):
            known = f"its dimensions are {dims}" if dims else "it has no named dimensions"
            msg = f"access names axis {name!r}; the array has {len(shape)} axes and {known}"
            raise OptionError(msg)
        by_axis[axis] = extent
    return tuple(by_axis)
