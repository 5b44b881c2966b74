"""Regions of one array that several processes write side by side, each to chunks of its own.

Who writes all of an array, or makes it longer, holds the lock of its hidden folder. Who writes a
region holds it for a moment only: to look at the regions that others write, and to claim the
chunks or shards that this one touches. A claim is a hidden folder of its own inside, with its own
lock, in which the objects of the region are built; it ends with that lock, however it ends.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazyio.atomic import lock
from lazyio.atomic.fsync import write_whole
from lazyio.atomic.publish_steps import is_hidden_name
from lazyio.dtypes import Shape
from lazyio.errors import TargetLockedError
from lazyio.regions import Region, format_region

NAME = "claim.json"
"""In the hidden folder of a region: which chunks it touches."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A region of an array, and the chunks or shards that it touches.

    Examples
    --------
    >>> one = Claim(region=(slice(0, 10),), unit=(8,))
    >>> one.chunks, one.name
    (((0, 2),), '0-10')
    >>> one.meets(Claim(region=(slice(10, 16),), unit=(8,)))
    True
    >>> one.meets(Claim(region=(slice(16, 20),), unit=(8,)))
    False
    """

    region: Region
    """In elements of the array, which has them already."""
    unit: Shape
    """Extents of what is written as one object."""

    @property
    def name(self) -> str:
        """By what its hidden folder is found again."""
        return ",".join(f"{part.start}-{part.stop}" for part in self.region) or "all"

    @property
    def chunks(self) -> tuple[tuple[int, int], ...]:
        """The first chunk along each axis, and the one behind the last."""
        return tuple(
            (part.start // step, -(-part.stop // step))
            for part, step in zip(self.region, self.unit, strict=True)
        )

    def meets(self, other: "Claim") -> bool:
        """Return whether both touch the same chunk, or one that the other may touch."""
        if other.unit != self.unit:
            return True
        both = zip(self.chunks, other.chunks, strict=True)
        return all(max(mine[0], its[0]) < min(mine[1], its[1]) for mine, its in both)

    def save(self, folder: Path) -> None:
        """Say in a hidden folder which chunks are claimed."""
        held = {
            "region": [[part.start, part.stop] for part in self.region],
            "unit": list(self.unit),
        }
        write_whole(folder / NAME, json.dumps(held).encode())

    @classmethod
    def load(cls, folder: Path) -> "Claim | None":
        """Return what is claimed in a hidden folder, ``None`` where nothing is, or no more."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            held: Any = json.loads((folder / NAME).read_bytes())
            region = tuple(slice(int(start), int(stop)) for start, stop in held["region"])
            return cls(region=region, unit=tuple(map(int, held["unit"])))
        return None

    def of(self, target: Path) -> str:
        """Return what to call the region in an error."""
        return f"region {format_region(self.region)} of {target}"


def folders_in(above: Path) -> list[Path]:
    """Return the hidden folders of regions in that of their array."""
    try:
        return sorted(path for path in above.iterdir() if is_hidden_name(path.name))
    except FileNotFoundError:
        return []


def dead_folders(
    above: Path, target: Path, own: Claim | None, own_folder: Path
) -> Iterator[tuple[Path, Claim | None, lock.FolderLock]]:
    """Yield the folders of regions whose writers are no more, each with its lock.

    One who is at work on chunks of ours is in the way; without a claim everyone is. The lock of
    the array's own hidden folder is held meanwhile, so that nobody else begins.
    """
    for folder in folders_in(above):
        if own is not None and folder == own_folder:
            continue
        theirs = Claim.load(folder)
        name = f"a region of {target}" if theirs is None else theirs.of(target)
        try:
            held = lock.acquire(folder / lock.NAME, name)
        except FileNotFoundError:
            continue  # It has just left.
        except TargetLockedError as error:
            # Who claims nothing any more has published what was claimed.
            if own is None:
                raise
            if theirs is not None and own.meets(theirs):
                raise _in_the_way(own, theirs, target, error) from None
            continue
        try:
            yield folder, theirs, held
        finally:
            held.release()


def _in_the_way(
    own: Claim, theirs: Claim, target: Path, error: TargetLockedError
) -> TargetLockedError:
    """Return the error for two regions that touch the same chunks."""
    both = zip(own.region, theirs.region, strict=True)
    msg = str(error)
    if not all(max(mine.start, its.start) < min(mine.stop, its.stop) for mine, its in both):
        msg = (
            f"{own.of(target)} shares chunks of {own.unit} with the one that is written now: "
            f"{error}. Regions that begin and end at multiples of {own.unit}, or at the end of the "
            "array, are written side by side"
        )
    return TargetLockedError(error.errno, msg)
