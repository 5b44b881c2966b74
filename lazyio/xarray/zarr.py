"""Datasets to a Zarr group: xarray makes it in a staged store, lazyio fills and publishes it.

All of xarray's rules hold: modes, regions, encodings, consolidated metadata. What it makes and
would write is taken down; then the arrays are written in one pass, and all of the change
becomes visible at once where the store is a local folder.
"""

import contextlib
import errno
import json
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
import zarr
from xarray.core.variable import Variable
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore

from lazyio.atomic.digests import NotedDigests
from lazyio.atomic.publish_steps import naming
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import beside, ring
from lazyio.dtypes import TEXT
from lazyio.errors import OptionError, SourceError, TargetError, TargetExistsError
from lazyio.inputs import Input
from lazyio.planning.plan import Advice
from lazyio.sources.zarr_metadata import METADATA_NAMES
from lazyio.storage.disk_errors import disk_errors, store_errors
from lazyio.storage.zarr.array import ZarrTarget
from lazyio.storage.zarr.groups import NewFolder, publish_parts
from lazyio.writing.multi_array import planned
from lazyio.writing.region_plan import plan_part
from lazyio.writing.request import Build, Heads, Place, RegionItem, Request, resumed
from lazyio.writing.run_options import RunOptions, scratch_beside
from lazyio.writing.target_checks import (
    check_file,
    is_local,
    refuse_own_source,
    refuse_zip,
    store_path,
)
from lazyio.writing.zarr_backend import (
    FolderRegions,
    ZarrWriter,
    node_at,
    node_name,
    resolved_name,
    store_behind,
)
from lazyio.writing.zarr_settings import ExistingZarrArray, ZarrSettings, array_item
from lazyio.xarray.appending import (
    StoredVariable,
    check_is_whole,
    encoded_as_stored,
    problems_of_append,
    refuse,
    region_of_group,
    stored_variables,
)
from lazyio.xarray.by_name import windows_of
from lazyio.xarray.contents import in_blocks, in_declared_dtype, input_of, is_read_when_used
from lazyio.xarray.netcdf import StorageOptions
from lazyio.xarray.private import (
    check_alignment,
    check_encoding,
    child_zarr_store,
    encode_variable_name,
    open_zarr_store,
    with_region,
)
from lazyio.xarray.staged_store import StagedStore

_MOST_LOOKS, _MOST_FAILED = 200, 3
_PAUSES = 0.005, 0.02
"""Seconds between two looks at a store in which others give names."""


@dataclass(frozen=True, kw_only=True)
class StagedArray:
    """An array of the store as it is going to be, and what goes into it."""

    array: Any
    """In the staged store."""
    variable: Variable
    """As xarray has encoded it."""
    region: tuple[slice, ...]
    """Where it goes."""

    @property
    def name(self) -> str:
        """Name of the array in its group."""
        return self.path.rpartition("/")[2]

    @property
    def path(self) -> str:
        """Path of the array in the store."""
        return str(self.array.path)

    @property
    def is_lazy(self) -> bool:
        """Whether dask has still to compute it."""
        return self.variable.chunks is not None


@dataclass(kw_only=True)
class _Writer:
    """Takes down what xarray would write; see its ``ArrayWriter``."""

    arrays: list[StagedArray] = field(default_factory=list)
    """Everything so far."""
    checked: frozenset[str]
    """Variables of which blocks that cut across chunks are refused."""
    takes_parts: bool
    """Whether chunks at the rim of a region may be written in part."""

    def add(self, source: Any, target: Any, region: Any = None) -> None:
        """Take one down."""
        place = tuple(slice(None) for _ in target.shape) if region is None else tuple(region)
        name = str(target.path).rpartition("/")[2]
        if name in self.checked:
            check_alignment(
                getattr(source, "chunks", None),
                target.shards or target.chunks,
                target.shape,
                place,
                takes_parts=self.takes_parts,
                name=name,
            )
        dims = tuple(f"dim_{axis}" for axis in range(len(target.shape)))
        found = StagedArray(array=target, variable=Variable(dims, source), region=place)
        self.arrays.append(found)


@dataclass(kw_only=True)
class Staged:
    """A store as it is going to be, and the arrays that are to be filled."""

    store: StagedStore
    root: Path | None
    """Folder of the store, where it is or comes to be one on this machine."""
    name: str
    """What to call it."""
    arrays: list[StagedArray] = field(default_factory=list)

    @property
    def is_as_seen(self) -> bool:
        """Whether the metadata that were looked at are still what they were.

        While a change is made an array has none for a moment.
        """
        kind = default_buffer_prototype()
        for key, seen in self.store.seen.items():
            now = sync(self.store.under.get(key, kind))
            if (None if now is None else now.to_bytes()) != seen:
                return False
        return True

    def refuse_existing(self) -> None:
        """Refuse to write arrays that the store has."""
        shapes = _shapes_under(self.store.under, [one.path for one in self.arrays])
        found = [path for path, shape in shapes.items() if shape is not None]
        if found:
            msg = (
                f"{self.name} has {found} already; pass overwrite=True to give them other values, "
                "or another path"
            )
            raise TargetExistsError(errno.EEXIST, msg)


def look_again(look: Callable[[], Staged]) -> Staged:
    """Return a staged store, made again where others were giving names in the store meanwhile."""
    n_failed = 0
    for _ in range(_MOST_LOOKS):
        try:
            staged = look()
        except Exception:
            # Of what is not there, or not now; the second is over in milliseconds.
            n_failed += 1
            if n_failed > _MOST_FAILED:
                raise
        else:
            if staged.is_as_seen:
                return staged
        time.sleep(random.uniform(*_PAUSES))
    msg = f"{staged.name} is changed by other programs all the time; make the same call again"
    raise TargetError(errno.EBUSY, msg)


def stage(
    datasets: Mapping[str, xr.Dataset],
    target: "Target",
    encodings: Mapping[str, Mapping[Any, Any]],
    options: StorageOptions,
    *,
    safe_chunks: bool,
    **settings: Any,
) -> Staged:
    """Have xarray make everything in a store over another one, which stays as it is."""
    staged = Staged(store=StagedStore(target.under()), root=target.root, name=target.name)
    part = next((f"{key}={settings[key]!r}" for key in _PARTS if settings.get(key)), None)
    group = (settings.get("group") or "").strip("/")
    if part is not None and node_at(staged.store, group) is None:
        place = "/".join(filter(None, (staged.name, group)))
        msg = f"{part}: there is no Zarr group at {place}; check the path, or write it first"
        raise SourceError(errno.ENOENT, msg)
    if settings.get("zarr_format") is None:
        settings["zarr_format"] = _format_of(staged.store)
    try:
        root = open_zarr_store(staged.store, **settings)
    except FileExistsError as error:
        place = "/".join(filter(None, (staged.name, settings.get("group"))))
        msg = (
            f"{place} holds data already, and mode='w-' makes only what is new; pass mode='a' to "
            "add to it, or mode='w' to replace it"
        )
        raise TargetExistsError(errno.EEXIST, msg) from error
    problems: list[str] = []
    for name, given in datasets.items():
        node = child_zarr_store(root, name) if name else root
        dataset = _placed(node, given, settings, is_tree=len(datasets) > 1)
        if dataset is not None:
            group = _StagedGroup(node=node, dataset=dataset, options=options, settings=settings)
            staged.arrays += group.dump(encodings.get(name, {}), safe_chunks=safe_chunks)
            problems += group.problems
    refuse(problems, part or "mode='a'", staged.name)
    return staged


@contextlib.contextmanager
def _names_in_the_way() -> Iterator[None]:
    """Say where a variable would come to lie at a group, or a group at an array."""
    try:
        yield
    except (zarr.errors.ContainsGroupError, zarr.errors.ContainsArrayError) as error:
        kind = "a group" if isinstance(error, zarr.errors.ContainsGroupError) else "an array"
        msg = (
            f"variable or group {str(error).split(chr(39))[-2]!r} is {kind} in the store; give it "
            "another name, or write to another group"
        )
        raise TargetExistsError(errno.EEXIST, msg) from error


_PARTS = ("append_dim", "region")


def _format_of(store: StagedStore) -> int | None:
    """Return the format of a store, which its new groups have, too."""
    node = node_at(store, "")
    return None if node is None else int(node.metadata.zarr_format)


def _placed(
    node: Any, given: xr.Dataset, settings: Mapping[str, Any], *, is_tree: bool
) -> xr.Dataset | None:
    """Return what of a group is written, ``None`` for one of a tree that has no such part."""
    append_dim, region = settings.get("append_dim"), settings.get("region")
    if is_tree and region is not None:
        region = region_of_group(region, given)
        if not region:
            return None
    if is_tree and append_dim is not None:
        if not given.variables:
            return None
        append_dim = append_dim if append_dim in given.dims else None
    if region is not None:
        _check_lengths(node, given, region)
    placed: xr.Dataset = with_region(node, given, region, append_dim)
    return placed


def _check_lengths(node: Any, given: xr.Dataset, region: Any) -> None:
    """Refuse to look up a place along a dimension without coordinate, unless it is all of it."""
    if not isinstance(region, Mapping):
        region = dict.fromkeys(given.dims, region)
    unknown = [dim for dim, part in region.items() if part == "auto" and dim in given.dims]
    there = node.get_dimensions() if set(unknown) - set(given.variables) else {}
    for dim in unknown:
        if dim not in given.variables and dim in there:
            check_is_whole(dim, given.sizes[dim], there[dim])


@dataclass(kw_only=True)
class _StagedGroup:
    """A group that xarray makes, or changes, in a staged store."""

    node: Any
    """xarray's store on it."""
    dataset: xr.Dataset
    options: StorageOptions
    settings: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)
    """In what the Dataset does not fit what is there."""

    def dump(self, given: Mapping[Any, Any], *, safe_chunks: bool) -> list[StagedArray]:
        """Have xarray make everything, and return the arrays that are to be filled."""
        check_encoding(self.node, given)
        there = self._stored()
        encoding = {
            key: dict(own) if isinstance(own, Mapping) else own for key, own in given.items()
        }
        named = {key for key, own in given.items() if isinstance(own, Mapping) and "chunks" in own}
        dataset, chosen = _with_chunks(self.dataset, encoding, self.options, skip=set(there))
        # Shards hold several blocks of whoever reads them by chunks: nobody has named those.
        read = {
            key
            for key, one in dataset.variables.items()
            if one.encoding.get("shards") and "preferred_chunks" in one.encoding
        }
        unnamed = chosen | (read - set(encoding))
        # Nor has anybody cut what lies in a file but lazyio, to read it.
        cut = {key for key, one in self.dataset.variables.items() if is_read_when_used(one)}
        checked = ((set(dataset.variables) - unnamed) | named) - cut if safe_chunks else ()
        writer = _Writer(checked=frozenset(map(str, checked)), takes_parts=self.node._mode != "r+")
        with warnings.catch_warnings(), _names_in_the_way():
            # That v3 has no specification of consolidated metadata is known to xarray's users.
            warnings.filterwarnings("ignore", "Consolidated metadata")
            if self._is_part:
                # That it takes other units for what is appended is an error, not a warning.
                warnings.filterwarnings("ignore", "Times can't be serialized")
            _dump(dataset, self.node, writer, encoding)
        fitted = self._fitted(there)
        declared = {encode_variable_name(name): one for name, one in dataset.variables.items()}
        encoded = {
            one.name: fitted[one.name]
            if one.name in fitted
            else in_declared_dtype(one.variable, declared[one.name], one.name)
            for one in writer.arrays
        }
        # xarray goes through sets of names.
        order = list(declared)
        return [
            replace(one, variable=encoded[one.name])
            for one in sorted(writer.arrays, key=lambda one: order.index(one.name))
            # What does not grow is as it is there, or a problem.
            if not self._must_agree or self._grows(one.name)
        ]

    def _grows(self, name: str) -> bool:
        return self.settings["append_dim"] in self.dataset.variables[name].dims

    @property
    def _is_part(self) -> bool:
        """Whether parts of variables are written."""
        return any(self.settings.get(name) is not None for name in _PARTS)

    @property
    def _must_agree(self) -> bool:
        """Whether variables are appended to, and all others must be as they are there."""
        return self.settings.get("append_dim") is not None and self.node._mode != "a-"

    def _stored(self) -> dict[str, StoredVariable]:
        """Return the variables that the group has, unless it is made anew."""
        if self.settings.get("mode") == "w":
            return {}
        names = self.node.array_keys()
        return stored_variables({str(one): self.node.open_store_variable(one) for one in names})

    def _fitted(self, there: Mapping[str, StoredVariable]) -> dict[str, Variable]:
        """Return variables encoded as those of the group are, and note which cannot be."""
        append_dim, limit = self.settings.get("append_dim"), self.options.memory_limit
        if not self._is_part:
            return {}  # All of a variable is written, its attributes as well.
        free = set(map(str, self.dataset.dims)) if append_dim is None else {append_dim}
        if self._must_agree:
            self.problems += problems_of_append(self.dataset, there, str(append_dim), limit)
        written = {
            name: self.dataset.variables[name]
            for name, one in there.items()
            if name in self.dataset.variables and one.raw.dtype.kind in "iufb"
            if append_dim is None or self._grows(name)
        }
        fitted, problems = encoded_as_stored(written, there, free, limit)
        self.problems += [one for one in problems if one not in self.problems]
        return fitted


def _dump(dataset: xr.Dataset, node: Any, writer: _Writer, encoding: Mapping[Any, Any]) -> None:
    """Have xarray make a group; of encoding that it does not know the variables are named."""
    try:
        dataset.dump_to_store(node, writer=writer, encoding=encoding)
    except ValueError as error:
        if "unexpected encoding" not in str(error):
            raise
        names = [
            name
            for name, own in encoding.items()
            if isinstance(own, Mapping) and any(repr(key) in str(error) for key in own)
        ]
        msg = f"variable {', '.join(map(repr, names))}: {error}"
        raise OptionError(msg) from error


def _with_chunks(
    dataset: xr.Dataset, encoding: dict[Any, Any], options: StorageOptions, *, skip: set[str]
) -> tuple[xr.Dataset, set[Any]]:
    """Return a Dataset whose new variables have chunks, and those that lazyio has chosen."""
    found, chosen = dataset.copy(), set()
    for name, variable in dataset.variables.items():
        is_cut = is_read_when_used(variable)
        if is_cut:
            found[name] = in_blocks(variable, options.memory_limit)
        elif not variable.size:
            found[name] = variable.compute()  # Else its blocks, of no extent, would be chunks.
        asked = encoding[name] if name in encoding else found[name].encoding
        if str(name) in skip or not variable.size or not variable.ndim:
            continue
        if not isinstance(asked, Mapping):
            continue  # xarray refuses it.
        whole = found[name].variable
        chunks = options.chunks_of(whole, asked.get("chunks"), name in encoding)
        if chunks is not None and chunks is asked.get("chunks"):
            continue
        if chunks is None or None in chunks:
            chunks = _chunks_of(str(name), whole, asked, chunks, options, is_cut=is_cut)
        if chunks is None:
            continue
        chosen.add(name)
        if name in encoding:
            encoding[name]["chunks"] = tuple(chunks)
        else:
            found[name].encoding = {**asked, "chunks": tuple(chunks)}
    return found, chosen


def _chunks_of(
    name: str,
    variable: Variable,
    asked: Mapping[str, Any],
    named: Sequence[int | None] | None,
    options: StorageOptions,
    *,
    is_cut: bool,
) -> tuple[int, ...] | None:
    """Return the chunks that the solver chooses, ``None`` where xarray takes those of dask."""
    access = windows_of(options.access, variable.dims)
    is_plain = named is None and access is None
    is_xarrays = is_plain and not is_cut and _is_regular(variable)
    if is_xarrays or variable.dtype.kind not in "iufcbmMSUOT":
        return None
    # Objects are text, or dates that come to be numbers: only their size matters here.
    dtype = TEXT if variable.dtype.kind in ("O", "T") else variable.dtype
    given = Input(shape=variable.shape, dtype=dtype)
    chunks: Any = "auto" if named is None else tuple(named)
    settings = ZarrSettings(**options.common, access=access, chunks=chunks)
    shards = asked.get("shards")
    if isinstance(shards, (tuple, list)):
        settings = replace(settings, shards=tuple(shards))
    return array_item(name, given, settings).arranged.plan.chunk_shape


def _is_regular(variable: Variable) -> bool:
    """Return whether blocks of dask may be chunks of Zarr: all alike but the last ones."""
    return variable.chunks is not None and all(
        len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0] for sizes in variable.chunks if sizes
    )


def zarr_request(
    staged: Staged, options: StorageOptions, running: RunOptions, *, fills: bool = True
) -> Request[RegionItem]:
    """Return the request that publishes a staged store, with elements in its arrays.

    Where nothing is to be filled yet, elements of variables in memory are written all the
    same, as xarray does it.
    """
    items = tuple(
        item if fills or not one.is_lazy else item.as_empty()
        for one, item in zip(
            staged.arrays, _items(staged.arrays, staged.store.under, options), strict=True
        )
    )
    place: Place[RegionItem]
    if staged.root is not None:
        place = StagedFolder(root=staged.root, staged=staged.store)
    else:
        place = StagedRemote(staged=staged.store, name=staged.name)
    request = Request(name=staged.name, place=place, items=items, running=running)
    request.check()
    return request


def fill_request(
    staged: Staged, options: StorageOptions, running: RunOptions
) -> Request[RegionItem]:
    """Return the request that fills what was left open, once all the rest is published."""
    under = staged.store.under if staged.root is None else LocalStore(staged.root, read_only=True)
    lazy = [
        replace(one, array=zarr.open_array(under, path=one.path, mode="r"))
        for one in staged.arrays
        if one.is_lazy
    ]
    place: Place[RegionItem] = StagedRemote(staged=StagedStore(under), name=staged.name)
    if staged.root is not None:
        place = FolderRegions(root=staged.root)
    return Request(
        name=staged.name, place=place, items=_items(lazy, under, options), running=running
    )


def _items(
    arrays: Sequence[StagedArray], under: Any, options: StorageOptions
) -> tuple[RegionItem, ...]:
    """Return what goes into arrays, each with its plan."""
    by_path = {one.path: one for one in arrays}
    shapes = _shapes_under(under, list(by_path))

    def make(path: str, given: Input, settings: ZarrSettings) -> RegionItem:
        one = by_path[path]
        array = ExistingZarrArray(handle=one.array)
        arranged, window = plan_part(
            array, path, given, settings, region=one.region, append_dim=None
        )
        seen = shapes[path] or window.shape
        grows = any(part.stop > n for part, n in zip(window.region, seen, strict=True))
        return RegionItem(
            arranged=arranged,
            window=window,
            seen=seen,
            appends=grows,
            unit=array.unit,
            kind=array.kind,
            keeps_empty=one.array.config.write_empty_chunks,
        )

    given = [(one.path, input_of(one.variable)) for one in arrays]
    return planned(make, given, [ZarrSettings(**options.common)] * len(given))


def _shapes_under(under: Any, paths: Sequence[str]) -> dict[str, tuple[int, ...] | None]:
    """Return the extents of arrays as they are, while nobody gives names in their store."""
    is_folder = isinstance(under, LocalStore) and under.root.is_dir()
    with naming(under.root) if is_folder else contextlib.nullcontext():
        return {path: _shape_under(under, path) for path in paths}


def _shape_under(under: Any, path: str) -> tuple[int, ...] | None:
    """Return the extents of an array as it is, ``None`` where there is none."""
    try:
        node = node_at(under, path)
    except (KeyError, ValueError, TypeError) as error:
        msg = f"{path} in the store cannot be read: {error}; remove it, or restore it from a copy"
        raise TargetError(errno.EIO, msg) from error
    return tuple(map(int, node.shape)) if isinstance(node, zarr.Array) else None


@dataclass(frozen=True, kw_only=True)
class StagedFolder(FolderRegions):
    """A local store that becomes what was staged, all of it or nothing."""

    makes_groups: ClassVar[bool] = True
    staged: StagedStore

    def check(self, items: Sequence[RegionItem]) -> None:
        """Refuse a folder that may not be written, or that is read."""
        for item in items:
            refuse_own_source(item.arranged.given, self.root, item.arranged.key)

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one: everything that metadata say, but for extents."""
        held = self.staged.written.items()
        return {"metadata": {key: _without_extents(value.to_bytes()) for key, value in held}}

    @property
    def _fresh(self) -> str | None:
        """Path of the group that is made anew, with all that is in it."""
        if not self.root.exists():
            return ""
        above = sorted(self.staged.removed, key=len)
        return above[0] if above and self._is_group(above[0]) else None

    def _is_group(self, path: str) -> bool:
        return any(f"{path}/{name}".strip("/") in self.staged.written for name in METADATA_NAMES)

    @contextlib.contextmanager
    def build(
        self, items: Sequence[RegionItem], running: RunOptions, heads: Heads
    ) -> Iterator[Build]:
        """Build what is new beside the store; then make it part of it."""
        self.check(items)
        fresh = self._fresh
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(self.root.parent))
            if fresh == "":
                folders = [self._new_folder("", items, running, stack)]
                begun = []
            else:
                is_new = self._which_are_new(items, fresh)
                old = [item for item in items if not is_new[item.arranged.key]]
                new = [item for item in items if is_new[item.arranged.key]]
                own = [[item] for item in new]
                paths = [item.arranged.key for item in new]
                if fresh is not None:
                    own, paths = [new], [fresh]
                folders = [
                    self._new_folder(path, several, running, stack)
                    for path, several in zip(paths, own, strict=True)
                ]
                begun = self._all_begun(old, running, stack)
            made = [*(one for folder in folders for one in folder.writers)]
            made += [one.writer for one in begun]
            works = [*(folder.work for folder in folders), *(one.work for one in begun)]
            several = [*(folder.advice for folder in folders), *(one.advice for one in begun)]
            advice: Advice = tuple(pair for each in several for pair in each)
            scratch = works[0].scratch if works else self.root.parent
            if not works:
                scratch = stack.enter_context(scratch_beside(self.root))
            build = Build(made=made, scratch=scratch, advice=advice)
            yield build
            keys = [one.arranged.key for folder in folders for one in folder.writers]
            places = ring(keys) if fresh == "" else beside(self.root, keys)
            for folder in folders:
                for one in folder.writers:
                    key = one.arranged.key
                    # As of parts, by which they are known again when all of them are one.
                    head = {f"part {name}": of for name, of in heads.get(key, {}).items()}
                    one.keep_digests(head, places[key])
            if fresh == "":
                folders[0].work.publish()
                return
            build.advice += publish_parts(
                self.root,
                {one.item.arranged.key: one.to_publish(heads) for one in begun},
                new=[NewFolder(path=folder.path, work=folder.work) for folder in folders],
                metadata=partial(self._other_files, [folder.path for folder in folders]),
            )

    def _which_are_new(self, items: Sequence[RegionItem], fresh: str | None) -> dict[str, bool]:
        keys = [item.arranged.key for item in items]
        shapes = _shapes_under(self.staged.under, keys)

        def is_new(key: str) -> bool:
            if fresh is not None and (key == fresh or key.startswith(f"{fresh}/")):
                return True
            return shapes[key] is None or self.staged.is_removed(key)

        return {key: is_new(key) for key in keys}

    def _other_files(self, built: Sequence[str]) -> dict[Path, bytes]:
        """Return the metadata that changes beside what is built."""
        found = {}
        for key, value in self.staged.written.items():
            if any(key.startswith(f"{path}/") for path in built):
                continue
            file = self.root / key
            now = file.read_bytes() if file.is_file() else None
            if now != self.staged.seen.get(key):
                msg = (
                    f"{file} was changed by another program while this was being written; "
                    "nothing is published, make the same call again"
                )
                raise TargetError(errno.EBUSY, msg)
            found[file] = value.to_bytes()
        return found

    def _new_folder(
        self,
        path: str,
        items: Sequence[RegionItem],
        running: RunOptions,
        stack: contextlib.ExitStack,
    ) -> "_BuiltFolder":
        """Begin a group or array that takes the place of whatever is there."""
        final, folder = (self.root / path, self.root) if path else (self.root, None)
        facts = self.facts(items) if running.resume else None
        work = stack.enter_context(
            WorkDirectory(final, folder=folder, facts=facts, patience=running.patience)
        )
        inside = f"{path}/" if path else ""
        for key, value in self.staged.written.items():
            if key.startswith(inside):
                file = work.built / key.removeprefix(inside)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(value.to_bytes())
        writers = [
            _new_writer(work.built, item.arranged.key.removeprefix(inside or "/"), item, running)
            if item.arranged.key != path
            else _new_writer(work.built, "", item, running)
            for item in items
        ]
        work.save_job()
        advice = resumed(work, writers, stack) if running.resume else ()
        return _BuiltFolder(path=path, work=work, writers=writers, advice=advice)


def _without_extents(data: bytes) -> Any:
    """Return metadata without what changes when the same is appended once more."""
    held = json.loads(data)
    return {key: one for key, one in held.items() if key not in _WITH_EXTENTS}


_WITH_EXTENTS = ("shape", "consolidated_metadata", "metadata", "zarr_consolidated_format")
"""In the metadata of arrays, and of groups that hold those of their arrays."""


@dataclass(frozen=True, kw_only=True)
class _BuiltFolder:
    """A group or array that is being built."""

    path: str
    work: WorkDirectory
    writers: list[ZarrWriter]
    advice: Advice


def _new_writer(built: Path, path: str, item: RegionItem, running: RunOptions) -> ZarrWriter:
    array = zarr.open_array(LocalStore(built), path=path, mode="r+")
    return _writer(array, item, running.noted(item.window.shape, array.shards or array.chunks))


def _writer(array: Any, item: RegionItem, noted: NotedDigests | None = None) -> ZarrWriter:
    """Return what fills an array that is as long as it is to be."""
    if item.keeps_empty != array.config.write_empty_chunks:
        array = array.with_config({"write_empty_chunks": item.keeps_empty})
    target = ZarrTarget(array, keeps_empty=bool(item.keeps_empty), replaces=True, noted=noted)
    arranged, region = item.to_fill()
    return ZarrWriter(arranged=arranged, array=array, target=target, window=region, noted=noted)


@dataclass(frozen=True, kw_only=True)
class StagedRemote(Place[RegionItem]):
    """A store that is no local folder, and becomes what was staged object by object."""

    staged: StagedStore
    name: str

    is_open: ClassVar[bool] = True
    makes_groups: ClassVar[bool] = True
    format: ClassVar[str] = "zarr"

    def check(self, items: Sequence[RegionItem]) -> None:
        """Refuse a store that cannot be written, or that is read."""
        if self.staged.under.read_only:
            msg = f"{self.name} is open for reading only; open it for writing"
            raise TargetError(errno.EROFS, msg)
        root = resolved_name(self.staged.under)
        for item in items:
            refuse_own_source(item.arranged.given, root, item.arranged.key)

    @contextlib.contextmanager
    def build(self, items: Sequence[RegionItem], *_: RunOptions | Heads) -> Iterator[Build]:
        """Make groups and arrays, and fill them where they are."""
        self.check(items)
        store = self.staged.under
        with store_errors(self.name), scratch_beside(None) as scratch:
            for path in sorted(self.staged.removed):
                sync(store.delete_dir(path))
                if path and not any(key.startswith(f"{path}/") for key in self.staged.written):
                    sync(store.delete(path))
            for key, value in self.staged.written.items():
                sync(store.set(key, value))
            made = [
                _writer(zarr.open_array(store, path=item.arranged.key, mode="r+"), item)
                for item in items
            ]
            yield Build(made=made, scratch=scratch)


def plan_arrays(staged: Staged, options: StorageOptions) -> dict[str, Any]:
    """Return the plan of each array that would be written."""
    items = _items(staged.arrays, staged.store.under, options)
    return {item.arranged.key: item.arranged.plan for item in items}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The store that a user means."""

    root: Path | None
    """Its folder, where it is or comes to be one on this machine."""
    name: str
    """What to call it."""
    store: Any = None
    """The store, where it is no such folder."""

    @classmethod
    def of(cls, store: Any, storage_options: Mapping[str, Any] | None) -> "Target":
        """Return the store that was given, by path, by URL or open."""
        if isinstance(store, LocalStore):
            store = store.root
        if is_local(store):
            root = store_path(store)
            refuse_zip(root)
            check_file(root, "a", is_file=False)
            return cls(root=root, name=str(root))
        found, inside = store_behind(store, storage_options)
        name = str(store) if isinstance(store, str) else node_name(found, inside)
        return cls(root=None, name=name, store=found)

    def under(self) -> Any:
        """Return what is there, to be read."""
        if self.root is None:
            return self.store
        # For reading: zarr-python makes the folder of any other store that is not there.
        return LocalStore(self.root, read_only=True) if self.root.exists() else MemoryStore()
