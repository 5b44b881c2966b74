"""A part of an existing HDF5 dataset, in a file or one that is open."""

import contextlib
import errno
import operator
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.hdf5_digests import Known, forget, load
from lazyio.atomic.workdir import WorkDirectory
from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.dtypes import Shape, Stored, is_text, original
from lazyio.errors import TargetError
from lazyio.execution.report import WriteReport
from lazyio.inputs import Input
from lazyio.regions import Region, box_shape
from lazyio.sources.hdf5 import describe_dataset
from lazyio.sources.hdf5_layout import attributes_of
from lazyio.storage.hdf5.dataset import Hdf5Target, element_dtype, require_filters
from lazyio.storage.hdf5.file import OpenMode
from lazyio.storage.region_target import SharedArray, dataset_identity, growing
from lazyio.writing.array_plan import PlannedArray, in_window
from lazyio.writing.compatibility import (
    AskedArray,
    ExistingArray,
    GrowableShape,
    TargetRegion,
    done_region,
    refuse_differences,
)
from lazyio.writing.hdf5_new import (
    DatasetWriter,
    check_seen,
    in_part,
    keep,
    opened_for,
    path_of,
    publish,
)
from lazyio.writing.resume import facts_of_job, in_head, is_part_done
from lazyio.writing.run_options import (
    OPEN_HANDLE,
    Outcome,
    RunOptions,
    report_on,
    report_with_done,
    scratch_beside,
)
from lazyio.writing.target_checks import (
    check_open_file,
    file_to_replace,
    kind_at,
    refuse_own_source,
)


def room_in(dataset: h5py.Dataset, name: str) -> GrowableShape:
    """Return the extents of an existing dataset, and how far they go."""
    if dataset.shape is None:
        msg = f"{name} is empty (a null dataspace) and has no part; write it anew"
        raise TargetError(errno.EINVAL, msg)
    labels: list[str | None] = []
    for dimension in dataset.dims:
        scale = posixpath.basename(dimension[0].name) if len(dimension) else None
        labels.append(dimension.label or scale)
    if dataset.ndim == 1 and not any(labels) and dataset.is_scale:
        # A coordinate has the name of its only axis.
        labels = [posixpath.basename(dataset.name)]
    return GrowableShape(
        name=name,
        shape=tuple(map(int, dataset.shape)),
        max_shape=tuple(None if n is None else int(n) for n in dataset.maxshape),
        dims=tuple(labels),
    )


def form_of(dataset: h5py.Dataset) -> tuple[np.dtype[Any], Stored]:
    """Return the dtype of a dataset's elements, and what they are made of."""
    dtype = element_dtype(dataset)
    return dtype, original(dtype, dataset.attrs) or Stored(original=dtype, dtype=dtype)


def refuse_misfit(
    dataset: h5py.Dataset,
    name: str,
    form: Stored,
    asked: AskedArray,
    given: Input,
    item_shape: Shape | None = None,
) -> None:
    """Refuse a dataset that is not what was asked for, or that cannot be written here."""
    require_filters(filters_of(dataset))
    refuse_differences(as_existing(dataset, name, form, item_shape), asked, given)


def as_existing(
    dataset: h5py.Dataset, name: str, form: Stored, item_shape: Shape | None = None
) -> ExistingArray:
    """Return what a dataset is, to be compared with what is asked."""
    return ExistingArray(
        name=name,
        dtype=form.original,
        chunk_shape=dataset.chunks,
        codec=described(filters_of(dataset)),
        fill_value=np.asarray(dataset.fillvalue)[()],
        attrs=attributes_of(dataset)[0],
        item_shape=item_shape,
        others={
            "maxshape": dataset.maxshape,
            "dims": room_in(dataset, name).dims,
            "chunks": dataset.chunks,
        },
    )


def described(filters: Sequence[Any]) -> str:
    """Return filters as a person reads them, with those options that a user gives."""
    return " + ".join(f"{step.name}{list(step.options)}" for step in filters) or "none"


def refuse_unusable(path: Path, key: str) -> None:
    """Refuse a file that has no dataset to write a part of, or of which it is not all."""
    if not path.exists():
        msg = f"{path} does not exist; lazyio.allocate makes a dataset to be filled by region"
        raise TargetError(errno.ENOENT, msg)
    with file_to_replace(path) as file:
        kind = kind_at(file, key)
        link = file.get(key, getlink=True)
        if kind == "below a link" or isinstance(link, h5py.ExternalLink):
            msg = f"{path}: {key!r} leads out of the file; write to that file itself"
            raise TargetError(errno.EXDEV, msg)
        dataset = file.get(key) if kind == "dataset" else None
        if not isinstance(dataset, h5py.Dataset):
            remedy = "lazyio.allocate makes one"
            if kind == "group":
                remedy = "it is a group, name a dataset in it"
            msg = f"{path}: {key!r} is no dataset, of which a part could be written; {remedy}"
            raise TargetError(errno.ENOENT, msg)
        if dataset.is_virtual or dataset.external:
            msg = f"{path}: the elements of {key!r} lie in other files; write to those themselves"
            raise TargetError(errno.EXDEV, msg)


@dataclass(frozen=True, kw_only=True)
class PartOfFile:
    """A part of a dataset in a file of which only the path is known."""

    path: Path
    """The file."""
    arranged: PlannedArray
    """What goes into the part."""
    window: TargetRegion
    """The part, in the dataset as it was when the order was made."""
    seen: Shape
    """Its shape at that time."""
    appends: bool
    """Whether it goes behind what is there."""
    running: RunOptions
    """The rest."""

    def write(self) -> WriteReport:
        """Write the part into a copy of the file, which then takes its place."""
        began = time.perf_counter()
        head = self._head()
        if head and self._is_done(head):
            return report_with_done(str(self.path), [self.arranged], None, began=began, advice=())
        facts = self._facts() if self.running.resume else None
        with contextlib.ExitStack() as stack:
            work = stack.enter_context(WorkDirectory(self.path, facts=facts))
            refuse_unusable(self.path, self.arranged.key)
            is_read = self.arranged.given.reads(self.path)
            opened = opened_for(work, self.path, None, self.running, 0, is_read=is_read)
            with opened as built, contextlib.ExitStack() as inner:
                part, known = built.call(lambda: self._begin(built))
                advice = keep(work, [part], built, inner)
                ran = self.running.write([part.to_job()], work.scratch)
                outcome = built.call(lambda: _finish_part(part, known, head))
            advice += publish(work)
        advice += self.running.advice + tuple(work.advice)
        return report_on(str(self.path), [outcome], ran=ran, began=began, advice=advice)

    def _begin(self, built: OpenMode) -> tuple[DatasetWriter, Known]:
        """Return what writes the part, and what is known of the dataset before."""
        dataset = built.file[self.arranged.key]
        check_seen(dataset, self.seen)
        # Before it grows.
        known = Known.of(dataset)
        old = self._old if built.is_resumable else None
        part = in_part(dataset, self.arranged, self.window, self.path, self.running, old)
        return part, known

    def _old(self, region: Region) -> npt.NDArray[Any]:
        """Return elements as they are in the file itself, which has not changed yet."""
        with h5py.File(self.path, "r") as file:
            dataset = file[self.arranged.key]
            shape = box_shape(region)
            there = tuple(
                slice(part.start, max(part.start, min(part.stop, extent)))
                for part, extent in zip(region, dataset.shape, strict=True)
            )
            is_it_text = is_text(element_dtype(dataset))
            fill = "" if is_it_text else dataset.fillvalue
            elements = np.full(shape, fill, element_dtype(dataset))
            inside = tuple(slice(0, part.stop - part.start) for part in there)
            # Here, for libhdf5 may not have the filters.
            elements[inside] = describe_dataset(dataset, str(self.path)).read(there)
            return elements

    def _facts(self) -> dict[str, Any]:
        """Return what the job is."""
        return facts_of_job("hdf5", [(self.arranged, None, self.window)], seen=self.seen)

    def _head(self) -> dict[str, str]:
        """Return by what the job is known again once it is done."""
        if not self.running.resume:
            return {}
        # What was appended is no longer behind the end.
        window = None if self.appends else self.window
        return in_head(facts_of_job("hdf5", [(self.arranged, None, window)], appends=self.appends))

    def _is_done(self, head: Mapping[str, str]) -> bool:
        """Return whether the part that was written last is this one."""
        try:
            file = h5py.File(self.path, "r")
        except OSError:
            return False
        with file:
            try:
                if not is_part_done(load(file, self.arranged.key), head):
                    return False
            except ValueError:
                return False
            dataset = file[self.arranged.key]
            chunk_shape = dataset.chunks or self.arranged.plan.chunk_shape
            target = Hdf5Target(dataset, chunk_shape, folder=self.path.parent)
            region = done_region(self.window, self.seen, appends=self.appends)
            return self.running.is_same(in_window(self.arranged, region), target, region)


def _finish_part(part: DatasetWriter, known: Known, head: Mapping[str, str]) -> Outcome:
    """Finish a part of a dataset, and renew its digests."""
    outcome = part.finish()
    if part.noted is None:
        forget(part.dataset.file, part.dataset.name)
    else:
        grows = part.item.arranged.bounds is not None and part.target is not None
        grid = part.target.grid if grows and part.target is not None else None
        known.renew(part.dataset, part.noted, head, grid=grid)
    return outcome


@dataclass(frozen=True, kw_only=True)
class PartOfDataset:
    """A part of a dataset that the caller has open."""

    dataset: h5py.Dataset
    """The dataset."""
    arranged: PlannedArray
    """What goes into the part."""
    window: TargetRegion
    """The part, in the dataset as it was when the order was made."""
    seen: Shape
    """Its shape at that time."""
    appends: bool
    """Whether it goes behind what is there."""
    again: Callable[[], tuple[PlannedArray, TargetRegion]] | None
    """Returns what goes behind the end, and where that is, if another thread has moved it."""
    running: RunOptions
    """The rest."""

    def check(self) -> None:
        """Refuse a file that cannot be written, or that is read at the same time."""
        check_open_file(self.dataset)
        refuse_own_source(self.arranged.given, path_of(self.dataset), self.dataset.name)

    def write(self) -> WriteReport:
        """Write into the open dataset."""
        began = time.perf_counter()
        self.check()
        path = path_of(self.dataset)
        without = self.running.for_handle()
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(scratch_beside(path))
            part = self._begin(stack, path, without)
            try:
                ran = without.write([part.to_job()], scratch)
                outcome = part.finish()
            except BaseException:
                self._shrink(part)
                raise
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(str(path), [outcome], ran=ran, began=began, advice=advice)

    def _shrink(self, part: DatasetWriter) -> None:
        """Take back that the dataset has grown for what could not be written, if all is as it was.

        What comes once is kept as far as it was written.
        """
        dataset, target = self.dataset, part.target
        if self.arranged.bounds is not None or target is None or not dataset.chunks:
            return
        with growing(dataset_identity(dataset), repr(dataset.name)):
            is_ours = dataset.shape == target.shape and part.seen is not None
            if is_ours and dataset.shape != part.seen:
                dataset.resize(part.seen)

    def _begin(self, stack: contextlib.ExitStack, path: Path, running: RunOptions) -> DatasetWriter:
        """Return what writes the part, of a dataset that has grown for it; no two grow at once."""
        dataset, arranged, window = self.dataset, self.arranged, self.window
        identity = dataset_identity(dataset)
        with contextlib.ExitStack() as held:
            held.enter_context(growing(identity, repr(dataset.name)))
            if dataset.shape != self.seen and self.again is not None:
                arranged, window = self.again()
            elif self.appends or any(map(operator.lt, dataset.shape, self.seen)):
                check_seen(dataset, self.seen)
            # Others may be at work on the file: its digests are not ours to renew.
            forget(dataset.file, dataset.name)
            shared = SharedArray(identity=identity, has_chunks=dataset.chunks is not None)
            seen = dataset.shape
            part = in_part(dataset, arranged, window, path, running, shared=shared)
            part = replace(part, seen=seen)
            if arranged.bounds is not None:
                stack.push(held.pop_all())  # It grows as its parts come.
        return part
