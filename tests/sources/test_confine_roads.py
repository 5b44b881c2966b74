"""Every road out of a file's folder: none is taken, and nothing that could hang is opened."""

import contextlib
import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.errors import SourceError, UnsafeFileError
from lazyio.info import info_of

VALUES = np.arange(12, dtype="<i4").reshape(3, 4)
SECRET = np.full((3, 4), 77, "<i4")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Return the file's folder; the working directory is another, with files to be kept."""
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
    with h5py.File(tmp_path / "outside" / "other.h5", "w") as file:
        file["x"] = SECRET
        file["0"] = SECRET
    (tmp_path / "outside" / "0.h5").write_bytes((tmp_path / "outside" / "other.h5").read_bytes())
    SECRET.tofile(tmp_path / "outside" / "raw")
    monkeypatch.chdir(tmp_path / "outside")
    return tmp_path / "inside"


def _virtual(file, name, key, shape=(3, 4)):
    layout = h5py.VirtualLayout(shape, "<i4")
    layout[:] = h5py.VirtualSource(name, key, shape)
    file.create_virtual_dataset("v", layout)


def _printf(file, name, key):
    """Map blocks by a pattern, as h5py cannot by itself."""
    space = h5py.h5s.create_simple((1, 4), (h5py.h5s.UNLIMITED, 4))
    space.select_hyperslab((0, 0), (h5py.h5s.UNLIMITED, 1), (1, 1), (1, 4))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    source = h5py.h5s.create_simple((1, 4))
    properties.set_virtual(space, name.encode(), key.encode(), source)
    kind = h5py.h5t.py_create(np.dtype("<i4"))
    h5py.h5d.create(
        file.id, b"v", kind, h5py.h5s.create_simple((1, 4), (h5py.h5s.UNLIMITED, 4)), properties
    )


def test_virtual_sources_are_not_looked_up_in_the_working_directory(folder) -> None:
    """libhdf5 would, where there is none beside the file."""
    with h5py.File(folder / "file.h5", "w") as file:
        _virtual(file, "other.h5", "x")
    with pytest.raises(UnsafeFileError, match=r"leads to .*outside"):
        lazyio.open(folder / "file.h5", "v")


def test_a_missing_virtual_source_is_named(folder) -> None:
    """It would read as the fill value."""
    with h5py.File(folder / "file.h5", "w") as file:
        _virtual(file, "nowhere.h5", "x")
    with pytest.raises(SourceError, match=r"'nowhere.h5', which is not there"):
        lazyio.open(folder / "file.h5", "v")


@pytest.mark.parametrize(("name", "key"), [("%b.h5", "x"), ("other.h5", "%b"), ("%b.h5", "%b")])
def test_patterns_are_expanded(folder, name, key) -> None:
    """A pattern leads wherever one of the names does that it stands for."""
    with h5py.File(folder / "file.h5", "w") as file:
        _printf(file, name, key)
    with pytest.raises(UnsafeFileError, match=r"leads to .*outside"):
        lazyio.open(folder / "file.h5", "v")


def test_relative_raw_storage_lies_beside_the_file(folder) -> None:
    """libhdf5 would take the file of that name in the working directory."""
    VALUES.tofile(folder / "raw")
    with h5py.File(folder / "file.h5", "w") as file:
        file.create_dataset("x", (3, 4), "<i4", external=[("raw", 0, VALUES.nbytes)])
    x = lazyio.open(folder / "file.h5", "x")
    assert (x.compute() == VALUES).all()
    assert (x[1:, 1:3].compute() == VALUES[1:, 1:3]).all()


def test_raw_storage_in_parts_of_several_files(folder) -> None:
    """Segments follow each other; what a file is too short for is zero."""
    VALUES.tofile(folder / "one")
    parts = [("one", 4, 8), ("one", 20, 16), ("two", 0, 24)]
    VALUES[:1].tofile(folder / "two")
    with h5py.File(folder / "file.h5", "w") as file:
        file.create_dataset("x", (3, 4), "<i4", external=parts)
    flat = VALUES.ravel()
    expected = np.concatenate([flat[1:3], flat[5:9], flat[:4], np.zeros(2, "<i4")])
    assert (lazyio.open(folder / "file.h5", "x").compute().ravel() == expected).all()


def test_raw_storage_behind_a_virtual_dataset(folder) -> None:
    """There libhdf5 reads it, from the working directory."""
    VALUES.tofile(folder / "raw")
    with h5py.File(folder / "file.h5", "w") as file:
        file.create_dataset("x", (3, 4), "<i4", external=[("raw", 0, VALUES.nbytes)])
        _virtual(file, ".", "/x")
    with pytest.raises(UnsafeFileError, match=r"external storage .*leads to .*outside"):
        lazyio.open(folder / "file.h5", "v")


def test_links_in_the_file_that_a_link_leads_to(folder) -> None:
    """The second is looked at before it is followed, too."""
    with h5py.File(folder / "next.h5", "w") as file:
        file["y"] = h5py.ExternalLink(str(folder.parent / "outside" / "other.h5"), "/x")
    with h5py.File(folder / "file.h5", "w") as file:
        file["x"] = h5py.ExternalLink("next.h5", "/y")
        _virtual(file, "next.h5", "/y")
    for key in ("x", "v"):
        with pytest.raises(UnsafeFileError, match=r"link '/y' leads to .*outside"):
            lazyio.open(folder / "file.h5", key)


def test_symbolic_links_are_resolved(folder) -> None:
    """A file beside the file may lie elsewhere."""
    (folder / "link.h5").symlink_to(folder.parent / "outside" / "other.h5")
    with h5py.File(folder / "file.h5", "w") as file:
        file["x"] = h5py.ExternalLink("link.h5", "/x")
    with pytest.raises(UnsafeFileError, match=r"leads to .*outside"):
        lazyio.open(folder / "file.h5", "x")


def test_verify_reads_nothing_outside(folder) -> None:
    """It says so, and checks the rest."""
    outside = str(folder.parent / "outside" / "other.h5")
    with h5py.File(folder / "file.h5", "w") as file:
        _virtual(file, outside, "x")
    report = lazyio.verify(folder / "file.h5")
    assert report.status == "unverifiable"
    assert "leads to" in report.unverifiable[0][1]
    with h5py.File(folder / "digests.h5", "w") as file:
        file["_lazyio"] = h5py.ExternalLink(outside, "/")
    with pytest.raises(UnsafeFileError, match=r"link '/_lazyio' leads to .*outside"):
        lazyio.verify(folder / "digests.h5")


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".zarr", ".zip"])
@pytest.mark.parametrize("operation", [lazyio.open, lazyio.plan, lazyio.verify, info_of])
def test_pipes_are_not_opened(tmp_path, suffix, operation) -> None:
    """Opening one waits for whoever writes to it."""
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(UnsafeFileError, match="is a pipe; only files are read"):
        operation(path)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_links_to_what_is_no_file(tmp_path, name) -> None:
    """Neither as raw storage, nor as the file that a link names."""
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["x"] = h5py.ExternalLink(name, "/x")
        file.create_dataset("y", (3, 4), "<i4", external=[(name, 0, VALUES.nbytes)])
        _virtual(file, name, "x")
    for key in "xyv":
        with pytest.raises(UnsafeFileError, match=r"only files are read|outside the file's folder"):
            lazyio.open(tmp_path / "file.h5", key)


class TestZarr:
    """A store in a folder, where anything may be a symbolic link."""

    @pytest.fixture(params=[2, 3])
    def store(self, request, folder):
        lazyio.to_zarr({"a": VALUES, "b": VALUES}, folder / "s.zarr", zarr_format=request.param)
        return folder / "s.zarr"

    def _chunk(self, store):
        return next(path for path in (store / "a").rglob("*") if path.name in ("0", "0.0"))

    def test_a_chunk_outside(self, store):
        chunk = self._chunk(store)
        chunk = chunk if chunk.is_file() else next(chunk.rglob("0"))
        chunk.unlink()
        chunk.symlink_to(store.parent.parent / "outside" / "raw")
        with pytest.raises(UnsafeFileError, match=r"leads to .*outside"):
            lazyio.open(store, "a").compute()

    def test_an_array_outside_is_read_where_it_is_listed(self, store):
        outside = store.parent.parent / "outside"
        (store / "a").rename(outside / "a")
        (store / "a").symlink_to(outside / "a")
        with pytest.raises(UnsafeFileError, match=r"leads to .*outside.*allow_external"):
            lazyio.open(store, "a")
        x = lazyio.open(store, "a", allow_external=[outside])
        assert (x.compute() == VALUES).all()

    @pytest.mark.parametrize("name", ["zarr.json", ".zmetadata", ".zgroup", ".zattrs"])
    @pytest.mark.parametrize("operation", [lazyio.plan, lazyio.verify, info_of])
    def test_metadata_that_never_end(self, store, name, operation):
        (store / name).unlink(missing_ok=True)
        (store / name).symlink_to("/dev/zero")
        # What does not need that file may go on; the test's own time limit is the point.
        with contextlib.suppress(SourceError):
            result = operation(store)
            assert getattr(result, "status", "") != "ok" or name == ".zattrs"

    def test_consolidated_metadata_name_files_outside(self, store):
        """What verify compares them with is in the store."""
        held = {"metadata": {"../../outside/secret.json": {"zarr_format": 2}}}
        (store.parent.parent / "outside" / "secret.json").write_text('{"secret": 77}')
        if (store / "zarr.json").exists():
            group = json.loads((store / "zarr.json").read_text())
            held["metadata"] = {"../../outside/secret.json/x": {"zarr_format": 3}}
            group["consolidated_metadata"] = held | {"kind": "inline", "must_understand": False}
            (store / "zarr.json").write_text(json.dumps(group))
        else:
            (store / ".zmetadata").write_text(json.dumps(held | {"zarr_consolidated_format": 1}))
        with contextlib.suppress(UnsafeFileError):
            assert "77" not in str(lazyio.verify(store))


def test_large_metadata_are_refused(tmp_path) -> None:
    """Before they are read."""
    zarr.create_array(tmp_path / "s.zarr", shape=(3,), dtype="i4", chunks=(3,))
    with (tmp_path / "s.zarr" / "zarr.json").open("r+b") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(SourceError, match="more than metadata take"):
        lazyio.open(tmp_path / "s.zarr")


def test_groups_that_are_nested_too_deeply(tmp_path) -> None:
    """One clear error, in either format, and soon."""
    group = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for depth in range(150):
            file.writestr("a/" * depth + "zarr.json", group)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file
        for _ in range(1200):
            group = group.create_group("a")
    for path in (tmp_path / "x.zip", tmp_path / "x.h5"):
        with pytest.raises(SourceError, match=r"nested more than \d+ deep"):
            lazyio.open(path)
    assert lazyio.verify(tmp_path / "x.h5").status == "damaged"


@pytest.mark.parametrize(("n_files", "back_to"), [(1, 0), (2, 0), (2, 1), (5, 3), (20, 0)])
def test_virtual_datasets_of_themselves(tmp_path, n_files, back_to) -> None:
    """libhdf5 opens them until its stack is full, which ends the process."""
    for at in range(n_files):
        with h5py.File(tmp_path / f"{at}.h5", "w") as file:
            following = at + 1 if at + 1 < n_files else back_to
            _virtual(file, f"{following}.h5", "v")
    for trusted in (True, False):
        with pytest.raises(UnsafeFileError, match="made of itself, or nested too deeply"):
            lazyio.open(tmp_path / "0.h5", "v", trusted=trusted)
    assert lazyio.verify(tmp_path / "0.h5").status == "unverifiable"
