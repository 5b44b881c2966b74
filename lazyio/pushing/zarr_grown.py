"""An array that grows: what it was before, and the way back to that."""

import contextlib
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from lazyio.grid import open_along
from lazyio.pushing.place import Opened, last_row
from lazyio.pushing.zarr_objects import GROUP_METADATA, bring_back, remove_beyond, tell_shape
from lazyio.safety.digests import Noted
from lazyio.safety.sync import sync_names
from lazyio.safety.zarr_digests import NAME, Known, facts_of, store, table_of
from lazyio.safety.zarr_places import beside, introduce, make_room
from lazyio.targets.zarr import ZarrTarget
from lazyio.writing.zarr_stores import renew_consolidated

logger = logging.getLogger("lazyio")


@dataclass(kw_only=True)
class GrownArray:
    """An array of the writer, and what it was before."""

    key: str
    folder: Path
    array: Any
    target: ZarrTarget
    noted: Noted
    opened: Opened
    stack: contextlib.ExitStack
    made_at: Path | None = None
    """What was made for it, itself or the outermost group; ``None`` if it was there."""
    known: Known | None = None
    last: dict[Path, bytes] = field(default_factory=dict)
    """Objects of the last row of chunks, where they may have to be put back."""
    told: int = 0
    """Length that readers see."""

    @property
    def length(self) -> int:
        """Elements that it has by now."""
        return self.target.shape[self.opened.axis]

    def tell(self, root: Path) -> None:
        """Tell readers of the elements that there are, once they are on the disk."""
        names, self.target.written = self.target.written or [], []
        sync_names(self.folder, names)
        tell_shape(self.folder, self.target.shape)
        self.told = self.length
        # From here on readers see it: who is told of an error would append it once more.
        try:
            renew_consolidated(LocalStore(root), self.key)
            for group in self.folder.parents:
                if group != root and root not in group.parents:
                    break
                sync_names(group, [str(group / name) for name in GROUP_METADATA])
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(
                "%s is as long as it is to be, but not all of its store tells of it: %s",
                self.folder,
                error,
            )

    def keep_digests(self, root: Path) -> None:
        """Store the digests of what was written, with those that were there."""
        target = self.target
        if self.made_at is not None:
            places = beside(root, [self.key])
            facts = facts_of(self.folder, self.key)
            rows, rims = target.rows(self.noted), target.rims(self.noted)
            place = places[self.key].to_dict()
            store(self.folder, table_of(target.array, facts, rows, rims, place=place))
            make_room(self.folder)
            introduce(root, places)
        elif self.known is not None:
            self.known.renew(self.folder, target.array, self.noted, {}, grid=target.grid)
        sync_names(self.folder, [str(self.folder / NAME)])

    def undo(self, root: Path) -> None:
        """Remove an array that was made, shrink one that was there."""
        with self.stack:
            if self.made_at is not None:
                shutil.rmtree(self.made_at)
                return
            opened = self.opened
            shape = opened.with_length(opened.length)
            tell_shape(self.folder, shape)
            region = last_row(shape, opened.axis, opened.unit)
            bring_back(self.array, self.folder, region, opened.target.chunk_shape, self.last)
            remove_beyond(self.array, self.folder)
            renew_consolidated(LocalStore(root), self.key)
            if self.known is not None and self.known.table is not None:
                store(self.folder, self.known.table)


def target_of(array: Any, axis: int) -> tuple[ZarrTarget, Noted]:
    """Return what takes the objects of an array, and what takes their digests."""
    noted = Noted()
    target = ZarrTarget(
        array,
        keeps_empty=bool(array.config.write_empty_chunks),
        replaces=True,
        noted=noted,
        bounds=open_along(array.shape, axis),
    )
    target.written = []
    return target, noted
