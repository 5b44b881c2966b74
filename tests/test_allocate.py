"""Empty arrays that are filled part by part."""

import os

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.errors import OptionError, TargetExistsError


def test_pynwbs_user_defined_write(tmp_path):
    """The idiom of PyNWB's tutorial: allocated, grown, written where it is wanted."""
    path = tmp_path / "x.h5"
    lazyio.allocate(
        path,
        "grid",
        shape=(0, 10),
        dtype="f8",
        maxshape=(None, 10),
        chunks=(131072, 2),
        fillvalue=np.nan,
        compression="gzip",
    )
    lazyio.to_hdf5(np.ones((3, 10)), path, "grid", region=(slice(0, 3), slice(None)))
    lazyio.to_hdf5(np.full((3, 10), 2.0), path, "grid", region=(slice(3, 6), slice(None)))
    lazyio.to_hdf5(np.full((2, 10), np.nan), path, "grid", append_dim=0)
    with h5py.File(path) as file:
        dataset = file["grid"]
        assert (dataset.shape, dataset.maxshape) == ((8, 10), (None, 10))
        assert dataset.chunks == (131072, 2)
        np.testing.assert_array_equal(dataset[:, 0], [1, 1, 1, 2, 2, 2, np.nan, np.nan])


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_nothing_is_stored_until_it_is_written(tmp_path, suffix):
    """A trillion elements take kilobytes, and read as the fill value."""
    path = tmp_path / f"x{suffix}"
    report = lazyio.allocate(
        path, "x", shape=(10**6, 10**6), dtype="i2", fillvalue=-1, chunks=(1000, 1000)
    )
    assert (report.n_blocks, report.stored_nbytes) == (0, 0)
    used = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
    assert used < 10_000
    write = lazyio.to_hdf5 if suffix == ".h5" else lazyio.to_zarr
    write(np.full((5, 5), 7), path, "x", region=np.s_[999_995:1_000_000, 10:15], dtype="i2")
    lazy = lazyio.open(path, "x")
    assert lazy[999_997, 9:12].compute().tolist() == [-1, 7, 7]
    assert lazy[0, 0].compute() == -1


def test_a_dataset_in_an_open_file_with_everything_that_it_may_have(tmp_path):
    """Options mean what they mean for to_hdf5."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        lazyio.allocate(
            file.create_group("acquisition"),
            "raw",
            shape=(100, 4),
            dtype=">i2",
            compression="gzip",
            compression_opts=2,
            shuffle=True,
            attrs={"unit": "V"},
            dims=("time", "channel"),
        )
        dataset = file["acquisition/raw"]
        assert (dataset.dtype, dataset.compression_opts, dataset.shuffle) == (">i2", 2, True)
        assert dataset.attrs["unit"] == "V"
        assert dataset.dims[1][0].name == "/acquisition/channel"


def test_an_array_in_an_open_store():
    """Options mean what they mean for to_zarr; by default the store is the array."""
    store = zarr.storage.MemoryStore()
    lazyio.allocate(
        store, shape=(100, 4), dtype="f4", chunks=(10, 4), shards=(50, 4), fillvalue=1.5,
        dims=("time", "channel"),
    )  # fmt: skip
    array = zarr.open_array(store)
    assert (array.chunks, array.shards, array.fill_value) == ((10, 4), (50, 4), 1.5)
    assert array.metadata.dimension_names == ("time", "channel")
    assert (array[:] == 1.5).all()


def test_the_format_is_that_of_the_path_unless_it_is_given(tmp_path):
    """By content, by suffix, by argument; HDF5 where nothing says it."""
    facts = {"shape": (3,), "dtype": "i2"}
    lazyio.allocate(tmp_path / "plain", **facts)
    assert h5py.is_hdf5(tmp_path / "plain")
    lazyio.allocate(tmp_path / "other", format="zarr", **facts)
    assert zarr.open_array(tmp_path / "other").shape == (3,)
    lazyio.allocate(tmp_path / "group", "a", format="zarr", **facts)
    lazyio.allocate(tmp_path / "group", "b", **facts)
    assert sorted(zarr.open_group(tmp_path / "group").array_keys()) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "netcdf"}, "format='netcdf' is not a target format"),
        ({"shards": (2,)}, r"shards=\(2,\) is for Zarr"),
        ({"compressors": None}, "compressors=None is for Zarr"),
        ({"format": "zarr", "maxshape": (None,)}, r"maxshape=\(None,\) is for HDF5"),
        ({"format": "zarr", "compression": "gzip"}, "compression='gzip' is for HDF5"),
        ({"shape": (-1,)}, "negative extent"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, message):
    """Nothing is made."""
    with pytest.raises(OptionError, match=message):
        lazyio.allocate(tmp_path / "x.h5", **({"shape": (3,), "dtype": "i2"} | options))
    assert os.listdir(tmp_path) == []


def test_what_is_there_stays(tmp_path):
    """An existing dataset is an error, unless it may be replaced."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(3), path)
    with pytest.raises(TargetExistsError, match="pass overwrite=True"):
        lazyio.allocate(path, shape=(4,), dtype="i2")
    lazyio.allocate(path, shape=(4,), dtype="i2", overwrite=True)
    assert lazyio.open(path).compute().tolist() == [0] * 4


def test_later(tmp_path):
    """compute=False makes nothing until it is computed."""
    later = lazyio.allocate(tmp_path / "x.h5", shape=(3,), dtype="i2", compute=False)
    assert os.listdir(tmp_path) == []
    later.compute()
    assert os.listdir(tmp_path) == ["x.h5"]
