"""Series of NWB files as dask arrays."""

from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pynwb
import pytest
from pynwb.behavior import BehavioralTimeSeries
from sessions import N_CHANNELS, empty, samples, session

import lazyio
import lazyio.nwb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:hdmf", "ignore::UserWarning:pynwb")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a session."""
    lazyio.nwb.write(session(samples()), tmp_path / "a.nwb")
    return tmp_path / "a.nwb"


@pytest.mark.parametrize("key", ["acquisition/es", "/acquisition/es/", "acquisition/es/data"])
def test_a_series_is_opened_by_its_path(path: Path, key: str) -> None:
    found = lazyio.open(path, key)
    assert isinstance(found, da.Array)
    np.testing.assert_array_equal(found.compute(), samples())
    np.testing.assert_array_equal(lazyio.from_hdf5(path, key).compute(), samples())


def test_data_that_are_a_link_to_another_series(path: Path) -> None:
    np.testing.assert_array_equal(lazyio.open(path, "acquisition/linked").compute(), samples())


def test_a_group_that_is_no_container_is_refused_with_what_is_in_it(path: Path) -> None:
    with pytest.raises(lazyio.errors.SourceError, match=r"is a group.*acquisition/es/data"):
        lazyio.open(path, "acquisition")


def test_a_container_that_has_no_data_is_refused(path: Path) -> None:
    with pytest.raises(lazyio.errors.SourceError, match=r"is a group.*units/spike_times"):
        lazyio.open(path, "units")


def test_a_series_of_pynwb_is_an_array(path: Path) -> None:
    with pynwb.NWBHDF5IO(path, "r") as io:
        found = lazyio.open(io.read().acquisition["es"])
    # It reads the file by its path, whether PyNWB has it open or not.
    np.testing.assert_array_equal(found.compute(), samples())


def test_lazy_containers(path: Path) -> None:
    raw = samples()
    with pynwb.NWBHDF5IO(path, "r") as io:
        read = io.read()
        lazy = lazyio.nwb.lazy(read, memory_limit="16 MiB")
        es = lazy.acquisition["es"]
        assert type(lazy) is pynwb.NWBFile
        assert type(es) is type(read.acquisition["es"])
        assert es.object_id == read.acquisition["es"].object_id
        assert es.electrodes.table is lazy.electrodes is not read.electrodes
        assert isinstance(read.acquisition["es"].data, h5py.Dataset)
        assert isinstance(lazy.acquisition["linked"].data, da.Array)
        assert isinstance(lazy.acquisition["plain"].timestamps, da.Array)
        assert isinstance(lazy.electrodes["x"].data, da.Array)
        times = np.sort(np.random.default_rng(3).random(3000))
        np.testing.assert_array_equal(lazy.units["spike_times"][3], times)
        assert len(lazy.electrodes.to_dataframe()) == N_CHANNELS
        data = es.data
    np.testing.assert_array_equal((data * 2).compute(), raw * 2)


def test_lazy_containers_that_refer_to_each_other(tmp_path: Path) -> None:
    """A series by way of which the module that holds another one is come to first."""
    nwbfile = empty()
    times = pynwb.TimeSeries(name="times", data=np.ones(9), unit="V", timestamps=np.arange(9.0))
    module = nwbfile.create_processing_module("behavior", "-")
    module.add(BehavioralTimeSeries(time_series=times, name="all"))
    nwbfile.add_acquisition(pynwb.TimeSeries(name="x", data=times, unit="V", timestamps=times))
    nwbfile.add_stimulus(pynwb.TimeSeries(name="y", data=np.ones(9), unit="V", timestamps=times))
    lazyio.nwb.write(nwbfile, tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        read = io.read()
        for top in (read, read.stimulus["y"]):
            lazy = lazyio.nwb.lazy(top)
            y = lazy.stimulus["y"] if top is read else lazy
            found = y.get_ancestor("NWBFile").processing["behavior"]["all"]["times"]
            assert isinstance(y.timestamps, da.Array)
            assert y.timestamps is found.timestamps
            assert list(found.parent.time_series) == ["times"]
            assert found.parent is not read.processing["behavior"]["all"]
            np.testing.assert_array_equal(y.timestamps, np.arange(9.0))
        assert isinstance(read.stimulus["y"].data, h5py.Dataset)


def test_lazy_data_go_into_another_file(path: Path, tmp_path: Path) -> None:
    with pynwb.NWBHDF5IO(path, "r") as io:
        data = lazyio.nwb.lazy(io.read()).acquisition["es"].data
    derived = session(samples())
    filtered = lazyio.nwb.iterator(data.astype("f4") / 2)
    derived.add_acquisition(pynwb.TimeSeries(name="low", data=filtered, unit="V", rate=1.0))
    lazyio.nwb.write(derived, tmp_path / "b.nwb")
    found = lazyio.open(tmp_path / "b.nwb", "acquisition/low").compute()
    np.testing.assert_array_equal(found, samples() / np.float32(2))


def test_what_is_no_container_has_no_lazy_form() -> None:
    with pytest.raises(lazyio.errors.OptionError, match="ndarray is no container of PyNWB"):
        lazyio.nwb.lazy(np.ones(3))
