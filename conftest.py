"""Doctests of the package leave their files in a folder of their own."""

import importlib
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Let zarr say that it has no v3 form for a few dtypes, which it writes all the same."""
    errors = importlib.import_module("zarr.errors")
    if hasattr(errors, "UnstableSpecificationWarning"):  # Not in zarr 2, nor in the first of 3.1.
        line = "ignore:The data type:zarr.errors.UnstableSpecificationWarning"
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(autouse=True)
def doctest_in_own_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change into a new folder for each doctest, and leave other tests where they are."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
