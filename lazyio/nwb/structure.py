"""PyNWB writes the structure of a file, and makes the datasets that lazyio fills.

What HDMF does not promise to keep is here, and what its formats do not in the module of each: a
test on the versions that are claimed fails where one of them goes.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from dask.base import tokenize
from hdmf.build import DatasetBuilder, GroupBuilder, LinkBuilder, ReferenceBuilder
from hdmf.data_utils import AbstractDataChunkIterator, DataIO
from pynwb import NWBFile

from lazyio.atomic.digests import digest_of_value
from lazyio.errors import LazyioError, OptionError, TargetError
from lazyio.inputs import recognise
from lazyio.nwb.datasets import NwbDataset
from lazyio.sources.zarr_metadata import is_zarr

_NEW_IN_EACH_CALL = ("object_id", "file_create_date")
"""What PyNWB gives to containers that are made again of the same data."""


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
        return self._arguments.get("maxshape") or self._arguments["shape"]


def nothing(arguments: Mapping[str, Any]) -> AbstractDataChunkIterator:
    """Return data for a dataset that is made by these arguments, and stays empty."""
    return _Nothing(arguments)


_READ_NBYTES = 2**20
"""Of an array in another file that is told by its elements, and not by what its file is."""


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


def refuse_own_data(root: GroupBuilder, target: str) -> None:
    """Refuse what lies in the very file that is going to be replaced, to which PyNWB would link."""
    ours, groups = {id(root)}, [root]
    found: list[tuple[str, Any]] = []
    while groups:
        group = groups.pop()
        ours.update(map(id, (*group.groups.values(), *group.datasets.values())))
        groups += group.groups.values()
        found += [(one.path, _location(one.data)) for one in group.datasets.values()]
        found += [(one.path, one.builder) for one in group.links.values()]
    for path, what in found:
        is_link = isinstance(what, (GroupBuilder, DatasetBuilder))
        place = what.source if is_link and id(what) not in ours else what
        if isinstance(place, str) and os.path.realpath(place) == os.path.realpath(target):
            msg = (
                f"{path} is data of {target} itself, which would be replaced; write to another "
                "path, then replace it"
            )
            raise TargetError(errno.EINVAL, msg)


def _location(data: Any) -> str | None:
    """Return the file or store that data lie in."""
    held = data.data if isinstance(data, DataIO) else data
    if isinstance(held, h5py.Dataset):
        return str(held.file.filename)
    if not is_zarr(held, "Array"):
        return None
    from lazyio.sources.zarr import store_name

    return store_name(held.store)


def datasets_below(group: GroupBuilder, path: str = "") -> Iterator[str]:
    """Yield the paths of all datasets that are built."""
    for name in group.datasets:
        yield f"{path}{name}"
    for name, below in group.groups.items():
        yield from datasets_below(below, f"{path}{name}/")


def digest_of_structure(
    root: GroupBuilder, filled: Iterable[NwbDataset], options: Mapping[str, Any]
) -> str:
    """Return a digest of all that PyNWB writes, but for object ids and its time."""
    skipped = {id(one.builder) for one in filled}
    asked = sorted((name, str(value)) for name, value in options.items())
    return digest_of_value({"": asked} | dict(_parts(root, "/", skipped)))


def _parts(group: GroupBuilder, path: str, skipped: set[int]) -> Iterator[tuple[str, Any]]:
    yield path, _plain_attributes(group)
    for name, link in group.links.items():
        yield f"{path}{name}", _plain(link)
    for name, dataset in group.datasets.items():
        if name not in _NEW_IN_EACH_CALL:
            data = None if id(dataset) in skipped else _plain(dataset.data)
            yield f"{path}{name}", [_plain_attributes(dataset), str(dataset.dtype), data]
    for name, below in group.groups.items():
        yield from _parts(below, f"{path}{name}/", skipped)


def _plain_attributes(builder: Any) -> dict[str, Any]:
    own = builder.attributes.items()
    return {name: _plain(value) for name, value in own if name not in _NEW_IN_EACH_CALL}


def _plain(value: Any) -> Any:
    """Return a value of a builder as something that JSON has."""
    if isinstance(value, DataIO):
        return [_plain(value.data), sorted((name, str(one)) for name, one in _asked(value))]
    if isinstance(value, LinkBuilder):
        return [value.source, value.builder.path]
    if isinstance(value, ReferenceBuilder):
        return [value.builder.path]
    if isinstance(value, (GroupBuilder, DatasetBuilder)):
        return [value.path]
    if isinstance(value, h5py.Dataset) or is_zarr(value, "Array"):
        return _plain_of_stored(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return tokenize(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(each) for each in value]
    return str(value)


def _asked(wrapper: DataIO) -> Iterable[tuple[str, Any]]:
    settings: Mapping[str, Any] = getattr(wrapper, "io_settings", {})
    return settings.items()


def _plain_of_stored(array: Any) -> Any:
    """Return where an array of another file lies, and what it holds where that is little."""
    if array.size * array.dtype.itemsize <= _READ_NBYTES:
        return _plain(np.asarray(array[()]))
    place = getattr(array, "file", None)
    told = [str(array.shape), place.filename if place else str(array.store), array.name]
    with contextlib.suppress(LazyioError):
        told.append(tokenize(recognise(array).source))
    return told


@contextlib.contextmanager
def only_structure(
    io: Any,
    root: GroupBuilder,
    described: Mapping[int, DataIO],
    is_written: Callable[[Any, DatasetBuilder], object] = lambda *_: None,
) -> Iterator[None]:
    """Have an IO object of HDMF write what has been built, some of its datasets empty.

    ``described`` are wrappers that say how these are made, by the identity of their builders;
    ``is_written`` is called with the group and the builder of every other one.
    """
    write_dataset, manager = io.write_dataset, io.manager

    def make(parent: Any, builder: DatasetBuilder, **more: Any) -> Any:
        if id(builder) not in described:
            made = write_dataset(parent=parent, builder=builder, **more)
            is_written(parent, builder)
            return made
        data = builder["data"]
        builder["data"] = described[id(builder)]
        try:
            return write_dataset(parent=parent, builder=builder, **more)
        finally:
            builder["data"] = data

    # Attributes of the objects hide the methods of their classes.
    io.write_dataset = make
    manager.build = lambda *_, **__: root
    try:
        yield
    finally:
        del io.write_dataset, manager.build
