"""Graphs: each block once, in its own task; errors name their region."""

import tempfile
import threading
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client

from lazyio.errors import BlockError
from lazyio.execution.dask_graphs import Delivery, run_here
from lazyio.execution.remote import run_remote
from lazyio.execution.schedulers import scheduler_for
from lazyio.regions import format_region


def run_graph(*arrays, consume, on_done=lambda region: None, scheduler=None):
    """Deliver the blocks of arrays to one consumer, as a write does."""
    found = scheduler_for(scheduler)
    deliveries = [Delivery(array=array, consume=consume, on_done=on_done) for array in arrays]
    is_local = found.kind in ("threads", "synchronous")
    if is_local:
        run_here(deliveries, found, n_workers=2)
        return
    with tempfile.TemporaryDirectory() as folder:
        run_remote(deliveries, found, n_workers=2, folder=Path(folder))


def collect(array, scheduler=None):
    """Run a graph and return its blocks put together, and how often each came."""
    out = np.zeros(array.shape, array.dtype)
    came: dict[str, int] = {}
    done: list[str] = []

    def consume(region, block, workspace):
        out[region] = block
        came[format_region(region)] = came.get(format_region(region), 0) + 1

    run_graph(
        array,
        consume=consume,
        on_done=lambda region: done.append(format_region(region)),
        scheduler=scheduler,
    )
    assert sorted(done) == sorted(came)
    assert set(came.values()) <= {1}
    return out


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_every_block_comes_once(scheduler: str) -> None:
    """Whatever dask's scheduler is, each block is consumed once, in this process."""
    x = da.arange(1000, chunks=130).reshape(10, 100) * 2
    with dask.config.set(scheduler=scheduler, **{"multiprocessing.context": "fork"}):
        assert (collect(x) == np.arange(1000).reshape(10, 100) * 2).all()


def test_each_block_is_computed_once() -> None:
    """A function is called once for each block, and shared parts are shared."""
    calls = []

    def count(block, block_info=None):
        calls.append(block_info[0]["array-location"])
        return block + 1

    x = da.zeros((40, 40), chunks=10).map_blocks(count, dtype="float64")
    both = da.concatenate([x, x * 2])
    collect(both)
    assert len(calls) == 16


def test_progress_is_told_on_the_thread_that_waits() -> None:
    """Callbacks come on the calling thread, where notebooks can draw."""
    caller = threading.get_ident()
    seen = []
    run_graph(
        da.ones((10, 10), chunks=5) + 1,
        consume=lambda region, block, workspace: None,
        on_done=lambda region: seen.append(threading.get_ident()),
    )
    assert seen == [caller] * 4


def test_an_error_in_a_block_names_its_region() -> None:
    """The region of the block that failed is in the message, the cause is chained."""

    def fail(block, block_id=None):
        if block_id == (1, 0):
            msg = "no such electrode"
            raise LookupError(msg)
        return block

    x = da.ones((40, 30), chunks=(20, 30)).map_blocks(fail, dtype=float)
    with pytest.raises(BlockError, match=r"\[20:40, 0:30\].*no such electrode") as caught:
        collect(x)
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda block: block[:-1], r"\(4,\) float64"),
        (lambda block: block.astype("float32"), r"\(5,\) float32"),
        (lambda block: block.sum(), r"\(\) float64"),
        (lambda block: list(block), "a list"),
    ],
    ids=["short", "dtype", "scalar", "list"],
)
def test_a_block_that_is_not_what_was_promised_is_refused(function, got: str) -> None:
    """Nothing is broadcast or cast in silence."""
    x = da.ones(10, chunks=5).map_blocks(function, dtype=float, meta=np.empty(0))
    with pytest.raises(BlockError, match=got):
        collect(x)


def test_no_block_is_consumed_after_an_error() -> None:
    """Once the error is out, nothing is handed on any more."""
    consumed = []

    def consume(region, block, workspace):
        consumed.append(region)
        if len(consumed) == 3:
            msg = "target"
            raise OSError(msg)

    with pytest.raises(BlockError, match="target"):
        run_graph(da.ones(1000, chunks=1) + 1, consume=consume)
    count = len(consumed)
    assert count < 20
    dask.compute(da.ones(10) + 1)
    assert len(consumed) == count


def test_a_distributed_client_computes_the_blocks() -> None:
    """With a client active blocks are computed there and consumed here."""
    with Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as client:
        x = da.random.default_rng(0).normal(size=(50, 40), chunks=(10, 40))
        expected = x.compute()
        assert (collect(x) == expected).all()
        assert client.status == "running"


@pytest.mark.parametrize("dtype", [">i4", "S5", "U5", ">f8", "f4", "?", "M8[s]"])
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_block_without_axes_is_the_element_that_was_promised(dtype, scheduler) -> None:
    """Numpy's scalars have neither byte order nor padding; their values are taken."""
    values = np.array([1]).astype(dtype).reshape(())
    x = da.from_array(values, chunks=()).map_blocks(lambda block: block[()], dtype=values.dtype)
    assert collect(x, scheduler) == values
    wrong = da.from_array(values, chunks=()).map_blocks(
        lambda block: np.complex128(1), dtype=values.dtype
    )
    with pytest.raises(BlockError, match="complex128"):
        collect(wrong, scheduler)
