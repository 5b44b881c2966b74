"""Verifying in a process of its own: libhdf5 may crash on a damaged file."""

import os
import pickle
import signal
from typing import Any

from lazyio.verifying.findings import DAMAGED, VerifyReport
from lazyio.verifying.verify import verify


def verify_apart(path: str, key: str | None, *, deep: bool) -> VerifyReport:
    """Return what :func:`lazyio.verify` does, also of a file that ends the process.

    To be called where no threads are running, for it forks.

    Raises
    ------
    LazyioError, OSError
        As ``verify`` does.
    """
    if not hasattr(os, "fork"):
        return verify(path, key, deep=deep)
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reads)
            with open(writes, "wb") as pipe:
                pickle.dump(_attempt(path, key, deep), pipe)
        finally:
            os._exit(0)
    os.close(writes)
    try:
        with open(reads, "rb") as pipe:
            sent = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or not sent:
        what = f"the libraries that read it crash on it (signal {os.WTERMSIG(status)})"
        return VerifyReport(path=path, status=DAMAGED, damaged=((None, None, what),))
    found: Any = pickle.loads(sent)
    if isinstance(found, BaseException):
        raise found
    report: VerifyReport = found
    return report


def _attempt(path: str, key: str | None, deep: bool) -> VerifyReport | BaseException:
    try:
        return verify(path, key, deep=deep)
    except BaseException as error:  # noqa: BLE001 - raised again on the other side
        return error
