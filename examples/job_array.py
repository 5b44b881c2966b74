"""One task of a job array: computes a part of a recording, and writes it into one array.

    sbatch --array=0-7 job_array.sh     # each job runs: python job_array.py

Each task writes a region of whole chunks. In a Zarr store tasks write side by side, and to an
HDF5 file in turn. Outside of a job array the script makes the array, and runs all tasks itself.
"""

import os

import numpy as np

import lazyio

RESULT = os.environ.get("RESULT", "result.zarr")
N_TASKS, SAMPLES, CHANNELS = 8, 80_000, 16
LENGTH = SAMPLES // N_TASKS
CHUNKS = (LENGTH // 2, CHANNELS)  # Each task has whole chunks.


def prepare() -> None:
    """Make the array, once, before any task runs."""
    shape = (SAMPLES, CHANNELS)
    print(lazyio.plan(shape, "float32", chunks=CHUNKS, format="zarr"))
    lazyio.allocate(RESULT, "filtered", shape=shape, dtype="float32", chunks=CHUNKS)


def task(number: int) -> None:
    """Compute and write the part of one task."""
    region = (slice(number * LENGTH, (number + 1) * LENGTH),)
    values = np.full((LENGTH, CHANNELS), number, "float32")  # What takes hours, in earnest.
    write = lazyio.to_zarr if RESULT.endswith(".zarr") else lazyio.to_hdf5
    print(write(values, RESULT, "filtered", region=region, lock_timeout=600))


if __name__ == "__main__":
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        task(int(os.environ["SLURM_ARRAY_TASK_ID"]))
    else:
        prepare()
        for number in range(N_TASKS):
            task(number)
