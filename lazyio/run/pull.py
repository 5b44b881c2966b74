"""Threads that pull work from one iterator: as many in flight as there are threads.

No queue of finished work builds up, an item costs a few microseconds, and the
calling thread is free to draw progress and to be interrupted.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from lazyio.codecs.workspace import Workspace

Item = TypeVar("Item")

# A thread that has no more to do says so by putting this.
_ENDED = object()


def pull(
    items: Iterable[Item],
    work: Callable[[Item, Workspace], object],
    *,
    n_threads: int,
    on_done: Callable[[Item], object],
) -> None:
    """Do work on every item, in threads, and return when all is done.

    Parameters
    ----------
    items : iterable
        Taken one at a time, in order, by whichever thread is free.
    work : callable
        Given an item and the thread's own workspace.
    n_threads : int
        How many items are worked on at once.
    on_done : callable
        Given each item after its work, on the calling thread.

    Raises
    ------
    BaseException
        The first that ``work``, ``items`` or ``on_done`` raised, or that
        interrupted the wait; by then no thread is at work any more.
    """
    stop = threading.Event()
    finished: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
    source = _Shared(items)

    def loop() -> None:
        workspace = Workspace()
        try:
            while not stop.is_set():
                item = source.next()
                if item is _ENDED:
                    break
                work(item, workspace)  # type: ignore[arg-type]
                finished.put((item, None))
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread
            stop.set()
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
        _collect(finished, n_threads, stop, on_done)
    finally:
        stop.set()
        for thread in started:
            thread.join()


def _collect(
    finished: "queue.SimpleQueue[tuple[object, BaseException | None]]",
    n_threads: int,
    stop: threading.Event,
    on_done: Callable[[Item], object],
) -> None:
    failure: BaseException | None = None
    n_running = n_threads
    while n_running:
        item, error = finished.get()
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
