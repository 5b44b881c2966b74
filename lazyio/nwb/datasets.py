"""The arrays of an NWB file that is to be written, as PyNWB's builders hold them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from hdmf.backends.hdf5 import H5DataIO
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
    group: GroupBuilder, manager: BuildManager, is_written: Any, path: str = ""
) -> Iterator[NwbDataset]:
    """Yield the datasets of a group, and of those in it, whose elements are arrays."""
    for name, below in group.groups.items():
        yield from datasets_in(below, manager, is_written, f"{path}{name}/")
    for name, builder in group.datasets.items():
        if not is_written(builder) and (given := _input_of(builder)) is not None:
            held = _unwrapped(builder.data)
            yield NwbDataset(
                key=f"{path}{name}",
                builder=builder,
                given=given,
                kind=str(manager.get_builder_dt(builder) or manager.get_builder_dt(group) or ""),
                dtype=_dtype_of(builder),
                maxshape=_maxshape_of(builder, manager),
                is_small=isinstance(held, (np.ndarray, list, tuple))
                and nbytes_of(given.shape, given.dtype) < _LEFT_NBYTES,
            )


def _unwrapped(data: Any) -> Any:
    return data.data if isinstance(data, DataIO) else data


def _input_of(builder: DatasetBuilder) -> Input | None:
    """Return the elements of a dataset, ``None`` where it is no plain array that lazyio writes."""
    held = _unwrapped(builder.data)
    is_plain = isinstance(held, np.ndarray) and held.ndim and held.dtype.kind in _NUMBERS
    if isinstance(held, (list, tuple)) and len(held):
        listed = _of_list(held, _dtype_of(builder))
        return None if listed is None else recognise(_wrapped_again(builder.data, listed))
    if isinstance(builder.dtype, list) or isinstance(held, (h5py.Dataset, type(None))):
        return None
    if isinstance(held, ArrayIterator):
        found = recognise(held.array)
        settings = recognise(builder.data).settings if held is not builder.data else {}
        return found if not settings else _with(found, settings)
    if isinstance(held, AbstractDataChunkIterator) or is_plain:
        return recognise(builder.data)
    return None


def _of_list(held: Any, dtype: np.dtype[Any] | None) -> npt.NDArray[Any] | None:
    """Return a list of numbers as an array; other lists are left to PyNWB."""
    if dtype is None or dtype.kind not in _NUMBERS:
        return None
    try:
        array = np.asarray(held)
    except (TypeError, ValueError):  # Of rows that differ in length, or of containers.
        return None
    return array if array.dtype.kind in _NUMBERS else None


def _wrapped_again(data: Any, array: npt.NDArray[Any]) -> Any:
    """Return an array in the wrapper of the list that it was made of."""
    if not isinstance(data, DataIO):
        return array
    return H5DataIO(array, **data.io_settings)


def _with(found: Input, settings: Any) -> Input:
    from dataclasses import replace

    return replace(found, settings={**found.settings, **settings})


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
