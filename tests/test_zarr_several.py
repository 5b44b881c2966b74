"""Several Zarr arrays in one pass, and what a store says of them afterwards."""

import json
import os
import subprocess
import sys
import warnings
import zipfile

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from xarray_versions import WITH_COMPLEX

import lazyio
from lazyio.errors import BlockError, OptionError, TargetError, TargetExistsError

VALUES = np.arange(200, dtype="i4").reshape(20, 10)


def members(store, path=None, **options):
    """Return the paths of everything in a store, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(store, path=path, mode="r", **options)
        return sorted(name for name, _ in group.members(max_depth=None))


def read(store, path):
    return zarr.open_array(store, path=path, mode="r")[...]


def consolidate(store, **options):
    """Give a store what stock zarr-python gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store, **options)


def contents(folder):
    """Return the bytes of every file by its path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("prefix", [None, "group", "/deep/er/"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("exists", [False, True])
def test_each_goes_under_its_path(tmp_path, recording, prefix, version, exists):
    """In a new store and in one that is there; groups on the way are made."""
    path = tmp_path / "s.zarr"
    if exists:
        zarr.create_group(path, zarr_format=version)["kept"] = np.ones(3)
    data = {"a": recording, "/b/c": da.from_array(recording, chunks=300) + np.int16(1)}
    report = lazyio.to_zarr(data, path, prefix, zarr_format=version)
    at = "" if prefix is None else prefix.strip("/") + "/"
    assert (read(path, f"{at}a") == recording).all()
    assert (read(path, f"{at}b/c") == recording + 1).all()
    assert report.keys == tuple(report.plans) == (f"{at}a", f"{at}b/c")
    assert report.nbytes == 2 * recording.nbytes
    assert report.n_chunks == sum(plan.n_chunks for plan in report.plans.values())
    assert "2 arrays" in str(report)
    groups = {"b", *(at[:end] for end, letter in enumerate(at) if letter == "/")} - {""}
    wanted = {f"{at}a", f"{at}b", f"{at}b/c", *(groups if at else {"b"})}
    wanted -= {"b"} if at else set()
    assert set(members(path)) == wanted | ({"kept"} if exists else set())
    assert os.listdir(tmp_path) == ["s.zarr"]
    assert not [name for name in contents(path) if ".lazyio" in name]


def test_shared_blocks_are_computed_once(tmp_path):
    calls = []

    def count(block, block_id=None):
        if block.size:
            calls.append(block_id)
        return block

    shared = da.ones((60, 40), chunks=(20, 20)).map_blocks(count, dtype=float)
    data = {"a": shared + 1, "b": shared * 5, "same": shared, "again": shared}
    lazyio.to_zarr(data, tmp_path / "s.zarr", chunks=(15, 7))
    assert len(calls) == len(set(calls)) == 6
    for key, value in {"a": 2, "b": 5, "same": 1, "again": 1}.items():
        assert (read(tmp_path / "s.zarr", key) == value).all()


def test_arrays_that_have_nothing_in_common(tmp_path, recording):
    """Straight sources, graphs, shapes without axes or elements, text, times."""
    data = {
        "source": recording,
        "graph": da.arange(1000, chunks=77) * 2,
        "scalar": np.float32(3),
        "empty": np.empty((0, 3), "u1"),
        "text": np.array(["a", "日本"]),
        "time": np.array(["2001-02-03"], "M8[D]"),
    }
    report = lazyio.to_zarr(data, tmp_path / "s.zarr")
    for key, values in data.items():
        found = lazyio.open(tmp_path / "s.zarr", key).compute()
        np.testing.assert_array_equal(found, values)
    assert report.keys == tuple(data)


def test_progress_counts_over_all_keys(tmp_path, recording):
    """One count of blocks, each step with the key that it belongs to."""
    x = da.from_array(recording, chunks=(250, 64)) + np.int16(0)
    steps = []
    data = {"a": x, "b": x * 2, "c": recording}
    report = lazyio.to_zarr(data, tmp_path / "s.zarr", "g", progress=steps.append)
    assert [step.n_done for step in steps] == list(range(1, report.n_blocks + 1))
    assert {step.n_total for step in steps} == {report.n_blocks}
    assert {step.key for step in steps} == {"g/a", "g/b", "g/c"}
    assert steps[-1].nbytes == report.nbytes == 3 * recording.nbytes


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("suffix", [".zarr", ".zip"])
def test_one_that_fails_leaves_nothing_of_all(tmp_path, recording, exists, suffix):
    """The old store stays, byte for byte, or none; the region is that of the one that failed."""
    path = tmp_path / f"s{suffix}"
    if exists:
        lazyio.to_zarr({"old": recording}, path)
    before = contents(tmp_path)

    def fail(block, block_id=None):
        if block_id == (2, 0):
            raise ValueError("bad block")
        return block

    x = da.from_array(recording, chunks=(100, 64))
    data = {"a": x * 2, "deep/b": x.map_blocks(fail, dtype="i2"), "c": recording}
    mode = "w" if exists and suffix == ".zip" else "a"
    with pytest.raises(BlockError, match=r"\[200:300, 0:64\].*bad block"):
        lazyio.to_zarr(data, path, mode=mode)
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ([path.name] if exists else [])


@pytest.mark.parametrize("exists", [False, True])
def test_paths_that_clash(tmp_path, exists):
    """With each other, with the store, and below one another."""
    path = tmp_path / "s.zarr"
    if exists:
        lazyio.to_zarr(VALUES, path, "kept")
    before = contents(tmp_path)
    with pytest.raises(OptionError, match="two arrays have the key 'a'"):
        lazyio.to_zarr({"a": VALUES, "/a/": VALUES}, path)
    with pytest.raises(OptionError, match="'a/b' lies below 'a'"):
        lazyio.to_zarr({"a/b": VALUES, "a": VALUES}, path)
    if exists:
        with pytest.raises(TargetExistsError, match="overwrite=True"):
            lazyio.to_zarr({"new": VALUES, "kept": VALUES}, path)
        with pytest.raises(TargetError, match="an array holds no other"):
            lazyio.to_zarr({"new": VALUES, "kept/b": VALUES}, path)
    assert contents(tmp_path) == before
    lazyio.to_zarr({"new": VALUES, "kept": VALUES * 2}, path, overwrite=True)
    assert (read(path, "kept") == VALUES * 2).all()


@pytest.mark.parametrize("data", [{}, {1: VALUES}, {"a": VALUES, None: VALUES}])
def test_mappings_that_are_none(tmp_path, data):
    with pytest.raises(OptionError, match="give at least one, each of them text"):
        lazyio.to_zarr(data, tmp_path / "s.zarr")


@pytest.mark.parametrize("name", ["zarr.json", "a/.zattrs", ".zmetadata/x", "..", "a//b", "__x"])
def test_names_that_are_none(tmp_path, name):
    """Those of metadata files would make a store that nobody reads."""
    with pytest.raises(OptionError, match="is not a path inside a Zarr store"):
        lazyio.to_zarr({name: VALUES}, tmp_path / "s.zarr")
    assert os.listdir(tmp_path) == []


def test_names_of_any_text(tmp_path):
    """Unicode, newlines, spaces, long: whatever the file system takes."""
    keys = ["日本/µV", "new\nline", " a b ", "x" * 200, "🧠", ".hidden"]
    lazyio.to_zarr({key: np.full(3, at) for at, key in enumerate(keys)}, tmp_path / "s.zarr")
    for at, key in enumerate(keys):
        assert (read(tmp_path / "s.zarr", key) == at).all()


@pytest.mark.parametrize("version", [2, 3])
def test_attributes_and_names_of_axes_by_path(tmp_path, version):
    """A mapping of mappings goes by path; what has no path in it is for all of them."""
    data = {"a": np.ones((3, 4)), "g/b": np.ones(3)}
    options = {"mode": "w", "zarr_format": version}
    path = tmp_path / "s.zarr"
    by_key = {"a": {"unit": "V"}, "/g/b": {"unit": "A"}}
    names = {"a": ("x", "y"), "g/b": "x"}
    lazyio.to_zarr(data, path, "p", attributes=by_key, dimension_names=names, **options)
    for key in data:
        array = zarr.open_array(path, path=f"p/{key}")
        attributes = dict(array.attrs)
        found = attributes.pop("_ARRAY_DIMENSIONS", None)
        if version == 3:
            found = array.metadata.dimension_names
        assert list(found) == list(names[key])
        assert attributes == by_key.get(key, by_key.get(f"/{key}"))
    lazyio.to_zarr(data, path, "p", attributes={"run": {"k": 1}}, **options)
    for key in data:
        assert dict(zarr.open_array(path, path=f"p/{key}").attrs) == {"run": {"k": 1}}
    with pytest.raises(OptionError, match=r"dimension_names has the keys \['typo'\]"):
        lazyio.to_zarr(data, path, "p", dimension_names={"typo": "x"}, **options)


class TestConsolidated:
    """Metadata of all arrays in one place, which must never be older than they are."""

    @pytest.mark.parametrize("prefix", [None, "deep/er"])
    def test_new_stores_of_v2_have_it(self, tmp_path, prefix):
        """As xarray expects there; v3 has no specification of it, and none is made."""
        names = {"dimension_names": ("x", "y")}
        lazyio.to_zarr({"a": VALUES}, tmp_path / "s.zarr", prefix, zarr_format=2, **names)
        assert (tmp_path / "s.zarr/.zmetadata").is_file()
        with xr.open_zarr(tmp_path / "s.zarr", group=prefix, consolidated=prefix is None) as found:
            np.testing.assert_array_equal(found.a, VALUES)
        lazyio.to_zarr({"a": VALUES}, tmp_path / "t.zarr", prefix, **names)
        assert "consolidated_metadata" not in json.loads(
            (tmp_path / "t.zarr/zarr.json").read_text()
        )

    @pytest.mark.parametrize("version", [2, 3])
    def test_it_sees_new_arrays_and_growth(self, tmp_path, version):
        """New, replaced, grown, with other attributes: what readers see is what is there."""
        path = tmp_path / "s.zarr"
        lazyio.to_zarr({"a": VALUES, "g/b": VALUES}, path, zarr_format=version)
        consolidate(path)
        lazyio.to_zarr({"g/c": VALUES, "d": VALUES}, path, zarr_format=version)
        lazyio.to_zarr(VALUES, path, "a", append_dim=0)
        lazyio.to_zarr(VALUES * 0.5, path, "g/b", overwrite=True, zarr_format=version)
        group = zarr.open_group(path, mode="r", use_consolidated=True)
        assert members(path, use_consolidated=True) == ["a", "d", "g", "g/b", "g/c"]
        assert group["a"].shape == (40, 10)
        assert group["g/b"].dtype == "f8"
        assert (group["g/c"][:] == VALUES).all()

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("how", ["from above", "from inside", "the array itself"])
    def test_every_group_above_is_renewed(self, tmp_path, version, how):
        """Also where the group, or the array, is what the caller calls the store."""
        path = tmp_path / "s.zarr"
        lazyio.to_zarr({"g/a": VALUES, "h/b": VALUES}, path, zarr_format=version)
        consolidate(path, path="g")
        consolidate(path)
        target = {
            "from above": (path, "g/a"),
            "from inside": (path / "g", "a"),
            "the array itself": (path / "g/a", None),
        }[how]
        lazyio.to_zarr(VALUES, *target, append_dim=0)
        for group in (None, "g"):
            opened = zarr.open_group(path, path=group, mode="r", use_consolidated=True)
            assert opened["a" if group else "g/a"].shape == (40, 10)
        assert not (path / "h/.zmetadata").exists()

    @pytest.mark.parametrize("version", [2, 3])
    def test_a_store_inside_of_it(self, tmp_path, version):
        """Made, or replaced, by its own path: readers of the whole see it as it is."""
        path = tmp_path / "s.zarr"
        lazyio.to_zarr({"g/a": VALUES, ".dotted": VALUES}, path, zarr_format=version)
        consolidate(path)
        options = {"zarr_format": version}
        lazyio.to_zarr(VALUES[:5] * 0.5, path / "g/a", overwrite=True, **options)
        lazyio.to_zarr({"x": VALUES, "y": VALUES}, path / "g/new", **options)
        lazyio.to_zarr({"p": VALUES, ".q": VALUES}, path, **options)
        group = zarr.open_group(path, mode="r", use_consolidated=True)
        assert (group["g/a"].shape, group["g/a"].dtype) == ((5, 10), "f8")
        assert (group["g/new/y"][...] == VALUES).all()
        assert (group[".dotted"][...] == VALUES).all()
        assert {".dotted", "p", ".q"} <= set(group.array_keys())
        assert lazyio.verify(path).status == "ok"

    def test_a_broken_neighbour(self, tmp_path):
        path = tmp_path / "s.zarr"
        lazyio.to_zarr({"a": VALUES, "b": VALUES}, path)
        consolidate(path)
        (path / "b/zarr.json").write_text("{")
        with pytest.raises(TargetError, match="cannot be read"):
            lazyio.to_zarr({"c": VALUES, "d": VALUES}, path)
        assert not (path / "c").exists()

    def test_our_own_names(self, tmp_path):
        with pytest.raises(OptionError, match="lazyio's own"):
            lazyio.to_zarr({".lazyio/a": VALUES, "x": VALUES}, tmp_path / "s.zarr")

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("kind", ["group", "memory", "array", "store"])
    def test_of_what_is_open(self, tmp_path, version, kind):
        """Whoever opens it next sees the new array; a group that is open is as it was."""
        store = zarr.storage.LocalStore(tmp_path / "s.zarr")
        if kind == "memory":
            store = zarr.storage.MemoryStore()
        root = zarr.create_group(store, zarr_format=version)
        grown = root.create_array("g/a", shape=(20, 10), chunks=(6, 4), dtype="i4")
        consolidate(store)
        if kind == "array":
            lazyio.to_zarr(VALUES, grown, append_dim=0)
        elif kind == "group":
            lazyio.to_zarr(VALUES, root["g"], "new", zarr_format=version)
        else:
            lazyio.to_zarr(VALUES, store, "g/new", zarr_format=version)
        seen = zarr.open_group(store, mode="r", use_consolidated=True)
        assert seen["g/a"].shape == ((40, 10) if kind == "array" else (20, 10))
        assert ("g/new" in dict(seen.members(max_depth=None))) == (kind != "array")

    def test_nothing_is_consolidated_unasked(self, tmp_path):
        lazyio.to_zarr({"a": VALUES}, tmp_path / "s.zarr")
        before = (tmp_path / "s.zarr/zarr.json").read_bytes()
        lazyio.to_zarr({"b": VALUES}, tmp_path / "s.zarr")
        assert (tmp_path / "s.zarr/zarr.json").read_bytes() == before


class TestXarray:
    """What xarray makes of arrays in a group."""

    @pytest.mark.filterwarnings("ignore:.*consolidated:RuntimeWarning")
    @pytest.mark.parametrize("version", [2, 3])
    def test_times_gaps_and_names(self, tmp_path, version):
        """Dates, durations, masked values and coordinates are decoded as CF."""
        days = np.array(["2001-02-03", "NaT", "1960-01-01"], "M8[D]")
        gaps = np.ma.array([1.5, 2, 3], mask=[0, 1, 0])
        data = {
            "time": days[[0, 0, 2]],
            "when": days,
            "late": np.array([1, -5, 7], "m8[ms]"),
            "level": gaps,
            "count": np.ma.array([1, 2, 3], mask=[1, 0, 0]),
            "label": np.array(["a", "é", "日本"]),
        }
        options = {"dimension_names": ("time",), "zarr_format": version}
        lazyio.to_zarr(data, tmp_path / "s.zarr", attributes={"source": "here"}, **options)
        with xr.open_zarr(tmp_path / "s.zarr", decode_timedelta=True) as found:
            assert found.level.dims == ("time",)
            np.testing.assert_array_equal(found.time, data["time"].astype("M8[ns]"))
            np.testing.assert_array_equal(found.when, days.astype("M8[ns]"))
            np.testing.assert_array_equal(found.late, data["late"].astype("m8[ns]"))
            np.testing.assert_array_equal(found.level, gaps.filled(np.nan))
            np.testing.assert_array_equal(found["count"], [np.nan, 2, 3])
            assert found.label.values.tolist() == data["label"].tolist()
            assert found.level.attrs["source"] == "here"

    @pytest.mark.filterwarnings("ignore:.*consolidated:RuntimeWarning")
    @pytest.mark.parametrize("version", [2, 3])
    def test_zeros_are_no_gaps(self, tmp_path, version):
        """v2's fill value counts as a gap to xarray: none is set unless it is asked for."""
        options = {"dimension_names": ("x",), "zarr_format": version}
        lazyio.to_zarr({"a": np.array([0.0, 1, 0])}, tmp_path / "s.zarr", **options)
        with xr.open_zarr(tmp_path / "s.zarr") as found:
            assert found.a.values.tolist() == [0, 1, 0]

    @pytest.mark.filterwarnings("ignore:.*consolidated:RuntimeWarning")
    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize("fill", [np.nan, -9, 1e20])
    @pytest.mark.parametrize("dtype", ["f4", "f8", pytest.param("c8", marks=WITH_COMPLEX)])
    def test_gaps_of_any_fill_value(self, tmp_path, version, fill, dtype):
        if dtype == "c8" and version == 3 and not np.isnan(fill):
            fill = complex(fill)
        gaps = np.ma.array(np.array([1, 2, 3], dtype), mask=[0, 1, 0])
        fill = np.dtype(dtype).type(fill)
        options = {"dimension_names": ("x",), "zarr_format": version, "fill_value": fill}
        lazyio.to_zarr({"a": gaps}, tmp_path / "s.zarr", **options)
        with xr.open_zarr(tmp_path / "s.zarr") as found:
            assert np.isnan(found.a.values).tolist() == [False, True, False]

    @pytest.mark.filterwarnings("ignore:.*consolidated:RuntimeWarning")
    def test_gaps_that_an_attribute_names(self, tmp_path):
        """As netCDF keeps it; v3 has a form of its own for it, also of NaN."""
        for at, value in enumerate((np.float32(2), 2.0, np.nan)):
            named = {"_FillValue": value}
            values = np.array([1, value, 3], "f4")
            data = {"a": values}
            path = tmp_path / f"{at}.zarr"
            lazyio.to_zarr(data, path, dimension_names=("x",), attributes=named)
            with xr.open_zarr(tmp_path / f"{at}.zarr") as found:
                np.testing.assert_array_equal(found.a, [1, np.nan, 3])
            lazyio.to_zarr(values, tmp_path / f"{at}.zarr", "a", region=..., attributes=named)
        with pytest.raises(OptionError, match=r"_FillValue=0\.5 is no value of dtype int16"):
            lazyio.to_zarr(np.ones(3, "i2"), tmp_path / "x.zarr", attributes={"_FillValue": 0.5})

    def test_what_xarray_wrote_takes_more_arrays(self, tmp_path):
        """In v2, where the store has consolidated metadata."""
        dataset = xr.Dataset({"x": (("time", "channel"), VALUES)})
        dataset.to_zarr(tmp_path / "s.zarr", zarr_format=2, consolidated=True)
        names = {"dimension_names": ("time", "channel"), "zarr_format": 2}
        lazyio.to_zarr(VALUES * 2, tmp_path / "s.zarr", "y", **names)
        with xr.open_zarr(tmp_path / "s.zarr", consolidated=True) as found:
            np.testing.assert_array_equal(found.y, found.x * 2)


def test_a_zip_file_of_several_arrays(tmp_path):
    """Every object once, and none of the metadata twice."""
    for version in (2, 3):
        path = tmp_path / f"s{version}.zip"
        lazyio.to_zarr({"a": VALUES, "g/b": VALUES * 2}, path, "p", zarr_format=version)
        names = zipfile.ZipFile(path).namelist()
        assert len(names) == len(set(names))
        np.testing.assert_array_equal(lazyio.open(path, "p/g/b"), VALUES * 2)
        assert members(zarr.storage.ZipStore(path, mode="r")) == ["p", "p/a", "p/g", "p/g/b"]


MEASURE = """
import json, sys
import numpy as np
import lazyio

def fetch(region):
    shape = [part.stop - part.start for part in region]
    return np.full(shape, region[0].start % 100, "int16")

def write(n, path):
    x = lazyio.from_function(fetch, (n, 256), "int16", chunks=(2000, 256), memory_limit="48 MiB")
    data = {"raw": x, "twice": x * 2, "odd": x[:, 1:] + 1}
    lazyio.to_zarr(data, path, mode="w", memory_limit="48 MiB", workers=2,
                   chunks={0: 500}, shards=json.loads(sys.argv[2]))

def resident():
    # Peak since the last reset, so that what was freed before does not count.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

write(6000, sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write(200_000, sys.argv[1])
print(json.dumps({"growth": resident() - before}))
"""


@pytest.mark.parametrize("shards", [None, "auto"])
def test_growth_stays_within_the_limit(tmp_path, shards):
    """100 MB of source, three arrays of that size from it, misaligned, in 48 MiB."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "s.zarr"), json.dumps(shards)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= 48 * 2**20
