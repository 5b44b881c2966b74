"""What a user says of a Zarr array, and what it comes down to: shapes, codecs, names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import zarr

from lazyio.elements import Stored, original, stored
from lazyio.errors import OptionError, TargetError
from lazyio.inputs import Input
from lazyio.options import as_fill_value, check_attributes, check_flags, plain_values
from lazyio.planning import Plan
from lazyio.planning.chunks import DEFAULT_CHUNK_NBYTES
from lazyio.planning.growing import extents_asked, growing_chunk_shape, with_chunks
from lazyio.planning.window import cuts_chunks
from lazyio.planning.wishes import chunk_wishes
from lazyio.targets.zarr import ZarrOptions, codecs_of
from lazyio.writing.arrange import Arranged, Cutting, arrange, expanded
from lazyio.writing.existing import Asked, Existing, refuse_differences
from lazyio.writing.windows import Room, Window, whole, window_at, window_behind
from lazyio.writing.zarr_order import ZarrItem

V2_DIMS = "_ARRAY_DIMENSIONS"
"""Attribute in which xarray keeps the names of axes in v2, which has no place for them."""


@dataclass(frozen=True, kw_only=True)
class ZarrSettings:
    """Arguments of ``to_zarr`` that speak of an array, as they were given."""

    chunks: Any = "auto"
    chunk_nbytes: Any = None
    access: Any = None
    shards: Any = None
    dtype: Any = None
    compressors: Any = "auto"
    filters: Any = "auto"
    fill_value: Any = None
    zarr_format: Any = 3
    dimension_names: Any = None
    attributes: Any = field(default=None)
    write_empty_chunks: Any = None
    memory_limit: Any = None
    workers: Any = None
    scheduler: Any = None

    def check(self) -> None:
        """Refuse what no array can have.

        Raises
        ------
        OptionError
            Naming the argument.
        """
        if self.zarr_format not in (2, 3):
            msg = f"zarr_format={self.zarr_format!r}; give 3 or 2"
            raise OptionError(msg)
        if self.write_empty_chunks is not None:
            check_flags(write_empty_chunks=self.write_empty_chunks)
        if self.chunks is None:
            msg = "chunks=None: a Zarr array always has chunks; give -1 for a single one"
            raise OptionError(msg)
        check_attributes("attributes", self.attributes)

    def for_key(self, path: str, prefix: str) -> "ZarrSettings":
        """Return the settings of one of several arrays, where they differ by path."""
        name = path.removeprefix(prefix).strip("/") if prefix else path
        found = self
        if isinstance(self.dimension_names, Mapping):
            found = replace(found, dimension_names=self.dimension_names.get(name))
        attributes = self.attributes
        if name and isinstance(attributes, Mapping) and isinstance(attributes.get(name), Mapping):
            found = replace(found, attributes=attributes[name])
        return found

    def cutting(self) -> Cutting:
        """Return how the array is to be cut."""
        return Cutting(
            format="zarr",
            chunks=self.chunks,
            chunk_nbytes=self.chunk_nbytes,
            access=self.access,
            shards=self.shards,
            memory_limit=self.memory_limit,
            workers=self.workers,
            scheduler=self.scheduler,
        )


def array_item(path: str, given: Input, settings: ZarrSettings) -> ZarrItem:
    """Return a new array with its plan and its options.

    Raises
    ------
    PlanError, OptionError, UnsupportedDtypeError
        Before anything is read.
    """
    settings.check()
    arranged = arrange(
        path,
        given,
        settings.cutting(),
        dtype=settings.dtype,
        fill_value=settings.fill_value,
    )
    arranged = _with_room(arranged, settings)
    asked = settings.attributes if settings.attributes is not None else given.settings.get("attrs")
    attributes = {**arranged.form.attrs, **plain_values(asked or {})}
    if given.mask_fill is not None:
        attributes["_FillValue"] = plain_values(np.asarray(arranged.fill_value))
    names = settings.dimension_names
    if names is None:
        names = given.dims or None
    zarr_format: Literal[2, 3] = 2 if settings.zarr_format == 2 else 3
    if names is not None and zarr_format == 2:
        attributes[V2_DIMS] = list(names)
        names = None
    options = ZarrOptions(
        compressors=settings.compressors,
        filters=settings.filters,
        fill_value=arranged.fill_value,
        zarr_format=zarr_format,
        dimension_names=names,
        attributes=attributes,
        write_empty_chunks=settings.write_empty_chunks,
    )
    return ZarrItem(arranged=arranged, options=options)


def existing_array(store: Any, path: str, storage_options: Mapping[str, Any] | None) -> Any:
    """Return the array of which a part is to be written, open for writing.

    Raises
    ------
    TargetError
        When there is none.
    """
    if isinstance(store, zarr.Array):
        return store
    options: dict[str, Any] = {}
    if storage_options:
        options["storage_options"] = dict(storage_options)
    try:
        if isinstance(store, zarr.Group):
            found = store[path] if path else None
        else:
            found = zarr.open_array(store, path=path, mode="r+", **options)
    except (KeyError, ValueError, OSError, zarr.errors.BaseZarrError) as error:
        msg = f"{store} has no array {path!r}, of which a part could be written: {error}"
        raise TargetError(getattr(error, "errno", None) or 2, msg) from error
    if not isinstance(found, zarr.Array):
        msg = f"{store}: {path!r} is a group, of which no part can be written; name an array in it"
        raise TargetError(2, msg)
    return found


def part_of_array(
    array: Any,
    path: str,
    given: Input,
    settings: ZarrSettings,
    *,
    region: Any = None,
    append_dim: Any = None,
) -> tuple[Arranged, Window]:
    """Return the plan for a part of an existing array, and which part it is.

    Raises
    ------
    OptionError
        Listing everything in which the array differs, or when the part is none.
    """
    settings.check()
    name = f"array {array.store_path}"
    room = _room_in(array, name)
    if region is not None:
        window = window_at(region, room, given.shape)
    elif append_dim is not None:
        window = window_behind(append_dim, room, given.shape)
    else:
        window = whole(room, given.shape)
    form = _fitted_to(array, name, settings, given)
    given = expanded(given, window.new_axes)
    # What is written whole, be it a chunk or a shard.
    unit = tuple(map(int, array.shards or array.chunks))
    cutting = replace(settings.cutting(), chunks=unit, shards=None, chunk_nbytes=None)
    arranged = arrange(path, given, cutting, dtype=form.original)
    plan = with_chunks(
        arranged.plan,
        unit,
        # A chunk at the rim is read, and its compressed form with it.
        n_copies=2 if cuts_chunks(window.region, window.shape, unit) else 0,
        workers_fixed=settings.workers is not None,
    )
    if array.shards:
        layout = replace(plan.layout, chunk_shape=tuple(map(int, array.chunks)), shard_shape=unit)
        plan = replace(plan, layout=layout)
    return replace(arranged, form=form, plan=plan), window


def _room_in(array: Any, name: str) -> Room:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(V2_DIMS) or ()
    return Room(
        name=name,
        shape=tuple(map(int, array.shape)),
        # Any axis of a Zarr array can grow.
        max_shape=(None,) * len(array.shape),
        dims=tuple(names),
    )


def _fitted_to(array: Any, name: str, settings: ZarrSettings, given: Input) -> Stored:
    """Return the form of an array's elements, once nothing else differs."""
    dtype = np.dtype(array.dtype)
    attributes = dict(array.attrs)
    form = original(dtype, attributes) or replace(stored(dtype, "zarr"), original=dtype)
    existing = Existing(
        name=name,
        dtype=form.original,
        chunk_shape=tuple(map(int, array.chunks)),
        codec=str(codecs_of(array)),
        fill_value=array.fill_value,
        attrs=attributes,
    )
    refuse_differences(existing, _asked(settings, given, array), given)
    return form


def _asked(settings: ZarrSettings, given: Input, array: Any) -> Asked:
    """Return what the user said that an existing array may contradict."""
    chunk_shape = None
    is_open = isinstance(settings.chunks, str) and settings.chunks == "auto"
    if not is_open:
        facts = given.facts(given.dtype, own_blocks=False)
        chunk_shape = chunk_wishes(settings.chunks, facts, given.dims)
    fill_value = settings.fill_value
    if fill_value is not None:
        fill_value = as_fill_value("fill_value", fill_value, np.dtype(array.dtype))
    return Asked(
        dtype=settings.dtype,
        chunk_shape=chunk_shape,
        codec=_asked_codecs(settings, array),
        fill_value=fill_value,
        attrs=plain_values(settings.attributes or {}),
    )


def _asked_codecs(settings: ZarrSettings, array: Any) -> str | None:
    """Return the codecs that the user named, as zarr-python would keep them."""
    named = {
        name: value
        for name, value in (("compressors", settings.compressors), ("filters", settings.filters))
        if not (isinstance(value, str) and value == "auto")
    }
    if not named:
        return None
    try:
        like = zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=array.shape,
            chunks=array.chunks,
            shards=array.shards,
            dtype=array.dtype,
            zarr_format=array.metadata.zarr_format,
            **named,
        )
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{', '.join(named)} are no codecs of Zarr: {error}"
        raise OptionError(msg) from error
    wanted, there = codecs_of(like), codecs_of(array)
    # What was not named may be anything.
    return str({**there, **{name: wanted[name] for name in named}})


def _with_room(arranged: Arranged, settings: ZarrSettings) -> Arranged:
    """Return an array with chunks as long as the user gave them, also beyond its end.

    Any axis of a Zarr array can grow; that one is meant to only shows there.
    """
    plan, chunks = arranged.plan, settings.chunks
    if isinstance(chunks, (str, bool, int, Plan)) or plan.shard_shape or not plan.shape:
        return arranged
    asked = extents_asked(chunks, len(plan.shape), arranged.given.dims)
    pairs = zip(asked, plan.shape, strict=True)
    bounds = tuple(None if wish and wish > extent else extent for wish, extent in pairs)
    upper = DEFAULT_CHUNK_NBYTES["zarr"]
    chunk_shape = growing_chunk_shape(plan, bounds, asked, upper)
    is_fixed = settings.workers is not None
    return replace(arranged, plan=with_chunks(plan, chunk_shape, workers_fixed=is_fixed))
