"""The hidden sibling: one writer, nothing left behind, old or new and nothing between."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lazyio.atomic import lock
from lazyio.atomic.workdir import WorkDirectory
from lazyio.errors import TargetError, TargetLockedError

HOLD = """
import sys, time
from pathlib import Path
from lazyio.atomic.workdir import WorkDirectory
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


def test_a_killed_writer_leaves_no_lock_and_is_cleared_away(tmp_path: Path, holder, slept) -> None:
    """After SIGKILL the next writer gets the lock at once and a clean folder."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with WorkDirectory(tmp_path / "target") as work:
        assert not work.built.exists()
    assert slept == []
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """Nothing is made on the way to a target."""
    with pytest.raises(TargetError, match=r"the folder .*missing does not exist; create it"):
        WorkDirectory(tmp_path / "missing" / "target")


def no_locks(*args):
    """Stand for a disk that fails."""
    raise OSError(errno.EIO, "Input/output error")


def test_a_file_system_with_broken_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk is refused by name."""
    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with pytest.raises(TargetError, match=r"whose locks do not work.*local disk"):
        WorkDirectory(tmp_path / "target")


@pytest.mark.parametrize("name", ["a\nb", "ünïcode", "x" * 255, "-rf", " "])
def test_any_name_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    """Odd names are fine, and so is one as long as names may be."""
    with WorkDirectory(tmp_path / name) as work:
        work.built.write_text("new")
        work.publish()
    assert os.listdir(tmp_path) == [name]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """A link in place of the hidden folder leads to what is not ours: it is refused."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("precious")
    (tmp_path / ".target.lazyio").symlink_to(tmp_path / "precious")
    with pytest.raises(TargetError, match="is a link"):
        WorkDirectory(tmp_path / "target")
    assert (tmp_path / "precious" / "data").read_text() == "precious"


def test_a_planted_lock_is_not_followed(tmp_path: Path) -> None:
    """Neither is a link in place of the lock."""
    (tmp_path / ".target.lazyio").mkdir()
    (tmp_path / ".target.lazyio" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetError, match="cannot be written"):
        WorkDirectory(tmp_path / "target")
    assert not (tmp_path / "elsewhere").exists()


def test_a_target_that_was_changed_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """What another program wrote since we began is kept, and that is said."""
    (tmp_path / "target").write_text("old")
    with WorkDirectory(tmp_path / "target") as work:
        work.built.write_text("new")
        (tmp_path / "target").write_text("theirs, longer")
        with pytest.raises(TargetError, match="changed by another program"):
            work.publish()
    assert (tmp_path / "target").read_text() == "theirs, longer"


def test_a_target_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """The same for a name that was free when we began."""
    with WorkDirectory(tmp_path / "target") as work:
        work.built.write_text("new")
        (tmp_path / "target").write_text("theirs")
        with pytest.raises(TargetError, match="changed by another program"):
            work.publish()
    assert (tmp_path / "target").read_text() == "theirs"


def test_the_next_writer_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who enters just as we leave has a lock and data that we do not remove."""
    entered = []
    remove = Path.rmdir

    def enter_first(path: Path) -> None:
        if not entered:
            entered.append(WorkDirectory(tmp_path / "target"))
            entered[0].built.write_text("theirs")
        remove(path)

    monkeypatch.setattr(Path, "rmdir", enter_first)
    with WorkDirectory(tmp_path / "target"):
        pass
    assert entered[0].built.read_text() == "theirs"
    with pytest.raises(TargetLockedError, match="is being written"):
        WorkDirectory(tmp_path / "target")
    with entered[0]:
        pass
    assert os.listdir(tmp_path) == []


def test_no_folder_is_left_where_locks_do_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused file system is left as it was."""
    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with pytest.raises(TargetError, match="locks do not work"):
        WorkDirectory(tmp_path / "target")
    assert os.listdir(tmp_path) == []
