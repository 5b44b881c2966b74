"""``xarray.open_dataset(path, engine="lazyio")``: HDF5, netCDF-4 and Zarr by lazyio's readers.

h5netcdf and zarr-python say what a file holds, and xarray decodes it. Numbers are read by
lazyio: chunks outside of libhdf5 and its lock, from the state of the file that was opened.
"""

import io
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint, H5NetCDFStore, ZarrStore

from lazyio.atomic.hdf5_digests import GROUP
from lazyio.codecs.libraries import required
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import PlanError, SourceChangedError
from lazyio.execution.dask_arrays import SourceReader, as_blocks
from lazyio.opening.blocks import reading_block
from lazyio.options import limit_of
from lazyio.planning.access import as_windows
from lazyio.regions import n_boxes
from lazyio.sources.base import Source
from lazyio.sources.files import existing
from lazyio.sources.hdf5 import Hdf5Source, hdf5_source
from lazyio.sources.identity import Identity, identity_at
from lazyio.sources.lookup import format_of
from lazyio.sources.zarr_metadata import is_zarr, require_zarr
from lazyio.xarray.by_name import check_names, windows_of
from lazyio.xarray.private import NodePath, StoreBackendEntrypoint, groups_of, indexing

_READ_HERE = "iufc"
"""Kinds of elements that lazyio reads; text, enumerations and records are left to the others."""
_PARALLEL_NBYTES = 8 * 2**20
"""From which on an array that is loaded whole is read by several threads."""
_PLANNED_NBYTES = 2 * 2**20
_PLANNED_CHUNKS = 256
"""From which on blocks are planned; a smaller array of fewer chunks keeps those of the file, as
xarray's users know it: however it is cut, it is soon read."""


class FileArray(BackendArray):
    """An array of a file or store, whose source is looked up when it is first read."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any], limit: int) -> None:
        self.shape = shape
        self.dtype = dtype
        self._limit = limit
        self._source: Source | None = None

    def find_source(self) -> Source:
        """Return where elements are read from."""
        raise NotImplementedError

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return a part."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Any:
        if self._source is None:
            self._source = self.find_source()
        reader = SourceReader(self._source)
        # A worker of dask is one of several threads already.
        is_alone = threading.current_thread() is threading.main_thread()
        if is_alone and nbytes_of(self.shape, self.dtype) >= _PARALLEL_NBYTES:
            blocks = as_blocks(self._source, reading_block(self._source, self._limit, ()))
            return np.asarray(blocks[key].compute(scheduler="threads"))
        return reader[key]


class Hdf5Array(FileArray):
    """A dataset of an HDF5 file, by path and key."""

    def __init__(self, facts: Hdf5Source, limit: int) -> None:
        super().__init__(facts.shape, facts.dtype, limit)
        self._facts = facts

    def find_source(self) -> Source:
        """Return where elements are read from, in the file that was opened."""
        source = hdf5_source(self._facts.path, self._facts.key)
        # Elements as they are stored: xarray decodes them by their attributes.
        source = getattr(source, "part", source)
        found, known = getattr(source, "identity", None), self._facts.identity
        what = known.difference(found) if known is not None and found is not None else ""
        if what:
            msg = f"{self._facts.path} {what} since the Dataset was opened; open it again"
            raise SourceChangedError(msg)
        return source


class ZarrArray(FileArray):
    """An array of a Zarr store in a local folder."""

    def __init__(self, source: Source, limit: int) -> None:
        super().__init__(source.shape, source.dtype, limit)
        self._source = source


class _Blocks:
    """The blocks that ``chunks={}`` gives: those of the plan."""

    def __init__(self, memory_limit: Any, access: Any) -> None:
        self.limit = limit_of(memory_limit)
        self.access = access

    def preferred(self, source: Source, dims: tuple[Any, ...]) -> dict[Any, int]:
        """Return the extent of a block along each dimension."""
        unit = source.chunk_shape or source.shape
        is_soon_read = (
            nbytes_of(source.shape, source.dtype) <= _PLANNED_NBYTES
            and n_boxes(source.shape, unit) <= _PLANNED_CHUNKS
        )
        if is_soon_read and self.access is None:
            return dict(zip(dims, unit, strict=True))
        windows = as_windows(windows_of(self.access, dims), source.shape)
        try:
            block = reading_block(source, self.limit, windows)
        except PlanError:
            # A chunk that exceeds the limit can still be opened; its reader says so.
            block = source.chunk_shape or source.shape
        return dict(zip(dims, block, strict=True))


class ReadingHdf5Store(H5NetCDFStore):
    """h5netcdf's view of a file, whose numbers are read by lazyio."""

    __slots__ = ("blocks", "identity")
    blocks: "_Blocks"
    identity: Identity | None

    def open_store_variable(self, name: str, var: Any) -> Any:
        """Return a variable as it is stored."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UnicodeWarning)
            variable = super().open_store_variable(name, var)
        for key, value in variable.attrs.items():
            if key not in ("_FillValue", "missing_value"):
                variable.attrs[key] = _as_text(value)
        dataset = var._h5ds
        path = self._filename
        is_plain = variable.dtype.kind in _READ_HERE and variable.dtype == dataset.dtype
        # A dimension that another variable has made longer makes this one longer, too.
        is_whole = dataset.shape == variable.shape
        if self.identity is None or not is_plain or not is_whole:
            return variable
        facts = Hdf5Source(
            path=path,
            key=dataset.name,
            shape=variable.shape,
            dtype=variable.dtype,
            chunk_shape=dataset.chunks,
            in_rows=dataset.chunks is None,
            identity=self.identity,
        )
        data = indexing.LazilyIndexedArray(Hdf5Array(facts, self.blocks.limit))
        encoding = dict(variable.encoding)
        encoding["preferred_chunks"] = self.blocks.preferred(facts, variable.dims)
        return xr.Variable(variable.dims, data, variable.attrs, encoding)


def _as_text(value: Any) -> Any:
    """Return an attribute whose bytes are no UTF-8 as netCDF4-python reads it."""
    if isinstance(value, str):
        # h5netcdf keeps what it cannot decode as lone surrogates.
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class ReadingZarrStore(ZarrStore):
    """xarray's view of a Zarr group, whose numbers are read by lazyio."""

    __slots__ = ("blocks",)
    blocks: "_Blocks"

    def open_store_variable(self, name: str) -> Any:
        """Return a variable as it is stored."""
        from zarr.storage import LocalStore

        from lazyio.sources.zarr import watched_array

        variable = super().open_store_variable(name)
        array: Any = self.members[name]
        if variable.dtype.kind not in _READ_HERE or not isinstance(array.store, LocalStore):
            return variable
        source = watched_array(array)
        if tuple(source.shape) != variable.shape or source.dtype != variable.dtype:
            return variable
        data = indexing.LazilyIndexedArray(ZarrArray(source, self.blocks.limit))
        encoding = dict(variable.encoding)
        encoding["preferred_chunks"] = self.blocks.preferred(source, variable.dims)
        return xr.Variable(variable.dims, data, variable.attrs, encoding)


class LazyioBackendEntrypoint(BackendEntrypoint):
    """Open HDF5, netCDF-4 and Zarr with lazyio's readers, in the blocks of its plan."""

    description = "Open HDF5, netCDF-4 and Zarr in blocks of a plan, read by lazyio"
    url = "https://lazyio.readthedocs.io"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:  # noqa: ARG002 - xarray's signature.
        """Return that it is for who names it: no other engine's files are taken."""
        return False

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: Any = True,
        decode_times: Any = True,
        concat_characters: Any = True,
        decode_coords: Any = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: Any = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        phony_dims: str = "sort",
        storage_options: Mapping[str, Any] | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        memory_limit: int | str | None = None,
        access: Any = None,
    ) -> xr.Dataset:
        """Return a group of a file as a lazy Dataset."""
        blocks = _Blocks(memory_limit, access)
        if _is_zarr(filename_or_obj):
            store: Any = _zarr_store(
                filename_or_obj,
                group,
                blocks,
                storage_options=storage_options,
                consolidated=consolidated,
                zarr_format=zarr_format,
            )
        else:
            store = hdf5_store(filename_or_obj, group, blocks, phony_dims)
        found = StoreBackendEntrypoint().open_dataset(
            store,
            mask_and_scale=mask_and_scale,
            decode_times=decode_times,
            concat_characters=concat_characters,
            decode_coords=decode_coords,
            drop_variables=drop_variables,
            use_cftime=use_cftime,
            decode_timedelta=decode_timedelta,
        )
        check_names("access", access, found.dims)
        return found

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        group: str | None = None,
        phony_dims: str = "sort",
        storage_options: Mapping[str, Any] | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        memory_limit: int | str | None = None,
        access: Any = None,
        **decoding: Any,
    ) -> dict[str, xr.Dataset]:
        """Return each group of a file as a lazy Dataset, by its path."""
        blocks = _Blocks(memory_limit, access)
        parent = NodePath("/") / NodePath(group) if group else NodePath("/")
        if _is_zarr(filename_or_obj):
            stores: Iterable[tuple[str, Any]] = _zarr_groups(
                filename_or_obj,
                parent,
                blocks,
                storage_options=storage_options,
                consolidated=consolidated,
                zarr_format=zarr_format,
            )
        else:
            stores = _hdf5_groups(filename_or_obj, parent, group, blocks, phony_dims)
        found = {}
        for path, store in stores:
            name = str(NodePath(path).relative_to(parent)) if group else str(NodePath(path))
            found[name] = StoreBackendEntrypoint().open_dataset(store, **decoding)
        check_names("access", access, {dim for one in found.values() for dim in one.dims})
        return found

    def open_datatree(self, filename_or_obj: Any, **kwargs: Any) -> xr.DataTree:
        """Return all groups of a file as a lazy tree."""
        groups = self.open_groups_as_dict(filename_or_obj, **kwargs)
        tree = xr.DataTree.from_dict(groups)
        for path, dataset in groups.items():
            tree[path].set_close(dataset._close)
        return tree


def _is_zarr(given: Any) -> bool:
    if isinstance(given, (str, os.PathLike)):
        name = os.fspath(given)
        return "://" in name or format_of(name) == "zarr"
    return is_zarr(given, "Store", "StorePath", "Group")


def hdf5_store(
    given: Any,
    group: str | None = None,
    blocks: "_Blocks | None" = None,
    phony_dims: str = "sort",
) -> ReadingHdf5Store:
    """Return a store on a path, or on a file object, which h5netcdf reads then."""
    required("h5netcdf", what='engine="lazyio"', extra="netcdf")
    if isinstance(given, (bytes, memoryview)):
        given = io.BytesIO(given)
    identity: Identity | None = None
    if isinstance(given, (str, os.PathLike)):
        given = str(existing(given))
        identity = identity_at(given)
    store: ReadingHdf5Store = ReadingHdf5Store.open(given, group=group, phony_dims=phony_dims)
    store.blocks, store.identity = blocks or _Blocks(None, None), identity
    return store


def _hdf5_groups(
    given: Any, parent: NodePath, group: str | None, blocks: _Blocks, phony_dims: str
) -> Iterator[tuple[str, ReadingHdf5Store]]:
    store = hdf5_store(given, group, blocks, phony_dims)
    with store._manager.acquire_context():
        for path in groups_of(store.ds, parent=parent):
            if NodePath(path).parts[1:2] == (GROUP,):
                continue  # Digests, which are none of the user's groups.
            one = ReadingHdf5Store(store._manager, group=path)
            one.blocks, one.identity = store.blocks, store.identity
            yield path, one


def _zarr_store(given: Any, group: str | None, blocks: _Blocks, **options: Any) -> ReadingZarrStore:
    require_zarr()
    store: ReadingZarrStore = ReadingZarrStore.open_group(given, group=group, mode="r", **options)
    store.blocks = blocks
    return store


def _zarr_groups(
    given: Any, parent: NodePath, blocks: _Blocks, **options: Any
) -> Iterator[tuple[str, ReadingZarrStore]]:
    require_zarr()
    for path, store in ReadingZarrStore.open_store(
        given, group=str(parent), mode="r", **options
    ).items():
        store.blocks = blocks
        yield path, store
