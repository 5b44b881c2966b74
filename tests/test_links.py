"""Links instead of copies: to other files, inside one file, and what is copied all the same."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO

import lazyio
from lazyio.cli import main
from lazyio.errors import LazyioError, OptionError, SourceError, TargetExistsError
from lazyio.info import links_of

VALUES = np.arange(200, dtype="i4").reshape(20, 10)


@pytest.fixture
def raw(tmp_path):
    """Return a file with one dataset, in a folder of its own."""
    (tmp_path / "session" / "raw").mkdir(parents=True)
    path = tmp_path / "session" / "raw" / "raw.h5"
    lazyio.to_hdf5(VALUES, path, "deep/x")
    return path


@pytest.mark.parametrize("kind", ["lazyio", "h5py"])
def test_links_survive_moving_both_files(tmp_path, raw, kind):
    """They are relative to where the file lies that has them."""
    out = tmp_path / "session" / "out.h5"
    if kind == "lazyio":
        report = lazyio.to_hdf5(lazyio.open(raw, "deep/x"), out, "x", links="link")
    else:
        with h5py.File(raw) as file:
            report = lazyio.to_hdf5(file["deep/x"], out, "x", links="link")
    assert (report.engine, report.nbytes, report.n_blocks, report.n_chunks) == ("link", 0, 0, 0)
    with h5py.File(out) as file:
        link = file.get("x", getlink=True)
        assert isinstance(link, h5py.ExternalLink)
        assert (link.filename, link.path) == ("raw/raw.h5", "/deep/x")
    shutil.move(tmp_path / "session", tmp_path / "moved")
    with h5py.File(tmp_path / "moved" / "out.h5") as file:
        assert (file["x"][:] == VALUES).all()
    assert (
        lazyio.open(
            tmp_path / "moved" / "out.h5", "x", allow_external=[tmp_path / "moved"]
        ).compute()
        == VALUES
    ).all()


def test_a_finished_job_of_links(tmp_path, raw):
    """The same call again returns, and one that means another dataset does not."""
    lazyio.to_hdf5(VALUES, raw, "other")
    x, path = lazyio.open(raw, "deep/x"), tmp_path / "out.h5"
    for arrays in ({"x": x}, {"x": x, "sum": x.sum(axis=0)}):
        for _ in range(2):
            report = lazyio.to_hdf5(arrays, path, links="link", resume=True)
        assert report.n_resumed == report.n_blocks
        assert set(report.keys) == set(arrays)
    others = {"links": "copy"}, {"links": "link", "attrs": {"unit": "V"}}
    for data, options in (
        (lazyio.open(raw, "other"), {"links": "link"}),
        *((x, o) for o in others),
    ):
        with pytest.raises((TargetExistsError, OptionError)):
            lazyio.to_hdf5(data, path, "x", resume=True, **options)
    with h5py.File(path) as file:
        assert file.get("x", getlink=True).path == "/deep/x"
    for _ in range(2):
        inside = lazyio.open(raw, "deep/x")
        report = lazyio.to_hdf5(inside, raw, "again", links="link", resume=True)
    assert report.n_resumed == report.n_blocks


def test_links_are_relative_to_what_a_link_to_the_folder_leads_to(tmp_path, raw):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    out = tmp_path / "near" / "out.h5"
    lazyio.to_hdf5(lazyio.open(raw, "deep/x"), out, "x", links="link")
    with h5py.File(out.resolve()) as file:
        assert (file["x"][:] == VALUES).all()


def test_inside_one_file_links_are_soft(raw):
    lazyio.to_hdf5(lazyio.open(raw, "deep/x"), raw, "again", links="link")
    with h5py.File(raw, "r+") as file:
        assert file.get("again", getlink=True).path == "/deep/x"
        lazyio.to_hdf5(file["deep/x"], file, "third", links="link")
        assert isinstance(file.get("third", getlink=True), h5py.SoftLink)
        assert (file["third"][:] == VALUES).all()


def test_an_open_file_by_another_name_is_the_same_file(raw, tmp_path):
    (tmp_path / "name.h5").symlink_to(raw)
    with h5py.File(tmp_path / "name.h5", "r+") as file:
        lazyio.to_hdf5(file["deep/x"], file, "again", links="link")
        assert isinstance(file.get("again", getlink=True), h5py.SoftLink)


def test_what_is_computed_is_copied(raw, tmp_path):
    """Graphs, arrays in memory, and datasets of files that lie in memory."""
    out = tmp_path / "out.h5"
    x = lazyio.open(raw, "deep/x")
    with h5py.File(io.BytesIO(), "w") as buffer:
        buffer["x"] = VALUES
        data = {"linked": x, "graph": x + 0, "memory": VALUES, "buffer": buffer["x"]}
        report = lazyio.to_hdf5(data, out, links="link")
    with h5py.File(out) as file:
        kinds = {key: type(file.get(key, getlink=True)).__name__ for key in file}
        assert kinds.pop("linked") == "ExternalLink"
        assert set(kinds.values()) == {"HardLink"}
        for key in data:
            assert (file[key][:] == VALUES).all()
    assert report.nbytes == 3 * VALUES.nbytes
    with pytest.raises(OptionError, match='give "copy", or "link"'):
        lazyio.to_hdf5(x, out, links="soft")


def test_a_linked_array_that_others_are_made_of_is_linked_too(raw, tmp_path):
    x = da.from_array(VALUES, chunks=5)
    y = lazyio.open(raw, "deep/x")
    lazyio.to_hdf5({"y": y, "twice": y * 2, "x": x}, tmp_path / "out.h5", links="link")
    with h5py.File(tmp_path / "out.h5") as file:
        assert isinstance(file.get("y", getlink=True), h5py.ExternalLink)
        assert (file["twice"][:] == VALUES * 2).all()


def test_names_of_any_text(tmp_path):
    """Files and keys with unicode, spaces and newlines."""
    source, key = tmp_path / "ro h\nµ日.h5", "a b\n/日本"
    lazyio.to_hdf5(VALUES, source, key)
    lazyio.to_hdf5(lazyio.open(source, key), tmp_path / "out.h5", "ü\n", links="link")
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file["ü\n"][:] == VALUES).all()


def test_links_take_a_name_like_datasets(raw, tmp_path):
    out = tmp_path / "out.h5"
    x = lazyio.open(raw, "deep/x")
    lazyio.to_hdf5(np.ones(3), out, "x")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        lazyio.to_hdf5(x, out, "x", links="link")
    lazyio.to_hdf5(x, out, "x", links="link", overwrite=True)
    with h5py.File(out) as file:
        assert (file["x"][:] == VALUES).all()
    lazyio.to_hdf5(np.ones(3), out, "x", overwrite=True)
    with h5py.File(out) as file:
        assert (file["x"][:] == 1).all()
    with h5py.File(raw) as file:
        assert (file["deep/x"][:] == VALUES).all()


def test_h5dataio_with_link_data(raw, tmp_path):
    """HDMF's way to ask for the same; an explicit argument wins."""
    with h5py.File(raw) as file:
        wrapped = H5DataIO(file["deep/x"], link_data=True)
        lazyio.to_hdf5(wrapped, tmp_path / "out.h5", "x")
    with h5py.File(tmp_path / "out.h5") as file:
        assert isinstance(file.get("x", getlink=True), h5py.ExternalLink)
        assert (file["x"][:] == VALUES).all()


def test_times_are_linked_to_as_well(tmp_path):
    """Which are stored as numbers, and read back as times."""
    times = np.arange("2026-01-01", "2026-01-11", dtype="M8[D]").astype("M8[ns]")
    lazyio.to_hdf5(times, tmp_path / "raw.h5", "t")
    lazyio.to_hdf5(lazyio.open(tmp_path / "raw.h5", "t"), tmp_path / "out.h5", "t", links="link")
    with h5py.File(tmp_path / "out.h5") as file:
        assert isinstance(file.get("t", getlink=True), h5py.ExternalLink)
    assert (lazyio.open(tmp_path / "out.h5", "t").compute() == times).all()


@pytest.mark.parametrize("aim", ["/g/x", "g/x", "./g/x"])
@pytest.mark.parametrize("way", ["region", "append", "resume", "writer"])
def test_parts_that_are_written_by_way_of_a_soft_link(tmp_path, aim, way):
    """Which has digests of its own name only."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(VALUES, path, "g/x", chunks=(7, 4), maxshape=(None, 10))
    with h5py.File(path, "a") as file:
        file["soft"], file["again"] = h5py.SoftLink(aim), h5py.SoftLink("soft")
        file["other"] = h5py.SoftLink("/g")
    for key in ("soft", "again", "other/x"):
        if way == "region":
            lazyio.to_hdf5(VALUES[:5] + 1, path, key, region=(slice(3, 8),))
        elif way == "writer":
            with lazyio.writer(path) as writer:
                writer.create(key, dtype="i4", item_shape=(10,)).append(VALUES[:3])
        else:
            lazyio.to_hdf5(VALUES[:5] + 1, path, key, append_dim=0, resume=way == "resume")
        found = lazyio.verify(path)
        assert found.status == "ok", str(found)


class TestContainers:
    """Groups, of which all is linked to at once."""

    def test_one_and_several(self, raw, tmp_path):
        out = tmp_path / "session" / "out.h5"
        with h5py.File(raw) as file:
            lazyio.to_hdf5(file["deep"], out, "one", links="link")
            data = {"all": file["/"], "x": file["deep/x"], "sum": VALUES.sum(axis=0)}
            lazyio.to_hdf5(data, out, links="link")
        with h5py.File(out) as file:
            kinds = {key: type(file.get(key, getlink=True)).__name__ for key in file}
            assert kinds.pop("sum") == kinds.pop("_lazyio") == "HardLink"
            assert set(kinds.values()) == {"ExternalLink"}
            for key in ("one/x", "all/deep/x", "x"):
                assert (file[key][:] == VALUES).all()
        assert lazyio.verify(out).status == "ok"

    def test_what_no_group_has(self, raw, tmp_path):
        asked = {"compression": "gzip", "dtype": "f8", "attrs": {"a": 1}}
        with h5py.File(raw, "a") as file:
            file["deep"].attrs["b"] = 1
        with h5py.File(raw) as file:
            with pytest.raises(OptionError, match=r"a group has no dtype.*compression.*attribute"):
                lazyio.to_hdf5(file["deep"], tmp_path / "out.h5", "g", links="link", **asked)
            lazyio.to_hdf5(file["deep"], tmp_path / "out.h5", "g", links="link", attrs={"b": 1})

    def test_a_group_of_no_file(self, tmp_path):
        with (
            h5py.File(io.BytesIO(), "w") as file,
            pytest.raises(OptionError, match="in no file on a disk"),
        ):
            lazyio.to_hdf5(file.create_group("g"), tmp_path / "out.h5", "g", links="link")


class TestLink:
    """``lazyio.link``."""

    @pytest.mark.parametrize("target", ["deep/x", "/deep/x", "deep", "/"])
    def test_h5py_and_h5dump_follow_it(self, raw, tmp_path, h5dump, target):
        out = tmp_path / "session" / "out.h5"
        lazyio.link(out, "g/link", raw, target)
        inside = {"deep": "x", "/": "deep/x"}.get(target, "")
        with h5py.File(out) as file:
            link = file.get("g/link", getlink=True)
            assert (link.filename, link.path) == ("raw/raw.h5", "/" + target.strip("/"))
            found = file["g/link"][inside] if inside else file["g/link"]
            assert (found[:] == VALUES).all()
        said = subprocess.run([h5dump, out], capture_output=True, text=True, check=True).stdout
        assert "(19,0): 190, 191" in said
        shutil.move(tmp_path / "session", tmp_path / "moved")
        with h5py.File(tmp_path / "moved" / "out.h5") as file:
            assert (file[f"g/link/{inside}".rstrip("/")][:] == VALUES).all()
        assert lazyio.verify(tmp_path / "moved" / "out.h5").status == "ok"

    def test_in_its_own_file_it_is_soft(self, raw):
        lazyio.link(raw, "again", raw, "deep/x")
        with h5py.File(raw) as file:
            assert file.get("again", getlink=True).path == "/deep/x"
        assert lazyio.verify(raw).status == "ok"

    def test_what_is_there(self, raw, tmp_path):
        out = tmp_path / "session" / "out.h5"
        lazyio.to_hdf5(np.ones(3), out, "x")
        before = out.read_bytes()
        with pytest.raises(TargetExistsError, match="'x' already; pass overwrite=True"):
            lazyio.link(out, "x", raw, "deep/x")
        assert out.read_bytes() == before
        lazyio.link(out, "x", raw, "deep/x", overwrite=True)
        lazyio.link(out, "x", raw, "deep", overwrite=True)
        lazyio.to_hdf5(VALUES, out, "own")
        lazyio.link(out, "soft", out, "x", overwrite=True)
        lazyio.link(out, "soft", raw, "deep/x", overwrite=True)
        assert (lazyio.open(out, "soft").compute() == VALUES).all()
        with pytest.raises(TargetExistsError, match="is a group, which is never replaced"):
            lazyio.link(raw, "deep", out, "own", overwrite=True)
        with h5py.File(out, "a") as file:
            file.create_group("g")
            file["to a group"] = h5py.SoftLink("/g")
        lazyio.link(out, "to a group", out, "own", overwrite=True)
        assert lazyio.verify(out).status == "ok"

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (("l", "none.h5", "x"), "none.h5 does not exist"),
            (("l", "raw.h5", "y"), "has no 'y'"),
            (("l", "raw.h5", "deep/x/y"), "has no 'deep/x/y'"),
            (("l", "raw.h5", ""), "target_key=''"),
            (("l", "raw.h5", 3), "target_key=3"),
            (("", "raw.h5", "deep/x"), "key='' does not name"),
            (("_lazyio/l", "raw.h5", "deep/x"), "which is for digests"),
            (("l", "text.h5", "x"), "cannot be opened as HDF5"),
            (("l", "raw.h5", "broken"), "'/broken' leads to '/nowhere' in the same file"),
            (("l", "raw.h5", "circle"), "leads in a circle"),
        ],
    )
    def test_what_cannot_be_linked(self, raw, monkeypatch, arguments, match):
        monkeypatch.chdir(raw.parent)
        Path("text.h5").write_text("no HDF5")
        with h5py.File(raw, "a") as file:
            file["broken"] = h5py.SoftLink("/nowhere")
            file["circle"] = h5py.SoftLink("/circle")
        with pytest.raises(LazyioError, match=match):
            lazyio.link("out.h5", *arguments)
        assert not Path("out.h5").exists()
        assert not [one for one in os.listdir() if one.endswith(".lazyio")]

    @pytest.mark.parametrize("key", ["a", "b/c"])
    def test_links_that_would_lead_to_themselves(self, raw, tmp_path, key):
        out, other = tmp_path / "session" / "out.h5", tmp_path / "session" / "other.h5"
        lazyio.link(out, key, raw, "deep")
        lazyio.link(other, "back", out, key)
        for at, target, inside in [
            (out, out, key),
            (out, out, f"{key}/x"),
            (out, other, "back"),
            (out, other, "back/x"),
        ]:
            with pytest.raises(OptionError, match="would then lead to itself"):
                lazyio.link(at, key, target, inside, overwrite=True)

    def test_a_large_file_is_changed_in_place(self, raw, tmp_path, monkeypatch):
        monkeypatch.setattr("lazyio.storage.hdf5.file.COPIED_NBYTES", 1)
        out = tmp_path / "session" / "out.h5"
        lazyio.to_hdf5(VALUES, out, "own")
        inode = out.stat().st_ino
        lazyio.link(out, "x", raw, "deep/x")
        assert out.stat().st_ino == inode
        assert lazyio.verify(out).status == "ok"


class TestVisible:
    """What ``open``, ``info`` and ``verify`` say of links."""

    @pytest.fixture
    def out(self, raw, tmp_path):
        """Return a file with links of every kind, of h5py's making."""
        out = tmp_path / "session" / "out.h5"
        with h5py.File(out, "w") as file:
            file["own"] = VALUES
            file["soft"] = h5py.SoftLink("/own")
            file["g/out"] = h5py.ExternalLink("raw/raw.h5", "/deep/x")
            file["no file"] = h5py.ExternalLink("raw/gone.h5", "/deep/x")
            file["no key"] = h5py.ExternalLink("raw/raw.h5", "/deep/y")
            file["dangling"] = h5py.SoftLink("/nowhere")
            file["circle"] = h5py.SoftLink("/circle")
            file["outside"] = h5py.ExternalLink("../../elsewhere.h5", "/x")
        lazyio.to_hdf5(VALUES, tmp_path.parent / "elsewhere.h5", "x", mode="w")
        return out

    def test_open(self, out):
        for key, match in {
            "no file": "'/no file' leads to '/deep/x' in 'raw/gone.h5', which is not there",
            "no key": "'/no key' leads to '/deep/y' in 'raw/raw.h5', which is not there",
            "dangling": "'/dangling' leads to '/nowhere' in the same file",
            "circle": "leads in a circle",
            "outside": "outside the file's folder",
        }.items():
            with pytest.raises(SourceError, match=match):
                lazyio.open(out, key)
        assert (lazyio.open(out, "g/out").compute() == VALUES).all()

    def test_a_file_of_links_only(self, raw, tmp_path):
        lazyio.link(tmp_path / "out.h5", "x", raw, "deep/x")
        with pytest.raises(SourceError, match="only links; give the key of one: 'x'"):
            lazyio.open(tmp_path / "out.h5")

    def test_info(self, out, capsys):
        for options in ([], ["--untrusted"]):
            assert main(["info", str(out), *options]) == 0
            said = capsys.readouterr().out
            for line in (
                "/soft: soft link to '/own' in the same file, good (dataset of (20, 10) int32)",
                "/g/out: external link to '/deep/x' in raw/raw.h5, good (dataset",
                "/no file: external link to '/deep/x' in raw/gone.h5, broken: ",
                "/no key: external link to '/deep/y' in raw/raw.h5, broken: ",
                "/dangling: soft link to '/nowhere' in the same file, broken: ",
                "/circle: soft link to '/circle' in the same file, broken: ",
                "/outside: external link to '/x' in ../../elsewhere.h5, not followed: ",
            ):
                assert line in said

    def test_verify(self, out):
        found = lazyio.verify(out)
        assert found.status == "damaged"
        assert {key for key, _, _ in found.damaged} == {
            "/no file",
            "/no key",
            "/dangling",
            "/circle",
        }
        assert {link.key: link.state for link in found.links} == {
            "/soft": "good",
            "/g/out": "good",
            "/no file": "broken",
            "/no key": "broken",
            "/dangling": "broken",
            "/circle": "broken",
            "/outside": "not followed",
        }
        assert any("raw/gone.h5" in what for key, _, what in found.damaged if key == "/no file")
        assert "/outside" in dict(found.unverifiable)
        assert lazyio.verify(out, "soft").status == "unverifiable"
        assert lazyio.verify(out, "no key").status == "damaged"
        assert "/g/out: external link to '/deep/x' in raw/raw.h5, good" in str(found)

    def test_what_a_link_leads_to_is_another_by_now(self, raw, tmp_path):
        out = tmp_path / "session" / "out.h5"
        lazyio.link(out, "x", raw, "deep/x")
        lazyio.link(out, "g", raw, "deep")
        lazyio.to_hdf5(VALUES, raw, "deep/x", maxshape=(None, 10), chunks=(5, 10), overwrite=True)
        assert lazyio.verify(out).status == "ok"
        lazyio.to_hdf5(VALUES, raw, "deep/x", append_dim=0)
        found = lazyio.verify(out)
        assert found.status == "modified"
        what = "its source '/deep/x' in raw/raw.h5 has grown from shape (20, 10) to (40, 10)"
        assert found.modified == (("/x", None, what),)
        lazyio.to_hdf5(VALUES.T, raw, "deep/x", overwrite=True)
        found = lazyio.verify(out)
        assert found.status == "damaged"
        (one,) = found.damaged
        assert one[0] == "/x"
        assert "was a dataset of (20, 10) int32 when it was written, and is a dataset of" in one[2]
        raw.unlink()
        assert {key for key, _, _ in lazyio.verify(out).damaged} == {"/x", "/g"}

    @pytest.mark.parametrize(
        ("act", "match"),
        [
            (lambda file: file.__delitem__("x"), "moved or removed since"),
            (lambda file: (file.__delitem__("x"), file.create_group("x")), "was a link"),
            (
                lambda file: (
                    file.__delitem__("x"),
                    file.__setitem__("x", h5py.ExternalLink("raw/raw.h5", "/deep")),
                ),
                "where it leads to is damaged, or was modified since",
            ),
        ],
    )
    def test_links_that_others_have_changed(self, raw, tmp_path, act, match):
        out = tmp_path / "session" / "out.h5"
        lazyio.link(out, "x", raw, "deep/x")
        with h5py.File(out, "a") as file:
            act(file)
        found = lazyio.verify(out)
        assert found.status == "damaged"
        assert match in found.damaged[0][2]

    def test_raw_files(self, tmp_path):
        with h5py.File(tmp_path / "out.h5", "w") as file:
            where = [("raw.bin", 0, VALUES.nbytes)]
            file.create_dataset("x", VALUES.shape, "i4", external=where)
        VALUES.tofile(tmp_path / "raw.bin")
        (link,) = lazyio.verify(tmp_path / "out.h5").links
        assert (link.kind, link.state) == ("stored in the raw file", "good")
        (tmp_path / "raw.bin").unlink()
        found = lazyio.verify(tmp_path / "out.h5")
        assert found.status == "damaged"
        assert "raw.bin, which is not there" in found.damaged[0][2]
        (link,) = links_of(tmp_path / "out.h5")
        assert link.state == "broken"
