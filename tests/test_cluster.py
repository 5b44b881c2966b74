"""Writes on a dask cluster: workers encode and write, and only records come back."""

import contextlib
import logging
import multiprocessing
import operator
import os
import re
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from fake_s3 import fake_s3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import BlockError, OptionError, SourceError
from lazyio.execution import cluster as way
from lazyio.execution import run as running
from lazyio.execution import workers
from lazyio.storage.hdf5 import file as hdf5_file
from lazyio.storage.hdf5.chunk_writer import Hdf5ChunkWriter
from lazyio.storage.hdf5.dataset import Hdf5Target
from lazyio.storage.zarr.array import ZarrTarget

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.xdist_group("cluster")

VALUES = np.random.default_rng(0).integers(0, 50, (400, 60)).astype("i4")
OPTIONS = {
    "threads_per_worker": 1,
    "dashboard_address": ":0",
    "silence_logs": logging.CRITICAL,
}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, **OPTIONS) as found:
        yield found


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as found:
        yield found


@pytest.fixture(params=["h5", "zarr"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def write(data, path, **options):
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    return to(data, path, **options)


def read(path, key="data"):
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file[key][...]
    return zarr.open_array(path, path=None if key == "data" else key, mode="r")[...]


@pytest.fixture
def landed(monkeypatch):
    """Return a list of whether payloads came with the chunks that landed."""
    found = []
    for target in (Hdf5Target, ZarrTarget):
        land = target.land

        def noted(self, chunk, place, payload, land=land):
            found.append(payload is not None)
            land(self, chunk, place, payload)

        monkeypatch.setattr(target, "land", noted)
    return found


@pytest.mark.parametrize("blocks", [(50, 60), (70, 13), (400, 1)], ids=str)
@pytest.mark.parametrize("resume", [False, True])
def test_workers_write(client, path, landed, blocks, resume):
    """Also blocks that cut across chunks, which are put together on the workers."""
    x = da.from_array(VALUES, chunks=blocks) + 1
    write(x, path, chunks=(50, 20), resume=resume)
    assert (read(path) == VALUES + 1).all()
    assert lazyio.verify(path).status == "ok"
    assert landed == [False] * 24


@pytest.mark.parametrize("is_another_there", [False, True])
def test_a_client_that_is_not_the_default(cluster, path, landed, is_another_there):
    """The one that is handed over is the one that is asked."""
    x = da.from_array(VALUES, chunks=(50, 60)) + 1
    with contextlib.ExitStack() as stack:
        if is_another_there:
            other = stack.enter_context(
                distributed.LocalCluster(n_workers=1, processes=False, **OPTIONS)
            )
            stack.enter_context(distributed.Client(other))
        mine = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        write(x, path, chunks=(50, 20), scheduler=mine)
    assert (read(path) == VALUES + 1).all()
    assert landed == [False] * 24


def test_payloads_come_from_workers_that_do_not_see_the_target(client, path, landed):
    """Encoded, not as elements."""
    client.run(_blind, True)
    try:
        write(da.from_array(VALUES, chunks=(50, 60)) + 1, path, chunks=(50, 20))
    finally:
        client.run(_blind, False)
    assert (read(path) == VALUES + 1).all()
    assert landed == [True] * 24
    assert lazyio.verify(path).status == "ok"


def _blind(is_on):
    if is_on:
        workers.Session.was = workers.Session.goes_on
        workers.Session.goes_on = property(lambda _: False)
    else:
        workers.Session.goes_on = workers.Session.was


def test_sources_are_read_on_workers(client, path, landed, tmp_path):
    """Straight from ``open``, in blocks that suit the target."""
    lazyio.to_hdf5(VALUES, tmp_path / "source.h5", "s", compression="gzip", chunks=(30, 60))
    assert landed == []
    write(lazyio.open(tmp_path / "source.h5", "s"), path, chunks=(50, 20))
    assert (read(path) == VALUES).all()
    assert landed == [False] * 24


def test_arrays_of_one_graph(client, path):
    """They share what they have in common, and are published together."""
    x = da.from_array(VALUES, chunks=(50, 60)) + 1
    data = {"a": x, "b/twice": x * 2, "sum": x.sum(axis=0), "one": x.max()}
    report = write(data, path, chunks="auto")
    assert report.keys == ("a", "b/twice", "sum", "one")
    assert (read(path, "a") == VALUES + 1).all()
    assert (read(path, "b/twice") == 2 * VALUES + 2).all()
    assert (read(path, "sum") == (VALUES + 1).sum(axis=0)).all()
    assert read(path, "one") == VALUES.max() + 1


class _Most(distributed.SchedulerPlugin):
    """Notes the most tasks that a scheduler has ever known of at a time."""

    name = "most"

    def start(self, scheduler):
        self.scheduler, scheduler.most = scheduler, 0

    def transition(self, *_, **__):
        self.scheduler.most = max(self.scheduler.most, len(self.scheduler.tasks))


def _most_tasks(dask_scheduler):
    return dask_scheduler.most


def _told(folder, block_info=None):
    """Return a block of the numbers of its rows, and tell that it was computed."""
    (start, stop), (_, n) = block_info[None]["array-location"]
    with (folder / f"{start}").open("a") as file:
        file.write("x")
    return np.broadcast_to(np.arange(start, stop)[:, None], (stop - start, n)).astype("i4")


@pytest.mark.parametrize("both", [False, True])
def test_blocks_that_share_tasks_are_handed_over_in_parts(client, tmp_path, monkeypatch, both):
    """Each is computed once all the same, and the scheduler never knows of all of them."""
    monkeypatch.setattr(way, "_MOST_SHARING", 20)
    client.register_plugin(_Most(), name=f"most-{both}")
    folder = tmp_path / "told"
    folder.mkdir()
    sizes = ((15,) * 200, (4,))
    x = da.map_blocks(_told, folder, chunks=sizes, dtype="i4", meta=np.empty((0, 0), "i4"))
    data = {"x": x, "y": x[::-1] * 2} if both else {"x": x}
    lazyio.to_hdf5(data, tmp_path / "x.h5", chunks=(10, 4))
    wanted = np.arange(3000)[:, None] + np.zeros((1, 4), int)
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["x"][...] == wanted).all()
        if both:
            assert (file["y"][...] == 2 * wanted[::-1]).all()
    n_read = [len(path.read_text()) for path in folder.iterdir()]
    assert len(n_read) == 200
    if not both:  # Else each array reads its own.
        assert set(n_read) == {1}
        assert client.run_on_scheduler(_most_tasks) < 250
    assert not [key for key in client.run_on_scheduler(_left) if "lazyio" in str(key)]


def _left(dask_scheduler):
    return list(dask_scheduler.tasks)


NUMBERS = np.arange(400 * 60, dtype="i4").reshape(400, 60)


def _numbers(block_info=None):
    (start, stop), (_, n) = block_info[None]["array-location"]
    return np.arange(start * n, stop * n, dtype="i4").reshape(-1, n)


def numbers(rows):
    """Return an array of which no data travel with a graph, in blocks of so many rows."""
    sizes = ((rows,) * (400 // rows), (60,))
    return da.map_blocks(_numbers, chunks=sizes, dtype="i4", meta=np.empty((0, 0), "i4"))


@pytest.fixture
def tasks(monkeypatch):
    """Return a list of how many blocks each task was to write."""
    found = []
    submit = way._Handover.submit

    def noted(self, keys):
        for key in keys:
            task = self._graph.tasks[key]
            blocks = next((one for one in task.args if isinstance(one, way._Blocks)), None)
            found.append(1 if blocks is None else len(blocks.keys))
        return submit(self, keys)

    monkeypatch.setattr(way._Handover, "submit", noted)
    return found


def test_a_task_writes_several_blocks(client, path, tasks, landed):
    """Fewer towards the end."""
    x = numbers(10).map_blocks(_slowly, dtype="i4")
    write(x, path, chunks=(10, 60))
    assert sum(tasks) == 40
    assert tasks[0] > 5
    assert tasks == sorted(tasks, reverse=True)
    assert landed == [False] * 40
    assert (read(path) == NUMBERS).all()
    assert lazyio.verify(path).status == "ok"


def _slowly(block):
    time.sleep(0.01)
    return block


def test_only_so_many_bytes_are_one_task(client, path, tasks, monkeypatch):
    monkeypatch.setattr(running, "_MOST_IN_TURN", 2 * (10 * 60 * 4 + workers.RECORD_NBYTES))
    write(numbers(10) + 1, path, chunks=(10, 60))
    assert max(tasks) == 2
    assert (read(path) == NUMBERS + 1).all()


def test_blocks_of_two_arrays_are_no_task(client, path, tasks):
    x = numbers(100)
    write({"a": x + 1, "b": x[::-1] * 2}, path, chunks=(100, 60))
    assert (read(path, "a") == NUMBERS + 1).all()
    assert (read(path, "b") == NUMBERS[::-1] * 2).all()


def test_what_has_to_be_sent_ends_a_task(client, path, tasks, landed):
    """The others that it was to write have tasks of their own."""
    client.run(_blind, True)
    try:
        write(numbers(10) + 1, path, chunks=(10, 60))
    finally:
        client.run(_blind, False)
    assert (read(path) == NUMBERS + 1).all()
    assert landed == [True] * 40
    assert max(tasks) > 1
    n_left = sum(one - 1 for one in tasks)
    assert sum(one == 1 for one in tasks) >= n_left


def _fails_at(block, at, block_info=None):
    if block_info[0]["chunk-location"][0] == at:
        raise ZeroDivisionError("of a test")
    return block


def test_a_task_of_several_blocks_names_the_one_that_fails(client, path, tasks):
    x = numbers(10).map_blocks(_fails_at, 3, dtype="i4")
    with pytest.raises(BlockError, match=r"\[30:40, 0:60\].*ZeroDivisionError: of a test"):
        write(x, path, chunks=(10, 60))
    assert max(tasks) > 1
    assert not path.exists()


def _fails_at_length(block, block_info=None):
    if block_info[0]["chunk-location"][0] == 3:
        raise ValueError("x" * 20_000)
    return block


def test_so_does_one_with_a_long_error(client, path):
    """Of which distributed makes a shorter one."""
    x = numbers(10).map_blocks(_fails_at_length, dtype="i4")
    with pytest.raises(BlockError, match=r"\[30:40, 0:60\] failed: ValueError: xxx"):
        write(x, path, chunks=(10, 60))


class _Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


def _fails_oddly(block, block_info=None):
    if block_info[0]["chunk-location"][0] == 3:
        raise _Unpicklable("of a test")
    return block


def test_so_does_one_whose_error_does_not_travel(client, path):
    x = numbers(10).map_blocks(_fails_oddly, dtype="i4")
    with pytest.raises(BlockError, match=r"\[30:40, 0:60\].*of a test"):
        write(x, path, chunks=(10, 60))


@pytest.mark.parametrize("chunks", [(10, 60), (25, 60)])
@pytest.mark.parametrize(
    "made",
    [
        lambda p, _: p,
        lambda p, _: p + 1,
        lambda p, _: p[::-1],
        lambda p, _: p + p.mean(),
        lambda p, f: p.map_blocks(operator.add, f, dtype="i4"),
        lambda p, f: (p * 0 + VALUES).map_blocks(operator.add, f, dtype="i4"),
    ],
)
def test_what_is_on_the_cluster_already(client, path, chunks, made):
    """It is used, and stays there also after a write that failed."""
    persisted = (da.from_array(VALUES, chunks=(10, 60)) + 0).persist()
    x = made(persisted, client.submit(int, 7))
    wanted = x.compute()
    bad = x.map_blocks(_fails_oddly, dtype=x.dtype)
    with pytest.raises(BlockError, match="of a test"):
        write(bad, path, chunks=chunks)
    write(x, path, chunks=chunks)
    assert (read(path) == wanted).all()
    assert (persisted.compute() == VALUES).all()


def _asks(session):
    with pytest.raises(BlockError, match="has ended"):
        way.ClusterChannel(session).ask(0, b"", reaches=False)
    return way._ANSWERS == {}


@pytest.mark.timeout(40)  # As long as it would wait otherwise, or less.
@pytest.mark.parametrize("is_late", [False, True])
def test_nobody_waits_for_a_run_that_has_failed(client, tmp_path, is_late):
    """Not even where the files that tell of it are not seen."""
    session = workers.Session.begun(tmp_path)
    session.end()
    asked = threading.Event()
    client.subscribe_topic(session.name, lambda _: asked.set())
    answering = way._Answering(client, None, session)
    waiting = None if is_late else client.submit(_asks, session, pure=False)
    assert is_late or asked.wait(30)
    answering.tell_the_end()
    assert is_late or waiting.result()
    assert client.submit(_asks, session, pure=False).result()
    client.unsubscribe_topic(session.name)


def test_a_failed_write_leaves_nothing_on_the_scheduler(client, path):
    x = numbers(10).map_blocks(_fails_at, 3, dtype="i4")
    for _ in range(3):
        with pytest.raises(BlockError):
            write(x, path, chunks=(10, 60))
    for _ in range(100):
        left = [key for key in client.run_on_scheduler(_left) if "lazyio" in str(key)]
        if not left:
            break
        time.sleep(0.05)
    assert not left


def _costly(block, n_costly, block_info=None):
    if block_info[0]["chunk-location"][0] < n_costly:
        time.sleep(0.1)
    return block


def test_costly_blocks_are_shared(client, path, tasks):
    """A task takes no further block after half a second."""
    x = numbers(2).map_blocks(_costly, 20, dtype="i4")
    write(x, path, chunks=(2, 60))
    assert (read(path) == NUMBERS).all()
    assert max(tasks) == 100
    assert len(tasks) > 10


def test_a_call_that_resumes_has_what_was_written_before_the_error(client, tmp_path):
    x = numbers(10)
    bad = x.map_blocks(_fails_at, 30, dtype="i4", name="same", token="same")
    with pytest.raises(BlockError, match=r"\[300:310"):
        lazyio.to_hdf5(bad, tmp_path / "x.h5", chunks=(10, 60), resume=True)
    good = x.map_blocks(operator.pos, dtype="i4", name="same", token="same")
    report = lazyio.to_hdf5(good, tmp_path / "x.h5", chunks=(10, 60), resume=True)
    assert report.n_resumed > 0
    assert lazyio.verify(tmp_path / "x.h5").status == "ok"


def test_regions_and_growth(client, path, landed):
    """Whole chunks are written by workers; those at the rim are merged here."""
    to = {"key": "data"} if path.suffix == ".h5" else {"path": None}
    lazyio.allocate(path, *to.values(), shape=(450, 60), dtype="i4", chunks=(50, 20))
    x = da.from_array(VALUES, chunks=(100, 60))
    write(x, path, region=(slice(30, 430), slice(None)))
    expected = np.zeros((450, 60), "i4")
    expected[30:430] = VALUES
    assert (read(path) == expected).all()
    assert landed == [False] * 21
    assert lazyio.verify(path).status == "ok"


def test_a_large_file_is_added_to_in_place(client, tmp_path, monkeypatch, landed):
    """Payloads come from workers: a late write of theirs would go to the file itself."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(VALUES, path, "a", chunks=(50, 20), maxshape=(None, 60), compression="gzip")
    monkeypatch.setattr(hdf5_file, "COPIED_NBYTES", 0)
    monkeypatch.setattr(hdf5_file, "_cloned", lambda *_: False)
    x = da.from_array(VALUES, chunks=(50, 60))
    lazyio.to_hdf5(x, path, "a", append_dim=0)
    lazyio.to_hdf5(x, path, "b", chunks=(50, 20), compression="gzip")
    assert (read(path, "a") == np.concatenate([VALUES, VALUES])).all()
    assert (read(path, "b") == VALUES).all()
    assert landed == [True] * 48
    assert lazyio.verify(path).status == "ok"


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_blocks_and_chunks(client, tmp_path_factory, data):
    """Of any shape, into either format, with any window: as numpy would have it."""
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))
    values = np.arange(np.prod(shape)).reshape(shape).astype("u2")
    chunks = data.draw(st.tuples(*(st.integers(1, n) for n in shape)))
    blocks = data.draw(st.tuples(*(st.integers(1, n) for n in shape)))
    before = data.draw(st.tuples(*(st.integers(0, 5) for _ in shape)))
    path = tmp_path_factory.mktemp("any") / data.draw(st.sampled_from(["x.h5", "x.zarr"]))
    whole = tuple(map(operator.add, shape, before))
    key = "data" if path.suffix == ".h5" else None
    lazyio.allocate(path, key, shape=whole, dtype="u2", chunks=chunks)
    window = tuple(slice(n, None) for n in before)
    write(da.from_array(values, chunks=blocks) + 0, path, region=window)
    expected = np.zeros(whole, "u2")
    expected[window] = values
    assert (read(path) == expected).all()
    assert lazyio.verify(path).status == "ok"


def test_datasets(client, tmp_path):
    """Through xarray's accessor, in both formats."""
    ds = xr.Dataset(
        {"t": (("time", "x"), da.from_array(VALUES, chunks=(50, 60)) * 0.5)},
        coords={"time": np.arange(400), "x": np.arange(60)},
    )
    ds.lazyio.to_hdf5(tmp_path / "x.nc")
    ds.lazyio.to_zarr(tmp_path / "x.zarr")
    with xr.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), ds.compute())
    with xr.open_zarr(tmp_path / "x.zarr") as found:
        xr.testing.assert_identical(found.load(), ds.compute())


def test_a_delayed_write_of_another_client(cluster, tmp_path):
    """Inside a larger graph; it leaves its thread to the blocks that it waits for."""
    path = tmp_path / "x.h5"
    with distributed.Client(cluster):
        later = lazyio.to_hdf5(da.ones((40, 4), chunks=(10, 4)) * 3, path, compute=False)
    with distributed.Client(cluster):
        n_blocks = dask.delayed(lambda report: report.n_blocks + 1)(later)
        assert n_blocks.compute() == 5
    assert (read(path) == 3).all()


def test_annotations_pass_through(client, path, tmp_path):
    """Retries of the array's own tasks, resources, and priorities."""
    marks = tmp_path / "marks"
    marks.mkdir()

    def flaky(block, block_id=None):
        mark = marks / str(block_id[0])
        if block.size and not mark.exists():
            mark.touch()
            msg = "not yet"
            raise ValueError(msg)
        return block

    with dask.annotate(retries=2):
        x = da.from_array(VALUES, chunks=(100, 60)).map_blocks(flaky, dtype="i4")
    write(x, path)
    assert (read(path) == VALUES).all()
    assert len(list(marks.iterdir())) == 4


def test_annotations_that_no_worker_meets(client, path, monkeypatch):
    """An error, and not a wait for ever."""
    monkeypatch.setattr(way, "_LOOK_EVERY", 0.2)
    monkeypatch.setattr(way, "_NOBODY", 1.0)
    with dask.annotate(resources={"GPU": 1}):
        x = da.ones((40, 4), chunks=(10, 4)) + 1
    with pytest.raises(BlockError, match=r"none of the 2 workers .*resources.*they have: none"):
        write(x, path)
    assert not path.exists()


def test_no_worker_in_time(path, monkeypatch):
    monkeypatch.setattr(way, "_LOOK_EVERY", 0.2)
    monkeypatch.setattr(way, "_NOBODY", 1.0)
    options = OPTIONS | {"n_workers": 0}
    del options["threads_per_worker"]
    with (
        distributed.LocalCluster(**options) as empty,
        distributed.Client(empty),
        pytest.raises(BlockError, match="no worker has joined"),
    ):
        write(da.ones((40, 4), chunks=(10, 4)) + 1, path)


def test_a_cluster_that_grows_when_there_is_work(path):
    with distributed.LocalCluster(n_workers=0, processes=False, **OPTIONS) as grows:
        grows.adapt(minimum=0, maximum=1, interval="100ms")
        with distributed.Client(grows):
            write(da.ones((40, 4), chunks=(10, 4)) + 1, path)
    assert (read(path) == 2).all()


_AT_WORK = {"now": 0, "most": 0}
_AT_WORK_LOCK = threading.Lock()


def _counted(block_info=None):
    with _AT_WORK_LOCK:
        _AT_WORK["now"] += 1
        _AT_WORK["most"] = max(_AT_WORK["most"], _AT_WORK["now"])
    time.sleep(0.05)
    with _AT_WORK_LOCK:
        _AT_WORK["now"] -= 1
    return np.ones(block_info[None]["chunk-shape"], "i4")


def test_workers_that_join_later_have_work(path, monkeypatch):
    """More than the blocks that were handed over when there was one."""
    monkeypatch.setattr(way, "_LOOK_EVERY", 0.1)
    monkeypatch.setattr(running, "_MOST_IN_TURN", 0)
    _AT_WORK["most"] = 0
    x = da.map_blocks(_counted, chunks=((1,) * 200, (4,)), dtype="i4")
    with (
        distributed.LocalCluster(n_workers=1, processes=False, **OPTIONS) as grows,
        distributed.Client(grows),
    ):
        threading.Timer(0.5, grows.scale, [10]).start()
        write(x, path, chunks=(1, 4))
    assert _AT_WORK["most"] == 10
    assert (read(path) == 1).all()


def test_another_lazyio_on_a_worker(client, path, monkeypatch):
    monkeypatch.setattr(way, "own_version", _other_version)
    with pytest.raises(OptionError, match=r"worker tcp.* has .*; install the same version"):
        write(da.ones((40, 4), chunks=(10, 4)) + 1, path)
    assert not path.exists()


def _other_version():
    return f"0+{os.getpid()}"


def test_a_closed_client(cluster, path):
    with distributed.Client(cluster) as closed:
        pass
    with pytest.raises(OptionError, match="closed; connect a new one"):
        write(da.ones((40, 4), chunks=(10, 4)) + 1, path, scheduler=closed)


def test_a_source_that_only_the_client_sees(client, path, tmp_path):
    source = tmp_path / "s.npy"
    np.save(source, VALUES)
    x = lazyio.open(source)
    source.rename(tmp_path / "moved.npy")
    with pytest.raises(SourceError, match=r"s\.npy"):
        write(x, path)
    assert not path.exists()


def test_masked_elements_are_told_of(client, path):
    """Also where a worker has filled them."""
    key = "data" if path.suffix == ".h5" else None
    lazyio.allocate(path, key, shape=VALUES.shape, dtype="i4")
    x = da.from_array(VALUES, chunks=(100, 60)).map_blocks(
        lambda block: np.ma.masked_less(block, 5), dtype="i4", meta=np.ma.empty((0, 0), "i4")
    )
    report = write(x, path, region=(slice(None), slice(None)))
    assert (read(path) == np.where(VALUES < 5, 0, VALUES)).all()
    assert "mask-lost" in dict(report.advice)


def test_object_stores(client, landed):
    """Workers put objects themselves; what opens the store travels to them."""
    with fake_s3() as s3:
        to = {"storage_options": s3.storage_options}
        x = da.from_array(VALUES, chunks=(50, 60)) + 1
        lazyio.to_zarr(x, "s3://bucket/x.zarr", chunks=(50, 20), **to)
        found = lazyio.open("s3://bucket/x.zarr", **to).compute()
    assert (found == VALUES + 1).all()
    assert landed == [False] * 24


def test_executors_encode_what_they_compute(path, landed):
    """Payloads come from them, and elements of chunks that no block has whole."""
    context = multiprocessing.get_context("forkserver")
    x = da.from_array(VALUES, chunks=(75, 60)).map_blocks(operator.neg, dtype="i4")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        write(x, path, chunks=(50, 60), scheduler=pool)
    assert (read(path) == -VALUES).all()
    assert landed == [True] * 5  # Of eight chunks three lie in two blocks.
    assert lazyio.verify(path).status == "ok"


def _peak(dask_worker=None):
    """Return the most bytes of memory that this process has had."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) << 10


def test_workers_come_and_are_retired(path):
    """A cluster that grows and shrinks meanwhile: what a worker has when it leaves goes on."""

    def slow(block):
        time.sleep(0.05)
        return block

    x = da.from_array(VALUES, chunks=(70, 13)).map_blocks(slow, dtype="i4")
    sizes, seen = iter([3, 1, 3, 1, 2]), set()
    with distributed.LocalCluster(n_workers=1, **OPTIONS) as one, distributed.Client(one) as client:

        def scale(step):
            seen.add(len(client.scheduler_info()["workers"]))
            if step.n_done % 6 == 3:
                one.scale(next(sizes, 2))

        report = write(x, path, chunks=(50, 13), progress=scale)
    assert report.n_blocks >= 30
    assert len(seen) > 1
    assert (read(path) == VALUES).all()
    assert lazyio.verify(path).status == "ok"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("codec", "block"), [("gzip", 2**21), (None, 2**21), (None, 2**17)])
def test_memory_of_a_worker(tmp_path, codec, block):
    """Each process of a cluster stays within the limit, with all that waits for its place."""
    limit = 64 * 2**20
    x = da.random.default_rng(0).integers(0, 999, (24 * 2**20,), dtype="i4", chunks=block)
    options = {"compression": codec, "shuffle": codec is not None}
    with distributed.LocalCluster(n_workers=1, **OPTIONS) as one, distributed.Client(one) as client:
        lazyio.to_hdf5(x[: 2**20], tmp_path / "warm.h5", **options)
        (before,) = client.run(_peak).values()
        report = lazyio.to_hdf5(x, tmp_path / "x.h5", memory_limit=limit, **options)
        (after,) = client.run(_peak).values()
    assert report.peak_nbytes <= limit
    assert after - before <= limit, f"{(after - before) / 2**20:.1f} MiB"


def test_a_late_task_writes_nothing(client, tmp_path, monkeypatch):
    """One that was given its places before the run failed, and wakes up after."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(VALUES, path, compression="gzip")
    before = path.read_bytes()

    def block(block_id):
        if block_id[0] == 1:
            time.sleep(0.3)
            msg = "bad"
            raise ValueError(msg)
        return VALUES[:100]

    client.run(_slow, 1.5)
    try:
        x = da.map_blocks(block, chunks=((100,) * 2, (60,)), dtype="i4")
        with pytest.raises(BlockError, match="bad"):
            lazyio.to_hdf5(x, path, overwrite=True)
        lazyio.to_hdf5(VALUES + 1, path, overwrite=True, scheduler="threads")
        published = path.read_bytes()
        time.sleep(2)
    finally:
        client.run(_slow, 0)
    assert before != path.read_bytes() == published
    assert (read(path) == VALUES + 1).all()


def _slow(seconds):
    """Have this worker wait between being given places and writing."""
    if not hasattr(Hdf5ChunkWriter, "plain"):
        Hdf5ChunkWriter.plain = Hdf5ChunkWriter.write

    def write(self, chunks, **options):
        time.sleep(seconds)
        self.plain(chunks, **options)

    Hdf5ChunkWriter.write = write if seconds else Hdf5ChunkWriter.plain
