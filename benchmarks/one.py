"""The child process: runs of one contender, as ``python -m benchmarks.one JOBS``.

It imports everything and does something tiny, reads what it will read once so
that it is in the page cache, and only then starts the clock.
"""

import importlib
import json
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.bare.files import sync
from benchmarks.cases import READ, STOCK, WRITE, Array, Job, from_json
from benchmarks.check import read_back, size_of
from benchmarks.contenders.opened import open_source
from benchmarks.recording import Recording, read_through, small_netcdf

_PACKAGES = {WRITE: "contenders", READ: "readers"}
_CHECKED_BY_THEMSELVES = ("limit", "pieces")

# Shape and chunks by number of axes, all of the same number of elements.
_TINY = {
    1: ((16_384,), (2048,)),
    2: ((256, 64), (64, 16)),
    3: ((16, 32, 32), (2, 32, 32)),
}


def measure(job: Job) -> dict[str, Any]:
    """Return the seconds of one run, and the bytes of what was written or read.

    Parameters
    ----------
    job : Job
        What to do.
    """
    _warm_up(job)
    read_through(job.array.path if job.action == WRITE else job.output)
    contender = module_of(job)
    run = contender.prepare(job)
    is_synced_after = job.is_synced and not getattr(contender, "SYNCS_ITSELF", False)
    began = time.perf_counter()
    result = run()
    if is_synced_after:
        sync(job.output)
    seconds = time.perf_counter() - began
    if job.is_checked:
        _check(job, contender, result)
    return {
        "seconds": seconds,
        "nbytes": size_of(job.output),
        "is_synced_after": is_synced_after,
    }


def module_of(job: Job) -> ModuleType:
    """Return the module of a job's contender.

    Parameters
    ----------
    job : Job
        What to do.
    """
    name = job.contender.replace("-", "_")
    return importlib.import_module(f"benchmarks.{_PACKAGES[job.action]}.{name}")


def main() -> None:
    """Run the jobs on the command line; print their outcomes as JSON."""
    print(json.dumps([_outcome(job) for job in from_json(sys.argv[1])]))


def _outcome(job: Job) -> dict[str, Any]:
    """Return what came of a run, be it that it failed."""
    try:
        module_of(job)
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    # A contender that fails must not keep the others of the batch from their turn.
    try:
        return measure(job)
    except Exception:  # noqa: BLE001
        return {"failed": traceback.format_exc()}


def _check(job: Job, contender: ModuleType, result: Any) -> None:
    """Raise where a run did not write, or read, what is there."""
    if job.action == READ:
        _check_sum(job, result)
    elif job.contender in _CHECKED_BY_THEMSELVES:
        contender.check(job, result)
    else:
        read_back(job)


def _check_sum(job: Job, result: Any) -> None:
    source = open_source(job.array)
    is_float = np.dtype(job.array.dtype).kind == "f"
    wide = "f8" if is_float else "i8"
    expected = sum(source[rows].sum(dtype=wide) for rows in job.blocks())
    # Floats are added up in the order and the precision that each has.
    is_same = np.isclose(result, expected, rtol=1e-3) if is_float else int(result) == int(expected)
    if not is_same:
        msg = f"the sum read is {result}, that of the source is {expected}"
        raise ValueError(msg)


def _warm_up(job: Job) -> None:
    with tempfile.TemporaryDirectory(dir=Path(job.output).parent) as folder:
        array = _tiny(job.array, Path(folder))
        tiny = replace(job, array=array, output=str(Path(folder, Path(job.output).name)))
        if job.action == READ:
            stored = replace(tiny, action=WRITE, contender=STOCK[job.row.format])
            module_of(stored).prepare(stored)()
        module_of(tiny).prepare(tiny)()


def _tiny(array: Array, folder: Path) -> Array:
    """Return a small array of the same kind and number of axes."""
    if array.key is not None:
        return small_netcdf(folder)
    path = folder / "tiny.raw"
    shape, chunks = _TINY[len(array.shape)]
    Recording(64).slab(256).astype(array.dtype).tofile(path)
    blocks = array.graph_blocks and (100, 64)
    return replace(array, path=str(path), shape=shape, chunks=chunks, graph_blocks=blocks)


if __name__ == "__main__":
    main()
