"""The filters of a dataset, and whether libhdf5 has them."""

import functools

import h5py

from lazyio.codecs.filters import Filter
from lazyio.codecs.libraries import optional

_BUILT_IN = range(1, 32)


def filters_of(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """Return the filters of a dataset in the order in which they are applied."""
    properties = dataset.id.get_create_plist()
    described = [properties.get_filter(at) for at in range(properties.get_nfilters())]
    return tuple(Filter(filter_id=number, options=tuple(opts)) for number, _, opts, _ in described)


def labels_of(dataset: h5py.Dataset) -> tuple[str, ...]:
    """Return what the maker of a dataset called each of its filters."""
    properties = dataset.id.get_create_plist()
    described = [properties.get_filter(at) for at in range(properties.get_nfilters())]
    return tuple(label.decode(errors="replace").strip() for *_, label in described)


def libhdf5_has(number: int) -> bool:
    """Return whether libhdf5 can apply a filter, by a plugin where there is one.

    Examples
    --------
    >>> libhdf5_has(1), libhdf5_has(9)
    (True, False)
    """
    load_plugins(number)
    return bool(h5py.h5z.filter_avail(number))


@functools.cache
def load_plugins(number: int) -> None:
    """Register hdf5plugin's filter with libhdf5, where it is not built in.

    In place of one that libhdf5 has found itself: HDF5_PLUGIN_PATH may lead to
    those of another libhdf5, as netCDF4 sets it, which fail in this one.
    """
    plugins = None if number in _BUILT_IN else optional("hdf5plugin")
    if plugins is None:
        return
    registered = plugins.get_config().registered_filters
    for name in [name for name, known in plugins.FILTERS.items() if known == number]:
        # It leaves one alone that is there already, and says that it does not know it.
        if registered.get(name, "unknown") == "unknown":
            plugins.register(name, force=True)


def remedy_for(number: int, otherwise: str) -> str:
    """Return how to get a filter that is missing."""
    if number in _BUILT_IN or optional("hdf5plugin") is not None:
        return otherwise
    return f'run pip install "lazyio[plugins]", or {otherwise}'
