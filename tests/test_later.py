"""Writing later: nothing before it is computed, and as often as that is asked for."""

import os
import pickle

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
from dask.delayed import Delayed

import lazyio
from lazyio.errors import OptionError, TargetError, TargetExistsError


def read(path, key="data"):
    with h5py.File(path, "r") as file:
        return file[key][()]


def counting(calls):
    """Return a graph that notes the blocks that it computes."""

    def count(block, block_id=None):
        if block.size:
            calls.append(block_id)
        return block

    return da.ones((20, 10), chunks=(5, 10)).map_blocks(count, dtype=float)


def test_nothing_happens_before(tmp_path):
    """No file, no lock, no block; then all of it."""
    calls = []
    later = lazyio.to_hdf5(counting(calls), tmp_path / "x.h5", compute=False)
    assert isinstance(later, Delayed)
    assert (calls, os.listdir(tmp_path)) == ([], [])
    report = later.compute()
    assert report.n_blocks == len(calls) == 4
    assert report.path == str(tmp_path / "x.h5")
    assert (read(tmp_path / "x.h5") == 1).all()


def test_what_is_refused_is_refused_at_once(tmp_path):
    """Not when somebody computes it, hours later."""
    path = tmp_path / "x.h5"
    with pytest.raises(OptionError, match="chunks"):
        lazyio.to_hdf5(np.ones(3), path, chunks="nonsense", compute=False)
    lazyio.to_hdf5(np.ones(3), path)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_hdf5(np.ones(3), path, compute=False)
    with pytest.raises(OptionError, match="progress="):
        lazyio.to_hdf5(np.ones(3), path, "y", progress="yes", compute=False)
    with pytest.raises(OptionError, match="libver="):
        lazyio.to_hdf5(np.ones(3), path, "y", libver="latest", compute=False)
    for compute in (None, 1, "no"):
        with pytest.raises(OptionError, match="compute="):
            lazyio.to_hdf5(np.ones(3), path, "y", compute=compute)


def test_what_changes_meanwhile_is_looked_at_again(tmp_path):
    """Another writer took the name: refused, and its data stay."""
    path = tmp_path / "x.h5"
    later = lazyio.to_hdf5(np.ones(3), path, compute=False)
    lazyio.to_hdf5(np.zeros(3), path)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        later.compute()
    assert (read(path) == 0).all()


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_an_array_that_has_grown_meanwhile(tmp_path, suffix):
    """What was to go behind its end does not take the place of what is there by now."""
    path = tmp_path / f"x.{suffix}"
    write = lazyio.to_hdf5 if suffix == "h5" else lazyio.to_zarr
    write(np.zeros(3), path, "x", **({"maxshape": (None,)} if suffix == "h5" else {}))
    first, second = (write(x, path, "x", append_dim=0, compute=False) for x in np.ones((2, 3)))
    first.compute()
    with pytest.raises(TargetError, match="make the call again"):
        second.compute()
    assert lazyio.open(path, "x").compute().tolist() == [0, 0, 0, 1, 1, 1]


def test_computing_twice_writes_twice(tmp_path):
    calls = []
    options = {"overwrite": True, "compute": False}
    later = lazyio.to_hdf5(counting(calls), tmp_path / "x.h5", **options)
    later.compute()
    later.compute()
    assert len(calls) == 8
    with h5py.File(tmp_path / "x.h5") as file:
        assert list(file) == ["_lazyio", "data"]


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_several_at_once(tmp_path, scheduler):
    """With dask.compute, beside other work; of two parts of one file one after the other."""
    x = da.ones((20, 10), chunks=(5, 10)) + 1
    orders = [lazyio.to_hdf5(x * n, tmp_path / f"{n}.h5", compute=False) for n in range(3)]
    *reports, total = dask.compute(*orders, x.sum(), scheduler=scheduler)
    assert total == 400
    for n, report in enumerate(reports):
        assert report.path == str(tmp_path / f"{n}.h5")
        assert (read(tmp_path / f"{n}.h5") == 2 * n).all()


def test_a_part_and_a_link_later(tmp_path):
    lazyio.to_hdf5(np.zeros(20), tmp_path / "x.h5", "x", chunks=(6,))
    part = {"region": np.s_[3:8], "compute": False}
    later = lazyio.to_hdf5(np.ones(5), tmp_path / "x.h5", "x", **part)
    assert (read(tmp_path / "x.h5", "x") == 0).all()
    assert later.compute().n_chunks == 2
    assert read(tmp_path / "x.h5", "x").sum() == 5
    source = lazyio.open(tmp_path / "x.h5", "x")
    link = lazyio.to_hdf5(source, tmp_path / "y.h5", links="link", compute=False)
    assert link.compute().engine == "link"


def test_it_travels(tmp_path):
    """An order for a path holds no handle; it is pickled and carried out elsewhere."""
    np.arange(100, dtype="i2").tofile(tmp_path / "x.raw")
    x = lazyio.from_raw(tmp_path / "x.raw", (-1,), "i2")
    later = lazyio.to_hdf5({"x": x, "y": x + 1}, tmp_path / "x.h5", compute=False)
    moved = pickle.loads(pickle.dumps(later))
    assert moved.compute(scheduler="sync").n_blocks == 2
    assert (read(tmp_path / "x.h5", "y") == np.arange(100) + 1).all()
