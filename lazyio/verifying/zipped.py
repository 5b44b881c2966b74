"""Checks of a Zarr store in a zip file, whose format has a checksum for each entry."""

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from lazyio.errors import SourceError
from lazyio.safety.digests import Hash, LaterFormat
from lazyio.safety.zarr_digests import NAME, facts_in, parse
from lazyio.safety.zarr_places import FOLDER, Place, path_in
from lazyio.sources.zarr import array_paths
from lazyio.sources.zarr_store import SizedZipStore
from lazyio.targets.zarr import METADATA_FILES
from lazyio.verifying.findings import Findings, Read, read_all
from lazyio.verifying.zarr import named_facts, shown
from lazyio.verifying.zarr_array import check_known, region_named
from lazyio.verifying.zarr_places import check_places

_ANY = Exception
"""zipfile and zarr-python raise errors of every kind of a damaged file."""

_PIECE_NBYTES = 1 << 20
_END_NBYTES = (1 << 16) + 128
"""Within which the end of a zip file begins, whatever its comment."""
_MORE = 0xFFFF
"""Stands for a number of entries that does not fit."""


def check_zip(path: Path, key: str | None, findings: Findings, *, deep: bool) -> None:
    """Check the arrays of a store in a zip file, or one of them."""
    try:
        with SizedZipStore(path, mode="r") as store, zipfile.ZipFile(path) as file:
            _check(store, file, key, findings, deep=deep)
    except SourceError:
        raise
    except _ANY as error:
        findings.failed(None, error, "it cannot be opened as Zarr in a zip file")


def _check(
    store: Any, file: zipfile.ZipFile, key: str | None, findings: Findings, *, deep: bool
) -> None:
    item = zarr.open(store, mode="r", use_consolidated=False)
    found = array_paths(item) if isinstance(item, zarr.Group) else [""]
    marked = {
        entry.removesuffix(NAME).rstrip("/")
        for entry in file.namelist()
        if entry.rpartition("/")[2] == NAME
    }
    for name in sorted(marked - set(found)):
        what = "it cannot be reached: its metadata or a group's are bad"
        findings.damage(shown(name), what)
    wanted = found if key is None else ["/".join(filter(None, key.split("/")))]
    if key is not None and wanted[0] not in found:
        msg = f"{file.filename} has no array {key!r}; its arrays are {', '.join(found) or 'none'}"
        raise SourceError(msg)
    places: dict[str, Place] = {}
    for name in wanted:
        findings.n_arrays += 1
        array: Any = zarr.open_array(store, path=name, mode="r")
        place = _check_array(file, name, array, findings, deep=deep)
        if place.path:
            places[name] = place
    if key is None:
        _check_others(file, found, findings)
        check_places(findings, places, {*found, *marked})
    n_said, n_found = _n_said(Path(str(file.filename))), len(file.infolist())
    if n_said != n_found:
        findings.damage(None, f"its directory lists {n_found} entries, and should {n_said}")


def _check_array(
    file: zipfile.ZipFile, name: str, array: Any, findings: Findings, *, deep: bool
) -> Place:
    """Check an array, and return what it knows of its place."""
    inside, key = f"{name}/" if name else "", shown(name)
    entries = _Entries(file=file, inside=inside)
    reader = _EntryReader(entries=entries, array=array)
    names = [one for one in entries.all_names() if _is_metadata(one)]
    before = len(findings.damaged)
    read_all(findings, key, names, reader, n_threads=1)
    if len(findings.damaged) > before:
        return Place()
    try:
        table = parse(file.read(f"{inside}{NAME}")) if NAME in names else None
        near = [
            path_in(one.rpartition("/")[2], file.read(f"{inside}{one}"))
            for one in names
            if one.startswith(f"{FOLDER}/")
        ]
    except LaterFormat as error:
        findings.cannot_tell(key, str(error))
        return Place()
    except ValueError as error:
        findings.failed(key, error, "")
        return Place()
    if table is None:
        # By the checksums that a zip file has.
        others = [one for one in entries.names() if deep]
        read_all(findings, key, others, reader, n_threads=1)
        return Place()

    def read(one: str) -> bytes | None:
        return file.read(f"{inside}{one}") if one in names else None

    facts = named_facts(facts_in(read, name), name, table)
    check_known(findings, key, table, facts, array, entries, deep=deep)
    return Place.of(table.place, near)


def _check_others(file: zipfile.ZipFile, found: list[str], findings: Findings) -> None:
    """Check what belongs to no array, of which damage to a name may have made it."""
    for entry in file.namelist():
        if any(entry.startswith(f"{name}/") for name in found) or "" in found:
            continue
        try:
            file.open(entry).close()  # Compares the two places that a name is kept in.
        except _ANY as error:
            findings.failed(None, error, f"{entry} is damaged")


def _n_said(path: Path) -> int:
    """Return how many entries a zip file has by its own last words, which zipfile skips."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_NBYTES))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    (n_said,) = struct.unpack_from("<H", tail, at + 10)
    large = tail.rfind(b"PK\6\6", 0, at)
    if n_said == _MORE and large >= 0:
        (n_said,) = struct.unpack_from("<Q", tail, large + 32)
    return int(n_said)


def _is_metadata(entry: str) -> bool:
    return entry.rpartition("/")[2] in METADATA_FILES or entry.startswith(f"{FOLDER}/")


@dataclass(frozen=True, kw_only=True)
class _Entries:
    """The objects of an array in a zip file, where they have checksums at their ends."""

    file: zipfile.ZipFile
    inside: str
    n_threads: int | None = 1
    """One at a time: they share one file."""
    folders: tuple[Path, ...] = ()

    def all_names(self) -> Iterator[str]:
        """Yield what belongs to the array, of which a chunk may be listed under a damaged name."""
        for entry in dict.fromkeys(self.file.namelist()):
            if entry.startswith(self.inside) and not entry.endswith("/"):
                yield entry.removeprefix(self.inside)

    def names(self) -> Iterator[str]:
        """Yield the names of what may be objects."""
        return (name for name in self.all_names() if not _is_metadata(name))

    def is_there(self, name: str) -> bool:
        """Return whether there is an object of a name."""
        return f"{self.inside}{name}" in self.file.NameToInfo

    def digest(self, name: str) -> tuple[int, int]:
        """Return the digest of an object, and its bytes."""
        hash_, nbytes = Hash(), 0
        entry = f"{self.inside}{name}"
        try:
            with self.file.open(entry) as opened:
                while piece := opened.read(_PIECE_NBYTES):
                    nbytes += len(piece)
                    hash_.update(piece)
        except _ANY as error:
            msg = f"{entry} is damaged: {error}"
            raise ValueError(msg) from error
        return hash_.value, nbytes


@dataclass(frozen=True, kw_only=True)
class _EntryReader:
    """Reads entries to their ends, and looks at their names."""

    entries: _Entries
    array: Any

    def __call__(self, name: str) -> Read:
        entry = f"{self.entries.inside}{name}"
        region = region_named(self.array, name)
        try:
            _, nbytes = self.entries.digest(name)
        except ValueError as error:
            return Read(region=region, wrong=str(error))
        if region is None and not _is_metadata(name):
            return Read(region=None, nbytes=nbytes, wrong=f"{entry} is no chunk of the array")
        return Read(region=region, nbytes=nbytes)
