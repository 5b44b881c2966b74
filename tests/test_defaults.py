"""What holds where nobody says anything: what the data carry, and what a plan then tells."""

import inspect
import itertools
import pickle

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from hdmf.backends.hdf5 import H5DataIO
from hdmf.data_utils import DataChunkIterator, GenericDataChunkIterator

import lazyio
from lazyio.errors import OptionError

VALUES = np.arange(2000, dtype="i4").reshape(100, 20)
CARRIED = {
    "chunks": (10, 20),
    "compression": "gzip",
    "compression_opts": 7,
    "shuffle": True,
    "fletcher32": True,
    "fillvalue": -1,
    "maxshape": (None, 20),
}
"""Settings of an H5DataIO, none of which is a default."""
NONE_OF_IT = {
    "chunks": "auto",
    "compression": None,
    "compression_opts": None,
    "shuffle": False,
    "fletcher32": False,
    "fillvalue": None,
    "maxshape": None,
}
"""The defaults, said aloud."""


class Recommending(GenericDataChunkIterator):
    """Recommends chunks and blocks of its own."""

    def __init__(self, values, **options) -> None:
        self.values = values
        super().__init__(**options)

    def _get_data(self, selection):
        return self.values[selection]

    def _get_maxshape(self):
        return self.values.shape

    def _get_dtype(self):
        return self.values.dtype


def recommending():
    return Recommending(VALUES, chunk_shape=(25, 5), buffer_shape=(50, 20))


def facts_of(dataset):
    """Return what each setting came to."""
    return {
        "chunks": dataset.chunks,
        "compression": dataset.compression,
        "compression_opts": dataset.compression_opts,
        "shuffle": dataset.shuffle,
        "fletcher32": dataset.fletcher32,
        "fillvalue": dataset.fillvalue,
        "maxshape": dataset.maxshape,
    }


def written(tmp_path, data, **options):
    lazyio.to_hdf5(data, tmp_path / "x.h5", "x", overwrite=True, **options)
    with h5py.File(tmp_path / "x.h5") as file:
        return facts_of(file["x"])


def test_what_data_carry_holds_where_nothing_is_said(tmp_path):
    assert written(tmp_path, H5DataIO(VALUES, **CARRIED)) == CARRIED


@pytest.mark.parametrize("name", list(NONE_OF_IT))
def test_a_default_that_is_said_aloud_wins(tmp_path, name):
    """Explicit "auto" is the solver, explicit None is none, for each argument alone."""
    found = written(tmp_path, H5DataIO(VALUES, **CARRIED), **{name: NONE_OF_IT[name]})
    plain = written(tmp_path, VALUES)
    changed = {name: plain[name]}
    if name == "compression":
        changed["compression_opts"] = None  # Of another codec they mean nothing.
    if name == "compression_opts":
        changed[name] = 4  # gzip's own.
    if name == "chunks":
        changed[name] = found[name]
        assert found[name] != CARRIED["chunks"]
    assert found == {**CARRIED, **changed}


@pytest.mark.parametrize("names", list(itertools.combinations(NONE_OF_IT, 3)), ids=" ".join)
def test_several_that_are_said_aloud(tmp_path, names):
    said = {name: NONE_OF_IT[name] for name in names}
    found = written(tmp_path, H5DataIO(VALUES, **CARRIED), **said)
    for name in CARRIED.keys() - set(names) - {"compression_opts"}:
        assert found[name] == CARRIED[name]
    for name in set(names) - {"compression_opts", "chunks", "fillvalue"}:
        assert found[name] == written(tmp_path, VALUES)[name]


def test_one_run_instead_of_the_chunks_that_data_carry(tmp_path):
    carried = H5DataIO(VALUES, chunks=(10, 20))
    assert written(tmp_path, carried, chunks=None)["chunks"] is None
    with pytest.raises(OptionError, match="chunks=None stores one run, which has no filters"):
        written(tmp_path, H5DataIO(VALUES, **CARRIED), chunks=None)


def test_attributes_and_names_of_axes(tmp_path):
    """Those of a DataArray hold, unless there are to be others or none."""
    array = xr.DataArray(VALUES, dims=("time", "channel"), attrs={"unit": "mV"})
    for said, attrs, dims in [
        ({}, {"unit": "mV"}, ["time", "channel"]),
        ({"attrs": None}, {}, ["time", "channel"]),
        ({"dims": None}, {"unit": "mV"}, ["", ""]),
        ({"attrs": {"a": 1}, "dims": ("p", "q")}, {"a": 1}, ["p", "q"]),
    ]:
        lazyio.to_hdf5(array, tmp_path / "x.h5", "x", mode="w", **said)
        with h5py.File(tmp_path / "x.h5") as file:
            found = {k: v for k, v in file["x"].attrs.items() if k.isalpha() and k.islower()}
            assert found == attrs
            names = [
                "" if not one.keys() else next(iter(one.values())).name.strip("/")
                for one in file["x"].dims
            ]
            assert names == dims
    for said, attributes, names in [
        ({}, {"unit": "mV"}, ("time", "channel")),
        ({"attributes": None, "dimension_names": None}, {}, None),
    ]:
        lazyio.to_zarr(array, tmp_path / "x.zarr", "x", overwrite=True, **said)
        found = zarr.open_array(tmp_path / "x.zarr", path="x", mode="r")
        assert (dict(found.attrs), found.metadata.dimension_names) == (attributes, names)


def test_attributes_of_one_of_several_leave_those_of_others(tmp_path):
    given = {
        name: xr.DataArray(VALUES, dims=("t", "c"), attrs={"unit": "mV"}).variable for name in "ab"
    }
    lazyio.to_hdf5(given, tmp_path / "x.h5", attrs={"a": {"unit": "V"}})
    with h5py.File(tmp_path / "x.h5") as file:
        assert [file[name].attrs["unit"] for name in "ab"] == ["V", "mV"]


def test_names_that_are_not_written_still_name_chunks(tmp_path):
    array = xr.DataArray(VALUES, dims=("time", "channel"))
    lazyio.to_hdf5(array, tmp_path / "x.h5", "x", dims=None, chunks={"time": 10})
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"].chunks[0] == 10
        assert not file["x"].dims[0].keys()


def test_a_recommendation_and_the_solver(tmp_path):
    assert written(tmp_path, recommending())["chunks"] == (25, 5)
    assert written(tmp_path, recommending(), chunks="auto")["chunks"] == (100, 20)
    assert written(tmp_path, recommending(), chunks=None)["chunks"] is None
    lazyio.to_zarr(recommending(), tmp_path / "x.zarr", "x", chunks="auto")
    assert zarr.open_array(tmp_path / "x.zarr", path="x", mode="r").chunks == (100, 20)


KINDS = {
    "numpy": lambda: VALUES,
    "dask": lambda: da.from_array(VALUES, chunks=(30, 7)) + 1,
    "DataArray": lambda: xr.DataArray(VALUES, dims=("t", "c")),
    "H5DataIO": lambda: H5DataIO(VALUES, chunks=(10, 20), compression="gzip"),
    "H5DataIO that grows": lambda: H5DataIO(VALUES[:0], maxshape=(None, 20)),
    "H5DataIO of an iterator": lambda: H5DataIO(recommending(), compression="gzip"),
    "iterator": recommending,
    "Stream": lambda: lazyio.Stream(iter(VALUES), expected_length=100),
    "Stream of any length": lambda: lazyio.Stream(iter(VALUES)),
    "Blocks": lambda: lazyio.Blocks([((slice(0, 5), slice(0, 5)), 1)], (100, 20), "i4"),
    "text": lambda: np.array(["a", "bc"], np.dtypes.StringDType()),
    "times": lambda: np.arange(3).astype("M8[s]"),
}


@pytest.mark.parametrize("format", ["hdf5", "zarr"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": "auto"},
        {"chunks": -1},
        {"chunks": None},
        {"chunk_nbytes": 400},
        {"access": [-1]},
        {"memory_limit": "1 MiB", "workers": 1},
        {"dtype": "f8"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_that_of_writing_the_same(tmp_path, kind, options, format):
    """Of the same object and arguments, errors included."""
    data = KINDS[kind]()
    if "access" in options:
        options = {"access": [(-1,) * len(getattr(data, "shape", (1, 1)))]}
    if kind == "text" and "dtype" in options:
        options = {"dtype": np.dtypes.StringDType()}
    results = []
    for make in (
        lambda: lazyio.plan(KINDS[kind](), format=format, **options),
        lambda: _plan_of_writing(KINDS[kind](), tmp_path, format, options),
    ):
        try:
            plan = make()
            results.append((plan.chunk_shape, plan.block_shape, plan.dtype, plan.peak_nbytes))
        except lazyio.LazyioError as error:
            results.append((type(error), str(error)))
    assert results[0] == results[1]


def _plan_of_writing(data, folder, format, options):
    if format == "hdf5":
        return lazyio.to_hdf5(data, folder / "x.h5", **options).plan
    return lazyio.to_zarr(data, folder / "x.zarr", "x", **options).plan


@pytest.mark.parametrize("options", [{}, {"chunks": None}, {"access": [(100, 1), (1, 20)]}])
def test_a_plan_of_a_shape_is_that_of_an_array(options):
    of_shape = lazyio.plan((100, 20), "i4", **options)
    assert of_shape.to_dict() == lazyio.plan(VALUES, **options).to_dict()


def test_signatures_show_the_defaults():
    """And calls that wait travel."""
    shown = str(inspect.signature(lazyio.to_hdf5))
    assert "chunks: 'Any' = 'auto'" in shown or "chunks: Any = 'auto'" in shown
    assert "fletcher32: bool = False" in shown
    assert pickle.loads(pickle.dumps(inspect.signature(lazyio.plan).parameters["chunks"].default))


def test_a_link_to_what_is_not_as_it_was_asked_for_is_refused(tmp_path):
    lazyio.to_hdf5(VALUES, tmp_path / "raw.h5", "x")
    raw = lazyio.open(tmp_path / "raw.h5", "x")
    asked = {"compression": "gzip", "chunks": (5, 5), "dtype": "f8", "maxshape": True}
    with pytest.raises(OptionError, match="'x' would be a link to '/x'") as caught:
        lazyio.to_hdf5({"x": raw, "y": raw * 2}, tmp_path / "a.h5", links="link", **asked)
    for part in (
        "its dtype is int32, not float64",
        r"its chunks are (100, 20), not (5, 5)",
        "its filters are none, not gzip[4]",
        "its maxshape is (100, 20), not (None, None)",
        'give links="copy"',
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "a.h5").exists()
    for name, value in {"attrs": {"gain": 2}, "fillvalue": 3, "dims": ("t", "c")}.items():
        with pytest.raises(OptionError, match=r"its dims|no attribute 'gain'|its fill value is 0"):
            lazyio.to_hdf5(raw, tmp_path / "a.h5", "x", links="link", **{name: value})
    same = {"dtype": "i4", "chunks": (100, 20), "links": "link"}
    report = lazyio.to_hdf5(raw, tmp_path / "b.h5", "x", **same)
    assert report.advice == ()
    with h5py.File(tmp_path / "raw.h5") as file:
        wrapped = H5DataIO(file["x"], link_data=True)
        report = lazyio.to_hdf5(wrapped, tmp_path / "c.h5", "x", links="copy")
    assert report.engine != "link"


def test_an_iterator_that_recommends_nothing(tmp_path):
    once = DataChunkIterator(iter(VALUES), maxshape=(None, 20), dtype=np.dtype("i4"), buffer_size=9)
    assert written(tmp_path, once, chunks="auto")["maxshape"] == (None, 20)


def test_an_iterator_moves_the_bar_that_it_draws(tmp_path) -> None:
    """HDMF's own, once for each of its buffers."""
    moved = []

    class Bar:
        n = 0

        def __init__(self, total, **_) -> None:
            self.total = total

        def update(self, n) -> None:
            self.n += n

        def close(self) -> None:
            moved.append((self.n, self.total))

    options = {"buffer_shape": (10, 8), "chunk_shape": (5, 8)}
    values = np.arange(400.0).reshape(50, 8)
    drawn = {"display_progress": True, "progress_bar_class": Bar}
    lazyio.to_hdf5(Recommending(values, **options, **drawn), tmp_path / "x.h5", chunks=(7, 8))
    assert moved == [(5, 5)]
