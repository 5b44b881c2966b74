"""Arrays that stand and are to be filled, and what fills them."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from lazyio.grid import Region
from lazyio.planning.plan import Advice
from lazyio.run.part import Job
from lazyio.safety.digests import Noted, Table
from lazyio.safety.workdir import WorkDirectory
from lazyio.safety.zarr_digests import facts_of, store, table_of
from lazyio.safety.zarr_places import Place, make_room
from lazyio.targets.in_process import Shared
from lazyio.targets.window import WindowTarget
from lazyio.targets.zarr import (
    ZarrOptions,
    ZarrTarget,
    create_array,
    local_folder,
)
from lazyio.writing.arrange import Arranged
from lazyio.writing.jobs import begin_keeping
from lazyio.writing.report import Outcome, outcome_of


@dataclass(frozen=True, kw_only=True)
class ZarrItem:
    """One array that is to be made."""

    arranged: Arranged
    """What goes into it; its key is the path inside the store."""
    options: ZarrOptions
    """How it is stored."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """An array that stands, and the job that fills it."""

    arranged: Arranged
    array: Any
    target: ZarrTarget
    window: Region | None = None
    noted: Noted | None = None
    shared: Shared | None = None
    """What other threads may write to as well."""

    def to_job(self) -> Job:
        """Return the job."""
        keeping = self.target.keeping
        if self.window is None:
            return self.arranged.job(self.target, keeping=keeping, shared=self.shared)
        target = WindowTarget(self.target, self.window, self.shared)
        return self.arranged.job(target, self.window, keeping)

    def keep_digests(self, job: Mapping[str, str], place: Place) -> None:
        """Store the digests of what was written beside it, where there are any."""
        folder = local_folder(self.array)
        if self.noted is not None and folder is not None:
            facts = facts_of(folder, self.arranged.key)
            store(folder, self.table(facts, place, job))
            make_room(folder)

    def table(
        self, facts: Mapping[str, str], place: Place, job: Mapping[str, str] | None = None
    ) -> Table:
        """Return the digests of what was written, which were noted."""
        noted = self.noted or Noted()
        rows, rims = self.target.rows(noted), self.target.rims(noted)
        array = self.target.array
        return table_of(array, facts, rows, rims, job=job, place=place.to_dict())

    def tell_shape(self) -> None:
        """Let readers see how long it has become, where it has grown."""
        if self.arranged.bounds is not None:
            self.array.resize(self.target.shape)

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        # Every array of Zarr has a fill value, of which 0 is no mark.
        has_mark = "_FillValue" in self.array.attrs or bool(self.array.fill_value)
        chunk_shape = self.array.chunks
        return outcome_of(self.arranged, self.to_job(), chunk_shape, has_mark=has_mark)


def make(store: Any, path: str, item: ZarrItem, *, noted: Noted | None = None) -> Made:
    """Make an array, still empty, and the job that fills it."""
    return filled(create_array(store, path, **settings_of(item)), item, noted)


def settings_of(item: ZarrItem) -> dict[str, Any]:
    """Return what :func:`~lazyio.targets.zarr.create_array` takes."""
    plan = item.arranged.plan
    return {
        "shape": item.arranged.first_shape,
        "chunk_shape": plan.chunk_shape,
        "shard_shape": plan.shard_shape,
        "dtype": plan.dtype,
        "options": item.options,
    }


def filled(array: Any, item: ZarrItem, noted: Noted | None) -> Made:
    """Return an array that stands, and what fills it."""
    target = ZarrTarget(
        array,
        keeps_empty=bool(item.options.write_empty_chunks),
        # A chunk of pieces may have to be written again, and hold nothing then.
        replaces=item.arranged.given.pieces is not None,
        noted=noted,
        bounds=item.arranged.bounds,
    )
    return Made(arranged=item.arranged, array=array, target=target, noted=noted)


def least_nbytes(item: ZarrItem) -> int:
    """Return the bytes that an array takes at least, as far as that is known."""
    is_plain = item.options.compressors is None and item.options.filters in (None, "auto")
    is_stored = bool(item.options.write_empty_chunks)
    is_known = not item.arranged.given.comes_once
    return item.arranged.plan.nbytes if is_plain and is_stored and is_known else 0


def keep(work: WorkDirectory, several: Sequence[Made], stack: contextlib.ExitStack) -> Advice:
    """Let arrays go on where an interrupted run stopped."""
    targets = [
        (one.target, tuple(part.start for part in one.window or ()), one.noted) for one in several
    ]
    journal, advice = begin_keeping(work, targets)
    stack.callback(journal.close)
    return advice


def folder_of(store: Any) -> Path | None:
    """Return the folder of a local store, beside which parts of chunks may wait."""
    return Path(store.root) if isinstance(store, LocalStore) else None
