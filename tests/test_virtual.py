"""Virtual datasets: read like what they are made of, and refused where they would not be."""

import os
import pickle
import shutil
import subprocess
import time
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import killed

import lazyio
from lazyio.cli import main
from lazyio.errors import (
    LazyioError,
    OptionError,
    SourceChangedError,
    SourceError,
    TargetError,
    TargetExistsError,
)
from lazyio.sources.hdf5 import hdf5_source
from lazyio.sources.hdf5_virtual import VirtualSource
from lazyio.storage.hdf5 import file as hdf5_file

pytestmark = pytest.mark.usefixtures("in_this_process")

VALUES = np.arange(60, dtype="i4").reshape(20, 3)


@pytest.fixture
def days(tmp_path, monkeypatch):
    """Go to a folder with three files of one day each."""
    (tmp_path / "raw").mkdir()
    monkeypatch.chdir(tmp_path)
    for day in range(3):
        attrs = {"units": "uV", "day": day}
        path, values = f"raw/day{day}.h5", VALUES + 1000 * day
        lazyio.to_hdf5(values, path, "g/x", attrs=attrs, compression="gzip")
    return [f"raw/day{day}.h5::g/x" for day in range(3)]


WHOLE = np.concatenate([VALUES + 1000 * day for day in range(3)])


def read_by_h5py(path, key):
    with h5py.File(path) as file:
        return file[key][()]


def test_every_reader_gets_the_concatenation(days, h5dump):
    lazyio.virtual("week.h5", "a/x", days)
    np.testing.assert_array_equal(read_by_h5py("week.h5", "a/x"), WHOLE)
    np.testing.assert_array_equal(lazyio.open("week.h5", "a/x").compute(), WHOLE)
    np.testing.assert_array_equal(lazyio.open("week.h5").compute(), WHOLE)
    command = [h5dump, "-d", "/a/x", "-y", "-w", "0", "week.h5"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = said.partition("DATA {")[2].partition("}")[0].replace(",", " ").split()
    np.testing.assert_array_equal(np.array(rows, int).reshape(WHOLE.shape), WHOLE)
    assert lazyio.verify("week.h5").status == "ok"


def test_the_folder_is_moved(days, tmp_path):
    lazyio.virtual("week.h5", "x", days)
    shutil.move(tmp_path, tmp_path.parent / "moved")
    os.chdir(tmp_path.parent / "moved")
    np.testing.assert_array_equal(read_by_h5py("week.h5", "x"), WHOLE)
    np.testing.assert_array_equal(lazyio.open("week.h5", "x").compute(), WHOLE)


@pytest.mark.parametrize("kind", ["text", "path", "tuple", "h5py", "h5py r+", "dask", "source"])
def test_what_an_item_may_be(days, kind):
    paths = [Path(day.partition("::")[0]) for day in days]
    mode = "r+" if kind == "h5py r+" else "r"
    files = [h5py.File(path, mode) for path in paths] if kind.startswith("h5py") else []
    items = {
        "text": days,
        "path": paths,
        "tuple": [(path, "/g/x") for path in paths],
        "h5py": [file["g/x"] for file in files],
        "h5py r+": [file["g/x"] for file in files],
        "dask": [lazyio.open(path, "g/x", chunks=(7, 3)) for path in paths],
        "source": [hdf5_source(path, "g/x") for path in paths],
    }[kind]
    lazyio.virtual("week.h5", "x", items)
    for file in files:
        file.close()
    np.testing.assert_array_equal(read_by_h5py("week.h5", "x"), WHOLE)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_stacked(days, axis):
    lazyio.virtual("week.h5", "x", days, axis, stack=True)
    whole = np.stack([VALUES + 1000 * day for day in range(3)], axis)
    np.testing.assert_array_equal(read_by_h5py("week.h5", "x"), whole)
    np.testing.assert_array_equal(lazyio.open("week.h5", "x").compute(), whole)


def test_scalars_are_stacked(tmp_path):
    for at in range(3):
        lazyio.to_hdf5(np.float64(at), tmp_path / f"{at}.h5", "x")
    items = [tmp_path / f"{at}.h5" for at in range(3)]
    lazyio.virtual(tmp_path / "all.h5", "x", items, stack=True)
    assert lazyio.open(tmp_path / "all.h5", "x").compute().tolist() == [0, 1, 2]


def test_gaps(days):
    lazyio.virtual("week.h5", "x", [2, days[0], 3, days[1]], fillvalue=-1)
    gap = np.full((3, 3), -1)
    whole = np.concatenate([gap[:2], VALUES, gap, VALUES + 1000])
    np.testing.assert_array_equal(read_by_h5py("week.h5", "x"), whole)
    np.testing.assert_array_equal(lazyio.open("week.h5", "x").compute(), whole)
    lazyio.virtual("week.h5", "y", [days[0], 1, days[1]], stack=True, fillvalue=7)
    assert (lazyio.open("week.h5", "y")[1] == 7).all().compute()


def test_gaps_read_as_what_all_items_read_as(tmp_path):
    for name, fill in {"a": 5, "b": 5, "c": 6}.items():
        lazyio.allocate(tmp_path / f"{name}.h5", "x", shape=(2,), dtype="i4", fillvalue=fill)
    a, b, c = (tmp_path / f"{name}.h5" for name in "abc")
    lazyio.virtual(tmp_path / "v.h5", "same", [a, 1, b])
    lazyio.virtual(tmp_path / "v.h5", "other", [a, 1, c])
    assert read_by_h5py(tmp_path / "v.h5", "same").tolist() == [5] * 5
    assert read_by_h5py(tmp_path / "v.h5", "other").tolist() == [5, 5, 0, 6, 6]


def test_names_with_percent_signs_and_more(tmp_path, h5dump):
    """``%b`` would stand for a number."""
    for name, key in {"100%b.h5": "x%b", "a %% µ\n.h5": "日%/b c"}.items():
        lazyio.to_hdf5(VALUES, tmp_path / name, key)
    items = [tmp_path / "100%b.h5", (tmp_path / "a %% µ\n.h5", "日%/b c")]
    lazyio.virtual(tmp_path / "v.h5", "x", items)
    both = np.concatenate([VALUES, VALUES])
    np.testing.assert_array_equal(read_by_h5py(tmp_path / "v.h5", "x"), both)
    np.testing.assert_array_equal(lazyio.open(tmp_path / "v.h5", "x").compute(), both)
    assert lazyio.verify(tmp_path / "v.h5").status == "ok"
    command = [h5dump, "-d", "/x", tmp_path / "v.h5"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "(39,0): 57, 58, 59" in said


def test_datasets_of_its_own_file(days):
    lazyio.to_hdf5({"a": VALUES, "b": VALUES + 1}, "own.h5")
    items = ["own.h5::a", "own.h5::b", days[0]]
    lazyio.virtual("own.h5", "both", items, attrs={"units": "uV"})
    whole = np.concatenate([VALUES, VALUES + 1, VALUES])
    np.testing.assert_array_equal(read_by_h5py("own.h5", "both"), whole)
    os.rename("own.h5", "other.h5")
    np.testing.assert_array_equal(lazyio.open("other.h5", "both").compute(), whole)
    assert lazyio.verify("other.h5").status == "ok"


def test_virtual_datasets_and_links_of_others(days):
    lazyio.virtual("a.h5", "x", days[:2])
    lazyio.link("b.h5", "l", "a.h5", "x")
    lazyio.virtual("c.h5", "x", ["b.h5::l", days[2]])
    np.testing.assert_array_equal(lazyio.open("c.h5", "x").compute(), WHOLE)


TYPED = {
    "times": np.arange("2026-01-01", "2026-01-05", dtype="M8[h]").astype("M8[ns]"),
    "durations": np.arange(4).astype("m8[s]"),
    "bools": np.array([True, False, True]),
    "complex": np.arange(4) + 1j,
    "records": np.array([(1, 2.5), (3, 4.5)], [("a", "i2"), ("b", "f8")]),
    "bytes": np.array([b"ab", b"c"]),
    "text": np.array(["ab", "cdé"]),
    "any text": np.array(["ab", "c" * 50], np.dtypes.StringDType()),
    "half": np.arange(4, dtype="f2"),
    "big endian": np.arange(4, dtype=">i8"),
}


@pytest.mark.parametrize("kind", TYPED)
def test_types(tmp_path, kind):
    values = TYPED[kind]
    for at in range(2):
        lazyio.to_hdf5(values, tmp_path / f"{at}.h5", "x")
    lazyio.virtual(tmp_path / "v.h5", "x", [tmp_path / "0.h5", tmp_path / "1.h5"])
    found = lazyio.open(tmp_path / "v.h5", "x").compute()
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.concatenate([values, values]))
    assert lazyio.verify(tmp_path / "v.h5").status == "ok"


def test_byte_orders_are_mixed(tmp_path):
    for name, dtype in {"little": "<f4", "big": ">f4"}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.arange(5, dtype=dtype)
    lazyio.virtual(tmp_path / "v.h5", "x", [tmp_path / "little.h5", tmp_path / "big.h5"])
    assert read_by_h5py(tmp_path / "v.h5", "x").tolist() == [0, 1, 2, 3, 4] * 2


def test_enumerations_of_other_names(tmp_path):
    for at, names in enumerate([{"A": 0, "B": 1}, {"A": 1, "B": 0}]):
        with h5py.File(tmp_path / f"{at}.h5", "w") as file:
            file.create_dataset("x", data=[0, 1], dtype=h5py.enum_dtype(names, "i1"))
    one, other = tmp_path / "0.h5", tmp_path / "1.h5"
    with pytest.raises(OptionError, match=r"item 1 \(.*1.h5, '/x'\) is stored as another type"):
        lazyio.virtual(tmp_path / "v.h5", "x", [one, other])
    lazyio.virtual(tmp_path / "v.h5", "x", [one, one])
    with h5py.File(tmp_path / "v.h5") as file:
        assert h5py.check_enum_dtype(file["x"].dtype) == {"A": 0, "B": 1}


class TestAttributes:
    """Those that hold for all."""

    def test_what_all_have_alike(self, days):
        lazyio.virtual("week.h5", "x", days, attrs={"by": "us"}, dims=("time", "channel"))
        with h5netcdf.File("week.h5") as file:
            assert file["x"].dimensions == ("time", "channel")
            assert dict(file["x"].attrs) == {"units": "uV", "by": "us"}

    def test_numbers_that_mean_other_things(self, days):
        with h5py.File("raw/day2.h5", "a") as file:
            file["g/x"].attrs["units"] = "mV"
        with pytest.raises(OptionError, match=r"item 2 \(.*day2.h5, '/g/x'\) has units='mV'"):
            lazyio.virtual("week.h5", "x", days)
        assert not Path("week.h5").exists()
        lazyio.virtual("week.h5", "x", days, attrs={"units": "mixed"})
        with h5py.File("raw/day1.h5", "a") as file:
            file["g/x"].attrs["scale_factor"] = 2.0
        with pytest.raises(OptionError, match=r"item 1 .* has scale_factor=.*item 0 .* has no sc"):
            lazyio.virtual("week.h5", "x", days, attrs={"units": "mixed"}, overwrite=True)

    def test_references_to_objects_of_their_file_are_left_out(self, days):
        for day in range(3):
            with h5py.File(f"raw/day{day}.h5", "a") as file:
                file["g/x"].attrs["table"] = file["g"].ref
                file["g/x"].dims[0].label = "time"
        lazyio.virtual("week.h5", "x", days)
        with h5py.File("week.h5") as file:
            assert set(file["x"].attrs) == {"units", "DIMENSION_LABELS"}
            assert file["x"].dims[0].label == "time"


@pytest.mark.parametrize(
    ("items", "options", "match"),
    [
        ([], {}, r"items=\[\]; give a list"),
        ("raw/day0.h5", {}, "items='raw/day0.h5'; give a list"),
        ([5], {}, "at least one dataset"),
        (["raw/day0.h5", -1], {}, "item 1 is -1; a gap"),
        (["raw/day0.h5", "raw/day9.h5"], {}, "day9.h5 does not exist"),
        (["raw/day0.h5", "raw/day1.h5::y"], {}, "day1.h5 has no dataset 'y'"),
        (["raw/day0.h5", ("raw/day1.h5",)], {}, "item 1 is .*; a tuple is a path and a key"),
        (["raw/day0.h5", VALUES], {}, "item 1 is not all of a dataset"),
        (["raw/day0.h5", "x.npy"], {}, "x.npy cannot be opened as HDF5"),
        (
            ["raw/day0.h5", "wide.h5"],
            {},
            r"item 1 \(.*wide.h5, '/x'\) has shape \(20, 4\), item 0 \(.*day0.h5, '/g/x'\) has",
        ),
        (["raw/day0.h5", "wide.h5"], {"stack": True}, "shapes must be equal"),
        (["raw/day0.h5", "float.h5"], {}, r"item 1 \(.*float.h5, '/x'\) has dtype float32"),
        (["raw/day0.h5"], {"axis": 2}, "axis=2 is not an axis"),
        (["raw/day0.h5"], {"fillvalue": 1.5}, "fillvalue=1.5 is no value of dtype int32"),
        (["raw/day0.h5"], {"dims": ("a",)}, "give one name for each of the array's 2 axes"),
        (["raw/day0.h5"], {"attrs": 3}, "attrs=3; give a dict"),
        (["raw/day0.h5"], {"stack": 1}, "stack=1"),
        (["vlen.h5"], {}, "variable-length rows"),
        (["references.h5"], {}, "references to other objects"),
    ],
)
def test_what_cannot_be_joined(days, items, options, match):
    np.save("x.npy", VALUES)
    lazyio.to_hdf5(np.zeros((20, 4), "i4"), "wide.h5", "x")
    lazyio.to_hdf5(VALUES.astype("f4"), "float.h5", "x")
    with h5py.File("vlen.h5", "w") as file:
        file.create_dataset("x", (3,), h5py.vlen_dtype("i4"))
    with h5py.File("references.h5", "w") as file:
        file.create_dataset("x", (3,), h5py.ref_dtype)
    before = sorted(os.listdir())
    with pytest.raises(LazyioError, match=match):
        lazyio.virtual("week.h5", "x", items, **options)
    assert sorted(os.listdir()) == before


def test_parts_of_datasets_are_refused(days):
    x = lazyio.open("raw/day0.h5", "g/x")
    for item in (x[:5], x + 0, x.rechunk((3, 3))):
        with pytest.raises(OptionError, match="item 0 is not all of a dataset"):
            lazyio.virtual("week.h5", "x", [item])


def test_what_is_there(days):
    lazyio.to_hdf5(VALUES, "week.h5", "x")
    with pytest.raises(TargetExistsError, match="'x' already; pass overwrite=True"):
        lazyio.virtual("week.h5", "x", days)
    lazyio.virtual("week.h5", "x", days, overwrite=True)
    np.testing.assert_array_equal(lazyio.open("week.h5", "x").compute(), WHOLE)
    with pytest.raises(OptionError, match="would then lead to itself"):
        lazyio.virtual("week.h5", "x", ["week.h5::x", days[0]], overwrite=True)
    lazyio.virtual("other.h5", "y", ["week.h5::x"])
    with pytest.raises(OptionError, match="would then lead to itself"):
        lazyio.virtual("week.h5", "x", ["other.h5::y"], overwrite=True)
    lazyio.to_hdf5(VALUES, "week.h5", "x", overwrite=True)
    assert lazyio.verify("week.h5").status == "ok"


class TestMissing:
    """A file that is gone, or another than it was."""

    @pytest.fixture(autouse=True)
    def week(self, days):
        """Join the days."""
        lazyio.virtual("week.h5", "x", days)

    def test_a_missing_file(self, capsys):
        x = lazyio.open("week.h5", "x")
        os.remove("raw/day1.h5")
        match = r"made of '/g/x' in 'raw/day1.h5', which is not there"
        with pytest.raises(SourceChangedError, match=r"day1\.h5"):
            x.compute()
        with pytest.raises(SourceError, match=match):
            lazyio.open("week.h5", "x")
        found = lazyio.verify("week.h5")
        assert found.status == "damaged"
        (one,) = found.damaged
        assert one[0] == "/x"
        assert "'/g/x' in 'raw/day1.h5', which is not there" in one[2]
        assert [link.state for link in found.links] == ["good", "broken", "good"]
        assert main(["verify", "week.h5"]) == 3
        assert main(["info", "week.h5"]) == 0
        said = capsys.readouterr().out
        assert "/x: virtual dataset made of '/g/x' in raw/day1.h5, broken: " in said
        assert "/x: virtual dataset made of '/g/x' in raw/day2.h5, good (dataset of (20, 3)" in said

    def test_all_that_are_missing_are_named(self):
        os.remove("raw/day0.h5")
        with h5py.File("raw/day2.h5", "a") as file:
            del file["g/x"]
        found = lazyio.verify("week.h5", "x")
        assert [what.partition("made of ")[2][:23] for _, _, what in found.damaged] == [
            "'/g/x' in 'raw/day0.h5'",
            "'/g/x' in 'raw/day2.h5'",
        ]

    @pytest.mark.parametrize("shape", [(3, 20), (19, 3), (20, 2), (60,)])
    def test_another_shape(self, shape):
        """Of which libhdf5 may read elements that belong elsewhere."""
        n_elements = int(np.prod(shape))
        lazyio.to_hdf5(np.arange(n_elements, dtype="i4").reshape(shape), "raw/day1.h5", mode="w")
        os.rename("raw/day1.h5", "other.h5")
        lazyio.to_hdf5(lazyio.open("other.h5"), "raw/day1.h5", "g/x")
        with pytest.raises(SourceError, match=r"'raw/day1\.h5', which is a dataset of"):
            lazyio.open("week.h5", "x")
        found = lazyio.verify("week.h5")
        assert found.status == "damaged"
        assert "'raw/day1.h5', which is a dataset of" in found.damaged[0][2]

    def test_h5pys_own_layouts(self):
        """Select all of a source, which says nothing of its extents."""
        layout = h5py.VirtualLayout((20, 3), "i4")
        layout[...] = h5py.VirtualSource("raw/day1.h5", "g/x", (20, 3))
        with h5py.File("own.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
        np.testing.assert_array_equal(lazyio.open("own.h5", "x").compute(), VALUES + 1000)
        assert lazyio.verify("own.h5").status == "unverifiable"
        lazyio.to_hdf5(np.zeros((21, 3), "i4"), "raw/day1.h5", "g/x", overwrite=True)
        with pytest.raises(SourceError, match=r"all 60 elements of .* is a dataset of"):
            lazyio.open("own.h5", "x")

    def test_another_type(self):
        lazyio.to_hdf5(VALUES.astype("f8"), "raw/day1.h5", "g/x", overwrite=True)
        found = lazyio.verify("week.h5")
        assert found.status == "damaged"
        assert "'/g/x' in raw/day1.h5 was a dataset of (20, 3) int32" in found.damaged[0][2]

    def test_one_that_has_grown(self):
        values = np.zeros((30, 3), "i4")
        values[:20] = VALUES + 1000
        lazyio.to_hdf5(values, "raw/day1.h5", "g/x", overwrite=True)
        np.testing.assert_array_equal(lazyio.open("week.h5", "x").compute(), WHOLE)
        found = lazyio.verify("week.h5")
        assert found.status == "modified"
        assert "has grown from shape (20, 3) to (30, 3)" in found.modified[0][2]

    def test_a_mapping_that_another_program_has_changed(self):
        layout = h5py.VirtualLayout((60, 3), "i4")
        for day in range(3):
            source = h5py.VirtualSource("raw/day0.h5", "g/x", (20, 3))
            layout[20 * day : 20 * (day + 1)] = source
        with h5py.File("week.h5", "a") as file:
            attrs = dict(file["x"].attrs)
            del file["x"]
            file.create_virtual_dataset("x", layout).attrs.update(attrs)
        found = lazyio.verify("week.h5")
        assert found.status == "damaged"
        assert found.damaged[0][2].startswith("its virtual sources")

    def test_patterns(self):
        """printf-style names, which stand for as many files as there are."""
        with h5py.File("pattern.h5", "w") as file:
            space = h5py.h5s.create_simple((60, 3), (h5py.h5s.UNLIMITED, 3))
            filled, unlimited = space.copy(), (h5py.h5s.UNLIMITED, 1)
            filled.select_hyperslab((0, 0), unlimited, stride=(20, 1), block=(20, 3))
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            source = h5py.h5s.create_simple((20, 3))
            properties.set_virtual(filled, b"raw/day%b.h5", b"/g/x", source)
            kind = h5py.h5t.NATIVE_INT32
            h5py.h5d.create(file.id, b"x", kind, space, properties)
        np.testing.assert_array_equal(lazyio.open("pattern.h5", "x").compute(), WHOLE)
        (link,) = lazyio.verify("pattern.h5").links
        assert (link.path, link.state) == ("raw/day%b.h5", "good")


@settings(max_examples=40)
@given(data=st.data())
def test_random_cuts_of_an_array(tmp_path_factory, data):
    """Joined again, read whole and in parts by h5py and lazyio, and followed by a move."""
    folder = tmp_path_factory.mktemp("cuts")
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype = data.draw(st.sampled_from(["i2", ">f4", "u1", "f8"]))
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=4)))
    pieces = np.split(values, cuts, axis)
    items, expected = [], []
    for at, piece in enumerate(pieces):
        path, key = folder / f"{at}" / f"{at}.h5", f"g{at}/x"
        path.parent.mkdir()
        options = data.draw(st.sampled_from([{}, {"compression": "gzip"}, {"chunks": None}]))
        lazyio.to_hdf5(piece, path, key, **options)
        items.append(f"{path}::{key}")
        expected.append(piece)
        if data.draw(st.booleans()):
            extent = data.draw(st.integers(0, 3))
            items.append(extent)
            gap = list(shape)
            gap[axis] = extent
            expected.append(np.full(gap, 3, dtype))
    whole = np.concatenate(expected, axis)
    lazyio.virtual(folder / "whole.h5", "w/x", items, axis, fillvalue=3)
    folder = folder.rename(folder.with_name(f"{folder.name}-moved"))
    found = read_by_h5py(folder / "whole.h5", "w/x")
    np.testing.assert_array_equal(found, whole)
    assert found.dtype == dtype
    x = lazyio.open(folder / "whole.h5", "w/x")
    np.testing.assert_array_equal(x.compute(), whole)
    region = tuple(
        slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
        for n in whole.shape
    )
    np.testing.assert_array_equal(x[region].compute(), whole[region])
    assert lazyio.verify(folder / "whole.h5").status == "ok"


def test_circles_do_not_hang(tmp_path):
    """Of virtual datasets and of links, through several files."""
    for at in range(3):
        with h5py.File(tmp_path / f"{at}.h5", "w") as file:
            layout = h5py.VirtualLayout((3,), "i4")
            layout[:] = h5py.VirtualSource(f"{(at + 1) % 3}.h5", "v", (3,))
            file.create_virtual_dataset("v", layout)
            file["l"] = h5py.ExternalLink(f"{(at + 1) % 3}.h5", "/l")
            file["up"] = h5py.SoftLink("/")
    for key, match in {"v": "made of itself", "l": "in a circle"}.items():
        with pytest.raises(SourceError, match=match):
            lazyio.open(tmp_path / "0.h5", key)
        assert lazyio.verify(tmp_path / "0.h5", key).status in ("damaged", "unverifiable")
    assert main(["info", str(tmp_path / "0.h5")]) == 0


def test_virtual_datasets_in_each_other_take_no_time_of_their_product(tmp_path):
    """Each of hundreds of pieces is looked at once, whatever leads to it."""
    path, n_pieces = tmp_path / "v.h5", 300
    with h5py.File(path, "w") as file:
        file["d"] = np.zeros(n_pieces, "i4")
        for name, below in (("a", "d"), ("b", "a"), ("c", "b")):
            layout = h5py.VirtualLayout((n_pieces,), "i4")
            for at in range(n_pieces):
                layout[at : at + 1] = h5py.VirtualSource(".", below, (n_pieces,))[at : at + 1]
            file.create_virtual_dataset(name, layout)
    began = time.process_time()
    assert len(lazyio.verify(path, deep=False).links) == 3 * n_pieces
    assert lazyio.open(path, "c").shape == (n_pieces,)
    assert time.process_time() - began < 10


def test_many_sources_are_listed_in_short(tmp_path, capsys):
    for at in range(30):
        with h5py.File(tmp_path / f"{at}.h5", "w") as file:
            file["x"] = np.full(2, at)
    lazyio.virtual(tmp_path / "v.h5", "x", [tmp_path / f"{at}.h5" for at in range(30)])
    os.remove(tmp_path / "27.h5")
    assert main(["info", str(tmp_path / "v.h5")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert "'27.h5'" in lines[-2]
    assert lines[-1] == "/x: and 9 more that are good"


@pytest.mark.parametrize("way", ["copy", "log"])
def test_a_kill_at_any_step(days, monkeypatch, way):
    """The old dataset is there, or the whole virtual one."""
    if way == "log":
        monkeypatch.setattr(hdf5_file, "COPIED_NBYTES", 0)
        monkeypatch.setattr(hdf5_file, "_cloned", lambda *_: False)
    seen = set()
    for last in range(0, 200, 2):
        lazyio.to_hdf5(VALUES, "week.h5", "x", mode="w")
        is_killed = killed(last, lambda: lazyio.virtual("week.h5", "x", days, overwrite=True))
        lazyio.recover("week.h5")
        found = lazyio.open("week.h5", "x").compute()
        seen.add(len(found))
        np.testing.assert_array_equal(found, VALUES if len(found) == 20 else WHOLE)
        assert lazyio.verify("week.h5").status == "ok"
        if not is_killed:
            break
    assert seen == {20, 60}


def test_an_error_leaves_the_old_file(days, monkeypatch):
    """The file is built apart, and given its name last."""
    lazyio.to_hdf5(VALUES, "week.h5", "old")
    before = Path("week.h5").read_bytes()
    for name in ("create_virtual", "store"):
        with monkeypatch.context() as patch:
            patch.setattr(f"lazyio.writing.links.{name}", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError, match="division"):
                lazyio.virtual("week.h5", "x", days)
        assert Path("week.h5").read_bytes() == before
    assert sorted(os.listdir()) == ["raw", "week.h5"]


def _layout(shape, fill, *assignments):
    layout = h5py.VirtualLayout(shape, "i4")
    for where, what in assignments:
        layout[where] = what
    with h5py.File("v.h5", "w") as file:
        file.create_virtual_dataset("x", layout, fillvalue=fill)


def _source(day, shape=(20, 3)):
    return h5py.VirtualSource(f"raw/day{day}.h5", "g/x", shape)


LAYOUTS = {
    "in a row": (
        True,
        lambda: _layout((40, 3), 0, (np.s_[:20], _source(1)), (np.s_[20:], _source(0))),
    ),
    "out of order": (
        True,
        lambda: _layout((40, 3), 0, (np.s_[20:], _source(0)), (np.s_[:20], _source(1))),
    ),
    "side by side": (
        True,
        lambda: _layout((20, 6), 0, (np.s_[:, 3:], _source(0)), (np.s_[:, :3], _source(1))),
    ),
    "slices": (True, lambda: _layout((2, 20, 3), 0, (1, _source(0)), (0, _source(2)))),
    "inner slices": (
        True,
        lambda: _layout((20, 2, 3), 0, (np.s_[:, 1], _source(0)), (np.s_[:, 0], _source(2))),
    ),
    "one": (True, lambda: _layout((20, 3), 0, (np.s_[:], _source(0)))),
    "a gap": (
        False,
        lambda: _layout((41, 3), 5, (np.s_[:20], _source(1)), (np.s_[21:], _source(0))),
    ),
    "the end missing": (False, lambda: _layout((30, 3), 5, (np.s_[:20], _source(1)))),
    "slices missing": (False, lambda: _layout((3, 20, 3), 5, (1, _source(0)), (0, _source(2)))),
    "over each other": (
        False,
        lambda: _layout((30, 3), 0, (np.s_[:20], _source(1)), (np.s_[10:], _source(0))),
    ),
    "interleaved": (
        False,
        lambda: _layout((40, 3), 0, (np.s_[::2], _source(1)), (np.s_[1::2], _source(0))),
    ),
    "parts": (
        False,
        lambda: _layout((8, 3), 0, (np.s_[:3], _source(1)[5:8]), (np.s_[3:], _source(0)[:5])),
    ),
    "reshaped": (False, lambda: _layout((60,), 0, (np.s_[:], _source(1)))),
    "a table of two by two": (
        False,
        lambda: _layout(
            (40, 6),
            0,
            (np.s_[:20, :3], _source(0)),
            (np.s_[:20, 3:], _source(1)),
            (np.s_[20:, :3], _source(2)),
            (np.s_[20:, 3:], _source(0)),
        ),
    ),
    "nothing": (False, lambda: _layout((4, 3), 5)),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts_of_h5py(days, kind):
    """Read from the datasets themselves where they are all that there is, else by libhdf5."""
    is_by_pieces, make = LAYOUTS[kind]
    make()
    source = hdf5_source("v.h5", "x")
    assert isinstance(source, VirtualSource) == is_by_pieces
    expected = read_by_h5py("v.h5", "x")
    assert source.shape == expected.shape
    x = pickle.loads(pickle.dumps(lazyio.open("v.h5", "x")))
    np.testing.assert_array_equal(x.compute(), expected)
    np.testing.assert_array_equal(x[1:-1].compute(), expected[1:-1])
    np.testing.assert_array_equal(x[..., ::2].compute(), expected[..., ::2])


def test_a_virtual_dataset_is_linked_to_as_one(days):
    lazyio.virtual("week.h5", "x", days)
    lazyio.to_hdf5(lazyio.open("week.h5", "x"), "out.h5", "l", links="link")
    with h5py.File("out.h5") as file:
        link = file.get("l", getlink=True)
        assert (link.filename, link.path) == ("week.h5", "/x")
    lazyio.virtual("more.h5", "x", [lazyio.open("week.h5", "x"), days[0]])
    np.testing.assert_array_equal(
        lazyio.open("more.h5", "x").compute(), np.concatenate([WHOLE, VALUES])
    )
    with pytest.raises(TargetError, match="is the source of this array"):
        lazyio.to_hdf5(lazyio.open("week.h5", "x"), "week.h5", "x", overwrite=True)


def test_blocks_suit_the_chunks_of_what_is_joined(tmp_path):
    for at in range(3):
        lazyio.to_hdf5(np.zeros((400, 30), "i4"), tmp_path / f"{at}.h5", "x", chunks=(50, 30))
    lazyio.virtual(tmp_path / "v.h5", "x", [tmp_path / f"{at}.h5" for at in range(3)])
    x = lazyio.open(tmp_path / "v.h5", "x", memory_limit="1 MiB")
    assert all(extent % 50 == 0 for extent in x.chunks[0])
    assert hdf5_source(tmp_path / "v.h5", "x").chunk_shape == (50, 30)
