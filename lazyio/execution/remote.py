"""Graphs in other processes, which encode what they compute, and write it where they can.

What a task gives back is what is left to do here: chunks to take note of,
payloads that could not be written there, and elements of chunks that no block
has whole. Where nothing can be encoded elsewhere, it is the block itself.

Every task is computed once. No more blocks are under way than the scheduler
has places for, where blocks have nothing in common; of those that do, more
are, so that what they share need not be kept for long.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.multiprocessing
import numpy as np
from dask.callbacks import Callback
from dask.delayed import delayed

from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import nbytes_of
from lazyio.errors import LazyioError
from lazyio.execution.cluster import (
    ClusterChannel,
    answering,
    from_cluster,
    place_given_up,
    same,
)
from lazyio.execution.dask_graphs import (
    Delivery,
    Elsewhere,
    Graph,
    Results,
    Tasks,
    block_error,
    is_disjoint,
    merged_graph,
    part_of,
)
from lazyio.execution.dask_inner_state import failed_key, forget_results
from lazyio.execution.grants import Grants
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.threads import pull
from lazyio.execution.workers import (
    RECORD_NBYTES,
    BlockJob,
    Session,
    WrittenBlock,
    edges_of,
    write_block,
)
from lazyio.regions import Region, box_shape, n_boxes

Block = tuple[Delivery, Region, Callable[[], Any]]
"""A block that was computed or written: whose, which, and how to get what there is of it."""

Places = dict[Any, list[tuple[Delivery, Region]]]
"""Where the result of each key belongs."""


def run_remote(
    deliveries: Sequence[Delivery], scheduler: Scheduler, *, n_workers: int, folder: Path
) -> None:
    """Compute every block wherever the scheduler does, and have it written there or here.

    ``folder`` is where processes that share the target's file system may leave files.
    """
    numbers = {id(delivery): number for number, delivery in enumerate(deliveries)}
    grants = Grants([one.elsewhere.target if one.elsewhere else None for one in deliveries])
    with ExitStack() as stack:
        if scheduler.kind == "cluster":
            stack.enter_context(place_given_up())
        session = Session.begun(folder)
        stack.callback(session.end)
        channel = None
        if scheduler.kind == "cluster" and any(one.elsewhere for one in deliveries):
            channel = stack.enter_context(answering(scheduler.client, grants, session))
        arrays = [
            _written(number, one, one.elsewhere, session, channel) if one.elsewhere else one.array
            for number, one in enumerate(deliveries)
        ]
        places: Places = {}
        for array, delivery in zip(arrays, deliveries, strict=True):
            for at, region in delivery.regions().items():
                places.setdefault((array.name, *at), []).append((delivery, region))
        graph = merged_graph(arrays, list(places))
        if scheduler.kind == "cluster":
            sizes = _sizes_of(places) if channel else {}
            most = min(
                (one.elsewhere.group_nbytes for one in deliveries if one.elsewhere), default=0
            )
            found = from_cluster(graph, list(places), scheduler, n_workers, sizes, most)
        else:
            found = _RUNNERS[scheduler.kind](graph, list(places), scheduler, n_workers)
        results = stack.enter_context(contextlib.closing(found))

        def consume(block: Block, workspace: Workspace) -> None:
            delivery, region, result = block
            try:
                found = result()
            except Exception as error:
                # What is not answered any more fails there, too; what came first says more.
                error = grants.error or error
                if isinstance(error, LazyioError):
                    raise error from None
                raise block_error(error, region) from error
            if isinstance(found, WrittenBlock) and delivery.elsewhere is not None:
                number = numbers[id(delivery)]
                landing = partial(grants.land, number, found.landed(), found.payloads)
                delivery.elsewhere.take(found, landing, workspace)
            else:
                delivery.consume(region, delivery.check(found, region), workspace)

        blocks = (
            (delivery, region, result)
            for key, result in _named(results, graph.tasks, places)
            for delivery, region in places[key]
        )
        pull(blocks, consume, n_threads=n_workers, on_done=lambda done: done[0].on_done(done[1]))
        grants.finish()


def _sizes_of(places: Places) -> dict[Any, int]:
    """Return the bytes of blocks that are written elsewhere, and nowhere else.

    With what a task keeps of each of their chunks.
    """
    found = {}
    for key, [(delivery, region), *others] in places.items():
        if delivery.elsewhere is not None and not others:
            shape = box_shape(region)
            n_chunks = n_boxes(shape, delivery.elsewhere.writer.chunk_shape)
            found[key] = nbytes_of(shape, delivery.array.dtype) + n_chunks * RECORD_NBYTES
    return found


def _written(
    number: int,
    delivery: Delivery,
    elsewhere: Elsewhere,
    session: Session,
    channel: ClusterChannel | None,
) -> da.Array:
    """Return an array whose every block is what became of one that was written elsewhere."""
    array = delivery.array
    job = BlockJob(
        session=session,
        array=number,
        key=elsewhere.key,
        dtype=array.dtype,
        edges=edges_of(array.chunks),
        writer=elsewhere.writer,
        convert=elsewhere.convert,
        window=elsewhere.window,
        channel=channel,
        batch_nbytes=elsewhere.batch_nbytes,
    )
    named = elsewhere.key.strip("/").replace("/", ".") or "array"
    written: da.Array = da.map_blocks(
        write_block,
        array,
        # Under a key of its own, so that it travels once to a worker.
        job=delayed(job, name=f"lazyio-job-{session.name}-{number}", traverse=False),
        dtype=object,
        chunks=tuple((1,) * n for n in array.numblocks),
        meta=np.empty((0,) * array.ndim, object),
        # With the number: other keys may come to the same words.
        name=f"lazyio-write-{named}-{session.name}-{number}",
    )
    return written


def _from_processes(graph: Graph, keys: list[Any], scheduler: Scheduler, n_workers: int) -> Results:
    """Yield results of dask's own processes, which hold one task each."""
    finished: queue.Queue[tuple[Any, Any] | None] = queue.Queue(maxsize=n_workers)
    stop = threading.Event()
    wanted = set(keys)
    held: set[Any] = set()

    def put(item: tuple[Any, Any] | None) -> bool:
        """Hand a result over, and return whether anybody still takes them."""
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                finished.put(item, timeout=0.1)
                return True
        return False

    def keep(key: Any, value: Any, _dsk: Any, state: Any, _worker: Any) -> None:
        if key in wanted:
            held.add(key)
            if not put((key, value)):
                raise _Stopped
        held.difference_update(forget_results(state, held))

    callbacks = [*Callback.active, (None, None, None, keep, None)]
    options = {"num_workers": n_workers, "pool": scheduler.pool, "chunksize": 1}
    with ThreadPoolExecutor(1, thread_name_prefix="lazyio-processes") as thread:
        get = partial(dask.multiprocessing.get, callbacks=callbacks, **options)
        run = thread.submit(get, graph.tasks, keys)
        run.add_done_callback(lambda _: put(None))
        try:
            while (result := finished.get()) is not None:
                key, value = result
                yield key, partial(same, value)
            run.result()
        finally:
            stop.set()


class _Stopped(Exception):
    """Nobody takes results any more."""


def _named(results: Results, tasks: Tasks, places: Places) -> Results:
    """Yield results; what ends the run is raised as the error of a block."""
    try:
        yield from results
    except LazyioError:
        raise
    except Exception as error:
        failed = failed_key(error)
        needing = (key for key in places if failed in tasks and failed in part_of(tasks, [key]))
        region = next((places[key][0][1] for key in needing), None)
        raise block_error(error, region) from error


def _from_function(graph: Graph, keys: list[Any], scheduler: Scheduler, n_workers: int) -> Results:
    """Yield results of a function of the user's, a few at a time where that is right."""
    get = scheduler.get
    if get is None:
        return
    size = n_workers if is_disjoint(graph.tasks, keys) else max(1, len(keys))
    for at in range(0, len(keys), size):
        batch = keys[at : at + size]
        results = get(part_of(graph.tasks, batch), batch)
        for key, result in zip(batch, results, strict=True):
            yield key, partial(same, result)


_RUNNERS = {"processes": _from_processes, "other": _from_function}
