"""Attributes as JSON: what is kept, what becomes text, what is refused."""

import datetime as dt
import json

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st
from xarray.backends.zarr import FillValueCoder
from xarray_versions import WITH_COMPLEX

import lazyio
from lazyio.errors import OptionError
from lazyio.storage.json_attributes import json_attributes, xarray_fill_value

KEPT = {
    "number": (2.5, 2.5),
    "large": (2**80, 2**80),
    "flag": (True, True),
    "nothing": (None, None),
    "text": ("µV", "µV"),
    "list": ([1, "a", None], [1, "a", None]),
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "nested": ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1}]}}),
    "numbers as keys": ({1: 2, np.int64(3): 4}, {"1": 2, "3": 4}),
    "numpy number": (np.float32(0.5), 0.5),
    "numpy flag": (np.bool_(True), True),
    "numpy text": (np.str_("a"), "a"),
    "array": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "array of text": (np.array(["a", "b"]), ["a", "b"]),
    "text of any length": (np.array(["a"], np.dtypes.StringDType()), ["a"]),
    "no elements": (np.empty((0, 2)), []),
    "no axes": (np.array(3), 3),
    "big-endian": (np.array([1, 2], ">i4"), [1, 2]),
    "masked": (np.ma.array([1, 2], mask=[0, 1]), [1, None]),
    "masked number": (np.ma.masked, None),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": (dt.datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
    "numpy time": (np.datetime64("2026-01-02T03", "ms"), "2026-01-02T03:00:00.000"),
    "numpy times": (np.array(["2026-01-02", "NaT"], "M8[D]"), ["2026-01-02", "NaT"]),
}
REFUSED = {
    "not a number": float("nan"),
    "infinity": np.float32(-np.inf),
    "not a number inside": {"a": [1.0, np.array([np.nan])]},
    "bytes": b"abc",
    "numpy bytes": np.array([b"a"]),
    "complex": 1j,
    "numpy complex": np.complex64(1),
    "duration": np.timedelta64(5, "ns"),
    "python duration": dt.timedelta(1),
    "object": object(),
    "set": {1, 2},
    "record": np.zeros(2, [("a", "i2")]),
    "flag as key": {True: 1},
    "nothing as key": {None: 1},
    "same keys": {1: "a", "1": "b"},
}


@pytest.mark.parametrize(("value", "stored"), KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("version", [2, 3])
def test_what_is_kept(tmp_path, value, stored, version):
    """zarr-python gives it back, and tensorstore's strict JSON reader takes the array."""
    options = {"attributes": {"it": value}, "zarr_format": version}
    lazyio.to_zarr(np.arange(3), tmp_path / "x", **options)
    found = zarr.open_array(tmp_path / "x", mode="r").attrs["it"]
    assert found == stored
    assert type(found) is type(stored)
    driver = "zarr3" if version == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(tmp_path / "x")}}
    assert tensorstore.open(spec).result().shape == (3,)


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(tmp_path, value):
    """By name, before anything is made, also where a part is written."""
    with pytest.raises(OptionError, match=r"attribute 'it' (holds|has)"):
        lazyio.to_zarr(np.arange(3), tmp_path / "x", attributes={"it": value})
    assert not (tmp_path / "x").exists()
    lazyio.to_zarr(np.arange(3), tmp_path / "x")
    with pytest.raises(OptionError, match=r"attribute 'it' (holds|has)"):
        lazyio.to_zarr(np.arange(3), tmp_path / "x", region=..., attributes={"it": value})


@pytest.mark.parametrize("name", [1, "", None, "a\0b"])
def test_names_are_text(tmp_path, name):
    with pytest.raises(OptionError, match="an attribute is named by text"):
        lazyio.to_zarr(np.arange(3), tmp_path / "x", attributes={name: 1})


def test_names_of_axes_are_no_attribute(tmp_path):
    """They are checked where they are given as such."""
    for version in (2, 3):
        options = {"attributes": {"_ARRAY_DIMENSIONS": ["x"]}, "zarr_format": version}
        with pytest.raises(OptionError, match="give dimension_names= for them"):
            lazyio.to_zarr(np.arange(3), tmp_path / "x", **options)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.floats(allow_nan=False, width=32),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_anything_that_passes_is_strict_json(value):
    """The oracle is Python's own writer, told to refuse what JSON does not have."""
    try:
        plain = json_attributes({"it": value})
    except OptionError:
        with pytest.raises(ValueError, match="not JSON compliant"):
            json.dumps(value, allow_nan=False)
        return
    assert json.loads(json.dumps(plain, allow_nan=False)) == {"it": value}


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("f4", 1e20),
        ("f8", np.nan),
        ("f8", -np.inf),
        ("i2", -9),
        ("u8", 2**64 - 1),
        ("?", True),
        pytest.param("c8", 1 + 2j, marks=WITH_COMPLEX),
    ],
)
def test_fill_values_are_those_of_xarray(dtype, value):
    """Xarray's own coder writes the same and reads it back."""
    dtype = np.dtype(dtype)
    element = dtype.type(value)
    coded = xarray_fill_value(element, dtype)
    assert coded == FillValueCoder.encode(element, dtype)
    decoded = FillValueCoder.decode(coded, dtype)
    np.testing.assert_array_equal(np.asarray(decoded).astype(dtype), np.asarray(element))


@pytest.mark.parametrize("dtype", ["i2,i2", "S3", "U3"])
def test_records_and_text_have_no_gaps_to_xarray(dtype):
    """It would not open the store of an array that said otherwise."""
    assert xarray_fill_value(np.zeros((), dtype), np.dtype(dtype)) is None
