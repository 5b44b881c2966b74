"""What a user says of a Zarr array, and what it comes down to: shapes, codecs, names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import numcodecs.abc
import numpy as np
import zarr

from lazyio.dtypes import as_dtype, is_integer
from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.options import (
    AUTO,
    NONE,
    Default,
    as_fill_value,
    check_attributes,
    check_flags,
    refuse_no_chunks,
)
from lazyio.planning import Plan
from lazyio.planning.chunks import (
    DEFAULT_CHUNK_NBYTES,
    extents_asked,
    growing_chunk_shape,
    with_chunks,
)
from lazyio.storage.json_attributes import is_unicode, json_attributes, xarray_fill_value
from lazyio.storage.zarr.array import ZarrOptions, create_array
from lazyio.writing.array_plan import (
    Made,
    PlannedArray,
    PlanOptions,
    as_recommended,
    plan_array,
    with_attributes,
)
from lazyio.writing.zarr_new import ZarrItem

_OF_HDF5 = ("compression", "compression_opts", "shuffle", "fletcher32", "maxshape", "links")
"""Settings of an H5DataIO that say nothing of a Zarr array, all axes of which may grow."""
V2_DIMS = "_ARRAY_DIMENSIONS"
"""Attribute in which xarray keeps the names of axes in v2, which has no place for them."""


@dataclass(frozen=True, kw_only=True)
class ZarrSettings:
    """Arguments of ``to_zarr`` that speak of an array, as they were given."""

    chunks: Any = AUTO
    chunk_nbytes: Any = None
    access: Any = None
    shards: Any = None
    dtype: Any = None
    compressors: Any = "auto"
    filters: Any = "auto"
    fill_value: Any = NONE
    zarr_format: Any = 3
    chunk_key_encoding: Any = None
    dimension_names: Any = NONE
    attributes: Any = NONE
    write_empty_chunks: Any = None
    memory_limit: Any = None
    workers: Any = None
    scheduler: Any = None
    block_shape: Any = None
    strategy: str = "auto"

    def check(self) -> None:
        """Refuse what no array can have."""
        if self.zarr_format not in (2, 3):
            msg = f"zarr_format={self.zarr_format!r}; give 3 or 2"
            raise OptionError(msg)
        if self.write_empty_chunks is not None:
            check_flags(write_empty_chunks=self.write_empty_chunks)
        if self.chunks is None:
            refuse_no_chunks("zarr")
        _check_chunk_keys(self.chunk_key_encoding, self.zarr_format)
        check_attributes("attributes", self.attributes)
        if isinstance(self.attributes, Mapping) and V2_DIMS in self.attributes:
            msg = (
                f"attribute {V2_DIMS!r} is where names of axes are kept in v2; leave it out, and "
                "give dimension_names= for them"
            )
            raise OptionError(msg)

    def completed(self, given: Input) -> "ZarrSettings":
        """Return the settings with what an array asks for itself, where nothing was given."""
        wanted = given.wanted("dimension_names")
        if self.chunk_nbytes is not None or self.access is not None or wanted.get("chunks") is True:
            wanted.pop("chunks", None)
        names = {"fill_value": "fillvalue", "attributes": "attrs"}
        taken = {
            item.name: wanted.get(names.get(item.name, item.name), one.value)
            for item in fields(self)
            if isinstance(one := getattr(self, item.name), Default)
        }
        found = replace(self, **taken)
        attributes = found.attributes
        if self.zarr_format == 2 and found.fill_value is None and isinstance(attributes, Mapping):
            # Where xarray keeps it in v2: JSON has no form for NaN.
            others = {name: one for name, one in attributes.items() if name != "_FillValue"}
            found = replace(found, fill_value=attributes.get("_FillValue"), attributes=others)
        return found

    def cutting(self) -> PlanOptions:
        """Return how the array is to be cut."""
        return PlanOptions(
            format="zarr",
            chunks=self.chunks,
            chunk_nbytes=self.chunk_nbytes,
            access=self.access,
            shards=self.shards,
            memory_limit=self.memory_limit,
            workers=self.workers,
            scheduler=self.scheduler,
            block_shape=self.block_shape,
            strategy=self.strategy,
        )


def array_item(path: str, given: Input, settings: ZarrSettings) -> ZarrItem:
    """Return a new array with its plan and its options."""
    return _made_by(partial(_array_item, path, given), given, settings)


def plan_for_zarr(given: Input, settings: ZarrSettings) -> Plan:
    """Return the plan that :func:`array_item` makes."""
    return _made_by(partial(_arranged, "", given), given, settings).plan


def _made_by(make: Callable[[Any], Made], given: Input, settings: ZarrSettings) -> Made:
    """Make something of settings, once what the array asks for itself has filled the gaps."""
    full = settings.completed(given)
    full.check()
    is_open = isinstance(settings.chunks, Default)
    return as_recommended(make, full, given, is_open=is_open)


def _array_item(path: str, given: Input, settings: ZarrSettings) -> ZarrItem:
    """Return a new array, of which all settings are known."""
    arranged = _arranged(path, given, settings)
    names = _dimension_names(settings.dimension_names, len(given.shape))
    zarr_format: Literal[2, 3] = 2 if settings.zarr_format == 2 else 3
    attributes = with_attributes(
        {**arranged.form.attrs, **_gap_attribute(arranged, zarr_format)},
        attributes_as_stored(settings.attributes or {}, arranged.form.dtype, zarr_format),
        "fill_value",
    )
    if names is not None and zarr_format == 2:
        attributes[V2_DIMS] = list(names)
    options = ZarrOptions(
        compressors=compressors_of_version(settings.compressors, zarr_format),
        filters=settings.filters,
        fill_value=arranged.fill_value,
        zarr_format=zarr_format,
        chunk_key_encoding=settings.chunk_key_encoding,
        dimension_names=names if zarr_format == 3 else None,
        attributes=attributes,
        write_empty_chunks=settings.write_empty_chunks,
    )
    _refuse_unstorable(arranged.plan, options)
    return ZarrItem(arranged=arranged, options=options)


def advice_on(items: Sequence[ZarrItem]) -> tuple[tuple[str, str], ...]:
    """Return hints on what arrays ask for themselves and Zarr has no use for."""
    asked = (name for item in items for name in item.arranged.given.settings)
    unused = dict.fromkeys(name for name in asked if name in _OF_HDF5)
    if not unused:
        return ()
    text = (
        f"{', '.join(unused)} of the H5DataIO {'is' if len(unused) == 1 else 'are'} for HDF5 and "
        "not used; give compressors= and filters= for Zarr"
    )
    return (("hdf5-settings", text),)


def _arranged(path: str, given: Input, settings: ZarrSettings) -> PlannedArray:
    """Return an array with its plan, of which all settings are known."""
    names = _dimension_names(settings.dimension_names, len(given.shape))
    if names is not None:
        given = replace(given, dims=tuple(name or "" for name in names))
    arranged = plan_array(
        path,
        given,
        settings.cutting(),
        dtype=_element(settings, given),
        fill_value=settings.fill_value,
    )
    return _with_room(arranged, settings)


def _gap_attribute(arranged: PlannedArray, zarr_format: int) -> dict[str, Any]:
    """Return the attribute that tells the gaps of a masked array; in v2 the fill value does."""
    if arranged.given.mask_fill is None or zarr_format == 2:
        return {}
    coded = xarray_fill_value(arranged.fill_value, arranged.form.dtype)
    return {} if coded is None else {"_FillValue": coded}


def attributes_as_stored(
    attributes: Mapping[str, Any], dtype: np.dtype[Any], zarr_format: int
) -> dict[str, Any]:
    """Return attributes as JSON, the value of gaps in v3 as xarray has it there."""
    value = attributes.get("_FillValue")
    if zarr_format == 2 or not isinstance(value, (int, float, complex, np.number)):
        return json_attributes(attributes)
    element = as_fill_value("attribute _FillValue", value, dtype)
    others = {name: value for name, value in attributes.items() if name != "_FillValue"}
    return {**json_attributes(others), "_FillValue": xarray_fill_value(element, dtype)}


def _element(settings: ZarrSettings, given: Input) -> Any:
    """Return the dtype to cast to, ``None`` for none."""
    dtype = given.dtype if settings.dtype is None else as_dtype(settings.dtype)
    if settings.zarr_format == 3 and dtype.fields is not None:
        # v3 keeps no byte order of fields: others would be read as something else.
        return dtype.newbyteorder("<")
    return settings.dtype


def _refuse_unstorable(plan: Plan, options: ZarrOptions) -> None:
    """Let zarr-python judge an array before anything is made in its place."""
    create_array(
        zarr.storage.MemoryStore(),
        "",
        shape=plan.shape,
        chunk_shape=plan.chunk_shape,
        shard_shape=plan.shard_shape,
        dtype=plan.dtype,
        options=options,
    )


def _check_chunk_keys(given: Any, zarr_format: int) -> None:
    """Refuse names of objects that the format does not have."""
    if given is None:
        return
    names = {2: ("v2",), 3: ("default", "v2")}[zarr_format]
    is_known = (
        isinstance(given, Mapping)
        and given.keys() <= {"name", "separator"}
        and given.get("name") in names
        and given.get("separator", "/") in ("/", ".")
    )
    if not is_known:
        msg = (
            f"chunk_key_encoding={given!r}; give a mapping such as "
            f'{{"name": "{names[0]}", "separator": "/"}}, with "/" or "." as separator'
        )
        raise OptionError(msg)


def _dimension_names(given: Any, ndim: int) -> tuple[str | None, ...] | None:
    """Return names of axes, some of which may have none."""
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else given
    is_list = isinstance(names, (tuple, list))
    if not is_list or len(names) != ndim or not all(_is_name(name) for name in names):
        msg = (
            f'dimension_names={given!r}; give one name, such as "time", or None for each of the '
            f"array's {ndim} axes"
        )
        raise OptionError(msg)
    return tuple(names)


def _is_name(name: Any) -> bool:
    return name is None or (isinstance(name, str) and name != "" and is_unicode(name))


def compressors_of_version(compressors: Any, zarr_format: int) -> Any:
    """Return compressors as zarr-python takes them: one in v2, any number in v3."""
    is_list = isinstance(compressors, (tuple, list))
    if zarr_format == 2 and is_list and len(compressors) < 2:
        return compressors[0] if compressors else None
    each = compressors if is_list else (compressors,)
    if zarr_format == 3 and any(isinstance(one, numcodecs.abc.Codec) for one in each):
        msg = (
            f"compressors={compressors!r} is a codec of numcodecs, which Zarr v2 has; give one of "
            "zarr.codecs, such as ZstdCodec or those in zarr.codecs.numcodecs, or zarr_format=2"
        )
        raise OptionError(msg)
    return compressors


def _with_room(arranged: PlannedArray, settings: ZarrSettings) -> PlannedArray:
    """Return an array with chunks as long as the user gave them, also beyond its end.

    Any axis of a Zarr array can grow; that one is meant to only shows there.
    """
    plan, chunks = arranged.plan, settings.chunks
    if isinstance(chunks, (bool, Plan)) or plan.shard_shape or not plan.shape:
        return arranged
    # One number is for every axis, and no wish for more than there is of each.
    is_wish = len(plan.shape) == 1 or not is_integer(chunks)
    asked = extents_asked(chunks if is_wish else "auto", len(plan.shape), arranged.given.dims)
    # What is empty by now is there to grow.
    bounds = tuple(
        None if not extent or (wish and wish > extent) else extent
        for wish, extent in zip(asked, plan.shape, strict=True)
    )
    if None not in bounds:
        return arranged
    # Several are held at once: read, merged and encoded.
    upper = max(1, min(DEFAULT_CHUNK_NBYTES["zarr"], plan.memory_limit // 8))
    chunk_shape = growing_chunk_shape(plan, bounds, asked, upper)
    is_fixed = settings.workers is not None
    return replace(arranged, plan=with_chunks(plan, chunk_shape, workers_fixed=is_fixed))
