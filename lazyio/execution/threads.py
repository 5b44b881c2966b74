"""Threads that work on items, which they pull from one iterator or are fed by the calling thread.

No queue of finished work builds up, an item that is pulled costs a few
microseconds, and the calling thread is free to draw progress and to be
interrupted.

Some iterators belong to the thread that made them, and what comes once is
taken by the thread that called. So an error of another thread cannot be
raised while the iterator waits for its next item; it is logged at once, and
raised before another item is asked for.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Self, TypeVar

from lazyio.codecs.workspace import Workspace

Item = TypeVar("Item")

_LONG, _LONG_ENDING = 10.0, 2.0
"""Seconds without anything done, after which it is said what is being done."""

logger = logging.getLogger("lazyio")


def pull(
    items: Iterable[Item],
    work: Callable[[Item, Workspace], object],
    *,
    n_threads: int,
    on_done: Callable[[Item], object] | None = None,
    on_wait: Callable[..., object] | None = None,
) -> None:
    """Do work on every item, in threads that take them, and return when all is done."""
    iterator, lock = iter(items), threading.Lock()

    def take() -> tuple[Item] | None:
        with lock:
            for item in iterator:
                return (item,)
        return None

    with _Crew(take, work, on_done, on_wait=on_wait) as crew:
        for _ in range(n_threads):
            crew.start_one()
        while crew.n_running:
            crew.collect()


def feed(
    items: "Callable[[Trouble], Iterator[Item]]",
    work: Callable[[Item, Workspace], object],
    *,
    n_threads: int,
    on_done: Callable[[Item], object],
    on_wait: Callable[[], object],
) -> None:
    """Do work on every item, in threads that are given them, and return when all is done."""
    todo: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
    is_asking = threading.Event()

    def take() -> tuple[Item] | None:
        while True:
            try:
                return todo.get(timeout=_LONG)
            except queue.Empty:
                if is_asking.is_set():
                    on_wait()

    def tell(error: BaseException) -> None:
        if is_asking.is_set():
            logger.error("%s; raised before the next item is asked for", error)

    def tell_ending(_: Sequence[Item], *, is_ending: bool) -> None:
        if is_ending:
            logger.warning("waiting for what is being written; Ctrl-C leaves at once")

    with _Crew(take, work, on_done, on_wait=tell_ending, on_error=tell) as crew:
        try:
            n_given = 0
            crew.start_one()
            is_asking.set()
            for item in items(crew.trouble):
                is_asking.clear()
                if n_given - crew.n_done >= crew.n_running:
                    crew.start_one()
                todo.put((item,))
                n_given += 1
                while crew.collect(waits=n_given - crew.n_done >= n_threads):
                    pass
                is_asking.set()
            is_asking.clear()
            while crew.n_done < n_given:
                crew.collect()
        finally:
            for _ in range(n_threads):
                todo.put(None)


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

    @property
    def is_there(self) -> bool:
        """Whether there is an error."""
        return self._first is not None

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


class _Crew(Generic[Item]):
    """Threads, each of which takes an item and works on it, until there is none or an error."""

    def __init__(
        self,
        take: Callable[[], tuple[Item] | None],
        work: Callable[[Item, Workspace], object],
        on_done: Callable[[Item], object] | None,
        *,
        on_wait: Callable[..., object] | None,
        on_error: Callable[[BaseException], object] | None = None,
    ) -> None:
        self.trouble = Trouble()
        self.n_running = 0
        self.n_done = 0
        self._take = take
        self._work = work
        self._on_done = on_done
        self._on_wait = on_wait
        self._on_error = on_error
        # In tuples, so that None can say that a thread has ended.
        self._finished: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
        self._in_flight: dict[int, Item] = {}
        self._threads: list[threading.Thread] = []

    def start_one(self) -> None:
        """Start a thread."""
        name = f"lazyio-{len(self._threads)}"
        thread = threading.Thread(target=self._loop, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        self.n_running += 1

    def collect(self, *, waits: bool = True) -> bool:
        """Tell of something that is done, or raise what failed; return whether there was any."""
        self.trouble.check()
        try:
            done = self._finished.get(waits, _LONG)
        except queue.Empty:
            if waits:
                self._tell(is_ending=False)
            return waits
        if done is None:
            self.n_running -= 1
            self.trouble.check()
        else:
            self.n_done += 1
            if self._on_done is not None:
                self._on_done(*done)
        return True

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let every thread end after what it is at."""
        self.trouble.note(_Over())
        for thread in self._threads:
            thread.join(_LONG_ENDING)
            while thread.is_alive():
                self._tell(is_ending=True)
                thread.join(_LONG)

    def _tell(self, *, is_ending: bool) -> None:
        if self._on_wait is not None:
            self._on_wait(list(self._in_flight.values()), is_ending=is_ending)

    def _loop(self) -> None:
        workspace, own = Workspace(), threading.get_ident()
        try:
            while not self.trouble.is_there and (taken := self._take()) is not None:
                self.trouble.check()
                (self._in_flight[own],) = taken
                self._work(*taken, workspace)
                del self._in_flight[own]
                self._finished.put(taken)
        except BaseException as error:  # noqa: BLE001 - raised on the calling thread
            self._in_flight.pop(own, None)
            if self.trouble.note(error) and self._on_error is not None:
                self._on_error(error)
        self._finished.put(None)


class _Over(Exception):
    """Keeps threads from what has been put and not begun when a run ends."""
