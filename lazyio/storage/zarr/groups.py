"""Metadata of the groups that an array comes to lie in: made, and kept up to date."""

import errno
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    group_attrs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Advice:
    """Give arrays of an existing store their names, all of them or none.

    With them groups get attributes, by their paths in the store; others that they have stay.
    """
    if works[0].target == home_of(root, ""):
        check()
        works[0].publish()  # An array that is a store of its own.
        return ()
    home = home_of(root, paths[0])

    def steps() -> PublishSteps:
        check()
        built = {path: work.built for path, work in zip(paths, works, strict=True)}
        files = _files_of(home, root, built, zarr_format, group_attrs or {})
        return PublishSteps(moves=tuple((work.built, work.target) for work in works), files=files)

    return publish_in(home, works, steps)


@dataclass(frozen=True, kw_only=True)
class BuiltPart:
    """A part of an array that is built, object by object."""

    work: WorkDirectory
    check: Callable[[], object]
    """Refuses to go on where another program has changed what lies there."""
    digests: Callable[[], Path | None]
    """Returns a file with its digests as they then are, where there are any."""
    objects: tuple[tuple[Path, Path], ...]
    """From where to where."""
    removals: tuple[Path, ...]
    """Objects that are to be there no longer."""
    is_closed: bool
    """Whether nobody is to open the array while it is neither old nor new."""

    @property
    def own_files(self) -> dict[Path, bytes]:
        """What the array says of itself."""
        work = self.work
        there = [name for name in ARRAY_FILES if (work.built / name).is_file()]
        return {work.target / name: (work.built / name).read_bytes() for name in there}


@dataclass(frozen=True, kw_only=True)
class NewFolder:
    """A group or array that is built as a whole."""

    path: str
    """In the store."""
    work: WorkDirectory


def publish_parts(
    root: Path,
    parts: Mapping[str, BuiltPart],
    *,
    new: Sequence[NewFolder] = (),
    metadata: Callable[[], Mapping[Path, bytes]] | None = None,
) -> Advice:
    """Put objects of parts of arrays, by their paths, to the others: all of them or none.

    With them go new folders, and the metadata of groups where somebody else has made those;
    they are asked for when no other program can change any more what is there.
    """
    home = home_of(root, next(iter(parts))) if metadata is None else root

    def steps() -> PublishSteps:
        for part in parts.values():
            part.check()
        moves, removals = _digests_of(parts.values())
        own = {file: data for part in parts.values() for file, data in part.own_files.items()}
        built = {path: one.work.built for path, one in parts.items()}
        files = _files_of(home, root, built, 3) if metadata is None else dict(metadata())
        # Of several arrays none is to be new while another is old.
        hidden = [part for part in parts.values() if part.is_closed or len(parts) > 1]
        closed: dict[Path, bytes | None] = {}
        if hidden:
            closed.update(_without(home, [part.work.target for part in hidden]))
            closed.update(dict.fromkeys(file for part in hidden for file in part.own_files))
            files = {file: file.read_bytes() for file in closed if file not in own} | files
        return PublishSteps(
            closed=closed,
            moves=(
                *(pair for part in parts.values() for pair in part.objects),
                *moves,
                *((one.work.built, one.work.target) for one in new),
            ),
            removals=(*(path for part in parts.values() for path in part.removals), *removals),
            # What arrays themselves say comes last.
            files=files | own,
        )

    works = [*(part.work for part in parts.values()), *(one.work for one in new)]
    return publish_in(home, works, steps)


def _digests_of(parts: Iterable[BuiltPart]) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Return from where to where digests go that are renewed now, and which go without others."""
    moves, removals = [], []
    for part in parts:
        built, final = part.digests(), part.work.target / DIGESTS
        if built is not None:
            moves.append((built, final))
        elif final.exists():
            removals.append(final)
    return moves, removals


def _files_of(
    home: Path,
    root: Path,
    built: Mapping[str, Path],
    zarr_format: int,
    group_attrs: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[Path, bytes]:
    """Return the files of groups that change with arrays; see :func:`_files_after`."""
    try:
        return _files_after(home, root, built, zarr_format, group_attrs or {})
    except (ValueError, KeyError, TypeError) as error:
        msg = (
            f"the metadata of what else is in {home} cannot be read: {error}; nothing was "
            "published. Restore that file from a copy, for the chunks beside it may be intact, or "
            "write to another store"
        )
        raise TargetError(errno.EIO, msg) from error


def _without(home: Path, arrays: Sequence[Path]) -> dict[Path, bytes]:
    """Return the consolidated metadata of groups as they would be without some arrays."""
    found = {}
    above = {group for array in arrays for group in array.parents if group.is_relative_to(home)}
    for group in filter(_is_consolidated, above):
        file = group / ".zmetadata"
        if not file.is_file():
            file = group / "zarr.json"
        held = json.loads(file.read_bytes())
        members = held.get("consolidated_metadata", held)["metadata"]
        names = [
            array.relative_to(group).as_posix() for array in arrays if array.is_relative_to(group)
        ]
        for key in list(members):
            if any(key == name or key.startswith(f"{name}/") for name in names):
                del members[key]
        found[file] = json.dumps(held, indent=2).encode()
    return found


def home_of(root: Path, path: str) -> Path:
    """Return the outermost group whose metadata change with those of an array; else the store."""
    found = root
    for folder in (root / path).parents:
        if zarr_kind(folder) is None and not folder.is_relative_to(root):
            break
        if _is_consolidated(folder) and root.is_relative_to(folder):
            found = folder
    return found


def _files_after(
    home: Path,
    root: Path,
    built: Mapping[str, Path],
    zarr_format: int,
    group_attrs: Mapping[str, Mapping[str, Any]],
) -> dict[Path, bytes]:
    """Return the files of groups that change when arrays take their places."""
    inside = "" if root == home else f"{root.relative_to(home).as_posix()}/"
    arrays = {f"{inside}{path}".strip("/"): folder for path, folder in built.items()}
    above = {group for path in arrays for group in _above(path)}
    made = _groups((group for group in above if zarr_kind(home / group) is None), zarr_format)
    attrs = {f"{inside}{path}".strip("/"): own for path, own in group_attrs.items()}
    made |= _described(home, made, attrs)
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


def _described(home: Path, made: Held, group_attrs: Mapping[str, Mapping[str, Any]]) -> Held:
    """Return the metadata of groups with more attributes, be they new or there already."""
    buffer = default_buffer_prototype().buffer
    found: Held = {}
    for path, attributes in group_attrs.items():
        held: Held = {}
        for name in METADATA_FILES:
            key = f"{path}/{name}".strip("/")
            if key in made:
                held[name] = made[key]
            elif name != DIGESTS and (home / key).is_file():
                held[name] = buffer.from_bytes((home / key).read_bytes())
        before = _as_bytes(held)
        group = zarr.open_group(zarr.storage.MemoryStore(held), mode="r+", use_consolidated=False)
        group.update_attributes(dict(attributes))
        after = _as_bytes(held)
        changed = {name for name in after if before.get(name) != after[name]}
        found |= {f"{path}/{name}".strip("/"): held[name] for name in changed}
    return found


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
