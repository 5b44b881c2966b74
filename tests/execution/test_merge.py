"""Several arrays as one graph: the same values, every source block as seldom as may be."""

import dask
import dask.array as da
import numpy as np
import pytest
from dask.core import flatten
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.execution.dask_graphs import merged_graph
from lazyio.regions import cuts

STEPS = {
    "itself": lambda x: x,
    "plus": lambda x: x + 1,
    "twice": lambda x: (x + 1) * 2,
    "transposed": lambda x: x.T,
    "part": lambda x: x[1:, ::2],
    "sum": lambda x: x.sum(axis=0),
    "all": lambda x: x.sum(),
    "centred": lambda x: x - x.mean(axis=0),
    "both": lambda x: x + x.T if x.shape[0] == x.shape[1] else x,
    "rolled": lambda x: da.roll(x, 1, axis=0),
    "joined": lambda x: da.concatenate([x, x + 1]),
    "rechunked": lambda x: x.rechunk(3),
}


def keys_of(arrays):
    return [key for array in arrays for key in flatten([array.__dask_keys__()])]


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=5),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_values_are_those_that_each_array_has_alone(names, shape, chunks):
    """Whatever is merged."""
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    x = da.from_array(values, chunks=chunks).map_blocks(lambda block: block)
    arrays = [STEPS[name](x) for name in names]
    graph = merged_graph(arrays, keys_of(arrays)).tasks
    for array in arrays:
        keys = list(flatten([array.__dask_keys__()]))
        alone = np.asarray(array.compute(scheduler="sync"))
        for region, block in zip(cuts(array.chunks), dask.get(graph, keys), strict=True):
            np.testing.assert_array_equal(block, alone[region])


@pytest.mark.parametrize(
    ("names", "n_reads"),
    [
        (["plus", "twice", "itself"], 1),
        (["plus", "sum", "all"], 1),
        (["plus", "centred"], 2),
        (["centred"], 2),
    ],
)
def test_how_often_the_source_is_read(names, n_reads):
    """Once for all that need nothing else; again for what waits for the whole."""
    reads = []

    def read(block_id=None):
        reads.append(block_id)
        return np.ones((5, 4))

    x = da.map_blocks(read, chunks=((5,) * 6, (4, 4)), dtype=float, meta=np.empty((0, 0)))
    reads.clear()
    arrays = [STEPS[name](x) for name in names]
    keys = keys_of(arrays)
    dask.get(merged_graph(arrays, keys).tasks, keys)
    assert len(reads) <= n_reads * 12
