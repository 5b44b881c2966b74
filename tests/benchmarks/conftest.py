"""The benchmarks are no part of the package: they are imported from the checkout.

The checkout comes last on the path, so that an installed lazyio is the one tested.
"""

import sys
from pathlib import Path

import hdf5plugin
import pytest

sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True, scope="session")
def own_plugins() -> None:
    """Let h5py have hdf5plugin's filters; netCDF4 leads it to those of another libhdf5."""
    hdf5plugin.register(force=True)
