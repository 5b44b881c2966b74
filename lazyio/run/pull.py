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
