"""Work of one read that several threads share: whoever asked for it is one of them."""

import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from lazyio.windowing.crew import Crew

Item = TypeVar("Item")


class Errands(Generic[Item]):
    """Items that are each worked on once, by whichever thread comes first."""

    def __init__(self, items: Collection[Item], work: Callable[[Item], None]) -> None:
        self._todo = deque(items)
        self._n_open = len(items)
        self._work = work
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def run(self, crew: Crew) -> None:
        """Work with the help of other threads, and return when all is done, or raise the error."""
        if len(self._todo) > 1:
            crew.help(self._take, len(self._todo) - 1)
        try:
            self._take()
        finally:
            # What has not been begun stays undone when this thread is interrupted.
            self._todo.clear()
        with self._changed:
            while self._n_open and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def _take(self) -> None:
        while True:
            try:
                item = self._todo.popleft()
            except IndexError:
                return
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001 - raised by whoever asked for it
                self._todo.clear()
                with self._changed:
                    self._error = self._error or error
                    self._changed.notify_all()
                return
            with self._changed:
                self._n_open -= 1
                if not self._n_open:
                    self._changed.notify_all()
