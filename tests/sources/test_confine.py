"""HDF5 files that point elsewhere: followed inside their folder, refused outside."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.errors import OptionError, UnsafeFileError

VALUES = np.arange(12, dtype="<i4").reshape(3, 4)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a file in a folder of its own, beside that of the files that point to it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside").mkdir()
    path = tmp_path / "outside" / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("group/x", data=VALUES, chunks=(2, 2), compression="gzip")
    VALUES.tofile(tmp_path / "outside" / "raw")
    return path


def external_link(file, aim):
    """Point at the dataset."""
    file["x"] = h5py.ExternalLink(aim, "/group/x")


def external_group(file, aim):
    """Point at the group it lies in."""
    file["out"] = h5py.ExternalLink(aim, "/group")


def soft_then_external(file, aim):
    """Point at a link that leads out."""
    file["out"] = h5py.ExternalLink(aim, "/group")
    file["x"] = h5py.SoftLink("/out/x")


def virtual(file, aim):
    """Map the dataset into a virtual one."""
    layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
    layout[:] = h5py.VirtualSource(aim, "/group/x", VALUES.shape)
    file.create_virtual_dataset("x", layout)


def external_storage(file, aim):
    """Store the data in a raw file."""
    raw = str(Path(aim).with_name("raw"))
    file.create_dataset("x", VALUES.shape, VALUES.dtype, external=[(raw, 0, VALUES.nbytes)])


def virtual_of_external_storage(file, aim):
    """Map a dataset of the same file that is stored in a raw file."""
    raw = str(Path(aim).with_name("raw"))
    file.create_dataset("y", VALUES.shape, VALUES.dtype, external=[(raw, 0, VALUES.nbytes)])
    layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
    layout[:] = h5py.VirtualSource(".", "/y", VALUES.shape)
    file.create_virtual_dataset("x", layout)


CASES = [
    (external_link, "x"),
    (external_group, "out/x"),
    (soft_then_external, "x"),
    (virtual, "x"),
    (external_storage, "x"),
    (virtual_of_external_storage, "x"),
]
cases = pytest.mark.parametrize(("make", "key"), CASES, ids=[make.__name__ for make, _ in CASES])


@cases
def test_outside_is_refused(tmp_path, outside, make, key) -> None:
    """The message names what leads out, where to, and what would allow it."""
    with h5py.File(tmp_path / "inside" / "file.h5", "w") as file:
        make(file, str(outside))
    with pytest.raises(UnsafeFileError, match=r"leads to .*outside.*allow_external="):
        lazyio.open(tmp_path / "inside" / "file.h5", key)


@cases
def test_outside_is_read_where_it_is_listed(tmp_path, outside, make, key) -> None:
    """With the folder listed the values are those that are there, not some other's."""
    with h5py.File(tmp_path / "inside" / "file.h5", "w") as file:
        make(file, str(outside))
    x = lazyio.open(tmp_path / "inside" / "file.h5", key, allow_external=[outside.parent])
    assert (x.compute() == VALUES).all()


@cases
def test_the_files_own_folder_is_followed(outside, make, key) -> None:
    """Files that belong together lie together."""
    path = outside.with_name("file.h5")
    with h5py.File(path, "w") as file:
        make(file, str(outside))
    assert (lazyio.open(path, key).compute() == VALUES).all()


def test_a_loop_of_links_ends(tmp_path) -> None:
    """Soft links that lead to each other are one error."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
    with pytest.raises(lazyio.LazyioError, match="a' leads in a circle"):
        lazyio.open(tmp_path / "file.h5", "a")


@pytest.mark.parametrize("given", ["folder", 5, [5], b"folder"], ids=repr)
def test_what_is_no_list_of_folders(tmp_path, outside, given) -> None:
    """The argument is a list, so that one folder is not taken for its letters."""
    with pytest.raises(OptionError, match="give a list of folders"):
        lazyio.open(outside, "group/x", allow_external=given)


def test_a_contiguous_dataset_that_this_process_is_writing(tmp_path) -> None:
    """What libhdf5 has not written out yet is read through it."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(100))
        file.flush()
        file["x"][10:20] = 1000.0
        x = lazyio.from_hdf5(tmp_path / "file.h5", "x")
        assert x[15].compute() == 1000.0


def test_nothing_is_written_below_an_external_link(tmp_path, outside) -> None:
    """The other file is not ours to change."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["out"] = h5py.ExternalLink(str(outside), "/group")
    before = outside.read_bytes()
    with pytest.raises(lazyio.errors.TargetError, match="external link on the way"):
        lazyio.to_hdf5(VALUES, tmp_path / "file.h5", "out/new")
    assert outside.read_bytes() == before


def test_a_device_is_not_replaced(tmp_path) -> None:
    """Neither is a pipe, or whatever else is no file."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(lazyio.errors.TargetError, match="neither a file nor a folder"):
        lazyio.to_hdf5(VALUES, tmp_path / "pipe", mode="w")
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_that_is_open_for_writing_here_is_not_replaced(tmp_path) -> None:
    """What is written to it later would be lost."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["x"] = 1
        file.flush()
        with pytest.raises(lazyio.errors.TargetError, match="open for writing in this process"):
            lazyio.to_hdf5(VALUES, tmp_path / "file.h5", "y")
