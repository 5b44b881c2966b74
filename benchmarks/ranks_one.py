"""The ranks of ``ranks``: all rows and peers in turns, in one MPI job."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import lazyio

_CODECS: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip-1": {"compression": "gzip", "compression_opts": 1},
    "gzip-4": {"compression": "gzip", "compression_opts": 4},
}
ROWS = tuple(_CODECS)
"""Codecs."""
_CHUNK_ROWS = 16_384


def main() -> None:
    """Run the job on the command line; the first rank writes its outcome as JSON."""
    from mpi4py import MPI

    job, comm = json.loads(sys.argv[1]), MPI.COMM_WORLD
    x = np.load(Path(job["folder"], "x.npy"), mmap_mode="r")
    # Whole chunks, so that no peer has to put any together.
    n_chunks = -(-len(x) // _CHUNK_ROWS)
    cuts = [n_chunks * rank // comm.size * _CHUNK_ROWS for rank in range(comm.size)] + [len(x)]
    own = slice(cuts[comm.rank], cuts[comm.rank + 1])
    part = x[own].copy()
    found = {(row, who): [] for row in job["rows"] for who in job["peers"] if _can(who)}
    for _ in range(job["repeats"]):
        for (row, who), seconds in found.items():
            path = Path(job["folder"], "out.h5")
            if comm.rank == 0:
                path.unlink(missing_ok=True)
            comm.Barrier()
            began = time.perf_counter()
            _WRITERS[who](path, part, own, x.shape, _CODECS[row], comm)
            seconds.append(time.perf_counter() - began)
            comm.Barrier()
            if comm.rank == 0:
                with h5py.File(path) as file:
                    np.testing.assert_array_equal(file["x"][-9:], x[-9:])
    if comm.rank == 0:
        results = [
            {"row": row, "who": who, "seconds": seconds} for (row, who), seconds in found.items()
        ]
        Path(job["out"]).write_text(json.dumps(results))


def _can(who: str) -> bool:
    return who != "h5py-mpio" or h5py.get_config().mpi


def _by_lazyio(
    path: Path, part: Any, own: slice, shape: Any, codec: dict[str, Any], comm: Any
) -> None:
    chunks = (_CHUNK_ROWS, shape[1])
    if comm.rank == 0:
        lazyio.allocate(path, "x", shape=shape, dtype=part.dtype, chunks=chunks, **codec)
    comm.Barrier()
    lazyio.to_hdf5(part, path, "x", region=(own,), workers=1, comm=comm)


def _by_gathering(
    path: Path, part: Any, own: slice, shape: Any, codec: dict[str, Any], comm: Any
) -> None:
    if comm.rank:
        comm.send(own, dest=0, tag=1)
        comm.Send(part, dest=0, tag=2)
    else:
        with h5py.File(path, "w") as file:
            chunks = (min(_CHUNK_ROWS, shape[0]), shape[1])
            dataset = file.create_dataset("x", shape, part.dtype, chunks=chunks, **codec)
            dataset[own] = part
            for rank in range(1, comm.size):
                rows = comm.recv(source=rank, tag=1)
                other = np.empty((rows.stop - rows.start, shape[1]), part.dtype)
                comm.Recv(other, source=rank, tag=2)
                dataset[rows] = other
    comm.Barrier()


def _by_mpio(
    path: Path, part: Any, own: slice, shape: Any, codec: dict[str, Any], comm: Any
) -> None:
    with h5py.File(path, "w", driver="mpio", comm=comm) as file:
        chunks = (min(_CHUNK_ROWS, shape[0]), shape[1])
        dataset = file.create_dataset("x", shape, part.dtype, chunks=chunks, **codec)
        with dataset.collective:
            dataset[own] = part


_WRITERS: dict[str, Callable[..., None]] = {
    "lazyio": _by_lazyio,
    "h5py-gather": _by_gathering,
    "h5py-mpio": _by_mpio,
}
PEERS = tuple(_WRITERS)
"""Ways to write."""


if __name__ == "__main__":
    main()
