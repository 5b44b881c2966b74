"""What an array is, its shape and dtype, and how its elements lie on disk.

Times become 64-bit integers with the units of the CF conventions, as netCDF
and xarray write them, and numpy's fixed-length text becomes text of variable
length in HDF5, which knows no other. An attribute names the dtype that they
had, so that lazyio gives it back; other readers see plain CF data.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.errors import OptionError, SourceError, UnsupportedDtypeError

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
        plain = "complex64" if "complex" in resolved.name else "float32"
        msg = (
            f"dtype {resolved} is another library's own, and no other program reads it back; store "
            f'.astype("{plain}"), or its bytes: .view("u{resolved.itemsize}")'
        )
        raise UnsupportedDtypeError(msg)
    if resolved.subdtype is not None:
        msg = f"dtype {resolved} has axes of its own; give them in the array's shape instead"
        raise UnsupportedDtypeError(msg)
    if resolved.kind == "T" and hasattr(resolved, "na_object"):
        msg = (
            f"dtype {resolved} has a mark for missing text, which files have none for; put a word "
            "of your own in its place, then convert with .astype(numpy.dtypes.StringDType()), "
            "which else makes it the text 'None' or 'nan'"
        )
        raise UnsupportedDtypeError(msg)
    # numpy calls text of any length an object, too; files have a type for it.
    if resolved.hasobject and resolved.kind != "T":
        msg = (
            f"dtype {resolved} holds Python objects, which have no fixed size on disk; {OF_OBJECTS}"
        )
        raise UnsupportedDtypeError(msg)
    return resolved


OF_OBJECTS = (
    "convert them first: whole numbers with .astype('int64'), others with .astype(float), text "
    "with .astype(numpy.dtypes.StringDType()), once no None is left, which would become text"
)
"""What to do with an array of Python's objects."""


def is_table(obj: object) -> bool:
    """Return whether something is a table of named columns, as pandas and polars have it.

    Going through one yields the names of its columns.
    """
    return hasattr(obj, "columns") and hasattr(obj, "to_numpy") and hasattr(obj, "__getitem__")


OF_A_TABLE = (
    "give its columns to to_hdf5 or to_zarr, each as an array of its own: {str(name): "
    "table[name].to_numpy() for name in table.columns}, text with .to_numpy(dtype=str) once none "
    "is missing"
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


def is_same_value(one: Any, other: Any) -> bool:
    """Return whether two values are the same, not a number being like itself."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    numbers = one.dtype.kind in "fc" and other.dtype.kind in "fc"
    return bool(np.array_equal(one, other, equal_nan=numbers))


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


Array = npt.NDArray[Any]

DTYPE_ATTRIBUTE = "lazyio_dtype"
"""Attribute that names the dtype of which elements were made."""
TEXT = np.dtypes.StringDType()
"""Text of any length, in memory."""
_UNITS = {
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
_COARSE = {"datetime64": ("Y", "M", "W"), "timedelta64": ("W",)}
"""Units that are whole days, and stored as those."""


def _as_it_is(block: Array) -> Array:
    return block


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How elements of one dtype are stored, and the way there and back."""

    original: np.dtype[Any]
    """As they are in memory."""
    dtype: np.dtype[Any]
    """As they are on disk."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """What tells a reader what they were."""
    encode: Callable[[Array], Array] = _as_it_is
    """From memory to disk; a view where the bytes are the same."""
    decode: Callable[[Array], Array] = _as_it_is
    """From disk to memory."""

    def encode_one(self, element: Any) -> Any:
        """Return a single element, such as a fill value, as it is on disk."""
        return self.encode(np.asarray(element, self.original).reshape(1))[0]


def stored(dtype: np.dtype[Any], format: str) -> Stored:
    """Return how elements of a dtype are stored.

    Examples
    --------
    >>> times = stored(np.dtype("datetime64[s]"), "hdf5")
    >>> times.dtype, times.attrs["units"]
    (dtype('int64'), 'seconds since 1970-01-01')
    >>> times.encode(np.array(["1970-01-02"], "datetime64[s]")).tolist()
    [86400]
    """
    if dtype.kind in "mM":
        return _times(dtype)
    if dtype.kind == "U" and format == "hdf5":
        native = dtype.newbyteorder("=")
        return Stored(
            original=dtype,
            dtype=TEXT,
            attrs={DTYPE_ATTRIBUTE: dtype.str},
            # In the machine's byte order first: numpy makes no text of any other.
            encode=lambda block: _for_hdf5(block.astype(native, copy=False).astype(TEXT)),
            decode=lambda block: _of_length(block, native).astype(dtype, copy=False),
        )
    if is_text(dtype) and format == "hdf5":
        return Stored(original=dtype, dtype=dtype, encode=_for_hdf5)
    return Stored(original=dtype, dtype=dtype)


def widened(form: Stored, dtype: np.dtype[Any]) -> Stored:
    """Return the form of stored text to which longer text is added: that of any length."""
    is_longer = dtype.kind == "T" or (dtype.kind == "U" and dtype.itemsize > form.original.itemsize)
    if is_text(form.dtype) and form.original.kind == "U" and is_longer:
        return stored(form.dtype, "hdf5")
    return form


def _of_length(block: Array, dtype: np.dtype[Any]) -> Array:
    """Return text as numpy has it of a length, which all of it has to have."""
    found = block.astype(dtype)
    if (found.astype(block.dtype) != block).any():
        msg = (
            f"it holds text longer than the {dtype.itemsize // 4} characters with which it was "
            f"written, by another program; remove its attribute {DTYPE_ATTRIBUTE!r} to read it as "
            "text of any length"
        )
        raise SourceError(msg)
    return found


def _for_hdf5(block: Array) -> Array:
    """Return text that HDF5 can hold, whose text of any length ends with its first null."""
    texts = block.ravel().tolist()
    # Not by numpy.strings, which leaves out nulls at the end of what is looked for.
    if "\0" in "".join(map(str, texts)):
        first = next(text for text in map(str, texts) if "\0" in text)
        msg = (
            f"the text {first!r} holds a null character, with which HDF5's text ends; replace it "
            "in Python, as in [text.replace('\\0', '') for text in array.tolist()], or write Zarr"
        )
        raise UnsupportedDtypeError(msg)
    return block


def original(dtype: np.dtype[Any], attrs: Mapping[str, Any]) -> Stored | None:
    """Return what stored elements were made of, ``None`` where nothing says it.

    Examples
    --------
    >>> dates = original(np.dtype("int64"), {"lazyio_dtype": "<M8[D]"})
    >>> dates.decode(np.array([1]))
    array(['1970-01-02'], dtype='datetime64[D]')
    >>> original(np.dtype("int64"), {"units": "days since 1970-01-01"}) is None
    True
    """
    name = attrs.get(DTYPE_ATTRIBUTE)
    if not isinstance(name, str):
        return None
    try:
        found = stored(np.dtype(name), "hdf5")
    except (TypeError, ValueError, SyntaxError):
        return None
    # An attribute that does not go with what is there is not ours to follow.
    return found if found.dtype == dtype and found.original != dtype else None


def is_text(dtype: np.dtype[Any]) -> bool:
    """Return whether elements are text of any length, whose bytes lie elsewhere.

    Examples
    --------
    >>> is_text(TEXT), is_text(np.dtype("U5"))
    (True, False)
    """
    return dtype.kind == "T"


def _times(dtype: np.dtype[Any]) -> Stored:
    unit, count = np.datetime_data(dtype)
    kind = "datetime64" if dtype.kind == "M" else "timedelta64"
    wanted = "D" if unit in _COARSE[kind] else unit
    if wanted not in _UNITS:
        what = f"dtype {dtype} has units that CF conventions cannot express"
        if unit in ("Y", "M"):
            remedy = "years and months have no fixed length, so that no other unit is the same"
        else:
            remedy = f'.astype("{kind}[ns]") would cut what is finer than a nanosecond'
        msg = f"{what}; store the numbers, .view('int64'), with the unit as an attribute: {remedy}"
        raise UnsupportedDtypeError(msg)
    plain = np.dtype(f"{kind}[{wanted}]")
    units = _UNITS[wanted]
    attrs = {"units": units, DTYPE_ATTRIBUTE: dtype.str}
    if kind == "datetime64":
        attrs |= {"units": f"{units} since 1970-01-01", "calendar": "proleptic_gregorian"}
    # The same bytes under another name, unless the unit or the byte order changes.
    is_same = wanted == unit and count == 1 and dtype.isnative

    def encode(block: Array) -> Array:
        return (block if is_same else block.astype(plain)).view(np.int64)

    def decode(block: Array) -> Array:
        found = block.view(plain)
        return found if is_same else found.astype(dtype)

    return Stored(
        original=dtype, dtype=np.dtype(np.int64), attrs=attrs, encode=encode, decode=decode
    )
