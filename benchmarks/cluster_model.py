"""A write on a cluster, event by event: workers, a scheduler and a caller, each with its costs.

Every worker has one thread. The scheduler and the caller do one thing at a time.
All of them may be on one machine with few cores, as where a run is measured, or
each on its own.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

Then = Callable[[], None]
Wait = Callable[[Then], None]
"""Is told what to do when the wait is over."""
Process = Generator[Wait, None, None]

_AHEAD = 4
"""Blocks under way for each thread, as `lazyio.execution.cluster` has it."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds that things take, and bytes that go over the wire."""

    scheduler_task: float
    scheduler_question: float
    scheduler_chunk: float
    caller_task: float
    caller_question: float
    caller_chunk: float
    worker_task: float
    """Of a worker's process for a task, beside what the block takes."""
    worker_question: float
    compute: float
    """Of a block: to read and compute it."""
    encode: float
    """Of a chunk."""
    write: float
    """Of a chunk."""
    scheduler_block: float = 0.0
    """Of each block of a task, beside the first."""
    caller_block: float = 0.0
    worker_block: float = 0.0
    once: float = 0.0
    """Of a run, whatever its size."""
    finish: float = 0.0
    """Of a chunk, to wait at the end until it is on the disk."""
    hop: float = 0.0002
    """That a message is on its way."""
    wire_task: float = 0.0
    wire_question: float = 0.0
    wire_chunk: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much is written, and in which pieces."""

    n_blocks: int
    chunks_per_block: int
    chunks_per_question: int
    chunk_nbytes: int
    stored_nbytes: float
    """Of a chunk, when it is encoded."""
    blocks_per_task: int = 1
    """At most."""
    shrinks: bool = False
    """Whether tasks have fewer blocks towards the end, as `lazyio.execution.cluster` has it."""

    @property
    def questions_per_task(self) -> int:
        """Return how many times a task asks."""
        return self.questions_of(self.blocks_per_task)

    def questions_of(self, n_blocks: int) -> int:
        """Return how many times a task of some blocks asks."""
        return math.ceil(n_blocks * self.chunks_per_block / self.chunks_per_question)

    @property
    def n_chunks(self) -> int:
        """Return the chunks of all blocks."""
        return self.n_blocks * self.chunks_per_block

    @property
    def chunks_per_task(self) -> int:
        """Return the chunks of all blocks of a task."""
        return self.chunks_per_block * self.blocks_per_task

    def tasks(self, n_workers: int) -> list[int]:
        """Return the blocks of each task, in the order in which they are handed over."""
        found, left = [], self.n_blocks
        while left:
            most = max(1, left // n_workers) if self.shrinks else left
            found.append(min(most, self.blocks_per_task, left))
            left -= found[-1]
        return found

    @property
    def nbytes(self) -> int:
        """Return the bytes of all elements."""
        return self.n_chunks * self.chunk_nbytes


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What runs the cluster."""

    n_workers: int
    cores: int | None = None
    """Of one machine that does all; ``None`` is a core for everybody."""
    core_speeds: tuple[float, ...] = ()
    """How fast each of so many busy cores is, beside one alone; by default as fast."""
    others: float = 0.0
    """Cores that are kept busy by what has no part in the run."""
    disk: float = math.inf
    """Bytes a second that the file system takes from all together."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    seconds: float
    bytes_per_second: float
    caller_busy: float
    """Share of the time."""
    scheduler_busy: float
    wire_share: float
    """Bytes through scheduler and caller, beside those of the elements."""


class _Time:
    """What happens when, and the processors that work meanwhile."""

    def __init__(self, machines: Machines) -> None:
        self.now = 0.0
        self._machines = machines
        self._events: list[tuple[float, int, Then]] = []
        self._names = itertools.count()
        self._work: dict[int, tuple[float, Then]] = {}

    def start(self, process: Process) -> None:
        """Let a process go on to its next wait."""
        wait = next(process, None)
        if wait is not None:
            wait(lambda: self.start(process))

    def after(self, seconds: float) -> Wait:
        """Return a wait that takes no processor."""
        return lambda then: heapq.heappush(
            self._events, (self.now + seconds, next(self._names), then)
        )

    def work(self, seconds: float) -> Wait:
        """Return a wait for a processor, and for what it has to do."""
        if self._machines.cores is None:
            return self.after(seconds)
        return lambda then: self._work.update({next(self._names): (seconds, then)})

    def run(self) -> None:
        """Go on until nothing happens any more."""
        while self._events or self._work:
            speed = self._speed()
            first = min(self._work, key=lambda name: self._work[name][0], default=None)
            done = math.inf if first is None else self.now + self._work[first][0] / speed
            at = min(done, self._events[0][0] if self._events else math.inf)
            if self._work:
                passed = (at - self.now) * speed
                self._work = {name: (n - passed, then) for name, (n, then) in self._work.items()}
            self.now = at
            if first is not None and done <= at:
                self._work.pop(first)[1]()
            else:
                heapq.heappop(self._events)[2]()

    def _speed(self) -> float:
        """Return how fast each of those is that want a processor."""
        n, cores = len(self._work), self._machines.cores
        if not n or cores is None:
            return 1.0
        speeds = self._machines.core_speeds or (1.0,) * cores
        return speeds[min(n, cores) - 1] * min(1.0, (cores - self._machines.others) / n)


class _Server:
    """Somebody who does one thing at a time, in turn."""

    def __init__(self, takes: Callable[[float], Wait]) -> None:
        self.busy = 0.0
        self._takes = takes
        self._waiting: deque[tuple[float, Then]] = deque()
        self._is_at_work = False

    def do(self, seconds: float) -> Wait:
        """Return a wait for what this has to do, and for all that came before."""

        def wait(then: Then) -> None:
            self._waiting.append((seconds, then))
            if not self._is_at_work:
                self._next()

        return wait

    def _next(self) -> None:
        self._is_at_work = bool(self._waiting)
        if self._is_at_work:
            seconds, then = self._waiting.popleft()
            self.busy += seconds

            def done() -> None:
                then()
                self._next()

            self._takes(seconds)(done)


class _Store:
    """Numbers to be taken, by whoever has waited longest."""

    def __init__(self) -> None:
        self.taken: deque[int] = deque()
        self._held: deque[int] = deque()
        self._waiting: deque[Then] = deque()

    def put(self, number: int) -> None:
        """Add one."""
        self._held.append(number)
        if self._waiting:
            self.get(self._waiting.popleft())

    def get(self, then: Then) -> None:
        """Wait for one, which is the last of those taken then."""
        if self._held:
            self.taken.append(self._held.popleft())
            then()
        else:
            self._waiting.append(then)


class _Run:
    """One write."""

    def __init__(self, costs: Costs, shape: Shape, machines: Machines) -> None:
        self.costs, self.shape, self.n_workers = costs, shape, machines.n_workers
        self.time = _Time(machines)
        self.scheduler, self.caller = _Server(self.time.work), _Server(self.time.work)
        self.disk = _Server(self.time.after)
        self.disk_seconds = shape.stored_nbytes / machines.disk
        self.done = _Store()
        self.ready: deque[int] = deque()
        # Workers by what they have: those with nothing come first, and one more may wait in each.
        self.has: list[dict[_Store, None]] = [{}, {}, {}]

    def caller_process(self) -> Process:
        """Hand over tasks when half of those under way are done; take their results."""
        costs, time = self.costs, self.time
        to_come, under_way = deque(self.shape.tasks(self.n_workers)), 0
        most = max(1, _AHEAD * self.n_workers)
        yield time.work(costs.once)
        while to_come or under_way:
            if to_come and under_way <= most // 2:
                sizes = [to_come.popleft() for _ in range(min(len(to_come), most - under_way))]
                under_way += len(sizes)
                more = sum(sizes) - len(sizes)
                yield self.caller.do(len(sizes) * costs.caller_task / 2 + more * costs.caller_block)
                for size in sizes:
                    time.start(self._made_ready(size))
            else:
                yield self.done.get
                yield self.caller.do(costs.caller_task / 2)
                under_way -= 1
        yield time.after(costs.finish * self.shape.n_chunks)

    def _made_ready(self, size: int) -> Process:
        yield self.time.after(self.costs.hop)
        more = (size - 1) * self.costs.scheduler_block
        yield self.scheduler.do(self.costs.scheduler_task / 2 + more)
        self.ready.append(size)
        self._assign()

    def begin_worker(self) -> None:
        """Have one more worker."""
        inbox = _Store()
        self.has[0][inbox] = None
        self.time.start(self._worker(inbox))

    def _assign(self) -> None:
        while self.ready and (self.has[0] or self.has[1]):
            n = 0 if self.has[0] else 1
            inbox = next(iter(self.has[n]))
            del self.has[n][inbox]
            self.has[n + 1][inbox] = None
            self.time.start(self._given(inbox, self.ready.popleft()))

    def _given(self, inbox: _Store, size: int) -> Process:
        yield self.time.after(self.costs.hop)
        inbox.put(size)

    def _worker(self, inbox: _Store) -> Process:
        costs, shape, time = self.costs, self.shape, self.time
        while True:
            yield inbox.get
            size = inbox.taken.pop()
            yield time.work(costs.worker_task + (size - 1) * costs.worker_block)
            left = size * shape.chunks_per_block
            compute = costs.compute / shape.chunks_per_block
            while left:
                n = min(left, shape.chunks_per_question)
                left -= n
                yield time.work(n * (compute + costs.encode) + costs.worker_question)
                yield from self._asked(n)
                yield time.work(n * costs.write)
                yield self.disk.do(n * self.disk_seconds)
            time.start(self._finished(inbox))

    def _asked(self, n: int) -> Process:
        """Ask by way of the scheduler, and wait for the answer."""
        costs, time = self.costs, self.time
        asked = costs.scheduler_question / 2 + n * costs.scheduler_chunk
        for server, seconds in (
            (self.scheduler, asked),
            (self.caller, costs.caller_question + n * costs.caller_chunk),
            (self.scheduler, costs.scheduler_question / 2),
        ):
            yield time.after(costs.hop)
            yield server.do(seconds)
        yield time.after(costs.hop)

    def _finished(self, inbox: _Store) -> Process:
        yield self.time.after(self.costs.hop)
        yield self.scheduler.do(self.costs.scheduler_task / 2)
        n = 1 if inbox in self.has[1] else 2
        del self.has[n][inbox]
        self.has[n - 1][inbox] = None
        self._assign()
        yield self.time.after(self.costs.hop)
        self.done.put(0)


def simulated(costs: Costs, shape: Shape, machines: Machines) -> Outcome:
    """Return what a write comes to.

    Parameters
    ----------
    costs : Costs
        As they were measured.
    shape : Shape
        What is written.
    machines : Machines
        By whom.

    Examples
    --------
    >>> free = dict.fromkeys(Costs.__dataclass_fields__, 0.0)
    >>> costs = Costs(**free | {"encode": 0.1, "caller_chunk": 0.01})
    >>> shape = Shape(n_blocks=400, chunks_per_block=1, chunks_per_question=1, chunk_nbytes=1000,
    ...     stored_nbytes=500)
    >>> seconds = [simulated(costs, shape, Machines(n_workers=n)).seconds for n in (1, 4, 100)]
    >>> [round(one) for one in seconds]  # the last is the caller's: 400 chunks of 10 ms
    [44, 11, 4]
    """
    run = _Run(costs, shape, machines)
    for _ in range(machines.n_workers):
        run.begin_worker()
    run.time.start(run.caller_process())
    run.time.run()
    seconds = run.time.now
    sizes = shape.tasks(machines.n_workers)
    wire = len(sizes) * costs.wire_task
    wire += sum(map(shape.questions_of, sizes)) * costs.wire_question
    wire += shape.n_chunks * costs.wire_chunk
    return Outcome(
        seconds=seconds,
        bytes_per_second=shape.nbytes / seconds,
        caller_busy=run.caller.busy / seconds,
        scheduler_busy=run.scheduler.busy / seconds,
        wire_share=wire / shape.nbytes,
    )


def most_workers(costs: Costs, shape: Shape) -> tuple[float, str]:
    """Return how many workers keep the scheduler or the caller busy, and which of them.

    Parameters
    ----------
    costs : Costs
        As they were measured.
    shape : Shape
        What is written.
    """
    questions, chunks, more = _of_one_task(shape)
    task = (
        costs.worker_task
        + more * costs.worker_block
        + shape.blocks_per_task * costs.compute
        + questions * (costs.worker_question + 4 * costs.hop)
        + chunks * (costs.encode + costs.write)
    )
    of: dict[str, Any] = {
        name: getattr(costs, f"{name}_task")
        + more * getattr(costs, f"{name}_block")
        + questions * getattr(costs, f"{name}_question")
        + chunks * getattr(costs, f"{name}_chunk")
        for name in ("scheduler", "caller")
    }
    name = max(of, key=of.__getitem__)
    return task / of[name] if of[name] else math.inf, name


def _of_one_task(shape: Shape) -> tuple[int, int, int]:
    """Return the questions, the chunks, and the blocks beside the first of a task."""
    return shape.questions_per_task, shape.chunks_per_task, shape.blocks_per_task - 1


def processor_seconds(costs: Costs, shape: Shape, n_workers: int) -> float:
    """Return what a write takes of all processors, which others on the machine hardly change.

    Parameters
    ----------
    costs : Costs
        As they were measured.
    shape : Shape
        What is written.
    n_workers : int
        By how many.
    """
    who = ("scheduler", "caller", "worker")
    task, question, block = (
        sum(getattr(costs, f"{one}_{what}") for one in who)
        for what in ("task", "question", "block")
    )
    chunk = costs.scheduler_chunk + costs.caller_chunk + costs.encode + costs.write
    sizes = shape.tasks(n_workers)
    return (
        costs.once
        + len(sizes) * task
        + (shape.n_blocks - len(sizes)) * block
        + sum(map(shape.questions_of, sizes)) * question
        + shape.n_blocks * (costs.compute + shape.chunks_per_block * chunk)
    )
