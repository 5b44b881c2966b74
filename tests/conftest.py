"""What many tests start from: arrays that look like data, and dask with two workers."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pynwb
import pytest
from hdmf.backends.hdf5 import H5DataIO
from hypothesis import settings
from warm import Warm

# The same cases in every run, so that a failure is of the change at hand; to look for
# new ones, run with HYPOTHESIS_PROFILE=explore.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def two_workers() -> Iterator[None]:
    """Use as many workers here as anywhere else."""
    with dask.config.set(num_workers=2):
        yield


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify without a child for each file, of which other tests have enough."""
    monkeypatch.setattr("lazyio.verification.verify.is_available", lambda: False)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Return what runs scripts in children that find everything imported."""
    children = Warm()
    yield children
    children.close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that this thread waits by sleeping, a number for each time."""
    asked: list[float] = []
    sleep, thread = time.sleep, threading.get_ident()

    def note(seconds: float) -> None:
        if threading.get_ident() == thread:
            asked.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", note)
    return asked


@pytest.fixture
def recording() -> np.ndarray:
    """Return samples of a few channels: smooth, noisy, compressible; (1000, 64) int16."""
    random = np.random.default_rng(0)
    drift = np.cumsum(random.normal(size=(1000, 4)), axis=0) @ random.normal(size=(4, 64))
    return (drift * 3 + random.normal(size=(1000, 64)) * 10).astype("int16")


@pytest.fixture
def shared_data() -> Path:
    """Return the folder of real files, or skip where it is not."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real files is not here")
    return SHARED


@pytest.fixture
def h5dump() -> str:
    """Return Debian's h5dump, or skip where it is not."""
    found = shutil.which("h5dump")
    if found is None:
        pytest.skip("h5dump (Debian's hdf5-tools) is not here")
    return found


@pytest.fixture
def nwb_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an NWB file with one time series, ``acquisition/x``."""

    def write(values: np.ndarray, **settings: Any) -> Path:
        nwbfile = pynwb.NWBFile(
            session_description="a",
            identifier="b",
            session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
        )
        data = H5DataIO(values, **settings)
        nwbfile.add_acquisition(pynwb.TimeSeries(name="x", data=data, unit="uV", rate=1000.0))
        with pynwb.NWBHDF5IO(tmp_path / "file.nwb", "w") as io:
            io.write(nwbfile)
        return tmp_path / "file.nwb"

    return write
