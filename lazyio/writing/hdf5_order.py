"""What a call of ``to_hdf5`` comes down to, checked; and how it is carried out.

Three ways, by where the datasets go: new ones into a file that is built under
a hidden name, a part of one that is there into a copy of its file, and into a
file that the caller has open, where there is nothing to publish.
"""

import errno
import os
import posixpath
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from lazyio.errors import TargetError
from lazyio.run.report import WriteReport
from lazyio.run.write import Job
from lazyio.safety.workdir import WorkDirectory
from lazyio.spec import Shape
from lazyio.targets.dimensions import (
    ScaleUse,
    attach_again,
    attach_dimensions,
    grow_dimensions,
    remove_dataset,
)
from lazyio.targets.disk import disk_errors
from lazyio.targets.hdf5 import (
    Hdf5Options,
    Hdf5Target,
    create_dataset,
    hidden_file,
    link_dataset,
)
from lazyio.targets.window import WindowTarget
from lazyio.writing.arrange import Arranged, in_window
from lazyio.writing.hdf5_existing import refuse_unusable
from lazyio.writing.places import (
    check_hdf5_place,
    check_key_is_free,
    check_open_file,
    refuse_own_source,
)
from lazyio.writing.report import Outcome, outcome_of, report_on
from lazyio.writing.running import OPEN_HANDLE, Running, scratch_beside
from lazyio.writing.windows import Window


@dataclass(frozen=True, kw_only=True)
class Hdf5Item:
    """One dataset that is to be made."""

    arranged: Arranged
    """What goes into it."""
    options: Hdf5Options
    """How it is stored."""
    dims: tuple[str, ...] | None = None
    """Names of its axes."""
    link: tuple[str, str] | None = None
    """Path and key of the dataset that it is a link to, instead."""


@dataclass(frozen=True, kw_only=True)
class NewDatasets:
    """Datasets that go into a file of which only the path is known."""

    path: Path
    """The file."""
    items: tuple[Hdf5Item, ...]
    """The datasets."""
    mode: str
    """h5py's file mode."""
    overwrite: bool
    """Whether datasets that are there may be replaced."""
    libver: Any
    """File format bounds."""
    running: Running
    """The rest."""

    def check(self) -> bool:
        """Refuse a place that may not be written, and return whether it is added to."""
        given = {item.arranged.key: item.arranged.given for item in self.items}
        return check_hdf5_place(given, self.path, self.mode, replace=self.overwrite)

    def write(self) -> WriteReport:
        """Write the file and give it its name, or leave what was there."""
        began = time.perf_counter()
        self.check()
        with WorkDirectory(self.path) as work:
            # Again, now that no other writer can publish between the check and the copy.
            if self.check():
                with disk_errors(self.path.parent):
                    shutil.copyfile(self.path, work.built)
            with hidden_file(work.built, self.libver) as file:
                made = _make(file, self.items, self.path, replace_old=self.overwrite)
                n_blocks = self.running.write([one.job for one in made if one.job], work.scratch)
                outcomes = [one.finish() for one in made]
            work.publish()
        return report_on(
            str(self.path), outcomes, n_blocks=n_blocks, began=began, advice=self.running.advice
        )


@dataclass(frozen=True, kw_only=True)
class DatasetsInGroup:
    """Datasets that go into a group of a file that the caller has open."""

    group: h5py.Group
    """The group."""
    items: tuple[Hdf5Item, ...]
    """The datasets, their keys counted from the group."""
    overwrite: bool
    """Whether datasets that are there may be replaced."""
    running: Running
    """The rest."""

    def check(self) -> None:
        """Refuse a file that cannot be written, or that is read at the same time."""
        check_open_file(self.group)
        for item in self.items:
            key = item.arranged.key
            check_key_is_free(self.group, key, replace=self.overwrite)
            whole = posixpath.join(self.group.name, key)
            refuse_own_source(item.arranged.given, _path_of(self.group), whole)

    def write(self) -> WriteReport:
        """Write into the open file."""
        began = time.perf_counter()
        self.check()
        path = _path_of(self.group)
        with scratch_beside(path) as scratch:
            made = _make(self.group, self.items, path, replace_old=self.overwrite)
            n_blocks = self.running.write([one.job for one in made if one.job], scratch)
            outcomes = [one.finish() for one in made]
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(str(path), outcomes, n_blocks=n_blocks, began=began, advice=advice)


@dataclass(frozen=True, kw_only=True)
class PartOfFile:
    """A part of a dataset in a file of which only the path is known."""

    path: Path
    """The file."""
    arranged: Arranged
    """What goes into the part."""
    window: Window
    """The part, in the dataset as it was when the order was made."""
    seen: Shape
    """Its shape at that time."""
    running: Running
    """The rest."""

    def write(self) -> WriteReport:
        """Write the part into a copy of the file, which then takes its place."""
        began = time.perf_counter()
        with WorkDirectory(self.path) as work:
            refuse_unusable(self.path, self.arranged.key)
            with disk_errors(self.path.parent):
                shutil.copyfile(self.path, work.built)
            with hidden_file(work.built, None) as file:
                dataset = file[self.arranged.key]
                _check_seen(dataset, self.seen)
                part = _in_part(dataset, self.arranged, self.window, self.path)
                n_blocks = self.running.write([part.job] if part.job else [], work.scratch)
                outcome = part.finish()
            work.publish()
        advice = self.running.advice
        return report_on(str(self.path), [outcome], n_blocks=n_blocks, began=began, advice=advice)


@dataclass(frozen=True, kw_only=True)
class PartOfDataset:
    """A part of a dataset that the caller has open."""

    dataset: h5py.Dataset
    """The dataset."""
    arranged: Arranged
    """What goes into the part."""
    window: Window
    """The part, in the dataset as it was when the order was made."""
    seen: Shape
    """Its shape at that time."""
    running: Running
    """The rest."""

    def check(self) -> None:
        """Refuse a file that cannot be written, or that is read at the same time."""
        check_open_file(self.dataset)
        refuse_own_source(self.arranged.given, _path_of(self.dataset), self.dataset.name)

    def write(self) -> WriteReport:
        """Write into the open dataset."""
        began = time.perf_counter()
        self.check()
        path = _path_of(self.dataset)
        with scratch_beside(path) as scratch:
            _check_seen(self.dataset, self.seen)
            part = _in_part(self.dataset, self.arranged, self.window, path)
            n_blocks = self.running.write([part.job] if part.job else [], scratch)
            outcome = part.finish()
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(str(path), [outcome], n_blocks=n_blocks, began=began, advice=advice)


Hdf5Order = NewDatasets | DatasetsInGroup | PartOfFile | PartOfDataset


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A dataset that stands, and the job that fills it."""

    item: Hdf5Item
    dataset: Any = None
    job: Job | None = None

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        arranged = self.item.arranged
        if self.job is None:
            return Outcome(key=arranged.key, plan=arranged.plan, engine="link")
        return outcome_of(arranged.key, self.job, self.job.target.chunk_shape)


def _make(
    group: h5py.Group, items: Sequence[Hdf5Item], path: Path, *, replace_old: bool
) -> list[_Made]:
    """Make every dataset, its attributes and dimensions; nothing is computed yet."""
    made = []
    uses: list[tuple[str, ScaleUse]] = []
    for item in items:
        key = item.arranged.key
        if replace_old:
            uses += [(key, use) for use in remove_dataset(group, key)]
        made.append(_make_one(group, item, path))
    # Coordinates first: other arrays have them as their scales.
    named = [one for one in made if one.item.dims and one.dataset is not None]
    for one in sorted(named, key=lambda one: one.dataset.ndim):
        attach_dimensions(one.dataset, one.item.dims or ())
    for key, use in uses:
        attach_again(group[key], use)
    return made


def _make_one(group: h5py.Group, item: Hdf5Item, path: Path) -> _Made:
    """Make a dataset, or a link to one."""
    arranged = item.arranged
    if item.link is not None:
        link_dataset(group, arranged.key, *item.link, path)
        return _Made(item=item)
    plan = arranged.plan
    dataset = create_dataset(
        group,
        arranged.key,
        shape=plan.shape,
        chunk_shape=plan.chunk_shape,
        dtype=plan.dtype,
        options=item.options,
    )
    target = Hdf5Target(dataset, plan.chunk_shape, folder=path.parent)
    return _Made(item=item, dataset=dataset, job=arranged.job(target))


def _in_part(dataset: h5py.Dataset, arranged: Arranged, window: Window, path: Path) -> _Made:
    """Return the job that writes a part of a dataset, which has grown for it."""
    if dataset.shape != window.shape:
        with disk_errors(path.parent):
            dataset.resize(tuple(map(max, dataset.shape, window.shape)))
        grow_dimensions(dataset)
    chunk_shape = dataset.chunks or arranged.plan.chunk_shape
    fitted = in_window(arranged, window.region)
    target = Hdf5Target(dataset, chunk_shape, folder=path.parent)
    job = fitted.job(WindowTarget(target, window.region), window.region)
    item = Hdf5Item(arranged=fitted, options=Hdf5Options())
    return _Made(item=item, dataset=dataset, job=job)


def _check_seen(dataset: h5py.Dataset, seen: Shape) -> None:
    """Refuse a dataset that has grown or shrunk since its part was chosen."""
    if dataset.shape != seen:
        msg = (
            f"{dataset.name!r} has shape {dataset.shape} now and had {seen} when the part was "
            "chosen; make the call again"
        )
        raise TargetError(errno.EBUSY, msg)


def _path_of(item: h5py.Group | h5py.Dataset) -> Path:
    """Return the path of an open file, links resolved; what names it where it lies in memory."""
    name = item.file.filename
    return Path(os.path.realpath(name)) if os.path.exists(name) else Path(name)
