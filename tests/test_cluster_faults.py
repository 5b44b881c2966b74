"""Clusters that lose what they are made of: workers, all of them, the scheduler, the client."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.atomic.recovery import leftovers
from lazyio.errors import BlockError

distributed = pytest.importorskip("distributed")

VALUES = np.arange(40_000, dtype="i4").reshape(400, 100)
LOCAL = {
    "n_workers": 2,
    "threads_per_worker": 1,
    "dashboard_address": ":0",
    "silence_logs": logging.CRITICAL,
}


@pytest.fixture(params=["h5", "zarr"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def computed(log: Path, kill_at: int | None = None, seconds: float = 0.05) -> da.Array:
    """Return an array whose blocks tell of themselves, and may end the worker they are on."""

    def block(block_id):
        with log.open("a") as file:
            file.write(f"{block_id[0]}\n")
        time.sleep(seconds)
        if block_id[0] == kill_at:
            os._exit(9)
        return VALUES[20 * block_id[0] : 20 * block_id[0] + 20]

    return da.map_blocks(block, chunks=((20,) * 20, (100,)), dtype="i4", name="computed-values")


def write(data, path, **options):
    to = lazyio.to_hdf5 if path.suffix == ".h5" else lazyio.to_zarr
    return to(data, path, chunks=(20, 100), resume=True, **options)


def is_right(path) -> bool:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = file["data"][...]
    else:
        found = zarr.open_array(path, mode="r")[...]
    return np.array_equal(found, VALUES) and lazyio.verify(path).status == "ok"


def blocks_in(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()]


def test_a_worker_is_killed(tmp_path, path):
    """The cluster computes again what it had; nothing is written twice, or lost."""
    log = tmp_path / "log"
    with distributed.Client(**LOCAL) as client:
        pids = list(client.run(os.getpid).values())
        killed = []

        def kill(step):
            if step.n_done == 5 and not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        write(computed(log), path, progress=kill)
    assert killed
    assert is_right(path)
    assert set(blocks_in(log)) == set(range(20))


def test_a_block_that_kills_every_worker(tmp_path, path):
    """The error names it; on another cluster only what is missing is computed."""
    log = tmp_path / "log"
    with distributed.Client(**LOCAL) as client:
        client.run(lambda: None)
        with pytest.raises(BlockError, match=r"\[240:260, 0:100\].*KilledWorker"):
            write(computed(log, kill_at=12), path)
    assert not path.exists()
    (left,) = leftovers(path)
    assert left.n_chunks > 0
    log.unlink()
    with distributed.Client(**LOCAL):
        report = write(computed(log), path)
    assert is_right(path)
    assert report.n_resumed >= left.n_chunks > 0
    # And one that is computed again, to be compared.
    assert len(blocks_in(log)) == 20 - report.n_resumed + 1
    with distributed.Client(**LOCAL):
        assert write(computed(log), path).n_resumed == 20


def test_the_client_is_killed(tmp_path, path):
    """The next one goes on, on the same cluster."""
    log = tmp_path / "log"
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import distributed
from test_cluster_faults import computed, write
with distributed.Client(sys.argv[1]):
    write(computed(Path(sys.argv[2])), Path(sys.argv[3]))
"""
    with distributed.LocalCluster(**LOCAL) as cluster:
        command = [sys.executable, "-c", script, cluster.scheduler_address, str(log), str(path)]
        process = subprocess.Popen(command)
        while not path.exists() and sum(left.n_chunks for left in leftovers(path)) < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not path.exists()
        (left,) = leftovers(path)
        log.write_text("")
        with distributed.Client(cluster):
            report = write(computed(log), path)
    assert is_right(path)
    assert report.n_resumed >= left.n_chunks >= 5
    # What the client before had asked for may still be under way.
    assert len(blocks_in(log)) <= 20 - report.n_resumed + 4


def test_the_scheduler_is_killed(tmp_path, path):
    """An error, and no wait for ever; the next cluster goes on."""
    log, file = tmp_path / "log", tmp_path / "scheduler.json"
    commands = [
        ["scheduler", "--scheduler-file", str(file), "--port", "0", "--no-dashboard"],
        ["worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"],
    ]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]],
                    stderr=subprocess.DEVNULL,
                )
            )
            for command in commands
        ]
        stack.callback(lambda: [process.kill() for process in processes])
        client = distributed.Client(scheduler_file=str(file), timeout=30)
        stack.callback(lambda: client.close(timeout=1))

        def kill(step):
            if step.n_done == 5:
                processes[0].kill()

        with pytest.raises(BlockError):
            write(computed(log), path, progress=kill)
    assert not path.exists()
    (left,) = leftovers(path)
    assert left.n_chunks >= 5
    log.unlink()
    report = write(computed(log), path)
    assert is_right(path)
    # And one that is computed again, to be compared.
    assert len(blocks_in(log)) == 20 - report.n_resumed + 1
