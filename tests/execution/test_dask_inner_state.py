"""What is taken from dask's inner state is still there: a newer dask fails here first."""

import weakref

import dask
import dask.array as da
import dask.multiprocessing
import dask.threaded
import numpy as np
import pytest
from dask.blockwise import optimize_blockwise
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph

from lazyio.execution.dask_inner_state import (
    failed_key,
    forget_results,
    reading_apart,
    refuse_compute,
    values_in,
)

VALUES = np.arange(24.0).reshape(6, 4)


class Indexed:
    """Nothing that dask would copy or cut at once."""

    shape, dtype, ndim = VALUES.shape, VALUES.dtype, 2

    def __getitem__(self, index):
        return VALUES[index]


class Block(np.ndarray):
    """A block that weak references can tell of."""


@pytest.mark.parametrize("inline", [True, False])
def test_layers_tell_what_an_array_was_made_of(inline):
    """Also under layers that were put on top, and of a graph that is a plain mapping."""
    held = Indexed()
    array = da.from_array(held, chunks=(2, 4), inline_array=inline)
    for one in (array, array + 1, array[::2].rechunk(3)):
        assert [value for layer in one.dask.layers.values() for value in values_in(layer)].count(
            held
        ) == 1
    assert list(values_in({"original-x": held, "x": 1})) == [held]


def test_one_array_refuses_to_be_computed():
    """And whatever is made of it is computed as ever."""
    array = da.ones(4, chunks=2)
    refuse_compute(array, MemoryError("too large"))
    with pytest.raises(MemoryError, match="too large"):
        array.compute()
    assert (array + 1).compute(scheduler="sync").tolist() == [2] * 4
    assert array[:2].compute(scheduler="sync").tolist() == [1] * 2
    (computed,) = dask.compute(array, scheduler="sync")
    assert computed.tolist() == [1] * 4


def fail_inside(block, block_id=None):
    """Fail on one block, in a graph that its task computes."""

    def fail(part):
        raise LookupError

    if block.size and block_id == (1, 0):
        inner = da.ones(2, chunks=1).map_blocks(fail, dtype=float, meta=VALUES)
        dask.get(dict(inner.dask), inner.__dask_keys__())
    return block


@pytest.mark.parametrize("get", [dask.get, dask.threaded.get, dask.multiprocessing.get])
def test_the_key_of_a_task_that_failed(get):
    """Of the outermost graph, where a task computes one of its own."""
    array = da.from_array(VALUES, chunks=(2, 4)).map_blocks(fail_inside, dtype=float)
    options = {"multiprocessing.context": "fork"}
    with dask.config.set(options), pytest.raises(LookupError) as caught:
        get(dict(array.dask), array.__dask_keys__(), num_workers=1)
    assert failed_key(caught.value) == (array.name, 1, 0)


def test_the_key_is_unknown_outside_of_dask():
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert failed_key(caught.value) is None


def test_results_that_nothing_waits_for_are_gone():
    """No more blocks than one are held at any time; those that others need stay."""
    blocks, alive, held = [], [], set()
    array = da.map_blocks(
        lambda block_id=None: np.ones(5).view(Block), chunks=((5,) * 20,), dtype=float, meta=VALUES
    )
    doubled = array.map_blocks(lambda block: block * 2, dtype=float)
    graph = dict(optimize_blockwise(doubled.dask, keys=doubled.__dask_keys__()))

    def posttask(key, value, _dsk, state, _worker):
        blocks.append(weakref.ref(value))
        held.add(key)
        held.difference_update(forget_results(state, held))
        del value
        alive.append(sum(block() is not None for block in blocks))

    with Callback(posttask=posttask):
        dask.get(graph, doubled.__dask_keys__())
    assert len(alive) == 20
    assert max(alive) <= 2


def test_layers_are_rebuilt_with_readings_of_their_own():
    """Same keys and values; what waits for the mean reads again, what does not is shared."""
    array = da.from_array(Indexed(), chunks=(2, 4), inline_array=True)
    outcomes = [array + 1, array - array.mean(axis=0)]
    keys = [key for one in outcomes for row in one.__dask_keys__() for key in row]
    merged = HighLevelGraph.merge(*(one.dask for one in outcomes))
    merged = optimize_blockwise(merged, keys=keys)
    apart = reading_apart(merged)
    assert {name for name in apart.layers if "-for-" in name}
    for graph in (apart, optimize_blockwise(apart, keys=keys)):
        found = dask.get(dict(graph.cull(keys)), keys)
        np.testing.assert_array_equal(np.concatenate(found[:3]), VALUES + 1)
        np.testing.assert_array_equal(np.concatenate(found[3:]), VALUES - VALUES.mean(axis=0))
