"""What users give as elements: arrays of one dtype and shape, or an error that says why not."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.dtypes import TEXT, Shape, as_dtype, is_integer, is_text
from lazyio.errors import OptionError


def dtype_of_elements(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype as it was asked for; text without a length is of any length."""
    found = as_dtype(dtype)
    return TEXT if found.kind == "U" and not found.itemsize else found


def as_elements(data: Any, dtype: np.dtype[Any], *, is_lenient: bool = True) -> npt.NDArray[Any]:
    """Return what a user gives as elements of a dtype; refuse what that would change.

    Numbers may be rounded where that is lenient, or where they are Python's, without a dtype.

    Examples
    --------
    >>> as_elements([1, 2], np.dtype("u1"))
    array([1, 2], dtype=uint8)
    >>> as_elements([1, 300], np.dtype("u1"))
    Traceback (most recent call last):
    ...
    ValueError: its dtype is int64, of which uint8 cannot hold every value that is there; ...
    """
    if data is None:
        msg = "there is no data"
        raise ValueError(msg)
    if np.ma.is_masked(data):
        msg = "it has masked elements, fill them with .filled(value)"
        raise ValueError(msg)
    found = np.asarray(data)
    cast = _cast(found, dtype, is_lenient=is_lenient or not hasattr(data, "dtype"))
    if cast is None:
        msg = (
            f"its dtype is {found.dtype}, of which {dtype} cannot hold every value that is there; "
            "give a dtype that does, for .astype would cut them"
        )
        raise ValueError(msg)
    return cast


def axis_within(axis: Any, ndim: int) -> int:
    """Return an axis of growth, counted from the first."""
    found = int(axis) + (ndim if axis < 0 else 0) if is_integer(axis) else ndim
    if not 0 <= found < ndim:
        msg = f"axis={axis!r} is none of an array with {ndim} axes"
        raise OptionError(msg)
    return found


def in_rows(elements: npt.NDArray[Any], item_shape: Shape, axis: int) -> npt.NDArray[Any] | None:
    """Return a batch with the axis of growth first, ``None`` if its elements have another shape."""
    if elements.ndim != len(item_shape) + 1:
        return None
    rows = np.moveaxis(elements, axis, 0) if axis else elements
    return rows if rows.shape[1:] == item_shape else None


def _cast(
    found: npt.NDArray[Any], dtype: np.dtype[Any], *, is_lenient: bool
) -> npt.NDArray[Any] | None:
    """Return elements as another dtype, ``None`` where that would change them."""
    if found.dtype == dtype:
        return found
    if is_text(dtype) and found.dtype.kind in "UT":
        return found.astype(dtype)
    if not _have_same_names(dtype, found.dtype):
        return None  # numpy would go by the order of fields.
    is_other_kind = (dtype.kind in "SUT") != (found.dtype.kind in "SUT")
    if is_other_kind or (dtype.kind in "mM") != (found.dtype.kind in "mM"):
        return None  # numpy would write numbers as text, and take them for times.
    is_safe = np.can_cast(found.dtype, dtype, "safe")
    is_number = dtype.kind in "biufc" and found.dtype.kind in "biufc"
    if not is_safe and not (is_lenient and is_number and _is_no_narrower(found.dtype, dtype)):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        cast = found.astype(dtype)
    if (
        dtype.kind in "mM"
        and found.dtype.kind in "mM"
        and bool(((cast.astype(found.dtype) != found) & ~np.isnat(found)).any())
    ):
        return None  # Safe for numpy is also what lies outside of a finer unit's reach.
    return cast if is_safe or _is_close(found, cast) else None


def _have_same_names(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether records have the same fields in the same order, at every depth."""
    one, other = one.base, other.base
    if one.names != other.names:
        return False
    return all(_have_same_names(one[name], other[name]) for name in one.names or ())


def _is_no_narrower(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether a dtype has all parts of another: complex numbers have two."""
    return other.kind == "c" or one.kind != "c"


def _is_close(found: npt.NDArray[Any], cast: npt.NDArray[Any]) -> bool:
    """Return whether a cast has only rounded: integers are the same, what was finite still is."""
    if cast.dtype.kind in "biu":
        return bool((cast == found).all())
    return bool((np.isfinite(cast) == np.isfinite(found)).all())
