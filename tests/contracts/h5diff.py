"""h5diff, HDF5's own judge of whether two files are the same."""

import os
import shutil
import subprocess
from pathlib import Path

import hdf5plugin
import pytest


def assert_same(one: Path, other: Path) -> None:
    """Check that h5diff finds no more between two files than between one and its plain copy."""
    if shutil.which("h5diff") is None:
        pytest.skip("h5diff is not installed")
    plain = shutil.copyfile(one, other.with_name(f"plain-{one.name}"))
    assert _told(one, other) == _told(one, plain)


def _told(one: Path, other: Path) -> tuple[int, str]:
    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGINS_PATH}
    done = subprocess.run(
        ["h5diff", "-c", "--exclude-path", "/_lazyio", one, other],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    # It fails where nothing can be compared: empty datasets, or filters that it has not.
    return done.returncode, done.stdout
