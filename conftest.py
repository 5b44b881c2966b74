"""Doctests of the package leave their files in a folder of their own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def doctest_in_own_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change into a new folder for each doctest, and leave other tests where they are."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
