"""The hidden sibling: one writer, nothing left behind, old or new and nothing between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lazyio.errors import TargetError, TargetLockedError
from lazyio.safety import lock
from lazyio.safety.workdir import WorkDirectory

HOLD = """
import sys, time
from pathlib import Path
from lazyio.safety.workdir import WorkDirectory
work = WorkDirectory(Path(sys.argv[1]))
work.built.write_text("half")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Start another process that is at work on ``tmp_path / "target"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "target")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_publish_gives_the_final_name(tmp_path: Path) -> None:
    """What was built gets the name, and the hidden folder is gone."""
    with WorkDirectory(tmp_path / "target") as work:
        work.built.write_text("new")
        assert not (tmp_path / "target").exists()
        work.publish()
    assert (tmp_path / "target").read_text() == "new"
    assert os.listdir(tmp_path) == ["target"]


def test_leaving_without_publishing_leaves_the_old(tmp_path: Path) -> None:
    """An error on the way leaves the old file as it was, and nothing else."""
    (tmp_path / "target").write_text("old")

    def fail() -> None:
        with WorkDirectory(tmp_path / "target") as work:
            work.built.write_text("new")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert (tmp_path / "target").read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


def test_a_directory_is_replaced(tmp_path: Path) -> None:
    """A directory in the way is exchanged as a whole."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").write_text("old")
    with WorkDirectory(tmp_path / "target") as work:
        work.built.mkdir()
        (work.built / "new").write_text("new")
        work.publish()
    assert os.listdir(tmp_path / "target") == ["new"]
    assert os.listdir(tmp_path) == ["target"]


def test_a_directory_is_replaced_where_nothing_can_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without renameat2 the old directory steps aside, and comes back if need be."""
    monkeypatch.setattr("ctypes.CDLL", lambda *a, **k: object())
    test_a_directory_is_replaced(tmp_path)


def test_an_old_target_without_successor_comes_back(tmp_path: Path) -> None:
    """Killed between its two renames, a run has left the old directory aside."""
    hidden = tmp_path / ".target.lazyio"
    (hidden / "old").mkdir(parents=True)
    (hidden / "old" / "value").write_text("old")
    with WorkDirectory(tmp_path / "target"):
        assert (tmp_path / "target" / "value").read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


def test_the_mode_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    """Who may read a file does not change because it was written again."""
    (tmp_path / "target").write_text("old")
    (tmp_path / "target").chmod(0o640)
    with WorkDirectory(tmp_path / "target") as work:
        work.built.write_text("new")
        work.publish()
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path, holder) -> None:
    """The message names who is at work; what they have built is untouched."""
    with pytest.raises(TargetLockedError, match=rf"process {holder.pid} on .* since"):
        WorkDirectory(tmp_path / "target")
    assert (tmp_path / ".target.lazyio" / "data").read_text() == "half"


def test_a_killed_writer_leaves_no_lock_and_is_cleared_away(tmp_path: Path, holder) -> None:
    """After SIGKILL the next writer gets the lock at once and a clean folder."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    began = time.perf_counter()
    with WorkDirectory(tmp_path / "target") as work:
        assert not work.built.exists()
    assert time.perf_counter() - began < 1
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """Nothing is made on the way to a target."""
    with pytest.raises(TargetError, match=r"the folder .*missing does not exist; create it"):
        WorkDirectory(tmp_path / "missing" / "target")


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOLCK, as on some network file systems, is refused by name."""

    def no_locks(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with pytest.raises(TargetError, match=r"without working locks.*local disk"):
        WorkDirectory(tmp_path / "target")


@pytest.mark.parametrize("name", ["a\nb", "ünïcode", "x" * 255, "-rf", " "])
def test_any_name_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    """Odd names are fine, and so is one as long as names may be."""
    with WorkDirectory(tmp_path / name) as work:
        work.built.write_text("new")
        work.publish()
    assert os.listdir(tmp_path) == [name]
