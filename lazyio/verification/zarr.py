"""Checks of a Zarr store, in a folder or a zip file."""

import contextlib
import errno
import functools
import json
import os
import stat
import struct
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
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
    parse,
    path_in,
    told,
)
from lazyio.dtypes import Shape, nbytes_of
from lazyio.errors import SourceError, UnsupportedDtypeError
from lazyio.os_errors import errno_of, walk
from lazyio.regions import Region, box
from lazyio.sources.files import read_json
from lazyio.sources.path_policy import allowed_folders, require_inside
from lazyio.sources.zarr import SizedZipStore, array_paths, confined_store, describe_array
from lazyio.sources.zarr_metadata import METADATA_FILES, zarr_kind
from lazyio.sources.zarr_objects import index_named
from lazyio.verification.known import Index, check_known, check_unknown, decoding, is_inside
from lazyio.verification.report import Findings, Read, read_all, threads_for, wanted_keys
from lazyio.verification.zarr_places import check_places, shown

_ANY = Exception
"""zipfile and zarr-python raise errors of every kind of a damaged file."""

_PIECE_NBYTES = 1 << 20
_END_NBYTES = (1 << 16) + 128
"""Within which the end of a zip file begins, whatever its comment."""
_MORE = 0xFFFF
"""Stands for a number of entries that does not fit."""


_CHECKSUMS = ("crc32c", "fletcher32", "adler32", "crc32", "jenkins_lookup3")


@dataclass(frozen=True, kw_only=True)
class _ZarrArray(ABC):
    """An array, whose objects are read as they are stored, wherever they lie."""

    array: Any

    lost = "its object is not there"
    decisive = frozenset(
        {
            *("shape", "chunk_grid", "chunks", "codecs", "zarr_format"),
            *("chunk_key_encoding", "dimension_separator"),
        }
    )
    anew = frozenset({"dimension_names", "storage_transformers"})

    @property
    @abstractmethod
    def folders(self) -> tuple[Path, ...]:
        """Where files of its store may lie; none, where it lies in one file."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Yield the names of what may be objects, from the array on; not those of metadata."""

    @abstractmethod
    def is_there(self, name: str) -> bool:
        """Return whether there is an object of a name."""

    @abstractmethod
    def digest_of(self, name: str) -> tuple[int, int]:
        """Return the digest of an object, and its bytes; raises what its reading raises."""

    @abstractmethod
    def metadata_file(self, name: str) -> bytes | None:
        """Return what is in a file of metadata, if it is there."""

    @abstractmethod
    def neighbours(self) -> Iterable[str]:
        """Return the paths of arrays that it was told of."""

    @abstractmethod
    def check_unknown(self, findings: Findings, key: str, *, deep: bool) -> None:
        """Check it without digests."""

    @functools.cached_property
    def shape(self) -> Shape:
        return tuple(map(int, self.array.shape))

    @functools.cached_property
    def step(self) -> Shape:
        return tuple(map(int, self.array.shards or self.array.chunks))

    @property
    def fill_value(self) -> Any:
        return self.array.metadata.fill_value

    @property
    def has_checksums(self) -> bool:
        return any(map(_is_checksum, (*self.array.filters, *self.array.compressors)))

    @property
    def n_threads(self) -> int:
        return threads_for(nbytes_of(self.step, self.array.dtype))

    def listed(self) -> Iterator[tuple[Index | None, str]]:
        n_axes = len(self.shape)
        return ((index_named(self.array.metadata, n_axes, name), name) for name in self.names())

    def regions(self) -> Iterator[Region]:
        found = (self.region_named(name) for name in self.names())
        return (region for region in found if region is not None)

    def region_named(self, name: str) -> Region | None:
        """Return the part that an object of a name holds, ``None`` where it is none."""
        index = index_named(self.array.metadata, len(self.shape), name)
        is_chunk = index is not None and is_inside(index, self)
        return box(self.shape, self.step, index) if is_chunk and index is not None else None

    def place(self, region: Region) -> int | None:
        return 0 if self.is_there(self._name(region)) else None

    def digest(self, region: Region) -> tuple[int, int] | None:
        name = self._name(region)
        return self.digest_of(name) if self.is_there(name) else None

    def reader(self) -> Callable[[Region], Any]:
        return replace(describe_array(self.array), folders=self.folders).read

    def decoder(self) -> Callable[[Region], Any]:
        return self.reader()

    def _name(self, region: Region) -> str:
        index = tuple(part.start // size for part, size in zip(region, self.step, strict=True))
        return str(self.array.metadata.encode_chunk_key(index))


def _is_checksum(codec: Any) -> bool:
    described = codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config()
    name = str(described.get("name", described.get("id"))).removeprefix("numcodecs.")
    return name in _CHECKSUMS or bool(described.get("configuration", described).get("checksum"))


def _check_array(
    findings: Findings, name: str, array: _ZarrArray, *, deep: bool
) -> StoreNeighbours:
    """Check an array, and return what it knows of its place."""
    key = shown(name)
    try:
        held = array.metadata_file(NAME)
        table = None if held is None else parse(held)
        near = tuple(array.neighbours())
    except LaterFormat as error:
        findings.cannot_tell(key, str(error))
        return StoreNeighbours()
    except ValueError as error:
        findings.failed(key, error, "")
        return StoreNeighbours()
    if table is None:
        array.check_unknown(findings, key, deep=deep)
        return StoreNeighbours()
    facts = _with_name(facts_in(array.metadata_file, name), name, table)
    check_known(findings, key, table, facts, array, deep=deep)
    return StoreNeighbours.of(table.place, near)


def _with_name(facts: dict[str, str], name: str, table: Table) -> dict[str, str]:
    """Return what describes an array, with a name that can be compared."""
    if name and "name" in table.facts and not table.place:
        return facts
    # Opened or written by itself, it does not know its name; or its whole path tells more.
    own = {fact: digest for fact, digest in table.facts.items() if fact == "name"}
    return {fact: digest for fact, digest in facts.items() if fact != "name"} | own


def check_zip(
    path: Path, key: str | None, findings: Findings, *, deep: bool, decodes: bool = False
) -> None:
    """Check the arrays of a store in a zip file, or one of them."""
    try:
        with SizedZipStore(path, mode="r") as store, zipfile.ZipFile(path) as file:
            _check_zip(store, file, key, findings, deep=deep or decodes)
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
    wanted = wanted_keys(key, found, f"{file.filename} has no array {key!r}; its arrays are")
    places: dict[str, StoreNeighbours] = {}
    for name in wanted:
        findings.n_arrays += 1
        array: Any = zarr.open_array(store, path=name, mode="r")
        place = _check_in_zip(file, name, array, findings, deep=deep)
        if place.path:
            places[name] = place
    if key is None:
        _check_others(file, found, findings)
        check_places(findings, places, {*found, *marked})
    n_said, n_found = _n_said(Path(str(file.filename))), len(file.infolist())
    if n_said != n_found:
        findings.damage(None, f"its directory lists {n_found} entries, and should {n_said}")


def _check_in_zip(
    file: zipfile.ZipFile, name: str, array: Any, findings: Findings, *, deep: bool
) -> StoreNeighbours:
    """Check an array, its metadata by their checksums first, and return what it knows."""
    stored = _InZip(array=array, file=file, inside=f"{name}/" if name else "")
    names = [one for one in stored.all_names() if _is_metadata(one)]
    before = len(findings.damaged)
    read_all(findings, shown(name), names, stored.read_entry, n_threads=1)
    if len(findings.damaged) > before:
        return StoreNeighbours()
    return _check_array(findings, name, stored, deep=deep)


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
class _InZip(_ZarrArray):
    """An array in a zip file, where objects have checksums at their ends."""

    file: zipfile.ZipFile
    inside: str
    n_threads: int = 1
    """One at a time: they share one file."""
    folders: tuple[Path, ...] = ()

    def all_names(self) -> Iterator[str]:
        """Yield what belongs to the array, of which a chunk may be listed under a damaged name."""
        for entry in dict.fromkeys(self.file.namelist()):
            if entry.startswith(self.inside) and not entry.endswith("/"):
                yield entry.removeprefix(self.inside)

    def names(self) -> Iterator[str]:
        return (name for name in self.all_names() if not _is_metadata(name))

    def is_there(self, name: str) -> bool:
        return f"{self.inside}{name}" in self.file.NameToInfo

    def digest_of(self, name: str) -> tuple[int, int]:
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

    def metadata_file(self, name: str) -> bytes | None:
        return self.file.read(f"{self.inside}{name}") if self.is_there(name) else None

    def neighbours(self) -> Iterable[str]:
        for name in self.all_names():
            if name.startswith(f"{FOLDER}/"):
                yield path_in(name.rpartition("/")[2], self.file.read(f"{self.inside}{name}"))

    def check_unknown(self, findings: Findings, key: str, *, deep: bool) -> None:
        # By the checksums that a zip file has.
        names = [one for one in self.names() if deep]
        read_all(findings, key, names, self.read_entry, n_threads=1)

    def read_entry(self, name: str) -> Read:
        """Read an entry to its end, and look at its name."""
        region = self.region_named(name)
        try:
            _, nbytes = self.digest_of(name)
        except ValueError as error:
            return Read(region=region, wrong=str(error))
        if region is None and not _is_metadata(name):
            what = f"{self.inside}{name} is no chunk of the array"
            return Read(region=None, nbytes=nbytes, wrong=what)
        return Read(region=region, nbytes=nbytes)


def check_store(
    root: Path, key: str | None, findings: Findings, *, deep: bool, decodes: bool = False
) -> None:
    """Check the arrays of a store, or one of them; or only see whether they decode."""
    try:
        os.close(os.open(root, os.O_RDONLY))
        os.listdir(root)
    except OSError as error:
        msg = f"{root} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error
    found = paths_in(root, findings)
    closed = _closed_folders(root, found)
    for path in closed if key is None else ():
        findings.not_read(shown(path), f"its folder cannot be read: {os.strerror(errno.EACCES)}")
    wanted = wanted_keys(key, found, f"{root} has no array {key!r}; its arrays are")
    if not decodes:
        _check_consolidated(root, findings)
    places: dict[str, StoreNeighbours] = {}
    for name in wanted:
        findings.n_arrays += 1
        try:
            array = array_in_folder(root, name)
            if decodes:
                _decode(findings, shown(name), array)
                continue
            place = _check_array(findings, name, array, deep=deep)
        except _ANY as error:
            findings.failed(shown(name), error)
        else:
            if place.path:
                places[name] = place
    if key is None and not decodes:
        check_places(findings, places, {*found, *closed})


def _decode(findings: Findings, key: str, array: "FolderArray") -> None:
    """See whether all of an array decodes."""
    try:
        read = array.decoder()
    except (TypeError, UnsupportedDtypeError, SourceError) as error:
        findings.cannot_tell(key, f"it cannot be decoded here: {error}")
        return
    read_all(findings, key, array.regions(), decoding(read), n_threads=array.n_threads)


def paths_in(root: Path, findings: Findings) -> list[str]:
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


def array_in_folder(root: Path, name: str) -> "FolderArray":
    """Return an array of a store, none of whose metadata lie elsewhere."""
    folder = root / name
    neighbours = (folder / FOLDER).iterdir() if (folder / FOLDER).is_dir() else ()
    for path in (*(folder / metadata for metadata in METADATA_FILES), *neighbours):
        _require_inside(path, root)
    array: Any = zarr.open_array(confined_store(root), path=name, mode="r")
    return FolderArray(array=array, root=root, folder=str(folder))


@dataclass(frozen=True, kw_only=True)
class FolderArray(_ZarrArray):
    """An array in a folder."""

    root: Path
    folder: str

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where files of its store may lie."""
        return allowed_folders(str(self.root), None)

    def names(self) -> Iterator[str]:
        """Yield the names of what may be objects, from the array on; not those of metadata."""
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

    def digest_of(self, name: str) -> tuple[int, int]:
        """Return the digest of an object, and its bytes."""
        path = f"{self.folder}/{name}"
        _require_inside(Path(path), self.root)
        return digest_of_file(path), os.path.getsize(path)

    def metadata_file(self, name: str) -> bytes | None:
        """Return what is in a file of metadata, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            return Path(self.folder, name).read_bytes()
        return None

    def neighbours(self) -> Iterable[str]:
        """Return the paths of arrays that it was told of."""
        return told(Path(self.folder))

    def check_unknown(self, findings: Findings, key: str, *, deep: bool) -> None:
        """Check it without digests."""
        for folder in _closed_folders(Path(self.folder), ()) if deep else ():
            findings.not_read(key, f"{folder} cannot be read: {os.strerror(errno.EACCES)}")
        check_unknown(findings, key, self, deep=deep)


def _closed_folders(root: Path, arrays: Container[str]) -> list[str]:
    """Return the folders that may not be read, by their paths; not those inside of arrays."""
    closed: list[str] = []

    def note(error: OSError) -> None:
        closed.append(os.path.relpath(error.filename, root).replace(os.sep, "/"))

    for folder, below, _ in os.walk(root, onerror=note):
        if os.path.relpath(folder, root).replace(os.sep, "/") in arrays:
            below.clear()
    return closed


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
