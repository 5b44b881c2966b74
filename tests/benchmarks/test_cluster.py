"""The simulation of a cluster against what a few sums say of it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from dask.task_spec import Task
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("distributed")
pytest.importorskip("hdf5plugin")

from benchmarks.cluster import costs_of
from benchmarks.cluster_model import Costs, Machines, Shape, most_workers, simulated
from lazyio.execution.cluster import _Groups
from lazyio.execution.dask_graphs import Graph


def costs(**given: float) -> Costs:
    """Return costs of which most are nothing."""
    return Costs(**{name: given.get(name, 0.0) for name in Costs.__dataclass_fields__})


def shape(n_blocks: int, chunks: int = 4, asked: int = 4, together: int = 1) -> Shape:
    """Return a shape with chunks of 1000 bytes."""
    return Shape(
        n_blocks=n_blocks,
        chunks_per_block=chunks,
        chunks_per_question=asked,
        chunk_nbytes=1000,
        stored_nbytes=500,
        blocks_per_task=together,
    )


@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)
)
@settings(max_examples=60, deadline=None)
def test_workers_that_are_asked_nothing_share_the_work(n_workers, n_blocks, chunks, asked, more):
    """As many rounds as the tasks of the worker that has most."""
    cut = shape(n_blocks * more, chunks, asked, more)
    found = simulated(costs(encode=1.0), cut, Machines(n_workers=n_workers))
    rounds = -(-n_blocks // n_workers)
    assert found.seconds == pytest.approx(rounds * cut.chunks_per_task)
    assert found.bytes_per_second == pytest.approx(cut.nbytes / found.seconds)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_run_is_shorter_than_what_anybody_has_to_do(n_workers, cores, task, question):
    """Nor than what all have to do on the cores that there are, nor than the disk takes."""
    cut = shape(30, 6, 2)
    paid = costs(
        scheduler_task=task / 10,
        caller_task=task / 20,
        caller_question=question / 30,
        caller_chunk=0.01,
        encode=0.2,
        compute=0.1,
    )
    machines = Machines(n_workers=n_workers, cores=cores, disk=1e4)
    seconds = simulated(paid, cut, machines).seconds
    scheduler = 30 * paid.scheduler_task
    caller = 30 * (paid.caller_task + 3 * paid.caller_question + 6 * paid.caller_chunk)
    workers = 30 * (paid.compute + 6 * paid.encode)
    most = max(scheduler, caller, workers / n_workers, (scheduler + caller + workers) / cores)
    assert seconds >= most - 1e-9
    assert seconds >= 30 * 6 * 500 / 1e4 - 1e-9


def test_where_the_caller_is_busy_more_workers_do_not_help():
    """And larger tasks do."""
    paid = costs(encode=0.1, caller_task=0.05, caller_question=0.05)
    most, who = most_workers(paid, shape(1))
    assert (round(most), who) == (4, "caller")
    few, many = (simulated(paid, shape(200), Machines(n_workers=n)).seconds for n in (8, 64))
    assert few == pytest.approx(many, rel=0.05)
    larger, _ = most_workers(paid, shape(1, asked=99, together=10))
    assert round(larger) == 40


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 20))
def test_tasks_are_cut_as_they_are_handed_over(n_blocks, n_workers, most):
    """As lazyio does it, of blocks that one task takes so many of."""
    cut = replace(shape(n_blocks, together=most), shrinks=True)
    keys = [("x", at) for at in range(n_blocks)]
    graph = Graph(tasks={key: Task(key, int) for key in keys})
    room = SimpleNamespace(n_threads=n_workers)
    groups = _Groups(graph, keys, dict.fromkeys(keys, 10), room, 10 * most)
    made = groups.next_keys(n_blocks)
    assert [len(groups._members.get(key, [key])) for key in made] == cut.tasks(n_workers)


def test_two_busy_cores_may_be_slower_than_one():
    """As where they share what computes."""
    machines = Machines(n_workers=2, cores=2, core_speeds=(1.0, 0.5))
    both = simulated(costs(encode=1.0), shape(2, 1, 1), machines).seconds
    one = simulated(costs(encode=1.0), shape(2, 1, 1), Machines(n_workers=1, cores=2)).seconds
    assert both == pytest.approx(one) == pytest.approx(2.0)


def test_costs_of_what_was_measured():
    """Each where it belongs."""
    kinds = {"task": 5.0, "block": 0.5, "question": 1.0, "chunk": 0.25, "once": 2.0}
    names = ("scheduler", "caller", "worker", "seconds", "scheduler_wire", "caller_wire")
    block = {"compute": 1.0, "encode": 2.0, "write": 3.0, "stored": 4.0, "finish": 0.125}
    measured = {name: dict(kinds) for name in names}
    measured["seconds"]["question"] = 3.4
    found = costs_of(measured, 0.5, block)
    assert (found.encode, found.caller_chunk, found.wire_task) == (2.0, 0.5, 10.0)
    assert found.hop == pytest.approx(0.1)
    assert found.finish == 0.125


def test_what_has_no_part_in_the_run_slows_it_down():
    """Where there is a core too few for it."""
    paid = costs(encode=1.0, finish=0.5)
    for n, seconds in ((1, 8.0), (2, 16 / 3)):
        machines = Machines(n_workers=n, cores=2, others=0.5)
        found = simulated(paid, shape(2), machines).seconds
        assert found == pytest.approx(seconds + 8 * 0.5)
