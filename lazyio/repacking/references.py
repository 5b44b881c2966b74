"""References to objects and regions, led to the copies of what they name."""

from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5o, h5r, h5t

from lazyio.errors import SourceError

Place = tuple[int, int]
"""By what an object is known, whatever leads to it: its file and its address there."""


def place_of(item: Any, name: bytes = b".") -> Place:
    """Return by what an object is known."""
    facts = h5o.get_info(item, name)
    return facts.fileno, facts.addr


def kinds_in(kind: h5t.TypeID) -> set[str]:
    """Return whether elements of a type hold references, or lie elsewhere for their length."""
    found: set[str] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        what = one.get_class()
        if what == h5t.REFERENCE:
            found.add("references")
        elif what == h5t.STRING:
            if one.is_variable_str():
                found.add("variable")
        elif what == h5t.VLEN:
            found.add("variable")
            waiting.append(one.get_super())
        elif what == h5t.ARRAY:
            waiting.append(one.get_super())
        elif what == h5t.COMPOUND:
            waiting += [one.get_member_type(at) for at in range(one.get_nmembers())]
    return found


def dtype_in(kind: h5t.TypeID, what: str) -> np.dtype[Any]:
    """Return the dtype by which h5py reads elements that are no plain bytes."""
    try:
        found: np.dtype[Any] = kind.dtype
    except (TypeError, ValueError, NotImplementedError) as error:
        msg = (
            f"{what} is of a type that h5py cannot read ({error}), and holds references or "
            "elements of differing length; copy the file with h5repack, or without it"
        )
        raise SourceError(msg) from error
    return found


class References:
    """Turns references of one file, or of several, into those of its copy."""

    def __init__(self, target: h5py.File, made: dict[Place, bytes]) -> None:
        self._target = target
        self._made = made
        self._known: dict[Place, h5r.Reference] = {}
        self.n_dangling = 0
        """References that lead to nothing that was copied."""

    def lead_on(self, elements: npt.NDArray[Any], dtype: np.dtype[Any], source: h5py.File) -> None:
        """Replace the references in elements, as h5py reads them, by those of the copy."""
        if dtype.fields is not None:
            for name in dtype.names or ():
                self.lead_on(elements[name], dtype.fields[name][0], source)
            return
        if dtype.subdtype is not None:
            self.lead_on(elements, dtype.subdtype[0], source)
            return
        base = h5py.check_vlen_dtype(dtype)
        if base is not None:
            if isinstance(base, np.dtype) and _holds_references(base):
                for row in elements.flat:
                    if row is not None and len(row):
                        self.lead_on(row, base, source)
            return
        if h5py.check_ref_dtype(dtype) is not None:
            flat = elements.reshape(-1) if elements.flags.c_contiguous else elements.flat
            for at in range(elements.size):
                if flat[at]:
                    flat[at] = self._led_on(flat[at], source)

    def _led_on(self, reference: h5r.Reference, source: h5py.File) -> h5r.Reference:
        is_region = isinstance(reference, h5r.RegionReference)
        nothing = h5r.RegionReference() if is_region else h5r.Reference()
        try:
            place = place_of(h5r.dereference(reference, source.id))
        except (ValueError, RuntimeError, OSError, KeyError):
            place = None
        name = None if place is None else self._made.get(place)
        if name is None or place is None:
            self.n_dangling += 1
            return nothing
        if is_region:
            space = h5r.get_region(reference, source.id)
            return h5r.create(self._target.id, name, h5r.DATASET_REGION, space)
        if place not in self._known:
            self._known[place] = h5r.create(self._target.id, name, h5r.OBJECT)
        return self._known[place]


def _holds_references(dtype: np.dtype[Any]) -> bool:
    if dtype.fields is not None:
        return any(_holds_references(field[0]) for field in dtype.fields.values())
    if dtype.subdtype is not None:
        return _holds_references(dtype.subdtype[0])
    base = h5py.check_vlen_dtype(dtype)
    if isinstance(base, np.dtype):
        return _holds_references(base)
    return h5py.check_ref_dtype(dtype) is not None
