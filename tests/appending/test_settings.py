"""What ``writer.create`` says of an array, as ``to_hdf5`` and ``to_zarr`` have it."""

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

import lazyio
from lazyio.errors import OptionError

ROWS = np.arange(28, dtype="i2").reshape(7, 4)
BOTH = {
    "chunks": (4, 4),
    "attrs": {
        "units": "V",
        "gain": np.float32(2),
        "probe": {"sites": [1, 2]},
        "none": None,
        "names": ["a", "b"],
        "start": np.datetime64("2026-01-02"),
    },
    "dims": ("time", "channel"),
    "fillvalue": -1,
}


@pytest.fixture(params=["h5", "zarr"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def push(path, rows=ROWS, key="x", *, mode="a", **options):
    with lazyio.writer(path, mode=mode) as w:
        array = w.create(key, dtype=rows.dtype, item_shape=rows.shape[1:], **options)
        array.append(rows)


def as_written(path, rows, **options):
    """Write the same at once."""
    if path.suffix == ".zarr":
        names = {"attrs": "attributes", "dims": "dimension_names", "fillvalue": "fill_value"}
        own = {names.get(name, name): value for name, value in options.items()}
        lazyio.to_zarr(rows, path, "x", **{"compressors": None, **own})
    else:
        lazyio.to_hdf5(rows, path, "x", maxshape=(None, 4), **options)


def described(path, key="x"):
    """Return everything that is said of an array, by stock libraries."""
    if path.suffix == ".zarr":
        return zarr.open_array(path, path=key, mode="r").metadata.to_dict()
    with h5py.File(path) as file:
        dataset = file[key]
        attrs = {name: str(one) for name, one in dataset.attrs.items() if "LIST" not in name}
        return {
            "attrs": attrs,
            "dims": [scale[0].name for scale in dataset.dims if len(scale)],
            "facts": (dataset.shape, dataset.dtype, dataset.chunks, dataset.maxshape),
            "filters": (dataset._filters, dataset.fletcher32, dataset.fillvalue),
        }


OF_HDF5 = {"compression": "gzip", "compression_opts": 3, "shuffle": True, "fletcher32": True}
OF_ZARR = {
    "compressors": [zarr.codecs.BloscCodec(cname="lz4", clevel=3)],
    "filters": [zarr.codecs.TransposeCodec(order=(1, 0))],
}


def test_it_is_as_written_at_once(path, tmp_path):
    """The same settings make the same array; a second create with them takes it up."""
    other = tmp_path / f"other{path.suffix}"
    own = BOTH | (OF_ZARR if path.suffix == ".zarr" else OF_HDF5)
    as_written(other, np.concatenate([ROWS, ROWS]), **own)
    for _ in range(2):
        push(path, **own)
    assert described(path) == described(other)
    assert (lazyio.open(path, "x").compute() == np.concatenate([ROWS, ROWS])).all()
    assert lazyio.verify(path).status == "ok"


def test_names_of_the_other_library(path, tmp_path):
    other = tmp_path / f"other{path.suffix}"
    push(path, **BOTH)
    own = {
        "chunks": BOTH["chunks"],
        "attributes": BOTH["attrs"],
        "dimension_names": BOTH["dims"],
        "fill_value": BOTH["fillvalue"],
    }
    push(other, **own)
    assert described(path) == described(other)


def test_shards(tmp_path):
    path = tmp_path / "x.zarr"
    push(path, chunks=(2, 4), shards=(4, 4), compression="zstd")
    array = zarr.open_array(path, path="x", mode="r")
    assert (array.chunks, array.shards, array.shape) == ((2, 4), (4, 4), (7, 4))
    assert (array[...] == ROWS).all()


def test_chunks_for_windows(path):
    """As in a plan: one channel over time is read well."""
    rows = np.zeros((10, 64), "i2")
    push(path, rows, access=[(100_000, 1)], chunk_nbytes="256 KiB", expected_length=10**6)
    facts = described(path)
    chunks = facts["facts"][2] if path.suffix == ".h5" else facts["chunk_grid"]
    assert "64" not in str(chunks)


@pytest.mark.parametrize("is_new", [True, False])
def test_without_digests(path, is_new):
    """None are stored, and none are left that do not hold any more."""
    if not is_new:
        push(path)
        assert lazyio.verify(path, "x").status == "ok"
    push(path, digests=False)
    push(path, key="y")
    assert lazyio.verify(path, "x").status == "unverifiable"
    assert lazyio.verify(path, "y").status == "ok"


def test_digests_of_what_was_not_appended_to_are_kept(path):
    push(path)
    with lazyio.writer(path) as w:
        w.create("x", digests=False)
        w.create("y", dtype="i2", item_shape=()).append(np.arange(3, dtype="i2"))
    assert lazyio.verify(path).status == "ok"


def test_short_arrays_without_digests_are_small(tmp_path):
    sizes = {}
    for digests in (True, False):
        path = tmp_path / f"{digests}.h5"
        with lazyio.writer(path) as w:
            for at in range(50):
                array = w.create(f"a{at}", dtype="i2", item_shape=(4,), digests=digests)
                array.append(ROWS)
        sizes[digests] = path.stat().st_size
    assert sizes[False] < sizes[True] - 50 * 100


@pytest.mark.parametrize("on_error", ["keep", "drop"])
def test_names_of_axes_are_those_of_netcdf(tmp_path, on_error):
    """A time axis that several arrays share is as long as the longest of them."""
    path = tmp_path / "x.h5"

    def write():
        with lazyio.writer(path, on_error=on_error) as w:
            options = {"dims": ("time", "channel"), "chunks": (4, 4)}
            x = w.create("g/x", dtype="i2", item_shape=(4,), **options)
            x.append(ROWS)
            w.flush()
            y = w.create("g/y", dtype="i2", item_shape=(4,), **options)
            y.append(ROWS[:3])
            if on_error == "drop":
                raise KeyError("acquisition")

    if on_error == "drop":
        with h5py.File(path, "w") as file:
            file["other"] = 1
        with pytest.raises(KeyError, match="acquisition"):
            write()
        with h5py.File(path) as file:
            assert list(file) == ["other"]
        return
    write()
    with netCDF4.Dataset(path) as file:
        assert {name: len(dim) for name, dim in file["g"].dimensions.items()} == {
            "time": 7,
            "channel": 4,
        }
        assert file["g"].dimensions["time"].isunlimited()
        assert (file["g/x"][:] == ROWS).all()
    push(path, key="g/x", dims=("time", "channel"), chunks=(4, 4))
    with netCDF4.Dataset(path) as file:
        assert len(file["g"].dimensions["time"]) == 14


def test_dropped_elements_leave_the_axis_as_it_was(tmp_path):
    path = tmp_path / "x.h5"
    push(path, dims=("time", "channel"), chunks=(4, 4))

    def fail():
        with lazyio.writer(path, on_error="drop") as w:
            w.create("x").append(ROWS)
            w.flush()
            raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        fail()
    with netCDF4.Dataset(path) as file:
        assert len(file.dimensions["time"]) == 7


def test_a_coordinate_comes_first(tmp_path):
    path = tmp_path / "x.h5"
    with lazyio.writer(path) as w:
        time = w.create("time", dtype="f8", item_shape=(), dims=["time"])
        x = w.create("x", dtype="i2", item_shape=(4,), dims=("time", "channel"))
        for row in range(7):
            time.append(row / 30)
            x.append(ROWS[row])
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found["x"].dims == ("time", "channel")
        assert found["time"].values.tolist() == [row / 30 for row in range(7)]
    with lazyio.writer(tmp_path / "y.h5") as w:
        w.create("x", dtype="i2", item_shape=(4,), dims=("time", "channel"))
        with pytest.raises(OptionError, match="create a coordinate before the arrays"):
            w.create("time", dtype="f8", item_shape=(), dims=["time"])


def test_xarray_names_axes_of_zarr(tmp_path):
    push(tmp_path / "x.zarr", dims=("time", "channel"), attrs={"units": "V"})
    with xr.open_zarr(tmp_path / "x.zarr", consolidated=False) as found:
        assert found["x"].dims == ("time", "channel")
        assert found["x"].attrs["units"] == "V"


def test_gaps_are_fill_values(path):
    """Also of rows of chunks that nobody wrote."""
    push(path, ROWS[:1], chunks=(4, 4), fillvalue=-1)
    if path.suffix == ".zarr":
        array = zarr.open_array(path, path="x", mode="r+")
        array.resize((6, 4))
        assert (array[1:] == -1).all()
    else:
        with h5py.File(path, "r+") as file:
            file["x"].resize(6, axis=0)
            assert (file["x"][1:] == -1).all()


@pytest.mark.parametrize(
    ("suffix", "options", "match"),
    [
        (".h5", {"filters": []}, "filters=.* is for Zarr, and the target is hdf5"),
        (".h5", {"compressors": None}, "compressors=None is for Zarr"),
        (".h5", {"shards": (4, 4)}, "shards=.* is for Zarr"),
        (".zarr", {"fletcher32": True}, "fletcher32=True is for HDF5, and the target is zarr"),
        (".zarr", {"compressors": None, "compression": "gzip"}, "leave out compression"),
        (".h5", {"attrs": {}, "attributes": {}}, "attrs and attributes are two names of one"),
        (".zarr", {"fillvalue": 1, "fill_value": 1}, "fillvalue and fill_value are two names"),
        (".h5", {"dims": ("a",)}, r"dims=\('a',\); give one name for each of the array's 2 axes"),
        (".zarr", {"dims": ("a",)}, r"dimension_names=\('a',\); give one name"),
        (".h5", {"fillvalue": "x"}, "fillvalue='x' is no value of dtype int16"),
        (".h5", {"attrs": [1]}, "attrs=.*; give a dict"),
        (".zarr", {"attrs": {"a": object()}}, "which JSON has no form for"),
        (".h5", {"digests": 3}, "digests=3; give True or False"),
        (".h5", {"fletcher32": 3}, "fletcher32=3; give True or False"),
    ],
)
def test_what_is_refused_makes_nothing(tmp_path, suffix, options, match):
    path = tmp_path / f"x{suffix}"
    with lazyio.writer(path) as w:
        with pytest.raises(OptionError, match=match):
            w.create("g/x", dtype="i2", item_shape=(4,), **options)
        w.create("y", dtype="i2", item_shape=()).append(np.int16(3))
    if suffix == ".h5":
        with h5py.File(path) as file:
            assert set(file) - {"_lazyio"} == {"y"}
    else:
        assert [name for name, _ in zarr.open_group(path, mode="r").members()] == ["y"]


def test_all_differences_are_one_error(path):
    push(path, **BOTH)
    other = {
        "fillvalue": 3,
        "attrs": {"units": "A", "new": 1},
        "dims": ("t", "channel"),
        "chunks": (3, 4),
    }
    with lazyio.writer(path) as w, pytest.raises(OptionError, match="fill value is -1") as raised:
        w.create("x", dtype="f8", **other)
    for part in ("dtype is int16", "chunks are", "'units' is 'V'", "no attribute 'new'", "is ("):
        assert part in str(raised.value)


def test_names_of_axes_do_not_go_with_followers(tmp_path):
    with lazyio.writer(tmp_path / "x.h5", swmr=True) as w:
        with pytest.raises(OptionError, match="cannot change while others follow"):
            w.create("x", dtype="i2", item_shape=(4,), dims=("time", "channel"))
        w.create("x", dtype="i2", item_shape=(4,), attrs={"units": "V"}, fillvalue=2).append(ROWS)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"].attrs["units"] == "V"
        assert list(file["x"].dims[0]) == []


def test_attributes_that_are_too_large_leave_nothing(tmp_path):
    with lazyio.writer(tmp_path / "x.h5") as w:
        with pytest.raises(OptionError, match="64 KiB"):
            w.create("g/x", dtype="i2", item_shape=(), attrs={"a": np.zeros(10**5)})
        w.create("g/x", dtype="i2", item_shape=()).append(np.int16(1))
    assert lazyio.open(tmp_path / "x.h5", "g/x").compute().tolist() == [1]
