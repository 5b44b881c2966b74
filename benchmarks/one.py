"""The child process: one run of one contender, as ``python -m benchmarks.one JOB``.

It imports everything and writes something tiny, reads the source once so that
it is in the page cache, and only then starts the clock.
"""

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.cases import Array, Job
from benchmarks.check import read_back, size_of
from benchmarks.recording import Recording, read_through, small_netcdf

_CHECKED_BY_THEMSELVES = ("limit", "pieces")


def measure(job: Job, contender: ModuleType) -> dict[str, Any]:
    """Return the seconds of one write, and the bytes it left.

    Parameters
    ----------
    job : Job
        What to write.
    contender : module
        Who writes it.
    """
    _warm_up(job, contender.prepare)
    read_through(job.array.path)
    write = contender.prepare(job)
    began = time.perf_counter()
    result = write()
    seconds = time.perf_counter() - began
    if job.is_checked:
        if job.contender in _CHECKED_BY_THEMSELVES:
            contender.check(job, result)
        else:
            read_back(job)
    return {"seconds": seconds, "nbytes": size_of(job.output)}


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = Job.from_json(sys.argv[1])
    try:
        contender = importlib.import_module(f"benchmarks.contenders.{job.contender}")
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
        return
    print(json.dumps(measure(job, contender)))


def _warm_up(job: Job, prepare: Callable[[Job], Callable[[], Any]]) -> None:
    with tempfile.TemporaryDirectory(dir=Path(job.output).parent) as folder:
        array = _tiny(job.array, Path(folder))
        output = str(Path(folder, Path(job.output).name))
        prepare(replace(job, array=array, output=output))()


def _tiny(array: Array, folder: Path) -> Array:
    """Return a small array of the same kind and number of axes."""
    if array.key is not None:
        return small_netcdf(folder)
    path = folder / "tiny.raw"
    Recording(64).slab(256).tofile(path)
    flat = len(array.shape) == 1
    return replace(
        array,
        path=str(path),
        shape=(256 * 64,) if flat else (256, 64),
        chunks=(2048,) if flat else (64, 32),
    )


if __name__ == "__main__":
    main()
