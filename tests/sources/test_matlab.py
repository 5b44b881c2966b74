"""MATLAB's files, as MATLAB writes them: HDF5 behind a user block, with axes turned."""

import json

import h5py
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
)

import lazyio
from lazyio.cli import main
from lazyio.errors import SourceError, UnknownFormatError, UnsupportedDtypeError
from lazyio.info import info_of
from lazyio.sources.lookup import source_for
from lazyio.sources.matlab import TransposedSource

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 2026 HDF5 schema"
MATRIX = np.arange(40.0 * 9).reshape(40, 9)
CUBE = np.arange(5 * 6 * 7, dtype="i2").reshape(5, 6, 7)


def values(array):
    return array.compute(scheduler="synchronous")


def save(path, arrays, **options):
    """Write arrays as MATLAB does, which names its own classes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            turned, kind, more = array.T, None, {}
            if array.dtype == bool:
                turned, kind, more = turned.astype("u1"), "logical", {"MATLAB_int_decode": 1}
            elif array.dtype.kind == "c":
                parts = f"f{array.itemsize // 2}"
                pair = [("real", parts), ("imag", parts)]
                turned, kind = np.ascontiguousarray(turned).view(pair), "double"
            names = {"f8": "double", "f4": "single", "i": "int", "u": "uint"}
            kind = (
                kind
                or names.get(array.dtype.str[1:])
                or (f"{names[array.dtype.kind]}{8 * array.itemsize}")
            )
            node = file.create_dataset(name, data=turned, **options)
            node.attrs["MATLAB_class"] = np.bytes_(kind)
            node.attrs.update(more)
    with open(path, "r+b") as file:
        file.write(HEADER.ljust(124) + b"\0\2IM")
    return path


class MatlabContract(SourceContract, TravelsContract, ReadsIntoContract, StoredContract):
    """Subclasses say what is written, and how."""

    options = {}

    @pytest.fixture
    def path(self, tmp_path):
        return save(tmp_path / "x.mat", {"x": self.array}, **self.options)

    @pytest.fixture
    def expected(self):
        return self.array

    @pytest.fixture
    def source(self, path):
        return source_for(path)


class TestContiguous(MatlabContract):
    """Small arrays."""

    array = MATRIX


class TestCompressed(MatlabContract):
    """Large ones, as MATLAB compresses them."""

    array, options = CUBE, {"chunks": (3, 2, 4), "compression": "gzip"}

    def test_chunks_are_turned(self, source):
        assert source.chunk_shape == (4, 2, 3)


class TestLogical(MatlabContract):
    """Truth values."""

    array = CUBE % 3 == 0


class TestComplex(MatlabContract):
    """In two parts of MATLAB's names."""

    array = MATRIX + 1j


@pytest.mark.parametrize("kind", ["<i2", "<i4", "<i8", "<u4", ">f8", ">f4", "<f2"])
def test_pairs_of_any_numbers(tmp_path, kind):
    """Pairs of integers are no complex number of as many bytes, nor are bytes in another order."""
    pairs = np.zeros((2, 3), [("real", kind), ("imag", kind)])
    pairs["real"], pairs["imag"] = np.arange(6).reshape(2, 3), 7
    path = save(tmp_path / "x.mat", {"x": np.zeros(1)})
    with h5py.File(path, "r+") as file:
        del file["x"]
        file["x"] = pairs
        file["x"].attrs["MATLAB_class"] = np.bytes_("int32")
    found = values(lazyio.open(path))
    if np.dtype(kind) in (np.dtype(">f8"), np.dtype(">f4")):
        assert found.dtype.kind == "c"
        np.testing.assert_array_equal(found, pairs.T["real"] + 7j)
    else:
        np.testing.assert_array_equal(found, pairs.T)


def test_axes_are_those_of_matlab(tmp_path):
    """As loadmat has them of older files; ``format="hdf5"`` gives what is stored."""
    path = save(tmp_path / "x.mat", {"x": MATRIX})
    assert_same(values(lazyio.open(path)), MATRIX)
    assert_same(values(lazyio.open(path, format="hdf5")), MATRIX.T.copy())
    assert_same(values(lazyio.from_hdf5(path, "x")), MATRIX.T.copy())
    assert isinstance(source_for(path), TransposedSource)
    np.testing.assert_array_equal(values(lazyio.open(path)[3:9, 2]), MATRIX[3:9, 2])
    scipy.io.savemat(tmp_path / "old.mat", {"x": MATRIX})
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "old.mat")["x"], MATRIX)


def test_told_and_converted(tmp_path, capsys, in_this_process):
    path = save(tmp_path / "x.mat", {"x": CUBE, "y": MATRIX}, chunks=True)
    assert {one.key: one.shape for one in info_of(path)} == {"/x": (5, 6, 7), "/y": (40, 9)}
    assert main(["convert", f"{path}::x", str(tmp_path / "y.h5")]) == 0
    with h5py.File(tmp_path / "y.h5") as file:
        np.testing.assert_array_equal(file["x"], CUBE)
        assert not file["x"].attrs
    assert lazyio.verify(path).status == "unverifiable"
    with pytest.raises(SourceError, match="holds 2 arrays; give the key of one: 'x', 'y'"):
        lazyio.open(path)
    with pytest.raises(SourceError, match="has no dataset 'z'"):
        lazyio.open(path, "z")


def test_other_classes_are_refused(tmp_path):
    path = save(tmp_path / "x.mat", {"x": MATRIX})
    with h5py.File(path, "r+") as file:
        text = file.create_dataset("text", data=np.frombuffer("hällo".encode("utf-16-le"), "u2"))
        text.attrs["MATLAB_class"] = np.bytes_("char")
        cell = file.create_dataset("cell", (1, 2), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        held = file.create_dataset("#refs#/a", data=np.zeros(3))
        cell[0, 0] = held.ref
        table = file.create_dataset("table", data=np.zeros((1, 6), "u4"))
        table.attrs["MATLAB_class"] = np.bytes_("table")
        table.attrs["MATLAB_object_decode"] = 3
        sparse = file.create_group("sparse")
        sparse.attrs["MATLAB_sparse"] = 4
        sparse["data"] = np.ones(2)
        file.create_group("s")["field"] = np.ones((2, 3))
        empty = file.create_dataset("empty", data=np.array([0, 4], "u8"))
        empty.attrs.update(MATLAB_class=np.bytes_("single"), MATLAB_empty=1)
    for key, match in {
        "text": "'text' is text; convert it in MATLAB",
        "cell": "'cell' is a cell array",
        "table": "'table' is an object of class table",
        "sparse": "'sparse' is a sparse matrix, whose parts lie in it as data, ir and jc",
    }.items():
        with pytest.raises(UnsupportedDtypeError, match=match):
            lazyio.open(path, key)
    assert values(lazyio.open(path, "s/field")).shape == (3, 2)
    assert_same(values(lazyio.open(path, "empty")), np.zeros((0, 4), "f4"))
    with pytest.raises(SourceError, match=r"holds 7 arrays; .*'cell', 'empty', 's/field'"):
        lazyio.open(path)


def test_older_files_are_refused(tmp_path):
    """They can only be loaded whole."""
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"x": MATRIX})
    with pytest.raises(SourceError, match=r"before 7\.3.*save\(\.\.\., '-v7\.3'\).*loadmat"):
        lazyio.open(path, "x")
    np.testing.assert_array_equal(values(lazyio.open(scipy.io.loadmat(path)["x"])), MATRIX)
    path.write_bytes(b"what is this")
    with pytest.raises(UnknownFormatError, match="is no MATLAB file of version 5 or later"):
        lazyio.open(path)


def test_several_files(tmp_path):
    for number in (10, 9):
        save(tmp_path / f"day{number}.mat", {"x": np.full((2, 3), float(number))})
    assert values(lazyio.open(tmp_path / "day*.mat", "x"))[:, 0].tolist() == [9, 9, 10, 10]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_array(tmp_path_factory, data):
    """Any class, shape and chunks, in any region."""
    draw = data.draw
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    dtype = draw(st.sampled_from(["f8", "f4", "i1", "u2", "i8", "?", "c16"]))
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    options = {}
    if draw(st.booleans()):
        chunks = tuple(draw(st.integers(1, extent)) for extent in shape[::-1])
        options = {"chunks": chunks, "compression": "gzip"}
    path = save(tmp_path_factory.mktemp("x") / "x.mat", {"x": array}, **options)
    region = tuple(
        slice(*sorted((draw(st.integers(0, extent)), draw(st.integers(0, extent)))))
        for extent in shape
    )
    assert_same(source_for(path).read(region), array[region].copy())
    np.testing.assert_array_equal(values(lazyio.open(path)), array)


MEMORY = """
import json, sys
import h5py, numpy as np
import lazyio

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def make(path, n_columns, **options):
    with h5py.File(path, "w", userblock_size=512) as file:
        node = file.create_dataset("x", (n_columns, 10_000), "f8", **options)
        node.attrs["MATLAB_class"] = np.bytes_("double")
        for at in range(0, n_columns, 100):
            node[at : at + 100] = np.ones((100, 10_000))
    with open(path, "r+b") as file:
        file.write(sys.argv[1].encode())

def write(path):
    x = lazyio.open(path, memory_limit="16 MiB")
    lazyio.to_hdf5(x, "y.h5", "y", mode="w", memory_limit="16 MiB", workers=2)

growth = {}
for name, options in {"plain": {}, "gzip": dict(chunks=(50, 1000), compression="gzip")}.items():
    make("small.mat", 100, **options)
    write("small.mat")
    make("x.mat", 1000, **options)
    open("/proc/self/clear_refs", "w").write("5")
    before = resident()
    write("x.mat")
    growth[name] = resident() - before
print(json.dumps(growth))
"""


@pytest.mark.xdist_group("memory")
def test_memory(tmp_path, warm):
    """80 MB of 10,000 x 1,000 numbers within 16 MiB."""
    told = json.loads(warm.run(MEMORY, HEADER.decode(), cwd=tmp_path).stdout)
    assert max(told.values()) <= 16 * 2**20, told
