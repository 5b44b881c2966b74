"""What is read is one state of a file or store, or SourceChangedError; never a mixture."""

import itertools
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.errors import LazyioError, SourceChangedError, SourceError
from lazyio.sources import identity, libhdf5
from lazyio.sources.hdf5 import hdf5_source
from lazyio.sources.manifest import placement_of

SHAPE = (40, 30)
CHUNKS = (10, 30)


def values(version):
    """Return what a version holds: no element is that of another."""
    return np.arange(1200, dtype="i4").reshape(SHAPE) + 10_000 * version


def _npy(folder, version):
    np.save(folder / "x.npy", values(version))


def _raw(folder, version):
    values(version).tofile(folder / "x.raw")


def _hdf5(folder, version, **options):
    with h5py.File(folder / "x.h5", "w") as file:
        # What lies before it moves its chunks in the file.
        file["pad"] = np.zeros(100 * version)
        file.create_dataset("x", data=values(version), **options)


def _gzip(folder, version):
    _hdf5(folder, version, chunks=CHUNKS, compression="gzip")


def _scaled(folder, version):
    _hdf5(folder, version, chunks=CHUNKS, scaleoffset=0)


def _linked(folder, version):
    _hdf5(folder, version)
    with h5py.File(folder / "link.h5", "w") as file:
        file["x"] = h5py.ExternalLink("x.h5", "/x")


def _virtual(folder, version):
    _hdf5(folder, version)
    layout = h5py.VirtualLayout(SHAPE, "i4")
    layout[...] = h5py.VirtualSource("x.h5", "x", SHAPE)
    with h5py.File(folder / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)


def _nested(folder, version):
    _virtual(folder, version)
    layout = h5py.VirtualLayout(SHAPE, "i4")
    layout[...] = h5py.VirtualSource("virtual.h5", "x", SHAPE)
    with h5py.File(folder / "nested.h5", "w") as file:
        file.create_virtual_dataset("x", layout)


def _external(folder, version):
    _raw(folder, version)
    with h5py.File(folder / "external.h5", "w") as file:
        where = [(str(folder / "x.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("x", SHAPE, "i4", external=where)


def _zarr(folder, version, **options):
    zarr.create_array(folder / "x.zarr", data=values(version), chunks=CHUNKS, **options)


def _zip(folder, version):
    with zarr.storage.ZipStore(folder / "x.zip", mode="w") as store:
        zarr.create_array(store, data=values(version), chunks=CHUNKS)


def _two(folder, version):
    np.save(folder / "first.npy", values(version)[:20])
    np.save(folder / "x.npy", values(version)[20:])


# How it is written, how it is opened, and the file that holds its elements.
KINDS = {
    "npy": (_npy, lambda folder: lazyio.open(folder / "x.npy", chunks=CHUNKS), "x.npy"),
    "raw": (_raw, lambda folder: lazyio.from_raw(folder / "x.raw", SHAPE, "i4"), "x.raw"),
    "memmap": (
        _npy,
        lambda folder: lazyio.from_array(np.load(folder / "x.npy", mmap_mode="r")),
        "x.npy",
    ),
    "stack": (
        _two,
        lambda folder: lazyio.concatenate([folder / "first.npy", folder / "x.npy"]),
        "x.npy",
    ),
    "hdf5": (_hdf5, lambda folder: lazyio.open(folder / "x.h5", "x"), "x.h5"),
    "gzip": (_gzip, lambda folder: lazyio.open(folder / "x.h5", "x", chunks=CHUNKS), "x.h5"),
    "libhdf5": (_scaled, lambda folder: lazyio.open(folder / "x.h5", "x"), "x.h5"),
    "link": (_linked, lambda folder: lazyio.open(folder / "link.h5", "x"), "x.h5"),
    "virtual": (_virtual, lambda folder: lazyio.open(folder / "virtual.h5", "x"), "x.h5"),
    "nested": (_nested, lambda folder: lazyio.open(folder / "nested.h5", "x"), "x.h5"),
    "external": (_external, lambda folder: lazyio.open(folder / "external.h5", "x"), "x.raw"),
    "zarr": (_zarr, lambda folder: lazyio.open(folder / "x.zarr"), "x.zarr/c/0/0"),
    "shards": (
        lambda folder, version: _zarr(folder, version, shards=(20, 30)),
        lambda folder: lazyio.open(folder / "x.zarr"),
        "x.zarr/c/0/0",
    ),
    "v2": (
        lambda folder, version: _zarr(folder, version, zarr_format=2),
        lambda folder: lazyio.open(folder / "x.zarr"),
        "x.zarr/0.0",
    ),
    "fsspec": (
        _zarr,
        lambda folder: lazyio.open(zarr.storage.FsspecStore.from_url(f"file://{folder}/x.zarr")),
        "x.zarr/c/0/0",
    ),
    "array": (
        _zarr,
        lambda folder: lazyio.from_array(zarr.open_array(folder / "x.zarr", mode="r")),
        "x.zarr/c/0/0",
    ),
    "zip": (_zip, lambda folder: lazyio.open(folder / "x.zip"), "x.zip"),
}


def _replace(path, other):
    """Give a file's name to another of the same size, its times kept."""
    shutil.copy2(other, f"{path}.new")
    os.replace(f"{path}.new", path)


def _rewrite(path, other):
    path.write_bytes(other.read_bytes())


def _exchange(path, other):
    """Put what is another file of the same age in its place."""
    path.rename(f"{path}.old")
    other.rename(path)


def _truncate(path, _):
    os.truncate(path, path.stat().st_size - 8)


def _extend(path, _):
    with path.open("ab") as file:
        file.write(b"\0" * 8)


def _touch(path, _):
    path.touch()


def _remove(path, _):
    path.unlink()


CHANGES = [_replace, _rewrite, _exchange, _truncate, _extend, _touch, _remove]


@pytest.fixture
def folder(tmp_path):
    """Return a folder for what is read."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    return tmp_path / "one"


def _opened(kind, folder):
    """Return an array of a kind in its first version, and the file that holds its elements."""
    make, opens, name = KINDS[kind]
    make(folder, 1)
    other = folder.parent / "two"
    make(other, 2)
    return opens(folder), folder / name, other / name


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_was_opened(folder, kind):
    """A source that stays as it is reads as it is."""
    array, _, _ = _opened(kind, folder)
    np.testing.assert_array_equal(array.compute(scheduler="sync"), values(1))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_changed_between_open_and_compute(folder, kind, change):
    """Whatever became of the file since, here or where the array was sent, is not read."""
    if kind in ("zarr", "shards", "v2", "array", "fsspec") and change in (_replace, _exchange):
        pytest.skip("objects have no identity: their stamps say when they were written")
    array, path, other = _opened(kind, folder)
    sent = pickle.dumps(array)
    change(path, other)
    for compute in (
        lambda: array.compute(scheduler="sync"),
        lambda: (array + 1).compute(scheduler="sync"),
        lambda: pickle.loads(sent).compute(scheduler="sync"),
    ):
        with pytest.raises(SourceChangedError, match="since it was opened"):
            compute()


@pytest.mark.parametrize("write", [lazyio.to_hdf5, lazyio.to_zarr])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "raw"])
@pytest.mark.parametrize("is_graph", [False, True])
def test_nothing_is_published(folder, tmp_path, kind, is_graph, write):
    """What would be made of a source that was changed is not there."""
    array, path, other = _opened(kind, folder)
    data = array * 2 if is_graph else array
    _rewrite(path, other)
    with pytest.raises(SourceChangedError, match="since it was opened"):
        write(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("is_graph", [False, True])
def test_changed_behind_the_last_block(folder, tmp_path, is_graph):
    """A file that was changed once all of it was read is noticed before the end."""
    array, path, other = _opened("npy", folder)

    def change(step):
        if step.n_done == step.n_total:
            _replace(path, other)

    data = array * 2 if is_graph else array
    with pytest.raises(SourceChangedError, match="what was made of it is not published"):
        lazyio.to_hdf5(data, tmp_path / "out.h5", progress=change)
    assert not (tmp_path / "out.h5").exists()


def test_dataset_of_a_graph(folder, tmp_path):
    """What was given to dask itself is as it was when the write began."""
    _gzip(folder, 1)

    def change(step):
        if step.n_done == step.n_total:
            (folder / "x.h5").touch()

    with h5py.File(folder / "x.h5", "r") as file:
        array = da.from_array(file["x"], chunks=CHUNKS)
        with pytest.raises(SourceChangedError, match="what was made of it is not published"):
            lazyio.to_hdf5(array + 1, tmp_path / "out.h5", progress=change)


def test_memmap_that_may_be_written(folder):
    """What the caller writes into a map of its own is read; another file in its place is not."""
    _npy(folder, 1)
    mapped = np.load(folder / "x.npy", mmap_mode="r+")
    array = lazyio.from_array(mapped)
    mapped[0, 0] = 7
    mapped.flush()
    assert array.compute(scheduler="sync")[0, 0] == 7
    _replace(folder / "x.npy", folder / "x.npy")
    with pytest.raises(SourceChangedError, match="was replaced by another file"):
        array.compute(scheduler="sync")


def test_dataset_of_a_file_that_was_replaced(folder):
    """An open dataset is read through its handle, where its path leads to another by now."""
    _gzip(folder, 1)
    with h5py.File(folder / "x.h5", "r") as file:
        _gzip(folder.parent / "two", 2)
        os.replace(folder.parent / "two/x.h5", folder / "x.h5")
        array = lazyio.from_array(file["x"])
        np.testing.assert_array_equal(array.compute(scheduler="sync"), values(1))


def test_array_whose_metadata_are_old(folder):
    """A Zarr array that was opened before it was made anew is refused."""
    _zarr(folder, 1)
    array = zarr.open_array(folder / "x.zarr", mode="r")
    _zarr(folder, 2, overwrite=True, fill_value=3)
    with pytest.raises(SourceChangedError, match="has got other metadata"):
        lazyio.from_array(array)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_objects_made_and_removed(folder, zarr_format):
    """A gap is a gap only while nothing comes or goes beside it."""
    array = zarr.create_array(
        folder / "x.zarr", shape=SHAPE, chunks=CHUNKS, dtype="i4", zarr_format=zarr_format
    )
    lazy = lazyio.open(folder / "x.zarr")
    assert not lazy.compute(scheduler="sync").any()
    array[:10] = 1
    with pytest.raises(SourceChangedError, match="since it was opened"):
        lazy.compute(scheduler="sync")
    lazy = lazyio.open(folder / "x.zarr")
    array[:10] = 0  # which zarr-python stores by removing the object
    with pytest.raises(SourceChangedError, match="objects made or removed"):
        lazy.compute(scheduler="sync")


def test_mostly_empty_array(folder):
    """Where a listing tells what is there, what comes meanwhile is noticed too."""
    array = zarr.create_array(folder / "x.zarr", shape=(5000,), chunks=(1,), dtype="i4")
    array[7] = 1
    lazy = lazyio.open(folder / "x.zarr", chunks=-1)
    assert lazy.compute(scheduler="sync").sum() == 1
    array[3] = 1
    with pytest.raises(SourceChangedError, match="since it was opened"):
        lazy.compute(scheduler="sync")


def test_stamp_from_the_future(folder):
    """An object that a server with another clock has stamped is no change."""
    _zarr(folder, 1)
    ahead = time.time() + 3600
    os.utime(folder / "x.zarr/c/0/0", (ahead, ahead))
    array = lazyio.open(folder / "x.zarr")
    np.testing.assert_array_equal(array.compute(scheduler="sync"), values(1))


@pytest.mark.parametrize("kind", ["npy", "gzip", "zip"])
def test_file_from_the_future(folder, kind, slept):
    """A file whose time is still to come is opened without waiting for it."""
    make, opens, name = KINDS[kind]
    make(folder, 1)
    ahead = time.time() + 3600
    os.utime(folder / name, (ahead, ahead))
    np.testing.assert_array_equal(opens(folder).compute(scheduler="sync"), values(1))
    assert sum(slept) < 1


@pytest.mark.parametrize("kind", ["npy", "gzip", "zarr"])
def test_changed_at_once(folder, kind):
    """A change right behind the opening has another time, however coarse the clock is."""
    make, opens, name = KINDS[kind]
    make(folder.parent / "two", 2)
    content = (folder.parent / "two" / name).read_bytes()
    for _ in range(20):
        shutil.rmtree(folder)
        folder.mkdir()
        make(folder, 1)
        array = opens(folder)
        descriptor = os.open(folder / name, os.O_WRONLY)
        os.pwrite(descriptor, content[-64:], len(content) - 64)
        os.close(descriptor)
        with pytest.raises(SourceChangedError, match="since it was opened"):
            array.compute(scheduler="sync")


def test_missing_file_of_a_virtual_dataset(folder):
    """Elements whose file is not there are no fill values, also where it goes later."""
    _hdf5(folder, 1)
    layout = h5py.VirtualLayout((80, 30), "i4")
    layout[:40] = h5py.VirtualSource("x.h5", "x", SHAPE)
    layout[40:] = h5py.VirtualSource("gone.h5", "x", SHAPE)
    with h5py.File(folder / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    with pytest.raises(SourceError, match=r"gone\.h5', which is not there"):
        lazyio.open(folder / "virtual.h5", "x")
    shutil.copy(folder / "x.h5", folder / "gone.h5")
    array = lazyio.open(folder / "virtual.h5", "x", chunks=(40, 30))
    (folder / "gone.h5").unlink()
    with pytest.raises(SourceError, match=r"gone\.h5"):
        array.compute(scheduler="sync")


def test_numbered_files_of_a_virtual_dataset(folder):
    """Files that a pattern names count as far as there are any, and so does the next one."""
    for number in range(2):
        with h5py.File(folder / f"part-{number}.h5", "w") as file:
            file["x"] = np.full(10, number)
    with h5py.File(folder / "all.h5", "w") as file:
        whole = h5py.h5s.create_simple((10,), (h5py.h5s.UNLIMITED,))
        whole.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), (10,), (10,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_virtual(whole, b"part-%b.h5", b"x", h5py.h5s.create_simple((10,)))
        space = h5py.h5s.create_simple((10,), (h5py.h5s.UNLIMITED,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, space, dcpl=plist)
    array = lazyio.open(folder / "all.h5", "x")
    np.testing.assert_array_equal(array.compute(scheduler="sync"), np.repeat([0, 1], 10))
    shutil.copy(folder / "part-1.h5", folder / "part-2.h5")
    with pytest.raises(SourceChangedError, match=r"part-2\.h5 was made since"):
        array.compute(scheduler="sync")


def test_many_files_of_a_virtual_dataset(folder):
    """A block looks at the files that it lies in, and at no others."""
    n_files = 200
    layout = h5py.VirtualLayout((n_files, 10), "i8")
    for number in range(n_files):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["x"] = np.full(10, number)
        layout[number] = h5py.VirtualSource(f"{number}.h5", "x", (10,))
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    source = hdf5_source(folder / "all.h5", "x")
    assert len(source.whole.others) == n_files
    (folder / "199.h5").touch()
    region = (slice(3, 5), slice(0, 10))
    np.testing.assert_array_equal(source.read(region)[:, 0], [3, 4])
    with pytest.raises(SourceChangedError, match=r"199\.h5 was modified"):
        source.read((slice(190, 200), slice(0, 10)))


def test_file_behind_two_parts_of_a_virtual_dataset(folder):
    """It is watched for both, however far behind it lies."""
    _linked(folder, 1)
    layout = h5py.VirtualLayout((80, 30), "i4")
    layout[:40] = h5py.VirtualSource("link.h5", "x", SHAPE)
    layout[40:] = h5py.VirtualSource("link.h5", "x", SHAPE)
    with h5py.File(folder / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    source = hdf5_source(folder / "virtual.h5", "x")
    (folder / "x.h5").touch()
    for rows in (slice(0, 40), slice(40, 80)):
        with pytest.raises(SourceChangedError, match=r"x\.h5 was modified"):
            source.read((rows, slice(0, 30)))


def test_link_that_was_turned(folder):
    """A file on the way to a linked dataset counts as well."""
    _linked(folder, 1)
    with h5py.File(folder / "first.h5", "w") as file:
        file["x"] = h5py.ExternalLink("link.h5", "/x")
    array = lazyio.open(folder / "first.h5", "x")
    np.testing.assert_array_equal(array.compute(scheduler="sync"), values(1))
    (folder / "link.h5").touch()
    with pytest.raises(SourceChangedError, match=r"link\.h5 was modified"):
        array.compute(scheduler="sync")


def test_no_change_is_missed_while_the_table_is_made(folder, monkeypatch):
    """The table of chunks is of the file whose bytes are read."""
    array, path, other = _opened("gzip", folder)
    opened = libhdf5._opened

    def late(name):
        if name == str(path) and other.exists():
            os.replace(other, path)
        return opened(name)

    monkeypatch.setattr(libhdf5, "_opened", late)
    with pytest.raises(SourceChangedError, match="was replaced by another file"):
        array.compute(scheduler="sync")


def test_what_does_not_decode_was_changed(folder):
    """An error that comes of a change says that, and not that a chunk is damaged."""
    array, path, _ = _opened("gzip", folder)
    source = array.dask.layers[array.name].indices[0][0].source
    placement = placement_of(source.token, str(path), "x", source.identity, is_watched=True)
    decode = type(placement.decoder).decode

    def change_and_fail(*given):
        path.touch()
        raise ValueError("bad bytes")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(placement.decoder), "decode", change_and_fail)
        with pytest.raises(SourceChangedError, match="was modified"):
            array.compute(scheduler="sync")
    assert decode is type(placement.decoder).decode


def test_file_that_is_being_written_is_waited_for(folder):
    """A lock that is held for a moment delays a read, and does not end it."""
    _gzip(folder, 1)
    program = (
        "import h5py, sys, time\n"
        "with h5py.File(sys.argv[1], 'r+'):\n"
        "    print('open', flush=True)\n"
        "    time.sleep(float(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, str(folder / "x.h5"), "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "open\n"
        array = lazyio.open(folder / "x.h5", "x")
        assert child.wait() == 0
        np.testing.assert_array_equal(array.compute(scheduler="sync"), values(1))


def test_file_that_is_written_for_long(folder, monkeypatch):
    """Who writes a file all the time is told of."""
    _gzip(folder, 1)
    monkeypatch.setattr(libhdf5, "_PATIENCE", 0.1)
    program = (
        "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(folder / "x.h5")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(SourceError, match="another program is writing it"):
            lazyio.open(folder / "x.h5", "x")
        child.communicate("\n")


@pytest.mark.parametrize("is_graph", [False, True])
def test_target_that_is_read_is_copied(folder, monkeypatch, is_graph):
    """A large file is not changed in place while what is written is made of it."""
    monkeypatch.setattr("lazyio.atomic.workdir.COPIED_NBYTES", 1000)
    monkeypatch.setattr("lazyio.storage.hdf5.file.COPIED_NBYTES", 1000)
    monkeypatch.setattr("lazyio.storage.hdf5.file._cloned", lambda path, copy: False)
    _gzip(folder, 1)
    array = lazyio.open(folder / "x.h5", "x", chunks=CHUNKS)
    report = lazyio.to_hdf5(array + 1 if is_graph else array, folder / "x.h5", "y", chunks=CHUNKS)
    assert "changed-in-place" not in dict(report.advice)
    with h5py.File(folder / "x.h5") as file:
        np.testing.assert_array_equal(file["y"][...], values(1) + is_graph)
    other = np.ones(10)
    report = lazyio.to_hdf5(other, folder / "x.h5", "z")
    assert "changed-in-place" in dict(report.advice)


def test_token_is_that_of_what_was_opened(folder):
    """A file that was rewritten has another token, so nothing cached is taken for it."""
    for kind, (make, opens, _) in KINDS.items():
        if kind == "fsspec":  # whose file systems have no lasting name
            continue
        shutil.rmtree(folder)
        folder.mkdir()
        make(folder, 1)
        first, again = opens(folder), opens(folder)
        assert first.name == again.name, kind
        shutil.rmtree(folder)
        folder.mkdir()
        make(folder, 2)
        assert opens(folder).name != first.name, kind


def _turn(first, second, is_ready, is_over):
    """Put two versions in place by turns, each in its own manner, until that is over."""
    names = sorted({path.name for path in first.iterdir()})
    manners = itertools.cycle(["rename", "in place", "remove"])
    for at in itertools.count():
        if is_over.is_set():
            return
        is_ready.set()
        manner = next(manners)
        source = (first, second)[at % 2]
        for name in names:
            path, other = first.parent / "one" / name, source / name
            if other.is_dir():
                fresh = first.parent / f"fresh-{at}"
                shutil.copytree(other, fresh)
                path.rename(first.parent / f"old-{at}")
                fresh.rename(path)
                shutil.rmtree(first.parent / f"old-{at}")
            elif manner == "in place":
                path.write_bytes(other.read_bytes())
            else:
                if manner == "remove":
                    path.unlink()
                shutil.copyfile(other, first.parent / "fresh")
                os.replace(first.parent / "fresh", path)
        time.sleep(0.002)


@pytest.mark.parametrize(
    "kind", ["npy", "stack", "gzip", "libhdf5", "virtual", "zarr", "v2", "zip"]
)
def test_changed_all_the_time(tmp_path, kind):
    """While another process puts one version after the other, every block is of one."""
    make, opens, _ = KINDS[kind]
    for name, version in (("one", 1), ("first", 1), ("second", 2)):
        (tmp_path / name).mkdir()
        make(tmp_path / name, version)
    context = multiprocessing.get_context("spawn")
    is_ready, is_over = context.Event(), context.Event()
    folders = tmp_path / "first", tmp_path / "second"
    child = context.Process(target=_turn, args=(*folders, is_ready, is_over))
    child.start()
    assert is_ready.wait(240)
    n_read = n_refused = 0
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            found = opens(tmp_path / "one").compute(scheduler="sync")
        except LazyioError:
            n_refused += 1
            continue
        n_read += 1
        if kind == "stack":  # of which each file is of one version
            assert all(
                (found[part] == values(1)[part]).all() or (found[part] == values(2)[part]).all()
                for part in (slice(0, 20), slice(20, 40))
            )
        else:
            assert (found == values(1)).all() or (found == values(2)).all()
    is_over.set()
    child.join()
    assert child.exitcode == 0
    assert n_read + n_refused > 0


def test_prepared_folders_exchanged(tmp_path):
    """Folders that are both older than the description are told apart while they change places."""
    for name, version in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        _zarr(tmp_path / name, version)
    a, b, aside = tmp_path / "one/x.zarr", tmp_path / "two/x.zarr", tmp_path / "aside"
    array = lazyio.open(a, chunks=CHUNKS)
    source = array.dask.layers[array.name].indices[0][0].source
    read_one = type(source.objects)._read_one

    def exchanging(self, folder, index, *given):
        a.rename(aside)
        b.rename(a)
        aside.rename(b)
        return read_one(self, folder, index, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(source.objects), "_read_one", exchanging)
        found = source.read((slice(0, 40), slice(0, 30)))
    np.testing.assert_array_equal(found, values(1))


def test_on_workers(folder):
    """A worker of a cluster does not read another state either."""
    distributed = pytest.importorskip("distributed")
    kinds = ("gzip", "zarr", "npy")
    opened = []
    for kind in kinds:
        make, opens, name = KINDS[kind]
        (folder / kind).mkdir()
        make(folder / kind, 1)
        opened.append((opens(folder / kind), folder / kind / name))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0", processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        for array, path in opened:
            np.testing.assert_array_equal(client.compute(array).result(), values(1))
            client.cancel(array)
            path.touch()
            with pytest.raises(SourceChangedError, match="since it was opened"):
                client.compute(array + 0).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("kind", ["gzip", "zarr", "virtual"])
def test_in_a_forked_child(folder, kind):
    """What was opened before a fork is checked in the child."""
    array, path, _ = _opened(kind, folder)
    array.compute(scheduler="sync")
    path.touch()
    with dask.config.set(scheduler="sync"):
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_told, args=(array, sender))
        child.start()
        assert receiver.recv() == "SourceChangedError"
        child.join()


def _told(array, sender):
    try:
        array.compute(scheduler="sync")
    except LazyioError as error:
        sender.send(type(error).__name__)
    else:
        sender.send("no error")


def test_stamps_are_waited_for(tmp_path):
    """The identity of a file is taken once its stamp is of a tick that is over."""
    path = Path(tmp_path, "x")
    for _ in range(20):
        path.write_bytes(b"1")
        with path.open("rb") as file:
            found = identity.settled(file.fileno())
        path.write_bytes(b"2")
        assert path.stat().st_mtime_ns > found.mtime_ns
