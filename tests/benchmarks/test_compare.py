"""Turns, patience, and what is missing or fails, with a child process that is made up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare
from benchmarks.cases import Array, Job, from_json
from benchmarks.child import ChildError
from benchmarks.compare import Case, Contest
from benchmarks.rows import ROWS

ARRAY = Array(name="x", path="x", shape=(10, 10), dtype="<i2", chunks=(5, 5))
SECONDS = {"lazyio": 1.0, "h5py": 4.0, "zarr": 2.0, "dask": 3.0}


class Children:
    """Stands in for the processes, and remembers what they were given."""

    def __init__(self) -> None:
        self.batches: list[list[Job]] = []
        self.outcomes: dict[str, dict[str, Any]] = {}

    def __call__(self, module: str, argument: str) -> list[dict[str, Any]]:
        assert module == "one"
        jobs = from_json(argument)
        self.batches.append(jobs)
        for job in jobs:
            Path(job.output).touch()
        return [self._outcome(job) for job in jobs]

    def _outcome(self, job: Job) -> dict[str, Any]:
        done = {"seconds": SECONDS.get(job.contender, 1.0), "nbytes": 7, "is_synced_after": False}
        return self.outcomes.get(job.contender, done)

    @property
    def turns(self) -> list[list[str]]:
        return [[job.contender for job in batch] for batch in self.batches]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    found = Children()
    monkeypatch.setattr(compare, "run_child", found)
    return found


def case(*contenders: str, row: str = "hdf5:none") -> Case:
    return Case(array=ARRAY, row=ROWS[row], contenders=contenders)


def names(timings: Sequence[compare.Timing]) -> list[str]:
    return [one.contender for one in timings]


def test_contenders_take_turns_and_first_runs_are_checked(
    children: Children, tmp_path: Path
) -> None:
    timings = Contest(tmp_path, repeats=2, threads=2).run(case("lazyio", "h5py"))
    assert children.turns == [["lazyio"], ["h5py"], ["lazyio"], ["h5py"]]
    assert [batch[0].is_checked for batch in children.batches] == [True, True, False, False]
    assert [one.seconds for one in timings] == [[1.0, 1.0], [4.0, 4.0]]
    assert list(tmp_path.iterdir()) == []


def test_who_takes_too_long_does_not_go_on(children: Children, tmp_path: Path) -> None:
    contest = Contest(tmp_path, repeats=5, threads=2, patience=6)
    lazyio, h5py = contest.run(case("lazyio", "h5py"))
    assert (len(lazyio.seconds), len(h5py.seconds)) == (5, 2)


def test_missing_module_is_told_once(children: Children, tmp_path: Path) -> None:
    children.outcomes["h5py"] = {"missing": "h5py"}
    contest = Contest(tmp_path, repeats=3, threads=2)
    assert names(contest.run(case("lazyio", "h5py"))) == ["lazyio"]
    assert children.turns.count(["h5py"]) == 1
    assert contest.missing == {"h5py": "h5py"}


def test_failure_ends_one_row_of_one_contender(children: Children, tmp_path: Path) -> None:
    children.outcomes["h5py"] = {"failed": "ValueError: wrong"}
    contest = Contest(tmp_path, repeats=3, threads=2)
    assert names(contest.run(case("lazyio", "h5py"))) == ["lazyio"]
    assert contest.failed == {("x", "hdf5:none", "h5py"): "ValueError: wrong"}
    children.outcomes.clear()
    assert names(contest.run(case("h5py", row="hdf5:lz4"))) == ["h5py"]


def test_process_that_dies_fails_all_its_jobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def die(*_: str) -> None:
        raise ChildError("exit status -11")

    monkeypatch.setattr(compare, "run_child", die)
    contest = Contest(tmp_path, repeats=1, threads=2)
    assert contest.run_once([case("lazyio"), case("lazyio", row="hdf5:lz4")]) == [[], []]
    assert [key[1] for key in contest.failed] == ["hdf5:none", "hdf5:lz4"]


def test_what_is_read_is_written_first_by_a_stock_library(
    children: Children, tmp_path: Path
) -> None:
    Contest(tmp_path, repeats=2, threads=2).run(case("lazyio", "dask", row="read-zarr:zstd"))
    stored, *read = [batch[0] for batch in children.batches]
    assert (stored.contender, stored.action) == ("zarr", "write")
    assert {job.action for job in read} == {"read"}
    assert {job.output for job in read} == {stored.output}
    assert list(tmp_path.iterdir()) == []


def test_one_run_of_each_is_one_process_for_each(children: Children, tmp_path: Path) -> None:
    cases = [case("lazyio", "h5py"), case("lazyio", "dask", row="read-hdf5:lz4")]
    rows = Contest(tmp_path, repeats=3, threads=2).run_once(cases)
    assert children.turns == [["h5py"], ["lazyio", "lazyio"], ["h5py"], ["dask"]]
    assert [names(row) for row in rows] == [["lazyio", "h5py"], ["lazyio", "dask"]]
    written = [job.output for batch in children.batches for job in batch if job.action == "write"]
    assert len(set(written)) == len(written)


def test_only_writes_are_synced(children: Children, tmp_path: Path) -> None:
    contest = Contest(tmp_path, repeats=1, threads=2, is_synced=True)
    children.outcomes["h5py"] = {"seconds": 1.0, "nbytes": 7, "is_synced_after": True}
    contest.run(case("h5py", "lazyio"))
    contest.run(case("dask", row="read-hdf5:none"))
    synced = {job.contender: job.is_synced for batch in children.batches for job in batch}
    assert synced == {"h5py": False, "lazyio": True, "dask": False}
    assert contest.synced_after == {"h5py"}
