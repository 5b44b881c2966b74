"""Writing into a part of an existing Zarr array: values, objects, growth, what is refused."""

import math
import os
import shutil
import subprocess
import sys

import dask.array as da
import numcodecs
import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import cases, expected
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec

import lazyio
from lazyio.errors import BlockError, OptionError, PlanError, TargetError
from lazyio.regions import box, grid_shape
from lazyio.sources.zarr_metadata import METADATA_FILES
from lazyio.storage.zarr.array import ZarrTarget

CODECS = {
    "plain": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=1)},
    "blosc": {"compressors": BloscCodec(cname="lz4")},
    "gzip-turned": {"compressors": GzipCodec(level=1), "filters": "turned"},
    "v2": {"compressors": None, "zarr_format": 2},
    "v2-zlib": {"compressors": numcodecs.Zlib(1), "zarr_format": 2},
    "v2-fortran": {"compressors": numcodecs.Zstd(1), "zarr_format": 2, "order": "F"},
    "shards": {"compressors": ZstdCodec(level=1), "shards": 2},
    "shards-plain": {"compressors": None, "shards": 3},
}


def make(path, values, chunks, codec="zstd", **options):
    """Make an array with stock zarr-python."""
    options = {**CODECS[codec], **options}
    if options.get("filters") == "turned":
        options["filters"] = [TransposeCodec(order=tuple(reversed(range(values.ndim))))]
    if "shards" in options:
        options["shards"] = tuple(chunk * options["shards"] for chunk in chunks)
    made = zarr.create_array(path, shape=values.shape, dtype=values.dtype, chunks=chunks, **options)
    made[...] = values
    return made


def read(path, name=None):
    return zarr.open_array(path, path=name, mode="r")[...]


def with_tensorstore(path):
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec).result().read().result()


def contents(folder):
    """Return the bytes of every file by its path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def objects(folder):
    """Return the names of all objects, without the metadata."""
    return {name for name in contents(folder) if os.path.basename(name) not in METADATA_FILES}


@given(
    cases(),
    st.sampled_from(list(CODECS)),
    st.sampled_from([0, -3]),
    st.sampled_from(["numbers", "fill"]),
    st.data(),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_part_is_what_numpy_makes_of_it(tmp_path_factory, case, codec, fill, content, data):
    """Any window, chunks, shards, blocks, codec: numpy's answer, each object written once.

    Objects that readers may have open keep their bytes, and those that would
    hold nothing but the fill value go.
    """
    shape, chunks, window, region = case
    folder = tmp_path_factory.mktemp("part")
    path = folder / "x.zarr"
    before = np.arange(math.prod(shape), dtype="i4").reshape(shape) + 1
    made = make(path, before, chunks, codec, fill_value=fill)
    unit = made.shards or made.chunks
    shutil.copytree(path, folder / "linked", copy_function=os.link)
    stored = contents(path)
    inner = tuple(part.stop - part.start for part in window)
    values = np.full(inner, fill, "i4")
    if content == "numbers":
        values = -10 - np.arange(math.prod(inner), dtype="i4").reshape(inner)
    lengths = [n for n, part in zip(inner, region, strict=True) if isinstance(part, slice)]
    given_values = values.reshape(lengths)
    if data.draw(st.booleans(), label="graph"):
        blocks = tuple(data.draw(st.integers(1, max(1, n))) for n in lengths)
        given_values = da.from_array(given_values, chunks=blocks or ()) + np.int32(0)
    counted = []
    whole = ZarrTarget.write_chunk

    def count(self, index, chunk, workspace):
        counted.append(tuple(index))
        return whole(self, index, chunk, workspace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrTarget, "write_chunk", count)
        limit = data.draw(st.sampled_from(["1 MB", "1 GiB"]))
        report = lazyio.to_zarr(given_values, path, region=region, memory_limit=limit)
    wanted = expected(before, window, values, fill)
    np.testing.assert_array_equal(read(path), wanted)
    if codec != "gzip-turned" or wanted.size:
        np.testing.assert_array_equal(with_tensorstore(path), wanted)
    assert len(counted) == len(set(counted))
    assert report.engine == "direct"
    assert contents(folder / "linked") == stored
    array = zarr.open_array(path, mode="r")
    for index in counted:
        is_empty = (wanted[box(wanted.shape, unit, index)] == fill).all()
        assert (path / array.metadata.encode_chunk_key(index)).exists() != is_empty
    assert os.listdir(folder) == ["x.zarr", "linked"] or len(os.listdir(folder)) == 2
    if math.prod(grid_shape(before.shape, unit)) and not counted:
        assert {name: contents(path)[name] for name in objects(path)} == {
            name: stored[name] for name in objects(folder / "linked")
        }


def test_chunks_outside_the_window_are_left_alone(tmp_path):
    """Nothing but the chunks that the window touches takes room or time."""
    path = tmp_path / "x.zarr"
    make(path, np.arange(400).reshape(20, 20), (6, 7))
    shutil.copytree(path, tmp_path / "old", copy_function=os.link)
    report = lazyio.to_zarr(np.zeros((4, 4), "i8"), path, region=np.s_[7:11, 8:12])
    assert report.n_chunks == 1
    changed = {
        name for name in objects(path) if not os.path.samefile(path / name, tmp_path / "old" / name)
    }
    assert changed == {"c/1/1"}
    # Metadata are copies: whoever changes them in place changes one array.
    assert not os.path.samefile(path / "zarr.json", tmp_path / "old" / "zarr.json")


def test_objects_behind_symbolic_links_stay_there(tmp_path):
    """As git-annex keeps them; what the links lead to is not changed."""
    path = tmp_path / "x.zarr"
    make(path, np.arange(12), (4,), "plain")
    (tmp_path / "annex").mkdir()
    for at in range(3):
        os.rename(path / f"c/{at}", tmp_path / f"annex/{at}")
        os.symlink(f"../../annex/{at}", path / f"c/{at}")
    kept = contents(tmp_path / "annex")
    lazyio.to_zarr(np.full(3, -1), path, region=np.s_[3:6])
    np.testing.assert_array_equal(read(path), [0, 1, 2, -1, -1, -1, *range(6, 12)])
    assert contents(tmp_path / "annex") == kept


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["path", "in-group"])
def test_a_failure_leaves_every_byte(tmp_path, error, where):
    """Of the array and of the groups above it; nothing is left beside them."""
    name = None if where == "path" else "g/x"
    lazyio.to_zarr(np.arange(80).reshape(8, 10), tmp_path / "s.zarr", name, chunks=(3, 4))
    before = contents(tmp_path)

    def fail(block, block_id=None):
        if block_id == (1, 0):
            raise error("bad block")
        return block

    x = da.ones((6, 10), chunks=(2, 10), dtype=int).map_blocks(fail, dtype=int)
    expected_error = BlockError if error is ValueError else KeyboardInterrupt
    with pytest.raises(expected_error, match="bad block"):
        lazyio.to_zarr(x, tmp_path / "s.zarr", name, append_dim=0)
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["s.zarr"]


KILLED = """
import os, signal, sys
import dask.array as da
import lazyio

def kill(block, block_id=None):
    if block_id == (3, 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return block

x = da.full((8, 10), -1, chunks=(2, 10)).map_blocks(kill, dtype=int)
lazyio.to_zarr(x, sys.argv[1], "x", append_dim=0, scheduler="sync")
"""


def test_a_kill_leaves_every_byte(tmp_path):
    """The next call removes what was left, and goes through."""
    path = tmp_path / "s.zarr"
    first = np.arange(70).reshape(7, 10)
    lazyio.to_zarr(first, path, "x", chunks=(3, 4))
    before = contents(path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -9
    assert (path / ".x.lazyio" / "data").is_dir()
    after = contents(path)
    assert {name: after[name] for name in after if ".lazyio" not in name} == before
    lazyio.to_zarr(np.ones((2, 10), "i8"), path, "x", append_dim=0)
    np.testing.assert_array_equal(read(path, "x")[:7], first)
    assert sorted(os.listdir(path)) == ["x", "zarr.json"]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("region", "shape"),
    [
        (..., (8, 10)),
        ((-1, ...), (10,)),
        (slice(None, 3), (3, 10)),
        (np.int64(2), (10,)),
        ([slice(1, 2), 3], (1,)),
        ({"time": slice(2, 5)}, (3, 10)),
        ({"channel": -1}, (8,)),
        (slice(5, 2), (0, 10)),
        ((0, 0), ()),
    ],
    ids=str,
)
def test_ways_to_say_where(tmp_path, region, shape, version):
    """Names of axes are metadata in v3, and an attribute of xarray's in v2."""
    options = {"dimension_names": ("time", "channel"), "chunks": (3, 4), "zarr_format": version}
    lazyio.to_zarr(np.zeros((8, 10)), tmp_path / "x.zarr", **options)
    lazyio.to_zarr(np.ones(shape), tmp_path / "x.zarr", region=region)
    wanted = np.zeros((8, 10))
    index = region
    if isinstance(region, dict):
        index = tuple(region.get(name, slice(None)) for name in ("time", "channel"))
    wanted[tuple(index) if isinstance(index, list) else index] = 1
    np.testing.assert_array_equal(read(tmp_path / "x.zarr"), wanted)


@pytest.mark.parametrize("names", ["time", 5, ["one"], {"a": 1}, None])
def test_an_attribute_that_names_no_axes(tmp_path, names):
    """In v2 it may hold anything; numbers work all the same."""
    made = make(tmp_path / "x.zarr", np.zeros((4, 3)), (2, 2), "v2")
    made.attrs["_ARRAY_DIMENSIONS"] = names
    lazyio.to_zarr(np.ones((1, 3)), tmp_path / "x.zarr", append_dim=0)
    assert read(tmp_path / "x.zarr").sum() == 3
    with pytest.raises(OptionError, match="is no axis"):
        lazyio.to_zarr(np.ones((1, 3)), tmp_path / "x.zarr", append_dim="time")


@pytest.mark.parametrize("append_dim", [0, -2, "time"])
@pytest.mark.parametrize("shards", [None, (8, 10)], ids=["chunks", "shards"])
def test_appending(tmp_path, append_dim, shards):
    """By number or name; the object that was the last is completed."""
    path = tmp_path / "x.zarr"
    first, second = np.arange(70).reshape(7, 10), np.arange(50).reshape(5, 10)
    names = {"dimension_names": ("time", None), "chunks": (4, 10), "shards": shards}
    lazyio.to_zarr(first, path, **names)
    report = lazyio.to_zarr(da.from_array(second, chunks=2), path, append_dim=append_dim)
    np.testing.assert_array_equal(read(path), np.concatenate([first, second]))
    np.testing.assert_array_equal(with_tensorstore(path), np.concatenate([first, second]))
    assert report.nbytes == second.nbytes
    assert report.plan.shard_shape == shards


def test_appending_to_nothing(tmp_path):
    """An array that is still empty grows in chunks of a sensible size."""
    path = tmp_path / "x.zarr"
    lazyio.to_zarr(np.empty((0, 64), "i2"), path)
    for n in (5, 0, 3000):
        lazyio.to_zarr(np.full((n, 64), n, "i2"), path, append_dim=0)
    found = read(path)
    assert found.shape == (3005, 64)
    assert (found[:5] == 5).all()
    assert (found[5:] == 3000).all()
    assert zarr.open_array(path).chunks == (1024, 64)


@pytest.mark.parametrize(
    ("shape", "chunks", "wanted"),
    [
        ((10, 8), (1000, 8), (1000, 8)),
        ((10, 8), {0: 100}, (100, 8)),
        ((10, 8), (-1, 2), (10, 2)),
        ((10,), 1000, (1000,)),
        ((10, 8), 1000, (10, 8)),
        ((0, 8), (5, None), (5, 8)),
    ],
)
def test_chunks_may_be_longer_than_an_axis(tmp_path, shape, chunks, wanted):
    """Any axis may grow, and chunks stay what they are."""
    path = tmp_path / "x.zarr"
    lazyio.to_zarr(np.ones(shape), path, chunks=chunks)
    assert zarr.open_array(path).chunks == wanted
    lazyio.to_zarr(np.ones((3, *shape[1:])), path, append_dim=0)
    assert read(path).sum() == np.ones(shape).size + 3 * np.ones(shape[1:]).size


def test_axes_of_length_one_and_none_at_all(tmp_path):
    """A scalar is a part of itself."""
    lazyio.to_zarr(np.float64(1), tmp_path / "x.zarr")
    lazyio.to_zarr(np.float64(2), tmp_path / "x.zarr", region=())
    lazyio.to_zarr(np.float64(3), tmp_path / "x.zarr", region=...)
    assert read(tmp_path / "x.zarr") == 3


def test_a_part_of_what_is_too_large_for_any_disk(tmp_path):
    """10^12 chunks are declared, and one is written; nothing counts or lists them."""
    path = tmp_path / "x.zarr"
    zarr.create_array(path, shape=(10**9, 10**9), chunks=(1000, 1000), dtype="u1")
    region = np.s_[10**8 : 10**8 + 5, 7:12]
    report = lazyio.to_zarr(np.ones((5, 5), "u1"), path, region=region)
    assert report.n_chunks == 1
    assert report.seconds < 5
    assert objects(path) == {"c/100000/0"}
    assert (zarr.open_array(path)[region] == 1).all()
    grown = lazyio.to_zarr(np.ones((1, 5), "u1"), path, region=np.s_[10**9 : 10**9 + 1, :5])
    assert grown.seconds < 5
    assert zarr.open_array(path).shape == (10**9 + 1, 10**9)


@pytest.mark.parametrize("empty", [None, False, True])
@pytest.mark.parametrize("codec", ["zstd", "through zarr-python"])
def test_parts_of_fill_value(tmp_path, monkeypatch, empty, codec):
    """They take no room, unless they are wanted all the same."""
    if codec != "zstd":
        monkeypatch.setattr("lazyio.storage.zarr.array.chain_of", lambda *_, **__: None)
    make(tmp_path / "x.zarr", np.ones(12), (4,))
    options = {"write_empty_chunks": empty}
    lazyio.to_zarr(np.zeros(6), tmp_path / "x.zarr", region=np.s_[2:8], **options)
    assert objects(tmp_path / "x.zarr") == ({"c/0", "c/1", "c/2"} if empty else {"c/0", "c/2"})
    assert read(tmp_path / "x.zarr").tolist() == [1, 1, *([0] * 6), 1, 1, 1, 1]


@pytest.mark.parametrize("maker", ["tensorstore", "tensorstore-v2", "xarray", "xarray-v2"])
def test_arrays_that_others_made(tmp_path, maker):
    """Grown and overwritten in part; their makers read them."""
    before, path = np.arange(70.0).reshape(7, 10), tmp_path / "s.zarr"
    if maker.startswith("tensorstore"):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "x")}}
        metadata = {"shape": [7, 10], "data_type": "float64"}
        if maker == "tensorstore-v2":
            spec["driver"] = "zarr"
            metadata = {"shape": [7, 10], "dtype": "<f8", "chunks": [3, 4]}
        made = tensorstore.open({**spec, "metadata": metadata}, create=True).result()
        made.write(before).result()
    else:
        dataset = xr.Dataset({"x": (("time", "channel"), before)})
        encoding = {"x": {"chunks": (3, 4)}}
        version = 2 if maker == "xarray-v2" else 3
        options = {"consolidated": version == 2, "zarr_format": version}
        dataset.to_zarr(path, encoding=encoding, **options)
    dim = 0 if maker.startswith("tensorstore") else "time"
    lazyio.to_zarr(np.full((2, 10), -1.0), path, "x", append_dim=dim)
    lazyio.to_zarr(np.full((2, 3), 0.5), path, "x", region=np.s_[2:4, 3:6])
    wanted = np.concatenate([before, np.full((2, 10), -1.0)])
    wanted[2:4, 3:6] = 0.5
    if maker.startswith("tensorstore"):
        np.testing.assert_array_equal(with_tensorstore(path / "x"), wanted)
    else:
        # In v2 with consolidated metadata, which have grown along.
        with xr.open_zarr(path, consolidated=version == 2) as found:
            np.testing.assert_array_equal(found.x, wanted)


def test_all_differences_in_one_error(tmp_path):
    """dtype, chunks, codecs, fill value and attributes, each with both sides."""
    make(tmp_path / "x.zarr", np.zeros((8, 10), "i4"), (3, 4))
    with pytest.raises(OptionError) as caught:
        lazyio.to_zarr(
            np.ones((8, 10)),
            tmp_path / "x.zarr",
            region=...,
            dtype="f8",
            chunks=(1, 4),
            compressors=GzipCodec(level=3),
            fill_value=7,
            attributes={"unit": "mV"},
        )
    for part in (
        "its dtype is int32, not float64",
        "its chunks are (3, 4), not (1, 4)",
        "ZstdCodec(level=1",
        "not {'compressors': '(GzipCodec(level=3",
        "its fill value is 0, not 7",
        "it has no attribute 'unit'",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("version", [2, 3])
def test_what_is_the_same_may_be_said_again(tmp_path, version):
    """The call that made the array also writes into it."""
    options = {
        "dtype": "f4",
        "chunks": (3, 4),
        "compressors": [numcodecs.Zlib(2)] if version == 2 else [GzipCodec(level=3)],
        "filters": None,
        "fill_value": np.nan,
        "attributes": {"unit": "mV", "gains": np.array([1.0, 2.0])},
        "zarr_format": version,
        "dimension_names": ("time", "channel"),
    }
    lazyio.to_zarr(np.zeros((8, 10)), tmp_path / "x.zarr", **options)
    lazyio.to_zarr(np.ones((8, 10)), tmp_path / "x.zarr", region=..., **options)
    assert (read(tmp_path / "x.zarr") == 1).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"region": np.s_[0:3]}, r"takes data of shape \(3, 10\), not \(2, 10\)"),
        ({"region": np.s_[0:4:2]}, "no step but 1"),
        ({"region": np.s_[-9:-7]}, "begins before the start of axis 0"),
        ({"region": {"time": 0}}, "has the axes"),
        ({"append_dim": 2}, "is no axis"),
        ({"append_dim": 1}, "does not continue"),
        ({"append_dim": 0, "region": ...}, "give one of them"),
        ({"region": ..., "mode": "w"}, "is for new arrays"),
        ({"region": ..., "storage_options": {"anon": True}}, "are for stores behind a URL"),
        ({"region": np.s_[:2], "compressors": object()}, "are no codecs of Zarr"),
        ({"region": np.s_[:2], "compressors": numcodecs.Zlib(1)}, "zarr_format=2"),
    ],
)
def test_regions_that_are_none(tmp_path, options, match):
    """Refused before anything is written; the array keeps its bytes."""
    make(tmp_path / "x.zarr", np.zeros((8, 10)), (3, 4))
    before = contents(tmp_path)
    with pytest.raises(OptionError, match=match):
        lazyio.to_zarr(np.ones((2, 10)), tmp_path / "x.zarr", **options)
    assert contents(tmp_path) == before


def test_what_is_not_there(tmp_path):
    """A missing store, a missing array, a group, a mapping."""
    path = tmp_path / "s.zarr"
    with pytest.raises(TargetError, match=r"does not exist; lazyio\.allocate"):
        lazyio.to_zarr(np.ones(3), path, "x", region=...)
    lazyio.to_zarr(np.zeros(3), path, "g/x")
    for name in ("g", "missing", None):
        with pytest.raises(TargetError, match=r"does not exist; lazyio\.allocate|is a group"):
            lazyio.to_zarr(np.ones(3), path, name, region=...)
    with pytest.raises(OptionError, match="several arrays do not go into one"):
        lazyio.to_zarr({"x": np.ones(3)}, zarr.open_array(path / "g/x"), region=...)


@pytest.mark.parametrize(
    ("there", "given_dtype"), [("f8", "i4"), ("i8", "u4"), (">i4", "<i2"), ("c16", "f8")]
)
def test_lossless_casts_happen(tmp_path, there, given_dtype):
    make(tmp_path / "x.zarr", np.zeros(6, there), (4,), "v2")
    lazyio.to_zarr(np.arange(6).astype(given_dtype), tmp_path / "x.zarr", region=...)
    found = read(tmp_path / "x.zarr")
    assert found.dtype == there
    np.testing.assert_array_equal(found, np.arange(6))


@pytest.mark.parametrize(("there", "given_dtype"), [("i4", "f8"), ("f4", "f8"), ("u4", "i4")])
def test_lossy_casts_are_refused(tmp_path, there, given_dtype):
    """The message names both ways to insist."""
    make(tmp_path / "x.zarr", np.zeros(6, there), (4,))
    values = np.arange(6).astype(given_dtype)
    with pytest.raises(OptionError, match=r"pass dtype='.*' or use \.astype"):
        lazyio.to_zarr(values, tmp_path / "x.zarr", region=...)
    lazyio.to_zarr(values, tmp_path / "x.zarr", region=..., dtype=there)
    np.testing.assert_array_equal(read(tmp_path / "x.zarr"), values.astype(there))


def test_times_go_into_times(tmp_path):
    """In the units that are there; finer ones are refused, and a fill value may be a time."""
    path = tmp_path / "x.zarr"
    start, second = np.datetime64("2024-01-01", "s"), np.timedelta64(1, "s")
    lazyio.to_zarr(start + np.arange(5) * second, path, fill_value=start, chunks=(2,))
    days = np.array(["2025-01-01", "NaT"], "M8[D]")
    lazyio.to_zarr(days, path, region=np.s_[1:3], fill_value=start)
    found = lazyio.open(path).compute()
    assert found[1] == days[0]
    assert np.isnat(found[2])
    assert found[4] == start + 4 * second
    with pytest.raises(OptionError, match=r"dtype is datetime64\[s\]"):
        lazyio.to_zarr(days.astype("M8[ns]"), path, region=np.s_[1:3])
    with pytest.raises(OptionError, match="its fill value is"):
        lazyio.to_zarr(days, path, region=np.s_[1:3], fill_value=start + second)


@pytest.mark.parametrize("version", [2, 3])
def test_text_goes_into_text(tmp_path, version):
    """Of any length; what stands around it is kept."""
    path = tmp_path / "x.zarr"
    made = zarr.create_array(path, shape=(4,), chunks=(3,), dtype=str, zarr_format=version)
    made[:] = np.array(["a", "bc", "ddd", "é"], np.dtypes.StringDType())
    lazyio.to_zarr(np.array(["日本", "y" * 99]), path, region=np.s_[1:3])
    lazyio.to_zarr(np.array(["new"]), path, append_dim=0)
    assert read(path).tolist() == ["a", "日本", "y" * 99, "é", "new"]


def test_masked_gaps_get_the_fill_value_that_is_there(tmp_path):
    make(tmp_path / "x.zarr", np.zeros(4), (3,), fill_value=-7)
    values = np.ma.array([1.0, 2], mask=[0, 1])
    lazyio.to_zarr(values, tmp_path / "x.zarr", region=np.s_[1:3])
    np.testing.assert_array_equal(read(tmp_path / "x.zarr"), [0, 1, -7, 0])


def test_the_memory_of_chunks_larger_than_the_part_is_counted(tmp_path):
    """One row of a shard of 8 MB needs that shard, and the plan says so."""
    options = {"shards": 2, "compressors": None}
    make(tmp_path / "x.zarr", np.zeros((1000, 1000)), (500, 500), **options)
    row = np.ones((1, 1000))
    report = lazyio.to_zarr(row, tmp_path / "x.zarr", region=np.s_[4:5])
    assert report.peak_nbytes > 8_000_000
    with pytest.raises(PlanError, match=r"too small: chunks of \(1000, 1000\).*memory_limit="):
        lazyio.to_zarr(row, tmp_path / "x.zarr", region=np.s_[4:5], memory_limit="1 MB")


@pytest.mark.parametrize("kind", ["opened", "dask", "link"])
def test_reading_from_what_is_written_is_refused(tmp_path, kind):
    """However it was opened."""
    path = tmp_path / "x.zarr"
    make(path, np.zeros((8, 10)), (3, 4))
    source = lazyio.open(path) if kind == "opened" else da.from_zarr(str(path))
    target = path
    if kind == "link":
        target = tmp_path / "link.zarr"
        target.symlink_to(path)
    with pytest.raises(TargetError, match="is the source of this array"):
        lazyio.to_zarr(source[:4] + 1, target, region=np.s_[:4])


def test_a_part_of_an_array_that_changed_meanwhile(tmp_path):
    """A delayed write goes where it was checked, or nowhere."""
    path = tmp_path / "x.zarr"
    make(path, np.zeros((8, 10)), (3, 4))
    later = lazyio.to_zarr(np.ones((2, 10)), path, append_dim=0, compute=False)
    zarr.open_array(path, mode="r+").resize((9, 10))
    before = contents(tmp_path)
    with pytest.raises(TargetError, match=r"has shape \(9, 10\) now and had \(8, 10\)"):
        later.compute(scheduler="sync")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("codec", ["zstd", "shards"])
def test_chunks_that_are_counted(tmp_path, codec):
    """Those of the array that the part touches, which begin elsewhere than the data's own."""
    path = tmp_path / "x.zarr"
    make(path, np.zeros((20, 20), "i4"), (4, 4), codec)
    report = lazyio.to_zarr(np.ones((6, 4), "i4"), path, region=np.s_[3:9, 2:6])
    assert report.n_chunks == 3 * 2
