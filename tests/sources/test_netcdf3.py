"""netCDF-3, against the netCDF library."""

import json

import netCDF4
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_contract import (
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
    assert_same,
    whole,
)

import lazyio
from lazyio.cli import main
from lazyio.errors import SourceError, TruncatedSourceError
from lazyio.sources.lookup import source_for
from lazyio.sources.netcdf3 import RecordSource
from lazyio.sources.raw import RawSource

FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
SST = np.random.default_rng(0).normal(size=(20, 6, 9)).astype(">f4")


def make(path, kind="NETCDF3_CLASSIC", **more):
    """Write a file with fixed and record variables."""
    with netCDF4.Dataset(path, "w", format=kind) as file:
        file.title = "a title that is read past"
        file.createDimension("time", None)
        file.createDimension("y", 6)
        file.createDimension("x", 9)
        file.createVariable("mask", "i1", ("y", "x"))[...] = SST[0] > 0
        file.createVariable("time", "f8", ("time",))[...] = np.arange(20)
        sst = file.createVariable("sst", "f4", ("time", "y", "x"), fill_value=-9)
        sst.units = "degC"
        sst[...] = SST
        file.createVariable("flag", "i1", ("time", "y"))[...] = np.arange(120).reshape(20, 6) % 100
        file.createVariable("scale", "f8", ())[...] = 2.5
    return path


def values(array):
    return array.compute(scheduler="synchronous")


class VariableContract(SourceContract, TravelsContract, ReadsIntoContract, StoredContract):
    """Subclasses name a variable."""

    @pytest.fixture
    def path(self, tmp_path):
        return make(tmp_path / "x.nc")

    @pytest.fixture
    def source(self, path):
        found = source_for(path, self.key)
        assert isinstance(found, self.kind)
        return found

    @pytest.fixture
    def expected(self):
        return self.array


class TestRecords(VariableContract):
    """In records, beside others."""

    key, kind, array = "sst", RecordSource, SST


class TestOddRecords(VariableContract):
    """Rows that are padded."""

    key, kind = "flag", RecordSource
    array = (np.arange(120).reshape(20, 6) % 100).astype("i1")


class TestFixed(VariableContract):
    """As one run of bytes."""

    key, kind, array = "mask", RawSource, (SST[0] > 0).astype("i1")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", ["nc", "dat"])
def test_variables_by_key(tmp_path, kind, suffix):
    """Whatever the suffix, for content decides; in any of the versions."""
    path = make(tmp_path / f"x.{suffix}", kind)
    np.testing.assert_array_equal(values(lazyio.open(path, "sst")), SST)
    np.testing.assert_array_equal(values(lazyio.open(path, "/sst")[3:9, 2, ::2]), SST[3:9, 2, ::2])
    assert values(lazyio.open(path, "scale")) == 2.5
    assert values(lazyio.open(path, "time")).tolist() == list(range(20))
    with pytest.raises(SourceError, match="holds 5 variables; give the key of one: 'mask', 'time'"):
        lazyio.open(path)
    with pytest.raises(SourceError, match="there is no 'salt'"):
        lazyio.open(path, "salt")


def test_command_line(tmp_path, capsys, in_this_process):
    path = make(tmp_path / "x.nc")
    assert main(["info", str(path)]) == 0
    assert "sst: (20, 6, 9) >f4" in capsys.readouterr().out
    assert main(["convert", f"{path}::sst", str(tmp_path / "y.h5")]) == 0
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "y.h5", "sst")), SST)
    assert lazyio.verify(path).status == "unverifiable"
    assert lazyio.verify(path).n_arrays == 5


def test_several_files(tmp_path):
    for number in (10, 9):
        make(tmp_path / f"day{number}.nc")
    assert lazyio.open(tmp_path / "day*.nc", "sst").shape == (40, 6, 9)


def test_a_stream_that_does_not_say_its_length(tmp_path):
    """The size of the file says it."""
    path = make(tmp_path / "x.nc")
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    np.testing.assert_array_equal(values(lazyio.open(path, "sst")), SST)


def test_a_single_variable_is_not_padded(tmp_path):
    """As an exception of the format."""
    path = tmp_path / "x.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("time", None)
        file.createDimension("x", 3)
        file.createVariable("a", "i1", ("time", "x"))[...] = np.arange(21).reshape(7, 3)
    assert_same(values(lazyio.open(path)), np.arange(21, dtype="i1").reshape(7, 3))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_was_cut_short(tmp_path, kind):
    """At any place it is an error that says so, and names the file."""
    content = make(tmp_path / "x.nc", kind).read_bytes()
    cut = tmp_path / "cut.nc"
    for n_bytes in range(4, len(content) - 4, 101):
        cut.write_bytes(content[:n_bytes])
        with pytest.raises(TruncatedSourceError, match=r"cut\.nc .*cut short"):
            lazyio.open(cut, "flag")


@settings(max_examples=200, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_damaged_headers(tmp_path_factory, data):
    """Whatever a byte of a header says instead: an error of ours, or an array."""
    path = tmp_path_factory.mktemp("x") / "x.nc"
    content = bytearray(make(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(4, 600))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = source_for(path, "sst")
        if found.shape < (1000,):
            found.read(whole(found.shape))
    except lazyio.LazyioError:
        pass


TYPES = ["i1", "S1", "i2", "i4", "f4", "f8"]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_file(tmp_path_factory, data):
    """Variables of any types and dimensions, against scipy's own reading."""
    draw = data.draw
    path = tmp_path_factory.mktemp("x") / "x.nc"
    version = draw(st.sampled_from([1, 2]))
    n_records = draw(st.integers(0, 9))
    wanted = {}
    with scipy.io.netcdf_file(path, "w", version=version) as file:
        file.createDimension("t", None)
        for at in range(3):
            file.createDimension(f"d{at}", draw(st.integers(1, 5)))
        for at in range(draw(st.integers(1, 4))):
            dims = draw(st.permutations(["d0", "d1", "d2"]))[: draw(st.integers(1, 3))]
            dims = ["t", *dims[1:]] if draw(st.booleans()) else dims
            dtype = draw(st.sampled_from(TYPES))
            shape = [n_records if dim == "t" else file.dimensions[dim] for dim in dims]
            size = int(np.prod(shape))
            array = (
                np.arange(size).reshape(shape).astype("u1").view("S1" if dtype == "S1" else "u1")
            )
            array = array.astype(dtype)
            variable = file.createVariable(f"v{at}", dtype if dtype != "S1" else "c", dims)
            if dims[0] == "t":
                for record in range(n_records):
                    variable[record] = array[record]
            else:
                variable[:] = array
            wanted[f"v{at}"] = array
    for name, array in wanted.items():
        source = source_for(path, name)
        assert source.shape == array.shape
        region = tuple(
            slice(*sorted((draw(st.integers(0, extent)), draw(st.integers(0, extent)))))
            for extent in array.shape
        )
        np.testing.assert_array_equal(source.read(region), array[region])


MEMORY = """
import json, sys
import numpy as np, netCDF4
import lazyio

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def make(path, n_rows):
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        file.createDimension("t", None)
        file.createDimension("x", 1000)
        for name in "ab":
            file.createVariable(name, "f4", ("t", "x"))
        for at in range(0, n_rows, 1000):
            for name in "ab":
                file[name][at : at + 1000] = np.ones((1000, 1000), "f4")

def write(path):
    x = lazyio.open(path, "b", memory_limit="16 MiB")
    lazyio.to_hdf5(x, "y.h5", "y", mode="w", memory_limit="16 MiB", workers=2)

make("small.nc", 1000)
write("small.nc")
make("x.nc", 20_000)
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write("x.nc")
print(json.dumps({"growth": resident() - before}))
"""


@pytest.mark.xdist_group("memory")
def test_memory(tmp_path, warm):
    """One of two variables of 80 MB within 16 MiB."""
    told = json.loads(warm.run(MEMORY, cwd=tmp_path).stdout)
    assert told["growth"] <= 16 * 2**20
