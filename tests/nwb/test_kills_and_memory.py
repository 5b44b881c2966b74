"""NWB files whose write is killed, resumed, and measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
from kills import killed
from sessions import N_CHANNELS, empty, samples, series

import lazyio
import lazyio.nwb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:hdmf", "ignore::UserWarning:pynwb")

N_SAMPLES = 200_000
RAW = samples(n_samples=N_SAMPLES)


class Counted:
    """A source that counts what is read of it, and stops the program at one of its reads."""

    shape = (N_SAMPLES, N_CHANNELS)
    dtype = np.dtype("int16")
    chunk_shape = None

    def __init__(self, n_reads: int | None = None) -> None:
        self.left, self.n_read = n_reads, 0

    def __dask_tokenize__(self) -> str:
        return "samples of a test"

    def read(self, region: Any) -> Any:
        """Return a part of what is always the same."""
        self.n_read += 1
        if self.left is not None and self.n_read > self.left:
            raise KeyboardInterrupt
        return RAW[region]


def of(source: Counted, *names: str) -> pynwb.NWBFile:
    """Return new containers, with other object ids, for the same arrays."""
    nwbfile = empty()
    nwbfile.add_acquisition(series("a", lazyio.nwb.iterator(source)))
    nwbfile.add_acquisition(series("b", np.arange(60_000.0)))
    for name in names:
        nwbfile.add_acquisition(series(name, [1.0, 2.0]))
    return nwbfile


def write(source: Counted, path: Path, *names: str, resume: Any = True) -> Any:
    """Write with one worker, in several blocks."""
    return lazyio.nwb.write(
        of(source, *names),
        path,
        rules={"*/a/data": {"chunks": (10_000, N_CHANNELS)}},
        compression="gzip",
        memory_limit="2 MiB",
        resume=resume,
        workers=1,
    )


def test_other_object_ids_are_no_difference_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb"
    first = Counted(3)
    with pytest.raises(KeyboardInterrupt):
        write(first, path)
    assert not path.exists()
    second = Counted()
    report = write(second, path)
    assert 0 < report.n_resumed < report.n_blocks
    assert second.n_read < report.n_blocks
    assert pynwb.validate(path=path) in ([], ([], 0))
    assert lazyio.verify(path).status == "ok"
    np.testing.assert_array_equal(lazyio.open(path, "acquisition/a").compute(), RAW)
    again = write(Counted(), path)
    assert again.n_resumed == again.n_blocks


def test_another_structure_is_another_job(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb"
    with pytest.raises(KeyboardInterrupt):
        write(Counted(3), path)
    with pytest.raises(lazyio.errors.ResumeError, match="structure was"):
        write(Counted(), path, "more")
    write(Counted(), path)
    # The arrays are done, and the file is written all the same.
    assert write(Counted(), path, "more").n_resumed == 0
    with pynwb.NWBHDF5IO(path, "r") as io:
        assert "more" in io.read().acquisition


@pytest.mark.parametrize("resume", [False, True])
def test_the_file_is_old_or_new_whenever_it_is_killed(tmp_path: Path, resume: bool) -> None:
    path, seen = tmp_path / "a.nwb", set()
    last = 0
    while True:
        lazyio.clean(path)
        write(Counted(), path, resume=False)
        is_killed = killed(last, lambda: write(Counted(), path, "new", resume=resume))
        with pynwb.NWBHDF5IO(path, "r") as io:
            found = io.read()
            np.testing.assert_array_equal(found.acquisition["a"].data[:], RAW)
            seen.add("new" in found.acquisition)
        assert lazyio.verify(path).status in ("ok", "incomplete")
        if resume and is_killed:
            report = write(Counted(), path, "new")
            assert report.n_blocks
            assert lazyio.verify(path).status == "ok"
        if not is_killed:
            break
        last += 3 if last < 9 else 29
    assert seen == {False, True}


MEASURE = """
import datetime, json, re, sys
from pathlib import Path
import dask, dask.array as da, numpy as np, pynwb
import lazyio.nwb
dask.config.set(num_workers=2)
out, limit = sys.argv[1], int(sys.argv[2])

def session(n):
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    nwbfile = pynwb.NWBFile("a", "b", when)
    for name in ("x", "y"):
        graph = da.random.default_rng(0).integers(0, 99, (n, 64), "int16", chunks=(30_000, 64))
        data = lazyio.nwb.iterator(graph)
        nwbfile.add_acquisition(pynwb.TimeSeries(name=name, data=data, unit="V", rate=1.0))
    return nwbfile

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) << 10

lazyio.nwb.write(session(60_000), out + "-warm.nwb", compression="gzip", memory_limit=limit)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
report = lazyio.nwb.write(session(600_000), out + ".nwb", compression="gzip", memory_limit=limit)
print(json.dumps(peak() - before))
"""


def test_all_arrays_stay_within_one_limit(tmp_path: Path, warm: Any) -> None:
    limit = 64 << 20
    done = warm.run(MEASURE, tmp_path / "x", limit, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout.splitlines()[-1])
    assert growth <= limit, f"{growth / 2**20:.1f} MiB"
