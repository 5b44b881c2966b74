"""New Zarr arrays: in a local store, a zip file, or a store that is open."""

import contextlib
import errno
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import zarr
import zarr.errors
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, StorePath, ZipStore

from lazyio.atomic.digests import NotedDigests, Table
from lazyio.atomic.fsync import require_space
from lazyio.atomic.journal import Facts
from lazyio.atomic.publish_steps import Identity, identity_of
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import NAME as DIGESTS
from lazyio.atomic.zarr_digests import (
    StoreNeighbours,
    beside,
    facts_in,
    facts_of,
    introduce,
    load,
    make_room,
    pieces_of,
    ring,
    store,
    table_of,
)
from lazyio.atomic.zarr_digests import keep as keep_neighbours
from lazyio.errors import BlockError, OptionError, TargetError, TargetExistsError
from lazyio.execution.report import WriteReport
from lazyio.execution.task import WriteTask
from lazyio.planning.plan import Advice
from lazyio.regions import Region
from lazyio.sources.zarr import store_name
from lazyio.storage.disk_errors import disk_errors, store_errors
from lazyio.storage.region_target import RegionTarget, SharedArray
from lazyio.storage.zarr.array import (
    DeferredZarrMetadata,
    ZarrOptions,
    ZarrTarget,
    chunk_keys_of,
    create_array,
    local_folder,
)
from lazyio.storage.zarr.groups import publish_arrays
from lazyio.writing.array_plan import PlannedArray
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
from lazyio.writing.target_checks import check_zarr_place, refuse_own_source


@dataclass(frozen=True, kw_only=True)
class ZarrItem:
    """One array that is to be made."""

    arranged: PlannedArray
    """What goes into it; its key is the path inside the store."""
    options: ZarrOptions
    """How it is stored."""


@dataclass(frozen=True, kw_only=True)
class ArrayWriter:
    """An array that stands, and the job that fills it."""

    arranged: PlannedArray
    array: Any
    target: ZarrTarget
    window: Region | None = None
    noted: NotedDigests | None = None
    shared: SharedArray | None = None
    """What other threads may write to as well."""

    def to_job(self) -> WriteTask:
        """Return the job."""
        keeping = self.target.keeping
        if self.window is None:
            return self.arranged.job(self.target, keeping=keeping, shared=self.shared)
        target = RegionTarget(self.target, self.window, self.shared)
        return self.arranged.job(target, self.window, keeping)

    def keep_digests(self, job: Mapping[str, str], place: StoreNeighbours) -> None:
        """Store the digests of what was written beside it, where there are any."""
        folder = local_folder(self.array)
        if self.noted is not None and folder is not None:
            facts = facts_of(folder, self.arranged.key)
            store(folder, self.table(facts, place, job))
            make_room(folder)

    def table(
        self, facts: Mapping[str, str], place: StoreNeighbours, job: Mapping[str, str] | None = None
    ) -> Table:
        """Return the digests of what was written, which were noted."""
        noted = self.noted or NotedDigests()
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


def make(
    store: Any, path: str, item: ZarrItem, *, noted: NotedDigests | None = None
) -> ArrayWriter:
    """Make an array, still empty, and the job that fills it."""
    return filled(create_array(store, path, **settings_of(item)), item, noted)


def settings_of(item: ZarrItem) -> dict[str, Any]:
    """Return what :func:`~lazyio.storage.zarr.array.create_array` takes."""
    plan = item.arranged.plan
    return {
        "shape": item.arranged.first_shape,
        "chunk_shape": plan.chunk_shape,
        "shard_shape": plan.shard_shape,
        "dtype": plan.dtype,
        "options": item.options,
    }


def filled(array: Any, item: ZarrItem, noted: NotedDigests | None) -> ArrayWriter:
    """Return an array that stands, and what fills it."""
    target = ZarrTarget(
        array,
        keeps_empty=bool(item.options.write_empty_chunks),
        # A chunk of pieces may have to be written again, and hold nothing then.
        replaces=item.arranged.given.pieces is not None,
        noted=noted,
        bounds=item.arranged.bounds,
    )
    return ArrayWriter(arranged=item.arranged, array=array, target=target, noted=noted)


def least_nbytes(item: ZarrItem) -> int:
    """Return the bytes that an array takes at least, as far as that is known."""
    is_plain = item.options.compressors is None and item.options.filters in (None, "auto")
    is_stored = bool(item.options.write_empty_chunks)
    is_known = not item.arranged.given.comes_once
    return item.arranged.plan.nbytes if is_plain and is_stored and is_known else 0


def keep(
    work: WorkDirectory, several: Sequence[ArrayWriter], stack: contextlib.ExitStack
) -> Advice:
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
        msg = f"{name} is there already, and mode={mode!r} makes only new ones; pass mode='a'"
        raise TargetExistsError(errno.EEXIST, msg)
    if not is_there and mode == "r+":
        msg = f"{name} holds nothing, and mode='r+' adds to existing ones only; pass mode='a'"
        raise TargetError(errno.ENOENT, msg)


def check_place_in(store: Any, path: str, zarr_format: int, *, replace: bool) -> None:
    """Refuse a place in a store that holds anything but an array that may be replaced."""
    parts = path.split("/") if path else []
    above = ["/".join(parts[:depth]) for depth in range(len(parts))]
    for group in above:
        found = node_at(store, group)
        name = node_name(store, group)
        if isinstance(found, zarr.Array):
            msg = f"{name} is an array, and an array holds no other; choose another path"
            raise TargetError(errno.ENOTDIR, msg)
        version = None if found is None else found.metadata.zarr_format
        if version not in (None, zarr_format):
            msg = (
                f"{name} is a Zarr v{version} group, to which no v{zarr_format} "
                "array can be added; choose another store, or zarr_format"
            )
            raise TargetError(errno.EEXIST, msg)
    found = node_at(store, path)
    name = node_name(store, path)
    if isinstance(found, zarr.Group):
        msg = f"{name} is a group of arrays, which is not replaced; give path= for an array in it"
        raise TargetExistsError(errno.EEXIST, msg)
    if found is not None and not replace:
        msg = f"{name} is there already; pass overwrite=True to replace it, or another path"
        raise TargetExistsError(errno.EEXIST, msg)
    # Chunks without metadata would come to light between those of the new array.
    if found is None and not replace and not sync(store.is_empty(path)):
        msg = (
            f"{name} holds objects and no array, left by a run that failed or by others; pass "
            "overwrite=True to remove all of them, or another path"
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
    """Whether existing arrays may be replaced."""
    running: RunOptions
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
            made: list[ArrayWriter] = []
            advice: Advice = ()
            for work in works:
                # In an existing store every array has a hidden folder of its own.
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

    def _make(self, work: WorkDirectory, item: ZarrItem, is_kept: bool) -> ArrayWriter:
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
        """Return what the job is, where it can be resumed."""
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
    running: RunOptions
    """The rest."""

    def write(self) -> WriteReport:
        """Write the file and give it its name, or leave what was there."""
        began = time.perf_counter()
        self.check_place()
        with WorkDirectory(self.path) as work:
            self.check_place()
            with contextlib.closing(zarr.storage.ZipStore(work.built, mode="w")) as store:
                apart = DeferredZarrMetadata(store)
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

    def _made(self, apart: DeferredZarrMetadata, item: ZarrItem) -> ArrayWriter:
        plan = item.arranged.plan
        noted = self.running.noted(plan.shape, plan.shard_shape or plan.chunk_shape)
        return _made_apart(apart, item, overwrite=False, noted=noted)

    def _keep_digests(
        self, apart: DeferredZarrMetadata, one: ArrayWriter, place: StoreNeighbours
    ) -> None:
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
    """Whether existing arrays may be replaced."""
    running: RunOptions
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
        apart = DeferredZarrMetadata(self.store)
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
    apart: DeferredZarrMetadata,
    item: ZarrItem,
    *,
    overwrite: bool,
    noted: NotedDigests | None = None,
) -> ArrayWriter:
    """Make an array that its store is not told of yet, and what fills it."""
    array = apart.create(item.arranged.key, overwrite=overwrite, **settings_of(item))
    return filled(array, item, noted)


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


def _consolidate_new(built: Path) -> None:
    """Give a new group of v2 the metadata of its arrays in one file, as xarray expects it."""
    if (built / ".zgroup").is_file():
        zarr.consolidate_metadata(built, zarr_format=2)
