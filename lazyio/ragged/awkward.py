"""Rows from and to awkward arrays."""

from typing import Any

import numpy as np

from lazyio.codecs.libraries import required
from lazyio.dtypes import TEXT
from lazyio.errors import OptionError
from lazyio.ragged.runs import Integers
from lazyio.sources.base import Array

_WHAT = "converting rows from and to awkward arrays"


def parts_of_awkward(array: Any) -> tuple[Array, Integers, Integers | None]:
    """Return values, offsets and shapes of an awkward array of lists."""
    ak = required("awkward", what=_WHAT, extra="awkward")
    if not isinstance(array, ak.Array):
        msg = f"array={type(array).__name__} is no awkward.Array; make one with awkward.Array(rows)"
        raise OptionError(msg)
    try:
        layout = ak.to_packed(array).layout
        levels: list[Integers] = []
        while not _is_element(layout):
            if layout.is_regular and levels:
                break
            # Text is a list as well, of bytes.
            listed = layout.to_ListOffsetArray64(True)
            levels.append(np.asarray(listed.offsets, np.int64))
            layout = listed.content
        values = _values(ak, layout)
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(_refusal(array)) from error
    if not levels:
        raise OptionError(_refusal(array))
    return _in_rows(values, levels, array)


def _is_element(layout: Any) -> bool:
    return (
        layout.is_numpy
        or layout.is_unknown
        or layout.parameter("__array__") in ("string", "bytestring")
    )


def _values(ak: Any, layout: Any) -> Array:
    """Return elements as numpy has them, text as text of any length."""
    if layout.parameter("__array__") == "string":
        return np.array(ak.to_list(ak.Array(layout)), TEXT)
    found = np.asarray(ak.to_numpy(ak.Array(layout), allow_missing=False))
    if found.dtype.fields is not None or found.dtype.hasobject:
        msg = f"its elements are {found.dtype}"
        raise ValueError(msg)
    return found


def _in_rows(
    values: Array, levels: list[Integers], array: Any
) -> tuple[Array, Integers, Integers | None]:
    """Return lists of lists as rows of several axes, where each row is rectangular."""
    if len(levels) == 1:
        return values, levels[0], None
    if values.ndim > 1:
        raise OptionError(_refusal(array))
    outer = levels[0]
    shapes = [np.diff(outer)]
    # Positions of the first and last list of each row, one level deeper each time.
    first, last = outer[:-1], outer[1:]
    for offsets in levels[1:]:
        lengths = np.diff(offsets)
        own = np.zeros(len(first), np.int64)
        has_any = last > first
        own[has_any] = lengths[first[has_any]]
        if not (lengths == np.repeat(own, last - first)).all():
            msg = (
                f"{array.type} has rows whose inner lists differ in length, which are no "
                "rectangular arrays; give one row for each of these: awkward.flatten(array, axis=1)"
            )
            raise OptionError(msg)
        shapes.append(own)
        first, last = offsets[first], offsets[last]
    begins = np.append(first, len(values)) if len(first) else np.zeros(1, np.int64)
    return values, begins, np.column_stack(shapes)


def _refusal(array: Any) -> str:
    return (
        f"{array.type} is not made of lists of numbers or text, without missing values; take its "
        "fields one by one, and awkward.drop_none or awkward.fill_none where values are missing"
    )


def as_awkward(rows: Any) -> Any:
    """Return all of some rows as one awkward array."""
    ak = required("awkward", what=_WHAT, extra="awkward")
    held = list(rows)
    facts = rows.facts
    counts = np.array([len(row) for row in held], np.int64)
    flat = [facts.flat(row) for row in held]
    values = np.concatenate([np.empty((0, *facts.item_shape), facts.dtype), *flat])
    found = ak.Array(values.tolist()) if values.dtype.kind in "TU" else ak.from_numpy(values)
    if values.dtype.kind in "TU" and not len(values):
        found = ak.Array([""])[:0]
    shapes = np.array([row.shape[: facts.n_axes] for row in held], np.int64)
    shapes = shapes.reshape(len(held), facts.n_axes)
    for axis in range(facts.n_axes - 1, 0, -1):
        n_lists = shapes[:, :axis].prod(axis=1)
        found = ak.unflatten(found, np.repeat(shapes[:, axis], n_lists))
    return ak.unflatten(found, counts)
