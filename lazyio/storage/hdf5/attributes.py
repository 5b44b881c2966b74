"""Attributes as HDF5 takes them: what has a form is kept, nested values become JSON.

The policy, in one place. Numbers, text, booleans and arrays of them are stored
as they are. Times become ISO 8601 text. ``None`` is an empty attribute.
Mappings, and lists that are no array, become JSON text. Anything else, and an
array that does not fit into HDF5's 64 KiB for one attribute, is refused. So are
the names by which HDF5 knows dimension scales: a value of another kind there
ends the process of whoever reads them.
"""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from lazyio.errors import OptionError
from lazyio.storage.json_attributes import json_value
from lazyio.units import format_size

RESERVED = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST")
_MOST_NBYTES = 64 * 2**10 - 512
"""HDF5 keeps a header message of 16 bits, of which the attribute's own facts take some."""


def write_attributes(item: Any, attrs: Mapping[str, Any]) -> None:
    """Give a dataset or group its attributes."""
    for (name, form), value in zip(forms_of(attrs).items(), attrs.values(), strict=True):
        is_text = isinstance(form, np.ndarray) and form.dtype.hasobject and not form.size
        try:
            item.attrs.create(name, form, dtype=h5py.string_dtype() if is_text else None)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            if isinstance(form, np.ndarray) and form.nbytes > _MOST_NBYTES:
                raise OptionError(_too_large(name, form)) from error
            msg = (
                f"attribute {name!r} of type {type(value).__name__} has no HDF5 form: {error}; "
                "give numbers, text, or arrays, lists and dicts of them"
            )
            raise OptionError(msg) from error


def forms_of(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what h5py is to store for attributes, none of them one of HDF5's own."""
    for name in attrs:
        if name in RESERVED:
            msg = (
                f"attribute {name!r} is how HDF5 keeps names of axes; leave it out, and give "
                "dims= for such names"
            )
            raise OptionError(msg)
    return {name: attribute_form(name, value) for name, value in attrs.items()}


def attribute_form(name: str, value: Any) -> Any:
    """Return what h5py is to store for a value.

    Examples
    --------
    >>> attribute_form("gain", 2.5), attribute_form("probe", {"type": "NP1", "sites": (1, 2)})
    (2.5, '{"type": "NP1", "sites": [1, 2]}')
    >>> attribute_form("start", np.datetime64("2026-01-02"))
    '2026-01-02'
    """
    if value is None:
        return h5py.Empty("f4")
    if isinstance(value, str):
        return str(value)  # numpy's own is no text to h5py.
    if isinstance(value, (bytes, bool, int, float, complex)):
        return value
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return _as_json(name, value)
    if isinstance(value, (list, tuple)):
        try:
            array = np.asarray(value)
        except ValueError:  # Lists of different lengths.
            return _as_json(name, value)
        kinds = {type(item) for item in value}
        # numpy makes text of numbers that stand beside text, and objects of the rest.
        is_mixed = array.dtype.hasobject or (array.dtype.kind == "U" and kinds - {str, np.str_})
        is_nested = array.ndim > 1 and array.dtype.kind == "U"
        return _as_json(name, value) if is_mixed or is_nested else _array_form(name, array)
    if isinstance(value, (np.ndarray, np.generic)):
        return _array_form(
            name, np.ma.asanyarray(value) if np.ma.isMA(value) else np.asarray(value)
        )
    return value


def _array_form(name: str, array: np.ndarray[Any, Any]) -> Any:
    if np.ma.is_masked(array):
        msg = f"attribute {name!r} is masked, and HDF5 has no gaps; call .filled(value) first"
        raise OptionError(msg)
    if array.dtype.kind == "M":
        array = np.asarray(np.datetime_as_string(array))
    if array.dtype.kind in "UT":
        return array.astype(object) if array.ndim else str(array[()])
    return array if array.ndim else array[()]


def _as_json(name: str, value: Any) -> str:
    return json.dumps(json_value(name, value), ensure_ascii=False)


def _too_large(name: str, form: np.ndarray[Any, Any]) -> str:
    return (
        f"attribute {name!r} takes {format_size(form.nbytes)}; HDF5 holds at most 64 KiB in one, "
        'unless the file is made with libver=("v108", "v114"). Write it as an array of its own'
    )
