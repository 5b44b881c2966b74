"""Digests of a Zarr array, and which arrays a store holds.

A list in the store's own folder would be in the way: zarr-python warns of
every file in a group that it does not know. So each array knows some others,
and they know it. The arrays of a new store form a ring. One that is added to a
store is told of an existing array, and that one of it, by a small file in
the folder ``lazyio.neighbours`` of the array. If some arrays are lost, there is
one left that knows of one of them.

The first line of ``lazyio.digests`` is JSON, and what follows it three
64-bit integers for each digest of an object. zarr-python lists the members of
groups only, and takes no notice of it.
"""

import contextlib
import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from lazyio.atomic.digests import (
    ATTRIBUTE,
    DAMAGED,
    PAYLOADS,
    Hash,
    KnownDigests,
    NotedDigests,
    Rows,
    Table,
    digest_of,
    digest_of_value,
    only_cut,
)
from lazyio.atomic.fsync import sync_folder, write_whole
from lazyio.dtypes import Shape
from lazyio.regions import grid_shape

FOLDER = "lazyio.neighbours"
"""In the folder of an array: a file for each array that came later and is told of it."""

_END = ".path"
_MOST = 64
"""Neighbours of one array; another one is taken then."""
_MOST_LOOKED_AT = 1000
"""Folders, among which a neighbour is looked for."""


@dataclass(frozen=True, kw_only=True)
class StoreNeighbours:
    """Where an array lies in its store, as its digests tell it."""

    store: str = ""
    """By what arrays are known that were written to the same store."""
    path: str = ""
    """Of the array, from the store that it was written to."""
    near: tuple[str, ...] = ()
    """Paths of other arrays, from there, too."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "near": list(self.near)} if self.path else {}

    @classmethod
    def of(cls, held: Mapping[str, Any], near: Sequence[str] = ()) -> "StoreNeighbours":
        """Return what digests tell; ``near`` are arrays that came later."""
        return cls(
            store=str(held.get("store", "")),
            path=str(held.get("path", "")),
            near=(*map(str, held.get("near", ())), *near),
        )


def ring(paths: Sequence[str], store: str | None = None) -> dict[str, StoreNeighbours]:
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
        places[path] = StoreNeighbours(store=name, path=path, near=in_order)
    return places


def beside(root: Path, paths: Sequence[str]) -> dict[str, StoreNeighbours]:
    """Return the places of arrays that are added to a store, next to one that is there."""
    places = {}
    for path in paths:
        # One that is replaced keeps its neighbours.
        old = place_of(root / path)
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
        places[path.removeprefix(above)] = StoreNeighbours(store=place.store, path=path, near=near)
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


def introduce(root: Path, places: Mapping[str, StoreNeighbours]) -> None:
    """Tell existing arrays of those that have come."""
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


def place_of(folder: Path) -> StoreNeighbours:
    """Return where an array lies in its store, as its digests tell it."""
    held = head_of(folder).get("place")
    return StoreNeighbours.of(held) if isinstance(held, dict) else StoreNeighbours()


def _ends_with(path: str, end: str) -> bool:
    return f"/{path}".endswith(f"/{end}")


def _with_room(root: Path, new: Sequence[str]) -> Iterator[tuple[StoreNeighbours, str]]:
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
        place = StoreNeighbours() if path in new else place_of(folder)
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


NAME = "lazyio.digests"

_READ_NBYTES = 1 << 20


def store(folder: Path, table: Table) -> None:
    """Put the digests of an array into its folder, in place of those that are there."""
    built = folder / f"{NAME}.partial"
    with built.open("wb") as file:
        file.writelines(pieces_of(table))
    built.replace(folder / NAME)


def replace_in_place(folder: Path, table: Table) -> None:
    """Put digests into the folder of an array that readers have, on the disk before they count."""
    built = folder / f"{NAME}.partial"
    with built.open("wb") as file:
        file.writelines(pieces_of(table))
        file.flush()
        os.fsync(file.fileno())
    built.replace(folder / NAME)
    sync_folder(folder)


def forget_told(folder: Path) -> None:
    """Have an array know no longer of those that it was told of."""
    if (folder / FOLDER).is_dir():
        for file in list((folder / FOLDER).iterdir()):
            if file.name.endswith(_END):
                file.unlink()


def pieces_of(table: Table) -> Iterator[bytes | memoryview]:
    """Yield digests as they are stored."""
    yield table.head().encode() + b"\n"
    for slab in table.all_rows:
        yield memoryview(np.ascontiguousarray(slab, "<u8").reshape(-1).view(np.uint8))


def load(folder: Path) -> Table | None:
    """Return the digests of an array, ``None`` where there are none."""
    try:
        return parse((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None


def head_of(folder: Path) -> dict[str, Any]:
    """Return what the digests of an array say beside the digests themselves, unchecked.

    Of an array with millions of chunks it is a small part of the file.
    """
    with contextlib.suppress(OSError, ValueError), (folder / NAME).open("rb") as file:
        found = json.loads(file.readline())
        return found if isinstance(found, dict) else {}
    return {}


def parse(data: bytes) -> Table:
    """Return digests from what is stored of them."""
    head, _, rows = data.partition(b"\n")
    if len(rows) % 24:
        raise ValueError(DAMAGED)
    return Table.read(head, np.frombuffer(rows, "<u8").reshape(-1, 3))


def forget(folder: Path) -> None:
    """Remove the digests of an array, where there are any."""
    (folder / NAME).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Known(KnownDigests):
    """The digests of an array before a part of it is written."""

    name: str
    """Its path in the store."""

    @classmethod
    def of(cls, folder: Path, name: str, array: Any) -> Self:
        """Return what is known of an array in a folder."""
        table = load_or_none(folder)
        return cls(name=name, table=table, facts=facts_of(folder, name), grid=_grid_of(array))

    def renew(
        self, folder: Path, array: Any, noted: NotedDigests, head: Mapping[str, str], *, grid: Shape
    ) -> None:
        """Store digests of an array of which a part has been written, where it had any.

        ``grid`` is that by which the part was numbered.
        """
        if self.table is None:
            return
        now, own = partial(table_of, array, facts_of(folder, self.name)), _grid_of(array)
        replace_in_place(folder, self.renewed(self.table, noted, head, now, numbered=grid, own=own))


def table_of(
    array: Any,
    facts: Mapping[str, str],
    rows: Rows,
    rims: Rows,
    *,
    job: Mapping[str, str] | None = None,
    place: Mapping[str, Any] | None = None,
) -> Table:
    """Return the digests of an array, with those of its objects and of the elements of cut ones."""
    shape = tuple(map(int, array.shape))
    return Table(
        facts=facts,
        rows=rows,
        of=PAYLOADS,
        job=job or {},
        shape=shape,
        rims=only_cut(rims, rows, shape, array.shards or array.chunks),
        place=place or {},
    )


def _grid_of(array: Any) -> Shape:
    """Return the number of objects along each axis."""
    return grid_shape(array.shape, array.shards or array.chunks)


def load_or_none(folder: Path) -> Table | None:
    """Return the digests of an array, ``None`` also where they are damaged."""
    with contextlib.suppress(ValueError):
        return load(folder)
    return None


def digest_of_file(path: str | os.PathLike[str]) -> int:
    """Return the digest of an object as it is stored."""
    hash_ = Hash()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_READ_NBYTES):
            hash_.update(piece)
    return hash_.value


def facts_of(folder: Path, name: str) -> dict[str, str]:
    """Return digests of everything beside its elements that a reader of an array gets."""

    def read(file: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return (folder / file).read_bytes()
        return None

    return facts_in(read, name)


def facts_in(read: Callable[[str], bytes | None], name: str) -> dict[str, str]:
    """Return the same of an array anywhere; ``read`` returns a metadata file, if it is there."""
    attributes: dict[str, Any] = {}
    described = read("zarr.json")
    if described is not None:
        held = _json(described, "zarr.json")
        attributes = held.pop("attributes", {})
    else:
        held = _json(read(".zarray"), ".zarray")
        if (described := read(".zattrs")) is not None:
            attributes = _json(described, ".zattrs")
    facts = {key: digest_of_value(value) for key, value in held.items()}
    facts |= {f"{ATTRIBUTE}{key!r}": digest_of_value(value) for key, value in attributes.items()}
    return facts | ({"name": digest_of_value(Path(name).name)} if name else {})


def _json(data: bytes | None, name: str) -> dict[str, Any]:
    if data is None:
        msg = f"{name} is not there"
        raise ValueError(msg)
    found = json.loads(data)
    if not isinstance(found, dict):
        msg = f"{name} holds no metadata"
        raise ValueError(msg)  # noqa: TRY004 - of the file, not of an argument
    return found
