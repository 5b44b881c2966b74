"""Arrays that are to be made: in a local store, a zip file, or a store that is open."""

import contextlib
import errno
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import zarr

from lazyio.errors import BlockError, TargetError
from lazyio.planning.plan import Advice
from lazyio.run.report import WriteReport
from lazyio.safety.digests import Noted
from lazyio.safety.job import Facts
from lazyio.safety.names import Identity, identity_of
from lazyio.safety.space import require_space
from lazyio.safety.workdir import WorkDirectory
from lazyio.safety.zarr_digests import NAME as DIGESTS
from lazyio.safety.zarr_digests import facts_in, load, pieces_of
from lazyio.safety.zarr_places import Place, beside, introduce, ring
from lazyio.safety.zarr_places import keep as keep_neighbours
from lazyio.targets.disk import disk_errors, store_errors
from lazyio.targets.zarr import chunk_keys_of
from lazyio.targets.zarr_apart import Apart
from lazyio.writing.jobs import facts_of_job, in_head
from lazyio.writing.places import check_zarr_place, refuse_own_source
from lazyio.writing.report import Written, report_on, report_with_done
from lazyio.writing.running import OPEN_HANDLE, Running, scratch_beside
from lazyio.writing.zarr_filling import (
    Made,
    ZarrItem,
    filled,
    folder_of,
    keep,
    least_nbytes,
    make,
    settings_of,
)
from lazyio.writing.zarr_groups import publish_arrays
from lazyio.writing.zarr_stores import (
    check_mode_of,
    check_place_in,
    renew_consolidated,
    resolved_name,
)

logger = logging.getLogger("lazyio")


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
    compared: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False, compare=False)
    """Whether a chunk of what is done came out again, by key and digests."""

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
        write = (lambda: rest._write(is_kept)) if rest.items else None
        arranged = [item.arranged for item in done]
        advice = self.running.advice
        return report_with_done(str(self.root), arranged, write, began=began, advice=advice)

    def _write(self, is_kept: bool) -> Written:
        """Write arrays of which none is done."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(self.root.parent))
            works = [stack.enter_context(work) for work in self._places(is_kept)]
            there = {work.target: identity_of(work.target) for work in works}
            if self.check() != is_kept:
                msg = f"{self.root} was made or removed by another program just now; run it again"
                raise TargetError(errno.EBUSY, msg)
            if not any(work.is_resumed for work in works):
                require_space(self.root.parent, sum(map(least_nbytes, self.items)), self.root)
            made: list[Made] = []
            advice: Advice = ()
            for work in works:
                # In a store that is there every array has a hidden folder of its own.
                items = [self.items[len(made)]] if is_kept else self.items
                several = [self._make(work, item, is_kept) for item in items]
                work.save_job()
                if self.running.resume:
                    advice += keep(work, several, stack)
                made += several
            ran = self.running.write([one.to_job() for one in made], works[0].scratch)
            outcomes = [one.finish() for one in made]
            paths = [item.arranged.key for item in self.items]
            places = beside(self.root, paths) if is_kept or paths == [""] else ring(paths)
            for one, item in zip(made, self.items, strict=True):
                one.tell_shape()
                one.keep_digests(self._head(item), places[item.arranged.key])
            if is_kept:
                for work in works:
                    keep_neighbours(work.target, work.built)
            else:
                _consolidate_new(works[0].built)
                paths = [""]
            version = self.items[0].options.zarr_format
            check = partial(_check_unchanged, there)
            advice += publish_arrays(works, self.root, paths, version, check)
            if is_kept:
                _tell_neighbours(self.root, places)
        return outcomes, ran, advice

    def _make(self, work: WorkDirectory, item: ZarrItem, is_kept: bool) -> Made:
        path = "" if is_kept else item.arranged.key
        plan = item.arranged.plan
        noted = self.running.noted(plan.shape, plan.shard_shape or plan.chunk_shape)
        if not work.is_resumed:
            item = _named_as_before(self.root, item)
            return make(work.built, path, item, noted=noted)
        array = zarr.open_array(work.built, path=path, mode="r+")
        return filled(array, item, noted)

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
        # A check comes before every write, and need not compute the same twice.
        known = (item.arranged.key, table.head())
        if known not in self.compared:
            one = filled(zarr.open_array(folder, mode="r"), item, None)
            self.compared[known] = self.running.is_same(item.arranged, one.target)
        return self.compared[known]


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
                apart = Apart(store)
                made = [self._made(apart, item) for item in self.items]
                ran = self.running.write([one.to_job() for one in made], work.scratch)
                outcomes = [one.finish() for one in made]
                places = ring([item.arranged.key for item in self.items])
                for one in made:
                    if one.noted is not None:
                        self._keep_digests(apart, one, places[one.arranged.key])
                apart.tell([one.target.array for one in made])
            work.publish()
        advice = self.running.advice
        return report_on(str(self.path), outcomes, ran=ran, began=began, advice=advice)

    def _made(self, apart: Apart, item: ZarrItem) -> Made:
        plan = item.arranged.plan
        noted = self.running.noted(plan.shape, plan.shard_shape or plan.chunk_shape)
        return _made_apart(apart, item, overwrite=False, noted=noted)

    def _keep_digests(self, apart: Apart, one: Made, place: Place) -> None:
        """Store the digests of an array beside its chunks."""
        array = one.target.array
        described = apart.described(array)
        facts = facts_in(described.get, one.arranged.key)
        table = one.table(facts, place)
        inside = f"{array.path}/" if array.path else ""
        apart.put(f"{inside}{DIGESTS}", b"".join(pieces_of(table)))


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
        with store_errors(self.name):
            self._check()

    def _check(self) -> None:
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
        apart = Apart(self.store)
        with store_errors(self.name), scratch_beside(folder_of(self.store)) as scratch:
            try:
                replaces = self.overwrite or self.mode == "w"
                items = [_named_as_before(self.store, item) for item in self.items]
                made = [_made_apart(apart, item, overwrite=replaces) for item in items]
                ran = self.running.for_handle().write([one.to_job() for one in made], scratch)
            except BlockError:
                apart.forget()
                raise
            outcomes = [one.finish() for one in made]
            apart.tell([one.target.array for one in made])
            for path in _one_a_group(self.items):
                renew_consolidated(self.store, path)
        advice = (*self.running.advice, OPEN_HANDLE)
        return report_on(self.name, outcomes, ran=ran, began=began, advice=advice)


def _named_as_before(store: Any, item: ZarrItem) -> ZarrItem:
    """Return an array whose objects are named as those of the one that it replaces."""
    options = item.options
    if options.chunk_key_encoding is not None:
        return item
    try:
        array = zarr.open_array(store, path=item.arranged.key, mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        return item  # There is none, or none that says.
    if array.metadata.zarr_format != options.zarr_format:
        return item
    return replace(item, options=replace(options, chunk_key_encoding=chunk_keys_of(array)))


def _made_apart(
    apart: Apart, item: ZarrItem, *, overwrite: bool, noted: Noted | None = None
) -> Made:
    """Make an array that its store is not told of yet, and what fills it."""
    array = apart.create(item.arranged.key, overwrite=overwrite, **settings_of(item))
    return filled(array, item, noted)


def _tell_neighbours(root: Path, places: Mapping[str, Place]) -> None:
    """Tell arrays of a store of those that have come; these are there, told or not."""
    try:
        introduce(root, places)
    except OSError as error:
        logger.warning("%s: arrays could not be told of each other: %s", root, error)


def _one_a_group(items: Sequence[ZarrItem]) -> list[str]:
    """Return the path of one array in each group: its metadata are renewed once for all."""
    paths = [item.arranged.key for item in items]
    return list({path.rpartition("/")[0]: path for path in paths}.values())


def _check_unchanged(there: Mapping[Path, Identity | None]) -> None:
    """Refuse to replace an array in which another program has changed anything meanwhile."""
    for path, state in there.items():
        if identity_of(path) != state:
            msg = (
                f"{path} was changed by another program while it was being written anew; it is as "
                "that program left it, run the same call again"
            )
            raise TargetError(errno.EBUSY, msg)


def _consolidate_new(built: Path) -> None:
    """Give a new group of v2 the metadata of its arrays in one file, as xarray expects it."""
    if (built / ".zgroup").is_file():
        zarr.consolidate_metadata(built, zarr_format=2)
