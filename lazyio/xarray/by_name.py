"""What is said by the names of dimensions, for each variable of a Dataset."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lazyio.errors import OptionError


def check_names(what: str, given: Any, known: Iterable[Any]) -> None:
    """Refuse names that no variable has as a dimension."""
    names = list(known)
    for one in _mappings(given):
        unknown = [name for name in one if name not in names]
        if unknown:
            msg = f"{what} names {unknown}; the dimensions are {names}, give some of those"
            raise OptionError(msg)


def windows_of(access: Any, dims: Sequence[Any]) -> Any:
    """Return the windows of one variable: along dimensions that a window does not name, all.

    Windows that name none of its dimensions say nothing of it.

    Examples
    --------
    >>> windows_of([{"lat": 1, "lon": 1}, ({"time": 1}, 3)], ("time", "lat", "lon"))
    [((-1, 1, 1), 1), ((1, -1, -1), 3)]
    >>> windows_of({"lat": 1}, ("time",)) is None
    True
    """
    if access is None:
        return None
    found = []
    for one in [access] if isinstance(access, Mapping) or _is_weighted(access) else access:
        window, weight = one if _is_weighted(one) else (one, 1)
        if not isinstance(window, Mapping):
            msg = (
                f"access={access!r}: a Dataset has axes by name; give windows such as "
                '{"lat": 1, "lon": 1}, of which dimensions that are left out are whole'
            )
            raise OptionError(msg)
        if set(window) & set(dims):
            found.append((tuple(window.get(name, -1) for name in dims), weight))
    return found or None


def extents_of(what: str, given: Any, dims: Sequence[Any], *, left_out: Any) -> Any:
    """Return what is given by name for the axes of one variable, ``None`` where nothing is.

    Examples
    --------
    >>> extents_of("maxshape", {"time": None}, ("time", "x"), left_out="extent")
    (None, 'extent')
    """
    if not isinstance(given, Mapping):
        msg = f"{what}={given!r}: a Dataset has axes by name; give a dict by dimension"
        raise OptionError(msg)
    if not set(given) & set(dims):
        return None
    return tuple(given.get(name, left_out) for name in dims)


def _is_weighted(one: Any) -> bool:
    return isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], Mapping)


def _mappings(given: Any) -> list[Mapping[Any, Any]]:
    if isinstance(given, Mapping):
        return [given]
    if _is_weighted(given):
        return [given[0]]
    if isinstance(given, (tuple, list)):
        return [found for one in given for found in _mappings(one)]
    return []
