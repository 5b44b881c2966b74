"""What can be known of Zarr without zarr-python, which is imported where it is used.

HDF5 works beside zarr 2, which other packages of the field ask for, and beside no zarr at all.
"""

import re
from pathlib import Path

from lazyio.atomic.zarr_digests import NAME
from lazyio.codecs.libraries import optional
from lazyio.errors import OptionError
from lazyio.sources.files import read_json

METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
NODE_METADATA = ("zarr.json", ".zarray", ".zgroup")
"""One of them lies in the folder of every array and group."""
METADATA_FILES = (*METADATA_NAMES, NAME)
"""With the digests of lazyio."""
_LEAST_VERSION = (3, 1)


def require_zarr() -> None:
    """Refuse to go on without zarr-python 3."""
    zarr = optional("zarr")
    version = "" if zarr is None else str(zarr.__version__)
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < _LEAST_VERSION:
        least = ".".join(map(str, _LEAST_VERSION))
        there = f"zarr {version} is installed" if version else "no zarr is installed"
        msg = (
            f"Zarr needs zarr {least} or later, and {there}; install it in an environment where no "
            "other package asks for zarr 2 (HDF5 works in this one)"
        )
        raise OptionError(msg)


def is_zarr(obj: object, *names: str) -> bool:
    """Return whether something is of one of zarr-python's classes, by their names."""
    return any(
        base.__name__ in names and base.__module__.partition(".")[0] == "zarr"
        for base in type(obj).__mro__
    )


def zarr_kind(place: Path) -> tuple[str, int] | None:
    """Return whether an array or a group lies at a path, and its version."""
    if (place / "zarr.json").is_file():
        try:
            node_type = read_json(place / "zarr.json")["node_type"]
        except (ValueError, KeyError, TypeError):
            node_type = "array"
        return str(node_type), 3
    for name, kind in ((".zarray", "array"), (".zgroup", "group")):
        if (place / name).is_file():
            return kind, 2
    return None
