"""Links, external storage and virtual sources must stay inside the folders that are allowed.

A file from a stranger can name any other file that its reader may open. What
lies in the file's own folder, or in one that the user lists, is followed;
anything else is refused before it is opened. So is what is no regular file.

Names are looked up where libhdf5 looks them up (``H5F_prefix_open_file``,
``H5D__build_file_prefix``): the first candidate that is there must be inside
and open, so that libhdf5 has no reason to go on to the next.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py

from lazyio.dtypes import Shape
from lazyio.errors import OptionError, SourceError, UnsafeFileError
from lazyio.libhdf5_calls import named
from lazyio.regions import Region
from lazyio.sources.files import require_regular
from lazyio.sources.hdf5_layout import Segment, VirtualPiece, virtual_pieces
from lazyio.sources.identity import SeenFile, seen_files

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


@dataclass(frozen=True, kw_only=True)
class LinkEnd:
    """What a key, a link or a piece of a virtual dataset leads to in the end."""

    kind: str
    """``"dataset"``, ``"group"`` or ``"named type"``."""
    shape: Shape | None = None
    """Extents of a dataset; ``None`` for all else, and where it has none."""
    dtype: str = ""
    """Type of the elements of a dataset, as a person reads it."""

    def __str__(self) -> str:
        """Return it in a few words."""
        return f"{self.kind} of {self.shape} {self.dtype}" if self.kind == "dataset" else self.kind

    def to_text(self) -> str:
        """Return it as it is kept, to be compared with what is there later.

        Examples
        --------
        >>> end = LinkEnd(kind="dataset", shape=(5, 3), dtype="int32")
        >>> LinkEnd.of_text(end.to_text()) == end
        True
        """
        return json.dumps([self.kind, self.shape, self.dtype])

    @classmethod
    def of_text(cls, text: str) -> "LinkEnd":
        """Return what was kept; raises ``ValueError`` where that is damaged."""
        kind, shape, dtype = json.loads(text)
        return cls(kind=kind, shape=None if shape is None else tuple(shape), dtype=dtype)


def end_and_places(
    file: h5py.File, key: str, folders: Sequence[Path]
) -> tuple[LinkEnd, frozenset[tuple[str, str]]]:
    """Return what a key of an open file leads to, or raise and say where it breaks off.

    And path and key of all that it leads through or is read from; paths have no symbolic links.
    """
    walk = _Walk(folders=folders)
    end = walk.check(file, key, None, _MOST_LINKS)
    if end is None:
        raise SourceError(walk.broken or f"{_shown(file)} has no {key!r}")
    return end, frozenset((os.path.realpath(path), place) for path, place, _ in walk.known)


class LinkLook:
    """Looks at many links of one file, each of which it follows once."""

    def __init__(self, file: h5py.File, folders: Sequence[Path]) -> None:
        self._file = file
        self._walk = _Walk(folders=folders)

    def end_of(self, key: str) -> LinkEnd:
        """Return what a key leads to, or raise and say where it breaks off."""
        self._walk.begin_anew()
        end = self._walk.check(self._file, key, None, _MOST_LINKS)
        if end is None:
            raise SourceError(self._walk.broken or f"{_shown(self._file)} has no {key!r}")
        return end

    def end_of_piece(self, name: str, piece: VirtualPiece) -> LinkEnd:
        """Return what a piece of a virtual dataset is read from, or raise where it cannot be."""
        what = f"virtual dataset {name!r}"
        self._walk.begin_anew()
        return self._walk.enter_piece(self._file, what, piece, 0, None, _MOST_LINKS)


def place_of_piece(
    file: h5py.File, name: str, piece: VirtualPiece, folders: Sequence[Path]
) -> tuple[str, str]:
    """Return path and key of what a piece of a virtual dataset is read from."""
    path, key = piece.names(0)
    if path == ".":
        return _shown(file), key
    found = _Walk(folders=folders).find(
        file.filename, path, _VIRTUAL, f"virtual dataset {name!r}", None
    )
    if found is None:
        msg = f"{_shown(file)}: virtual dataset {name!r} is made of {path!r}, which is not there"
        raise SourceError(msg)
    return found, key


def refuse_links(file: h5py.File, key: str, folders: Sequence[Path]) -> None:
    """Raise when following a key of a file would read a file that lies outside.

    Every link on the way is looked at before it is followed, and so is where
    the data of the dataset at its end lie: raw files, and sources of virtual
    datasets with the links and storage of their own.
    """
    _Walk(folders=folders).check(file, key, None, _MOST_LINKS)


def files_behind(
    file: h5py.File, key: str, folders: Sequence[Path], *, may_be_broken: bool = False
) -> tuple[SeenFile, ...]:
    """Return every other file that a dataset is read from, as each is now, after the same checks.

    Where libhdf5 looks in several places, those count as well in which nothing
    is: a file that is put there is found first. A link that leads to nothing is refused,
    unless it may be broken.
    """
    walk = _Walk(folders=folders)
    end = walk.check(file, key, None, _MOST_LINKS)
    if end is None and walk.broken is not None and not may_be_broken:
        raise SourceError(walk.broken)
    return seen_files(walk.found.values()) if walk.found else ()


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
    found: dict[tuple[str, str], SeenFile] = field(default_factory=dict)
    """Files that were come by, each for every part of the array that lies in it."""
    known: dict[tuple[str, str, bool], LinkEnd | None] = field(default_factory=dict)
    """What each place has led to: a file, a key, and whether a virtual dataset is made of it."""
    broken: str | None = None
    """Where a link that was followed last has led to nothing, and why."""
    leading_on: dict[tuple[str, str, bool], Region | None] = field(default_factory=dict)
    """Places that have led to other files, and the part of the array for which they were noted."""
    waiting: set[tuple[str, str, bool]] = field(default_factory=set)
    """Places that are being looked at."""
    reasons: dict[tuple[str, str, bool], str | None] = field(default_factory=dict)
    """Why places lead to nothing."""
    n_virtual: int = 0
    """Virtual datasets on the way."""
    n_noted: int = 0
    """Times that a file was come by."""

    def begin_anew(self) -> None:
        """Begin at a place of its own, with what is known of others; the last may have failed."""
        self.broken, self.n_virtual = None, 0
        self.waiting.clear()

    def check(self, file: h5py.File, key: str, box: Region | None, n_left: int) -> LinkEnd | None:
        """Return what a key of an open file leads to, if anything, after checking the way."""
        parts = [part for part in key.split("/") if part not in ("", ".")]
        place = file.filename, "/".join(parts), self.n_virtual > 0
        if place in self.known:
            if place in self.leading_on:
                self.n_noted += 1
                if self.leading_on[place] != box:
                    # Files that several parts of the array lead to are watched for all of it.
                    self.found = {name: replace(one, box=None) for name, one in self.found.items()}
            self.broken = self.broken or self.reasons.get(place)
            return self.known[place]
        if not n_left or place in self.waiting:
            # libhdf5 ends loops of links itself, and follows virtual datasets without end.
            if self.n_virtual:
                msg = (
                    f"{file.filename}: virtual dataset {key!r} is made of itself, or nested too "
                    "deeply"
                )
                raise UnsafeFileError(msg)
            self.broken = (
                f"{_shown(file)}: {key!r} leads in a circle, or through more than {_MOST_LINKS} "
                "links; link to the dataset itself"
            )
            return None
        self.waiting.add(place)
        n_noted = self.n_noted
        self.known[place] = self._follow(file, parts, box, n_left)
        if self.known[place] is None:
            self.reasons[place] = self.broken
        if self.n_noted > n_noted:
            self.leading_on[place] = box
        self.waiting.discard(place)
        return self.known[place]

    def _follow(
        self, file: h5py.File, parts: list[str], box: Region | None, n_left: int
    ) -> LinkEnd | None:
        """Follow a key link by link, and look at where its data lie."""
        at = ""
        for done, part in enumerate(parts, 1):
            parent, at = at, f"{at}/{part}"
            if not _is_group(file, parent) or not file.id.links.exists(_encoded(at)):
                return None
            rest = parts[done:]
            kind = file.id.links.get_info(_encoded(at)).type
            if kind == h5py.h5l.TYPE_SOFT:
                aim = os.fsdecode(file.id.links.get_val(_encoded(at)))
                whole = aim if aim.startswith("/") else f"{parent}/{aim}"
                key = "/".join([whole, *rest])
                end = self.check(file, key, box, n_left - 1)
                return self._linked(end, file, f"soft link {at!r}", key, "the same file")
            if kind == h5py.h5l.TYPE_EXTERNAL:
                name, aim = map(os.fsdecode, file.id.links.get_val(_encoded(at)))
                key = "/".join([aim, *rest])
                what = f"link {at!r}"
                end = self._enter(file, _LINKED, what, name, key, box, n_left)
                return self._linked(end, file, f"external {what}", key, repr(name))
        item = file[named(at or "/")]
        if isinstance(item, h5py.Dataset):
            self._check_storage(file, item, box, n_left)
        return _end_at(item)

    def _linked(
        self, end: LinkEnd | None, file: h5py.File, what: str, key: str, where: str
    ) -> LinkEnd | None:
        """Return what a link leads to, after noting one that leads to nothing."""
        if end is None and self.broken is None:
            self.broken = (
                f"{_shown(file)}: {what} leads to {key!r} in {where}, which is not there; put it "
                "back, or make the link anew"
            )
        return end

    def _check_storage(
        self, file: h5py.File, dataset: h5py.Dataset, box: Region | None, n_left: int
    ) -> None:
        """Check raw files and virtual sources, from the properties: nothing is opened for them."""
        if dataset.is_virtual:
            what = f"virtual dataset {dataset.name!r}"
            # As plain facts: h5py goes over every open dataspace when it closes a file.
            pieces = virtual_pieces(dataset)
            self.n_virtual += 1
            for piece in pieces:
                self._check_piece(file, what, piece, box or piece.region, n_left)
            self.n_virtual -= 1
            return
        what = f"external storage of dataset {dataset.name!r}"
        # Of a source of a virtual dataset libhdf5 reads them.
        origin = os.curdir if self.n_virtual else None
        for segment in raw_segments(dataset, origin=origin):
            require_inside(segment.path, file.filename, what, self.folders)
            self._note(segment.path, box)

    def _check_piece(
        self, file: h5py.File, what: str, piece: VirtualPiece, box: Region | None, n_left: int
    ) -> None:
        """Check the source of a virtual dataset, or all that a pattern stands for."""
        if not piece.is_pattern:
            self.enter_piece(file, what, piece, 0, box, n_left)
            return
        for number in range(_MOST_BLOCKS):
            # libhdf5 goes on until one is missing, whatever the extent that is stored.
            names = piece.names(number)
            if self._enter(file, _VIRTUAL, what, *names, box, n_left) is None:
                return
        msg = f"{file.filename}: {what} is made of more than {_MOST_BLOCKS} sources {piece.path!r}"
        raise UnsafeFileError(msg)

    def enter_piece(
        self,
        file: h5py.File,
        what: str,
        piece: VirtualPiece,
        number: int,
        box: Region | None,
        n_left: int,
    ) -> LinkEnd:
        """Return what a piece of a virtual dataset is read from; raise where it cannot be."""
        name, key = piece.names(number)
        end = self._enter(file, _VIRTUAL, what, name, key, box, n_left)
        if end is None:
            msg = (
                f"{file.filename}: {what} is made of {key!r} in {name!r}, which is not there, "
                "so that its part would read as the fill value; put the file back beside it"
            )
            raise SourceError(msg)
        if end.kind != "dataset" or not piece.fits(end.shape):
            msg = (
                f"{file.filename}: {what} is made of {piece.taken} of {key!r} in {name!r}, which "
                f"is a {end} now, so that other elements would be read; put the file back that it "
                "was made of, or make the virtual dataset anew"
            )
            raise SourceError(msg)
        return end

    def _enter(
        self,
        file: h5py.File,
        variable: str,
        what: str,
        name: str,
        key: str,
        box: Region | None,
        n_left: int,
    ) -> LinkEnd | None:
        """Go on in the file that another one names, which may be itself."""
        if name == "." and variable == _VIRTUAL:
            return self.check(file, key, box, n_left - 1)
        found = self.find(file.filename, name, variable, what, box)
        if found is None:
            return None
        with _opened(found, file.filename, what) as other:
            return self.check(other, key, box, n_left - 1)

    def find(
        self, path: str, name: str, variable: str, what: str, box: Region | None
    ) -> str | None:
        """Return the first file that libhdf5 would find, which must be inside."""
        if not name:
            return None
        for candidate in _absolute(_candidates(path, name, variable)):
            is_there = os.path.lexists(candidate)
            self._note(candidate, box, is_needed=is_there)
            if is_there:
                require_inside(candidate, path, what, self.folders)
                return candidate
        if os.path.isabs(name):
            # It is not there, and naming a place outside is refused all the same.
            require_inside(name, path, what, self.folders)
        return None

    def _note(self, path: str, box: Region | None, *, is_needed: bool = False) -> None:
        seen = SeenFile(path=path, identity=None, box=box, is_needed=is_needed)
        self.found.setdefault((path, repr(box)), seen)
        self.n_noted += 1


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


def _absolute(paths: Iterable[str]) -> Iterator[str]:
    """Yield absolute paths; of a working directory that is gone none are looked up."""
    for path in paths:
        with suppress(FileNotFoundError):
            yield os.path.abspath(path)


def _at_origin(prefix: str, folder: str) -> str:
    return folder + prefix.removeprefix(_ORIGIN) if prefix.startswith(_ORIGIN) else prefix


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


def _end_at(item: h5py.Group | h5py.Dataset | h5py.Datatype) -> LinkEnd:
    """Return what an object of an open file is."""
    if isinstance(item, h5py.Group):
        return LinkEnd(kind="group")
    if not isinstance(item, h5py.Dataset):
        return LinkEnd(kind="named type")
    shape = None if item.shape is None else tuple(map(int, item.shape))
    try:
        dtype = item.dtype
    except (TypeError, ValueError, OverflowError):
        # A type that numpy lacks.
        return LinkEnd(kind="dataset", shape=shape, dtype=f"{item.id.get_type().get_size()} bytes")
    is_text = h5py.check_string_dtype(dtype) is not None and dtype.hasobject
    return LinkEnd(kind="dataset", shape=shape, dtype="text" if is_text else str(dtype))


def _shown(file: h5py.File) -> str:
    return os.fsdecode(file.filename)


def _is_group(file: h5py.File, name: str) -> bool:
    kind = h5py.h5o.get_info(file.id, _encoded(name or "/")).type
    return bool(kind == h5py.h5o.TYPE_GROUP)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
