"""The child process of ``cluster``: one row by everybody in turns, or what a message costs."""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import dask.array as da
import h5netcdf  # noqa: F401 - so that it is not imported while a clock runs
import hdf5plugin
import numpy as np
import xarray as xr
import zarr
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster

import lazyio
from benchmarks.cluster_costs import (
    block_costs,
    cores_of_others,
    seconds_per_chunk,
    used_beside_work,
    worked_for,
)
from benchmarks.cluster_model import Shape
from benchmarks.cluster_wire import count_from_now, used
from benchmarks.memory_one import removed
from lazyio.execution import run
from lazyio.execution.workers import BATCH_NBYTES, RECORD_NBYTES

N_COLUMNS = 384
CODECS = {
    "hdf5:gzip-4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "hdf5:zstd-1": {"compression": "zstd", "compression_opts": 1, "shuffle": True},
    "zarr:zstd": {},
}


def main() -> None:
    """Do what the command line says; print what came of it as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set({"distributed.admin.log-length": 100})
    print(json.dumps(_row(job) if job["what"] == "row" else _costs(job)))


@contextlib.contextmanager
def cluster_of(n_workers: int) -> Iterator[Client]:
    """Have a cluster whose scheduler and workers are processes of their own.

    Parameters
    ----------
    n_workers : int
        Each with one thread.
    """
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    with SubprocessCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(n_workers, timeout=120)
        client.run(_import_all)
        client.run_on_scheduler(count_from_now)
        count_from_now()
        yield client


def _import_all() -> None:
    """Import in a worker what it will need."""
    assert hdf5plugin is not None
    assert lazyio is not None


# Rows.


def read_rows(path: str, n_rows: int, block_info: Any = None) -> Any:
    """Return a block of a raw file.

    Parameters
    ----------
    path : str
        The file.
    n_rows : int
        Of all of it.
    block_info : dict
        From dask.
    """
    (start, stop), _ = block_info[None]["array-location"]
    with open(path, "rb") as file:
        file.seek(2 * N_COLUMNS * start)
        found = np.fromfile(file, "<i2", (min(stop, n_rows) - start) * N_COLUMNS)
    return found.reshape(-1, N_COLUMNS)


def _array(job: dict[str, Any]) -> da.Array:
    n_rows, block = job["n_rows"], job["block_rows"]
    sizes = (*(block,) * (n_rows // block), *([n_rows % block] if n_rows % block else []))
    return da.map_blocks(
        read_rows,
        job["data"],
        n_rows,
        chunks=(sizes, (N_COLUMNS,)),
        dtype="<i2",
        meta=np.empty((0, 0), "<i2"),
    )


def _row(job: dict[str, Any]) -> dict[str, Any]:
    """Have everybody write, in turns, and see what blocks and messages cost meanwhile."""
    runs: dict[str, list[dict[str, Any]]] = {}
    blocks: list[dict[str, float]] = []
    messages: dict[int, list[dict[str, Any]]] = {n: [] for n in job["workers"]}
    others: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        clients = {n: stack.enter_context(cluster_of(n)) for n in job["workers"]}
        idle = {n: _idle(client) for n, client in clients.items()}
        for _ in range(job["repeats"] + 1):
            for name, write in _contenders(job, clients).items() if job["writes"] else ():
                runs.setdefault(name, []).append(write())
            blocks.append(block_costs(clients[2], job))
            for n, client in clients.items():
                messages[n].append(_messages(job, client, idle[n], _MOMENT))
                others.setdefault(f"lazyio-{n}", []).append(cores_of_others(client))
    # The first only warms everything.
    return {
        "nbytes": 2 * N_COLUMNS * job["n_rows"],
        "runs": {name: each[1:] for name, each in runs.items()},
        "others": {name: each[1:] for name, each in others.items()},
        "blocks": blocks[1:],
        "messages": {f"lazyio-{n}": _each(each[1:]) for n, each in messages.items()},
    }


def _contenders(
    job: dict[str, Any], clients: dict[int, Client]
) -> dict[str, Callable[[], dict[str, Any]]]:
    found: dict[str, Callable[[], dict[str, Any]]] = {
        f"threads-{n}": lambda n=n: _timed(job, None, lambda path: _lazyio(job, path, None, n))
        for n in clients
    }
    for n, client in clients.items():
        found[f"lazyio-{n}"] = lambda client=client: _timed(
            job, client, lambda path: _lazyio(job, path, client, None)
        )
        peer = "dask" if job["row"].startswith("zarr") else "xarray"
        found[f"{peer}-{n}"] = lambda client=client: _timed(
            job, client, lambda path: _peer(job, path, client)
        )
    return found


def _lazyio(job: dict[str, Any], path: str, client: Client | None, workers: int | None) -> None:
    write = lazyio.to_zarr if job["row"].startswith("zarr") else lazyio.to_hdf5
    options = {"workers": workers} if workers else {}
    write(
        _array(job),
        path,
        "x",
        chunks=(job["chunk_rows"], N_COLUMNS),
        scheduler=client or "threads",
        progress=False,
        **CODECS[job["row"]],
        **options,
    )


def _peer(job: dict[str, Any], path: str, client: Client) -> None:
    """Write as dask does with Zarr, and xarray with HDF5."""
    with client.as_current(), dask.config.set(scheduler=client):
        if job["row"].startswith("zarr"):
            chunks = (job["chunk_rows"], N_COLUMNS)
            shape = (job["n_rows"], N_COLUMNS)
            made = zarr.create_array(path, name="x", shape=shape, chunks=chunks, dtype="<i2")
            da.store(_array(job), made, lock=False)
            return
        encoding: dict[str, Any] = dict(CODECS[job["row"]])
        if encoding["compression"] == "zstd":
            encoding |= dict(hdf5plugin.Zstd(clevel=1))
        encoding["chunksizes"] = (job["chunk_rows"], N_COLUMNS)
        dataset = xr.Dataset({"x": (("row", "column"), _array(job))})
        dataset.to_netcdf(path, engine="h5netcdf", encoding={"x": encoding})


def _timed(
    job: dict[str, Any], client: Client | None, write: Callable[[str], None]
) -> dict[str, Any]:
    """Return seconds, and bytes through the scheduler and the caller."""
    path = job["output"] + (".zarr" if job["row"].startswith("zarr") else ".h5")
    before, busy = _used(client), _busy(client)
    began = time.perf_counter()
    write(path)
    seconds = time.perf_counter() - began
    after, then = _used(client), _busy(client)
    processor = then - busy + sum(b[1] - a[1] for a, b in zip(before, after, strict=True))
    stored = sum(one.stat().st_size for one in [Path(path), *Path(path).rglob("*")])
    removed(Path(path))
    names = ("caller", "scheduler")
    wire = {name: b[0] - a[0] for name, a, b in zip(names, before, after, strict=True)}
    return {"seconds": seconds, "processor": processor, "stored": stored, "wire": wire}


def _busy(client: Client | None) -> float:
    """Return the seconds of processor that all workers have taken by now."""
    return sum(one[1] for one in client.run(used).values()) if client else 0.0


def _used(client: Client | None) -> list[tuple[int, float]]:
    """Return what caller and scheduler have used by now."""
    return [used(), client.run_on_scheduler(used) if client else (0, 0.0)]


# Costs.

_PIECE = 4096
"""Bytes of chunks that are only to be asked for."""
_MOMENT = 0.01
"""Seconds that a block of them takes."""
_NOTHING = np.empty(0, "u1")


def _costs(job: dict[str, Any]) -> dict[str, Any]:
    """Return what messages cost where somebody is busy, and several come together."""
    with cluster_of(1) as client:
        idle = _idle(client)
        messages = [_messages(job, client, idle, 0.0) for _ in range(job["repeats"] + 1)]
    folder = Path(job["output"]).parent
    caller_chunk = min(seconds_per_chunk(folder) for _ in range(5))
    return {"messages": _each(messages[1:]), "caller_chunk": caller_chunk}


def _turns(job: dict[str, Any]) -> dict[str, tuple[int, int, int, int | None]]:
    """Return writes by what they are for: tasks, chunks, blocks of a task, bytes of a question."""
    n, many = job["n_tasks"], job["n_chunks"]
    return {
        "few": (n // 10, 1, 1, None),
        "tasks": (n, 1, 1, None),
        "chunks": (n, many, 1, None),
        "questions": (n, many, 1, _PIECE * many // 8),
        "blocks": (n, 1, n, None),
    }


def _messages(
    job: dict[str, Any], client: Client, idle: dict[str, float], wait: float
) -> dict[str, Any]:
    """Return what tasks, questions, chunks and further blocks cost everybody."""
    turns, found = _turns(job), {}
    for name, turn in turns.items():
        took = _asking(job, client, wait, *turn)
        less = {who: took[who] - idle[who] * took["seconds"] for who in idle}
        found[name] = took | less
    n, many = job["n_tasks"], job["n_chunks"]
    per: dict[str, Any] = {}
    for what in found["few"]:
        few, tasks, chunks, questions, blocks_in_few = (found[name][what] for name in turns)
        chunk = (chunks - tasks) / (n * (many - 1))
        question = (questions - chunks) / (7 * n)
        task = (tasks - few) / (n - n // 10) - question - chunk
        together = len(_together(n, len(client.nthreads())))
        block = (blocks_in_few - few - (together - n // 10) * (task + question)) / n - chunk
        per[what] = {"task": task, "question": question, "chunk": chunk, "block": block}
        per[what]["once"] = few - n // 10 * (task + question + chunk)
    return per


def _each(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of all that was measured, and nothing less than nothing."""
    first = messages[0]
    return {
        who: {
            what: max(0.0, statistics.median(one[who][what] for one in messages)) for what in each
        }
        for who, each in first.items()
    }


def _together(n: int, n_workers: int) -> list[int]:
    """Return the blocks of each task where workers write blocks of next to nothing."""
    shape = Shape(
        n_blocks=n,
        chunks_per_block=1,
        chunks_per_question=1,
        chunk_nbytes=1,
        stored_nbytes=1,
        blocks_per_task=n,
        shrinks=True,
    )
    return shape.tasks(n_workers)


def _asking(
    job: dict[str, Any],
    client: Client,
    wait: float,
    n_tasks: int,
    n_chunks: int,
    most: int,
    batch: int | None,
) -> dict[str, float]:
    """Write chunks with next to nothing in them; return what that has taken of what."""
    size = n_chunks * _PIECE
    chunks = ((size,) * n_tasks,)
    array = da.map_blocks(worked_for, size, wait, chunks=chunks, dtype="u1", meta=_NOTHING)
    path = Path(job["output"] + ".h5")
    limits = {
        "_MOST_WAITING": batch or BATCH_NBYTES,
        "_MOST_IN_TURN": most * n_chunks * (_PIECE + RECORD_NBYTES),
    }

    def write() -> None:
        lazyio.to_hdf5(
            array, path, "x", chunks=(_PIECE,), compression=None, scheduler=client, progress=False
        )

    with mock.patch.multiple(run, **limits):
        found = _spent(client, write)
    path.unlink()
    return found


def _idle(client: Client) -> dict[str, float]:
    """Return what caller, scheduler and workers take of a processor while nothing is to be done."""
    found = _spent(client, lambda: time.sleep(2))
    return {who: found[who] / found["seconds"] for who in ("caller", "scheduler", "worker")}


def _spent(client: Client, do: Callable[[], None]) -> dict[str, float]:
    """Return what something takes of whom, and the bytes sent and received."""
    before, busy = _used(client), client.run(used_beside_work)
    began = time.perf_counter()
    do()
    seconds = time.perf_counter() - began
    after, then = _used(client), client.run(used_beside_work)
    (caller, caller_cpu), (scheduler, scheduler_cpu) = (
        (b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)
    )
    return {
        "caller": caller_cpu,
        "scheduler": scheduler_cpu,
        "worker": sum(then[name] - busy[name] for name in busy),
        "seconds": seconds,
        "caller_wire": caller,
        "scheduler_wire": scheduler,
    }


if __name__ == "__main__":
    main()
