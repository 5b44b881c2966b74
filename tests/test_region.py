"""Writing into a part of an existing dataset: values, chunks, growth and what is refused."""

import math
import warnings

import dask.array as da
import h5py
import hdf5plugin
import numpy as np
import pynwb
import pytest
import tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import cases, expected

import lazyio
from lazyio.errors import BlockError, OptionError, PlanError, TargetError
from lazyio.storage.hdf5.dataset import Hdf5Target

CODECS = {
    "none": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "zstd": dict(hdf5plugin.Zstd(clevel=1)),
    "lzf": {"compression": "lzf", "fletcher32": True},
}


def make(path, values, **options):
    """Make a dataset with stock h5py."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **options)


def read(path, key="x"):
    with h5py.File(path, "r") as file:
        return file[key][()]


@given(cases(), st.sampled_from(list(CODECS)), st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_part_is_what_numpy_makes_of_it(tmp_path, case, codec, data):
    """Any window, any chunks, any blocks, whatever grows: numpy's answer, each chunk once."""
    shape, chunks, window, region = case
    path = tmp_path / "x.h5"
    before = np.arange(math.prod(shape), dtype="i4").reshape(shape) + 1
    options = {"chunks": chunks, "maxshape": (None,) * len(shape), "fillvalue": -3}
    make(path, before, **options, **CODECS[codec])
    inner = tuple(part.stop - part.start for part in window)
    values = -10 - np.arange(math.prod(inner), dtype="i4").reshape(inner)
    lengths = [n for n, part in zip(inner, region, strict=True) if isinstance(part, slice)]
    given_values = values.reshape(lengths)
    if data.draw(st.booleans(), label="graph"):
        blocks = tuple(data.draw(st.integers(1, max(1, n))) for n in lengths)
        given_values = da.from_array(given_values, chunks=blocks or ()) + np.int32(0)
    counted = []
    whole = Hdf5Target.write_chunk

    def count(self, index, chunk, workspace):
        counted.append(tuple(index))
        return whole(self, index, chunk, workspace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hdf5Target, "write_chunk", count)
        limit = data.draw(st.sampled_from(["1 MB", "1 GiB"]))
        report = lazyio.to_hdf5(given_values, path, "x", region=region, memory_limit=limit)
    np.testing.assert_array_equal(read(path), expected(before, window, values, -3))
    assert len(counted) == len(set(counted)) == report.n_chunks
    assert report.peak_nbytes <= report.plan.memory_limit


def test_a_part_of_a_contiguous_dataset(tmp_path):
    """Without chunks only the part changes, whatever the blocks are."""
    before = np.arange(5000.0).reshape(50, 100)
    make(tmp_path / "x.h5", before)
    values = da.full((20, 31), -1.0, chunks=(7, 9))
    lazyio.to_hdf5(values, tmp_path / "x.h5", "x", region=(slice(3, 23), slice(5, 36)))
    before[3:23, 5:36] = -1
    np.testing.assert_array_equal(read(tmp_path / "x.h5"), before)


def test_chunks_outside_the_window_keep_their_bytes(tmp_path):
    """Nothing but the chunks that the window touches is encoded anew."""
    path = tmp_path / "x.h5"
    make(path, np.arange(400).reshape(20, 20), chunks=(6, 7), compression="gzip")

    def payloads():
        with h5py.File(path) as file:
            return {
                (i, j): file["x"].id.read_direct_chunk((i, j))
                for i in range(0, 20, 6)
                for j in range(0, 20, 7)
            }

    before = payloads()
    report = lazyio.to_hdf5(np.zeros((4, 4), "i8"), path, "x", region=np.s_[7:11, 8:12])
    changed = {corner for corner, payload in payloads().items() if payload != before[corner]}
    assert changed == {(6, 7)}
    assert report.n_chunks == 1


def test_a_source_that_lies_straight_is_read_once(tmp_path):
    """Also where the window begins inside a chunk: blocks end where chunks do."""
    make(tmp_path / "x.h5", np.zeros((100, 8), "i4"), chunks=(30, 8))
    values = np.arange(80 * 8, dtype="i4").reshape(80, 8)
    n_read = []

    def fetch(region):
        n_read.append(values[region].size)
        return values[region]

    source = lazyio.from_function(fetch, values.shape, "i4")
    lazyio.to_hdf5(source, tmp_path / "x.h5", "x", region=np.s_[7:87], memory_limit="20 kB")
    assert sum(n_read) == values.size
    assert len(n_read) > 1
    np.testing.assert_array_equal(read(tmp_path / "x.h5")[7:87], values)


@pytest.mark.parametrize(
    ("region", "shape"),
    [
        (..., (8, 10)),
        ((..., slice(2, 4)), (8, 2)),
        ((-1, ...), (10,)),
        (slice(None, 3), (3, 10)),
        (np.int64(2), (10,)),
        ([slice(1, 2), 3], (1,)),
        ({"time": slice(2, 5)}, (3, 10)),
        ({"channel": -1}, (8,)),
        (slice(5, 2), (0, 10)),
        ((0, 0), ()),
    ],
)
def test_ways_to_say_where(tmp_path, region, shape):
    """Ellipsis, integers, lists, names of axes, nothing at all."""
    options = {"dims": ("time", "channel"), "chunks": (3, 4)}
    lazyio.to_hdf5(np.zeros((8, 10)), tmp_path / "x.h5", "x", **options)
    lazyio.to_hdf5(np.ones(shape), tmp_path / "x.h5", "x", region=region)
    wanted = np.zeros((8, 10))
    names = {"time": 0, "channel": 1}
    index = region
    if isinstance(region, dict):
        index = [slice(None)] * 2
        for name, part in region.items():
            index[names[name]] = part
    wanted[tuple(index) if isinstance(index, list) else index] = 1
    np.testing.assert_array_equal(read(tmp_path / "x.h5"), wanted)


def test_a_dataset_without_axes_is_a_part_of_itself(tmp_path):
    make(tmp_path / "x.h5", np.float64(1))
    lazyio.to_hdf5(np.float64(2), tmp_path / "x.h5", "x", region=())
    lazyio.to_hdf5(np.float64(3), tmp_path / "x.h5", "x", region=...)
    assert read(tmp_path / "x.h5") == 3


@pytest.mark.parametrize("append_dim", [0, -2, "time"])
def test_appending(tmp_path, append_dim):
    """By number or name; the chunk that was the last is completed."""
    path = tmp_path / "x.h5"
    first, second = np.arange(70).reshape(7, 10), np.arange(50).reshape(5, 10)
    dims = {"dims": ("time", "channel"), "maxshape": (None, 10), "chunks": (4, 10)}
    lazyio.to_hdf5(first, path, "x", compression="gzip", **dims)
    report = lazyio.to_hdf5(da.from_array(second, chunks=2), path, "x", append_dim=append_dim)
    np.testing.assert_array_equal(read(path), np.concatenate([first, second]))
    assert report.n_chunks == 2
    assert report.nbytes == second.nbytes


def test_appending_to_nothing(tmp_path):
    """A dataset that is still empty grows in chunks of a sensible size."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.empty((0, 64), "i2"), path, "x", maxshape=(None, 64))
    for n in (5, 0, 3000):
        lazyio.to_hdf5(np.full((n, 64), n, "i2"), path, "x", append_dim=0)
    found = read(path)
    assert found.shape == (3005, 64)
    assert (found[:5] == 5).all()
    assert (found[5:] == 3000).all()
    with h5py.File(path) as file:
        assert file["x"].chunks == (1024, 64)


def test_chunks_may_be_longer_than_an_axis_that_grows(tmp_path):
    """As h5py takes them, but no longer than the axis may ever be."""
    path = tmp_path / "x.h5"
    for maxshape, chunks, wanted in [
        ((None, 8), (1000, 8), (1000, 8)),
        ((50, None), (1000, 20), (50, 20)),
        ((None, 8), {0: 100}, (100, 8)),
        ((None, 8), (-1, 2), (10, 2)),
    ]:
        options = {"maxshape": maxshape, "chunks": chunks, "compression": "gzip"}
        lazyio.to_hdf5(np.ones((10, 8)), path, "x", mode="w", **options)
        with h5py.File(path) as file:
            assert file["x"].chunks == wanted
            assert (file["x"][:] == 1).all()


def test_the_memory_of_chunks_larger_than_the_part_is_counted(tmp_path):
    """One row of a chunk of 8 MB needs that chunk, and the plan says so."""
    make(tmp_path / "x.h5", np.zeros((1000, 1000)), chunks=(1000, 1000), compression="gzip")
    row = np.ones((1, 1000))
    report = lazyio.to_hdf5(row, tmp_path / "x.h5", "x", region=np.s_[4:5])
    assert report.peak_nbytes > 8_000_000
    with pytest.raises(PlanError, match=r"too small: chunks of \(1000, 1000\).*memory_limit="):
        lazyio.to_hdf5(row, tmp_path / "x.h5", "x", region=np.s_[4:5], memory_limit="1 MB")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"region": np.s_[0:3]}, r"takes data of shape \(3, 10\), not \(2, 10\)"),
        ({"region": np.s_[0:4:2]}, "no step but 1"),
        ({"region": np.s_[0.5:2]}, "whole numbers"),
        ({"region": (0, 0, 0)}, "is no part of"),
        ({"region": (..., ...)}, "is no part of"),
        ({"region": ([1, 2],)}, "is no part of"),
        ({"region": np.s_[-9:-7]}, "begins before the start of axis 0"),
        ({"region": {"time": 0}}, "has the axes"),
        ({"region": np.s_[8:10]}, r"cannot grow to 10 along axis 0: its maxshape is \(8, 10\)"),
        ({"append_dim": 0}, "cannot grow"),
        ({"append_dim": 2}, "is no axis"),
        ({"append_dim": "time"}, "is no axis"),
        ({"append_dim": 1}, "does not continue"),
        ({"append_dim": 0, "region": ...}, "give one of them"),
        ({"region": ..., "mode": "w"}, "is for new files"),
        ({"region": ..., "libver": "v110"}, "is for new files"),
    ],
)
def test_regions_that_are_none(tmp_path, options, match):
    """Refused before anything is written; the file keeps its bytes."""
    make(tmp_path / "x.h5", np.zeros((8, 10)), chunks=(3, 4))
    before = (tmp_path / "x.h5").read_bytes()
    with pytest.raises(OptionError, match=match):
        lazyio.to_hdf5(np.ones((2, 10)), tmp_path / "x.h5", "x", **options)
    assert (tmp_path / "x.h5").read_bytes() == before


def test_several_arrays_are_no_part(tmp_path):
    make(tmp_path / "x.h5", np.zeros(8))
    with (
        h5py.File(tmp_path / "x.h5", "r+") as file,
        pytest.raises(OptionError, match="several arrays do not go into one"),
    ):
        lazyio.to_hdf5({"a": np.ones(8)}, file["x"], region=...)


def test_what_is_not_there(tmp_path):
    """A missing file, a missing key, a group, a dataset of another file, no HDF5 at all."""
    path = tmp_path / "x.h5"
    with pytest.raises(TargetError, match=r"does not exist; lazyio\.allocate"):
        lazyio.to_hdf5(np.ones(3), path, "x", region=...)
    make(tmp_path / "other.h5", np.zeros(3))
    with h5py.File(path, "w") as file:
        file.create_group("group")
        file["link"] = h5py.ExternalLink("other.h5", "x")
        file["folder"] = h5py.ExternalLink("other.h5", "/")
        file["empty"] = h5py.Empty("f4")
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
    for key in ("missing", "group"):
        with pytest.raises(TargetError, match="is no dataset"):
            lazyio.to_hdf5(np.ones(3), path, key, region=...)
    for key in ("link", "folder/x"):
        with pytest.raises(TargetError, match="leads out of the file"):
            lazyio.to_hdf5(np.ones(3), path, key, region=...)
    for key in ("virtual", "outside"):
        with pytest.raises(TargetError, match="lie in other files"):
            lazyio.to_hdf5(np.ones(3), path, key, region=...)
    with pytest.raises(TargetError, match="null dataspace"):
        lazyio.to_hdf5(np.ones(3), path, "empty", region=...)
    assert (read(tmp_path / "other.h5") == 0).all()
    path.write_bytes(b"not HDF5")
    with pytest.raises(TargetError, match="is no HDF5 file"):
        lazyio.to_hdf5(np.ones(3), path, "x", region=...)


def test_a_file_that_is_open_for_writing_is_refused(tmp_path):
    """It would be replaced behind the back of whoever has it open."""
    make(tmp_path / "x.h5", np.zeros(3))
    with (
        h5py.File(tmp_path / "x.h5", "r+"),
        pytest.raises(TargetError, match="open for writing in this process"),
    ):
        lazyio.to_hdf5(np.ones(3), tmp_path / "x.h5", "x", region=...)


def test_all_differences_in_one_error(tmp_path):
    """dtype, chunks, filters, fill value and attributes, each with both sides."""
    make(tmp_path / "x.h5", np.zeros((8, 10), "i4"), chunks=(3, 4), compression="gzip")
    with pytest.raises(OptionError) as caught:
        lazyio.to_hdf5(
            np.ones((8, 10)),
            tmp_path / "x.h5",
            "x",
            region=...,
            dtype="f8",
            chunks=(1, 4),
            compression="zstd",
            fillvalue=7,
            attrs={"unit": "mV"},
        )
    for part in (
        "its dtype is int32, not float64",
        "its chunks are (3, 4), not (1, 4)",
        "its filters are gzip[4], not zstd",
        "its fill value is 0, not 7",
        "it has no attribute 'unit'",
    ):
        assert part in str(caught.value)


def test_what_is_the_same_may_be_said_again(tmp_path):
    """The call that made the dataset also writes into it."""
    options = {
        "dtype": "f4",
        "chunks": (3, 4),
        "compression": "gzip",
        "compression_opts": 2,
        "shuffle": True,
        "fletcher32": True,
        "fillvalue": np.nan,
        "attrs": {"unit": "mV", "gains": [1.0, 2.0]},
    }
    lazyio.to_hdf5(np.zeros((8, 10)), tmp_path / "x.h5", "x", **options)
    lazyio.to_hdf5(np.ones((8, 10)), tmp_path / "x.h5", "x", region=..., **options)
    assert (read(tmp_path / "x.h5") == 1).all()


@pytest.mark.parametrize(
    ("there", "given_dtype"),
    [("f8", "i4"), ("f8", "f4"), ("i8", "u4"), (">i4", "<i2"), ("c16", "f8"), ("S5", "S3")],
)
def test_lossless_casts_happen(tmp_path, there, given_dtype):
    values = np.arange(6).astype(given_dtype)
    make(tmp_path / "x.h5", np.zeros(6, there), chunks=(4,))
    lazyio.to_hdf5(values, tmp_path / "x.h5", "x", region=...)
    found = read(tmp_path / "x.h5")
    assert found.dtype == there
    np.testing.assert_array_equal(found, values.astype(there))


@pytest.mark.parametrize(
    ("there", "given_dtype"),
    [("i4", "f8"), ("f4", "f8"), ("u4", "i4"), ("i2", "i4")],
)
def test_lossy_casts_are_refused(tmp_path, there, given_dtype):
    """The message names both ways to insist."""
    make(tmp_path / "x.h5", np.zeros(6, there), chunks=(4,))
    values = np.arange(6).astype(given_dtype)
    with pytest.raises(OptionError, match=r"pass dtype='.*' or use \.astype"):
        lazyio.to_hdf5(values, tmp_path / "x.h5", "x", region=...)
    lazyio.to_hdf5(values, tmp_path / "x.h5", "x", region=..., dtype=there)
    np.testing.assert_array_equal(read(tmp_path / "x.h5"), values.astype(there))


def test_text_that_would_be_cut_is_refused(tmp_path):
    make(tmp_path / "x.h5", np.zeros(6, "S2"), chunks=(4,))
    with pytest.raises(OptionError, match="text that is cut is lost"):
        lazyio.to_hdf5(np.array([b"abc"] * 6), tmp_path / "x.h5", "x", region=...)


def test_times_are_cast_for_who_says_so(tmp_path):
    """Where no units stand beside the numbers that are there."""
    make(tmp_path / "x.h5", np.zeros(6, "i8"), chunks=(4,))
    times = np.arange(6).astype("M8[s]")
    with pytest.raises(OptionError, match="the data are times"):
        lazyio.to_hdf5(times, tmp_path / "x.h5", "x", region=...)
    lazyio.to_hdf5(times, tmp_path / "x.h5", "x", region=..., dtype="i8")
    assert read(tmp_path / "x.h5").tolist() == [*range(6)]


def test_times_go_into_times(tmp_path):
    """In the units that are there; finer ones are refused, and a fill value may be a time."""
    path = tmp_path / "x.h5"
    start = np.datetime64("2024-01-01", "s")
    lazyio.to_hdf5(start + np.arange(5), path, "x", fillvalue=start)
    days = np.array(["2025-01-01", "NaT"], "M8[D]")
    lazyio.to_hdf5(days, path, "x", region=np.s_[1:3], fillvalue=start)
    found = read(path).view("M8[s]")
    assert found[1] == days[0]
    assert np.isnat(found[2])
    with pytest.raises(OptionError, match=r"dtype is datetime64\[s\]"):
        lazyio.to_hdf5(days.astype("M8[ns]"), path, "x", region=np.s_[1:3])


def test_text_goes_into_text(tmp_path):
    """Of variable length made by stock h5py, and fixed UTF-8, whose rim is kept."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        options = {"chunks": (3,), "maxshape": (None,), "dtype": h5py.string_dtype()}
        file.create_dataset("x", data=["a", "bc", "ddd", "é"], **options)
        file.create_dataset("fixed", (4,), h5py.string_dtype("utf-8", 5))
    lazyio.to_hdf5(np.array(["日本", "yy"]), path, "x", region=np.s_[1:3])
    lazyio.to_hdf5(np.array(["new"]), path, "x", append_dim=0)
    lazyio.to_hdf5(np.array([b"x", b"yy"]), path, "fixed", region=np.s_[1:3])
    with h5py.File(path) as file:
        assert file["x"].asstr()[:].tolist() == ["a", "日本", "yy", "é", "new"]
        assert file["fixed"][:].tolist() == [b"", b"x", b"yy", b""]
        assert h5py.check_string_dtype(file["fixed"].dtype).encoding == "utf-8"


def test_masked_gaps_get_the_fill_value_that_is_there(tmp_path):
    make(tmp_path / "x.h5", np.zeros(4), chunks=(3,), fillvalue=-7)
    lazyio.to_hdf5(np.ma.array([1.0, 2], mask=[0, 1]), tmp_path / "x.h5", "x", region=np.s_[1:3])
    np.testing.assert_array_equal(read(tmp_path / "x.h5"), [0, 1, -7, 0])


@pytest.mark.parametrize("kind", ["EArray", "CArray"])
def test_arrays_of_pytables(tmp_path, kind):
    """Its filters and attributes stay, and it reads what was written."""
    path = tmp_path / "x.h5"
    filters = tables.Filters(complevel=5, complib="zlib", shuffle=True)
    with tables.open_file(path, "w") as file:
        options = {"atom": tables.Int32Atom(), "filters": filters}
        if kind == "EArray":
            array = file.create_earray("/", "x", shape=(0, 10), **options)
            array.append(np.zeros((8, 10), "i4"))
        else:
            file.create_carray("/", "x", shape=(8, 10), chunkshape=(3, 4), **options)
    lazyio.to_hdf5(np.ones((3, 4), "i4"), path, "x", region=np.s_[2:5, 3:7])
    wanted = np.zeros((8, 10), "i4")
    wanted[2:5, 3:7] = 1
    if kind == "EArray":
        lazyio.to_hdf5(np.full((2, 10), 5, "i4"), path, "x", append_dim=0)
        wanted = np.concatenate([wanted, np.full((2, 10), 5, "i4")])
    with tables.open_file(path) as file:
        assert type(file.root.x).__name__ == kind
        np.testing.assert_array_equal(file.root.x[:], wanted)


def test_a_series_of_an_nwb_file(tmp_path, nwb_file):
    """A part of a PyNWB file, by its path; the file stays valid."""
    path = nwb_file(np.zeros((20, 4)), chunks=(6, 4), maxshape=(None, 4), compression="gzip")
    key = "acquisition/x/data"
    lazyio.to_hdf5(np.ones((5, 4)), path, key, region=np.s_[3:8])
    lazyio.to_hdf5(np.full((5, 4), 2.0), path, key, append_dim=0)
    with pynwb.NWBHDF5IO(path, "r") as io:
        found = io.read().acquisition["x"].data[:]
    assert found.shape == (25, 4)
    assert found.sum() == 20 + 40
    assert pynwb.validate(path=path) in ([], ([], 0))


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    """Neither grown nor half written."""
    path = tmp_path / "x.h5"
    make(path, np.zeros((8, 10)), chunks=(3, 4), maxshape=(None, 10))
    before = path.read_bytes()

    def fail(block, block_id=None):
        if block_id == (1, 0):
            raise ValueError("bad block")
        return block

    x = da.ones((6, 10), chunks=(2, 10)).map_blocks(fail, dtype=float)
    with pytest.raises(RuntimeError, match=r"\[2:4, 0:10\].*bad block"):
        lazyio.to_hdf5(x, path, "x", append_dim=0)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["x.h5"]


def test_reading_from_what_is_written_is_refused(tmp_path):
    make(tmp_path / "x.h5", np.zeros((8, 10)))
    source = lazyio.open(tmp_path / "x.h5", "x")
    with pytest.raises(TargetError, match="is the source of this array"):
        lazyio.to_hdf5(source[:4] + 1, tmp_path / "x.h5", "x", region=np.s_[:4])


def test_filters_that_are_not_to_be_had_are_named(tmp_path):
    """A dataset of an unknown filter cannot be written, and the error says which."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((5,))
        properties.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((10,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, space, properties)
    with pytest.raises(OptionError, match="32999"):
        lazyio.to_hdf5(np.ones(5, "i4"), tmp_path / "x.h5", "x", region=np.s_[:5])


@pytest.mark.parametrize("chunks", [(300, 8), {0: 300}, {"time": 300}, (300, -1), [300, None]])
def test_the_chunks_of_a_dataset_may_be_said_again(tmp_path, chunks):
    """Whatever the extents of the part, and of the dataset, are by now."""
    path = tmp_path / "x.h5"
    options = {"dims": ("time", "channel"), "maxshape": (None, 8)}
    lazyio.to_hdf5(np.ones((10, 8)), path, "x", chunks=(300, 8), **options)
    lazyio.to_hdf5(np.ones((5, 8)), path, "x", append_dim=0, chunks=chunks)
    lazyio.to_hdf5(np.ones(8), path, "x", region=3, chunks=chunks)
    with pytest.raises(OptionError, match=r"chunks are \(300, 8\), not \(7, None\)"):
        lazyio.to_hdf5(np.ones((5, 8)), path, "x", append_dim=0, chunks=(7, -1))


@pytest.mark.parametrize(
    ("given", "there"),
    [
        (np.array([2**53 + 1]), "f8"),
        (np.array(["9999-01-01"], "M8[D]"), "M8[ns]"),
        (np.array([12]), "S8"),
    ],
    ids=["large-integer", "far-time", "number-as-text"],
)
def test_what_numpy_calls_safe_and_is_not(tmp_path, given, there):
    """Values that would become others are refused, before or when they are met."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.zeros(1, there), path, "x")
    before = path.read_bytes()
    with pytest.raises((OptionError, BlockError), match=r"not every|outside of what|Overflow"):
        lazyio.to_hdf5(given, path, "x", region=slice(0, 1))
    assert path.read_bytes() == before


@pytest.mark.parametrize("option", [{"overwrite": True}, {"links": "link"}], ids=str)
def test_options_of_whole_datasets(tmp_path, option):
    """A part takes none of them, and says so."""
    lazyio.to_hdf5(np.zeros(4), tmp_path / "x.h5", "x")
    with pytest.raises(OptionError, match="for whole datasets"):
        lazyio.to_hdf5(np.ones(2), tmp_path / "x.h5", "x", region=slice(0, 2), **option)


def test_a_value_that_would_become_a_gap(tmp_path):
    """Masked data that holds its own fill value is refused; another fill value does it."""
    data = np.ma.array(np.arange(6), mask=[0, 0, 1, 0, 0, 0])
    with pytest.raises(BlockError, match="with which gaps are filled"):
        lazyio.to_hdf5(data, tmp_path / "x.h5", "x", fillvalue=4)
    lazyio.to_hdf5(data, tmp_path / "x.h5", "x", fillvalue=-1)
    assert lazyio.open(tmp_path / "x.h5").compute().tolist() == [0, 1, -1, 3, 4, 5]


def test_a_folder_that_takes_nothing_is_an_error():
    """Not an endless wait."""
    with pytest.raises(TargetError, match="takes no folder"):
        lazyio.to_hdf5(np.ones(3), "/proc/lazyio.h5")


def test_blocks_leave_room_for_the_chunks_at_the_rim(tmp_path):
    """Where a block would fill the limit it is made smaller; workers that are fixed stay."""
    path = tmp_path / "x.h5"
    lazyio.allocate(path, "x", shape=(100_000, 100), dtype="i2", chunks=(500, 100))
    values = np.ones((90_001, 100), "i2")
    for limit in ("4 MiB", "2500 kB"):
        report = lazyio.to_hdf5(
            values, path, "x", region=slice(7, 90_008), memory_limit=limit, workers=2
        )
        assert report.peak_nbytes <= report.plan.memory_limit
        assert report.plan.workers == 2
    with h5py.File(path) as file:
        assert file["x"][:].sum() == values.size
