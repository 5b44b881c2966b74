"""What a call of ``to_hdf5`` comes down to, checked; and how it is carried out.

Three ways, by where the datasets go: new ones into a file that is built under
a hidden name, a part of one that is there into a copy of its file, and into a
file that the caller has open, where there is nothing to publish.
"""

import contextlib
import errno
import os
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.codecs.encode import encoder_for
from lazyio.elements import TEXT, is_text
from lazyio.errors import BlockError, TargetError
from lazyio.grid import Region, box_shape
from lazyio.planning.plan import Advice
from lazyio.run.report import WriteReport
from lazyio.run.write import Job, Ran
from lazyio.safety import redo
from lazyio.safety.digests import PAYLOADS, Noted, Table
from lazyio.safety.hdf5_digests import Known, forget, load, store, table_of
from lazyio.safety.space import require_space
from lazyio.safety.workdir import WorkDirectory
from lazyio.spec import Shape
from lazyio.targets.building import (
    Building,
    building,
    guarded,
    in_place,
    is_added_in_place,
    resumable,
)
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
    element_dtype,
    link_dataset,
)
from lazyio.targets.payloads import Nowhere
from lazyio.targets.window import WindowTarget
from lazyio.writing.arrange import Arranged, in_window
from lazyio.writing.hdf5_existing import refuse_unusable
from lazyio.writing.jobs import begin_keeping, facts_of_job, in_head, is_part_done, kept_of
from lazyio.writing.places import (
    check_hdf5_place,
    check_key_is_free,
    check_open_file,
    refuse_own_source,
)
from lazyio.writing.report import Outcome, done_before, outcome_of, report_on
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
        outcomes = [done_before(item.arranged) for item in done]
        n_done = sum(item.arranged.plan.n_tasks for item in done)
        ran, advice = Ran(n_blocks=0), self.running.advice
        if rest.items:
            written, ran, found = rest._write()
            outcomes, advice = outcomes + written, advice + found
        ran = Ran(n_blocks=ran.n_blocks + n_done, n_kept=ran.n_kept + n_done)
        return report_on(str(self.path), outcomes, ran=ran, began=began, advice=advice)

    def _write(self) -> tuple[list[Outcome], Ran, Advice]:
        """Write datasets of which none is done."""
        facts = self._facts(self.items) if self.running.resume else None
        with contextlib.ExitStack() as stack:
            work = stack.enter_context(WorkDirectory(self.path, facts=facts))
            # Again, now that no other writer can publish between the check and the copy.
            old = self.path if self.check() else None
            nbytes = 0 if work.is_resumed else sum(map(_least_nbytes, self.items))
            is_plain = not any(map(_needs_libhdf5, self.items))
            opened = _opened(work, old, self.libver, self.running, nbytes, is_plain=is_plain)
            with opened as built, contextlib.ExitStack() as inner:
                made = built.call(
                    lambda: _make(
                        built.file, self.items, self.path, self.running, replace_old=self.overwrite
                    )
                )
                advice = _keep(work, made, built, inner)
                jobs = [one.to_job() for one in made if one.target is not None]
                ran = self.running.write(jobs, work.scratch, work.unsure, own=self.path)
                built.finishing()
                outcomes = built.call(lambda: self._finish(built.file, made))
            advice += _publish(work)
        return outcomes, ran, advice

    def _finish(self, file: h5py.File, made: Sequence["_Made"]) -> list[Outcome]:
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
        """Return the datasets that are there already, written by the same job."""
        done = [item for item in self.items if self._is_done(item)]
        # A file that is to be made anew is either all there, or not at all.
        return done if self.mode in ("a", "r+") or len(done) == len(self.items) else []

    def _is_done(self, item: Hdf5Item) -> bool:
        """Return whether a dataset is there, written by the same job."""
        if not self.running.resume or item.link is not None or not self.path.is_file():
            return False
        head = self._head(item)
        try:
            with h5py.File(self.path, "r") as file:
                table = load(file, item.arranged.key)
                if table is None or table.job.get("facts") != head["facts"]:
                    return False
                if table.job["graphs"] == head["graphs"]:
                    return True
                return self._is_same(file[item.arranged.key], item, table)
        except (OSError, ValueError, KeyError):
            return False

    def _is_same(self, dataset: h5py.Dataset, item: Hdf5Item, table: Table) -> bool:
        """Return whether a chunk that is computed again is what is there."""
        target = Hdf5Target(dataset, item.arranged.plan.chunk_shape, folder=self.path.parent)
        if table.of != PAYLOADS or not target.encodes:
            return False
        target.payloads = Nowhere()
        target.keeping = kept_of(table, target)
        try:
            self.running.compare([item.arranged.job(target, keeping=target.keeping)])
        except BlockError:
            return False
        return True


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
        # Others may be at work on the file: its digests are not ours to renew.
        without = self.running.for_handle()
        with scratch_beside(path) as scratch:
            made = _make(self.group, self.items, path, without, replace_old=self.overwrite)
            jobs = [one.to_job() for one in made if one.target is not None]
            ran = without.write(jobs, scratch)
            outcomes = [one.finish() for one in made]
            for one in made:
                one.keep_digests(self.group, {})
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(str(path), outcomes, ran=ran, began=began, advice=advice)


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
    appends: bool
    """Whether it goes behind what is there."""
    running: Running
    """The rest."""

    def write(self) -> WriteReport:
        """Write the part into a copy of the file, which then takes its place."""
        began = time.perf_counter()
        head = self._head()
        if head and self._is_done(head):
            ran = Ran(n_blocks=self.arranged.plan.n_tasks, n_kept=self.arranged.plan.n_tasks)
            outcome = done_before(self.arranged)
            return report_on(str(self.path), [outcome], ran=ran, began=began, advice=())
        facts = self._facts() if self.running.resume else None
        with contextlib.ExitStack() as stack:
            work = stack.enter_context(WorkDirectory(self.path, facts=facts))
            refuse_unusable(self.path, self.arranged.key)
            opened = _opened(work, self.path, None, self.running, 0, is_plain=False)
            with opened as built, contextlib.ExitStack() as inner:
                part, known = built.call(lambda: self._begin(built))
                advice = _keep(work, [part], built, inner)
                ran = self.running.write([part.to_job()], work.scratch, work.unsure, own=self.path)
                built.finishing()
                outcome = built.call(lambda: _finish_part(part, known, head))
            advice += _publish(work)
        advice += self.running.advice
        return report_on(str(self.path), [outcome], ran=ran, began=began, advice=advice)

    def _begin(self, built: Building) -> tuple["_Made", Known | None]:
        """Return what writes the part, and what is known of the dataset before."""
        dataset = built.file[self.arranged.key]
        _check_seen(dataset, self.seen)
        known = Known.of(dataset) if self.running.noted() is not None else None
        old = self._old if built.is_resumable else None
        part = _in_part(dataset, self.arranged, self.window, self.path, self.running, old)
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
            elements[inside] = (dataset.astype(TEXT) if is_it_text else dataset)[there]
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
            with h5py.File(self.path, "r") as file:
                return is_part_done(load(file, self.arranged.key), head)
        except (OSError, ValueError):
            return False


def _finish_part(part: "_Made", known: Known | None, head: Mapping[str, str]) -> Outcome:
    """Finish a part of a dataset, and renew its digests."""
    outcome = part.finish()
    if known is None or part.noted is None:
        forget(part.dataset.file, part.dataset.name)
    else:
        known.renew(part.dataset, part.noted, head)
    return outcome


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
            # Others may be at work on the file: its digests are not ours to renew.
            forget(self.dataset.file, self.dataset.name)
            without = self.running.for_handle()
            part = _in_part(self.dataset, self.arranged, self.window, path, without)
            ran = without.write([part.to_job()], scratch)
            outcome = part.finish()
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(str(path), [outcome], ran=ran, began=began, advice=advice)


Hdf5Order = NewDatasets | DatasetsInGroup | PartOfFile | PartOfDataset


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A dataset that stands, and what fills it; neither where it is a link."""

    item: Hdf5Item
    dataset: Any = None
    target: Hdf5Target | None = None
    window: Region | None = None
    noted: Noted | None = None

    def to_job(self) -> Job:
        """Return the job that fills the dataset, or a part of it."""
        arranged, target = self.item.arranged, self.target
        if target is None:
            msg = f"{arranged.key!r} is a link, which nothing fills"
            raise TypeError(msg)
        if self.window is None:
            return arranged.job(target, keeping=target.keeping)
        return arranged.job(WindowTarget(target, self.window), self.window, target.keeping)

    def keep_digests(self, group: h5py.Group, job: Mapping[str, str]) -> None:
        """Store the digests of what was written, in place of any of what was there before."""
        key = posixpath.join(group.name, self.item.arranged.key)
        if self.noted is None:
            forget(group.file, key)
        else:
            store(group.file, key, table_of(self.dataset, self.noted.rows(), job))

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        arranged = self.item.arranged
        if self.target is None:
            return Outcome(key=arranged.key, plan=arranged.plan, engine="link")
        return outcome_of(arranged.key, self.to_job(), self.target.chunk_shape)


def _opened(
    work: WorkDirectory,
    old: Path | None,
    libver: Any,
    running: Running,
    nbytes: int,
    *,
    is_plain: bool,
) -> contextlib.AbstractContextManager[Building]:
    """Return the file that is built: a new one, a copy of the old one, or that itself."""
    is_in_place = work.is_in_place
    if not work.is_resumed:
        require_space(work.path.parent, nbytes, work.target)
        is_in_place = old is not None and is_added_in_place(old, work.built)
    n_good_bytes = work.n_good_bytes
    if is_in_place and not work.is_in_place:
        redo.begin(work.path, work.target)
    work.save_job()
    if is_in_place:
        return in_place(work.target, work.path, nbytes=n_good_bytes)
    if running.resume:
        return resumable(work.built, libver, old=old)
    if is_plain:
        return building(work.built, libver)
    return guarded(work.built, libver, nbytes=0 if old is None else n_good_bytes)


def _needs_libhdf5(item: Hdf5Item) -> bool:
    """Return whether libhdf5 has to encode elements, or to write them where there are no chunks."""
    plan, options = item.arranged.plan, item.options
    has_chunks = bool(plan.shape) and not options.is_contiguous and not is_text(plan.dtype)
    return not has_chunks or encoder_for(options.filters, plan.dtype.itemsize) is None


def _publish(work: WorkDirectory) -> Advice:
    """Give a file its name, or change the one that has it; says which, of one that was there."""
    if not work.is_in_place:
        work.publish()
        return ()
    work.change()
    return (("changed-in-place", "a large file was changed itself, by a log of the change"),)


def _least_nbytes(item: Hdf5Item) -> int:
    """Return the bytes that a dataset takes at least, as far as that is known."""
    has_data = item.link is None and not item.arranged.given.is_empty
    return item.arranged.plan.nbytes if has_data and not item.options.filters else 0


def _keep(
    work: WorkDirectory, made: Sequence[_Made], built: Building, stack: contextlib.ExitStack
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


def _make(
    group: h5py.Group,
    items: Sequence[Hdf5Item],
    path: Path,
    running: Running,
    *,
    replace_old: bool,
) -> list[_Made]:
    """Make every dataset, its attributes and dimensions; nothing is computed yet."""
    made = []
    uses: list[tuple[str, ScaleUse]] = []
    for item in items:
        key = item.arranged.key
        if replace_old:
            uses += [(key, use) for use in remove_dataset(group, key)]
        made.append(_make_one(group, item, path, running.noted()))
    # Coordinates first: other arrays have them as their scales.
    named = [one for one in made if one.item.dims and one.dataset is not None]
    for one in sorted(named, key=lambda one: one.dataset.ndim):
        attach_dimensions(one.dataset, one.item.dims or ())
    for key, use in uses:
        attach_again(group[key], use)
    return made


def _make_one(group: h5py.Group, item: Hdf5Item, path: Path, noted: Noted | None) -> _Made:
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
    target = Hdf5Target(dataset, plan.chunk_shape, folder=path.parent, noted=noted)
    return _Made(item=item, dataset=dataset, target=target, noted=noted)


def _in_part(
    dataset: h5py.Dataset,
    arranged: Arranged,
    window: Window,
    path: Path,
    running: Running,
    old: Callable[[Region], npt.NDArray[Any]] | None = None,
) -> _Made:
    """Return the job that writes a part of a dataset, which has grown for it."""
    if dataset.shape != window.shape:
        with disk_errors(path.parent):
            dataset.resize(tuple(map(max, dataset.shape, window.shape)))
        grow_dimensions(dataset)
    chunk_shape = dataset.chunks or arranged.plan.chunk_shape
    fitted = in_window(arranged, window.region)
    noted = running.noted()
    target = Hdf5Target(dataset, chunk_shape, folder=path.parent, noted=noted, old=old)
    item = Hdf5Item(arranged=fitted, options=Hdf5Options())
    return _Made(item=item, dataset=dataset, target=target, window=window.region, noted=noted)


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
