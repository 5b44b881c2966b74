"""The thread that flushes: when it is asked to, and every few seconds."""

import threading
from collections.abc import Callable

INTERVAL = 2.0
"""Seconds after which what was appended is flushed without being asked for."""


class Flusher:
    """A thread of its own, so that what interrupts the user's leaves no flush half done."""

    def __init__(self, flush: Callable[[bool], object]) -> None:
        self._flush = flush
        self._changed = threading.Condition()
        self._n_asked = self._n_done = 0
        self._errors: dict[int, BaseException] = {}
        self._is_ending = False
        self._thread = threading.Thread(target=self._loop, name="lazyio-flush", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Return when all is flushed that there was when this was called."""
        with self._changed:
            self._n_asked += 1
            ticket = self._n_asked
            self._changed.notify_all()
            while self._n_done < ticket and self._thread.is_alive():
                self._changed.wait(INTERVAL)
            error = self._errors.pop(ticket, None)
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread, once it has done what it is at."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_ending or self._n_asked > self._n_done, INTERVAL
                )
                if self._is_ending:
                    return
                first, last = self._n_done + 1, self._n_asked
            error = None
            try:
                self._flush(last >= first)
            except BaseException as raised:  # noqa: BLE001 - handed to whoever asked
                error = raised
            with self._changed:
                if error is not None:
                    self._errors |= dict.fromkeys(range(first, last + 1), error)
                self._n_done = last
                self._changed.notify_all()
