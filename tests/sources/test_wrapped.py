"""What xarray and HDMF wrap around an array."""

import pickle

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hdmf.backends.hdf5 import H5DataIO
from hdmf.data_utils import GenericDataChunkIterator
from source_contract import SourceContract, TravelsContract

import lazyio
from lazyio.errors import OptionError, SourceError, UnsupportedDtypeError
from lazyio.sources.adapters import unwrapped
from lazyio.sources.lookup import array_source

MATRIX = np.arange(60, dtype="<i4").reshape(12, 5)


def values(array):
    """Compute a dask array."""
    return np.asarray(array.compute(scheduler="sync"))


@pytest.fixture
def stored(tmp_path):
    """Return the path of a netCDF file of two variables."""
    variable = xr.DataArray(MATRIX, dims=("t", "x"), coords={"t": np.arange(12.0)})
    xr.Dataset({"a": variable, "b": variable + 1}).to_netcdf(
        tmp_path / "scan.nc", engine="h5netcdf"
    )
    return tmp_path / "scan.nc"


class TestVariable(SourceContract, TravelsContract):
    """A variable of a file that xarray opened without dask."""

    @pytest.fixture
    def expected(self):
        """Return what the variable holds."""
        return MATRIX

    @pytest.fixture
    def source(self, stored):
        """Return the variable, as a source."""
        with xr.open_dataset(stored, engine="h5netcdf", cache=False) as dataset:
            yield array_source(unwrapped(dataset["a"])[0])


def test_a_variable_is_read_in_parts(stored, monkeypatch):
    """Opening reads nothing, and a block only itself."""
    with xr.open_dataset(stored, engine="h5netcdf") as dataset:
        array = lazyio.open(dataset, "a", chunks=(4, 5))
        assert not dataset["a"].variable._in_memory
        assert (values(array[4:6]) == MATRIX[4:6]).all()
        assert not dataset["a"].variable._in_memory
        assert (values(pickle.loads(pickle.dumps(array))) == MATRIX).all()


@pytest.mark.parametrize("take", [lazyio.open, lazyio.from_array])
def test_data_array(take):
    """A DataArray is the array it holds; one of dask keeps its blocks."""
    assert (values(take(xr.DataArray(MATRIX))) == MATRIX).all()
    lazy = take(xr.DataArray(da.from_array(MATRIX, chunks=(5, 5))))
    assert lazy.chunks == ((5, 5, 2), (5,))
    assert (values(lazy) == MATRIX).all()


def test_dataset(stored):
    """A Dataset is asked for its sole variable, or for a key."""
    with xr.open_dataset(stored, engine="h5netcdf", chunks={}) as dataset:
        assert (values(lazyio.open(dataset, "b")) == MATRIX + 1).all()
        assert lazyio.open(dataset, "t").shape == (12,)
        assert lazyio.open(dataset[["a"]]).shape == (12, 5)
        with pytest.raises(SourceError, match="holds 2 variables; give the key of one: 'a', 'b'"):
            lazyio.open(dataset)
        with pytest.raises(SourceError, match="there is no 'c': 'a', 'b'"):
            lazyio.open(dataset, "c")
        with pytest.raises(OptionError, match="a DataArray is one array"):
            lazyio.open(dataset["a"], "a")


def test_what_was_only_opened_is_read_in_other_blocks(tmp_path):
    """Not cut out of the blocks that it had, each of which would wait for others."""
    regions = []

    def read(region):
        regions.append(region)
        return MATRIX[region]

    opened = lazyio.from_function(read, MATRIX.shape, MATRIX.dtype, chunks=(5, 5))
    again = lazyio.open(opened, chunks=(6, 5))
    assert (again.compute(scheduler="synchronous") == MATRIX).all()
    assert sorted(rows.start for rows, _ in regions) == [0, 6]
    assert all(columns == slice(0, 5) for _, columns in regions)
    np.save(tmp_path / "m.npy", MATRIX)
    opened = lazyio.open(tmp_path / "m.npy")
    assert lazyio.open(opened, access=[(12, 1)]).shape == MATRIX.shape


def test_dask_array_is_returned_as_it_is():
    """A dask array has its blocks, until others are asked for."""
    lazy = da.from_array(MATRIX, chunks=(5, 5))
    assert lazyio.open(lazy) is lazy
    assert lazyio.from_array(lazy) is lazy
    assert lazyio.open(lazy, chunks=(6, 5)).chunks == ((6, 6), (5,))
    assert lazyio.open(lazy, chunks=-1).numblocks == (1, 1)
    plan = lazyio.plan((12, 5), "<i4", chunks=(4, 5), block_shape=(4, 5))
    assert lazyio.open(lazy, chunks=plan).chunks == ((4, 4, 4), (5,))
    with pytest.raises(OptionError, match=r"key, format: .* for paths; Array says itself"):
        lazyio.open(lazy, "a", format="npy")
    with pytest.raises(OptionError, match=r"access=.*has its blocks already"):
        lazyio.open(lazy, access=[(1, 1)])


class Voltages(GenericDataChunkIterator):
    """What a user of HDMF has already."""

    def _get_data(self, selection):
        return MATRIX[selection]

    def _get_maxshape(self):
        return MATRIX.shape

    def _get_dtype(self):
        return MATRIX.dtype


def test_h5dataio():
    """HDMF's wrapper is what it wraps; its settings are for writing."""
    assert (values(lazyio.open(H5DataIO(data=MATRIX, compression="gzip"))) == MATRIX).all()
    assert (values(lazyio.from_array(H5DataIO(data=MATRIX.tolist()))) == MATRIX).all()
    assert (values(lazyio.open(H5DataIO(data=Voltages(), compression="gzip"))) == MATRIX).all()


class TestMasked:
    """Masked arrays in memory."""

    masked = np.ma.masked_greater(MATRIX, 40)

    @pytest.mark.parametrize("take", [lazyio.open, lazyio.from_array])
    @pytest.mark.parametrize("chunks", ["auto", (5, 2)], ids=str)
    def test_blocks_are_masked(self, take, chunks):
        """The mask is kept block by block, and dask knows of it."""
        array = take(self.masked, chunks=chunks)
        assert isinstance(array._meta, np.ma.MaskedArray)
        got = array.compute(scheduler="sync")
        np.testing.assert_array_equal(got.mask, self.masked.mask)
        assert got.sum() == self.masked.sum() == array.sum().compute()
        assert (da.ma.filled(array, -1).compute() == self.masked.filled(-1)).all()

    def test_blocks_are_copies(self):
        """Work in place on a block does not reach the array."""
        array = lazyio.open(self.masked, chunks=(4, 5))

        def clear(block):
            block[...] = 0
            return block

        array.map_blocks(clear, dtype=array.dtype).compute(scheduler="sync")
        assert self.masked.sum() == sum(range(41))

    def test_without_axes(self):
        """One masked value is an array as well."""
        assert lazyio.open(np.ma.masked_array(3, mask=True)).compute().mask


class _FromElsewhere:
    shape, dtype = (3,), np.dtype("f4")

    def __getitem__(self, region):
        return np.zeros(3, "f4")[region]


@pytest.mark.parametrize(
    ("library", "remedy"),
    [("sparse", "todense"), ("cupy.ndarray", "get"), ("scipy.sparse", "toarray")],
)
def test_elements_that_are_elsewhere(library, remedy):
    """Arrays of other libraries say at once how they become numpy's."""
    kind = type("Matrix", (_FromElsewhere,), {"__module__": library})
    with pytest.raises(UnsupportedDtypeError, match=rf"Matrix has no plain .*\.{remedy}\(\) first"):
        lazyio.open(kind())


def test_objects_of_text():
    """Python's own strings become text of any length, by the user."""
    objects = np.array(["a", "bc"], object)
    with pytest.raises(UnsupportedDtypeError, match=r"\.astype.*numpy\.dtypes\.StringDType\(\)"):
        lazyio.open(objects)
    text = objects.astype(np.dtypes.StringDType())
    assert values(lazyio.open(text)).tolist() == ["a", "bc"]
