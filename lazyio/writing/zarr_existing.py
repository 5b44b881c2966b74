"""Zarr arrays that are there already: which part of one is written, and how it differs."""

import errno
from dataclasses import replace
from typing import Any

import numpy as np
import zarr

from lazyio.elements import Stored, original, stored
from lazyio.errors import OptionError, TargetError
from lazyio.inputs import Input
from lazyio.options import as_fill_value
from lazyio.planning.window import cuts_chunks
from lazyio.planning.wishes import chunk_wishes
from lazyio.spec import Shape
from lazyio.targets.zarr import codecs_of
from lazyio.writing.arrange import Arranged, arrange, expanded, in_whole_chunks
from lazyio.writing.existing import Asked, Existing, refuse_differences
from lazyio.writing.onto import onto
from lazyio.writing.windows import Room, Window, window_for
from lazyio.writing.zarr_settings import (
    V2_DIMS,
    ZarrSettings,
    attributes_as_stored,
    compressors_of_version,
)
from lazyio.writing.zarr_stores import node_at, node_name


def existing_array(store: Any, path: str) -> Any:
    """Return the array of which a part is to be written."""
    name = node_name(store, path)
    try:
        found = node_at(store, path)
    except (KeyError, ValueError, TypeError, OSError) as error:
        msg = f"{name} cannot be opened to write a part of it: {error}"
        raise TargetError(getattr(error, "errno", None) or errno.EIO, msg) from error
    if found is None:
        msg = f"{name} does not exist; lazyio.allocate makes an empty array to write parts of"
        raise TargetError(errno.ENOENT, msg)
    if not isinstance(found, zarr.Array):
        msg = f"{name} is a group, of which no part can be written; name an array in it"
        raise TargetError(errno.EISDIR, msg)
    return found


def part_of_array(
    array: Any,
    path: str,
    given: Input,
    settings: ZarrSettings,
    *,
    region: Any,
    append_dim: Any,
) -> tuple[Arranged, Window]:
    """Return the plan for a part of an existing array, and which part it is."""
    name = f"array {array.store_path}"
    room = _room_in(array, name)
    if given.comes_once:
        given, window = onto(given, room, region, append_dim)
    else:
        window = window_for(room, given.shape, region, append_dim)
    settings = settings.completed(given)
    settings.check()
    form = fitted_to(array, name, settings, given)
    given = expanded(given, window.new_axes)
    # What is written whole, be it a chunk or a shard.
    unit = tuple(map(int, array.shards or array.chunks))
    cutting = replace(settings.cutting(), chunks=unit, shards=None, chunk_nbytes=None)

    def make(memory_limit: int | None) -> Arranged:
        limited = cutting if memory_limit is None else replace(cutting, memory_limit=memory_limit)
        return arrange(path, given, limited, dtype=form.original)

    arranged = in_whole_chunks(
        make,
        unit,
        # A chunk at the rim is read, and its compressed form with it.
        n_copies=2 if given.comes_once or cuts_chunks(window.region, window.shape, unit) else 0,
        workers_fixed=settings.workers is not None,
    )
    plan = arranged.plan
    if array.shards:
        layout = replace(plan.layout, chunk_shape=tuple(map(int, array.chunks)), shard_shape=unit)
        plan = replace(plan, layout=layout)
    return replace(arranged, form=form, plan=plan), window


def _room_in(array: Any, name: str) -> Room:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(V2_DIMS)
    # In v2 an attribute, which may hold anything.
    is_list = isinstance(names, (tuple, list)) and len(names) == len(array.shape)
    return Room(
        name=name,
        shape=tuple(map(int, array.shape)),
        # Any axis of a Zarr array can grow.
        max_shape=(None,) * len(array.shape),
        dims=tuple(names) if is_list else (),
    )


def fitted_to(
    array: Any,
    name: str,
    settings: ZarrSettings,
    given: Input,
    *,
    item_shapes: tuple[Shape | None, Shape | None] = (None, None),
) -> Stored:
    """Return the form of an array's elements, once nothing else differs.

    ``item_shapes`` are those of elements as they are and as they are asked for.
    """
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
        item_shape=item_shapes[0],
    )
    asked = replace(_asked(settings, given, array, form), item_shape=item_shapes[1])
    refuse_differences(existing, asked, given)
    return form


def _asked(settings: ZarrSettings, given: Input, array: Any, form: Stored) -> Asked:
    """Return what the user said that an existing array may contradict."""
    chunk_shape = None
    is_open = isinstance(settings.chunks, str) and settings.chunks == "auto"
    if not is_open:
        facts = given.facts(given.dtype, own_blocks=False)
        chunk_shape = chunk_wishes(settings.chunks, facts, given.dims)
    fill_value = settings.fill_value
    if fill_value is not None:
        element = as_fill_value("fill_value", fill_value, form.original)
        fill_value = form.encode_one(element)
    return Asked(
        dtype=settings.dtype,
        chunk_shape=chunk_shape,
        codec=_asked_codecs(settings, array),
        fill_value=fill_value,
        attrs=attributes_as_stored(
            settings.attributes or {}, form.dtype, array.metadata.zarr_format
        ),
    )


def _asked_codecs(settings: ZarrSettings, array: Any) -> str | None:
    """Return the codecs that the user named, as zarr-python would keep them."""
    named = {
        name: value
        for name, value in (
            (
                "compressors",
                compressors_of_version(settings.compressors, array.metadata.zarr_format),
            ),
            ("filters", settings.filters),
        )
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
