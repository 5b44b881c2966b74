"""Where chunks lie: found as in a dict, however many they are, and in bounded memory."""

import concurrent.futures
import os
import pickle
from unittest import mock

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazyio
from lazyio.sources import manifest as chunk_table
from lazyio.sources.manifest import ManifestMaker

keys = st.lists(st.integers(0, 400), unique=True, max_size=200)


@pytest.mark.parametrize("has_room", [True, False])
@given(keys, st.booleans(), st.integers(1, 60), st.integers(0, 410), st.integers(0, 410))
def test_as_a_dict_has_them(has_room, keys, in_order, n_at_once, first, last):
    """In whatever order and parts they come, in memory or in a file, or where it has no room."""
    keys = sorted(keys) if in_order else keys
    oracle = {key: (7 * key, key + 1, key % 3) for key in keys}
    error = None if has_room else OSError(28, "No space left on device")
    with (
        mock.patch("lazyio.sources.manifest._PAGE", 8),
        mock.patch("lazyio.sources.manifest._MOST_IN_MEMORY", 32),
        mock.patch("lazyio.spill.os.pwrite", side_effect=error, wraps=os.pwrite),
    ):
        maker = ManifestMaker()
        for at in range(0, len(keys), n_at_once):
            part = keys[at : at + n_at_once]
            places = np.array([oracle[key] for key in part], np.int64).reshape(-1, 3)
            maker.add(np.array(part, np.int64), places)
        manifest = maker.finish()
        assert len(manifest) == len(oracle)
        assert [manifest.find(key) for key in range(-1, 402)] == [
            oracle.get(key) for key in range(-1, 402)
        ]
        first, last = min(first, last), max(first, last)
        inside = sorted(key for key in oracle if first <= key < last)
        assert manifest.n_between(first, last) == len(inside)
        found = [key for part in manifest.keys_between(first, last) for key in part.tolist()]
        assert found == inside


def test_a_size_that_none_can_have():
    """What a damaged file says is no size that would seem right."""
    maker = ManifestMaker()
    maker.add(np.array([1]), np.array([[0, 2**32 + 5, 0]]))
    assert maker.finish().find(1) == (0, 2**32 - 1, 0)


@pytest.fixture
def tiny(tmp_path):
    """Return a file of very many chunks, and what is in it."""
    values = np.arange(20_000, dtype="i4").reshape(200, 100)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(2, 5), compression="gzip")
    return tmp_path / "x.h5", values


def test_many_chunks_are_read_by_many_threads(tiny):
    path, values = tiny
    with (
        mock.patch("lazyio.sources.manifest._PAGE", 16),
        mock.patch("lazyio.sources.manifest._MOST_IN_MEMORY", 32),
    ):
        array = lazyio.open(path, "x", chunks=(7, 31))
        assert (array.compute(num_workers=8) == values).all()


def test_a_file_is_looked_up_once_in_a_process(tiny):
    """By all tasks that a graph came apart into on its way."""
    path, values = tiny
    array = lazyio.open(path, "x", chunks=(20, 50))
    tasks = [pickle.dumps(one) for one in array.to_delayed().ravel()]
    with mock.patch.object(chunk_table, "_look_up", wraps=chunk_table._look_up) as look_up:
        blocks = [pickle.loads(task).compute() for task in tasks]
    assert look_up.call_count == 1
    assert sum(map(np.sum, blocks)) == values.sum()


def test_what_was_looked_up_is_forgotten_before_it_is_too_much(tmp_path):
    """And looked up again."""
    paths = [tmp_path / f"{number}.h5" for number in range(12)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.full((64, 8), number), chunks=(1, 8))
    with (
        mock.patch.object(chunk_table, "_MOST_NBYTES", 10_000),
        mock.patch.object(chunk_table, "_look_up", wraps=chunk_table._look_up) as look_up,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        joined = lazyio.stack(paths, axis=0)
        for _ in range(3):
            parts = pool.map(lambda at: (joined[at] == at).all().compute(), range(12))
            assert all(parts)
        nbytes = [one.nbytes for one in chunk_table._HELD._by_token.values()]
    assert sum(nbytes) <= 10_000
    assert look_up.call_count > 12


def test_a_source_that_changed_is_looked_up_anew(tiny):
    path, values = tiny
    first = lazyio.open(path, "x")
    assert (first.compute() == values).all()
    with h5py.File(path, "r+") as file:
        file["x"][:50] = 0
    assert (lazyio.open(path, "x")[:50].compute() == 0).all()
    with pytest.raises(lazyio.errors.SourceChangedError):
        da.compute(first)
