"""Names of axes, read back by the netCDF library, xarray and h5py."""

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr

import lazyio
from lazyio.errors import OptionError

VALUES = np.arange(200, dtype="i4").reshape(20, 10)
DIMS = ("time", "channel")


def sizes(path):
    """Return dimensions as the netCDF library has them: length, and whether it is unlimited."""
    with netCDF4.Dataset(path) as file:
        return {name: (len(d), d.isunlimited()) for name, d in file.dimensions.items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.nc"


def test_names_without_values(path):
    """A dimension is one to netCDF and xarray, and no variable."""
    lazyio.to_hdf5(VALUES, path, "v", dims=DIMS, attrs={"units": "V"})
    assert sizes(path) == {"time": (20, False), "channel": (10, False)}
    with netCDF4.Dataset(path) as file:
        assert file["v"].dimensions == DIMS
        assert list(file.variables) == ["v"]
        assert file["v"].units == "V"
        assert (file["v"][:] == VALUES).all()
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found.v.dims == DIMS
        assert list(found.variables) == ["v"]
        assert (found.v == VALUES).all()


def test_coordinates(path):
    """An array of the name of its axis is its coordinate, whatever order they come in."""
    data = {"v": VALUES, "w": VALUES * 2, "time": np.arange(20.0), "channel": np.arange(10)}
    by_key = {"v": DIMS, "w": DIMS, "time": ("time",), "channel": "channel"}
    lazyio.to_hdf5(data, path, dims=by_key)
    with netCDF4.Dataset(path) as file:
        assert set(file.variables) == set(data)
        assert file["w"].dimensions == DIMS
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert set(found.coords) == set(DIMS)
        assert (found.v.sel(time=3.0, channel=[2, 4]) == VALUES[3, [2, 4]]).all()


def test_in_a_group(path):
    lazyio.to_hdf5({"v": VALUES, "time": np.arange(20.0)}, path, "a/b", dims={"v": DIMS})
    with xr.open_dataset(path, group="a/b", engine="h5netcdf") as found:
        assert found.v.dims == DIMS
        assert list(found.coords) == ["time"]


def test_coordinates_that_are_there_already(path):
    """An array that is added uses the axes of the file."""
    lazyio.to_hdf5(np.arange(20.0), path, "time", dims="time")
    lazyio.to_hdf5(VALUES, path, "v", dims=DIMS)
    lazyio.to_hdf5(VALUES[0], path, "w", dims=("channel",))
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert dict(found.sizes) == {"time": 20, "channel": 10}
        assert found.v.dims == DIMS
        assert list(found.coords) == ["time"]


def test_axes_that_grow(path):
    """Unlimited dimensions, which follow the dataset that grows."""
    lazyio.to_hdf5(VALUES, path, "v", dims=DIMS, maxshape=(None, 10), chunks=(6, 5))
    assert sizes(path) == {"time": (20, True), "channel": (10, False)}
    lazyio.to_hdf5(VALUES[:7], path, "v", append_dim="time")
    assert sizes(path) == {"time": (27, True), "channel": (10, False)}
    lazyio.to_hdf5(VALUES[:2], path, "v", region={"time": slice(30, 32)})
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert dict(found.sizes) == {"time": 32, "channel": 10}
        np.testing.assert_array_equal(found.v[:27], np.concatenate([VALUES, VALUES[:7]]))
        np.testing.assert_array_equal(found.v[30:], VALUES[:2])


def test_coordinates_that_grow_are_for_their_owner(path):
    """A coordinate gets no values that nobody wrote; it is appended to like any array."""
    lazyio.to_hdf5(np.arange(20.0), path, "time", dims="time", maxshape=(None,))
    lazyio.to_hdf5(VALUES, path, "v", dims=DIMS, maxshape=(None, 10))
    lazyio.to_hdf5(VALUES, path, "v", append_dim="time")
    with h5py.File(path) as file:
        assert file["time"].shape == (20,)
    lazyio.to_hdf5(np.arange(20.0, 40.0), path, "time", append_dim="time")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert (found.time == np.arange(40.0)).all()
        assert dict(found.sizes) == {"time": 40, "channel": 10}


def test_one_name_for_two_axes(path):
    """As a covariance has it; of two lengths it is refused."""
    lazyio.to_hdf5(VALUES[:10], path, "v", dims=("x", "x"))
    with netCDF4.Dataset(path) as file:
        assert file["v"].dimensions == ("x", "x")
    with pytest.raises(OptionError, match=r"axis 1.*'x'.*not an array of shape \(10,\)"):
        lazyio.to_hdf5(VALUES, path, "w", mode="w", dims=("x", "x"))


def test_chunks_by_the_names_that_are_given(path):
    report = lazyio.to_hdf5(VALUES, path, "v", dims=DIMS, chunks={"time": 7})
    assert report.plan.chunk_shape == (7, 10)


def test_no_axes_no_names(path):
    lazyio.to_hdf5(np.float64(3), path, "v", dims=())
    assert sizes(path) == {}


@pytest.mark.parametrize(
    "dims", [("time",), ("a", "b", "c"), ("a", ""), ("a", "b/c"), ("a", "."), ("a", 1), 5, "time"]
)
def test_names_that_are_none(path, dims):
    """One for each axis, each a name that a dataset may have."""
    with pytest.raises(OptionError, match="give one name for each of the array's 2 axes"):
        lazyio.to_hdf5(VALUES, path, "v", dims=dims)
    assert not path.exists()


@pytest.mark.parametrize(
    "taken", [np.ones(3), np.ones((20, 2)), None], ids=["len", "axes", "group"]
)
def test_names_that_something_else_has(path, taken):
    """The file stays as it was."""
    with h5py.File(path, "w") as file:
        if taken is None:
            file.create_group("time")
        else:
            file["time"] = taken
    before = path.read_bytes()
    with pytest.raises(OptionError, match="choose another name"):
        lazyio.to_hdf5(VALUES, path, "v", dims=DIMS)
    assert path.read_bytes() == before


def test_the_own_name_is_for_one_axis(path):
    with pytest.raises(OptionError, match="choose another name"):
        lazyio.to_hdf5(VALUES, path, "time", dims=DIMS)


def test_a_replaced_dataset_leaves_no_trace(path):
    """Names that only it used follow the length of its successor."""
    lazyio.to_hdf5(VALUES, path, "v", dims=DIMS)
    lazyio.to_hdf5(VALUES[:5], path, "v", dims=DIMS, overwrite=True)
    assert sizes(path) == {"time": (5, False), "channel": (10, False)}
    with h5py.File(path) as file:
        (use,) = file["time"].attrs["REFERENCE_LIST"]
        assert file[use[0]] == file["v"]


def test_a_replaced_coordinate_keeps_its_users(path):
    """They refer to the new one; one of another length is refused."""
    data = {"v": VALUES, "time": np.arange(20.0)}
    lazyio.to_hdf5(data, path, dims={"v": DIMS, "time": "time"})
    more = {name: np.ones(1000) for name in "abc"}
    names = dict.fromkeys(more, "n")
    lazyio.to_hdf5({**more, "time": np.arange(20) * 2}, path, dims=names, overwrite=True)
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found.v.dims == DIMS
        assert (found.v.time == np.arange(20) * 2).all()
    with pytest.raises(OptionError, match="is the coordinate of axis 0 of '/v', which has 20"):
        lazyio.to_hdf5(np.arange(7), path, "time", overwrite=True)
    both = {"v": VALUES[:7], "time": np.arange(7)}
    lazyio.to_hdf5(both, path, dims={"v": DIMS, "time": "time"}, overwrite=True)
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found.v.shape == (7, 10)
        assert (found.time == np.arange(7)).all()


def test_an_xarray_variable_brings_its_names(path):
    variable = xr.Variable(DIMS, VALUES, {"units": "V"})
    lazyio.to_hdf5(variable, path, "v")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found.v.dims == DIMS
        assert found.v.attrs["units"] == "V"
    lazyio.to_hdf5(variable, path, "v", dims=("t", "c"), attrs={"units": "A"}, mode="w")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found.v.dims == ("t", "c")
        assert found.v.attrs["units"] == "A"
