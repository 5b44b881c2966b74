"""Zarr arrays that other programs write to, and changes of them that were interrupted."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from kills import killed

import lazyio
from lazyio.atomic import publish_steps as names
from lazyio.atomic.recovery import clean, recover
from lazyio.errors import ResumeError, SourceError, TargetError
from lazyio.storage.zarr.array import ZarrTarget

OLD = np.arange(100)
REGION = np.s_[15:55]


MAKERS = ["lazyio", "consolidated", "v2-consolidated"]


@pytest.fixture(params=MAKERS)
def store(request, tmp_path: Path) -> Path:
    """Return a store with an array, made in several ways."""
    return made(tmp_path / "s.zarr", request.param)


def made(path: Path, maker: str) -> Path:
    version = 2 if maker.startswith("v2") else 3
    if maker == "lazyio":
        lazyio.to_zarr(OLD, path, "g/x", chunks=(10,))
        return path
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.create_group("g").create_array("x", data=OLD, chunks=(10,))
    with warnings.catch_warnings():
        # That v3 has no specification of consolidated metadata is known.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path, zarr_format=version)
    return path


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_READERS_PATIENCE", 0.02)


def stock(path: Path, *, consolidated: bool | None = None):
    group = zarr.open_group(path, mode="r", use_consolidated=consolidated)
    return group["g/x"][...]


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def while_reading(edit):
    """Return data during the reading of which something is done."""

    def read(region):
        if region[0].start == 0:
            edit()
        return np.full(region[0].stop - region[0].start, -1)

    return lazyio.from_function(read, (40,), OLD.dtype, source_chunks=(10,))


def written() -> np.ndarray:
    new = OLD.copy()
    new[REGION] = -1
    return new


@pytest.mark.parametrize("at", [12, 30, 54, 57])
def test_another_program_writes_to_the_same_chunks(store: Path, at: int) -> None:
    """Theirs stays, ours is refused."""

    def edit() -> None:
        zarr.open_group(store, mode="r+")["g/x"][at] = 1000

    with pytest.raises(TargetError, match="was changed by another program"):
        lazyio.to_zarr(while_reading(edit), store, "g/x", region=REGION)
    expected = OLD.copy()
    expected[at] = 1000
    np.testing.assert_array_equal(stock(store), expected)
    assert not [one for one in store.rglob("*") if one.name.endswith(".lazyio")]


def test_another_program_writes_to_other_chunks(store: Path) -> None:
    """Neither side loses anything."""

    def edit() -> None:
        zarr.open_group(store, mode="r+")["g/x"][70:85] = 1000

    lazyio.to_zarr(while_reading(edit), store, "g/x", region=REGION)
    expected = written()
    expected[70:85] = 1000
    np.testing.assert_array_equal(stock(store), expected)


@pytest.mark.parametrize("what", ["attribute", "shape"])
def test_another_program_changes_what_the_array_is(store: Path, what: str) -> None:
    """Theirs stays."""

    def edit() -> None:
        array = zarr.open_group(store, mode="r+")["g/x"]
        if what == "shape":
            array.resize((120,))
        else:
            array.attrs["units"] = "V"

    with pytest.raises(TargetError, match="was changed by another program"):
        lazyio.to_zarr(while_reading(edit), store, "g/x", region=REGION)
    array = zarr.open_group(store, mode="r", use_consolidated=False)["g/x"]
    assert array.shape == ((120,) if what == "shape" else (100,))
    assert dict(array.attrs).get("units") == (None if what == "shape" else "V")
    np.testing.assert_array_equal(array[:100], OLD)


def test_another_program_writes_to_what_is_replaced(store: Path) -> None:
    """An array is not replaced when something in it is new."""

    def edit() -> None:
        zarr.open_group(store, mode="r+")["g/x"][70:85] = 1000

    version = 2 if (store / ".zgroup").exists() else 3
    with pytest.raises(TargetError, match="was changed by another program"):
        lazyio.to_zarr(
            while_reading(edit), store, "g/x", chunks=(10,), overwrite=True, zarr_format=version
        )
    expected = OLD.copy()
    expected[70:85] = 1000
    np.testing.assert_array_equal(stock(store), expected)


@pytest.mark.parametrize("what", ["append", "region"])
def test_only_what_is_touched_is_built(store: Path, monkeypatch, what: str) -> None:
    """Other objects are neither read, nor linked, nor given another name."""
    before = everything(store / "g" / "x")
    built = []
    real = ZarrTarget._write_object

    def note(self, name, pieces):
        built.append(Path(name).name.rpartition(".")[2])
        return real(self, name, pieces)

    monkeypatch.setattr(ZarrTarget, "_write_object", note)
    monkeypatch.setattr(os, "link", None)
    if what == "append":
        lazyio.to_zarr(np.arange(7), store, "g/x", append_dim=0)
        expected = np.concatenate([OLD, np.arange(7)])
        assert built == ["10"]
    else:
        lazyio.to_zarr(np.full(3, -1), store, "g/x", region=np.s_[28:31])
        expected = OLD.copy()
        expected[28:31] = -1
        assert sorted(built) == ["2", "3"]
    np.testing.assert_array_equal(stock(store), expected)
    after = everything(store / "g" / "x")
    same = {name for name, facts in after.items() if before.get(name) == facts}
    n_objects = 10 if what == "append" else 8
    assert sum(Path(name).name.lstrip("c.").isdigit() for name in same) == n_objects


def put(store: Path) -> None:
    lazyio.to_zarr(np.full(40, -1), store, "g/x", region=REGION, workers=1)


def put_more(store: Path) -> None:
    lazyio.to_zarr(np.full(25, -1), store, "g/x", append_dim=0, workers=1)


@pytest.mark.parametrize(
    ("maker", "call"), [("lazyio", put), ("consolidated", put), ("v2-consolidated", put_more)]
)
def test_a_kill_after_any_call(tmp_path: Path, in_this_process, maker: str, call) -> None:
    """Who opens it finds the old array, or the new one, or an error that says what to do."""
    new = written() if call is put else np.concatenate([OLD, np.full(25, -1)])
    template = made(tmp_path / "template", maker)
    found = set()
    for last in range(200):
        store = tmp_path / str(last)
        shutil.copytree(template, store)
        if not killed(last, lambda store=store: call(store)):
            break
        found.add(_judged(store, new))
        recover(store)
        read = stock(store)
        assert np.array_equal(read, OLD) or np.array_equal(read, new), last
        assert not [one for one in store.rglob("*") if one.name.endswith(".lazyio")]
        shutil.rmtree(store)
    assert found == {"ok", "incomplete"}
    np.testing.assert_array_equal(stock(store), new)


def _judged(store: Path, new: np.ndarray) -> str:
    """Return whether a store can be read after a kill; nothing is changed by that."""
    before = everything(store)
    status = lazyio.verify(store).status.replace("unverifiable", "ok")
    if status == "incomplete":
        with pytest.raises(SourceError, match="lazyio recover"):
            lazyio.open(store, "g/x")
        with pytest.raises(TargetError, match="lazyio recover"):
            clean(store)
    else:
        read = lazyio.open(store, "g/x").compute()
        assert np.array_equal(read, OLD) or np.array_equal(read, new)
    assert everything(store) == before
    try:
        kept = stock(store)
    except KeyError:
        # Closed to everybody, while it is neither.
        assert status == "incomplete"
    else:
        assert np.array_equal(kept, OLD) or np.array_equal(kept, new)
    return status


def begin(store: Path, call, monkeypatch) -> lazyio.WriteReport:
    """Write on a disk that fails once the change is known to it."""

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(names, "_move", fails)
        return call(store)


def test_what_is_made_returns(store: Path, monkeypatch) -> None:
    """Never is there an error after which it is there: the same call again would make it twice."""
    more = np.arange(7)
    report = begin(store, lambda path: lazyio.to_zarr(more, path, "g/x", append_dim=0), monkeypatch)
    ((code, what),) = report.advice
    assert code == "unfinished"
    assert "lazyio recover" in what
    lazyio.to_zarr(more, store, "g/x", append_dim=0)
    np.testing.assert_array_equal(stock(store), np.concatenate([OLD, more, more]))


@pytest.mark.parametrize("by", ["recover", "write"])
@pytest.mark.parametrize("what", ["chunk", "attribute"])
def test_another_program_edits_before_it_is_finished(store: Path, monkeypatch, what, by) -> None:
    """An append lets others open the array: what they do is kept, and ours as well."""
    begin(store, put_more, monkeypatch)
    array = zarr.open_group(store, mode="r+")["g/x"]
    if what == "chunk":
        array.resize((105,))
        array[100:105] = 1000
    else:
        array.attrs["units"] = "V"
    if what == "attribute" and (store / ".zgroup").exists():
        # In v2 it lies in a file of its own, of which the append knows nothing.
        recover(store)
        assert zarr.open_array(store / "g/x", mode="r").attrs["units"] == "V"
        assert len(stock(store, consolidated=False)) == 125
        return
    before = everything(store)
    with pytest.raises(TargetError, match="changed by another program") as caught:
        recover(store) if by == "recover" else put(store)
    assert everything(store) == before
    assert ".lazyio" in str(caught.value)
    # Whoever decides for what is there can say so.
    Path(str(caught.value).rpartition("remove ")[2]).unlink()
    clean(store)
    found = stock(store, consolidated=False)
    np.testing.assert_array_equal(found[:100], OLD)
    assert found[100:].tolist() == ([1000] * 5 if what == "chunk" else [])


def test_a_job_over_what_another_program_has_changed(store: Path) -> None:
    """Parts of chunks were merged with what was there: it does not go on over something else."""
    region = np.s_[15:95]

    def stop(step) -> None:
        raise KeyboardInterrupt

    def write(**options) -> None:
        data = lazyio.from_array(np.full(80, -1), chunks=(5,))
        lazyio.to_zarr(
            data, store, "g/x", region=region, resume=True, workers=1, memory_limit=4000, **options
        )

    with pytest.raises(KeyboardInterrupt):
        write(progress=stop)
    zarr.open_group(store, mode="r+")["g/x"][12] = 1000
    with pytest.raises(ResumeError, match="lazyio clean"):
        write()
    clean(store)
    write()
    expected = OLD.copy()
    expected[12], expected[region] = 1000, -1
    np.testing.assert_array_equal(stock(store), expected)


@pytest.mark.parametrize("what", ["region", "append", "resume"])
@pytest.mark.parametrize("consolidated", [False, True])
def test_an_array_behind_a_link(tmp_path: Path, what: str, consolidated: bool) -> None:
    """What the link leads to is written, and the link stays."""
    (tmp_path / "disk").mkdir()
    lazyio.to_zarr(OLD, tmp_path / "disk" / "x", chunks=(10,))
    lazyio.to_zarr({"a": OLD}, tmp_path / "s.zarr")
    os.symlink(tmp_path / "disk" / "x", tmp_path / "s.zarr" / "x")
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(tmp_path / "s.zarr")
    options = {"append_dim": 0} if what == "append" else {"region": np.s_[15:18]}
    if what == "resume":
        options["resume"] = True
    report = lazyio.to_zarr(np.full(3, -1), tmp_path / "s.zarr", "x", **options)
    assert report.path == str(tmp_path / "s.zarr")
    assert report.advice == ()
    assert (tmp_path / "s.zarr" / "x").is_symlink()
    found = zarr.open_array(tmp_path / "disk" / "x", mode="r")[...]
    expected = np.append(OLD, [-1] * 3) if what == "append" else OLD.copy()
    if what != "append":
        expected[15:18] = -1
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "s.zarr", mode="r")["x"], expected)
    assert sorted(os.listdir(tmp_path / "disk")) == ["x"]
    assert lazyio.verify(tmp_path / "disk" / "x").status == "ok"


def test_new_arrays_below_a_link(tmp_path: Path) -> None:
    """They are refused, and it is said where they can be written."""
    lazyio.to_zarr({"a": OLD}, tmp_path / "other.zarr")
    lazyio.to_zarr({"a": OLD}, tmp_path / "s.zarr")
    os.symlink(tmp_path / "other.zarr", tmp_path / "s.zarr" / "g")
    with pytest.raises(TargetError, match="by its own path"):
        lazyio.to_zarr(OLD, tmp_path / "s.zarr", "g/b")
