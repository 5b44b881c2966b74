"""Parts of arrays that are there: in a local folder, or one that the caller has open."""

import contextlib
import errno
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from lazyio.errors import TargetError
from lazyio.run.report import WriteReport
from lazyio.safety.digests import Noted
from lazyio.safety.job import Facts
from lazyio.safety.workdir import WorkDirectory
from lazyio.safety.zarr_digests import (
    Known,
    forget,
    load_or_none,
)
from lazyio.spec import Shape
from lazyio.targets.disk import disk_errors
from lazyio.targets.zarr import (
    METADATA_FILES,
    PARTIAL,
    ZarrTarget,
    local_folder,
)
from lazyio.writing.arrange import Arranged, in_window
from lazyio.writing.jobs import facts_of_job, in_head, is_part_done
from lazyio.writing.places import refuse_own_source
from lazyio.writing.report import report_on, report_with_done
from lazyio.writing.running import OPEN_HANDLE, Running, scratch_beside
from lazyio.writing.windows import Window, done_region
from lazyio.writing.zarr_filling import (
    Made,
    folder_of,
    keep,
)
from lazyio.writing.zarr_groups import publish_arrays
from lazyio.writing.zarr_stores import (
    check_open_array,
    node_name,
    renew_consolidated,
    resolved_name,
)


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
        if head and is_part_done(load_or_none(final), head) and self._is_same(final):
            return report_with_done(str(self.root), [self.arranged], None, began=began, advice=())
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
            part = _in_part(array, self, noted=self._noted(array))
            work.save_job()
            if self.running.resume:
                advice += keep(work, [part], stack)
            ran = self.running.write([part.to_job()], work.scratch)
            outcome = part.finish()
            part.tell_shape()
            if part.noted is None:
                forget(work.built)
            else:
                known.renew(work.built, part.array, part.noted, head, grid=part.target.grid)
            publish_arrays([work], self.root, [self.name], array.metadata.zarr_format)
        return report_on(str(self.root), [outcome], ran=ran, began=began, advice=advice)

    def _is_same(self, final: Path) -> bool:
        """Return whether a chunk of the part that was written last comes out again."""
        target = ZarrTarget(zarr.open_array(final, mode="r"), keeps_empty=bool(self.keeps_empty))
        region = done_region(self.window, self.seen, appends=self.appends)
        return self.running.is_same(in_window(self.arranged, region), target, region)

    def _noted(self, array: Any) -> Noted | None:
        return self.running.noted(self.window.shape, array.shards or array.chunks)

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
        with scratch_beside(folder_of(self.array.store)) as scratch:
            if (folder := local_folder(self.array)) is not None:
                # Others may be at work on the array: its digests are not ours to renew.
                forget(folder)
            part = _in_part(self.array, self)
            ran = self.running.for_handle().write([part.to_job()], scratch)
            outcome = part.finish()
            part.tell_shape()
        if part.target.shape != self.seen:
            renew_consolidated(self.array.store, self.array.path)
        advice = (*self.running.advice, OPEN_HANDLE)
        name = node_name(self.array.store, self.array.path)
        return report_on(name, [outcome], ran=ran, began=began, advice=advice)


def _in_part(array: Any, order: PartOfStore | PartOfArray, noted: Noted | None = None) -> Made:
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
    arranged = order.arranged
    target = ZarrTarget(
        array, keeps_empty=keeps_empty, replaces=True, noted=noted, bounds=arranged.bounds
    )
    region = None
    if arranged.bounds is None:
        arranged, region = in_window(arranged, window.region), window.region
    return Made(arranged=arranged, array=array, target=target, window=region, noted=noted)


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
