"""Checks of a Zarr store in a zip file, whose format has a checksum for each entry."""

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from lazyio.errors import SourceError
from lazyio.sources.zarr import array_paths
from lazyio.sources.zarr_store import SizedZipStore
from lazyio.targets.zarr import METADATA_FILES
from lazyio.verifying.findings import Findings, Read, read_all
from lazyio.verifying.zarr import region_named

_ANY = Exception
"""zipfile and zarr-python raise errors of every kind of a damaged file."""

_PIECE_NBYTES = 1 << 20
_END_NBYTES = (1 << 16) + 128
"""Within which the end of a zip file begins, whatever its comment."""
_MORE = 0xFFFF
"""Stands for a number of entries that does not fit."""


def check_zip(path: Path, key: str | None, findings: Findings, *, deep: bool) -> None:
    """Check the arrays of a store in a zip file, or one of them.

    Raises
    ------
    SourceError
        When there is no such array.
    """
    try:
        with SizedZipStore(path, mode="r") as store, zipfile.ZipFile(path) as file:
            _check(store, file, key, findings, deep=deep)
    except SourceError:
        raise
    except _ANY as error:
        findings.damage(None, f"it cannot be opened as Zarr in a zip file: {error}")


def _check(
    store: Any, file: zipfile.ZipFile, key: str | None, findings: Findings, *, deep: bool
) -> None:
    item = zarr.open(store, mode="r")
    found = array_paths(item) if isinstance(item, zarr.Group) else [""]
    wanted = found if key is None else [key.strip("/")]
    if key is not None and wanted[0] not in found:
        msg = f"{file.filename} has no array {key!r}; its arrays are {', '.join(found) or 'none'}"
        raise SourceError(msg)
    for name in wanted:
        findings.n_arrays += 1
        array: Any = zarr.open_array(store, path=name, mode="r")
        entries = [entry for entry in _entries(file, name) if deep or _is_metadata(entry)]
        # One at a time: they share one file.
        reader = _EntryReader(file=file, array=array, inside=f"{name}/" if name else "")
        read_all(findings, f"/{name}", entries, reader, n_threads=1)
    if key is None:
        _check_others(file, found, findings)
    n_said, n_found = _n_said(Path(str(file.filename))), len(file.infolist())
    if n_said != n_found:
        findings.damage(None, f"its directory lists {n_found} entries, and should {n_said}")


def _check_others(file: zipfile.ZipFile, found: list[str], findings: Findings) -> None:
    """Check what belongs to no array, of which damage to a name may have made it."""
    for entry in file.namelist():
        if any(entry.startswith(f"{name}/") for name in found) or "" in found:
            continue
        try:
            file.open(entry).close()  # Compares the two places that a name is kept in.
        except _ANY as error:
            findings.damage(None, f"{entry} is damaged: {error}")


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


def _entries(file: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Yield what belongs to an array, of which a chunk may be listed under a damaged name."""
    inside = f"{name}/" if name else ""
    names = file.namelist()
    return (entry for entry in names if entry.startswith(inside) and not entry.endswith("/"))


def _is_metadata(entry: str) -> bool:
    return entry.rpartition("/")[2] in METADATA_FILES


@dataclass(frozen=True, kw_only=True)
class _EntryReader:
    """Reads entries to their ends, where their checksums are."""

    file: zipfile.ZipFile
    array: Any
    inside: str

    def __call__(self, entry: str) -> Read:
        nbytes = 0
        region = region_named(self.array, entry.removeprefix(self.inside))
        try:
            with self.file.open(entry) as opened:
                while piece := opened.read(_PIECE_NBYTES):
                    nbytes += len(piece)
        except _ANY as error:
            return Read(region=region, nbytes=nbytes, wrong=f"{entry} is damaged: {error}")
        if region is None and not _is_metadata(entry):
            return Read(region=None, nbytes=nbytes, wrong=f"{entry} is no chunk of the array")
        return Read(region=region, nbytes=nbytes)
