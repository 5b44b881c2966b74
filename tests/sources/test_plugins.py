"""Adapters of other packages: a toy package with metadata as pip installs it."""

import pickle
import sys

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.cli import main
from lazyio.errors import OptionError, SourceError, UnknownFormatError
from lazyio.sources.plugins import SourcePlugin
from lazyio.testing import SourceContract, StoredContract, TravelsContract

TOY = '''
"""Text files whose lines are rows of numbers, four digits each, by the public names alone."""
import os
from dataclasses import dataclass

import numpy as np
from lazyio.errors import SourceChangedError


@dataclass(frozen=True)
class ToySource:
    path: str
    shape: tuple
    stamp: int
    dtype = np.dtype("i8")
    in_rows = True

    @property
    def chunk_shape(self):
        return (1, self.shape[1])

    @property
    def location(self):
        return self.path, ""

    @property
    def paths(self):
        return (self.path,)

    def require_unchanged(self):
        is_same = os.path.exists(self.path) and os.stat(self.path).st_mtime_ns == self.stamp
        if not is_same:
            raise SourceChangedError(f"{self.path} was modified or removed since it was opened")

    def read(self, region):
        self.require_unchanged()
        with open(self.path) as file:
            table = np.loadtxt(file, "i8", ndmin=2)
        return table[region].copy()


class Recording:
    """An object that nobody else knows."""

    def __init__(self, path):
        self.path = path


def recognises(obj):
    return isinstance(obj, Recording) or str(obj).endswith(".toy")


def open_toy(obj, key=None, *, n_rows=None):
    path = os.path.abspath(obj.path if isinstance(obj, Recording) else obj)
    if key not in (None, "rows"):
        raise KeyError(key)
    table = np.loadtxt(path, "i8", ndmin=2)
    return ToySource(path, (n_rows or len(table), table.shape[1]), os.stat(path).st_mtime_ns)


class Plugin:
    recognises = staticmethod(recognises)
    open = staticmethod(open_toy)
'''

VALUES = np.arange(30 * 4, dtype="i8").reshape(30, 4)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package: its module, and the metadata that pip writes."""
    installed = []

    def work(package, text, entry):
        site = tmp_path / f"site-{package}"
        info = site / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{package}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[lazyio.sources]\n{entry}\n")
        monkeypatch.syspath_prepend(site)
        installed.append(package)

    yield work
    for package in installed:
        sys.modules.pop(package, None)


@pytest.fixture
def toy(install):
    install("lazyio_toy", TOY, "toy = lazyio_toy:Plugin")


@pytest.fixture
def path(toy, tmp_path):
    np.savetxt(tmp_path / "x.toy", VALUES, "%04d")
    return tmp_path / "x.toy"


class TestToyPlugin(SourceContract, TravelsContract, StoredContract):
    """The classes that are for authors, as an author uses them."""

    @pytest.fixture
    def path(self, path):
        return path

    @pytest.fixture
    def expected(self):
        return VALUES

    @pytest.fixture
    def source(self, path):
        import lazyio_toy

        return lazyio_toy.open_toy(path)


def test_opened_by_its_path(path, tmp_path, capsys):
    """As any other path: joined, planned, converted."""
    found = lazyio.open(path)
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), VALUES)
    assert pickle.loads(pickle.dumps(found)).shape == (30, 4)
    (tmp_path / "y.toy").write_bytes(path.read_bytes())
    assert lazyio.open(tmp_path / "*.toy").shape == (60, 4)
    assert lazyio.plan(path).shape == (30, 4)
    assert main(["convert", str(path), str(tmp_path / "x.h5"), "--key", "x"]) == 0
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"], VALUES)


def test_options_and_keys(path):
    """They are the plugin's own; with its name it opens files of any suffix."""
    assert lazyio.open(path, "rows", n_rows=7).shape == (7, 4)
    other = path.rename(path.with_suffix(".txt"))
    assert lazyio.open(other, format="toy", n_rows=7).shape == (7, 4)
    with pytest.raises(UnknownFormatError, match=r"x\.txt is of no known format"):
        lazyio.open(other)
    with pytest.raises(OptionError, match=r"n_columns: the plugin 'toy' .*lazyio_toy 1\.0"):
        lazyio.open(other, format="toy", n_columns=2)
    with pytest.raises(OptionError, match=r"format='tox' is not a format; give one of .*raw, toy"):
        lazyio.open(other, format="tox")
    with pytest.raises(SourceError, match=r"the plugin 'toy' .* failed to open .*KeyError: 'none'"):
        lazyio.open(other, "none", format="toy")


def test_objects(path, tmp_path):
    """Objects that are no arrays, wherever they are given."""
    import lazyio_toy

    given = lazyio_toy.Recording(path)
    for found in (lazyio.open(given), lazyio.open(given, "rows"), lazyio.from_array(given)):
        np.testing.assert_array_equal(found.compute(scheduler="synchronous"), VALUES)
    lazyio.to_hdf5(given, tmp_path / "x.h5", "x")
    assert lazyio.open(tmp_path / "x.h5").shape == (30, 4)


def test_a_folder_that_a_plugin_knows(install, tmp_path):
    text = TOY.replace('".toy"', '".rec"').replace("else obj)", 'else os.path.join(obj, "x.txt"))')
    install("toy_folder", text, "folder = toy_folder:Plugin")
    (tmp_path / "a.rec").mkdir()
    np.savetxt(tmp_path / "a.rec" / "x.txt", VALUES, "%04d")
    (tmp_path / "a.rec" / "notes.md").touch()
    assert lazyio.open(tmp_path / "a.rec").shape == (30, 4)
    other = (tmp_path / "a.rec").rename(tmp_path / "b")
    assert lazyio.open(other, format="folder").shape == (30, 4)


LOOKS = """
class Plugin:
    def recognises(self, obj):
        raise ValueError("what is this")

    def open(self, obj, key=None):
        return None
"""
BROKEN = {
    "import": ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
    "missing": ("import no_such_module\n", "No module named 'no_such_module'"),
    "name": ("x = 1\n", "has no attribute 'Plugin'"),
    "shape": ("class Plugin:\n    pass\n", "which has no functions recognises"),
    "looks": (
        LOOKS,
        "failed to look at .*ValueError: what is this",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_named_and_in_nobodys_way(install, path, tmp_path, kind):
    """Other files open; what nobody knows tells of it; so does asking for it by name."""
    text, told = BROKEN[kind]
    install(f"broken_{kind}", text, f"a_broken = broken_{kind}:Plugin")
    np.save(tmp_path / "x.npy", VALUES)
    for known in (tmp_path / "x.npy", path):
        np.testing.assert_array_equal(lazyio.open(known).compute(scheduler="sync"), VALUES)
    (tmp_path / "x.unknown").touch()
    named = rf"the plugin 'a_broken' of package broken_{kind} 1\.0.*{told}"
    with pytest.raises(UnknownFormatError, match=rf"no known format.*{named}"):
        lazyio.open(tmp_path / "x.unknown")
    with pytest.raises(UnknownFormatError, match=named):
        lazyio.open(object())
    if kind != "looks":
        with pytest.raises(SourceError, match=named):
            lazyio.open(path, format="a_broken")


def test_what_a_plugin_gives_is_a_source(install, tmp_path):
    text = (
        "class Plugin:\n"
        "    def recognises(self, obj): return str(obj).endswith('.bad')\n"
        "    def open(self, obj, key=None): return [1, 2]\n"
    )
    install("bad", text, "bad = bad:Plugin")
    (tmp_path / "x.bad").touch()
    with pytest.raises(SourceError, match=r"the plugin 'bad' .* gave a list for .*x\.bad"):
        lazyio.open(tmp_path / "x.bad")


def test_loaded_only_when_nobody_else_knows(install, tmp_path):
    install("lazy_toy", "import pathlib\nraise SystemError('loaded')\n", "lazy = lazy_toy:Plugin")
    np.save(tmp_path / "x.npy", VALUES)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = VALUES
    for given in (tmp_path / "x.npy", tmp_path / "x.h5", VALUES, [1, 2]):
        lazyio.open(given)
    assert "lazy_toy" not in sys.modules
    with pytest.raises(UnknownFormatError, match="loaded"):
        lazyio.open(object())


def test_the_protocol():
    """It is a matter of two functions, whatever has them."""

    class Toy:
        def recognises(self, obj):
            return False

        def open(self, obj, key=None):
            return None

    assert isinstance(Toy(), SourcePlugin)
