"""What blocks cost a worker, and chunks the caller, measured without a cluster between them."""

import functools
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from distributed import Client

from lazyio.atomic.fsync import sync_tree
from lazyio.codecs.hdf5_filters import parse_filters
from lazyio.execution.cluster import same
from lazyio.execution.grants import Grants, packed
from lazyio.execution.run import _MOST_WAITING
from lazyio.execution.workers import BlockJob, Session, in_turn, write_block
from lazyio.storage.base import ChunkWriter, EncodedChunk, PayloadPlace, PlaceKind
from lazyio.storage.hdf5.chunk_writer import Hdf5ChunkWriter
from lazyio.storage.hdf5.dataset import Hdf5Target
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata
from lazyio.storage.zarr.array import ZarrTarget

_BATCH = 16
_N_BATCHES = 200
_IDLE = 1.0
"""Seconds."""
_MEMORY = np.zeros(1 << 20, "u1")
_WORKED = {"seconds": 0.0}


def seconds_per_chunk(folder: Path) -> float:
    """Return what a chunk takes of the caller: its place, its record in memory, its landing.

    Parameters
    ----------
    folder : Path
        Where a file may be made.
    """
    engine = DeferredMetadata(folder / "places.h5", None)
    try:
        n = _BATCH * _N_BATCHES
        dataset = engine.call(
            lambda: engine.file.create_dataset("x", (n, 256), "i4", chunks=(1, 256))
        )
        engine.settle()
        target = Hdf5Target(dataset, (1, 256), folder=folder)
        target.place_by(engine)
        grants = Grants([target])
        # On a thread, as questions are answered: the main one may be interrupted, and is slower.
        with ThreadPoolExecutor(1) as thread:
            took = thread.submit(_took, grants, n).result()
    finally:
        engine.abandon()
        (folder / "places.h5").unlink()
    # The best of many: others may use the machine.
    return sorted(took)[len(took) // 10] / _BATCH


def _took(grants: Grants, n_chunks: int) -> list[float]:
    """Return the seconds of each batch of chunks."""
    took = []
    for first in range(0, n_chunks, _BATCH):
        question = packed(
            EncodedChunk(chunk=at, nbytes=1024, digest=at + 1, elements=at + 1)
            for at in range(first, first + _BATCH)
        )
        began = time.perf_counter()
        grants.answer(0, question, reaches=True)
        grants.land(0, range(first, first + _BATCH), [None] * _BATCH)
        took.append(time.perf_counter() - began)
    return took


def block_seconds(
    job: dict[str, Any], repeats: int, barrier: str | None = None
) -> dict[str, float]:
    """Return what a block takes of the worker that calls this, in a task of several.

    Parameters
    ----------
    job : dict
        As of ``cluster_one``.
    repeats : int
        The median of so many tasks: a write is a sum of them.
    barrier : str, optional
        A folder in which two workers wait for each other.
    """
    folder = Path(f"{job['output']}.{os.getpid()}")
    folder.mkdir()
    session = Session.begun(folder)
    if barrier is not None:
        _meet(Path(barrier))
    # The first takes memory that the others have.
    found = [_task(job, session, at) for at in range(repeats + 1)][1:]
    session.end()
    began = time.perf_counter()
    sync_tree(folder)
    finish = (time.perf_counter() - began) / (repeats + 1)
    shutil.rmtree(folder)
    n_chunks = job["blocks_together"] * job["block_rows"] / job["chunk_rows"]
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return medians | {"finish": finish / n_chunks}


def _writer(job: dict[str, Any], folder: Path) -> ChunkWriter:
    """Return what writes the blocks of a task to a new file or array in a folder."""
    from benchmarks.cluster_one import CODECS, N_COLUMNS

    dtype, rows = np.dtype("<i2"), job["chunk_rows"]
    shape, chunk_shape = (job["blocks_together"] * job["block_rows"], N_COLUMNS), (rows, N_COLUMNS)
    options = CODECS[job["row"]]
    if job["row"].startswith("zarr"):
        array = zarr.create_array(folder / "x", shape=shape, chunks=chunk_shape, dtype=dtype)
        writer = ZarrTarget(array).chunk_writer()
        assert writer is not None
        return writer
    path = folder / "x.h5"
    path.touch()
    return Hdf5ChunkWriter(
        path=path,
        shape=shape,
        chunk_shape=chunk_shape,
        grid=(-(-shape[0] // rows), 1),
        bounds=shape,
        elements=dtype,
        fill_value=0,
        filters=parse_filters(**options, dtype=dtype, chunk_nbytes=2 * rows * N_COLUMNS),
        skips=True,
        has_digests=True,
    )


class _Here:
    """Answers at once, as the process that writes does, and says when it did."""

    def __init__(self) -> None:
        self.at = 0
        self.began, self.answered = 0.0, 0.0
        self.n_chunks = 0

    def ask(self, array: int, question: bytes, *, reaches: bool) -> bytes:
        """Return places one behind the other."""
        assert (array, reaches) == (0, True)
        self.began = time.process_time()
        grants = Grants([self])
        answer = grants.answer(array, question, reaches=reaches)
        self.n_chunks += grants.n_asked
        self.answered = time.process_time()
        return answer

    def place(self, chunk: EncodedChunk) -> PayloadPlace:
        """Return the next place."""
        self.at += chunk.nbytes
        return PayloadPlace(PlaceKind.WRITE, self.at - chunk.nbytes)

    def proves(self, proof: str) -> bool:
        """Return that files are seen."""
        assert proof
        return True


def _task(job: dict[str, Any], session: Session, number: int) -> dict[str, float]:
    """Return what one task takes for each of its blocks and chunks."""
    from benchmarks.cluster_one import N_COLUMNS, read_rows

    n_blocks, rows = job["blocks_together"], job["block_rows"]
    folder = session.folder / str(number)
    folder.mkdir()  # What is new is part of what writing costs.
    channel, read = _Here(), []
    written = BlockJob(
        session=session,
        array=0,
        key="x",
        dtype=np.dtype("<i2"),
        edges=(((rows, n_blocks),), ((N_COLUMNS, 1),)),
        writer=_writer(job, folder),
        convert=same,
        window=None,
        channel=channel,
        batch_nbytes=_MOST_WAITING,
    )

    def block(at: int) -> Any:
        start = (number * n_blocks + at) * rows % (job["n_rows"] - rows + 1)
        began = time.process_time()
        where = {None: {"array-location": ((start, start + rows), (0, 0))}}
        found = read_rows(job["data"], job["n_rows"], block_info=where)
        read.append(time.process_time() - began)
        return write_block(found, (at, 0), written)

    began = time.process_time()
    in_turn(functools.partial(block, at) for at in range(n_blocks))
    ended = time.process_time()
    n = channel.n_chunks
    return {
        "compute": sum(read) / n_blocks,
        "encode": (channel.began - began - sum(read)) / n,
        "write": (ended - channel.answered) / n,
        "stored": channel.at / n,
    }


def _meet(folder: Path) -> None:
    """Wait until another worker has come here, too."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.001)


def block_costs(client: Client, job: dict[str, Any]) -> dict[str, float]:
    """Return what a block costs a worker alone, and as ``slower`` how much longer beside another.

    Parameters
    ----------
    client : Client
        Of two workers.
    job : dict
        As of ``cluster_one``.
    """
    # As tasks, beside which a worker has threads of its own at work.
    one, other = client.nthreads()
    repeats = job["block_repeats"]
    options = {"pure": False, "allow_other_workers": False}
    alone = client.submit(block_seconds, job, repeats, workers=[one], **options).result()
    with tempfile.TemporaryDirectory(dir=Path(job["output"]).parent) as meeting:
        futures = [
            client.submit(block_seconds, job, repeats, meeting, workers=[worker], **options)
            for worker in (one, other)
        ]
        beside = [future.result() for future in futures]
    slower = sum(found["encode"] for found in beside) / len(beside) / alone["encode"]
    return alone | {"slower": max(1.0, slower)}


def worked_for(size: int, wait: float) -> Any:
    """Return a block of nothing after some work.

    As where blocks are encoded, caches then have nothing of schedulers and messages any more.

    Parameters
    ----------
    size : int
        Of the block, in bytes.
    wait : float
        Seconds of a processor that the work takes.
    """
    began = time.thread_time()
    while (worked := time.thread_time() - began) < wait:
        np.add(_MEMORY, 1, out=_MEMORY)
    _WORKED["seconds"] += worked
    return np.zeros(size, "u1")


def used_beside_work() -> float:
    """Return the seconds of processor that this worker has taken for anything but such work."""
    return time.process_time() - _WORKED["seconds"]


def cores_of_others(client: Client) -> float:
    """Return how many cores are kept busy while nobody writes.

    Schedulers, nannies and idle clusters look after themselves many times a second. What the
    workers of this cluster take for that is part of what blocks cost them.

    Parameters
    ----------
    client : Client
        Of the cluster that is to write.
    """
    before, own = _machine_seconds(), client.run(time.process_time)
    time.sleep(_IDLE)
    then = client.run(time.process_time)
    took = _machine_seconds() - before - sum(then[name] - own[name] for name in own)
    return max(0.0, took / _IDLE)


def _machine_seconds() -> float:
    """Return what all processors together have worked."""
    times = psutil.cpu_times()
    return times.user + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0)
