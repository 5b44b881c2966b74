"""What a user gives for each axis of an array, in any of its forms."""

from collections.abc import Mapping
from typing import Any

from lazyio.dtypes import Shape, is_integer
from lazyio.errors import OptionError


def per_axis(
    name: str, given: Any, shape: Shape, dims: tuple[str, ...] = (), *, hint: str
) -> tuple[Any, ...]:
    """Return one value for each axis: they were given by axis, in order, or one for all.

    Examples
    --------
    >>> hint = "give one extent per axis"
    >>> per_axis("chunks", {"y": 5, 0: 7}, (10, 10), ("x", "y"), hint=hint)
    (7, 5)
    >>> per_axis("chunks", 5, (10, 10), hint=hint)
    (5, 5)
    >>> per_axis("chunks", (5,), (10, 10), hint=hint)
    Traceback (most recent call last):
    ...
    lazyio.errors.OptionError: chunks=(5,) has 1 axes, the array's shape (10, 10) has 2; \
give one extent per axis
    """
    ndim = len(shape)
    if isinstance(given, Mapping):
        return by_axis(name, given, ndim, dims)
    values = tuple(given) if isinstance(given, (tuple, list)) else (given,) * ndim
    if len(values) != ndim:
        found = f"{name}={values} has {len(values)} axes, the array's shape {shape} has {ndim}"
        msg = f"{found}; {hint}"
        raise OptionError(msg)
    return values


def by_axis(
    name: str, given: Mapping[Any, Any], ndim: int, dims: tuple[str, ...]
) -> tuple[Any, ...]:
    """Return one value for each axis, of a dict from names or numbers of axes."""
    found: list[Any] = [None] * ndim
    for key, value in given.items():
        axis = dims.index(key) if key in dims else key
        if not is_integer(axis) or not -ndim <= axis < ndim:
            known = f"its dimensions are {dims}" if dims else "it has no named dimensions"
            msg = f"{name} names axis {key!r}; the array has {ndim} axes and {known}"
            raise OptionError(msg)
        found[axis] = value
    return tuple(found)
