"""Files read and extended by other builds of libhdf5: those of netCDF4 and PyTables."""

import h5py
import netCDF4
import numpy as np
import pytest
import tables

import lazyio

VALUES = np.arange(3000, dtype="i4").reshape(300, 10)
MORE = VALUES[:37] * 2
OPTIONS = {
    "plain": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "gzip-fletcher32": {"compression": "gzip", "fletcher32": True},
    "shuffle": {"shuffle": True},
}
LIBVERS = [None, "earliest", ("earliest", "v114"), ("v110", "v114"), ("v114", "v114")]


def written(path, options, libver, dims=None):
    """Write an array that can grow, as deferred metadata does."""
    report = lazyio.to_hdf5(
        VALUES,
        path,
        "g/x",
        chunks=(16, 10),
        maxshape=(None, 10),
        dims=dims,
        libver=libver,
        **OPTIONS[options],
    )
    assert report.engine == "direct"


def require_longer(path):
    """Raise unless both parts are there, for h5py and for lazyio, and nothing is damaged."""
    expected = np.concatenate([VALUES, MORE])
    with h5py.File(path) as file:
        assert (file["g/x"][...] == expected).all()
    assert (lazyio.open(path, "g/x").compute() == expected).all()
    assert lazyio.verify(path).status in ("modified", "ok")
    lazyio.to_hdf5(MORE, path, "g/x", append_dim=0)
    assert (lazyio.open(path, "g/x").compute() == np.concatenate([expected, MORE])).all()


@pytest.mark.parametrize("libver", LIBVERS, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_netcdf(tmp_path, options, libver):
    """Its own libhdf5 is a later one."""
    path = tmp_path / "x.nc"
    written(path, options, libver, ("t", "c"))
    with netCDF4.Dataset(path, "a") as file:
        variable = file["g/x"]
        variable.set_auto_maskandscale(False)
        assert (variable[...] == VALUES).all()
        variable[300:337] = MORE
    require_longer(path)


@pytest.mark.parametrize("libver", LIBVERS, ids=str)
@pytest.mark.parametrize("options", OPTIONS)
def test_pytables(tmp_path, options, libver):
    """Its own libhdf5 is an earlier one."""
    path = tmp_path / "x.h5"
    written(path, options, libver)
    with tables.open_file(path, "a") as file:
        rows = file.get_node("/g/x")
        assert (rows[...] == VALUES).all()
        rows.append(MORE)
    require_longer(path)


def test_what_a_writer_made(tmp_path):
    """Also where it was gone on with."""
    path = tmp_path / "x.h5"
    for part in (VALUES[:100], VALUES[100:]):
        with lazyio.writer(path) as writer:
            writer.create("g/x", dtype="i4", item_shape=(10,), compression="gzip").append(part)
    with tables.open_file(path, "a") as file:
        file.get_node("/g/x").append(MORE)
    require_longer(path)
