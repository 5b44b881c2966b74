"""Packages of the field ask for zarr 2: HDF5 works beside it, and beside no zarr at all."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import lazyio
from lazyio.errors import OptionError

ALL_OF_HDF5 = """
import sys
sys.modules["zarr"] = None  # Whoever imports it gets an ImportError.
import dask.array as da, h5py, numpy as np, lazyio
from lazyio.cli import main

x = np.arange(6000, dtype="i4").reshape(100, 60)
for codec in (None, "gzip", "lzf"):
    report = lazyio.to_hdf5(x, "x.h5", f"{codec}", chunks=(10, 20), compression=codec)
    assert (lazyio.open("x.h5", f"{codec}").compute() == x).all()
lazyio.to_hdf5({"a": da.from_array(x), "b": da.from_array(x) + 1}, "x.h5", "several")
lazyio.allocate("y.h5", "x", shape=(0, 60), dtype="i4", chunks=(10, 20))
lazyio.to_hdf5(x, "y.h5", "x", append_dim=0)
lazyio.to_hdf5(x[:5], "y.h5", "x", region=np.s_[5:10])
lazyio.to_hdf5(lazyio.Stream(iter(x)), "y.h5", "stream", resume=False)
lazyio.to_hdf5(x, "z.h5", resume=True)
with lazyio.writer("w.h5") as writer:
    writer.create("v", item_shape=(60,), dtype="i4").append(x)
assert (lazyio.open("w.h5", "v").compute() == x).all()
for name in ("x.h5", "y.h5", "z.h5", "w.h5"):
    assert lazyio.verify(name).status == "ok", lazyio.verify(name)
assert lazyio.plan((10**6, 64), "i2").chunk_shape
assert lazyio.concatenate(["z.h5", "z.h5"]).shape == (200, 60)
for words in (["info", "x.h5"], ["plan", "x.h5::None"], ["convert", "z.h5", "c.h5"]):
    assert main(words) == 0
h5py.File("z.h5").close()
"""


def test_all_of_hdf5_without_zarr(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", ALL_OF_HDF5]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", ["2.18.7", None])
def test_zarr_functions_say_which_version_they_need(tmp_path, monkeypatch, version):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / ".zarray").write_text("{}")
    zarr = None if version is None else SimpleNamespace(__version__=version)
    monkeypatch.setattr("lazyio.sources.zarr_metadata.optional", lambda _: zarr)
    calls = [
        lambda: lazyio.to_zarr(np.zeros(3), tmp_path / "new.zarr"),
        lambda: lazyio.open(tmp_path / "x.zarr"),
        lambda: lazyio.from_zarr(tmp_path / "x.zarr"),
        lambda: lazyio.plan(np.zeros(3), format="zarr"),
        lambda: lazyio.allocate(tmp_path / "new.zarr", shape=(3,), dtype="f8"),
        lambda: lazyio.writer(tmp_path / "new.zarr"),
    ]
    there = f"zarr {version} is installed" if version else "no zarr is installed"
    for call in calls:
        with pytest.raises(OptionError, match=rf"Zarr needs zarr 3\.\d+ or later, and {there}"):
            call()
    assert not (tmp_path / "new.zarr").exists()
