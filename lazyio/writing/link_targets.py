"""What a link may lead to: a dataset or group of an HDF5 file on a disk."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from lazyio.execution.dask_arrays import location_of
from lazyio.sources.cf_decoded import DecodedSource
from lazyio.sources.hdf5 import Hdf5Source
from lazyio.sources.hdf5_virtual import VirtualSource
from lazyio.sources.libhdf5 import open_hdf5
from lazyio.sources.path_policy import LinkEnd, end_and_places


@dataclass(frozen=True, kw_only=True)
class LinkTarget:
    """An object of a file that is to be linked to."""

    path: str
    """Its file."""
    key: str
    """Its path in the file."""
    end: LinkEnd
    """What it is."""
    places: frozenset[tuple[str, str]]
    """Path and key of all that its key leads through, and that it is read from."""

    def needs(self, path: Path, key: str) -> bool:
        """Return whether it cannot be read without what has a key of a file."""
        wanted = "/".join(filter(None, key.split("/")))
        return any(
            where == str(path) and f"{place}/".startswith(f"{wanted}/")
            for where, place in self.places
        )


def link_target(path: str, key: str) -> LinkTarget:
    """Return what a key of a file leads to; it must be there."""
    with open_hdf5(path) as file:
        return link_target_in(file, path, key)


def link_target_in(file: h5py.File, path: str, key: str) -> LinkTarget:
    """Return the same of a file that is open."""
    end, places = end_and_places(file, key, _everywhere(path))
    name = "/" + "/".join(filter(None, key.split("/")))
    return LinkTarget(path=path, key=name, end=end, places=places)


def _everywhere(path: str) -> Sequence[Path]:
    """Return folders in which everything lies: what a user links to is not a stranger's."""
    return (Path(Path(os.path.abspath(path)).anchor),)


def dataset_behind(source: Any) -> tuple[str, str] | None:
    """Return path and key of the HDF5 dataset that a source is all of, ``None`` for any other."""
    held = source.part if isinstance(source, DecodedSource) else source
    held = getattr(held, "array", held)
    if isinstance(held, VirtualSource):
        return _if_there(held.location)
    if not isinstance(held, (Hdf5Source, h5py.Dataset)):
        return None
    return _if_there(location_of(held))


def _if_there(location: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return where something lies, if it is a file: what lies in memory cannot be linked to."""
    return location if location is not None and os.path.exists(location[0]) else None
