"""What the caller and a child send each other: JSON, and bytes behind it.

Nothing that is received is run or unpickled: a child that a file has taken
over can answer nonsense, which is told from an answer, and no more.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr

from lazyio import errors
from lazyio.dtypes import TEXT, is_text
from lazyio.errors import LazyioError, UnsafeFileError

_FRAME = struct.Struct(">IQ")
_MOST_HEADER_NBYTES = 16 * 2**20
_MOST_CAUSES = 16


class EndOfMessages(Exception):
    """The other side has gone, or what it says is no message."""


def send(link: socket.socket, header: Mapping[str, Any], body: memoryview | bytes = b"") -> None:
    """Send a message."""
    text = json.dumps(header).encode()
    content = memoryview(body).cast("B")
    link.sendall(_FRAME.pack(len(text), content.nbytes) + text)
    link.sendall(content)


def receive(
    link: socket.socket, out: memoryview | None = None, most_nbytes: int = 0
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Return a message: its header, and its body."""
    head = bytearray(_FRAME.size)
    _fill(link, memoryview(head))
    n_header, n_body = _FRAME.unpack(head)
    if n_header > _MOST_HEADER_NBYTES:
        msg = f"a header of {n_header} bytes"
        raise EndOfMessages(msg)
    text = bytearray(n_header)
    _fill(link, memoryview(text))
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EndOfMessages(str(error)) from error
    if not isinstance(header, dict):
        msg = "a header that is no mapping"
        raise EndOfMessages(msg)
    if out is not None and n_body == len(out):
        _fill(link, out)
        return header, out
    if n_body > most_nbytes:
        msg = f"a body of {n_body} bytes"
        raise EndOfMessages(msg)
    body = bytearray(n_body)
    _fill(link, memoryview(body))
    return header, bytes(body)


def _fill(link: socket.socket, view: memoryview) -> None:
    at = 0
    while at < len(view):
        count = link.recv_into(view[at:])
        if not count:
            msg = "the other side has gone"
            raise EndOfMessages(msg)
        at += count


def error_to_send(error: BaseException, path: str) -> dict[str, Any]:
    """Return an error as JSON can hold it: lazyio's own as they are, others as unsafe."""
    if _is_of_memory(error):
        text = (
            f"{path}: reading it takes more memory than the limit; if you trust it, give a higher "
            "memory_limit=, or open it with trusted=True"
        )
        return {"kind": "UnsafeFileError", "text": text}
    if isinstance(error, LazyioError):
        number = error.errno if isinstance(error, OSError) else None
        return {"kind": type(error).__name__, "text": str(error), "errno": number}
    if isinstance(error, OSError) and error.errno is not None:
        text = f"{path} cannot be read: {error.strerror}"
        return {"kind": "SourceError", "text": text, "errno": error.errno}
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return {"kind": "UnsafeFileError", "text": f"{path} is damaged, or made to look so: {text}"}


def _is_of_memory(error: BaseException | None) -> bool:
    for _ in range(_MOST_CAUSES):
        if error is None or (isinstance(error, MemoryError) and not isinstance(error, LazyioError)):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, MemoryError) and not isinstance(error, LazyioError)


def error_received(sent: Any, path: str) -> LazyioError:
    """Return the error that a child tells of."""
    kind = getattr(errors, str(sent.get("kind")), None) if isinstance(sent, dict) else None
    if not (isinstance(kind, type) and issubclass(kind, LazyioError)):
        return UnsafeFileError(f"{path}: the process that reads it gave no answer")
    text, number = str(sent.get("text")), sent.get("errno")
    return kind(number, text) if isinstance(number, int) and number else kind(text)


def dtype_to_send(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as JSON can hold it, by ``numpy``'s own description.

    Examples
    --------
    >>> dtype_to_send(np.dtype("<i2")), dtype_to_send(np.dtypes.StringDType())
    ('<i2', 'text')
    """
    return "text" if is_text(dtype) else dtype_to_descr(np.dtype(dtype))


def dtype_received(sent: Any) -> np.dtype[Any]:
    """Return the dtype that a child describes."""
    return TEXT if sent == "text" else np.dtype(descr_to_dtype(_tuples(sent)))


def _tuples(sent: Any) -> Any:
    """Return a description with its tuples, which JSON has made lists."""
    if not isinstance(sent, list):
        return sent
    return [tuple(_tuples(part) if at else part for at, part in enumerate(one)) for one in sent]
