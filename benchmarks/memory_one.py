"""The child process of ``memory``: one write, and how far memory grew for it."""

import contextlib
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da

import lazyio

CASES = ("aligned", "misaligned graph", "channel-major")

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def growth_of(work: Callable[[], Any]) -> int:
    """Return how many bytes of resident memory a call needed at most, beyond what was there.

    Parameters
    ----------
    work : callable
        Without arguments.
    """
    # 5 sets the kernel's peak back to what is resident now.
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5")
    before = _peak_nbytes()
    work()
    return _peak_nbytes() - before


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    warm = job | {"large": job["small"], "output": job["output"] + ".warm"}
    _write(warm)
    Path(warm["output"]).unlink()
    began = time.perf_counter()
    growth = growth_of(lambda: _write(job))
    print(json.dumps({"growth": growth, "seconds": time.perf_counter() - began}))


def _write(job: dict[str, Any]) -> None:
    data, chunks = _lazy(job)
    filters = {}
    if job["compression"]:
        filters = {"compression": job["compression"], "compression_opts": 1, "shuffle": True}
    lazyio.to_hdf5(
        data,
        job["output"],
        chunks=chunks,
        memory_limit=job["memory_limit"],
        workers=job["workers"],
        **filters,
    )


def _lazy(job: dict[str, Any]) -> tuple[da.Array, Any]:
    """Return what a case writes, and with which chunks."""
    shape = (-1, job["n_channels"])
    if job["case"] == "misaligned graph":
        blocks = lazyio.from_raw(job["large"], shape, "<i2", chunks=(9999, job["n_channels"]))
        return blocks.map_blocks(lambda block: block), (min(5000, len(blocks)), 100)
    data = lazyio.from_raw(job["large"], shape, "<i2", memory_limit=job["memory_limit"])
    if job["case"] == "channel-major":
        return data, (min(524_288, len(data)), 1)
    return data, "auto"


def _peak_nbytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    kibibytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes << 10


if __name__ == "__main__":
    main()
