"""Graphs in other processes: blocks come back as they are done, and are handed on here.

Every task is computed once. No more blocks are under way than the scheduler
has places for, where blocks have nothing in common; those that do are handed
over all together, so that what they share is not computed again.
"""

import contextlib
import itertools
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import dask.multiprocessing
from dask.callbacks import Callback
from dask.core import get_dependencies

from lazyio.codecs.workspace import Workspace
from lazyio.errors import LazyioError
from lazyio.execution.dask_graphs import Delivery, Graph, block_error, failed_key, merged_graph
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.threads import pull
from lazyio.regions import Region

Block = tuple[Delivery, Region, Callable[[], Any]]
"""A block that was computed: whose, which, and how to get it."""

Results = Generator[tuple[Any, Callable[[], Any]], None, None]
"""Keys of blocks that are done, and how to get them."""

Places = dict[Any, list[tuple[Delivery, Region]]]
"""Where the result of each key belongs."""

_AHEAD = 2
"""Blocks under way, for each thread of a cluster."""


def run_remote(deliveries: Sequence[Delivery], scheduler: Scheduler, *, n_workers: int) -> None:
    """Compute every block wherever the scheduler does, and consume it here."""
    places: Places = {}
    for delivery in deliveries:
        for at, region in delivery.regions().items():
            places.setdefault((delivery.array.name, *at), []).append((delivery, region))
    graph = merged_graph([delivery.array for delivery in deliveries], list(places))

    def consume(block: Block, workspace: Workspace) -> None:
        delivery, region, result = block
        try:
            found = result()
        except LazyioError:
            raise
        except Exception as error:
            raise block_error(error, region) from error
        delivery.consume(region, delivery.check(found, region), workspace)

    results = _RUNNERS[scheduler.kind](graph, list(places), scheduler, n_workers)
    with ExitStack() as stack:
        if scheduler.kind == "cluster":
            stack.enter_context(_place_given_up())
        stack.enter_context(contextlib.closing(results))
        blocks = (
            (delivery, region, result)
            for key, result in _named(results, graph, places)
            for delivery, region in places[key]
        )
        pull(blocks, consume, n_threads=n_workers, on_done=lambda done: done[0].on_done(done[1]))


def _from_processes(graph: Graph, keys: list[Any], scheduler: Scheduler, n_workers: int) -> Results:
    """Yield results of dask's own processes, which hold one task each."""
    finished: queue.Queue[tuple[Any, Callable[[], Any]]] = queue.Queue(maxsize=n_workers)
    stop = threading.Event()
    wanted = set(keys)
    ended = object()

    held: set[Any] = set()

    def keep(key: Any, value: Any, _dsk: Any, state: Any, _worker: Any) -> None:
        if key in wanted:
            held.add(key)
            _put(finished, (key, partial(_same, value)), stop)
        # dask would keep every result until the last is there.
        for done in [done for done in held if not state["waiting_data"].get(done)]:
            state["cache"][done] = None
            held.discard(done)

    def compute() -> None:
        try:
            callbacks = [*Callback.active, (None, None, None, keep, None)]
            dask.multiprocessing.get(
                graph,
                keys,
                num_workers=n_workers,
                pool=scheduler.pool,
                chunksize=1,
                callbacks=callbacks,
            )
        except BaseException as error:  # noqa: BLE001 - raised where the results are taken
            _put(finished, (ended, _raiser(error)), stop)
        else:
            _put(finished, (ended, lambda: None), stop)

    thread = threading.Thread(target=compute, name="lazyio-processes", daemon=True)
    thread.start()
    try:
        while True:
            key, result = finished.get()
            if key is ended:
                result()
                return
            yield key, result
    finally:
        stop.set()
        thread.join()


class _Stopped(Exception):
    """Nobody takes results any more."""


def _put(finished: "queue.Queue[Any]", item: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            finished.put(item, timeout=0.1)
            return
    raise _Stopped


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def _named(results: Results, graph: Graph, places: Places) -> Results:
    """Yield results; what ends the run is raised as the error of a block."""
    try:
        yield from results
    except LazyioError:
        raise
    except Exception as error:
        needed = {failed_key(error)} & graph.keys()
        region = next(
            (found[0][1] for key, found in places.items() if needed & _reached(graph, [key])), None
        )
        raise block_error(error, region) from error


@contextlib.contextmanager
def _place_given_up() -> Iterator[None]:
    """Leave the place of a cluster's task, in one of which this may run, for others to take.

    Waiting there with all places taken would be for ever.
    """
    distributed = sys.modules["distributed"]
    try:
        distributed.secede()
    except (ValueError, AttributeError, KeyError):
        # In no task, or one that left its place already.
        yield
        return
    try:
        yield
    finally:
        distributed.rejoin()


def _from_cluster(graph: Graph, keys: list[Any], scheduler: Scheduler, n_workers: int) -> Results:
    """Yield results of a cluster as they are done; they stay there until taken."""
    distributed = sys.modules["distributed"]
    client = scheduler.client
    n_places = _AHEAD * max(1, sum(client.nthreads().values()))
    size = max(n_places, n_workers) if _is_disjoint(graph, keys) else max(1, len(keys))
    waiting = iter(keys)
    under_way: dict[Any, Any] = {}
    done = distributed.as_completed()
    try:
        while True:
            if len(under_way) <= size // 2:
                batch = list(itertools.islice(waiting, size - len(under_way)))
                futures = client.get(_part_of(graph, batch), batch, sync=False) if batch else []
                under_way.update(zip(batch, futures, strict=True))
                done.update(futures)
                names = {future.key: key for key, future in under_way.items()}
            if not under_way:
                return
            key = names[next(done).key]
            yield key, under_way.pop(key).result
    finally:
        client.cancel(list(under_way.values()))


def _from_function(graph: Graph, keys: list[Any], scheduler: Scheduler, n_workers: int) -> Results:
    """Yield results of a function of the user's, a few at a time where that is right."""
    get = scheduler.get
    if get is None:
        return
    size = n_workers if _is_disjoint(graph, keys) else max(1, len(keys))
    for at in range(0, len(keys), size):
        batch = keys[at : at + size]
        results = get(_part_of(graph, batch), batch)
        for key, result in zip(batch, results, strict=True):
            yield key, partial(_same, result)


def _same(result: Any) -> Any:
    return result


def _part_of(graph: Graph, keys: Iterable[Any]) -> Graph:
    """Return those tasks that some keys need: schedulers look at all that they are given."""
    return {key: graph[key] for key in _reached(graph, keys)}


def _reached(graph: Graph, keys: Iterable[Any]) -> set[Any]:
    """Return some keys, and all that they need."""
    found: set[Any] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key not in found and key in graph:
            found.add(key)
            waiting.extend(get_dependencies(graph, key))
    return found


def _is_disjoint(graph: Graph, keys: Sequence[Any]) -> bool:
    """Return whether no two blocks need the same task; data lying ready does not count."""
    owner: dict[Any, Any] = {}
    for key in keys:
        reached = [key]
        while reached:
            at = reached.pop()
            needed = get_dependencies(graph, at)
            if not needed and at != key and type(graph[at]).__name__ in ("DataNode", "Alias"):
                continue
            if owner.setdefault(at, key) != key:
                return False
            reached.extend(other for other in needed if owner.get(other) != key)
    return True


_RUNNERS = {"processes": _from_processes, "cluster": _from_cluster, "other": _from_function}
