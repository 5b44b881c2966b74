"""Threads that pull what is next from one iterator."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Turns:
    """Items that several threads pull from one iterator.

    Parameters
    ----------
    items : iterable
        What there is to do.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._lock:
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            yield item


def run_threads(threads: int, work: Callable[[], Any]) -> list[Any]:
    """Return what a function returns in each of so many threads.

    Parameters
    ----------
    threads : int
        How many.
    work : callable
        Without arguments; what they share it knows.
    """
    with ThreadPoolExecutor(threads) as pool:
        runs = [pool.submit(work) for _ in range(threads)]
        return [run.result() for run in runs]
