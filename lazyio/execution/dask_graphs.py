"""Blocks that dask graphs compute, in this process: each goes to its consumer once.

Several arrays are one graph, so that what they share is computed once.

dask's own optimisation reads a source anew for every array that uses it. That
bounds memory where an array needs all of a source before any of its blocks,
as ``x - x.mean()`` does, and doubles the reading where it does not. Here a
block is shared by those tasks that need nothing else, so that it is gone as
soon as they ran; all others read their own.

No result waits in the scheduler, so as many blocks are in memory as there are
threads.
"""

import math
import threading
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import dask.local
import dask.threaded
import numpy as np
import numpy.typing as npt
from dask.base import optimize
from dask.blockwise import optimize_blockwise
from dask.callbacks import Callback
from dask.core import get_dependencies
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.task_spec import Alias, DataNode
from dask.utils import ensure_dict

from lazyio.codecs.workspace import Workspace
from lazyio.errors import BlockError, LazyioError, OptionError, PlanError
from lazyio.execution.dask_inner_state import failed_key, reading_apart
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.workers import WrittenBlock, checked_block
from lazyio.regions import Region, cuts, format_region
from lazyio.storage.base import ChunkWriter, TakesEncoded

Consume = Callable[[Region, npt.NDArray[Any], Workspace], None]
Done = Callable[[Region], object]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The blocks of one array, and who takes them."""

    array: da.Array
    """With known block sizes."""
    consume: Consume
    """Given a region, its block and a thread's own workspace."""
    on_done: Done
    """Given each region after it was consumed, on the thread that waits."""
    elsewhere: "Elsewhere | None" = None
    """How other processes write its blocks, ``None`` where blocks have to come here."""
    is_kept: Callable[[Region], bool] | None = None
    """Whether a block is not wanted, because it already exists."""

    def regions(self) -> "Regions":
        """Return where each block lies that is wanted, by its position in the grid of blocks."""
        places = zip(np.ndindex(*self.array.numblocks), cuts(self.array.chunks), strict=True)
        return {at: region for at, region in places if not (self.is_kept and self.is_kept(region))}

    def check(self, block: Any, region: Region) -> npt.NDArray[Any]:
        """Return a block that is what the array promised, so that nothing is broadcast.

        Masked arrays stay masked: what their gaps are filled with is for the
        consumer to say.
        """
        return checked_block(block, region, self.array.dtype)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """How the blocks of an array are written by the processes that compute them."""

    target: TakesEncoded
    """What takes note of chunks."""
    writer: ChunkWriter
    """What encodes and writes them there."""
    key: str
    """What errors call the array."""
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    """From a block to elements as they are stored."""
    window: Region | None
    """The part of the array that is written; by default all of it."""
    take: Callable[[WrittenBlock, Callable[[], object], Workspace], object]
    """Takes a block, what takes note of its chunks, and a thread's own workspace."""
    batch_nbytes: int
    """Of payloads that may wait in a thread until their places are asked for together."""
    group_nbytes: int
    """Of blocks that one task may write in turn; it holds one of them, and what is known of all."""


def as_dask_array(collection: Any) -> da.Array:
    """Return any dask collection of blocks as dask's own array."""
    if not isinstance(collection, da.Array):
        chunks, dtype = getattr(collection, "chunks", None), getattr(collection, "dtype", None)
        keys = collection.__dask_keys__()
        first = keys
        while isinstance(first, list) and first:
            first = first[0]
        if not isinstance(chunks, tuple) or dtype is None or not isinstance(first, tuple):
            kind = type(collection).__name__
            msg = (
                f"a dask {kind} is not an array; convert it first, as with "
                ".to_dask_array(lengths=True)"
            )
            raise OptionError(msg)
        graph = collection.__dask_graph__()
        if first[0] not in getattr(graph, "layers", ()):
            graph = ensure_dict(graph)
        meta = getattr(collection, "_meta", None)
        known = {} if meta is None else {"meta": meta}
        collection = da.Array(graph, first[0], chunks, dtype=np.dtype(dtype), **known)
    if any(math.isnan(size) for sizes in collection.chunks for size in sizes):
        msg = (
            f"the array's chunks {collection.chunks} are not known (NaN); call "
            ".compute_chunk_sizes() first, which computes it once"
        )
        raise PlanError(msg)
    found: da.Array = collection
    return found


def block_error(error: BaseException, region: Region | None) -> BlockError:
    """Return the error of a block that could not be computed, naming its region."""
    where = "(its place is not known)" if region is None else format_region(region)
    msg = f"computing block {where} failed: {type(error).__name__}: {error}"
    return BlockError(msg)


Tasks = dict[Any, Any]
"""By key."""

Results = Generator[tuple[Any, Callable[[], Any]], None, None]
"""Keys of blocks that are done, and how to get them."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The tasks that compute blocks of some arrays."""

    tasks: Tasks
    """All of them."""
    annotated: tuple[tuple[Mapping[str, Any], frozenset[Any]], ...] = ()
    """Keys of each layer with its annotations, where any layer has some."""


def merged_graph(arrays: Sequence[da.Array], keys: Sequence[Any]) -> Graph:
    """Return the tasks that compute blocks of some arrays."""
    is_annotated = any(layer.annotations for one in arrays for layer in one.dask.layers.values())
    # dask forgets annotations where it fuses more than blockwise layers.
    if len(arrays) == 1 and not is_annotated:
        (optimized,) = optimize(*arrays)
        found = dict(ensure_dict(optimized.__dask_graph__()))
        # Of blocks that a cluster holds already nothing is left to optimise, nor to find.
        whole = found if found.keys() >= set(keys) else dict(ensure_dict(arrays[0].dask))
        is_all = len(keys) == arrays[0].npartitions
        return Graph(tasks=whole if is_all else part_of(whole, keys))
    graph = HighLevelGraph.merge(*(array.dask for array in arrays))
    graph = optimize_blockwise(graph, keys=keys)
    graph = reading_apart(graph)
    graph = optimize_blockwise(graph, keys=keys)
    layered = graph.cull(keys)
    layers = layered.layers.values() if is_annotated else ()
    return Graph(
        tasks=dict(ensure_dict(layered)),
        annotated=tuple((layer.annotations or {}, frozenset(layer)) for layer in layers),
    )


def part_of(tasks: Tasks, keys: Sequence[Any]) -> Tasks:
    """Return those tasks that some keys need: schedulers look at all that they are given."""
    found: Tasks = cull(tasks, keys)[0]
    return found


def is_ready(tasks: Tasks, key: Any) -> bool:
    """Return whether a task is data that lie ready."""
    return isinstance(tasks[key], (Alias, DataNode)) and not get_dependencies(tasks, key)


def is_disjoint(tasks: Tasks, keys: Sequence[Any]) -> bool:
    """Return whether no two blocks need the same task; data lying ready does not count."""
    owner: dict[Any, Any] = {}
    for key in keys:
        reached = [key]
        while reached:
            at = reached.pop()
            if at != key and is_ready(tasks, at):
                continue
            needed = get_dependencies(tasks, at)
            if owner.setdefault(at, key) != key:
                return False
            reached.extend(other for other in needed if owner.get(other) != key)
    return True


def run_here(deliveries: Sequence[Delivery], scheduler: Scheduler, *, n_workers: int) -> None:
    """Compute every block in this process' threads, or in the calling one."""
    states = threading.local()
    runs = {f"lazyio-write-{uuid.uuid4().hex}": (one, one.regions()) for one in deliveries}
    arrays = [_delivered(name, *run, states) for name, run in runs.items()]

    def note(key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] in runs:
            delivery, regions = runs[key[0]]
            try:
                delivery.on_done(regions[key[1:]])
            except Exception as error:
                raise _CallbackFailed from error

    keys: list[Any] = [(name, *at) for name, (_, regions) in runs.items() for at in regions]
    graph = merged_graph(arrays, keys).tasks
    # dask calls back on the thread that waits for the run, as `on_done` may expect;
    # the callback is for this run alone, other runs of this process have their own.
    callbacks = [*Callback.active, (None, None, None, note, None)]
    try:
        # Functions, not their names: dask imports distributed to look a name up.
        if scheduler.kind == "synchronous":
            dask.local.get_sync(graph, keys, callbacks=callbacks)
            return
        with ExitStack() as stack:
            pool = scheduler.pool or stack.enter_context(ThreadPoolExecutor(n_workers))
            # As dask.threaded.get does it, but a larger pool gets no more than was planned.
            dask.local.get_async(
                pool.submit,
                n_workers,
                graph,
                keys,
                get_id=threading.get_ident,
                pack_exception=dask.threaded.pack_exception,
                callbacks=callbacks,
            )
    except BaseException as error:
        if isinstance(error, _CallbackFailed) and error.__cause__ is not None:
            raise error.__cause__ from None
        if isinstance(error, LazyioError) or not isinstance(error, Exception):
            raise
        regions_of = {name: regions for name, (_, regions) in runs.items()}
        raise block_error(error, _failed_region(error, regions_of)) from error


Regions = dict[tuple[int, ...], Region]
"""Where blocks lie, by their positions in the grid of blocks."""


def _delivered(
    name: str, delivery: Delivery, regions: Regions, states: threading.local
) -> da.Array:
    """Return an array whose every block is a mark that a block was handed on."""
    array = delivery.array

    def deliver(block: Any, block_id: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        region = regions[block_id]
        if not hasattr(states, "workspace"):
            states.workspace = Workspace()
        delivery.consume(region, delivery.check(block, region), states.workspace)
        return np.ones((1,) * array.ndim, bool)

    delivered: da.Array = da.map_blocks(
        deliver,
        array,
        dtype=bool,
        chunks=tuple((1,) * n for n in array.numblocks),
        meta=np.empty((0,) * array.ndim, bool),
        name=name,
    )
    return delivered


class _CallbackFailed(Exception):
    """Tells an error of the caller's own callback from one of a block."""


def _failed_region(error: BaseException, regions_of: Mapping[str, Regions]) -> Region | None:
    """Return the region whose task raised."""
    key = failed_key(error)
    if not isinstance(key, tuple):
        return None
    for name, regions in regions_of.items():
        # A task that was fused has a name of its own, with the last one's token.
        if str(key[0]).endswith(name.rpartition("-")[2]):
            return regions.get(key[1:])
    return None
