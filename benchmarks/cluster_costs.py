"""What blocks cost a worker, and chunks the caller, measured without a cluster between them."""

import os
import shutil
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client

from lazyio.codecs.hdf5_filters import parse_filters
from lazyio.codecs.workspace import Kept, Workspace
from lazyio.execution.grants import Grants, packed
from lazyio.execution.workers import BATCH_NBYTES
from lazyio.malloc import freed_is_kept
from lazyio.storage.base import ChunkWriter, EncodedChunk, PayloadPlace, PlaceKind
from lazyio.storage.hdf5.chunk_writer import Hdf5ChunkWriter
from lazyio.storage.hdf5.dataset import Hdf5Target
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata
from lazyio.storage.zarr.array import ZarrTarget

_BATCH = 16
_N_BATCHES = 200


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
    """Return what a block takes of the worker that calls this.

    Parameters
    ----------
    job : dict
        As of ``cluster_one``.
    repeats : int
        The median of so many: a write is a sum of blocks.
    barrier : str, optional
        A folder in which two workers wait for each other.
    """
    folder = Path(f"{job['output']}.{os.getpid()}")
    workspace = Workspace()
    if barrier is not None:
        _meet(Path(barrier))
    with freed_is_kept(BATCH_NBYTES):  # As a task does it.
        _block(job, folder, workspace)  # The first takes memory that the others have.
        found = [_block(job, folder, workspace) for _ in range(repeats)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _writer(job: dict[str, Any], folder: Path) -> ChunkWriter:
    """Return what writes a block to a new file or array in a folder."""
    from benchmarks.cluster_one import CODECS, N_COLUMNS

    dtype, rows = np.dtype("<i2"), job["chunk_rows"]
    shape, chunk_shape = (job["block_rows"], N_COLUMNS), (rows, N_COLUMNS)
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


def _block(job: dict[str, Any], folder: Path, workspace: Workspace) -> dict[str, float]:
    from benchmarks.cluster_one import read_rows

    folder.mkdir()  # What is new is part of what writing costs.
    writer = _writer(job, folder)
    began = time.process_time()
    where = {None: {"array-location": ((0, job["block_rows"]), (0, 0))}}
    block = read_rows(job["data"], job["n_rows"], block_info=where)
    read = time.process_time()
    payloads, at = [], 0
    kept = Kept(workspace, block.nbytes)
    rows = writer.chunk_shape[0]
    for number in range(-(-len(block) // rows)):
        part = block[number * rows : (number + 1) * rows]
        chunk, payload = writer.encode((number, 0), part, workspace, kept)
        payloads.append((chunk, payload, PayloadPlace(PlaceKind.WRITE, at)))
        at += payload.size
    encoded = time.process_time()
    writer.write(payloads, scratch=folder, syncs=False)
    n = len(payloads)
    found = {
        "compute": read - began,
        "encode": (encoded - read) / n,
        "write": (time.process_time() - encoded) / n,
        "stored": at / n,
    }
    shutil.rmtree(folder)
    return found


def _meet(folder: Path) -> None:
    """Wait until another worker has come here, too."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.001)


def both(client: Client, job: dict[str, Any], folder: Path) -> tuple[dict[str, float], float]:
    """Return what a block costs a worker alone, and how much longer it takes beside another.

    Parameters
    ----------
    client : Client
        Of two workers.
    job : dict
        As of ``cluster_one``.
    folder : Path
        For files.
    """
    # As tasks, beside which a worker has threads of its own at work.
    one, other = client.nthreads()
    repeats = job["block_repeats"]
    options = {"pure": False, "allow_other_workers": False}
    alone = client.submit(block_seconds, job, repeats, workers=[one], **options).result()
    meeting = folder / f"meeting-{threading.get_ident()}"
    meeting.mkdir(exist_ok=True)
    futures = [
        client.submit(block_seconds, job, repeats, str(meeting), workers=[worker], **options)
        for worker in (one, other)
    ]
    beside = [future.result() for future in futures]
    slower = sum(found["encode"] for found in beside) / len(beside) / alone["encode"]
    return alone, max(1.0, slower)


def sync_seconds(folder: Path, nbytes: int) -> float:
    """Return what it takes to have a file on the disk.

    Parameters
    ----------
    folder : Path
        Where the file is made.
    nbytes : int
        Of the file.
    """
    path = folder / "synced"
    piece = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(-(-nbytes // len(piece))):
            file.write(piece)
        file.flush()
        began = time.perf_counter()
        os.fsync(file.fileno())
        took = time.perf_counter() - began
    path.unlink()
    return took
