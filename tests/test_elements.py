"""Elements that files have no type for: there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazyio.dtypes import DTYPE_ATTRIBUTE, TEXT, original, stored
from lazyio.errors import UnsupportedDtypeError

UNITS = ["D", "h", "m", "s", "ms", "us", "ns", "W", "25s"]


@given(st.data())
def test_times_come_back(data):
    kind, order = data.draw(st.sampled_from("mM")), data.draw(st.sampled_from("<>"))
    unit = data.draw(st.sampled_from(UNITS))
    dtype = np.dtype(f"{order}{kind}8[{unit}]")
    numbers = data.draw(hnp.arrays("i8", hnp.array_shapes(), elements=st.integers(-999, 999)))
    times = numbers.astype(dtype)
    form = stored(dtype, "hdf5")
    on_disk = form.encode(times)
    assert on_disk.dtype == np.int64
    back = original(on_disk.dtype, form.attrs).decode(on_disk)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, times)


def test_months_and_years_are_days():
    months = np.array(["2024-02", "NaT"], "M8[M]")
    form = stored(months.dtype, "zarr")
    assert form.attrs["units"] == "days since 1970-01-01"
    np.testing.assert_array_equal(form.decode(form.encode(months)), months)


def test_plain_times_are_not_copied():
    times = np.arange(5).astype("M8[ns]")
    assert np.shares_memory(stored(times.dtype, "hdf5").encode(times[::2]), times)


@pytest.mark.parametrize("dtype", ["M8[ps]", "m8[Y]", "m8", "M8[as]"])
def test_units_without_a_word_are_refused(dtype):
    with pytest.raises(UnsupportedDtypeError, match="CF conventions cannot express"):
        stored(np.dtype(dtype), "hdf5")


def test_fixed_text_is_variable_in_hdf5_only():
    text = np.array(["a", "日本語"])
    assert stored(text.dtype, "zarr").dtype == text.dtype
    form = stored(text.dtype, "hdf5")
    on_disk = form.encode(text)
    assert on_disk.dtype == TEXT
    np.testing.assert_array_equal(original(TEXT, form.attrs).decode(on_disk), text)


@pytest.mark.parametrize(
    ("dtype", "named"),
    [("i4", "<M8[ns]"), ("i8", "nonsense["), ("i8", "<i8"), ("i8", 7), ("f8", "<M8[D]")],
)
def test_an_attribute_that_does_not_fit_is_not_followed(dtype, named):
    assert original(np.dtype(dtype), {DTYPE_ATTRIBUTE: named}) is None


@pytest.mark.parametrize("dtype", ["i2", ">f4", "?", "c8", "S3", [("a", "i2")]])
def test_other_elements_are_stored_as_they_are(dtype):
    form = stored(np.dtype(dtype), "hdf5")
    block = np.zeros(3, dtype)
    assert form.dtype == block.dtype
    assert form.encode(block) is block
    assert not form.attrs


def test_text_with_nulls_is_not_cut() -> None:
    """HDF5's text of any length ends with the first null."""
    form = stored(TEXT, "hdf5")
    assert form.encode(np.array(["", "a", "ä" * 50], TEXT)).tolist() == ["", "a", "ä" * 50]
    with pytest.raises(UnsupportedDtypeError, match="holds a null character"):
        form.encode(np.array(["", "a\0b"], TEXT))
    with pytest.raises(UnsupportedDtypeError, match="holds a null character"):
        stored(np.dtype("U3"), "hdf5").encode(np.array(["a\0b"]))
