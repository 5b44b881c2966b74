"""The memory limit, measured: growth of a child process beyond what it held before."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.xdist_group("memory")
LIMIT = 32 * 2**20

MEASURE = """
import json, sys
import numpy as np
import lazyio

path, out, case = sys.argv[1:]
is_zarr = out.endswith("zarr")
cases = {
    "aligned": dict(),
    "misaligned": dict(chunks=(5000, 100)),
    "channel-major": dict(chunks=(65536, 1)),
    "resume": dict(resume=True),
    "tiny-resume": dict(chunks=(64, 32), resume=True),
}

def write(path, limit):
    x = lazyio.from_raw(path, (-1, 256), "int16", memory_limit=limit)
    if case == "misaligned":
        x = lazyio.from_raw(path, (-1, 256), "int16", chunks=(3333, 256)).map_blocks(lambda b: b)
    (lazyio.to_zarr if is_zarr else lazyio.to_hdf5)(
        x, out, mode="w", memory_limit=limit, workers=2, **cases[case],
        **({} if is_zarr else dict(compression="zstd", shuffle=True)))

def resident():
    # Peak since the last reset, so that what was freed before does not count.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

np.ones((3000, 256), "int16").tofile(out + ".warm")
write(out + ".warm", "32 MiB")
open("/proc/self/clear_refs", "w").write("5")
before = resident()
write(path, "32 MiB")
print(json.dumps({"growth": resident() - before}))
"""


TINY = """
import json, os, sys
import dask.array as da, h5py, numpy as np
import lazyio

def growth_of(work, limit):
    # Peak since the last reset, so that what was freed before does not count.
    open("/proc/self/clear_refs", "w").write("5")
    before = resident()
    work(limit)
    return resident() - before

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def write(limit):
    x = lazyio.from_raw("x.raw", (-1,), "int16", memory_limit=limit)
    lazyio.to_hdf5(x, "x.h5", mode="w", chunks=(320,), memory_limit=limit, workers=2)

def read(limit):
    x = lazyio.open("x.h5", memory_limit=limit)
    lazyio.to_hdf5(x, "y.h5", mode="w", chunks=(65536,), memory_limit=limit, workers=2)

def by_graph(limit):
    x = lazyio.open("x.h5", memory_limit=limit, chunks=(30_000,)) + np.int16(1)
    lazyio.to_hdf5(x, "y.h5", mode="w", chunks=(320,), memory_limit=limit, workers=2)

np.ones(3000, "int16").tofile("x.raw")
works = write, read, by_graph
for work in works:
    work("24 MiB")
rng = np.random.default_rng(0)
with open("x.raw", "wb") as file:
    for _ in range(8):
        file.write(rng.integers(-99, 99, 8_000_000).astype("i2").tobytes())
print(json.dumps({work.__name__: growth_of(work, "24 MiB") for work in works}))
"""


def test_what_is_known_of_many_chunks_counts(tmp_path, warm) -> None:
    """Places and digests of 200,000 chunks take no more than the limit, blocks included."""
    done = warm.run(TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    assert {name: nbytes >> 20 for name, nbytes in grown.items() if nbytes > 24 * 2**20} == {}


@pytest.fixture(scope="module")
def recording_on_disk(tmp_path_factory):
    """Return a file of four times the limit."""
    path = tmp_path_factory.mktemp("memory") / "x.raw"
    slab = (np.random.default_rng(0).normal(size=(65536, 256)) * 30).astype("int16")
    with path.open("wb") as file:
        for _ in range(4):
            file.write(slab.tobytes())
    assert path.stat().st_size == 4 * LIMIT
    yield path
    path.unlink()


@pytest.mark.parametrize(
    "case", ["aligned", "misaligned", "channel-major", "resume", "tiny-resume"]
)
@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_growth_stays_within_the_limit(tmp_path, recording_on_disk, warm, case, suffix) -> None:
    """An array four times the limit, in whatever chunks, grows the process by less."""
    done = warm.run(MEASURE, recording_on_disk, tmp_path / f"x.{suffix}", case)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["growth"] <= LIMIT
