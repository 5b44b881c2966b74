"""Threads that encode and write slabs while others are filled."""

import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

from lazyio.codecs.workspace import Workspace


class _Task(NamedTuple):
    owner: object
    write: Callable[[Workspace], object]
    done: Callable[[], object]


class Pool:
    """A few threads, and what they have to do.

    After the first error nothing more is written, and everything that waits is
    given back: whoever has buffers out gets them again.
    """

    def __init__(self, on_failed: Callable[[], object]) -> None:
        self._on_failed = on_failed
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._n_left = 0
        self._held: set[object] = set()
        self._parked: list[_Task] = []
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self, n_threads: int) -> None:
        """Work on so many slabs at once; once there are threads there are no more of them."""
        for at in range(len(self._threads), n_threads):
            thread = threading.Thread(target=self._loop, name=f"lazyio-push-{at}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(
        self,
        owner: object,
        write: Callable[[Workspace], object],
        done: Callable[[], object],
    ) -> None:
        """Have something written; ``done`` is called afterwards, come what may."""
        task = _Task(owner, write, done)
        with self._changed:
            if owner in self._held:
                self._parked.append(task)
                return
            self._n_left += 1
        self._tasks.put(task)

    def hold(self, owner: object) -> None:
        """Let what this owner submits from now on wait until :meth:`release`."""
        with self._changed:
            self._held.add(owner)

    def release(self) -> None:
        """Let all go on that waits."""
        with self._changed:
            parked, self._parked = self._parked, []
            self._held.clear()
            self._n_left += len(parked)
        for task in parked:
            self._tasks.put(task)

    def drain(self) -> None:
        """Return when all is written that does not wait."""
        with self._changed:
            while self._n_left:
                self._changed.wait()
        self.check()

    def check(self) -> None:
        """Raise what went wrong first, if anything has."""
        if self._failure is not None:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """Write nothing more, because of this."""
        with self._changed:
            is_first = self._failure is None
            if is_first:
                self._failure = error
        if is_first:
            self._on_failed()

    def close(self) -> None:
        """Let the threads end, once what they have begun is done."""
        self.release()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        workspace = Workspace()
        while (task := self._tasks.get()) is not None:
            try:
                if self._failure is None:
                    task.write(workspace)
            except BaseException as error:  # noqa: BLE001 - raised by the next call of the user
                self.fail(error)
            finally:
                task.done()
                with self._changed:
                    self._n_left -= 1
                    self._changed.notify_all()
