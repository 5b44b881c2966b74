"""Graphs that others compute: processes, clusters, functions; each block once, errors named."""

import multiprocessing
import os
import signal
import site
import time
import uuid
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
from dask.distributed import Client

import lazyio
from lazyio.errors import BlockError

ROOT = Path(__file__).parents[2]
VALUES = np.arange(200, dtype="i4").reshape(20, 10)


def touch(block, block_id=None, folder=None):
    """Leave a file for each time that a block is computed, in whichever process."""
    if block.size:
        name = "-".join(map(str, block_id))
        (folder / f"{name}_{uuid.uuid4().hex}").touch()
    return block + 1


def fail(block, block_id=None):
    """Fail on one block, but on none of the empty ones that dask tries."""
    if block.size and block_id == (1, 2):
        msg = "bad block"
        raise ValueError(msg)
    return block


@pytest.fixture(scope="module")
def processes():
    """Return two processes, which import what they need once."""
    options = {"initializer": site.addsitedir, "initargs": (str(ROOT),)}  # they import `tests`
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, **options) as pool:
        yield pool


@pytest.fixture(scope="module")
def client():
    """Return a client of one worker with one thread, where waiting wrongly is for ever."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(processes=False, **options) as connected:
        yield connected


@pytest.fixture(params=["threads", "pool", "sync", "get", "function", "processes", "client"])
def scheduler(request):
    """Return each kind of scheduler."""
    kind = request.param
    if kind in ("processes", "client"):
        found = request.getfixturevalue(kind)
        yield found
    elif kind == "pool":
        with ThreadPoolExecutor(4) as pool:
            yield pool
    elif kind == "function":
        yield lambda graph, keys, **options: dask.threaded.get(graph, keys)
    else:
        yield dask.get if kind == "get" else kind


def read(path, key):
    with h5py.File(path, "r") as file:
        return file[key][()]


def test_every_block_is_computed_once(tmp_path, scheduler):
    """Also where arrays and chunks share blocks."""
    folder = tmp_path / "computed"
    folder.mkdir()
    x = da.from_array(VALUES, chunks=(6, 4)).map_blocks(touch, folder=folder, dtype="i4")
    data = {"a": x, "twice": x * 2, "sum": x.sum(axis=0)}
    path = tmp_path / "x.h5"
    report = lazyio.to_hdf5(data, path, chunks={0: 7}, scheduler=scheduler)
    assert (read(path, "a") == VALUES + 1).all()
    assert (read(path, "twice") == 2 * VALUES + 2).all()
    assert (read(path, "sum") == (VALUES + 1).sum(axis=0)).all()
    computed = [name.split("_")[0] for name in os.listdir(folder)]
    assert len(computed) == len(set(computed)) == 12
    if getattr(scheduler, "scheduler", None) is None:
        assert report.n_blocks == 12 + 12 + 3


def test_errors_name_the_region(tmp_path, scheduler):
    """And chain the cause; nothing is left behind."""
    x = (da.from_array(VALUES, chunks=(6, 4)) + 1).map_blocks(fail, dtype="i4")
    with pytest.raises(BlockError, match=r"\[6:12, 8:10\].*ValueError: bad block") as caught:
        lazyio.to_hdf5({"a": x * 2, "b": da.ones(5)}, tmp_path / "x.h5", scheduler=scheduler)
    assert isinstance(caught.value.__cause__, ValueError)
    assert os.listdir(tmp_path) == []


def test_a_pool_gets_no_more_blocks_than_planned(tmp_path):
    """However many threads it has."""
    inside, most = [], []

    def note(block):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return block

    x = da.ones((64, 100), chunks=(1, 100)).map_blocks(note, dtype=float, meta=np.empty((0, 0)))
    with ThreadPoolExecutor(8) as pool:
        report = lazyio.to_hdf5(x, tmp_path / "x.h5", scheduler=pool, workers=2)
    assert report.plan.workers == 2
    assert max(most) <= 2


def test_a_function_is_given_the_tasks_that_it_needs(tmp_path):
    """A few blocks at a time, each with its own tasks and not with those of all others."""
    given = []

    class CountingScheduler:
        def __call__(self, graph, keys, **options):
            given.append((len(keys), len(graph)))
            return dask.get(graph, keys, **options)

    x = da.from_array(VALUES, chunks=(1, 10)) + 1
    lazyio.to_hdf5(x, tmp_path / "x.h5", scheduler=CountingScheduler(), workers=2)
    assert sum(n_keys for n_keys, _ in given) == 20
    assert max(n_keys for n_keys, _ in given) <= 2
    assert max(n_tasks for _, n_tasks in given) <= 6


def test_straight_sources_need_no_scheduler(tmp_path):
    """They are read by our own threads, whatever computes graphs."""

    def never(graph, keys, **options):
        raise AssertionError

    lazyio.to_hdf5(VALUES, tmp_path / "x.h5", "a", scheduler=never)
    assert (read(tmp_path / "x.h5", "a") == VALUES).all()


@pytest.mark.parametrize("spelled", ["client", "distributed", "get"])
def test_a_client_by_any_name(tmp_path, client, spelled):
    given = {"client": client, "distributed": "distributed", "get": client.get}[spelled]
    x = da.from_array(VALUES, chunks=(6, 4)) + 1
    report = lazyio.to_hdf5(x, tmp_path / "x.h5", "a", scheduler=given)
    assert (read(tmp_path / "x.h5", "a") == VALUES + 1).all()
    assert report.n_blocks == 12


def test_from_inside_a_task_of_a_cluster(tmp_path, client):
    """With one thread, which the wait must not keep; twice, as the place is taken again."""

    def work(folder):
        x = da.from_array(VALUES, chunks=(6, 4)) + 1
        return [lazyio.to_hdf5(x, folder / f"{n}.h5").n_blocks for n in range(2)]

    assert client.submit(work, tmp_path).result(timeout=60) == [12, 12]
    assert client.submit(sum, (1, 2)).result(timeout=60) == 3


def test_delayed_on_a_cluster(tmp_path, client):
    """Two orders at once on one thread, each of which computes blocks on the cluster."""
    x = da.from_array(VALUES, chunks=(6, 4)) + 1
    orders = [lazyio.to_hdf5(x, tmp_path / f"{n}.h5", "a", compute=False) for n in range(2)]
    reports = dask.compute(*orders)
    assert [report.n_blocks for report in reports] == [12, 12]
    for n in range(2):
        assert (read(tmp_path / f"{n}.h5", "a") == VALUES + 1).all()


def test_the_hidden_file_takes_no_lock(tmp_path):
    """Processes that are forked during the write would keep it after the file is published."""
    holders = []

    def fork(step):
        if not holders and hasattr(os, "fork"):
            pid = os.fork()
            if not pid:
                time.sleep(60)
                os._exit(0)
            holders.append(pid)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Of forking beside threads.
            lazyio.to_hdf5(VALUES, tmp_path / "x.h5", "a", progress=fork)
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            assert (file["a"][:] == VALUES).all()
        lazyio.to_hdf5(VALUES, tmp_path / "x.h5", "a", overwrite=True)
    finally:
        for pid in holders:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
