"""Every page is run as one doctest, in a folder of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

# hdmf-zarr needs a newer Python.
collect_ignore = ["how-to/nwb-zarr.md"] if sys.version_info < (3, 12) else []

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run where files may be left behind, with the same number of workers anywhere."""
    (tmp_path / "examples").symlink_to(EXAMPLES, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    with dask.config.set(num_workers=2):
        yield
