"""Checks of one array, in whatever format: against its digests, or by decoding what is stored."""

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import ELEMENTS, Table, digest_of_elements
from lazyio.codecs.workspace import Fill
from lazyio.dtypes import Shape, is_text
from lazyio.errors import LazyioError, SourceError, TruncatedSourceError, UnsupportedDtypeError
from lazyio.os_errors import errno_of
from lazyio.regions import Region, box, flat_index, grid_shape, index_at
from lazyio.verification.report import SINCE, Findings, Read, not_read, read_all

Index = tuple[int, ...]


class StoredArray(Protocol):
    """An array as it is stored: what describes it, and its chunks (shards of a sharded one)."""

    lost: str
    """What is said of a chunk that is gone."""
    decisive: frozenset[str]
    """Facts without which nothing can be said of a chunk."""
    anew: frozenset[str]
    """Facts that change without any element."""

    @property
    def shape(self) -> Shape:
        """Extents of the array."""

    @property
    def step(self) -> Shape:
        """Extents of what has one digest."""

    @property
    def fill_value(self) -> Any:
        """Of elements that are not stored."""

    @property
    def has_checksums(self) -> bool:
        """Whether a chunk that was changed does not decode."""

    @property
    def n_threads(self) -> int:
        """How many chunks may be read at once."""

    def listed(self) -> Iterator[tuple[Index | None, str]]:
        """Yield position and name of what is stored; no position, where it is no chunk."""

    def regions(self) -> Iterable[Region]:
        """Return the parts that are stored: of all that may be there can be billions."""

    def place(self, region: Region) -> int | None:
        """Return where a chunk lies, to read them in order; ``None`` where there is none."""

    def digest(self, region: Region) -> tuple[int, int] | None:
        """Return the digest of a chunk as it is stored, and its bytes; ``None`` as above."""

    def reader(self) -> Callable[[Region], Any]:
        """Return what reads elements, and nothing outside of what may be read."""

    def decoder(self) -> Callable[[Region], Any]:
        """Return what reads them for no other end than to see whether they decode."""


@dataclass(frozen=True, kw_only=True)
class Extents:
    """Extents of an array, when it was written and now."""

    old: Shape
    """When it was written; as now, where that was not noted."""
    new: Shape
    """As they are now."""
    step: Shape
    """Of what has one digest."""

    @property
    def is_growth(self) -> bool:
        """Whether an axis has become longer, and none shorter."""
        is_same_rank = len(self.old) == len(self.new)
        is_within = is_same_rank and all(a <= b for a, b in zip(self.old, self.new, strict=True))
        return is_within and self.old != self.new

    @property
    def old_grid(self) -> Shape:
        """Chunks along each axis, when it was written; by it digests are numbered."""
        return grid_shape(self.old, self.step)

    def region_of(self, number: int) -> Region:
        """Return what a chunk held, by its number then."""
        return box(self.old, self.step, index_at(number, self.old_grid))

    def number_of(self, index: Index) -> int | None:
        """Return the number that a chunk had, ``None`` where it is new."""
        if any(at >= count for at, count in zip(index, self.old_grid, strict=True)):
            return None
        return flat_index(index, self.old_grid)

    def is_open(self, number: int) -> bool:
        """Return whether new elements may lie beside the old ones of a chunk."""
        region = self.region_of(number)
        return any(
            part.stop == old < new and old % size
            for part, old, new, size in zip(region, self.old, self.new, self.step, strict=True)
        )


def is_inside(index: Index, array: StoredArray) -> bool:
    """Return whether a chunk begins in an array: one that grows leaves others when it is killed."""
    places = zip(index, array.step, array.shape, strict=True)
    return all(at * size < extent for at, size, extent in places)


def check_known(
    findings: Findings,
    key: str,
    table: Table,
    facts: dict[str, str],
    array: StoredArray,
    *,
    deep: bool,
) -> None:
    """Check an array against its digests."""
    old = array.shape if table.shape is None else table.shape
    extents = Extents(old=old, new=array.shape, step=array.step)
    if extents.is_growth:
        facts = {**facts, "shape": table.facts.get("shape", "")}
    if findings.compare(key, table.facts, facts, array.anew) & array.decisive:
        return
    if extents.is_growth:
        what = f"it has grown from shape {extents.old} to {extents.new} since it was written"
        findings.change(key, what)
    numbers = table.rows[:, 0].tolist()
    places = dict.fromkeys(numbers, 0)
    new: list[Region] = []
    if table.of != ELEMENTS:
        places, new = _compare_chunks(findings, key, numbers, array, extents)
    if deep:
        wanted = sorted(places, key=lambda number: (places[number], number))
        reader = _ChunkReader(table=table, extents=extents, array=array)
        read_all(findings, key, wanted, reader, n_threads=array.n_threads)
    if deep and new:
        # Nothing is known of these, but that they are to decode.
        read_all(findings, key, new, decoding(array.decoder()), n_threads=array.n_threads)


def _compare_chunks(
    findings: Findings, key: str, numbers: Iterable[int], array: StoredArray, extents: Extents
) -> tuple[dict[int, int], list[Region]]:
    """Return the places of chunks to compare, and the parts that are new; note what is amiss."""
    places: dict[int, int] = {}
    new: list[Region] = []
    is_hindered = False
    known = set(numbers)
    for number in sorted(known):
        region = extents.region_of(number)
        try:
            place = array.place(region)
        except OSError as error:
            if not is_hindered:
                findings.failed(key, error)
            is_hindered = True
            continue
        if place is not None or extents.is_open(number):
            # To a chunk that was cut others may have added, and then stored nothing of it.
            places[number] = place or 0
        else:
            findings.damage(key, f"it is lost: {array.lost}", region)
    for index, name in array.listed():
        new_number = None if index is None else extents.number_of(index)
        if new_number in known:
            continue
        if new_number is not None and extents.is_open(new_number):
            places[new_number] = 0
        elif new_number is None and index is not None and is_inside(index, array):
            new.append(box(extents.new, extents.step, index))
        else:
            region = () if new_number is None else extents.region_of(new_number)
            findings.damage(key, f"{name} was not there when it was written", region or None)
    return places, new


@dataclass(frozen=True, kw_only=True)
class _ChunkReader:
    """Compares chunks with their digests, or the old elements of those that others added to."""

    table: Table
    extents: Extents
    array: StoredArray

    def __call__(self, number: int) -> Read:
        region = self.extents.region_of(number)
        try:
            digest, nbytes = self.array.digest(region) or (None, 0)
        except Exception as error:  # noqa: BLE001 - h5py and zipfile have errors of every kind
            return not_read(error, region)
        if digest is not None and digest == self.table.find(number):
            return Read(region=region, nbytes=nbytes)
        if self.table.of == ELEMENTS or not self.extents.is_open(number):
            return Read(region=region, nbytes=nbytes, wrong=f"it {SINCE}")
        try:
            elements = np.asarray(self.array.reader()(region))
        except Exception as error:  # noqa: BLE001 - codecs have exceptions of their own
            return not_read(error, region)
        expected = self.table.find_rim(number)
        if self.table.find(number) is None:
            expected = digest_of_elements(self._filled(elements))
        if expected is None:
            # Written by an earlier version.
            what = "elements were added to it; whether the old ones are the same cannot be told"
            return Read(region=region, nbytes=nbytes, anew=what)
        is_same = digest_of_elements(elements) == expected
        return Read(region=region, nbytes=nbytes, wrong=None if is_same else f"it {SINCE}")

    def _filled(self, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        value = self.array.fill_value
        if is_text(like.dtype):
            return np.full(like.shape, value or "", like.dtype)
        return np.full(like.shape, Fill(value, like.dtype).value, like.dtype)


def check_unknown(findings: Findings, key: str, array: StoredArray, *, deep: bool) -> None:
    """Check an array without digests: whether it decodes, and by checksums where it has them."""
    if not deep:
        findings.cannot_tell(key, "no digests; a deep check would decode it")
        return
    try:
        decode = decoding(array.decoder())
    except (TypeError, UnsupportedDtypeError, SourceError) as error:
        findings.cannot_tell(key, f"no digests, and it cannot be decoded here: {error}")
        return
    before = len(findings.damaged)
    read_all(findings, key, array.regions(), decode, n_threads=array.n_threads)
    if len(findings.damaged) == before and not array.has_checksums:
        findings.cannot_tell(key, "it decodes, and has neither digests nor checksums")


def decoding(read: Callable[[Region], Any]) -> Callable[[Region], Read]:
    """Return what reads a region for no other end than to see whether it decodes."""

    def attempt(region: Region) -> Read:
        try:
            return Read(region=region, nbytes=np.asarray(read(region)).nbytes)
        except (LazyioError, OSError, ValueError, RuntimeError) as error:
            is_plain = isinstance(error, SourceError) and not isinstance(
                error, TruncatedSourceError
            )
            if is_plain and errno_of(error) in (None, errno.ENOENT):
                # Another file that it leads to, or a filter that is not to be had.
                return Read(region=region, hindered=str(error))
            return not_read(error, region, "it does not decode")

    return attempt
