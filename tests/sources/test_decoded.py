"""Times and text that lazyio stored as something else."""

import h5py
import numpy as np
import pytest
from source_contract import SourceContract, StoredContract, TravelsContract, assert_same

import lazyio
from lazyio.dtypes import DTYPE_ATTRIBUTE, stored
from lazyio.execution.dask_arrays import locations_of
from lazyio.sources.cf_decoded import DecodedSource
from lazyio.sources.hdf5 import hdf5_source


@pytest.fixture
def path(tmp_path):
    """Where the file lies."""
    return tmp_path / "scan.h5"


class TestTimes(SourceContract, TravelsContract, StoredContract):
    """Times that lazyio stored as integers come back as times."""

    @pytest.fixture(params=["M8[ns]", "m8[s]", "M8[D]", "M8[Y]", ">M8[ms]", "m8[25us]"])
    def expected(self, request):
        """Return times, one of them not a time."""
        times = (np.arange(37 * 2).reshape(37, 2) * 3).astype(request.param)
        times[3, 1] = "NaT"
        return times

    @pytest.fixture
    def source(self, path, expected):
        """Return the dataset, opened."""
        how = stored(expected.dtype, "hdf5")
        with h5py.File(path, "w") as file:
            made = file.create_dataset("raw", data=how.encode(expected), chunks=(8, 2))
            made.attrs.update(how.attrs)
        return hdf5_source(path, "raw")

    def test_is_decoded(self, source, path):
        """The source says what it reads, and where."""
        assert isinstance(source, DecodedSource)
        assert locations_of(source) == {(str(path), "/raw")}


def test_fixed_text_of_numpy_comes_back(path):
    """Text of one length in numpy's form is stored as any text, and comes back."""
    values = np.array(["naïve", "", "b"], "<U5")
    how = stored(values.dtype, "hdf5")
    with h5py.File(path, "w") as file:
        made = file.create_dataset("raw", data=how.encode(values), dtype=h5py.string_dtype())
        made.attrs.update(how.attrs)
        assert_same(lazyio.open(made).compute(scheduler="sync"), values)
    assert_same(lazyio.from_hdf5(path).compute(scheduler="sync"), values)


@pytest.mark.parametrize(
    "attrs",
    [
        pytest.param({"units": "days since 1970-01-01"}, id="units-of-others"),
        pytest.param({DTYPE_ATTRIBUTE: "object"}, id="objects"),
        pytest.param({DTYPE_ATTRIBUTE: "no dtype"}, id="nonsense"),
        pytest.param({DTYPE_ATTRIBUTE: 7}, id="number"),
        pytest.param({DTYPE_ATTRIBUTE: "<U5"}, id="text-of-numbers"),
        pytest.param({DTYPE_ATTRIBUTE: "<M8[as]"}, id="units-nobody-stores"),
    ],
)
def test_nothing_else_is_decoded(path, attrs):
    """Plain CF times of other writers, and attributes that do not fit, change nothing."""
    values = np.arange(12, dtype="<i8").reshape(3, 4)
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=values).attrs.update(attrs)
    assert_same(lazyio.from_hdf5(path).compute(scheduler="sync"), values)
