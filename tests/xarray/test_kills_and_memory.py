"""Datasets whose write is killed at any step, and the memory that a write takes."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from kills import killed

import lazyio
from lazyio.storage.hdf5 import file as hdf5_file

pytest.importorskip("h5netcdf")


def days(start: str, n_days: int, value: float) -> xr.Dataset:
    """Return some days of two variables that hold one value."""
    return xr.Dataset(
        {
            "a": (("time", "x"), np.full((n_days, 4), value)),
            "b": ("time", np.full(n_days, value)),
            "fixed": 1.0,
        },
        coords={"time": pd.date_range(start, periods=n_days)},
    )


def append(path: Path, part: xr.Dataset) -> None:
    """Append to either format."""
    if path.suffix == ".nc":
        part.lazyio.to_hdf5(path, append_dim="time", scheduler="synchronous")
    else:
        part.lazyio.to_zarr(path, append_dim="time", scheduler="synchronous")


@pytest.mark.parametrize("way", ["copy", "log", "zarr"])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_all_variables_are_old_or_all_new(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "log":
        monkeypatch.setattr(hdf5_file, "COPIED_NBYTES", 0)
        monkeypatch.setattr(hdf5_file, "_cloned", lambda *_: False)
    old, part = days("2026-01-01", 3, 0.0), days("2026-01-04", 2, 1.0)
    seen = set()
    for last in range(400):
        path = tmp_path / (f"{last}.zarr" if way == "zarr" else f"{last}.nc")
        if way == "zarr":
            old.lazyio.to_zarr(path)
        else:
            old.lazyio.to_hdf5(path, unlimited_dims=["time"])
        is_killed = killed(last, partial(append, path, part))
        lazyio.recover(path)
        with xr.open_dataset(path, engine="zarr" if way == "zarr" else "netcdf4") as found:
            found.load()
        is_new = found.sizes["time"] == 5
        expected = xr.concat([old, part], "time", data_vars="minimal") if is_new else old
        xr.testing.assert_equal(found, expected)
        assert lazyio.verify(path).status in ("ok", "incomplete")
        seen.add(is_new)
        if not is_killed:
            break
    assert seen == {False, True}


MEASURE = """
import json, re, sys
from pathlib import Path
import dask, numpy as np, xarray as xr
import lazyio
dask.config.set(num_workers=2)
out, way, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])

def fields(n_steps):
    import dask.array as da
    names, dims = ("a", "b", "c"), ("t", "y", "x")
    shape, chunks = (n_steps, 128, 256), (8, 128, 256)
    made = [da.random.default_rng(at).random(shape, chunks=chunks) for at in range(3)]
    return xr.Dataset({name: (dims, one) for name, one in zip(names, made)})

def write(dataset, path):
    if way == "netcdf":
        dataset.lazyio.to_hdf5(path + ".nc", memory_limit=limit)
    elif way == "series":
        dataset.lazyio.to_hdf5(path + ".nc", memory_limit=limit, access=[{"y": 1, "x": 1}])
    elif way == "zarr":
        dataset.lazyio.to_zarr(path + ".zarr", memory_limit=limit)

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) << 10

write(fields(8), out + "-warm")
Path("/proc/self/clear_refs").write_text("5")
before = peak()
write(fields(160), out)
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize("way", ["netcdf", "series", "zarr"])
def test_a_dataset_stays_within_the_limit(tmp_path: Path, warm: Any, way: str) -> None:
    limit = 48 << 20
    done = warm.run(MEASURE, tmp_path / "x", way, limit, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout.splitlines()[-1])
    assert growth <= limit, f"{growth / 2**20:.1f} MiB"
