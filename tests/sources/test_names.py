"""Names inside HDF5 files that are no UTF-8, as programs of old make them."""

import re

import h5py
import numpy as np
import pytest
from hdf5_oracle import assert_copied

import lazyio
from lazyio.cli import main
from lazyio.errors import OptionError

pytestmark = pytest.mark.usefixtures("in_this_process")

NAME = "grö\xdfe".encode("latin-1")
KEY, INNER = NAME.decode("utf-8", "surrogateescape"), "gr\udcfcn/x"
CHUNKED, RUN, TEXT = np.arange(100), np.arange(5), ["a", "b"]


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(NAME, data=CHUNKED, chunks=(30,))
        group = file.create_group(b"gr\xfcn")
        group["x"] = RUN
        group.create_dataset(b"t\xe4xt", data=TEXT, dtype=h5py.string_dtype())
    return tmp_path / "a.h5"


def test_they_are_read(path, capsys):
    np.testing.assert_array_equal(lazyio.open(path, KEY).compute(), CHUNKED)
    np.testing.assert_array_equal(lazyio.open(path, f"/{INNER}").compute(), RUN)
    assert lazyio.open(path, "gr\udcfcn/t\udce4xt").compute().tolist() == TEXT
    with h5py.File(path) as file:
        np.testing.assert_array_equal(lazyio.open(file[NAME]).compute(), CHUNKED)
    np.testing.assert_array_equal(lazyio.window(path, KEY)[3:5], CHUNKED[3:5])
    assert main(["info", str(path)]) == 0
    assert r"gr\udcf6\udcdfe: (100,) int64" in capsys.readouterr().out


def test_they_have_digests(path):
    assert lazyio.verify(path).status == lazyio.verify(path, KEY).status == "unverifiable"
    assert lazyio.verify(path, renew=True).status == "ok"
    assert lazyio.verify(path).status == lazyio.verify(path, KEY).status == "ok"
    with h5py.File(path, "r+") as file:
        file[NAME][40] = 0
    assert [key for key, _, _ in lazyio.verify(path).damaged] == [f"/{KEY}"]


@pytest.mark.parametrize("asked", [{}, {"compression": "gzip"}, {"resume": True}])
def test_they_are_copied(path, tmp_path, asked):
    lazyio.repack(path, tmp_path / "b.h5", **asked)
    anew = frozenset({KEY}) if "compression" in asked else frozenset()
    assert_copied(path, tmp_path / "b.h5", anew=anew)
    assert lazyio.verify(tmp_path / "b.h5").status == "ok"
    lazyio.consolidate(path, tmp_path / "c.h5")
    np.testing.assert_array_equal(lazyio.open(tmp_path / "c.h5", KEY).compute(), CHUNKED)


def test_none_are_made(path, tmp_path):
    """The remedy is that of the error."""
    shown = re.escape(repr(NAME)[2:])
    rule = rf"is no UTF-8, of which h5py makes names and links; .*move\(b'/?{shown}, 'new'\)"
    for call in (
        lambda: lazyio.to_hdf5(CHUNKED, path, KEY, overwrite=True),
        lambda: lazyio.link(tmp_path / "b.h5", "x", path, KEY),
        lambda: lazyio.virtual(tmp_path / "b.h5", "x", [(str(path), KEY)]),
    ):
        with pytest.raises(OptionError, match=rule):
            call()
    assert not (tmp_path / "b.h5").exists()
    with h5py.File(path, "r+") as file:
        file.move(NAME, "new")
    lazyio.link(tmp_path / "b.h5", "x", path, "new")
    np.testing.assert_array_equal(lazyio.open(tmp_path / "b.h5", "x").compute(), CHUNKED)
