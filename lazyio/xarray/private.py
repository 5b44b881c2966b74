"""What lazyio needs of xarray that xarray does not promise to keep, all in one place.

xarray has no plug-in for writers (pydata/xarray#5954): its table of engines that write, the
checks before a write and the coders of netCDF-4 are private. A test on the lowest and the
newest xarray fails where one of them goes.
"""

import importlib
from collections.abc import MutableMapping
from typing import Any

from xarray.backends.common import WritableCFDataStore, _encode_variable_name, _iter_nc_groups
from xarray.backends.netCDF4_ import _extract_nc4_variable_encoding
from xarray.backends.store import StoreBackendEntrypoint
from xarray.core import indexing
from xarray.core.treenode import NodePath

from lazyio.errors import OptionError

encode_variable_name = _encode_variable_name
extract_netcdf4_encoding = _extract_nc4_variable_encoding
groups_of = _iter_nc_groups

__all__ = [
    "NodePath",
    "StoreBackendEntrypoint",
    "WritableCFDataStore",
    "check_alignment",
    "check_dataset",
    "check_encoding",
    "check_names_of",
    "child_zarr_store",
    "encode_variable_name",
    "extract_netcdf4_encoding",
    "groups_of",
    "indexing",
    "open_zarr_store",
    "unlimited_dims_of",
    "with_region",
    "writeable_stores",
]

_HOMES = ("xarray.backends.writers", "xarray.backends.api")
"""Where its writers are: the first of late versions, the second before."""


def _writers(name: str) -> Any:
    for home in _HOMES:
        try:
            found = getattr(importlib.import_module(home), name, None)
        except ImportError:
            continue
        if found is not None:
            return found
    return None


def writeable_stores() -> MutableMapping[str, Any] | None:
    """Return xarray's table of engines that write, ``None`` where it has none any more."""
    found = _writers("WRITEABLE_STORES")
    return found if isinstance(found, MutableMapping) else None


def check_names_of(dataset: Any) -> None:
    """Refuse names of variables that are no text, as ``to_zarr`` does."""
    check = _writers("_validate_dataset_names")
    if check is not None:
        check(dataset)


def check_alignment(
    blocks: Any, unit: Any, shape: Any, region: Any, *, takes_parts: bool, name: str
) -> None:
    """Refuse blocks of dask that cut across chunks, as ``to_zarr`` does with ``safe_chunks``."""
    try:
        from xarray.backends.chunks import validate_grid_chunks_alignment as check
    except ImportError:  # Of versions before 2025.9: then nothing is refused.
        return
    check(
        nd_v_chunks=blocks,
        enc_chunks=unit,
        backend_shape=shape,
        region=region,
        allow_partial_chunks=takes_parts,
        name=name,
    )


def check_dataset(dataset: Any) -> None:
    """Refuse names and attributes that netCDF has no form for, as ``to_netcdf`` does."""
    for name, arguments in (("_validate_dataset_names", ()), ("_validate_attrs", ("lazyio",))):
        check = _writers(name)
        if check is not None:
            check(dataset, *arguments)


def unlimited_dims_of(dataset: Any, given: Any) -> Any:
    """Return the dimensions that are to grow: as given, or as the Dataset was read."""
    check = _writers("_sanitize_unlimited_dims")
    if check is None:
        msg = "this version of xarray has no _sanitize_unlimited_dims; install another"
        raise OptionError(msg)
    return check(dataset, given)


def open_zarr_store(store: Any, **settings: Any) -> Any:
    """Return xarray's store on a Zarr group that is written, as ``to_zarr`` opens it."""
    opened = _writers("get_writable_zarr_store")
    if opened is None:
        msg = "this version of xarray has no get_writable_zarr_store; install another"
        raise OptionError(msg)
    return opened(store, safe_chunks=False, **settings)


def child_zarr_store(store: Any, path: str) -> Any:
    """Return xarray's store on a group inside another."""
    return store.get_child_store(path)


def check_encoding(store: Any, encoding: Any) -> None:
    """Refuse encoding for arrays that exist."""
    store._validate_encoding(encoding)


def with_region(store: Any, dataset: Any, region: Any, append_dim: Any) -> Any:
    """Return what is written to a region, which is looked up by coordinates where asked.

    Groups of a tree have some of the dimensions each, of which alone a store may know.
    """
    store._append_dim = append_dim
    if region is not None:
        store._write_region = region
    return store._validate_and_autodetect_region(dataset)
