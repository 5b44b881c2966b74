"""Several arrays of one call: under which keys, and what each may hold."""

import queue
import threading

import dask.array as da
import h5py
import numpy as np
import pytest
from hdmf.data_utils import DataChunkIterator

import lazyio
from lazyio.errors import OptionError
from lazyio.inputs import recognise
from lazyio.options import plan_request
from lazyio.writing.array_plan import plan_array
from lazyio.writing.multi_array import items_of, sharing_memory


@pytest.mark.parametrize("n", [1, 2, 5])
def test_graphs_share_what_may_wait(n):
    """Each was planned for itself; together they stay within the limit."""
    x = da.ones((400, 400), chunks=(70, 70)) + 1
    cutting = plan_request(chunks=(100, 33), memory_limit="2 MB", workers=2)
    alone = [plan_array(f"{at}", recognise(x * at), cutting) for at in range(n)]
    assert all(one.plan.gather_nbytes for one in alone)
    source = plan_array("source", recognise(np.ones((5, 5))), cutting)
    shared = sharing_memory([*alone, source])
    waiting = sum(one.plan.gather_nbytes for one in shared)
    held = max(one.plan.peak_nbytes - one.plan.gather_nbytes for one in shared)
    assert held + waiting <= 2_000_000
    assert all(one.plan.gather_nbytes for one in shared[:n])


def test_a_source_that_others_are_made_of_is_read_with_them():
    """From the graph, so that its blocks are shared; alone it is read straight."""
    x = lazyio.from_function(np.ones, (10, 10), "f8")
    alone, other = lazyio.from_function(np.ones, (5, 5), "f8"), np.ones(3)
    items = dict(items_of({"x": x, "y": x + 1, "alone": alone, "other": other}, ""))
    assert items["x"].source is None
    assert items["x"].array is x
    assert items["alone"].source is not None
    assert items["other"].source is not None


@pytest.mark.parametrize("kind", ["streams", "iterators"])
def test_what_one_device_feeds_is_taken_in_turn(tmp_path, kind) -> None:
    """None runs ahead of the others by more than an item, so that no queue is full for ever."""
    waiting = {key: queue.Queue(300) for key in "ab"}

    def device() -> None:
        for row in range(5000):
            for one in waiting.values():
                one.put(np.full(8, row, "f8"))
        for one in waiting.values():
            one.put(None)

    def rows(key):
        while (row := waiting[key].get(timeout=10)) is not None:
            yield row

    threading.Thread(target=device, daemon=True).start()
    if kind == "streams":
        data = {key: lazyio.Stream(rows(key), dtype="f8") for key in waiting}
    else:
        data = {key: DataChunkIterator(data=rows(key), buffer_size=100) for key in waiting}
    lazyio.to_hdf5(data, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        for key in waiting:
            assert (file[key][:, 0] == np.arange(5000)).all()


@pytest.mark.parametrize("to", [lazyio.to_hdf5, lazyio.to_zarr])
def test_an_error_names_the_array_of_several_that_it_is_about(tmp_path, to):
    given = {"one": np.zeros((4, 5)), "in/two": np.zeros(7)}
    with pytest.raises(OptionError, match=r"array '/?in/two': chunks=\(2, 2\) has 2 axes"):
        to(given, tmp_path / "x", chunks=(2, 2))
    with pytest.raises(OptionError, match=r"^chunks=\(2, 2\) has 2 axes"):
        to(given["in/two"], tmp_path / "x", chunks=(2, 2))
