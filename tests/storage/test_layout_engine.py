"""Deferred metadata: stock readers get every value, and the same calls give the same places."""

import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.atomic import log as redo
from lazyio.atomic.in_place import InPlaceFile
from lazyio.atomic.lock import FileLock
from lazyio.sources import libhdf5
from lazyio.storage.hdf5 import deferred_metadata as held_file
from lazyio.storage.hdf5 import file as building
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata, EngineError, UnwrittenRanges


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "drop"]), st.integers(0, 60), st.integers(0, 20)),
        max_size=30,
    )
)
def test_ranges_that_are_held(steps):
    """As a dict of single bytes would hold them."""
    held, oracle = UnwrittenRanges(), {}
    for at, (what, begin, nbytes) in enumerate(steps):
        if what == "put":
            data = bytes([at % 256]) * nbytes
            if nbytes:
                held.put(begin, data)
            oracle |= {begin + n: at % 256 for n in range(nbytes)}
        else:
            held.drop(begin, nbytes)
            for n in range(nbytes):
                oracle.pop(begin + n, None)
    found = {at + n: byte for at, data in held.ranges() for n, byte in enumerate(data)}
    assert found == oracle
    view = bytearray(b"\xff" * 90)
    held.lay_over(0, memoryview(view))
    assert all(view[at] == oracle.get(at, 255) for at in range(90))


LIBVERS = [None, ("earliest", "v114"), ("v110", "v114")]


def write(path, libver, order, *, attributes=0, nbytes=0):
    """Write three datasets by the engine and return the places of their chunks."""
    rng = np.random.default_rng(0)
    engine = DeferredMetadata(path, libver, nbytes=nbytes)
    places = []

    def skeleton():
        names = ("raw", "odd", "more/deep")
        made = [
            engine.file.create_dataset(name, (40, 30), "i4", chunks=(10, 10), compression=codec)
            for name, codec in zip(names, (None, "gzip", None), strict=True)
        ]
        for at in range(attributes):
            made[1].attrs[f"attribute {at}"] = at
        return made

    datasets = engine.call(skeleton)
    engine.settle()
    for which, chunk in order:
        corner = chunk // 3 * 10, chunk % 3 * 10
        values = rng.integers(0, 9, (10, 10), "i4")
        payload = values.tobytes()
        mask = 0 if which != 1 else 1  # Stored without its filter: any bytes will do.
        size = len(payload)

        def note(address, payload=payload):
            places.append(address)
            engine.write(payload, address)

        engine.reserve(datasets[which], corner, size, mask, note)
    engine.close()
    return places


ORDER = [(which, chunk) for chunk in range(12) for which in range(3)]


@pytest.mark.parametrize("libver", LIBVERS, ids=str)
@pytest.mark.parametrize("attributes", [0, 40])
def test_values_and_places(tmp_path, libver, attributes):
    """Stock h5py reads all, and a second run puts everything where the first one did."""
    places = write(tmp_path / "a.h5", libver, ORDER, attributes=attributes)
    again = write(tmp_path / "b.h5", libver, ORDER, attributes=attributes)
    assert places == again
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5") as file:
        for which, chunk in ORDER:
            row, column = chunk // 3 * 10, chunk % 3 * 10
            dataset = file[("raw", "odd", "more/deep")[which]]
            found = dataset[row : row + 10, column : column + 10]
            np.testing.assert_array_equal(found, rng.integers(0, 9, (10, 10), "i4"))
        assert len(file["odd"].attrs) == attributes


def test_a_file_that_is_added_to(tmp_path):
    """What was there stays, and what lies behind its end is not looked at."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["old"] = np.arange(1000)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\xff" * 5000)
    write(path, None, ORDER, nbytes=size)
    with h5py.File(path) as file:
        assert (file["old"][...] == np.arange(1000)).all()
        assert file["raw"].shape == (40, 30)


def test_nothing_is_written_before_the_end(tmp_path):
    """A file that is given up has payloads, and no metadata: stock readers refuse it."""
    path = tmp_path / "x.h5"
    engine = DeferredMetadata(path, None)
    dataset = engine.call(lambda: engine.file.create_dataset("x", (10,), "i4", chunks=(5,)))
    engine.settle()
    engine.reserve(dataset, (0,), 20, 0, lambda at: engine.write(b"a" * 20, at))
    engine.abandon()
    with pytest.raises(OSError, match="signature not found"):
        h5py.File(path)


def test_an_error_below_libhdf5_is_raised_and_ends_it(tmp_path, monkeypatch):
    """It is kept till libhdf5 has returned, which could not take it."""
    engine = DeferredMetadata(tmp_path / "x.h5", None)
    monkeypatch.setattr(
        UnwrittenRanges, "put", lambda *_: (_ for _ in ()).throw(OSError(5, "broken"))
    )
    with pytest.raises(OSError, match="broken"):
        engine.call(lambda: (engine.file.create_dataset("x", (10,), "i4"), engine.file.flush()))
    engine.abandon()


def test_what_is_not_written_in_one_piece(tmp_path):
    engine = DeferredMetadata(tmp_path / "x.h5", None)
    dataset = engine.call(lambda: engine.file.create_dataset("x", (10,), "i4", chunks=(5,)))
    dataset.id.write_direct_chunk((0,), b"a" * 20)
    engine.call(lambda: None)
    # A dataset of another file: nothing is asked of this one.
    with h5py.File(tmp_path / "other.h5", "w") as file:
        other = file.create_dataset("x", (10,), "i4", chunks=(5,))
        with pytest.raises(EngineError, match="in one piece"):
            engine.reserve(other, (0,), 20, 0, lambda _: None)
    engine.abandon()


def test_it_is_off_where_it_does_not_hold(monkeypatch, caplog):
    building.engine_works.cache_clear()

    def wrong(*_):
        raise EngineError("not here")

    monkeypatch.setattr(DeferredMetadata, "reserve", wrong)
    assert not building.engine_works()
    assert "deferred metadata is off" in caplog.text
    building.engine_works.cache_clear()


def logged(path, folder):
    """Open a file by the engine, with a log of its changes."""
    folder.mkdir(exist_ok=True)
    lock = FileLock(path)
    in_place = InPlaceFile(path, folder, lock, lambda *_: None)
    return DeferredMetadata(path, None, in_place=in_place), lock


@pytest.mark.parametrize("libver", LIBVERS, ids=str)
def test_a_file_that_is_committed_as_it_grows(tmp_path, libver):
    """Between commits it does not change below its end; chunks may be written again."""
    path, folder = tmp_path / "x.h5", tmp_path / "hidden"
    with h5py.File(path, "w", libver=libver) as file:
        file["old"] = np.arange(1000)
    engine, lock = logged(path, folder)
    dataset = engine.call(
        lambda: engine.file.create_dataset(
            "x", (0, 5), "i4", chunks=(10, 5), maxshape=(None, 5), compression="gzip"
        )
    )
    wanted = np.empty((0, 5), "i4")
    for turn in range(1, 30):
        before = path.read_bytes()
        # The chunk that was written last is written again, in another length, then others.
        length = turn * 7
        engine.call(lambda length=length: dataset.resize((length, 5)))
        values = np.random.default_rng(turn).integers(0, turn, (length, 5)).astype("i4")
        first = len(wanted) // 10 * 10
        wanted = np.concatenate([wanted[:first], values[first:]])
        for at in range(first, length, 10):
            whole = np.zeros((10, 5), "i4")
            whole[: length - at] = wanted[at : at + 10]
            payload = zlib.compress(whole.tobytes())
            place = engine.reserve(dataset, (at, 0), len(payload), 0, lambda _: None)
            engine.write(payload, place)
        assert path.read_bytes()[: len(before)] == before
        assert not redo.is_committed(folder)
        engine.commit()
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["x"][...], wanted)
    engine.abandon()
    redo.undo(folder, lock)
    lock.close()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"][...], wanted)
        assert (file["old"][...] == np.arange(1000)).all()


@pytest.mark.parametrize("step", ["commit", "apply", "restart"])
def test_a_commit_that_fails(tmp_path, monkeypatch, step):
    """Nothing is written after it; the file is old, or its log is complete."""
    path, folder = tmp_path / "x.h5", tmp_path / "hidden"
    with h5py.File(path, "w") as file:
        file["old"] = np.arange(10)
    engine, lock = logged(path, folder)
    engine.call(lambda: engine.file.create_dataset("new", data=np.arange(20)))

    def fail(*_):
        raise OSError(28, "full")

    monkeypatch.setattr(redo if step == "apply" else redo.WriteAheadLog, step, fail)
    # Once it is committed the change is made, and the error says so.
    said = "full" if step == "commit" else "full; the change is complete in .*lazyio recover"
    for _ in range(2):
        with pytest.raises(OSError, match=said):
            engine.commit()
    engine.abandon()
    lock.close()
    monkeypatch.undo()
    assert redo.is_committed(folder) == (step != "commit")
    if redo.is_committed(folder):
        redo.recover(folder, path)
    with h5py.File(path) as file:
        assert set(file) == ({"old"} if step == "commit" else {"old", "new"})


def test_only_a_file_in_place_is_committed_before_its_end(tmp_path):
    engine = DeferredMetadata(tmp_path / "x.h5", None)
    with pytest.raises(EngineError, match="changed in place"):
        engine.commit()
    engine.abandon()


@settings(max_examples=20, deadline=None)
@given(st.permutations(ORDER[:12]))
def test_any_order(tmp_path_factory, order):
    """Places are those of the order; every value is read."""
    folder = tmp_path_factory.mktemp("order")
    assert write(folder / "a.h5", None, order) == write(folder / "b.h5", None, order)


@pytest.mark.parametrize("libver", LIBVERS, ids=str)
@pytest.mark.parametrize("is_added", [False, True])
def test_metadata_of_many_chunks_are_not_kept(tmp_path, monkeypatch, libver, is_added):
    """What is held has a bound; the same calls give the same places all the same."""
    path, n_chunks = tmp_path / "x.h5", 5000
    monkeypatch.setattr(held_file, "HELD_NBYTES", 1 << 14)
    monkeypatch.setattr(libhdf5, "_METADATA_NBYTES", 1 << 14)
    if is_added:
        with h5py.File(path, "w", libver=libver) as file:
            file["old"] = np.arange(1000)
    before = path.read_bytes() if is_added else b""
    places = []
    for _ in range(2):
        engine = DeferredMetadata(
            path, libver, nbytes=len(before), on_overwrite=(lambda _: None) if is_added else None
        )
        dataset = engine.call(
            lambda engine=engine: engine.file.create_dataset(
                "x", (n_chunks,), "u1", chunks=(1,), maxshape=(None,)
            )
        )
        engine.settle()
        found, most = [], 0

        def reserve(engine=engine, dataset=dataset, note=found.append):
            nonlocal most
            for at in range(n_chunks):
                engine.reserve(dataset, (at,), 1, 0, note)
                most = max(most, engine._object.held.nbytes)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(reserve).result()
        assert 1 << 12 < most < 1 << 16
        places.append(found)
        assert path.read_bytes()[: len(before)] == before
        engine.abandon()
    assert places[0] == places[1]
