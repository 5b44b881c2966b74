"""Datasets given to ``lazyio.to_hdf5``, ``to_zarr`` and ``plan``: their arguments, for xarray."""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import xarray as xr

from lazyio.errors import OptionError
from lazyio.options import AUTO, COPY, NONE, Default, value_of
from lazyio.writing.to_hdf5 import DEFAULT_KEY
from lazyio.xarray import writing

_DEFAULTS: dict[str, Any] = {
    "chunk_nbytes": None,
    "dtype": None,
    "fillvalue": NONE,
    "fill_value": NONE,
    "attrs": NONE,
    "attributes": NONE,
    "dims": NONE,
    "dimension_names": NONE,
    "links": COPY,
    "libver": None,
    "comm": None,
    "chunk_key_encoding": None,
    "block_shape": None,
    "strategy": "auto",
}
"""Arguments that a Dataset answers itself, or its encoding, with what they are when not given."""
_NO_CODEC = dict.fromkeys(
    ("zlib", "szip", "bzip2", "blosc", "zstd", "complevel", "compression_opts")
)
"""What an encoding that was read may say, where another codec is named."""
_SHARED = (
    "access",
    "memory_limit",
    "workers",
    "resume",
    "digests",
    "progress",
    "compute",
    "scheduler",
    "lock_timeout",
    "append_dim",
    "region",
)


def _to_hdf5(given: Any, arguments: Mapping[str, Any]) -> Any:
    """Write to a netCDF-4 file, by the arguments of :func:`lazyio.to_hdf5`."""
    _refuse_others(arguments)
    storage = ("compression", "compression_opts", "shuffle", "fletcher32")
    # What is given holds, ``None`` and ``False`` as well, whatever the Dataset was read with.
    named = {name: arguments[name] for name in storage if not isinstance(arguments[name], Default)}
    if "compression" in named:
        named = {**_NO_CODEC, **named}
    group, given = _group_of(given, arguments["key"])
    is_part = arguments["append_dim"] is not None or arguments["region"] is not None
    return writing.to_hdf5(
        _encoded(given, named),
        arguments["path"],
        group,
        mode=None if is_part else arguments["mode"],
        replaces=arguments["overwrite"],
        encoding=None,
        unlimited_dims=_unlimited(arguments["maxshape"]),
        chunks=_chunks(arguments["chunks"]),
        **{name: arguments[name] for name in _SHARED},
    )


def _to_zarr(given: Any, arguments: Mapping[str, Any]) -> Any:
    """Write to a Zarr group, by the arguments of :func:`lazyio.to_zarr`."""
    _refuse_others(arguments)
    named = {
        name: arguments[name]
        for name in ("compressors", "filters", "shards")
        if value_of(arguments[name]) != "auto" and (name != "shards" or arguments[name])
    }
    group, given = _group_of(given, arguments["path"] or DEFAULT_KEY)
    is_part = arguments["append_dim"] is not None or arguments["region"] is not None
    return writing.to_zarr(
        _encoded(given, named),
        arguments["store"],
        group or None,
        mode=None if is_part else arguments["mode"],
        replaces=arguments["overwrite"],
        encoding=None,
        consolidated=None,
        # xarray takes that of a store that exists.
        zarr_format=2 if arguments["zarr_format"] == 2 else None,
        write_empty_chunks=arguments["write_empty_chunks"],
        storage_options=arguments["storage_options"],
        safe_chunks=False,
        chunks=_chunks(arguments["chunks"]),
        **{name: arguments[name] for name in _SHARED},
    )


def _plan(given: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the plan of each variable, by the arguments of :func:`lazyio.plan`."""
    _refuse_others(arguments)
    return writing.plan_datasets(
        given,
        format=arguments["format"],
        encoding=None,
        unlimited_dims=None,
        chunks=_chunks(arguments["chunks"]),
        access=arguments["access"],
        memory_limit=arguments["memory_limit"],
        workers=arguments["workers"],
    )


CALLS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "to_hdf5": _to_hdf5,
    "to_zarr": _to_zarr,
    "plan": _plan,
}


def _refuse_others(arguments: Mapping[str, Any]) -> None:
    """Refuse what speaks of one array."""
    for name, default in _DEFAULTS.items():
        given = arguments.get(name, default)
        if given is not default and given != default:
            msg = (
                f"{name}={given!r} speaks of one array, and a Dataset has several: give "
                "encoding= to dataset.lazyio.to_hdf5 or to_zarr, or change the Dataset"
            )
            raise OptionError(msg)


def _group_of(given: Any, key: str) -> tuple[str, Any]:
    """Return the group that a key stands for; of one array it is its name as well."""
    if key == DEFAULT_KEY:
        return "", given
    if isinstance(given, xr.DataArray):
        return posixpath.dirname(key.strip("/")), given.rename(posixpath.basename(key.rstrip("/")))
    return key.strip("/"), given


def _chunks(chunks: Any) -> Any:
    """Return chunk extents by dimension, ``None`` for what the data or the solver say."""
    if chunks is AUTO or (isinstance(chunks, str) and chunks == "auto") or chunks is True:
        return None
    if not isinstance(chunks, Mapping):
        msg = f"chunks={chunks!r}: a Dataset has axes by name; give a dict by dimension"
        raise OptionError(msg)
    return chunks


def _encoded(given: Any, named: Mapping[str, Any]) -> Any:
    """Return an xarray object whose variables with axes have some more encoding."""
    if not named:
        return given
    if isinstance(given, xr.DataTree):
        return given.map_over_datasets(lambda dataset: _encoded(dataset, named))
    found = given.copy(deep=False)
    several = [found] if isinstance(found, xr.DataArray) else found.data_vars.values()
    for one in several:
        if one.ndim and one.dtype.kind not in "OTSU":
            one.encoding = {**one.encoding, **named}
    return found


def _unlimited(maxshape: Any) -> Iterable[Any] | None:
    """Return the dimensions without bound."""
    bounds = value_of(maxshape)
    if bounds is None:
        return None
    if not isinstance(bounds, Mapping) or any(bound is not None for bound in bounds.values()):
        msg = (
            f"maxshape={bounds!r}: dimensions of netCDF are fixed or without bound; give "
            '{"time": None}'
        )
        raise OptionError(msg)
    return list(bounds)
