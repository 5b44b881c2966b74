"""Arrays on their way to a target: under which key, how cut, and what is stored of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.blocks import as_blocks
from lazyio.elements import Stored, stored
from lazyio.errors import OptionError, PlanError
from lazyio.grid import Region
from lazyio.inputs import Input, recognise
from lazyio.options import as_fill_value, wishes_for
from lazyio.planning import Plan, solve
from lazyio.planning.budget import COPIES, ENCODE_COPIES
from lazyio.planning.growing import with_chunks
from lazyio.planning.window import within
from lazyio.run.write import Job
from lazyio.sizes import format_size
from lazyio.sources.wrapped import is_xarray
from lazyio.spec import Shape, as_dtype, nbytes_of
from lazyio.targets.base import Target


@dataclass(frozen=True, kw_only=True)
class Cutting:
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


@dataclass(frozen=True, kw_only=True)
class Arranged:
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

    def job(self, target: Target, window: Region | None = None) -> Job:
        """Return what runs it to a target, or to a part of one."""
        return Job(
            plan=self.plan,
            target=target,
            source=self.given.source,
            array=self.given.array,
            key=self.key,
            window=window,
            convert=self._to(target),
        )

    def _to(self, target: Target) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        """Return the way from a block to elements as the target has them."""
        form = self.form

        def convert(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if isinstance(block, np.ma.MaskedArray) or self.given.mask_fill is not None:
                gap = form.decode(np.asarray(target.fill_value, form.dtype).reshape(1))[0]
                block = _filled(block, gap)
            elements = form.encode(_cast(block, form.original))
            return elements.astype(target.dtype, copy=False)

        return convert


def _cast(block: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a block as another dtype; numpy lets times that do not fit turn into others.

    Raises
    ------
    OverflowError
        When a time lies outside of what a finer unit reaches.
    """
    found = block.astype(dtype, copy=False)
    is_finer = dtype.kind in "mM" and dtype != block.dtype and block.dtype.kind == dtype.kind
    if is_finer and np.can_cast(block.dtype, dtype, "safe"):
        back = found.astype(block.dtype)
        if bool(((back != block) & ~np.isnat(block)).any()):
            msg = f"a time lies outside of what {dtype} reaches; give dtype= with a coarser unit"
            raise OverflowError(msg)
    return found


def _filled(block: npt.NDArray[Any], gap: Any) -> npt.NDArray[Any]:
    """Return a masked block with its gaps filled, if no value of it would be taken for one.

    Raises
    ------
    ValueError
        When a value that is there is the one that fills gaps.
    """
    values = np.ma.getdata(block)
    is_there = ~np.ma.getmaskarray(block)
    # What is not a number is no value that gaps could be confused with.
    if bool((is_there & (values == gap)).any()):
        msg = (
            f"a value that is there is {gap!r}, with which gaps are filled, and would become one; "
            "give a fill value that the data does not have"
        )
        raise ValueError(msg)
    return np.ma.filled(block, gap)


def items_of(data: Any, prefix: str) -> list[tuple[str, Input]]:
    """Return what is to be written, each under its key.

    Parameters
    ----------
    data : mapping or array
        One array, or several by key.
    prefix : str
        The key of one array; of several the group that they go to.

    Raises
    ------
    OptionError
        When a mapping is empty or has a key that is no text.
    """
    if not isinstance(data, Mapping) or is_xarray(data, "Dataset"):
        return [(prefix, recognise(data))]
    if not data or not all(isinstance(key, str) for key in data):
        msg = f"a mapping with the keys {list(data)}; give at least one, each of them text"
        raise OptionError(msg)
    group = prefix.strip("/")
    items = [
        (f"{group}/{key.strip('/')}" if group else key, recognise(value))
        for key, value in data.items()
    ]
    return _sharing(items)


def refuse_clashes(keys: Sequence[str]) -> None:
    """Refuse arrays of which one would lie at the path of another, or below it.

    Raises
    ------
    OptionError
        Naming both.

    Examples
    --------
    >>> refuse_clashes(["a", "b/c", "b/d"])
    """
    seen = set()
    for key in keys:
        if key in seen:
            msg = f"two arrays have the key {key!r}; give every array its own"
            raise OptionError(msg)
        seen.add(key)
    for key in keys:
        above = next((other for other in seen if key.startswith(f"{other}/")), None)
        if above is not None:
            msg = (
                f"the key {key!r} lies below {above!r}, and an array holds no other; choose another"
            )
            raise OptionError(msg)


def _sharing(items: list[tuple[str, Input]]) -> list[tuple[str, Input]]:
    """Take arrays that others are made of from the graph too, so that they are read once."""

    def is_shared(at: int, given: Input) -> bool:
        return given.array is not None and any(
            other.array is not None and given.array.name in other.array.dask.layers
            for position, (_, other) in enumerate(items)
            if position != at
        )

    return [
        (key, replace(given, source=None) if is_shared(at, given) else given)
        for at, (key, given) in enumerate(items)
    ]


def arrange(
    key: str,
    given: Input,
    cutting: Cutting,
    *,
    dtype: Any = None,
    fill_value: Any = None,
    fill_name: str = "fill_value",
) -> Arranged:
    """Return an array with its plan.

    Parameters
    ----------
    key : str
        Under which it goes.
    given : Input
        What it is.
    cutting : Cutting
        How it is to be cut.
    dtype : dtype-like, optional
        Cast to this type.
    fill_value : scalar, optional
        Before it is stored.
    fill_name : str
        The argument that it was given for.

    Raises
    ------
    PlanError, OptionError, UnsupportedDtypeError
        Before anything is read.
    """
    element = given.dtype if dtype is None else as_dtype(dtype)
    form = stored(element, cutting.format)
    value = None if fill_value is None else as_fill_value(fill_name, fill_value, element)
    if value is None and given.mask_fill is not None:
        # numpy's own, which it has chosen without knowing the dtype all too well.
        with np.errstate(all="ignore"):
            value = np.asarray(given.mask_fill).astype(element)[()]
    if value is not None:
        value = form.encode(np.asarray(value, element).reshape(1))[0]
    wishes = wishes_for(
        memory_limit=cutting.memory_limit,
        workers=cutting.workers,
        chunks=cutting.chunks,
        chunk_nbytes=cutting.chunk_nbytes,
        access=cutting.access,
        shards=cutting.shards,
        format=cutting.format,
        reads_whole_chunks=cutting.reads_whole_chunks,
        codec=cutting.codec,
        dims=given.dims,
        scheduler=cutting.scheduler,
    )
    facts = given.facts(form.dtype, own_blocks=cutting.chunks is True)
    plan = solve(facts, wishes)
    return Arranged(key=key, given=given, plan=plan, form=form, fill_value=value)


def in_whole_chunks(
    make: Callable[[int | None], Arranged],
    chunk_shape: Shape,
    *,
    n_copies: int,
    workers_fixed: bool,
) -> Arranged:
    """Return an array planned for chunks that are there, and may reach beyond it.

    Parameters
    ----------
    make : callable
        Plans the array under a memory limit, ``None`` for the user's.
    chunk_shape : tuple of int
        What is written whole.
    n_copies : int
        Chunks that each worker holds beside those that encoding takes.
    workers_fixed : bool
        Whether there must not be fewer workers.

    Raises
    ------
    PlanError
        When the smallest blocks leave them no room.
    """
    arranged = make(None)
    plan = arranged.plan
    options: dict[str, Any] = {"n_copies": n_copies, "workers_fixed": workers_fixed}
    try:
        return replace(arranged, plan=with_chunks(plan, chunk_shape, **options))
    except PlanError:
        # Blocks as large as the limit allows leave no room: they are made smaller.
        nbytes = nbytes_of(chunk_shape, plan.dtype)
        longer = ENCODE_COPIES * max(0, nbytes - plan.chunk_nbytes)
        beside = plan.workers * (n_copies * nbytes + longer)
        limit = plan.memory_limit - -(-beside * 9 // 8)
        if limit <= 0:
            raise
    smaller = replace(make(limit).plan, memory_limit=plan.memory_limit)
    return replace(arranged, plan=with_chunks(smaller, chunk_shape, **options))


def in_window(arranged: Arranged, region: Region) -> Arranged:
    """Return an array with its plan fitted to the chunks of the part that it goes to."""
    plan = within(arranged.plan, tuple(part.start for part in region))
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


def sharing_memory(several: Sequence[Arranged]) -> list[Arranged]:
    """Return arrays with plans for one run, of which each was made as if it were alone.

    Parts of chunks share the memory that is left. What graphs have in common
    is held until the last of them has had it: one more copy of a block.

    Raises
    ------
    PlanError
        When that does not fit; names the smallest limit that would do.
    """
    graphs = [one for one in several if one.given.source is None and one.given.array is not None]
    if len(graphs) < 2:
        return list(several)
    limit = min(one.plan.memory_limit for one in graphs)
    workers = min(one.plan.workers for one in graphs)
    each = max(map(_beside_gathering, graphs))
    if _have_something_in_common(graphs):
        each += each // COPIES
        workers = max(1, min(workers, limit // max(1, each)))
    if workers * each > limit:
        msg = (
            f"memory_limit={format_size(limit)} ({limit} bytes) is too small for {len(graphs)} "
            "arrays that have blocks in common, which are held for all of them; the smallest "
            f"limit that would do is memory_limit={workers * each}, or write one at a time"
        )
        raise PlanError(msg)
    gather = (limit - workers * each) // (2 * len(graphs))
    shared = {one.key: _in_one_run(one, workers, workers * each, gather) for one in graphs}
    return [shared.get(one.key, one) for one in several]


def _beside_gathering(one: Arranged) -> int:
    """Return the bytes that each worker holds beside parts of chunks that wait."""
    plan = one.plan
    return -(-(plan.peak_nbytes - plan.gather_nbytes) // plan.workers)


def _have_something_in_common(graphs: Sequence[Arranged]) -> bool:
    """Return whether any two arrays are made of the same."""
    layers = [set(one.given.array.dask.layers) for one in graphs if one.given.array is not None]
    return len(set().union(*layers)) < sum(map(len, layers))


def _in_one_run(one: Arranged, workers: int, beside: int, gather_nbytes: int) -> Arranged:
    """Return an array with its share of the memory of a run."""
    plan = one.plan
    gather = min(gather_nbytes, plan.gather_nbytes)
    peak = beside + gather
    return replace(one, plan=replace(plan, workers=workers, gather_nbytes=gather, peak_nbytes=peak))


def rows_of(shape: Shape, itemsize: int, nbytes: int) -> Shape:
    """Return the longest run of an array in C order of at most some bytes, as a box.

    Examples
    --------
    >>> rows_of((1000, 64), 2, 2**14)
    (128, 64)
    >>> rows_of((1000, 100000), 2, 2**14)
    (1, 8192)
    """
    room = max(1, nbytes // max(1, itemsize))
    found = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        found[axis] = max(1, min(shape[axis], room // math.prod(found)))
        if found[axis] < shape[axis]:
            break
    return tuple(found)
