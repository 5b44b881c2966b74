"""The child process of ``nwb``: one session, written by one library."""

import json
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pynwb
from hdmf.backends.hdf5 import H5DataIO
from hdmf.data_utils import GenericDataChunkIterator
from pynwb.ecephys import ElectricalSeries

import lazyio
import lazyio.nwb
from benchmarks.memory_one import growth_of

_LEVEL = 4


class _Slices(GenericDataChunkIterator):
    """What neuroconv wraps a memory map in, with HDMF's own sizes of chunks and buffers."""

    def __init__(self, data: Any) -> None:
        self.data = data
        super().__init__(display_progress=False)

    def _get_data(self, selection: Any) -> Any:
        return self.data[selection]

    def _get_maxshape(self) -> tuple[int, ...]:
        return self.data.shape

    def _get_dtype(self) -> Any:
        return self.data.dtype


def main() -> None:
    """Run the job on the command line; print its outcome as JSON."""
    job = json.loads(sys.argv[1])
    dask.config.set(num_workers=job["threads"])
    warnings.simplefilter("ignore")
    work = _WORK[job["who"]](job)
    began = time.perf_counter()
    growth = growth_of(work)
    seconds = time.perf_counter() - began
    stored = _stored_in(Path(job["output"]))
    print(json.dumps({"seconds": seconds, "growth": growth, "stored": stored}))


def _stored_in(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.is_file())


def _session(data: Any, n_channels: int) -> pynwb.NWBFile:
    nwbfile = pynwb.NWBFile("a session", "s1", datetime(2026, 1, 1, tzinfo=UTC))
    group = nwbfile.create_electrode_group("g", "d", "CA1", nwbfile.create_device("probe"))
    for _ in range(n_channels):
        nwbfile.add_electrode(group=group, location="CA1")
    electrodes = nwbfile.create_electrode_table_region(list(range(n_channels)), "all")
    series = ElectricalSeries(name="es", data=data, electrodes=electrodes, rate=30_000.0)
    nwbfile.add_acquisition(series)
    return nwbfile


def _mapped(job: dict) -> Any:
    return np.memmap(job["raw"], "<i2", "r", shape=tuple(job["shape"]))


def _hdmf(job: dict) -> Callable[[], Any]:
    data = H5DataIO(_Slices(_mapped(job)), compression="gzip", compression_opts=_LEVEL)
    nwbfile = _session(data, job["shape"][1])

    def write() -> None:
        with pynwb.NWBHDF5IO(job["output"], "w") as io:
            io.write(nwbfile)

    return write


def _hdmf_zarr(job: dict) -> Callable[[], Any]:
    from hdmf_zarr import NWBZarrIO, ZarrDataIO
    from zarr.codecs import GzipCodec

    data = ZarrDataIO(_Slices(_mapped(job)), compressors=[GzipCodec(level=_LEVEL)])
    nwbfile = _session(data, job["shape"][1])

    def write() -> None:
        with NWBZarrIO(job["output"], mode="w") as io:
            io.write(nwbfile, number_of_jobs=job["threads"])

    return write


def _neuroconv(job: dict) -> Callable[[], Any]:
    from neuroconv.tools.hdmf import SliceableDataChunkIterator
    from neuroconv.tools.nwb_helpers import configure_and_write_nwbfile

    data = SliceableDataChunkIterator(_mapped(job))
    nwbfile = _session(data, job["shape"][1])
    return lambda: configure_and_write_nwbfile(
        nwbfile=nwbfile, nwbfile_path=job["output"], backend="hdf5"
    )


def _lazyio(job: dict) -> Callable[[], Any]:
    data = lazyio.from_raw(job["raw"], job["shape"], "<i2", memory_limit=job["memory_limit"])
    nwbfile = _session(lazyio.nwb.iterator(data), job["shape"][1])
    return lambda: lazyio.nwb.write(
        nwbfile,
        job["output"],
        compression="gzip",
        compression_opts=_LEVEL,
        memory_limit=job["memory_limit"],
        workers=job["threads"],
    )


_WORK = {"hdmf": _hdmf, "hdmf-zarr": _hdmf_zarr, "neuroconv": _neuroconv, "lazyio": _lazyio}

if __name__ == "__main__":
    main()
