"""What a call of ``to_zarr`` comes down to, checked; and how it is carried out.

A new store is built whole under a hidden name, an array for a store that is
there inside its folder; a part of an array in a linked copy of it. Stores
that are no local folder, and arrays that the caller has open, are written
where they are.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from lazyio.errors import BlockError, TargetError
from lazyio.grid import Region
from lazyio.planning.plan import Advice
from lazyio.run.report import WriteReport
from lazyio.run.write import Job, Ran
from lazyio.safety.digests import PAYLOADS, Noted, Table
from lazyio.safety.job import Facts
from lazyio.safety.space import require_space
from lazyio.safety.workdir import WorkDirectory
from lazyio.safety.zarr_digests import (
    Known,
    facts_of,
    forget,
    load,
    load_or_none,
    store,
)
from lazyio.spec import Shape
from lazyio.targets.disk import disk_errors
from lazyio.targets.window import WindowTarget
from lazyio.targets.zarr import (
    METADATA_FILES,
    PARTIAL,
    ZarrOptions,
    ZarrTarget,
    create_array,
    local_folder,
)
from lazyio.writing.arrange import Arranged, in_window
from lazyio.writing.jobs import begin_keeping, facts_of_job, in_head, is_part_done, kept_of
from lazyio.writing.places import check_zarr_place, make_groups, refuse_own_source
from lazyio.writing.report import Outcome, done_before, outcome_of, report_on
from lazyio.writing.running import OPEN_HANDLE, Running, scratch_beside
from lazyio.writing.windows import Window
from lazyio.writing.zarr_stores import (
    check_mode_of,
    check_open_array,
    check_place_in,
    node_name,
    outermost,
    renew_consolidated,
    resolved_name,
)


@dataclass(frozen=True, kw_only=True)
class ZarrItem:
    """One array that is to be made."""

    arranged: Arranged
    """What goes into it; its key is the path inside the store."""
    options: ZarrOptions
    """How it is stored."""


@dataclass(frozen=True, kw_only=True)
class NewArrays:
    """Arrays that go into a local store, which may be there or not."""

    root: Path
    """Folder of the store."""
    items: tuple[ZarrItem, ...]
    """The arrays."""
    mode: str
    """h5py's file mode; ``w`` replaces the named arrays only."""
    overwrite: bool
    """Whether arrays that are there may be replaced."""
    running: Running
    """The rest."""

    def check(self) -> bool:
        """Refuse a store that may not be written, and return whether it is added to."""
        kept = False
        for item in self.items:
            if self._is_done(item):
                kept = True
                continue
            kept = check_zarr_place(
                item.arranged.given,
                self.root,
                item.arranged.key,
                self.mode,
                item.options.zarr_format,
                replace=self.overwrite or self.mode == "w",
            )
        return kept

    def write(self) -> WriteReport:
        """Write the arrays and give them their names, or leave what was there."""
        began = time.perf_counter()
        is_kept = self.check()
        done = [item for item in self.items if self._is_done(item)]
        rest = replace(self, items=tuple(item for item in self.items if item not in done))
        outcomes = [done_before(item.arranged) for item in done]
        n_done = sum(item.arranged.plan.n_tasks for item in done)
        ran, advice = Ran(n_blocks=0), self.running.advice
        if rest.items:
            written, ran, found = rest._write(is_kept)
            outcomes, advice = outcomes + written, advice + found
        ran = Ran(n_blocks=ran.n_blocks + n_done, n_kept=ran.n_kept + n_done)
        return report_on(str(self.root), outcomes, ran=ran, began=began, advice=advice)

    def _write(self, is_kept: bool) -> tuple[list[Outcome], Ran, Advice]:
        """Write arrays of which none is done."""
        with contextlib.ExitStack() as stack:
            works = [stack.enter_context(work) for work in self._places(is_kept)]
            if self.check() != is_kept:
                msg = f"{self.root} was made or removed by another program just now; run it again"
                raise TargetError(errno.EBUSY, msg)
            if not any(work.is_resumed for work in works):
                require_space(self.root.parent, sum(map(_least_nbytes, self.items)), self.root)
            made: list[_Made] = []
            advice: Advice = ()
            for work in works:
                # In a store that is there every array has a hidden folder of its own.
                items = [self.items[len(made)]] if is_kept else self.items
                several = [self._make(work, item, is_kept) for item in items]
                work.save_job()
                if self.running.resume:
                    advice += _keep(work, several, stack)
                made += several
            unsure = {key for work in works for key in work.unsure}
            ran = self.running.write([one.to_job() for one in made], works[0].scratch, unsure)
            outcomes = [one.finish() for one in made]
            for one, item in zip(made, self.items, strict=True):
                one.keep_digests(self._head(item))
            for work, item in zip(works, self.items, strict=False):
                key = item.arranged.key if is_kept else ""
                make_groups(self.root, key, item.options.zarr_format)
                if not is_kept:
                    _consolidate_new(work.built)
                work.publish()
        if is_kept:
            for path in _one_a_group(self.items):
                _renew_above(self.root, path)
        return outcomes, ran, advice

    def _make(self, work: WorkDirectory, item: ZarrItem, is_kept: bool) -> "_Made":
        path = "" if is_kept else item.arranged.key
        noted = self.running.noted()
        if not work.is_resumed:
            return _make(work.built, path, item, noted=noted)
        array = zarr.open_array(work.built, path=path, mode="r+")
        return _filled(array, item, noted)

    def _places(self, is_kept: bool) -> Iterator[WorkDirectory]:
        """Yield the hidden folders: one for a new store, else one for each array."""
        if not is_kept:
            yield WorkDirectory(self.root, facts=self._facts(self.items))
            return
        for item in self.items:
            final = self.root / item.arranged.key
            yield WorkDirectory(final, folder=self.root, facts=self._facts([item]))

    def _facts(self, items: Sequence[ZarrItem]) -> Facts | None:
        """Return what the job is, where it can be gone on with."""
        if not self.running.resume:
            return None
        return facts_of_job("zarr", [(item.arranged, item.options, None) for item in items])

    def _head(self, item: ZarrItem) -> dict[str, str]:
        facts = self._facts([item])
        return {} if facts is None else in_head(facts)

    def _is_done(self, item: ZarrItem) -> bool:
        """Return whether an array is there, written by the same job."""
        if not self.running.resume:
            return False
        folder = self.root / item.arranged.key
        try:
            table, head = load(folder), self._head(item)
        except ValueError:
            return False
        if table is None or table.job.get("facts") != head["facts"]:
            return False
        return table.job["graphs"] == head["graphs"] or self._is_same(folder, item, table)

    def _is_same(self, folder: Path, item: ZarrItem, table: Table) -> bool:
        """Return whether a chunk that is computed again is what is there."""
        array = zarr.open_array(folder, mode="r")
        one = _filled(array, item, None)
        one.target.keeping = kept_of(table, one.target)
        try:
            self.running.compare([one.to_job()])
        except BlockError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class NewZip:
    """Arrays that go into a new ``.zip`` file."""

    path: Path
    """The file."""
    items: tuple[ZarrItem, ...]
    """The arrays."""
    check_place: Any
    """Refuses a file that may not be written."""
    running: Running
    """The rest."""

    def write(self) -> WriteReport:
        """Write the file and give it its name, or leave what was there."""
        began = time.perf_counter()
        self.check_place()
        with WorkDirectory(self.path) as work:
            self.check_place()
            with contextlib.closing(zarr.storage.ZipStore(work.built, mode="w")) as store:
                made = [_make(store, item.arranged.key, item) for item in self.items]
                ran = self.running.write([one.to_job() for one in made], work.scratch)
                outcomes = [one.finish() for one in made]
            work.publish()
        advice = self.running.advice
        return report_on(str(self.path), outcomes, ran=ran, began=began, advice=advice)


@dataclass(frozen=True, kw_only=True)
class ArraysInStore:
    """Arrays that go into a store or group that the caller has open, or one behind a URL."""

    store: Any
    """As zarr-python has it."""
    inside: str
    """Path of the group in it that the caller named."""
    name: str
    """What the report calls it."""
    items: tuple[ZarrItem, ...]
    """The arrays, their keys counted from the root of the store."""
    mode: str
    """h5py's file mode; ``w`` replaces the named arrays only."""
    overwrite: bool
    """Whether arrays that are there may be replaced."""
    running: Running
    """The rest."""

    def check(self) -> None:
        """Refuse a store that may not be written, and to write over what is being read."""
        check_mode_of(self.store, self.inside, self.mode)
        root = resolved_name(self.store)
        for item in self.items:
            key = item.arranged.key
            refuse_own_source(item.arranged.given, root, key)
            replaces = self.overwrite or self.mode == "w"
            check_place_in(self.store, key, item.options.zarr_format, replace=replaces)

    def write(self) -> WriteReport:
        """Write the arrays where they are."""
        began = time.perf_counter()
        self.check()
        with scratch_beside(_folder_of(self.store)) as scratch:
            replaces = self.overwrite or self.mode == "w"
            made = [
                _make(self.store, item.arranged.key, item, overwrite=replaces)
                for item in self.items
            ]
            ran = self.running.for_handle().write([one.to_job() for one in made], scratch)
            outcomes = [one.finish() for one in made]
        for path in _one_a_group(self.items):
            renew_consolidated(self.store, path)
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(self.name, outcomes, ran=ran, began=began, advice=advice)


@dataclass(frozen=True, kw_only=True)
class PartOfStore:
    """A part of an array in a local folder."""

    root: Path
    """Folder of the store."""
    name: str
    """Path of the array in it."""
    arranged: Arranged
    """What goes into the part."""
    window: Window
    """The part, in the array as it was when the order was made."""
    seen: Shape
    """Its shape at that time."""
    keeps_empty: bool | None
    """Whether objects of fill value are stored; ``None`` leaves it to the array."""
    appends: bool
    """Whether it goes behind what is there."""
    running: Running
    """The rest."""

    def write(self) -> WriteReport:
        """Write the part into a linked copy of the array, which then takes its place."""
        began = time.perf_counter()
        final = self.root / self.name if self.name else self.root
        head = self._head()
        if head and is_part_done(load_or_none(final), head):
            ran = Ran(n_blocks=self.arranged.plan.n_tasks, n_kept=self.arranged.plan.n_tasks)
            outcome = done_before(self.arranged)
            return report_on(str(self.root), [outcome], ran=ran, began=began, advice=())
        facts = self._facts() if self.running.resume else None
        advice = self.running.advice
        with contextlib.ExitStack() as stack:
            folder = self.root if self.name else None
            work = stack.enter_context(WorkDirectory(final, folder=folder, facts=facts))
            known = Known.of(final, self.name, zarr.open_array(final, mode="r"))
            with disk_errors(self.root.parent):
                if work.is_resumed:
                    _remove_partial(work.built)
                else:
                    _link_tree(final, work.built)
            array = zarr.open_array(work.built, mode="r+")
            part = _in_part(array, self, noted=self.running.noted())
            work.save_job()
            if self.running.resume:
                advice += _keep(work, [part], stack)
            ran = self.running.write([part.to_job()], work.scratch, work.unsure)
            outcome = part.finish()
            if part.noted is None:
                forget(work.built)
            else:
                known.renew(work.built, part.array, part.noted, head)
            work.publish()
        _renew_above(self.root, self.name)
        return report_on(str(self.root), [outcome], ran=ran, began=began, advice=advice)

    def _facts(self) -> Facts:
        """Return what the job is."""
        return facts_of_job("zarr", [(self.arranged, None, self.window)], seen=self.seen)

    def _head(self) -> dict[str, str]:
        """Return by what the job is known again once it is done."""
        if not self.running.resume:
            return {}
        # What was appended is no longer behind the end.
        window = None if self.appends else self.window
        return in_head(facts_of_job("zarr", [(self.arranged, None, window)], appends=self.appends))


@dataclass(frozen=True, kw_only=True)
class PartOfArray:
    """A part of an array that the caller has open."""

    array: Any
    """The array."""
    arranged: Arranged
    """What goes into the part."""
    window: Window
    """The part."""
    seen: Shape
    """The array's shape when the part was chosen."""
    keeps_empty: bool | None
    """Whether objects of fill value are stored; ``None`` leaves it to the array."""
    running: Running
    """The rest."""

    def check(self) -> None:
        """Refuse an array that cannot be written, and to write over what is being read."""
        check_open_array(self.array, grows=self.window.shape != self.seen)
        refuse_own_source(self.arranged.given, resolved_name(self.array.store), self.array.path)

    def write(self) -> WriteReport:
        """Write into the open array."""
        began = time.perf_counter()
        self.check()
        with scratch_beside(_folder_of(self.array.store)) as scratch:
            if (folder := local_folder(self.array)) is not None:
                # Others may be at work on the array: its digests are not ours to renew.
                forget(folder)
            part = _in_part(self.array, self)
            ran = self.running.for_handle().write([part.to_job()], scratch)
            outcome = part.finish()
        if self.window.shape != self.seen:
            renew_consolidated(self.array.store, self.array.path)
        advice = (*self.running.advice, OPEN_HANDLE)
        name = node_name(self.array.store, self.array.path)
        return report_on(name, [outcome], ran=ran, began=began, advice=advice)


ZarrOrder = NewArrays | NewZip | ArraysInStore | PartOfStore | PartOfArray


@dataclass(frozen=True, kw_only=True)
class _Made:
    """An array that stands, and the job that fills it."""

    arranged: Arranged
    array: Any
    target: ZarrTarget
    window: Region | None = None
    noted: Noted | None = None

    def to_job(self) -> Job:
        """Return the job."""
        keeping = self.target.keeping
        if self.window is None:
            return self.arranged.job(self.target, keeping=keeping)
        target = WindowTarget(self.target, self.window)
        return self.arranged.job(target, self.window, keeping)

    def keep_digests(self, job: Mapping[str, str]) -> None:
        """Store the digests of what was written beside it, where there are any."""
        folder = local_folder(self.array)
        if self.noted is not None and folder is not None:
            facts = facts_of(folder, self.arranged.key)
            store(folder, Table(facts=facts, rows=self.noted.rows(), of=PAYLOADS, job=job))

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        return outcome_of(self.arranged.key, self.to_job(), self.array.chunks)


def _make(
    store: Any,
    path: str,
    item: ZarrItem,
    *,
    overwrite: bool = False,
    noted: Noted | None = None,
) -> _Made:
    """Make an array, still empty, and the job that fills it."""
    arranged, options = item.arranged, item.options
    array = create_array(
        store,
        path,
        shape=arranged.plan.shape,
        chunk_shape=arranged.plan.chunk_shape,
        shard_shape=arranged.plan.shard_shape,
        dtype=arranged.plan.dtype,
        options=options,
        overwrite=overwrite,
    )
    return _filled(array, item, noted)


def _filled(array: Any, item: ZarrItem, noted: Noted | None) -> _Made:
    """Return an array that stands, and what fills it."""
    target = ZarrTarget(array, keeps_empty=bool(item.options.write_empty_chunks), noted=noted)
    return _Made(arranged=item.arranged, array=array, target=target, noted=noted)


def _least_nbytes(item: ZarrItem) -> int:
    """Return the bytes that an array takes at least, as far as that is known."""
    is_plain = item.options.compressors is None and item.options.filters in (None, "auto")
    is_stored = bool(item.options.write_empty_chunks)
    return item.arranged.plan.nbytes if is_plain and is_stored else 0


def _keep(work: WorkDirectory, several: Sequence[_Made], stack: contextlib.ExitStack) -> Advice:
    """Let arrays go on where an interrupted run stopped."""
    targets = [
        (one.target, tuple(part.start for part in one.window or ()), one.noted) for one in several
    ]
    journal, advice = begin_keeping(work, targets)
    stack.callback(journal.close)
    return advice


def _in_part(array: Any, order: PartOfStore | PartOfArray, noted: Noted | None = None) -> _Made:
    """Return the job that writes a part of an array, which has grown for it."""
    window = order.window
    if array.shape not in (order.seen, window.shape):
        msg = (
            f"array {order.arranged.key!r} has shape {array.shape} now and had {order.seen} when "
            "the part was chosen; make the call again"
        )
        raise TargetError(errno.EBUSY, msg)
    if array.shape != window.shape:
        array.resize(window.shape)
    keeps_empty = order.keeps_empty
    if keeps_empty is None:
        keeps_empty = array.config.write_empty_chunks
    elif keeps_empty != array.config.write_empty_chunks:
        array = array.with_config({"write_empty_chunks": keeps_empty})
    target = ZarrTarget(array, keeps_empty=keeps_empty, replaces=True, noted=noted)
    fitted = in_window(order.arranged, window.region)
    return _Made(arranged=fitted, array=array, target=target, window=window.region, noted=noted)


def _link_tree(source: Path, copy: Path) -> None:
    """Copy a folder with links to its chunk objects, which are replaced and never changed."""

    def link(one: str, other: str) -> str:
        if Path(one).name in METADATA_FILES:
            return str(shutil.copyfile(one, other))
        try:
            # What a symbolic link leads to: from the copy the way there would be another.
            os.link(os.path.realpath(one), other)
        except OSError:  # A file system without links, or too many of one file.
            shutil.copyfile(one, other)
        return other

    shutil.copytree(source, copy, copy_function=link)


def _remove_partial(built: Path) -> None:
    """Remove objects that were being written when a run was killed."""
    for path in built.rglob(f"*{PARTIAL}"):
        path.unlink()


def _one_a_group(items: Sequence[ZarrItem]) -> list[str]:
    """Return the path of one array in each group: its metadata are renewed once for all."""
    paths = [item.arranged.key for item in items]
    return list({path.rpartition("/")[0]: path for path in paths}.values())


def _folder_of(store: Any) -> Path | None:
    """Return the folder of a local store, beside which parts of chunks may wait."""
    return Path(store.root) if isinstance(store, LocalStore) else None


def _renew_above(root: Path, path: str) -> None:
    """Renew consolidated metadata of a local store, which may be part of a larger one."""
    whole, below = outermost(root, path)
    renew_consolidated(LocalStore(whole), below)


def _consolidate_new(built: Path) -> None:
    """Give a new group of v2 the metadata of its arrays in one file, as xarray expects it."""
    if (built / ".zgroup").is_file():
        zarr.consolidate_metadata(built, zarr_format=2)
