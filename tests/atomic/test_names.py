"""Several names given as one: all of them, or none."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from lazyio.atomic import journal as job
from lazyio.atomic import lock
from lazyio.atomic import publish_steps as names
from lazyio.atomic.recovery import clean, leftovers, recover
from lazyio.atomic.workdir import WorkDirectory, publish_in
from lazyio.errors import SourceError, TargetError, TargetLockedError

CALLS = ("rename", "replace", "fsync", "unlink", "mkdir")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return _store(tmp_path / "store")


def _store(home: Path) -> Path:
    (home / "a").mkdir(parents=True)
    (home / "a" / "x").write_text("old")
    (home / "all").write_text("old")
    (home / "zarr.json").write_text("")
    return home


def works_in(home: Path) -> list[WorkDirectory]:
    works = [WorkDirectory(home / name, folder=home) for name in ("a", "g/b")]
    for work in works:
        work.built.mkdir()
        (work.built / "x").write_text("new")
    return works


def publish(home: Path) -> tuple[tuple[str, str], ...]:
    works = works_in(home)
    with works[0], works[1]:
        return publish_in(home, works, lambda: steps_of(home, works))


def steps_of(home: Path, works: list[WorkDirectory]) -> names.PublishSteps:
    return names.PublishSteps(
        moves=tuple((work.built, work.target) for work in works),
        files={home / "all": b"new", home / "g" / "one": b"new"},
    )


def content(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()
    }


OLD = {"a/x": "old", "all": "old", "zarr.json": ""}
NEW = {"a/x": "new", "all": "new", "g/b/x": "new", "g/one": "new", "zarr.json": ""}


def test_all_of_it(home: Path) -> None:
    """Arrays and files have their names, and nothing else is left."""
    publish(home)
    assert content(home) == NEW


@pytest.mark.parametrize("by", ["recover", "write"])
def test_a_kill_after_any_step(tmp_path: Path, by: str) -> None:
    """Old before the steps are known, new from then on, once somebody has come by."""
    seen = set()
    for last in range(200):
        home = _store(tmp_path / str(last))
        child = os.fork()
        if not child:
            _kill_after(last)
            publish(home)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if by == "recover":
            recover(home)
        else:
            with WorkDirectory(home / "a", folder=home), WorkDirectory(home / "g/b", folder=home):
                found = {name: text for name, text in content(home).items() if "lazyio" not in name}
            names.finish(home, tidy=True)
            assert content(home) == found
        assert content(home) in (OLD, NEW), last
        assert leftovers(home) == []
        seen.add((home / "all").read_text())
        if not status:
            break
    assert seen == {"old", "new"}
    assert last > 20


def _kill_after(last: int) -> None:
    """End the process after so many calls that change names or files."""
    left = [last]

    def wrapped(real):
        def call(*args, **kwargs):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_cannot_be_noted_is_not_done(home: Path, monkeypatch, number) -> None:
    """No name is given, and nothing is left."""

    def fails(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("lazyio.atomic.journal.write_whole", fails)
    with pytest.raises(TargetError, match="nothing is published") as caught:
        publish(home)
    assert caught.value.errno == number
    assert content(home) == OLD
    assert leftovers(home) == []


def begin(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish on a disk that fails once the steps are on it."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(names, "_move", fails)
        ((code, what),) = publish(home)
    assert code == "unfinished"
    assert "lazyio recover" in what
    monkeypatch.setattr(names, "_READERS_PATIENCE", 0.05)


def everything(home: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in home.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_what_is_noted_and_fails_is_made_all_the_same(home: Path, monkeypatch) -> None:
    """The call returns, its report says so, and a call on any array of the store does it."""
    begin(home, monkeypatch)
    with WorkDirectory(home / "g" / "b", folder=home):
        pass
    recover(home)
    assert content(home) == NEW


def test_a_read_finishes_nothing(home: Path, monkeypatch) -> None:
    """It says what does, and touches nothing, however often it is tried."""
    begin(home, monkeypatch)
    before = everything(home)
    for _ in range(2):
        with pytest.raises(SourceError, match="lazyio recover"):
            names.check_finished(home / "a")
    assert everything(home) == before


def test_a_read_waits_for_who_is_publishing(home: Path, monkeypatch) -> None:
    """Milliseconds are no error."""
    begin(home, monkeypatch)
    monkeypatch.setattr(names, "_READERS_PATIENCE", 10)
    held = lock.acquire(home / names.FOLDER / lock.NAME, home)

    def publish() -> None:
        time.sleep(0.2)
        held.release()
        recover(home)

    thread = threading.Thread(target=publish)
    thread.start()
    while True:
        try:
            names.check_finished(home / "a")
            break
        except SourceError:
            # Between our lock and the one of recover nobody holds it.
            assert not thread.is_alive() or not lock.is_held(home / names.FOLDER / lock.NAME)
    thread.join()
    assert content(home) == NEW


def test_a_read_does_not_wait_for_who_is_dead(home: Path, monkeypatch, slept) -> None:
    """It is told at once."""
    begin(home, monkeypatch)
    monkeypatch.setattr(names, "_READERS_PATIENCE", 60)
    with pytest.raises(SourceError, match="lazyio recover"):
        names.check_finished(home / "a")
    assert slept == []


def test_cleaning_discards_nothing_that_is_complete(home: Path, monkeypatch) -> None:
    """It says what finishes it."""
    begin(home, monkeypatch)
    before = everything(home)
    with pytest.raises(TargetError, match="lazyio recover"):
        clean(home)
    assert everything(home) == before
    recover(home)
    assert content(home) == NEW


@pytest.mark.parametrize("what", ["a/x", "all", "a/another", "g/one"])
def test_over_what_another_program_has_changed(home: Path, monkeypatch, what: str) -> None:
    """Nothing is touched, and both sides are named."""
    begin(home, monkeypatch)
    (home / what).parent.mkdir(exist_ok=True)
    (home / what).write_text("theirs")
    before = everything(home)
    for call in (recover, lambda home: WorkDirectory(home / "a", folder=home)):
        with pytest.raises(TargetError, match="changed by another program") as caught:
            call(home)
        assert str(home / ".a.lazyio") in str(caught.value)
    assert everything(home) == before


def test_over_what_another_program_has_removed(home: Path, monkeypatch) -> None:
    """It is refused as well, and there is a way out."""
    begin(home, monkeypatch)
    shutil.rmtree(home / "a")
    with pytest.raises(TargetError, match="to keep the store as it is now, remove") as caught:
        recover(home)
    Path(str(caught.value).rpartition("remove ")[2]).unlink()
    clean(home)
    assert content(home) == {"all": "old", "zarr.json": ""}


def test_an_array_is_closed_meanwhile(home: Path, monkeypatch) -> None:
    """What is neither old nor new cannot be opened, and comes back at the end."""
    (home / "a" / "zarr.json").write_text("{}")
    built = home / ".a.lazyio" / "data"
    built.mkdir(parents=True)
    (built / "y").write_text("new")
    steps = names.PublishSteps(
        closed={home / "a" / "zarr.json": None, home / "all": b"none"},
        moves=((built / "y", home / "a" / "y"),),
        removals=(home / "a" / "x",),
        files={home / "all": b"all", home / "a" / "zarr.json": b"{1}"},
    )
    seen = []
    with names.naming(home):
        begun = steps.begin(home)
        real = names._move
        monkeypatch.setattr(names, "_move", lambda *them: (seen.append(content(home)), real(*them)))
        begun.take(home)
    assert "a/zarr.json" not in seen[0]
    assert seen[0]["all"] == "none"
    (home / ".a.lazyio" / "data").rmdir()
    assert content(home) == {"a/y": "new", "a/zarr.json": "{1}", "all": "all", "zarr.json": ""}


@pytest.mark.parametrize(
    "path", ["../stolen", "/tmp/lazyio-stolen", "way/out", ".lazyio/../../stolen"]
)
def test_a_store_from_a_stranger(home: Path, path: str, monkeypatch) -> None:
    """What is said to be begun never leads out of the store."""
    (home / "way").symlink_to(home.parent)
    monkeypatch.setattr(names, "_READERS_PATIENCE", 0.01)
    nothing = {"closed": {}, "moves": [], "removals": [], "files": {}, "old": {}}
    for facts in (
        nothing | {"files": {path: "00"}},
        nothing | {"closed": {path: None}},
        nothing | {"removals": [[path, None]]},
        nothing | {"moves": [["a", path, None, None]]},
        nothing | {"moves": [[path, "b", None, None]]},
    ):
        (home / names.FOLDER).mkdir(exist_ok=True)
        job.save(home / names.FOLDER / "steps.json", facts)
        (home.parent / "out").write_text("mine")
        with pytest.raises(TargetError, match=r"not in .*store"):
            recover(home)
        with pytest.raises(SourceError, match="lazyio recover"):
            names.check_finished(home / "a")
        (home / names.FOLDER / "steps.json").unlink()
        assert (home.parent / "out").read_text() == "mine"
        assert not (home.parent / "stolen").exists()
        assert not Path("/tmp/lazyio-stolen").exists()
        assert theirs(home, "way", names.FOLDER) == OLD


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"moves": 3}', "no JSON"])
def test_steps_that_cannot_be_read(home: Path, text: str) -> None:
    """What was begun is not known, so that nothing is done over it."""
    (home / names.FOLDER).mkdir()
    (home / names.FOLDER / "steps.json").write_text(text)
    (home / names.FOLDER / "theirs").write_text("theirs")
    with pytest.raises(TargetError, match="cannot be read; to keep the store as it is now"):
        publish(home)
    (home / names.FOLDER / "steps.json").unlink()
    publish(home)
    assert content(home) == {**NEW, ".lazyio/theirs": "theirs"}


def test_one_at_a_time(home: Path, monkeypatch) -> None:
    """Who is not let in has published nothing."""
    monkeypatch.setattr(names, "_PATIENCE", 0.1)
    with names.naming(home), pytest.raises(TargetLockedError):
        publish(home)
    assert content(home) == OLD
    assert not lock.is_held(home / names.FOLDER / lock.NAME)


def test_one_array_takes_one_step(home: Path) -> None:
    """Nothing has to be noted where a rename will do."""
    work = WorkDirectory(home / "a", folder=home)
    work.built.mkdir()
    with work:
        publish_in(home, [work], lambda: names.PublishSteps(moves=((work.built, work.target),)))
    assert content(home) == {"all": "old", "zarr.json": ""}


def test_steps_in_a_folder_of_all_users(home: Path) -> None:
    """Only the stores that an array lies in are looked at, and no folder above them."""
    above = home.parent
    (above / names.FOLDER).mkdir()
    job.save(above / names.FOLDER / "steps.json", {"moves": [], "files": {"store/all": "00"}})
    names.check_finished(home / "a")
    assert content(home) == OLD


def theirs(home: Path, *without: str) -> dict[str, str]:
    found = content(home).items()
    return {name: text for name, text in found if not any(one in name for one in without)}
