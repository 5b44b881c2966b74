"""Checks of an HDF5 file, lazyio's or another's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.codecs.dataset_filters import filters_of
from lazyio.codecs.filters import FLETCHER32
from lazyio.errors import LazyioError, SourceError, UnsafeFileError, UnsupportedDtypeError
from lazyio.grid import Region, box, boxes, flat_index, grid_shape, index_at
from lazyio.safety.digests import ELEMENTS, Table, digest_of
from lazyio.safety.hdf5_digests import (
    GROUP,
    digest_of_piece,
    facts_of,
    group_of,
    keys_with_digests,
    load,
    piece_shape,
)
from lazyio.sources.confine import allowed_folders, refuse_links
from lazyio.sources.hdf5 import dataset_keys, describe_dataset
from lazyio.spec import Shape, nbytes_of
from lazyio.targets.dimensions import has_no_values
from lazyio.verifying.findings import SINCE, TOO_LARGE, Findings, Read, read_all, threads_for

_ANY = Exception
"""h5py raises errors of every kind of a damaged file."""

_SHAPES = {"shape", "chunks"}
"""Facts without which the position of a chunk says nothing."""


def check_file(path: Path, key: str | None, findings: Findings, *, deep: bool) -> None:
    """Check the datasets of a file, or one of them.

    Raises
    ------
    SourceError
        When there is no such dataset.
    """
    folders = allowed_folders(str(path), None)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        findings.damage(None, f"it cannot be opened as HDF5: {error}")
        return
    with file:
        try:
            found = dataset_keys(file)
        except _ANY as error:
            findings.damage(None, f"its groups cannot be read: {error}")
            found = []
        try:
            refuse_links(file, GROUP, folders)
            known = keys_with_digests(file)
        except UnsafeFileError:
            raise
        except _ANY as error:
            findings.damage(None, f"its digests cannot be listed: {error}")
            known = []
        wanted = sorted({*found, *known}) if key is None else [key.strip("/")]
        if key is not None and wanted[0] not in {*found, *known}:
            msg = f"{path} has no dataset {key!r}; its datasets are {', '.join(found) or 'none'}"
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
        findings.damage(name, f"it cannot be opened: {error}")
    else:
        return True
    return False


def _check(file: h5py.File, path: Path, key: str, findings: Findings, *, deep: bool) -> None:
    name = f"/{key}"
    try:
        dataset = file[key]
        table = load(file, key)
    except ValueError as error:
        findings.damage(name, str(error))
        return
    except _ANY as error:
        findings.damage(name, f"it is gone, or cannot be opened: {error}")
        return
    if not isinstance(dataset, h5py.Dataset):
        findings.damage(name, "it was a dataset when it was written, and is none now")
        return
    try:
        if table is None and has_no_values(dataset):
            findings.n_arrays -= 1  # Only the name and the extent of an axis.
            return
        if table is None:
            _check_unknown(dataset, path, name, findings, deep=deep)
        else:
            _check_known(dataset, name, table, findings, deep=deep)
    except MemoryError:
        findings.cannot_tell(name, TOO_LARGE)
    except _ANY as error:
        findings.damage(name, f"it cannot be read: {error}")


def _check_known(
    dataset: h5py.Dataset, key: str, table: Table, findings: Findings, *, deep: bool
) -> None:
    """Check a dataset against its digests."""
    if findings.compare(key, dict(table.facts), facts_of(dataset)) & _SHAPES:
        return
    grid = grid_shape(dataset.shape, piece_shape(dataset))
    numbers = table.rows[:, 0].tolist()
    if table.of == ELEMENTS:
        if deep:
            read_all(findings, key, numbers, _ElementReader(dataset=dataset, table=table))
        return
    stored = dict(_stored(dataset, grid))
    for number in sorted(set(numbers) - stored.keys()):
        findings.damage(key, "it is lost: the file has no such chunk", _region_of(dataset, number))
    for number in sorted(stored.keys() - set(numbers)):
        findings.damage(key, "it was not there when it was written", _region_of(dataset, number))
    if deep:
        there = sorted((number for number in numbers if number in stored), key=stored.__getitem__)
        reader = _PayloadReader(dataset=dataset, table=table)
        read_all(findings, key, there, reader, n_threads=_threads(dataset))


def _stored(dataset: h5py.Dataset, grid: Shape) -> Iterator[tuple[int, int]]:
    """Yield number and address of every chunk that is stored."""
    found: list[Any] = []
    if 0 not in grid:
        dataset.id.chunk_iter(found.append)
    for info in found:
        index = [at // extent for at, extent in zip(info.chunk_offset, dataset.chunks, strict=True)]
        yield flat_index(index, grid), info.byte_offset


@dataclass(frozen=True, kw_only=True)
class _PayloadReader:
    """Reads chunks as they are stored, by the way that a reader finds them.

    By libhdf5, though it takes one at a time: the list of chunks that it gives
    leaves out a part of what it looks for them by.
    """

    dataset: h5py.Dataset
    table: Table

    def __call__(self, number: int) -> Read:
        region = _region_of(self.dataset, number)
        try:
            mask, payload = self.dataset.id.read_direct_chunk(tuple(part.start for part in region))
        except (OSError, RuntimeError, ValueError) as error:
            return Read(region=region, wrong=f"it cannot be read: {error}")
        is_same = digest_of(payload, seed=mask) == self.table.find(number)
        return Read(region=region, nbytes=len(payload), wrong=None if is_same else f"it {SINCE}")


def _threads(dataset: h5py.Dataset) -> int:
    return threads_for(nbytes_of(piece_shape(dataset), dataset.dtype))


def _region_of(dataset: h5py.Dataset, number: int) -> Region:
    step = piece_shape(dataset)
    return box(dataset.shape, step, index_at(number, grid_shape(dataset.shape, step)))


@dataclass(frozen=True, kw_only=True)
class _ElementReader:
    """Reads elements that have no payload of their own, by libhdf5."""

    dataset: h5py.Dataset
    table: Table

    def __call__(self, number: int) -> Read:
        region = _region_of(self.dataset, number)
        try:
            is_same = digest_of_piece(self.dataset, number) == self.table.find(number)
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            return Read(region=region, wrong=f"it cannot be read: {error}")
        shape = [part.stop - part.start for part in region]
        nbytes = int(np.prod(shape)) * self.dataset.dtype.itemsize
        return Read(region=region, nbytes=nbytes, wrong=None if is_same else f"it {SINCE}")


def _check_unknown(
    dataset: h5py.Dataset, path: Path, key: str, findings: Findings, *, deep: bool
) -> None:
    """Check a dataset without digests: whether it decodes, and by checksums where it has them."""
    has_checksums = FLETCHER32 in {step.filter_id for step in filters_of(dataset)}
    if not deep:
        findings.cannot_tell(key, "no digests; a deep check would decode it")
        return
    try:
        folders = allowed_folders(str(path), None)
        source = replace(describe_dataset(dataset, str(path)), folders=folders)
    except (UnsupportedDtypeError, SourceError) as error:
        findings.cannot_tell(key, f"no digests, and it cannot be decoded here: {error}")
        return
    step = piece_shape(dataset)

    def read(region: Any) -> Read:
        try:
            return Read(region=region, nbytes=source.read(region).nbytes)
        except (LazyioError, OSError, ValueError, RuntimeError) as error:
            return Read(region=region, wrong=f"it does not decode: {error}")

    before = len(findings.damaged)
    # Of what was never written nothing is there, however large it is to be.
    is_there = 0 not in dataset.shape and (dataset.is_virtual or dataset.id.get_storage_size())
    regions = iter(boxes(dataset.shape, step)) if is_there else iter(())
    if dataset.chunks is not None:
        # Only what is there: of all that may be there can be billions.
        numbers = sorted(dict(_stored(dataset, grid_shape(dataset.shape, step))))
        regions = (_region_of(dataset, number) for number in numbers)
    read_all(findings, key, regions, read, n_threads=_threads(dataset))
    if len(findings.damaged) == before and not has_checksums:
        findings.cannot_tell(key, "it decodes, and has neither digests nor checksums")
