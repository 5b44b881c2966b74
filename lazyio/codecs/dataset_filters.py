"""The filters of a dataset, and whether libhdf5 has them."""

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
    if h5py.h5z.filter_avail(number):
        return True
    # Importing hdf5plugin registers its filters with libhdf5; only now is it needed.
    has_plugins = number not in _BUILT_IN and optional("hdf5plugin") is not None
    return has_plugins and bool(h5py.h5z.filter_avail(number))


def remedy_for(number: int, otherwise: str) -> str:
    """Return how to get a filter that is missing."""
    if number in _BUILT_IN or optional("hdf5plugin") is not None:
        return otherwise
    return f'run pip install "lazyio[plugins]", or {otherwise}'
