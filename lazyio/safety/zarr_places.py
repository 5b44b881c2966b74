"""Which arrays a Zarr store holds, known to its arrays: so that one that is lost is missed.

A list in the store's own folder would be in the way: zarr-python warns of
every file in a group that it does not know. So each array knows some others,
and they know it. The arrays of a new store form a ring. One that is added to a
store is told of an array that is there, and that one of it, by a small file in
the folder ``lazyio.neighbours`` of the array. If some arrays are lost, there is
one left that knows of one of them.
"""

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lazyio.safety.digests import digest_of
from lazyio.safety.sync import write_whole
from lazyio.safety.zarr_digests import NAME, head_of

FOLDER = "lazyio.neighbours"
"""In the folder of an array: a file for each array that came later and is told of it."""

_END = ".path"
_MOST = 64
"""Neighbours of one array; another one is taken then."""
_MOST_LOOKED_AT = 1000
"""Folders, among which a neighbour is looked for."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an array lies in its store, as its digests tell it."""

    store: str = ""
    """By what arrays are known that were written to the same store."""
    path: str = ""
    """Of the array, from the store that it was written to."""
    near: tuple[str, ...] = ()
    """Paths of other arrays, from there, too."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) if self.path else {}

    @classmethod
    def of(cls, held: Mapping[str, Any], near: Sequence[str] = ()) -> "Place":
        """Return what digests tell; ``near`` are arrays that came later."""
        return cls(
            store=str(held.get("store", "")),
            path=str(held.get("path", "")),
            near=(*map(str, held.get("near", ())), *near),
        )


def ring(paths: Sequence[str], store: str | None = None) -> dict[str, Place]:
    """Return the places of the arrays of a new store: each knows those before and behind it.

    Examples
    --------
    >>> [place.near for place in ring(["a", "b", "c"]).values()]
    [('c', 'b'), ('a', 'c'), ('b', 'a')]
    """
    name = store or uuid.uuid4().hex
    places = {}
    for at, path in enumerate(paths):
        near = {paths[at - 1], paths[(at + 1) % len(paths)]} - {path}
        in_order = tuple(sorted(near, key=lambda one: one != paths[at - 1]))
        places[path] = Place(store=name, path=path, near=in_order)
    return places


def beside(root: Path, paths: Sequence[str]) -> dict[str, Place]:
    """Return the places of arrays that are added to a store, next to one that is there."""
    places = {}
    for path in paths:
        # One that is replaced keeps its neighbours.
        old = _place_of(root / path)
        if not path or (old.path and _ends_with(old.path, path)):
            places[path] = old
    new = [path for path in paths if path not in places]
    if not new:
        return places
    found = next(_with_room(root, new), None)
    if found is None:
        return places | ring(new)
    other, above = found
    for path, place in ring([f"{above}{path}" for path in new], other.store).items():
        near = place.near if path != f"{above}{new[0]}" else (*place.near, other.path)
        places[path.removeprefix(above)] = Place(store=place.store, path=path, near=near)
    return places


def make_room(folder: Path) -> None:
    """Make the folder in which an array is told of others; later the array stays as it is."""
    (folder / FOLDER).mkdir(exist_ok=True)


def keep(old: Path, new: Path) -> None:
    """Have an array that takes the place of another know what that one was told of."""
    if (new / FOLDER).is_dir():
        with contextlib.suppress(ValueError):
            for path in told(old):
                _tell(new, path)


def introduce(root: Path, places: Mapping[str, Place]) -> None:
    """Tell arrays that are there of those that have come."""
    for path, place in places.items():
        above = place.path.removesuffix(path)
        for other in place.near:
            folder = root / other.removeprefix(above)
            if other.removeprefix(above) not in places and (folder / NAME).is_file():
                make_room(folder)
                _tell(folder, place.path)


def told(folder: Path) -> Iterator[str]:
    """Yield the paths of arrays that an array was told of."""
    if not (folder / FOLDER).is_dir():
        return
    for file in sorted((folder / FOLDER).iterdir()):
        if file.name.endswith(_END):
            yield path_in(file.name, file.read_bytes())


def path_in(name: str, data: bytes) -> str:
    """Return the path that a file tells of."""
    if name != _name_of(data):
        msg = f"{FOLDER}/{name} is damaged"
        raise ValueError(msg)
    return data.decode()


def _tell(folder: Path, path: str) -> None:
    data = path.encode()
    write_whole(folder / FOLDER / _name_of(data), data)


def _name_of(data: bytes) -> str:
    return f"{digest_of(data):032x}{_END}"


def _place_of(folder: Path) -> Place:
    held = head_of(folder).get("place")
    return Place.of(held) if isinstance(held, dict) else Place()


def _ends_with(path: str, end: str) -> bool:
    return f"/{path}".endswith(f"/{end}")


def _with_room(root: Path, new: Sequence[str]) -> Iterator[tuple[Place, str]]:
    """Yield arrays of a store that can be told of another, those near it first.

    Each with what comes before their paths, in the store that this one lies in.
    """
    above = (root / new[0]).parent
    while not above.is_dir():
        above = above.parent
    folders = _folders_below(above)
    if above != root:
        folders = itertools.chain(folders, _folders_below(root))
    for folder in itertools.islice(folders, _MOST_LOOKED_AT):
        path = folder.relative_to(root).as_posix()
        place = Place() if path in new else _place_of(folder)
        if not place.path or not _ends_with(place.path, path):
            continue
        told_of = (folder / FOLDER).iterdir() if (folder / FOLDER).is_dir() else ()
        if sum(1 for _ in itertools.islice(told_of, _MOST)) < _MOST:
            yield place, place.path.removesuffix(path)


def _folders_below(folder: Path) -> Iterator[Path]:
    """Yield groups and arrays, but nothing of what is in an array."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                    continue
                yield Path(entry.path)
                if not os.path.exists(os.path.join(entry.path, NAME)):
                    waiting.append(Path(entry.path))
