"""Copies that are killed at any step and resumed, and the memory that a copy takes."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_oracle import assert_copied
from kills import CALLS, killed

import lazyio
from lazyio.errors import ResumeError, TargetExistsError

pytestmark = pytest.mark.usefixtures("in_this_process")

RULES = {"anew": {"compression": "gzip", "chunks": (40, 50)}}


def write_source(path: Path) -> None:
    """Write a file of which a dataset is passed through, one stored anew, and one in one piece."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w", userblock_size=512) as file:
        noise = random.integers(0, 99, (4000, 300), dtype="i2")
        file.create_dataset("passed", data=noise, chunks=(100, 100), compression="gzip")
        file.create_dataset("anew", data=noise[:400, :200], chunks=(50, 50), shuffle=True)
        file.create_dataset("run", data=np.arange(200_000.0))
        file["refs"] = np.array([file["anew"].ref, file["run"].ref], h5py.ref_dtype)
        file["passed"].attrs["ref"] = file["run"].ref


def killed_copy(src: Path, dst: Path, last: int, **options: Any) -> bool:
    """Copy in a child that ends after so many calls that change files; return whether it did."""
    return killed(last, lambda: lazyio.repack(src, dst, rules=RULES, **options), (*CALLS, "write"))


@pytest.mark.parametrize("old", [False, True])
def test_a_copy_is_there_whole_or_not_at_all(tmp_path: Path, old: bool) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_source(src)
    for last in (0, 1, 3, 10, 40, 150, 10_000):
        if old:
            dst.write_bytes(b"what was there")
        is_killed = killed_copy(src, dst, last, mode="w")
        if is_killed:
            assert (dst.read_bytes() == b"what was there") if old else not dst.exists()
        else:
            assert_copied(src, dst, anew=frozenset(["anew"]))
    assert not is_killed


def test_a_killed_copy_is_resumed(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_source(src)
    n_resumed = []
    for last in (5, 60, 150, 250, 350):
        assert killed_copy(src, dst, last, resume=True)
        assert not dst.exists()
        report = lazyio.repack(src, dst, rules=RULES, resume=True)
        assert_copied(src, dst, anew=frozenset(["anew"]))
        assert lazyio.verify(dst).status == "ok"
        n_resumed.append(report.n_resumed)
        again = lazyio.repack(src, dst, rules=RULES, resume=True)
        assert again.n_resumed == again.n_blocks
        dst.unlink()
    assert n_resumed[0] == 0
    assert n_resumed[-1] > 0


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_finished_copy_of_what_stays_as_it_is(tmp_path: Path, is_empty: bool) -> None:
    """Nothing of it is written by blocks; the same call again returns, another one does not."""
    src, dst, other = (tmp_path / f"{name}.h5" for name in ("src", "dst", "other"))
    for path in (src, other):
        with h5py.File(path, "w") as file:
            if not is_empty:
                file.create_dataset("x", data=np.arange(1000), chunks=(100,))
    for call in (lazyio.repack, lazyio.consolidate):
        dst.unlink(missing_ok=True)
        reports = [call(src, dst, resume=True) for _ in range(2)]
        assert reports[0].keys == reports[1].keys == (() if is_empty else ("x",))
        assert lazyio.verify(dst).status == ("unverifiable" if is_empty else "ok")
        before = dst.read_bytes()
        with pytest.raises(TargetExistsError, match="already exists"):
            call(other, dst, resume=True)
        with pytest.raises(TargetExistsError, match="already exists"):
            call(src, dst)
        assert dst.read_bytes() == before


def test_another_job_is_not_resumed(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_source(src)
    assert killed_copy(src, dst, 250, resume=True)
    with pytest.raises(ResumeError, match="anew: chunks was"):
        lazyio.repack(src, dst, rules={"anew": {"chunks": (20, 50)}}, resume=True)
    with h5py.File(src, "a") as file:
        file["anew"][0, 0] = 5
    with pytest.raises(ResumeError, match=r"file .*src.h5 was"):
        lazyio.repack(src, dst, rules=RULES, resume=True)
    lazyio.clean(dst)
    lazyio.repack(src, dst, rules=RULES, resume=True)
    assert_copied(src, dst, anew=frozenset(["anew"]))


MEASURE = """
import json, re, sys
from pathlib import Path
import dask, h5py, lazyio
dask.config.set(num_workers=2)
src, warm, out, limit, asked = *sys.argv[1:4], int(sys.argv[4]), json.loads(sys.argv[5])

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) << 10

lazyio.repack(warm, out + "-warm", memory_limit=limit, **asked)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
lazyio.repack(src, out, memory_limit=limit, **asked)
print(json.dumps(peak() - before))
"""
ASKED = {
    "passed through": {},
    "stored anew": {"compression": "zstd", "shuffle": True},
    "other chunks": {"rules": {"[xr]*": {"chunks": [2000, 8], "compression": None}}},
    "resumable": {"compression": "gzip", "compression_opts": 1, "resume": True},
}


@pytest.mark.parametrize("case", ASKED)
def test_a_copy_stays_within_the_limit(tmp_path: Path, warm: Any, case: str) -> None:
    limit, random = 32 << 20, np.random.default_rng(0)
    for name, n_rows in (("warm.h5", 2000), ("src.h5", 100_000)):
        with h5py.File(tmp_path / name, "w") as file:
            noise = random.integers(0, 2**12, (n_rows, 256), dtype="i2")
            file.create_dataset("x", data=noise, chunks=(512, 64), compression=1)
            file.create_dataset("run", data=noise)
            file["text"] = ["some text"] * n_rows
    arguments = [tmp_path / one for one in ("src.h5", "warm.h5", "out.h5")]
    done = warm.run(MEASURE, *arguments, limit, json.dumps(ASKED[case]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout.splitlines()[-1])
    assert growth <= limit, f"{growth / 2**20:.1f} MiB"
