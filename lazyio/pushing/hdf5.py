"""An HDF5 file that grows: datasets made or taken up, their digests, and the way back."""

from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from lazyio.errors import OptionError
from lazyio.grid import open_along
from lazyio.inputs import Input
from lazyio.pushing.hdf5_grown import (
    GrownDataset,
    Payloads,
    first_missing,
    own_dataset,
    payloads_in,
    refuse_fixed,
)
from lazyio.pushing.hdf5_ways import Way, prepared
from lazyio.pushing.place import Opened, Wish, last_row
from lazyio.safety.digests import Noted
from lazyio.safety.hdf5_digests import Known, has_payloads
from lazyio.sources.base import Source
from lazyio.sources.hdf5 import describe_dataset
from lazyio.spec import Shape
from lazyio.targets.dimensions import grow_dimensions
from lazyio.targets.hdf5 import Hdf5Target, create_dataset
from lazyio.writing.hdf5_existing import form_of, refuse_misfit, room_in
from lazyio.writing.hdf5_settings import Hdf5Settings, asked_of, dataset_item
from lazyio.writing.places import check_key_is_free, kind_at


class Hdf5Place:
    """A file that grows."""

    def __init__(
        self, path: Path, way: Way, *, is_new: bool, keeps_old: bool, is_followed: bool
    ) -> None:
        self._path = path
        self._way = way
        self._is_new = is_new
        self._keeps_old = keeps_old
        self._is_followed = is_followed
        self._is_begun = False
        self._grown: list[GrownDataset] = []

    def create(self, wish: Wish) -> Opened:
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

    def _grown_by(self, wish: Wish) -> GrownDataset:
        file = self._way.file
        if kind_at(file, wish.key) != "dataset":
            check_key_is_free(file, wish.key, replace=False)
            return self._made(wish)
        return self._taken_up(wish, own_dataset(file, wish.key, self._path))

    def _made(self, wish: Wish) -> GrownDataset:
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
        noted = Noted()
        target = self._target(dataset, arranged.plan.chunk_shape, noted, axis)
        opened = Opened(target=target, form=arranged.form, axis=axis, length=0, is_untold=True)
        return GrownDataset(
            name=dataset.name,
            dataset=dataset,
            target=target,
            noted=noted,
            opened=opened,
            made_at=made_at,
        )

    def _taken_up(self, wish: Wish, dataset: h5py.Dataset) -> GrownDataset:
        name = f"dataset {dataset.name!r} of {self._path}"
        shape = room_in(dataset, name).shape
        axis = wish.axis_in(len(shape))
        form = self._form(wish, dataset, name, axis)
        refuse_fixed(dataset, name, axis)
        region = last_row(shape, axis, dataset.chunks[axis])
        noted, head, last = Noted(), None, Payloads()
        if region[axis].start < region[axis].stop:
            head = self._source(dataset).read(region)
            if self._keeps_old and has_payloads(dataset):
                last = payloads_in(dataset, region)
        known = Known.of(dataset)
        target = self._target(dataset, dataset.chunks, noted, axis)
        opened = Opened(
            target=target,
            form=form,
            axis=axis,
            length=shape[axis],
            head=_as(head, target),
            most=dataset.maxshape[axis],
        )
        return GrownDataset(
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

    def _form(self, wish: Wish, dataset: h5py.Dataset, name: str, axis: int) -> Any:
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
        self, dataset: h5py.Dataset, chunk_shape: Shape, noted: Noted, axis: int
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
