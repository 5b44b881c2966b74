"""What is left to libhdf5: whatever lazyio does not decode itself, under h5py's lock."""

import h5py

from lazyio.codecs.dataset_filters import filters_of, labels_of, libhdf5_has, remedy_for
from lazyio.elements import is_text
from lazyio.errors import DamagedDataError, SourceError
from lazyio.grid import Region, format_region
from lazyio.sources.base import Array


def read_dataset(dataset: h5py.Dataset, region: Region, out: Array, name: str) -> None:
    """Fill ``out`` with a part of an open dataset, by libhdf5.

    Raises
    ------
    DamagedDataError
        When it does not decode.
    SourceError
        When a filter is not to be had.
    """
    require_filters(dataset, name)
    try:
        if not out.size:
            return
        if is_text(out.dtype):
            # Not as numpy's text at once: that takes any bytes for UTF-8, and h5py
            # has no way from ASCII to it before it has seen UTF-8.
            out[...] = dataset.asstr()[region or ()]
        elif not dataset.shape:
            out[()] = dataset[()]
        elif out.dtype.kind == "V" and out.dtype.fields is None:
            _read_opaque(dataset, region, out)
        else:
            dataset.read_direct(out, source_sel=region)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{name} cannot be decoded at {format_region(region)}: {error}"
        raise DamagedDataError(msg) from error


def _read_opaque(dataset: h5py.Dataset, region: Region, out: Array) -> None:
    """Read bytes under the file's own tag; libhdf5 converts between equal tags only."""
    there = dataset.id.get_space()
    there.select_hyperslab(tuple(part.start for part in region), out.shape)
    dataset.id.read(h5py.h5s.create_simple(out.shape), there, out, dataset.id.get_type())


def require_filters(dataset: h5py.Dataset, name: str) -> None:
    """Raise unless every filter of a dataset can be undone here.

    Raises
    ------
    SourceError
        Naming the filter, and how to get it where that is known.
    """
    for step, label in zip(filters_of(dataset), labels_of(dataset), strict=True):
        number = step.filter_id
        if libhdf5_has(number):
            continue
        remedy = remedy_for(
            number,
            "ask the maker of the file for its plugin and set HDF5_PLUGIN_PATH to its folder",
        )
        named = f"{number} ({label or 'no name'})"
        msg = f"{name} needs HDF5 filter {named}, which is not to be had here; {remedy}"
        raise SourceError(msg)
