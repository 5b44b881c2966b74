"""Where the arrays of a Zarr store lie, and where their digests say that they lay."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass

from lazyio.atomic.zarr_digests import StoreNeighbours
from lazyio.verification.report import GONE, Findings


@dataclass(frozen=True, kw_only=True)
class _Offset:
    """How paths in the store that an array was written to come to be paths in that checked."""

    above: str = ""
    """What comes before them, where the one lies in the other."""
    below: str = ""
    """What they lose, where the other lies in the one."""

    def path_of(self, path: str) -> str | None:
        """Return where a path leads to, ``None`` if that is outside."""
        if not path.startswith(self.below):
            return None
        return f"{self.above}{path.removeprefix(self.below)}"


def check_places(
    findings: Findings, places: Mapping[str, StoreNeighbours], found: Container[str]
) -> None:
    """Note arrays that are lost, moved, or have taken the place of another."""
    for store in {place.store for place in places.values()}:
        # An array that is opened as a store by itself does not know where it lies.
        own = {at: place for at, place in places.items() if at and place.store == store}
        _check_store(findings, own, places, found)


def _check_store(
    findings: Findings,
    places: Mapping[str, StoreNeighbours],
    known: Container[str],
    found: Container[str],
) -> None:
    offset = _usual([_offset(at, place.path) for at, place in places.items()])
    home = {at: offset.path_of(place.path) for at, place in places.items()}
    moved_from = set()
    for at, place in sorted(places.items()):
        if home[at] == at:
            continue
        was = home[at] if home[at] is not None else place.path
        if was in places and home[str(was)] == was:
            findings.change(shown(at), f"it is a copy of {shown(was)}, made since")
        elif was in found:
            what = f"it was written as {shown(was)}, where there is another array now"
            findings.damage(shown(at), what)
        else:
            moved_from.add(was)
            findings.change(shown(at), f"it was written as {shown(was)}, and moved since")
    near = {
        offset.path_of(other)
        for at, place in places.items()
        if home[at] == at
        for other in place.near
    }
    for path in sorted(one for one in near if one is not None):
        is_told = any(key == shown(path) for key, _ in findings.unverifiable)
        if path in found and path not in known and not is_told:
            findings.cannot_tell(shown(path), "its digests are gone, or it was written anew")
        if path not in found and path not in moved_from:
            findings.n_arrays += 1
            findings.damage(shown(path), GONE)


def _offset(at: str, path: str) -> _Offset | None:
    """Return the offset by which an array is where it was written to, if there is one."""
    if f"/{at}".endswith(f"/{path}"):
        return _Offset(above=at.removesuffix(path))
    if f"/{path}".endswith(f"/{at}"):
        return _Offset(below=path.removesuffix(at))
    return None


def _usual(offsets: list[_Offset | None]) -> _Offset:
    """Return the offset of most arrays; none, where no other is that of more."""
    counted = Counter(offset for offset in offsets if offset is not None)
    if len(counted) == 1:
        return next(iter(counted))
    most = max(counted.values(), default=0)
    if counted[_Offset()] == most or not counted:
        return _Offset()
    return max(counted, key=lambda offset: counted[offset])


def shown(name: str | None) -> str:
    """Return what a report calls an array."""
    return f"/{name}" if name else "/"
