"""Which of dask's schedulers computes a graph: the one that dask itself would take."""

import concurrent.futures
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import dask
import dask.config
import dask.local
import dask.multiprocessing
import dask.threaded

from lazyio.errors import OptionError

Get = Callable[..., Any]

_NAMES: dict[str, Literal["threads", "synchronous", "processes"]] = {
    "threads": "threads",
    "threading": "threads",
    "sync": "synchronous",
    "synchronous": "synchronous",
    "single-threaded": "synchronous",
    "processes": "processes",
    "multiprocessing": "processes",
}
_CLUSTER = ("distributed", "dask.distributed")


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """Where a graph is computed."""

    kind: Literal["threads", "synchronous", "processes", "cluster", "ranks", "other"]
    """``other`` is a function of the user's, of which nothing is known."""
    client: Any = None
    """Of the cluster."""
    pool: Any = None
    """The user's own executor, for threads and processes."""
    get: Get | None = None
    """The user's own function from a graph and keys to results."""
    ranks: Any = None
    """Of MPI, see :class:`~lazyio.execution.ranks.Ranks`."""


def scheduler_for(given: Any = None) -> Scheduler:
    """Return the scheduler that is asked for, else the one that dask would take.

    Examples
    --------
    >>> scheduler_for("sync").kind, scheduler_for(dask.threaded.get).kind
    ('synchronous', 'threads')
    """
    if isinstance(given, Scheduler):
        return given
    if given is None:
        given = dask.config.get("scheduler", None)
    if given is None:
        client = active_client()
        return Scheduler(kind="threads") if client is None else _cluster(client)
    if isinstance(given, str):
        return _by_name(given)
    if _is_client(given):
        return _cluster(given)
    if isinstance(given, concurrent.futures.Executor):
        is_threads = isinstance(given, concurrent.futures.ThreadPoolExecutor)
        return Scheduler(kind="threads" if is_threads else "processes", pool=given)
    if callable(given):
        return _by_function(given)
    raise OptionError(_refusal(given))


def active_client() -> Any:
    """Return the distributed client that dask would use, without importing one."""
    if "distributed" not in sys.modules:
        return None
    # Waits for a thread that is importing it, such as the first that computes anything.
    distributed = importlib.import_module("distributed")
    try:
        client = distributed.get_client()
    except ValueError:
        return None
    # One that has lost its cluster is no place to compute.
    return client if client.status in ("running", "connecting") else None


def _by_name(name: str) -> Scheduler:
    if name.lower() in _CLUSTER:
        client = active_client()
        if client is None:
            msg = f"scheduler={name!r}, but no client is connected; make a distributed.Client first"
            raise OptionError(msg)
        return _cluster(client)
    kind = _NAMES.get(name.lower())
    if kind is None:
        raise OptionError(_refusal(name))
    return Scheduler(kind=kind)


def _by_function(function: Get) -> Scheduler:
    known: dict[Get, Scheduler] = {
        dask.threaded.get: Scheduler(kind="threads"),
        dask.local.get_sync: Scheduler(kind="synchronous"),
        dask.multiprocessing.get: Scheduler(kind="processes"),
    }
    owner = getattr(function, "__self__", None)
    if _is_client(owner):
        return _cluster(owner)
    return known.get(function) or Scheduler(kind="other", get=function)


def _is_client(given: Any) -> bool:
    return "Client" in type(given).__name__ and hasattr(given, "get") and hasattr(given, "submit")


def _cluster(client: Any) -> Scheduler:
    if getattr(client, "asynchronous", False):
        msg = "an asynchronous client cannot be waited for; give one made without asynchronous=True"
        raise OptionError(msg)
    status = getattr(client, "status", "running")
    if status not in ("running", "connecting"):
        msg = f"the client {client!r} is {status}; connect a new one"
        raise OptionError(msg)
    return Scheduler(kind="cluster", client=client)


def _refusal(given: Any) -> str:
    return (
        f"scheduler={given!r} is none of dask's; give one of {', '.join(map(repr, _NAMES))}, "
        "'distributed', a client, an executor or a function"
    )
