"""Zarr's codecs from array to array, v3: transpose, and numcodecs' filters."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lazyio.codecs.zarr_bytes import Described, numcodec
from lazyio.spec import Shape

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ArrayStep:
    """One codec from array to array, for chunks of one shape and dtype."""

    encode: Callable[[Array], Array]
    """From an array of any strides to one of ``shape`` and ``dtype``."""
    decode: Callable[[Array], Array]
    """And back."""
    shape: Shape
    """Extents of what it gives."""
    dtype: np.dtype[Any]
    """Type of an element of what it gives."""


def array_step(
    name: str, settings: Described, shape: Shape, dtype: np.dtype[Any]
) -> ArrayStep | None:
    """Return a codec by its name, ``None`` where zarr must do it.

    Examples
    --------
    >>> step = array_step("transpose", {"order": (1, 0)}, (2, 3), np.dtype("int16"))
    >>> step.shape, step.decode(step.encode(np.zeros((2, 3), "int16"))).shape
    ((3, 2), (2, 3))
    """
    if name == "transpose":
        return _transpose(settings["order"], shape, dtype)
    if name.startswith("numcodecs."):
        return _numcodecs(name.removeprefix("numcodecs."), settings, shape, dtype)
    return None


def _transpose(order: Any, shape: Shape, dtype: np.dtype[Any]) -> ArrayStep | None:
    if isinstance(order, str) or sorted(order) != list(range(len(shape))):
        return None
    axes = tuple(map(int, order))
    back = tuple(map(int, np.argsort(axes)))
    return ArrayStep(
        encode=lambda chunk: chunk.transpose(axes),
        decode=lambda chunk: chunk.transpose(back),
        shape=tuple(shape[axis] for axis in axes),
        dtype=dtype,
    )


def _numcodecs(
    identifier: str, settings: Described, shape: Shape, dtype: np.dtype[Any]
) -> ArrayStep | None:
    given = {key: value for key, value in settings.items() if value is not None}
    # What is left out is taken from the array, as zarr does.
    missing = {"fixedscaleoffset": "dtype", "quantize": "dtype", "astype": "decode_dtype"}
    if identifier in missing:
        given.setdefault(missing[identifier], dtype.str)
    codec = numcodec(identifier, given)
    if codec is None:
        return None
    facts = _encoded_facts(identifier, given, shape, dtype)
    if facts is None:
        return None
    encoded_shape, encoded_dtype = facts

    def encode(chunk: Array) -> Array:
        encoded = np.asarray(codec.encode(np.ascontiguousarray(chunk)))
        # BitRound gives integers for the bits of floats.
        return encoded.reshape(encoded_shape).view(encoded_dtype)

    def decode(chunk: Array) -> Array:
        decoded = np.asarray(codec.decode(np.ascontiguousarray(chunk)))
        return decoded.reshape(shape)

    return ArrayStep(encode=encode, decode=decode, shape=encoded_shape, dtype=encoded_dtype)


def _encoded_facts(
    identifier: str, settings: Described, shape: Shape, dtype: np.dtype[Any]
) -> tuple[Shape, np.dtype[Any]] | None:
    """Return shape and dtype of what a filter gives, ``None`` for those unknown."""
    if identifier == "packbits":
        # A byte that counts the bits that were added, then eight elements in each.
        return (1 + math.ceil(math.prod(shape) / 8),), np.dtype(np.uint8)
    if identifier in ("delta", "fixedscaleoffset"):
        return shape, np.dtype(settings.get("astype", dtype))
    if identifier == "astype":
        return shape, np.dtype(settings["encode_dtype"])
    is_kept = np.dtype(settings.get("astype", dtype)) == dtype
    return (shape, dtype) if identifier in ("bitround", "quantize") and is_kept else None
