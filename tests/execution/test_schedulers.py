"""Which scheduler computes: every way that dask has to say it."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import dask
import dask.multiprocessing
import dask.threaded
import pytest

from lazyio.errors import OptionError
from lazyio.execution.schedulers import scheduler_for
from lazyio.options import default_workers

KINDS = {
    None: "threads",
    "threads": "threads",
    "threading": "threads",
    "Sync": "synchronous",
    "synchronous": "synchronous",
    "single-threaded": "synchronous",
    "processes": "processes",
    "multiprocessing": "processes",
    dask.get: "synchronous",
    dask.threaded.get: "threads",
    dask.multiprocessing.get: "processes",
    print: "other",
}
IDS = [given.__module__ if callable(given) else str(given) for given in KINDS]


@pytest.mark.parametrize(("given", "kind"), KINDS.items(), ids=IDS)
def test_names_and_functions(given, kind):
    """As an argument, and where dask was configured so."""
    assert scheduler_for(given).kind == kind
    with dask.config.set(scheduler=given):
        assert scheduler_for().kind == kind


def test_executors():
    """Their number of workers is the one that is planned for."""
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(5) as processes:
        assert scheduler_for(threads).kind == "threads"
        assert scheduler_for(processes).kind == "processes"
        assert default_workers(threads) == 3
        assert default_workers(processes) == 5


def test_workers_are_those_of_the_scheduler():
    """The argument counts, then what dask was configured with."""
    assert default_workers("sync") == 1
    assert default_workers("threads") == 2
    with dask.config.set(scheduler="sync"):
        assert default_workers() == 1
        assert default_workers("threads") == 2


@pytest.mark.parametrize("given", ["nope", "", 3, object(), ["threads"]])
def test_what_is_none(given):
    with pytest.raises(OptionError, match="is none of dask's; give one of 'threads'"):
        scheduler_for(given)


def test_a_cluster_that_is_not_there():
    with pytest.raises(OptionError, match="no client is connected"):
        scheduler_for("distributed")


def test_a_client_that_cannot_be_waited_for():
    class Client:
        asynchronous = True

        def get(self):
            """Look like a client's."""

        def submit(self):
            """Look like a client's."""

    with pytest.raises(OptionError, match="asynchronous"):
        scheduler_for(Client())
