"""Data in parts: the memory limit, measured in a child process, and what a kill leaves."""

import json
import os
import signal
import time

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.atomic.recovery import clean, recover

MEASURE = """
import json, sys
from types import SimpleNamespace
import numpy as np
import lazyio

path, case = sys.argv[1:]
to = lazyio.to_zarr if path.endswith("zarr") else lazyio.to_hdf5
rng = np.random.default_rng(0)

def rows(n):
    for at in range(0, 64 * n, 64):
        yield np.s_[at : at + 64, :], np.full((64, 512), at, "i4")

def columns(n):
    for at in range(512):
        yield np.s_[:, at], np.arange(64 * n, dtype="i4")

def scattered(n):
    for top, left in rng.integers(0, 2000, (n * 10, 2)):
        yield np.s_[top : top + 9, left : left + 9], np.ones((9, 9), "i4")

class Iterator:
    dtype, maxshape, recommended_chunk_shape = np.dtype("i4"), (None, 512), (128, 256)
    recommended_data_shape = (0, 512)
    def __init__(self, pairs):
        self.pairs = pairs
    def __iter__(self):
        return self
    def __next__(self):
        selection, data = next(self.pairs)
        return SimpleNamespace(data=data, selection=selection)

def write(n):
    data = {
        "in order": lambda: Iterator(rows(n)),
        "blocks": lambda: lazyio.Blocks(rows(n), (64 * n, 512), "i4"),
        "columns": lambda: lazyio.Blocks(columns(n), (64 * n, 512), "i4"),
        "scattered": lambda: lazyio.Blocks(scattered(n), (2010, 2010), "i4"),
        "stream": lambda: lazyio.Stream(
            (np.full(512, at, "i4") for at in range(64 * n)), expected_length=64 * n),
    }[case]()
    chunks = (40, 40) if case == "scattered" else (128, 256)
    if case == "stream":
        to(np.zeros((70, 512), "i4"), path, mode="w", chunks=chunks,
           **({} if path.endswith("zarr") else {"maxshape": (None, 512)}))
        to(data, path, append_dim=0, memory_limit="32 MiB", workers=2)
    else:
        to(data, path, mode="w", chunks=chunks, memory_limit="32 MiB", workers=2)

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

write(4)
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write(1000)
print(json.dumps({"growth": resident() - before}))
"""


@pytest.mark.parametrize("case", ["in order", "blocks", "columns", "scattered", "stream"])
@pytest.mark.parametrize("suffix", ["h5", "zarr"])
@pytest.mark.xdist_group("memory")
def test_growth_stays_within_the_limit(tmp_path, warm, case, suffix):
    """131 MB in parts, in any order, grow the process by less than 32 MiB."""
    done = warm.run(MEASURE, tmp_path / f"x.{suffix}", case)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= 32 * 2**20


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
@pytest.mark.parametrize("kind", ["new", "append"])
def test_a_kill_leaves_what_was_there(tmp_path, suffix, kind):
    """Whenever it comes: old or complete."""
    path = tmp_path / f"x.{suffix}"
    to = lazyio.to_zarr if suffix == "zarr" else lazyio.to_hdf5
    room = {} if suffix == "zarr" else {"maxshape": (None,)}
    to(np.zeros(1000), path, chunks=300, **room)
    seed = np.random.default_rng().integers(10**6)
    for pause in np.random.default_rng(seed).uniform(0, 0.1, 10):
        child = os.fork()
        if not child:
            values = np.ones(300)
            pairs = ((np.s_[at : at + 300], values) for at in range(0, 300000, 300))
            if kind == "new":
                to(lazyio.Blocks(pairs, 300000, "f8"), path, overwrite=True)
            else:
                to(lazyio.Stream((v for _, v in pairs), batched=True), path, append_dim=0)
            os._exit(0)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        recover(path)
        clean(path)
        values = h5py.File(path)["data"][...] if suffix == "h5" else lazyio.open(path).compute()
        n_zeros = int((values == 0).sum())
        assert n_zeros in (0, 1000), f"seed {seed}"
        assert len(values) == 1000 or (values[n_zeros:] == 1).all()
        assert lazyio.verify(path).status == "ok"
        to(np.zeros(1000), path, chunks=300, overwrite=True, **room)
