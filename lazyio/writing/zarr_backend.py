"""Zarr stores as places to write to: new arrays, and parts of existing ones."""

import contextlib
import errno
import logging
import operator
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import zarr
import zarr.errors
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, StorePath, ZipStore

from lazyio.atomic.claims import Claim
from lazyio.atomic.digests import NotedDigests, Table
from lazyio.atomic.fsync import require_space
from lazyio.atomic.journal import Facts
from lazyio.atomic.publish_steps import (
    FolderSnapshot,
    Identity,
    finish,
    identity_of,
    looked_at,
    naming,
)
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import NAME as DIGESTS
from lazyio.atomic.zarr_digests import (
    Known,
    StoreNeighbours,
    beside,
    facts_in,
    facts_of,
    forget,
    introduce,
    load_or_none,
    make_room,
    pieces_of,
    ring,
    store,
    table_of,
)
from lazyio.atomic.zarr_digests import keep as keep_neighbours
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape
from lazyio.errors import BlockError, OptionError, TargetError, TargetExistsError
from lazyio.inputs import Input
from lazyio.os_errors import walk
from lazyio.planning.plan import Advice
from lazyio.regions import Region, box, n_touched, touched
from lazyio.sources.zarr import store_name
from lazyio.sources.zarr_metadata import METADATA_FILES
from lazyio.sources.zarr_objects import OpenFolder, stored_objects
from lazyio.storage.disk_errors import disk_errors, store_errors
from lazyio.storage.json_attributes import json_attributes
from lazyio.storage.region_target import Comparable, SharedArray
from lazyio.storage.zarr.array import (
    PARTIAL,
    REMOVED,
    DeferredZarrMetadata,
    OverlaidObjects,
    ZarrTarget,
    chunk_keys_of,
    create_array,
    local_folder,
    shape_in_store,
)
from lazyio.storage.zarr.groups import (
    ARRAY_FILES,
    BuiltPart,
    home_of,
    publish_arrays,
    publish_parts,
)
from lazyio.writing.by_key import targets_of_each
from lazyio.writing.call import Call
from lazyio.writing.compatibility import TargetRegion
from lazyio.writing.refusals import Refusals
from lazyio.writing.request import (
    ArrayWriter,
    Build,
    Heads,
    Place,
    RegionItem,
    Request,
    WriteItem,
    alone_with,
    resumed,
)
from lazyio.writing.run_options import Outcome, RunOptions, outcome_of, scratch_beside
from lazyio.writing.target_checks import (
    array_path,
    check_array_writable,
    check_store,
    check_zarr_place,
    check_zip_place,
    is_local,
    is_url,
    link_at,
    refuse_own_source,
    refuse_taken,
    refuse_zip,
    store_path,
)
from lazyio.writing.zarr_settings import ExistingZarrArray, ZarrItem, advice_on, array_item

logger = logging.getLogger("lazyio")

_MOST_ASKED = 1000
"""Objects that are asked for one by one, before a listing tells which ones are there."""

Item = TypeVar("Item", bound=WriteItem)

GroupAttributes = Mapping[str, Mapping[str, Any]]
"""By the path of a group."""


@dataclass(frozen=True, kw_only=True)
class ZarrWriter(ArrayWriter):
    """An array that stands, and what fills it or a part of it."""

    target: ZarrTarget
    array: Any

    def table(
        self, facts: Mapping[str, str], place: StoreNeighbours, job: Mapping[str, str] | None = None
    ) -> Table:
        """Return the digests of what was written, which were noted."""
        noted = self.noted or NotedDigests()
        rows, rims = self.target.rows(noted), self.target.rims(noted)
        array = self.target.array
        return table_of(array, facts, rows, rims, job=job, place=place.to_dict())

    def keep_digests(self, job: Mapping[str, str], place: StoreNeighbours) -> None:
        """Store the digests of what was written beside it, where there are any."""
        folder = local_folder(self.array)
        if self.noted is not None and folder is not None:
            facts = facts_of(folder, self.arranged.key)
            store(folder, self.table(facts, place, job))
            make_room(folder)

    def tell_shape(self) -> None:
        """Let readers see how long it has become, where it has grown."""
        if self.arranged.bounds is not None:
            self.array.resize(self.target.shape)

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        # Every array of Zarr has a fill value, of which 0 is no mark.
        has_mark = "_FillValue" in self.array.attrs or bool(self.array.fill_value)
        return outcome_of(self.arranged, self.to_job(), self.array.chunks, has_mark=has_mark)


def filled(array: Any, item: ZarrItem, noted: NotedDigests | None) -> ZarrWriter:
    """Return an array that stands, and what fills it."""
    target = ZarrTarget(
        array,
        keeps_empty=bool(item.options.write_empty_chunks),
        # A chunk of pieces may have to be written again, and hold nothing then.
        replaces=item.arranged.given.pieces is not None,
        noted=noted,
        bounds=item.arranged.bounds,
    )
    return ZarrWriter(arranged=item.arranged, array=array, target=target, noted=noted)


def noted_digests(item: ZarrItem, running: RunOptions) -> NotedDigests | None:
    """Return where digests of an array are noted, ``None`` where none are asked for."""
    plan = item.arranged.plan
    return running.noted(plan.shape, plan.shard_shape or plan.chunk_shape)


class _Folder(Place[Item]):
    """A local store: arrays are built in hidden folders, and published as one."""

    format: ClassVar[str] = "zarr"
    root: Path

    @contextlib.contextmanager
    def written(self, item: Item) -> Iterator[tuple[Table, Comparable] | None]:
        """Return the digests and chunks of what is there, where there are digests of it."""
        folder = self.folder_of(item)
        table = load_or_none(folder)
        if table is None:
            yield None
        else:
            yield table, ZarrTarget(zarr.open_array(folder, mode="r"))

    def folder_of(self, item: Item) -> Path:
        """Return where an array lies."""
        return self.root / item.arranged.key


@dataclass(frozen=True, kw_only=True)
class NewArrays(_Folder[ZarrItem]):
    """A local store that gets new arrays, which may be there or not."""

    root: Path
    """Folder of the store."""
    mode: str
    """h5py's file mode; ``w`` replaces the named arrays only."""
    overwrite: bool
    """Whether existing arrays may be replaced."""
    group_attrs: GroupAttributes = field(default_factory=dict)
    """Attributes of groups, by their paths."""

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        return {"groups": self.group_attrs} if self.group_attrs else {}

    def check(self, items: Sequence[ZarrItem]) -> bool:
        """Refuse a store that may not be written, and return whether it is added to."""
        kept, refusals = False, Refusals(len(items))
        for item in items:
            with refusals.of(None):
                kept = check_zarr_place(
                    item.arranged.given,
                    self.root,
                    item.arranged.key,
                    self.mode,
                    item.options.zarr_format,
                    replace=self.overwrite or self.mode == "w",
                )
        refusals.check()
        return kept

    @contextlib.contextmanager
    def build(
        self, items: Sequence[ZarrItem], running: RunOptions, heads: Heads
    ) -> Iterator[Build]:
        """Make arrays in hidden folders; then give them their names."""
        is_kept = self.check(items)
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(self.root.parent))
            entered = {
                at: stack.enter_context(one)
                for at, one in self._places(items, running, is_kept=is_kept)
            }
            works = [entered[at] for at in sorted(entered)]
            there = {work.target: identity_of(work.target) for work in works}
            if self.check(items) != is_kept:
                msg = f"{self.root} was made or removed by another program just now; run it again"
                raise TargetError(errno.EBUSY, msg)
            if not any(work.is_resumed for work in works):
                require_space(self.root.parent, sum(map(_least_nbytes, items)), self.root)
            made: list[ZarrWriter] = []
            advice: Advice = ()
            for at, work in enumerate(works):
                if not is_kept and not work.is_resumed:
                    self._begin(work.built)
                # In an existing store every array has a hidden folder of its own.
                own = [items[at]] if is_kept else items
                several = [self._made(work, item, running, is_kept=is_kept) for item in own]
                work.save_job()
                if running.resume:
                    advice += resumed(work, several, stack)
                made += several
            build = Build(made=made, scratch=works[0].scratch, advice=advice)
            yield build
            paths = [item.arranged.key for item in items]
            if is_kept or paths == [""]:
                places = beside(self.root, paths)
            else:
                places = ring(self._all_paths(works[0].built, paths))
            for one in made:
                one.tell_shape()
                key = one.arranged.key
                one.keep_digests(heads.get(key, {}), places[key])
            if is_kept:
                for work in works:
                    keep_neighbours(work.target, work.built)
            else:
                self._complete(works[0].built, places, running)
                paths = [""]
            version = next((item.options.zarr_format for item in items), 3)
            check = partial(_check_unchanged, there)
            groups = self.group_attrs if is_kept else {}
            build.advice += publish_arrays(works, self.root, paths, version, check, groups)
            if is_kept:
                _tell_neighbours(self.root, places)

    def _begin(self, built: Path) -> None:
        """Make what a new store holds beside the arrays that are filled."""

    def _all_paths(self, _: Path, paths: Sequence[str]) -> Sequence[str]:
        """Return the paths of all arrays of a new store, whoever has made them."""
        return paths

    def _complete(
        self, built: Path, places: Mapping[str, StoreNeighbours], running: RunOptions
    ) -> None:
        """Do what is left to do in a new store once all chunks are written."""
        del places, running  # For stores in which others have made arrays as well.
        _describe_groups(built, self.group_attrs)
        _consolidate_new(built)

    def _made(
        self, work: WorkDirectory, item: ZarrItem, running: RunOptions, *, is_kept: bool
    ) -> ZarrWriter:
        path = "" if is_kept else item.arranged.key
        noted = noted_digests(item, running)
        if work.is_resumed:
            return filled(zarr.open_array(work.built, path=path, mode="r+"), item, noted)
        item = _named_as_before(self.root, item)
        return filled(create_array(work.built, path, **item.to_create), item, noted)

    def _places(
        self, items: Sequence[ZarrItem], running: RunOptions, *, is_kept: bool
    ) -> Iterator[tuple[int, WorkDirectory]]:
        """Yield the hidden folders: one for a new store, else one for each array, numbered."""

        def place(final: Path, folder: Path | None, own: Sequence[ZarrItem]) -> WorkDirectory:
            facts = self.facts(own) if running.resume else None
            return WorkDirectory(final, folder=folder, facts=facts, patience=running.patience)

        if not is_kept:
            yield 0, place(self.root, None, items)
            return
        # In one order, or two calls could wait for each other.
        for at in sorted(range(len(items)), key=lambda at: items[at].arranged.key):
            yield at, place(self.folder_of(items[at]), self.root, [items[at]])


Again = Callable[[Mapping[str, Any]], Sequence[RegionItem]]
"""From arrays as they are now, by their paths, to the parts that are written."""


@dataclass(frozen=True, kw_only=True)
class FolderRegions(_Folder[RegionItem]):
    """A local store of which parts of arrays are written, all of them or none."""

    root: Path
    """Folder of the store."""
    link: Path | None = None
    """Folder of the store that the user named, where a link in it leads to the array."""
    again: Again | None = field(default=None, compare=False)
    """Returns what goes where in arrays as others have left them."""

    @property
    def is_one(self) -> bool:
        """Whether parts that are done are all done: they are published as one."""
        return True

    def folder_of(self, item: RegionItem) -> Path:
        """Return where an array lies: behind a link it is a store of its own."""
        return self.root / self._path(item)

    def _path(self, item: RegionItem) -> str:
        return item.arranged.key if self.link is None else ""

    @contextlib.contextmanager
    def build(
        self, items: Sequence[RegionItem], running: RunOptions, heads: Heads
    ) -> Iterator[Build]:
        """Build the objects that the parts touch, and put them to the others."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(self.root.parent))
            begun = self._all_begun(items, running, stack)
            build = Build(made=[one.writer for one in begun], scratch=begun[0].work.scratch)
            for one in begun:
                build.advice += one.advice
            yield build
            build.advice += publish_parts(
                self.root, {self._path(one.item): one.to_publish(heads) for one in begun}
            )
        if self.link is not None:
            build.advice += _consolidated_behind(self.link, items[0].arranged.key)

    def _all_begun(
        self, items: Sequence[RegionItem], running: RunOptions, stack: contextlib.ExitStack
    ) -> "list[_BegunRegion]":
        """Begin to build parts over the arrays that they belong to."""
        # In one order, or two calls could wait for each other.
        in_order = sorted(items, key=lambda item: item.arranged.key)
        held = {item.arranged.key: self._locked(item, running, stack) for item in in_order}
        under = {item.arranged.key: self._settled(self.folder_of(item)) for item in items}
        items = self._now(items, under, running)
        for item in items:
            claim, array = held[item.arranged.key].claim, under[item.arranged.key]
            is_as_long = item.window.shape == _shape_of(array)
            if claim is not None and (claim != _claim_of(item) or not is_as_long):
                # What it was planned for before it had claimed those chunks only.
                item.check_seen(_shape_of(array))
                msg = (
                    f"array {item.arranged.key!r} was made longer or shorter by another program "
                    "since the part was chosen; make the call again. Nothing was changed"
                )
                raise TargetError(errno.EBUSY, msg)
        return [
            self._begun(item, held[item.arranged.key], under[item.arranged.key], running, stack)
            for item in items
        ]

    def _locked(
        self, item: RegionItem, running: RunOptions, stack: contextlib.ExitStack
    ) -> WorkDirectory:
        """Return the hidden folder of a part: of chunks of its own, or of all of the array."""
        final = self.folder_of(item)

        def over() -> Facts:
            """Return what parts of chunks are merged with."""
            seen = self._settled(final, lambda: _seen(item, final, _opened(final)))
            return {"over": seen.fact()}

        return stack.enter_context(
            WorkDirectory(
                final,
                folder=self.root if self._path(item) else None,
                facts=self.facts([item]) if running.resume else None,
                facts_of_target=over,
                claim=_claim_of(item),
                patience=running.patience,
            )
        )

    def _settled(self, final: Path, look: Callable[[], Any] | None = None) -> Any:
        """Return an array, or what a look at it gives, while nobody gives names in its store."""
        home = home_of(self.root, final.relative_to(self.root).as_posix())
        with naming(home) if home.is_dir() else contextlib.nullcontext():
            return _opened(final) if look is None else look()

    def _now(
        self, items: Sequence[RegionItem], under: Mapping[str, Any], running: RunOptions
    ) -> Sequence[RegionItem]:
        """Return the parts in arrays as they are, now that nobody else can make them longer.

        Others may have done that since the parts were chosen: while this one waited for the
        lock, or until it was computed. An interrupted job is only resumed in the same array.
        """
        if all(
            item.is_for(_shape_of(array), ExistingZarrArray(handle=array).kind)
            for item, array in ((item, under[item.arranged.key]) for item in items)
        ):
            return items
        is_bound = any(item.arranged.given.is_bound for item in items)
        if self.again is None or running.resume or is_bound:
            return items  # As far as they still fit.
        return self.again(under)

    def _begun(
        self,
        item: RegionItem,
        work: WorkDirectory,
        under: Any,
        running: RunOptions,
        stack: contextlib.ExitStack,
    ) -> "_BegunRegion":
        """Begin to build a part over the array that it belongs to."""
        final = self.folder_of(item)
        if item.appends:
            item.check_seen(_shape_of(under))
        item.check_kind(ExistingZarrArray(handle=under).kind)

        def look() -> OverlaidObjects:
            over = OverlaidObjects(array=under, seen=_seen(item, final, under))
            if work.is_resumed:
                _remove_partial(work.built)
            else:
                _copy_metadata(final, work.built)
            return over

        with disk_errors(self.root.parent):
            over = self._settled(final, look)
        array = _opened(work.built, mode="r+")
        noted = running.noted(item.window.shape, array.shards or array.chunks)
        writer = _in_part(array, item, noted=noted, over=over)
        work.save_job()
        advice = resumed(work, [writer], stack) if running.resume else ()
        path = self._path(item)
        return _BegunRegion(
            item=item, path=path, work=work, writer=writer, over=over, advice=advice
        )


@dataclass(frozen=True, kw_only=True)
class _BegunRegion:
    """A part of an array that is being built."""

    item: RegionItem
    path: str
    """Of the array in its store."""
    work: WorkDirectory
    writer: ZarrWriter
    over: OverlaidObjects
    """What lies under the part."""
    advice: Advice

    def to_publish(self, heads: Heads) -> BuiltPart:
        """Return what takes its place in the array, which says how long it is by now."""
        self.writer.tell_shape()
        work = self.work
        objects, removals = _built_in(work.built)
        changed = [*objects, *removals]
        return BuiltPart(
            work=work,
            check=lambda: self.over.seen.check(changed),
            digests=partial(self._renewed, heads.get(self.item.arranged.key, {})),
            objects=tuple((work.built / name, work.target / name) for name in objects),
            removals=tuple(work.target / name for name in removals),
            # What one rename changes, or nobody sees until the shape is told, is never half there.
            is_closed=len(changed) > 1 and self._changes_elements(),
        )

    def _renewed(self, head: Mapping[str, str]) -> Path | None:
        """Return a file with the digests of all of the array, ``None`` where there are none.

        Others may have published regions of it since this one was begun.
        """
        one, built = self.writer, self.work.built
        forget(built)
        if one.noted is not None:
            known = Known.of(self.work.target, self.path, self.over.array)
            known.renew(built, one.array, one.noted, head, grid=one.target.grid)
        return built / DIGESTS if (built / DIGESTS).exists() else None

    def _changes_elements(self) -> bool:
        """Return whether elements are written that were there before."""
        if self.item.arranged.bounds is not None:
            return self.item.arranged.given.stream is None
        inside = zip(self.item.window.region, self.item.seen, strict=True)
        return all(part.start < extent for part, extent in inside)


@dataclass(frozen=True, kw_only=True)
class NewZip(Place[ZarrItem]):
    """A ``.zip`` file that is made anew, as a whole."""

    path: Path
    """The file."""
    mode: str
    """h5py's file mode."""
    overwrite: bool
    """Whether a file that is there may be replaced."""
    group_attrs: GroupAttributes = field(default_factory=dict)
    """Attributes of groups, by their paths."""

    def check(self, items: Sequence[ZarrItem]) -> None:
        """Refuse a file that may not be written."""
        given = {item.arranged.key: item.arranged.given for item in items}
        check_zip_place(given, self.path, self.mode, replace=self.overwrite)

    @contextlib.contextmanager
    def build(self, items: Sequence[ZarrItem], running: RunOptions, _: Heads) -> Iterator[Build]:
        """Build the file beside the one that is there; then give it its name."""
        with WorkDirectory(self.path, patience=running.patience) as work:
            self.check(items)
            with contextlib.closing(ZipStore(work.built, mode="w")) as held:
                apart = DeferredZarrMetadata(held)
                made = [
                    _made_apart(apart, item, noted=noted_digests(item, running)) for item in items
                ]
                yield Build(made=made, scratch=work.scratch)
                places = ring([item.arranged.key for item in items])
                for one in made:
                    if one.noted is not None:
                        _keep_digests_apart(apart, one, places[one.arranged.key])
                apart.tell([one.target.array for one in made], self.group_attrs)
            work.publish()


@dataclass(frozen=True, kw_only=True)
class OpenStore(Place[ZarrItem]):
    """A store or group that the caller has open, or one behind a URL, which gets new arrays."""

    store: Any
    """As zarr-python has it."""
    inside: str
    """Path of the group in it that the caller named."""
    name: str
    """What the report calls it."""
    mode: str
    """h5py's file mode; ``w`` replaces the named arrays only."""
    overwrite: bool
    """Whether existing arrays may be replaced."""
    group_attrs: GroupAttributes = field(default_factory=dict)
    """Attributes of groups, by their paths in the store."""

    is_open: ClassVar[bool] = True

    @property
    def _replaces(self) -> bool:
        return self.overwrite or self.mode == "w"

    def check(self, items: Sequence[ZarrItem]) -> None:
        """Refuse a store that may not be written, and to write over what is being read."""
        with store_errors(self.name):
            check_mode_of(self.store, self.inside, self.mode)
            root, refusals = resolved_name(self.store), Refusals(len(items))
            for item in items:
                key, version = item.arranged.key, item.options.zarr_format
                with refusals.of(None):
                    refuse_own_source(item.arranged.given, root, key)
                    check_place_in(self.store, key, version, replace=self._replaces)
            refusals.check()

    @contextlib.contextmanager
    def build(self, items: Sequence[ZarrItem], *_: RunOptions | Heads) -> Iterator[Build]:
        """Write objects where they are to be; then tell of the arrays."""
        self.check(items)
        apart = DeferredZarrMetadata(self.store)
        with store_errors(self.name), scratch_beside(_folder_of(self.store)) as scratch:
            try:
                named = [_named_as_before(self.store, item) for item in items]
                made = [_made_apart(apart, item, overwrite=self._replaces) for item in named]
                yield Build(made=made, scratch=scratch)
            except BlockError:
                apart.forget()
                raise
            apart.tell([one.target.array for one in made], self.group_attrs)
            for path in _one_a_group(items):
                renew_consolidated(self.store, path)


class OpenArrays(Place[RegionItem]):
    """Arrays that the caller has open, of which parts are written."""

    is_open: ClassVar[bool] = True

    def check(self, items: Sequence[RegionItem]) -> None:
        """Refuse an array that cannot be written, and to write over what is being read."""
        for item in items:
            array = item.array
            check_open_array(array, grows=item.window.shape != item.seen)
            refuse_own_source(item.arranged.given, resolved_name(array.store), array.path)

    @contextlib.contextmanager
    def build(self, items: Sequence[RegionItem], *_: RunOptions | Heads) -> Iterator[Build]:
        """Make the arrays as long as they are to be."""
        self.check(items)
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(scratch_beside(_folder_of(items[0].array.store)))
            made = [self._part(item, stack) for item in items]
            yield Build(made=made, scratch=scratch)
            for one in made:
                one.tell_shape()
        for item, one in zip(items, made, strict=True):
            if one.target.shape != item.seen:
                renew_consolidated(item.array.store, item.array.path)

    def _part(self, item: RegionItem, stack: contextlib.ExitStack) -> ZarrWriter:
        array = item.array
        if (folder := local_folder(array)) is not None:
            # Others may be at work on the array: its digests are not ours to renew.
            forget(folder)
        shared = SharedArray(identity=_identity(array))
        with alone_with(item, shared, lambda: _shape_now(array), stack) as now:
            return replace(_in_part(array, now), shared=shared)


def _shape_now(array: Any) -> Shape:
    """Have the caller's array as long as it is, where another handle has made it longer."""
    shape = shape_in_store(array)
    if shape != array.shape and not any(map(operator.lt, shape, array.shape)):
        array.resize(shape)
    return tuple(map(int, array.shape))


def _identity(array: Any) -> Any:
    """Return what two handles of one array have in common."""
    folder = local_folder(array)
    if folder is not None:
        return "zarr", os.path.realpath(folder)
    return "zarr", store_name(array.store), array.path


def _in_part(
    array: Any,
    item: RegionItem,
    noted: NotedDigests | None = None,
    over: OverlaidObjects | None = None,
) -> ZarrWriter:
    """Return what writes a part of an array, which has grown for it."""
    window = item.window
    if array.shape != window.shape:
        item.check_seen(array.shape)
        array.resize(window.shape)
    keeps_empty = item.keeps_empty
    if keeps_empty is None:
        keeps_empty = array.config.write_empty_chunks
    elif keeps_empty != array.config.write_empty_chunks:
        array = array.with_config({"write_empty_chunks": keeps_empty})
    target = ZarrTarget(
        array,
        keeps_empty=keeps_empty,
        replaces=True,
        noted=noted,
        bounds=item.arranged.bounds,
        over=over,
    )
    arranged, region = item.to_fill()
    if region is not None and _leaves_a_gap(item.seen, window):
        folder = local_folder(array if over is None else over.array)
        _clear_rim(target, folder, item.seen, region)
    return ZarrWriter(arranged=arranged, array=array, target=target, window=region, noted=noted)


def _shape_of(array: Any) -> Shape:
    return tuple(map(int, array.shape))


def _claim_of(item: RegionItem) -> Claim | None:
    """Return which chunks a part is written to, ``None`` where that takes the whole array.

    What makes the array longer does, and what comes once and says only then where it goes.
    """
    if item.arranged.given.comes_once or item.seen != item.window.shape:
        return None
    return Claim(region=item.window.region, unit=item.unit)


def _seen(item: RegionItem, final: Path, array: Any) -> FolderSnapshot:
    """Return what is there of the part, which another program is not to change meanwhile.

    Digests are no part of it: they are renewed with those that others leave.
    """
    seen = FolderSnapshot(final, (*ARRAY_FILES, ".zattrs"))
    if not item.arranged.given.comes_once:
        step = tuple(map(int, array.shards or array.chunks))
        seen.look_at_all(_names_in(final, array.metadata, item.window.region, step))
        if _leaves_a_gap(item.seen, item.window):
            rim = _rim(final, array.metadata, item.seen, item.window.shape, step)
            seen.look_at_all(map(array.metadata.encode_chunk_key, rim))
    return seen


def _leaves_a_gap(seen: Shape, window: TargetRegion) -> bool:
    """Return whether an array becomes longer by elements that are not written."""
    grown = [axis for axis, n in enumerate(seen) if window.shape[axis] > n]
    if not grown or len(grown) > 1:
        return bool(grown)
    others = [axis for axis in range(len(seen)) if axis != grown[0]]
    is_full = all(window.region[axis] == slice(0, window.shape[axis]) for axis in others)
    return not is_full or window.region[grown[0]].start > seen[grown[0]]


def _rim(
    folder: Path | None, metadata: Any, seen: Shape, shape: Shape, step: Shape
) -> Iterator[Shape]:
    """Yield the chunks that hold elements from before and after an array has grown.

    Of very many only those that are stored, as a folder can tell.
    """
    told: set[Shape] = set()
    for axis, extent in enumerate(seen):
        if shape[axis] == extent or extent % step[axis] == 0:
            continue
        cut = [slice(0, n) for n in seen]
        cut[axis] = slice(extent // step[axis] * step[axis], extent)
        region = tuple(cut)
        if n_touched(region, step) <= _MOST_ASKED:
            found = {index for index, _, _ in touched(region, step)}
        elif folder is not None:
            with OpenFolder(str(folder), None) as opened:
                found = set(stored_objects(opened, metadata, region, step))
        else:
            logger.warning("elements behind the old end of the array are as they were left")
            continue
        yield from sorted(found - told)
        told |= found


def _clear_rim(target: ZarrTarget, folder: Path | None, seen: Shape, region: Region) -> None:
    """Have the array show its fill value where it has grown by elements that are not written.

    Who makes an array shorter leaves them in the chunks that it cuts.
    """
    workspace = Workspace()
    metadata = target.array.metadata
    for index in _rim(folder, metadata, seen, target.shape, target.chunk_shape):
        place = box(target.shape, target.chunk_shape, index)
        chunk = target.read_chunk(index)
        is_old = np.zeros(chunk.shape, bool)
        for bounds in (tuple(map(slice, seen)), region):
            is_old[_within(place, bounds)] = True
        cleared = np.where(is_old, chunk, np.asarray(target.fill_value, chunk.dtype))
        if cleared.tobytes() != chunk.tobytes():
            target.write_chunk(index, cleared, workspace)


def _within(place: Region, bounds: Region) -> Region:
    """Return the part of a chunk that lies in a region, counted from the chunk's corner."""
    return tuple(
        slice(max(0, (one.start or 0) - part.start), max(0, min(part.stop, one.stop) - part.start))
        for part, one in zip(place, bounds, strict=True)
    )


def _opened(folder: Path, mode: Any = "r") -> Any:
    """Return an array that was there a moment ago."""
    try:
        # zarr-python makes a folder that is not there, to look into it.
        folder.stat()
        return zarr.open_array(folder, mode=mode)
    except (OSError, KeyError, ValueError, TypeError) as error:
        msg = (
            f"{folder} was removed, moved or changed by another program just now: {error}; nothing "
            "was written, check the array and make the call again"
        )
        raise TargetError(getattr(error, "errno", None) or errno.ENOENT, msg) from error


def _copy_metadata(final: Path, built: Path) -> None:
    """Begin a folder that holds the objects of a part, with what says how they are encoded."""
    built.mkdir()
    for name in (*ARRAY_FILES, ".zattrs"):
        if (final / name).is_file():
            shutil.copyfile(final / name, built / name)


def _names_in(folder: Path, metadata: Any, region: Region, step: Shape) -> Iterator[str]:
    """Return the names of objects that a region touches, where it touches many of those there."""
    if n_touched(region, step) <= _MOST_ASKED:
        return (metadata.encode_chunk_key(index) for index, _, _ in touched(region, step))
    return _stored_names(folder, metadata, region, step)


def _stored_names(folder: Path, metadata: Any, region: Region, step: Shape) -> Iterator[str]:
    with OpenFolder(str(folder), None) as opened:
        for index in stored_objects(opened, metadata, region, step):
            yield metadata.encode_chunk_key(index)


def _built_in(built: Path) -> tuple[list[str], list[str]]:
    """Return the names of objects that were built, and of those that are to go."""
    objects, removals = [], []
    for below, _, names in walk(built):
        for name in names:
            path = os.path.relpath(os.path.join(below, name), built).replace(os.sep, "/")
            if path.endswith(REMOVED):
                removals.append(path.removesuffix(REMOVED))
            elif name not in METADATA_FILES:
                objects.append(path)
    there = set(objects)
    return objects, [name for name in removals if name not in there]


def _remove_partial(built: Path) -> None:
    """Remove objects that were being written when a run was killed."""
    for below, _, names in walk(built):
        for name in names:
            if name.endswith(PARTIAL):
                os.unlink(os.path.join(below, name))


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
    apart: DeferredZarrMetadata,
    item: ZarrItem,
    *,
    overwrite: bool = False,
    noted: NotedDigests | None = None,
) -> ZarrWriter:
    """Make an array that its store is not told of yet, and what fills it."""
    array = apart.create(item.arranged.key, overwrite=overwrite, **item.to_create)
    return filled(array, item, noted)


def _keep_digests_apart(
    apart: DeferredZarrMetadata, one: ZarrWriter, place: StoreNeighbours
) -> None:
    """Store the digests of an array beside its chunks."""
    array = one.target.array
    facts = facts_in(apart.described(array).get, one.arranged.key)
    inside = f"{array.path}/" if array.path else ""
    apart.put(f"{inside}{DIGESTS}", b"".join(pieces_of(one.table(facts, place))))


def _consolidated_behind(root: Path, path: str) -> Advice:
    """Bring a store up to date that a link in it leads out of; return what went wrong."""
    try:
        renew_consolidated(LocalStore(root), path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return (
            ("not-consolidated", f"consolidated metadata of {root} do not know of it: {error}"),
        )
    return ()


def _tell_neighbours(root: Path, places: Mapping[str, StoreNeighbours]) -> None:
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


def _describe_groups(store: Any, group_attrs: GroupAttributes) -> None:
    """Give groups that arrays lie in their attributes."""
    for path, attributes in group_attrs.items():
        zarr.open_group(store, path=path, mode="r+").update_attributes(dict(attributes))


def _consolidate_new(built: Path) -> None:
    """Give a new group of v2 the metadata of its arrays in one file, as xarray expects it."""
    if (built / ".zgroup").is_file():
        zarr.consolidate_metadata(built, zarr_format=2)


def _least_nbytes(item: ZarrItem) -> int:
    """Return the bytes that an array takes at least, as far as that is known."""
    is_plain = item.options.compressors is None and item.options.filters in (None, "auto")
    is_stored = bool(item.options.write_empty_chunks)
    is_known = not item.arranged.given.comes_once
    return item.arranged.plan.nbytes if is_plain and is_stored and is_known else 0


def _folder_of(store: Any) -> Path | None:
    """Return the folder of a local store, beside which parts of chunks may wait."""
    return Path(store.root) if isinstance(store, LocalStore) else None


Node: TypeAlias = "zarr.Array[Any] | zarr.Group"


def store_behind(store: Any, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """Return the store that a user means, and the path inside it that theirs count from."""
    if isinstance(store, zarr.Group):
        return store.store, store.path
    if isinstance(store, StorePath):
        return store.store, store.path
    if isinstance(store, (str, os.PathLike)):
        return _behind_url(str(store), storage_options), ""
    return (zarr.storage.MemoryStore(store) if isinstance(store, dict) else store), ""


def _behind_url(url: str, storage_options: Mapping[str, Any] | None) -> Any:
    options = dict(storage_options) if storage_options else None
    try:
        return FsspecStore.from_url(url, storage_options=options)
    except (ImportError, ValueError) as error:
        msg = (
            f"{url} cannot be opened: {error}; check the URL, or install the package that knows "
            f"{url.partition('://')[0]}://"
        )
        raise OptionError(msg) from error


def check_mode_of(store: Any, inside: str, mode: str) -> None:
    """Refuse what the mode does not allow of a store that is open, or lies behind a URL."""
    name = node_name(store, inside)
    if store.read_only:
        msg = f"{name} is open for reading only; open it with mode='r+' or 'a'"
        raise TargetError(errno.EROFS, msg)
    if mode not in ("w-", "x", "r+"):
        return
    is_there = node_at(store, inside) is not None
    if is_there and mode != "r+":
        msg = f"{name} already exists, and mode={mode!r} makes only new ones; pass mode='a'"
        raise TargetExistsError(errno.EEXIST, msg)
    if not is_there and mode == "r+":
        msg = f"{name} holds nothing, and mode='r+' adds to existing ones only; pass mode='a'"
        raise TargetError(errno.ENOENT, msg)


def check_place_in(store: Any, path: str, zarr_format: int, *, replace: bool) -> None:
    """Refuse a place in a store that holds anything but an array that may be replaced."""

    def kind_of(at: str) -> tuple[str, int] | None:
        node = node_at(store, at)
        kind = "array" if isinstance(node, zarr.Array) else "group"
        return None if node is None else (kind, node.metadata.zarr_format)

    refuse_taken(kind_of, partial(node_name, store), path, zarr_format, replace=replace)
    # Chunks without metadata would come to light between those of the new array.
    if not replace and kind_of(path) is None and not sync(store.is_empty(path)):
        msg = (
            f"{node_name(store, path)} holds objects and no array, left by a run that "
            "failed or by others; pass overwrite=True to remove all of them, or another path"
        )
        raise TargetExistsError(errno.ENOTEMPTY, msg)


def check_open_array(array: "zarr.Array[Any]", *, grows: bool) -> None:
    """Refuse an open array that cannot be written, or not as is asked."""
    if array.read_only:
        msg = f"{array.store_path} is open for reading only; open it with mode='r+' or 'a'"
        raise TargetError(errno.EROFS, msg)
    if grows and isinstance(array.store, ZipStore):
        msg = (
            f"{array.store_path} cannot grow: nothing can be changed in a .zip file; write a new "
            "one, or a directory"
        )
        raise TargetError(errno.EROFS, msg)


def node_at(store: Any, path: str) -> "Node | None":
    """Return the array or group at a path, ``None`` where there is nothing."""
    if isinstance(store, LocalStore) and not store.root.exists():
        return None  # zarr would make the folder, to look into it.
    mode: Any = "r" if store.read_only else "r+"
    try:
        return zarr.open(store, path=path, mode=mode)
    except (FileNotFoundError, zarr.errors.NodeNotFoundError):
        return None


def renew_consolidated(store: Any, path: str) -> None:
    """Bring consolidated metadata up to date in every group above an array that has some."""
    if isinstance(store, ZipStore):
        return
    parts = path.split("/") if path else []
    with warnings.catch_warnings():
        # That v3 has no specification of it yet is known to whoever made it.
        warnings.simplefilter("ignore")
        for depth in reversed(range(len(parts))):
            above = "/".join(parts[:depth])
            group = node_at(store, above)
            if isinstance(group, zarr.Group) and group.metadata.consolidated_metadata is not None:
                version: Any = group.metadata.zarr_format
                zarr.consolidate_metadata(store, path=above or None, zarr_format=version)


def node_name(store: Any, path: str) -> str:
    """Return what an error or a report calls an array or group."""
    return f"{store_name(store)}/{path}" if path else store_name(store)


def resolved_name(store: Any) -> Path:
    """Return a store as sources are compared with it, links followed where it is a path."""
    name = store_name(store)
    return Path(os.path.realpath(name) if os.path.exists(name) else name)


def existing_array(store: Any, path: str) -> Any:
    """Return the array of which a part is to be written."""
    name = node_name(store, path)
    try:
        found = node_at(store, path)
    except (KeyError, ValueError, TypeError, OSError) as error:
        msg = f"{name} cannot be opened to write a part of it: {error}"
        raise TargetError(getattr(error, "errno", None) or errno.EIO, msg) from error
    if found is None:
        msg = f"{name} does not exist; lazyio.allocate makes an empty array to write parts of"
        raise TargetError(errno.ENOENT, msg)
    if not isinstance(found, zarr.Array):
        msg = f"{name} is a group, of which no part can be written; name an array in it"
        raise TargetError(errno.EISDIR, msg)
    return found


_NOT_LOCAL = "in a store that is no local folder, or is open already"


def new_request(
    call: Call, target: Any, path: str, storage_options: Mapping[str, Any] | None
) -> Request[ZarrItem]:
    """Return the request for arrays that are to be made."""
    _check_keys(call)
    items = call.new_items(path, array_path, array_item)
    running = replace(call.running, advice=advice_on(items))
    _refuse_storage_options(target, storage_options)
    rights: dict[str, Any] = {"mode": call.mode, "overwrite": call.overwrite}
    groups = {one: json_attributes(own) for one, own in call.group_attrs_below(path).items()}
    place: NewArrays | NewZip | OpenStore
    if not is_local(target):
        check_store(target)
        call.refuse_without_lock(_NOT_LOCAL)
        store, inside = store_behind(target, storage_options)
        name = str(target) if is_url(target) else node_name(store, inside)
        # Paths count from the root of the store, and not from a group.
        items = tuple(_below(item, inside) for item in items)
        groups = {_joined(inside, one): own for one, own in groups.items()}
        place = OpenStore(store=store, inside=inside, name=name, group_attrs=groups, **rights)
    else:
        root = running.patience.retry(lambda: store_path(target))
        name = str(root)
        if root.suffix == ".zip":
            call.refuse_resume("in a .zip file")
            place = NewZip(path=root, group_attrs=groups, **rights)
        else:
            for item in items:
                finish(root / item.arranged.key)
            place = NewArrays(root=root, group_attrs=groups, **rights)
    request = Request(name=name, place=place, items=items, running=running)
    request.check()
    return request


def region_request(
    call: Call, target: Any, path: str, storage_options: Mapping[str, Any] | None
) -> Request[RegionItem]:
    """Return the request for parts of existing arrays."""
    call.refuse_for_part()
    if call.mode not in ("a", "r+"):
        msg = f"mode={call.mode!r} is for new arrays, and this one is there; leave it out"
        raise OptionError(msg)
    if are_arrays(target) and not call.is_several:
        msg = "a mapping of arrays to write to is for several arrays; give those by the same keys"
        raise OptionError(msg)
    if isinstance(target, zarr.Array) and call.is_several:
        msg = (
            "several arrays do not go into one array; give a mapping of arrays by the same keys, "
            "or their group"
        )
        raise OptionError(msg)
    _check_keys(call)
    given, each = call.inputs(path, array_path)
    _refuse_storage_options(target, storage_options)
    if not is_local(target):
        return _open_regions(call, target, (given, each), storage_options)
    running = call.running_by_path
    root = running.patience.retry(lambda: store_path(target))
    refuse_zip(root)
    refusals, fixed = Refusals(len(given)), {}
    for key, one in given:
        with refusals.of(None):
            refuse_own_source(one, root, key)
            fixed[key] = _array_in(root, key)

    def items_in(
        arrays: Mapping[str, Any], refusals: Refusals | None = None
    ) -> tuple[RegionItem, ...]:
        return call.region_items(
            (given, each),
            {key: ExistingZarrArray(handle=one) for key, one in arrays.items()},
            is_open=False,
            keeps_empty=call.settings.write_empty_chunks,
            refusals=refusals,
        )

    items = items_in(fixed, refusals)
    # What is computed later goes where it was checked, or nowhere.
    place = replace(_place_of(call, root, fixed), again=items_in if call.compute else None)
    if place.link is not None:
        for _, one in given:
            refuse_own_source(one, place.root, "")
    return Request(name=str(root), place=place, items=items, running=running)


def _open_regions(
    call: Call,
    target: Any,
    inputs: tuple[list[tuple[str, Input]], list[Any]],
    storage_options: Mapping[str, Any] | None,
) -> Request[RegionItem]:
    """Return the request for parts of arrays that the caller has open, or behind a URL."""
    keys = [key for key, _ in inputs[0]]
    refusals, fixed = Refusals(len(keys)), {}
    if isinstance(target, zarr.Array) or are_arrays(target):
        found = [target]
        if are_arrays(target):
            found = targets_of_each(target, list(call.data), "arrays")
            _refuse_one_twice(keys, found)
        name = node_name(found[0].store, found[0].path)
        fixed = {key: ExistingZarrArray(handle=one) for key, one in zip(keys, found, strict=True)}
    else:
        check_store(target)
        store, inside = store_behind(target, storage_options)
        for key in keys:
            with refusals.of(None):
                fixed[key] = ExistingZarrArray(handle=existing_array(store, _joined(inside, key)))
        name = node_name(store, inside if call.is_several else _joined(inside, keys[0]))
    items = call.region_items(
        inputs,
        fixed,
        is_open=True,
        keeps_empty=call.settings.write_empty_chunks,
        refusals=refusals,
    )
    call.refuse_without_lock(_NOT_LOCAL)
    request = Request(name=name, place=OpenArrays(), items=items, running=call.running)
    request.check()
    return request


def are_arrays(target: Any) -> bool:
    """Return whether a target is open arrays by the keys of what goes into them."""
    return (
        isinstance(target, Mapping)
        and bool(target)
        and all(isinstance(one, zarr.Array) for one in target.values())
    )


def _refuse_one_twice(keys: Sequence[str], arrays: Sequence[Any]) -> None:
    """Refuse keys that lead to one array, of which parts in one chunk would lose each other."""
    names: dict[Any, str] = {}
    for key, array in zip(keys, arrays, strict=True):
        other = names.setdefault(_identity(array), key)
        if other != key:
            msg = f"{other!r} and {key!r} are one array; write them one at a time"
            raise OptionError(msg)


def _place_of(call: Call, root: Path, arrays: Mapping[str, Any]) -> FolderRegions:
    """Return where parts of arrays are written: where a link leads to, if there is one."""
    behind = {key: link_at(root, key) for key in arrays}
    links = {key: folder for key, folder in behind.items() if folder is not None}
    if not links:
        return FolderRegions(root=root)
    (key, folder), *_ = links.items()
    if call.is_several:
        msg = (
            f"array {key!r} of {root} is or lies behind a link, and what lies in several stores "
            "cannot be published as one; write it by a call of its own"
        )
        raise OptionError(msg)
    return FolderRegions(root=folder, link=root)


def _array_in(root: Path, key: str) -> Any:
    """Return the array in a local store of which a part is to be written."""
    check_array_writable(root, key)

    def look() -> Any:
        finish(root / key)
        # For reading: zarr-python makes the folder of any other store that is not there.
        return existing_array(LocalStore(root, read_only=True), key)

    return looked_at(look, root / key)


def _check_keys(call: Call) -> None:
    keys = list(call.data) if call.is_several else []
    if any(isinstance(key, str) and not key.strip("/") for key in keys):
        msg = f"a mapping with the keys {keys}; give every array a path in the store"
        raise OptionError(msg)


def _refuse_storage_options(target: Any, storage_options: Any) -> None:
    if storage_options and not is_url(target):
        msg = "storage_options are for stores behind a URL; this one is not, leave them out"
        raise OptionError(msg)


def _below(item: ZarrItem, prefix: str) -> ZarrItem:
    arranged = item.arranged
    return replace(item, arranged=replace(arranged, key=_joined(prefix, arranged.key)))


def _joined(prefix: str, key: str) -> str:
    return f"{prefix}/{key}".strip("/")
