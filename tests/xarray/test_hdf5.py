"""Datasets to netCDF-4 files and back, beside h5netcdf and the netCDF library."""

import io
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import cftime
import dask.array as da
import h5py
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import (
    BlockError,
    DatasetError,
    OptionError,
    SourceChangedError,
    TargetExistsError,
    UnknownNameError,
)
from lazyio.xarray.contents import in_blocks

pytest.importorskip("h5netcdf")


def days(start: str, n_days: int, *, seed: int = 0) -> xr.Dataset:
    """Return some days of a field, with coordinates and a variable that has no time."""
    values = np.random.default_rng(seed).random((n_days, 5, 4))
    return xr.Dataset(
        {
            "t2m": (("time", "y", "x"), values, {"units": "K"}),
            "mask": (("y", "x"), np.eye(5, 4) > 0),
            "height": 2.0,
        },
        coords={
            "time": pd.date_range(start, periods=n_days),
            "x": np.arange(4) * 0.5,
            "station": ("y", ["a", "bé", "c", "", "longer"]),
        },
        attrs={"title": "days", "n": 3},
    )


def read_by_all(path: Path, **options: Any) -> list[xr.Dataset]:
    """Return a file as each reader gives it."""
    found = []
    for engine in ("h5netcdf", "netcdf4", "lazyio"):
        with xr.open_dataset(path, engine=engine, **options) as dataset:
            found.append(dataset.load())
    return found


@pytest.mark.parametrize("chunked", [False, True])
def test_every_reader_finds_what_was_written(tmp_path: Path, chunked: bool) -> None:
    dataset = days("2026-01-01", 30)
    path = tmp_path / "x.nc"
    report = (dataset.chunk(time=7) if chunked else dataset).lazyio.to_hdf5(path)
    assert set(report.keys) == set(dataset.variables)
    for found in read_by_all(path):
        xr.testing.assert_identical(found, dataset)
    assert lazyio.verify(path).status == "ok"


OF_EVERY_KIND = {
    "int8": np.arange(-3, 3, dtype="i1"),
    "uint64": np.arange(6, dtype="u8"),
    "float32": np.array([0, np.nan, np.inf, -1, 2, 3], "f4"),
    "big-endian": np.arange(6, dtype=">f8"),
    "bool": np.arange(6) % 2 > 0,
    "complex": np.arange(6) * (1 + 2j),
    "text": np.array(["a", "", "bé", "x" * 100, "d", "e"]),
    "bytes": np.array([b"a", b"bc", b"", b"d", b"e", b"f"]),
    "times": pd.date_range("2026-01-01", periods=6, freq="h").values,
    "durations": pd.timedelta_range("1s", periods=6).values,
}


@pytest.mark.parametrize("kind", OF_EVERY_KIND)
@pytest.mark.parametrize("chunked", [False, True])
def test_elements_of_every_kind(tmp_path: Path, kind: str, chunked: bool) -> None:
    dataset = xr.Dataset({"x": ("n", OF_EVERY_KIND[kind])})
    if chunked and dataset.x.dtype.kind != "O":
        dataset = dataset.chunk(n=4)
    path = tmp_path / "x.nc"
    dataset.lazyio.to_hdf5(path)
    for engine in ("h5netcdf", "lazyio"):
        with xr.open_dataset(path, engine=engine, decode_timedelta=True) as found:
            xr.testing.assert_equal(found.load(), dataset.load())


def test_times_of_cftime(tmp_path: Path) -> None:
    times = xr.date_range("2000-01-01", periods=8, calendar="360_day", use_cftime=True)
    dataset = xr.Dataset({"x": ("time", np.arange(8.0))}, coords={"time": times})
    dataset.lazyio.to_hdf5(tmp_path / "x.nc", unlimited_dims=["time"])
    later = dataset.assign_coords(time=times.shift(8, "D"))
    later.lazyio.to_hdf5(tmp_path / "x.nc", append_dim="time")
    with xr.open_dataset(tmp_path / "x.nc", engine="netcdf4") as found:
        assert found.sizes["time"] == 16
        assert found.time.values[-1] == cftime.Datetime360Day(2000, 1, 16)


def test_what_variables_share_is_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def load(block_info: Any = None) -> Any:
        calls.append(1)
        return np.ones((10, 4))

    shared = da.map_blocks(load, chunks=((10,) * 3, (4,)), dtype="f8", meta=np.empty((0, 0)))
    dataset = xr.Dataset({"a": (("t", "x"), shared + 1), "b": (("t", "x"), shared * 2)})
    dataset.lazyio.to_hdf5(tmp_path / "x.nc")
    assert len(calls) == 3


def failing(n: int = 40) -> xr.Dataset:
    """Return a Dataset of which a block raises."""

    def load(block: Any, block_info: Any = None) -> Any:
        if block_info[0]["chunk-location"][0] == 2:
            raise ValueError("no such data")
        return block

    data = da.ones((n, 4), chunks=(10, 4)).map_blocks(load, dtype="f8", meta=np.empty((0, 0)))
    return xr.Dataset({"good": ("t", np.arange(n)), "bad": (("t", "x"), data)})


@pytest.mark.parametrize("engine", [False, True])
def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, engine: bool) -> None:
    path = tmp_path / "x.nc"
    days("2026-01-01", 3).lazyio.to_hdf5(path)
    before = path.read_bytes()
    write = partial(failing().to_netcdf, engine="lazyio")
    with pytest.raises(BlockError):
        (write if engine else failing().lazyio.to_hdf5)(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["x.nc"]


def test_an_encoding_that_fails_publishes_nothing(tmp_path: Path) -> None:
    dataset = xr.Dataset(
        {"good": ("t", np.arange(3)), "bad": ("t", np.array([{}, 1, "a"], object))}
    )
    with pytest.raises(Exception, match="bad"):
        dataset.to_netcdf(tmp_path / "x.nc", engine="lazyio")
    assert not list(tmp_path.iterdir())


def test_xarray_writes_to_memory_and_several_files(tmp_path: Path) -> None:
    dataset = days("2026-01-01", 3)
    content = dataset.to_netcdf(engine="lazyio")
    with xr.open_dataset(bytes(content), engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), dataset)
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    xr.save_mfdataset([dataset, dataset], paths, engine="lazyio")
    for path in paths:
        with xr.open_dataset(path, engine="netcdf4") as found:
            xr.testing.assert_identical(found.load(), dataset)


def held_in(buffer: io.BytesIO) -> xr.Dataset:
    """Return what a file in memory holds."""
    with xr.open_dataset(io.BytesIO(buffer.getvalue()), engine="h5netcdf") as found:
        return found.load()


@pytest.mark.parametrize("engine", [False, True])
def test_files_in_memory_are_replaced_and_added_to(engine: bool) -> None:
    def write(dataset: xr.Dataset, **options: Any) -> None:
        if engine:
            dataset.to_netcdf(buffer, engine="lazyio", **options)
        else:
            report = dataset.lazyio.to_hdf5(buffer, **options)
            assert report.path == "the HDF5 file in memory"

    buffer, first, second = io.BytesIO(), days("2026-01-01", 3), days("2026-01-01", 3, seed=1)
    write(first)
    write(second)
    xr.testing.assert_identical(held_in(buffer), second)
    write(first[["t2m"]].rename(t2m="more"), mode="a")
    xr.testing.assert_identical(held_in(buffer), second.assign(more=first.t2m))
    before = buffer.getvalue()
    with pytest.raises(TargetExistsError, match="makes only new files"):
        write(first, mode="w-")
    with pytest.raises(OptionError, match="'zlibb'"):
        write(first, encoding={"t2m": {"zlibb": True}})
    assert buffer.getvalue() == before


def test_files_in_memory_grow() -> None:
    buffer, whole = io.BytesIO(), days("2026-01-01", 9)
    whole.isel(time=slice(4)).lazyio.to_hdf5(buffer, unlimited_dims=["time"])
    whole.isel(time=slice(4, 9)).lazyio.to_hdf5(buffer, append_dim="time")
    xr.testing.assert_identical(held_in(buffer), whole)
    part = (whole[["t2m"]].isel(time=slice(2, 5)) * 2).drop_vars("station")
    part.lazyio.to_hdf5(buffer, region="auto")
    np.testing.assert_array_equal(held_in(buffer).t2m[2:5], part.t2m)
    lazyio.to_hdf5(whole, buffer, mode="w")
    with pytest.raises(OptionError, match="give a path, not a BytesIO"):
        whole.lazyio.to_hdf5(buffer, compute=False)
    with pytest.raises(OptionError, match="give a path, not a BytesIO"):
        whole.lazyio.to_hdf5(buffer, resume=True)
    later = io.BytesIO()
    delayed = whole.chunk(time=2).to_netcdf(later, engine="lazyio", compute=False)
    assert held_in(later).t2m.isnull().all()
    delayed.compute()
    xr.testing.assert_identical(held_in(later), whole)


def test_file_objects_are_written_once(tmp_path: Path) -> None:
    dataset = days("2026-01-01", 3)
    with (tmp_path / "x.nc").open("wb") as file:
        dataset.to_netcdf(file, engine="lazyio")
        with pytest.raises(OptionError, match="give a path or a BytesIO"):
            dataset.to_netcdf(file, engine="lazyio", mode="a")
    with xr.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), dataset)


@pytest.mark.parametrize("engine", [False, True])
def test_compute_false_makes_the_structure(tmp_path: Path, engine: bool) -> None:
    dataset = days("2026-01-01", 20)
    lazy = dataset.chunk(time=5)
    lazy["time"] = dataset.time
    path = tmp_path / "x.nc"
    if engine:
        later = lazy.to_netcdf(path, engine="lazyio", compute=False)
    else:
        later = lazy.lazyio.to_hdf5(path, compute=False)
    with xr.open_dataset(path, engine="netcdf4") as found:
        xr.testing.assert_identical(found.time.load(), dataset.time)
        assert np.isnan(found.t2m.values).all()
    later.compute()
    with xr.open_dataset(path, engine="netcdf4") as found:
        xr.testing.assert_identical(found.load(), dataset)
    assert lazyio.verify(path).status == "ok"


def test_chunks_are_those_of_encoding_dask_or_the_plan(tmp_path: Path) -> None:
    dataset = xr.Dataset({"a": (("t", "x"), np.ones((2000, 300)))})
    path = tmp_path / "x.nc"

    def chunks(given: xr.Dataset, **options: Any) -> Any:
        given.lazyio.to_hdf5(path, **options)
        with h5py.File(path) as file:
            return file["a"].chunks

    assert chunks(dataset.chunk(t=500, x=100)) == (500, 100)
    assert chunks(dataset, encoding={"a": {"chunksizes": (100, 300)}}) == (100, 300)
    assert chunks(dataset.chunk(t=500), chunks={"t": 250, "x": 300}) == (250, 300)
    # Larger than a chunk is never contiguous; one chunk that no filter goes over is.
    assert chunks(dataset) is not None
    assert chunks(dataset.isel(t=slice(10))) is None
    assert chunks(dataset.isel(t=slice(10)), unlimited_dims=["t"]) is not None
    series = chunks(dataset.chunk(t=10), access=[{"x": 1}])
    assert series is not None
    assert series[0] == 2000


@pytest.mark.parametrize(
    ("encoding", "filters"),
    [
        ({"zlib": True, "complevel": 2, "shuffle": True}, ["shuffle", "deflate"]),
        ({"compression": "gzip", "compression_opts": 3}, ["deflate"]),
        ({"compression": "zstd", "compression_opts": 3}, ["zstd"]),
        ({"zstd": True, "complevel": 3}, ["zstd"]),
        ({"compression": "blosc", "compression_opts": ("lz4", 5, "bit")}, ["blosc"]),
        ({"compression": "blosc_lz4", "complevel": 5, "blosc_shuffle": 1}, ["blosc"]),
        ({"compression": "lzf", "fletcher32": True}, ["lzf", "fletcher32"]),
        ({"compression": "bitshuffle"}, ["bitshuffle"]),
    ],
)
def test_codecs_by_any_of_their_names(
    tmp_path: Path, encoding: dict[str, Any], filters: list[str]
) -> None:
    dataset = xr.Dataset({"a": ("t", np.arange(5000.0))}).chunk(t=1000)
    path = tmp_path / "x.nc"
    report = dataset.lazyio.to_hdf5(path, encoding={"a": encoding})
    assert report.engine == "direct"
    ids = {"shuffle": 2, "deflate": 1, "fletcher32": 3, "lzf": 32000}
    ids |= {"blosc": 32001, "bitshuffle": 32008, "zstd": 32015}
    with h5py.File(path) as file:
        properties = file["a"].id.get_create_plist()
        found = [properties.get_filter(at)[0] for at in range(properties.get_nfilters())]
    assert found == [ids[name] for name in filters]
    with xr.open_dataset(path, engine="lazyio") as back:
        xr.testing.assert_equal(back.load(), dataset.load())


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    chunk=st.integers(1, 7),
    blocks=st.integers(1, 9),
    is_compressed=st.booleans(),
)
def test_appends_are_what_concat_gives(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    chunk: int,
    blocks: int,
    is_compressed: bool,
) -> None:
    path = tmp_path_factory.mktemp("append") / "x.nc"
    parts, start = [], pd.Timestamp("2026-01-01")
    for seed, length in enumerate(lengths):
        parts.append(days(str(start), length, seed=seed))
        start += pd.Timedelta(length, "D")
    encoding = {"t2m": {"chunksizes": (chunk, 5, 4), "zlib": is_compressed}}
    parts[0].lazyio.to_hdf5(path, unlimited_dims=["time"], encoding=encoding)
    for part in parts[1:]:
        part.chunk(time=blocks).lazyio.to_hdf5(path, append_dim="time")
    expected = xr.concat(parts, "time", data_vars="minimal", coords="minimal")
    for found in read_by_all(path):
        xr.testing.assert_identical(found, expected)
    assert lazyio.verify(path).status == "ok"


def test_all_that_differs_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    days("2026-01-01", 3).lazyio.to_hdf5(path, unlimited_dims=["time"])
    before = path.read_bytes()
    later = days("2026-01-04", 2)
    wrong = later.assign(height=3.0, new=("time", [1, 2])).assign_coords(x=later.x + 1)
    wrong = wrong.assign_coords(time=later.time + np.timedelta64(90, "m"))
    with pytest.raises(OptionError) as caught:
        wrong.lazyio.to_hdf5(path, append_dim="time")
    for text in (
        "'height' has other values",
        "'new' is not in the file",
        "'x' has other",
        "'time'",
    ):
        assert text in str(caught.value)
    with pytest.raises(OptionError, match="'t2m' has that dimension in the file, and is not"):
        later.drop_vars("t2m").lazyio.to_hdf5(path, append_dim="time")
    with pytest.raises(OptionError, match="no dimension of"):
        later.lazyio.to_hdf5(path, append_dim="depth")
    assert path.read_bytes() == before


@pytest.mark.parametrize("chunked", [False, True])
def test_values_that_have_no_form_in_the_file_are_refused(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "x.nc"
    packed = {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -32768}
    dataset = xr.Dataset({"a": ("t", [1.0, 2.5, np.nan])})
    dataset.lazyio.to_hdf5(path, unlimited_dims=["t"], encoding={"a": packed})
    good = xr.Dataset({"a": ("t", [3.004, np.nan])})
    (good.chunk(t=1) if chunked else good).lazyio.to_hdf5(path, append_dim="t")
    with xr.open_dataset(path, engine="netcdf4") as found:
        np.testing.assert_allclose(found.a, [1, 2.5, np.nan, 3.0, np.nan])
    bad = xr.Dataset({"a": ("t", [1.0, 400.0])})
    with pytest.raises((BlockError, OptionError), match="400"):
        (bad.chunk(t=1) if chunked else bad).lazyio.to_hdf5(path, append_dim="t")
    with xr.open_dataset(path, engine="netcdf4") as found:
        assert found.sizes["t"] == 5


def test_dates_of_another_calendar_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    for calendar in ("noleap", "360_day"):
        times = xr.date_range("2001-01-01", periods=3, calendar=calendar, use_cftime=True)
        dataset = xr.Dataset({"x": ("time", np.arange(3.0))}, coords={"time": times})
        if calendar == "noleap":
            dataset.lazyio.to_hdf5(path, unlimited_dims=["time"])
    with pytest.raises(OptionError, match="calendar is 'noleap'"):
        dataset.lazyio.to_hdf5(path, append_dim="time")


def test_regions_by_place_and_by_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    dataset = days("2026-01-01", 12)
    dataset.lazyio.to_hdf5(path, encoding={"t2m": {"chunksizes": (5, 5, 4), "zlib": True}})
    expected = dataset.copy(deep=True)
    part = days("2026-01-04", 3, seed=1)[["t2m"]].drop_vars(["x", "station"])
    part.drop_vars("time").lazyio.to_hdf5(path, region={"time": slice(1, 4)})
    expected["t2m"][1:4] = part.t2m.values
    part.lazyio.to_hdf5(path, region="auto")
    expected["t2m"][3:6] = part.t2m.values
    for found in read_by_all(path):
        xr.testing.assert_identical(found, expected)
    with pytest.raises(OptionError, match="not a run"):
        part.isel(time=[0, 2]).lazyio.to_hdf5(path, region="auto")
    with pytest.raises(OptionError, match="leave them out"):
        dataset.isel(time=slice(2)).lazyio.to_hdf5(path, region={"time": slice(0, 2)})


def test_a_tree_becomes_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    tree = xr.DataTree.from_dict(
        {"/": days("2026-01-01", 3)[["height"]], "/a": days("2026-01-01", 3), "/a/b": xr.Dataset()}
    )
    report = tree.lazyio.to_hdf5(path, encoding={"/a": {"t2m": {"zlib": True}}})
    assert "a/t2m" in report.keys
    assert set(lazyio.plan(tree)) == set(report.keys)
    with xr.open_datatree(path, engine="lazyio") as opened:
        xr.testing.assert_identical(opened.load(), tree)
    with xr.open_dataset(path, engine="netcdf4", group="a") as found:
        xr.testing.assert_identical(found.load(), tree["a"].to_dataset())
    groups = xr.open_groups(path, engine="lazyio")
    assert set(groups) == {"/", "/a", "/a/b"}
    for group in groups.values():
        group.close()


def test_other_engines_open_the_tree_as_well(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    days("2026-01-01", 3).lazyio.to_hdf5(path)
    with xr.open_datatree(path, engine="netcdf4") as tree:
        xr.testing.assert_identical(tree.to_dataset().load(), days("2026-01-01", 3))


def test_netcdf_extends_what_lazyio_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    days("2026-01-01", 3).lazyio.to_hdf5(path, unlimited_dims=["time"])
    with netCDF4.Dataset(path, "a") as file:
        assert file.dimensions["time"].isunlimited()
        file["t2m"][3] = 7.0
        file["time"][3] = 3
        file.createVariable("more", "f4", ("time", "x"))[:] = 1
    days("2026-01-05", 2).assign(more=(("time", "x"), np.ones((2, 4), "f4"))).lazyio.to_hdf5(
        path, append_dim="time"
    )
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found.sizes["time"] == 6
        assert (found.t2m[3] == 7).all()


def test_the_same_call_resumes_and_is_done(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    lazy = days("2026-01-01", 20).chunk(time=5)
    first = lazy.lazyio.to_hdf5(path, resume=True)
    assert first.n_resumed == 0
    again = lazy.lazyio.to_hdf5(path, resume=True)
    assert again.n_resumed == again.n_blocks == first.n_blocks


def test_functions_take_datasets(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    dataset = days("2026-01-01", 20)
    lazyio.to_hdf5(dataset.chunk(time=10), path, compression="gzip", maxshape={"time": None})
    with pytest.raises(TargetExistsError):
        lazyio.to_hdf5(dataset, path)
    lazyio.to_hdf5(days("2026-01-21", 2), path, append_dim="time")
    lazyio.to_hdf5(dataset.t2m, path, "group/field")
    with xr.open_dataset(path, engine="netcdf4") as found:
        assert found.sizes["time"] == 22
        assert found.t2m.encoding["zlib"]
    with xr.open_dataset(path, engine="netcdf4", group="group") as found:
        xr.testing.assert_equal(found.field.load(), dataset.t2m)
    assert lazyio.plan(dataset)["t2m"].shape == (20, 5, 4)
    with pytest.raises(OptionError, match="encoding="):
        lazyio.to_hdf5(dataset, path, dtype="f4")


def test_bad_input_names_the_variable(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    dataset = days("2026-01-01", 3)
    with pytest.raises(UnknownNameError, match="nothing"):
        dataset.lazyio.to_hdf5(path, encoding={"nothing": {}})
    with pytest.raises(ValueError, match="unexpected encoding"):
        dataset.lazyio.to_hdf5(path, encoding={"t2m": {"colour": "red"}})
    with pytest.raises(OptionError, match="'t2m': encoding"):
        dataset.lazyio.to_hdf5(path, encoding={"t2m": {"significant_digits": 2}})
    with pytest.raises(OptionError, match="access names"):
        dataset.lazyio.to_hdf5(path, access=[{"depth": 1}])
    with pytest.raises(OptionError, match="format"):
        dataset.to_netcdf(path, engine="lazyio", format="NETCDF3_64BIT")
    assert not path.exists()


def test_reading_is_lazy_and_of_one_state(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    dataset = xr.Dataset({"a": (("t", "x"), np.arange(4e5).reshape(2000, 200))})
    dataset.lazyio.to_hdf5(path, encoding={"a": {"chunksizes": (100, 50), "zlib": True}})
    with xr.open_dataset(path, engine="lazyio", chunks={}) as found:
        assert found.chunks["t"] == lazyio.open(path, "a").chunks[0]
        assert found.a.encoding["chunksizes"] == (100, 50)
        with pickle.loads(pickle.dumps(found)) as sent:
            xr.testing.assert_equal(sent.load(), dataset)
    with xr.open_dataset(path, engine="lazyio") as found:
        np.testing.assert_array_equal(found.a[::-7, 3].values, dataset.a[::-7, 3].values)
        picked = found.a.isel(t=[5, 1, 5], x=[0, 9]).values
        np.testing.assert_array_equal(picked, dataset.a.isel(t=[5, 1, 5], x=[0, 9]).values)
    with xr.open_dataset(path, engine="lazyio") as other:
        (dataset + 1).lazyio.to_hdf5(path)
        with pytest.raises(SourceChangedError):
            other.a.load()


def test_plain_hdf5_has_phony_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.ones((3, 4))
        file["g/b"] = np.ones(3)
    with xr.open_dataset(path, engine="lazyio", drop_variables="nothing") as found:
        assert dict(found.sizes) == {"phony_dim_0": 3, "phony_dim_1": 4}


def test_no_file_is_taken_that_nobody_asked_for() -> None:
    engine = xr.backends.list_engines()["lazyio"]
    assert not engine.guess_can_open("x.nc")
    assert not engine.guess_can_open("x.zarr")


SCALARS = {
    "date": np.datetime64("2026-01-01T06", "ns"),
    "missing": np.datetime64("NaT", "ns"),
    "duration": np.timedelta64(90, "m").astype("m8[ns]"),
    "cftime": cftime.DatetimeNoLeap(2026, 1, 1),
    "text": "abc",
    "flag": True,
}


@pytest.mark.parametrize("kind", SCALARS)
def test_scalar_coordinates_stay_as_a_file_grows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.nc"
    dataset = days("2026-01-01", 2).assign_coords(reference=SCALARS[kind])
    dataset.lazyio.to_hdf5(path, unlimited_dims=["time"])
    dataset.lazyio.to_hdf5(path, append_dim="time")
    with xr.open_dataset(path, engine="h5netcdf", decode_timedelta=True) as found:
        assert found.sizes["time"] == 4
        xr.testing.assert_identical(found.reference.load(), dataset.reference)


def test_a_fixed_dimension_says_how_it_could_grow(tmp_path: Path) -> None:
    dataset = days("2026-01-01", 2)
    dataset.lazyio.to_hdf5(tmp_path / "x.nc")
    with pytest.raises(
        OptionError, match=r"\['t2m', 'time'\] cannot grow.* unlimited_dims=\['time"
    ):
        dataset.lazyio.to_hdf5(tmp_path / "x.nc", append_dim="time")


def test_a_place_is_not_guessed_along_a_dimension_without_coordinate(tmp_path: Path) -> None:
    whole = xr.Dataset({"a": (("t", "x"), np.zeros((6, 10)))}, coords={"t": np.arange(6)})
    whole.lazyio.to_hdf5(tmp_path / "x.nc")
    part = xr.Dataset({"a": (("t", "x"), np.ones((2, 10)))}, coords={"t": [2, 3]})
    part.lazyio.to_hdf5(tmp_path / "x.nc", region="auto")
    with xr.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as found:
        assert found.a.sum("x").values.tolist() == [0, 0, 10, 10, 0, 0]
    with pytest.raises(
        OptionError, match="'x' has 3 elements here and 10 there, and no coordinate"
    ):
        part.isel(x=slice(3)).lazyio.to_hdf5(tmp_path / "x.nc", region="auto")


def test_what_xarray_refuses_is_an_error_of_lazyio(tmp_path: Path) -> None:
    path, dataset = tmp_path / "x.nc", days("2026-01-01", 2)
    with pytest.raises(OptionError, match=r"variable 't2m': unexpected encoding .*'zlibb'"):
        dataset.lazyio.to_hdf5(path, encoding={"t2m": {"zlibb": True}})
    with pytest.raises(OptionError, match=r"variable 't2m': unexpected encoding .*'chunksizes'"):
        dataset.lazyio.to_zarr(path, encoding={"t2m": {"chunksizes": (1, 5, 4)}})
    with pytest.raises(OptionError, match="Unlimited dimension"):
        dataset.lazyio.to_hdf5(path, unlimited_dims=["tim"])
    with pytest.raises(DatasetError, match="Invalid value for attr"):
        dataset.assign_attrs(a=object()).lazyio.to_hdf5(path)
    with pytest.raises(OptionError, match="unable to infer dtype on variable 'o'"):
        xr.Dataset({"o": ("x", np.array([1, "a"], object))}).lazyio.to_hdf5(path)
    assert not path.exists()


def test_reports_name_the_variables_of_their_advice(tmp_path: Path) -> None:
    dataset = days("2026-01-01", 40)[["t2m"]].assign(
        other=lambda one: one.t2m, one=("x", np.ones(4))
    )
    report = dataset.lazyio.to_hdf5(tmp_path / "x.nc", chunks={"time": 35})
    assert "padded-chunks" in dict(report.advice)
    assert "advice: t2m, time, other: 43% of the stored chunks is padding" in str(report)


def test_numbers_with_other_units_are_not_appended(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    days("2026-01-01", 3).lazyio.to_hdf5(path, unlimited_dims=["time"])
    later = tmp_path / "later.nc"
    days("2027-06-01", 3).lazyio.to_hdf5(later)
    raw = xr.load_dataset(later, engine="lazyio", decode_times=False)
    with pytest.raises(OptionError, match=r"'time': it holds times in the file"):
        raw.lazyio.to_hdf5(path, append_dim="time")
    other = days("2026-01-04", 1)
    other.t2m.attrs["units"] = "degC"
    with pytest.raises(OptionError, match=r"'t2m': its attribute 'units' is 'K'"):
        other.lazyio.to_hdf5(path, append_dim="time")


@pytest.mark.parametrize("chunked", [False, True])
def test_integers_and_missing_times_come_back_exactly(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "x.nc"
    first = xr.Dataset({"n": ("t", np.array([1], "i8")), "when": ("t", pd.to_datetime(["2026"]))})
    first.when.encoding = {"units": "days since 2026-01-01", "dtype": "i4"}
    first.lazyio.to_hdf5(path, unlimited_dims=["t"])
    large = xr.Dataset(
        {"n": ("t", np.array([2**63 + 2], "u8")), "when": ("t", pd.to_datetime(["2027"]))}
    )
    missing = xr.Dataset({"n": ("t", [5]), "when": ("t", pd.to_datetime([None]))})
    for one in (large, missing):
        before = path.read_bytes()
        with pytest.raises((OptionError, BlockError), match="has no form in the file"):
            (one.chunk() if chunked else one).lazyio.to_hdf5(path, append_dim="t")
        assert path.read_bytes() == before


def test_bounds_are_appended_in_the_units_of_what_they_bound(tmp_path: Path) -> None:
    def month(start: str) -> xr.Dataset:
        time = pd.date_range(start, periods=3)
        bounds = np.stack([time, time + pd.Timedelta("1D")], 1)
        found = xr.Dataset({"time_bnds": (("time", "bnds"), bounds)}, coords={"time": time})
        found.time.attrs["bounds"] = "time_bnds"
        return found

    path = tmp_path / "x.nc"
    first, second = month("2026-01-01"), month("2026-02-01")
    first.time.encoding["units"] = "hours since 2020-01-01"
    first.to_netcdf(path, engine="netcdf4", unlimited_dims=["time"])
    second.lazyio.to_hdf5(path, append_dim="time")
    with xr.open_dataset(path, engine="netcdf4") as found:
        xr.testing.assert_equal(found.load(), xr.concat([first, second], "time"))


@pytest.mark.parametrize("engine", [False, True])
def test_variables_that_exist_get_other_attributes(tmp_path: Path, engine: bool) -> None:
    path = tmp_path / "x.nc"
    days("2026-01-01", 3).lazyio.to_hdf5(path, digests=True)
    other = days("2027-06-01", 3, seed=1)
    other.t2m.attrs["units"] = "degC"
    if engine:
        other.to_netcdf(path, mode="a", engine="lazyio")
    else:
        other.lazyio.to_hdf5(path, mode="a")
    for found in read_by_all(path):
        xr.testing.assert_identical(found, other)
    assert lazyio.verify(path).status == "ok"
    marked = other[["t2m"]].astype("f4")
    with pytest.raises(OptionError, match=r"'t2m': _FillValue=-1.0 was asked for"):
        marked.lazyio.to_hdf5(path, mode="a", encoding={"t2m": {"_FillValue": -1.0}})


def test_a_variable_that_lies_in_a_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    values = np.random.default_rng(0).random((400, 500))
    packed = {"a": {"dtype": "i2", "scale_factor": 1e-4, "_FillValue": -1, "zlib": True}}
    xr.Dataset({"a": (("t", "x"), values)}).lazyio.to_hdf5(path, encoding=packed)
    with xr.open_dataset(path, engine="h5netcdf") as found:
        found.lazyio.to_hdf5(tmp_path / "y.nc", unlimited_dims=["t"])
        found.isel(t=slice(10)).lazyio.to_hdf5(tmp_path / "y.nc", append_dim="t")
        found.lazyio.to_zarr(tmp_path / "y.zarr")
        assert not found.variables["a"]._in_memory
        expected = xr.concat([found, found.isel(t=slice(10))], "t").load()
        for other in read_by_all(tmp_path / "y.nc"):
            xr.testing.assert_equal(other, expected)
        with xr.open_zarr(tmp_path / "y.zarr") as other:
            xr.testing.assert_equal(other.load(), found.load())


def test_a_variable_in_a_file_is_cut_by_its_chunks_and_not_by_a_readers_blocks(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.nc"
    dataset = xr.Dataset({"a": (("t", "x"), np.zeros((3000, 500)))})
    dataset.lazyio.to_hdf5(path, encoding={"a": {"chunksizes": (100, 500)}})
    with xr.open_dataset(path, engine="lazyio") as found:
        assert found.a.encoding["preferred_chunks"]["t"] > 200
        for variable in (found.a.variable, found.a.variable.transpose()):
            blocks = in_blocks(variable, "16 MiB")
            assert blocks.chunksizes["t"][0] in (100, 200)
            assert blocks.chunksizes["x"] == (500,)


def test_chunks_by_the_call_come_before_those_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    dataset = xr.Dataset({"a": (("x", "y"), np.random.default_rng(0).random((400, 400)))})
    dataset.lazyio.to_hdf5(path, encoding={"a": {"chunksizes": (10, 400)}})

    def chunks(**options: Any) -> tuple[int, ...]:
        with xr.open_dataset(path, engine="lazyio", chunks={}) as found:
            found.lazyio.to_hdf5(tmp_path / "y.nc", **options)
            found.lazyio.to_zarr(tmp_path / "y.zarr", mode="w", **options)
        with h5py.File(tmp_path / "y.nc") as file:
            own = file["a"].chunks
        if "encoding" not in options and "access" not in options:
            assert zarr.open_array(tmp_path / "y.zarr", path="a").chunks in (own, (10, 400))
        return own

    assert chunks() == (10, 400)
    assert chunks(chunks={"x": 400, "y": 10}) == (400, 10)
    assert chunks(access=[{"y": 1}])[0] == 400
    assert chunks(access=[{"y": 1}], chunks={"x": 40, "y": 40}) == (40, 40)


def test_groups_that_share_a_dimension_grow_together(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"

    def tree(start: str) -> xr.DataTree:
        dataset = days(start, 3)
        child = dataset[["t2m"]].drop_vars(["time", "x", "station"])
        return xr.DataTree.from_dict(
            {"/": dataset, "/a": child, "/b": xr.Dataset({"c": ("q", [1.0])})}
        )

    tree("2026-01-01").lazyio.to_hdf5(path, unlimited_dims=["time"])
    with pytest.raises(OptionError, match=r"/a/t2m.* have that dimension, too"):
        days("2026-01-04", 3).lazyio.to_hdf5(path, append_dim="time")
    tree("2026-01-04").lazyio.to_hdf5(path, append_dim="time")
    with xr.open_datatree(path, engine="lazyio") as found:
        assert found["a/t2m"].sizes["time"] == found.sizes["time"] == 6
        assert found["b/c"].sizes["q"] == 1
    with pytest.raises(UnknownNameError, match="unexpected encoding group"):
        tree("2026-01-01").lazyio.to_hdf5(path, encoding={"/z": {}})


def test_arguments_undo_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "x.nc"
    dataset = xr.Dataset({"a": ("x", np.arange(4000.0))})
    dataset.lazyio.to_hdf5(path, encoding={"a": {"zlib": True, "complevel": 7, "shuffle": True}})
    with xr.open_dataset(path, engine="lazyio") as found:
        for options, expected in (
            ({}, ("gzip", 7, True)),
            ({"compression": None, "shuffle": False}, (None, None, False)),
            ({"compression": "gzip"}, ("gzip", 4, True)),
        ):
            lazyio.to_hdf5(found, tmp_path / "y.nc", mode="w", **options)
            with h5py.File(tmp_path / "y.nc") as file:
                a = file["a"]
                assert (a.compression, a.compression_opts, a.shuffle) == expected


@pytest.mark.parametrize("zarr_format", [None, 3])
def test_blocks_of_months_and_seasons_are_gathered(tmp_path: Path, zarr_format: Any) -> None:
    year = pd.date_range("2026-01-01", periods=365)
    dataset = xr.Dataset({"a": ("time", np.arange(365.0))}, coords={"time": year})
    resamplers = (
        xr.groupers.TimeResampler("MS"),
        xr.groupers.SeasonResampler(["DJF", "MAM", "JJA", "SON"]),
    )
    for resampler in resamplers:
        lazy = dataset.chunk(time=resampler)
        assert len(set(lazy.a.chunks[0][:-1])) > 1
        if zarr_format is None:
            lazy.lazyio.to_hdf5(tmp_path / "x")
        else:
            lazy.lazyio.to_zarr(tmp_path / "x", mode="w", zarr_format=zarr_format)
        with xr.open_dataset(tmp_path / "x", engine="lazyio") as found:
            xr.testing.assert_equal(found.load(), dataset)


def test_arrays_of_dask_array(tmp_path: Path) -> None:
    expressions = pytest.importorskip("dask_array")
    array = expressions.ones((100, 40), chunks=(10, 40)) * 3
    dataset = xr.Dataset({"a": (("t", "x"), array)})
    assert dataset.a.chunks is not None
    dataset.lazyio.to_hdf5(tmp_path / "x.nc")
    dataset.to_netcdf(tmp_path / "y.nc", engine="lazyio")
    dataset.lazyio.to_zarr(tmp_path / "x.zarr")
    for name in ("x.nc", "y.nc", "x.zarr"):
        with xr.open_dataset(tmp_path / name, engine="lazyio") as found:
            np.testing.assert_array_equal(found.a, np.full((100, 40), 3.0))


@pytest.mark.parametrize("calendar", ["standard", "360_day"])
@pytest.mark.parametrize("engine", [False, True])
def test_times_in_blocks_have_the_dtype_that_was_asked_for(
    tmp_path: Path, calendar: str, engine: bool
) -> None:
    when = xr.date_range("2000-01-01", periods=12, calendar=calendar, use_cftime=True)
    if calendar == "standard":
        when = pd.date_range("2000-01-01", periods=12)
    encoding = {"units": "days since 1950-01-01", "calendar": calendar, "dtype": "float64"}
    dataset = xr.Dataset({"when": ("n", when, {}, encoding)})
    blocks = dataset.chunk(n=3)
    if engine:
        blocks.to_netcdf(tmp_path / "x.nc", engine="lazyio", unlimited_dims=["n"])
    else:
        blocks.lazyio.to_hdf5(tmp_path / "x.nc", unlimited_dims=["n"])
    blocks.lazyio.to_zarr(tmp_path / "x.zarr")
    blocks.lazyio.to_hdf5(tmp_path / "x.nc", append_dim="n")
    blocks.lazyio.to_zarr(tmp_path / "x.zarr", append_dim="n")
    expected = xr.concat([dataset, dataset], "n")
    for name, reader in (("x.nc", "netcdf4"), ("x.zarr", "zarr"), ("x.nc", "lazyio")):
        with xr.open_dataset(tmp_path / name, engine=reader) as found:
            assert found.when.encoding["dtype"] == "float64"
            xr.testing.assert_equal(found.load(), expected)
