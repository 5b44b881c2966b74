"""Checks of a Zarr store, in a folder or a zip file."""

import contextlib
import errno
import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.core.metadata.v3 import ArrayV3Metadata

from lazyio.atomic.digests import Hash, LaterFormat, Table
from lazyio.atomic.zarr_digests import (
    FOLDER,
    NAME,
    StoreNeighbours,
    digest_of_file,
    facts_in,
    facts_of,
    load,
    parse,
    path_in,
    told,
)
from lazyio.errors import SourceError, UnsupportedDtypeError
from lazyio.os_errors import errno_of, walk
from lazyio.sources.files import read_json
from lazyio.sources.path_policy import allowed_folders, require_inside
from lazyio.sources.zarr import SizedZipStore, array_paths, confined_store
from lazyio.sources.zarr_metadata import METADATA_FILES, zarr_kind
from lazyio.verification.report import Findings, Read, read_all
from lazyio.verification.zarr_array import (
    check_known,
    check_places,
    decoder,
    region_named,
    threads_of,
)

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
            _check_zip(store, file, key, findings, deep=deep)
    except SourceError:
        raise
    except _ANY as error:
        findings.failed(None, error, "it cannot be opened as Zarr in a zip file")


def _check_zip(
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
    places: dict[str, StoreNeighbours] = {}
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
) -> StoreNeighbours:
    """Check an array, and return what it knows of its place."""
    inside, key = f"{name}/" if name else "", shown(name)
    entries = _Entries(file=file, inside=inside)
    reader = _EntryReader(entries=entries, array=array)
    names = [one for one in entries.all_names() if _is_metadata(one)]
    before = len(findings.damaged)
    read_all(findings, key, names, reader, n_threads=1)
    if len(findings.damaged) > before:
        return StoreNeighbours()
    try:
        table = parse(file.read(f"{inside}{NAME}")) if NAME in names else None
        near = [
            path_in(one.rpartition("/")[2], file.read(f"{inside}{one}"))
            for one in names
            if one.startswith(f"{FOLDER}/")
        ]
    except LaterFormat as error:
        findings.cannot_tell(key, str(error))
        return StoreNeighbours()
    except ValueError as error:
        findings.failed(key, error, "")
        return StoreNeighbours()
    if table is None:
        # By the checksums that a zip file has.
        others = [one for one in entries.names() if deep]
        read_all(findings, key, others, reader, n_threads=1)
        return StoreNeighbours()

    def read(one: str) -> bytes | None:
        return file.read(f"{inside}{one}") if one in names else None

    facts = named_facts(facts_in(read, name), name, table)
    check_known(findings, key, table, facts, array, entries, deep=deep)
    return StoreNeighbours.of(table.place, near)


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


_CHECKSUMS = ("crc32c", "fletcher32", "adler32", "crc32", "jenkins_lookup3")


def check_store(root: Path, key: str | None, findings: Findings, *, deep: bool) -> None:
    """Check the arrays of a store, or one of them."""
    try:
        os.close(os.open(root, os.O_RDONLY))
        os.listdir(root)
    except OSError as error:
        msg = f"{root} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error
    found = _paths(root, findings)
    closed = _closed_folders(root, found)
    for path in closed if key is None else ():
        findings.not_read(shown(path), f"its folder cannot be read: {os.strerror(errno.EACCES)}")
    wanted = found if key is None else ["/".join(filter(None, key.split("/")))]
    if key is not None and wanted[0] not in found:
        msg = f"{root} has no array {key!r}; its arrays are {', '.join(found) or 'none'}"
        raise SourceError(msg)
    _check_consolidated(root, findings)
    places: dict[str, StoreNeighbours] = {}
    for name in wanted:
        findings.n_arrays += 1
        try:
            place = _check(root, name, findings, deep=deep)
        except _ANY as error:
            findings.failed(shown(name), error)
        else:
            if place.path:
                places[name] = place
    if key is None:
        check_places(findings, places, {*found, *closed})


def _paths(root: Path, findings: Findings) -> list[str]:
    """Return the paths of all arrays, also of those whose metadata are damaged."""
    marked = set()
    for folder, below, names in walk(root, errno.EACCES):
        # What is being written has no place in the store yet.
        below[:] = [name for name in below if not name.endswith(".lazyio")]
        if NAME in names:
            inside = os.path.relpath(folder, root)
            marked.add("" if inside == os.curdir else inside)
            below.clear()
    try:
        with warnings.catch_warnings():
            # Of what is no array, or none any more: that is for us to say.
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            item = zarr.open(confined_store(root), mode="r", use_consolidated=False)
            paths = array_paths(item) if isinstance(item, zarr.Group) else [""]
    except _ANY as error:
        if errno_of(error) == errno.EAGAIN:
            raise  # zarr-python, whose thread did not start, waits for it from now on.
        paths = []
        findings.failed(None, error, "its arrays cannot be listed")
    else:
        for name in sorted(marked - set(paths)):
            what = "it cannot be reached: its metadata or a group's are bad"
            findings.damage(shown(name), what)
    return sorted({*paths, *marked})


def _check(root: Path, name: str, findings: Findings, *, deep: bool) -> StoreNeighbours:
    """Check an array, and return what it knows of its place."""
    folder, key = root / name, shown(name)
    neighbours = (folder / FOLDER).iterdir() if (folder / FOLDER).is_dir() else ()
    for path in (*(folder / metadata for metadata in METADATA_FILES), *neighbours):
        _require_inside(path, root)
    try:
        table = load(folder)
        near = tuple(told(folder))
    except LaterFormat as error:
        findings.cannot_tell(key, str(error))
        return StoreNeighbours()
    except ValueError as error:
        findings.failed(key, error, "")
        return StoreNeighbours()
    files = _Files(root=root, folder=str(folder))
    facts = {} if table is None else named_facts(facts_of(folder, name), name, table)
    array: Any = zarr.open_array(confined_store(root), path=name, mode="r")
    if table is None:
        _check_unknown(name, array, files, findings, deep=deep)
        return StoreNeighbours()
    check_known(findings, key, table, facts, array, files, deep=deep)
    return StoreNeighbours.of(table.place, near)


def named_facts(facts: dict[str, str], name: str, table: Table) -> dict[str, str]:
    """Return what describes an array, its name as it can be compared."""
    if not name:
        # Opened by itself, an array does not know what its group calls it.
        return facts | {fact: digest for fact, digest in table.facts.items() if fact == "name"}
    if "name" not in table.facts or table.place:
        # Written by itself, it did not know then; or its whole path tells more.
        return {fact: digest for fact, digest in facts.items() if fact != "name"} | {
            fact: digest for fact, digest in table.facts.items() if fact == "name"
        }
    return facts


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The objects of an array in a folder."""

    root: Path
    folder: str
    n_threads: int | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its files may lie."""
        return allowed_folders(str(self.root), None)

    def names(self) -> Iterator[str]:
        """Yield the names of all files that may hold elements, of folders that may be read."""
        for below, folders, names in walk(self.folder, errno.EACCES):
            inside = os.path.relpath(below, self.folder)
            if FOLDER in folders:
                folders.remove(FOLDER)
            for name in names:
                if name not in METADATA_FILES:
                    yield (name if inside == os.curdir else f"{inside}/{name}").replace(os.sep, "/")

    def is_there(self, name: str) -> bool:
        """Return whether there is an object of a name."""
        try:
            mode = os.stat(f"{self.folder}/{name}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(mode):
            msg = f"{name} is no file"
            raise OSError(errno.EINVAL, msg)
        return True

    def digest(self, name: str) -> tuple[int, int]:
        """Return the digest of an object, and its bytes."""
        path = f"{self.folder}/{name}"
        _require_inside(Path(path), self.root)
        return digest_of_file(path), os.path.getsize(path)


def _check_unknown(name: str, array: Any, files: _Files, findings: Findings, *, deep: bool) -> None:
    """Check an array without digests: whether it decodes, and by checksums where it has them."""
    key = shown(name)
    if not deep:
        findings.cannot_tell(key, "no digests; a deep check would decode it")
        return
    try:
        read = decoder(array, files.folders)
    except UnsupportedDtypeError as error:
        findings.cannot_tell(key, f"no digests, and it cannot be decoded here: {error}")
        return
    before = len(findings.damaged)
    # Only what is there: of all that may be there can be billions.
    stored = (region_named(array, one) for one in files.names())
    regions = (region for region in stored if region is not None)
    read_all(findings, key, regions, read, n_threads=threads_of(array))
    for folder in _closed_folders(Path(files.folder), ()):
        findings.not_read(key, f"{folder} cannot be read: {os.strerror(errno.EACCES)}")
    has_checksums = any(map(_is_checksum, (*array.filters, *array.compressors)))
    if len(findings.damaged) == before and not has_checksums:
        findings.cannot_tell(key, "it decodes, and has neither digests nor checksums")


def _closed_folders(root: Path, arrays: Container[str]) -> list[str]:
    """Return the folders that may not be read, by their paths; not those inside of arrays."""
    closed: list[str] = []

    def note(error: OSError) -> None:
        closed.append(os.path.relpath(error.filename, root).replace(os.sep, "/"))

    for folder, below, _ in os.walk(root, onerror=note):
        if os.path.relpath(folder, root).replace(os.sep, "/") in arrays:
            below.clear()
    return closed


def _is_checksum(codec: Any) -> bool:
    described = codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config()
    name = str(described.get("name", described.get("id"))).removeprefix("numcodecs.")
    return name in _CHECKSUMS or bool(described.get("configuration", described).get("checksum"))


def _check_consolidated(root: Path, findings: Findings) -> None:
    """Check that consolidated metadata say of each array what the array itself does."""
    kind, version = zarr_kind(root) or ("", 0)
    name = "zarr.json" if version == 3 else ".zmetadata"
    if kind != "group" or not (root / name).exists():
        return
    try:
        _require_inside(root / name, root)
        held = read_json(root / name)
        if version == 3:
            held = held.get("consolidated_metadata") or {"metadata": {}}
        end = "/zarr.json" if version == 3 else ""
        entries = {f"{path}{end}": entry for path, entry in held["metadata"].items()}
        own = {path: _own(root, path) for path in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"consolidated metadata in {name} do not fit the store"
        findings.failed(None, error, what)
        return
    for path, entry in entries.items():
        if entry != own[path] and _normal(entry) != _normal(own[path]):
            findings.damage(shown(os.path.dirname(path)), f"{name} differs from {path}")


def _own(root: Path, path: str) -> Any:
    """Return metadata of a store; what consolidated ones name may lie anywhere."""
    _require_inside(root / path, root)
    return read_json(root / path)


def _require_inside(path: Path, root: Path) -> None:
    if os.path.exists(path):
        require_inside(str(path), str(root), repr(path.name), allowed_folders(str(root), None))


def _normal(entry: Any) -> Any:
    """Return metadata with what may be left out, or is kept elsewhere, in one form."""
    if not isinstance(entry, dict):
        return entry
    entry = {"attributes": {}, **entry}
    entry.pop("consolidated_metadata", None)
    if entry.get("node_type") != "array":
        return entry
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        return json.dumps(ArrayV3Metadata.from_dict(entry).to_dict(), sort_keys=True, default=str)
    return entry


def shown(name: str) -> str:
    """Return what a report calls an array."""
    return f"/{name}" if name else "/"
