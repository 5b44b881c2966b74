"""The helper: it imports lazyio once, and forks a child for each file.

It has one thread, no locks and an empty working directory. A child answers
questions about one file until nobody asks any more, within limits of memory
and time that the kernel keeps: an alarm ends it, whatever it is doing.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
from dask.base import tokenize

from lazyio.codecs.libraries import optional
from lazyio.dtypes import is_text
from lazyio.errors import SourceChangedError
from lazyio.info import info_here, links_here
from lazyio.sources.base import lies_in_rows
from lazyio.sources.lookup import source_for
from lazyio.untrusted.messages import EndOfMessages, dtype_to_send, error_to_send, receive, send
from lazyio.verification.verify import verify_here

_NBYTES_PER_SECOND = 10**6
"""What is waited for at least: a slow disk, and data that shrink a thousand times."""
_FILE_NBYTES = 4096
"""A file counts as so many at least."""
_IDLE_SECONDS = 60
"""After which a child ends that nobody asks; the next question has another one forked."""
_MOST_HELD = 8
"""Arrays of a file that are asked for in turn, such as values and offsets."""
_SLACK_NBYTES = 256 * 2**20
"""Beside what was allowed: threads, tables, and what libraries keep."""
_WARM = ("numcodecs", "numcodecs.blosc", "hdf5plugin", "deflate", "isal.isal_zlib", "google_crc32c")
"""What children would import else, each anew."""

Answer = tuple[dict[str, Any], memoryview | bytes]


def main(control: int) -> None:
    """Fork children as they are asked for, until the caller has gone."""
    place = tempfile.mkdtemp()
    os.chdir(place)
    os.rmdir(place)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _WARM:
        optional(name)
    # What is collected later would be written to, and so copied, in each child.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=control) as link:
        _Forks(link).serve()


class _Forks:
    """The children that are alive, and where their ends are told."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._ends: dict[int, int] = {}
        """Process of each status pipe."""
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)
        self._poll.register(self._reads, select.POLLIN)

    def serve(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._link.fileno():
                    if not self._fork():
                        self._end_all()
                        return
                elif descriptor == self._reads:
                    os.read(self._reads, 4096)
                    self._reap()
                elif descriptor in self._ends:
                    # Nobody reads the pipe any more: the caller has given the child up.
                    with suppress(ProcessLookupError):
                        os.kill(self._ends[descriptor], signal.SIGKILL)
                    self._poll.unregister(descriptor)

    def _fork(self) -> bool:
        text, descriptors, _, _ = socket.recv_fds(self._link, 4096, 2)
        if not text:
            return False
        data, status = descriptors
        child = os.fork()
        if not child:
            _run(data, [*self._ends, status, self._link.fileno(), self._reads, self._writes], text)
        os.close(data)
        self._ends[status] = child
        self._poll.register(status, 0)
        return True

    def _reap(self) -> None:
        while self._ends:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            end = next(end for end, one in self._ends.items() if one == child)
            del self._ends[end]
            with suppress(KeyError):
                self._poll.unregister(end)
            with suppress(OSError):
                os.write(end, os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
            os.close(end)

    def _end_all(self) -> None:
        for child in self._ends.values():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _run(data: int, others: list[int], text: bytes) -> NoReturn:
    """Be a child: answer until nobody asks, and end without clearing up."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for descriptor in others:
            os.close(descriptor)
        _limit(int(json.loads(text)["memory_nbytes"]))
        with socket.socket(fileno=data) as link:
            _answer_all(link)
        code = 0
    finally:
        os._exit(code)


def _limit(memory_nbytes: int) -> None:
    """Have the kernel keep the limits."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        most = taken + memory_nbytes + _SLACK_NBYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _answer_all(link: socket.socket) -> None:
    held: dict[str, Any] = {}
    while True:
        link.settimeout(_IDLE_SECONDS)
        try:
            request, _ = receive(link)
        except (EndOfMessages, OSError):
            return
        link.settimeout(None)
        signal.setitimer(signal.ITIMER_REAL, float(request["seconds"]))
        try:
            answer, body = _DO[request["do"]](request, held)
            header: dict[str, Any] = {"answer": answer}
        except BaseException as error:  # noqa: BLE001 - raised again on the other side
            header, body = {"error": error_to_send(error, request["path"])}, b""
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(link, header, body)


def _describe(request: Mapping[str, Any], held: dict[str, Any]) -> Answer:
    """Answer what an array is."""
    source = _source(request, held)
    return {
        "shape": source.shape,
        "dtype": dtype_to_send(source.dtype),
        "chunk_shape": source.chunk_shape,
        "in_rows": lies_in_rows(source),
        "token": tokenize(source),
    }, b""


def _read(request: Mapping[str, Any], held: dict[str, Any]) -> Answer:
    """Answer a region: its bytes, or of text the length of each element and all of them."""
    source = _source(request, held)
    region = tuple(slice(start, stop) for start, stop in request["region"])
    nbytes = source.dtype.itemsize
    for part, chunk in zip(region, source.chunk_shape or (1,) * len(region), strict=True):
        nbytes *= part.stop - part.start + 2 * chunk
    _allow(request, nbytes)
    found = np.asarray(source.read(region))
    if not is_text(source.dtype):
        return {}, memoryview(np.ascontiguousarray(found).reshape(-1).view(np.uint8))
    texts = [text.encode("utf-8", "surrogatepass") for text in found.ravel().tolist()]
    return {"lengths": [len(text) for text in texts]}, b"".join(texts)


def _source(request: Mapping[str, Any], held: dict[str, Any]) -> Any:
    """Return the source of a file, the one of an earlier question where there is one."""
    asked = {name: request.get(name) for name in ("key", "format", "options", "allow_external")}
    name = json.dumps(asked)
    if name not in held:
        if len(held) >= _MOST_HELD:
            held.clear()
        held[name] = source_for(
            request["path"],
            request.get("key"),
            format=request.get("format"),
            options=request.get("options"),
            allow_external=request.get("allow_external"),
        )
        if request.get("token") not in (None, tokenize(held[name])):
            held.clear()
            msg = f"{request['path']} has changed since it was opened; open it again"
            raise SourceChangedError(msg)
    return held[name]


def _info(request: Mapping[str, Any], _: dict[str, Any]) -> Answer:
    return {"arrays": [one.to_dict() for one in info_here(request["path"])]}, b""


def _links(request: Mapping[str, Any], _: dict[str, Any]) -> Answer:
    return {"links": [one.to_dict() for one in links_here(request["path"])]}, b""


def _verify(request: Mapping[str, Any], _: dict[str, Any]) -> Answer:
    _allow(request, _size_of(request["path"]))
    return verify_here(request["path"], request["key"], **request["options"]).to_dict(), b""


def _size_of(path: str) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.exists(path) else 0
    total, waiting = 0, [path]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total += max(_FILE_NBYTES, entry.stat(follow_symlinks=False).st_size)
    return total


def _allow(request: Mapping[str, Any], nbytes: int) -> None:
    """Set the alarm anew, by what is going to be read."""
    seconds = float(request["seconds"]) + nbytes / _NBYTES_PER_SECOND
    signal.setitimer(signal.ITIMER_REAL, seconds)


_DO: dict[str, Callable[[Mapping[str, Any], dict[str, Any]], Answer]] = {
    "describe": _describe,
    "read": _read,
    "info": _info,
    "links": _links,
    "verify": _verify,
}
