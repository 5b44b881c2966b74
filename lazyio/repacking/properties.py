"""Creation properties of datasets that are stored anew: all but layout and filters as they were."""

import contextlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p

from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.codecs.hdf5_filters import Filter
from lazyio.dtypes import Shape
from lazyio.repacking.elements import lies_elsewhere
from lazyio.repacking.tree import as_made, is_alike
from lazyio.storage.hdf5.dataset import add_filters


def stored_anew(
    dataset: h5py.Dataset, chunk_shape: Shape | None, filters: tuple[Filter, ...]
) -> h5p.PropDCID:
    """Return a dataset's properties with other chunks, or none, and other filters."""
    properties = dataset.id.get_create_plist()
    if lies_elsewhere(properties):
        properties = _without_layout(dataset, properties)
    properties.remove_filter(h5py.h5z.FILTER_ALL)
    # So that nothing of the old layout is left.
    properties.set_layout(h5d.CONTIGUOUS)
    if chunk_shape is None:
        properties.set_alloc_time(h5d.ALLOC_TIME_LATE)
        return properties
    properties.set_layout(h5d.CHUNKED)
    properties.set_chunk(chunk_shape)
    properties.set_alloc_time(h5d.ALLOC_TIME_INCR)
    add_filters(properties, filters)
    return properties


def _without_layout(dataset: h5py.Dataset, old: h5p.PropDCID) -> h5p.PropDCID:
    """Return the properties of a dataset whose elements lie elsewhere, without where they lie."""
    properties = h5p.create(h5p.DATASET_CREATE)
    if old.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        value: Any = np.zeros((), dataset.dtype)
        old.get_fill_value(value)
        properties.set_fill_value(value)
    properties.set_fill_time(old.get_fill_time())
    properties.set_obj_track_times(old.get_obj_track_times())
    properties.set_attr_creation_order(old.get_attr_creation_order())
    properties.set_attr_phase_change(*old.get_attr_phase_change())
    return properties


def passed_through(dataset: h5py.Dataset) -> h5p.PropDCID | None:
    """Return the properties with which chunks mean the same, ``None`` if there are none.

    Tried in memory: some filters are not to be had, and some change their own options.
    """
    properties = as_made(dataset)
    with (
        contextlib.suppress(ValueError, OSError, RuntimeError),
        _tried(dataset, properties) as made,
    ):
        return properties if is_alike(dataset, made) else None
    return None


def refusal_of(dataset: h5py.Dataset, properties: h5p.PropDCID) -> str:
    """Return why libhdf5 makes no such dataset with some properties, nothing where it does."""
    try:
        with _tried(dataset, properties):
            return ""
    except (ValueError, OSError, RuntimeError) as error:
        return f"libhdf5 makes no such dataset ({error})"


def makes_filters(
    dataset: h5py.Dataset, properties: h5p.PropDCID, filters: tuple[Filter, ...]
) -> bool:
    """Return whether a dataset that is made with some properties has just these filters."""
    try:
        with _tried(dataset, properties) as made:
            return filters_of(made) == filters
    except (ValueError, OSError, RuntimeError):
        return False


@contextlib.contextmanager
def _tried(dataset: h5py.Dataset, properties: h5p.PropDCID) -> Iterator[h5py.Dataset]:
    """Make a dataset in memory that is like another, but for its properties."""
    tried = properties.copy()
    tried.set_alloc_time(h5d.ALLOC_TIME_INCR)
    kind = dataset.id.get_type()
    kind = kind.copy() if kind.committed() else kind
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        made = h5d.create(file.id, b"x", kind, dataset.id.get_space(), tried)
        yield h5py.Dataset(made)
