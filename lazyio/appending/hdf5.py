"""An HDF5 file that grows: datasets made or taken up, their digests, and the way back."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from lazyio.appending.backend import ArrayOptions, OpenedArray, last_row
from lazyio.appending.hdf5_commit import CommitStrategy, prepared
from lazyio.atomic.digests import NotedDigests
from lazyio.atomic.hdf5_digests import Known, forget, has_payloads, store, table_of
from lazyio.dtypes import Shape
from lazyio.errors import OptionError, TargetError
from lazyio.inputs import Input
from lazyio.libhdf5_calls import write_direct_chunk
from lazyio.regions import open_along, touched
from lazyio.sources.base import Source
from lazyio.sources.hdf5 import describe_dataset
from lazyio.sources.hdf5_layout import StoredPayloads
from lazyio.storage.hdf5.dataset import Hdf5Target, create_dataset
from lazyio.storage.hdf5.dimension_scales import grow_dimensions
from lazyio.writing.hdf5_region import form_of, refuse_misfit, room_in
from lazyio.writing.hdf5_request import Hdf5Settings, asked_of, dataset_item
from lazyio.writing.target_checks import check_key_is_free, kind_at

Put = Callable[[Shape, bytes, int], object]

Payloads = dict[Shape, tuple[int, bytes]]
"""Mask and bytes of chunks as they are stored, by their corners."""


@dataclass(kw_only=True)
class DatasetAppendState:
    """A dataset of the writer, and what it was before."""

    name: str
    dataset: h5py.Dataset
    target: Hdf5Target
    noted: NotedDigests
    opened: OpenedArray
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


class Hdf5AppendBackend:
    """A file that grows."""

    def __init__(
        self, path: Path, way: CommitStrategy, *, is_new: bool, keeps_old: bool, is_followed: bool
    ) -> None:
        self._path = path
        self._way = way
        self._is_new = is_new
        self._keeps_old = keeps_old
        self._is_followed = is_followed
        self._is_begun = False
        self._grown: list[DatasetAppendState] = []

    def create(self, wish: ArrayOptions) -> OpenedArray:
        """Make a dataset, or take up one that is there."""
        if self._is_followed and self._is_begun:
            msg = (
                f"swmr=True: {wish.key!r} cannot be made once something was appended or flushed, "
                "for readers follow by then; create all arrays first"
            )
            raise OptionError(msg)
        grown = self._way.call(lambda: self._grown_by(wish))
        self._grown.append(grown)
        return grown.opened

    def take_back(self) -> None:
        """Bring the dataset created last back to what it was."""
        grown = self._grown.pop()
        self._way.call(lambda: grown.undo(self._way.file, self._way.put_into))

    def begin(self) -> None:
        """Get ready for the first chunk of all."""
        if self._is_followed:
            for grown in self._grown:
                self._way.call(grown.forget_digests)
        self._way.begin()
        self._is_begun = True

    def commit(self) -> None:
        """Have the datasets on the disk and visible as they are."""
        if not self._is_followed:
            self._way.call(self._forget_stale)
        self._way.commit([grown.dataset for grown in self._grown])

    def close(self) -> None:
        """Store digests, and close."""
        try:
            for grown in self._grown:
                self._way.call(grown.target.finish)
        except BaseException:
            self._way.abandon()
            raise
        self._way.close(self._keep_digests)

    def abandon(self) -> None:
        """Close, and leave what was committed last."""
        self._way.abandon()

    def drop(self) -> None:
        """Bring the file back to what it was, and close it."""
        if self._is_new:
            self._path.unlink(missing_ok=True)
            self._way.abandon()
        else:
            self._way.close(self._undo)

    def _grown_by(self, wish: ArrayOptions) -> DatasetAppendState:
        file = self._way.file
        if kind_at(file, wish.key) != "dataset":
            check_key_is_free(file, wish.key, replace=False)
            return self._made(wish)
        return self._taken_up(wish, own_dataset(file, wish.key, self._path))

    def _made(self, wish: ArrayOptions) -> DatasetAppendState:
        file, given = self._way.file, wish.as_input()
        settings = Hdf5Settings(
            chunks=wish.chunks,
            compression=wish.compression,
            compression_opts=wish.compression_opts,
            shuffle=wish.shuffle,
            memory_limit=wish.memory_limit,
        )
        item = dataset_item(wish.key, given, settings)
        arranged, axis = item.arranged, wish.axis_in(len(given.shape))
        made_at = first_missing(file, wish.key)
        dataset = create_dataset(
            file,
            wish.key,
            shape=arranged.first_shape,
            chunk_shape=arranged.plan.chunk_shape,
            dtype=arranged.plan.dtype,
            options=item.options,
        )
        noted = NotedDigests()
        target = self._target(dataset, arranged.plan.chunk_shape, noted, axis)
        opened = OpenedArray(target=target, form=arranged.form, axis=axis, length=0, is_untold=True)
        return DatasetAppendState(
            name=dataset.name,
            dataset=dataset,
            target=target,
            noted=noted,
            opened=opened,
            made_at=made_at,
        )

    def _taken_up(self, wish: ArrayOptions, dataset: h5py.Dataset) -> DatasetAppendState:
        name = f"dataset {dataset.name!r} of {self._path}"
        shape = room_in(dataset, name).shape
        axis = wish.axis_in(len(shape))
        form = self._form(wish, dataset, name, axis)
        refuse_fixed(dataset, name, axis)
        region = last_row(shape, axis, dataset.chunks[axis])
        noted, head, last = NotedDigests(), None, Payloads()
        if region[axis].start < region[axis].stop:
            head = self._source(dataset).read(region)
            if self._keeps_old and has_payloads(dataset):
                last = payloads_in(dataset, region)
        known = Known.of(dataset)
        target = self._target(dataset, dataset.chunks, noted, axis)
        opened = OpenedArray(
            target=target,
            form=form,
            axis=axis,
            length=shape[axis],
            head=_as(head, target),
            most=dataset.maxshape[axis],
        )
        return DatasetAppendState(
            name=dataset.name,
            dataset=dataset,
            target=target,
            noted=noted,
            opened=opened,
            known=known,
            last=last,
            has_digests=known.table is not None,
        )

    def _source(self, dataset: h5py.Dataset) -> Source:
        """Return what reads a dataset of which nothing has changed yet."""
        return describe_dataset(dataset, str(self._path))

    def _form(self, wish: ArrayOptions, dataset: h5py.Dataset, name: str, axis: int) -> Any:
        """Return the form of a dataset's elements, once nothing differs from the wish."""
        settings = Hdf5Settings(
            chunks=wish.chunks,
            dtype=wish.dtype,
            compression=wish.compression,
            compression_opts=wish.compression_opts,
            shuffle=wish.shuffle,
        )
        shape: Shape = dataset.shape
        _, form = form_of(dataset)
        given = Input(shape=shape, dtype=form.original)
        asked = asked_of(settings.completed(given), dataset, form, item_shape=wish.items)
        items = (*shape[:axis], *shape[axis + 1 :])
        refuse_misfit(dataset, name, form, asked, given, item_shape=items)
        return form

    def _target(
        self, dataset: h5py.Dataset, chunk_shape: Shape, noted: NotedDigests, axis: int
    ) -> Hdf5Target:
        return prepared(
            self._way,
            dataset,
            chunk_shape,
            folder=self._path.parent,
            noted=noted,
            bounds=open_along(dataset.shape, axis),
        )

    def _forget_stale(self) -> None:
        for grown in self._grown:
            if grown.is_longer:
                grow_dimensions(grown.dataset)
                grown.forget_digests()

    def _keep_digests(self, file: h5py.File) -> None:
        for grown in self._grown:
            grown.keep_digests(file)

    def _undo(self, file: h5py.File) -> None:
        for grown in reversed(self._grown):
            grown.undo(file, self._way.put_into)


def _as(head: npt.NDArray[Any] | None, target: Hdf5Target) -> npt.NDArray[Any] | None:
    return None if head is None else head.astype(target.dtype, copy=False)
