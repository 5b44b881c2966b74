"""What a user says of a dataset, and what it comes down to: shapes, filters, names, a link."""

import errno
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import h5py
import numpy as np

from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.codecs.hdf5_filters import Filter, advice_on_filters, parse_filters
from lazyio.dtypes import (
    Shape,
    Stored,
    as_dtype,
    is_integer,
    is_same_value,
    is_text,
    original,
    widened,
)
from lazyio.errors import OptionError, TargetError
from lazyio.execution.dask_arrays import source_of
from lazyio.inputs import Input
from lazyio.iterables.hdmf import HdmfBlocks
from lazyio.options import COPY, FALSE, NONE, Default, check_flags, value_of
from lazyio.planning import Plan
from lazyio.planning.chunks import DEFAULT_CHUNK_NBYTES
from lazyio.planning.request import PlanRequest, extents_asked
from lazyio.regions import Bounds, rows_of
from lazyio.sources.hdf5_layout import attributes_of
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.pytables import index_of
from lazyio.storage.hdf5.attributes import attribute_form, forms_of
from lazyio.storage.hdf5.dataset import Hdf5Options, element_dtype, require_filters
from lazyio.storage.hdf5.dimension_scales import check_dims
from lazyio.units import parse_size
from lazyio.writing.array_plan import (
    PlannedArray,
    as_recommended,
    plan_array,
    with_attributes,
)
from lazyio.writing.compatibility import (
    ArrayFacts,
    GrowableShape,
    differences,
    refuse_differences,
)
from lazyio.writing.link_targets import LinkTarget, dataset_behind, link_target
from lazyio.writing.request import JobFacts, WriteItem
from lazyio.writing.settings import ArraySettings

_OF_DATASETS = (
    *("dtype", "chunks", "compression", "compression_opts", "shuffle", "fletcher32"),
    *("fillvalue", "maxshape", "dims"),
)
"""Settings that no group has."""
_CACHE_NBYTES = 2**20
"""Chunk cache that libhdf5 gives a dataset by default, before version 2."""


@dataclass(frozen=True, kw_only=True)
class Hdf5Settings(ArraySettings):
    """Arguments of ``to_hdf5`` that speak of a dataset, as they were given."""

    format: ClassVar[str] = "hdf5"

    compression: Any = NONE
    compression_opts: Any = NONE
    shuffle: bool | None = NONE
    fletcher32: bool = FALSE
    maxshape: Any = NONE
    links: str = COPY
    names_codec: bool = True
    """Whether anybody said how to compress: else windows are priced as for any codec."""

    def check(self) -> None:
        """Refuse what no dataset can have."""
        check_flags(
            shuffle=False if self.shuffle is None else self.shuffle, fletcher32=self.fletcher32
        )
        super().check()
        if self.links not in ("copy", "link"):
            msg = f'links={self.links!r}; give "copy", or "link" to link to datasets of files'
            raise OptionError(msg)

    def wanted_of(self, given: Input) -> dict[str, Any]:
        """Return what an array asks for itself, as far as what was given leaves room for it."""
        wanted = super().wanted_of(given)
        if not isinstance(self.compression, Default):
            # Options of another codec have no meaning for this one.
            wanted.pop("compression_opts", None)
        return wanted

    def completed(self, given: Input) -> Self:
        """Return the settings with what an array asks for itself, where nothing was given."""
        full = super().completed(given)
        was_named = not isinstance(self.compression, Default)
        return replace(full, names_codec=was_named or full.compression is not None)

    def cutting(self, given: Input, itemsize: int) -> PlanRequest:
        """Return how the array is to be cut."""
        is_plain = self.names_codec and not (self.compression or self.shuffle or self.fletcher32)
        return self.request(
            chunks=run_shape(given.shape, itemsize) if self.chunks is None else self.chunks,
            # libhdf5 reads the wanted part of a plain chunk only if its cache cannot hold it.
            reads_whole_chunks=not (is_plain and self._exceeds_cache()),
            codec="none" if is_plain else self.codec_name,
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


@dataclass(frozen=True, kw_only=True)
class Hdf5Item(WriteItem):
    """One dataset that is to be made."""

    options: Hdf5Options
    """How it is stored."""
    dims: tuple[str, ...] | None = None
    """Names of its axes."""
    link: LinkTarget | None = None
    """What it is a link to, instead."""
    contradicted: tuple[str, ...] = ()
    """In what that is not what was asked for, each as a clause."""

    def facts(self) -> JobFacts:
        """Return what makes a job the same one."""
        link = None if self.link is None else (self.link.path, self.link.key)
        return self.arranged, self.options, {"dims": self.dims, "link": link}


def group_options(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return attributes of groups by their paths, once all of them have an HDF5 form."""
    for attributes in groups.values():
        forms_of(attributes)
    return dict(groups)


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
    arranged = _arranged(key, given, settings, maxshape)
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


@dataclass(frozen=True, kw_only=True)
class ExistingDataset:
    """An existing dataset, of which a part is to be written."""

    handle: h5py.Dataset

    @property
    def _name(self) -> str:
        return f"dataset {self.handle.name!r}"

    @property
    def room(self) -> GrowableShape:
        """Its extents, and how far it may grow."""
        return room_in(self.handle, self._name)

    @property
    def unit(self) -> Shape:
        """Extents of what is written whole: a chunk, or a run where nothing is chunked."""
        dataset = self.handle
        return dataset.chunks or run_shape(dataset.shape, element_dtype(dataset).itemsize)

    @property
    def kind(self) -> str:
        """How it is cut and of which type: what else a plan depends on, beside its extents."""
        return f"{self.handle.chunks} {self.handle.dtype}"

    def others_asked(self, settings: Hdf5Settings) -> dict[str, Any]:
        """Return what else the user said, and not the data, that a dataset may contradict."""
        found: dict[str, Any] = {}
        dataset = self.handle
        if not isinstance(settings.maxshape, Default) and settings.maxshape is not None:
            found["maxshape"] = _maxshape(settings.maxshape, (0,) * dataset.ndim)
        if not isinstance(settings.dims, Default) and settings.dims is not None:
            found["dims"] = check_dims(settings.dims, dataset.ndim)
        if settings.chunks is None and dataset.chunks is not None:
            found["chunks"] = None
        return found

    def fitted(self, settings: Hdf5Settings, given: Input, others: Mapping[str, Any]) -> Stored:
        """Return the form of its elements, once nothing differs from what is asked."""
        form = form_of(self.handle)
        form = form if settings.dtype is not None else widened(form, given.dtype)
        asked = replace(asked_of(settings, self.handle, form), others=others)
        refuse_misfit(self.handle, self._name, form, asked, given)
        return form

    def planned(
        self, key: str, given: Input, settings: Hdf5Settings, form: Stored, *, merges_chunks: bool
    ) -> PlannedArray:
        """Return the plan for data that goes into existing chunks."""
        arranged = plan_array(
            key,
            given,
            replace(settings.cutting(given, 1), chunks=self.unit, chunk_nbytes=None),
            dtype=None if is_text(form.original) else form.original,
            max_shape=(None,) * len(self.unit),
            is_part=True,
            merges_chunks=merges_chunks,
        )
        return arranged if is_text(form.original) else replace(arranged, form=form)


def room_in(dataset: h5py.Dataset, name: str) -> GrowableShape:
    """Return the extents of an existing dataset, and how far they go."""
    if dataset.shape is None:
        msg = f"{name} is empty (a null dataspace) and has no part; write it anew"
        raise TargetError(errno.EINVAL, msg)
    labels: list[str | None] = []
    for dimension in dataset.dims:
        scale = posixpath.basename(dimension[0].name) if len(dimension) else None
        labels.append(dimension.label or scale)
    if dataset.ndim == 1 and not any(labels) and dataset.is_scale:
        # A coordinate has the name of its only axis.
        labels = [posixpath.basename(dataset.name)]
    return GrowableShape(
        name=name,
        shape=tuple(map(int, dataset.shape)),
        max_shape=tuple(None if n is None else int(n) for n in dataset.maxshape),
        dims=tuple(labels),
    )


def form_of(dataset: h5py.Dataset) -> Stored:
    """Return the form of a dataset's elements: what they are made of."""
    dtype = element_dtype(dataset)
    return original(dtype, dataset.attrs) or Stored(original=dtype, dtype=dtype)


def refuse_misfit(
    dataset: h5py.Dataset,
    name: str,
    form: Stored,
    asked: ArrayFacts,
    given: Input,
    item_shape: Shape | None = None,
) -> None:
    """Refuse a dataset that is not what was asked for, or that cannot be written here."""
    require_filters(filters_of(dataset))
    index = index_of(dataset)
    if index is not None:
        msg = (
            f"{name} is a table that PyTables has indexed ({index}): its queries would go by the "
            "old rows. Remove the indexes first, table.cols.x.remove_index(), and make them anew"
        )
        raise OptionError(msg)
    refuse_differences(as_existing(dataset, name, form, item_shape), asked, given)


def as_existing(
    dataset: h5py.Dataset, name: str, form: Stored, item_shape: Shape | None = None
) -> ArrayFacts:
    """Return what a dataset is, to be compared with what is asked."""
    return ArrayFacts(
        name=name,
        dtype=form.original,
        chunk_shape=dataset.chunks,
        codec=described(filters_of(dataset)),
        fill_value=np.asarray(dataset.fillvalue)[()],
        attrs=attributes_of(dataset)[0],
        item_shape=item_shape,
        others={
            "maxshape": dataset.maxshape,
            "dims": room_in(dataset, name).dims,
            "chunks": dataset.chunks,
        },
    )


def described(filters: Sequence[Any]) -> str:
    """Return filters as a person reads them, with those options that a user gives."""
    return " + ".join(f"{step.name}{list(step.options)}" for step in filters) or "none"


def refuse_contradicted(items: tuple[Hdf5Item, ...]) -> None:
    """Refuse links to what is not as it was asked for, which a link could not change."""
    found = [
        f"{item.arranged.key!r} would be a link to {item.link.key!r} of {item.link.path}, and "
        f"{'; '.join(item.contradicted)}"
        for item in items
        if item.link is not None and item.contradicted
    ]
    if found:
        msg = (
            f"{'. '.join(found)}. What a link leads to stays as it is: leave these out, or give "
            'links="copy" for a dataset of its own'
        )
        raise OptionError(msg)


def advice_on(items: tuple[Hdf5Item, ...]) -> tuple[tuple[str, str], ...]:
    """Return hints on filters, which no plan knows of."""
    copied = [item for item in items if item.link is None]
    found = [pair for item in copied for pair in advice_on_filters(item.options.filters)]
    for item in items:
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


def _arranged(
    key: str, given: Input, settings: Hdf5Settings, maxshape: Bounds | None
) -> PlannedArray:
    itemsize = (given.dtype if settings.dtype is None else as_dtype(settings.dtype)).itemsize
    return plan_array(
        key,
        given,
        settings.cutting(given, itemsize),
        dtype=settings.dtype,
        fill_value=settings.fillvalue,
        fill_name="fillvalue",
        max_shape=maxshape,
    )


def asked_of(
    settings: Hdf5Settings,
    dataset: h5py.Dataset,
    form: Stored,
    item_shape: Shape | None = None,
) -> ArrayFacts:
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
    return settings.asked(
        form,
        chunk_shape=_chunks_asked(settings, dataset),
        codec=codec,
        attrs={name: attribute_form(name, one) for name, one in (settings.attrs or {}).items()},
        item_shape=item_shape,
    )


def _chunks_asked(settings: Hdf5Settings, dataset: h5py.Dataset) -> list[int | None] | None:
    """Return chunk extents that a dataset may contradict, as it would have been made with them."""
    chunks = settings.chunks
    if chunks is None or isinstance(chunks, (str, bool)):
        return None
    dims = tuple(name or "" for name in room_in(dataset, dataset.name).dims)
    asked = extents_asked(chunks, dataset.shape, dims)
    return [
        wish if wish is None or bound is None else min(wish, max(1, bound))
        for wish, bound in zip(asked, dataset.maxshape, strict=True)
    ]


def _linked(given: Input) -> LinkTarget | None:
    """Return the dataset or group of an HDF5 file that something is, where it is one."""
    if given.container is not None:
        return link_target(*given.container)
    source = given.source
    if source is None and given.array is not None:
        # Taken from the graph only because others are made of it.
        source = source_of(given.array)
    found = dataset_behind(source)
    return None if found is None else link_target(*found)


def _contradicted(link: LinkTarget, given: Input, settings: Hdf5Settings) -> tuple[str, ...]:
    """Return in what something that is to be linked to is not what was asked for."""
    with open_hdf5(link.path) as file:
        item = file[link.key]
        if isinstance(item, h5py.Group):
            return tuple(_group_differences(item, settings))
        form = form_of(item)
        existing = as_existing(item, link.key, form)
        found = differences(existing, asked_of(settings, item, form), given)
        if settings.chunks is None and item.chunks is not None:
            found.append(f"its chunks are {item.chunks}, not None")
        if settings.maxshape is not None:
            maxshape = _maxshape(settings.maxshape, given.shape)
            if maxshape != item.maxshape:
                found.append(f"its maxshape is {item.maxshape}, not {maxshape}")
        if settings.dims is not None and existing.others["dims"] != settings.dims:
            found.append(f"its dims are {existing.others['dims']}, not {settings.dims}")
    return tuple(found)


def _group_differences(group: h5py.Group, settings: Hdf5Settings) -> Iterator[str]:
    """Yield what was asked for of a group, in which only attributes can be as they were asked."""
    fresh = Hdf5Settings()
    for name in _OF_DATASETS:
        value = getattr(settings, name)
        if value != value_of(getattr(fresh, name)):
            yield f"a group has no {name}, and {name}={value!r} was given"
    for name, value in (settings.attrs or {}).items():
        if name not in group.attrs:
            yield f"it has no attribute {name!r}"
        elif not is_same_value(value, group.attrs[name]):
            yield f"its attribute {name!r} is {group.attrs[name]!r}, not {value!r}"


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
