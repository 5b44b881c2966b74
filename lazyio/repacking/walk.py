"""What is in an HDF5 file, object by object, in the order of its links.

An object that several links lead to is come by once, and then again. External links are followed
where somebody says where they lead to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
from h5py import h5d, h5g, h5l, h5o, h5p

from lazyio.atomic.hdf5_digests import GROUP
from lazyio.errors import SourceError
from lazyio.repacking.references import Place, place_of

DIGESTS = GROUP.encode()
"""Name of the group of digests, which are those of one file only."""
_MOST_DEPTH = 1000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A link that was come by."""

    source: h5py.File
    """The file that what it leads to lies in."""
    path: bytes
    """Of that in its file."""
    copied: bytes
    """Of the link, from the root of what was begun with."""
    depth: int
    """Groups around it."""
    name: bytes
    """Of the link."""
    encoding: int
    """Of its name."""
    kind: str
    """``"group"``, ``"dataset"``, ``"type"``, ``"soft"``, ``"external"``, or ``"again"``."""
    item: Any = None
    """What it leads to, open; of what was come by before, nothing."""
    value: Any = None
    """Where it leads to, as a link has it; of what was come by before, the path of that."""


Resolve = Callable[[h5g.GroupID, Entry], Any]
"""Returns what a link leads to that leaves the file, open; ``None`` to leave it as it is."""


@dataclass(kw_only=True)
class Walk:
    """One way through a file."""

    resolve: Resolve | None = None
    """What follows external links, if anything does."""
    made: dict[Place, bytes] = field(default_factory=dict)
    """Paths of all that was come by."""
    begun: h5py.File | None = None
    """The file that it goes through."""

    def entries(self, source: h5py.File) -> Iterator[Entry]:
        """Yield the links of a file; those in a group come right behind it."""
        self.begun = source
        root = h5g.open(source.id, b"/")
        self.made[place_of(root)] = b"/"
        first = Entry(
            source=source,
            path=b"/",
            copied=b"/",
            depth=0,
            name=b"",
            encoding=h5py.h5t.CSET_ASCII,
            kind="group",
            item=root,
        )
        yield first
        waiting = [(first, _links_of(root))]
        while waiting:
            group, names = waiting[-1]
            name = next(names, None)
            if name is None:
                waiting.pop()
                continue
            entry = self._entry(group, name)
            if entry is None:
                continue
            yield entry
            if entry.kind == "group":
                if len(waiting) == _MOST_DEPTH:
                    msg = f"{source.filename}: its groups are nested more than {_MOST_DEPTH} deep"
                    raise SourceError(msg)
                waiting.append((entry, _links_of(entry.item)))

    def _entry(self, group: Entry, name: bytes) -> Entry | None:
        """Return what is known of one link; nothing of digests."""
        facts = group.item.links.get_info(name)
        entry = Entry(
            source=group.source,
            path=_joined(group.path, name),
            copied=_joined(group.copied, name),
            depth=group.depth + 1,
            name=name,
            encoding=facts.cset,
            kind="soft",
        )
        if facts.type in (h5l.TYPE_SOFT, h5l.TYPE_EXTERNAL):
            kind = "soft" if facts.type == h5l.TYPE_SOFT else "external"
            link = replace(entry, kind=kind, value=group.item.links.get_val(name))
            # A soft link of another file would lead to something else in this one.
            leaves = kind == "external" or group.source is not self.begun
            item = self.resolve(group.item, link) if leaves and self.resolve is not None else None
            return link if item is None else self._object(link, item, is_linked=True)
        if facts.type != h5l.TYPE_HARD:
            path = entry.path.decode(errors="replace")
            msg = f"{group.source.filename}: {path!r} is a link of another program's own kind"
            raise SourceError(msg)
        if entry.copied == b"/" + DIGESTS:
            return None
        if (there := self.made.get(place_of(group.item, name))) is not None:
            return replace(entry, kind="again", value=there)
        return self._object(entry, h5o.open(group.item, name), is_linked=False)

    def _object(self, entry: Entry, item: Any, *, is_linked: bool) -> Entry:
        """Return what is known of an object, come by for the first time or again."""
        place = place_of(item)
        if (there := self.made.get(place)) is not None:
            return replace(entry, kind="again", value=there)
        self.made[place] = entry.copied
        kind = "type"
        if isinstance(item, h5g.GroupID):
            kind = "group"
        elif isinstance(item, h5d.DatasetID):
            kind = "dataset"
        if not is_linked:
            return replace(entry, kind=kind, item=item)
        file = h5py.File(h5py.h5i.get_file_id(item))
        path = h5py.h5i.get_name(item) or entry.path
        return replace(entry, kind=kind, item=item, source=file, path=path)


def _links_of(group: h5g.GroupID) -> Iterator[bytes]:
    """Return the names of what is in a group, in the order in which it was made."""
    names: list[bytes] = []
    order = group.get_create_plist().get_link_creation_order()
    by_order = bool(order & h5p.CRT_ORDER_TRACKED)
    kind = h5py.h5.INDEX_CRT_ORDER if by_order else h5py.h5.INDEX_NAME
    group.links.iterate(names.append, idx_type=kind)
    return iter(names)


def _joined(path: bytes, name: bytes) -> bytes:
    return path.rstrip(b"/") + b"/" + name
