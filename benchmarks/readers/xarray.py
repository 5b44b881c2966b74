"""``xr.open_dataset`` with dask; a block is whole rows of chunks."""

from collections.abc import Callable
from typing import Any

import dask
import h5netcdf  # noqa: F401 - xarray's engine, said to be missing here
import xarray as xr

from benchmarks.cases import Job
from benchmarks.contenders.zarr_arrays import use_threads
from benchmarks.outputs import KEY


def prepare(job: Job) -> Callable[[], Any]:
    """Return what reads with xarray.

    Parameters
    ----------
    job : Job
        What to read.
    """
    use_threads(job.threads)
    dask.config.set(num_workers=job.threads)
    if job.row.format == "zarr":
        options: dict[str, Any] = {"engine": "zarr", "consolidated": False}
    else:
        # The file has no names of axes; it was written by plain h5py.
        options = {"engine": "h5netcdf", "phony_dims": "sort"}
    blocks = (job.block_rows, *job.array.shape[1:])

    def read() -> Any:
        # Chunks of dask are asked for by name of axis, and the names are in the file.
        with xr.open_dataset(job.output, decode_cf=False, cache=False, **options) as found:
            chunks = dict(zip(found[KEY].dims, blocks, strict=True))
            return found[KEY].chunk(chunks).sum().compute().item()

    return read
