"""Processes of a trial: each forked from this one, which has imported everything.

What a process has to say it writes to a file, so that nothing of it is lost when
it is killed.
"""

import contextlib
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.company.programs import Act

_PATIENCE = 60.0
_CALLS = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "link", "pwrite", "write")
"""Calls before which a process may be killed."""


@dataclass(frozen=True)
class Kill:
    """When a process is killed: after a time, or before one of its calls."""

    seconds: float | None = None
    calls: int | None = None


@dataclass
class Said:
    """What a process has said, and how it ended."""

    lines: list[tuple[str, int, float, Any]] = field(default_factory=list)
    """Kind, place of the step, time, and what goes with it."""
    began: float = 0.0
    ended: float = 0.0
    signal: int = 0
    is_killed: bool = False
    is_hung: bool = False

    @property
    def error(self) -> tuple[str, str, bool] | None:
        """Name of the class of an exception, its text, and whether it is one of lazyio's."""
        return next((what for kind, _, _, what in self.lines if kind == "error"), None)

    @property
    def trace(self) -> str:
        """Return where an exception came from."""
        return next((what for kind, _, _, what in self.lines if kind == "trace"), "")


class Process:
    """An act in a process of its own.

    Parameters
    ----------
    act : Act
        What it does.
    log : Path
        File for what it says.
    kill : Kill, optional
        When it is killed.
    delay : float
        Seconds that it waits before it begins.
    """

    def __init__(
        self, act: Act, log: Path, *, kill: Kill | None = None, delay: float = 0.0
    ) -> None:
        self._log = log
        self._kill = kill or Kill()
        self._said = Said(began=time.monotonic())
        self._is_over = False
        self._pid = os.fork()
        if not self._pid:
            _run(act, log, self._kill, delay)

    def look(self) -> bool:
        """Kill the process if it is time, and return whether it has ended."""
        if self._is_over:
            return True
        now = time.monotonic()
        age = now - self._said.began
        if self._kill.seconds is not None and age > self._kill.seconds:
            os.kill(self._pid, signal.SIGKILL)
        elif age > _PATIENCE:
            self._said.is_hung = True
            os.kill(self._pid, signal.SIGKILL)
        done, status = os.waitpid(self._pid, os.WNOHANG)
        if not done:
            return False
        self._is_over = True
        self._said.ended = time.monotonic()
        self._said.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        wanted = self._kill != Kill() and self._said.signal == signal.SIGKILL
        self._said.is_killed = wanted and not self._said.is_hung
        return True

    def said(self) -> Said:
        """Wait for the end, and return what was said."""
        while not self.look():
            time.sleep(0.0005)
        self._said.lines += _lines_of(self._log)
        return self._said


def _lines_of(log: Path) -> Iterator[tuple[str, int, float, Any]]:
    """Yield what was said, but for a last line that was cut off."""
    if not log.exists():
        return
    with log.open("rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(file)


def said_by(act: Act, log: Path, *, kill: Kill | None = None) -> Said:
    """Do something in a process of its own, and return what it said."""
    return Process(act, log, kill=kill).said()


def _run(act: Act, log: Path, kill: Kill, delay: float) -> None:
    """Do it, and end this process."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write = os.write

    def tell(kind: str, place: int, what: Any = None) -> None:
        write(descriptor, pickle.dumps((kind, place, time.monotonic(), what)))

    status = 1
    try:
        time.sleep(delay)
        with act.context() if act.context is not None else contextlib.nullcontext():
            if kill.calls is not None:
                _die_before(kill.calls)
            act.run(tell)
        tell("end", 0)
        status = 0
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        tell("trace", 0, traceback.format_exc())
        is_ours = any(one.__name__ == "LazyioError" for one in type(error).__mro__)
        tell("error", 0, (type(error).__name__, str(error), is_ours))
    finally:
        os._exit(status)


def _die_before(n_calls: int) -> None:
    """End this process before one of the calls that change names or files."""
    left = [n_calls]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args, **kwargs)

        return call

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
