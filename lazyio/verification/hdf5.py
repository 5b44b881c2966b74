"""Checks of an HDF5 file, written by lazyio or by another program."""

import errno
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.digests import ELEMENTS, LaterFormat, digest_of
from lazyio.atomic.hdf5_digests import (
    GROUP,
    ObjectNames,
    digest_in,
    elements_in,
    facts_of,
    group_of,
    keys_with_digests,
    load,
    piece_shape,
)
from lazyio.codecs.base import FLETCHER32
from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import DamagedDataError, SourceError, UnsafeFileError, UnsupportedDtypeError
from lazyio.libhdf5_calls import link_at, named
from lazyio.regions import Region, box, boxes, flat_index, grid_shape, index_at
from lazyio.sources.hdf5 import dataset_keys, describe_dataset
from lazyio.sources.hdf5_layout import StoredPayloads, dtype_of, each_stored_chunk
from lazyio.sources.hdf5_links import FileLink, links_in
from lazyio.sources.path_policy import allowed_folders, refuse_links
from lazyio.storage.hdf5.dimension_scales import has_no_values
from lazyio.storage.hdf5.links import LINK
from lazyio.verification.known import Index, check_known, check_unknown, decoding
from lazyio.verification.links import (
    check_link,
    compare_ends,
    facts_as_known,
    note_links,
    without_ends,
)
from lazyio.verification.report import (
    GONE,
    Findings,
    is_of_the_machine,
    read_all,
    threads_for,
    wanted_keys,
)

_ANY = Exception
"""h5py raises errors of every kind of a damaged file."""


def check_file(
    path: Path, key: str | None, findings: Findings, *, deep: bool, decodes: bool = False
) -> None:
    """Check the datasets of a file, or one of them; or only see whether they decode."""
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
        check = _FileCheck(file=file, path=path, findings=findings, deep=deep, decodes=decodes)
        check.run(key)


@dataclass(frozen=True, kw_only=True)
class _FileCheck:
    """The check of an open file."""

    file: h5py.File
    path: Path
    findings: Findings
    deep: bool
    decodes: bool
    """Whether it is only seen whether datasets decode, whatever digests say."""

    @functools.cached_property
    def names(self) -> ObjectNames:
        """Names of what references lead to, found once for all datasets."""
        return ObjectNames(self.file, many=True)

    @functools.cached_property
    def folders(self) -> tuple[Path, ...]:
        return allowed_folders(str(self.path), None)

    def run(self, key: str | None) -> None:
        """Check all datasets and links, or one."""
        found, known = self._datasets(), self._with_digests()
        links: dict[str, list[FileLink]] = {}
        for link in self._links():
            links.setdefault(link.key.lstrip("/"), []).append(link)
        missing = f"{self.path} has no dataset {key!r}; its datasets are"
        for name in wanted_keys(key, sorted({*found, *known, *links}), missing):
            own = links.get(name, [])
            if self.decodes:
                self._decode(name, own, is_dataset=name in found)
            else:
                self._check(name, own, is_known=name in found or name in known)

    def _datasets(self) -> list[str]:
        try:
            return dataset_keys(self.file)
        except _ANY as error:
            self.findings.failed(None, error, "its groups cannot be read")
            return []

    def _with_digests(self) -> list[str]:
        try:
            refuse_links(self.file, GROUP, self.folders)
            return keys_with_digests(self.file)
        except UnsafeFileError:
            raise
        except _ANY as error:
            if not self.decodes:
                self.findings.failed(None, error, "its digests cannot be listed")
            return []

    def _links(self) -> list[FileLink]:
        """Return what leads somewhere else, as far as it can be listed."""
        found: list[FileLink] = []
        try:
            # One by one, so that those are told that come before damage.
            found.extend(links_in(self.file, self.folders))
        except _ANY as error:
            self.findings.failed(None, error, "its links cannot be read")
        return found

    def _check(self, name: str, links: Sequence[FileLink], *, is_known: bool) -> None:
        """Check a dataset or link."""
        note_links(self.findings, links)
        if not is_known:
            return  # Only a link, of which there is nothing to compare.
        self.findings.n_arrays += 1
        is_broken = any(link.is_broken for link in links)
        if not is_broken and _leads_nowhere_else(self.file, name, self.folders, self.findings):
            _check(self.file, self.path, name, links, self.findings, self.names, deep=self.deep)

    def _decode(self, name: str, links: Sequence[FileLink], *, is_dataset: bool) -> None:
        """See whether a dataset decodes; what a link leads to has its own file."""
        if not is_dataset or has_no_values(self.file[named(name)]):
            return
        self.findings.n_arrays += 1
        note_links(self.findings, links)
        is_broken = any(link.is_broken for link in links)
        if not is_broken and _leads_nowhere_else(self.file, name, self.folders, self.findings):
            _decode(
                _Dataset(dataset=self.file[named(name)], path=self.path), f"/{name}", self.findings
            )


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


def _decode(array: "_Dataset", key: str, findings: Findings) -> None:
    """See whether all of a dataset decodes, also what only libhdf5 makes anything of."""
    if array.dataset.shape is None:
        return
    try:
        read = array.decoder()
    except (TypeError, UnsupportedDtypeError, SourceError) as error:
        read = partial(elements_in, array.dataset)
        if isinstance(error, SourceError) or not _has_dtype(array.dataset):
            findings.cannot_tell(key, f"it cannot be decoded here: {error}")
            return
    try:
        read_all(findings, key, array.regions(), decoding(read), n_threads=array.n_threads)
    except _ANY as error:
        findings.failed(key, error)


def _has_dtype(dataset: h5py.Dataset) -> bool:
    try:
        dtype_of(dataset)
    except UnsupportedDtypeError:
        return False
    return True


def _check(
    file: h5py.File,
    path: Path,
    key: str,
    links: Sequence[FileLink],
    findings: Findings,
    names: ObjectNames,
    *,
    deep: bool,
) -> None:
    name = f"/{key}"
    try:
        table = load(file, key)
        later = None
    except LaterFormat as error:
        table, later = None, str(error)
    except ValueError as error:
        findings.failed(name, error, "")
        return
    if table is not None and LINK in table.facts:
        check_link(findings, file, name, table, links)
        return
    try:
        is_there = link_at(file, key) is not None
        dataset = file[named(key)] if is_there else None
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
            of_elements = table.of == ELEMENTS
            array = _Dataset(dataset=dataset, path=path, of_elements=of_elements, names=names)
            facts = facts_of(dataset, names)
            if dataset.is_virtual:
                facts = facts_as_known(dataset, table, names)
                compare_ends(findings, name, table.facts, links)
            check_known(findings, name, without_ends(table), facts, array, deep=deep)
            if of_elements and not table.n_rows and array.was_empty(table.shape):
                findings.damage(name, "its elements were not there when it was written")
        elif has_no_values(dataset):
            findings.n_arrays -= 1  # Only the name and the extent of an axis.
        else:
            check_unknown(findings, name, _Dataset(dataset=dataset, path=path), deep=deep)
    except _ANY as error:
        findings.failed(name, error)


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    """A dataset, whose chunks are read by the way that a reader finds them.

    By libhdf5, though it takes one at a time: the list of chunks that it gives
    leaves out a part of what it looks for them by.
    """

    dataset: h5py.Dataset
    path: Path
    of_elements: bool = False
    """Whether there are digests of elements, which have no payloads of their own."""
    names: ObjectNames | None = None
    """Names of what references lead to."""

    lost = "the file has no such chunk"
    decisive = frozenset({"shape", "chunks"})
    anew = frozenset({"maxshape"})

    @functools.cached_property
    def shape(self) -> Shape:
        shape = self.dataset.shape
        return (0,) if shape is None else tuple(map(int, shape))

    @functools.cached_property
    def step(self) -> Shape:
        return (1,) if self.dataset.shape is None else piece_shape(self.dataset)

    @functools.cached_property
    def grid(self) -> Shape:
        """Chunks along each axis."""
        return grid_shape(self.shape, self.step)

    def was_empty(self, shape: Shape | None) -> bool:
        """Return whether it has elements now, where none were stored in the same shape."""
        is_own = not self.dataset.is_virtual and self.dataset.id.get_storage_size()
        return bool(is_own and 0 not in self.shape and shape in (None, self.shape))

    @property
    def fill_value(self) -> Any:
        return self.dataset.fillvalue

    @property
    def has_checksums(self) -> bool:
        return FLETCHER32 in {one.filter_id for one in filters_of(self.dataset)}

    @property
    def n_threads(self) -> int:
        return threads_for(nbytes_of(self.step, self.dataset.dtype))

    @functools.cached_property
    def stored(self) -> StoredPayloads:
        """What finds the payload of a chunk."""
        return StoredPayloads(self.dataset)

    @functools.cached_property
    def addresses(self) -> dict[int, int]:
        """Where each chunk lies that is stored, by its number in the grid."""
        found: dict[int, int] = {}

        def note(index: npt.NDArray[Any], places: npt.NDArray[Any]) -> None:
            if (index >= np.array(self.grid)).any():
                msg = "its list of chunks goes beyond its shape"
                raise DamagedDataError(msg)
            for at, address in zip(index.tolist(), places[:, 0].tolist(), strict=True):
                found[flat_index(at, self.grid)] = address

        if not each_stored_chunk(self.dataset, note):
            # One by one, where the list cannot be trusted.
            for number, region in enumerate(boxes(self.shape, self.step)):
                if self.stored.find(tuple(part.start for part in region)) is not None:
                    found[number] = 0
        return found

    def listed(self) -> Iterator[tuple[Index, str]]:
        return ((index_at(number, self.grid), "it") for number in sorted(self.addresses))

    def regions(self) -> Iterable[Region]:
        if 0 in self.shape:
            return ()
        if self.dataset.chunks is None:
            # Of what was never written nothing is there, however large it is to be.
            is_there = self.dataset.is_virtual or self.dataset.id.get_storage_size()
            return boxes(self.shape, self.step) if is_there else ()
        return (box(self.shape, self.step, index) for index, _ in self.listed())

    def place(self, region: Region) -> int | None:
        index = tuple(part.start // size for part, size in zip(region, self.step, strict=True))
        return self.addresses.get(flat_index(index, self.grid))

    def digest(self, region: Region) -> tuple[int, int] | None:
        if self.of_elements:
            elements = self.elements(region)
            return digest_in(self.dataset, elements, self.names), elements.nbytes
        found = self.stored.find(tuple(part.start for part in region))
        if found is None:
            return None
        mask, payload = found
        return digest_of(payload, seed=mask), len(payload)

    def reader(self) -> Callable[[Region], Any]:
        folders = allowed_folders(str(self.path), None)
        return replace(describe_dataset(self.dataset, str(self.path)), folders=folders).read

    def elements(self, region: Region) -> npt.NDArray[Any]:
        """Return elements of which there are digests."""
        # libhdf5 would look for raw files in the working directory.
        if self.dataset.external:
            return np.asarray(self.reader()(region))
        return elements_in(self.dataset, region)

    def decoder(self) -> Callable[[Region], Any]:
        dtype, read = self.dataset.dtype, self.reader()
        is_text = h5py.check_string_dtype(dtype) is not None and dtype.hasobject
        # As bytes: in which encoding they are is nothing that could be damaged.
        return self.dataset.__getitem__ if is_text else read
