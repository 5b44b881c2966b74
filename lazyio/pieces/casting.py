"""Elements that come one after another, as those of one dtype."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.elements import is_text


def without_loss(
    found: npt.NDArray[Any], dtype: np.dtype[Any], *, is_lenient: bool
) -> npt.NDArray[Any] | None:
    """Return elements as another dtype, ``None`` where that would change them.

    Parameters
    ----------
    found : ndarray
        The elements.
    dtype : numpy.dtype
        What they are to be.
    is_lenient : bool
        Whether numbers may be rounded, as where that dtype was asked for.

    Examples
    --------
    >>> without_loss(np.array([1.0, 2.0]), np.dtype("i2"), is_lenient=True)
    array([1, 2], dtype=int16)
    >>> without_loss(np.array([1.5]), np.dtype("i2"), is_lenient=True) is None
    True
    """
    if found.dtype == dtype:
        return found
    if is_text(dtype) and found.dtype.kind in "UT":
        return found.astype(dtype)
    if dtype.names != found.dtype.names:
        return None  # numpy would go by the order of fields.
    is_safe = np.can_cast(found.dtype, dtype, "safe")
    is_number = dtype.kind in "biufc" and found.dtype.kind in "biufc"
    if not is_safe and not (is_lenient and is_number and _is_no_narrower(found.dtype, dtype)):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        cast = found.astype(dtype)
    if dtype.kind in "mM" and bool(((cast.astype(found.dtype) != found) & ~np.isnat(found)).any()):
        return None  # Safe for numpy is also what lies outside of a finer unit's reach.
    return cast if is_safe or _is_close(found, cast) else None


def _is_no_narrower(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether a dtype has all parts of another: complex numbers have two."""
    return other.kind == "c" or one.kind != "c"


def _is_close(found: npt.NDArray[Any], cast: npt.NDArray[Any]) -> bool:
    """Return whether a cast has only rounded: integers are the same, what was finite still is."""
    if cast.dtype.kind in "biu":
        return bool((cast == found).all())
    return bool((np.isfinite(cast) == np.isfinite(found)).all())
