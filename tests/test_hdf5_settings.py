"""What a user and an array say of a dataset: HDMF's wrapper, dask collections, clashes."""

import dask.array as da
import h5py
import numpy as np
import pytest
from dask.base import DaskMethodsMixin
from dask.highlevelgraph import HighLevelGraph
from dask.threaded import get
from hdmf.backends.hdf5 import H5DataIO

import lazyio
from lazyio.errors import OptionError, PlanError

VALUES = np.arange(200, dtype="i4").reshape(20, 10)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes and gives the open dataset back."""
    opened = []

    def write(data, **options):
        lazyio.to_hdf5(data, tmp_path / "x.h5", "x", mode="w", **options)
        opened.append(h5py.File(tmp_path / "x.h5"))
        return opened[-1]["x"]

    yield write
    for file in opened:
        file.close()


def test_settings_of_h5dataio_hold(written):
    settings = {
        "compression": "gzip",
        "compression_opts": 3,
        "shuffle": True,
        "fletcher32": True,
        "chunks": (6, 5),
        "maxshape": (None, 10),
        "fillvalue": 7,
    }
    dataset = written(H5DataIO(VALUES, **settings))
    for name, value in settings.items():
        assert getattr(dataset, name) == value
    assert (dataset[:] == VALUES).all()


def test_explicit_arguments_win(written):
    """Also an array of chunks, and a codec, to which the level of another means nothing."""
    wrapped = H5DataIO(VALUES, compression="gzip", compression_opts=9, chunks=(6, 5), fillvalue=7)
    dataset = written(wrapped, chunks=np.array([4, 4]), fillvalue=1, compression="zstd")
    assert dataset.chunks == (4, 4)
    assert dataset.fillvalue == 1
    assert list(dataset._filters) == ["32015"]


@pytest.mark.parametrize(
    ("settings", "filters"),
    [
        ({"compression": True}, {"gzip": 4}),
        ({"compression": False}, {}),
        ({}, {}),
        ({"compression": "gzip", "compression_opts": 2, "chunks": True}, {"gzip": 2}),
    ],
)
def test_flags_of_h5dataio(written, settings, filters):
    assert written(H5DataIO(VALUES, **settings))._filters == filters


def test_each_of_several_has_its_own_settings(tmp_path):
    data = {"a": H5DataIO(VALUES, compression="gzip"), "b": VALUES, "c": [1, 2, 3]}
    lazyio.to_hdf5(data, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert [file[key].compression for key in "abc"] == ["gzip", None, None]


def test_a_wrapper_without_data(tmp_path):
    wrapped = H5DataIO(shape=(3,), dtype=np.dtype("i4"))
    with pytest.raises(OptionError, match="holds no data"):
        lazyio.to_hdf5(wrapped, tmp_path / "x.h5")


class Collection(DaskMethodsMixin):
    """The least that a dask collection of blocks has to be."""

    __dask_scheduler__ = staticmethod(get)

    def __init__(self, array, graph=None, **facts) -> None:
        self.array = array
        self.graph = graph or array.dask
        vars(self).update(facts)

    def __dask_graph__(self):
        return self.graph

    def __dask_keys__(self):
        return self.array.__dask_keys__()

    def __dask_postcompute__(self):
        return self.array.__dask_postcompute__()

    def __dask_tokenize__(self):
        return self.array.name


@pytest.mark.parametrize("kind", ["layers", "dict", "other-layers"])
@pytest.mark.parametrize("shape", [(20, 10), ()])
def test_any_dask_collection_of_blocks(written, shape, kind):
    """With chunks and a dtype, whatever its class and its graph."""
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape)
    array = da.from_array(values, chunks=6) + np.int32(1)
    graph = {"layers": array.dask, "dict": dict(array.dask)}.get(kind)
    if kind == "other-layers":
        graph = HighLevelGraph.from_collections("one", dict(array.dask))
    collection = Collection(array, graph, chunks=array.chunks, dtype="i4")
    dataset = written(collection, chunks=None)
    np.testing.assert_array_equal(dataset[()], values + 1)


def test_collections_that_are_no_arrays(tmp_path):
    array = da.from_array(VALUES, chunks=6)
    for facts in ({}, {"chunks": array.chunks}, {"dtype": "i4"}, {"chunks": 5, "dtype": "i4"}):
        with pytest.raises(OptionError, match="a dask Collection is not an array"):
            lazyio.to_hdf5(Collection(array, **facts), tmp_path / "x.h5")
    unknown = array[array > 5]
    with pytest.raises(PlanError, match="compute_chunk_sizes"):
        lazyio.to_hdf5(Collection(unknown, chunks=unknown.chunks, dtype="i4"), tmp_path / "x.h5")
