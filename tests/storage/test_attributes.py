"""Attributes of HDF5 datasets: what is kept, what becomes text, what is refused."""

import datetime as dt
import json
import subprocess

import h5py
import netCDF4
import numpy as np
import pytest

import lazyio
from lazyio.errors import OptionError

RECORD = np.array((1, 2.5), [("a", "i4"), ("b", "f8")])[()]

KEPT = {
    "int": (3, 3),
    "large": (2**63, np.uint64(2**63)),
    "float": (2.5, 2.5),
    "complex": (1 + 2j, 1 + 2j),
    "bool": (True, np.True_),
    "text": ("µV 日本", "µV 日本"),
    "empty-text": ("", ""),
    "long-text": ("x" * 100_000, "x" * 100_000),
    "bytes": (b"raw", "raw"),
    "numpy-text": (np.str_("V"), "V"),
    "numpy-scalar": (np.float32(2.5), np.float32(2.5)),
    "numpy-bool": (np.bool_(False), np.False_),
    "record": (RECORD, RECORD),
    "list": ([1, 2, 3], np.array([1, 2, 3])),
    "tuple": ((1.5, 2), np.array([1.5, 2])),
    "nested-list": ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
    "flags": ([True, False], np.array([True, False])),
    "texts": (["a", "ü"], np.array(["a", "ü"], object)),
    "text-array": (np.array([["a", "b"]]), np.array([["a", "b"]], object)),
    "no-texts": (np.array([], "U3"), np.array([], object)),
    "no-numbers": ([], np.array([])),
    "big-endian": (np.arange(3, dtype=">i2"), np.arange(3, dtype=">i2")),
    "any-length": (np.array(["a", "bc"], np.dtypes.StringDType()), np.array(["a", "bc"], object)),
    "time": (np.datetime64("2026-01-02T03:04:05", "ms"), "2026-01-02T03:04:05.000"),
    "no-time": (np.datetime64("NaT", "s"), "NaT"),
    "times": (np.array(["2026-01", "NaT"], "M8[M]"), np.array(["2026-01", "NaT"], object)),
    "datetime": (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00+00:00"),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
}
AS_JSON = {
    "mapping": {"type": "NP1", "sites": np.arange(2), "at": np.datetime64("2026-01-02")},
    "empty-mapping": {},
    "mixed": [1, "a", None],
    "ragged": [[1], [1, 2]],
    "nested-text": [["a"], ["b"]],
    "huge": [2**70],
    "mappings": [{"a": 1}, {"b": (1, 2)}],
}


@pytest.fixture
def written(tmp_path):
    """Return a function that writes attributes and gives them back as stock h5py has them."""

    def write(attrs, **options):
        path = tmp_path / "x.h5"
        lazyio.to_hdf5(np.ones(3), path, "x", mode="w", attrs=attrs, **options)
        with h5py.File(path) as file:
            return dict(file["x"].attrs)

    return write


@pytest.mark.parametrize("name", KEPT)
def test_what_has_a_form_is_kept(written, name):
    """Values, dtypes of arrays, and names of any text."""
    value, wanted = KEPT[name]
    found = written({"ünit\n/x": value})["ünit\n/x"]
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found == wanted
        assert isinstance(found, str) == isinstance(wanted, str)


@pytest.mark.parametrize("name", AS_JSON)
def test_what_is_nested_becomes_json(written, name):
    def plain(value):
        return value.tolist() if isinstance(value, np.ndarray) else str(value)

    found = json.loads(written({"a": AS_JSON[name]})["a"])
    assert found == json.loads(json.dumps(AS_JSON[name], default=plain))


def test_none_is_an_empty_attribute(written):
    assert isinstance(written({"a": None})["a"], h5py.Empty)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        2**70,
        "null\0inside",
        b"null\0inside",
        "\ud800",
        np.timedelta64(3, "s"),
        np.array([None, 1]),
        {"a": object()},
        [{1}, "a"],
    ],
    ids=[
        "object",
        "set",
        "huge",
        "null",
        "null-bytes",
        "surrogate",
        "duration",
        "objects",
        "json",
        "list",
    ],
)
def test_what_has_no_form_is_refused(written, value, tmp_path):
    """By name, before anything is computed, and nothing is left."""
    with pytest.raises(OptionError, match=r"attribute 'gain'.*give numbers, text, or"):
        written({"gain": value})
    assert list(tmp_path.iterdir()) == []


def test_oversized_arrays(written):
    """Refused in the default format, whose limit the message names with both ways on."""
    large = np.arange(20_000.0)
    with pytest.raises(OptionError, match=r"takes 156 KiB.*64 KiB.*v108.*array of its own"):
        written({"large": large})
    found = written({"large": large}, libver=("v108", "v114"))["large"]
    np.testing.assert_array_equal(found, large)
    within = np.arange(8000.0)
    np.testing.assert_array_equal(written({"large": within})["large"], within)


@pytest.mark.parametrize("name", ["CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"])
def test_names_that_hdf5_has_for_itself_are_refused(written, name):
    """A value of another kind there would end the process of whoever attaches a scale."""
    with pytest.raises(OptionError, match=f"{name!r} is how HDF5 keeps names of axes"):
        written({name: 3}, dims=("t",))


@pytest.mark.parametrize("attrs", [{"": 1}, {1: 1}, {"a\0": 1}, [("a", 1)], "a"])
def test_names_that_are_none_are_refused(written, attrs):
    with pytest.raises(OptionError, match="attrs"):
        written(attrs)


def test_other_readers_agree(tmp_path, h5dump):
    """NetCDF's library and h5dump read what was written."""
    attrs = {"unit": "µV", "gains": [1.5, 2.5], "flag": np.int8(1), "names": ["a", "b"]}
    lazyio.to_hdf5(np.ones(3), tmp_path / "x.h5", "x", attrs=attrs)
    with netCDF4.Dataset(tmp_path / "x.h5") as file:
        variable = file["x"]
        assert variable.unit == "µV"
        assert variable.gains.tolist() == [1.5, 2.5]
        assert variable.names == ["a", "b"]
    command = [h5dump, "-N", "gains", str(tmp_path / "x.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "(0): 1.5, 2.5" in done.stdout
