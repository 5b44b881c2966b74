"""The plans of several arrays: those of the write, and a table of them."""

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import lazyio
from lazyio.errors import OptionError, PlanError, SourceError
from lazyio.planning import Plans


@pytest.mark.parametrize(
    ("format", "to"), [("hdf5", lazyio.to_hdf5), ("zarr", lazyio.to_zarr)], ids=["hdf5", "zarr"]
)
def test_they_are_those_of_the_write(tmp_path, format, to):
    """Graphs share the limit: what each would take alone is not what they take together."""
    x = da.ones((400, 300), chunks=(70, 70))
    data = {"x": x, "g/half": x[::2], "mean": x.mean(axis=0)}
    options = {"memory_limit": "8 MiB", "workers": 2, "chunks": {"x": (50, 50)}}
    plans = lazyio.plan(data, format=format, **options)
    report = to(data, tmp_path / "x", **options)
    assert dict(plans) == dict(report.plans)
    assert list(plans) == ["x", "g/half", "mean"]
    assert plans.peak_nbytes == report.peak_nbytes
    assert plans.nbytes == report.nbytes


def test_shapes_need_no_data():
    plans = lazyio.plan(
        {"raw": (1000, 64), "/times": (1000,), "row": 64}, {"raw": "i2", "times": "f8", "row": "u1"}
    )
    assert [(one.shape, one.dtype.str) for one in plans.values()] == [
        ((1000, 64), "<i2"),
        ((1000,), "<f8"),
        ((64,), "|u1"),
    ]


def test_a_table_with_a_line_for_each():
    plans = lazyio.plan(
        {"raw": (4096, 4096), "level/1": (2048, 2048)}, "u2", format="zarr", shards=(2048, 2048)
    )
    title, first, second, total, *advice = str(plans).splitlines()
    assert title.split() == ["array", "shape", "dtype", "chunks", "shards", "blocks", "size"]
    assert first.startswith("raw      (4096, 4096)  uint16")
    assert second.startswith("level/1  (2048, 2048)  uint16")
    assert "(2048, 2048)" in second
    assert total.startswith("2 arrays, 40 MiB; at most ")
    assert not advice
    assert repr(plans) == str(plans)


def test_advice_names_the_array():
    plans = lazyio.plan({"good": (100, 100), "small": (10**6,)}, "u1", chunks={"small": (100,)})
    (line,) = [line for line in str(plans).splitlines() if line.startswith("advice")]
    assert line.startswith("advice: small: ")
    assert line.endswith("[tiny-chunks]")


def test_html_shows_all_and_escapes_keys():
    plans = lazyio.plan({"a<b": (100, 100), "c": (3,)}, "u1")
    html = plans._repr_html_()
    assert "a&lt;b" in html
    assert "a<b" not in html
    assert html.count("<details>") == 2


def test_as_plain_values():
    plans = lazyio.plan({"a": (100, 100), "c": (3,)}, "u1")
    assert plans.to_dict()["c"] == plans["c"].to_dict()


def test_a_dataset_has_the_same_class():
    given = xr.Dataset({"t": (("time", "x"), np.ones((4, 3)))})
    assert isinstance(lazyio.plan(given), Plans)
    assert isinstance(given.lazyio.plan(), Plans)


def test_nothing_is_read(tmp_path):
    def fail(_):
        raise AssertionError("read")

    x = lazyio.from_function(fail, (100, 100), "f8")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(5)
    plans = lazyio.plan({"x": x, "y": x + 1, "file": lazyio.open(tmp_path / "a.h5", "x")})
    assert plans["y"].shape == (100, 100)


def test_all_that_is_wrong_is_one_error():
    given = {"a": (3, 4), "b": (4,), "c": (2, 2, 2)}
    with pytest.raises(OptionError, match=r"2 of 3 arrays .*\n  array 'a': .*\n  array 'b': "):
        lazyio.plan(given, "u1", chunks=(1, 1, 1))
    with pytest.raises(SourceError, match=r"2 of 3 arrays .*\n  array 'a': .*\n  array 'c': "):
        lazyio.plan({"a": "no-such.h5", "b": np.ones(3), "c": (3, 4)})


def test_a_limit_that_is_too_small_names_one_that_does():
    x = da.ones((1000, 1000), chunks=1000)
    with pytest.raises(PlanError, match="the smallest limit that would do is") as raised:
        lazyio.plan({"x": x, "y": x + 1}, memory_limit="1 MiB")
    least = int(str(raised.value).rpartition("=")[2])
    assert lazyio.plan({"x": x, "y": x + 1}, memory_limit=least).peak_nbytes <= least


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"source_chunks": (2,)}, "source_chunks goes with one shape"),
        ({"format": "csv"}, "not a target format"),
        ({"shards": (4,)}, "HDF5 has no shards"),
        ({"chunks": {"a": (2,), "z": (2,)}}, r"chunks has the keys \['z'\]"),
    ],
)
def test_what_is_refused(options, match):
    with pytest.raises(OptionError, match=match):
        lazyio.plan({"a": (8,)}, "u1", **options)
