"""A dataset that grows: what it was before, and the way back to that."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h5py

from lazyio.direct_chunks import write_direct_chunk
from lazyio.errors import TargetError
from lazyio.grid import touched
from lazyio.pushing.place import Opened
from lazyio.safety.digests import Noted
from lazyio.safety.hdf5_digests import Known, forget, has_payloads, store, table_of
from lazyio.sources.hdf5_layout import StoredPayloads
from lazyio.spec import Shape
from lazyio.targets.dimensions import grow_dimensions
from lazyio.targets.hdf5 import Hdf5Target

Put = Callable[[Shape, bytes, int], object]

Payloads = dict[Shape, tuple[int, bytes]]
"""Mask and bytes of chunks as they are stored, by their corners."""


@dataclass(kw_only=True)
class GrownDataset:
    """A dataset of the writer, and what it was before."""

    name: str
    dataset: h5py.Dataset
    target: Hdf5Target
    noted: Noted
    opened: Opened
    made_at: str | None = None
    """What was made for it, itself or the outermost group; ``None`` if it was there."""
    known: Known | None = None
    last: Payloads = field(default_factory=dict)
    """Of the last row of chunks, where it may have to be put back."""
    has_digests: bool = False
    """Whether there are some in the file that will not hold."""

    @property
    def is_longer(self) -> bool:
        """Whether anything was written to it."""
        return self.target.shape[self.opened.axis] > self.opened.length

    def forget_digests(self) -> None:
        """Remove digests that will not hold, before what they speak of changes."""
        if self.has_digests:
            forget(self.dataset.file, self.name)
            self.has_digests = False

    def keep_digests(self, file: h5py.File) -> None:
        """Store the digests of what was written, with those that were there."""
        dataset, target = file[self.name], self.target
        if self.made_at is not None:
            rows, rims = target.rows(self.noted), target.rims(self.noted)
            store(file, self.name, table_of(dataset, rows, rims))
        elif self.known is not None:
            grow_dimensions(dataset)
            self.known.renew(dataset, self.noted, {}, grid=target.grid)

    def undo(self, file: h5py.File, putting: Callable[[h5py.Dataset], Put | None]) -> None:
        """Remove a dataset that was made, shrink one that was there."""
        if self.made_at is not None:
            forget(file, self.name)
            del file[self.made_at]
            return
        dataset, opened = file[self.name], self.opened
        if dataset.shape[opened.axis] != opened.length:
            if has_payloads(dataset):
                # To whole rows of chunks first: of the last one libhdf5 would make another.
                dataset.resize(opened.with_length(opened.length // opened.unit * opened.unit))
            dataset.resize(opened.with_length(opened.length))
            put = putting(dataset) or partial(write_direct_chunk, dataset)
            for corner, (mask, payload) in self.last.items():
                put(corner, payload, mask)
        if self.known is not None and self.known.table is not None:
            store(file, self.name, self.known.table)


def payloads_in(dataset: h5py.Dataset, region: tuple[slice, ...]) -> Payloads:
    """Return the chunks of a region as they are stored; not those that are not."""
    found: Payloads = {}
    stored = StoredPayloads(dataset)
    for index, _, _ in touched(region, dataset.chunks):
        corner = tuple(at * extent for at, extent in zip(index, dataset.chunks, strict=True))
        payload = stored.find(corner)
        if payload is not None:
            found[corner] = payload
    return found


def first_missing(file: h5py.File, key: str) -> str:
    """Return the outermost part of a path that is not there yet."""
    parts = key.split("/")
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        if above not in file:
            return above
    return key


def own_dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """Return a dataset whose elements lie in the file itself."""
    link = file.get(key, getlink=True)
    dataset = None if isinstance(link, h5py.ExternalLink) else file[key]
    if dataset is None or dataset.is_virtual or dataset.external:
        msg = f"{path}: the elements of {key!r} lie in other files; append to those themselves"
        raise TargetError(errno.EXDEV, msg)
    return dataset


def refuse_fixed(dataset: h5py.Dataset, name: str, axis: int) -> None:
    """Refuse a dataset that cannot become longer."""
    if dataset.chunks is None or dataset.maxshape[axis] == dataset.shape[axis]:
        bounds = list(dataset.maxshape)
        bounds[axis] = None
        msg = (
            f"{name} cannot grow along axis {axis}: its maxshape is {dataset.maxshape}; write it "
            f"anew with maxshape={tuple(bounds)}, in chunks"
        )
        raise TargetError(errno.EINVAL, msg)
