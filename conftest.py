"""Warnings are errors in tests, and doctests leave their files in a folder of their own."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("lazyio.testing")

# Tests import the benchmarks, and processes that they start import the tests. The checkout comes
# last on the path, so that an installed lazyio is the one tested.
sys.path.append(str(Path(__file__).parent))

_WARNINGS = [
    "error",
    # What is tried in a process of its own, which ends with that.
    "ignore:This process .* is multi-threaded:DeprecationWarning",
    # HDMF and PyNWB, which read back what lazyio wrote, are not ours to mend.
    "ignore::DeprecationWarning:hdmf.*",
    "ignore::DeprecationWarning:pynwb.*",
]


def pytest_configure(config: pytest.Config) -> None:
    """Make warnings errors of tests alone: in the settings, other plugins would die of them."""
    for line in _WARNINGS:
        config.addinivalue_line("filterwarnings", line)
    if hasattr(importlib.import_module("zarr.errors"), "UnstableSpecificationWarning"):
        # zarr has no v3 form for a few dtypes that it writes all the same, and says so.
        line = "ignore:The data type:zarr.errors.UnstableSpecificationWarning"
        config.addinivalue_line("filterwarnings", line)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell runs in the background ignores Ctrl-C, and its children would as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def doctest_in_own_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change into a new folder for each doctest, and leave other tests where they are."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
