"""HDF5 datasets, read where they lie: netCDF-4, NWB and plain HDF5 alike."""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from lazyio.atomic.hdf5_digests import GROUP
from lazyio.atomic.recovery import refuse_half_applied
from lazyio.codecs.chunk_reading import read_chunks
from lazyio.codecs.hdf5_chunks import FilterInUseError, filters_of, libhdf5_has, load_plugins
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import DTYPE_ATTRIBUTE, TEXT, Shape, nbytes_of
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SourceChangedError,
    SourceError,
    UnsupportedDtypeError,
)
from lazyio.libhdf5_calls import name_of, named
from lazyio.regions import (
    Region,
    box,
    flat_index,
    format_region,
    grid_shape,
    n_boxes,
)
from lazyio.sources.base import (
    Array,
    FillsNew,
    OpenedSource,
    ReadsRows,
    Source,
    chosen,
    listed,
)
from lazyio.sources.cf_decoded import decoded
from lazyio.sources.elements import field_source
from lazyio.sources.files import (
    Readable,
    RowsOfFile,
    describing,
    existing,
    kept_open,
    read_exactly,
    read_region,
    reading,
    require_stored,
)
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.hdf5_layout import RawStorage, dtype_of, virtual_pieces
from lazyio.sources.hdf5_payloads import OpenedPayloads, damaged
from lazyio.sources.hdf5_rows import RowsOfChunks
from lazyio.sources.hdf5_virtual import VirtualSource, can_be_joined, joined_pieces
from lazyio.sources.identity import (
    Identity,
    SeenFile,
    all_unchanged,
    checked_around,
    identity_at,
    identity_of,
    is_unchanged,
    require_one_of,
)
from lazyio.sources.libhdf5 import identity_in, open_hdf5, read_dataset, require_filters
from lazyio.sources.manifest import Placement, decoder_of, is_decoded_here, placement_of
from lazyio.sources.path_policy import allowed_folders, files_behind, place_of_piece
from lazyio.sources.pytables import refer_to_pytables, with_bools, without_indexes


@dataclass(frozen=True, kw_only=True)
class OpenDatasetSource(FillsNew):
    """A dataset that only an open handle leads to: in memory, or open for writing.

    It is read through libhdf5 and h5py's lock, and cannot go to another process.
    """

    array: h5py.Dataset
    """The handle; its file has to stay open."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once; ``None`` for contiguous datasets."""

    @property
    def location(self) -> tuple[str, str]:
        """Name of the file, which may be none on disk, and of the dataset."""
        self._require_open()
        return str(self.array.file.filename), str(self.array.name or "")

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        self._require_open()
        read_dataset(self.array, region, out, f"the open dataset {self.array.name!r}")

    def _require_open(self) -> None:
        if not self.array:
            msg = "the dataset's file has been closed; keep it open, or give path and key"
            raise SourceError(msg)


def open_dataset_source(dataset: h5py.Dataset) -> Source:
    """Return the source for a dataset that a user has opened.

    It travels as path and key where that leads to the same data; where its
    file is open for writing, is no file on disk, or has no name for it, it is
    read through the handle.
    """
    if not dataset:
        msg = "the dataset's file has been closed; open it again, or give path and key"
        raise SourceError(msg)
    file = dataset.file
    on_disk = file.driver in ("sec2", "stdio") and file.mode == "r" and not file.swmr_mode
    if on_disk and dataset.name is not None and _leads_to_itself(file):
        return hdf5_source(file.filename, name_of(dataset))
    facts = describe_dataset(dataset, str(file.filename), has_inner_axes=True)
    held = OpenDatasetSource(
        array=dataset, shape=facts.shape, dtype=facts.dtype, chunk_shape=facts.chunk_shape
    )
    return with_bools(decoded(held, dataset.attrs), dataset)


def _leads_to_itself(file: h5py.File) -> bool:
    """Return whether the path of an open file still leads to it, and to no successor."""
    found = identity_at(os.fsdecode(file.filename))
    return found is not None and not identity_in(file).difference(found)


_SMALL_NBYTES = 8 * 2**10
"""Chunks up to which libhdf5, at some microseconds each, is faster than Python."""
_MODEST_NBYTES, _MANY_CHUNKS = 64 * 2**10, 8192
"""Chunks of which libhdf5 gives one while Python gets it, and too many to list for a few reads."""
_MOST_LISTED = 2**17
"""Chunks that are listed, in a tenth of a second, where each is then read in no time."""
_MOST_CHUNKS, _MOST_NBYTES = 128, 64 * 2**10
"""That libhdf5 reads at once without taking longer for each, and that are copied."""
_MOST_TRIES = 3
"""To describe a file that is being changed."""

MAGIC = b"\x89HDF\r\n\x1a\n"
_MOST_PIECES = 2000
"""Of a virtual dataset, each of which is described; of more libhdf5 reads what is asked for."""
_MOST_DEPTH = 1000
"""Groups inside each other; their names alone grow with the square of it."""
_MOST_MARK_NBYTES = 2**16
"""Of the attribute that says what elements were: a few words."""


@dataclass(frozen=True, kw_only=True)
class Hdf5Source(FillsNew):
    """A dataset in an HDF5 file; the file is opened for each read only."""

    path: str
    """Absolute path of the file."""
    key: str
    """Path of the dataset inside it."""
    shape: Shape
    """Extents, in elements."""
    dtype: np.dtype[Any]
    """Type of an element."""
    chunk_shape: Shape | None
    """What is decoded at once; ``None`` for contiguous datasets."""
    in_rows: bool = False
    """Whether it is contiguous."""
    folders: tuple[Path, ...] = field(default=(), repr=False, compare=False)
    """Where files that it leads to may lie; none where it leads nowhere."""
    identity: Identity | None = None
    """The state of the file that is read; ``None`` for whatever is there."""
    others: tuple[SeenFile, ...] = field(default=(), repr=False)
    """Files that it leads to, in which its elements lie."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False, compare=False)
    """By which the tasks of a graph, wherever they go, share what is known of its chunks."""

    @property
    def location(self) -> tuple[str, str]:
        """Path of the file and key of the dataset."""
        return self.path, self.key

    def __dask_tokenize__(self) -> Any:
        """Return what names the same bytes in any process."""
        others = [file.token for file in self.others]
        return "lazyio.Hdf5Source", self.path, self.identity, self.key, others

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the file, and of those that it leads to."""
        return (self.path, *(file.path for file in self.others))

    def require_unchanged(self) -> None:
        """Raise where one of the files is not as it was."""
        if self.identity is not None and not is_unchanged(self.identity, self.path):
            SeenFile(path=self.path, identity=self.identity).check()
        for file in self.others:
            file.check()

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part.

        Chunks are read and decoded outside libhdf5 and its lock where their
        filters are known; else by libhdf5, one thread at a time.
        """
        with reading(self.path, self.identity) as file:
            self.read_from(file, region, out, Workspace())

    def opened(self) -> AbstractContextManager[OpenedSource]:
        """Open the file for many reads, of small chunks by way of libhdf5."""
        is_by_libhdf5 = not self.others and (self._has_small_chunks or self._has_many_chunks)
        return self._opened_dataset() if is_by_libhdf5 else kept_open(self)

    @property
    def _has_small_chunks(self) -> bool:
        """Whether going through its chunks in Python takes longer than decoding them."""
        is_small = nbytes_of(self.chunk_shape or (), self.dtype) <= _SMALL_NBYTES
        return bool(self.chunk_shape) and is_small

    @property
    def _has_many_chunks(self) -> bool:
        """Whether to list its chunks takes longer than to read a good part of them."""
        shape = self.chunk_shape
        if not shape or nbytes_of(shape, self.dtype) > _MODEST_NBYTES:
            return False
        return n_boxes(self.shape, shape) > _MANY_CHUNKS

    @property
    def _has_rows_in_chunks(self) -> bool:
        """Whether each chunk holds whole rows, and nothing beside them."""
        return self.chunk_shape is not None and self.chunk_shape[1:] == self.shape[1:]

    @contextmanager
    def _opened_dataset(self) -> Iterator[OpenedSource]:
        with open_hdf5(self.path, self.identity) as file:
            dataset = dataset_at(file, self.key, self.path)
            is_one_file = dataset.file.filename == file.filename and not dataset.is_virtual
            opened = None
            if is_one_file and dataset.dtype == self.dtype and file.mode == "r":
                opened = self._dataset_opened(dataset)
            if opened is not None:
                yield opened
                return
        with kept_open(self) as opened_file:
            yield opened_file

    def _dataset_opened(self, dataset: h5py.Dataset) -> OpenedSource | None:
        """Return what reads small chunks of an open dataset, ``None`` where that is not the best.

        To go through very small ones in Python takes longer than decoding them.
        """
        filters = filters_of(dataset)
        n_chunks = n_boxes(self.shape, self.chunk_shape or self.shape)
        if not filters and self._has_rows_in_chunks and n_chunks <= _MOST_LISTED:
            # They are read where they lie, several in one call.
            return None
        can_read = self.dtype.kind in "biuf" and self.dtype.isnative and self._has_small_chunks
        if can_read and all(libhdf5_has(step.filter_id) for step in filters):
            return OpenedDataset(source=self, dataset=dataset)
        decoder = decoder_of(dataset) if filters and self._has_many_chunks else None
        if decoder is None:
            return None
        return OpenedPayloads(
            dataset=dataset,
            decoder=decoder,
            name=f"{self.path}: dataset {self.key!r}",
            require_unchanged=self.require_unchanged,
        )

    @contextmanager
    def reading_rows(self) -> Iterator[ReadsRows | None]:
        """Open the file and give what reads its rows there, ``None`` where they lie otherwise."""
        if self.others or self.dtype.hasobject or not hasattr(os, "preadv"):
            yield None
            return
        with reading(self.path, self.identity) as file:
            yield self.rows_in(file, nbytes_of(self.shape[1:], self.dtype))

    def rows_in(self, file: FileIO, row_nbytes: int) -> ReadsRows | None:
        """Return what reads whole rows, ``None`` unless they lie as they are, one after another."""
        placement = None if self.others else self._placement_in(file)
        if placement is None or placement.segments:
            return None
        descriptor, chunk_shape = file.fileno(), self.chunk_shape
        if placement.offset is not None:
            at = placement.offset
            return RowsOfFile(descriptor=descriptor, offset=at, row_nbytes=row_nbytes)
        if placement.decoder.filters or not chunk_shape or not self._has_rows_in_chunks:
            return None
        return RowsOfChunks(
            descriptor=descriptor,
            manifest=placement.manifest,
            rows_per_chunk=chunk_shape[0],
            row_nbytes=row_nbytes,
        )

    def read_from(self, file: FileIO, region: Region, out: Array, workspace: Workspace) -> None:
        """Fill ``out`` with a part, from the open file."""
        others = [one for one in self.others if one.holds(region)]
        with all_unchanged(others) if others else nullcontext():
            self._read_placed(file, self._placement_in(file), region, out, workspace)

    def _read_placed(
        self,
        file: FileIO,
        placement: Placement | None,
        region: Region,
        out: Array,
        workspace: Workspace,
    ) -> None:
        if placement is None:
            self._read_with_libhdf5(region, out)
        elif placement.segments:
            storage = RawStorage(self.path, placement.segments)
            read_region(storage, 0, self.shape, region, out)
        else:
            name = f"{self.path}: dataset {self.key!r}"
            nbytes = os.fstat(file.fileno()).st_size
            read_placed(file, placement, self, region, out, workspace, nbytes=nbytes, name=name)

    def _placement_in(self, file: FileIO) -> Placement | None:
        found = self.identity or identity_of(self.path, file.fileno())
        is_watched = self.identity is not None
        return placement_of(
            self.token, self.path, self.key, found, is_watched=is_watched, folders=self.folders
        )

    def _read_with_libhdf5(self, region: Region, out: Array) -> None:
        with open_hdf5(self.path, self.identity) as file:
            dataset = dataset_at(file, self.key, self.path)
            if self.others and dataset.file.filename != file.filename:
                # What libhdf5 has opened by the link, whatever lies at its path by now.
                linked = os.fsdecode(dataset.file.filename)
                require_one_of(self.others, linked, identity_in(dataset.file))
            read_dataset(dataset, region, out, f"{self.path}: dataset {self.key!r}")


@dataclass(frozen=True, kw_only=True)
class OpenedDataset:
    """A dataset of very small chunks that stays open, read by libhdf5 and under h5py's lock."""

    source: Hdf5Source
    """What is read."""
    dataset: h5py.Dataset
    """Open."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.source.dtype

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part."""
        with checked_around(self.source.require_unchanged):
            self._read(region, out)

    @cached_property
    def _n_rows(self) -> int:
        """Rows that are read at once: those of some chunks."""
        chunk_shape, shape = self.dataset.chunks, self.dataset.shape
        across = max(1, n_boxes(shape[1:], chunk_shape[1:]))
        nbytes = across * nbytes_of(chunk_shape, self.dtype)
        return int(max(1, min(_MOST_CHUNKS // across, _MOST_NBYTES // nbytes)) * chunk_shape[0])

    def keep_memory(self) -> None:
        """Do nothing: libhdf5 keeps what it needs."""

    def rows(self, _: int) -> ReadsRows | None:
        """Return itself."""
        return self

    is_serial: ClassVar[bool] = True
    is_plain: ClassVar[bool] = False

    def read_rows(self, start: int, out: Array, step: int = 1) -> bool:
        """Fill ``out`` with every so many rows from one on."""
        self._read((slice(start, start + len(out) * step),), out, step)
        return True

    def will_need(self, start: int, stop: int) -> bool:
        """Say that it cannot read ahead by itself."""
        del start, stop
        return False

    def _read(self, region: Region, out: Array, step: int = 1) -> None:
        # By indexing, which is h5py's shortest way. Not very many chunks at once: what libhdf5 does
        # for each of them grows with their number.
        try:
            for start in range(0, len(out), self._n_rows):
                part = out[start : start + self._n_rows]
                low = region[0].start + start * step
                high = low + (len(part) - 1) * step + 1
                part[...] = self.dataset[(slice(low, high, step), *region[1:])]
        except (OSError, RuntimeError) as error:
            name = f"{self.source.path}: dataset {self.source.key!r}"
            msg = f"{name} cannot be decoded at {format_region(region)}: {error}"
            raise DamagedDataError(msg) from error


def read_placed(
    file: Readable,
    placement: Placement,
    facts: Source,
    region: Region,
    out: Array,
    workspace: Workspace,
    *,
    nbytes: int,
    name: str,
) -> None:
    """Fill ``out`` with a part of a dataset of which the places are known in a file of some bytes.

    Errors call it by the name of its file and its own, joined by a colon.
    """
    if placement.offset is not None:
        read_region(file, placement.offset, facts.shape, region, out)
    elif facts.chunk_shape is not None and out.size:
        grid = grid_shape(facts.shape, facts.chunk_shape)
        chunks = _Chunks(
            file=file,
            nbytes=nbytes,
            placement=placement,
            shape=facts.shape,
            chunk_shape=facts.chunk_shape,
            grid=grid,
            chunk_nbytes=nbytes_of(facts.chunk_shape, out.dtype),
            workspace=workspace,
            name=name,
        )
        stored = placement.stored_in(region, facts.chunk_shape, grid)
        read_chunks(
            region, facts.chunk_shape, out, placement.fill_value, chunks.read_part, stored=stored
        )


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """The chunks of a dataset, in a file that is open."""

    file: Readable
    nbytes: int
    """Of the file."""
    placement: Placement
    shape: Shape
    chunk_shape: Shape
    grid: Shape
    chunk_nbytes: int
    workspace: Workspace
    name: str

    def read_part(self, index: Shape, inside: Region, part: Array) -> bool:
        """Decode a chunk and keep what is wanted of it; return whether it is stored at all."""
        place = self.placement.manifest.find(flat_index(index, self.grid))
        if place is None:
            return False
        address, nbytes, mask = place
        try:
            require_stored(self.file, self.nbytes, address, nbytes, self.chunk_nbytes)
            is_plain = nbytes == self.chunk_nbytes and not self.placement.decoder.filters
            is_short = part.nbytes == nbytes or 2 * part.nbytes <= nbytes
            if is_plain and is_short and part.flags.c_contiguous:
                # Nothing to decode: what is wanted of it is read where it lies.
                read_region(self.file, address, self.chunk_shape, inside, part)
                return True
            raw = self.workspace.buffer("raw", nbytes)
            read_exactly(self.file, address, memoryview(raw))

            def decode(chunk: Array) -> None:
                flat = chunk.reshape(-1).view(np.uint8)
                self.placement.decoder.decode(raw, mask, flat, self.workspace)

            self.workspace.decode_part(part, inside, self.chunk_shape, decode)
        except (ValueError, MemoryError, OverflowError, RuntimeError) as error:
            raise damaged(self.name, box(self.shape, self.chunk_shape, index), error) from error
        return True


def hdf5_source(
    path: str | os.PathLike[str], key: str | None, allow_external: object = None
) -> Source:
    """Return the source for a dataset, after reading its metadata."""
    found = existing(path)
    refuse_half_applied(Path(os.path.realpath(found)))
    folders = allowed_folders(str(found), allow_external)
    if found.is_dir():
        msg = f"{found} cannot be opened as HDF5: it is a folder"
        raise SourceError(msg)
    with foreign_errors(str(found)):
        for _ in range(_MOST_TRIES):
            # Nothing of it has been given out yet: what is changed just now is looked at again.
            with suppress(SourceChangedError):
                try:
                    return _described(str(found), key, folders)
                except FilterInUseError as error:
                    # By now the file is closed, and the filter can be replaced.
                    load_plugins(error.number)
        return _described(str(found), key, folders)


def _described(path: str, key: str | None, folders: tuple[Path, ...]) -> Source:
    """Return the source for a dataset of a file that stays as it is meanwhile."""
    with describing(path) as (_, identity):
        with open_hdf5(path, identity) as file:
            table, names = column_in(file, key)
            others: tuple[SeenFile, ...] | None = None
            if isinstance(table, str):
                # Refuses links before they are followed.
                others = files_behind(file, table, folders)
                data = _key_of_data(file, table)
                table, others = data, others if data == table else None
            name = table if isinstance(table, str) else name_of(dataset_at(file, table, path))
            if others is None:
                others = files_behind(file, name, folders)
            if not others:
                dataset = dataset_at(file, name, path)
                found = _source_in(file, dataset, identity=identity, key=table, folders=folders)
                return field_source(found, names, f"{path}: dataset {name!r}")
        # The identities of the others come before what is said of them, too.
        with open_hdf5(path, identity) as file:
            dataset = dataset_at(file, table, path)
            found = _source_in(
                file, dataset, identity=identity, key=table, folders=folders, others=others
            )
            return field_source(found, names, f"{path}: dataset {name!r}")


def column_in(file: h5py.File, key: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a key as that of a dataset, and the names of a field of its records behind it.

    Links are not followed: what is behind them has not been allowed yet.
    """
    parts = key.strip("/").split("/") if isinstance(key, str) else []
    group: Any = file
    for at, name in enumerate(parts):
        own = named(name)
        if isinstance(own, bytes) or not isinstance(group.get(own, getlink=True), h5py.HardLink):
            return key, ()
        kind = group.get(own, getclass=True)
        if kind is h5py.Dataset and at + 1 < len(parts):
            is_table = group[own].id.get_type().get_class() == h5py.h5t.COMPOUND
            return ("/".join(parts[: at + 1]), tuple(parts[at + 1 :])) if is_table else (key, ())
        if kind is not h5py.Group:
            return key, ()
        group = group[own]
    return key, ()


def _source_in(
    file: h5py.File,
    dataset: h5py.Dataset,
    *,
    key: str | None,
    identity: Identity,
    folders: tuple[Path, ...],
    others: tuple[SeenFile, ...] = (),
) -> Source:
    """Return the source for a dataset that an open file has or leads to."""
    is_linked = dataset.file.filename != file.filename
    # A linked dataset has another name in its own file: it is read by way of the link.
    try:
        facts = describe_dataset(
            dataset, file.filename, key if is_linked else None, has_inner_axes=True
        )
    except FilterInUseError:
        raise
    except (UnsupportedDtypeError, SourceError) as error:
        refer_to_pytables(dataset, error)
    whole = replace(facts, identity=identity, folders=folders, others=others)
    source = _by_pieces(dataset, whole) if dataset.is_virtual else whole
    return with_bools(decoded(source, small_attributes(dataset)), dataset)


def _by_pieces(dataset: h5py.Dataset, whole: Hdf5Source) -> Hdf5Source | VirtualSource:
    """Return what reads a virtual dataset from the datasets that it joins, where that is the same.

    That all of them are there has been checked.
    """
    pieces = virtual_pieces(dataset)
    is_enum = h5py.check_enum_dtype(dataset.dtype) is not None
    if len(pieces) > _MOST_PIECES or not can_be_joined(pieces, whole.dtype, is_enum=is_enum):
        return whole
    parts = []
    for piece in pieces:
        part = _plain(*place_of_piece(dataset.file, name_of(dataset), piece, whole.folders))
        if part is None:
            return whole
        parts.append(replace(part, folders=whole.folders))
    inside = joined_pieces(whole.shape, whole.dtype, pieces, parts)
    return whole if inside is None else VirtualSource(whole=whole, inside=inside)


def _plain(path: str, key: str) -> Hdf5Source | None:
    """Return the source for a dataset that leads nowhere else, ``None`` for any other."""
    with describing(path) as (_, identity), open_hdf5(path, identity) as file:
        dataset = file[named(key)]
        leads_on = dataset.is_virtual or dataset.external or dataset.file.filename != file.filename
        return None if leads_on else replace(describe_dataset(dataset, path), identity=identity)


def describe_dataset(
    dataset: h5py.Dataset, path: str, key: str | None = None, *, has_inner_axes: bool = False
) -> Hdf5Source:
    """Return the source for a dataset of an open file, under its own name or a key.

    Where elements are arrays, which lie in the file as axes of the whole would, they are refused
    unless they are to be axes.
    """
    name = f"{path}: dataset {dataset.name!r}"
    if dataset.shape is None:
        msg = f"{name} is empty (a null dataspace) and has no shape; there is nothing to read"
        raise SourceError(msg)
    dtype = dtype_of(dataset)
    if dtype.subdtype is not None and not has_inner_axes:
        msg = f"{name} has elements that are arrays, {dtype}, which have no place in a dask array"
        raise UnsupportedDtypeError(msg)
    inner, dtype = tuple(map(int, dtype.shape)), dtype.base
    if _is_variable_text(dtype):
        dtype = TEXT
    elif dtype.hasobject:
        kind = _kind_of_object(dtype)
        remedy = "read them with lazyio.open_ragged" if kind == _ROWS else _WHAT_IS_READ
        msg = f"{name} holds {kind}, which have no fixed size; {remedy}"
        raise UnsupportedDtypeError(msg)
    if not is_decoded_here(dataset):
        if dataset.external:
            msg = f"{name} has elements that need converting, {dtype}, in raw files of another name"
            raise UnsupportedDtypeError(msg)
        require_filters(dataset, name)
    contiguous = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    return Hdf5Source(
        path=path,
        key=key or name_of(dataset),
        shape=tuple(map(int, dataset.shape)) + inner,
        dtype=dtype,
        chunk_shape=tuple(map(int, dataset.chunks)) + inner if dataset.chunks else None,
        in_rows=contiguous,
    )


def small_attributes(dataset: h5py.Dataset) -> dict[str, Any]:
    """Return the attributes of a dataset that lazyio reads elements by, unless they are too large.

    What another program keeps under that name may be gigabytes of anything.
    """
    if DTYPE_ATTRIBUTE not in dataset.attrs:
        return {}
    nbytes = dataset.attrs.get_id(DTYPE_ATTRIBUTE).get_storage_size()
    return {DTYPE_ATTRIBUTE: dataset.attrs[DTYPE_ATTRIBUTE]} if nbytes <= _MOST_MARK_NBYTES else {}


def dataset_keys(group: h5py.Group) -> list[str]:
    """Return the paths of all datasets below a group.

    Links are not followed, and what has two names is listed once.
    """
    return [
        path.decode("utf-8", "surrogateescape")
        for _, path, kind in each_name(group)
        if kind == h5py.h5o.TYPE_DATASET
    ]


def each_name(group: h5py.Group) -> Iterator[tuple[h5py.h5g.GroupID, bytes, int | None]]:
    """Yield every name below a group: the group that it is in, its path, and what it names.

    That is ``None`` for soft and external links, which are not followed. Of what has two names the
    first is told.
    libhdf5's own visit calls itself for each level, which a file can have too many of.
    """
    root = h5py.h5o.get_info(group.id, b".")
    seen = {(root.fileno, root.addr)}
    waiting = [iter([(group.id, b"", name) for name in _names_in(group.id)])]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        parent, prefix, name = entry
        path = prefix + name
        if parent.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            yield parent, path, None
            continue
        info = h5py.h5o.get_info(parent, name)
        is_ours = path == GROUP.encode() and info.type == h5py.h5o.TYPE_GROUP
        if is_ours or (info.fileno, info.addr) in seen:
            continue
        seen.add((info.fileno, info.addr))
        yield parent, path, info.type
        if info.type == h5py.h5o.TYPE_GROUP:
            if len(waiting) == _MOST_DEPTH:
                msg = f"{group.file.filename}: its groups are nested more than {_MOST_DEPTH} deep"
                raise SourceError(msg)
            below = h5py.h5g.open(parent, name)
            waiting.append(iter([(below, path + b"/", one) for one in _names_in(below)]))


def _links(group: h5py.Group) -> list[str]:
    """Return the paths of all soft and external links below a group."""
    return [os.fsdecode(path) for _, path, kind in each_name(group) if kind is None]


def _names_in(group: Any) -> list[bytes]:
    """Return what is in a group, in the order in which libhdf5 visits it."""
    names: list[bytes] = []
    group.links.iterate(names.append)
    return names


def _key_of_data(file: h5py.File, key: str) -> str:
    """Return the key of the dataset: an NWB container stands for its ``data``."""
    try:
        item = file[named(key)]
    except (KeyError, ValueError, RuntimeError):
        return key
    is_container = isinstance(item, h5py.Group) and "neurodata_type" in item.attrs
    return f"{key.rstrip('/')}/data" if is_container and "data" in item else key


def dataset_at(file: h5py.Group, key: Any, path: str) -> h5py.Dataset:
    """Return the dataset of a key, or the only one there is."""
    if key is not None and not isinstance(key, str):
        msg = f"key={key!r} is no path inside an HDF5 file; give a string"
        raise OptionError(msg)
    if key is None:
        keys = dataset_keys(file)
        links = [] if keys else _links(file)
        if links:
            msg = f"{path} has no dataset of its own, only links; give the key of one: "
            raise SourceError(msg + listed(links))
        return file[named(chosen(without_indexes(keys) or keys, None, path, "dataset"))]
    try:
        item = file[named(key)]
    except (KeyError, ValueError, RuntimeError):
        there = listed(without_indexes(dataset_keys(file)))
        msg = f"{path} has no dataset {key!r}; its datasets are {there}"
        raise SourceError(msg) from None
    if isinstance(item, h5py.Datatype):
        msg = f"{path}: {key!r} is a named type, not a dataset"
        raise SourceError(msg)
    if not isinstance(item, h5py.Dataset):
        below = listed(f"{key.rstrip('/')}/{name}" for name in dataset_keys(item))
        msg = f"{path}: {key!r} is a group, not a dataset; the datasets in it: {below}"
        raise SourceError(msg)
    return item


def _is_variable_text(dtype: np.dtype[Any]) -> bool:
    text = h5py.check_string_dtype(dtype)
    return text is not None and text.length is None


_ROWS = "variable-length rows"
_WHAT_IS_READ = "arrays of fixed-size elements and of text are read"


def _kind_of_object(dtype: np.dtype[Any]) -> str:
    if h5py.check_vlen_dtype(dtype) is not None:
        return _ROWS
    if h5py.check_ref_dtype(dtype) is not None:
        return "references to other objects"
    return f"elements of type {dtype}"
