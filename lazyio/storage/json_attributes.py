"""Attributes as JSON, in Zarr and for nested values in HDF5: one form that every reader takes.

The policy, in one place. Numbers, text, booleans, ``None``, and lists and
mappings of them are stored as they are; numpy's numbers and arrays as plain
numbers and lists. Times become ISO 8601 text. What JSON has no form for is
refused: bytes, complex numbers, objects, and numbers that are none or not
finite, with which the metadata of the whole array would be no JSON any more.
"""

import base64
import datetime as dt
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from lazyio.errors import OptionError

_REMEDY = "give numbers, text, or arrays, lists and dicts of them"


_NO_TEXT = "half a character of UTF-16, for which JSON has no form; decode its bytes anew"


def is_unicode(text: str) -> bool:
    r"""Return whether text can be written: lone surrogates stand for bytes that were none.

    Examples
    --------
    >>> is_unicode("grün"), is_unicode("gr\udcfcn")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON knows them.

    Examples
    --------
    >>> json_attributes({"gain": np.float32(2), "probe": {"sites": np.arange(2)}})
    {'gain': 2.0, 'probe': {'sites': [0, 1]}}
    >>> json_attributes({"start": np.datetime64("2026-01-02")})
    {'start': '2026-01-02'}
    """
    return {name: json_value(name, value) for name, value in attributes.items()}


def json_value(name: str, value: Any) -> Any:
    """Return one attribute, of a name that errors tell, as JSON knows it."""
    if isinstance(value, Mapping):
        plain = {_text(name, key): json_value(name, item) for key, item in value.items()}
        if len(plain) < len(value):
            msg = f"attribute {name!r} has keys that are the same text: {list(value)}; rename them"
            raise OptionError(msg)
        return plain
    if isinstance(value, (list, tuple)):
        return [json_value(name, item) for item in value]
    if isinstance(value, np.ma.MaskedArray):
        return json_value(name, value.tolist())
    if isinstance(value, np.ndarray):
        return (
            [json_value(name, item) for item in value]
            if value.ndim
            else json_value(name, value[()])
        )
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value))
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    # Durations would become bare numbers, some of them; nothing says of what.
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        msg = (
            f"attribute {name!r} holds {value}, which JSON has no form for; give None, or text "
            'such as "NaN"'
        )
        raise OptionError(msg)
    if isinstance(value, str) and not is_unicode(value):
        msg = f"attribute {name!r} holds {value!r}, which is no text: {_NO_TEXT}"
        raise OptionError(msg)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    msg = (
        f"attribute {name!r} holds {value!r} of type {type(value).__name__}, which JSON has no "
        f"form for; {_REMEDY}"
    )
    raise OptionError(msg)


def _text(name: str, key: Any) -> str:
    """Return a key inside an attribute as text, where it is text or a number."""
    if isinstance(key, (str, int, np.integer)) and not isinstance(key, bool):
        return str(key)
    msg = f"attribute {name!r} holds a dict with the key {key!r}; keys of JSON are text"
    raise OptionError(msg)


def xarray_fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return the attribute ``_FillValue`` of a v3 array as xarray writes and reads it.

    JSON has no NaN, so that floats are the base64 of their eight bytes.

    Examples
    --------
    >>> xarray_fill_value(-9, np.dtype("i2")), xarray_fill_value(1.0, np.dtype("f4"))
    (-9, 'AAAAAAAA8D8=')
    """
    if dtype.kind in "biu":
        return np.asarray(value, dtype).item()
    if dtype.kind == "f":
        return _base64(struct.pack("<d", float(value)))
    if dtype.kind == "c":
        number = complex(value)
        return [_base64(struct.pack("<d", part)) for part in (number.real, number.imag)]
    return None


def _base64(raw: bytes) -> str:
    return base64.standard_b64encode(raw).decode()
