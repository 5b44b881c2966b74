"""Several names given as one: all of them, or none."""

import errno
import os
from pathlib import Path

import pytest

from lazyio.errors import TargetError, TargetLockedError
from lazyio.safety import job, lock, names
from lazyio.safety.leftovers import clean, finish_change, leftovers, recover
from lazyio.safety.publishing import publish_in
from lazyio.safety.workdir import WorkDirectory

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


def publish(home: Path) -> None:
    works = works_in(home)
    with works[0], works[1]:
        publish_in(home, works, lambda: {home / "all": b"new", home / "g" / "one": b"new"})


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

    monkeypatch.setattr("lazyio.safety.job.write_whole", fails)
    with pytest.raises(TargetError, match="nothing is published") as caught:
        publish(home)
    assert caught.value.errno == number
    assert content(home) == OLD
    assert leftovers(home) == []


def test_what_is_noted_and_fails_is_done_later(home: Path, monkeypatch) -> None:
    """The error says how, and a call on any array of the store does it."""

    def fails(path: Path, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(names, "write_whole", fails)
        with pytest.raises(TargetError, match="lazyio recover"):
            publish(home)
    with WorkDirectory(home / "g" / "b", folder=home):
        pass
    recover(home)
    assert content(home) == NEW


def test_cleaning_removes_nothing_that_is_begun(home: Path, monkeypatch) -> None:
    """What is half done is for recover to finish."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(names, "_move", fails)
        with pytest.raises(TargetError):
            publish(home)
    clean(home)
    assert content(home) == NEW


@pytest.mark.parametrize(
    "path", ["../stolen", "/tmp/lazyio-stolen", "way/out", ".lazyio/../../stolen"]
)
def test_a_store_from_a_stranger(home: Path, path: str) -> None:
    """What is said to be begun never leads out of the store."""
    (home / "way").symlink_to(home.parent)
    for facts in (
        {"moves": [], "files": {path: "00"}},
        {"moves": [["a", path]], "files": {}},
        {"moves": [[path, "b"]], "files": {}},
    ):
        (home / names.FOLDER).mkdir(exist_ok=True)
        job.save(home / names.FOLDER / "steps.json", facts)
        (home.parent / "out").write_text("mine")
        finish_change(home / "a")
        assert (home.parent / "out").read_text() == "mine"
        assert not (home.parent / "stolen").exists()
        assert not Path("/tmp/lazyio-stolen").exists()
        assert {name: text for name, text in content(home).items() if "way" not in name} == OLD


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"moves": 3}', "no JSON"])
def test_steps_that_are_none(home: Path, text: str) -> None:
    """Nothing is done by them, and they are in nobody's way."""
    (home / names.FOLDER).mkdir()
    (home / names.FOLDER / "steps.json").write_text(text)
    (home / names.FOLDER / "theirs").write_text("theirs")
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
        publish_in(home, [work], dict)
    assert content(home) == {"all": "old", "zarr.json": ""}


def test_steps_in_a_folder_of_all_users(home: Path) -> None:
    """Only the stores that an array lies in are looked at, and no folder above them."""
    above = home.parent
    (above / names.FOLDER).mkdir()
    job.save(above / names.FOLDER / "steps.json", {"moves": [], "files": {"store/all": "00"}})
    finish_change(home / "a")
    assert content(home) == OLD
