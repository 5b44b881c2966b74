"""HDF5 files and open groups as places to write to: new datasets, and parts of existing ones."""

import contextlib
import errno
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import Table
from lazyio.atomic.hdf5_digests import Known, forget, load, store, table_of
from lazyio.atomic.workdir import WorkDirectory
from lazyio.dtypes import DTYPE_ATTRIBUTE, Shape, is_text, original, widened
from lazyio.errors import TargetError
from lazyio.libhdf5_calls import name_of
from lazyio.planning.plan import Advice
from lazyio.regions import Region, box_shape
from lazyio.sources.hdf5 import describe_dataset
from lazyio.storage.disk_errors import disk_errors
from lazyio.storage.hdf5.attributes import RESERVED, write_attributes
from lazyio.storage.hdf5.change import open_for_change, publish_change
from lazyio.storage.hdf5.dataset import Hdf5Target, create_dataset, element_dtype
from lazyio.storage.hdf5.dimension_scales import (
    ScaleUse,
    attach_again,
    attach_dimensions,
    grow_dimensions,
    remove_dataset,
)
from lazyio.storage.hdf5.file import OpenMode
from lazyio.storage.hdf5.file_form import FileForm
from lazyio.storage.hdf5.links import is_link_to, link_object, own_name, table_of_link
from lazyio.storage.hdf5.typed_datasets import TypedDataset
from lazyio.storage.region_target import Comparable, SharedArray, growing
from lazyio.writing.hdf5_settings import ExistingDataset, Hdf5Item
from lazyio.writing.refusals import Refusals
from lazyio.writing.request import (
    ArrayWriter,
    Build,
    Heads,
    Place,
    RegionItem,
    WriteItem,
    alone_with,
    resumed,
)
from lazyio.writing.run_options import Outcome, RunOptions, outcome_of, scratch_beside
from lazyio.writing.target_checks import (
    check_hdf5_place,
    check_key,
    check_key_is_free,
    check_open_file,
    file_to_replace,
    kind_at,
    refuse_own_source,
)

Item = TypeVar("Item", bound=WriteItem)

GroupAttributes = Mapping[str, Mapping[str, Any]]
"""By the path of a group."""


@dataclass(frozen=True, kw_only=True)
class DatasetWriter(ArrayWriter):
    """A dataset that stands, and what fills it or a part of it."""

    target: Hdf5Target
    dataset: Any
    name: str
    """Its path in the file."""
    seen: Shape | None = None
    """Extents that it had before it grew."""
    known: Known | None = None
    """Digests that it had before a part of it is written."""
    dropped: tuple[str, ...] = ()
    """Attributes of what it replaces that it has not."""

    @property
    def is_noted(self) -> bool:
        """Whether digests of payloads are known as they are written."""
        return self.target.encodes

    def keep_digests(self, heads: Heads) -> None:
        """Store the digests of what was written, or renew those of all of the dataset."""
        job = heads.get(self.arranged.key, {})
        file = self.dataset.file
        if self.noted is None:
            forget(file, self.name)
        elif self.known is not None:
            grid = None if self.arranged.bounds is None else self.target.grid
            self.known.renew(self.dataset, self.noted, job, grid=grid)
        else:
            rows, rims = self.target.rows(self.noted), self.target.rims(self.noted)
            store(file, self.name, table_of(self.dataset, rows, rims, job))

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        arranged = self.arranged
        if arranged.given.pieces is not None:
            grow_dimensions(self.dataset)
        properties = self.dataset.id.get_create_plist()
        has_mark = (
            "_FillValue" in self.dataset.attrs
            or properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
        )
        shape = self.target.chunk_shape
        found = outcome_of(arranged, self.to_job(), shape, has_mark=has_mark)
        if self.dropped:
            what = (
                f"{arranged.key!r} has not the attributes of what it replaced: "
                f"{', '.join(self.dropped)}; give attrs= with those that still hold"
            )
            found = replace(found, advice=(*found.advice, ("attributes-dropped", what)))
        return found

    def shrink(self) -> None:
        """Take back that the dataset has grown for what could not be written, if all is as it was.

        What comes once is kept as far as it was written.
        """
        dataset = self.dataset
        if self.arranged.bounds is not None or not dataset.chunks:
            return
        with growing(identity_of(dataset), f"array {self.arranged.key!r}"):
            is_ours = dataset.shape == self.target.shape and self.seen is not None
            if is_ours and dataset.shape != self.seen:
                dataset.resize(self.seen)


@dataclass(frozen=True, kw_only=True)
class _File(Place[Item]):
    """A file of which the path is known: another is built, or a log of its change."""

    path: Path
    """The file."""
    libver: Any = None
    """File format bounds; of a file that is there its own."""
    form: FileForm | None = None
    """How a new file is made; ``None`` is as h5py makes it."""

    format: ClassVar[str] = "hdf5"

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        return {"libver": self.libver}

    @contextlib.contextmanager
    def written(self, item: Item) -> Iterator[tuple[Table, Comparable] | None]:
        """Return the digests and chunks of what is there, where there are digests of it."""
        key, found = item.arranged.key, None
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                file = stack.enter_context(h5py.File(self.path, "r"))
                if isinstance(item, RegionItem):
                    key = own_name(file, key)
                table = _table_or_none(file, key)
                if table is not None:
                    chunk_shape = file[key].chunks or item.arranged.plan.chunk_shape
                    target = Hdf5Target(file[key], chunk_shape, folder=self.path.parent)
                    found = table, target
            yield found

    def is_linked(self, item: Item) -> bool:
        """Return whether a dataset is to be a link, and that is there."""
        if not isinstance(item, Hdf5Item) or item.link is None or item.contradicted:
            return False
        with contextlib.suppress(OSError), h5py.File(self.path, "r") as file:
            link = item.link
            return is_link_to(file, item.arranged.key, link.path, link.key, self.path)
        return False

    @contextlib.contextmanager
    def build(self, items: Sequence[Item], running: RunOptions, heads: Heads) -> Iterator[Build]:
        """Open a hidden file, or a log of the change of a large one; then publish it."""
        facts = self.facts(items) if running.resume else None
        with contextlib.ExitStack() as stack:
            work = stack.enter_context(
                WorkDirectory(self.path, facts=facts, patience=running.patience)
            )
            # Again, now that no other writer can publish between the check and the copy.
            old = self.path if self.check(items) else None
            nbytes = 0 if work.is_resumed else sum(map(_least_nbytes, items))
            is_read = any(item.arranged.given.reads(self.path) for item in items)
            opened = open_for_change(
                work,
                old,
                self.libver,
                nbytes=nbytes,
                resume=running.resume,
                is_read=is_read,
                form=self.form,
            )
            with opened as built, contextlib.ExitStack() as inner:
                made = built.call(lambda: self._made(built, items, running))
                build = Build(made=made, scratch=work.scratch, call=built.call)
                build.advice = _resumed(work, build.writers, built, inner)
                yield build
                built.call(lambda: [one.keep_digests(heads) for one in build.writers])
                built.call(lambda: self._complete(built.file, running))
            build.advice += publish_change(work)
        build.advice += tuple(work.advice)

    def _made(
        self, built: OpenMode, items: Sequence[Item], running: RunOptions
    ) -> Sequence[DatasetWriter | Outcome]:
        """Make what takes the chunks; nothing is computed yet."""
        raise NotImplementedError

    def _complete(self, file: h5py.File, running: RunOptions) -> None:
        """Do what is left to do once all chunks are written."""


@dataclass(frozen=True, kw_only=True)
class NewDatasets(_File[Hdf5Item]):
    """A file that gets new datasets."""

    mode: str
    """h5py's file mode."""
    overwrite: bool
    """Whether existing datasets may be replaced."""
    group_attrs: GroupAttributes = field(default_factory=dict)
    """Attributes of groups, by their paths."""

    @property
    def is_one(self) -> bool:
        """Whether a file is made anew: that is either all there, or not at all."""
        return self.mode not in ("a", "r+")

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        groups = {"groups": self.group_attrs} if self.group_attrs else {}
        return super().common | groups

    def check(self, items: Sequence[Hdf5Item]) -> bool:
        """Refuse a file that may not be written, and return whether it is added to."""
        given = {item.arranged.key: item.arranged.given for item in items}
        return check_hdf5_place(given, self.path, self.mode, replace=self.overwrite)

    def _made(
        self, built: OpenMode, items: Sequence[Hdf5Item], running: RunOptions
    ) -> Sequence[DatasetWriter | Outcome]:
        made = _make(built.file, items, self.path, running, replace_old=self.overwrite)
        _describe_groups(built.file, self.group_attrs)
        return made


@dataclass(frozen=True, kw_only=True)
class FileRegions(_File[RegionItem]):
    """A file of which parts of datasets are written, all of them or none."""

    again: Callable[[h5py.File], Sequence[RegionItem]] | None = field(default=None, compare=False)
    """Returns what goes where in the file as others have left it."""

    @property
    def is_one(self) -> bool:
        """Whether parts that are done are all done: they are published as one."""
        return True

    def check(self, items: Sequence[RegionItem]) -> bool:
        """Refuse what is no dataset to write a part of."""
        for item in items:
            refuse_unusable(self.path, item.arranged.key)
        return True

    def _made(
        self, built: OpenMode, items: Sequence[RegionItem], running: RunOptions
    ) -> Sequence[DatasetWriter]:
        return [self._part(built, item, running) for item in self._now(built, items, running)]

    def _now(
        self, built: OpenMode, items: Sequence[RegionItem], running: RunOptions
    ) -> Sequence[RegionItem]:
        """Return the parts in the file as it is, now that nobody else can change it.

        Others may have written to it since the parts were chosen: while this one waited for
        the lock, or until it was computed. An interrupted job is only resumed in the same file.
        """
        there = [
            ExistingDataset(handle=built.file[own_name(built.file, item.arranged.key)])
            for item in items
        ]
        pairs = list(zip(items, there, strict=True))
        if all(item.is_for(array.handle.shape, array.kind) for item, array in pairs):
            return items
        is_bound = any(item.arranged.given.is_bound for item in items)
        if self.again is not None and not running.resume and not is_bound:
            return self.again(built.file)
        for item, array in pairs:
            item.check_seen(array.handle.shape)
            item.check_kind(array.kind)
        return items

    def _part(self, built: OpenMode, item: RegionItem, running: RunOptions) -> DatasetWriter:
        dataset = built.file[own_name(built.file, item.arranged.key)]
        item.check_seen(dataset.shape)
        # Before it grows.
        known = Known.of(dataset)
        old = partial(self._old, item.arranged.key) if built.is_resumable else None
        return replace(_in_part(dataset, item, self.path, running, old=old), known=known)

    def _old(self, key: str, region: Region) -> npt.NDArray[Any]:
        """Return elements as they are in the file itself, which has not changed yet."""
        with h5py.File(self.path, "r") as file:
            dataset = file[key]
            there = tuple(
                slice(part.start, max(part.start, min(part.stop, extent)))
                for part, extent in zip(region, dataset.shape, strict=True)
            )
            fill = "" if is_text(element_dtype(dataset)) else dataset.fillvalue
            elements = np.full(box_shape(region), fill, element_dtype(dataset))
            inside = tuple(slice(0, part.stop - part.start) for part in there)
            # Here, for libhdf5 may not have the filters.
            elements[inside] = describe_dataset(dataset, str(self.path)).read(there)
            return elements


@dataclass(frozen=True, kw_only=True)
class OpenGroup(Place[Hdf5Item]):
    """A group of a file that the caller has open, which gets new datasets."""

    group: h5py.Group
    """The group."""
    overwrite: bool
    """Whether existing datasets may be replaced."""
    group_attrs: GroupAttributes = field(default_factory=dict)
    """Attributes of groups in it, by their paths; the empty one is its own."""

    is_open: ClassVar[bool] = True

    def check(self, items: Sequence[Hdf5Item]) -> None:
        """Refuse a file that cannot be written, or that is read at the same time."""
        check_open_file(self.group)
        refusals = Refusals(len(items))
        for item in items:
            key = item.arranged.key
            whole = posixpath.join(self.group.name, key)
            with refusals.of(None):
                check_key_is_free(self.group, key, replace=self.overwrite)
                check_key(whole)
                refuse_own_source(item.arranged.given, path_of(self.group), whole)
        refusals.check()

    @contextlib.contextmanager
    def build(
        self, items: Sequence[Hdf5Item], running: RunOptions, heads: Heads
    ) -> Iterator[Build]:
        """Make the datasets where they are to be."""
        self.check(items)
        path = path_of(self.group)
        with scratch_beside(path) as scratch:
            made = _make(self.group, items, path, running, replace_old=self.overwrite)
            _describe_groups(self.group, self.group_attrs)
            build = Build(made=made, scratch=scratch)
            yield build
            for one in build.writers:
                one.keep_digests(heads)


@dataclass(frozen=True, kw_only=True)
class OpenDatasets(Place[RegionItem]):
    """A file that the caller has open, of which parts of datasets are written."""

    file: Any
    """An object of it."""

    is_open: ClassVar[bool] = True

    def check(self, items: Sequence[RegionItem]) -> None:
        """Refuse a file that cannot be written, or that is read at the same time."""
        check_open_file(self.file)
        for item in items:
            check_open_file(item.array)
            refuse_own_source(item.arranged.given, path_of(item.array), item.array.name)

    @contextlib.contextmanager
    def build(self, items: Sequence[RegionItem], running: RunOptions, _: Heads) -> Iterator[Build]:
        """Make the datasets as long as they are to be; if it fails, cut them again."""
        self.check(items)
        path = path_of(self.file)
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(scratch_beside(path))
            parts: list[DatasetWriter] = []
            try:
                for item in items:
                    # One by one, so that those are cut again that have been made longer.
                    parts += [self._part(item, running, stack)]
                yield Build(made=parts, scratch=scratch)
            except BaseException:
                for one in parts:
                    one.shrink()
                raise

    def _part(
        self, item: RegionItem, running: RunOptions, stack: contextlib.ExitStack
    ) -> DatasetWriter:
        dataset, path = item.array, path_of(item.array)
        shared = SharedArray(identity=identity_of(dataset), has_chunks=dataset.chunks is not None)
        with alone_with(item, shared, lambda: dataset.shape, stack) as now:
            # Others may be at work on the file: its digests are not ours to renew.
            forget(dataset.file, name_of(dataset))
            seen = dataset.shape
            part = _in_part(dataset, now, path, running)
            return replace(part, seen=seen, shared=shared)


def _least_nbytes(item: WriteItem) -> int:
    """Return the bytes that a dataset takes at least, as far as that is known."""
    given = item.arranged.given
    if item.arranged.payloads is not None:
        return item.arranged.payloads.sizes[0]
    is_plain = isinstance(item, Hdf5Item) and item.link is None and not item.options.filters
    is_known = not given.is_empty and not given.comes_once
    return item.arranged.plan.nbytes if is_plain and is_known else 0


def _resumed(
    work: WorkDirectory,
    writers: Sequence[DatasetWriter],
    built: OpenMode,
    stack: contextlib.ExitStack,
) -> Advice:
    """Let datasets go on where an interrupted run stopped, where the file can do that."""
    filled = [(one.target, one.dataset) for one in writers]
    for target, dataset in filled:
        built.prepare(target, dataset)
    if not built.is_resumable:
        return ()
    return resumed(work, writers, stack, lambda records: built.replay(records, filled))


def _make(
    group: h5py.Group,
    items: Sequence[Hdf5Item],
    path: Path,
    running: RunOptions,
    *,
    replace_old: bool,
) -> list[DatasetWriter | Outcome]:
    """Make every dataset, its attributes and dimensions, and links; nothing is computed yet."""
    made: list[DatasetWriter | Outcome] = []
    uses: list[tuple[str, ScaleUse]] = []
    named: list[tuple[h5py.Dataset, tuple[str, ...]]] = []
    for item in items:
        key = item.arranged.key
        dropped: tuple[str, ...] = ()
        typed = TypedDataset.of(group, key) if replace_old else None
        if replace_old:
            dropped = () if typed is not None else _dropped(group, item)
            uses += [(key, use) for use in remove_dataset(group, key)]
        if item.link is not None:
            link_object(group, key, item.link.path, item.link.key, path)
            name = posixpath.join(group.name, key)
            forget(group.file, name)
            if running.digests:
                link = group.get(key, getlink=True)
                store(group.file, name, table_of_link(link, item.link.end))
            made.append(Outcome(key=key, plan=item.arranged.plan, engine="link"))
            continue
        one = replace(_make_one(group, item, path, running), dropped=dropped)
        if typed is not None:
            typed.restore(one.dataset, {*item.options.attrs, DTYPE_ATTRIBUTE})
        made.append(one)
        if item.dims:
            named.append((one.dataset, item.dims))
    # Coordinates first: other arrays have them as their scales.
    for dataset, dims in sorted(named, key=lambda one: one[0].ndim):
        attach_dimensions(dataset, dims)
    for key, use in uses:
        attach_again(group[key], use)
    return made


def _describe_groups(file: h5py.Group, group_attrs: GroupAttributes) -> None:
    """Give groups that arrays lie in their attributes; others that they have stay."""
    for path, attrs in group_attrs.items():
        write_attributes(file[path] if path else file, attrs)


def _dropped(group: h5py.Group, item: Hdf5Item) -> tuple[str, ...]:
    """Return the attributes of a dataset that the one which replaces it has not."""
    old = group.get(item.arranged.key)
    if not isinstance(old, h5py.Dataset):
        return ()
    own = set(item.options.attrs) | {*RESERVED, DTYPE_ATTRIBUTE}
    if DTYPE_ATTRIBUTE in old.attrs:
        own |= {"units", "calendar"}  # lazyio's own, of times.
    return tuple(name for name in old.attrs if name not in own and not name.startswith("_Netcdf4"))


def _make_one(group: h5py.Group, item: Hdf5Item, path: Path, running: RunOptions) -> DatasetWriter:
    """Make a dataset."""
    arranged, plan = item.arranged, item.arranged.plan
    dataset = create_dataset(
        group,
        arranged.key,
        shape=arranged.first_shape,
        chunk_shape=plan.chunk_shape,
        dtype=plan.dtype,
        options=item.options,
    )
    name = posixpath.join(group.name, arranged.key)
    return replace(writer_of_all(dataset, item, path, running), name=name)


def writer_of_all(
    dataset: h5py.Dataset, item: Hdf5Item, path: Path, running: RunOptions
) -> DatasetWriter:
    """Return what fills a dataset that has just been made."""
    arranged, plan = item.arranged, item.arranged.plan
    noted = running.noted(plan.shape, plan.chunk_shape)
    target = Hdf5Target(
        dataset,
        plan.chunk_shape,
        folder=path.parent,
        noted=noted,
        bounds=arranged.bounds,
        rewrites=arranged.given.pieces is not None,
        is_copied=arranged.payloads is not None,
        holds=None if arranged.stored is None else arranged.stored.touch,
    )
    return DatasetWriter(
        arranged=arranged, dataset=dataset, name=name_of(dataset), target=target, noted=noted
    )


def _in_part(
    dataset: h5py.Dataset, item: RegionItem, path: Path, running: RunOptions, old: Any = None
) -> DatasetWriter:
    """Return what writes a part of a dataset, which has grown for it."""
    arranged, window = item.arranged, item.window
    if dataset.shape != window.shape:
        with disk_errors(path.parent):
            dataset.resize(tuple(map(max, dataset.shape, window.shape)))
        grow_dimensions(dataset)
    if is_text(arranged.form.dtype) and DTYPE_ATTRIBUTE in dataset.attrs:
        form = original(arranged.form.dtype, dataset.attrs)
        if form is not None and widened(form, arranged.form.original) is not form:
            # Longer text comes to it than it was made for.
            del dataset.attrs[DTYPE_ATTRIBUTE]
    chunk_shape = dataset.chunks or arranged.plan.chunk_shape
    noted = running.noted(window.shape, chunk_shape)
    target = Hdf5Target(
        dataset,
        chunk_shape,
        folder=path.parent,
        noted=noted,
        bounds=arranged.bounds,
        rewrites=True,
        old=old,
    )
    arranged, region = item.to_fill()
    return DatasetWriter(
        arranged=arranged,
        dataset=dataset,
        name=name_of(dataset),
        target=target,
        window=region,
        noted=noted,
    )


def identity_of(dataset: h5py.Dataset) -> Any:
    """Return what two handles of one dataset have in common."""
    facts = h5py.h5o.get_info(dataset.id)
    return "hdf5", facts.fileno, facts.addr


def path_of(item: h5py.Group | h5py.Dataset) -> Path:
    """Return the path of an open file, links resolved; what names it where it lies in memory."""
    name = item.file.filename
    return Path(os.path.realpath(name)) if os.path.exists(name) else Path(name)


def _table_or_none(file: h5py.File, key: str) -> Table | None:
    """Return the digests of a dataset, ``None`` where there are none that can be read."""
    try:
        return load(file, key) if isinstance(file.get(key), h5py.Dataset) else None
    except (OSError, ValueError, KeyError):
        return None


def refuse_unusable(path: Path, key: str) -> None:
    """Refuse a file that has no dataset to write a part of, or of which it is not all."""
    if not path.exists():
        msg = f"{path} does not exist; lazyio.allocate makes a dataset to be filled by region"
        raise TargetError(errno.ENOENT, msg)
    with file_to_replace(path) as file:
        kind = kind_at(file, key)
        link = file.get(key, getlink=True)
        if kind == "below a link" or isinstance(link, h5py.ExternalLink):
            msg = f"{path}: {key!r} leads out of the file; write to that file itself"
            raise TargetError(errno.EXDEV, msg)
        dataset = file.get(key) if kind == "dataset" else None
        if not isinstance(dataset, h5py.Dataset):
            remedy = "lazyio.allocate makes one"
            if kind == "group":
                remedy = "it is a group, name a dataset in it"
            msg = f"{path}: {key!r} is no dataset, of which a part could be written; {remedy}"
            raise TargetError(errno.ENOENT, msg)
        if dataset.is_virtual or dataset.external:
            msg = f"{path}: the elements of {key!r} lie in other files; write to those themselves"
            raise TargetError(errno.EXDEV, msg)
