"""Several changes of a store published as one: all of them, or none.

One rename is one step; an array that takes its place in a store with metadata
for all of it is more, and so is a part of an array that touches several
objects. What is to be done is written down first, with what lies there until
then. Once that is on the disk it is done, now or by the next call that writes,
and doing it twice does no harm. It is done only over what it was made for: what
another program has changed since is left alone. Who reads only waits for it.

Nothing keeps other programs from writing to a Zarr array meanwhile. What they
have changed is found by the array's metadata and by the objects that the part
touches; all others are none of its business.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lazyio.atomic import journal as job
from lazyio.atomic import lock
from lazyio.atomic.digests import Hash, digest_of, digest_of_value
from lazyio.atomic.fsync import sync_folder, write_whole
from lazyio.atomic.patience import Patience
from lazyio.atomic.zarr_digests import FOLDER as NEIGHBOURS
from lazyio.atomic.zarr_digests import NAME as DIGESTS
from lazyio.atomic.zarr_digests import digest_of_file
from lazyio.errors import SourceError, TargetError
from lazyio.os_errors import walk

logger = logging.getLogger("lazyio")

Result = TypeVar("Result")

FOLDER = ".lazyio"
"""In a store whose names are being given: the lock, and what is to be done."""

_STEPS = "steps.json"
_OF_GROUPS = ("zarr.json", ".zgroup")
_OF_ARRAYS = ("zarr.json", ".zarray", ".zattrs")
_PATIENCE, _PAUSE = 30.0, 0.02
_MOST_LOOKS = 100
_READERS_PATIENCE = 5.0
"""Seconds in which a change that is being made is over; it takes milliseconds."""

Identity = list[Any]
"""By what a folder or an object is known again where it lies, as JSON holds it."""
State = list[Any] | None
"""An identity, and the digest of what is there; ``None`` is nothing."""


@dataclass(frozen=True, kw_only=True)
class PublishSteps:
    """What is to be done in a store, in this order."""

    closed: Mapping[Path, bytes | None] = field(default_factory=dict)
    """Metadata files, with what they hold while arrays are neither old nor new.

    ``None`` stands for no such file, so that nobody opens the array meanwhile.
    """
    moves: tuple[tuple[Path, Path], ...] = ()
    """From where, in a hidden folder, to where in the store: folders and objects."""
    removals: tuple[Path, ...] = ()
    """Objects that are to be there no longer."""
    files: Mapping[Path, bytes] = field(default_factory=dict)
    """Small files, with what they are to hold."""

    def begin(self, home: Path) -> "BegunSteps":
        """Have it on the disk that these are to be done: from now on they are."""
        begun = BegunSteps(
            closed=self.closed,
            moves=[(one, to, _state_of(one), _state_of(to)) for one, to in self.moves],
            removals=[(path, _state_of(path)) for path in self.removals],
            files=self.files,
            old={path: content_of(path) for path in (*self.closed, *self.files)},
        )
        path = home / FOLDER / _STEPS
        try:
            job.save(path, begun.to_json(home))
            sync_folder(home / FOLDER)
        except BaseException as error:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                if not isinstance(error, OSError):
                    raise error from None
                # It stays, and will be found: then what it says is to be done.
                return begun
            raise
        return begun


@dataclass(frozen=True, kw_only=True)
class BegunSteps:
    """Steps that are known to the disk, and what they are made for."""

    closed: Mapping[Path, bytes | None]
    moves: list[tuple[Path, Path, State, State]]
    """From where, to where, what is moved, and what lies there before."""
    removals: list[tuple[Path, State]]
    files: Mapping[Path, bytes | None]
    old: Mapping[Path, str | None]
    """Digests of small files as they are before."""

    def to_json(self, home: Path) -> dict[str, Any]:
        """Return them as they are kept in a store."""
        return {
            "closed": _as_hex(self.closed, home),
            "moves": [
                [_below(home, one), _below(home, to), new, old] for one, to, new, old in self.moves
            ],
            "removals": [[_below(home, path), old] for path, old in self.removals],
            "files": _as_hex(self.files, home),
            "old": {_below(home, path): digest for path, digest in self.old.items()},
        }

    @classmethod
    def load(cls, home: Path) -> "BegunSteps | None":
        """Return what has been begun in a store, ``None`` where that is nothing."""
        path = home / FOLDER / _STEPS
        if not path.exists():
            return None
        facts = job.load(path)
        try:
            if facts is None:
                raise ValueError
            begun = cls(
                closed=_from_hex(facts["closed"], home),
                moves=[(home / one, home / to, new, old) for one, to, new, old in facts["moves"]],
                removals=[(home / name, old) for name, old in facts["removals"]],
                files=_from_hex(facts["files"], home),
                old={home / name: digest for name, digest in facts["old"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            if not path.exists():
                return None  # Done just now.
            msg = f"{path}, which says what is to be done in {home}, cannot be read"
            raise TargetError(errno.EINVAL, f"{msg}; {_way_out(home)}") from None
        # A store may come from a stranger, who could have written this.
        if not begun.stays_in(home):
            msg = f"{path} speaks of files that are not in {home}; nothing is done by it"
            raise TargetError(errno.EPERM, f"{msg}; {_way_out(home)}")
        return begun

    def stays_in(self, home: Path) -> bool:
        """Return whether nothing outside of the store is touched, links followed.

        What is moved may come from the hidden folder beside it.
        """
        inside = Path(os.path.realpath(home))
        beside = inside.parent / f".{inside.name}{FOLDER}"
        finals = [to for _, to, _, _ in self.moves]
        finals += [*self.closed, *self.files, *(path for path, _ in self.removals)]
        is_inside = all(inside in Path(os.path.realpath(path)).parents for path in finals)
        return is_inside and all(
            {inside, beside} & set(Path(os.path.realpath(one)).parents)
            for one, _, _, _ in self.moves
        )

    def check(self, home: Path) -> None:
        """Refuse where something is neither as it was nor as it is to be."""
        try:
            odd = next(self._odd(), None)
        except OSError as error:
            msg = f"{home} holds a change that was interrupted, and {error.filename} cannot be read"
            raise TargetError(error.errno, f"{msg}: {error.strerror}") from error
        if odd is None:
            return
        hidden = ", ".join(map(str, [*sorted(_hidden_folders(self)), home / FOLDER]))
        msg = (
            f"{odd} was changed by another program since a change of {home} was interrupted, which "
            f"is therefore not finished. Nothing was touched: what that program made is there, and "
            f"what was to be made is in {hidden}; {_way_out(home)}"
        )
        raise TargetError(errno.EBUSY, msg)

    def _odd(self) -> Iterator[Path]:
        """Yield what is neither in its old nor in its new state."""
        for one, to, new, old in self.moves:
            if not one.exists():
                is_right = new is not None and _is_in(to, new)
            else:
                is_aside = old is not None and not to.exists() and _is_in(_aside(one), old)
                is_right = _is_in(one, new) and (is_aside or _is_in(to, old))
            if not is_right:
                yield to
        for path, old in self.removals:
            if path.exists() and not _is_in(path, old):
                yield path
        for path, old_content in self.old.items():
            written = (files[path] for files in (self.closed, self.files) if path in files)
            if content_of(path) not in {old_content, *map(_digest_of, written)}:
                yield path

    def take(self, home: Path) -> None:
        """Do them, however many are done already; then nobody can do them again."""
        _write(self.closed, home)
        for built, final, _, _ in self.moves:
            _move(built, final, home)
        for path, _ in self.removals:
            path.unlink(missing_ok=True)
        # Before the metadata that tell of them.
        moved = [final for _, final, _, _ in self.moves]
        _sync_folders_of([*moved, *(path for path, _ in self.removals)])
        _write(self.files, home)
        for hidden in _hidden_folders(self):
            # What is left of a job that is done is not resumed.
            (hidden / job.NAME).unlink(missing_ok=True)
        (home / FOLDER / _STEPS).unlink(missing_ok=True)
        sync_folder(home / FOLDER)


def identity_of(path: Path) -> Identity | None:
    """Return by what a folder or an object is known again, ``None`` if it is not there.

    A rename keeps it; another program that writes changes it. Of a folder all
    that lies in it counts, what is being built there excepted.
    """
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(facts.st_mode):
        return [facts.st_ino, facts.st_size, facts.st_mtime_ns]
    hash_ = Hash()
    for name, one in _files_in(path):
        what = [name, one.st_ino, one.st_size, one.st_mtime_ns]
        if os.path.basename(name) in _OF_ARRAYS:  # A clock may stand between two small changes.
            what.append(content_of(path / name))
        hash_.update(json.dumps(what).encode())
    return [facts.st_ino, f"{hash_.value:032x}"]


def _state_of(path: Path) -> State:
    """Return by what a folder or an object is known again, in a copy of the store too."""
    identity = identity_of(path)
    return None if identity is None else [identity, _content_at(path)]


def _is_in(path: Path, state: State) -> bool:
    """Return whether a folder or an object is in a state."""
    identity = identity_of(path)
    if identity is None or state is None:
        return identity is state
    if identity == state[0]:
        return True
    # The same folder with anything new in it was changed; a restored one may be as it was.
    is_changed = path.is_dir() and identity[0] == state[0][0]
    return not is_changed and _content_at(path) == state[1]


def _content_at(path: Path) -> str:
    """Return the digest of an object; of a folder that of what is known without reading it all."""
    if not path.is_dir():
        return f"{digest_of_file(path):032x}"
    hash_ = Hash()
    for name, one in _files_in(path):
        is_small = os.path.basename(name) in (*_OF_ARRAYS, DIGESTS)
        what = [name, one.st_size, content_of(path / name) if is_small else None]
        hash_.update(json.dumps(what).encode())
    return f"{hash_.value:032x}"


def _files_in(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all files below a folder, in the order of their names.

    What an array was told of others changes when those come, and says nothing of it.
    """
    for below, folders, files in walk(folder):
        folders[:] = sorted(
            name for name in folders if not is_hidden_name(name) and name != NEIGHBOURS
        )
        for name in sorted(files):
            file = os.path.join(below, name)
            with contextlib.suppress(FileNotFoundError):
                yield os.path.relpath(file, folder), os.stat(file)


def content_of(path: Path) -> str | None:
    """Return the digest of a small file, ``None`` if it is not there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return _digest_of(path.read_bytes())
    return None


def _digest_of(content: bytes | None) -> str | None:
    return None if content is None else f"{digest_of(content):032x}"


def _as_hex(files: Mapping[Path, bytes | None], home: Path) -> dict[str, str | None]:
    """Return what files are to hold, as JSON has it; ``None`` stands for no such file."""
    return {_below(home, path): raw if raw is None else raw.hex() for path, raw in files.items()}


def _from_hex(held: Mapping[str, str | None], home: Path) -> dict[Path, bytes | None]:
    return {home / name: raw if raw is None else bytes.fromhex(raw) for name, raw in held.items()}


def _write(files: Mapping[Path, bytes | None], home: Path) -> None:
    """Have small files on the disk with what they are to hold."""
    for path, content in files.items():
        if content is None:
            path.unlink(missing_ok=True)
            continue
        _make_below(path.parent, home)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        write_whole(path, content)
        if mode is not None and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
    _sync_folders_of(files)


def _make_below(folder: Path, home: Path) -> None:
    """Make a folder in a store; never the store's own, which may have been moved away."""
    if folder != home and not folder.is_dir():
        _make_below(folder.parent, home)
        folder.mkdir(exist_ok=True)


def _move(built: Path, final: Path, home: Path) -> None:
    """Give a folder or an object its name; a folder that had it goes aside."""
    if not built.exists():
        return  # Done before.
    _make_below(final.parent, home)
    if built.is_dir() and final.exists():
        # Two renames, and no exchange: after one of those nothing tells which is which.
        aside = _aside(built)
        if aside.exists():
            shutil.rmtree(aside)
        final.rename(aside)
    os.replace(built, final)


def _aside(built: Path) -> Path:
    return built.parent / "old"


def _sync_folders_of(paths: Iterable[Path]) -> None:
    for folder in {path.parent for path in paths}:
        sync_folder(folder)


def _hidden_folders(begun: BegunSteps) -> set[Path]:
    """Return the folders in which what is moved was built."""
    found: set[Path] = set()
    for built, _, _, _ in begun.moves:
        found.update([above for above in built.parents if is_hidden_name(above.name)][:1])
    return found


def _way_out(home: Path) -> str:
    return f"to keep the store as it is now, remove {home / FOLDER / _STEPS}"


def is_hidden_name(name: str) -> bool:
    """Return whether a name in a folder is one of lazyio's own.

    Examples
    --------
    >>> is_hidden_name(".lazyio"), is_hidden_name(".x.h5.lazyio"), is_hidden_name(".x")
    (True, True, False)
    """
    return name.startswith(".") and name.endswith(FOLDER)


@contextlib.contextmanager
def naming(home: Path) -> Iterator[None]:
    """Be the only one who gives names in a store, and finish what another has begun."""
    folder = home / FOLDER
    held = _entered(folder, home)
    try:
        begun = BegunSteps.load(home)
        if begun is not None:
            begun.check(home)
            _finish(begun, home)
        yield
    finally:
        try:
            if not (folder / _STEPS).exists():
                (folder / f"{_STEPS}.partial").unlink(missing_ok=True)
                lock.leave(folder, held)
        except OSError as error:
            # What was published is published; the next one removes this.
            logger.warning("%s cannot be removed: %s", folder, error)
        finally:
            held.release()


def _finish(begun: BegunSteps, home: Path) -> None:
    try:
        begun.take(home)
    except OSError as error:
        msg = (
            f"{home} could not be changed: {error.strerror}; what is to be done is known in "
            f"{home / FOLDER}, and is done by: lazyio recover {home}"
        )
        raise TargetError(error.errno, msg) from error
    logger.warning("%s: a change that was interrupted has been finished", home)


def finish(*paths: Path, tidy: bool = False) -> bool:
    """Finish what has been begun in a store that a path is, or lies in; for who writes."""
    homes = _homes(*paths, below=tidy)
    begun = {home for home in homes if is_begun(home)}
    for home in begun | {home for home in homes if tidy and (home / FOLDER).exists()}:
        with naming(home):
            pass  # Entering it finishes them.
    return bool(begun)


def refuse_begun(path: Path) -> None:
    """Refuse to remove what a change needs that has been begun and is not finished."""
    for home in _homes(path, below=True):
        if is_begun(home):
            msg = (
                f"{home} holds a change that is complete and was interrupted while it was made; "
                f"finish it with: lazyio recover {home}. Nothing was removed"
            )
            raise TargetError(errno.EBUSY, msg)


def check_finished(*paths: Path, below: bool = False) -> None:
    """Refuse to read where a change has been begun and is not finished; for who reads.

    Nothing is changed and no lock is taken: who makes a change needs
    milliseconds, so that it is waited for.
    """
    homes = _homes(*paths, below=below)
    until = time.monotonic() + _READERS_PATIENCE
    while begun := sorted(filter(is_begun, homes)):
        home = begun[0]
        # Looked at twice: one may have finished, and another begun, between the two.
        is_dead = not any(lock.is_held(home / FOLDER / lock.NAME) for _ in range(2))
        is_dead = is_dead and is_begun(home)
        if is_dead or time.monotonic() > until:
            msg = (
                f"{home} holds a change that was interrupted, and is neither old nor new; finish "
                f"it with: lazyio recover {home}"
            )
            raise SourceError(errno.EBUSY, msg)
        time.sleep(_PAUSE)


def looked_at(look: Callable[[], Result], path: Path) -> Result:
    """Return what a look at a store gives, which is made again where names were being given.

    While several objects change, an array has no metadata for a moment.
    """
    n_quiet = 0
    for _ in range(_MOST_LOOKS):
        is_quiet = not is_changing(path)
        try:
            return look()
        except (TargetError, SourceError):
            # A whole change may lie between two glances at it, but not several times.
            n_quiet += is_quiet
            if n_quiet > 2:
                break
        if not is_quiet:
            time.sleep(_PAUSE)
    return look()


def is_changing(*paths: Path) -> bool:
    """Return whether a change of what is to be read has been begun, and is not finished."""
    return any(map(is_begun, _homes(*paths)))


def is_begun(home: Path) -> bool:
    """Return whether steps have been begun in a folder, and are not finished."""
    return os.path.exists(home / FOLDER / _STEPS)


def _homes(*paths: Path, below: bool = False) -> set[Path]:
    """Return where steps may have been begun that touch a path: there, above, and below it."""
    found = {home for path in paths for home in _homes_of(path)}
    return found | {home for path in paths if below for home in _homes_below(path)}


def _homes_of(path: Path) -> Iterator[Path]:
    """Yield a path and the groups that it lies in; other folders may be anybody's."""
    for one in {path, Path(os.path.realpath(path))}:
        yield one
        for folder in one.parents:
            if not _is_group(folder):
                break
            yield folder


def _homes_below(path: Path) -> Iterator[Path]:
    """Yield the groups and arrays below a path that hold such a folder."""
    if not _is_group(path):
        return
    folders: list[Path] = []
    # Where one may not look, nothing can be read either.
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        folders += [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        if is_hidden_name(folder.name):
            continue
        if os.path.exists(folder / FOLDER):
            yield folder
        yield from _homes_below(folder)


def _is_group(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name in _OF_GROUPS)


def _entered(folder: Path, home: Path) -> lock.FolderLock:
    return Patience(_PATIENCE).retry(lambda: lock.enter(folder, home))


def _below(home: Path, path: Path) -> str:
    """Return a path as it is from the store; the hidden folder beside it counts, too."""
    return Path(os.path.relpath(path, home)).as_posix()


class FolderSnapshot:
    """States of an array's metadata and of some of its objects."""

    def __init__(self, folder: Path, metadata: Iterable[str]) -> None:
        self._folder = folder
        self._metadata = {name: content_of(folder / name) for name in metadata}
        self._objects: dict[str, Identity | None] = {}
        self._is_complete = False
        self._lock = threading.Lock()

    def look_at(self, name: str) -> None:
        """Note an object before it is read or built anew, unless it is known."""
        if self._is_complete:
            return
        with self._lock:
            if name not in self._objects:
                self._objects[name] = identity_of(self._folder / name)

    def look_at_all(self, names: Iterable[str]) -> None:
        """Note all objects of the part that are there; of others there is none."""
        for name in names:
            state = identity_of(self._folder / name)
            if state is not None:
                self._objects[name] = state
        self._is_complete = True

    def is_there(self, name: str) -> bool:
        """Return whether there was an object of a name."""
        return self._objects.get(name) is not None

    def fact(self) -> str:
        """Return a digest of what is there, by which a job is known again."""
        return digest_of_value([self._metadata, self._objects])

    def check(self, names: Iterable[str]) -> None:
        """Refuse to replace what another program has changed meanwhile."""
        for name, content in self._metadata.items():
            if content_of(self._folder / name) != content:
                self._refuse(name)
        for name in names:
            if identity_of(self._folder / name) != self._objects.get(name):
                self._refuse(name)

    def _refuse(self, name: str) -> None:
        msg = (
            f"{self._folder / name} was changed by another program while a part of the array was "
            "being written; it is as that program left it, and nothing of the part was written. "
            "Run the same call again"
        )
        raise TargetError(errno.EBUSY, msg)
