"""What a call says of each of several arrays, and of the groups above them, by their keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from lazyio.errors import OptionError
from lazyio.options import NONE, check_attributes

Settings = TypeVar("Settings", bound=Any)

_OF_THE_RUN = (
    "memory_limit",
    "workers",
    "scheduler",
    "strategy",
    "names_codec",
    "zarr_format",
    "chunk_key_encoding",
)
"""Settings that all arrays of a call share, or that are mappings themselves."""


def settings_of_each(settings: Settings, keys: Sequence[str]) -> list[Settings]:
    """Return the settings of each of several arrays: those by its key, or the same for all."""
    names = [key.strip("/") for key in keys]
    each = [settings] * len(names)
    for one in fields(settings):
        given = getattr(settings, one.name)
        if one.name in _OF_THE_RUN or not isinstance(given, Mapping):
            continue
        own = _own_of_each(settings.argument(one.name), one.name, given, names)
        if own is not None:
            missing = NONE if one.name in ("dims", "attrs") else one.default
            pairs = zip(each, names, strict=True)
            each = [replace(kept, **{one.name: own.get(name, missing)}) for kept, name in pairs]
    return each


def _own_of_each(
    called: str, setting: str, given: Mapping[Any, Any], names: Sequence[str]
) -> dict[str, Any] | None:
    """Return what a setting says of each array, ``None`` where it says the same of all."""
    own = _by_name(given)
    if setting == "attrs":
        arrays, _ = attributes_by_key(called, given, names)
        return arrays
    named = own.keys() & set(names)
    if setting == "chunks" and own.keys() != set(names):
        # Extents by the names of axes, unless they are those of whole arrays.
        are_extents = all(value is None or isinstance(value, (int, str)) for value in own.values())
        named = set() if are_extents else named
    if not named and setting != "dims":
        return None
    if unknown := own.keys() - set(names):
        msg = f"{called} has the keys {sorted(unknown)}; the arrays have {names}, give those"
        raise OptionError(msg)
    return own


def attributes_by_key(
    called: str, given: Any, keys: Sequence[str]
) -> tuple[dict[str, Any] | None, dict[str, Mapping[str, Any]]]:
    """Return attributes of each array, ``None`` for the same of all, and those of groups.

    Groups are those that the arrays lie in; ``/`` is the one that all of them go to.

    Examples
    --------
    >>> attributes_by_key("attrs", {"a/x": {"units": "V"}, "/": {"title": "t"}}, ["a/x"])
    ({'a/x': {'units': 'V'}}, {'': {'title': 't'}})
    >>> attributes_by_key("attrs", {"title": "t"}, ["a/x"])
    (None, {})
    """
    if not isinstance(given, Mapping):
        return None, {}
    names = [key.strip("/") for key in keys]
    groups = list(dict.fromkeys(_groups_of(names)))
    own = _by_name(given)
    are_mappings = all(value is None or isinstance(value, Mapping) for value in own.values())
    is_any_array = bool(own.keys() & set(names))
    is_any_group = any(isinstance(own[name], Mapping) for name in own.keys() & set(groups))
    is_any_path = any(isinstance(key, str) and key.startswith("/") for key in given)
    if not (is_any_array or is_any_group or is_any_path):
        return None, {}
    if not are_mappings:
        msg = (
            f"{called} has the keys {sorted(own)}, some of them those of arrays or groups; give "
            "either a mapping for each of them, or attributes that are the same for all arrays"
        )
        raise OptionError(msg)
    if unknown := own.keys() - {*names, *groups}:
        msg = (
            f"{called} has the keys {sorted(unknown)}; the arrays have {names} and lie in the "
            f"groups {[f'/{group}' for group in groups]}, give those"
        )
        raise OptionError(msg)
    of_groups = {name: own[name] for name in groups if own.get(name)}
    for name, attributes in of_groups.items():
        check_attributes(f"{called} of the group '/{name}'", attributes)
    return {name: own[name] for name in names if name in own}, of_groups


def _groups_of(names: Iterable[str]) -> Iterable[str]:
    """Yield the groups that arrays lie in, from the outermost."""
    for name in names:
        parts = name.split("/")
        yield from ("/".join(parts[:depth]) for depth in range(len(parts)))


def place_of_each(region: Any, append_dim: Any, keys: Sequence[str]) -> list[tuple[Any, Any]]:
    """Return region and axis of each of several arrays: those by its key, or the same for all.

    What one of the two says of an array by its key comes before what the other says of all.

    Examples
    --------
    >>> place_of_each({"a": 0, "b": slice(2)}, None, ["a", "b"])
    [(0, None), (slice(None, 2, None), None)]
    >>> place_of_each({"time": slice(2)}, None, ["a", "b"])
    [({'time': slice(None, 2, None)}, None), ({'time': slice(None, 2, None)}, None)]
    >>> place_of_each({"b": 3}, {"a": 0}, ["a", "b"])
    [(None, 0), (3, None)]
    """
    names = [key.strip("/") for key in keys]
    axes = _by_name(append_dim) if isinstance(append_dim, Mapping) else None
    if axes is not None and (unknown := axes.keys() - set(names)):
        msg = (
            f"append_dim has the keys {sorted(unknown)}; the arrays have {names}, give one for "
            "each array that is appended to"
        )
        raise OptionError(msg)
    regions = _by_name(region) if isinstance(region, Mapping) else None
    # Else the keys are axes of every array.
    if regions is not None and regions.keys() != set(names):
        is_by_key = append_dim is not None and regions.keys() <= set(names)
        regions = regions if is_by_key else None
    found = [_place_of(name, region, append_dim, regions, axes) for name in names]
    nowhere = [name for name, place in zip(names, found, strict=True) if place == (None, None)]
    if nowhere and (region is not None or append_dim is not None):
        msg = (
            f"neither region nor append_dim says where {nowhere} go; give one of them for each "
            f"array: {names}"
        )
        raise OptionError(msg)
    return found


def _place_of(
    name: str,
    region: Any,
    append_dim: Any,
    regions: Mapping[str, Any] | None,
    axes: Mapping[str, Any] | None,
) -> tuple[Any, Any]:
    own_region = region if regions is None else regions.get(name)
    own_axis = append_dim if axes is None else axes.get(name)
    if regions is None and axes is not None and own_axis is not None:
        own_region = None
    if axes is None and regions is not None and own_region is not None:
        own_axis = None
    return own_region, own_axis


def targets_of_each(targets: Mapping[Any, Any], keys: Sequence[str], kind: str) -> list[Any]:
    """Return the open array that each of several arrays goes into."""
    names = [key.strip("/") for key in keys]
    own = _by_name(targets)
    if own.keys() != set(names):
        msg = (
            f"the {kind} to write to have the keys {sorted(own)}, and the data {sorted(names)}; "
            "give the same keys"
        )
        raise OptionError(msg)
    return [own[name] for name in names]


def _by_name(given: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key).strip("/"): value for key, value in given.items()}
