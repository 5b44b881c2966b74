"""The child process: one task of one contender, as ``python -m benchmarks.arrivals.one JOB``."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.arrivals.tasks import TASKS, batches, blocks


def main() -> None:
    """Write something small first, then what is measured; check it; print seconds and bytes."""
    job = json.loads(sys.argv[1])
    writers, facts = TASKS[job["task"]]
    facts = {**facts, **job["changes"]}
    write, output = writers[job["contender"]], Path(job["output"])
    os.fsync = lambda _: None  # What is measured is the work, not the disk.
    warm = {**facts, **({"n_blocks": 2} if "n_blocks" in facts else {"n_rows": 2 * facts["each"]})}
    write(str(output), warm)
    output.unlink()
    began = time.perf_counter()
    write(str(output), facts)
    seconds = time.perf_counter() - began
    _check(output, facts)
    nbytes = output.stat().st_size
    output.unlink()
    print(json.dumps({"seconds": seconds, "nbytes": nbytes}))


def _check(path: Path, facts: dict[str, Any]) -> None:
    """Read all of it with h5py, and compare."""
    with h5py.File(path) as file:
        dataset = file["x"] if isinstance(file["x"], h5py.Dataset) else file["x/data"]
        if "n_blocks" in facts:
            # Later blocks may lie over earlier ones, as the first does over none.
            for region, block in list(blocks(facts))[-50:]:
                np.testing.assert_array_equal(dataset[region], block)
            return
        at = 0
        for batch in batches(facts):
            rows = batch.reshape(-1, facts["width"])
            if at % (50 * facts["each"]) == 0:
                np.testing.assert_array_equal(dataset[at : at + len(rows)], rows)
            at += len(rows)
        if dataset.shape != (at, facts["width"]):
            msg = f"{path} has shape {dataset.shape} instead of {(at, facts['width'])}"
            raise ValueError(msg)


if __name__ == "__main__":
    main()
