"""A new backend is one module with a ``Target``; what reads, cuts and puts together fills it."""

import itertools
import threading

import numpy as np
import pytest
from target_contract import CHUNK_SHAPE, SHAPE, TargetContract

import lazyio
from lazyio.execution.run import run
from lazyio.execution.schedulers import scheduler_for
from lazyio.inputs import recognise
from lazyio.options import plan_request
from lazyio.regions import box, box_shape, grid_shape
from lazyio.storage.base import Growing, Rewritable
from lazyio.storage.region_target import RegionTarget
from lazyio.writing.array_plan import plan_array


class ToyTarget:
    """An array in a folder, an ``.npy`` file a chunk."""

    engine = "toy"
    is_read_back = True

    def __init__(self, folder, shape, chunk_shape, dtype, fill_value=0) -> None:
        self.folder, self.shape, self.chunk_shape = folder, shape, chunk_shape
        self.dtype, self.fill_value = np.dtype(dtype), fill_value
        self.n_written = self.nbytes = 0
        self._lock = threading.Lock()

    def _path(self, index):
        return self.folder / f"{'.'.join(map(str, index))}.npy"

    def write_chunk(self, index, chunk, workspace) -> None:
        np.save(self._path(index), chunk)
        with self._lock:
            self.n_written += 1
            self.nbytes += chunk.nbytes

    def read_chunk(self, index):
        if self._path(index).exists():
            return np.load(self._path(index))
        extents = box_shape(box(self.shape, self.chunk_shape, index))
        return np.full(extents, self.fill_value, self.dtype)

    def grow(self, shape) -> None:
        self.shape = shape

    def finish(self) -> int:
        return self.nbytes

    def whole(self):
        out = np.empty(self.shape, self.dtype)
        for index in itertools.product(*map(range, grid_shape(self.shape, self.chunk_shape))):
            out[box(self.shape, self.chunk_shape, index)] = self.read_chunk(index)
        return out


class TestToy(TargetContract):
    """It keeps every promise of a target."""

    def make(self, folder, dtype="int32", fill=None):
        self.target = ToyTarget(folder, SHAPE, CHUNK_SHAPE, dtype, fill or 0)
        return self.target

    def read(self, folder):
        return self.target.whole()


@pytest.mark.parametrize("kind", ["source", "graph", "stream", "blocks"])
@pytest.mark.parametrize("limit", ["1 MiB", "6 kB"])
def test_it_is_filled(tmp_path, kind, limit):
    """From whatever comes, within any limit."""
    values = np.arange(SHAPE[0] * SHAPE[1], dtype="i4").reshape(SHAPE)
    given = {
        "source": lambda: values,
        "graph": lambda: lazyio.from_array(values, chunks=(4, 7)) + 0,
        "stream": lambda: lazyio.Stream(iter(values), expected_length=SHAPE[0]),
        "blocks": lambda: lazyio.Blocks(
            ((np.s_[at, :], values[at]) for at in reversed(range(SHAPE[0]))),
            SHAPE,
            "i4",
        ),
    }[kind]()
    cutting = plan_request(format="zarr", chunks=CHUNK_SHAPE, memory_limit=limit, workers=2)
    planned = plan_array("x", recognise(given), cutting)
    target = ToyTarget(tmp_path, SHAPE, planned.plan.chunk_shape, planned.form.dtype)
    run(
        [planned.job(target)],
        scratch=tmp_path / "scratch",
        progress=False,
        scheduler=scheduler_for("threads"),
    )
    np.testing.assert_array_equal(target.whole(), values)
    assert target.n_written == np.prod(grid_shape(SHAPE, CHUNK_SHAPE))
    assert target.finish() == values.nbytes


def test_a_region_of_it(tmp_path):
    """Chunks at the rim keep what lies outside."""
    target = ToyTarget(tmp_path, SHAPE, CHUNK_SHAPE, "i4", fill_value=-1)
    assert isinstance(target, Rewritable)
    assert isinstance(target, Growing)
    window, values = np.s_[3:20, 2:15], np.ones((17, 13), "i4")
    cutting = plan_request(format="zarr", chunks=CHUNK_SHAPE, memory_limit="1 MiB", workers=1)
    planned = plan_array("x", recognise(values), cutting)
    run(
        [planned.job(RegionTarget(target, window, None), window)],
        scratch=tmp_path / "scratch",
        progress=False,
        scheduler=scheduler_for("sync"),
    )
    expected = np.full(SHAPE, -1, "i4")
    expected[window] = values
    np.testing.assert_array_equal(target.whole(), expected)
