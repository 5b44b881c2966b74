"""Sessions to write: an NWB file with a bit of everything that labs put into one."""

from datetime import UTC, datetime
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pynwb
from hdmf.backends.hdf5 import H5DataIO
from hdmf.data_utils import DataChunkIterator, GenericDataChunkIterator
from pynwb.ecephys import ElectricalSeries

import lazyio.nwb

N_CHANNELS = 8
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


class Slices(GenericDataChunkIterator):
    """HDMF's own way to give an array in parts."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        super().__init__(buffer_gb=0.001)

    def _get_data(self, selection: Any) -> npt.NDArray[Any]:
        return self.array[selection]

    def _get_maxshape(self) -> tuple[int, ...]:
        return self.array.shape

    def _get_dtype(self) -> np.dtype[Any]:
        return self.array.dtype


def empty() -> pynwb.NWBFile:
    """Return a file with what is required of it."""
    return pynwb.NWBFile("a session of a test", "s1", WHEN)


def series(name: str, data: Any, **others: Any) -> pynwb.TimeSeries:
    """Return a series of some data."""
    rate = {} if "timestamps" in others else {"rate": 1000.0}
    return pynwb.TimeSeries(name=name, data=data, unit="V", **rate, **others)


def samples(seed: int = 0, n_samples: int = 20_000) -> npt.NDArray[np.int16]:
    """Return what was recorded; (n_samples, N_CHANNELS)."""
    random = np.random.default_rng(seed)
    return random.integers(-100, 100, (n_samples, N_CHANNELS)).astype("int16")


def session(raw: npt.NDArray[np.int16]) -> pynwb.NWBFile:
    """Return a file with one array in all its ways, a table of units, links and references."""
    nwbfile = pynwb.NWBFile(
        "a session of a test", "s1", WHEN, experimenter=["Doe, Jo"], institution="here", lab="a lab"
    )
    group = nwbfile.create_electrode_group("g", "d", "CA1", nwbfile.create_device("probe"))
    for at in range(N_CHANNELS):
        nwbfile.add_electrode(group=group, location="CA1", x=float(at), y=2.0, z=3.0)
    electrodes = nwbfile.create_electrode_table_region(list(range(N_CHANNELS)), "all")
    graph = da.from_array(raw, chunks=(7000, N_CHANNELS))
    data = lazyio.nwb.iterator(graph)
    es = ElectricalSeries(name="es", data=data, electrodes=electrodes, rate=30_000.0)
    nwbfile.add_acquisition(es)
    wrapped = H5DataIO(raw, compression="gzip", compression_opts=2, chunks=(1000, N_CHANNELS))
    rows = DataChunkIterator(data=iter(raw[:500]), buffer_size=100)
    seconds = np.arange(len(raw)) / 1000
    nwbfile.add_acquisition(series("plain", raw.astype("f4"), timestamps=seconds))
    nwbfile.add_acquisition(series("wrapped", wrapped))
    nwbfile.add_acquisition(series("slices", Slices(raw)))
    nwbfile.add_acquisition(series("rows", rows))
    nwbfile.add_acquisition(series("linked", nwbfile.acquisition["plain"]))
    nwbfile.add_unit_column("quality", "how well it is isolated")
    for seed in range(20):
        times = np.sort(np.random.default_rng(seed).random(3000))
        nwbfile.add_unit(spike_times=times, quality="good")
    return nwbfile
