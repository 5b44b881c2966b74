"""``python -m benchmarks worker-kills``: SIGKILL workers of a cluster, at random times.

Whatever is killed, and however often, the file holds the data, byte for byte, and
``verify`` finds nothing. Only kills that came before the end of a write count.
"""

import argparse
import contextlib
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import h5py
import numpy as np
import zarr

import lazyio
from benchmarks.options import add_shared, output_folder, save

_N_BLOCKS, _ROWS, _COLUMNS = 40, 25, 300
_N_WRITES = 20
"""On one cluster, after which another is started."""
_SHAPE = (_N_BLOCKS * _ROWS, _COLUMNS)


def _values() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 500, _SHAPE).astype("i4")


def _block(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
    time.sleep(0.02)
    at = block_id[0] * _ROWS
    return _values()[at : at + _ROWS]


def _array() -> da.Array:
    return da.map_blocks(_block, chunks=((_ROWS,) * _N_BLOCKS, (_COLUMNS,)), dtype="i4")


def _new_hdf5(path: Path) -> None:
    lazyio.to_hdf5(_array(), path, chunks=(_ROWS, 100), compression="gzip", mode="w")


def _resumable_hdf5(path: Path) -> None:
    lazyio.to_hdf5(_array(), path, chunks=(10, 100), compression="zstd", mode="w", resume=True)


def _cut_hdf5(path: Path) -> None:
    lazyio.to_hdf5(_array(), path, chunks=(40, 70), shuffle=True, compression="gzip", mode="w")


def _region_hdf5(path: Path) -> None:
    shape = (_SHAPE[0] + 30, _COLUMNS)
    lazyio.allocate(path, "data", shape=shape, dtype="i4", chunks=(_ROWS, 100), compression="gzip")
    lazyio.to_hdf5(_array(), path, region=(slice(30, None), slice(None)))


def _new_zarr(path: Path) -> None:
    lazyio.to_zarr(_array(), path, chunks=(_ROWS, 100), mode="w")


def _sharded_zarr(path: Path) -> None:
    lazyio.to_zarr(_array(), path, chunks=(10, 100), shards=(30, 300), mode="w", resume=True)


CASES: dict[str, Callable[[Path], None]] = {
    "hdf5": _new_hdf5,
    "hdf5-resumable": _resumable_hdf5,
    "hdf5-cut": _cut_hdf5,
    "hdf5-region": _region_hdf5,
    "zarr": _new_zarr,
    "zarr-shards": _sharded_zarr,
}


@dataclass
class Tally:
    """What became of the writes of one case."""

    case: str
    n_kills: int = 0
    n_writes: int = 0
    n_violations: int = 0


def main(arguments: list[str]) -> int:
    """Kill workers; return 1 when anything was lost.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks worker-kills", description=__doc__)
    add_shared(parser)
    parser.add_argument("--kills", type=int, default=1000, help="in all (default: 1000)")
    parser.add_argument("--workers", type=int, default=3, help="processes (default: 3)")
    parser.add_argument("--seed", type=int, default=None, help="by default another every time")
    given = parser.parse_args(arguments)
    n_kills = 5 if given.short else given.kills
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}")
    with output_folder(given.data) as folder:
        tallies = soak(folder, n_kills, random.Random(seed), n_workers=given.workers)
    for tally in tallies:
        print(
            f"{tally.case:15} {tally.n_kills:5} kills {tally.n_writes:5} writes "
            f"{tally.n_violations:3} violations"
        )
    save(given.json, seed=seed, tallies=[vars(tally) for tally in tallies])
    print(f"{sum(tally.n_kills for tally in tallies)} kills that landed before the end")
    return 1 if any(tally.n_violations for tally in tallies) else 0


def soak(folder: Path, n_kills: int, rng: random.Random, *, n_workers: int) -> list[Tally]:
    """Kill workers so many times, all cases in turn."""
    tallies = [Tally(name) for name in CASES]
    # By default dask gives a task up that was on three workers when they died.
    settings = {"distributed.scheduler.allowed-failures": 1000}
    with dask.config.set(settings):
        while sum(tally.n_kills for tally in tallies) < n_kills:
            cluster = distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
            with cluster, distributed.Client(cluster) as client:
                for _ in range(_N_WRITES):
                    if sum(tally.n_kills for tally in tallies) >= n_kills:
                        break
                    tally = min(tallies, key=lambda one: one.n_kills)
                    _write_once(tally, folder, client, rng, n_workers)
                    if tally.n_violations:
                        return tallies
    return tallies


def _write_once(
    tally: Tally, folder: Path, client: Any, rng: random.Random, n_workers: int
) -> None:
    """Write one array while workers are killed, and look at what is there."""
    path = folder / f"{tally.case}.{'h5' if tally.case.startswith('hdf5') else 'zarr'}"
    _remove(path)
    with _killing(client, rng, rng.randint(1, 5), n_workers) as killed:
        CASES[tally.case](path)
    tally.n_kills += len(killed)
    tally.n_writes += 1
    if not _is_right(path):
        tally.n_violations += 1
        kept = folder.parent / f"lazyio-violation-{path.name}"
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        print(f"{tally.case}: violation, see {kept}", file=sys.stderr)


@contextlib.contextmanager
def _killing(client: Any, rng: random.Random, most: int, n_workers: int) -> Iterator[list[int]]:
    """Kill workers at random times, until the context is left."""
    stop = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not stop.wait(rng.uniform(0.05, 1.0)):
            with contextlib.suppress(OSError, ProcessLookupError, IndexError):
                # dask gives up a nanny whose worker it finds dead too soon.
                client.cluster.scale(n_workers)
                nannies = client.cluster.workers.values()
                if len(killed) >= most:
                    continue
                pid = rng.choice([one.process.pid for one in nannies if _is_up(one)])
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _is_up(nanny: Any) -> bool:
    """Return whether a worker runs: a nanny whose worker dies while it starts begins no other."""
    process = nanny.process
    return bool(process and process.pid and {nanny.status.name, process.status.name} == {"running"})


def _is_right(path: Path) -> bool:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = file["data"][-_SHAPE[0] :]
    else:
        found = zarr.open_array(path, mode="r")[...]
    return bool((found == _values()).all()) and lazyio.verify(path).status == "ok"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
