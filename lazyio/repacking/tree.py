"""Everything of an HDF5 file but large arrays, copied object by object.

Objects are made in the order of their links. What a reference names may come later than the
reference, so elements that hold references are written once all objects are there; named types
that are used before their turn are made at once, and get their name when that comes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h5py
from h5py import h5d, h5g, h5o, h5p, h5t

from lazyio.codecs.hdf5_chunks import filters_of, load_plugins
from lazyio.codecs.hdf5_filters import as_given
from lazyio.libhdf5_calls import commit_type, leaves_edges_plain
from lazyio.repacking.attributes import Postponed, copy_attributes
from lazyio.repacking.elements import copy_elements, lies_elsewhere, names_relative_files
from lazyio.repacking.references import Place, References, place_of
from lazyio.repacking.walk import DIGESTS, Entry, Walk

Properties = Callable[[bytes], "h5p.PropDCID | None"]
"""Returns how the dataset is made that is copied to a path and whose elements come later;
``None`` of one that is copied as it is."""


@dataclass(frozen=True, kw_only=True)
class _Elements:
    """A dataset whose elements are copied once all objects are there."""

    source: h5py.File
    path: bytes
    copied: bytes


@dataclass(kw_only=True)
class TreeCopy:
    """One file on its way to another."""

    target: h5py.File
    """The new file, still empty."""
    walk: Walk
    """What goes through the old one."""
    properties: Properties
    """What is to become of each dataset."""
    advice: list[tuple[str, str]] = field(default_factory=list)
    """On what could not be copied as it was."""
    relative: list[bytes] = field(default_factory=list)
    """What names other files by where they lie from its own."""
    _postponed: list[Postponed] = field(default_factory=list)
    _elements: list[_Elements] = field(default_factory=list)
    _types: dict[Place, h5t.TypeID] = field(default_factory=dict)
    _waiting: dict[Place, bytes] = field(default_factory=dict)
    _shelf: h5g.GroupID | None = None

    def copy(self, source: h5py.File) -> None:
        """Copy everything but the elements of datasets that come later."""
        around: list[h5g.GroupID] = []
        for entry in self.walk.entries(source):
            del around[entry.depth :]
            made = self._made(entry, around)
            if entry.kind == "group":
                around.append(made)
            if made is not None:
                self._postponed += copy_attributes(
                    entry.source, entry.item, entry.path, made, entry.copied, self._type_for
                )
        if self._shelf is not None:
            # What has no name of its own is held by what is made of it.
            around[0].unlink(DIGESTS)
        references = References(self.target, self.walk.made)
        for one in self._postponed:
            one.write(self.target, references)
        for part in self._elements:
            dataset = h5py.Dataset(h5d.open(part.source.id, part.path))
            copied = h5py.Dataset(h5d.open(self.target.id, part.copied))
            copy_elements(dataset, copied, references)
        if references.n_dangling:
            what = (
                f"{references.n_dangling} references lead to nothing in {source.filename}; "
                "they are empty in the copy"
            )
            self.advice.append(("references-dangling", what))

    def _made(self, entry: Entry, around: list[h5g.GroupID]) -> Any:
        """Make what an entry stands for; return it unless it was there, or is a link."""
        if not around:
            return h5g.open(self.target.id, b"/")
        group, name = around[-1], entry.name
        how = h5p.create(h5p.LINK_CREATE)
        how.set_char_encoding(entry.encoding)
        if entry.kind == "soft":
            group.links.create_soft(name, entry.value, how)
        elif entry.kind == "external":
            group.links.create_external(name, *entry.value, how)
            if not os.path.isabs(entry.value[0]):
                self.relative.append(entry.copied)
        elif entry.kind == "again":
            group.links.create_hard(name, self.target.id, entry.value, how)
        elif entry.kind == "group":
            return h5g.create(group, name, how, _group_properties(entry.item))
        elif entry.kind == "dataset":
            return self._made_dataset(entry, group, how)
        else:
            return self._made_type(entry, group, how)
        return None

    def _made_type(self, entry: Entry, group: h5g.GroupID, how: h5p.PropLCID) -> h5t.TypeID:
        place = place_of(entry.item)
        if place in self._waiting:
            waiting = self._waiting.pop(place)
            group.links.create_hard(entry.name, self.target.id, waiting, how)
            return self._types[place]
        made = entry.item.copy()
        commit_type(made, group, entry.name, how, entry.item.get_create_plist())
        self._types[place] = made
        return made

    def _type_for(self, kind: h5t.TypeID) -> h5t.TypeID:
        """Return a type as the new file has it."""
        if not kind.committed():
            return kind
        place = place_of(kind)
        if place not in self._types:
            if self._shelf is None:
                self._shelf = h5g.create(self.target.id, DIGESTS)
            name = b"%d" % len(self._types)
            made = kind.copy()
            commit_type(made, self._shelf, name, None, kind.get_create_plist())
            self._types[place], self._waiting[place] = made, DIGESTS + b"/" + name
        return self._types[place]

    def _made_dataset(self, entry: Entry, group: h5g.GroupID, how: h5p.PropLCID) -> h5d.DatasetID:
        dataset = h5py.Dataset(entry.item)
        later = self.properties(entry.copied)
        properties = as_made(dataset) if later is None else later
        kind, space = self._type_for(entry.item.get_type()), entry.item.get_space()
        try:
            made = h5d.create(group, entry.name, kind, space, properties, how)
        except (ValueError, OSError, RuntimeError):
            if later is not None:
                raise
            made = None
        if made is not None and later is None and not is_alike(dataset, h5py.Dataset(made)):
            group.unlink(entry.name)
            made = None
        if made is None:
            return _copied_by_libhdf5(entry, group, how)
        # libhdf5 writes a filter's name, which it may learn only when a plugin is loaded, into
        # room that it has measured without.
        made.flush()
        if later is None and names_relative_files(properties):
            self.relative.append(entry.copied)
        if later is None and not lies_elsewhere(properties):
            part = _Elements(source=entry.source, path=entry.path, copied=entry.copied)
            self._elements.append(part)
        return made


def _group_properties(group: h5g.GroupID) -> h5p.PropGCID:
    """Return how a group was made.

    Made anew: those that libhdf5 gives say where the links of the old group lie, too.
    """
    old, properties = group.get_create_plist(), h5p.create(h5p.GROUP_CREATE)
    properties.set_link_creation_order(old.get_link_creation_order())
    properties.set_attr_creation_order(old.get_attr_creation_order())
    properties.set_attr_phase_change(*old.get_attr_phase_change())
    properties.set_obj_track_times(old.get_obj_track_times())
    return properties


def as_made(dataset: h5py.Dataset) -> h5p.PropDCID:
    """Return a dataset's properties, filters as whoever made it gave them to libhdf5.

    Some filters write more into their options each time that a dataset is made.
    """
    properties = dataset.id.get_create_plist()
    found = [properties.get_filter(at) for at in range(properties.get_nfilters())]
    given = [as_given(step) for step in filters_of(dataset)]
    if any(tuple(one[2]) != step.options for one, step in zip(found, given, strict=True)):
        properties.remove_filter(h5py.h5z.FILTER_ALL)
        for (number, flags, _, _), step in zip(found, given, strict=True):
            properties.set_filter(number, flags, step.options or None)
    for number, *_ in found:
        load_plugins(number)
    return properties


def is_alike(one: h5py.Dataset, other: h5py.Dataset) -> bool:
    """Return whether chunks of one dataset mean the same in another."""
    edges = [leaves_edges_plain(each.id.get_create_plist()) for each in (one, other)]
    return filters_of(one) == filters_of(other) and edges[0] == edges[1]


def _copied_by_libhdf5(entry: Entry, group: h5g.GroupID, how: h5p.PropLCID) -> h5d.DatasetID:
    """Have libhdf5 copy a dataset as it is, whose filters are not to be had."""
    what = h5p.create(h5p.OBJECT_COPY)
    what.set_copy_object(h5o.COPY_WITHOUT_ATTR_FLAG)
    h5o.copy(entry.source.id, entry.path, group, entry.name, what, how)
    return h5d.open(group, entry.name)
