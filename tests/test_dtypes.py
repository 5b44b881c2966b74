"""Every kind of element that HDF5 has a place for, and what becomes of the others."""

import dask.array as da
import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr

import lazyio
from lazyio.errors import OptionError, UnsupportedDtypeError

NESTED = np.dtype(
    [
        ("time", ">f8"),
        ("site", [("name", "S3"), ("x", "<f4", (2,))], (2,)),
        ("good", "?"),
        ("z", "c8"),
    ]
)
ALIGNED = np.dtype([("a", "i1"), ("b", "f8")], align=True)
PLAIN = ["?", "i1", "u2", ">u2", "i4", ">i8", "u8", "f2", ">f2", "f4", "f8", "g", "c8", ">c16"]
PLAIN += ["S1", "S7", "V5"]


def forms(values, blocks=3):
    """Return an array as it is, and as a graph that cuts across chunks."""
    graph = da.from_array(values, chunks=blocks).map_blocks(lambda block: block, dtype=values.dtype)
    return {"array": values, "graph": graph}


def read(path, key="data"):
    with h5py.File(path, "r") as file:
        return file[key][()]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "x.h5"


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("dtype", [*PLAIN, NESTED, ALIGNED], ids=str)
def test_elements_come_back(out, dtype, form):
    """The same bytes and the same dtype, through filters and parts of chunks."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(0).integers(0, 2, 11 * dtype.itemsize, dtype="u1")
    values = np.zeros(11, dtype)
    if dtype.kind == "V":
        values = raw.view(dtype)
    elif dtype.kind == "S":
        values[:] = [b"x" * (at % (dtype.itemsize + 1)) for at in range(11)]
    else:
        values[:] = raw[:11].astype(dtype)
    if dtype.names and "b" in dtype.names:
        values = np.zeros(11, dtype)
        values["b"] = np.arange(11)
    lazyio.to_hdf5(forms(values)[form], out, chunks=4, compression="gzip", shuffle=True)
    found = read(out)
    assert found.dtype == dtype
    assert found.tobytes() == values.tobytes() or (found == values).all()


@pytest.mark.parametrize("form", ["array", "graph"])
def test_enumerations_keep_their_names(out, form):
    """Also by ``dtype=``, and where a part is written."""
    dtype = h5py.enum_dtype({"OFF": 0, "ON": 5}, basetype="i2")
    values = np.array([0, 5, 5, 0, 5, 0, 0], dtype)
    lazyio.to_hdf5(forms(values)[form], out, chunks=4)
    lazyio.to_hdf5(np.array([5, 5], "i2"), out, region=np.s_[3:5])
    with h5py.File(out) as file:
        assert h5py.check_enum_dtype(file["data"].dtype) == {"OFF": 0, "ON": 5}
        assert file["data"][:].tolist() == [0, 5, 5, 5, 5, 0, 0]
    lazyio.to_hdf5(np.array([0, 5]), out, "cast", dtype=dtype)
    with h5py.File(out) as file:
        assert h5py.check_enum_dtype(file["cast"].dtype) == {"OFF": 0, "ON": 5}


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_fixed_text_becomes_text_of_any_length(out, form, order, compression):
    """HDF5 has no other for unicode; every reader sees plain strings."""
    values = np.array(["a", "", "日本語", "éé", "longer", "x", "y"], f"{order}U6")
    lazyio.to_hdf5(forms(values)[form], out, "x", chunks=4, compression=compression)
    with h5py.File(out) as file:
        assert h5py.check_string_dtype(file["x"].dtype) == ("utf-8", None)
        assert file["x"].asstr()[:].tolist() == values.tolist()
        assert file["x"].compression == compression
    with netCDF4.Dataset(out) as file:
        assert file["x"][:].tolist() == values.tolist()


UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "25s"]


@pytest.mark.parametrize("form", ["array", "graph"])
@pytest.mark.parametrize("unit", UNITS)
def test_dates_are_cf(out, unit, form):
    """Xarray and netCDF's own decoding read them, NaT too."""
    days = ["2001-02-03", "NaT", "1960-01-01", "1999-12-31", "2038-02-01"]
    values = np.array(days, "M8[D]").astype(f"M8[{unit}]")
    lazyio.to_hdf5(forms(values)[form], out, "t", chunks=4, dims="t")
    for engine in ("h5netcdf", "netcdf4"):
        with xr.open_dataset(out, engine=engine) as found:
            np.testing.assert_array_equal(found.t, values.astype("M8[ns]"))
    if unit == "ns":
        return  # cftime knows nothing that short.
    with netCDF4.Dataset(out) as file:
        variable = file["t"]
        first = netCDF4.num2date(variable[0], variable.units, variable.calendar)
        assert first.isoformat() == values[0].astype("M8[s]").item().isoformat()


@pytest.mark.parametrize("unit", UNITS[2:])
def test_durations_are_cf(out, unit):
    values = np.array([1, 5, -7], f"m8[{unit}]")
    values[1] = "NaT"
    lazyio.to_hdf5(values, out, "t", dims="d")
    with xr.open_dataset(out, engine="h5netcdf", decode_timedelta=True) as found:
        np.testing.assert_array_equal(found.t, values.astype("m8[ns]"))


@pytest.mark.parametrize("unit", ["m8[Y]", "m8[M]", "M8[ps]", "m8"])
def test_units_that_no_file_has_are_refused(out, unit):
    with pytest.raises(UnsupportedDtypeError, match="CF conventions cannot express"):
        lazyio.to_hdf5(np.zeros(3, unit), out)
    lazyio.to_hdf5(np.zeros(3, "M8[s]"), out, dtype="M8[ms]")
    with h5py.File(out) as file:
        assert file["data"].attrs["units"] == "milliseconds since 1970-01-01"


@pytest.mark.parametrize("form", ["array", "graph"])
def test_gaps_get_the_fill_value(out, form):
    """Numpy's own, or the one that is asked for; readers of netCDF see gaps again."""
    values = np.ma.array(np.arange(7.0), mask=[0, 1, 0, 0, 0, 0, 1])
    masked = da.from_array(values, chunks=3, asarray=False) if form == "graph" else values
    lazyio.to_hdf5(masked, out, "x", chunks=4, dims="t")
    with netCDF4.Dataset(out) as file:
        np.testing.assert_array_equal(np.ma.getmaskarray(file["x"][:]), values.mask)
    with h5py.File(out) as file:
        assert file["x"].fillvalue == file["x"].attrs["_FillValue"] == 1e20
    lazyio.to_hdf5(masked, out, "y", chunks=4, fillvalue=-9, dtype="i2")
    np.testing.assert_array_equal(read(out, "y"), values.filled(-9))
    with h5py.File(out) as file:
        assert file["y"].attrs["_FillValue"] == -9
        assert file["y"].dtype == "i2"


def test_gaps_in_dates_are_no_time(out):
    days = np.ma.array(["2001-01-01", "2001-01-02"], "M8[D]", mask=[0, 1])
    lazyio.to_hdf5(days, out, "t", dims="t")
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert np.isnat(found.t[1])
        assert found.t[0] == days[0]


@pytest.mark.parametrize(
    ("dtype", "match"),
    [
        ([("t", "M8[s]")], "HDF5 has no type for dtype"),
        (object, "Python objects"),
        ([("a", object)], "Python objects"),
    ],
)
def test_elements_without_a_place_are_refused(out, dtype, match):
    with pytest.raises(UnsupportedDtypeError, match=match):
        lazyio.to_hdf5(np.zeros(3, dtype), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("dtype", "fillvalue", "stored"),
    [
        ("f4", np.nan, np.float32(np.nan)),
        ("i2", -1, -1),
        ("?", True, True),
        ("c8", 1j, 1j),
        ("S3", b"abc", b"abc"),
        ("M8[s]", np.datetime64("1970-01-02"), 86400),
        ("M8[s]", np.datetime64("NaT", "s"), np.iinfo("i8").min),
        ("m8[ms]", np.timedelta64(2, "s"), 2000),
        ([("a", "i2"), ("b", "f4")], (1, 2.0), (1, 2.0)),
    ],
)
def test_fill_values(out, dtype, fillvalue, stored):
    """What was never written reads as the fill value, in the elements that are stored."""
    lazyio.to_hdf5(np.zeros(3, dtype), out, fillvalue=fillvalue, maxshape=(None,), chunks=(3,))
    with h5py.File(out, "r+") as file:
        file["data"].resize((5,))
        found = file["data"][4]
        wanted = np.array(stored, file["data"].dtype)
    np.testing.assert_array_equal(np.asarray(found), wanted)


@pytest.mark.parametrize(
    ("dtype", "fillvalue"), [("i2", 1e6), ("i2", 0.5), ("u1", -1), ("S2", b"abc"), ("i4", "a")]
)
def test_fill_values_that_are_none(out, dtype, fillvalue):
    with pytest.raises(OptionError, match="is no value of dtype"):
        lazyio.to_hdf5(np.zeros(3, dtype), out, fillvalue=fillvalue)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (997,), (13, 17, 3), (1,) * 8, (2,) * 8, (3, 0)])
@pytest.mark.parametrize("form", ["array", "graph"])
def test_one_run_without_chunks(out, shape, form):
    """``chunks=None`` is contiguous, whatever the shape and the blocks."""
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape)
    data = da.from_array(values, chunks=2) + np.int32(0) if form == "graph" else values
    lazyio.to_hdf5(data, out, chunks=None)
    with h5py.File(out) as file:
        assert file["data"].chunks is None
        assert file["data"].dtype == "i4"
        np.testing.assert_array_equal(file["data"][()], values)


def test_one_run_has_neither_filters_nor_room(out):
    for options in ({"compression": "gzip"}, {"shuffle": True}, {"maxshape": (None,)}):
        with pytest.raises(OptionError, match="chunks=None stores one run"):
            lazyio.to_hdf5(np.ones(3), out, chunks=None, **options)


@pytest.mark.parametrize(
    ("shape", "maxshape", "found"),
    [
        ((5, 4), (None, 4), (None, 4)),
        ((5, 4), True, (None, None)),
        ((0, 4), (None, 4), (None, 4)),
        ((0, 0), (None, 7), (None, 7)),
        ((5,), 9, (9,)),
        ((5,), [np.int64(5)], (5,)),
    ],
)
def test_room_to_grow(out, shape, maxshape, found):
    lazyio.to_hdf5(np.ones(shape), out, maxshape=maxshape, compression="gzip")
    with h5py.File(out, "r+") as file:
        assert file["data"].maxshape == found
        assert file["data"].chunks is not None
        grown = tuple(
            n + 3 if bound is None else bound for n, bound in zip(shape, found, strict=True)
        )
        file["data"].resize(grown)


@pytest.mark.parametrize("maxshape", [(3, 4), (None,), (None, 4, 5), "5", (None, 4.0), (-1, 4)])
def test_room_that_is_none(out, maxshape):
    with pytest.raises(OptionError, match=r"maxshape=.*does not hold shape \(5, 4\)"):
        lazyio.to_hdf5(np.ones((5, 4)), out, maxshape=maxshape)


def test_text_of_any_length_takes_no_checksum(out):
    """As HDF5 has it; the error says what to leave out."""
    with pytest.raises(OptionError, match="text of any length takes few filters"):
        lazyio.to_hdf5(np.array(["a", "b"]), out, fletcher32=True)
