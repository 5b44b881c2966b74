"""Attributes of objects, copied with their types, in their order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5o

from lazyio.libhdf5_calls import comment_of, copy_attribute
from lazyio.repacking.references import References, dtype_in, kinds_in

TypeFor = Callable[[h5py.h5t.TypeID], h5py.h5t.TypeID]
"""Returns a type as the copy has it: one that has a name there by that name."""


@dataclass(frozen=True, kw_only=True)
class Postponed:
    """An attribute whose references can be led on once all objects are there."""

    source: h5py.File
    """The file that it is copied from."""
    path: bytes
    """Of its object in there."""
    copied: bytes
    """Of the object's copy."""
    name: bytes
    """The attribute's."""

    def write(self, target: h5py.File, references: References) -> None:
        """Write the elements."""
        attribute = h5a.open(h5o.open(self.source.id, self.path), self.name)
        copy = h5a.open(h5o.open(target.id, self.copied), self.name)
        kind = attribute.get_type()
        dtype = dtype_in(kind, _named(self.source, self.path, self.name))
        elements = np.empty(attribute.shape, dtype)
        attribute.read(elements)
        references.lead_on(elements, dtype, self.source)
        copy.write(elements)


def copy_attributes(
    source: h5py.File, item: Any, path: bytes, target: Any, copied: bytes, type_for: TypeFor
) -> list[Postponed]:
    """Copy the attributes of an object, and return those whose elements come later."""
    postponed: list[Postponed] = []
    for name in _names(item):
        attribute = h5a.open(item, name)
        kind = attribute.get_type()
        copy = copy_attribute(attribute, target, name, type_for(kind))
        if attribute.shape is None:
            continue
        kinds = kinds_in(kind)
        if "references" in kinds:
            one = Postponed(source=source, path=path, copied=copied, name=name)
            postponed.append(one)
        elif "variable" in kinds:
            elements = np.empty(attribute.shape, dtype_in(kind, _named(source, path, name)))
            attribute.read(elements)
            copy.write(elements)
        else:
            # Bytes as they are, of whatever type.
            raw = np.zeros(attribute.shape, f"V{kind.get_size()}")
            attribute.read(raw, mtype=kind)
            copy.write(raw, mtype=kind)
    if comment := comment_of(item):
        h5o.set_comment(target, comment)
    return postponed


def _names(item: Any) -> list[bytes]:
    """Return the names of an object's attributes, in the order in which they were made."""
    names: list[bytes] = []
    order = item.get_create_plist().get_attr_creation_order()
    by_order = bool(order & h5py.h5p.CRT_ORDER_TRACKED)
    kind = h5py.h5.INDEX_CRT_ORDER if by_order else h5py.h5.INDEX_NAME
    h5a.iterate(item, lambda name, *_: names.append(name), index_type=kind)
    return names


def _named(source: h5py.File, path: bytes, name: bytes) -> str:
    of = path.decode(errors="replace")
    return f"{source.filename}: attribute {name.decode(errors='replace')!r} of {of!r}"
