"""One array on its way to a target: under which key, how it is cut, and what is stored of it."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.atomic.journal import ResumeState
from lazyio.dtypes import Shape, Stored, as_dtype, is_same_value, stored
from lazyio.errors import OptionError, PlanError
from lazyio.execution.dask_arrays import as_blocks
from lazyio.execution.task import WriteTask
from lazyio.inputs import RECOMMENDED, Input
from lazyio.iterables.sparse import SparseBlocks
from lazyio.options import as_fill_value
from lazyio.planning import Plan, solve
from lazyio.planning.plan import plan_region
from lazyio.planning.request import PlanRequest
from lazyio.regions import Bounds, Region
from lazyio.sources.stored_chunks import PayloadSource, StoredChunks
from lazyio.storage.base import Target
from lazyio.storage.region_target import SharedArray

Made = TypeVar("Made")


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
    payloads: PayloadSource | None = None
    """Its chunks as they are stored already, where they are copied undecoded."""
    stored: StoredChunks | None = None
    """Chunks of a sparse source that are stored; what is made of it stays sparse."""
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
            source=self.given.source if self.payloads is None else None,
            array=self.given.array,
            payloads=self.payloads,
            stored=self.stored,
            stream=self.given.stream,
            pieces=self.given.pieces,
            parts=self.given.parts,
            key=self.key,
            window=window,
            keeping=keeping,
            shared=shared,
            convert=self.conversion(target.dtype, target.fill_value),
            on_masked=lambda: self.masked.add(self.key),
        )

    def conversion(
        self, dtype: np.dtype[Any], fill_value: Any
    ) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        """Return the way from a block to elements as a target has them."""
        return Conversion(
            form=self.form,
            dtype=dtype,
            fill_value=fill_value,
            may_be_masked=self.given.mask_fill is not None,
            masked=self.masked,
            key=self.key,
        )


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The way from a block to elements as a target has them, which may be taken elsewhere."""

    form: Stored
    """How elements are stored."""
    dtype: np.dtype[Any]
    """Of the target."""
    fill_value: Any
    """Of the target."""
    may_be_masked: bool
    """Whether blocks have masks."""
    masked: set[str]
    """Takes the array's key once masked elements came."""
    key: str
    """Of the array."""

    def __call__(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the elements of a block."""
        form = self.form
        if isinstance(block, np.ma.MaskedArray) or self.may_be_masked:
            if np.ma.is_masked(block):
                self.masked.add(self.key)
            gap = form.decode(np.asarray(self.fill_value, form.dtype).reshape(1))[0]
            block = _filled(block, gap)
        elements = form.encode(_cast(block, form.original))
        return elements.astype(self.dtype, copy=False)


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
    request: PlanRequest,
    *,
    dtype: Any = None,
    fill_value: Any = None,
    fill_name: str = "fill_value",
    max_shape: Bounds | None = None,
    is_part: bool = False,
    merges_chunks: bool = False,
) -> PlannedArray:
    """Return an array with its plan."""
    element = given.dtype if dtype is None else as_dtype(dtype)
    form = stored(element, request.format)
    value = None if fill_value is None else as_fill_value(fill_name, fill_value, element)
    if value is None and given.mask_fill is not None:
        # numpy's own, which it has chosen without knowing the dtype all too well.
        with np.errstate(all="ignore"):
            value = np.asarray(given.mask_fill).astype(element)[()]
    if value is not None:
        value = form.encode_one(value)
    if isinstance(given.pieces, SparseBlocks) and value:
        msg = (
            f"{fill_name}={fill_value!r}: a sparse matrix is zero where nothing is stored, and "
            "would read as that there; leave it out"
        )
        raise OptionError(msg)
    facts = replace(
        given.facts(form.dtype, own_blocks=request.chunks is True),
        max_shape=max_shape or given.bounds,
        is_part=is_part,
        merges_chunks=merges_chunks,
    )
    plan = solve(facts, replace(request, dims=given.dims))
    return PlannedArray(key=key, given=given, plan=plan, form=form, fill_value=value)


def in_window(arranged: PlannedArray, region: Region) -> PlannedArray:
    """Return an array with its plan fitted to the chunks of the part that it goes to."""
    plan = plan_region(arranged.plan, tuple(part.start for part in region))
    return replace(arranged, plan=plan)


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
