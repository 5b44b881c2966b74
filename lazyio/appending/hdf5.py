"""An HDF5 file that grows: datasets made or taken up, their digests, and the way back."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from lazyio.appending.backend import OF_HDF5, ArrayOptions, OpenedArray
from lazyio.appending.hdf5_commit import LoggedFile, Put
from lazyio.atomic.digests import NotedDigests
from lazyio.atomic.hdf5_digests import Known, forget, has_payloads, store, table_of
from lazyio.dtypes import Shape, Stored
from lazyio.errors import OptionError, TargetError
from lazyio.inputs import Input
from lazyio.iterables.elements import axis_within
from lazyio.libhdf5_calls import write_direct_chunk
from lazyio.regions import open_along, span, touched
from lazyio.sources.hdf5 import describe_dataset
from lazyio.sources.hdf5_layout import StoredPayloads
from lazyio.storage.hdf5.dataset import Hdf5Target, create_dataset
from lazyio.storage.hdf5.dimension_scales import (
    attach_dimensions,
    grow_dimensions,
    has_no_values,
    remove_dataset,
    remove_unused,
    shrink_dimensions,
)
from lazyio.storage.hdf5.links import own_name
from lazyio.writing.hdf5_settings import (
    ExistingDataset,
    Hdf5Settings,
    asked_of,
    dataset_item,
    form_of,
    refuse_misfit,
    room_in,
)
from lazyio.writing.target_checks import check_key_is_free, kind_at

Payloads = dict[Shape, tuple[int, bytes]]
"""Mask and bytes of chunks as they are stored, by their corners."""


@dataclass(kw_only=True)
class Hdf5Array(OpenedArray):
    """A dataset of the writer."""

    name: str
    dataset: h5py.Dataset
    target: Hdf5Target
    has_digests: bool = False
    """Whether there are some in the file that will not hold."""
    scales: tuple[str, ...] = ()
    """What was made for the names of its axes."""

    def forget_digests(self) -> None:
        """Remove digests that will not hold, before what they speak of changes."""
        if self.has_digests:
            forget(self.dataset.file, self.name)
            self.has_digests = False

    def keep_digests(self, file: h5py.File) -> None:
        """Store the digests of what was written, with those that were there."""
        dataset, target = file[self.name], self.target
        grow_dimensions(dataset)
        if self.noted is None:
            if self.now > self.length:
                forget(file, self.name)
        elif self.made_at is not None:
            rows, rims = target.rows(self.noted), target.rims(self.noted)
            store(file, self.name, table_of(dataset, rows, rims))
        elif self.known is not None:
            self.known.renew(dataset, self.noted, {}, grid=target.grid)

    def undo(self, file: h5py.File, putting: Callable[[h5py.Dataset], Put | None]) -> None:
        """Remove a dataset that was made, shrink one that was there."""
        if self.made_at is not None:
            forget(file, self.name)
            # First from its scales, which may lie elsewhere.
            remove_dataset(file, self.name)
            remove_unused(file, self.scales)
            if self.made_at in file:
                del file[self.made_at]
            return
        dataset = file[self.name]
        if dataset.shape[self.axis] != self.length:
            if has_payloads(dataset):
                # To whole rows of chunks first: of the last one libhdf5 would make another.
                dataset.resize(self.with_length(self.length // self.unit * self.unit))
            dataset.resize(self.with_length(self.length))
            shrink_dimensions(dataset)
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
    dataset = None if isinstance(link, h5py.ExternalLink) else file[own_name(file, key)]
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

    format = "hdf5"
    own_options: tuple[str, ...] = OF_HDF5

    def __init__(self, strategy: LoggedFile, *, is_new: bool, keeps_old: bool) -> None:
        self._path = strategy.path
        self._strategy = strategy
        self._is_new = is_new
        self._keeps_old = keeps_old
        self._is_begun = False
        self._arrays: list[Hdf5Array] = []

    def create(self, asked: ArrayOptions) -> OpenedArray:
        """Make a dataset, or take up one that is there."""
        if self._strategy.is_followed and self._is_begun:
            msg = (
                f"swmr=True: {asked.key!r} cannot be made once something was appended or flushed, "
                "for readers follow by then; create all arrays first"
            )
            raise OptionError(msg)
        array = self._strategy.call(lambda: self._opened(asked))
        self._arrays.append(array)
        return array

    def last_element(self, key: str) -> npt.NDArray[Any] | None:
        """Return the last element of a dataset, ``None`` if it is not there."""

        def read() -> npt.NDArray[Any] | None:
            file = self._strategy.file
            if kind_at(file, key) != "dataset":
                return None
            source = describe_dataset(own_dataset(file, key, self._path), str(self._path))
            length = source.shape[0]
            return source.read(span(source.shape, 0, max(0, length - 1), length))

        return self._strategy.call(read)

    def take_back(self) -> None:
        """Bring the dataset created last back to what it was."""
        array = self._arrays.pop()
        self._strategy.call(lambda: array.undo(self._strategy.file, self._strategy.put_into))

    def begin(self) -> None:
        """Get ready for the first chunk of all."""
        if self._strategy.is_followed:
            for array in self._arrays:
                self._strategy.call(array.forget_digests)
        self._strategy.begin()
        self._is_begun = True

    def commit(self) -> None:
        """Have the datasets on the disk and visible as they are."""
        if not self._strategy.is_followed:
            self._strategy.call(self._forget_stale)
        self._strategy.commit([array.dataset for array in self._arrays])

    def close(self) -> None:
        """Store digests, and close."""
        try:
            for array in self._arrays:
                self._strategy.call(array.target.finish)
        except BaseException:
            self._strategy.abandon()
            raise
        self._strategy.close(self._keep_digests)

    def abandon(self) -> None:
        """Close, and leave what was committed last."""
        self._strategy.abandon()

    def drop(self) -> None:
        """Bring the file back to what it was, and close it."""
        if self._is_new:
            self._path.unlink(missing_ok=True)
            self._strategy.abandon()
        else:
            self._strategy.close(self._undo)

    def _opened(self, asked: ArrayOptions) -> Hdf5Array:
        file = self._strategy.file
        if kind_at(file, asked.key) == "dataset":
            return self._taken_up(asked, own_dataset(file, asked.key, self._path))
        check_key_is_free(file, asked.key, replace=False)
        settings = Hdf5Settings(**asked.settings, memory_limit=asked.memory_limit)
        item = dataset_item(asked.key, asked.as_input(), settings)
        if item.dims and self._strategy.is_followed:
            msg = (
                f"swmr=True: dims of {asked.key!r} say how long its axes are, which cannot change "
                "while others follow; leave them out"
            )
            raise OptionError(msg)
        arranged, made_at = item.arranged, first_missing(file, asked.key)
        dataset = create_dataset(
            file,
            asked.key,
            shape=arranged.first_shape,
            chunk_shape=arranged.plan.chunk_shape,
            dtype=arranged.plan.dtype,
            options=item.options,
        )
        array = self._array(asked, dataset, form=arranged.form, made_at=made_at, is_untold=True)
        if item.dims:
            try:
                array.scales = attach_dimensions(dataset, item.dims, grows=True)
            except BaseException:
                array.undo(file, self._strategy.put_into)
                raise
        return array

    def _taken_up(self, asked: ArrayOptions, dataset: h5py.Dataset) -> Hdf5Array:
        name = f"dataset {dataset.name!r} of {self._path}"
        if has_no_values(dataset):
            msg = (
                f"{name} is there as the name of an axis, without values; create a coordinate "
                "before the arrays that have it in their dims"
            )
            raise OptionError(msg)
        axis = axis_within(asked.axis, len(room_in(dataset, name).shape))
        form = self._form(asked, dataset, name, axis)
        refuse_fixed(dataset, name, axis)
        array = self._array(asked, dataset, form=form, most=dataset.maxshape[axis])
        array.known = Known.of(dataset)
        array.has_digests = array.known.table is not None
        # Nothing of the dataset has changed yet.
        has_head = array.read_head(describe_dataset(dataset, str(self._path)))
        if has_head and self._keeps_old and has_payloads(dataset):
            array.last = payloads_in(dataset, array.last_row)
        return array

    def _array(self, asked: ArrayOptions, dataset: h5py.Dataset, **others: Any) -> Hdf5Array:
        axis = axis_within(asked.axis, dataset.ndim)
        noted = NotedDigests() if asked.digests else None
        target = Hdf5Target(
            dataset,
            dataset.chunks,
            folder=self._path.parent,
            noted=noted,
            bounds=open_along(dataset.shape, axis),
            rewrites=True,
            put=self._strategy.put_into(dataset),
            check=self._strategy.check,
        )
        length = dataset.shape[axis] if asked.starts_at is None else asked.starts_at
        return Hdf5Array(
            name=dataset.name,
            dataset=dataset,
            target=target,
            noted=noted,
            axis=axis,
            length=length,
            **others,
        )

    def _form(self, asked: ArrayOptions, dataset: h5py.Dataset, name: str, axis: int) -> Stored:
        """Return the form of a dataset's elements, once nothing differs from what is asked."""
        settings = Hdf5Settings(**asked.settings, dtype=asked.dtype)
        shape: Shape = dataset.shape
        form = form_of(dataset)
        given = Input(shape=shape, dtype=form.original)
        full = settings.completed(given)
        full.check()
        wanted = asked_of(full, dataset, form, item_shape=asked.items)
        wanted = replace(wanted, others=ExistingDataset(handle=dataset).others_asked(settings))
        items = (*shape[:axis], *shape[axis + 1 :])
        refuse_misfit(dataset, name, form, wanted, given, item_shape=items)
        return form

    def _forget_stale(self) -> None:
        for array in self._arrays:
            if array.now > array.length:
                grow_dimensions(array.dataset)
                array.forget_digests()

    def _keep_digests(self, file: h5py.File) -> None:
        for array in self._arrays:
            array.keep_digests(file)

    def _undo(self, file: h5py.File) -> None:
        for array in reversed(self._arrays):
            array.undo(file, self._strategy.put_into)
