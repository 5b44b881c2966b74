"""Tables in the reference that must say what the code says."""

import re
import tomllib
from pathlib import Path

import pytest

import lazyio
from lazyio.cli import main
from lazyio.codecs.hdf5_filters import CODECS

DOCS = Path(__file__).parent


def test_table_of_codecs_is_the_one_in_the_code() -> None:
    """Every codec has a row, word for word."""
    page = (DOCS / "reference/codecs.md").read_text("utf-8")
    for codec in CODECS:
        cells = codec.name, codec.filter_id, codec.encoded_by, codec.without, codec.read_with
        assert f"| {' | '.join(map(str, cells))} |" in page


def test_every_public_name_is_documented() -> None:
    """What can be imported from lazyio is in the table of the API page."""
    page = (DOCS / "reference/api.md").read_text("utf-8")
    listed = re.findall(r"^   ([A-Za-z]\w*)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(lazyio.__all__)


def test_every_dependency_is_explained() -> None:
    """Each requirement and extra for users has a row that says why."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    rows = (DOCS / "reference/dependencies.md").read_text("utf-8").splitlines()
    extras = project["optional-dependencies"]
    users = {
        name: extras[name]
        for name in extras
        if name not in ("all", "test", "bench", "lint", "docs")
    }
    for requirement in project["dependencies"]:
        assert any(row.startswith(f"| {_package(requirement)} ") for row in rows)
    for extra, requirements in users.items():
        for requirement in requirements:
            assert f"| `{extra}` | {_package(requirement)} |" in "\n".join(rows)


def _package(requirement: str) -> str:
    return re.split(r"[\[<>=~! ]", requirement)[0]


@pytest.mark.parametrize("command", ["plan", "convert", "info", "repack", "consolidate"])
def test_every_option_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What --help lists is in the page on the command line."""
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    page = (DOCS / "reference/command-line.md").read_text("utf-8")
    assert {option for option in options if f"`{option}`" not in page} == set()
