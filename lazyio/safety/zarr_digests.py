"""Digests of a Zarr array: a file in the array's own folder, and what of the array they cover.

The first line of ``lazyio.digests`` is JSON, and what follows it three
64-bit integers for each stored object. zarr-python lists the members of groups
only, and takes no notice of it.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lazyio.grid import grid_shape
from lazyio.safety.digests import PAYLOADS, Hash, Noted, Table, digest_of_value, renumbered
from lazyio.spec import Shape

NAME = "lazyio.digests"

_READ_NBYTES = 1 << 20


def store(folder: Path, table: Table) -> None:
    """Put the digests of an array into its folder, in place of those that are there."""
    built = folder / f"{NAME}.partial"
    rows = np.ascontiguousarray(table.rows, "<u8")
    with built.open("wb") as file:
        file.write(table.head().encode() + b"\n")
        file.write(memoryview(rows))
    built.replace(folder / NAME)


def load(folder: Path) -> Table | None:
    """Return the digests of an array, ``None`` where there are none.

    Raises
    ------
    ValueError
        When they are damaged.
    """
    try:
        with (folder / NAME).open("rb") as file:
            head, rows = file.readline(), file.read()
    except FileNotFoundError:
        return None
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
        rows = renumbered(rows, grid, grid_of(array))
        now = Table(facts=facts_of(folder, self.name), rows=rows, of=PAYLOADS)
        store(folder, self.table.renewed(self.facts, now, head))


def grid_of(array: Any) -> Shape:
    """Return the number of objects along each axis."""
    return grid_shape(array.shape, array.shards or array.chunks)


def load_or_none(folder: Path) -> Table | None:
    """Return the digests of an array, ``None`` also where they are damaged."""
    with contextlib.suppress(ValueError):
        return load(folder)
    return None


def digest_of_file(path: str | os.PathLike[str]) -> int:
    """Return the digest of an object as it is stored.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    hash_ = Hash()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_READ_NBYTES):
            hash_.update(piece)
    return hash_.value


def facts_of(folder: Path, name: str) -> dict[str, str]:
    """Return digests of everything beside its elements that a reader of an array gets.

    Parameters
    ----------
    folder : Path
        The array's own.
    name : str
        Its path in the store, empty for the store itself.

    Raises
    ------
    OSError, ValueError
        When its metadata cannot be read.
    """
    if (folder / "zarr.json").exists():
        held = _json(folder / "zarr.json")
        attributes = held.pop("attributes", {})
    else:
        held = _json(folder / ".zarray")
        attributes = _json(folder / ".zattrs") if (folder / ".zattrs").exists() else {}
    facts = {key: digest_of_value(value) for key, value in held.items()}
    facts |= {f"attribute {key!r}": digest_of_value(value) for key, value in attributes.items()}
    return facts | ({"name": digest_of_value(Path(name).name)} if name else {})


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        msg = f"{path.name} holds no metadata"
        raise ValueError(msg)  # noqa: TRY004 - of the file, not of an argument
    return found
