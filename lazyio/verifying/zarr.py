"""Checks of a Zarr store in a local folder, lazyio's or another's."""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.core.metadata.v3 import ArrayV3Metadata

from lazyio.errors import LazyioError, SourceError
from lazyio.grid import Region, box, index_at
from lazyio.safety.digests import Table
from lazyio.safety.zarr_digests import NAME, digest_of_file, facts_of, grid_of, load
from lazyio.sources.confine import allowed_folders, require_inside
from lazyio.sources.files import read_json
from lazyio.sources.zarr import array_paths, zarr_kind, zarr_source
from lazyio.sources.zarr_objects import index_named
from lazyio.sources.zarr_store import confined_store
from lazyio.spec import nbytes_of
from lazyio.targets.zarr import METADATA_FILES
from lazyio.verifying.findings import SINCE, TOO_LARGE, Findings, Read, read_all, threads_for

_ANY = Exception
"""zarr-python raises errors of every kind of damaged metadata."""

_SHAPES = {
    *("shape", "chunk_grid", "chunks", "codecs", "zarr_format"),
    *("chunk_key_encoding", "dimension_separator"),
}
"""Facts without which the name of an object says nothing."""
_CHECKSUMS = ("crc32c", "fletcher32", "adler32", "crc32", "jenkins_lookup3")


def check_store(root: Path, key: str | None, findings: Findings, *, deep: bool) -> None:
    """Check the arrays of a store, or one of them.

    Raises
    ------
    SourceError
        When there is no such array.
    """
    found = _paths(root, findings)
    wanted = found if key is None else [key.strip("/")]
    if key is not None and wanted[0] not in found:
        msg = f"{root} has no array {key!r}; its arrays are {', '.join(found) or 'none'}"
        raise SourceError(msg)
    _check_consolidated(root, findings)
    for name in wanted:
        findings.n_arrays += 1
        try:
            _check(root, name, findings, deep=deep)
        except MemoryError:
            findings.cannot_tell(_shown(name), TOO_LARGE)
        except _ANY as error:
            findings.damage(_shown(name), f"it cannot be read: {error}")


def _paths(root: Path, findings: Findings) -> list[str]:
    """Return the paths of all arrays, also of those whose metadata are damaged."""
    marked = set()
    for folder, below, names in os.walk(root):
        # What is being written has no place in the store yet.
        below[:] = [name for name in below if not name.endswith(".lazyio")]
        if NAME in names:
            inside = os.path.relpath(folder, root)
            marked.add("" if inside == os.curdir else inside)
    try:
        with warnings.catch_warnings():
            # Of what is no array, or none any more: that is for us to say.
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            item = zarr.open(confined_store(root), mode="r")
            paths = array_paths(item) if isinstance(item, zarr.Group) else [""]
    except _ANY as error:
        findings.damage(None, f"it cannot be opened as Zarr: {error}")
        paths = []
    else:
        for name in sorted(marked - set(paths)):
            findings.damage(_shown(name), "it cannot be reached: its metadata or a group's are bad")
    return sorted({*paths, *marked})


def _check(root: Path, name: str, findings: Findings, *, deep: bool) -> None:
    folder, key = root / name, _shown(name)
    for metadata in METADATA_FILES:
        _require_inside(folder / metadata, root)
    table = load(folder)
    if table is not None:
        facts = _facts(folder, name, table)
        if findings.compare(key, dict(table.facts), facts) & _SHAPES:
            return
    array: Any = zarr.open_array(confined_store(root), path=name, mode="r")
    if table is None:
        _check_unknown(root, name, array, findings, deep=deep)
        return
    grid = grid_of(array)
    step = array.shards or array.chunks

    def region_of(number: int) -> Region:
        return box(array.shape, step, index_at(number, grid))

    def path_of(number: int) -> str:
        return str(folder / array.metadata.encode_chunk_key(index_at(number, grid)))

    there = []
    known = {}
    for number in table.rows[:, 0].tolist():
        known[path_of(number)] = number
        if os.path.exists(path_of(number)):
            there.append(number)
        else:
            findings.damage(key, "it is lost: its object is not there", region_of(number))
    for path in _objects(folder):
        if path not in known:
            what = f"{os.path.relpath(path, folder)} was not there when the array was written"
            findings.damage(key, what)
    if deep:
        read = _ObjectReader(root=root, table=table, path_of=path_of, region_of=region_of)
        read_all(findings, key, there, read)


def _facts(folder: Path, name: str, table: Table) -> dict[str, str]:
    facts = facts_of(folder, name)
    if not name:
        # Opened by itself, an array does not know what its group calls it.
        facts |= {fact: digest for fact, digest in table.facts.items() if fact == "name"}
    elif "name" not in table.facts:
        # Written by itself, it did not know then.
        facts.pop("name", None)
    return facts


def _objects(folder: Path) -> Iterator[str]:
    """Yield the paths of all files that may hold elements."""
    for below, _, names in os.walk(folder):
        yield from (os.path.join(below, name) for name in names if name not in METADATA_FILES)


@dataclass(frozen=True, kw_only=True)
class _ObjectReader:
    """Reads objects as they are stored."""

    root: Path
    table: Table
    path_of: Any
    region_of: Any

    def __call__(self, number: int) -> Read:
        path, region = self.path_of(number), self.region_of(number)
        try:
            _require_inside(Path(path), self.root)
            is_same = digest_of_file(path) == self.table.find(number)
            nbytes = os.path.getsize(path)
        except OSError as error:
            return Read(region=region, wrong=f"it cannot be read: {error}")
        return Read(region=region, nbytes=nbytes, wrong=None if is_same else f"it {SINCE}")


def _check_unknown(root: Path, name: str, array: Any, findings: Findings, *, deep: bool) -> None:
    """Check an array without digests: whether it decodes, and by checksums where it has them."""
    key = _shown(name)
    if not deep:
        findings.cannot_tell(key, "no digests; a deep check would decode it")
        return
    source = zarr_source(str(root), name or None)

    def read(region: Region) -> Read:
        try:
            return Read(region=region, nbytes=source.read(region).nbytes)
        except (LazyioError, OSError, ValueError, RuntimeError) as error:
            return Read(region=region, wrong=f"it does not decode: {error}")

    before = len(findings.damaged)
    # Only what is there: of all that may be there can be billions.
    names = (os.path.relpath(path, root / name) for path in _objects(root / name))
    stored = (region_named(array, one.replace(os.sep, "/")) for one in names)
    n_threads = threads_for(nbytes_of(array.shards or array.chunks, array.dtype))
    regions = (region for region in stored if region is not None)
    read_all(findings, key, regions, read, n_threads=n_threads)
    has_checksums = any(map(_is_checksum, (*array.filters, *array.compressors)))
    if len(findings.damaged) == before and not has_checksums:
        findings.cannot_tell(key, "it decodes, and has neither digests nor checksums")


def region_named(array: Any, name: str) -> Region | None:
    """Return the part of an array that an object of a name holds, ``None`` where it is none.

    What lies beyond its end is none: an array that grows leaves it when it is killed.
    """
    index = index_named(array.metadata, len(array.shape), name)
    if index is None or any(at >= count for at, count in zip(index, grid_of(array), strict=True)):
        return None
    return box(array.shape, array.shards or array.chunks, index)


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
        findings.damage(None, f"consolidated metadata in {name} do not fit the store: {error}")
        return
    for path, entry in entries.items():
        if entry != own[path] and _normal(entry) != _normal(own[path]):
            findings.damage(_shown(os.path.dirname(path)), f"{name} differs from {path}")


def _own(root: Path, path: str) -> Any:
    """Return metadata of a store; what consolidated ones name may lie anywhere."""
    _require_inside(root / path, root)
    return read_json(root / path)


def _require_inside(path: Path, root: Path) -> None:
    if path.exists():
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


def _shown(name: str) -> str:
    return f"/{name}" if name else "/"
