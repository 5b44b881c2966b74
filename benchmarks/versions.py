"""What was measured with."""

import os
import platform
from importlib import metadata
from typing import Any

import h5py

_DISTRIBUTIONS = (
    "lazyio",
    "numpy",
    "h5py",
    "hdf5plugin",
    "dask",
    "hdmf",
    "tables",
    "tensorstore",
    "xarray",
    "zarr",
    "zarrs",
    "numcodecs",
    "isal",
    "deflate",
)


def environment() -> dict[str, Any]:
    """Return versions, platform and number of CPUs; nothing that names this machine."""
    return {
        # Without the kernel's build name, which can tell where it runs.
        "platform": " ".join(
            (platform.system(), platform.release().split("-")[0], platform.machine())
        ),
        "cpu_count": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "HDF5": h5py.version.hdf5_version,
            **{name: _version(name) for name in _DISTRIBUTIONS},
        },
    }


def told() -> str:
    """Return a sentence that says what was measured with."""
    facts = environment()
    listed = [f"{name} {version}" for name, version in facts["versions"].items() if version]
    return f"Measured on {facts['cpu_count']} cores, {facts['platform']}, with {', '.join(listed)}."


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
