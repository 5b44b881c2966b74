"""What a user says of a dataset, and what it comes down to: shapes, filters, names, a link."""

import os
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import h5py
import numpy as np

from lazyio.codecs.hdf5_filters import Filter, advice_on_filters, parse_filters
from lazyio.dtypes import Shape, Stored, as_dtype, is_integer, is_text, widened
from lazyio.errors import OptionError
from lazyio.execution.dask_arrays import location_of, source_of
from lazyio.inputs import Input
from lazyio.iterables.hdmf import HdmfBlocks
from lazyio.options import (
    AUTO,
    COPY,
    FALSE,
    NONE,
    Default,
    as_fill_value,
    check_attributes,
    check_flags,
)
from lazyio.planning import ArraySpec, Plan
from lazyio.planning.chunks import (
    DEFAULT_CHUNK_NBYTES,
    extents_asked,
    growing_chunk_shape,
    with_chunks,
)
from lazyio.planning.iterables import cuts_chunks
from lazyio.planning.request import user_chunks
from lazyio.regions import Bounds, rows_of
from lazyio.sources.hdf5 import Hdf5Source
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.storage.hdf5.dataset import Hdf5Options
from lazyio.storage.hdf5.dimension_scales import check_dims
from lazyio.units import parse_size
from lazyio.writing.append_iterables import offset_input
from lazyio.writing.array_plan import (
    PlannedArray,
    PlanOptions,
    as_recommended,
    expanded,
    in_whole_chunks,
    plan_array,
    with_attributes,
)
from lazyio.writing.compatibility import AskedArray, TargetRegion, differences, window_for
from lazyio.writing.hdf5_new import Hdf5Item
from lazyio.writing.hdf5_region import as_existing, described, form_of, refuse_misfit, room_in

_CACHE_NBYTES = 2**20
"""Chunk cache that libhdf5 gives a dataset by default, before version 2."""


@dataclass(frozen=True, kw_only=True)
class Hdf5Settings:
    """Arguments of ``to_hdf5`` that speak of a dataset, as they were given."""

    chunks: Any = AUTO
    chunk_nbytes: Any = None
    access: Any = None
    dtype: Any = None
    compression: Any = NONE
    compression_opts: Any = NONE
    shuffle: bool | None = NONE
    fletcher32: bool = FALSE
    fillvalue: Any = NONE
    maxshape: Any = NONE
    attrs: Any = NONE
    dims: Any = NONE
    links: str = COPY
    memory_limit: Any = None
    workers: Any = None
    scheduler: Any = None
    block_shape: Any = None
    strategy: str = "auto"
    names_codec: bool = True
    """Whether anybody said how to compress: else windows are priced as for any codec."""

    def check(self) -> None:
        """Refuse what no dataset can have."""
        check_flags(
            shuffle=False if self.shuffle is None else self.shuffle, fletcher32=self.fletcher32
        )
        check_attributes("attrs", self.attrs)
        if self.links not in ("copy", "link"):
            msg = f'links={self.links!r}; give "copy", or "link" to link to datasets of files'
            raise OptionError(msg)

    def completed(self, given: Input) -> "Hdf5Settings":
        """Return the settings with what an array asks for itself, where nothing was given."""
        wanted = given.wanted("dims")
        if self.chunk_nbytes is not None or self.access is not None or wanted.get("chunks") is True:
            wanted.pop("chunks", None)
        if not isinstance(self.compression, Default):
            # Options of another codec have no meaning for this one.
            wanted.pop("compression_opts", None)
        taken = {
            item.name: wanted.get(item.name, one.value)
            for item in fields(self)
            if isinstance(one := getattr(self, item.name), Default)
        }
        names_codec = "compression" not in taken or taken["compression"] is not None
        return replace(self, **taken, names_codec=names_codec)

    def cutting(self, given: Input, itemsize: int) -> PlanOptions:
        """Return how the array is to be cut."""
        chunks = self.chunks
        if chunks is None:
            chunks = run_shape(given.shape, itemsize)
        is_plain = self.names_codec and not (self.compression or self.shuffle or self.fletcher32)
        return PlanOptions(
            format="hdf5",
            chunks=chunks,
            chunk_nbytes=self.chunk_nbytes,
            access=self.access,
            memory_limit=self.memory_limit,
            workers=self.workers,
            # libhdf5 reads the wanted part of a plain chunk only if its cache cannot hold it.
            reads_whole_chunks=not (is_plain and self._exceeds_cache()),
            codec="none" if is_plain else self.codec_name,
            scheduler=self.scheduler,
            block_shape=self.block_shape,
            strategy=self.strategy,
        )

    def _exceeds_cache(self) -> bool:
        """Return whether chunks may be larger than the chunk cache that readers have."""
        bounds = self.chunk_nbytes
        upper = bounds[-1] if isinstance(bounds, (tuple, list)) and bounds else bounds
        return upper is not None and parse_size(upper, "chunk_nbytes") > _CACHE_NBYTES

    @property
    def codec_name(self) -> str | None:
        """Name of the codec, where it was given by name."""
        return self.compression if isinstance(self.compression, str) else None

    def filters(self, dtype: np.dtype[Any], chunk_nbytes: int) -> tuple[Filter, ...]:
        """Return the filters in the order in which they are applied."""
        return parse_filters(
            self.compression,
            self.compression_opts,
            shuffle=self.shuffle,
            fletcher32=self.fletcher32,
            dtype=dtype,
            chunk_nbytes=chunk_nbytes,
        )


def run_shape(shape: Shape, itemsize: int) -> Shape:
    """Return what is written at once where nothing is chunked: long runs of what is one."""
    return rows_of(shape, itemsize, DEFAULT_CHUNK_NBYTES["hdf5"])


def dataset_item(key: str, given: Input, settings: Hdf5Settings) -> Hdf5Item:
    """Return a new dataset with its plan and its filters."""
    full = settings.completed(given)
    full.check()
    return as_recommended(
        partial(_dataset_item, key, given),
        full,
        given,
        is_open=isinstance(settings.chunks, Default),
    )


def plan_for_hdf5(given: Input, settings: Hdf5Settings) -> Plan:
    """Return the plan that :func:`dataset_item` makes."""
    return dataset_item("", given, settings).arranged.plan


def _dataset_item(key: str, given: Input, settings: Hdf5Settings) -> Hdf5Item:
    """Return a new dataset, of which all settings are known."""
    dims = check_dims(settings.dims, len(given.shape))
    given = replace(given, dims=dims or given.dims)
    if given.bounds is None:
        maxshape = _maxshape(settings.maxshape, given.shape)
    else:
        maxshape = _maxshape_of(given.bounds, settings)
        if isinstance(given.pieces, HdmfBlocks):
            given = replace(given, pieces=given.pieces.within(maxshape))
        # A chunk is no longer than a dataset may become.
        shape = (
            extent if bound is None else max(1, min(extent, bound))
            for extent, bound in zip(given.shape, maxshape, strict=True)
        )
        given = replace(given, shape=tuple(shape))
        if 0 in maxshape:
            maxshape = None  # There never will be an element, and no chunk.
    arranged = _with_room(_arranged(key, given, settings), settings, maxshape)
    plan = arranged.plan
    is_contiguous = settings.chunks is None
    filters = settings.filters(plan.dtype, plan.chunk_nbytes)
    _refuse_contiguous(settings, filters)
    attrs = dict(arranged.form.attrs)
    if given.mask_fill is not None:
        attrs["_FillValue"] = arranged.fill_value
    options = Hdf5Options(
        filters=filters,
        fillvalue=arranged.fill_value,
        maxshape=maxshape,
        attrs=with_attributes(attrs, settings.attrs or {}, "fillvalue"),
        is_contiguous=is_contiguous,
    )
    link = _linked(given) if settings.links == "link" else None
    return Hdf5Item(
        arranged=arranged,
        options=options,
        dims=dims,
        link=link,
        contradicted=() if link is None else _contradicted(link, given, settings),
    )


def part_of(
    dataset: h5py.Dataset,
    key: str,
    given: Input,
    settings: Hdf5Settings,
    *,
    region: Any,
    append_dim: Any,
) -> tuple[PlannedArray, TargetRegion]:
    """Return the plan for a part of an existing dataset, and which part it is."""
    name = f"dataset {dataset.name!r}"
    room = room_in(dataset, name)
    if given.comes_once:
        given, window = offset_input(given, room, region, append_dim)
    else:
        window = window_for(room, given.shape, region, append_dim)
    others = _others_asked(settings, dataset)
    settings = settings.completed(given)
    settings.check()
    dtype, form = form_of(dataset)
    form = form if settings.dtype is not None else widened(form, given.dtype)
    asked = replace(asked_of(settings, dataset, form), others=others)
    refuse_misfit(dataset, name, form, asked, given)
    given = expanded(given, window.new_axes)
    chunk_shape = dataset.chunks or run_shape(dataset.shape, dtype.itemsize)

    def make(memory_limit: int | None) -> PlannedArray:
        limited = settings if memory_limit is None else replace(settings, memory_limit=memory_limit)
        return _arranged_in(key, given, limited, form, chunk_shape)

    is_cut = cuts_chunks(window.region, window.shape, chunk_shape)
    arranged = in_whole_chunks(
        make,
        chunk_shape,
        # A chunk at the rim is read, and its compressed form with it.
        n_copies=2 if is_cut or given.comes_once else 0,
        workers_fixed=settings.workers is not None,
    )
    return arranged, window


def _others_asked(settings: Hdf5Settings, dataset: h5py.Dataset) -> dict[str, Any]:
    """Return what else the user said, and not the data, that a dataset may contradict."""
    found: dict[str, Any] = {}
    if not isinstance(settings.maxshape, Default) and settings.maxshape is not None:
        found["maxshape"] = _maxshape(settings.maxshape, (0,) * dataset.ndim)
    if not isinstance(settings.dims, Default) and settings.dims is not None:
        found["dims"] = check_dims(settings.dims, dataset.ndim)
    if settings.chunks is None and dataset.chunks is not None:
        found["chunks"] = None
    return found


def advice_on(items: tuple[Hdf5Item, ...]) -> tuple[tuple[str, str], ...]:
    """Return hints on filters, which no plan knows of."""
    copied = [item for item in items if item.link is None]
    found = [pair for item in copied for pair in advice_on_filters(item.options.filters)]
    for item in items:
        if item.link is not None and item.contradicted:
            what = (
                f"{item.arranged.key!r} is a link to {item.link[1]!r} of {item.link[0]}, which "
                f'stays as it is: {"; ".join(item.contradicted)}; give links="copy" for a '
                "dataset of its own"
            )
            found.append(("linked-as-it-is", what))
        dtype = item.arranged.plan.dtype
        is_float = dtype.kind == "f" and dtype.itemsize not in (4, 8)
        if item.dims and (is_float or (dtype.kind == "V" and dtype.fields is None)):
            cast = ""
            if is_float:
                cast = 'give dtype="float32"' if dtype.itemsize < 4 else 'give dtype="float64"'
                cast += ", which rounds, or " if dtype.itemsize > 8 else ", or "
            what = (
                f"netCDF has no type for {dtype}: its library fails on {item.arranged.key!r} or "
                f"on the whole file; {cast}leave dims out"
            )
            found.append(("not-netcdf", what))
    return tuple(dict.fromkeys(found))


def _arranged(key: str, given: Input, settings: Hdf5Settings) -> PlannedArray:
    itemsize = (given.dtype if settings.dtype is None else as_dtype(settings.dtype)).itemsize
    return plan_array(
        key,
        given,
        settings.cutting(given, itemsize),
        dtype=settings.dtype,
        fill_value=settings.fillvalue,
        fill_name="fillvalue",
    )


def _with_room(
    arranged: PlannedArray, settings: Hdf5Settings, maxshape: tuple[int | None, ...] | None
) -> PlannedArray:
    """Return an array whose chunks suit what it is to become, where it may grow."""
    plan, given = arranged.plan, arranged.given
    if maxshape is None or not plan.shape:
        return arranged
    asked = extents_asked(settings.chunks, len(plan.shape), given.dims)
    upper = DEFAULT_CHUNK_NBYTES["hdf5"]
    chunk_shape = growing_chunk_shape(plan, maxshape, asked, upper)
    is_fixed = settings.workers is not None
    return replace(arranged, plan=with_chunks(plan, chunk_shape, workers_fixed=is_fixed))


def _arranged_in(
    key: str, given: Input, settings: Hdf5Settings, form: Stored, chunk_shape: Shape
) -> PlannedArray:
    """Return the plan for data that goes into chunks that are there."""
    cutting = replace(settings.cutting(given, 1), chunks=tuple(chunk_shape), chunk_nbytes=None)
    if is_text(form.original):
        return plan_array(key, given, cutting)
    arranged = plan_array(key, given, cutting, dtype=form.original)
    return replace(arranged, form=form)


def asked_of(
    settings: Hdf5Settings,
    dataset: h5py.Dataset,
    form: Stored,
    item_shape: Shape | None = None,
) -> AskedArray:
    """Return what the user said that an existing dataset may contradict."""
    codec = None
    names_filters = (
        settings.compression is not None
        or settings.compression_opts is not None
        or settings.shuffle
        or settings.fletcher32
    )
    if names_filters:
        nbytes = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
        codec = described(settings.filters(dataset.dtype, nbytes))
    fill_value = settings.fillvalue
    if fill_value is not None:
        element = as_fill_value("fillvalue", fill_value, form.original)
        fill_value = form.encode_one(element)
    return AskedArray(
        dtype=settings.dtype,
        chunk_shape=_chunks_asked(settings, dataset),
        codec=codec,
        fill_value=fill_value,
        attrs=settings.attrs or {},
        item_shape=item_shape,
    )


def _chunks_asked(settings: Hdf5Settings, dataset: h5py.Dataset) -> list[int | None] | None:
    """Return chunk extents that a dataset may contradict, as it would have been made with them."""
    chunks = settings.chunks
    if chunks is None or isinstance(chunks, (str, bool)):
        return None
    dims = tuple(name or "" for name in room_in(dataset, dataset.name).dims)
    # Refuses what is none; it cuts the rest down to extents that the dataset may outgrow.
    user_chunks(chunks, ArraySpec(shape=dataset.shape, dtype=dataset.dtype), dims)
    asked = extents_asked(chunks, dataset.ndim, dims)
    return [
        wish if wish is None or bound is None else min(wish, max(1, bound))
        for wish, bound in zip(asked, dataset.maxshape, strict=True)
    ]


def _linked(given: Input) -> tuple[str, str] | None:
    """Return path and key of the HDF5 dataset that an array is, where it is one."""
    source = given.source
    if source is None and given.array is not None:
        # Taken from the graph only because others are made of it.
        source = source_of(given.array)
    held = getattr(source, "array", source)
    if not isinstance(held, (Hdf5Source, h5py.Dataset)):
        return None
    location = location_of(held)
    # In-memory files cannot be link targets.
    return location if location is not None and os.path.exists(location[0]) else None


def _contradicted(link: tuple[str, str], given: Input, settings: Hdf5Settings) -> tuple[str, ...]:
    """Return in what a dataset that is to be linked to is not what was asked for."""
    path, key = link
    with open_hdf5(path) as file:
        dataset = file[key]
        form = form_of(dataset)[1]
        existing = as_existing(dataset, key, form)
        found = differences(existing, asked_of(settings, dataset, form), given)
        if settings.maxshape is not None:
            maxshape = _maxshape(settings.maxshape, given.shape)
            if maxshape != dataset.maxshape:
                found.append(f"its maxshape is {dataset.maxshape}, not {maxshape}")
        if settings.dims is not None:
            found.append("a link gets no names of axes")
    return tuple(found)


def _refuse_contiguous(settings: Hdf5Settings, filters: tuple[Filter, ...]) -> None:
    if settings.chunks is not None:
        return
    if filters or settings.maxshape is not None:
        what = "filters" if filters else "maxshape"
        msg = f'chunks=None stores one run, which has no {what}; leave chunks at "auto"'
        raise OptionError(msg)


def _maxshape_of(own: Bounds, settings: Hdf5Settings) -> Bounds:
    """Return how far the dataset of a stream may grow: as it says itself, unless more is given."""
    if settings.chunks is None:
        msg = "chunks=None: what comes piece by piece is stored in chunks; leave it out"
        raise OptionError(msg)
    if settings.maxshape is None:
        return own
    least = tuple(extent or 0 for extent in own)
    return _maxshape(settings.maxshape, least) or own


def _maxshape(maxshape: Any, shape: Shape) -> tuple[int | None, ...] | None:
    if maxshape is None:
        return None
    if maxshape is True:
        return (None,) * len(shape)
    bounds = tuple(maxshape) if isinstance(maxshape, (tuple, list)) else (maxshape,)
    fits = len(bounds) == len(shape) and all(
        bound is None or (is_integer(bound) and bound >= extent)
        for bound, extent in zip(bounds, shape, strict=False)
    )
    if not fits:
        msg = (
            f"maxshape={maxshape!r} does not hold shape {shape}; give per axis None for no bound, "
            "or at least the extent there is"
        )
        raise OptionError(msg)
    return tuple(None if bound is None else int(bound) for bound in bounds)
