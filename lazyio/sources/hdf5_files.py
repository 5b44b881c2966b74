"""Files that an HDF5 dataset leads to: by links, external storage and virtual sources."""

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress

import h5py

from lazyio.errors import SourceError
from lazyio.grid import Region
from lazyio.sources.confine import raw_segments
from lazyio.sources.identity import SeenFile, seen_files
from lazyio.sources.libhdf5 import open_hdf5

_MOST_STEPS = 16
"""From one file to the next; libhdf5 stops at 16 too."""


def files_behind(file: h5py.File, key: str) -> tuple[SeenFile, ...]:
    """Return every other file that a dataset is read from, as each is now.

    Where libhdf5 looks in several places, those count as well in which nothing
    is: a file that is put there is found first.
    """
    walk = _Walk()
    walk.follow(file, _parts(key), None, _MOST_STEPS)
    return seen_files(walk.found.values()) if walk.found else ()


class _Walk:
    """Goes from file to file, and to none twice for the same."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], SeenFile] = {}
        self._known: set[tuple[str, str]] = set()

    def follow(self, file: h5py.File, parts: list[str], box: Region | None, n_left: int) -> None:
        """Go down a path, by links of either kind, to what the dataset there leads to."""
        at = ""
        for done, part in enumerate(parts, 1):
            parent, at = at, f"{at}/{part}"
            link = file.get(at, getlink=True)
            if not isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
                continue
            if not n_left:
                return
            rest = parts[done:]
            if isinstance(link, h5py.ExternalLink):
                inside = [*_parts(link.path), *rest]
                self._into(file, os.fsdecode(link.filename), inside, box, n_left - 1)
            else:
                start = [] if link.path.startswith("/") else _parts(parent)
                self.follow(file, [*start, *_parts(link.path), *rest], box, n_left - 1)
            return
        found = file.get(at or "/")
        if isinstance(found, h5py.Dataset):
            self._storage(file, found, box, n_left)

    def _storage(
        self, file: h5py.File, dataset: h5py.Dataset, box: Region | None, n_left: int
    ) -> None:
        for segment in raw_segments(dataset) if dataset.external else ():
            self._add(segment.path, box)
        if not dataset.is_virtual or not n_left:
            return
        # As plain facts: h5py goes over every open dataspace when it closes a file.
        sources = [
            (source.file_name, _parts(source.dset_name), box or _bounds(source.vspace))
            for source in dataset.virtual_sources()
        ]
        for pattern, inside, part in sources:
            for name, is_needed in _names(file, pattern):
                if name == ".":
                    self.follow(file, inside, part, n_left - 1)
                else:
                    self._into(file, name, inside, part, n_left - 1, is_needed=is_needed)

    def _into(
        self,
        file: h5py.File,
        name: str,
        parts: list[str],
        box: Region | None,
        n_left: int,
        *,
        is_needed: bool = False,
    ) -> None:
        """Note a file by the name that another has for it, and go on in it."""
        places = _places(file, name)
        there = next(filter(os.path.isfile, places), None)
        for path in places:
            self._add(path, box, is_needed=is_needed and there is None)
            if path == there:
                break
        if there is None or (there, "/".join(parts)) in self._known:
            return
        self._known.add((there, "/".join(parts)))
        # What cannot be opened is for libhdf5 to complain of when it is read.
        with suppress(SourceError), open_hdf5(there) as other:
            self.follow(other, parts, box, n_left)

    def _add(self, path: str, box: Region | None, *, is_needed: bool = False) -> None:
        file = SeenFile(path=path, identity=None, box=box, is_needed=is_needed)
        self.found[path, repr(box)] = file


def _parts(key: str) -> list[str]:
    return [part for part in key.split("/") if part not in ("", ".")]


def _places(file: h5py.File, name: str) -> list[str]:
    """Return where libhdf5 looks for a file that another names, in its order."""
    folder = os.path.dirname(os.path.abspath(file.filename))
    return list(dict.fromkeys([os.path.join(folder, name), os.path.abspath(name)]))


def _names(file: h5py.File, name: str) -> Iterator[tuple[str, bool]]:
    """Yield the names that a virtual source stands for, and whether each must be there.

    One with ``%b`` in it stands for as many as there are, counted from 0; the
    first that is missing is among them, for it may come.
    """
    plain = name.replace("%%", "\0")
    if "%b" not in plain:
        yield name.replace("%%", "%"), True
        return
    for number in itertools.count():
        one = plain.replace("%b", str(number)).replace("\0", "%")
        yield one, False
        if not any(map(os.path.isfile, _places(file, one))):
            return


def _bounds(space: h5py.h5s.SpaceID) -> Region | None:
    """Return the box around a selection, ``None`` where it has no end."""
    try:
        found = space.get_select_bounds()
    except RuntimeError:
        return None
    if found is None:
        return (slice(0, 0),) * len(space.shape)  # Nothing is selected.
    first, last = found
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))
