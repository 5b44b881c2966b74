"""A process that opens mutated files as trusted ones: it may crash, and another takes over."""

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable

MOST_SECONDS = 20
"""For one file; what takes longer hangs."""
_MEMORY_NBYTES = 3 * 2**30


class Trusted:
    """A line for each file, and a line of what became of it.

    Parameters
    ----------
    attempt : callable
        From the text of a line to what became of it.
    """

    def __init__(self, attempt: Callable[[str], str]) -> None:
        self._attempt = attempt
        self._child = 0

    def ask(self, line: str) -> str:
        """Return what became of a file, ``crash`` or ``hang`` where it ended the process."""
        if not self._child:
            self._fork()
        self._link.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = self._link.recv(65536)
            if not part:
                _, status = os.waitpid(self._child, 0)
                self._child = 0
                self._link.close()
                number = os.waitstatus_to_exitcode(status)
                return "hang" if number == -signal.SIGALRM else f"crash {number}"
            answer += part
        return answer.decode().rstrip("\n")

    def close(self) -> None:
        """End the process."""
        if self._child:
            self._link.close()
            os.waitpid(self._child, 0)
            self._child = 0

    def _fork(self) -> None:
        self._link, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child:
            theirs.close()
            return
        try:
            self._link.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libhdf5 tells of its last moments.
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_NBYTES, _MEMORY_NBYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with theirs, theirs.makefile("rw") as lines:
                for line in lines:
                    signal.alarm(MOST_SECONDS)
                    lines.write(self._attempt(line.rstrip("\n")).replace("\n", " ") + "\n")
                    lines.flush()
                    signal.alarm(0)
        finally:
            sys.stdout.flush()
            os._exit(0)
