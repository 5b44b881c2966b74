"""What is to become of each dataset of a file: stored anew, passed through, or copied as it is."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np
from h5py import h5p

from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.codecs.hdf5_filters import BY_ID, Filter, as_given
from lazyio.dtypes import Shape, as_dtype, is_text, nbytes_of, stored
from lazyio.errors import OptionError, PlanError, SourceError, UnsupportedDtypeError
from lazyio.inputs import Input
from lazyio.options import default_workers, limit_of
from lazyio.planning import Plan
from lazyio.planning.budget import limit_too_small
from lazyio.planning.layout import Layout
from lazyio.regions import grid_shape, rows_of
from lazyio.repacking.elements import lies_elsewhere
from lazyio.repacking.properties import makes_filters, passed_through, refusal_of, stored_anew
from lazyio.repacking.references import kinds_in
from lazyio.sources.hdf5 import Hdf5Source, describe_dataset
from lazyio.sources.hdf5_layout import dtype_of
from lazyio.sources.identity import Identity
from lazyio.sources.stored_chunks import RUN_NBYTES, JoinedChunks, StoredChunks, stored_chunks
from lazyio.units import format_size
from lazyio.writing.array_plan import PlannedArray
from lazyio.writing.dataset_rules import OF_ANY_DATASET, Rules, as_table, names_one, rule_of
from lazyio.writing.hdf5_settings import Hdf5Item, Hdf5Settings, dataset_item, described
from lazyio.writing.multi_array import planned
from lazyio.writing.request import JobFacts, WriteItem

_SMALL_NBYTES = 2**20
_FEW_CHUNKS = 64
"""What is stored in no more is copied along with what describes it."""
_LEAST_NBYTES = 2**10
"""Arrays in one piece below this are left alone, unless a rule names them."""
_OF_TEXT = 8
"""Bytes of memory for each that text is planned with."""
_OF_PIPELINE = ("compression", "compression_opts", "shuffle", "fletcher32")
_SHUFFLING = ("blosc", "blosc2", "bitshuffle")
"""Codecs that have a shuffle of their own."""


@dataclass(frozen=True, kw_only=True)
class PassedItem(WriteItem):
    """A dataset whose chunks are copied as they are stored."""

    def facts(self) -> JobFacts:
        """Return what makes a job the same one."""
        return self.arranged, None, {"undecoded": True}


@dataclass(frozen=True, kw_only=True)
class RepackedDataset:
    """One dataset of a file that is copied."""

    key: str
    """Its path in the copy."""
    shape: Shape | None
    """Extents; ``None`` of an empty dataspace."""
    dtype: np.dtype[Any] | None
    """``None`` of a type that numpy lacks."""
    chunk_shape: Shape | None
    """As it is stored."""
    filters: tuple[Filter, ...]
    """As it is stored."""
    nbytes: int = 0
    """Bytes that it is stored in."""
    item: Hdf5Item | PassedItem | None = None
    """What writes it; ``None`` of what is copied along with what describes it."""
    properties: h5p.PropDCID | None = field(default=None, repr=False)
    """How it is made, where an item writes it."""
    final_filters: tuple[Filter, ...] = ()
    """As it will be stored."""
    why: str = ""
    """Why it is left as it is although a rule names it."""

    @property
    def is_anew(self) -> bool:
        """Whether its elements are decoded and encoded."""
        return isinstance(self.item, Hdf5Item) and self.why == "" and self.changes

    @property
    def changes(self) -> bool:
        """Whether chunks or filters are others than before."""
        return self.final_chunks != self.chunk_shape or self.final_filters != self.filters

    @property
    def final_chunks(self) -> Shape | None:
        """Chunks as they will be."""
        if isinstance(self.item, Hdf5Item):
            is_run = self.item.options.is_contiguous
            return None if is_run else self.item.arranged.plan.chunk_shape
        return self.chunk_shape

    def row(self) -> tuple[str, ...]:
        """Return its line of the table."""
        chunks, filters = _told(self.chunk_shape), described(self.filters)
        if self.changes:
            chunks += _change(chunks, _told(self.final_chunks))
            filters += _change(filters, described(self.final_filters))
        what = "stored anew" if self.is_anew else "as it is"
        return (
            self.key,
            "empty" if self.shape is None else str(self.shape),
            "?" if self.dtype is None else _type_name(self.dtype),
            chunks,
            filters,
            format_size(self.nbytes),
            f"{what}: {self.why}" if self.why else what,
        )


def _type_name(dtype: np.dtype[Any]) -> str:
    """Return what a table calls a type.

    Examples
    --------
    >>> _type_name(np.dtype("<i2")), _type_name(np.dtype([("x", "f4"), ("y", "f4")]))
    ('int16', 'record of 2')
    >>> _type_name(h5py.string_dtype()), _type_name(h5py.vlen_dtype("i4"))
    ('text', 'rows of int32')
    """
    if dtype.fields is not None:
        return f"record of {len(dtype.fields)}"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    if dtype.hasobject and h5py.check_string_dtype(dtype) is not None:
        return "text"
    base = h5py.check_vlen_dtype(dtype)
    return str(dtype) if base is None else f"rows of {_type_name(np.dtype(base))}"


def _told(chunk_shape: Shape | None) -> str:
    return "-" if chunk_shape is None else str(chunk_shape)


def _change(before: str, after: str) -> str:
    return "" if before == after else f" -> {after}"


class RepackPlan(Mapping[str, Plan]):
    """How each dataset of a copy would be stored, by its path; print it."""

    def __init__(self, datasets: Sequence[RepackedDataset]) -> None:
        self.datasets = tuple(datasets)
        """All of the file, as they come."""
        self._items = {one.key: one.item for one in datasets if one.item is not None}

    def __getitem__(self, key: str) -> Plan:
        """Return the plan of a dataset."""
        return self._items[key].arranged.plan

    def __iter__(self) -> Iterator[str]:
        """Yield the paths of datasets that are not copied along with what describes them."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return the number of those datasets."""
        return len(self._items)

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return what changes as rules, to be edited and given back, or kept as YAML."""
        return {
            one.key: rule_of(one.item)
            for one in self.datasets
            if one.is_anew and isinstance(one.item, Hdf5Item)
        }

    def __str__(self) -> str:
        """Return a table with a line for each dataset."""
        head = ("dataset", "shape", "dtype", "chunks", "filters", "stored", "what becomes of it")
        return as_table([head, *(one.row() for one in self.datasets)])

    __repr__ = __str__


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user said of datasets."""

    settings: Hdf5Settings
    """Memory and workers."""
    common: Mapping[str, Any]
    """What holds for all that no rule says otherwise of."""
    rules: Rules | None
    """As they were given."""

    def rule_for(self, dataset: h5py.Dataset, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return what holds for a dataset; ``own`` is what rules say of it."""
        found: dict[str, Any] = {}
        is_large = dataset.shape is not None and dataset.id.get_storage_size() >= _LEAST_NBYTES
        if dataset.shape and (dataset.chunks is not None or is_large or own):
            found = {name: value for name, value in self.common.items() if value is not None}
            # Explicit None says something of these.
            found |= {name: self.common[name] for name in _NONE_SAYS & self.common.keys()}
            for name in ("access", "chunks"):
                if name in found and not _has_rank(found[name], dataset.ndim):
                    del found[name]
        return {**found, **own}


_NONE_SAYS = {"compression", "chunks", "shuffle"}


def _has_rank(extents: Any, ndim: int) -> bool:
    """Return whether chunks or windows have as many axes as a dataset."""
    if isinstance(extents, tuple):
        return len(extents) == ndim
    if isinstance(extents, list):
        shapes = [one[0] if one and isinstance(one[0], (tuple, list)) else one for one in extents]
        return all(len(shape) == ndim for shape in shapes)
    return True


def dataset_for(
    dataset: h5py.Dataset, key: str, path: str, identity: Identity, wanted: Wanted, own: Any
) -> RepackedDataset:
    """Return what is to become of a dataset."""
    facts = facts_of(dataset, key)
    rule = wanted.rule_for(dataset, own)
    if rule:
        reason = _hindrance(dataset, facts.dtype)
        if not reason:
            try:
                source = replace(describe_dataset(dataset, path), identity=identity)
                found = stored_as(dataset, facts, source, wanted.settings, rule)
            except (UnsupportedDtypeError, SourceError) as error:
                reason = str(error)
            else:
                reason = refusal_of(dataset, found.properties) if found.changes else ""
                if found.changes and not reason:
                    return found
        if reason and names_one(wanted.rules, key):
            msg = f"rule {key!r}: {reason}; leave it out"
            raise OptionError(msg)
        facts = replace(facts, why=reason)
    return _as_it_is(dataset, facts, path, identity, wanted.settings)


def facts_of(dataset: h5py.Dataset, key: str) -> RepackedDataset:
    """Return what is known of a dataset."""
    dtype = None
    with contextlib.suppress(UnsupportedDtypeError):
        # h5py takes bit fields for integers, and libhdf5 does not.
        has_bits = dataset.id.get_type().detect_class(h5py.h5t.BITFIELD)
        dtype = None if has_bits else dtype_of(dataset)
    filters = filters_of(dataset)
    return RepackedDataset(
        key=key,
        shape=None if dataset.shape is None else tuple(map(int, dataset.shape)),
        dtype=dtype,
        chunk_shape=None if dataset.chunks is None else tuple(map(int, dataset.chunks)),
        filters=filters,
        final_filters=filters,
        nbytes=int(dataset.id.get_storage_size()),
    )


def _hindrance(dataset: h5py.Dataset, dtype: np.dtype[Any] | None) -> str:
    """Return why a dataset cannot be stored anew, nothing where it can."""
    if not dataset.shape:
        return "it has no axes, and no chunks"
    if lies_elsewhere(dataset.id.get_create_plist()):
        return "its elements lie in other files, which lazyio.consolidate brings together"
    if dtype is None:
        return "numpy lacks its type"
    if dataset.size == 0 and dataset.maxshape == dataset.shape:
        return "it has no elements"
    if "references" in kinds_in(dataset.id.get_type()):
        return "it holds references"
    if dtype.hasobject and h5py.check_string_dtype(dtype) is None:
        return "its elements differ in length"
    return ""


def stored_as(
    dataset: h5py.Dataset,
    facts: RepackedDataset,
    source: Hdf5Source,
    settings: Hdf5Settings,
    rule: Mapping[str, Any],
) -> RepackedDataset:
    """Return a dataset that is decoded and encoded: by a rule, and else by what is known of it."""
    given = Input(shape=source.shape, dtype=as_dtype(source.dtype), source=source)
    keeps_filters = not any(name in rule for name in _OF_PIPELINE)
    chosen = replace(
        settings,
        chunks=_chunks(facts, rule),
        chunk_nbytes=rule.get("chunk_nbytes"),
        access=rule.get("access"),
        maxshape=None if dataset.maxshape == dataset.shape else dataset.maxshape,
        memory_limit=_limit(source, settings),
        **_pipeline(facts.filters, rule),
    )
    try:
        (item,) = planned(dataset_item, [(facts.key, given)], [chosen])
    except (OptionError, PlanError) as error:
        error.args = (f"dataset {facts.key!r}: {error}",)
        raise
    filters = item.options.filters
    if keeps_filters and not item.options.is_contiguous:
        filters = tuple(map(as_given, facts.filters))
    arranged = replace(item.arranged, stored=_sparse(dataset, source))
    item = replace(item, arranged=arranged, options=replace(item.options, filters=filters))
    is_run = item.options.is_contiguous
    chunks = None if is_run else item.arranged.plan.chunk_shape
    properties = stored_anew(dataset, chunks, filters)
    # libhdf5 completes the options of some.
    is_same = chunks == facts.chunk_shape and makes_filters(dataset, properties, facts.filters)
    return replace(
        facts,
        item=item,
        properties=properties,
        final_filters=facts.filters if is_same else filters,
    )


def _limit(source: Hdf5Source, settings: Hdf5Settings) -> Any:
    """Return the memory limit: of text its objects take several times what the plan counts."""
    if is_text(source.dtype):
        return limit_of(settings.memory_limit) // _OF_TEXT
    return settings.memory_limit


def _sparse(dataset: h5py.Dataset, source: Hdf5Source) -> StoredChunks | None:
    """Return the chunks that are stored of a dataset of which some are not."""
    if not dataset.chunks or not dataset.size or source.identity is None:
        return None
    found = stored_chunks(dataset, source.path, source.identity)
    return found if found is not None and found.is_sparse else None


def _chunks(facts: RepackedDataset, rule: Mapping[str, Any]) -> Any:
    """Return what is said of chunks; as they are where nothing is."""
    if "chunks" in rule:
        return rule["chunks"]
    is_free = "access" in rule or "chunk_nbytes" in rule or facts.chunk_shape is None
    return "auto" if is_free else facts.chunk_shape


def _pipeline(filters: Sequence[Filter], rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of filters; each as it is where nothing is."""
    known = {"shuffle": False, "fletcher32": False}
    codec: dict[str, Any] = {"compression": None, "compression_opts": None}
    for step in map(as_given, filters):
        if step.name in known:
            known[step.name] = True
        else:
            options: Any = step.options
            is_named = step.name == "gzip"
            codec["compression"] = "gzip" if is_named else step.filter_id
            codec["compression_opts"] = options[0] if is_named else options
    if "compression" in rule:
        codec = {"compression": rule["compression"], "compression_opts": None}
        known["shuffle"] = known["shuffle"] and _takes_shuffle(rule["compression"])
    return {**known, **codec, **{name: rule[name] for name in _OF_PIPELINE if name in rule}}


def _takes_shuffle(compression: Any) -> bool:
    """Return whether a codec is worth having elements shuffled before it."""
    name = compression
    if hasattr(compression, "filter_id"):
        name = compression.filter_id
    if isinstance(name, (int, np.integer)) and int(name) in BY_ID:
        name = BY_ID[int(name)].name
    return bool(compression) and name not in _SHUFFLING


def _as_it_is(
    dataset: h5py.Dataset,
    facts: RepackedDataset,
    path: str,
    identity: Identity,
    settings: Hdf5Settings,
) -> RepackedDataset:
    """Return a dataset that is copied as it is."""
    is_plain = not kinds_in(dataset.id.get_type()) and facts.dtype is not None
    if not is_plain or not dataset.shape or lies_elsewhere(dataset.id.get_create_plist()):
        return facts
    if facts.nbytes <= _SMALL_NBYTES and _has_few_chunks(dataset):
        return facts
    if facts.chunk_shape is not None:
        properties = passed_through(dataset)
        chunks = None if properties is None else stored_chunks(dataset, path, identity)
        if chunks is None:
            return facts
        item = passed(facts, chunks, settings)
        return replace(facts, item=item, properties=properties)
    try:
        source = replace(describe_dataset(dataset, path), identity=identity)
        found = stored_as(dataset, facts, source, settings, {"chunks": None})
    except UnsupportedDtypeError:
        return facts
    return replace(found, properties=dataset.id.get_create_plist())


def _has_few_chunks(dataset: h5py.Dataset) -> bool:
    return dataset.chunks is None or dataset.id.get_num_chunks() <= _FEW_CHUNKS


def passed(
    facts: RepackedDataset, chunks: StoredChunks | JoinedChunks, settings: Hdf5Settings
) -> PassedItem:
    """Return a dataset whose chunks are copied as they are stored, with its plan."""
    dtype, limit = as_dtype(facts.dtype), limit_of(settings.memory_limit)
    whole, largest = chunks.sizes
    each = max(min(RUN_NBYTES, whole), largest) + nbytes_of(chunks.chunk_shape, dtype)
    workers = default_workers(settings.scheduler) if settings.workers is None else settings.workers
    fitting = max(1, min(workers, limit // each))
    if each > limit:
        why = f"a stored chunk of {facts.key!r} and what is read with it need {each} bytes"
        raise limit_too_small(limit, why, each)
    grid = grid_shape(chunks.shape, chunks.chunk_shape)
    mean = max(1, whole // max(1, chunks.n_stored))
    together = rows_of(grid, mean, 4 * RUN_NBYTES)
    block = tuple(
        max(step, min(count * step, extent))
        for count, step, extent in zip(together, chunks.chunk_shape, chunks.shape, strict=True)
    )
    layout = Layout(shape=chunks.shape, chunk_shape=chunks.chunk_shape, block_shape=block)
    plan = Plan(
        layout=layout,
        dtype=dtype,
        workers=fitting,
        memory_limit=limit,
        peak_nbytes=fitting * each,
        source_chunk_shape=chunks.chunk_shape,
    )
    given = Input(shape=chunks.shape, dtype=dtype)
    form = stored(dtype, "hdf5")
    return PassedItem(
        arranged=PlannedArray(key=facts.key, given=given, plan=plan, form=form, payloads=chunks)
    )


def settings_given(**given: Any) -> dict[str, Any]:
    """Return what is said of all datasets, of what rules may say."""
    return {name: given[name] for name in OF_ANY_DATASET if name in given}
