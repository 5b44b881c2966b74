"""Metadata of the groups that an array comes to lie in: made, and kept up to date."""

import errno
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype

from lazyio.atomic.publish_steps import PublishSteps, is_hidden_name
from lazyio.atomic.workdir import WorkDirectory, publish_in
from lazyio.atomic.zarr_digests import NAME as DIGESTS
from lazyio.errors import TargetError
from lazyio.planning.plan import Advice
from lazyio.sources.zarr_metadata import METADATA_FILES, zarr_kind

ARRAY_FILES = ("zarr.json", ".zarray")
"""Of which an array has one: what it says of itself."""

Held = dict[str, Any]
"""Metadata files, as a store in memory holds them: by path, with ``/``."""


def publish_arrays(
    works: Sequence[WorkDirectory],
    root: Path,
    paths: Sequence[str],
    zarr_format: int,
    check: Callable[[], object],
) -> Advice:
    """Give arrays of an existing store their names, all of them or none."""
    if works[0].target == _home_of(root, ""):
        check()
        works[0].publish()  # An array that is a store of its own.
        return ()
    home = _home_of(root, paths[0])

    def steps() -> PublishSteps:
        check()
        built = {path: work.built for path, work in zip(paths, works, strict=True)}
        files = _files_of(home, root, built, zarr_format)
        return PublishSteps(moves=tuple((work.built, work.target) for work in works), files=files)

    return publish_in(home, works, steps)


def publish_part(
    work: WorkDirectory,
    root: Path,
    path: str,
    check: Callable[[], object],
    *,
    objects: Sequence[tuple[Path, Path]],
    removals: Sequence[Path],
    is_closed: bool,
) -> Advice:
    """Put objects of a part of an array to the others, all of them or none."""
    home = _home_of(root, path)

    def steps() -> PublishSteps:
        check()
        own = {
            work.target / name: (work.built / name).read_bytes()
            for name in ARRAY_FILES
            if (work.built / name).is_file()
        }
        files = _files_of(home, root, {path: work.built}, 3)
        closed: dict[Path, bytes | None] = {}
        if is_closed:
            closed = {**_without(home, work.target), **dict.fromkeys(own)}
            files = {file: file.read_bytes() for file in closed if file not in own} | files
        return PublishSteps(
            closed=closed,
            moves=tuple(objects),
            removals=tuple(removals),
            # What the array itself says comes last.
            files=files | own,
        )

    return publish_in(home, [work], steps)


def _files_of(
    home: Path, root: Path, built: Mapping[str, Path], zarr_format: int
) -> dict[Path, bytes]:
    """Return the files of groups that change with arrays; see :func:`_files_after`."""
    try:
        return _files_after(home, root, built, zarr_format)
    except (ValueError, KeyError, TypeError) as error:
        msg = (
            f"the metadata of what else is in {home} cannot be read: {error}; nothing was "
            "published. Restore that file from a copy, for the chunks beside it may be intact, or "
            "write to another store"
        )
        raise TargetError(errno.EIO, msg) from error


def _without(home: Path, array: Path) -> dict[Path, bytes]:
    """Return the consolidated metadata of groups as they would be without an array."""
    found = {}
    for group in array.parents:
        if not _is_in(group, home):
            break
        if not _is_consolidated(group):
            continue
        name = array.relative_to(group).as_posix()
        file = group / ".zmetadata"
        if not file.is_file():
            file = group / "zarr.json"
        held = json.loads(file.read_bytes())
        members = held.get("consolidated_metadata", held)["metadata"]
        for key in [key for key in members if key == name or key.startswith(f"{name}/")]:
            del members[key]
        found[file] = json.dumps(held, indent=2).encode()
    return found


def _home_of(root: Path, path: str) -> Path:
    """Return the outermost group whose metadata change with those of an array; else the store."""
    found = root
    for folder in (root / path).parents:
        if zarr_kind(folder) is None and not _is_in(folder, root):
            break
        if _is_consolidated(folder) and _is_in(root, folder):
            found = folder
    return found


def _files_after(
    home: Path, root: Path, built: Mapping[str, Path], zarr_format: int
) -> dict[Path, bytes]:
    """Return the files of groups that change when arrays take their places."""
    inside = "" if root == home else f"{root.relative_to(home).as_posix()}/"
    arrays = {f"{inside}{path}".strip("/"): folder for path, folder in built.items()}
    above = {group for path in arrays for group in _above(path)}
    made = _groups((group for group in above if zarr_kind(home / group) is None), zarr_format)
    new = {
        f"{path}/{key}": data
        for path, folder in arrays.items()
        for key, data in _metadata_below(folder, "")
    }
    old = {
        f"{path}/{key}": data for path in arrays for key, data in _metadata_below(home / path, "")
    }
    files = _as_bytes(made)
    if made or _as_bytes(new) != _as_bytes(old):
        consolidated = {group for group in above if _is_consolidated(home / group)}
        files |= _consolidated(home, consolidated, without=old, added=made | new)
    return {home / path: data for path, data in files.items()}


def _consolidated(
    home: Path, groups: Iterable[str], *, without: Held, added: Held
) -> dict[str, bytes]:
    """Return the consolidated metadata of groups as zarr-python then makes them."""
    inner_first = sorted(groups, key=len, reverse=True)
    if not inner_first:
        return {}
    held = {key: data for key, data in _metadata_below(home, "") if key not in without} | added
    before = _as_bytes(held)
    store = zarr.storage.MemoryStore(held)
    with warnings.catch_warnings():
        # That v3 has no specification of it yet is known to whoever made it.
        warnings.simplefilter("ignore")
        for group in inner_first:
            version: Any = (zarr_kind(home / group) or ("", 3))[1]
            zarr.consolidate_metadata(store, path=group or None, zarr_format=version)
    return {key: data for key, data in _as_bytes(held).items() if before.get(key) != data}


def _groups(paths: Iterable[str], zarr_format: int) -> Held:
    """Return the metadata of groups as zarr-python makes them."""
    made: Held = {}
    for path in paths:
        held: Held = {}
        version: Any = 2 if zarr_format == 2 else 3
        zarr.create_group(zarr.storage.MemoryStore(held), zarr_format=version)
        made |= {f"{path}/{name}".strip("/"): data for name, data in held.items()}
    return made


def _metadata_below(folder: Path, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the metadata files of a group and what is in it, without looking into arrays."""
    kind, _ = zarr_kind(folder) or ("", 0)
    if not kind:
        return
    buffer = default_buffer_prototype().buffer
    for name in METADATA_FILES:
        # Digests are for lazyio alone, and as long as there are chunks.
        if name != DIGESTS and (folder / name).is_file():
            data = buffer.from_bytes((folder / name).read_bytes())
            yield f"{path}/{name}".strip("/"), data
    if kind == "group":
        for entry in folder.iterdir():
            if entry.is_dir() and not is_hidden_name(entry.name):
                yield from _metadata_below(entry, f"{path}/{entry.name}".strip("/"))


def _is_consolidated(folder: Path) -> bool:
    """Return whether a group holds the metadata of what is in it, too."""
    if (folder / ".zmetadata").is_file():
        return True
    try:
        held = json.loads((folder / "zarr.json").read_bytes())
        return held["node_type"] == "group" and held.get("consolidated_metadata") is not None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _as_bytes(held: Held) -> dict[str, bytes]:
    return {key: data.to_bytes() for key, data in held.items()}


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts))]


def _is_in(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents
