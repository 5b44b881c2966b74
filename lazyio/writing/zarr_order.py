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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from lazyio.errors import TargetError
from lazyio.run.report import WriteReport
from lazyio.run.write import Job
from lazyio.safety.workdir import WorkDirectory
from lazyio.spec import Shape
from lazyio.targets.disk import disk_errors
from lazyio.targets.window import WindowTarget
from lazyio.targets.zarr import METADATA_FILES, ZarrOptions, ZarrTarget, create_array
from lazyio.writing.arrange import Arranged, in_window
from lazyio.writing.places import check_zarr_place, make_groups, refuse_own_source
from lazyio.writing.report import Outcome, outcome_of, report_on
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
        with contextlib.ExitStack() as stack:
            works = [stack.enter_context(work) for work in self._places(is_kept)]
            if self.check() != is_kept:
                msg = f"{self.root} was made or removed by another program just now; run it again"
                raise TargetError(errno.EBUSY, msg)
            made = []
            for at, item in enumerate(self.items):
                # In a store that is there every array has a hidden folder of its own.
                built = works[at if is_kept else 0].built
                made.append(_make(built, "" if is_kept else item.arranged.key, item))
            n_blocks = self.running.write([one.job for one in made], works[0].scratch)
            outcomes = [one.finish() for one in made]
            for work, item in zip(works, self.items, strict=False):
                key = item.arranged.key if is_kept else ""
                make_groups(self.root, key, item.options.zarr_format)
                if not is_kept:
                    _consolidate_new(work.built)
                work.publish()
        if is_kept:
            for path in _one_a_group(self.items):
                _renew_above(self.root, path)
        return report_on(
            str(self.root), outcomes, n_blocks=n_blocks, began=began, advice=self.running.advice
        )

    def _places(self, is_kept: bool) -> Iterator[WorkDirectory]:
        """Yield the hidden folders: one for a new store, else one for each array."""
        if not is_kept:
            yield WorkDirectory(self.root)
            return
        for item in self.items:
            yield WorkDirectory(self.root / item.arranged.key, folder=self.root)


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
                n_blocks = self.running.write([one.job for one in made], work.scratch)
                outcomes = [one.finish() for one in made]
            work.publish()
        advice = self.running.advice
        return report_on(str(self.path), outcomes, n_blocks=n_blocks, began=began, advice=advice)


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
            n_blocks = self.running.write([one.job for one in made], scratch)
            outcomes = [one.finish() for one in made]
        for path in _one_a_group(self.items):
            renew_consolidated(self.store, path)
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(self.name, outcomes, n_blocks=n_blocks, began=began, advice=advice)


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
    running: Running
    """The rest."""

    def write(self) -> WriteReport:
        """Write the part into a linked copy of the array, which then takes its place."""
        began = time.perf_counter()
        final = self.root / self.name if self.name else self.root
        with WorkDirectory(final, folder=self.root if self.name else None) as work:
            with disk_errors(self.root.parent):
                _link_tree(final, work.built)
            array = zarr.open_array(work.built, mode="r+")
            part = _in_part(array, self)
            n_blocks = self.running.write([part.job], work.scratch)
            outcome = part.finish()
            work.publish()
        _renew_above(self.root, self.name)
        advice = self.running.advice
        return report_on(str(self.root), [outcome], n_blocks=n_blocks, began=began, advice=advice)


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
            part = _in_part(self.array, self)
            n_blocks = self.running.write([part.job], scratch)
            outcome = part.finish()
        if self.window.shape != self.seen:
            renew_consolidated(self.array.store, self.array.path)
        advice = (*self.running.advice, OPEN_HANDLE)
        name = node_name(self.array.store, self.array.path)
        return report_on(name, [outcome], n_blocks=n_blocks, began=began, advice=advice)


ZarrOrder = NewArrays | NewZip | ArraysInStore | PartOfStore | PartOfArray


@dataclass(frozen=True, kw_only=True)
class _Made:
    """An array that stands, and the job that fills it."""

    key: str
    job: Job
    chunk_shape: Shape

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        return outcome_of(self.key, self.job, self.chunk_shape)


def _make(
    store: Any,
    path: str,
    item: ZarrItem,
    *,
    overwrite: bool = False,
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
    target = ZarrTarget(array, keeps_empty=bool(options.write_empty_chunks))
    return _Made(key=arranged.key, job=arranged.job(target), chunk_shape=array.chunks)


def _in_part(array: Any, order: PartOfStore | PartOfArray) -> _Made:
    """Return the job that writes a part of an array, which has grown for it."""
    window = order.window
    if array.shape != order.seen:
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
    target = ZarrTarget(array, keeps_empty=keeps_empty, replaces=True)
    fitted = in_window(order.arranged, window.region)
    job = fitted.job(WindowTarget(target, window.region), window.region)
    return _Made(key=fitted.key, job=job, chunk_shape=array.chunks)


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
