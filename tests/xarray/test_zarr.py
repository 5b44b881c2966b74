"""Datasets to Zarr groups: xarray's rules, lazyio's chunks, all of a change at once."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.errors import BlockError, OptionError, SourceError, TargetError, TargetExistsError

zarr = pytest.importorskip("zarr", minversion="3")
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")


def days(start: str, n_days: int, *, seed: int = 0) -> xr.Dataset:
    """Return some days of a field, with a variable that has no time."""
    values = np.random.default_rng(seed).random((n_days, 5, 4))
    return xr.Dataset(
        {"t2m": (("time", "y", "x"), values, {"units": "K"}), "height": 2.0},
        coords={"time": pd.date_range(start, periods=n_days), "x": np.arange(4) * 0.5},
        attrs={"title": "days"},
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file of a store."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunked", [False, True])
def test_xarray_reads_what_was_written(tmp_path: Path, zarr_format: int, chunked: bool) -> None:
    dataset = days("2026-01-01", 30)
    path = tmp_path / "x.zarr"
    given_ = dataset.chunk(time=7) if chunked else dataset
    report = given_.lazyio.to_zarr(path, zarr_format=zarr_format)
    assert set(report.keys) == set(dataset.variables)
    for engine in ("zarr", "lazyio"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            with xr.open_dataset(path, engine=engine) as found:
                xr.testing.assert_identical(found.load(), dataset)
    assert lazyio.verify(path).status == "ok"
    assert [one.name for one in tmp_path.iterdir()] == ["x.zarr"]


def test_blocks_that_are_no_chunks_are_put_together(tmp_path: Path) -> None:
    dataset = days("2026-01-01", 90)
    monthly = dataset.chunk(time=(31, 28, 31))
    monthly.lazyio.to_zarr(tmp_path / "x.zarr")
    later = dataset.chunk(time=7)
    with pytest.raises(ValueError, match="overlap multiple Dask chunks"):
        later.lazyio.to_zarr(tmp_path / "y.zarr", encoding={"t2m": {"chunks": (10, 5, 4)}})
    options: dict[str, Any] = {"encoding": {"t2m": {"chunks": (10, 5, 4)}}}
    later.lazyio.to_zarr(tmp_path / "y.zarr", safe_chunks=False, **options)
    later.lazyio.to_zarr(tmp_path / "z.zarr", align_chunks=True, **options)
    for name in ("x", "y", "z"):
        with xr.open_zarr(tmp_path / f"{name}.zarr") as found:
            xr.testing.assert_identical(found.load(), dataset)


def test_shards_are_kept_on_a_round_trip(tmp_path: Path) -> None:
    dataset = xr.Dataset({"a": (("t", "x"), np.random.default_rng(0).random((64, 32)))})
    encoding = {"a": {"chunks": (8, 8), "shards": (32, 32)}}
    dataset.lazyio.to_zarr(tmp_path / "x.zarr", encoding=encoding)
    with xr.open_dataset(tmp_path / "x.zarr", engine="lazyio") as found:
        found.lazyio.to_zarr(tmp_path / "y.zarr")
    with xr.open_zarr(tmp_path / "x.zarr") as found:
        assert found.a.chunks == (8 * (8,), 4 * (8,))
        found.lazyio.to_zarr(tmp_path / "z.zarr")
    for name in "yz":
        array = zarr.open_array(tmp_path / f"{name}.zarr", path="a", mode="r")
        assert (array.chunks, array.shards) == ((8, 8), (32, 32))
        np.testing.assert_array_equal(array[...], dataset.a)


@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
def test_irregular_blocks_of_any_elements_are_put_together(tmp_path: Path) -> None:
    dates = xr.date_range("2001-01-01", periods=7, calendar="noleap", use_cftime=True)
    dataset = xr.Dataset(
        {
            "text": ("x", np.array(list("abcdefg"))),
            "dates": ("x", dates),
        }
    )
    report = dataset.chunk(x=(1, 4, 2)).lazyio.to_zarr(tmp_path / "x.zarr")
    assert report.keys == ("text", "dates")
    with xr.open_zarr(tmp_path / "x.zarr") as found:
        xr.testing.assert_equal(found.load(), dataset)


def test_bytes_that_do_not_grow_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    dataset = days("2026-01-01", 3).assign(code=("y", np.array([b"a", b"bc", b"", b"d", b"e"])))
    dataset.lazyio.to_zarr(path)
    dataset.lazyio.to_zarr(path, append_dim="time")
    with xr.open_zarr(path) as found:
        assert found.sizes["time"] == 6
        assert found.code.values.tolist() == dataset.code.values.tolist()
    other = dataset.assign(code=("y", np.array([b"a", b"bc", b"", b"d", b"f"])))
    with pytest.raises(OptionError, match="'code' has other values"):
        other.lazyio.to_zarr(path, append_dim="time")


@pytest.mark.parametrize("engine", ["h5netcdf", "lazyio"])
def test_what_lies_in_a_file_has_no_blocks_of_the_user(tmp_path: Path, engine: str) -> None:
    dataset = xr.Dataset({"a": (("t", "x"), np.random.default_rng(0).random((300, 70)))})
    encoding = {"a": {"chunksizes": (7, 9)}}
    dataset.lazyio.to_hdf5(tmp_path / "x.nc", encoding=encoding)
    with xr.open_dataset(tmp_path / "x.nc", engine=engine) as found:
        chunks = {"a": {"chunks": (100, 25)}}
        found.lazyio.to_zarr(tmp_path / "x.zarr", encoding=chunks, memory_limit="1 MiB")
    array = zarr.open_array(tmp_path / "x.zarr", path="a", mode="r")
    assert array.chunks == (100, 25)
    np.testing.assert_array_equal(array[...], dataset.a)


def test_parts_need_a_store(tmp_path: Path) -> None:
    dataset = days("2026-01-01", 3)
    for options in ({"append_dim": "time"}, {"region": "auto"}, {"region": {"time": slice(3)}}):
        with pytest.raises(
            SourceError, match=r"there is no Zarr group at .*x\.zarr; check the path"
        ):
            dataset.lazyio.to_zarr(tmp_path / "x.zarr", **options)
    assert not list(tmp_path.iterdir())


def test_a_group_without_arrays_is_made_and_described(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    xr.Dataset(attrs={"a": 1}).lazyio.to_zarr(path)
    days("2026-01-01", 3).lazyio.to_zarr(path, mode="a")
    xr.Dataset(attrs={"b": 2}).lazyio.to_zarr(path, mode="a")
    with xr.open_zarr(path) as found:
        assert found.attrs == {"b": 2}
        assert found.sizes["time"] == 3
    # xarray leaves coordinates out of a region, and nothing is left here.
    xr.Dataset(coords={"time": [0]}).lazyio.to_zarr(path, region={"time": slice(1)})


def test_a_place_is_not_guessed_along_a_dimension_without_coordinate(tmp_path: Path) -> None:
    whole = xr.Dataset({"a": (("t", "x"), np.zeros((6, 10)))}, coords={"t": np.arange(6)})
    whole.lazyio.to_zarr(tmp_path / "x.zarr")
    part = xr.Dataset({"a": (("t", "x"), np.ones((2, 10)))}, coords={"t": [2, 3]})
    part.lazyio.to_zarr(tmp_path / "x.zarr", region="auto")
    with xr.open_zarr(tmp_path / "x.zarr") as found:
        assert found.a.sum("x").values.tolist() == [0, 0, 10, 10, 0, 0]
    with pytest.raises(
        OptionError, match="'x' has 3 elements here and 10 there, and no coordinate"
    ):
        part.isel(x=slice(3)).lazyio.to_zarr(tmp_path / "x.zarr", region="auto")


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    chunk=st.integers(1, 7),
    blocks=st.integers(1, 9),
    zarr_format=st.sampled_from([2, 3]),
)
def test_appends_are_what_concat_gives(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    chunk: int,
    blocks: int,
    zarr_format: int,
) -> None:
    path = tmp_path_factory.mktemp("append") / "x.zarr"
    parts, start = [], pd.Timestamp("2026-01-01")
    for seed, length in enumerate(lengths):
        parts.append(days(str(start), length, seed=seed))
        start += pd.Timedelta(length, "D")
    encoding = {"t2m": {"chunks": (chunk, 5, 4)}}
    parts[0].lazyio.to_zarr(path, encoding=encoding, zarr_format=zarr_format)
    for part in parts[1:]:
        part.chunk(time=blocks).lazyio.to_zarr(path, append_dim="time", safe_chunks=False)
    expected = xr.concat(parts, "time", data_vars="minimal", coords="minimal")
    with xr.open_zarr(path) as found:
        xr.testing.assert_identical(found.load(), expected)
    assert lazyio.verify(path).status == "ok"


def test_a_failed_append_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    days("2026-01-01", 10).lazyio.to_zarr(path)
    before = snapshot(path)

    def load(block: Any, block_info: Any = None) -> Any:
        if block_info[0]["chunk-location"][0] == 1:
            raise ValueError("no such data")
        return block

    later = days("2026-01-11", 20)
    values = da.from_array(later.t2m.values, chunks=(10, 5, 4)).map_blocks(load, dtype="f8")
    with pytest.raises(BlockError):
        later.assign(t2m=(later.t2m.dims, values)).lazyio.to_zarr(
            path, append_dim="time", safe_chunks=False
        )
    assert snapshot(path) == before
    assert [one.name for one in tmp_path.iterdir()] == ["x.zarr"]


def test_times_keep_their_units_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    days("2026-01-01", 3).lazyio.to_zarr(path)
    before = snapshot(path)
    later = days("2026-01-04", 2)
    with pytest.raises(OptionError, match="'days since"):
        later.assign_coords(time=later.time + np.timedelta64(1, "h")).lazyio.to_zarr(
            path, append_dim="time"
        )
    packed = {"a": {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -32768}}
    xr.Dataset({"a": ("t", [1.0, 2.0])}).lazyio.to_zarr(tmp_path / "p.zarr", encoding=packed)
    with pytest.raises(OptionError, match="400"):
        xr.Dataset({"a": ("t", [400.0])}).lazyio.to_zarr(tmp_path / "p.zarr", append_dim="t")
    assert snapshot(path) == before


def test_regions(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    dataset = days("2026-01-01", 12)
    dataset.lazyio.to_zarr(path, encoding={"t2m": {"chunks": (5, 5, 4)}})
    part = days("2026-01-04", 3, seed=1)[["t2m"]]
    part.lazyio.to_zarr(path, region="auto", mode="a")
    expected = dataset.copy(deep=True)
    expected["t2m"][3:6] = part.t2m.values
    with xr.open_zarr(path) as found:
        xr.testing.assert_identical(found.load(), expected)


@pytest.mark.parametrize("mode", ["w", "a"])
def test_compute_false_makes_the_structure(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.zarr"
    dataset = days("2026-01-01", 20)
    if mode == "a":
        xr.Dataset({"other": 1}).lazyio.to_zarr(path)
        dataset["other"] = 1
    lazy = dataset.chunk(time=5)
    lazy["time"] = dataset.time
    later = lazy.lazyio.to_zarr(path, compute=False, mode=mode)
    with xr.open_zarr(path) as found:
        xr.testing.assert_identical(found.time.load(), dataset.time)
        assert np.isnan(found.t2m.values).all()
    later.compute()
    with xr.open_zarr(path) as found:
        xr.testing.assert_equal(found.load(), dataset)
    assert lazyio.verify(path).status == "ok"


def test_groups_are_replaced_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    first, second = days("2026-01-01", 3), days("2026-01-01", 5, seed=1)
    first.lazyio.to_zarr(path)
    first.lazyio.to_zarr(path, group="a/b")
    second.lazyio.to_zarr(path, group="a/b", mode="w")
    xr.Dataset({"more": ("n", [1, 2])}).lazyio.to_zarr(path, group="a", mode="a")
    with xr.open_zarr(path) as root, xr.open_zarr(path, group="a/b") as inner:
        xr.testing.assert_identical(root.load(), first)
        xr.testing.assert_identical(inner.load(), second)
    with xr.open_zarr(path, group="a") as found:
        assert list(found) == ["more"]
    assert lazyio.verify(path).status == "ok"


def test_stores_that_are_no_folders() -> None:
    store = zarr.storage.MemoryStore()
    dataset = days("2026-01-01", 3)
    dataset.lazyio.to_zarr(store)
    days("2026-01-04", 2).lazyio.to_zarr(store, append_dim="time")
    with xr.open_zarr(store) as found:
        assert found.sizes["time"] == 5
        xr.testing.assert_identical(found.isel(time=slice(3)).load(), dataset)


def test_trees(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    tree = xr.DataTree.from_dict(
        {"/": days("2026-01-01", 3), "/a": days("2026-01-01", 3)[["height"]]}
    )
    tree.lazyio.to_zarr(path, encoding={"/": {"t2m": {"chunks": (1, 5, 4)}}})
    for engine in ("zarr", "lazyio"):
        with xr.open_datatree(path, engine=engine) as found:
            xr.testing.assert_identical(found.load(), tree)


def test_functions_take_datasets(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    dataset = days("2026-01-01", 20)
    lazyio.to_zarr(dataset.chunk(time=7), path, chunks={"time": 10})
    with pytest.raises(TargetExistsError):
        lazyio.to_zarr(dataset, path)
    lazyio.to_zarr(days("2026-01-21", 2), path, append_dim="time")
    with xr.open_zarr(path) as found:
        assert found.sizes["time"] == 22
        assert found.t2m.encoding["chunks"] == (10, 5, 4)
    assert lazyio.plan(dataset, format="zarr")["t2m"].shape == (20, 5, 4)


def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = (
        days("2026-01-01", 20).chunk(time=5).lazyio.plan(format="zarr", access=[{"x": 1, "y": 1}])
    )
    assert plan["t2m"].chunk_shape[0] == 20
    assert "t2m" in str(plan)
    assert not list(tmp_path.iterdir())


def test_the_same_call_resumes_and_is_done(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    lazy = days("2026-01-01", 20).chunk(time=5)
    lazy.lazyio.to_zarr(path, resume=True, mode="w")
    shutil.rmtree(path)
    again = lazy.lazyio.to_zarr(path, resume=True, mode="w")
    assert again.n_resumed == 0
    done = lazy.lazyio.to_zarr(path, resume=True, mode="w")
    assert done.n_resumed == done.n_blocks
    for other in (lazy.assign_attrs(title="other"), lazy.assign(height=3.0)):
        assert other.lazyio.to_zarr(path, resume=True, mode="w").n_resumed == 0
        with xr.open_zarr(path) as found:
            xr.testing.assert_identical(found.load(), other.compute())


def test_all_that_differs_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    first = days("2026-01-01", 3).assign(flag=("time", [True, False, True]))
    first.lazyio.to_zarr(path)
    before = snapshot(path)
    other = days("2026-01-04", 2).assign(height=3.0, flag=("time", [1, 2]), new=1)
    other.t2m.attrs["units"] = "degC"
    with pytest.raises(OptionError, match="append_dim='time'") as caught:
        other.lazyio.to_zarr(path, append_dim="time")
    for name in ("height", "flag", "new", "t2m"):
        assert f"'{name}'" in str(caught.value)
    with pytest.raises(OptionError, match="'flag' has that dimension"):
        days("2026-01-04", 2).lazyio.to_zarr(path, append_dim="time")
    with pytest.raises(ValueError, match="encoding was provided"):
        first.lazyio.to_zarr(path, append_dim="time", encoding={"t2m": {"chunks": (1, 1, 1)}})
    days("2026-01-01", 3).lazyio.to_zarr(path, group="g", mode="a")
    with pytest.raises(TargetExistsError, match="'g' is a group"):
        xr.Dataset({"g": 1}).lazyio.to_zarr(path, mode="a")
    shutil.rmtree(path / "g")
    assert {key for key in snapshot(path) if key != "zarr.json"} == before.keys() - {"zarr.json"}


@pytest.mark.filterwarnings("ignore:Object at .new.lazyio")
def test_a_store_that_another_program_changes_meanwhile_keeps_its_change(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    days("2026-01-01", 3).lazyio.to_zarr(path)

    def block(index: Any) -> Any:
        if not (path / "other").exists():
            # By xarray alone, which knows of no locks.
            xr.Dataset({"other": ("q", np.ones(4))}).to_zarr(path, mode="a")
        return index

    lazy = da.ones(4, chunks=2).map_blocks(block, dtype="f8", meta=np.empty(0))
    new = xr.Dataset({"new": ("q", lazy)})
    with pytest.raises(TargetError, match="was changed by another program"):
        new.lazyio.to_zarr(path, mode="a", scheduler="synchronous")
    new.lazyio.to_zarr(path, mode="a")
    with xr.open_zarr(path) as found:
        assert {"other", "new", "t2m"} <= set(found)


def test_groups_of_a_tree_grow_where_they_have_the_dimension(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"

    def tree(start: str) -> xr.DataTree:
        dataset = days(start, 3)
        fixed = xr.Dataset({"c": ("q", [1.0])})
        return xr.DataTree.from_dict({"/": xr.Dataset(), "/a": dataset, "/b": fixed})

    tree("2026-01-01").lazyio.to_zarr(path)
    tree("2026-01-04").lazyio.to_zarr(path, append_dim="time")
    part = {"time": slice(1, 4), "x": slice(0, 4)}
    one = xr.DataTree.from_dict({"/a": days("2026-01-02", 3)[["t2m"]].drop_vars(["time", "x"])})
    one.lazyio.to_zarr(path, region=part)
    with xr.open_datatree(path, engine="lazyio") as found:
        assert found["a"].sizes["time"] == 6
        assert found["b"].sizes["q"] == 1
        np.testing.assert_array_equal(found["a/t2m"][1:4], days("2026-01-02", 3).t2m)


def test_groups_have_the_format_of_their_store(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    days("2026-01-01", 3).to_zarr(path, zarr_format=2)
    days("2026-01-01", 3).lazyio.to_zarr(path, group="g", mode="a")
    assert not list(path.rglob("zarr.json"))
    with xr.open_zarr(path, group="g") as found:
        xr.testing.assert_identical(found.load(), days("2026-01-01", 3))
