"""Graphs that are handed to a cluster a few blocks at a time, against what a cluster forgets."""

import operator
from typing import Any

from dask.task_spec import DataNode, Task, TaskRef
from hypothesis import given
from hypothesis import strategies as st

from lazyio.execution.cluster import _Handover
from lazyio.execution.dask_graphs import Graph


class _Future:
    def __init__(self, key: Any, cluster: "_Cluster") -> None:
        self.key = key
        cluster.wanted[key] = cluster.wanted.get(key, 0) + 1
        self._cluster = cluster

    def __del__(self) -> None:
        self._cluster.wanted[self.key] -= 1


class _Cluster:
    """A client whose cluster forgets what nobody wants, and learns of tasks late."""

    def __init__(self) -> None:
        self.wanted: dict[Any, int] = {}
        self.n_computed: dict[Any, int] = {}
        self.known: set[Any] = set()
        self.late: list[tuple[dict[Any, Any], set[Any]]] = []

    def compute(self, collections: list[Any], *, optimize_graph: bool) -> list[_Future]:
        """Take tasks, of which the cluster learns later."""
        assert not optimize_graph
        graph = dict(collections[0].dask)
        futures = [_Future(one.key, self) for one in collections]
        self.late.append((graph, {one.key for one in collections}))
        return futures

    def learn(self) -> None:
        """Compute what has been handed over; every task needs what is there by then."""
        for graph, _ in self.late:
            for key, task in graph.items():
                for other in task.dependencies:
                    assert other in graph or self.wanted.get(other), f"{key} needs {other}"
                if key not in self.known or not self.wanted.get(key):
                    self.n_computed[key] = self.n_computed.get(key, 0) + 1
                self.known.add(key)
        self.late.clear()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[Any, Any], list[Any]]:
    """Return tasks, each of which needs some of those before it, and keys of blocks."""
    n = draw(st.integers(1, 30))
    tasks: dict[Any, Any] = {"ready": DataNode("ready", 1)}
    for at in range(n):
        needed = draw(st.sets(st.integers(0, at - 1), max_size=4)) if at else set()
        names = [f"t{one}" for one in sorted(needed)]
        if draw(st.booleans()):
            names.append("ready")
        tasks[f"t{at}"] = Task(f"t{at}", max, 0, *map(TaskRef, names))
    keys = draw(st.permutations([f"t{at}" for at in range(n)]))
    keys = keys[: draw(st.integers(1, n))]
    return tasks, keys


@given(graphs(), st.integers(1, 7), st.randoms(use_true_random=False))
def test_every_task_is_computed_once_and_nothing_is_kept(
    graph: tuple[dict[Any, Any], list[Any]], size: int, random: Any
) -> None:
    whole, keys = graph
    reached, tasks = list(keys), {}
    while reached:
        tasks[at] = whole[(at := reached.pop())]
        reached += [other for other in whole[at].dependencies if other not in tasks]
    cluster = _Cluster()
    handover = _Handover(cluster, Graph(tasks=tasks), keys)
    under_way: dict[Any, _Future] = {}
    waiting = list(keys)
    while waiting or under_way:
        while waiting and len(under_way) < size:
            more, waiting = waiting[:size], waiting[size:]
            under_way.update({future.key: future for future in handover.submit(more)})
            if random.random() < 0.5:
                cluster.learn()
        cluster.learn()
        for key in random.sample(sorted(under_way), random.randint(1, len(under_way))):
            handover.is_done(key)
            del under_way[key]
    assert not handover._held
    assert not any(cluster.wanted.values())
    assert all(n == 1 for key, n in cluster.n_computed.items() if key != "ready")
    assert operator.eq(cluster.n_computed.keys() - {"ready"}, tasks.keys() - {"ready"})
