"""A dataset that is there already, and how it differs from what was asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazyio.elements import is_text
from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.spec import Shape, as_dtype


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What an existing dataset is."""

    name: str
    """What to call it in an error."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """Its chunks, ``None`` where it has none."""
    codec: str
    """Its filters, as a person reads them."""
    fill_value: Any
    """What a reader gets where nothing was written."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Its attributes."""
    item_shape: Shape | None = None
    """Extents of an element, where it grows by elements."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asked of a dataset; ``None`` where they left it open."""

    dtype: Any = None
    """Type of an element."""
    chunk_shape: Sequence[int | None] | None = None
    """Chunk extents, ``None`` on the axes left open."""
    codec: str | None = None
    """Filters, as a person reads them."""
    fill_value: Any = None
    """As an element of the array."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes."""
    item_shape: Shape | None = None
    """Extents of an element."""


def refuse_differences(existing: Existing, asked: Asked, given: Input) -> None:
    """Raise when an existing dataset is not what was asked for.

    Values that keep their meaning in the dataset's dtype are cast.
    """
    found = differences(existing, asked, given)
    if found:
        msg = (
            f"{existing.name} differs from what was asked for: {'; '.join(found)}. Leave these "
            "out, or write a new dataset"
        )
        raise OptionError(msg)


def differences(existing: Existing, asked: Asked, given: Input) -> list[str]:
    """Return in what an existing dataset is not what was asked for, each as a clause."""
    return [*_dtype_differences(existing, asked, given), *_other_differences(existing, asked)]


def _dtype_differences(existing: Existing, asked: Asked, given: Input) -> list[str]:
    units = existing.attrs.get("units")
    is_bare = given.dtype.kind in "mM" and existing.dtype.kind not in "mM"
    # Where nothing says what its numbers are, who gives a dtype knows.
    if is_bare and (asked.dtype is None or units is not None):
        told = f" {units!r}" if isinstance(units, str) else ""
        text = (
            f"its dtype is {existing.dtype}, and the data are times; numbers of them in its units"
            f"{told} are what goes there: ((data - start) / unit).astype({str(existing.dtype)!r}), "
            "or let xarray encode them"
        )
        return [text]
    if asked.dtype is not None:
        wanted = as_dtype(asked.dtype)
        if wanted != existing.dtype:
            return [f"its dtype is {existing.dtype}, not {wanted}"]
        return []
    if not _holds_all(existing.dtype, given.dtype):
        if given.dtype.kind in "mM":
            text = (
                f"its dtype is {existing.dtype}, in which not every {given.dtype} of the data has "
                f"a value; round them yourself with .astype({str(existing.dtype)!r})"
            )
            return [text]
        text = f"its dtype is {existing.dtype}, which not every {given.dtype} of the data has a "
        if given.dtype.kind == "S" and is_text(existing.dtype):
            text = (
                "its elements are text, and the data are bytes; decode them first, those in ASCII "
                "with .astype('U')"
            )
        elif "SUT".count(given.dtype.kind) or "SUT".count(existing.dtype.kind):
            text += "value in, and text that is cut is lost; write a new dataset for it"
        else:
            text += (
                f"value in; pass dtype={str(existing.dtype)!r} or use .astype to cast all the same"
            )
        return [text]
    return []


def _holds_all(stored: np.dtype[Any], given: np.dtype[Any]) -> bool:
    """Return whether every value of one dtype has one in another.

    numpy calls more than that safe: large integers as floats, numbers as text.
    """
    if given.kind in "SUT" or stored.kind in "SUT":
        # Text of any length holds every other.
        if is_text(stored):
            return given.kind in "UT"
        return given.kind == stored.kind and given.itemsize <= stored.itemsize
    if given.kind in "mM":
        return stored.kind == given.kind and np.can_cast(given, stored, "safe")
    if given.kind in "iu" and stored.kind in "fc":
        part = np.dtype(f"f{stored.itemsize // 2}") if stored.kind == "c" else stored
        return 8 * given.itemsize - (given.kind == "i") <= np.finfo(part).nmant + 1
    return np.can_cast(given, stored, "safe")


def _other_differences(existing: Existing, asked: Asked) -> list[str]:
    found = []
    if asked.item_shape not in (None, existing.item_shape):
        found.append(f"its elements have shape {existing.item_shape}, not {asked.item_shape}")
    if asked.chunk_shape is not None and not _fits(existing.chunk_shape, asked.chunk_shape):
        found.append(f"its chunks are {existing.chunk_shape}, not {tuple(asked.chunk_shape)}")
    if asked.codec is not None and asked.codec != existing.codec:
        found.append(f"its filters are {existing.codec}, not {asked.codec}")
    if asked.fill_value is not None and not _is_same(asked.fill_value, existing.fill_value):
        found.append(f"its fill value is {existing.fill_value}, not {asked.fill_value}")
    for name, value in asked.attrs.items():
        if name not in existing.attrs:
            found.append(f"it has no attribute {name!r}")
        elif not _is_same(value, existing.attrs[name]):
            found.append(f"its attribute {name!r} is {existing.attrs[name]!r}, not {value!r}")
    return found


def _fits(chunk_shape: Shape | None, wanted: Sequence[int | None]) -> bool:
    return chunk_shape is not None and all(
        wish in (None, chunk) for wish, chunk in zip(wanted, chunk_shape, strict=True)
    )


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, not a number being like itself."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    numbers = one.dtype.kind in "fc" and other.dtype.kind in "fc"
    return bool(np.array_equal(one, other, equal_nan=numbers))
