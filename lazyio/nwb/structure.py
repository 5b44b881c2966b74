"""PyNWB writes the structure of a file, and makes the datasets that lazyio fills.

What HDMF does not promise to keep is all here: a test on the versions that are claimed fails
where one of them goes.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from dask.base import tokenize
from hdmf.backends.hdf5 import H5DataIO
from hdmf.build import DatasetBuilder, GroupBuilder, LinkBuilder, ReferenceBuilder
from hdmf.data_utils import AbstractDataChunkIterator, DataIO
from pynwb import NWBHDF5IO, NWBFile

from lazyio.atomic.digests import digest_of_value
from lazyio.errors import OptionError
from lazyio.nwb.datasets import NwbDataset

_NEW_IN_EACH_CALL = ("object_id", "file_create_date")
"""What PyNWB gives to containers that are made again of the same data."""


class LentFileIO(NWBHDF5IO):  # type: ignore[misc]
    """PyNWB's writer for a file that is not its own."""

    def close(self, close_links: bool = True) -> None:
        """Leave the file open; HDMF before 6.2 closes it when the writer is deleted."""


class _Nothing(AbstractDataChunkIterator):  # type: ignore[misc]
    """Data that never come: the dataset is made, and stays empty."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments

    def __iter__(self) -> "_Nothing":
        return self

    def __next__(self) -> Any:
        raise StopIteration

    def recommended_chunk_shape(self) -> Any:
        return self._arguments["chunks"]

    def recommended_data_shape(self) -> Any:
        return self._arguments["shape"]

    @property
    def dtype(self) -> Any:
        return self._arguments["dtype"]

    @property
    def maxshape(self) -> Any:
        return self._arguments["maxshape"] or self._arguments["shape"]


class _Described(H5DataIO):  # type: ignore[misc]
    """How h5py is to make a dataset, whatever HDMF's wrapper knows of."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(data=_Nothing(arguments))
        self._arguments = dict(arguments)

    @property
    def io_settings(self) -> dict[str, Any]:
        """Arguments of ``create_dataset``."""
        return dict(self._arguments)


def require_nwbfile(given: Any) -> None:
    """Raise where something is no NWB file in memory."""
    if not isinstance(given, NWBFile):
        msg = f"{type(given).__name__} is no NWBFile of PyNWB; write an array with lazyio.to_hdf5"
        raise OptionError(msg)


def built(nwbfile: NWBFile, manager: Any, source: str) -> GroupBuilder:
    """Return what PyNWB would write of a file."""
    return manager.build(nwbfile, source=source, root=True)


@contextlib.contextmanager
def left_as_found(nwbfile: NWBFile) -> Iterator[None]:
    """Let containers forget that they were built: they may be written elsewhere."""
    fresh = [one for one in containers_in(nwbfile) if one.container_source is None]
    try:
        yield
    finally:
        for one in fresh:
            one._AbstractContainer__container_source = None


def containers_in(container: Any) -> Iterator[Any]:
    """Yield a container and all below it."""
    yield container
    for child in container.children:
        yield from containers_in(child)


def digest_of_structure(root: GroupBuilder, filled: Iterable[NwbDataset]) -> str:
    """Return a digest of all that PyNWB writes, but for object ids and its time."""
    skipped = {id(one.builder) for one in filled}
    return digest_of_value(dict(_parts(root, "", skipped)))


def _parts(group: GroupBuilder, path: str, skipped: set[int]) -> Iterator[tuple[str, Any]]:
    yield path, _plain_attributes(group)
    for name, link in group.links.items():
        yield f"{path}/{name}", _plain(link)
    for name, dataset in group.datasets.items():
        if name not in _NEW_IN_EACH_CALL:
            data = None if id(dataset) in skipped else _plain(dataset.data)
            yield f"{path}/{name}", [_plain_attributes(dataset), str(dataset.dtype), data]
    for name, below in group.groups.items():
        yield from _parts(below, f"{path}/{name}", skipped)


def _plain_attributes(builder: Any) -> dict[str, Any]:
    own = builder.attributes.items()
    return {name: _plain(value) for name, value in own if name not in _NEW_IN_EACH_CALL}


def _plain(value: Any) -> Any:
    """Return a value of a builder as something that JSON has."""
    if isinstance(value, DataIO):
        return _plain(value.data)
    if isinstance(value, LinkBuilder):
        return [value.source, value.builder.path]
    if isinstance(value, ReferenceBuilder):
        return [value.builder.path]
    if isinstance(value, (GroupBuilder, DatasetBuilder)):
        return [value.path]
    if isinstance(value, h5py.Dataset):
        return [value.file.filename, value.name, list(value.shape)]
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return tokenize(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(each) for each in value]
    return str(value)


def write_structure(
    io: NWBHDF5IO,
    nwbfile: NWBFile,
    root: GroupBuilder,
    arguments: Mapping[str, Mapping[str, Any]],
    datasets: Mapping[str, NwbDataset],
    *,
    folder: Path,
    **options: Any,
) -> None:
    """Write everything but the elements of some datasets, which are made empty.

    ``folder`` is where the file is to be, to which links to other files are relative.
    """
    by_builder = {id(datasets[key].builder): one for key, one in arguments.items()}
    write_dataset, write_link, manager = io.write_dataset, io.write_link, io.manager

    def make(parent: h5py.Group, builder: DatasetBuilder, **more: Any) -> Any:
        if id(builder) not in by_builder:
            made = write_dataset(parent, builder, **more)
            _relate(parent, builder.name, _linked_path(builder), folder)
            return made
        data = builder["data"]
        builder["data"] = _Described(by_builder[id(builder)])
        try:
            return write_dataset(parent, builder, **more)
        finally:
            builder["data"] = data

    def link(parent: h5py.Group, builder: LinkBuilder, **more: Any) -> Any:
        made = write_link(parent, builder, **more)
        _relate(parent, builder.name, builder.builder.source, folder)
        return made

    # Attributes of the objects hide the methods of their classes.
    io.write_dataset, io.write_link = make, link
    manager.build = lambda *_, **__: root
    try:
        io.write(nwbfile, **options)
    finally:
        del io.write_dataset, io.write_link, manager.build


def _linked_path(builder: DatasetBuilder) -> Any:
    data = builder.data.data if isinstance(builder.data, DataIO) else builder.data
    return data.file.filename if isinstance(data, h5py.Dataset) else None


def _relate(parent: h5py.Group, name: str, path: Any, folder: Path) -> None:
    """Make a link to another file relative to where this one is to be, not where it is made."""
    link = parent.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        del parent[name]
        parent[name] = h5py.ExternalLink(os.path.relpath(path, folder), link.path)
