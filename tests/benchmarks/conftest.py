"""Filters that the benchmarks compare."""

import hdf5plugin
import pytest


@pytest.fixture(autouse=True, scope="session")
def own_plugins() -> None:
    """Let h5py have hdf5plugin's filters; netCDF4 leads it to those of another libhdf5."""
    hdf5plugin.register(force=True)
