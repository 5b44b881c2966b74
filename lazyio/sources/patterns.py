"""Several files by one path: a glob such as ``day*.h5``, or a folder of files."""

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lazyio.errors import OptionError, SourceError
from lazyio.sources.base import listed
from lazyio.sources.files import absolute

JOINS = ("concatenate", "stack")
"""How several files become one array: along their first axis, or along a new one before it."""


def natural_key(name: str) -> tuple[Any, ...]:
    """Return what sorts names as people count: by the numbers in them, not by their digits.

    Examples
    --------
    >>> sorted(["day10.h5", "day2.h5", "day02.h5"], key=natural_key)
    ['day02.h5', 'day2.h5', 'day10.h5']
    """
    # Text and numbers take turns, so that like is compared with like.
    parts = re.split("([0-9]+)", name)
    counted = tuple(int(part) if at % 2 else part for at, part in enumerate(parts))
    return counted, name


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return whether a path stands for all files that match it, and is not the name of one.

    Examples
    --------
    >>> is_pattern("day*.h5"), is_pattern("day1.h5"), is_pattern("s3://bucket/day*.zarr")
    (True, False, False)
    """
    name = os.fspath(path)
    return "://" not in name and glob.has_magic(name) and not os.path.lexists(name)


def matching(pattern: str | os.PathLike[str]) -> list[str]:
    """Return the absolute paths of what matches a glob, in natural order."""
    name = os.fspath(pattern)
    # The working directory is meant as it is called, whatever signs are in its name.
    whole = name if os.path.isabs(name) else os.path.join(glob.escape(str(absolute("."))), name)
    found = [str(absolute(path)) for path in glob.glob(whole, recursive=True)]
    found.sort(key=natural_key)
    if not found:
        msg = (
            f"no file matches {name!r}; check the pattern, which is looked up from "
            f"{Path.cwd()}, and takes * for any text, ? for one character, [0-9] for one of "
            "several, and ** for folders in folders"
        )
        raise SourceError(msg)
    return found


def files_in(folder: Path) -> list[str]:
    """Return the paths of the files in a folder, in natural order, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror or error}"
        raise SourceError(error.errno, msg) from error
    return [str(folder / name) for name in sorted(names, key=natural_key)]


def is_of_one_format(formats: Mapping[str, str | None]) -> bool:
    """Return whether files are of one format that is known, by their paths."""
    found = set(formats.values())
    return len(found) == 1 and None not in found


def of_no_format(folder: Path, formats: Mapping[str, str | None]) -> str:
    """Say what is in a folder that is not one array."""
    names: dict[str, list[str]] = {}
    for path, kind in formats.items():
        names.setdefault(kind or "of no known format", []).append(os.path.basename(path))
    each = "; ".join(f"{kind}: {listed(some, most=3)}" for kind, some in names.items())
    return (
        f"{folder} is of no known format: it is no Zarr store, and no folder of files of one "
        f"format; it holds {each or 'no file'}. Give the path of one, or a pattern such as "
        f"{str(folder / '*.h5')!r}"
    )


def checked_join(join: Any) -> str | None:
    """Return how files are to be joined, ``None`` where the format is to say it."""
    if join is not None and join not in JOINS:
        msg = (
            f'join={join!r}; give "concatenate" for files that follow each other along axis 0, or '
            '"stack" for files side by side along a new axis 0'
        )
        raise OptionError(msg)
    found: str | None = join
    return found
