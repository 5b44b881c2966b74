"""The caller's side: one helper for each process, and a child of it for each file.

The helper is started by the first file that is not trusted, by ``subprocess``
and not by forking: the caller has threads. It ends with the caller, and with
those that were forked of it and use it as well: their ends of the control
socket are closed then.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lazyio.errors import LazyioError, OptionError, SourceError, UnsafeFileError
from lazyio.untrusted.messages import EndOfMessages, error_received, receive, send

SECONDS = 60.0
"""For metadata, and for the first bytes of data; see ``server.allowed_seconds``."""
MEMORY_NBYTES = 2**30
"""For what is asked for without a limit of its own."""
_MOST_IDLE = 8
"""Children that wait for the next region of their file."""
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from lazyio.untrusted.server import main; main(int(sys.argv[1]))"
)
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
_QUIET = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Libraries that would start threads in the helper, which forks."""
_GRACE_SECONDS = 5.0
"""For a child to end that has said what is no answer; then it is killed."""


def is_available() -> bool:
    """Return whether this system can do it."""
    return hasattr(os, "fork") and hasattr(socket, "send_fds")


def ask(
    path: str,
    request: Mapping[str, Any],
    *,
    out: memoryview | None = None,
    memory_nbytes: int = MEMORY_NBYTES,
    most_nbytes: int = 0,
    seconds: float | None = None,
    keep: bool = False,
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Return what a child answers about a file."""
    patience = SECONDS if seconds is None else seconds
    asked = {"path": path, "seconds": patience, **request}

    def exchange() -> tuple[dict[str, Any], bytes | memoryview]:
        with _child_for(path, memory_nbytes, keep=keep) as child:
            return child.ask(asked, path, out, most_nbytes)

    try:
        header, body = exchange()
    except _IdleError:
        header, body = exchange()  # It had waited too long; a new one has not.
    if "error" in header:
        raise error_received(header["error"], path)
    answer = header.get("answer")
    if not isinstance(answer, dict):
        raise UnsafeFileError(_unsafe(path, "the process that reads it gave no answer"))
    return answer, body


class NoHelperError(SourceError):
    """The interpreter lies where this process, which has let go of rights, may not look."""


class _IdleError(UnsafeFileError):
    """The child had ended before it was asked."""


@dataclass(kw_only=True)
class _Child:
    """One child, which knows one file."""

    link: socket.socket
    status: int
    """What the helper writes its end into."""
    path: str
    memory_nbytes: int

    def ask(
        self, request: Mapping[str, Any], path: str, out: memoryview | None, most_nbytes: int
    ) -> tuple[dict[str, Any], bytes | memoryview]:
        try:
            send(self.link, request)
            # However long it takes: the child's alarm ends it.
            return receive(self.link, out, most_nbytes)
        except (EndOfMessages, OSError) as error:
            raise UnsafeFileError(_unsafe(path, self._end(error))) from error

    def _end(self, error: Exception) -> str:
        """Return how it ended."""
        self.link.close()
        told, _, _ = select.select([self.status], [], [], _GRACE_SECONDS)
        raw = os.read(self.status, 4) if told else b""
        if len(raw) < 4:
            return f"the process that reads it answers nonsense ({error})"
        code = int.from_bytes(raw, "big", signed=True)
        if code == 0:
            raise _IdleError
        if code == -signal.SIGALRM:
            return "reading it takes longer than its size allows for"
        if code == -signal.SIGKILL:
            return "the process that reads it was killed, as the system does when memory is short"
        if code < 0:
            return f"the libraries that read it crash on it ({signal.Signals(-code).name})"
        return f"the process that reads it gave no answer ({error})"

    def close(self) -> None:
        """End it: the helper sees that nobody asks for its status any more."""
        self.link.close()
        with suppress(OSError):
            os.close(self.status)


def _user() -> tuple[object, ...]:
    """Return who this process is for the system."""
    return os.geteuid(), os.getegid(), tuple(os.getgroups())


@dataclass(kw_only=True)
class _Helper:
    """The helper of this process, and the children that wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: "subprocess.Popen[bytes] | None" = None
    control: socket.socket | None = None
    user: tuple[object, ...] = ()
    """On whose behalf it reads: who has let go of rights must not read by way of it."""
    idle: list[_Child] = field(default_factory=list)
    all: list[_Child] = field(default_factory=list)
    """Also those that are at work, whose ends a forked caller has to close."""

    def child(self, path: str, memory_nbytes: int) -> _Child:
        """Return a child that waits, or a new one."""
        with self.lock:
            waiting = self.idle if self.user == _user() else []
            for at, one in enumerate(waiting):
                if (one.path, one.memory_nbytes) == (path, memory_nbytes):
                    return self.idle.pop(at)
            child = self._new(path, memory_nbytes)
            self.all.append(child)
            return child

    def give_back(self, child: _Child, *, keep: bool) -> None:
        """Have a child wait, the oldest ones going; or end it."""
        with self.lock:
            over = [] if keep else [child]
            if keep:
                self.idle.append(child)
                over = self.idle[:-_MOST_IDLE]
                self.idle = self.idle[-_MOST_IDLE:]
            for one in over:
                self.all.remove(one)
                one.close()

    def _new(self, path: str, memory_nbytes: int) -> _Child:
        ours, theirs = socket.socketpair()
        reads, writes = os.pipe()
        text = json.dumps({"memory_nbytes": memory_nbytes}).encode()
        try:
            try:
                socket.send_fds(self._started(), [text], [theirs.fileno(), writes])
            except BrokenPipeError:
                # That of the process that we were forked of is no more.
                self._let_go()
                socket.send_fds(self._started(), [text], [theirs.fileno(), writes])
        except (LazyioError, OSError) as error:
            ours.close()
            os.close(reads)
            if isinstance(error, LazyioError):
                raise
            msg = f"the process that reads files of strangers cannot be reached: {error}"
            raise SourceError(error.errno, msg) from error
        finally:
            theirs.close()
            os.close(writes)
        return _Child(link=ours, status=reads, path=path, memory_nbytes=memory_nbytes)

    def _started(self) -> socket.socket:
        """Return the control socket, of a new helper where the last one is no more."""
        is_alive = self.process is None or self.process.poll() is None
        if self.control is not None and is_alive and self.user == _user():
            return self.control
        self._let_go()
        if not is_available() or not sys.executable:
            msg = (
                "trusted=False works where processes can fork (Linux, macOS) and a Python can be "
                "started; read the file there, and leave it out only for a file that you trust"
            )
            raise OptionError(msg)
        # Messages stay whole, also where forked processes send on the same socket.
        ours, theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        places = [os.path.abspath(place) for place in sys.path]
        # -P: without it Python 3.13 looks up its working directory, which is gone, for some errors.
        command = [sys.executable, "-P", "-W", "ignore", "-c", _START, str(theirs.fileno())]
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [*command, json.dumps(places)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **dict.fromkeys(_QUIET, "1"), "MALLOC_ARENA_MAX": "2"},
                    start_new_session=True,
                )
            except PermissionError as error:
                ours.close()
                msg = f"{sys.executable} may not be started to read files of strangers"
                raise NoHelperError(error.errno, msg) from error
            except OSError as error:
                ours.close()
                msg = f"no process can be started to read files of strangers: {error.strerror}"
                raise SourceError(error.errno, msg) from error
        self.control, self.user = ours, _user()
        _tidy_at_the_end()
        return ours

    def stop(self) -> None:
        """End the helper, and all children with it, unless forked processes use it as well."""
        with self.lock:
            self._let_go()

    def _let_go(self) -> None:
        for child in self.all:
            child.close()
        if self.control is not None:
            self.control.close()
        if self.process is not None:
            # It ends when nobody asks any more: its destructor must not warn of it.
            self.process.returncode = 0
        self.process, self.control, self.idle, self.all = None, None, [], []

    def forget(self) -> None:
        """Let go, in a forked process, of what belongs to the one that was forked."""
        control, user = self.control, self.user
        self.control = None
        self._let_go()
        self.lock = threading.Lock()
        if _KIND == socket.SOCK_SEQPACKET:
            self.control, self.user = control, user
        elif control is not None:
            control.close()


_helper = _Helper()
_tidied = threading.Event()


def _tidy_at_the_end() -> None:
    if not _tidied.is_set():
        _tidied.set()
        atexit.register(_helper.stop)
        os.register_at_fork(after_in_child=_helper.forget)


@contextmanager
def _child_for(path: str, memory_nbytes: int, *, keep: bool) -> Iterator[_Child]:
    child = _helper.child(path, memory_nbytes)
    is_sound = False
    try:
        yield child
        is_sound = True
    finally:
        _helper.give_back(child, keep=keep and is_sound)


def _unsafe(path: str, what: str) -> str:
    return (
        f"{path}: {what}; it is damaged, or made to do harm. Get a sound copy, or open it with "
        "trusted=True where that may happen"
    )
