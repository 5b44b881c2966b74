"""What dask's public interface does not tell, read from or put into its inner state.

Nothing else in lazyio knows how dask works inside. Each function says what it
relies on, and ``tests/execution/test_dask_inner_state.py`` fails with a dask
in which that does not hold any more.
"""

import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn

import dask.array as da
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer


def values_in(layer: Any) -> Iterator[Any]:
    """Yield what a layer holds beside keys: literals, and the arrays of ``da.from_array``.

    A ``Blockwise`` lists a literal without indices; ``da.from_array`` keeps an array that is not
    inlined under a key of its own. Both are needed to tell what a graph reads.
    """
    if isinstance(layer, Blockwise):
        for argument, indices in layer.indices:
            if indices is None:
                yield argument
    elif isinstance(layer, (dict, MaterializedLayer)):
        for key, value in layer.items():
            if isinstance(key, str) and key.startswith("original-"):
                yield getattr(value, "value", value)


def refuse_compute(array: da.Array, error: Exception) -> None:
    """Have ``compute`` of one array raise, and of none that is made of it.

    dask has no hook for what a whole array takes; an array has a ``__dict__``, and what is made
    of an array is a new one.
    """

    def compute(**_: Any) -> NoReturn:
        raise error.with_traceback(None)

    array.__dict__["compute"] = compute


def failed_key(error: BaseException) -> Any:
    """Return the key of the task that raised, ``None`` where it is not known.

    dask does not say it, but a task runs in a frame that has its key, and of one in another
    process the loop knows that waits for it. The outermost counts: a task may compute graphs of
    its own.
    """
    waited_for = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "execute_task" and "key" in frame.f_locals:
            return frame.f_locals["key"]
        if frame.f_code.co_name == "get_async" and waited_for is None:
            waited_for = frame.f_locals.get("key")
    return waited_for


def forget_results(state: Mapping[str, Any], keys: Collection[Any]) -> set[Any]:
    """Let go of results that no task waits for any more, and return their keys.

    A local scheduler would keep every result that was asked for until the last one is there.
    """
    done = {key for key in keys if not state["waiting_data"].get(key)}
    state["cache"].update(dict.fromkeys(done))
    return done


def reading_apart(graph: HighLevelGraph) -> HighLevelGraph:
    """Give each layer that waits for other things too a reading of its own.

    For that layers are copied and have other inputs under the same name; dask's own ``clone``
    gives all that it copies new names.
    """
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
