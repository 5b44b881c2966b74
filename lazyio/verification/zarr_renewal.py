"""Digests of what is there now in a Zarr store, array by array."""

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from lazyio.atomic.digests import NotedDigests, Table, digest_of_elements
from lazyio.atomic.publish_steps import identity_of
from lazyio.atomic.workdir import WorkDirectory
from lazyio.atomic.zarr_digests import (
    StoreNeighbours,
    beside,
    facts_of,
    forget_told,
    introduce,
    load_or_none,
    make_room,
    place_of,
    replace_in_place,
    ring,
    table_of,
    told,
)
from lazyio.errors import TargetError
from lazyio.regions import box_shape, flat_index, grid_shape
from lazyio.storage.disk_errors import check_writable, disk_errors
from lazyio.verification.renewal import Look, is_same, refuse_undecoded
from lazyio.verification.report import Findings, VerifyReport
from lazyio.verification.zarr import FolderArray, array_in_folder, paths_in
from lazyio.verification.zarr_places import shown


def renew_store(root: Path, key: str | None, decode: Look) -> tuple[VerifyReport, int]:
    """Store digests of the arrays of a store, or of one; return what decoding found, and how many.

    The digests of an array are old or new at any time; a run that is killed leaves some of each.
    """
    check_writable(root)
    names = paths_in(root, Findings()) if key is None else [key]
    seen = {name: identity_of(root / name) for name in names}
    decoded = decode()
    left_out = refuse_undecoded(root, decoded)
    names = [name for name in names if shown(name) not in left_out]
    places = _places(root, names, is_all=key is None)
    n_stored = sum(_renew(root, name, places[name], seen[name]) for name in names)
    introduce(root, places)
    return decoded, n_stored


def _places(root: Path, names: Sequence[str], *, is_all: bool) -> Mapping[str, StoreNeighbours]:
    """Return where arrays lie: as they know it, where that is right."""
    known = {name: _known_place(root / name) for name in names}
    stores = {place.store for place in known.values()}
    is_right = all(place.path == name for name, place in known.items() if name)
    if is_all:
        near = {path for place in known.values() for path in place.near}
        if is_right and len(stores) <= 1 and near <= set(names):
            return known
        for name in names:
            forget_told(root / name)
        return ring([name for name in names if name]) | {
            name: StoreNeighbours() for name in names if not name
        }
    return known if is_right else beside(root, names)


def _known_place(folder: Path) -> StoreNeighbours:
    """Return where an array lies as its digests say it, with what it was told of."""
    place = place_of(folder)
    return StoreNeighbours(
        store=place.store, path=place.path, near=tuple(dict.fromkeys((*place.near, *told(folder))))
    )


def _renew(root: Path, name: str, place: StoreNeighbours, seen: object) -> bool:
    """Store the digests of an array, if they are others; return whether they are.

    One that another program has changed since it was decoded is refused.
    """
    folder = root / name
    check_writable(folder)
    with WorkDirectory(folder, folder=root if name else None), disk_errors(folder):
        array = array_in_folder(root, name)
        own = StoreNeighbours.of(
            place_of(folder).to_dict() if place == _known_place(folder) else {}
        )
        table = digests_of(array, name, own if own.path else place)
        if identity_of(folder) != seen:
            msg = (
                f"{folder} was changed by another program while its digests were renewed; they "
                "are as they were, run the same call again"
            )
            raise TargetError(errno.EBUSY, msg)
        old = load_or_none(folder)
        if old is not None and is_same(old, table):
            return False
        make_room(folder)
        replace_in_place(folder, table)
    return True


def digests_of(stored: FolderArray, name: str, place: StoreNeighbours) -> Table:
    """Return the digests of an array; one object of it is held at a time."""
    grid, step = grid_shape(stored.shape, stored.step), stored.step
    noted, read = NotedDigests(), stored.reader()
    for index, inside in stored.listed():
        region = None if index is None else stored.region_named(inside)
        if index is None or region is None:
            continue  # No chunk, or none of what is inside the extents.
        is_cut = box_shape(region) != step
        rim = digest_of_elements(read(region)) if is_cut else None
        noted.note(flat_index(index, grid), stored.digest_of(inside)[0], rim)
    facts = facts_of(Path(stored.folder), name)
    return table_of(stored.array, facts, noted.rows(), noted.rims(), place=place.to_dict())
