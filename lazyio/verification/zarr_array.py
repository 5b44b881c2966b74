"""Checks of one Zarr array against its digests, wherever its objects lie."""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lazyio.atomic.digests import Table
from lazyio.atomic.zarr_digests import StoreNeighbours
from lazyio.dtypes import nbytes_of
from lazyio.errors import LazyioError
from lazyio.regions import Region, box
from lazyio.sources.zarr import describe_array
from lazyio.sources.zarr_objects import index_named
from lazyio.verification.hdf5 import Extents, OpenChunks, grown_line
from lazyio.verification.report import GONE, Findings, Read, not_read, read_all, threads_for


@dataclass(frozen=True, kw_only=True)
class _Offset:
    """How paths in the store that an array was written to come to be paths in that checked."""

    above: str = ""
    """What comes before them, where the one lies in the other."""
    below: str = ""
    """What they lose, where the other lies in the one."""

    def path_of(self, path: str) -> str | None:
        """Return where a path leads to, ``None`` if that is outside."""
        if not path.startswith(self.below):
            return None
        return f"{self.above}{path.removeprefix(self.below)}"


def check_places(
    findings: Findings, places: Mapping[str, StoreNeighbours], found: Container[str]
) -> None:
    """Note arrays that are lost, moved, or have taken the place of another."""
    for store in {place.store for place in places.values()}:
        # An array that is opened as a store by itself does not know where it lies.
        own = {at: place for at, place in places.items() if at and place.store == store}
        _check_store(findings, own, places, found)


def _check_store(
    findings: Findings,
    places: Mapping[str, StoreNeighbours],
    known: Container[str],
    found: Container[str],
) -> None:
    offset = _usual([_offset(at, place.path) for at, place in places.items()])
    home = {at: offset.path_of(place.path) for at, place in places.items()}
    moved_from = set()
    for at, place in sorted(places.items()):
        if home[at] == at:
            continue
        was = home[at] if home[at] is not None else place.path
        if was in places and home[str(was)] == was:
            findings.change(_shown(at), f"it is a copy of {_shown(was)}, made since")
        elif was in found:
            what = f"it was written as {_shown(was)}, where there is another array now"
            findings.damage(_shown(at), what)
        else:
            moved_from.add(was)
            findings.change(_shown(at), f"it was written as {_shown(was)}, and moved since")
    near = {
        offset.path_of(other)
        for at, place in places.items()
        if home[at] == at
        for other in place.near
    }
    for path in sorted(one for one in near if one is not None):
        is_told = any(key == _shown(path) for key, _ in findings.unverifiable)
        if path in found and path not in known and not is_told:
            findings.cannot_tell(_shown(path), "its digests are gone, or it was written anew")
        if path not in found and path not in moved_from:
            findings.n_arrays += 1
            findings.damage(_shown(path), GONE)


def _offset(at: str, path: str) -> _Offset | None:
    """Return the offset by which an array is where it was written to, if there is one."""
    if f"/{at}".endswith(f"/{path}"):
        return _Offset(above=at.removesuffix(path))
    if f"/{path}".endswith(f"/{at}"):
        return _Offset(below=path.removesuffix(at))
    return None


def _usual(offsets: list[_Offset | None]) -> _Offset:
    """Return the offset of most arrays; none, where no other is that of more."""
    counted = Counter(offset for offset in offsets if offset is not None)
    if len(counted) == 1:
        return next(iter(counted))
    most = max(counted.values(), default=0)
    if counted[_Offset()] == most or not counted:
        return _Offset()
    return max(counted, key=lambda offset: counted[offset])


def _shown(name: str | None) -> str:
    return f"/{name}" if name else "/"


_SHAPES = {
    *("shape", "chunk_grid", "chunks", "codecs", "zarr_format"),
    *("chunk_key_encoding", "dimension_separator"),
}
"""Facts without which the name of an object says nothing."""
_ANEW = {"dimension_names", "storage_transformers"}
"""Facts that change without any element."""


class Objects(Protocol):
    """The objects of one array."""

    @property
    def n_threads(self) -> int | None:
        """By how many threads they are read at once; ``None`` is as many as there are workers."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where files of a store may lie; none, where it lies in one file."""

    def names(self) -> Iterator[str]:
        """Yield the names of what may be objects, from the array on; not those of metadata."""

    def is_there(self, name: str) -> bool:
        """Return whether there is an object of a name."""

    def digest(self, name: str) -> tuple[int, int]:
        """Return the digest of an object, and its bytes; raises what its reading raises."""


def check_known(
    findings: Findings,
    key: str,
    table: Table,
    facts: dict[str, str],
    array: Any,
    objects: Objects,
    *,
    deep: bool,
) -> None:
    """Check an array against its digests."""
    step = tuple(map(int, array.shards or array.chunks))
    extents = Extents.of(table, array.shape, step)
    has_grown = extents.is_growth and extents.old != extents.new
    if has_grown:
        facts = {**facts, "shape": table.facts.get("shape", "")}
    if findings.compare(key, table.facts, facts, _ANEW) & _SHAPES:
        return
    if has_grown:
        findings.change(key, grown_line(extents))
    known = {_name(array, extents, number): number for number in table.rows[:, 0].tolist()}
    reader = _ObjectReader(
        table=table, objects=objects, extents=extents, array=array, numbers=known
    )
    new: list[Region] = []
    wanted: set[str] = set()
    for name in objects.names():
        index = index_named(array.metadata, len(step), name)
        number = None if index is None else extents.number_of(index)
        if name in known:
            continue
        if index is not None and number is not None and extents.is_open(number):
            reader.numbers[name] = number
            wanted.add(name)
        elif index is not None and number is None and _is_inside(index, extents):
            new.append(box(extents.new, step, index))
        else:
            findings.damage(key, f"{name} was not there when the array was written")
    n_hindered = 0
    for name, number in known.items():
        try:
            is_there = objects.is_there(name)
        except OSError as error:
            n_hindered += 1
            if n_hindered == 1:
                findings.failed(key, error)
            continue
        if is_there or extents.is_open(number):
            wanted.add(name)
        else:
            region = extents.region_of(number)
            findings.damage(key, "it is lost: its object is not there", region)
    if deep:
        n_threads = min(objects.n_threads or threads_of(array), threads_of(array))
        read_all(findings, key, sorted(wanted), reader, n_threads=n_threads)
        decode = decoder(array, objects.folders)
        read_all(findings, key, new, decode, n_threads=n_threads)


def threads_of(array: Any) -> int:
    """Return how many objects of an array may be decoded at once."""
    return threads_for(nbytes_of(tuple(array.shards or array.chunks), array.dtype))


def region_named(array: Any, name: str) -> Region | None:
    """Return the part of an array that an object of a name holds, ``None`` where it is none.

    What lies beyond its end is none: an array that grows leaves it when it is killed.
    """
    step = tuple(map(int, array.shards or array.chunks))
    index = index_named(array.metadata, len(step), name)
    extents = Extents(old=array.shape, new=array.shape, step=step)
    if index is None or not _is_inside(index, extents):
        return None
    return box(array.shape, step, index)


def _name(array: Any, extents: Extents, number: int) -> str:
    region = extents.region_of(number)
    index = tuple(part.start // size for part, size in zip(region, extents.step, strict=True))
    return str(array.metadata.encode_chunk_key(index))


def _is_inside(index: tuple[int, ...], extents: Extents) -> bool:
    return all(
        at * size < extent
        for at, size, extent in zip(index, extents.step, extents.new, strict=True)
    )


def decoder(array: Any, folders: tuple[Path, ...] = ()) -> Callable[[Region], Read]:
    """Return what reads a part of an array that nothing is known of, but that it is to decode.

    ``folders`` are those that its objects may lie in, where it lies in one.
    """
    source = replace(describe_array(array), folders=folders)

    def read(region: Region) -> Read:
        try:
            return Read(region=region, nbytes=source.read(region).nbytes)
        except (LazyioError, OSError, ValueError, RuntimeError) as error:
            return not_read(error, region, "it does not decode")

    return read


@dataclass(frozen=True, kw_only=True)
class _ObjectReader:
    """Reads objects as they are stored."""

    table: Table
    objects: Objects
    extents: Extents
    array: Any
    numbers: dict[str, int]
    """Of all objects that are read, by their names."""

    def __call__(self, name: str) -> Read:
        number = self.numbers[name]
        region = self.extents.region_of(number)
        try:
            there = self.objects.is_there(name)
            digest, nbytes = self.objects.digest(name) if there else (None, 0)
        except Exception as error:  # noqa: BLE001 - zipfile has exceptions of its own
            return not_read(error, region)
        if digest is not None and digest == self.table.find(number):
            return Read(region=region, nbytes=nbytes)
        source = replace(describe_array(self.array), folders=self.objects.folders)
        open_chunks = OpenChunks(
            table=self.table,
            extents=self.extents,
            read=lambda part: np.asarray(source.read(part)),
            fill_value=self.array.metadata.fill_value,
        )
        return open_chunks.check(number, nbytes)
