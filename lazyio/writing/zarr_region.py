"""A part of an existing Zarr array, in a local folder or a store that is open."""

import contextlib
import errno
import logging
import operator
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from lazyio.atomic.digests import NotedDigests
from lazyio.atomic.journal import Facts
from lazyio.atomic.publish_steps import FolderSnapshot
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import NAME as DIGESTS
from lazyio.atomic.zarr_digests import Known, forget, load_or_none
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape, Stored, original, stored
from lazyio.errors import OptionError, TargetError
from lazyio.execution.report import WriteReport
from lazyio.inputs import Input
from lazyio.options import Default, as_fill_value
from lazyio.os_errors import walk
from lazyio.planning.iterables import cuts_chunks
from lazyio.planning.plan import Advice
from lazyio.planning.request import user_chunks, user_shards
from lazyio.regions import Region, box, n_touched, touched
from lazyio.sources.zarr_metadata import METADATA_FILES
from lazyio.sources.zarr_objects import OpenFolder, stored_objects
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.region_target import SharedArray, array_identity, growing
from lazyio.storage.zarr.array import (
    PARTIAL,
    REMOVED,
    OverlaidObjects,
    ZarrTarget,
    codecs_of,
    local_folder,
    shape_in_store,
)
from lazyio.storage.zarr.groups import ARRAY_FILES, publish_part
from lazyio.writing.append_iterables import offset_input
from lazyio.writing.array_plan import PlannedArray, expanded, in_whole_chunks, in_window, plan_array
from lazyio.writing.compatibility import (
    AskedArray,
    ExistingArray,
    GrowableShape,
    TargetRegion,
    done_region,
    refuse_differences,
    window_for,
)
from lazyio.writing.resume import facts_of_job, in_head, is_part_done
from lazyio.writing.run_options import (
    OPEN_HANDLE,
    RunOptions,
    report_on,
    report_with_done,
    scratch_beside,
)
from lazyio.writing.target_checks import refuse_own_source
from lazyio.writing.zarr_new import (
    ArrayWriter,
    check_open_array,
    folder_of,
    keep,
    node_at,
    node_name,
    renew_consolidated,
    resolved_name,
)
from lazyio.writing.zarr_request import (
    V2_DIMS,
    ZarrSettings,
    attributes_as_stored,
    compressors_of_version,
)


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


def part_of_array(
    array: Any,
    path: str,
    given: Input,
    settings: ZarrSettings,
    *,
    region: Any,
    append_dim: Any,
) -> tuple[PlannedArray, TargetRegion]:
    """Return the plan for a part of an existing array, and which part it is."""
    name = f"array {array.store_path}"
    room = _room_in(array, name)
    if given.comes_once:
        given, window = offset_input(given, room, region, append_dim)
    else:
        window = window_for(room, given.shape, region, append_dim)
    others = _others_asked(settings, array)
    settings = settings.completed(given)
    settings.check()
    form = fitted_to(array, name, settings, given, others=others)
    given = expanded(given, window.new_axes)
    # What is written whole, be it a chunk or a shard.
    unit = tuple(map(int, array.shards or array.chunks))
    cutting = replace(settings.cutting(), chunks=unit, shards=None, chunk_nbytes=None)

    def make(memory_limit: int | None) -> PlannedArray:
        limited = cutting if memory_limit is None else replace(cutting, memory_limit=memory_limit)
        return plan_array(path, given, limited, dtype=form.original)

    arranged = in_whole_chunks(
        make,
        unit,
        # A chunk at the rim is read, and its compressed form with it.
        n_copies=2 if given.comes_once or cuts_chunks(window.region, window.shape, unit) else 0,
        workers_fixed=settings.workers is not None,
    )
    plan = arranged.plan
    if array.shards:
        layout = replace(plan.layout, chunk_shape=tuple(map(int, array.chunks)), shard_shape=unit)
        plan = replace(plan, layout=layout)
    return replace(arranged, form=form, plan=plan), window


def _room_in(array: Any, name: str) -> GrowableShape:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(V2_DIMS)
    # In v2 an attribute, which may hold anything.
    is_list = isinstance(names, (tuple, list)) and len(names) == len(array.shape)
    return GrowableShape(
        name=name,
        shape=tuple(map(int, array.shape)),
        # Any axis of a Zarr array can grow.
        max_shape=(None,) * len(array.shape),
        dims=tuple(names) if is_list else (),
    )


def fitted_to(
    array: Any,
    name: str,
    settings: ZarrSettings,
    given: Input,
    *,
    item_shapes: tuple[Shape | None, Shape | None] = (None, None),
    others: Mapping[str, Any] = MappingProxyType({}),
) -> Stored:
    """Return the form of an array's elements, once nothing else differs.

    ``item_shapes`` are those of elements as they are and as they are asked for.
    """
    dtype = np.dtype(array.dtype)
    attributes = dict(array.attrs)
    form = original(dtype, attributes) or replace(stored(dtype, "zarr"), original=dtype)
    existing = ExistingArray(
        name=name,
        dtype=form.original,
        chunk_shape=tuple(map(int, array.chunks)),
        codec=str(codecs_of(array)),
        fill_value=array.fill_value,
        attrs=attributes,
        item_shape=item_shapes[0],
        others={
            "zarr_format": array.metadata.zarr_format,
            "dimension_names": _room_in(array, name).dims,
            "shards": array.shards,
        },
    )
    asked = _asked(settings, given, array, form)
    asked = replace(asked, item_shape=item_shapes[1], others=others)
    refuse_differences(existing, asked, given)
    return form


def _others_asked(settings: ZarrSettings, array: Any) -> dict[str, Any]:
    """Return what else the user said, and not the data, that an array may contradict."""
    found: dict[str, Any] = {}
    if settings.zarr_format == 2:
        found["zarr_format"] = 2
    names = settings.dimension_names
    if not isinstance(names, Default) and names is not None:
        found["dimension_names"] = tuple(names)
    shards = user_shards(settings.shards, array.shape)
    if isinstance(shards, tuple) and -1 not in shards:
        found["shards"] = shards
    return found


def _asked(settings: ZarrSettings, given: Input, array: Any, form: Stored) -> AskedArray:
    """Return what the user said that an existing array may contradict."""
    chunk_shape = None
    is_open = isinstance(settings.chunks, str) and settings.chunks == "auto"
    if not is_open:
        facts = given.facts(given.dtype, own_blocks=False)
        chunk_shape = user_chunks(settings.chunks, facts, given.dims)
    fill_value = settings.fill_value
    if fill_value is not None:
        element = as_fill_value("fill_value", fill_value, form.original)
        fill_value = form.encode_one(element)
    return AskedArray(
        dtype=settings.dtype,
        chunk_shape=chunk_shape,
        codec=_asked_codecs(settings, array),
        fill_value=fill_value,
        attrs=attributes_as_stored(
            settings.attributes or {}, form.dtype, array.metadata.zarr_format
        ),
    )


def _asked_codecs(settings: ZarrSettings, array: Any) -> str | None:
    """Return the codecs that the user named, as zarr-python would keep them."""
    named = {
        name: value
        for name, value in (
            (
                "compressors",
                compressors_of_version(settings.compressors, array.metadata.zarr_format),
            ),
            ("filters", settings.filters),
        )
        if not (isinstance(value, str) and value == "auto")
    }
    if not named:
        return None
    try:
        like = zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=array.shape,
            chunks=array.chunks,
            shards=array.shards,
            dtype=array.dtype,
            zarr_format=array.metadata.zarr_format,
            **named,
        )
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{', '.join(named)} are no codecs of Zarr: {error}"
        raise OptionError(msg) from error
    wanted, there = codecs_of(like), codecs_of(array)
    # What was not named may be anything.
    return str({**there, **{name: wanted[name] for name in named}})


logger = logging.getLogger("lazyio")

_MOST_ASKED = 1000
"""Objects that are asked for one by one, before a listing tells which ones are there."""


@dataclass(frozen=True, kw_only=True)
class PartOfStore:
    """A part of an array in a local folder."""

    root: Path
    """Folder of the store."""
    name: str
    """Path of the array in it."""
    behind: Path | None
    """Where the array lies, if a link leads there: that is what is written."""
    arranged: PlannedArray
    """What goes into the part."""
    window: TargetRegion
    """The part, in the array as it was when the order was made."""
    seen: Shape
    """Its shape at that time."""
    keeps_empty: bool | None
    """Whether objects of fill value are stored; ``None`` leaves it to the array."""
    appends: bool
    """Whether it goes behind what is there."""
    running: RunOptions
    """The rest."""

    def write(self) -> WriteReport:
        """Build the objects that the part touches, and put them to the others."""
        began = time.perf_counter()
        if self.behind is not None:
            return self._write_behind(self.behind)
        final = self.root / self.name if self.name else self.root
        head = self._head()
        if head and is_part_done(load_or_none(final), head) and self._is_same(final):
            return report_with_done(str(self.root), [self.arranged], None, began=began, advice=())
        facts = self._facts(final) if self.running.resume else None
        advice = self.running.advice
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(self.root.parent))
            folder = self.root if self.name else None
            work = stack.enter_context(WorkDirectory(final, folder=folder, facts=facts))
            under = _opened(final)
            with disk_errors(self.root.parent):
                known = Known.of(final, self.name, under)
                over = OverlaidObjects(array=under, seen=self._seen(final, under))
                if work.is_resumed:
                    _remove_partial(work.built)
                else:
                    _copy_metadata(final, work.built)
            array = _opened(work.built, mode="r+")
            part = _in_part(array, self, noted=self._noted(array), over=over)
            work.save_job()
            if self.running.resume:
                advice += keep(work, [part], stack)
            ran = self.running.write([part.to_job()], work.scratch)
            outcome = part.finish()
            part.tell_shape()
            if part.noted is not None:
                known.renew(work.built, part.array, part.noted, head, grid=part.target.grid)
            advice += self._publish(work, over)
        return report_on(str(self.root), [outcome], ran=ran, began=began, advice=advice)

    def _write_behind(self, behind: Path) -> WriteReport:
        """Write the array that a link leads to, a store of its own; then say so in this one."""
        report = replace(self, root=behind, name="", behind=None).write()
        advice: Advice = ()
        try:
            renew_consolidated(LocalStore(self.root), self.name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"consolidated metadata of {self.root} do not know of it: {error}"
            advice = (("not-consolidated", what),)
        return replace(report, path=str(self.root), advice=(*report.advice, *advice))

    def _publish(self, work: WorkDirectory, over: OverlaidObjects) -> Advice:
        objects, removals = _built_in(work.built)
        digests = work.target / DIGESTS
        if DIGESTS not in objects and digests.exists():
            removals.append(DIGESTS)
        changed = [name for name in (*objects, *removals) if name != DIGESTS]
        return publish_part(
            work,
            self.root,
            self.name,
            lambda: over.seen.check(changed),
            objects=[(work.built / name, work.target / name) for name in objects],
            removals=[work.target / name for name in removals],
            # What one rename changes, or nobody sees until the shape is told, is never half there.
            is_closed=len(changed) > 1 and self._changes_elements(),
        )

    def _changes_elements(self) -> bool:
        """Return whether elements are written that were there before."""
        if self.arranged.bounds is not None:
            return self.arranged.given.stream is None
        inside = zip(self.window.region, self.seen, strict=True)
        return all(part.start < extent for part, extent in inside)

    def _seen(self, final: Path, array: Any) -> FolderSnapshot:
        """Return what is there of the part, which another program is not to change meanwhile."""
        seen = FolderSnapshot(final, (*ARRAY_FILES, ".zattrs", DIGESTS))
        if not self.arranged.given.comes_once:
            step = tuple(map(int, array.shards or array.chunks))
            seen.look_at_all(_names_in(final, array.metadata, self.window.region, step))
            if _leaves_a_gap(self.seen, self.window):
                rim = _rim(final, array.metadata, self.seen, self.window.shape, step)
                seen.look_at_all(map(array.metadata.encode_chunk_key, rim))
        return seen

    def _is_same(self, final: Path) -> bool:
        """Return whether a chunk of the part that was written last comes out again."""
        target = ZarrTarget(zarr.open_array(final, mode="r"), keeps_empty=bool(self.keeps_empty))
        region = done_region(self.window, self.seen, appends=self.appends)
        return self.running.is_same(in_window(self.arranged, region), target, region)

    def _noted(self, array: Any) -> NotedDigests | None:
        return self.running.noted(self.window.shape, array.shards or array.chunks)

    def _facts(self, final: Path) -> Facts:
        """Return what the job is, and over what: parts of chunks are merged with that."""
        over = self._seen(final, _opened(final)).fact()
        return facts_of_job("zarr", [(self.arranged, None, self.window)], seen=self.seen, over=over)

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
    arranged: PlannedArray
    """What goes into the part."""
    window: TargetRegion
    """The part."""
    seen: Shape
    """The array's shape when the part was chosen."""
    appends: bool
    """Whether it goes behind what is there."""
    again: Callable[[], tuple[PlannedArray, TargetRegion]] | None
    """Returns what goes behind the end, and where that is, if another thread has moved it."""
    keeps_empty: bool | None
    """Whether objects of fill value are stored; ``None`` leaves it to the array."""
    running: RunOptions
    """The rest."""

    def check(self) -> None:
        """Refuse an array that cannot be written, and to write over what is being read."""
        check_open_array(self.array, grows=self.window.shape != self.seen)
        refuse_own_source(self.arranged.given, resolved_name(self.array.store), self.array.path)

    def write(self) -> WriteReport:
        """Write into the open array."""
        began = time.perf_counter()
        self.check()
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(scratch_beside(folder_of(self.array.store)))
            if (folder := local_folder(self.array)) is not None:
                # Others may be at work on the array: its digests are not ours to renew.
                forget(folder)
            part = self._begin(stack)
            ran = self.running.for_handle().write([part.to_job()], scratch)
            outcome = part.finish()
            part.tell_shape()
        if part.target.shape != self.seen:
            renew_consolidated(self.array.store, self.array.path)
        advice = (*self.running.advice, OPEN_HANDLE)
        name = node_name(self.array.store, self.array.path)
        return report_on(name, [outcome], ran=ran, began=began, advice=advice)

    def _begin(self, stack: contextlib.ExitStack) -> ArrayWriter:
        """Return what writes the part, of an array that has grown for it; no two grow at once."""
        array, order = self.array, self
        identity = array_identity(array)
        with contextlib.ExitStack() as held:
            held.enter_context(growing(identity, f"array {array.store_path}"))
            self._look_again()
            if array.shape != self.seen and self.again is not None:
                arranged, window = self.again()
                order = replace(self, arranged=arranged, window=window, seen=array.shape)
            elif array.shape != self.seen:
                if self.appends or any(map(operator.lt, array.shape, self.seen)):
                    _refuse_changed(self, array)
                window = replace(self.window, shape=tuple(map(max, array.shape, self.window.shape)))
                order = replace(self, window=window, seen=array.shape)
            part = replace(_in_part(array, order), shared=SharedArray(identity=identity))
            if order.arranged.bounds is not None:
                stack.push(held.pop_all())  # It grows as its parts come.
        return part

    def _look_again(self) -> None:
        """Have the caller's array as long as it is, where another handle has made it longer."""
        array = self.array
        shape = shape_in_store(array)
        if shape != array.shape and not any(map(operator.lt, shape, array.shape)):
            array.resize(shape)


def _in_part(
    array: Any,
    order: PartOfStore | PartOfArray,
    noted: NotedDigests | None = None,
    over: OverlaidObjects | None = None,
) -> ArrayWriter:
    """Return the job that writes a part of an array, which has grown for it."""
    window = order.window
    if array.shape not in (order.seen, window.shape):
        _refuse_changed(order, array)
    if array.shape != window.shape:
        array.resize(window.shape)
    keeps_empty = order.keeps_empty
    if keeps_empty is None:
        keeps_empty = array.config.write_empty_chunks
    elif keeps_empty != array.config.write_empty_chunks:
        array = array.with_config({"write_empty_chunks": keeps_empty})
    arranged = order.arranged
    target = ZarrTarget(
        array,
        keeps_empty=keeps_empty,
        replaces=True,
        noted=noted,
        bounds=arranged.bounds,
        over=over,
    )
    region = None
    if arranged.bounds is None:
        arranged, region = in_window(arranged, window.region), window.region
        if _leaves_a_gap(order.seen, window):
            folder = local_folder(array if over is None else over.array)
            _clear_rim(target, folder, order.seen, window.region)
    return ArrayWriter(arranged=arranged, array=array, target=target, window=region, noted=noted)


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
            "was written, look what is there and make the call again"
        )
        raise TargetError(getattr(error, "errno", None) or errno.ENOENT, msg) from error


def _refuse_changed(order: PartOfStore | PartOfArray, array: Any) -> None:
    msg = (
        f"array {order.arranged.key!r} has shape {array.shape} now and had {order.seen} when "
        "the part was chosen; make the call again"
    )
    raise TargetError(errno.EBUSY, msg)


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
            elif path == DIGESTS or name not in METADATA_FILES:
                objects.append(path)
    there = set(objects)
    return objects, [name for name in removals if name not in there]


def _remove_partial(built: Path) -> None:
    """Remove objects that were being written when a run was killed."""
    for below, _, names in walk(built):
        for name in names:
            if name.endswith(PARTIAL):
                os.unlink(os.path.join(below, name))
