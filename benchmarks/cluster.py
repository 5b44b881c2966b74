"""``python -m benchmarks cluster``: writes by threads, by workers, and by peers on those workers.

What messages, chunks and blocks cost is measured apart from that. A simulation is
fed with it, which is held against the runs with one and two workers, and says what
is to be expected of many.
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.child import run_child
from benchmarks.cluster_model import (
    Costs,
    Machines,
    Shape,
    most_workers,
    processor_seconds,
    simulated,
)
from benchmarks.options import add_shared, chosen_from, output_folder, save
from benchmarks.recording import recording
from lazyio.execution.run import _MOST_IN_TURN, _MOST_WAITING
from lazyio.execution.workers import RECORD_NBYTES

_N_COLUMNS = 384
_ROWS = ("hdf5:gzip-4", "hdf5:zstd-1", "zarr:zstd")
_MANY = (1, 2, 4, 8, 64, 256, 1000, 2000)
_FEW = (1, 2, 8)
"""With ``--short``."""
_MOST_TASKS, _LEAST_TASKS, _MOST_QUESTIONS = 8, 2, 20_000
"""Of each worker of a simulation, and of all of them."""
_WHAT = ("task", "block", "question", "chunk")
_TURNS = (
    (1, False, 1, 1),
    (4, False, 1, 1),
    (4, True, 1, 1),
    (16, True, 1, 1),
    (16, True, 8, 1),
    (64, True, 8, 1),
    (4, True, 8, 16),
)
"""Blocks of a task, whether it asks once, how many times as large chunks are, and blocks."""


def main(arguments: list[str]) -> int:
    """Measure, simulate, and print both.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks cluster", description=__doc__)
    add_shared(parser)
    parser.add_argument("--rows", type=chosen_from(_ROWS), default=list(_ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mib", type=int, default=512, help="of the array (default: %(default)s)")
    parser.add_argument(
        "--block", type=int, default=16, help="MiB of a block (default: %(default)s)"
    )
    parser.add_argument("--disk", type=float, default=0, help="GB/s of the simulated file system")
    parser.add_argument("--simulate", action="store_true", help="only measure costs and simulate")
    given = parser.parse_args(arguments)
    job = _job(given)
    with output_folder(given.data) as folder:
        job["output"] = str(folder / "x")
        job["writes"] = not given.simulate
        found = dict(_measured(job, given.rows))
        measured = run_child("cluster_one", json.dumps(job | {"what": "costs"}))
    disk = given.disk * 1e9 or float("inf")
    chunk = measured["caller_chunk"]
    print(f"a chunk's place and landing, without the wire: {chunk * 1e6:.1f} microseconds")
    for line in _told_costs("of messages that come together", measured["messages"]):
        print(line)
    for row in given.rows:
        blocks = found[row]["blocks"]
        costs = {}
        for name, of_some in found[row]["messages"].items():
            for line in _told_costs(f"{row}: of messages one by one, {name}", of_some):
                print(line)
            costs[name] = [costs_of(of_some, chunk, block) for block in blocks]
        shape = _shape(job, blocks[0]["stored"])
        for line in _compared(costs, shape, row, found[row]):
            print(line, flush=True)
        many = costs_of(measured["messages"], chunk, blocks[-1])
        for line in _many(many, shape, disk, _FEW if given.short else _MANY):
            print(line, flush=True)
    save(given.json, costs=measured, rows=found)
    return 0


def _job(given: argparse.Namespace) -> dict[str, Any]:
    block = 1 << 20 if given.short else given.block << 20
    nbytes = 8 << 20 if given.short else given.mib << 20
    chunk_rows = max(1, min(1 << 20, block // 4) // (2 * _N_COLUMNS))
    block_rows = block // (2 * _N_COLUMNS * chunk_rows) * chunk_rows
    n_rows = nbytes // (2 * _N_COLUMNS * block_rows) * block_rows
    per_block, nbytes_of_chunk = block_rows // chunk_rows, 2 * _N_COLUMNS * chunk_rows
    given.data.mkdir(parents=True, exist_ok=True)
    array = recording(given.data, shape=(n_rows, _N_COLUMNS), chunks=(chunk_rows, _N_COLUMNS))
    return {
        "data": array.path,
        "n_rows": n_rows,
        "block_rows": block_rows,
        "chunk_rows": chunk_rows,
        "rows": given.rows,
        "workers": [1, 2],
        "repeats": 1 if given.short else given.repeats,
        "block_repeats": 2 if given.short else 4,
        "blocks_together": max(1, _MOST_IN_TURN // (per_block * (nbytes_of_chunk + RECORD_NBYTES))),
        "n_tasks": 20 if given.short else 40,
        "n_chunks": 64,
    }


def _measured(job: dict[str, Any], rows: list[str]) -> Iterator[tuple[str, Any]]:
    """Measure each row, and print it."""
    for row in rows:
        found = run_child("cluster_one", json.dumps(job | {"what": "row", "row": row}))
        yield row, found
        if not found["runs"]:
            continue
        least = {name: min(one["seconds"] for one in runs) for name, runs in found["runs"].items()}
        nbytes = found["nbytes"]
        block = _N_COLUMNS * 2 * job["block_rows"] / 2**20
        print(f"{row}: {nbytes / 2**20:.0f} MiB in blocks of {block:.1f} MiB")
        print("  who          seconds  MB/s  of lazyio  processor  scheduler  caller (bytes in %)")
        for name, runs in found["runs"].items():
            ours = least[f"lazyio-{name[-1]}"]
            shares = [
                100 * min(one["wire"][who] for one in runs) / nbytes
                for who in ("scheduler", "caller")
            ]
            print(
                f"  {name:11} {least[name]:8.2f} {nbytes / least[name] / 1e6:5.0f} "
                f"{least[name] / ours:10.2f} {min(one['processor'] for one in runs):10.2f} "
                f"{shares[0]:10.3f} {shares[1]:7.3f}"
            )
        efficiency = least["lazyio-1"] / least["lazyio-2"] / 2
        beside = least["lazyio-2"] / least["threads-2"]
        print(f"  2 workers: efficiency {efficiency:.2f}, {beside:.2f} of threads", flush=True)


def costs_of(per: dict[str, Any], caller_chunk: float, block: dict[str, float]) -> Costs:
    """Return the costs of one row.

    Parameters
    ----------
    per : dict
        What ``cluster_one`` has measured of tasks, questions and chunks.
    caller_chunk : float
        The least that a chunk takes of the caller.
    block : dict
        And of blocks of that row.
    """
    question = per["seconds"]["question"]
    busy = sum(per[who]["question"] for who in ("scheduler", "caller", "worker"))
    return Costs(
        scheduler_task=per["scheduler"]["task"],
        scheduler_question=per["scheduler"]["question"],
        scheduler_chunk=per["scheduler"]["chunk"],
        caller_task=per["caller"]["task"],
        caller_question=per["caller"]["question"],
        caller_chunk=max(caller_chunk, per["caller"]["chunk"]),
        worker_task=per["worker"]["task"],
        worker_question=per["worker"]["question"],
        scheduler_block=per["scheduler"]["block"],
        caller_block=per["caller"]["block"],
        worker_block=per["worker"]["block"],
        compute=block["compute"],
        encode=block["encode"],
        write=block["write"],
        finish=block["finish"],
        once=per["seconds"]["once"],
        hop=max(1e-4, (question - busy) / 4),
        wire_task=per["scheduler_wire"]["task"] + per["caller_wire"]["task"],
        wire_question=per["scheduler_wire"]["question"] + per["caller_wire"]["question"],
        wire_chunk=per["scheduler_wire"]["chunk"] + per["caller_wire"]["chunk"],
    )


def _shape(job: dict[str, Any], stored: float) -> Shape:
    return Shape(
        n_blocks=job["n_rows"] // job["block_rows"],
        chunks_per_block=job["block_rows"] // job["chunk_rows"],
        # As it is with a memory limit that has room for it.
        chunks_per_question=max(1, round(_MOST_WAITING / stored)),
        chunk_nbytes=2 * _N_COLUMNS * job["chunk_rows"],
        stored_nbytes=stored,
        blocks_per_task=job["blocks_together"],
        shrinks=True,
    )


def _told_costs(what: str, messages: dict[str, Any]) -> Iterator[str]:
    yield f"costs {what}"
    yield "                   task    block  question    chunk"
    for who in ("scheduler", "caller", "worker"):
        each = [messages[who][one] * 1e6 for one in _WHAT]
        numbers = f"{each[0]:10.0f} {each[1]:8.0f} {each[2]:9.0f} {each[3]:8.1f}"
        yield f"  {who:10} {numbers} microseconds"
    for who in ("scheduler", "caller"):
        each = [messages[f"{who}_wire"][one] for one in _WHAT]
        numbers = f"{each[0]:10.0f} {each[1]:8.0f} {each[2]:9.0f} {each[3]:8.1f}"
        yield f"  {who:10} {numbers} bytes, sent and received"


def _compared(
    costs: dict[str, list[Costs]], shape: Shape, row: str, found: dict[str, Any]
) -> Iterator[str]:
    """Hold the simulation against what was measured here, where all share the cores.

    Each run is compared with what blocks cost just then: machines are slower at times.
    """
    cores = os.cpu_count() or 1
    per_block = shape.chunks_per_block
    blocks = [per_block * (one.encode + one.write) + one.compute for one in costs["lazyio-1"]]
    slower = [one["slower"] for one in found["blocks"]]
    yield (
        f"{row}: a block takes {statistics.median(blocks) * 1e3:.0f} ms, "
        f"{statistics.median(slower):.2f} times that where all {cores} cores are busy; "
        f"up to {shape.blocks_per_task} blocks and {shape.questions_per_task} questions a task"
    )
    for n in (1, 2) if found["runs"] else ():
        name = f"lazyio-{n}"
        others = found["others"][name]
        told = []
        for one, slow, busy in zip(costs[name], slower, others, strict=True):
            speeds = (1.0, *(1 / slow,) * (cores - 1))
            machines = Machines(n_workers=n, cores=cores, core_speeds=speeds, others=busy)
            told.append(simulated(one, shape, machines).seconds)
        processors = [processor_seconds(one, shape, n) for one in costs[name]]
        took = [one["seconds"] for one in found["runs"][name]]
        busy_for = [one["processor"] for one in found["runs"][name]]
        yield (
            f"  {n} workers here, where others take {statistics.median(others):.2f} of the cores: "
            + _beside(told, took)
        )
        yield f"    of processors: {_beside(processors, busy_for)}"


def _beside(told: list[float], took: list[float]) -> str:
    """Say what was told and what was measured, the middle of all runs."""
    ratio = statistics.median(a / b for a, b in zip(told, took, strict=True))
    return (
        f"simulated {statistics.median(told):.2f} s, measured {statistics.median(took):.2f} s, "
        f"ratio {ratio:.2f}"
    )


def _many(costs: Costs, shape: Shape, disk: float, numbers: tuple[int, ...]) -> Iterator[str]:
    """Say what is to be expected of many workers, each with a core of its own.

    On other machines than the caller they have their payloads on the disk themselves.
    """
    costs = replace(costs, finish=0.0)
    yield "  simulated, of a task    workers:" + "".join(f"{n:>7}" for n in numbers)
    for blocks, one_question, times, larger in _TURNS:
        paid, batch = _batched(
            costs, shape, blocks, one_question=one_question, times=times, larger=larger
        )
        efficiency, alone = [], 0.0
        for n in numbers:
            tasks = _MOST_QUESTIONS // (n * batch.questions_per_task)
            tasks = min(_MOST_TASKS, max(_LEAST_TASKS, tasks))
            many = replace(batch, n_blocks=n * tasks * blocks)
            outcome = simulated(paid, many, Machines(n_workers=n, disk=disk))
            alone = alone or outcome.bytes_per_second
            efficiency.append(outcome.bytes_per_second / n / alone)
        most, who = most_workers(paid, batch)
        mib = batch.chunk_nbytes * batch.chunks_per_task / 2**20
        name = f"{mib:4.0f} MiB, {blocks} bl., {batch.chunks_per_task} ch., "
        name += f"{batch.questions_per_task} q."
        yield f"  {name:32}" + "".join(f"{part:7.2f}" for part in efficiency)
        yield (
            f"  {'':9}{alone / 1e6:.0f} MB/s alone; {most:.0f} workers keep the {who} busy; "
            f"{100 * outcome.wire_share:.3f} % of the bytes sent and received by both"
        )


def _batched(
    costs: Costs, shape: Shape, blocks: int, *, one_question: bool, times: int, larger: int
) -> tuple[Costs, Shape]:
    """Return costs and shape with more blocks a task, fewer questions, larger chunks and blocks."""
    chunks = max(1, shape.chunks_per_block * larger // times)
    of = shape.chunks_per_block * larger / chunks
    each = blocks * chunks if one_question else chunks
    batch = replace(
        shape,
        shrinks=False,
        blocks_per_task=blocks,
        chunks_per_block=chunks,
        chunks_per_question=each,
        chunk_nbytes=int(shape.chunk_nbytes * of),
        stored_nbytes=shape.stored_nbytes * of,
    )
    paid = replace(
        costs, compute=costs.compute * larger, encode=costs.encode * of, write=costs.write * of
    )
    return paid, batch
