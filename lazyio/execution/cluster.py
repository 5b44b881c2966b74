"""How a run reaches the workers of a dask cluster, and they reach it.

Workers ask by events of distributed, which go by way of the scheduler as all
messages do, so that neither needs to be able to connect to the other. Answers
to all that has been asked meanwhile go back together.
"""

import contextlib
import logging
import queue
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dask.local
from dask.core import get_dependencies
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import DataNode, GraphNode, Task, TaskRef

from lazyio.errors import BlockError, OptionError
from lazyio.execution.dask_graphs import Graph, Results, Tasks, is_disjoint, is_ready, part_of
from lazyio.execution.grants import Grants
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.workers import (
    BlockFailedError,
    Session,
    WrittenBlock,
    in_turn,
    own_version,
    proof_is_seen,
)

logger = logging.getLogger("lazyio")

_PATIENCE, _N_TIMES = 2.0, 30
"""Seconds until a question is asked again, and how many times it is."""

_AHEAD = 4
"""Tasks under way, for each thread of a cluster."""

_MOST_SHARING = 500
"""Blocks under way that have tasks in common: a few at a time take twice as long."""

_PAUSE = 0.05
"""Seconds between two looks for what is done, where nobody tells."""

_LOOK_EVERY, _NOBODY = 5.0, 60.0
"""Seconds after which a cluster is looked at again, and without a result until it is given up."""

_ANSWERS: "dict[str, queue.SimpleQueue[bytes | None]]" = {}
"""In a worker: where answers go that threads of it wait for, by question; ``None`` is the end."""

_ENDED: deque[str] = deque(maxlen=100)
"""In a worker: runs that ended while there was something left to do."""


class ClusterChannel:
    """The way from a worker to the run."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def ask(self, array: int, question: bytes, *, reaches: bool) -> bytes:
        """Return the answer to a question."""
        return self._answered({"array": array, "question": question, "reaches": reaches})

    def proves(self, proof: str) -> bool:
        """Return whether a file of that name is seen where the run is."""
        return self._answered({"proof": proof}) == b"+"

    def _answered(self, message: dict[str, Any]) -> bytes:
        worker = sys.modules["distributed"].get_worker()
        session = self._session
        name = f"{session.name}-{uuid.uuid4().hex}"
        answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        _ANSWERS[name] = answers
        was_seen = session.goes_on
        try:
            for _ in range(_N_TIMES):
                if session.name in _ENDED:
                    break
                worker.log_event(session.name, {"id": name, "worker": worker.address, **message})
                with contextlib.suppress(queue.Empty):
                    answer = answers.get(timeout=_PATIENCE)
                    if answer is None:
                        break
                    return answer
                if was_seen and not session.goes_on:
                    break  # Killed, and resumed by another, who may wait for this very thread.
        finally:
            del _ANSWERS[name]
        msg = "the process that writes has not answered; it has ended, or lost the cluster"
        raise BlockError(msg)


def deliver(answers: Mapping[str, bytes]) -> None:
    """Hand answers on to the threads of this worker that wait for them."""
    for name, answer in answers.items():
        if (waiting := _ANSWERS.get(name)) is not None:
            waiting.put(answer)


def end_questions(session: str) -> None:
    """Let threads of this worker that wait for a run know that it has ended, and those to come."""
    _ENDED.append(session)
    for name, waiting in list(_ANSWERS.items()):
        if name.startswith(session):
            waiting.put(None)


class _Answering:
    """A thread that answers what workers ask."""

    def __init__(self, client: Any, grants: Grants, session: Session) -> None:
        self._client = client
        self._grants = grants
        self._session = session
        self._asked: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="lazyio-answers", daemon=True)

    def begin(self) -> None:
        """Take questions from now on."""
        self._client.subscribe_topic(self._session.name, self._take)
        self._thread.start()

    def end(self) -> None:
        """Answer what has been asked, and take nothing any more."""
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._session.name)
        self._asked.put(None)
        self._thread.join()

    def tell_the_end(self) -> None:
        """Let tasks that are still at work know; those that see no files would wait for long."""
        self._client.loop.add_callback(self._run, end_questions, self._session.name)

    def _take(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take a question, on the client's own thread."""
        self._asked.put(event[1])

    def _loop(self) -> None:
        while (asked := self._asked.get()) is not None:
            together = [asked]
            is_last = False
            while not self._asked.empty():
                more = self._asked.get()
                if more is None:
                    is_last = True
                    break
                together.append(more)
            self._send(together)
            if is_last:
                return

    def _send(self, together: list[dict[str, Any]]) -> None:
        answers: dict[str, dict[str, bytes]] = defaultdict(dict)
        for asked in together:
            answers[asked["worker"]][asked["id"]] = self._answer(asked)
        for worker, own in answers.items():
            # Waited for by nobody: a worker that is lost may take until a connection times out.
            self._client.loop.add_callback(self._run, deliver, own, worker)

    async def _run(self, function: Callable[..., None], told: Any, worker: str = "") -> None:
        """Tell a worker or all, on the client's own thread, where its calls are coroutines."""
        workers = [worker] if worker else None
        try:
            await self._client.run(function, told, workers=workers, on_error="ignore")
        except Exception as error:  # noqa: BLE001 - of a worker that is lost
            logger.warning("%s could not be told: %s", worker or "workers", error)

    def _answer(self, asked: Mapping[str, Any]) -> bytes:
        if "proof" in asked:
            return b"+" if proof_is_seen(self._session, asked["proof"]) else b"-"
        return self._grants.answer(asked["array"], asked["question"], reaches=asked["reaches"])


@contextlib.contextmanager
def answering(client: Any, grants: Grants, session: Session) -> Iterator[ClusterChannel]:
    """Answer what the workers of a cluster ask, and yield the way by which they do."""
    _require_same_version(client)
    answers = _Answering(client, grants, session)
    answers.begin()
    try:
        yield ClusterChannel(session)
    except BaseException:
        answers.tell_the_end()
        raise
    finally:
        # What is asked from now on is answered: that nobody waits for it.
        grants.close()
        session.end()
        answers.end()


def _require_same_version(client: Any) -> None:
    """Raise where a worker has another lazyio, or none."""
    found = client.run(own_version, on_error="return")
    own = own_version()
    for worker, other in found.items():
        if isinstance(other, OSError):
            continue  # It was lost just now; what comes in its place looks itself.
        if isinstance(other, BaseException) or other != own:
            told = f"lazyio {other}" if isinstance(other, str) else f"no such lazyio ({other})"
            msg = (
                f"worker {worker} has {told}, and this process has {own}; install the same version "
                "on all of them"
            )
            raise OptionError(msg)


@contextlib.contextmanager
def place_given_up() -> Iterator[None]:
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


def from_cluster(
    graph: Graph,
    keys: list[Any],
    scheduler: Scheduler,
    n_workers: int,
    sizes: Mapping[Any, int],
    most_nbytes: int,
) -> Results:
    """Yield results of a cluster as they are done; they stay there until taken.

    ``sizes`` are the bytes of blocks of which one task may write several, and ``most_nbytes`` of
    all of them.
    """
    client = scheduler.client
    is_cut = is_disjoint(graph.tasks, keys)
    # dask orders what it is handed, so that shared tasks do not wait for long.
    room = _Room(client, n_workers, least=1 if is_cut else _MOST_SHARING)
    may_join = is_cut and not graph.annotated
    groups = _Groups(graph, keys, sizes if may_join else {}, room, most_nbytes)
    handover = _Handover(client, groups.graph, keys)
    under_way: dict[Any, Any] = {}
    done = sys.modules["distributed"].as_completed(loop=client.loop)
    try:
        while True:
            size = room.n_tasks()
            if len(under_way) <= size // 2:
                more = groups.next_keys(size - len(under_way))
                futures = handover.submit(more)
                under_way.update({future.key: future for future in futures})
                done.update(futures)
            if not under_way:
                return
            for future in _next(done, client):
                handover.is_done(future.key)
                yield from groups.results(future.key, partial(_taken, under_way.pop(future.key)))
    finally:
        # Others of this client may have data of the user's by the same keys.
        client.cancel([one for one in under_way.values() if "lazyio-write-" in str(one.key)])


class _Room:
    """How many tasks may be under way on a cluster, which may grow and shrink meanwhile.

    ``n_workers`` are planned for a process, as many as the memory limit has room for.
    """

    def __init__(self, client: Any, n_workers: int, least: int) -> None:
        self._client = client
        self._n_workers = n_workers
        self._least = least
        self._look()

    def n_tasks(self) -> int:
        """Return how many tasks may be under way, by what the cluster was a few seconds ago."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            with contextlib.suppress(OSError):  # Of a cluster that is lost; that is found out soon.
                self._look()
        return self._n_tasks

    def _look(self) -> None:
        threads = list(self._client.nthreads().values())
        self._looked = time.monotonic()
        self.n_threads = max(1, sum(threads))
        """Of all workers together."""
        if any(n > self._n_workers for n in threads):
            # As many as there is memory for, and none that wait there.
            n_tasks = self._n_workers * len(threads)
        else:
            n_tasks = max(_AHEAD * sum(threads), self._n_workers)
        self._n_tasks = max(n_tasks, self._least)


def _taken(future: Any) -> Any:
    """Return a result, of which the cluster need not keep anything then."""
    try:
        return future.result()
    finally:
        future.release()


class _Groups:
    """Blocks that nothing joins, several of which are one task of the cluster.

    A task costs dask some milliseconds, whatever it does. Towards the end there are fewer in
    each, so that no worker waits long for another.
    """

    def __init__(
        self,
        graph: Graph,
        keys: Sequence[Any],
        sizes: Mapping[Any, int],
        room: "_Room",
        most_nbytes: int,
    ) -> None:
        self._sizes = dict(sizes)
        self._room = room
        self._most_nbytes = most_nbytes
        self._most = len(keys)
        """Blocks that a task has time for, as far as is known."""
        self._waiting = deque(keys)
        self._suspects: set[Any] = set()
        """Blocks of tasks that were lost with their workers, or nobody knows how."""
        self._tried: Any = None
        """The one of them that is under way."""
        self._members: dict[Any, list[Any]] = {}
        self.graph = replace(graph, tasks=dict(graph.tasks))
        """With a task for each group that was made."""

    def next_keys(self, n: int) -> list[Any]:
        """Return the keys of some tasks to hand over."""
        found: list[Any] = []
        if self._waiting and self._waiting[0] in self._suspects:
            # One at a time: dask counts the loss of a worker for all that was waiting there.
            if self._tried is None:
                self._tried = self._waiting.popleft()
                found.append(self._tried)
            return found
        while self._waiting and len(found) < n:
            share = len(self._waiting) // self._room.n_threads
            together = self._together(max(1, min(share, self._most)))
            found.append(together[0] if len(together) == 1 else self._task_of(together))
        return found

    def _together(self, most: int) -> list[Any]:
        """Take blocks of one array for one task: all that they have in common are data."""
        found = [self._waiting.popleft()]
        nbytes, ready = self._joinable(found[0])
        while ready is not None and self._waiting and len(found) < most:
            key = self._waiting[0]
            own, others = self._joinable(key)
            if key[0] != found[0][0] or others != ready or nbytes + own > self._most_nbytes:
                break
            found.append(self._waiting.popleft())
            nbytes += own
        return found

    def _joinable(self, key: Any) -> tuple[int, frozenset[Any] | None]:
        """Return the bytes of a block and the data that it needs, ``None`` where it stays alone.

        Data of its own would all be on the worker at once; what lies on the cluster, dask has to
        bring.
        """
        nbytes = self._sizes.get(key)
        if nbytes is None:
            return 0, None
        whole = self.graph.tasks
        own = part_of(whole, [key])
        if not all(
            isinstance(one, GraphNode) and one.dependencies <= own.keys() for one in own.values()
        ):
            return 0, None
        return nbytes, frozenset(one for one in own if is_ready(whole, one))

    def _task_of(self, keys: list[Any]) -> Any:
        """Make the task of some blocks, and return its key."""
        whole = self.graph.tasks
        own = part_of(whole, keys)
        ready = [key for key in own if is_ready(whole, key)]
        blocks = _Blocks(
            tasks={key: task for key, task in own.items() if key not in ready},
            ready=tuple(ready),
            keys=tuple(keys),
        )
        name, *at = keys[0]
        key = (name, "blocks", *at)
        whole[key] = Task(key, _in_turn, blocks, *map(TaskRef, ready))
        self._members[key] = keys
        return key

    def results(self, key: Any, result: Callable[[], Any]) -> Results:
        """Yield the blocks of a task that is done, and how to get them."""
        if key == self._tried:
            self._tried = None
        if key not in self._members:
            yield key, result
            return
        keys = self._members.pop(key)
        del self.graph.tasks[key]
        failed: BlockFailedError | None = None
        try:
            found = result()
        except BlockFailedError as error:
            found, failed = error.written, error
        except Exception:  # noqa: BLE001 - raised again by the block alone that it is of
            found = []
            self._suspects.update(keys)
        yield from ((one, partial(same, own)) for one, own in zip(keys, found, strict=False))
        left = keys[len(found) :]
        if failed is not None:
            yield keys[failed.number], partial(_raised, failed.error)
        elif len(found) > 1 or (found and not found[0].is_large):
            self._most = max(1, len(found) if left else max(self._most, 2 * len(keys)))
        else:
            # They bring more with them than a worker has memory for, or nobody knows what.
            for one in left:
                self._sizes.pop(one)
        self._waiting.extendleft(reversed(left))


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """Some blocks and all that they need but data that lie ready."""

    tasks: Tasks
    ready: tuple[Any, ...]
    keys: tuple[Any, ...]


def _in_turn(blocks: _Blocks, *ready: Any) -> list[WrittenBlock]:
    """Write some blocks one after the other, each with what it needs."""
    tasks = dict(blocks.tasks)
    tasks.update((key, DataNode(key, one)) for key, one in zip(blocks.ready, ready, strict=True))
    return in_turn(partial(dask.local.get_sync, part_of(tasks, [key]), key) for key in blocks.keys)


def _raised(error: Exception) -> Any:
    raise error


def same(result: Any) -> Any:
    """Return what is there."""
    return result


class _Handover:
    """Hands over blocks a few at a time, each task with the first block that needs it.

    What later blocks need as well is asked for, too, so that the cluster keeps it until then.
    """

    def __init__(self, client: Any, graph: Graph, keys: Sequence[Any]) -> None:
        self._client = client
        self._graph = graph
        self._n_left = Counter(keys)
        """How often each task is still to be asked for, by a block or another task."""
        for key in graph.tasks:
            self._n_left.update(get_dependencies(graph.tasks, key))
        self._held: dict[Any, Any] = {}
        self._parts: dict[Any, _Part] = {}

    def submit(self, keys: list[Any]) -> list[Any]:
        """Hand some blocks over with all that they need, and return their futures."""
        if not keys:
            return []
        tasks: Tasks = {}
        part = _Part(n_left=len(keys))
        futures = {key: self._held[key] for key in keys if key in self._held}
        reached = list(keys)
        while reached:
            at = reached.pop()
            # Tasks that were made since are asked for once.
            self._n_left[at] = self._n_left.get(at, 1) - 1
            if at in self._held:
                if not self._n_left[at]:
                    part.needed.append(self._held.pop(at))
            elif at not in tasks:
                tasks[at] = self._graph.tasks[at]
                reached.extend(get_dependencies(self._graph.tasks, at))
        shared = [key for key in tasks if self._n_left[key] and not self._is_ready(key)]
        wanted = list(dict.fromkeys([*(key for key in keys if key in tasks), *shared]))
        if wanted:
            futures.update(zip(wanted, self._submitted(tasks, wanted), strict=True))
        self._held.update({key: futures[key] for key in shared})
        self._parts.update(dict.fromkeys(keys, part))
        return [futures[key] for key in keys]

    def _is_ready(self, key: Any) -> bool:
        return is_ready(self._graph.tasks, key)

    def is_done(self, key: Any) -> None:
        """Let go of what a block and those that were handed over with it were the last to need.

        Not before: that it is needed is not known to the cluster as soon as it has been told.
        """
        part = self._parts.pop(key)
        part.n_left -= 1
        if not part.n_left:
            part.needed.clear()

    def _submitted(self, tasks: Tasks, keys: list[Any]) -> list[Any]:
        """Have tasks computed, and return the futures of some."""
        layers = {}
        for number, (annotations, own) in enumerate(self._graph.annotated):
            if part := {key: tasks[key] for key in own & tasks.keys()}:
                layers[f"lazyio-{number}"] = MaterializedLayer(part, annotations=dict(annotations))
        left = tasks.keys() - {key for layer in layers.values() for key in layer}
        if left:
            layers["lazyio"] = MaterializedLayer({key: tasks[key] for key in left})
        layered = HighLevelGraph(layers, {name: set() for name in layers})
        of_key = {key: name for name, layer in layers.items() for key in layer}
        wanted = [Delayed(key, layered, layer=of_key[key]) for key in keys]
        futures: list[Any] = self._client.compute(wanted, optimize_graph=False)
        return futures


@dataclass(kw_only=True)
class _Part:
    """Blocks that were handed over together."""

    n_left: int
    """How many of them are not done."""
    needed: list[Any] = field(default_factory=list)
    """Futures of what they are the last to need."""


def _next(done: Any, client: Any) -> list[Any]:
    """Return the next futures that are done, or raise where none will be.

    To be called back by a future would leave a thread behind, which all writes share.
    """
    n_idle, looked = 0, time.monotonic()
    while not (batch := done.next_batch(block=False)):
        # As its own iteration waits, which has no time limit; looking first, or it might be late.
        with done.thread_condition:
            if done.queue.empty():
                done.thread_condition.wait(timeout=_PAUSE)
        if time.monotonic() - looked < _LOOK_EVERY:
            continue
        looked = time.monotonic()
        if client.status not in ("running", "connecting"):
            msg = f"the client has lost its cluster (it is {client.status})"
            raise BlockError(msg)
        n_idle = 0 if any(client.processing().values()) else n_idle + 1
        if n_idle * _LOOK_EVERY >= _NOBODY:
            raise BlockError(_nobody_works(client))
    found: list[Any] = batch
    return found


def _nobody_works(client: Any) -> str:
    """Return why no worker takes what is there to be done."""
    workers = client.scheduler_info()["workers"]
    if not workers:
        return f"no worker has joined the cluster for {_NOBODY:.0f} s; start some, or scale it"
    pairs = {pair for worker in workers.values() for pair in worker["resources"].items()}
    resources = ", ".join(sorted(f"{name}={n}" for name, n in pairs)) or "none"
    return (
        f"none of the {len(workers)} workers has taken a task for {_NOBODY:.0f} s; a worker must "
        f"meet the annotations of the tasks, such as resources (they have: {resources}) and workers"
    )
