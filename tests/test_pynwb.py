"""PyNWB reads what lazyio wrote, through a link, and its iterators are sources."""

from datetime import UTC, datetime

import h5py
import pynwb
from hdmf.data_utils import GenericDataChunkIterator

import lazyio


class Samples(GenericDataChunkIterator):
    """HDMF's own way to give an array in parts."""

    def __init__(self, array, **options) -> None:
        self.array = array
        super().__init__(**options)

    def _get_data(self, selection):
        return self.array[selection]

    def _get_maxshape(self):
        return self.array.shape

    def _get_dtype(self):
        return self.array.dtype


def test_an_nwb_file_with_data_that_lazyio_wrote(tmp_path, recording) -> None:
    """A time series whose data lies in a lazyio file is valid NWB and reads equal."""
    lazyio.to_hdf5(recording, tmp_path / "raw.h5", "raw", compression="gzip", attrs={"unit": "uV"})
    nwbfile = pynwb.NWBFile(
        session_description="a",
        identifier="b",
        session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    with h5py.File(tmp_path / "raw.h5", "r") as raw:
        series = pynwb.TimeSeries(name="x", data=raw["raw"], unit="uV", rate=1000.0)
        nwbfile.add_acquisition(series)
        with pynwb.NWBHDF5IO(tmp_path / "file.nwb", "w") as io:
            io.write(nwbfile, link_data=True)
    with pynwb.NWBHDF5IO(tmp_path / "file.nwb", "r") as io:
        assert (io.read().acquisition["x"].data[:] == recording).all()
    assert pynwb.validate(path=tmp_path / "file.nwb") in ([], ([], 0))


def test_a_data_chunk_iterator_is_a_source(tmp_path, recording) -> None:
    """Its three methods are all that is needed."""
    iterator = Samples(recording, buffer_shape=(100, 64), chunk_shape=(10, 64))
    x = lazyio.from_source(iterator)
    assert (x.compute() == recording).all()
    lazyio.to_hdf5(iterator, tmp_path / "x.h5", "x")
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["x"][:] == recording).all()
