"""The arrays of an NWB file that is to be written, as PyNWB's builders hold them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hdmf.build import BuildManager, DatasetBuilder, GroupBuilder
from hdmf.data_utils import AbstractDataChunkIterator, DataIO

from lazyio.dtypes import as_dtype, nbytes_of
from lazyio.inputs import Input, recognise
from lazyio.nwb.iterator import ArrayIterator

_LEFT_NBYTES = 2**16
"""Arrays and lists below this are left to PyNWB, unless they are asked for by name."""
_NUMBERS = "iufcb"
_GROWING = ("VectorData", "ElementIdentifiers")
"""Types of data that HDMF makes expandable: columns of tables."""


@dataclass(frozen=True, kw_only=True)
class NwbDataset:
    """One dataset that lazyio is to write."""

    key: str
    """Its path in the file."""
    builder: DatasetBuilder
    """What PyNWB knows of it."""
    given: Input
    """Its elements."""
    kind: str
    """The neurodata type that it belongs to."""
    dtype: np.dtype[Any] | None
    """What its specification asks for, ``None`` for what the data are."""
    maxshape: tuple[int | None, ...] | None
    """How far it may grow, where it is a column of a table."""
    is_small: bool
    """Whether PyNWB writes it unless it is asked for."""


def datasets_in(
    group: GroupBuilder,
    manager: BuildManager,
    is_written: Any,
    path: str = "",
    *,
    takes: Callable[[Any], bool],
    leaves: Callable[[Input], bool],
) -> Iterator[NwbDataset]:
    """Yield the datasets of a group, and of those in it, whose elements are arrays.

    ``takes`` says of which datasets of other files the elements are copied, and ``leaves`` which
    arrays are left to HDMF.
    """
    for name, below in group.groups.items():
        inside = f"{path}{name}/"
        yield from datasets_in(below, manager, is_written, inside, takes=takes, leaves=leaves)
    for name, builder in group.datasets.items():
        if is_written(builder):
            continue
        given = _input_of(builder, takes)
        if given is not None and not leaves(given):
            held = _unwrapped(builder.data)
            yield NwbDataset(
                key=f"{path}{name}",
                builder=builder,
                given=given,
                kind=str(manager.get_builder_dt(builder) or manager.get_builder_dt(group) or ""),
                dtype=_dtype_of(builder),
                maxshape=_maxshape_of(builder, manager),
                is_small=not isinstance(held, AbstractDataChunkIterator)
                and nbytes_of(given.shape, given.dtype) < _LEFT_NBYTES,
            )


def _unwrapped(data: Any) -> Any:
    return data.data if isinstance(data, DataIO) else data


def _input_of(builder: DatasetBuilder, takes: Callable[[Any], bool]) -> Input | None:
    """Return the elements of a dataset, ``None`` where it is no plain array that lazyio writes."""
    held = _unwrapped(builder.data)
    if isinstance(held, (list, tuple)) and len(held):
        held = _of_list(held, _dtype_of(builder))
    elif isinstance(builder.dtype, list):
        return None
    if isinstance(held, np.ma.MaskedArray):
        held = held.data  # As HDMF writes it.
    if isinstance(held, ArrayIterator):
        held = held.array
    elif not isinstance(held, AbstractDataChunkIterator) and not _is_plain(held, takes):
        return None
    return _as_wrapped(recognise(held), builder.data)


def _is_plain(held: Any, takes: Callable[[Any], bool]) -> bool:
    """Return whether something is an array of numbers that has to be copied."""
    return (isinstance(held, np.ndarray) or takes(held)) and is_numeric(held)


def is_numeric(array: Any) -> bool:
    """Return whether an array is one of numbers, with axes."""
    return bool(array.ndim) and array.dtype.kind in _NUMBERS


def _of_list(held: Any, dtype: np.dtype[Any] | None) -> npt.NDArray[Any] | None:
    """Return a list of numbers as an array; other lists are left to PyNWB."""
    if dtype is None or dtype.kind not in _NUMBERS:
        return None
    try:
        array = np.asarray(held)
    except (TypeError, ValueError, OverflowError):  # Of rows that differ, or of containers.
        return None
    if array.dtype.kind not in _NUMBERS:
        return None
    # The dtype is that of the first: an integer, and NaN after it, say.
    return array if _holds(dtype, array) else None


def _holds(dtype: np.dtype[Any], array: npt.NDArray[Any]) -> bool:
    """Return whether a dtype has the elements of an array, but for digits of floats."""
    if dtype.kind == "c" or (dtype.kind == "f" and array.dtype.kind != "c"):
        return True
    if array.dtype.kind not in "iub":
        return False
    return np.can_cast(array.dtype, dtype) or bool((array.astype(dtype) == array).all())


def _as_wrapped(found: Input, data: Any) -> Input:
    """Return an array with what the wrapper that it came in asks for."""
    if not isinstance(data, DataIO):
        return found
    asked = data.io_settings.items()
    # A ZarrDataIO that says None wants no compression; a H5DataIO says that of all it leaves open.
    own = {name: value for name, value in asked if value is not None or name == "compressors"}
    return replace(found, settings={**found.settings, **own})


def _dtype_of(builder: DatasetBuilder) -> np.dtype[Any] | None:
    """Return the dtype that PyNWB has decided on."""
    try:
        return None if builder.dtype is None else as_dtype(builder.dtype)
    except (TypeError, ValueError):
        return None  # A word such as "numeric".


def _maxshape_of(builder: DatasetBuilder, manager: BuildManager) -> Any:
    """Return the bounds that HDMF gives columns of tables."""
    # HDMF before 5 makes no columns that grow.
    shape = getattr(builder, "matched_spec_shape", None)
    if shape is None or manager.get_builder_dt(builder) is None:
        return None
    grows = any(manager.is_sub_data_type(builder, kind) for kind in _GROWING)
    return tuple(shape) if grows else None
