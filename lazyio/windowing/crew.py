"""Threads that read ahead, and help whoever has to wait for several cells."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

_PATIENCE = 10.0
"""Seconds for which a fork waits for what is being read."""

logger = logging.getLogger("lazyio")


class Crew:
    """Threads that work on what is urgent first, then on what may be needed soon.

    They start with the first work, and end when they are told to.
    """

    def __init__(self, n_threads: int, load_ahead: Callable[[int], bool]) -> None:
        self.n_threads = n_threads
        self._load_ahead = load_ahead
        self._changed = threading.Condition()
        self._urgent: deque[Callable[[], None]] = deque()
        self._ahead: deque[int] = deque()
        self._threads: list[threading.Thread] = []
        self._n_idle = 0
        self._n_busy = 0
        self._is_paused = False
        self._is_over = False

    def help(self, work: Callable[[], None], count: int) -> None:
        """Have up to so many threads do the same work, which shares itself out."""
        with self._changed:
            n_helpers = min(count, self.n_threads)
            self._urgent.extend([work] * n_helpers)
            self._call(n_helpers)

    def read_ahead(self, numbers: Iterable[int]) -> None:
        """Have cells loaded in this order, instead of those that were asked for before."""
        with self._changed:
            self._ahead = deque(numbers)
            if self._ahead:
                self._call(len(self._ahead))

    def stop(self) -> None:
        """Let every thread end after what it is at."""
        with self._changed:
            self._is_over = True
            self._urgent.clear()
            self._ahead.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def pause(self) -> None:
        """Wait until no thread is at work, and let none begin: the process is about to fork.

        A lock that is held by a thread stays locked for ever in a child without that thread.
        """
        if threading.current_thread() in self._threads:
            return
        until = time.monotonic() + _PATIENCE
        with self._changed:
            self._is_paused = True
            while self._n_busy and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def resume(self) -> None:
        """Let threads go on."""
        with self._changed:
            self._is_paused = False
            self._changed.notify_all()

    def _call(self, count: int) -> None:
        """Wake threads, or start some; the lock is held."""
        if self._is_over:
            return
        self._changed.notify_all()
        n_new = min(count - self._n_idle, self.n_threads - len(self._threads))
        for _ in range(n_new):
            name = f"lazyio-window-{len(self._threads)}"
            thread = threading.Thread(target=self._loop, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _next(self) -> Callable[[], object] | None:
        """Return what to do now, once there is something; ``None`` at the end."""
        with self._changed:
            self._n_idle += 1
            while not self._is_over and (self._is_paused or not (self._urgent or self._ahead)):
                self._changed.wait()
            self._n_idle -= 1
            if self._is_over:
                return None
            self._n_busy += 1
            if self._urgent:
                return self._urgent.popleft()
            number = self._ahead.popleft()
            return lambda: self._load_ahead(number)

    def _loop(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whoever needs the cell is told
                logger.debug("reading ahead failed: %s", error)
            del work
            with self._changed:
                self._n_busy -= 1
                self._changed.notify_all()
