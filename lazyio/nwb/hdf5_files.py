"""NWB files in HDF5 as places to write to: a new file, or one that the caller has open."""

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import h5py
from hdmf.backends.hdf5 import H5DataIO
from hdmf.build import DatasetBuilder, LinkBuilder
from hdmf.data_utils import DataIO
from pynwb import NWBHDF5IO

from lazyio.atomic.digests import Table
from lazyio.atomic.hdf5_digests import ObjectNames, load, store
from lazyio.inputs import Input
from lazyio.nwb.contents import Contents
from lazyio.nwb.datasets import NwbDataset
from lazyio.nwb.structure import nothing, only_structure
from lazyio.planning.plan import Advice
from lazyio.sources.hdf5 import dataset_keys
from lazyio.storage.hdf5.dataset import creation_arguments
from lazyio.storage.hdf5.digesting import digest_dataset
from lazyio.storage.hdf5.file import OpenMode
from lazyio.storage.region_target import Comparable
from lazyio.verification.renewal import is_same
from lazyio.writing.dataset_rules import OF_NEW_DATASETS, rule_of
from lazyio.writing.hdf5_backend import NewDatasets, writer_of_all
from lazyio.writing.hdf5_settings import (
    Hdf5Item,
    Hdf5Settings,
    advice_on,
    dataset_item,
    described,
)
from lazyio.writing.request import Build, Heads, Place
from lazyio.writing.run_options import RunOptions, scratch_beside
from lazyio.writing.target_checks import check_file, refuse_own_source


@dataclass(frozen=True, kw_only=True)
class Hdf5Format:
    """Arrays as datasets of HDF5."""

    options: Hdf5Settings
    """What holds for all of them."""

    known: ClassVar[Sequence[str]] = OF_NEW_DATASETS
    reopened: ClassVar[str] = "NWBHDF5IO"

    def takes(self, data: Any) -> bool:  # noqa: ARG002 - none of them
        """Return whether data of other files are copied: PyNWB links to them, or copies them."""
        return False

    def leaves(self, given: Input) -> bool:  # noqa: ARG002
        """Return whether an array is left to PyNWB."""
        return False

    def settings_of(self, one: NwbDataset, rule: Mapping[str, Any]) -> Hdf5Settings:
        """Return how a dataset is stored: by its rule, its wrapper, or what holds for all."""
        own = one.given.settings
        fresh = Hdf5Settings()
        common = {name: getattr(self.options, name) for name in OF_NEW_DATASETS}
        if "compression" in own:
            # The wrapper names a codec, of which the options of another say nothing.
            common |= {name: getattr(fresh, name) for name in ("compression", "compression_opts")}
        common |= {name: getattr(fresh, name) for name in OF_NEW_DATASETS if name in own}
        if one.maxshape is not None and "maxshape" not in own:
            common["maxshape"] = one.maxshape
        return replace(self.options, **common | dict(rule), dtype=one.dtype)

    def item(self, key: str, given: Input, settings: Hdf5Settings) -> Hdf5Item:
        """Return a dataset with its plan."""
        return dataset_item(key, given, settings)

    def codecs_of(self, item: Hdf5Item) -> str:
        """Return its filters as a person reads them."""
        return described(item.options.filters)

    def rule_of(self, item: Hdf5Item) -> dict[str, Any]:
        """Return what makes a dataset as it is planned."""
        return rule_of(item)

    def advice_on(self, items: Sequence[Hdf5Item]) -> Advice:
        """Return hints on filters."""
        return advice_on(tuple(items))


@dataclass(frozen=True, kw_only=True)
class NewNwbFile(NewDatasets):
    """An NWB file that is made anew."""

    contents: Contents
    manager: Any
    """PyNWB's, with what it has built."""

    makes_groups: ClassVar[bool] = True

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        return super().common | {"structure": self.contents.structure}

    def check(self, items: Sequence[Hdf5Item]) -> bool:
        """Refuse a file that may not be written."""
        check_file(self.path, self.mode, is_file=True, is_whole=True)
        for item in items:
            refuse_own_source(item.arranged.given, self.path, None)
        return False

    @contextlib.contextmanager
    def written(self, item: Hdf5Item) -> Iterator[tuple[Table, Comparable] | None]:
        """Return the digests and chunks of what is there, where all else is there as well."""
        with super().written(item) as found:
            yield found if found is None or self._others_are_there else None

    @functools.cached_property
    def _others_are_there(self) -> bool:
        """Whether what PyNWB has written is as it wrote it."""
        with contextlib.suppress(OSError, ValueError, KeyError), h5py.File(self.path) as file:
            names = ObjectNames(file, many=True)
            return all(_is_there(file, key, names) for key in self.contents.others)
        return False

    def _made(self, built: OpenMode, items: Sequence[Hdf5Item], running: RunOptions) -> Any:
        io = _LentFileIO(file=built.file, mode="w", manager=self.manager)
        _write_structure(io, self.contents, self.path.parent)
        return [
            writer_of_all(built.file[item.arranged.key], item, self.path, running) for item in items
        ]

    def _complete(self, file: Any, running: RunOptions) -> None:
        """Store digests of what PyNWB has written, too."""
        if running.digests:
            names = ObjectNames(file, many=True)
            for key in dataset_keys(file):
                if load(file, key) is None:
                    store(file, key, digest_dataset(file[key], names=names))


@dataclass(frozen=True, kw_only=True)
class OpenNwbFile(Place[Hdf5Item]):
    """An NWB file that the caller has open, to which containers were added."""

    io: NWBHDF5IO
    contents: Contents

    is_open: ClassVar[bool] = True
    makes_groups: ClassVar[bool] = True
    format: ClassVar[str] = "hdf5"

    def check(self, items: Sequence[Hdf5Item]) -> None:
        """Refuse arrays that are read from the file itself."""
        for item in items:
            refuse_own_source(item.arranged.given, Path(self.io.source), item.arranged.key)

    @contextlib.contextmanager
    def build(self, items: Sequence[Hdf5Item], running: RunOptions, _: Heads) -> Iterator[Build]:
        """Have the new datasets made, and fill them."""
        self.check(items)
        path = Path(self.io.source)
        _write_structure(self.io, self.contents, path.parent)
        file = self.io._file
        with scratch_beside(path) as scratch:
            made = [writer_of_all(file[item.arranged.key], item, path, running) for item in items]
            yield Build(made=made, scratch=scratch)


def _is_there(file: h5py.File, key: str, names: ObjectNames) -> bool:
    """Return whether a dataset is as its digests say, or a link to another file."""
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        return file.get(key, getlink=True) is not None
    known = load(file, key)
    return known is not None and is_same(known, digest_dataset(file[key], names=names))


class _LentFileIO(NWBHDF5IO):  # type: ignore[misc]
    """PyNWB's writer for a file that is not its own."""

    def close(self, close_links: bool = True) -> None:
        """Leave the file open; HDMF before 6.2 closes it when the writer is deleted."""


class _Described(H5DataIO):  # type: ignore[misc]
    """How h5py is to make a dataset, whatever HDMF's wrapper knows of."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(data=nothing(arguments))
        self._arguments = dict(arguments)

    @property
    def io_settings(self) -> dict[str, Any]:
        """Arguments of ``create_dataset``."""
        return dict(self._arguments)


def _write_structure(io: NWBHDF5IO, contents: Contents, folder: Path) -> None:
    """Have PyNWB write everything but the elements.

    ``folder`` is where the file is to be, to which links to other files are relative.
    """
    described = {
        id(contents.datasets[item.arranged.key].builder): _Described(_arguments_of(item))
        for item in contents.items
    }
    write_link = io.write_link

    def link(parent: h5py.Group, builder: LinkBuilder, **more: Any) -> Any:
        made = write_link(parent, builder, **more)
        _relate(parent, builder.name, builder.builder.source, folder)
        return made

    def relate(parent: h5py.Group, builder: DatasetBuilder) -> None:
        _relate(parent, builder.name, _linked_path(builder), folder)

    io.write_link = link  # Hides the method, as those of the datasets.
    try:
        with only_structure(io, contents.root, described, relate):
            io.write(contents.nwbfile, **contents.io_options)
    finally:
        del io.write_link


def _arguments_of(item: Hdf5Item) -> dict[str, Any]:
    """Return what h5py makes a dataset of."""
    arranged, plan = item.arranged, item.arranged.plan
    return creation_arguments(arranged.first_shape, plan.chunk_shape, plan.dtype, item.options)


def _linked_path(builder: DatasetBuilder) -> Any:
    data = builder.data.data if isinstance(builder.data, DataIO) else builder.data
    return data.file.filename if isinstance(data, h5py.Dataset) else None


def _relate(parent: h5py.Group, name: str, path: Any, folder: Path) -> None:
    """Make a link to another file relative to where this one is to be, not where it is made."""
    link = parent.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        del parent[name]
        parent[name] = h5py.ExternalLink(os.path.relpath(path, folder), link.path)
