"""Every page is run as one doctest, in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run where files may be left behind, with the same number of workers anywhere."""
    (tmp_path / "examples").symlink_to(EXAMPLES, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    with dask.config.set(num_workers=2):
        yield
