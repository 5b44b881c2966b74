"""An HDF5 file that grows: datasets made or taken up, their digests, and the way back."""

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from lazyio.errors import OptionError, TargetError
from lazyio.grid import touched
from lazyio.inputs import Input
from lazyio.pushing.hdf5_ways import Way, prepared
from lazyio.pushing.place import Opened, Wish, last_row
from lazyio.safety.digests import Noted
from lazyio.safety.hdf5_digests import Known, forget, has_payloads, store, table_of
from lazyio.sources.hdf5 import describe_dataset
from lazyio.spec import Shape
from lazyio.targets.dimensions import grow_dimensions
from lazyio.targets.hdf5 import Hdf5Target, create_dataset
from lazyio.writing.hdf5_existing import form_of, refuse_misfit, room_in
from lazyio.writing.hdf5_settings import Hdf5Settings, asked_of, dataset_item
from lazyio.writing.places import check_key_is_free, kind_at

Payloads = dict[Shape, tuple[int, bytes]]
"""Mask and bytes of chunks as they are stored, by their corners."""


@dataclass(kw_only=True)
class _Grown:
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


class Hdf5Place:
    """A file that grows.

    Parameters
    ----------
    path : Path
        The file.
    way : Way
        How it changes.
    is_new : bool
        Whether it was made for this writer.
    keeps_old : bool
        Whether everything may have to be brought back to what it was.
    is_followed : bool
        Whether no dataset can be made once the first chunk is written.
    """

    def __init__(
        self, path: Path, way: Way, *, is_new: bool, keeps_old: bool, is_followed: bool
    ) -> None:
        self._path = path
        self._way = way
        self._is_new = is_new
        self._keeps_old = keeps_old
        self._is_followed = is_followed
        self._is_begun = False
        self._grown: list[_Grown] = []

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
        self._way.call(lambda: self._undo_one(self._way.file, grown))

    def begin(self) -> None:
        """Get ready for the first chunk of all."""
        if self._is_followed:
            for grown in self._grown:
                self._way.call(partial(_forget_digests, grown))
        self._way.begin()
        self._is_begun = True

    def commit(self, *, is_patient: bool) -> None:
        """Have the datasets on the disk and visible as they are."""
        if not self._is_followed:
            self._way.call(self._forget_stale)
        self._way.commit([grown.dataset for grown in self._grown], is_patient=is_patient)

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

    def _grown_by(self, wish: Wish) -> _Grown:
        file = self._way.file
        if kind_at(file, wish.key) != "dataset":
            check_key_is_free(file, wish.key, replace=False)
            return self._made(wish)
        return self._taken_up(wish, _own_dataset(file, wish.key, self._path))

    def _made(self, wish: Wish) -> _Grown:
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
        made_at = _first_missing(file, wish.key)
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
        opened = Opened(target=target, form=arranged.form, axis=axis, length=0)
        return _Grown(
            name=dataset.name,
            dataset=dataset,
            target=target,
            noted=noted,
            opened=opened,
            made_at=made_at,
        )

    def _taken_up(self, wish: Wish, dataset: h5py.Dataset) -> _Grown:
        name = f"dataset {dataset.name!r} of {self._path}"
        shape = room_in(dataset, name).shape
        axis = wish.axis_in(len(shape))
        form = self._form(wish, dataset, name, axis)
        _refuse_fixed(dataset, name, axis)
        region = last_row(shape, axis, dataset.chunks[axis])
        noted, head, last = Noted(), None, Payloads()
        if region[axis].start < region[axis].stop:
            # As it is in the file, of which nothing has changed there yet.
            head = describe_dataset(dataset, str(self._path)).read(region)
            if self._keeps_old and has_payloads(dataset):
                last = _payloads(dataset, region)
        known = Known.of(dataset)
        target = self._target(dataset, dataset.chunks, noted, axis)
        opened = Opened(
            target=target, form=form, axis=axis, length=shape[axis], head=_as(head, target)
        )
        return _Grown(
            name=dataset.name,
            dataset=dataset,
            target=target,
            noted=noted,
            opened=opened,
            known=known,
            last=last,
            has_digests=known.table is not None,
        )

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
        asked = asked_of(settings, dataset, form, item_shape=wish.items)
        given = Input(shape=shape, dtype=form.original)
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
            grows_along=axis,
        )

    def _forget_stale(self) -> None:
        for grown in self._grown:
            if grown.is_longer:
                grow_dimensions(grown.dataset)
                _forget_digests(grown)

    def _keep_digests(self, file: h5py.File) -> None:
        """Store the digests of what was written, with those that were there."""
        for grown in self._grown:
            dataset, rows = file[grown.name], grown.target.rows(grown.noted)
            if grown.made_at is not None:
                store(file, grown.name, table_of(dataset, rows))
            elif grown.known is not None:
                grow_dimensions(dataset)
                grown.known.grow(dataset, rows)

    def _undo(self, file: h5py.File) -> None:
        for grown in reversed(self._grown):
            self._undo_one(file, grown)

    def _undo_one(self, file: h5py.File, grown: _Grown) -> None:
        """Remove a dataset that was made, shrink one that was there."""
        if grown.made_at is not None:
            forget(file, grown.name)
            del file[grown.made_at]
            return
        dataset, opened = file[grown.name], grown.opened
        if dataset.shape[opened.axis] != opened.length:
            if has_payloads(dataset):
                # To whole rows of chunks first: of the last one libhdf5 would make another.
                whole = opened.length // opened.unit * opened.unit
                dataset.resize(opened.with_length(whole))
            dataset.resize(opened.with_length(opened.length))
            put = self._putting(dataset)
            for corner, (mask, payload) in grown.last.items():
                put(corner, payload, mask)
        if grown.known is not None and grown.known.table is not None:
            store(file, grown.name, grown.known.table)

    def _putting(self, dataset: h5py.Dataset) -> Callable[..., object]:
        put: Callable[..., object] = self._way.put_into(dataset) or dataset.id.write_direct_chunk
        return put


def _as(head: npt.NDArray[Any] | None, target: Hdf5Target) -> npt.NDArray[Any] | None:
    return None if head is None else head.astype(target.dtype, copy=False)


def _forget_digests(grown: _Grown) -> None:
    """Remove digests that will not hold, before what they speak of changes."""
    if grown.has_digests:
        forget(grown.dataset.file, grown.name)
        grown.has_digests = False


def _payloads(dataset: h5py.Dataset, region: tuple[slice, ...]) -> Payloads:
    """Return the chunks of a region as they are stored; not those that are not."""
    found: Payloads = {}
    for index, _, _ in touched(region, dataset.chunks):
        corner = tuple(at * extent for at, extent in zip(index, dataset.chunks, strict=True))
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            found[corner] = dataset.id.read_direct_chunk(corner)
    return found


def _first_missing(file: h5py.File, key: str) -> str:
    """Return the outermost part of a path that is not there yet."""
    parts = key.split("/")
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        if above not in file:
            return above
    return key


def _own_dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """Return a dataset whose elements lie in the file itself.

    Raises
    ------
    TargetError
        When they lie in another.
    """
    link = file.get(key, getlink=True)
    dataset = None if isinstance(link, h5py.ExternalLink) else file[key]
    if dataset is None or dataset.is_virtual or dataset.external:
        msg = f"{path}: the elements of {key!r} lie in other files; append to those themselves"
        raise TargetError(errno.EXDEV, msg)
    return dataset


def _refuse_fixed(dataset: h5py.Dataset, name: str, axis: int) -> None:
    """Refuse a dataset that cannot become longer.

    Raises
    ------
    TargetError
        Saying how it would have had to be made.
    """
    if dataset.chunks is None or dataset.maxshape[axis] == dataset.shape[axis]:
        bounds = list(dataset.maxshape)
        bounds[axis] = None
        msg = (
            f"{name} cannot grow along axis {axis}: its maxshape is {dataset.maxshape}; write it "
            f"anew with maxshape={tuple(bounds)}, in chunks"
        )
        raise TargetError(errno.EINVAL, msg)
