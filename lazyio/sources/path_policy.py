"""Links, external storage and virtual sources must stay inside the folders that are allowed.

A file from a stranger can name any other file that its reader may open. What
lies in the file's own folder, or in one that the user lists, is followed;
anything else is refused before it is opened. So is what is no regular file.

Names are looked up where libhdf5 looks them up (``H5F_prefix_open_file``,
``H5D__build_file_prefix``): the first candidate that is there must be inside
and open, so that libhdf5 has no reason to go on to the next.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from lazyio.errors import OptionError, SourceError, UnsafeFileError
from lazyio.regions import Region
from lazyio.sources.files import require_regular
from lazyio.sources.hdf5_layout import Segment
from lazyio.sources.identity import SeenFile, seen_files
from lazyio.sources.libhdf5 import open_hdf5

_MOST_LINKS_BEHIND = 16
"""From one file to the next; libhdf5 stops at 16 too."""


def files_behind(file: h5py.File, key: str) -> tuple[SeenFile, ...]:
    """Return every other file that a dataset is read from, as each is now.

    Where libhdf5 looks in several places, those count as well in which nothing
    is: a file that is put there is found first.
    """
    walk = _FilesBehind()
    walk.follow(file, _parts(key), None, _MOST_LINKS_BEHIND)
    return seen_files(walk.found.values()) if walk.found else ()


class _FilesBehind:
    """Goes from file to file, and to none twice for the same."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], SeenFile] = {}
        self._known: set[tuple[str, str]] = set()

    def follow(self, file: h5py.File, parts: list[str], box: Region | None, n_left: int) -> None:
        """Go down a path, by links of either kind, to what the dataset there leads to."""
        at = ""
        for done, part in enumerate(parts, 1):
            parent, at = at, f"{at}/{part}"
            link = file.get(at, getlink=True)
            if not isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
                continue
            if not n_left:
                return
            rest = parts[done:]
            if isinstance(link, h5py.ExternalLink):
                inside = [*_parts(link.path), *rest]
                self._into(file, os.fsdecode(link.filename), inside, box, n_left - 1)
            else:
                start = [] if link.path.startswith("/") else _parts(parent)
                self.follow(file, [*start, *_parts(link.path), *rest], box, n_left - 1)
            return
        found = file.get(at or "/")
        if isinstance(found, h5py.Dataset):
            self._storage(file, found, box, n_left)

    def _storage(
        self, file: h5py.File, dataset: h5py.Dataset, box: Region | None, n_left: int
    ) -> None:
        for segment in raw_segments(dataset) if dataset.external else ():
            self._add(segment.path, box)
        if not dataset.is_virtual or not n_left:
            return
        # As plain facts: h5py goes over every open dataspace when it closes a file.
        sources = [
            (source.file_name, _parts(source.dset_name), box or _bounds(source.vspace))
            for source in dataset.virtual_sources()
        ]
        for pattern, inside, part in sources:
            for name, is_needed in _names(file, pattern):
                if name == ".":
                    self.follow(file, inside, part, n_left - 1)
                else:
                    self._into(file, name, inside, part, n_left - 1, is_needed=is_needed)

    def _into(
        self,
        file: h5py.File,
        name: str,
        parts: list[str],
        box: Region | None,
        n_left: int,
        *,
        is_needed: bool = False,
    ) -> None:
        """Note a file by the name that another has for it, and go on in it."""
        places = _places(file, name)
        there = next(filter(os.path.isfile, places), None)
        for path in places:
            self._add(path, box, is_needed=is_needed and there is None)
            if path == there:
                break
        if there is None or (there, "/".join(parts)) in self._known:
            return
        self._known.add((there, "/".join(parts)))
        # What cannot be opened is for libhdf5 to complain of when it is read.
        with suppress(SourceError), open_hdf5(there) as other:
            self.follow(other, parts, box, n_left)

    def _add(self, path: str, box: Region | None, *, is_needed: bool = False) -> None:
        file = SeenFile(path=path, identity=None, box=box, is_needed=is_needed)
        self.found[path, repr(box)] = file


def _parts(key: str) -> list[str]:
    return [part for part in key.split("/") if part not in ("", ".")]


def _places(file: h5py.File, name: str) -> list[str]:
    """Return where libhdf5 looks for a file that another names, in its order."""
    folder = os.path.dirname(os.path.abspath(file.filename))
    return list(dict.fromkeys([os.path.join(folder, name), os.path.abspath(name)]))


def _names(file: h5py.File, name: str) -> Iterator[tuple[str, bool]]:
    """Yield the names that a virtual source stands for, and whether each must be there.

    One with ``%b`` in it stands for as many as there are, counted from 0; the
    first that is missing is among them, for it may come.
    """
    plain = name.replace("%%", "\0")
    if "%b" not in plain:
        yield name.replace("%%", "%"), True
        return
    for number in itertools.count():
        one = plain.replace("%b", str(number)).replace("\0", "%")
        yield one, False
        if not any(map(os.path.isfile, _places(file, one))):
            return


def _bounds(space: h5py.h5s.SpaceID) -> Region | None:
    """Return the box around a selection, ``None`` where it has no end."""
    try:
        found = space.get_select_bounds()
    except RuntimeError:
        return None
    if found is None:
        return (slice(0, 0),) * len(space.shape)  # Nothing is selected.
    first, last = found
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(first, last, strict=True))


_MOST_LINKS = 16
"""A chain that is longer is followed by nobody; libhdf5 stops at 16 too."""
_MOST_BLOCKS = 100_000
"""Sources that the pattern of one virtual dataset may stand for."""
_LINKED, _VIRTUAL, _STORED = "HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX"
"""The environment's folders for what links, virtual datasets and raw storage name."""
_ORIGIN = "${ORIGIN}"
"""How libhdf5 spells the folder of the file that names another one."""


def allowed_folders(path: str, allow_external: object) -> tuple[Path, ...]:
    """Return the folders that a file may point into: its own, and those listed."""
    own = Path(os.path.realpath(path)).parent
    if allow_external is None:
        return (own,)
    is_list = isinstance(allow_external, Iterable) and not isinstance(allow_external, (str, bytes))
    folders = list(allow_external) if is_list else []  # type: ignore[call-overload]
    if not is_list or not all(isinstance(folder, (str, os.PathLike)) for folder in folders):
        msg = f"allow_external={allow_external!r}; give a list of folders that links may lead to"
        raise OptionError(msg)
    return (own, *(Path(os.path.realpath(folder)) for folder in folders))


def require_inside(found: str, path: str, what: str, folders: Sequence[Path]) -> None:
    """Raise unless a file lies in one of the folders and is a regular one."""
    wanted = os.path.realpath(found)
    if not is_inside(wanted, folders):
        msg = (
            f"{path}: {what} leads to {wanted}, outside the file's folder; if you trust it, "
            f"pass allow_external=[{os.path.dirname(wanted)!r}]"
        )
        raise UnsafeFileError(msg)
    require_regular(wanted)


def is_inside(real: str, folders: Sequence[Path]) -> bool:
    """Return whether a path without symbolic links lies in one of some folders."""
    return any(real.startswith(f"{folder}{os.sep}".replace("//", "/")) for folder in folders)


def refuse_links(file: h5py.File, key: str, folders: Sequence[Path]) -> None:
    """Raise when following a key of a file would read a file that lies outside.

    Every link on the way is looked at before it is followed, and so is where
    the data of the dataset at its end lie: raw files, and sources of virtual
    datasets with the links and storage of their own.
    """
    _Walk(folders=folders).check(file, key, _MOST_LINKS)


def raw_segments(dataset: h5py.Dataset, *, origin: str | None = None) -> tuple[Segment, ...]:
    """Return where the elements of a dataset with external storage lie, in order."""
    folder, properties = os.path.dirname(dataset.file.filename), dataset.id.get_create_plist()
    found = (properties.get_external(at) for at in range(properties.get_external_count()))
    prefix = os.environ.get(_STORED) or (_ORIGIN if origin is None else origin)
    start = _at_origin(prefix, folder)
    return tuple(
        Segment(path=os.path.join(start, os.fsdecode(name)), offset=offset, nbytes=nbytes)
        for name, offset, nbytes in found
    )


@dataclass(kw_only=True)
class _Walk:
    """One check of everything that a key leads to; each place is looked at once."""

    folders: Sequence[Path]
    known: dict[tuple[str, str, bool], bool] = field(default_factory=dict)
    """What each place has led to: a file, a key, and whether a virtual dataset is made of it."""
    waiting: set[tuple[str, str, bool]] = field(default_factory=set)
    """Places that are being looked at."""
    n_virtual: int = 0
    """Virtual datasets on the way."""

    def check(self, file: h5py.File, key: str, n_left: int) -> bool:
        """Return whether a key of an open file leads to something, after checking the way."""
        parts = [part for part in key.split("/") if part not in ("", ".")]
        place = file.filename, "/".join(parts), self.n_virtual > 0
        if place in self.known:
            return self.known[place]
        if not n_left or place in self.waiting:
            # libhdf5 ends loops of links itself, and follows virtual datasets without end.
            if self.n_virtual:
                msg = (
                    f"{file.filename}: virtual dataset {key!r} is made of itself, or nested too "
                    "deeply"
                )
                raise UnsafeFileError(msg)
            return True
        self.waiting.add(place)
        self.known[place] = self._follow(file, parts, n_left)
        self.waiting.discard(place)
        return self.known[place]

    def _follow(self, file: h5py.File, parts: list[str], n_left: int) -> bool:
        """Follow a key link by link, and look at where its data lie."""
        at = ""
        for done, part in enumerate(parts, 1):
            parent, at = at, f"{at}/{part}"
            if not _is_group(file, parent) or not file.id.links.exists(_encoded(at)):
                return False
            rest = parts[done:]
            kind = file.id.links.get_info(_encoded(at)).type
            if kind == h5py.h5l.TYPE_SOFT:
                aim = os.fsdecode(file.id.links.get_val(_encoded(at)))
                whole = aim if aim.startswith("/") else f"{parent}/{aim}"
                return self.check(file, "/".join([whole, *rest]), n_left - 1)
            if kind == h5py.h5l.TYPE_EXTERNAL:
                name, aim = map(os.fsdecode, file.id.links.get_val(_encoded(at)))
                found = self._find(file.filename, name, _LINKED, f"link {at!r}")
                if found is None:
                    return False
                with _opened(found, file.filename, f"link {at!r}") as other:
                    return self.check(other, "/".join([aim, *rest]), n_left - 1)
        item = file[at or "/"]
        if isinstance(item, h5py.Dataset):
            self._check_storage(file, item, n_left)
        return True

    def _check_storage(self, file: h5py.File, dataset: h5py.Dataset, n_left: int) -> None:
        """Check raw files and virtual sources, from the properties: nothing is opened for them."""
        properties = dataset.id.get_create_plist()
        if properties.get_layout() == h5py.h5d.VIRTUAL:
            what = f"virtual dataset {dataset.name!r}"
            self.n_virtual += 1
            for at in range(properties.get_virtual_count()):
                names = properties.get_virtual_filename(at), properties.get_virtual_dsetname(at)
                name, key = map(os.fsdecode, names)
                self._check_sources(file, what, name, key, n_left)
            self.n_virtual -= 1
            return
        what = f"external storage of dataset {dataset.name!r}"
        # Of a source of a virtual dataset libhdf5 reads them.
        origin = os.curdir if self.n_virtual else None
        for segment in raw_segments(dataset, origin=origin):
            require_inside(segment.path, file.filename, what, self.folders)

    def _check_sources(self, file: h5py.File, what: str, name: str, key: str, n_left: int) -> None:
        """Check the source of a virtual dataset, or all that a pattern stands for."""
        if "%b" not in name.replace("%%", "") + key.replace("%%", ""):
            if not self._check_source(file, what, _expand(name, 0), _expand(key, 0), n_left):
                msg = (
                    f"{file.filename}: {what} is made of {key!r} in {name!r}, which is not there, "
                    "so that its part would read as the fill value; put the file back beside it"
                )
                raise SourceError(msg)
            return
        for number in range(_MOST_BLOCKS):
            # libhdf5 goes on until one is missing, whatever the extent that is stored.
            names = _expand(name, number), _expand(key, number)
            if not self._check_source(file, what, *names, n_left):
                return
        msg = f"{file.filename}: {what} is made of more than {_MOST_BLOCKS} sources {name!r}"
        raise UnsafeFileError(msg)

    def _check_source(self, file: h5py.File, what: str, name: str, key: str, n_left: int) -> bool:
        if name == ".":
            return self.check(file, key, n_left - 1)
        found = self._find(file.filename, name, _VIRTUAL, what)
        if found is None:
            return False
        with _opened(found, file.filename, what) as other:
            return self.check(other, key, n_left - 1)

    def _find(self, path: str, name: str, variable: str, what: str) -> str | None:
        """Return the first file that libhdf5 would find, which must be inside."""
        if not name:
            return None
        for candidate in _candidates(path, name, variable):
            if os.path.lexists(candidate):
                require_inside(candidate, path, what, self.folders)
                return os.path.abspath(candidate)
        if os.path.isabs(name):
            # It is not there, and naming a place outside is refused all the same.
            require_inside(name, path, what, self.folders)
        return None


def _candidates(path: str, name: str, variable: str) -> Iterator[str]:
    """Yield where libhdf5 looks for a file that another one names, in its order."""
    folder = os.path.dirname(path)
    if os.path.isabs(name):
        yield name
        name = os.path.basename(name)
    prefix = os.environ.get(variable, "")
    for one in filter(None, prefix.split(":")):
        yield os.path.join(one, name)
    if variable == _VIRTUAL and prefix:
        yield os.path.join(_at_origin(prefix, folder), name)
    yield os.path.join(folder, name)
    yield name
    yield os.path.join(os.path.dirname(os.path.realpath(path)), name)


def _at_origin(prefix: str, folder: str) -> str:
    return folder + prefix.removeprefix(_ORIGIN) if prefix.startswith(_ORIGIN) else prefix


def _expand(pattern: str, number: int) -> str:
    """Return a printf-style name of a virtual source for one of its blocks.

    Examples
    --------
    >>> _expand("day-%b.h5", 3), _expand("100%%", 0)
    ('day-3.h5', '100%')
    """
    return re.sub("%([b%])", lambda found: str(number) if found[1] == "b" else "%", pattern)


@contextmanager
def _opened(found: str, path: str, what: str) -> Iterator[h5py.File]:
    """Open a file that another one leads to; one that does not open ends the search."""
    try:
        file = h5py.File(found, "r")
    except OSError as error:
        msg = f"{path}: {what} leads to {found}, which cannot be opened as HDF5: {error}"
        raise SourceError(msg) from error
    with file:
        yield file


def _is_group(file: h5py.File, name: str) -> bool:
    kind = h5py.h5o.get_info(file.id, _encoded(name or "/")).type
    return bool(kind == h5py.h5o.TYPE_GROUP)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
