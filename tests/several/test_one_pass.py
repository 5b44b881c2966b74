"""Streams that are appended together, and appends that go on after they were interrupted."""

import queue
import threading

import h5py
import numpy as np
import pytest
import zarr
from hdmf.data_utils import DataChunkIterator

import lazyio


@pytest.mark.parametrize(
    ("kind", "target"), [("streams", "hdf5"), ("iterators", "hdf5 open"), ("streams", "zarr")]
)
def test_what_one_device_feeds_is_appended_in_turn(tmp_path, kind, target):
    """None runs ahead of the others by more than an item, so that no queue is full for ever."""
    waiting = {key: queue.Queue(300) for key in "ab"}

    def device() -> None:
        for row in range(3000):
            for one in waiting.values():
                one.put(np.full(8, row, "f8"))
        for one in waiting.values():
            one.put(None)

    def rows(key):
        while (row := waiting[key].get(timeout=10)) is not None:
            yield row

    threading.Thread(target=device, daemon=True).start()
    data = {key: lazyio.Stream(rows(key), dtype="f8") for key in waiting}
    if kind == "iterators":
        data = {key: DataChunkIterator(data=rows(key), buffer_size=100) for key in waiting}
    path, old = tmp_path / "x", {key: np.zeros((3, 8)) for key in waiting}
    if target == "zarr":
        lazyio.to_zarr(old, path, chunks=(100, 8))
        lazyio.to_zarr(data, path, append_dim=0)
    else:
        lazyio.to_hdf5(old, path, chunks=(100, 8), maxshape=True)
        if target == "hdf5":
            lazyio.to_hdf5(data, path, append_dim=0)
        else:
            with h5py.File(path, "r+") as file:
                lazyio.to_hdf5(data, {key: file[key] for key in waiting}, append_dim=0)
    for key in waiting:
        assert (lazyio.open(path, key)[3:, 0].compute() == np.arange(3000)).all()


@pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
def test_an_interrupted_append_goes_on(tmp_path, to):
    """Both arrays are as they were until the same call has been made again."""
    rows = np.arange(8000.0).reshape(200, 40)
    np.save(tmp_path / "a.npy", rows)
    path = tmp_path / "x"
    growing = {"maxshape": True} if to is lazyio.to_hdf5 else {}
    to({"x": np.zeros((5, 40)), "g/y": np.zeros((7, 40))}, path, chunks=(10, 40), **growing)
    x = lazyio.open(tmp_path / "a.npy", chunks=(20, 40))
    data = {"x": x, "g/y": x + 1}
    own = {"append_dim": {"x": 0}, "region": {"g/y": np.s_[2:202]}, "resume": True}
    calls = []

    def stop(step):
        calls.append(step)
        if len(calls) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to(data, path, progress=stop, scheduler="synchronous", **own)
    assert lazyio.open(path, "x").shape == (5, 40)
    assert not lazyio.open(path, "g/y").compute().any()
    report = to(data, path, scheduler="synchronous", **own)
    assert report.n_resumed > 0
    if to is lazyio.to_hdf5:
        with h5py.File(path) as file:
            found = {key: file[key][...] for key in data}
    else:
        found = {key: zarr.open_array(path, path=key, mode="r")[...] for key in data}
    np.testing.assert_array_equal(found["x"][5:], rows)
    np.testing.assert_array_equal(found["g/y"][2:], rows + 1)
    assert not found["x"][:5].any()
    again = to(data, path, scheduler="synchronous", **own)
    assert again.n_resumed == again.n_blocks
    assert lazyio.open(path, "x").shape == (205, 40)
    assert lazyio.verify(path).status == "ok"


@pytest.mark.parametrize("kind", ["hdf5", "zarr", "hdf5 open", "zarr open"])
def test_a_device_without_events_is_no_error(tmp_path, kind):
    """Its array stays as it is, while the others are appended to."""
    path = tmp_path / "x"
    to = lazyio.to_hdf5 if kind.startswith("hdf5") else lazyio.to_zarr
    growing = {"maxshape": True} if to is lazyio.to_hdf5 else {}
    old = {"events": np.ones((3, 4)), "times": np.ones(3)}
    to(old, path, chunks=2, **growing)
    data = {
        "events": lazyio.Stream(iter([]), dtype="f8"),
        "times": lazyio.Stream(iter([2.0, 3.0]), dtype="f8"),
    }
    if kind == "hdf5 open":
        with h5py.File(path, "r+") as file:
            to(data, file, append_dim=0)
    elif kind == "zarr open":
        to(data, zarr.open_group(path, mode="r+"), append_dim=0)
    else:
        to(data, path, append_dim=0)
        assert lazyio.verify(path).status == "ok"
    np.testing.assert_array_equal(lazyio.open(path, "events").compute(), old["events"])
    assert lazyio.open(path, "times").compute().tolist() == [1, 1, 1, 2, 3]
