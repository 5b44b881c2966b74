"""Arrays that are made are the same every time, and as compressible as they are said to be."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.catalogue import CATALOGUE

MADE = [name for name in CATALOGUE if name != "cmip6"]


def raw(folder: Path, name: str) -> np.ndarray:
    array = CATALOGUE[name].make(folder, True)
    return np.fromfile(array.path, array.dtype).reshape(array.shape)


@pytest.mark.parametrize("name", MADE)
def test_arrays_are_the_same_every_time(name: str, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (raw(folder, name) for folder in folders)
    assert first.tobytes() == second.tobytes()


def test_arrays_are_kept(tmp_path: Path) -> None:
    array = CATALOGUE["noise"].make(tmp_path, True)
    made = Path(array.path).stat().st_mtime_ns
    assert CATALOGUE["noise"].make(tmp_path, True) == array
    assert Path(array.path).stat().st_mtime_ns == made
    assert [one.name for one in tmp_path.iterdir()] == [Path(array.path).name]


def test_noise_does_not_shrink_and_spikes_do(tmp_path: Path) -> None:
    noise, spikes = (raw(tmp_path, name).tobytes() for name in ("noise", "spikes"))
    assert len(zlib.compress(noise, 1)) > 0.99 * len(noise)
    assert len(zlib.compress(spikes, 1)) < 0.02 * len(spikes)


def test_no_chunk_of_the_spikes_is_empty(tmp_path: Path) -> None:
    array = CATALOGUE["spikes"].make(tmp_path, True)
    data = raw(tmp_path, "spikes")
    steps = array.chunks
    for row in range(0, data.shape[0], steps[0]):
        for column in range(0, data.shape[1], steps[1]):
            assert data[row : row + steps[0], column : column + steps[1]].any()
