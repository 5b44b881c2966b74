"""Graphs in this process: the task that computes a block also hands it on.

No result waits in the scheduler, so as many blocks are in memory as there are
threads.
"""

import threading
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dask.array as da
import dask.local
import dask.threaded
import numpy as np
import numpy.typing as npt
from dask.callbacks import Callback

from lazyio.codecs.workspace import Workspace
from lazyio.errors import LazyioError
from lazyio.grid import Region
from lazyio.run.graph import Delivery, block_error, failed_key
from lazyio.run.merge import merged_graph
from lazyio.run.schedulers import Scheduler


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
