"""New HDF5 datasets: what fills them, in a file that is built or one that is open."""

import contextlib
import errno
import os
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from lazyio.atomic.digests import NotedDigests, Table
from lazyio.atomic.fsync import require_space
from lazyio.atomic.hdf5_digests import forget, load, store, table_of
from lazyio.atomic.workdir import WorkDirectory
from lazyio.dtypes import DTYPE_ATTRIBUTE, Shape, is_text, original, widened
from lazyio.errors import TargetError
from lazyio.execution.report import WriteReport
from lazyio.execution.task import WriteTask
from lazyio.planning.plan import Advice
from lazyio.regions import Region
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.hdf5.attributes import RESERVED
from lazyio.storage.hdf5.dataset import Hdf5Options, Hdf5Target, create_dataset, link_dataset
from lazyio.storage.hdf5.dimension_scales import (
    ScaleUse,
    attach_again,
    attach_dimensions,
    grow_dimensions,
    remove_dataset,
)
from lazyio.storage.hdf5.file import OpenMode, building, in_place, is_added_in_place, resumable
from lazyio.storage.region_target import RegionTarget, SharedArray
from lazyio.writing.array_plan import PlannedArray, in_window
from lazyio.writing.compatibility import TargetRegion
from lazyio.writing.resume import begin_keeping, facts_of_job, in_head
from lazyio.writing.run_options import (
    OPEN_HANDLE,
    Outcome,
    RunOptions,
    Written,
    outcome_of,
    report_on,
    report_with_done,
    scratch_beside,
)
from lazyio.writing.target_checks import (
    check_hdf5_place,
    check_key,
    check_key_is_free,
    check_open_file,
    refuse_own_source,
)


@dataclass(frozen=True, kw_only=True)
class Hdf5Item:
    """One dataset that is to be made."""

    arranged: PlannedArray
    """What goes into it."""
    options: Hdf5Options
    """How it is stored."""
    dims: tuple[str, ...] | None = None
    """Names of its axes."""
    link: tuple[str, str] | None = None
    """Path and key of the dataset that it is a link to, instead."""
    contradicted: tuple[str, ...] = ()
    """In what that dataset is not what was asked for, each as a clause."""


@dataclass(frozen=True, kw_only=True)
class DatasetWriter:
    """A dataset that stands, and what fills it; neither where it is a link."""

    item: Hdf5Item
    dataset: Any = None
    target: Hdf5Target | None = None
    window: Region | None = None
    noted: NotedDigests | None = None
    shared: SharedArray | None = None
    """What other threads may write to as well."""
    seen: Shape | None = None
    """Extents that it had before it grew."""
    dropped: tuple[str, ...] = ()
    """Attributes of what it replaces that it has not."""

    def to_job(self) -> WriteTask:
        """Return the job that fills the dataset, or a part of it."""
        arranged, target = self.item.arranged, self.target
        if target is None:
            msg = f"{arranged.key!r} is a link, which nothing fills"
            raise TypeError(msg)
        if self.window is None:
            return arranged.job(target, keeping=target.keeping, shared=self.shared)
        part = RegionTarget(target, self.window, self.shared)
        return arranged.job(part, self.window, target.keeping)

    def keep_digests(self, group: h5py.Group, job: Mapping[str, str]) -> None:
        """Store the digests of what was written, in place of any of what was there before."""
        key = posixpath.join(group.name, self.item.arranged.key)
        if self.noted is None:
            forget(group.file, key)
        else:
            rows = self.noted.rows() if self.target is None else self.target.rows(self.noted)
            rims = self.noted.rims() if self.target is None else self.target.rims(self.noted)
            store(group.file, key, table_of(self.dataset, rows, rims, job))

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        arranged = self.item.arranged
        if self.target is None:
            return Outcome(key=arranged.key, plan=arranged.plan, engine="link")
        if arranged.given.pieces is not None:
            grow_dimensions(self.dataset)
        properties = self.dataset.id.get_create_plist()
        has_mark = (
            "_FillValue" in self.dataset.attrs
            or properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
        )
        shape = self.target.chunk_shape
        found = outcome_of(arranged, self.to_job(), shape, has_mark=has_mark)
        if self.dropped:
            what = (
                f"{arranged.key!r} has not the attributes of what it replaced: "
                f"{', '.join(self.dropped)}; give attrs= with those that still hold"
            )
            found = replace(found, advice=(*found.advice, ("attributes-dropped", what)))
        return found


def opened_for(
    work: WorkDirectory,
    old: Path | None,
    libver: Any,
    running: RunOptions,
    nbytes: int,
    *,
    is_read: bool,
) -> contextlib.AbstractContextManager[OpenMode]:
    """Return the file that is built: a new one, a copy of the old one, or that itself.

    ``is_read`` says that what is written is made of other datasets of the file.
    """
    is_in_place = work.is_in_place
    if not work.is_resumed:
        copied = old.stat().st_size if old is not None and is_read else 0
        require_space(work.path.parent, nbytes + copied, work.target)
        is_in_place = old is not None and is_added_in_place(old, work.built, is_read=is_read)
    n_good_bytes = work.n_good_bytes
    if is_in_place and not work.is_in_place:
        with disk_errors(work.target.parent):
            work.begin_in_place()
    work.save_job()
    if is_in_place:
        return in_place(work)
    if running.resume:
        return resumable(work.built, libver, old=old)
    return building(work.built, libver, nbytes=0 if old is None else n_good_bytes)


def publish(work: WorkDirectory) -> Advice:
    """Give a file its name, or change the one that has it; says which, of one that was there."""
    if not work.is_in_place:
        work.publish()
        return ()
    work.has_name()
    return (("changed-in-place", "a large file was changed itself, by a log of the change"),)


def least_nbytes(item: Hdf5Item) -> int:
    """Return the bytes that a dataset takes at least, as far as that is known."""
    given = item.arranged.given
    has_data = item.link is None and not given.is_empty and not given.comes_once
    return item.arranged.plan.nbytes if has_data and not item.options.filters else 0


def keep(
    work: WorkDirectory, made: Sequence[DatasetWriter], built: OpenMode, stack: contextlib.ExitStack
) -> Advice:
    """Let datasets go on where an interrupted run stopped, where the file can do that."""
    if not built.is_resumable:
        for one in made:
            if one.target is not None:
                built.prepare(one.target, one.dataset)
        return ()
    filled = []
    targets = []
    for one in made:
        if one.target is None:
            continue
        built.prepare(one.target, one.dataset)
        filled.append((one.target, one.dataset))
        corner = tuple(part.start for part in one.window or ())
        targets.append((one.target, corner, one.noted if one.target.encodes else None))
    journal, advice = begin_keeping(work, targets, lambda records: built.replay(records, filled))
    stack.callback(journal.close)
    return advice


def make(
    group: h5py.Group,
    items: Sequence[Hdf5Item],
    path: Path,
    running: RunOptions,
    *,
    replace_old: bool,
) -> list[DatasetWriter]:
    """Make every dataset, its attributes and dimensions; nothing is computed yet."""
    made = []
    uses: list[tuple[str, ScaleUse]] = []
    for item in items:
        key = item.arranged.key
        dropped: tuple[str, ...] = ()
        if replace_old:
            dropped = _dropped(group, item)
            uses += [(key, use) for use in remove_dataset(group, key)]
        made.append(replace(_make_one(group, item, path, running), dropped=dropped))
    # Coordinates first: other arrays have them as their scales.
    named = [one for one in made if one.item.dims and one.dataset is not None]
    for one in sorted(named, key=lambda one: one.dataset.ndim):
        attach_dimensions(one.dataset, one.item.dims or ())
    for key, use in uses:
        attach_again(group[key], use)
    return made


def _dropped(group: h5py.Group, item: Hdf5Item) -> tuple[str, ...]:
    """Return the attributes of a dataset that the one which replaces it has not."""
    old = group.get(item.arranged.key)
    if not isinstance(old, h5py.Dataset):
        return ()
    own = set(item.options.attrs) | {*RESERVED, DTYPE_ATTRIBUTE}
    if DTYPE_ATTRIBUTE in old.attrs:
        own |= {"units", "calendar"}  # lazyio's own, of times.
    return tuple(name for name in old.attrs if name not in own and not name.startswith("_Netcdf4"))


def _make_one(group: h5py.Group, item: Hdf5Item, path: Path, running: RunOptions) -> DatasetWriter:
    """Make a dataset, or a link to one."""
    arranged = item.arranged
    if item.link is not None:
        link_dataset(group, arranged.key, *item.link, path)
        return DatasetWriter(item=item)
    plan = arranged.plan
    noted = running.noted(plan.shape, plan.chunk_shape)
    dataset = create_dataset(
        group,
        arranged.key,
        shape=arranged.first_shape,
        chunk_shape=plan.chunk_shape,
        dtype=plan.dtype,
        options=item.options,
    )
    target = Hdf5Target(
        dataset,
        plan.chunk_shape,
        folder=path.parent,
        noted=noted,
        bounds=arranged.bounds,
        rewrites=arranged.given.pieces is not None,
    )
    return DatasetWriter(item=item, dataset=dataset, target=target, noted=noted)


def in_part(
    dataset: h5py.Dataset,
    arranged: PlannedArray,
    window: TargetRegion,
    path: Path,
    running: RunOptions,
    old: Callable[[Region], npt.NDArray[Any]] | None = None,
    shared: SharedArray | None = None,
) -> DatasetWriter:
    """Return the job that writes a part of a dataset, which has grown for it."""
    if dataset.shape != window.shape:
        with disk_errors(path.parent):
            dataset.resize(tuple(map(max, dataset.shape, window.shape)))
        grow_dimensions(dataset)
    if is_text(arranged.form.dtype) and DTYPE_ATTRIBUTE in dataset.attrs:
        form = original(arranged.form.dtype, dataset.attrs)
        if form is not None and widened(form, arranged.form.original) is not form:
            # Longer text comes to it than it was made for.
            del dataset.attrs[DTYPE_ATTRIBUTE]
    chunk_shape = dataset.chunks or arranged.plan.chunk_shape
    noted = running.noted(window.shape, chunk_shape)
    target = Hdf5Target(
        dataset,
        chunk_shape,
        folder=path.parent,
        noted=noted,
        bounds=arranged.bounds,
        rewrites=True,
        old=old,
    )
    region = None
    if arranged.bounds is None:
        arranged, region = in_window(arranged, window.region), window.region
    item = Hdf5Item(arranged=arranged, options=Hdf5Options())
    return DatasetWriter(
        item=item, dataset=dataset, target=target, window=region, noted=noted, shared=shared
    )


def check_seen(dataset: h5py.Dataset, seen: Shape) -> None:
    """Refuse a dataset that has grown or shrunk since its part was chosen."""
    if dataset.shape != seen:
        msg = (
            f"{dataset.name!r} has shape {dataset.shape} now and had {seen} when the part was "
            "chosen; make the call again"
        )
        raise TargetError(errno.EBUSY, msg)


def path_of(item: h5py.Group | h5py.Dataset) -> Path:
    """Return the path of an open file, links resolved; what names it where it lies in memory."""
    name = item.file.filename
    return Path(os.path.realpath(name)) if os.path.exists(name) else Path(name)


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
    """Whether existing datasets may be replaced."""
    libver: Any
    """File format bounds."""
    running: RunOptions
    """The rest."""
    compared: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False, compare=False)
    """Whether a chunk of what is done came out again, by key and digests."""

    def check(self) -> bool:
        """Refuse a place that may not be written, and return whether it is added to."""
        done = self._done()
        given = {item.arranged.key: item.arranged.given for item in self.items if item not in done}
        if not given:
            return True
        return check_hdf5_place(given, self.path, self.mode, replace=self.overwrite)

    def write(self) -> WriteReport:
        """Write the file and give it its name, or leave what was there."""
        began = time.perf_counter()
        self.check()
        done = self._done()
        rest = replace(self, items=tuple(item for item in self.items if item not in done))
        write = (rest._write) if rest.items else None
        arranged = [item.arranged for item in done]
        advice = self.running.advice
        return report_with_done(str(self.path), arranged, write, began=began, advice=advice)

    def _write(self) -> Written:
        """Write datasets of which none is done."""
        facts = self._facts(self.items) if self.running.resume else None
        with contextlib.ExitStack() as stack:
            work = stack.enter_context(WorkDirectory(self.path, facts=facts))
            # Again, now that no other writer can publish between the check and the copy.
            old = self.path if self.check() else None
            nbytes = 0 if work.is_resumed else sum(map(least_nbytes, self.items))
            is_read = any(item.arranged.given.reads(self.path) for item in self.items)
            opened = opened_for(work, old, self.libver, self.running, nbytes, is_read=is_read)
            with opened as built, contextlib.ExitStack() as inner:
                made = built.call(
                    lambda: make(
                        built.file, self.items, self.path, self.running, replace_old=self.overwrite
                    )
                )
                advice = keep(work, made, built, inner)
                jobs = [one.to_job() for one in made if one.target is not None]
                ran = self.running.write(jobs, work.scratch)
                outcomes = built.call(lambda: self._finish(built.file, made))
            advice += publish(work)
        return outcomes, ran, (*advice, *work.advice)

    def _finish(self, file: h5py.File, made: Sequence[DatasetWriter]) -> list[Outcome]:
        outcomes = [one.finish() for one in made]
        for one in made:
            one.keep_digests(file, self._head(one.item))
        return outcomes

    def _facts(self, items: Sequence[Hdf5Item]) -> dict[str, Any]:
        """Return what the job is."""
        several = [(item.arranged, item.options, None) for item in items]
        others = [(item.dims, item.link) for item in items]
        return facts_of_job("hdf5", several, libver=self.libver, others=others)

    def _head(self, item: Hdf5Item) -> dict[str, str]:
        """Return by what the job is known again once it is done."""
        return in_head(self._facts([item])) if self.running.resume else {}

    def _done(self) -> list[Hdf5Item]:
        """Return the existing datasets that the same job has written."""
        done = [item for item in self.items if self._is_done(item)]
        # A file that is to be made anew is either all there, or not at all.
        return done if self.mode in ("a", "r+") or len(done) == len(self.items) else []

    def _is_done(self, item: Hdf5Item) -> bool:
        """Return whether a dataset is there, written by the same job."""
        if not self.running.resume or item.link is not None or not self.path.is_file():
            return False
        key, head = item.arranged.key, self._head(item)
        try:
            file = h5py.File(self.path, "r")
        except OSError:
            return False
        with file:
            table = _table_or_none(file, key)
            if table is None or table.job.get("facts") != head["facts"]:
                return False
            # A check comes before every write, and need not compute the same twice.
            known = (key, table.head())
            if known not in self.compared:
                target = Hdf5Target(
                    file[key], item.arranged.plan.chunk_shape, folder=self.path.parent
                )
                self.compared[known] = self.running.is_same(item.arranged, target)
            return self.compared[known]


def _table_or_none(file: h5py.File, key: str) -> Table | None:
    """Return the digests of a dataset, ``None`` where there are none that can be read."""
    try:
        return load(file, key) if isinstance(file.get(key), h5py.Dataset) else None
    except (OSError, ValueError, KeyError):
        return None


@dataclass(frozen=True, kw_only=True)
class DatasetsInGroup:
    """Datasets that go into a group of a file that the caller has open."""

    group: h5py.Group
    """The group."""
    items: tuple[Hdf5Item, ...]
    """The datasets, their keys counted from the group."""
    overwrite: bool
    """Whether existing datasets may be replaced."""
    running: RunOptions
    """The rest."""

    def check(self) -> None:
        """Refuse a file that cannot be written, or that is read at the same time."""
        check_open_file(self.group)
        for item in self.items:
            key = item.arranged.key
            check_key_is_free(self.group, key, replace=self.overwrite)
            whole = posixpath.join(self.group.name, key)
            check_key(whole)
            refuse_own_source(item.arranged.given, path_of(self.group), whole)

    def write(self) -> WriteReport:
        """Write into the open file."""
        began = time.perf_counter()
        self.check()
        path = path_of(self.group)
        # Others may be at work on the file: its digests are not ours to renew.
        without = self.running.for_handle()
        with scratch_beside(path) as scratch:
            made = make(self.group, self.items, path, without, replace_old=self.overwrite)
            jobs = [one.to_job() for one in made if one.target is not None]
            ran = without.write(jobs, scratch)
            outcomes = [one.finish() for one in made]
            for one in made:
                one.keep_digests(self.group, {})
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(str(path), outcomes, ran=ran, began=began, advice=advice)
