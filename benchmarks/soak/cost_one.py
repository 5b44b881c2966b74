"""The child process: one write, as ``python -m benchmarks.soak.cost_one JOB``."""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import lazyio
from benchmarks.recording import read_through

_WAYS = {"bare": {"digests": False}, "digests": {}, "resume": {"resume": True}}


def main() -> None:
    """Write something small first, then what is measured; print the seconds as JSON."""
    job = json.loads(sys.argv[1])
    os.fsync = lambda _: None  # What is measured is the work, not the disk.
    source, output = Path(job["source"]), Path(job["output"])
    read_through(str(source))
    x = lazyio.from_raw(source, tuple(job["shape"]), "int16")
    _write(x[:2000, :96].rechunk(1000), output.with_name("warm-" + output.name), job)
    began = time.perf_counter()
    _write(x, output, job)
    seconds = time.perf_counter() - began
    for path in (output, output.with_name("warm-" + output.name)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(json.dumps({"seconds": seconds}))


def _write(x: Any, path: Path, job: dict[str, Any]) -> None:
    chunks = tuple(map(min, job["chunks"], x.shape))
    options = dict(job["options"])
    if "shards" in options:
        fits = all(n >= s for n, s in zip(x.shape, options["shards"], strict=True))
        options["shards"] = tuple(options["shards"]) if fits else None
    to = lazyio.to_hdf5 if job["format"] == "hdf5" else lazyio.to_zarr
    to(x, path, chunks=chunks, workers=2, **options, **_WAYS[job["way"]])


if __name__ == "__main__":
    main()
