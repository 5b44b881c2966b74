"""Several arrays as one graph, in which a block of a source that they share is read once.

dask's own optimisation reads a source anew for every array that uses it. That
bounds memory where an array needs all of a source before any of its blocks,
as ``x - x.mean()`` does, and doubles the reading where it does not. Here a
block is shared by those tasks that need nothing else, so that it is gone as
soon as they ran; all others read their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
from dask.base import optimize
from dask.blockwise import Blockwise, optimize_blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.utils import ensure_dict

Graph = dict[Any, Any]


def merged_graph(arrays: Sequence[da.Array], keys: Sequence[Any]) -> Graph:
    """Return the tasks that compute blocks of some arrays."""
    if len(arrays) == 1:
        (optimized,) = optimize(*arrays)
        found = dict(ensure_dict(optimized.__dask_graph__()))
        # Of blocks that a cluster holds already nothing is left to optimise, nor to find.
        whole = found if found.keys() >= set(keys) else dict(ensure_dict(arrays[0].dask))
        return whole if len(keys) == arrays[0].npartitions else dict(cull(whole, keys)[0])
    graph = HighLevelGraph.merge(*(array.dask for array in arrays))
    graph = optimize_blockwise(graph, keys=keys)
    graph = _reading_apart(graph)
    graph = optimize_blockwise(graph, keys=keys)
    return dict(ensure_dict(graph.cull(keys)))


def _reading_apart(graph: HighLevelGraph) -> HighLevelGraph:
    """Give each layer that waits for other things too a reading of its own."""
    roots = {
        name
        for name, layer in graph.layers.items()
        if isinstance(layer, Blockwise) and not graph.dependencies[name]
    }
    layers: dict[str, Any] = dict(graph.layers)
    dependencies = {name: set(names) for name, names in graph.dependencies.items()}
    for name, layer in graph.layers.items():
        needed = graph.dependencies[name]
        if not isinstance(layer, Blockwise) or needed <= roots:
            continue
        own = {root: f"{root}-for-{name}" for root in needed & roots}
        layers[name] = _rebuilt(layer, name, own)
        dependencies[name] = {own.get(other, other) for other in needed}
        for root, copied in own.items():
            layers[copied] = _rebuilt(graph.layers[root], copied, {})
            dependencies[copied] = set()
    return HighLevelGraph(layers, dependencies)


def _rebuilt(layer: Any, output: str, names: Mapping[str, str]) -> Blockwise:
    """Return a layer under another name, with its inputs under other names."""
    return Blockwise(
        output=output,
        output_indices=layer.output_indices,
        task=layer.task.substitute({}, key=output),
        indices=[
            (names.get(argument, argument) if isinstance(argument, str) else argument, index)
            for argument, index in layer.indices
        ],
        numblocks={names.get(name, name): count for name, count in layer.numblocks.items()},
        concatenate=layer.concatenate,
        new_axes=layer.new_axes,
        output_blocks=layer.output_blocks,
        annotations=layer.annotations,
        io_deps=layer.io_deps,
    )
