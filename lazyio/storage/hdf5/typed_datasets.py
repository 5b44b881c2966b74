"""What HDMF's types need when a dataset is replaced: its attributes, and references to it.

A dataset of an NWB container has attributes such as ``unit`` and ``conversion``, without which
PyNWB does not read the file; the index of a ragged column refers to the column.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Self

import h5py

from lazyio.storage.hdf5.attributes import RESERVED

_TYPE = "neurodata_type"


@dataclass(frozen=True, kw_only=True)
class TypedDataset:
    """What a dataset has been to its container."""

    attributes: Mapping[str, tuple[Any, Any]]
    """Value and dtype of each."""
    referrers: tuple[tuple[h5py.Dataset, str], ...]
    """Datasets beside it with the attributes of theirs that refer to it."""

    @classmethod
    def of(cls, group: h5py.Group, key: str) -> Self | None:
        """Return what a dataset is to an NWB container, ``None`` where it is in none."""
        is_own = isinstance(group.get(key, getlink=True), h5py.HardLink)
        dataset = group[key] if is_own else None
        if not isinstance(dataset, h5py.Dataset):
            return None
        if _TYPE not in dataset.attrs and _TYPE not in dataset.parent.attrs:
            return None
        ids = {name: dataset.attrs.get_id(name) for name in dataset.attrs if name not in RESERVED}
        own = {name: (dataset.attrs[name], found.dtype) for name, found in ids.items()}
        return cls(attributes=own, referrers=tuple(_referrers(dataset)))

    def restore(self, dataset: h5py.Dataset, given: Container[str]) -> None:
        """Give the dataset that has replaced it what it needs, but for what was given."""
        for name, (value, dtype) in self.attributes.items():
            if name not in given:
                dataset.attrs.create(name, value, dtype=dtype)
        for referrer, name in self.referrers:
            referrer.attrs.create(name, dataset.ref, dtype=h5py.ref_dtype)


def _referrers(dataset: h5py.Dataset) -> list[tuple[h5py.Dataset, str]]:
    """Return the datasets of the same container that refer to one, with their attributes."""
    parent = dataset.parent
    others = [parent[name] for name in parent if _is_hard(parent, name)]
    return [
        (other, name)
        for other in others
        if isinstance(other, h5py.Dataset) and other != dataset
        for name in other.attrs
        if name not in RESERVED and _refers(other, name, dataset)
    ]


def _is_hard(group: h5py.Group, name: str) -> bool:
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _refers(other: h5py.Dataset, name: str, dataset: h5py.Dataset) -> bool:
    value = other.attrs[name]
    return isinstance(value, h5py.Reference) and bool(value) and other.file[value] == dataset
