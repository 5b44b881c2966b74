"""What an array is, without holding it: its shape and its dtype."""

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.errors import OptionError, UnsupportedDtypeError

Shape = tuple[int, ...]

MAX_NDIM = 32
"""The rank that both numpy 1 and HDF5 stop at."""
_MOST_FRAME_NBYTES = 2**20
"""What codecs may add to a chunk: headers, checksums, indices of blocks."""


def as_shape(shape: Any, name: str = "shape") -> Shape:
    """Return a shape as Python integers.

    Examples
    --------
    >>> as_shape([3, 4])
    (3, 4)
    """
    try:
        extents = tuple(map(operator.index, shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        msg = f"{name}={shape!r} is not a shape; give one integer per axis, such as (1000, 64)"
        raise OptionError(msg) from None
    if any(extent < 0 for extent in extents):
        msg = f"{name}={extents} has a negative extent; every axis needs at least 0 elements"
        raise OptionError(msg)
    if len(extents) > MAX_NDIM:
        msg = f"{name} has {len(extents)} axes; HDF5 and Zarr arrays have at most {MAX_NDIM}"
        raise OptionError(msg)
    return extents


_OF_ANOTHER_LIBRARY = 2
"""As ``numpy.dtype.isbuiltin`` has it: registered by ml_dtypes, say."""


def as_dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Return a dtype whose elements can be stored.

    Notes
    -----
    Text of any length, ``numpy.dtypes.StringDType()``, is taken too: it is
    stored as such. Its 16 bytes an element do not count the text itself.
    """
    if dtype is None:
        msg = 'a shape alone does not say how large an element is; give dtype, such as "int16"'
        raise OptionError(msg)
    try:
        resolved = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        msg = f"dtype={dtype!r} is not a numpy dtype: {error}"
        raise OptionError(msg) from error
    if resolved.isbuiltin == _OF_ANOTHER_LIBRARY:
        msg = (
            f"dtype {resolved} is another library's own, and no other program reads it back; store "
            f'.astype("float32"), or its bytes: .view("u{resolved.itemsize}")'
        )
        raise UnsupportedDtypeError(msg)
    if resolved.subdtype is not None:
        msg = f"dtype {resolved} has axes of its own; give them in the array's shape instead"
        raise UnsupportedDtypeError(msg)
    if resolved.kind == "T" and hasattr(resolved, "na_object"):
        msg = (
            f"dtype {resolved} has a mark for missing text, which files have none for; convert "
            "with .astype(numpy.dtypes.StringDType()), which stores it as text"
        )
        raise UnsupportedDtypeError(msg)
    # numpy calls text of any length an object, too; files have a type for it.
    if resolved.hasobject and resolved.kind != "T":
        msg = (
            f"dtype {resolved} holds Python objects, which have no fixed size on disk; convert "
            "with .astype(...) first: to a number, or text to numpy.dtypes.StringDType()"
        )
        raise UnsupportedDtypeError(msg)
    return resolved


def is_table(obj: object) -> bool:
    """Return whether something is a table of named columns, as pandas and polars have it.

    Going through one yields the names of its columns.
    """
    return hasattr(obj, "columns") and hasattr(obj, "to_numpy") and hasattr(obj, "__getitem__")


OF_A_TABLE = (
    "give its columns, each as an array of its own: {name: table[name].to_numpy() for name in "
    "table.columns}"
)
"""What to do with one."""


def is_integer(value: object) -> bool:
    """Return whether a value is a whole number, Python's or numpy's, and no bool.

    Examples
    --------
    >>> is_integer(3), is_integer(np.int64(3)), is_integer(True), is_integer(3.0)
    (True, True, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def nbytes_of(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Return the bytes of an array, as an exact integer.

    Examples
    --------
    >>> nbytes_of((2, 3), np.dtype("int16"))
    12
    """
    return math.prod(shape) * dtype.itemsize


def most_stored(nbytes: int) -> int:
    """Return the most bytes that any codec makes of a chunk of so many.

    Examples
    --------
    >>> most_stored(100)
    1048776
    """
    return 2 * nbytes + _MOST_FRAME_NBYTES
