"""Files of PyTables: its arrays, tables, columns and open nodes, and files that it goes on with."""

import json
import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
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
from lazyio.errors import OptionError, SourceChangedError, SourceError, UnsupportedDtypeError
from lazyio.sources.elements import FieldSource, ViewedSource
from lazyio.sources.hdf5 import Hdf5Source
from lazyio.sources.lookup import source_for
from lazyio.sources.pytables import OpenNodeSource, PyTablesSource

tables = pytest.importorskip("tables")

FLAGS = np.arange(40 * 3).reshape(40, 3) % 7 < 3
TIMES = np.array([1.5, -2.25, 1e9 + 0.123456, 0.0] * 5)


class Particle(tables.IsDescription):
    """A row with one of each."""

    name = tables.StringCol(5)
    count = tables.Int32Col()
    position = tables.Float64Col(shape=(3,))
    is_hit = tables.BoolCol()
    phase = tables.ComplexCol(itemsize=16)
    kind = tables.EnumCol({"a": 0, "b": 1}, "a", base="uint8")

    class cell(tables.IsDescription):
        """A column of columns."""

        row = tables.Int16Col()
        is_edge = tables.BoolCol()


def particles(n_rows=50):
    """Return rows of a table, as PyTables has their dtype."""
    random = np.random.default_rng(0)
    rows = np.zeros(n_rows, tables.dtype_from_descr(Particle()))
    rows["count"] = np.arange(n_rows)
    rows["position"] = random.normal(size=(n_rows, 3))
    rows["is_hit"] = random.random(n_rows) < 0.5
    rows["phase"] = random.normal(size=n_rows) + 1j
    rows["name"] = [f"n{at}".encode() for at in range(n_rows)]
    rows["cell"]["row"] = -np.arange(n_rows)
    rows["cell"]["is_edge"] = random.random(n_rows) < 0.2
    return rows


def values(array):
    return array.compute(scheduler="synchronous")


class NodeContract(SourceContract, TravelsContract, ReadsIntoContract, StoredContract):
    """Subclasses make a node ``x``, and say what reads it."""

    key, format = "x", None

    @pytest.fixture
    def path(self, tmp_path):
        with tables.open_file(tmp_path / "a.h5", "w") as file:
            self.make(file)
        return tmp_path / "a.h5"

    @pytest.fixture
    def source(self, path):
        found = source_for(path, self.key, format=self.format)
        assert isinstance(found, self.kind)
        return found


class TestBools(NodeContract):
    """Bits in a byte, for HDF5."""

    kind = ViewedSource

    def make(self, file):
        array = file.create_earray("/", "x", tables.BoolAtom(), (0, 3), chunkshape=(7, 2))
        array.append(FLAGS)

    @pytest.fixture
    def expected(self):
        return FLAGS


class TestInnerAxes(NodeContract):
    """Elements that are arrays become axes, in chunks of Blosc2."""

    kind = Hdf5Source

    def make(self, file):
        atom, filters = tables.Int32Atom(shape=(3, 2)), tables.Filters(5, "blosc2:zstd")
        array = file.create_earray("/", "x", atom, (0, 4), chunkshape=(3, 2), filters=filters)
        array.append(np.arange(10 * 4 * 6).reshape(10, 4, 3, 2))

    @pytest.fixture
    def expected(self):
        return np.arange(10 * 4 * 6, dtype="i4").reshape(10, 4, 3, 2)


class TestTable(NodeContract):
    """Whole: records, truth values and all."""

    kind = ViewedSource

    def make(self, file):
        filters = tables.Filters(3, "zlib", fletcher32=True)
        file.create_table("/", "x", Particle, filters=filters, chunkshape=7).append(particles())

    @pytest.fixture
    def expected(self):
        return particles()


class TestColumn(TestTable):
    """One column, with axes of its own."""

    kind, key = FieldSource, "x/position"

    @pytest.fixture
    def expected(self):
        return np.ascontiguousarray(particles()["position"])

    def test_chunks_are_those_of_the_table(self, source):
        assert source.chunk_shape == (7, 3)


class TestColumnInAColumn(TestTable):
    """Of truth values."""

    kind, key = FieldSource, "/x/cell/is_edge"

    @pytest.fixture
    def expected(self):
        return np.ascontiguousarray(particles()["cell"]["is_edge"])


class TestTimes(NodeContract):
    """A type of HDF5 that only PyTables reads."""

    kind, format = PyTablesSource, "pytables"

    def make(self, file):
        file.create_earray("/", "x", tables.Time64Atom(), (0,), chunkshape=(7,)).append(TIMES)

    @pytest.fixture
    def expected(self):
        return TIMES.copy()


class TestColumnOfTimes(TestTimes):
    """A column beside times, by PyTables as well."""

    kind, key = FieldSource, "x/y"

    def make(self, file):
        description = {"t": tables.Time64Col(), "y": tables.Time32Col()}
        rows = np.zeros(20, [("t", "f8"), ("y", "i4")])
        rows["t"], rows["y"] = TIMES, np.arange(20)
        file.create_table("/", "x", description, chunkshape=7).append(rows)

    @pytest.fixture
    def expected(self):
        return np.arange(20, dtype="i4")


FILTERS = [
    *({"complib": name, "shuffle": True} for name in ("zlib", "lzo", "bzip2", "blosc", "blosc2")),
    *({"complib": name, "shuffle": False} for name in ("zlib", "bzip2", "blosc", "blosc2")),
    *(
        {"complib": f"{name}:{codec}", "bitshuffle": bits, "shuffle": not bits}
        for name in ("blosc", "blosc2")
        for codec in ("blosclz", "lz4", "zstd", "zlib")
        for bits in (True, False)
    ),
    *({"complib": name, "fletcher32": True} for name in ("zlib", "blosc", "blosc2")),
]


@pytest.mark.parametrize("options", FILTERS, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.filterwarnings("ignore:.*is not available.*")
def test_filters(tmp_path, options):
    """Whatever PyTables encodes with."""
    wanted = np.arange(100 * 30, dtype="i4").reshape(100, 30)
    path, filters = tmp_path / "x.h5", tables.Filters(complevel=5, **options)
    with tables.open_file(path, "w") as file:
        file.create_carray("/", "x", obj=wanted, chunkshape=(33, 7), filters=filters)
        description = {"a": tables.Int32Col(), "b": tables.Float64Col()}
        rows = np.zeros(500, [("a", "i4"), ("b", "f8")])
        rows["a"] = np.arange(500)
        file.create_table("/", "t", description, filters=filters).append(rows)
    np.testing.assert_array_equal(values(lazyio.open(path, "x")), wanted)
    np.testing.assert_array_equal(values(lazyio.open(path, "x")[40:55, 3:9]), wanted[40:55, 3:9])
    np.testing.assert_array_equal(values(lazyio.open(path, "t/a")), np.arange(500))
    np.testing.assert_array_equal(values(lazyio.open(path, "t")), rows)


def test_a_filter_that_is_not_to_be_had(tmp_path, monkeypatch):
    """It is named, with what to install; PyTables may have it."""
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        filters = tables.Filters(5, "bzip2")
        file.create_carray("/", "x", obj=np.arange(1000), filters=filters)
    monkeypatch.setattr("lazyio.sources.hdf5.is_decoded_here", lambda _: False)
    monkeypatch.setattr("lazyio.sources.libhdf5.libhdf5_has", lambda number: number != 307)
    with pytest.raises(SourceError, match=r'filter 307 \(bzip2.*give format="pytables"'):
        lazyio.open(path)
    found = source_for(path, format="pytables")
    assert isinstance(found, PyTablesSource)
    np.testing.assert_array_equal(found.read((slice(3, 9),)), np.arange(3, 9))
    monkeypatch.setattr("lazyio.sources.pytables.optional", lambda _: None)
    with pytest.raises(SourceError, match=r"filter 307 \(bzip2.*pip install .lazyio\[pytables\]"):
        lazyio.open(path)
    with pytest.raises(SourceError, match=r"needs PyTables.*pip install .lazyio\[pytables\]"):
        lazyio.open(path, format="pytables")


class Payload:
    """What runs a program when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_program_in_a_file_is_run(tmp_path):
    """PyTables unpickles attributes: it is asked only by those who trust the file."""
    path, trace = tmp_path / "x.h5", tmp_path / "trace"
    with tables.open_file(path, "w") as file:
        file.create_earray("/", "when", tables.Time64Atom(), (0,)).append(TIMES)
        file.create_array("/", "volts", np.arange(5.0))
    program = pickle.dumps(Payload(str(trace)), protocol=0)
    kind, space = h5py.h5t.C_S1.copy(), h5py.h5s.create(h5py.h5s.SCALAR)
    kind.set_size(len(program))
    with h5py.File(path, "r+") as file:
        for node in (b"/", b"when", b"volts"):
            found = h5py.h5o.open(file.id, node)
            h5py.h5a.delete(found, b"TITLE")
            h5py.h5a.create(found, b"TITLE", kind, space).write(np.array(program))
    with pytest.raises(UnsupportedDtypeError, match=r'numpy lacks.*format="pytables"'):
        lazyio.open(path, "when")
    lazyio.open(path, "volts").compute()
    assert lazyio.verify(path).status == "unverifiable"
    for command in (["info", path], ["convert", path, tmp_path / "out.zarr", "--all"]):
        assert main([*map(str, command)]) == 0
    with pytest.raises(OptionError, match="unpickles"):
        lazyio.open(path, "when", format="pytables", trusted=False)
    assert not trace.exists()
    np.testing.assert_array_equal(values(lazyio.open(path, "when", format="pytables")), TIMES)


def test_open_nodes_of_times(tmp_path):
    """Whoever has a file open with PyTables trusts it."""
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        file.create_earray("/", "when", tables.Time64Atom(), (0,)).append(TIMES)
        file.create_vlarray("/", "rows", tables.Int32Atom()).append([1, 2])
    with tables.open_file(path) as file:
        found = lazyio.open(file.root.when)
    np.testing.assert_array_equal(values(found), TIMES)
    with pytest.raises(SourceError, match="'/rows' is no array or table; open_ragged"):
        lazyio.open(path, "rows", format="pytables")
    with pytest.raises(SourceError, match="holds 2 arrays; give the key of one: 'rows', 'when'"):
        lazyio.open(path, format="pytables")


BESIDE_NETCDF4 = """
import netCDF4, tables, numpy as np
import lazyio
with tables.open_file("x.h5", "w") as file:
    file.create_carray("/", "x", obj=np.arange(1000), filters=tables.Filters(5, "bzip2"))
assert (lazyio.open("x.h5").compute() == np.arange(1000)).all()
"""


def test_a_filter_that_another_library_has_found(tmp_path):
    """That of netCDF4, which does not work in h5py's libhdf5, is replaced."""
    command = [sys.executable, "-W", "ignore", "-c", BESIDE_NETCDF4]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_times_without_pytables(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        file.create_earray("/", "x", tables.Time64Atom(), (0,)).append(TIMES)
    monkeypatch.setattr("lazyio.sources.pytables.optional", lambda _: None)
    with pytest.raises(UnsupportedDtypeError, match=r"numpy lacks.*lazyio\[pytables\]"):
        lazyio.open(path)


@pytest.mark.parametrize("flavor", ["numpy", "python", "numeric", "numarray", "no such"])
def test_flavors(tmp_path, flavor):
    """How PyTables hands out arrays says nothing of what is stored."""
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        file.create_array("/", "x", [[1, 2], [3, 4]])
    with h5py.File(path, "r+") as file:
        file["x"].attrs["FLAVOR"] = np.bytes_(flavor)
    assert_same(values(lazyio.open(path)), np.array([[1, 2], [3, 4]]))


@pytest.mark.parametrize(
    "given",
    [
        np.array(5.0),
        [b"ab", b"cde"],
        np.array([1 + 2j, 3]),
        np.arange(3, dtype="f2"),
        np.zeros((2, 0, 3)),
        np.array([True, False]),
        np.array(True),
        np.arange(6, dtype=">i4").reshape(2, 3),
    ],
    ids=["scalar", "text", "complex", "half", "empty", "bool", "one-bool", "big-endian"],
)
@pytest.mark.filterwarnings("ignore::tables.exceptions.PerformanceWarning")
def test_arrays(tmp_path, given):
    """Plain arrays of any type, 0-d and empty ones too."""
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        file.create_array("/", "x", given)
        wanted = np.asarray(file.root.x.read())
    assert_same(values(lazyio.open(path)), wanted.astype(np.asarray(given).dtype))


def test_enums_and_other_bits(tmp_path):
    """Enumerations are their numbers; bits of other programs are bytes."""
    path = tmp_path / "x.h5"
    with tables.open_file(path, "w") as file:
        atom = tables.EnumAtom({"a": 0, "b": 1}, "a", base="uint8")
        file.create_earray("/", "x", atom, (0,)).append(np.array([0, 1, 1], "u1"))
    assert_same(values(lazyio.open(path)), np.array([0, 1, 1], "u1"))
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_B8LE, space)
    assert lazyio.open(path).dtype == "u1"


@pytest.fixture
def table(tmp_path):
    """Make a table in a group, beside an array."""
    with tables.open_file(tmp_path / "a.h5", "w") as file:
        group = file.create_group("/", "run")
        file.create_table(group, "particles", Particle, chunkshape=7).append(particles())
        file.create_array(group, "x", [1, 2, 3])
    return tmp_path / "a.h5"


def test_columns_by_key(table, tmp_path):
    rows = particles()
    for name in ("name", "count", "position", "is_hit", "phase", "kind", "cell"):
        found = values(lazyio.open(table, f"run/particles/{name}"))
        np.testing.assert_array_equal(found, rows[name])
    assert lazyio.from_hdf5(table, "/run/particles/cell/row").dtype == "i2"
    assert lazyio.open(table, "run/particles/is_hit", trusted=False).sum().compute() > 0
    assert main(["convert", f"{table}::run/particles/count", str(tmp_path / "x.zarr")]) == 0
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "x.zarr")), rows["count"])
    lazyio.to_hdf5(lazyio.open(table, "run/particles"), tmp_path / "y.h5", "y")
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "y.h5")), rows)


def test_columns_that_are_not_there(table):
    with pytest.raises(SourceError, match=r"no column 'weight'; its columns are 'cell', 'count'"):
        lazyio.open(table, "run/particles/weight")
    with pytest.raises(SourceError, match=r"no column 'cell/x'; its columns are 'is_edge', 'row'"):
        lazyio.open(table, "run/particles/cell/x")
    with pytest.raises(SourceError, match="has no dataset 'run/x/y'"):
        lazyio.open(table, "run/x/y")
    with pytest.raises(SourceError, match="has no dataset 'run/other/x'"):
        lazyio.open(table, "run/other/x")


def test_columns_of_h5py(tmp_path):
    """Records of any program have columns."""
    rows = np.zeros(30, [("a", "i4"), ("b", "f4", (2, 3))])
    rows["b"] = np.arange(180).reshape(30, 2, 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=rows.reshape(5, 6), chunks=(2, 3), compression="gzip")
    found = values(lazyio.open(tmp_path / "x.h5", "x/b")[1:4, 2:6, 1])
    np.testing.assert_array_equal(found, rows["b"].reshape(5, 6, 2, 3)[1:4, 2:6, 1])


def test_open_nodes(table):
    """Those of a file that is open for reading travel as path and key."""
    rows = particles()
    with tables.open_file(table) as file:
        node = file.root.run.particles
        opened = {
            "table": lazyio.open(node),
            "column": lazyio.open(node.cols.cell.is_edge),
            "key": lazyio.open(file, "run/particles"),
            "group": lazyio.open(file.root.run, "particles/count"),
            "array": lazyio.open(file.root.run.x),
        }
        with pytest.raises(SourceError, match=r"holds 2 arrays; give the key of one: .*particles"):
            lazyio.open(file)
        with pytest.raises(SourceError, match="there is no 'run/y'"):
            lazyio.open(file, "run/y")
        with pytest.raises(SourceError, match="'/run/particles' has no column 'weight'"):
            lazyio.open(file, "run/particles/weight")
        column = lazyio.open(file, "run/particles/cell/row")
        np.testing.assert_array_equal(values(column), rows["cell"]["row"])
    # After it was closed, too.
    sent = {name: pickle.loads(pickle.dumps(array)) for name, array in opened.items()}
    for found in (opened, sent):
        np.testing.assert_array_equal(values(found["table"]), rows)
        np.testing.assert_array_equal(values(found["column"]), rows["cell"]["is_edge"])
        np.testing.assert_array_equal(values(found["key"]), rows)
        np.testing.assert_array_equal(values(found["group"]), rows["count"])
        np.testing.assert_array_equal(values(found["array"]), [1, 2, 3])


@pytest.mark.filterwarnings("ignore::tables.exceptions.DataTypeWarning")
def test_nodes_beside_others_that_pytables_cannot_open(tmp_path):
    """Coordinates and text, which it fails at."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.ones((4, 2)), path, "x", dims=("time", "channel"))
    lazyio.to_hdf5(np.array(["a", "bc"]), path, "text")
    with tables.open_file(path) as file:
        np.testing.assert_array_equal(values(lazyio.open(file, "x")), np.ones((4, 2)))
        with pytest.raises(SourceError, match="give the key of one"):
            lazyio.open(file)


def test_nodes_open_for_writing(table, tmp_path):
    """PyTables reads them, as they are; of a closed file it is an error."""
    rows = particles()
    with tables.open_file(table, "a") as file:
        node = file.root.run.particles
        found = lazyio.open(node)
        column = lazyio.open(node.cols.position)
        array = lazyio.open(file.root.run.x)
        assert isinstance(source_for(node), OpenNodeSource)
        np.testing.assert_array_equal(values(found), rows)
        np.testing.assert_array_equal(values(found[3:9]), rows[3:9])
        np.testing.assert_array_equal(values(column), rows["position"])
        np.testing.assert_array_equal(values(array), [1, 2, 3])
        lazyio.to_hdf5(node, tmp_path / "y.h5", "y")
        lazyio.to_hdf5(node.cols.cell.is_edge, tmp_path / "z.h5", "z")
        with pytest.raises(lazyio.LazyioError, match=r"a\.h5"):
            lazyio.to_hdf5(node, table, "y", mode="w")
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "y.h5")), rows)
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "z.h5")), rows["cell"]["is_edge"])
    with pytest.raises(SourceError, match="file has been closed"):
        values(found)


def test_rows_of_differing_length(tmp_path):
    """They are none that an array could hold, and say so."""
    with tables.open_file(tmp_path / "x.h5", "w") as file:
        file.create_vlarray("/", "rows", tables.Int32Atom()).append([1, 2])
        file.create_array("/", "x", [1, 2])
        with pytest.raises(UnsupportedDtypeError, match="differing length"):
            lazyio.open(file, "rows")
        np.testing.assert_array_equal(values(lazyio.open(file, "x")), [1, 2])


def test_a_file_that_pytables_goes_on_with(table):
    """What was opened is of one state."""
    found = lazyio.open(table, "run/particles/count")
    with tables.open_file(table, "a") as file:
        file.root.run.particles.append(particles(3))
    with pytest.raises(SourceChangedError, match=r"a\.h5"):
        values(found)
    assert lazyio.open(table, "run/particles").shape == (53,)


OURS = {
    "int": np.arange(60, dtype="i4").reshape(20, 3),
    "complex": (np.arange(20) + 2j).astype("c16"),
    "text": np.array([b"ab", b"cde"] * 10),
    "big-endian": np.arange(20, dtype=">f8"),
    "records": np.array([(1, 2.0)] * 20, [("a", "i4"), ("b", "f8")]),
}
CODECS = [
    {},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "blosc"},
    {"compression": "blosc2"},
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda one: one.get("compression", "none"))
@pytest.mark.parametrize("kind", OURS)
def test_pytables_goes_on_with_ours(tmp_path, kind, codec, in_this_process):
    """It reads them, and appends to what may grow; then ``verify`` tells, and lazyio goes on."""
    path, given = tmp_path / "x.h5", OURS[kind]
    bounds = (None, *given.shape[1:])
    lazyio.to_hdf5(given, path, "x", maxshape=bounds, chunks=(7, *given.shape[1:]), **codec)
    if kind == "complex":
        # Without its own attributes it takes numbers of two parts for a fixed array.
        with h5py.File(path, "r+") as file:
            file["x"].attrs.update(CLASS=np.bytes_("EARRAY"), VERSION=np.bytes_("1.1"))
    with tables.open_file(path, "a") as file:
        node = file.root.x
        np.testing.assert_array_equal(node[:], given)
        node.append(given[:5])
        assert isinstance(node, tables.Table if kind == "records" else tables.EArray)
    assert lazyio.verify(path).status == "modified"
    np.testing.assert_array_equal(
        values(lazyio.open(path, "x")), np.concatenate([given, given[:5]])
    )
    lazyio.to_hdf5(given[5:8], path, "x", append_dim=0)
    with tables.open_file(path) as file:
        np.testing.assert_array_equal(file.root.x[:], np.concatenate([given, given[:8]]))


def test_we_go_on_with_theirs(tmp_path):
    """Truth values and records go into PyTables' own datasets."""
    path, rows = tmp_path / "x.h5", particles()
    with tables.open_file(path, "w") as file:
        file.create_earray("/", "flags", tables.BoolAtom(), (0, 3)).append(FLAGS)
        file.create_table("/", "rows", Particle).append(rows)
    lazyio.to_hdf5(FLAGS[:4], path, "flags", append_dim=0)
    lazyio.to_hdf5(rows[:4], path, "rows", append_dim=0)
    with tables.open_file(path, "a") as file:
        np.testing.assert_array_equal(file.root.flags[:], np.concatenate([FLAGS, FLAGS[:4]]))
        np.testing.assert_array_equal(file.root.rows[:], np.concatenate([rows, rows[:4]]))
        file.root.rows.append(rows[:1])
        assert file.root.rows.nrows == 55


def test_an_indexed_table(tmp_path):
    """Its indexes are hidden, and nothing is written that they would not know."""
    path, rows = tmp_path / "x.h5", particles()
    with tables.open_file(path, "w") as file:
        table = file.create_table("/", "rows", Particle)
        table.append(rows)
        table.cols.count.create_index()
    np.testing.assert_array_equal(values(lazyio.open(path)), rows)
    before = path.read_bytes()
    for where in ({"append_dim": 0}, {"region": slice(0, 4)}):
        with pytest.raises(OptionError, match=r"PyTables has indexed \(/_i_rows\).*remove_index"):
            lazyio.to_hdf5(rows[:4], path, "rows", **where)
    with (
        pytest.raises(OptionError, match="PyTables has indexed"),
        lazyio.writer(path) as writer,
    ):
        writer.create("rows").append(rows[:4])
    assert path.read_bytes() == before
    with tables.open_file(path, "a") as file:
        file.root.rows.cols.count.remove_index()
    lazyio.to_hdf5(rows[:4], path, "rows", append_dim=0)
    with tables.open_file(path) as file:
        assert len(file.root.rows.read_where("count == 2")) == 2


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_inner_axes_by_libhdf5(tmp_path, mode):
    """Also where lazyio does not decode chunks itself: of an open file, of odd integers."""
    wanted = np.arange(60, dtype="i2").reshape(5, 2, 6)
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = h5py.h5t.array_create(kind, (6,))
        space = h5py.h5s.create_simple((5, 2))
        node = h5py.Dataset(h5py.h5d.create(file.id, b"x", array, space))
        node[...] = wanted
        file.create_dataset("y", data=wanted[..., 0])
    with h5py.File(tmp_path / "x.h5", mode) as file:
        for given in (file["x"], file["x"][...]):
            found = lazyio.open(given)
            assert found.shape == (5, 2, 6)
            np.testing.assert_array_equal(values(found[1:4, 1, 2:5]), wanted[1:4, 1, 2:5])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_table(tmp_path_factory, data):
    """Columns of any types and shapes, against PyTables' own reading."""
    draw = data.draw
    types = ["bool", "int8", "uint16", "int64", "float32", "complex64", "time32", "time64"]
    description, n_rows = {}, draw(st.integers(0, 40))
    for at in range(draw(st.integers(1, 4))):
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
        kind = draw(st.sampled_from(types))
        description[f"c{at}"] = tables.Col.from_type(kind, shape)
    path = tmp_path_factory.mktemp("x") / "x.h5"
    with tables.open_file(path, "w") as file:
        lib = draw(st.sampled_from(["zlib", "blosc", "blosc2"]))
        filters = tables.Filters(draw(st.sampled_from([0, 3])), lib)
        node = file.create_table("/", "x", description, filters=filters, chunkshape=7)
        rows = np.zeros(n_rows, node.dtype)
        for name in rows.dtype.names:
            numbers = np.arange(rows[name].size).reshape(rows[name].shape)
            rows[name] = (numbers % 2 if rows[name].dtype == bool else numbers).astype(
                rows[name].dtype
            )
        node.append(rows)
        node.flush()
        wanted = node[:]
    has_times = any(column.type.startswith("time") for column in description.values())
    format = "pytables" if has_times else draw(st.sampled_from([None, "pytables"]))
    found = lazyio.open(path, format=format)
    assert found.dtype == wanted.dtype
    start, stop = sorted((draw(st.integers(0, n_rows)), draw(st.integers(0, n_rows))))
    np.testing.assert_array_equal(values(found[start:stop]), wanted[start:stop])
    name = draw(st.sampled_from(wanted.dtype.names))
    column = lazyio.open(path, f"x/{name}", format=format)
    np.testing.assert_array_equal(values(column), wanted[name])


MEMORY = """
import json, sys
import numpy as np, tables
import lazyio

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def make(path, n_rows):
    columns = {f"c{at}": tables.Float64Col() for at in range(16)}
    columns["t"] = tables.Time64Col()
    with tables.open_file(path, "w") as file:
        file.create_table("/", "timed", columns)
        del columns["t"]
        for name in ("x", "timed"):
            if name == "x":
                file.create_table("/", "x", columns, filters=tables.Filters(1, "blosc"))
            node = file.get_node("/" + name)
            for _ in range(0, n_rows, 10_000):
                node.append(np.zeros(10_000, node.dtype))

def write(path, keys=("x/c3", "timed/c3", "x", "timed")):
    for key in keys:
        format = "pytables" if key.startswith("timed") else None
        x = lazyio.open(path, key, memory_limit="16 MiB", format=format)
        lazyio.to_hdf5(x, "y.h5", "y", mode="w", memory_limit="16 MiB", workers=2)

make("small.h5", 10_000)
write("small.h5")
make("x.h5", 500_000)
growth = {}
for key in ("x/c3", "timed/c3", "x", "timed"):
    open("/proc/self/clear_refs", "w").write("5")
    before = resident()
    write("x.h5", [key])
    growth[key] = resident() - before
print(json.dumps(growth))
"""


@pytest.mark.xdist_group("memory")
def test_memory(tmp_path, warm):
    """Two tables of 65 MB, and a column of each, within 16 MiB."""
    told = json.loads(warm.run(MEMORY, cwd=tmp_path).stdout)
    assert max(told.values()) <= 16 * 2**20, told
