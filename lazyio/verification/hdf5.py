"""Checks of an HDF5 file, written by lazyio or by another program."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import ELEMENTS, LaterFormat, Table, digest_of, digest_of_elements
from lazyio.atomic.hdf5_digests import (
    GROUP,
    elements_in,
    facts_of,
    group_of,
    keys_with_digests,
    load,
    piece_shape,
)
from lazyio.codecs.base import FLETCHER32
from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.codecs.workspace import Fill
from lazyio.dtypes import Shape, is_text, nbytes_of
from lazyio.errors import (
    DamagedDataError,
    LazyioError,
    SourceError,
    TruncatedSourceError,
    UnsafeFileError,
    UnsupportedDtypeError,
)
from lazyio.regions import Region, box, boxes, flat_index, grid_shape, index_at
from lazyio.sources.hdf5 import Hdf5Source, dataset_keys, describe_dataset
from lazyio.sources.hdf5_layout import StoredPayloads, each_stored_chunk
from lazyio.sources.path_policy import allowed_folders, refuse_links
from lazyio.storage.hdf5.dimension_scales import has_no_values
from lazyio.verification.report import (
    GONE,
    SINCE,
    Findings,
    Read,
    is_of_the_machine,
    not_read,
    read_all,
    threads_for,
)


@dataclass(frozen=True, kw_only=True)
class Extents:
    """Extents of an array, when it was written and now."""

    old: Shape
    """When it was written; as now, where that was not noted."""
    new: Shape
    """As they are now."""
    step: Shape
    """Of what has one digest."""

    @classmethod
    def of(cls, table: Table, shape: Shape, step: Shape) -> "Extents":
        """Return those of an array."""
        new = tuple(map(int, shape))
        return cls(old=new if table.shape is None else table.shape, new=new, step=step)

    @property
    def is_growth(self) -> bool:
        """Whether no axis has become shorter."""
        is_same_rank = len(self.old) == len(self.new)
        return is_same_rank and all(a <= b for a, b in zip(self.old, self.new, strict=True))

    @property
    def old_grid(self) -> Shape:
        """Chunks along each axis, when it was written; by it digests are numbered."""
        return grid_shape(self.old, self.step)

    def region_of(self, number: int) -> Region:
        """Return what a chunk held, by its number then."""
        return box(self.old, self.step, index_at(number, self.old_grid))

    def number_of(self, index: tuple[int, ...]) -> int | None:
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


@dataclass(frozen=True, kw_only=True)
class OpenChunks:
    """Checks the old elements of chunks to which another program has added others."""

    table: Table
    extents: Extents
    read: Callable[[Region], npt.NDArray[Any]]
    """Returns elements, as a reader gets them."""
    fill_value: Any
    """Of elements that are not stored."""

    def check(self, number: int, nbytes: int) -> Read:
        """Return what has become of the old elements of a chunk whose payload is another one."""
        region = self.extents.region_of(number)
        if not self.extents.is_open(number):
            return Read(region=region, nbytes=nbytes, wrong=f"it {SINCE}")
        try:
            elements = self.read(region)
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
        value = self.fill_value
        if is_text(like.dtype):
            return np.full(like.shape, value or "", like.dtype)
        return np.full(like.shape, Fill(value, like.dtype).value, like.dtype)


def grown_line(extents: Extents) -> str:
    """Return what is said of an array that has grown."""
    return f"it has grown from shape {extents.old} to {extents.new} since it was written"


_ANY = Exception
"""h5py raises errors of every kind of a damaged file."""

_ANEW = {"maxshape"}
"""Facts that change without any element."""
_NOT_DECODED = "it does not decode"
_NO_CHECKSUM = "it decodes, and has neither digests nor checksums"


def check_file(path: Path, key: str | None, findings: Findings, *, deep: bool) -> None:
    """Check the datasets of a file, or one of them."""
    folders = allowed_folders(str(path), None)
    try:
        os.close(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
        file = h5py.File(path, "r")
    except OSError as error:
        if is_of_the_machine(error):
            msg = f"{path} cannot be read: {os.strerror(error.errno or errno.EIO)}"
            raise SourceError(error.errno, msg) from error
        findings.failed(None, error, "it cannot be opened as HDF5")
        return
    with file:
        try:
            found = dataset_keys(file)
        except _ANY as error:
            findings.failed(None, error, "its groups cannot be read")
            found = []
        try:
            refuse_links(file, GROUP, folders)
            known = keys_with_digests(file)
        except UnsafeFileError:
            raise
        except _ANY as error:
            findings.failed(None, error, "its digests cannot be listed")
            known = []
        wanted = sorted({*found, *known})
        if key is not None:
            wanted = ["/".join(filter(None, key.split("/")))]
            if wanted[0] not in {*found, *known}:
                listed = ", ".join(found) or "none"
                msg = f"{path} has no dataset {key!r}; its datasets are {listed}"
                raise SourceError(msg)
        for name in wanted:
            findings.n_arrays += 1
            if _leads_nowhere_else(file, name, folders, findings):
                _check(file, path, name, findings, deep=deep)


def _leads_nowhere_else(
    file: h5py.File, key: str, folders: Sequence[Path], findings: Findings
) -> bool:
    """Return whether a dataset and its digests are all inside; note it where they are not."""
    name = f"/{key}"
    try:
        refuse_links(file, name, folders)
        for part in ("head", "rows"):
            refuse_links(file, f"{group_of(key)}/{part}", folders)
    except UnsafeFileError as error:
        findings.cannot_tell(name, f"it is not read: {error}")
    except _ANY as error:
        findings.failed(name, error, "it cannot be opened")
    else:
        return True
    return False


def _check(file: h5py.File, path: Path, key: str, findings: Findings, *, deep: bool) -> None:
    name = f"/{key}"
    try:
        table = load(file, key)
        later = None
    except LaterFormat as error:
        table, later = None, str(error)
    except ValueError as error:
        findings.failed(name, error, "")
        return
    try:
        is_there = file.get(key, getlink=True) is not None
        dataset = file[key] if is_there else None
    except _ANY as error:
        findings.failed(name, error, "it cannot be opened")
        return
    if dataset is None:
        findings.damage(name, GONE.replace("removed", "moved or removed"))
        return
    if not isinstance(dataset, h5py.Dataset):
        findings.damage(name, "it was a dataset when it was written, and is none now")
        return
    try:
        if later is not None:
            findings.cannot_tell(name, later)
        elif table is not None:
            _check_known(dataset, path, name, table, findings, deep=deep)
        elif has_no_values(dataset):
            findings.n_arrays -= 1  # Only the name and the extent of an axis.
        else:
            _check_unknown(dataset, path, name, findings, deep=deep)
    except _ANY as error:
        findings.failed(name, error)


def _check_known(
    dataset: h5py.Dataset, path: Path, key: str, table: Table, findings: Findings, *, deep: bool
) -> None:
    """Check a dataset against its digests."""
    extents = Extents.of(table, dataset.shape, piece_shape(dataset))
    has_grown = extents.is_growth and extents.old != extents.new
    facts = facts_of(dataset)
    if has_grown:
        facts["shape"] = table.facts.get("shape", "")
    differing = findings.compare(key, table.facts, facts, _ANEW)
    if differing & {"shape", "chunks"}:
        return
    if has_grown:
        findings.change(key, grown_line(extents))
    if table.of == ELEMENTS:
        if deep:
            reader = _ElementReader(dataset=dataset, table=table, extents=extents)
            read_all(findings, key, table.rows[:, 0].tolist(), reader)
        return
    _check_payloads(dataset, path, key, table, extents, findings, deep=deep)


def _check_payloads(
    dataset: h5py.Dataset,
    path: Path,
    key: str,
    table: Table,
    extents: Extents,
    findings: Findings,
    *,
    deep: bool,
) -> None:
    """Check which chunks are there, and what they hold."""
    stored: dict[int, int] = {}
    new: list[Region] = []
    for index, address in _stored(dataset):
        number = extents.number_of(index)
        if number is None:
            new.append(box(extents.new, extents.step, index))
        else:
            stored[number] = address
    numbers = table.rows[:, 0].tolist()
    reader = _PayloadReader(
        stored=StoredPayloads(dataset),
        table=table,
        extents=extents,
        open_chunks=_open_chunks(dataset, path, table, extents),
    )
    known = set(numbers)
    # To a chunk that was cut others may have added, and then stored it, or nothing of it.
    may_be = {one for one in known ^ stored.keys() if extents.is_open(one)}
    for number in sorted(known - stored.keys() - may_be):
        what = "it is lost: the file has no such chunk"
        findings.damage(key, what, extents.region_of(number))
    for number in sorted(stored.keys() - known - may_be):
        what = "it was not there when it was written"
        findings.damage(key, what, extents.region_of(number))
    if not deep:
        return
    there = sorted((one for one in known if one in stored), key=stored.__getitem__)
    n_threads = _threads(dataset)
    read_all(findings, key, [*there, *sorted(may_be)], reader, n_threads=n_threads)
    if new:
        # Nothing is known of these, but that they are to decode.
        read = _region_reader(_source_of(dataset, path).read)
        read_all(findings, key, new, read, n_threads=n_threads)


def _open_chunks(dataset: h5py.Dataset, path: Path, table: Table, extents: Extents) -> OpenChunks:
    def read(region: Region) -> Any:
        return _source_of(dataset, path).read(region)

    return OpenChunks(table=table, extents=extents, read=read, fill_value=dataset.fillvalue)


def _source_of(dataset: h5py.Dataset, path: Path) -> Hdf5Source:
    """Return what reads a dataset, and nothing outside the folder of its file."""
    folders = allowed_folders(str(path), None)
    return replace(describe_dataset(dataset, str(path)), folders=folders)


def _stored(dataset: h5py.Dataset) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield position and address of every chunk that is stored."""
    found: list[tuple[Any, Any]] = []
    if each_stored_chunk(dataset, lambda index, places: found.append((index, places[:, 0]))):
        for index, addresses in found:
            yield from zip(map(tuple, index.tolist()), addresses.tolist(), strict=True)
        return
    # One by one, where the list cannot be trusted.
    stored = StoredPayloads(dataset)
    for index in np.ndindex(grid_shape(dataset.shape, dataset.chunks)):
        corner = tuple(at * step for at, step in zip(index, dataset.chunks, strict=True))
        if stored.find(corner) is not None:
            yield index, 0


@dataclass(frozen=True, kw_only=True)
class _PayloadReader:
    """Reads chunks as they are stored, by the way that a reader finds them.

    By libhdf5, though it takes one at a time: the list of chunks that it gives
    leaves out a part of what it looks for them by.
    """

    stored: StoredPayloads
    table: Table
    extents: Extents
    open_chunks: OpenChunks

    def __call__(self, number: int) -> Read:
        region = self.extents.region_of(number)
        corner = tuple(part.start for part in region)
        try:
            found = self.stored.find(corner)
        except (OSError, RuntimeError, ValueError) as error:
            return not_read(error, region)
        if found is None:
            return self.open_chunks.check(number, 0)
        mask, payload = found
        if digest_of(payload, seed=mask) == self.table.find(number):
            return Read(region=region, nbytes=len(payload))
        return self.open_chunks.check(number, len(payload))


def _threads(dataset: h5py.Dataset) -> int:
    return threads_for(nbytes_of(piece_shape(dataset), dataset.dtype))


@dataclass(frozen=True, kw_only=True)
class _ElementReader:
    """Reads elements that have no payload of their own, by libhdf5."""

    dataset: h5py.Dataset
    table: Table
    extents: Extents

    def __call__(self, number: int) -> Read:
        region = self.extents.region_of(number)
        try:
            elements = elements_in(self.dataset, region)
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            return not_read(error, region)
        is_same = digest_of_elements(elements) == self.table.find(number)
        return Read(region=region, nbytes=elements.nbytes, wrong=None if is_same else f"it {SINCE}")


def _region_reader(read: Callable[[Region], Any]) -> Callable[[Region], Read]:
    """Return what reads a region for no other end than to see whether it decodes."""

    def attempt(region: Region) -> Read:
        try:
            return Read(region=region, nbytes=np.asarray(read(region)).nbytes)
        except SourceError as error:
            if isinstance(error, (DamagedDataError, TruncatedSourceError)):
                return not_read(error, region, _NOT_DECODED)
            # Another file that it leads to, or a filter that is not to be had.
            return Read(region=region, hindered=str(error))
        except (LazyioError, OSError, ValueError, RuntimeError) as error:
            return not_read(error, region, _NOT_DECODED)

    return attempt


def _check_unknown(
    dataset: h5py.Dataset, path: Path, key: str, findings: Findings, *, deep: bool
) -> None:
    """Check a dataset without digests: whether it decodes, and by checksums where it has them."""
    has_checksums = FLETCHER32 in {step.filter_id for step in filters_of(dataset)}
    if not deep:
        findings.cannot_tell(key, "no digests; a deep check would decode it")
        return
    try:
        dtype = dataset.dtype
        read = _source_of(dataset, path).read
        if h5py.check_string_dtype(dtype) is not None and dtype.hasobject:
            # As bytes: in which encoding they are is nothing that could be damaged.
            read = dataset.__getitem__
    except (TypeError, UnsupportedDtypeError, SourceError) as error:
        findings.cannot_tell(key, f"no digests, and it cannot be decoded here: {error}")
        return
    before = len(findings.damaged)
    n_threads = _threads(dataset)
    read_all(findings, key, _regions_of(dataset), _region_reader(read), n_threads=n_threads)
    if len(findings.damaged) == before and not has_checksums:
        findings.cannot_tell(key, _NO_CHECKSUM)


def _regions_of(dataset: h5py.Dataset) -> Iterable[Region]:
    """Return the parts of a dataset that are stored: of all that may be there can be billions."""
    step: Shape = piece_shape(dataset)
    if 0 in dataset.shape:
        return ()
    if dataset.chunks is None:
        # Of what was never written nothing is there, however large it is to be.
        is_there = dataset.is_virtual or dataset.id.get_storage_size()
        return boxes(dataset.shape, step) if is_there else ()
    grid = grid_shape(dataset.shape, step)
    numbers = sorted(flat_index(index, grid) for index, _ in _stored(dataset))
    return (box(dataset.shape, step, index_at(number, grid)) for number in numbers)
