"""NWB files in Zarr as places to write to: hdmf-zarr makes their structure.

What hdmf-zarr does not promise to keep is here.
"""

import contextlib
import errno
import functools
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import h5py
import zarr
from zarr.storage import LocalStore, MemoryStore

from lazyio.atomic.digests import Table
from lazyio.atomic.fsync import write_whole
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import (
    StoreNeighbours,
    load_or_none,
    make_room,
    place_of,
    store,
)
from lazyio.codecs.libraries import optional
from lazyio.errors import OptionError, TargetError
from lazyio.inputs import Input
from lazyio.nwb.contents import Contents
from lazyio.nwb.datasets import NwbDataset
from lazyio.nwb.structure import nothing, only_structure
from lazyio.planning.plan import Advice
from lazyio.sources.zarr import array_paths
from lazyio.sources.zarr_metadata import zarr_kind
from lazyio.storage.region_target import Comparable
from lazyio.storage.zarr.array import create_array, creation_arguments
from lazyio.verification.renewal import is_same
from lazyio.verification.zarr import array_in_folder
from lazyio.verification.zarr_renewal import digests_of
from lazyio.writing.request import Build, Heads, Place
from lazyio.writing.run_options import RunOptions, scratch_beside
from lazyio.writing.target_checks import check_whole_store, refuse_own_source
from lazyio.writing.zarr_backend import (
    NewArrays,
    ZarrWriter,
    filled,
    noted_digests,
)
from lazyio.writing.zarr_settings import (
    ZarrItem,
    ZarrSettings,
    advice_on,
    array_item,
    with_compressors,
)

_LEAST_VERSION = (0, 14)
"""Of hdmf-zarr: the first that writes with zarr-python 3."""
_CUT = ("chunks", "chunk_nbytes", "access")
_CODEC = ("compression", "compression_opts", "shuffle", "compressors")
_PARTS = (_CUT, _CODEC)
"""Settings that replace each other: who names one of them has not asked for the others."""


def hdmf_zarr() -> Any:
    """Return hdmf-zarr, or say what is needed for it."""
    found = optional("hdmf_zarr")
    version = metadata.version("hdmf_zarr") if found is not None else ""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if found is not None and numbers >= _LEAST_VERSION:
        return found
    least = ".".join(map(str, _LEAST_VERSION))
    there = f"hdmf-zarr {version}" if version else "none that can be imported"
    msg = f"NWB in Zarr needs hdmf-zarr {least} or later, and there is {there}; "
    if sys.version_info < (3, 12):
        msg += "that needs Python 3.12: use a newer one, or give a path that ends in .nwb for HDF5"
    else:
        msg += 'run pip install "lazyio[nwb-zarr]", or give a path that ends in .nwb for HDF5'
    raise OptionError(msg)


@dataclass(frozen=True, kw_only=True)
class ZarrFormat:
    """Arrays as arrays of Zarr v3."""

    options: Mapping[str, Any]
    """What holds for all of them, by the names that rules have."""
    common: Mapping[str, Any]
    """Limits of the run."""

    known: ClassVar[Sequence[str]] = (*_CUT, "shards", *_CODEC, "filters", "fillvalue")
    reopened: ClassVar[str] = "NWBZarrIO"

    def takes(self, data: Any) -> bool:
        """Return whether data are copied: those in HDF5, and what no link in a store leads to."""
        if isinstance(data, zarr.Array):
            return not (isinstance(data.store, LocalStore) and data.path)
        return isinstance(data, h5py.Dataset)

    def leaves(self, given: Input) -> bool:
        """Return whether an array is left to hdmf-zarr: text, or with a codec of its own kind."""
        return given.dtype.kind not in "iufcb" or "serializer" in given.settings

    def settings_of(self, one: NwbDataset, rule: Mapping[str, Any]) -> ZarrSettings:
        """Return how an array is stored: by its rule, its wrapper, or what holds for all."""
        asked: dict[str, Any] = {}
        for layer in (self.options, _used_of(one.given.settings), rule):
            for part in _PARTS:
                # A level alone is one of the codec that somebody else has named.
                if ({*part} - {"compression_opts", "shuffle"}) & layer.keys():
                    asked = {name: value for name, value in asked.items() if name not in part}
            asked |= layer
        if "compression" in asked and asked["compression"] is None:
            asked["compression"] = "none"
        return ZarrSettings(
            **with_compressors(asked, 3, default="auto"), **self.common, dtype=one.dtype
        )

    def item(self, key: str, given: Input, settings: ZarrSettings) -> ZarrItem:
        """Return an array with its plan."""
        used = _used_of(given.settings)
        left = {name: value for name, value in given.settings.items() if name not in used}
        return array_item(key, replace(given, settings=left), settings)

    def codecs_of(self, item: ZarrItem) -> str:
        """Return its codecs as a person reads them."""
        each = (_in_words(one) for codecs in _codecs(item).values() for one in codecs)
        return " + ".join(each) or "none"

    def rule_of(self, item: ZarrItem) -> dict[str, Any]:
        """Return what makes an array as it is planned."""
        plan = item.arranged.plan
        rule: dict[str, Any] = {"chunks": list(plan.chunk_shape)}
        if plan.shard_shape is not None:
            rule["shards"] = list(plan.shard_shape)
        return rule | _codecs(item)

    def advice_on(self, items: Sequence[ZarrItem]) -> Advice:
        """Return hints on what wrappers ask for and Zarr has not."""
        return advice_on(items)


def _used_of(wrapper: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a wrapper asks for and Zarr has; of HDF5's filters that is gzip."""
    asked = dict(wrapper)
    if "fill_value" in asked:
        asked["fillvalue"] = asked.pop("fill_value")
    if asked.get("compression") is True:
        asked["compression"] = "gzip"
    names = ["chunks", "shards", "compressors", "filters", "fillvalue"]
    if asked.get("compression") == "gzip":
        names += ["compression", "compression_opts"]
    if asked.get("chunks") is True:
        del asked["chunks"]
    return {name: asked[name] for name in names if name in asked}


def _codecs(item: ZarrItem) -> dict[str, list[Any]]:
    """Return codecs as the metadata of the array will have them."""
    made = create_array(MemoryStore(), "", **item.to_create)
    found: dict[str, Any] = {"filters": made.filters, "compressors": made.compressors}
    codecs = {name: [one.to_dict() for one in each] for name, each in found.items()}
    return codecs if codecs["filters"] else {"compressors": codecs["compressors"]}


def _in_words(codec: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={one}" for name, one in codec.get("configuration", {}).items())
    return f"{codec['name']}({options})"


@dataclass(frozen=True, kw_only=True)
class NewNwbStore(NewArrays):
    """An NWB file in Zarr that is made anew."""

    contents: Contents
    manager: Any
    """PyNWB's, with what it has built."""

    makes_groups: ClassVar[bool] = True

    @property
    def is_one(self) -> bool:
        """Whether arrays that are done are all done: the store is made anew."""
        return True

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        return super().common | {"structure": self.contents.structure}

    def check(self, items: Sequence[ZarrItem]) -> bool:
        """Refuse a store that may not be written."""
        check_whole_store(self.root, self.mode)
        for item in items:
            refuse_own_source(item.arranged.given, self.root, None)
        return False

    def _begin(self, built: Path) -> None:
        """Have hdmf-zarr write the structure, all arrays in it."""
        io = _lent_io()(path=str(self.root), mode="w", manager=self.manager, built=built)
        options = {**self.contents.io_options, "consolidate_metadata": False}
        _write_structure(io, self.contents, options)
        _refuse_dead_links(built, self.root)

    @contextlib.contextmanager
    def written(self, item: ZarrItem) -> Iterator[tuple[Table, Comparable] | None]:
        """Return the digests and chunks of what is there, where all else is there as well."""
        with super().written(item) as found:
            yield found if found is None or self._others_are_there else None

    @functools.cached_property
    def _others_are_there(self) -> bool:
        """Whether what hdmf-zarr has written is as it wrote it."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return all(map(self._is_there, self.contents.others))
        return False

    def _is_there(self, path: str) -> bool:
        folder = self.root / path
        if zarr_kind(folder) is None:
            above, _, name = path.rpartition("/")
            group = zarr.open_group(self.root, path=above, mode="r")
            return any(link["name"] == name for link in _links_of(group))
        known, array = load_or_none(folder), array_in_folder(self.root, path)
        return known is not None and is_same(known, digests_of(array, path, place_of(folder)))

    def _made(
        self, work: WorkDirectory, item: ZarrItem, running: RunOptions, **_: bool
    ) -> ZarrWriter:
        array = zarr.open_array(work.built, path=item.arranged.key, mode="r+")
        return filled(array, item, noted_digests(item, running))

    def _all_paths(self, built: Path, paths: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return the paths of all arrays, also of those that hdmf-zarr has written."""
        return sorted(array_paths(zarr.open_group(built, mode="r")))

    def _complete(
        self, built: Path, places: Mapping[str, StoreNeighbours], running: RunOptions
    ) -> None:
        """Store digests of what hdmf-zarr has written, too, and consolidate."""
        ours = set(self.contents.datasets)
        for path, place in places.items() if running.digests else ():
            if path not in ours:
                store(built / path, digests_of(array_in_folder(built, path), path, place))
                make_room(built / path)
        if self.contents.io_options.get("consolidate_metadata", True):
            _consolidate(LocalStore(built))


@dataclass(frozen=True, kw_only=True)
class OpenNwbStore(Place[ZarrItem]):
    """An NWB file in Zarr that the caller has open, to which containers were added."""

    io: Any
    contents: Contents

    is_open: ClassVar[bool] = True
    makes_groups: ClassVar[bool] = True
    format: ClassVar[str] = "zarr"

    def check(self, items: Sequence[ZarrItem]) -> None:
        """Refuse arrays that are read from the store itself."""
        for item in items:
            refuse_own_source(item.arranged.given, Path(self.io.source), item.arranged.key)

    @contextlib.contextmanager
    def build(self, items: Sequence[ZarrItem], *_: RunOptions | Heads) -> Iterator[Build]:
        """Have the new arrays made, and fill them."""
        self.check(items)
        _write_structure(self.io, self.contents, self.contents.io_options)
        # Not by the group, whose consolidated metadata do not know of them yet.
        inside = self.io._file.store
        with scratch_beside(Path(self.io.source)) as scratch:
            made = [
                filled(zarr.open_array(inside, path=item.arranged.key, mode="r+"), item, None)
                for item in items
            ]
            yield Build(made=made, scratch=scratch)
            for one in made:
                one.tell_shape()
        if self.contents.io_options.get("consolidate_metadata", True):
            _consolidate(inside)


def require_open(io: Any) -> None:
    """Raise where something is no NWB file that hdmf-zarr has open in a local folder."""
    if not isinstance(io, hdmf_zarr().NWBZarrIO):
        msg = (
            f"path={type(io).__name__}: give a path, or a NWBHDF5IO or NWBZarrIO that is open for "
            "writing"
        )
        raise OptionError(msg)
    if io._file is None or io.mode in ("r", "r-"):
        how = "closed" if io._file is None else f"open in mode {io.mode!r}"
        msg = f"{io.source} is {how}; open it with NWBZarrIO in mode 'r+' to add to it"
        raise TargetError(errno.EROFS, msg)
    if not os.path.isdir(io.source):
        msg = f"{io.source} is no local folder; write NWB in Zarr here, then copy it"
        raise OptionError(msg)


@functools.cache
def _lent_io() -> Any:
    """Return hdmf-zarr's writer for a store that is built elsewhere than where it is to be."""
    parent: Any = hdmf_zarr().NWBZarrIO

    class LentStoreIO(parent):  # type: ignore[misc]
        """References and links count from ``path``, where the store is to be."""

        def __init__(self, built: Path, **arguments: Any) -> None:
            self._built = built
            super().__init__(**arguments)

        def _open_file(self, **_: Any) -> Any:
            return zarr.open_group(self._built, mode="w", zarr_format=3)

    return LentStoreIO


def _write_structure(io: Any, contents: Contents, options: Mapping[str, Any]) -> None:
    """Have hdmf-zarr write everything but the elements."""
    described = {
        id(contents.datasets[item.arranged.key].builder): _described()(_arguments_of(item))
        for item in contents.items
    }
    with only_structure(io, contents.root, described), _without_warnings():
        io.write(contents.nwbfile, **options)


@functools.cache
def _described() -> Any:
    """Return hdmf-zarr's wrapper, for how zarr-python is to make an array."""
    parent: Any = hdmf_zarr().ZarrDataIO

    class Described(parent):  # type: ignore[misc]
        """Whatever hdmf-zarr knows of the arguments."""

        def __init__(self, arguments: Mapping[str, Any]) -> None:
            super().__init__(data=nothing(arguments))
            self._arguments = arguments

        @property
        def io_settings(self) -> dict[str, Any]:
            """Arguments of ``create_array``."""
            return dict(self._arguments)

    return Described


def _arguments_of(item: ZarrItem) -> dict[str, Any]:
    """Return what zarr-python makes an array of."""
    arranged, plan = item.arranged, item.arranged.plan
    shape, shards = arranged.first_shape, plan.shard_shape
    return creation_arguments(shape, plan.chunk_shape, plan.dtype, item.options, shards)


def _refuse_dead_links(built: Path, final: Path) -> None:
    """Refuse links to where nothing is, as hdmf-zarr makes them without a word.

    ``final`` is where the store is to be, from which links count.
    """
    for path, group in [("", zarr.open_group(built, mode="r")), *_groups_in(built)]:
        for link in _links_of(group):
            source = (final / link["source"]).resolve()
            place = built if source == final else source
            if zarr_kind(place / link["path"].strip("/")) is None:
                name = f"{path}/{link['name']}".strip("/")
                msg = (
                    f"{name!r} would be a link to {link['path']} of {source}, and there is no such "
                    "array or group in a Zarr store there, or none any more once this store has "
                    "its name; give the array itself, with lazyio.nwb.iterator, to have it copied"
                )
                raise OptionError(msg)


def _links_of(group: Any) -> Any:
    """Return the links of a group, as hdmf-zarr keeps them."""
    return group.attrs.get("_LINKS", ())


def _groups_in(store: Any) -> Iterator[tuple[str, Any]]:
    for path, node in zarr.open_group(store, mode="r", use_consolidated=False).members(None):
        if isinstance(node, zarr.Group):
            yield path, node


def _consolidate(store: LocalStore) -> None:
    """Consolidate the metadata of a store anew.

    Groups that hold such metadata of what is in them would have theirs taken, however old.
    """
    for path, _ in _groups_in(store):
        file = store.root / path / "zarr.json"
        held = json.loads(file.read_bytes())
        if held.pop("consolidated_metadata", None) is not None:
            write_whole(file, json.dumps(held, indent=2).encode())
    with _without_warnings():
        zarr.consolidate_metadata(store)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep to ourselves that Zarr v3 has no specification of consolidated metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")
        yield
