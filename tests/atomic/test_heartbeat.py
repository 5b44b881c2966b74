"""The lock of file systems without locks: one holder, taken over when dead and never else."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kills import killed

from lazyio.atomic import heartbeat, lock
from lazyio.atomic.heartbeat import HeartbeatLock
from lazyio.atomic.patience import Patience
from lazyio.atomic.workdir import WorkDirectory
from lazyio.errors import TargetError, TargetLockedError

ELSEWHERE = {"pid": 7, "host": "node12", "since": "yesterday", "machine": "m", "started": "1"}


def no_locks(number: int = errno.ENOLCK):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture(autouse=True)
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse locks, as some network file systems do."""
    monkeypatch.setattr(lock.fcntl, "flock", no_locks())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a lock over once it was seen unchanged for a tenth of a second."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    monkeypatch.setattr(heartbeat, "MOST_MISSED", 10)


def held_elsewhere(path: Path, name: str = "theirs") -> Path:
    """Leave the lock of a machine that is not this one."""
    (path / lock.NAME).mkdir(parents=True)
    (path / lock.NAME / name).write_text(json.dumps(ELSEWHERE | {"beat": 1}))
    return path / lock.NAME / name


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_target_is_published(tmp_path: Path, monkeypatch, number: int) -> None:
    """Whatever a file system says that has no locks; nothing else is left."""
    monkeypatch.setattr(lock.fcntl, "flock", no_locks(number))
    (tmp_path / "target").write_text("old")
    with WorkDirectory(tmp_path / "target") as work:
        work.built.write_text("new")
        with pytest.raises(TargetLockedError, match="another call of this process"):
            WorkDirectory(tmp_path / "target")
        work.publish()
    assert (tmp_path / "target").read_text() == "new"
    assert os.listdir(tmp_path) == ["target"]


def test_one_at_a_time(tmp_path: Path) -> None:
    """Several processes count in a file that each of them reads and writes."""
    count = tmp_path / "count"
    count.write_text("0")
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            status = 1
            try:
                for _ in range(15):
                    with WorkDirectory(count, patience=Patience(60)) as work:
                        work.built.write_text(str(int(count.read_text()) + 1))
                        work.publish()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert count.read_text() == "60"
    assert os.listdir(tmp_path) == ["count"]


HOLD = """
import os, sys, time
from pathlib import Path
from lazyio.atomic import lock
from lazyio.atomic.workdir import WorkDirectory
def flock(*_):
    raise OSError(37, "No locks available")
lock.fcntl.flock = flock
work = WorkDirectory(Path(sys.argv[1]))
work.built.write_text("half")
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_holder_of_this_machine(tmp_path: Path, slept) -> None:
    """The system knows that it is dead: nobody waits."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "target")], stdout=subprocess.PIPE, text=True
    )
    with held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        assert lock.is_held(tmp_path / ".target.lazyio" / lock.NAME)
        with pytest.raises(TargetLockedError, match=rf"process {held.pid} on .* since"):
            WorkDirectory(tmp_path / "target")
        held.send_signal(signal.SIGKILL)
        held.wait()
        assert not lock.is_held(tmp_path / ".target.lazyio" / lock.NAME)
        with WorkDirectory(tmp_path / "target") as work:
            assert os.listdir(work.path) == [lock.NAME]
    assert slept == []
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("hasty")
def test_a_dead_holder_of_another_machine(tmp_path: Path) -> None:
    """It is waited for until it was seen to do nothing, by our clock."""
    held_elsewhere(tmp_path / ".target.lazyio")
    with pytest.raises(TargetLockedError, match=r"process 7 on node12 since yesterday.*0.1 s"):
        WorkDirectory(tmp_path / "target")
    with WorkDirectory(tmp_path / "target", patience=Patience(60)) as work:
        work.built.write_text("new")
        work.publish()
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.usefixtures("hasty")
def test_a_holder_that_gives_signs_of_life(tmp_path: Path, monkeypatch) -> None:
    """It keeps its lock for as long as it likes."""
    theirs, ended = held_elsewhere(tmp_path / ".target.lazyio"), threading.Event()

    def live() -> None:
        at = 1
        while not ended.wait(0.01):
            at += 1
            theirs.write_text(json.dumps(ELSEWHERE | {"beat": at}))

    monkeypatch.setattr(heartbeat, "MOST_MISSED", 500)
    thread = threading.Thread(target=live)
    thread.start()
    with pytest.raises(TargetLockedError, match="node12"):
        WorkDirectory(tmp_path / "target", patience=Patience(1))
    ended.set()
    thread.join()
    assert theirs.exists()


@pytest.mark.usefixtures("hasty")
def test_only_one_takes_a_lock_over(tmp_path: Path) -> None:
    """Of many who see at once that its holder is dead."""
    for turn in range(20):
        folder = tmp_path / str(turn)
        held_elsewhere(folder)
        path, taken, gate = folder / lock.NAME, [], threading.Barrier(6)
        with pytest.raises(TargetLockedError, match="node12"):
            heartbeat.acquire(path, "x")
        time.sleep(0.12)

        def take(path=path, taken=taken, gate=gate) -> None:
            gate.wait()
            with contextlib.suppress(TargetLockedError):
                taken.append(heartbeat.acquire(path, "x"))

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        assert taken[0].is_there()
        taken[0].release()
        assert os.listdir(folder) == []


def taken_over(path: Path) -> HeartbeatLock:
    """Take a lock over from this process, as one does that saw it do nothing for long."""
    (name,) = os.listdir(path)
    os.rename(path / name, path / "theirs")
    return HeartbeatLock(path, "theirs")


def test_who_has_lost_a_lock_publishes_nothing(tmp_path: Path) -> None:
    """What the other has built and published stays."""
    (tmp_path / "target").write_text("old")
    work = WorkDirectory(tmp_path / "target")
    with work:
        work.built.write_text("late")
        theirs = taken_over(work.path / lock.NAME)
        with pytest.raises(TargetError, match="locked by another process by now") as caught:
            work.publish()
        assert caught.value.errno == errno.ESTALE
        assert theirs.is_there()
    assert (tmp_path / "target").read_text() == "old"


def test_who_has_lost_a_lock_leaves_what_is_the_others(tmp_path: Path) -> None:
    """The folder is theirs, with all that is in it."""
    (tmp_path / "target").write_text("old")
    with WorkDirectory(tmp_path / "target") as work:
        theirs = taken_over(work.path / lock.NAME)
        (work.path / "data-theirs").write_text("new")
    assert theirs.is_there()
    assert (work.path / "data-theirs").read_text() == "new"


def test_an_empty_file_of_one_who_found_out(tmp_path: Path) -> None:
    """A kill between asking the kernel and removing the file leaves it there."""
    (tmp_path / ".target.lazyio").mkdir()
    (tmp_path / ".target.lazyio" / lock.NAME).touch()
    held = heartbeat.acquire(tmp_path / ".target.lazyio" / lock.NAME, "target")
    assert held.is_there()
    held.release()


def test_a_lock_of_the_kernel_is_not_taken_over(tmp_path: Path) -> None:
    """Of a machine that mounts the file system with locks: nothing tells whether it is held."""
    (tmp_path / ".target.lazyio").mkdir()
    (tmp_path / ".target.lazyio" / lock.NAME).write_text(json.dumps(ELSEWHERE))
    with pytest.raises(TargetLockedError, match="mount the file system alike"):
        WorkDirectory(tmp_path / "target")
    assert (tmp_path / ".target.lazyio" / lock.NAME).is_file()


def test_one_who_has_locks_asks_the_heartbeat(tmp_path: Path, monkeypatch) -> None:
    """Where another machine has none."""
    held_elsewhere(tmp_path / ".target.lazyio")
    monkeypatch.undo()
    with pytest.raises(TargetLockedError, match="node12"):
        WorkDirectory(tmp_path / "target")


def test_a_forked_child_lets_go_of_nothing(tmp_path: Path) -> None:
    """The lock is the parent's."""
    with WorkDirectory(tmp_path / "target") as work:
        child = os.fork()
        if not child:
            work.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        work.check_lock()


def test_a_kill_after_any_step(tmp_path: Path) -> None:
    """The next one gets the lock at once, and publishes."""
    target = tmp_path / "target"

    def publish() -> None:
        with WorkDirectory(target) as work:
            work.built.write_text("new")
            work.publish()

    for last in range(100):
        target.write_text("old")
        if not killed(last, publish):
            break
        assert target.read_text() in ("old", "new")
        publish()
        assert target.read_text() == "new"
        assert os.listdir(tmp_path) == ["target"]
    assert 5 < last < 99
