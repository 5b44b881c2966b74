"""Attributes of the groups that arrays lie in, written in the same commit."""

import json
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import zarr
from kills import killed
from zarr.storage import MemoryStore, ZipStore

import lazyio
from lazyio.atomic.recovery import leftovers, recover
from lazyio.errors import OptionError, TargetExistsError

DATA = {"0": np.ones((8, 8)), "labels/n/0": np.zeros((4, 4))}
ATTRS = {
    "/": {"ome": {"version": "0.5", "scale": np.arange(2) / 2}},
    "labels": {"labels": ["n"]},
    "0": {"units": "V"},
}
WANTED = {
    "": {"ome": {"version": "0.5", "scale": [0.0, 0.5]}},
    "labels": {"labels": ["n"]},
    "labels/n": {},
    "0": {"units": "V"},
    "labels/n/0": {},
}


def consolidated(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # v3 has no specification of it yet.
        zarr.consolidate_metadata(path)


def read(store, below=""):
    """Return what zarr-python and consolidated metadata say, which is the same."""
    root = zarr.open_group(store, path=below or None, mode="r", use_consolidated=False)
    found = {key: dict((root[key] if key else root).attrs) for key in WANTED}
    if zarr.open_group(store, path=below or None, mode="r").metadata.consolidated_metadata:
        told = zarr.open_group(store, path=below or None, mode="r", use_consolidated=True)
        assert {key: dict((told[key] if key else told).attrs) for key in WANTED} == found
    return found


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "kind", ["new", "existing", "consolidated", "zip", "memory", "group", "below"]
)
def test_of_zarr_groups(tmp_path, version, kind):
    """In every kind of store; attributes that a group has stay, but for those of that name."""
    store, old, below = tmp_path / "s.zarr", {}, ""
    if kind in ("existing", "consolidated"):
        old = {"kept": 1}
        group = zarr.create_group(store, zarr_format=version, attributes={**old, "ome": "old"})
        group.create_array("other", data=np.ones(3))
        if kind == "consolidated":
            consolidated(store)
    elif kind == "zip":
        store = tmp_path / "s.zip"
    elif kind == "memory":
        store = MemoryStore()
    elif kind in ("group", "below"):
        old, below = {"kept": 1}, "sub"
        group = zarr.create_group(store, zarr_format=version)
        group = group.create_group("sub", attributes=old)
    target = group if kind == "group" else store
    place = [below] if kind == "below" else []
    lazyio.to_zarr(DATA, target, *place, attributes=ATTRS, zarr_format=version)
    wanted = {**WANTED, "": {**old, **WANTED[""]}}
    if kind == "zip":
        assert read(ZipStore(store, mode="r")) == wanted
        with zipfile.ZipFile(store) as file:
            assert len(file.namelist()) == len(set(file.namelist()))
    else:
        assert read(store, below) == wanted
    if kind in ("new", "existing", "consolidated", "below"):
        assert lazyio.verify(store, f"{below}/labels/n/0".strip("/")).status == "ok"


@pytest.mark.parametrize("kind", ["new", "existing", "group", "log"])
def test_of_hdf5_groups(tmp_path, kind, monkeypatch):
    path, old, below = tmp_path / "x.h5", {}, ""
    if kind == "log":
        monkeypatch.setattr("lazyio.storage.hdf5.file.COPIED_NBYTES", 0)
        monkeypatch.setattr("lazyio.storage.hdf5.file._cloned", lambda *_: False)
    if kind != "new":
        old, below = {"kept": 1}, "s"
        with h5py.File(path, "w") as file:
            file.create_group("s").attrs.update({"kept": 1, "ome": "old"})
    if kind == "group":
        with h5py.File(path, "r+") as file:
            lazyio.to_hdf5(DATA, file["s"], attrs=ATTRS)
    else:
        report = lazyio.to_hdf5(DATA, path, below or "/data", attrs=ATTRS)
        assert ("changed-in-place" in str(report)) == (kind == "log")
    with h5py.File(path) as file:
        root = file[f"/{below}"]
        attrs = dict(root.attrs)
        assert json.loads(attrs.pop("ome")) == WANTED[""]["ome"]
        assert attrs == old
        assert root["labels"].attrs["labels"].tolist() == ["n"]
        assert dict(root["0"].attrs) == {"units": "V"}
        assert not root["labels/n/0"].attrs


def test_what_is_no_group_is_an_attribute_of_all(tmp_path):
    """As before: a mapping that names neither an array nor a group."""
    lazyio.to_zarr(DATA, tmp_path / "s.zarr", attributes={"ome": {"version": "0.5"}})
    for key in DATA:
        array = zarr.open_array(tmp_path / "s.zarr", path=key, mode="r")
        assert dict(array.attrs) == {"ome": {"version": "0.5"}}


def test_only_a_group_is_described(tmp_path):
    """Arrays keep what their data say."""
    lazyio.to_hdf5({"g/x": np.ones(3), "y": np.ones(3)}, tmp_path / "x.h5", attrs={"g": {"a": 1}})
    with h5py.File(tmp_path / "x.h5") as file:
        assert dict(file["g"].attrs) == {"a": 1}
        assert not file["g/x"].attrs
        assert not file.attrs


@pytest.mark.parametrize(
    ("to", "name"), [(lazyio.to_hdf5, "attrs"), (lazyio.to_zarr, "attributes")], ids=["h5", "zarr"]
)
class TestBoth:
    """Of both formats."""

    def test_a_value_without_a_form_is_refused_at_once(self, tmp_path, to, name):
        bad = {"/": {"a": object()}} if to is lazyio.to_zarr else {"/": {"CLASS": "x"}}
        with pytest.raises(OptionError, match=r"attribute '(a|CLASS)'"):
            to(DATA, tmp_path / "x", **{name: bad})
        assert not list(tmp_path.iterdir())

    def test_existing_arrays_are_refused(self, tmp_path, to, name):
        options = {"maxshape": True} if to is lazyio.to_hdf5 else {}
        to(DATA, tmp_path / "x", **options)
        with pytest.raises(OptionError, match=r"groups \['/'\]: they get attributes together with"):
            to(DATA, tmp_path / "x", append_dim=0, **{name: {"/": {"a": 1}}})

    def test_a_job_with_others_is_another_job(self, tmp_path, to, name):
        """It is not taken for done."""
        first = {name: {"/": {"a": 1}}}
        to(DATA, tmp_path / "x", resume=True, **first)
        again = to(DATA, tmp_path / "x", resume=True, **first)
        assert again.n_resumed == again.n_blocks
        with pytest.raises(TargetExistsError, match="2 of 2 arrays"):
            to(DATA, tmp_path / "x", resume=True, **{name: {"/": {"a": 2}}})

    def test_a_run_that_was_interrupted_goes_on(self, tmp_path, to, name):
        """Attributes of groups are there at the end, and not before."""
        np.save(tmp_path / "a.npy", np.arange(4000.0).reshape(100, 40))
        x = lazyio.open(tmp_path / "a.npy")
        data, path = {"g/x": x, "y": x + 1}, tmp_path / "x"
        own = {name: {"/": {"a": 1}, "g": {"b": 2}}, "chunks": (10, 40), "resume": True}
        calls = []

        def stop(step):
            calls.append(step)
            if len(calls) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            to(data, path, progress=stop, memory_limit="1 MiB", **own)
        assert not path.exists()
        assert to(data, path, memory_limit="1 MiB", **own).n_resumed > 0
        opened = h5py.File(path) if to is lazyio.to_hdf5 else zarr.open_group(path, mode="r")
        assert (dict(opened.attrs), dict(opened["g"].attrs)) == ({"a": 1}, {"b": 2})
        assert (opened["y"][...] == np.arange(4000.0).reshape(100, 40) + 1).all()
        if to is lazyio.to_hdf5:
            opened.close()

    def test_later(self, tmp_path, to, name):
        """Nothing is there before it is computed."""
        later = to(DATA, tmp_path / "x", compute=False, **{name: {"/": {"a": 1}}})
        assert not (tmp_path / "x").exists()
        later.compute()
        if to is lazyio.to_hdf5:
            with h5py.File(tmp_path / "x") as file:
                assert file.attrs["a"] == 1
        else:
            assert zarr.open_group(tmp_path / "x", mode="r").attrs["a"] == 1


@pytest.mark.parametrize("way", ["consolidated", "log"])
def test_a_kill_at_any_step_leaves_all_old_or_all_new(tmp_path, way, monkeypatch):
    """Arrays and attributes of groups are one change."""
    monkeypatch.setattr("lazyio.storage.hdf5.file.COPIED_NBYTES", 0)
    monkeypatch.setattr("lazyio.storage.hdf5.file._cloned", lambda *_: False)
    is_hdf5 = way == "log"
    to, name = (lazyio.to_hdf5, "attrs") if is_hdf5 else (lazyio.to_zarr, "attributes")
    data = {"a/x": np.ones((4, 4)), "y": np.ones(3)}
    options = {name: {"/": {"step": 2}, "a": {"step": 2}}, "scheduler": "synchronous"}
    seen = set()
    for last in range(200):
        path = tmp_path / f"{last}"
        if is_hdf5:
            with h5py.File(path, "w") as file:
                file.attrs["step"] = 1
        else:
            zarr.create_group(path, attributes={"step": 1})
            consolidated(path)
        is_killed = killed(last, lambda path=path: to(data, path, **options))
        recover(path)
        seen.add(state_of(path, is_hdf5))
        assert leftovers(path) == []
        if not is_killed:
            break
    assert seen == {(1, False), (2, True)}


def state_of(path, is_hdf5):
    """Return what the groups say, and whether the arrays are there: of both all or none."""
    if is_hdf5:
        with h5py.File(path) as file:
            there = {key in file for key in ("a/x", "y")}
            step = int(file.attrs["step"])
            assert ("a" in file) == (step == 2)
            assert "a" not in file or file["a"].attrs["step"] == 2
    else:
        group = zarr.open_group(path, mode="r")
        there = {key in group for key in ("a/x", "y")}
        step = group.attrs["step"]
        assert ("a" in group) == (step == 2)
        assert "a" not in group or group["a"].attrs["step"] == 2
    assert len(there) == 1
    return step, there.pop()
