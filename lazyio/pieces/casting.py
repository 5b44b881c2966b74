"""What comes as elements of one dtype and is to be of another, where that loses nothing."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.elements import TEXT, is_text
from lazyio.spec import as_dtype


def dtype_of_elements(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype as it was asked for; text without a length is of any length."""
    found = as_dtype(dtype)
    return TEXT if found.kind == "U" and not found.itemsize else found


def unmasked(data: Any) -> npt.NDArray[Any]:
    """Return what a user gives as an array."""
    if np.ma.is_masked(data):
        msg = "it has masked elements, fill them with .filled(value)"
        raise ValueError(msg)
    return np.asarray(data)


def fitted(data: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return what a user gives as elements of a dtype that was asked for."""
    if data is None:
        msg = "there is no data"
        raise TypeError(msg)
    found = unmasked(data)
    # A dtype was asked for, so that numbers may be rounded to it.
    elements = as_elements(found, dtype, is_lenient=True)
    if elements is None:
        msg = f"of dtype {found.dtype}, {dtype} cannot hold every value that is there"
        raise TypeError(msg)
    return elements


def as_elements(
    found: npt.NDArray[Any], dtype: np.dtype[Any], *, is_lenient: bool
) -> npt.NDArray[Any] | None:
    """Return elements as another dtype, ``None`` where that would change them.

    Examples
    --------
    >>> as_elements(np.array([1, 2]), np.dtype("u1"), is_lenient=True)
    array([1, 2], dtype=uint8)
    >>> as_elements(np.array([1, 300]), np.dtype("u1"), is_lenient=True) is None
    True
    """
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
