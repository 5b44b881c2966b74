"""Digests of a Zarr array: a file in the array's own folder, and what of the array they cover.

The first line of ``lazyio.digests`` is JSON, and what follows it three
64-bit integers for each digest of an object. zarr-python lists the members of
groups only, and takes no notice of it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lazyio.grid import grid_shape
from lazyio.safety.digests import (
    ATTRIBUTE,
    PAYLOADS,
    Hash,
    Noted,
    Rows,
    Table,
    digest_of_value,
    only_cut,
    renumbered,
)
from lazyio.spec import Shape

NAME = "lazyio.digests"

_READ_NBYTES = 1 << 20


def store(folder: Path, table: Table) -> None:
    """Put the digests of an array into its folder, in place of those that are there."""
    built = folder / f"{NAME}.partial"
    with built.open("wb") as file:
        file.writelines(pieces_of(table))
    built.replace(folder / NAME)


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
        msg = "its digests are damaged themselves"
        raise ValueError(msg)
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        msg = "its digests are damaged themselves"
        raise ValueError(msg) from error
    return Table.read(text, np.frombuffer(rows, "<u8").reshape(-1, 3))


def forget(folder: Path) -> None:
    """Remove the digests of an array, where there are any."""
    (folder / NAME).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Known:
    """The digests of an array before a part of it is written.

    What did not match them before must not match them afterwards either, or
    damage would be hidden by writing beside it.
    """

    name: str
    """Its path in the store."""
    table: Table | None
    """As stored; ``None`` where there is none, or a damaged one."""
    facts: dict[str, str]
    """As they were found."""
    grid: Shape
    """Objects along each axis."""

    @classmethod
    def of(cls, folder: Path, name: str, array: Any) -> "Known":
        """Return what is known of an array in a folder."""
        table = load_or_none(folder)
        return cls(name=name, table=table, facts=facts_of(folder, name), grid=grid_of(array))

    def renew(
        self, folder: Path, array: Any, noted: Noted, head: Mapping[str, str], *, grid: Shape
    ) -> None:
        """Store digests of an array of which a part has been written, where it had any.

        ``grid`` is that by which the part was numbered.
        """
        if self.table is None:
            return
        rows = noted.rows(renumbered(self.table.rows, self.grid, grid))
        rims = noted.rims(renumbered(self.table.rims, self.grid, grid))
        own = grid_of(array)
        facts = facts_of(folder, self.name)
        now = table_of(array, facts, renumbered(rows, grid, own), renumbered(rims, grid, own))
        store(folder, self.table.renewed(self.facts, now, head))


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
    step = tuple(map(int, array.shards or array.chunks))
    return Table(
        facts=facts,
        rows=rows,
        of=PAYLOADS,
        job=job or {},
        shape=shape,
        rims=only_cut(rims, rows, shape, step),
        place=place or {},
    )


def grid_of(array: Any) -> Shape:
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
