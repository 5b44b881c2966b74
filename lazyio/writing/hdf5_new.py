"""Datasets that are to be made: in a file that is built, or one that the caller has open."""

import contextlib
import posixpath
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py

from lazyio.errors import BlockError
from lazyio.run.report import WriteReport
from lazyio.safety.digests import PAYLOADS, Table
from lazyio.safety.hdf5_digests import load
from lazyio.safety.workdir import WorkDirectory
from lazyio.targets.hdf5 import (
    Hdf5Target,
)
from lazyio.targets.payloads import Nowhere
from lazyio.writing.hdf5_filling import (
    Hdf5Item,
    Made,
    keep,
    least_nbytes,
    make,
    opened_for,
    path_of,
    publish,
)
from lazyio.writing.jobs import facts_of_job, in_head, kept_of
from lazyio.writing.places import (
    check_hdf5_place,
    check_key,
    check_key_is_free,
    check_open_file,
    refuse_own_source,
)
from lazyio.writing.report import Outcome, Written, report_on, report_with_done
from lazyio.writing.running import OPEN_HANDLE, Running, scratch_beside


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
            opened = opened_for(work, old, self.libver, self.running, nbytes)
            with opened as built, contextlib.ExitStack() as inner:
                made = built.call(
                    lambda: make(
                        built.file, self.items, self.path, self.running, replace_old=self.overwrite
                    )
                )
                advice = keep(work, made, built, inner)
                jobs = [one.to_job() for one in made if one.target is not None]
                ran = self.running.write(jobs, work.scratch, work.unsure, own=self.path)
                outcomes = built.call(lambda: self._finish(built.file, made))
            advice += publish(work)
        return outcomes, ran, (*advice, *work.advice)

    def _finish(self, file: h5py.File, made: Sequence[Made]) -> list[Outcome]:
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
