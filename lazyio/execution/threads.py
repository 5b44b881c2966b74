"""Threads that pull work from one iterator, or are fed by the calling thread.

No queue of finished work builds up, an item costs a few microseconds, and the
calling thread is free to draw progress and to be interrupted.

Some iterators belong to the thread that made them, and what comes once is
taken by the thread that called. So an error of another thread cannot be
raised while the iterator waits for its next item; it is logged at once, and
raised before another item is asked for.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from lazyio.codecs.workspace import Workspace

Item = TypeVar("Item")

# A thread that has no more to do says so by putting this.
_ENDED = object()

_LONG, _LONG_ENDING = 10.0, 2.0
"""Seconds without anything done, after which it is said what is being done."""


def pull(
    items: Iterable[Item],
    work: Callable[[Item, Workspace], object],
    *,
    n_threads: int,
    on_done: Callable[[Item], object],
    on_wait: Callable[..., object] | None = None,
) -> None:
    """Do work on every item, in threads, and return when all is done."""
    stop = threading.Event()
    finished: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
    source = _Shared(items)
    in_flight: dict[int, object] = {}

    def waited(*, is_ending: bool) -> None:
        if on_wait is not None:
            on_wait(list(in_flight.values()), is_ending=is_ending)

    def loop() -> None:
        workspace = Workspace()
        try:
            while not stop.is_set():
                item = source.next()
                if item is _ENDED:
                    break
                in_flight[threading.get_ident()] = item
                work(item, workspace)  # type: ignore[arg-type]
                del in_flight[threading.get_ident()]
                finished.put((item, None))
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread
            stop.set()
            in_flight.pop(threading.get_ident(), None)
            finished.put((_ENDED, error))
            return
        finished.put((_ENDED, None))

    threads = [
        threading.Thread(target=loop, name=f"lazyio-{at}", daemon=True) for at in range(n_threads)
    ]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        _collect(finished, n_threads, stop, on_done, waited)
    finally:
        stop.set()
        for thread in started:
            thread.join(_LONG_ENDING)
            while thread.is_alive():
                waited(is_ending=True)
                thread.join(_LONG)


def _collect(
    finished: "queue.SimpleQueue[tuple[object, BaseException | None]]",
    n_threads: int,
    stop: threading.Event,
    on_done: Callable[[Item], object],
    waited: Callable[..., None],
) -> None:
    failure: BaseException | None = None
    n_running = n_threads
    while n_running:
        try:
            item, error = finished.get(timeout=_LONG)
        except queue.Empty:
            waited(is_ending=False)
            continue
        if item is _ENDED:
            n_running -= 1
            failure = failure or error
        elif failure is None and not stop.is_set():
            on_done(item)  # type: ignore[arg-type]
    if failure is not None:
        raise failure


class _Shared:
    """An iterator that several threads may advance."""

    def __init__(self, items: Iterable[object]) -> None:
        self._items: Iterator[object] = iter(items)
        self._lock = threading.Lock()

    def next(self) -> object:
        """Return the next item, or the mark of the end."""
        with self._lock:
            return next(self._items, _ENDED)


logger = logging.getLogger("lazyio")


class Trouble:
    """The first error of any thread, for whoever is about to ask for more.

    Examples
    --------
    >>> trouble = Trouble()
    >>> trouble.check()
    >>> trouble.note(ValueError("full"))
    True
    >>> list(trouble.checked(iter([1, 2])))
    Traceback (most recent call last):
    ...
    ValueError: full
    """

    def __init__(self) -> None:
        self._first: BaseException | None = None
        self._lock = threading.Lock()

    def note(self, error: BaseException) -> bool:
        """Keep an error, and return whether it is the first."""
        with self._lock:
            is_first = self._first is None
            self._first = self._first or error
            return is_first

    def check(self) -> None:
        """Raise the error, if there is one."""
        if self._first is not None:
            raise self._first

    def checked(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and ask for none once there is an error."""
        iterator = iter(items)
        while True:
            self.check()
            try:
                item = next(iterator)
            except StopIteration:
                return
            yield item


def feed(
    items: Callable[[Trouble], Iterator[Item]],
    work: Callable[[Item, Workspace], object],
    *,
    n_threads: int,
    on_done: Callable[[Item], object],
    on_wait: Callable[[], object],
) -> None:
    """Do work on every item, in threads, and return when all is done."""
    crew = _Crew(work, n_threads, on_wait)
    try:
        for item in crew.paced(items(crew.trouble), on_done):
            crew.put(item)
        crew.collect(on_done, most=0)
    finally:
        crew.end()


class _Crew(Generic[Item]):
    """Threads, each of which takes what has been put and works on it."""

    def __init__(
        self,
        work: Callable[[Item, Workspace], object],
        n_threads: int,
        on_wait: Callable[[], object],
    ) -> None:
        self.trouble = Trouble()
        self._work = work
        self._n_threads = n_threads
        self._on_wait = on_wait
        self._asks_for_item = False
        self._n_out = 0
        # In tuples, so that None can say that there will be no more.
        self._todo: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._start_one()

    def paced(self, items: Iterator[Item], on_done: Callable[[Item], object]) -> Iterator[Item]:
        """Yield items, each once there is room for it."""
        while True:
            self.collect(on_done, most=self._n_threads - 1)
            self._asks_for_item = True
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._asks_for_item = False
            yield item

    def put(self, item: Item) -> None:
        """Have an item worked on."""
        if self._n_out >= len(self._threads):
            self._start_one()
        self._n_out += 1
        self._todo.put((item,))

    def collect(self, on_done: Callable[[Item], object], *, most: int) -> None:
        """Tell what is done, and wait until no more items than that are not."""
        while True:
            self.trouble.check()
            try:
                done = self._finished.get(self._n_out > most)
            except queue.Empty:
                return
            if done is not None:
                self._n_out -= 1
                on_done(*done)

    def end(self) -> None:
        """Let every thread end after what it is at."""
        self.trouble.note(_Over())
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join(_LONG_ENDING)
            while thread.is_alive():
                logger.warning("waiting for what is being written; Ctrl-C leaves at once")
                thread.join(_LONG)

    def _start_one(self) -> None:
        name = f"lazyio-{len(self._threads)}"
        thread = threading.Thread(target=self._loop, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _loop(self) -> None:
        workspace = Workspace()
        while True:
            try:
                todo = self._todo.get(timeout=_LONG)
            except queue.Empty:
                if self._asks_for_item:
                    self._on_wait()
                continue
            if todo is None:
                return
            self._do(*todo, workspace)

    def _do(self, item: Item, workspace: Workspace) -> None:
        """Work on an item, unless there has been an error."""
        try:
            self.trouble.check()
            self._work(item, workspace)
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread
            if self.trouble.note(error):
                logger.error("%s; raised before the next item is asked for", error)
            self._finished.put(None)
        else:
            self._finished.put((item,))


class _Over(Exception):
    """Keeps threads from what has been put and not begun when a run ends."""
