"""``python -m benchmarks peers``: what kills leave of files that others write.

They promise nothing of the kind: this says what is gained. The same slow source
is written by a loop of h5py, by ``dask.array.to_hdf5`` and by ``to_zarr``, and
killed at a random time before the end.
"""

import argparse
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import zarr

from benchmarks.options import add_shared, output_folder, save
from benchmarks.soak.cases import N_COLUMNS, Slow, values

_N_ROWS, _BLOCK_ROWS = 4000, 200


def _h5py(path: Path, source: Slow, *, flushes: bool = False) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", source.shape, "i2", chunks=(50, 32))
        for start in range(0, _N_ROWS, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            dataset[rows] = source.read((rows, slice(None)))
            if flushes:
                file.flush()


def _h5py_flushed(path: Path, source: Slow) -> None:
    _h5py(path, source, flushes=True)


def _lazy(source: Slow) -> da.Array:
    def block(block_info: Any) -> Any:
        start, stop = block_info[None]["array-location"][0]
        return source.read((slice(start, stop), slice(None)))

    chunks = ((_BLOCK_ROWS,) * (_N_ROWS // _BLOCK_ROWS), (N_COLUMNS,))
    return da.map_blocks(block, chunks=chunks, dtype="i2", meta=np.empty((0, 0), "i2"))


def _dask_hdf5(path: Path, source: Slow) -> None:
    da.to_hdf5(str(path), "data", _lazy(source))


def _dask_zarr(path: Path, source: Slow) -> None:
    da.to_zarr(_lazy(source), str(path))


PEERS: dict[str, tuple[str, Callable[[Path, Slow], None]]] = {
    "h5py": ("x.h5", _h5py),
    "h5py, flushing": ("x.h5", _h5py_flushed),
    "dask to_hdf5": ("x.h5", _dask_hdf5),
    "dask to_zarr": ("x.zarr", _dask_zarr),
}


def main(arguments: list[str]) -> int:
    """Kill the peers, and say what they leave.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__)
    add_shared(parser)
    parser.add_argument("--kills", type=int, default=100, help="of each (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the times (default: 0)")
    given = parser.parse_args(arguments)
    rng = random.Random(given.seed)
    results = {}
    with output_folder(given.data) as folder:
        for name, (target, write) in PEERS.items():
            counts: Counter[str] = Counter()
            while sum(counts.values()) < (3 if given.short else given.kills):
                found = _killed(folder / "peer", target, write, rng.uniform(0.05, 0.5))
                if found is not None:
                    counts[found] += 1
            results[name] = dict(counts)
            print(f"{name:16} {json.dumps(results[name])}", flush=True)
    save(given.json, seed=given.seed, results=results)
    return 0


def _killed(
    folder: Path, target: str, write: Callable[[Path, Slow], None], seconds: float
) -> str | None:
    """Return what a kill leaves, ``None`` where it came too late."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    child = os.fork()
    if not child:
        try:
            write(folder / target, Slow(os.devnull, 0.02, _N_ROWS))
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return _left(folder / target) if os.WIFSIGNALED(status) else None


def _left(path: Path) -> str:
    if not path.exists():
        return "nothing"
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                found = file["data"][...]
        else:
            found = zarr.open_array(path, mode="r")[...]
    except (OSError, KeyError, ValueError, RuntimeError):
        return "cannot be opened"
    is_all = np.array_equal(found, values(0, _N_ROWS))
    return "complete" if is_all else "opens, and has wrong values"
