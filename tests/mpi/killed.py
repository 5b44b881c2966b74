"""A job of which a rank may be killed: run by mpiexec, with what is written and whether it dies."""

import os
import signal
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from mpi4py import MPI

import lazyio

COMM = MPI.COMM_WORLD
FOLDER, FATE, KINDS = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
N = 400
computed = 0


def slow(block: np.ndarray) -> np.ndarray:
    """Return a block; the last rank dies over its fourth one."""
    global computed
    computed += 1
    if FATE == "dies" and COMM.rank == COMM.size - 1 and computed == 4:
        # Others have something in the journal by then.
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return block


def main(kind: str) -> None:
    """Write an array, which all have or each has a part of."""
    global computed
    computed = 0
    x = np.arange(N * 16, dtype="i4").reshape(N, 16)
    own = slice(0, N)
    options = {"resume": True, "comm": COMM, "workers": 1}
    if kind.endswith("parts"):
        own = slice(N * COMM.rank // COMM.size, N * (COMM.rank + 1) // COMM.size)
        options["region"] = (own,)
    given = da.from_array(x[own], chunks=(10, 16), name=f"x{own}").map_blocks(
        slow, dtype=x.dtype, meta=x[:0], name=f"slow{own}"
    )
    path = FOLDER / f"{kind}.{kind.partition('-')[0]}"
    if COMM.rank == 0 and kind.endswith("parts") and not path.exists():
        if path.suffix == ".h5":
            lazyio.allocate(path, "x", shape=x.shape, dtype="i4", chunks=(10, 16))
        else:
            lazyio.allocate(path, shape=x.shape, dtype="i4", chunks=(10, 16))
    COMM.Barrier()
    more = {} if "region" in options else {"chunks": (10, 16)}
    if path.suffix == ".h5":
        report = lazyio.to_hdf5(given, path, "x", **options, **more)
    else:
        report = lazyio.to_zarr(given, path, **options, **more)
    n_computed = COMM.allreduce(computed)
    if COMM.rank == 0:
        assert 0 < report.n_resumed < report.n_blocks == 40, report
        # One block may be computed again, to be compared.
        assert n_computed <= 40 - report.n_resumed + 1, (n_computed, report)
        stored = lazyio.open(path, "x") if path.suffix == ".h5" else zarr.open_array(path)
        np.testing.assert_array_equal(np.asarray(stored), x)
        (FOLDER / f"{kind}.ok").touch()


for one in KINDS:
    main(one)
