"""What errors advise can be followed, and loses nothing."""

import random
import re
import zipfile

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.errors import OptionError, PlanError, TargetError, TargetExistsError

FORMATS = [(lazyio.to_hdf5, "x.h5"), (lazyio.to_zarr, "x.zarr")]


def _follow(call, first: int) -> int:
    """Call with a limit, and with the one that the error names; return that."""
    with pytest.raises(PlanError, match="smallest limit that would do") as caught:
        call(first)
    named = int(re.search(r"memory_limit=(\d+)$", str(caught.value))[1])
    call(named)
    with pytest.raises(PlanError):
        call(named - 1)
    return named


@pytest.mark.parametrize(("to", "name"), FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_limit_is_the_smallest(tmp_path, to, name, seed):
    """Of one array, several, a stream and what is appended."""
    rng = random.Random(seed)
    x = np.zeros((rng.randint(50, 300), rng.randint(5, 200)), rng.choice(["i2", "f8"]))
    blocks = da.from_array(x, chunks=(30, 50))
    given = [x, {"a": blocks, "b": blocks + 1, "c": x}, "stream"]
    for number, data in enumerate(given):
        path = tmp_path / f"{number}{name}"

        def call(limit, data=data, path=path):
            data = lazyio.Stream(iter(x)) if isinstance(data, str) else data
            keys = (
                {} if isinstance(data, dict) else {"key" if to is lazyio.to_hdf5 else "path": "x"}
            )
            to(data, path, **keys, overwrite=True, memory_limit=limit)

        _follow(call, rng.choice([1, 5, 20]))
    maxshape = {"maxshape": (None, None)} if to is lazyio.to_hdf5 else {}
    to(x, tmp_path / name, **maxshape)
    _follow(lambda limit: to(x, tmp_path / name, append_dim=0, memory_limit=limit), 100)


def test_overwriting_one_array_of_a_zip(tmp_path):
    """It would take the others with it."""
    path = tmp_path / "x.zip"
    lazyio.to_zarr({"a": np.arange(3), "b": np.arange(4)}, path)
    with pytest.raises(TargetExistsError, match=r"with 'a', 'b' in it.*replaced as a whole"):
        lazyio.to_zarr(np.arange(5), path, "c", overwrite=True)
    with pytest.raises(TargetExistsError, match="with 'b' in it"):
        lazyio.to_zarr(np.arange(5), path, "a", overwrite=True)
    assert lazyio.open(path, "a").compute().tolist() == [0, 1, 2]
    lazyio.to_zarr({"a": np.arange(5), "b": np.arange(6)}, path, overwrite=True)
    assert lazyio.open(path, "b").shape == (6,)
    (tmp_path / "y.zip").write_bytes(b"no archive")
    with pytest.raises(TargetExistsError, match="cannot be read as Zarr"):
        lazyio.to_zarr(np.arange(5), tmp_path / "y.zip", "a", overwrite=True)
    assert not zipfile.is_zipfile(tmp_path / "y.zip")


@pytest.mark.parametrize(("to", "name"), FORMATS)
def test_attributes_that_say_what_is_not_so(tmp_path, to, name):
    attrs, fill = "attrs", "fillvalue"
    if to is lazyio.to_zarr:
        attrs, fill = "attributes", "fill_value"
    days = np.array(["2026-01-01", "2026-01-02"], "M8[D]")
    with pytest.raises(OptionError, match="readers would take them for others; leave it out"):
        to(days, tmp_path / name, **{attrs: {"units": "hours since 2000-01-01"}})
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(OptionError, match=r"give fill_?value= that value"):
        to(lazyio.open(masked), tmp_path / name, **{attrs: {"_FillValue": -99.0}})
    gaps = lazyio.open(np.ma.masked_array([1.0, 2.0], [False, True]))
    to(gaps, tmp_path / f"nan-{name}", **{attrs: {"_FillValue": np.nan}, fill: np.nan})
    to(days, tmp_path / name, **{attrs: {"units": "days since 1970-01-01"}})
    assert lazyio.open(tmp_path / name).compute().tolist() == days.tolist()


@pytest.mark.parametrize(("to", "name"), FORMATS)
def test_attributes_of_some_of_several_arrays(tmp_path, to, name):
    attrs = "attrs" if to is lazyio.to_hdf5 else "attributes"
    given = {"a": np.zeros(3), "b": np.zeros(3)}
    with pytest.raises(OptionError, match="either a mapping for each of them, or attributes"):
        to(given, tmp_path / name, **{attrs: {"a": {"unit": "mV"}, "title": "x"}})


def test_a_part_of_what_was_made_otherwise(tmp_path):
    """Whatever the user says of an existing array is compared with it, not left out."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.zeros((4, 3)), path, maxshape=(None, 3), dims=("time", "x"))
    others = [{"maxshape": (9, 3)}, {"dims": ("t", "x")}, {"chunks": None}]
    for other in others:
        with pytest.raises(OptionError, match=rf"its {next(iter(other))} is .*, not "):
            lazyio.to_hdf5(np.zeros((1, 3)), path, append_dim=0, **other)
    lazyio.to_hdf5(np.zeros((1, 3)), path, append_dim=0, maxshape=(None, 3), dims=("time", "x"))
    store = tmp_path / "x.zarr"
    lazyio.to_zarr(np.zeros((4, 3)), store, dimension_names=("time", "x"))
    for other in ({"zarr_format": 2}, {"dimension_names": ("t", "x")}, {"shards": (2, 3)}):
        with pytest.raises(OptionError, match=rf"its {next(iter(other))} is .*, not "):
            lazyio.to_zarr(np.zeros((1, 3)), store, append_dim=0, **other)


def test_values_in_attributes_are_kept_or_refused(tmp_path):
    for value in ({1: "a", "1": "b"}, {"t": np.timedelta64(5, "ns")}):
        with pytest.raises(OptionError, match="attribute 'probe'"):
            lazyio.to_hdf5(np.zeros(3), tmp_path / "x.h5", attrs={"probe": value})
    masked = np.ma.masked_array([1, 2], [True, False])
    with pytest.raises(OptionError, match="'probe' is masked"):
        lazyio.to_hdf5(np.zeros(3), tmp_path / "x.h5", attrs={"probe": masked})


def test_a_file_that_is_no_hdf5_any_more(tmp_path):
    """Nobody has it open: closing it is no advice."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.zeros(1000), path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(TargetError, match="restore it from a copy"):
        lazyio.to_hdf5(np.zeros(3), path, "y")


def test_joined_dtypes_hold_both():
    small, large = np.zeros(3, "i2"), np.zeros(3, "f8")
    with pytest.raises(OptionError, match=r'convert each with .astype\("float64"\)'):
        lazyio.concatenate([small, large], axis=0)
    with pytest.raises(OptionError, match=r'.astype\("<U5"\)'):
        lazyio.concatenate([np.array(["ab"]), np.array(["abcde"])], axis=0)


def test_nothing_to_choose_from(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w"):
        pass
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    for name in ("x.h5", "x.zarr"):
        with pytest.raises(lazyio.errors.SourceError, match=r"holds no .*check the path"):
            lazyio.open(tmp_path / name)
