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
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dask.array as da
import dask.local
import dask.threaded
import numpy as np
import numpy.typing as npt
from dask.base import optimize
from dask.blockwise import Blockwise, optimize_blockwise
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.utils import ensure_dict

from lazyio.codecs.workspace import Workspace
from lazyio.errors import BlockError, LazyioError, OptionError, PlanError
from lazyio.execution.schedulers import Scheduler
from lazyio.regions import Region, cuts, format_region

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
    is_kept: Callable[[Region], bool] | None = None
    """Whether a block is not wanted, because it is there already."""

    def regions(self) -> dict[tuple[int, ...], Region]:
        """Return where each block lies that is wanted, by its position in the grid of blocks."""
        places = zip(np.ndindex(*self.array.numblocks), cuts(self.array.chunks), strict=True)
        return {at: region for at, region in places if not (self.is_kept and self.is_kept(region))}

    def check(self, block: Any, region: Region) -> npt.NDArray[Any]:
        """Return a block that is what the array promised, so that nothing is broadcast.

        Masked arrays stay masked: what their gaps are filled with is for the
        consumer to say.
        """
        array = self.array
        wanted = tuple(part.stop - part.start for part in region)
        if isinstance(block, np.generic) or (not wanted and np.isscalar(block)):
            block = _as_element(np.asarray(block), array.dtype)
        is_plain = isinstance(block, np.ndarray)
        if is_plain and block.shape == wanted and block.dtype == array.dtype:
            is_masked = isinstance(block, np.ma.MaskedArray)
            checked: npt.NDArray[Any] = block if is_masked else np.asarray(block)
            return checked
        got = f"{block.shape} {block.dtype}" if is_plain else f"a {type(block).__name__}"
        msg = (
            f"block {format_region(region)} is {got}, the array says {wanted} {array.dtype}; "
            "let the function return that, or give map_blocks the right dtype= and chunks="
        )
        raise BlockError(msg)


def _as_element(block: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a scalar as the element that it was: numpy's own have neither order nor padding."""
    is_swapped = block.dtype == dtype.newbyteorder("=")
    is_shorter = block.dtype.kind == dtype.kind and dtype.kind in "SU"
    is_same = is_swapped or (is_shorter and block.dtype.itemsize <= dtype.itemsize)
    return block.astype(dtype) if is_same else block


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


def failed_key(error: BaseException) -> Any:
    """Return the key of the task that raised, ``None`` where it is not known.

    dask does not say it, but a task runs in a frame that has its key, and of
    one in another process the loop knows that waits for it. The outermost
    counts: a task may compute graphs of its own.
    """
    waited_for = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "execute_task" and "key" in frame.f_locals:
            return frame.f_locals["key"]
        if frame.f_code.co_name == "get_async" and waited_for is None:
            waited_for = frame.f_locals.get("key")
    return waited_for


Graph = dict[Any, Any]


def merged_graph(arrays: Sequence[da.Array], keys: Sequence[Any]) -> Graph:
    """Return the tasks that compute blocks of some arrays."""
    if len(arrays) == 1:
        (optimized,) = optimize(*arrays)
        found = dict(ensure_dict(optimized.__dask_graph__()))
        # Of blocks that a cluster holds already nothing is left to optimise, nor to find.
        whole = found if found.keys() >= set(keys) else dict(ensure_dict(arrays[0].dask))
        return whole if len(keys) == arrays[0].npartitions else dict(cull(whole, keys)[0])
    graph = HighLevelGraph.merge(*(array.dask for array in arrays))
    graph = optimize_blockwise(graph, keys=keys)
    graph = _reading_apart(graph)
    graph = optimize_blockwise(graph, keys=keys)
    return dict(ensure_dict(graph.cull(keys)))


def _reading_apart(graph: HighLevelGraph) -> HighLevelGraph:
    """Give each layer that waits for other things too a reading of its own."""
    roots = {
        name
        for name, layer in graph.layers.items()
        if isinstance(layer, Blockwise) and not graph.dependencies[name]
    }
    layers: dict[str, Any] = dict(graph.layers)
    dependencies = {name: set(names) for name, names in graph.dependencies.items()}
    for name, layer in graph.layers.items():
        needed = graph.dependencies[name]
        if not isinstance(layer, Blockwise) or needed <= roots:
            continue
        own = {root: f"{root}-for-{name}" for root in needed & roots}
        layers[name] = _rebuilt(layer, name, own)
        dependencies[name] = {own.get(other, other) for other in needed}
        for root, copied in own.items():
            layers[copied] = _rebuilt(graph.layers[root], copied, {})
            dependencies[copied] = set()
    return HighLevelGraph(layers, dependencies)


def _rebuilt(layer: Any, output: str, names: Mapping[str, str]) -> Blockwise:
    """Return a layer under another name, with its inputs under other names."""
    return Blockwise(
        output=output,
        output_indices=layer.output_indices,
        task=layer.task.substitute({}, key=output),
        indices=[
            (names.get(argument, argument) if isinstance(argument, str) else argument, index)
            for argument, index in layer.indices
        ],
        numblocks={names.get(name, name): count for name, count in layer.numblocks.items()},
        concatenate=layer.concatenate,
        new_axes=layer.new_axes,
        output_blocks=layer.output_blocks,
        annotations=layer.annotations,
        io_deps=layer.io_deps,
    )


def run_here(deliveries: Sequence[Delivery], scheduler: Scheduler, *, n_workers: int) -> None:
    """Compute every block in this process' threads, or in the calling one."""
    states = threading.local()
    fused = {}
    for delivery in deliveries:
        one = _fuse(delivery, states)
        fused[one.array.name] = one

    def note(key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] in fused:
            one = fused[key[0]]
            try:
                one.delivery.on_done(one.regions[key[1:]])
            except Exception as error:
                raise _CallbackFailed from error

    keys = [(one.array.name, *at) for one in fused.values() for at in one.regions]
    graph = merged_graph([one.array for one in fused.values()], keys)
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
        raise block_error(error, _failed_region(error, fused.values())) from error


@dataclass(frozen=True, kw_only=True)
class _Fused:
    """A delivery, and the array whose tasks do it."""

    delivery: Delivery
    array: da.Array
    regions: dict[tuple[int, ...], Region]


def _fuse(delivery: Delivery, states: threading.local) -> _Fused:
    """Return an array whose every block is a mark that a block was handed on."""
    array = delivery.array
    regions = delivery.regions()

    def deliver(block: Any, block_id: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        region = regions[block_id]
        if not hasattr(states, "workspace"):
            states.workspace = Workspace()
        delivery.consume(region, delivery.check(block, region), states.workspace)
        return np.ones((1,) * array.ndim, bool)

    delivered = da.map_blocks(
        deliver,
        array,
        dtype=bool,
        chunks=tuple((1,) * n for n in array.numblocks),
        meta=np.empty((0,) * array.ndim, bool),
        name=f"lazyio-write-{uuid.uuid4().hex}",
    )
    return _Fused(delivery=delivery, array=delivered, regions=regions)


class _CallbackFailed(Exception):
    """Tells an error of the caller's own callback from one of a block."""


def _failed_region(error: BaseException, fused: Iterable[_Fused]) -> Region | None:
    """Return the region whose task raised."""
    key = failed_key(error)
    if not isinstance(key, tuple):
        return None
    for one in fused:
        # A task that was fused has a name of its own, with the last one's token.
        if str(key[0]).endswith(one.array.name.rpartition("-")[2]):
            return one.regions.get(key[1:])
    return None
