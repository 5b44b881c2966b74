"""What the front page promises: two commands, an example that runs, a snippet that works."""

import re
import runpy
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def test_quick_start_is_two_shell_blocks_of_one_line() -> None:
    """The section has exactly two commands, each complete in itself."""
    section = re.search(r"## Quick start\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)
    assert section is not None
    blocks = re.findall(r"```(\w*)\n(.*?)```", section[1], re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "sh"]
    assert all(len(block.strip().splitlines()) == 1 for _, block in blocks)


def test_snippet(tmp_path, monkeypatch, capsys) -> None:
    """The first snippet of the front page runs as it stands."""
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    monkeypatch.chdir(tmp_path)
    np.ones((1000, 384), "int16").tofile("recording.raw")
    exec(snippet[1], {})  # noqa: S102 - our own front page
    assert "on disk" in capsys.readouterr().out
    with h5py.File("recording.h5") as file:
        assert file["raw"].shape == (1000, 384)


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(script, tmp_path, monkeypatch, capsys) -> None:
    """Every example runs and shows a plan and a report."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    captured = capsys.readouterr()
    # The table of one array, or of several.
    assert "on disk" in captured.out or "blocks" in captured.out
    assert "wrote" in captured.out


def test_the_example_leaves_the_recording_behind(tmp_path, monkeypatch, capsys) -> None:
    """Several blocks, under a megabyte, and every sample in its place."""
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert found["report"].n_blocks > 4
    assert found["report"].peak_nbytes <= 2**20
    assert "100%" in capsys.readouterr().err
    with h5py.File(ROOT / "examples" / "3brain.brw") as a, h5py.File("quickstart.h5") as b:
        assert b["recording"].shape == (19754, 36)
        assert (a["3BData/Raw"][:] == b["recording"][:].ravel()).all()


def test_faults_are_tested() -> None:
    """Each test that the page of faults names is there."""
    page = (ROOT / "docs" / "explanation" / "faults.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 40
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).exists()
