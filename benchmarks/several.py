"""``python -m benchmarks several``: several arrays of one source, by each library in turns."""

import importlib.util
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.in_turns import InTurns

_THREADS = 2
_LIMIT = 256 << 20


def _prepared(row: str, folder: Path, *, is_short: bool) -> dict[str, Any]:
    """Make what a row reads, and return its job."""
    job: dict[str, Any] = {
        "row": row,
        "threads": _THREADS,
        "source": str(folder / "source.npy"),
        "output": str(folder / "output"),
        "existing": str(folder / "existing.h5"),
        "memory_limit": _LIMIT,
    }
    rng = np.random.default_rng(0)
    if row == "pyramid":
        # 537 MB of voxels: a gradient with noise of a few bits in it.
        shape = (16, 512, 1024) if is_short else (16, 4096, 4096)
        plane = np.add.outer(np.arange(shape[1]) // 8, np.arange(shape[2]) // 8)
        noise = rng.integers(0, 32, shape, dtype="u2")
        np.save(job["source"], (noise + plane).astype("u2"))
        return job
    # 537 MB of a recording.
    n_rows = 20_000 if is_short else 700_000
    walk = rng.normal(0, 5, (n_rows, 384)).astype("f4").cumsum(axis=1)
    np.save(job["source"], walk.astype("i2"))
    if row == "append":
        with h5py.File(job["existing"], "w") as file:
            for key, dtype in (("raw", "i2"), ("lfp", "i2"), ("power", "f4")):
                file.create_dataset(
                    key,
                    (5000, 384),
                    dtype,
                    maxshape=(None, 384),
                    chunks=(4096, 96),
                    compression="gzip",
                )
    return job


def _is_there(who: str) -> bool:
    """Return whether somebody can take part: ome-zarr only where it is installed."""
    return who != "ome-zarr" or importlib.util.find_spec("ome_zarr") is not None


main = InTurns(
    command="several",
    description=__doc__,
    contenders={
        "pyramid": ("loop", "dask", "ome-zarr", "lazyio"),
        "derived": ("h5py", "dask", "lazyio"),
        "append": ("h5py", "lazyio"),
    },
    prepared=_prepared,
    mebibytes={"peak MiB": "growth", "read MiB": "read", "written MiB": "written"},
    is_there=_is_there,
).main
