"""One array on its way to a target: under which key, how it is cut, and what is stored of it."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.atomic.journal import ResumeState
from lazyio.dtypes import Shape, Stored, as_dtype, is_same_value, nbytes_of, stored
from lazyio.errors import OptionError, PlanError
from lazyio.execution.dask_arrays import as_blocks
from lazyio.execution.task import WriteTask
from lazyio.inputs import RECOMMENDED, Input
from lazyio.iterables.base import BlockIterator
from lazyio.iterables.sparse import SparseBlocks
from lazyio.iterables.stream import Stream
from lazyio.options import as_fill_value, plan_request
from lazyio.planning import ArraySpec, Plan, solve
from lazyio.planning.budget import ENCODE_COPIES, LimitTooSmall, within_limit
from lazyio.planning.chunks import extents_asked, with_chunks
from lazyio.planning.iterables import plan_assembled, plan_region, plan_stream
from lazyio.planning.plan import Advice
from lazyio.planning.request import PlanRequest
from lazyio.regions import Bounds, Region
from lazyio.storage.base import Target
from lazyio.storage.region_target import SharedArray

_UNKNOWN_LENGTH = (
    "chunks are made for a stream of some length; expected_length= suits them to a short one"
)


Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How the user wants arrays to be cut, as it was given; the same for all of one call."""

    format: str
    """Of the target: ``hdf5`` or ``zarr``."""
    chunks: Any = "auto"
    """As in :func:`lazyio.plan`."""
    chunk_nbytes: Any = None
    """As in :func:`lazyio.plan`."""
    access: Any = None
    """As in :func:`lazyio.plan`."""
    shards: Any = None
    """As in :func:`lazyio.plan`."""
    memory_limit: Any = None
    """Bytes for everything in flight."""
    workers: Any = None
    """Blocks in flight."""
    reads_whole_chunks: bool = True
    """Whether readers decode a chunk to get a part of it."""
    codec: str | None = None
    """Name of the codec, where it is known."""
    scheduler: Any = None
    """What computes graphs, whose workers are counted."""
    block_shape: Any = None
    """As in :func:`lazyio.plan`."""
    strategy: str = "auto"
    """As in :func:`lazyio.plan`."""


@dataclass(frozen=True, kw_only=True)
class PlannedArray:
    """One array, planned: nothing has been opened or computed."""

    key: str
    """Under which it goes."""
    given: Input
    """What it is."""
    plan: Plan
    """How it is cut."""
    form: Stored
    """How its elements are stored."""
    fill_value: Any = None
    """As it is stored; ``None`` leaves it to the format."""
    masked: set[str] = field(default_factory=set, compare=False, repr=False)
    """Not empty once masked elements came, of whatever part of the array."""

    @property
    def bounds(self) -> Bounds | None:
        """How far it may grow while it is written, ``None`` where it does not."""
        return self.given.bounds

    @property
    def first_shape(self) -> Shape:
        """Extents that it is made with."""
        if self.given.pieces is not None:
            return self.given.pieces.shape
        if self.given.stream is None:
            return self.plan.shape
        return tuple(extent or 0 for extent in self.given.stream.maxshape)

    def job(
        self,
        target: Target,
        window: Region | None = None,
        keeping: ResumeState | None = None,
        shared: SharedArray | None = None,
    ) -> WriteTask:
        """Return what runs it to a target, or to a part of one."""
        return WriteTask(
            plan=self.plan,
            target=target,
            source=self.given.source,
            array=self.given.array,
            stream=self.given.stream,
            pieces=self.given.pieces,
            key=self.key,
            window=window,
            keeping=keeping,
            shared=shared,
            convert=self._to(target),
        )

    def _to(self, target: Target) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        """Return the way from a block to elements as the target has them."""
        form = self.form

        def convert(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if isinstance(block, np.ma.MaskedArray) or self.given.mask_fill is not None:
                if np.ma.is_masked(block):
                    self.masked.add(self.key)
                gap = form.decode(np.asarray(target.fill_value, form.dtype).reshape(1))[0]
                block = _filled(block, gap)
            elements = form.encode(_cast(block, form.original))
            return elements.astype(target.dtype, copy=False)

        return convert


def _cast(block: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a block as another dtype; numpy lets times that do not fit turn into others."""
    found = block.astype(dtype, copy=False)
    is_finer = dtype.kind in "mM" and dtype != block.dtype and block.dtype.kind == dtype.kind
    if is_finer and np.can_cast(block.dtype, dtype, "safe"):
        back = found.astype(block.dtype)
        if bool(((back != block) & ~np.isnat(block)).any()):
            msg = f"a time lies outside of what {dtype} reaches; give dtype= with a coarser unit"
            raise OverflowError(msg)
    return found


def _filled(block: npt.NDArray[Any], gap: Any) -> npt.NDArray[Any]:
    """Return a masked block with its gaps filled, if no value of it would be taken for one."""
    values = np.ma.getdata(block)
    is_there = ~np.ma.getmaskarray(block)
    # What is not a number is no value that gaps could be confused with.
    if bool((is_there & (values == gap)).any()):
        msg = (
            f"a value that is there is {gap!r}, with which gaps are filled, and would become one; "
            "fill the gaps yourself with .filled(value), or write a new array with a fill value "
            "that the data does not have"
        )
        raise ValueError(msg)
    return np.ma.filled(block, gap)


def with_attributes(
    own: Mapping[str, Any], given: Mapping[str, Any], fill_name: str
) -> dict[str, Any]:
    """Return an array's attributes; none may say of its elements what is not so."""
    for name in own.keys() & given.keys():
        if not is_same_value(own[name], given[name]):
            remedy = "leave it out, or store numbers of your own with it"
            if name == "_FillValue":
                remedy = f"give {fill_name}= that value"
            msg = (
                f"attribute {name!r} is {given[name]!r}, and the elements are stored with "
                f"{own[name]!r}, so that readers would take them for others; {remedy}"
            )
            raise OptionError(msg)
    return {**own, **given}


def plan_array(
    key: str,
    given: Input,
    cutting: PlanOptions,
    *,
    dtype: Any = None,
    fill_value: Any = None,
    fill_name: str = "fill_value",
) -> PlannedArray:
    """Return an array with its plan."""
    element = given.dtype if dtype is None else as_dtype(dtype)
    form = stored(element, cutting.format)
    value = None if fill_value is None else as_fill_value(fill_name, fill_value, element)
    if value is None and given.mask_fill is not None:
        # numpy's own, which it has chosen without knowing the dtype all too well.
        with np.errstate(all="ignore"):
            value = np.asarray(given.mask_fill).astype(element)[()]
    if value is not None:
        value = form.encode_one(value)
    wishes = plan_request(
        memory_limit=cutting.memory_limit,
        workers=cutting.workers,
        chunks=cutting.chunks,
        chunk_nbytes=cutting.chunk_nbytes,
        access=cutting.access,
        shards=cutting.shards,
        format=cutting.format,
        reads_whole_chunks=cutting.reads_whole_chunks,
        codec=cutting.codec,
        block_shape=cutting.block_shape,
        strategy=cutting.strategy,
        dims=given.dims,
        scheduler=cutting.scheduler,
    )
    asked = extents_asked(cutting.chunks, len(given.shape), given.dims)
    if given.bounds is not None:
        given = replace(given, shape=_lengthened(given.bounds, given.shape, asked))
    if isinstance(given.pieces, SparseBlocks) and value:
        msg = (
            f"{fill_name}={fill_value!r}: a sparse matrix is zero where nothing is stored, and "
            "would read as that there; leave it out"
        )
        raise OptionError(msg)
    facts = given.facts(form.dtype, own_blocks=cutting.chunks is True)
    plan = solve(facts, wishes)
    if given.stream is not None:
        plan = _slabs_of(given.stream, plan, facts, wishes, asked)
    if given.pieces is not None:
        is_fixed = any(asked) or plan.shard_shape is not None
        plan = _units_of(plan, facts, wishes, is_fixed=is_fixed)
        plan = replace(plan, advice=_advice_on_pieces(plan, given.pieces))
    return PlannedArray(key=key, given=given, plan=plan, form=form, fill_value=value)


def _units_of(plan: Plan, facts: ArraySpec, wishes: PlanRequest, *, is_fixed: bool) -> Plan:
    """Return the plan of pieces, with chunks small enough that some of them can wait."""
    while True:
        try:
            return plan_assembled(plan, facts.itemsize, workers_fixed=wishes.workers_fixed)
        except PlanError:
            if is_fixed or plan.chunk_nbytes < 2 * facts.itemsize:
                raise
            wishes = replace(wishes, chunk_nbytes=(None, plan.chunk_nbytes // 2))
            plan = solve(facts, wishes)


def _advice_on_pieces(plan: Plan, pieces: BlockIterator) -> Advice:
    """Return hints on what the user chose; nobody knows how many chunks are touched."""
    unwanted = {"many-files"}
    if plan.chunk_shape == pieces.chunk_shape:
        unwanted.add("tiny-chunks")
    return tuple(pair for pair in plan.advice if pair[0] not in unwanted)


def _lengthened(bounds: Bounds, shape: Shape, asked: Sequence[int | None]) -> Shape:
    """Return extents in which the chunks have room that were asked for, where there is no bound."""
    return tuple(
        max(extent, wish or 1) if bound is None else extent
        for extent, wish, bound in zip(shape, asked, bounds, strict=True)
    )


def _slabs_of(
    stream: Stream, plan: Plan, facts: ArraySpec, wishes: PlanRequest, asked: list[int | None]
) -> Plan:
    """Return the plan of a stream, with chunks short enough that a row of them fits."""
    axis, itemsize = stream.axis, stream.dtype.itemsize
    is_open = all(wish is None for wish in asked)
    is_fixed = asked[axis] is not None or plan.shard_shape is not None
    while True:
        try:
            plan = plan_stream(plan, axis, itemsize, workers_fixed=wishes.workers_fixed)
            break
        except PlanError:
            if is_fixed or plan.chunk_shape[axis] == 1:
                raise
            # Shorter chunks, which then may be as wide as an element is.
            asked[axis] = plan.chunk_shape[axis] // 2
            plan = solve(facts, replace(wishes, chunks=tuple(asked), access=None))
    if stream.expected_length is None and is_open:
        advice = ("stream-length", _UNKNOWN_LENGTH)
        plan = replace(plan, advice=(*plan.advice, advice))
    return plan


def in_whole_chunks(
    make: Callable[[int | None], PlannedArray],
    chunk_shape: Shape,
    *,
    n_copies: int,
    workers_fixed: bool,
) -> PlannedArray:
    """Return an array planned for chunks that are there, and may reach beyond it."""

    def limited(limit: int | None) -> PlannedArray:
        return _in_whole_chunks(
            make, limit, chunk_shape, n_copies=n_copies, workers_fixed=workers_fixed
        )

    return within_limit(limited)


def _in_whole_chunks(
    make: Callable[[int | None], PlannedArray],
    limit: int | None,
    chunk_shape: Shape,
    *,
    n_copies: int,
    workers_fixed: bool,
) -> PlannedArray:
    arranged = make(limit)
    plan = arranged.plan
    options: dict[str, Any] = {"n_copies": n_copies, "workers_fixed": workers_fixed}
    try:
        return replace(arranged, plan=with_chunks(plan, chunk_shape, **options))
    except LimitTooSmall as error:
        # Blocks as large as the limit allows leave no room: they are made smaller.
        nbytes = nbytes_of(chunk_shape, plan.dtype)
        longer = ENCODE_COPIES * max(0, nbytes - plan.chunk_nbytes)
        beside = plan.workers * (n_copies * nbytes + longer)
        room = plan.memory_limit - -(-beside * 9 // 8)
        if room <= 0:
            raise
        try:
            smaller = replace(make(room).plan, memory_limit=plan.memory_limit)
        except LimitTooSmall:
            raise error from None
    return replace(arranged, plan=with_chunks(smaller, chunk_shape, **options))


def in_window(arranged: PlannedArray, region: Region) -> PlannedArray:
    """Return an array with its plan fitted to the chunks of the part that it goes to."""
    plan = plan_region(arranged.plan, tuple(part.start for part in region))
    # Advice is on what the user chose, and those chunks were there.
    return replace(arranged, plan=replace(plan, advice=()))


def expanded(given: Input, axes: Sequence[int]) -> Input:
    """Return an array with axes of one element put in, where an integer stands in its region."""
    if not axes:
        return given
    array = given.array
    if array is None and given.source is not None:
        array = as_blocks(given.source, tuple(max(1, extent) for extent in given.shape))
    if array is None:
        return given
    grown: da.Array = array
    for axis in axes:
        grown = da.expand_dims(grown, axis)
    return replace(given, shape=tuple(map(int, grown.shape)), array=grown, source=None, dims=())


def as_recommended(
    make: Callable[[Any], Made], settings: Any, given: Input, *, is_open: bool
) -> Made:
    """Make something with the chunks that its data recommend, where nobody has a wish for them.

    They yield to the memory limit. ``is_open`` tells that the user gave no chunks.
    """
    recommended = given.settings.get(RECOMMENDED)
    is_auto = isinstance(settings.chunks, str) and settings.chunks == "auto"
    has_wishes = settings.chunk_nbytes is not None or settings.access is not None
    if recommended is not None and is_open and is_auto and not has_wishes:
        with contextlib.suppress(PlanError):
            return make(replace(settings, chunks=recommended))
    return make(settings)
