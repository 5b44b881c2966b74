"""``lazyio repack`` and ``consolidate``, and ``convert`` of many arrays at once."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio import cli
from lazyio.execution.run import RESUMING

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Run a command and return its status and what it has printed."""
    status = cli.main(list(map(str, arguments)))
    return status, *capsys.readouterr()


def write_file() -> None:
    with h5py.File("src.h5", "w") as file:
        file.create_dataset("a/x", data=np.arange(40_000).reshape(400, 100), chunks=(100, 100))
        file.create_dataset("a/y", data=np.arange(5000.0))
        file["a/x"].attrs["unit"] = "V"
        file["text"] = "a"
        file["link"] = h5py.SoftLink("/a/x")


def test_repack(capsys: Any) -> None:
    write_file()
    status, out, err = run(capsys, "repack", "src.h5", "dst.h5", "--compression", "gzip")
    assert (status, err) == (0, "")
    assert out.startswith("wrote")
    with h5py.File("dst.h5") as file:
        assert (file["a/x"].compression, file["a/x"].shuffle) == ("gzip", True)
        assert file["a/y"].compression == "gzip"
        assert file["link"] == file["a/x"]
    status, _, err = run(capsys, "repack", "src.h5", "dst.h5")
    assert status == 1
    assert "already exists" in err
    options = ["--chunks", "50,20", "--overwrite", "--workers", "1", "--memory-limit", "8 MiB"]
    assert run(capsys, "repack", "src.h5", "dst.h5", *options)[0] == 0
    with h5py.File("dst.h5") as file:
        assert file["a/x"].chunks == (50, 20)
        assert file["a/y"].chunks is None


def test_none_in_a_file(capsys: Any) -> None:
    """YAML has no other word for no codec than the command line."""
    write_file()
    assert run(capsys, "repack", "src.h5", "dst.h5", "--compression", "gzip")[0] == 0
    Path("rules.yaml").write_text("a/*: {compression: none, shuffle: false}")
    assert run(capsys, "repack", "dst.h5", "plain.h5", "--rules", "rules.yaml")[0] == 0
    with h5py.File("dst.h5") as file, h5py.File("plain.h5") as plain:
        assert (file["a/x"].compression, plain["a/x"].compression) == ("gzip", None)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_rules_of_a_file(capsys: Any, suffix: str) -> None:
    write_file()
    rules = {"a/*": {"compression": "zstd"}, "a/x": {"chunks": [40, 100], "access": None}}
    text = json.dumps(rules)
    if suffix == "yaml":
        text = "a/*: {compression: zstd}\na/x:\n  chunks: [40, 100]\n"
    Path(f"rules.{suffix}").write_text(text)
    status, out, _ = run(capsys, "repack", "src.h5", "--rules", f"rules.{suffix}", "--plan")
    assert status == 0
    assert re.search(r"a/x +\(400, 100\) .*\(100, 100\) -> \(40, 100\) +none -> zstd", out)
    assert re.search(r"text .* as it is", out)
    assert sorted(path.name for path in Path().iterdir()) == [f"rules.{suffix}", "src.h5"]
    assert run(capsys, "repack", "src.h5", "dst.h5", "--rules", f"rules.{suffix}")[0] == 0
    with h5py.File("dst.h5") as file:
        assert file["a/x"].chunks == (40, 100)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["src.h5"], 2, "needs DST"),
        (["src.h5", "src.h5", "--overwrite"], 1, "is copied itself"),
        (["nothing.h5", "dst.h5"], 1, "nothing.h5"),
        (["src.h5", "dst.h5", "--rules", "none.yaml"], 2, "cannot be read as rules"),
        (["src.h5", "dst.h5", "--rules", "bad.yaml"], 2, "is no YAML"),
        (["src.h5", "dst.h5", "--rules", "list.json"], 2, "give a dict"),
        (["src.h5", "dst.h5", "--rules", "unknown.json"], 2, "names no array"),
        (["src.h5", "dst.h5", "--rules", "word.json"], 2, "says .*'codec'"),
        (["src.h5", "dst.h5", "--rules", "scalar.json"], 2, "'text': it has no axes"),
        (["src.h5", "dst.h5", "--rules", "rank.json"], 2, "dataset 'a/y': .* has 2 axes"),
        (["src.h5", "dst.h5", "--compression", "gzipp"], 2, "not a codec"),
        (["src.h5", "dst.h5", "--level", "3"], 2, "--level 3 needs"),
        (["src.h5", "list.json"], 1, "list.json already exists.* --overwrite"),
        (["src.h5", "dst/"], 1, "path='dst/' names a folder; give the name of a file in it"),
        (["src.h5", "dst.zarr"], 2, "a copy is an HDF5 file; .* lazyio convert SRC dst.zarr --all"),
    ],
)
def test_what_cannot_be(capsys: Any, arguments: Any, status: int, message: str) -> None:
    write_file()
    Path("bad.yaml").write_text("{")
    Path("list.json").write_text("[1]")
    Path("unknown.json").write_text('{"b/*": {"chunks": [1]}}')
    Path("word.json").write_text('{"a/*": {"codec": 1}}')
    Path("scalar.json").write_text('{"text": {"compression": "gzip"}}')
    Path("rank.json").write_text('{"a/y": {"chunks": [5, 5]}}')
    found, out, err = run(capsys, "repack", *arguments)
    assert (found, out) == (status, "")
    assert re.search(message, err)
    assert err.count("\n") == 1
    assert not Path("dst.h5").exists()


def test_consolidate(capsys: Any) -> None:
    write_file()
    Path("more").mkdir()
    with h5py.File("more/all.h5", "w") as file:
        file["there"] = h5py.ExternalLink("../src.h5", "/a")
    status, _, err = run(capsys, "consolidate", "more/all.h5", "dst.h5")
    assert status == 1
    assert "allow_external=" in err
    options = ["--allow-external", "."]
    assert run(capsys, "consolidate", "more/all.h5", "dst.h5", *options)[0] == 0
    with h5py.File("dst.h5") as file:
        assert file["there/x"].attrs["unit"] == "V"


def test_several_sources_into_a_folder(capsys: Any) -> None:
    for name in ("one", "two"):
        np.save(f"{name}.npy", np.full((100, 4), len(name)))
    np.save("two.npy", np.arange(10))
    status, out, _ = run(capsys, "convert", "one.npy", "two.npy", "out/")
    assert status == 0
    assert out.count("wrote") == 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["one.h5", "two.h5"]
    assert lazyio.open("out/two.h5").compute().tolist() == list(range(10))
    # One source goes to a folder that is there, too.
    assert run(capsys, "convert", "one.npy", "out", "--format", "zarr")[0] == 0
    assert zarr.open_array("out/one.zarr").shape == (100, 4)
    status, _, err = run(capsys, "convert", "one.npy", "out/one.h5", "new/")
    assert status == 2
    assert "several sources would be written to one.h5" in err
    assert not Path("new").exists()


@pytest.mark.parametrize("target", ["all.h5", "all.zarr"])
def test_several_sources_into_one_file(capsys: Any, target: str) -> None:
    write_file()
    np.save("one.npy", np.arange(10))
    status, out, _ = run(capsys, "convert", "one.npy", "src.h5::a/x", target, "--key", "group")
    assert status == 0
    assert out.count("wrote") == 1
    assert lazyio.open(target, "group/one").compute().tolist() == list(range(10))
    assert lazyio.open(target, "group/a/x").shape == (400, 100)
    opened = h5py.File(target) if target.endswith("h5") else zarr.open_group(target, mode="r")
    assert opened["group/a/x"].attrs["unit"] == "V"
    status, _, err = run(capsys, "convert", "one.npy", "one.npy", target)
    assert status == 2
    assert "would be written to 'one'" in err


@pytest.mark.parametrize("target", ["all.h5", "all.zarr", "folder/"])
def test_every_array_of_a_file(capsys: Any, target: str) -> None:
    with h5py.File("src.h5", "w") as file:
        file["a/x"], file["y"] = np.arange(10), np.ones((3, 4))
        file.create_dataset("rows", (3,), h5py.vlen_dtype("i4"))
    status, _, err = run(capsys, "convert", "src.h5", target, "--all")
    assert status == 0
    assert "array 'rows' is left out" in err
    found = "folder/src.h5" if target == "folder/" else target
    assert lazyio.open(found, "a/x").compute().tolist() == list(range(10))
    assert lazyio.open(found, "y").shape == (3, 4)
    again = "again.zarr" if found.endswith("h5") else "again.h5"
    assert run(capsys, "convert", found, again, "--all")[0] == 0
    assert lazyio.open(again, "a/x").compute().tolist() == list(range(10))
    np.save("z.npy", np.arange(3))
    assert run(capsys, "convert", "src.h5", "z.npy", "both.h5", "--all")[0] == 0
    assert lazyio.open("both.h5", "src/a/x").shape == (10,)
    assert lazyio.open("both.h5", "z").shape == (3,)
    status, _, err = run(capsys, "convert", "src.h5::y", "t.h5", "--all")
    assert status == 2
    assert "leave ::y out" in err


def test_a_pattern_is_one_of_several_sources(capsys: Any) -> None:
    for number in range(3):
        with h5py.File(f"day_{number}.h5", "w") as file:
            file["a/x"] = np.arange(4) + number
            file["a/x"].attrs.update(unit="V", number=number)
            file["y"] = np.ones((2, 3))
    np.save("z.npy", np.arange(5))
    assert run(capsys, "convert", "day_*.h5::y", "z.npy", "out/")[0] == 0
    assert lazyio.open("out/day.h5", "y").shape == (6, 3)
    assert lazyio.open("out/z.h5", "data").shape == (5,)
    assert run(capsys, "convert", "day_*.h5::y", "z.npy", "two.h5", "--join", "stack")[0] == 0
    assert lazyio.open("two.h5", "y").shape == (3, 2, 3)
    assert run(capsys, "convert", "z.npy", "day_1.h5::y", "no.h5", "--join", "stack")[0] == 2
    assert run(capsys, "convert", "day_*.h5", "all.h5", "--all")[0] == 0
    assert lazyio.open("all.h5", "a/x").compute().tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5]
    with h5py.File("all.h5") as file:
        assert dict(file["a/x"].attrs) == {"unit": "V"}
    days = [f"day_{number}.h5" for number in range(3)]
    assert run(capsys, "convert", *days, "each/", "--all")[0] == 0
    assert lazyio.open("each/day_2.h5", "a/x").compute().tolist() == [2, 3, 4, 5]


def test_a_resumed_run_is_told_once(capsys: Any) -> None:
    for name in ("a", "b", "c"):
        np.save(f"{name}.npy", np.arange(5))
    assert run(capsys, "convert", "a.npy", "b.npy", "c.npy", "out/", "--resume")[0] == 0
    handlers = [one.get_name() for one in logging.getLogger("lazyio").handlers]
    assert handlers.count(RESUMING) == 1


def test_a_line_every_few_seconds(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazyio.cli_arguments.LINES_PAUSE", 0.0)
    write_file()
    status, _, err = run(capsys, "repack", "src.h5", "dst.h5", "--compression", "gzip")
    assert status == 0
    assert re.search(r"^lazyio: 1 of 2 blocks \(50 %\), .* at 'a/x'$", err, re.MULTILINE)
