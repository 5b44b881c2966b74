"""HDF5 datasets, read where they lie: netCDF-4, NWB and plain HDF5 alike."""

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lazyio.atomic.hdf5_digests import GROUP
from lazyio.atomic.recovery import refuse_half_applied
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import DTYPE_ATTRIBUTE, TEXT, Shape, nbytes_of
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SourceChangedError,
    SourceError,
    UnsupportedDtypeError,
)
from lazyio.regions import (
    Region,
    box,
    box_shape,
    flat_index,
    format_region,
    grid_shape,
    overlap,
    touched,
)
from lazyio.sources.base import Array, Source, listed
from lazyio.sources.cf_decoded import decoded
from lazyio.sources.files import (
    describing,
    existing,
    read_exactly,
    read_region,
    reading,
    require_stored,
)
from lazyio.sources.foreign import described, foreign_errors
from lazyio.sources.hdf5_layout import RawStorage, dtype_of
from lazyio.sources.identity import (
    Identity,
    SeenFile,
    all_unchanged,
    identity_at,
    identity_of,
    require_one_of,
)
from lazyio.sources.libhdf5 import identity_in, open_hdf5, read_dataset, require_filters
from lazyio.sources.manifest import Placement, PlacementCache, is_decoded_here
from lazyio.sources.path_policy import allowed_folders, files_behind, refuse_links


@dataclass(frozen=True, kw_only=True)
class OpenDatasetSource:
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

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        out: Array = np.empty(box_shape(region), self.dtype)
        self.read_into(region, out)
        return out

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
        return hdf5_source(file.filename, dataset.name)
    facts = describe_dataset(dataset, str(file.filename))
    held = OpenDatasetSource(
        array=dataset, shape=facts.shape, dtype=facts.dtype, chunk_shape=facts.chunk_shape
    )
    return decoded(held, dataset.attrs)


def _leads_to_itself(file: h5py.File) -> bool:
    """Return whether the path of an open file still leads to it, and to no successor."""
    found = identity_at(os.fsdecode(file.filename))
    return found is not None and not identity_in(file).difference(found)


_MOST_TRIES = 3
"""To describe a file that is being changed."""

MAGIC = b"\x89HDF\r\n\x1a\n"
_MOST_DEPTH = 1000
"""Groups inside each other; their names alone grow with the square of it."""
_MOST_MARK_NBYTES = 2**16
"""Of the attribute that says what elements were: a few words."""


@dataclass(frozen=True, kw_only=True)
class Hdf5Source:
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
    placement: PlacementCache = field(default_factory=PlacementCache, repr=False, compare=False)
    """Where its chunks lie, looked up when first read."""

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
        if self.identity is not None:
            SeenFile(path=self.path, identity=self.identity).check()
        for file in self.others:
            file.check()

    def read(self, region: Region) -> Array:
        """Return a part as a new array."""
        out: Array = np.empty(box_shape(region), self.dtype)
        self.read_into(region, out)
        return out

    def read_into(self, region: Region, out: Array) -> None:
        """Fill ``out`` with a part.

        Chunks are read and decoded outside libhdf5 and its lock where their
        filters are known; else by libhdf5, one thread at a time.
        """
        others = [file for file in self.others if file.holds(region)]
        with all_unchanged(others), reading(self.path, self.identity) as file:
            placement = self._placement_in(file)
            if placement is None:
                self._read_with_libhdf5(region, out)
            elif placement.segments:
                storage = RawStorage(self.path, placement.segments)
                read_region(storage, 0, self.shape, region, out)
            elif placement.offset is not None:
                read_region(file, placement.offset, self.shape, region, out)
            elif self.chunk_shape is not None:
                self._read_chunks(file, placement, self.chunk_shape, region, out)

    def _placement_in(self, file: FileIO) -> Placement | None:
        found = self.identity or identity_of(self.path, file.fileno())
        is_watched = self.identity is not None
        return self.placement.get(
            self.path, self.key, found, is_watched=is_watched, folders=self.folders
        )

    def _read_chunks(
        self, file: FileIO, placement: Placement, chunk_shape: Shape, region: Region, out: Array
    ) -> None:
        """Decode each chunk that the region touches, and keep what is wanted of it."""
        if not out.size:
            return
        grid = grid_shape(self.shape, chunk_shape)
        workspace = Workspace()
        chunk_nbytes = nbytes_of(chunk_shape, self.dtype)
        wanted = touched(region, chunk_shape)
        stored = placement.stored_in(region, chunk_shape, grid)
        if stored is not None:
            # Of a mostly empty array only what is there is visited.
            out[...] = placement.fill_value
            wanted = ((index, *overlap(region, chunk_shape, index)) for index in stored)
        for index, inside, outside in wanted:
            place = placement.manifest.find(flat_index(index, grid))
            if place is None:
                out[outside] = placement.fill_value
                continue
            address, nbytes, mask = place
            part = out[outside]
            try:
                require_stored(file, address, nbytes, chunk_nbytes)
                raw = workspace.buffer("raw", nbytes)
                read_exactly(file, address, memoryview(raw))
                chunk = workspace.place_for(part, chunk_shape)
                placement.decoder.decode(raw, mask, chunk.reshape(-1).view(np.uint8), workspace)
            except (ValueError, MemoryError, OverflowError, RuntimeError) as error:
                where = format_region(box(self.shape, chunk_shape, index))
                why = error if isinstance(error, ValueError) else described(error)
                what = f"is damaged: {why}"
                if isinstance(error, MemoryError):
                    what = (
                        "cannot be decoded: there is not enough memory; use a smaller memory_limit "
                        "or fewer workers. If that does not help, the file may be damaged"
                    )
                msg = f"{self.path}: the chunk {where} of dataset {self.key!r} {what}"
                raise DamagedDataError(msg) from error
            if chunk is not part:
                part[...] = chunk[inside]

    def _read_with_libhdf5(self, region: Region, out: Array) -> None:
        with open_hdf5(self.path, self.identity) as file:
            dataset = _dataset(file, self.key, self.path)
            if self.others and dataset.file.filename != file.filename:
                # What libhdf5 has opened by the link, whatever lies at its path by now.
                linked = os.fsdecode(dataset.file.filename)
                require_one_of(self.others, linked, identity_in(dataset.file))
            read_dataset(dataset, region, out, f"{self.path}: dataset {self.key!r}")


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
                return _described(str(found), key, folders)
        return _described(str(found), key, folders)


def _described(path: str, key: str | None, folders: tuple[Path, ...]) -> Source:
    """Return the source for a dataset of a file that stays as it is meanwhile."""
    with describing(path) as (_, identity):
        with open_hdf5(path, identity) as file:
            if isinstance(key, str):
                refuse_links(file, key, folders)
            dataset = _dataset(file, key, path)
            if key is None:
                refuse_links(file, str(dataset.name), folders)
            others = files_behind(file, key or dataset.name or "")
            if not others:
                return _source_in(file, dataset, identity=identity, key=key, folders=folders)
        # The identities of the others come before what is said of them, too.
        with open_hdf5(path, identity) as file:
            dataset = _dataset(file, key, path)
            return _source_in(
                file, dataset, identity=identity, key=key, folders=folders, others=others
            )


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
    facts = describe_dataset(dataset, file.filename, key if is_linked else None)
    source = replace(facts, identity=identity, folders=folders, others=others)
    return decoded(source, small_attributes(dataset))


def describe_dataset(dataset: h5py.Dataset, path: str, key: str | None = None) -> Hdf5Source:
    """Return the source for a dataset of an open file, under its own name or a key."""
    name = f"{path}: dataset {dataset.name!r}"
    if dataset.shape is None:
        msg = f"{name} is empty (a null dataspace) and has no shape; there is nothing to read"
        raise SourceError(msg)
    dtype = dtype_of(dataset)
    if dtype.subdtype is not None:
        msg = f"{name} has elements that are arrays, {dtype}, which have no place in a dask array"
        raise UnsupportedDtypeError(msg)
    if _is_variable_text(dtype):
        dtype = TEXT
    elif dtype.hasobject:
        msg = (
            f"{name} holds {_kind_of_object(dtype)}, which have no fixed size; "
            "arrays of fixed-size elements and of text are read"
        )
        raise UnsupportedDtypeError(msg)
    if not is_decoded_here(dataset):
        if dataset.external:
            msg = f"{name} has elements that need converting, {dtype}, in raw files of another name"
            raise UnsupportedDtypeError(msg)
        require_filters(dataset, name)
    contiguous = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    return Hdf5Source(
        path=path,
        key=key or dataset.name or "",
        shape=tuple(map(int, dataset.shape)),
        dtype=dtype,
        chunk_shape=tuple(map(int, dataset.chunks)) if dataset.chunks else None,
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

    Links are not followed, and what has two names is listed once. libhdf5's
    own visit calls itself for each level, which a file can have too many of.
    """
    keys: list[str] = []
    root = h5py.h5o.get_info(group.id, b".")
    seen = {(root.fileno, root.addr)}
    waiting = [iter([(group.id, b"", name) for name in _names_in(group.id)])]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        parent, prefix, name = entry
        if parent.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            continue
        info = h5py.h5o.get_info(parent, name)
        if (info.fileno, info.addr) in seen:
            continue
        seen.add((info.fileno, info.addr))
        path = prefix + name
        if info.type == h5py.h5o.TYPE_DATASET:
            keys.append(path.decode("utf-8", "surrogateescape"))
        elif info.type == h5py.h5o.TYPE_GROUP and path != GROUP.encode():
            if len(waiting) == _MOST_DEPTH:
                msg = f"{group.file.filename}: its groups are nested more than {_MOST_DEPTH} deep"
                raise SourceError(msg)
            below = h5py.h5g.open(parent, name)
            waiting.append(iter([(below, path + b"/", one) for one in _names_in(below)]))
    return keys


def _names_in(group: Any) -> list[bytes]:
    """Return what is in a group, in the order in which libhdf5 visits it."""
    names: list[bytes] = []
    group.links.iterate(names.append)
    return names


def _dataset(file: h5py.Group, key: Any, path: str) -> h5py.Dataset:
    if key is not None and not isinstance(key, str):
        msg = f"key={key!r} is no path inside an HDF5 file; give a string"
        raise OptionError(msg)
    if key is None:
        keys = dataset_keys(file)
        if len(keys) == 1:
            return file[keys[0]]
        what = f"{len(keys)} datasets; give the key of one: {listed(keys)}"
        msg = f"{path} holds {what if keys else 'no dataset; check the path'}"
        raise SourceError(msg)
    try:
        item = file[key]
    except (KeyError, ValueError, RuntimeError):
        msg = f"{path} has no dataset {key!r}; its datasets are {listed(dataset_keys(file))}"
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


def _kind_of_object(dtype: np.dtype[Any]) -> str:
    if h5py.check_vlen_dtype(dtype) is not None:
        return "variable-length rows"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references to other objects"
    return f"elements of type {dtype}"
