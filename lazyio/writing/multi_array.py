"""Several arrays of one call: their keys, what is said of each, and the memory they share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from lazyio.errors import OptionError, PlanError, UnsupportedDtypeError
from lazyio.inputs import Input, recognise
from lazyio.iterables.sparse import is_sparse
from lazyio.options import NONE
from lazyio.planning.budget import COPIES, LimitTooSmall, within_limit
from lazyio.sources.adapters import is_xarray
from lazyio.writing.array_plan import PlannedArray
from lazyio.writing.target_checks import without_slash

Settings = TypeVar("Settings", bound=Any)
Item = TypeVar("Item", bound=Any)


def holds_several(data: Any) -> bool:
    """Return whether something is arrays by their keys; some arrays are mappings, too."""
    return isinstance(data, Mapping) and not is_xarray(data, "Dataset") and not is_sparse(data)


def items_of(data: Any, prefix: str) -> list[tuple[str, Input]]:
    """Return what is to be written, each under its key."""
    if not holds_several(data):
        return [(prefix, recognise(data))]
    if not data or not all(isinstance(key, str) for key in data):
        msg = f"a mapping with the keys {list(data)}; give at least one, each of them text"
        raise OptionError(msg)
    group = prefix.strip("/")
    items = [
        (f"{group}/{key.strip('/')}" if group else without_slash(key), recognise(value))
        for key, value in data.items()
    ]
    return _sharing(items)


def only_item(data: Any) -> Input:
    """Return what is to be written into one array that is there."""
    if holds_several(data):
        msg = "several arrays do not go into one; write them one at a time"
        raise OptionError(msg)
    return recognise(data)


def refuse_for_streams(several: Sequence[Input], *, resume: bool) -> None:
    """Refuse what cannot be done with data that comes once."""
    if resume and any(one.comes_once for one in several):
        msg = (
            "resume=True: a stream or iterator comes once, and what a killed run had of it does "
            "not come again; leave it out"
        )
        raise OptionError(msg)


def refuse_clashes(keys: Sequence[str]) -> None:
    """Refuse arrays of which one would lie at the key of another, or below it.

    Examples
    --------
    >>> refuse_clashes(["a", "b/c", "/b/d"])
    """
    names: set[str] = set()
    for key in keys:
        name = "/".join(filter(None, key.split("/")))
        if name in names:
            msg = f"two arrays have the key {name!r}; give every array its own"
            raise OptionError(msg)
        names.add(name)
    for name in names:
        parents = [name[:at] for at, letter in enumerate(name) if letter == "/"]
        if above := next((parent for parent in parents if parent in names), None):
            msg = (
                f"the key {name!r} lies below {above!r}, and an array holds no other; "
                "choose another"
            )
            raise OptionError(msg)


def for_each(settings: Settings, keys: Sequence[str], *, dims: str, attrs: str) -> list[Settings]:
    """Return the settings of each of several arrays, which may differ in two of them."""
    names = [key.strip("/") for key in keys]
    each = [settings] * len(names)
    for setting in (dims, attrs):
        given = getattr(settings, setting)
        if not isinstance(given, Mapping):
            continue
        own = {str(key).strip("/"): value for key, value in given.items()}
        unknown = own.keys() - set(names)
        if setting == attrs and not _is_by_key(own, names, setting):
            continue
        if unknown:
            msg = f"{setting} has the keys {sorted(unknown)}; the arrays have {names}, give those"
            raise OptionError(msg)
        pairs = zip(each, names, strict=True)
        each = [replace(one, **{setting: own.get(name, NONE)}) for one, name in pairs]
    return each


def planned(
    item: Callable[[str, Input, Settings], Item],
    given: Sequence[tuple[str, Input]],
    each: Sequence[Settings],
) -> tuple[Item, ...]:
    """Return arrays with plans that share the memory limit of one call."""

    def make(limit: int | None) -> tuple[Item, ...]:
        limited = each if limit is None else [replace(one, memory_limit=limit) for one in each]
        items = _item_of_each(item, given, limited)
        shared = sharing_memory([one.arranged for one in items])
        return tuple(replace(one, arranged=plan) for one, plan in zip(items, shared, strict=True))

    return within_limit(make)


def _item_of_each(
    item: Callable[[str, Input, Settings], Item],
    given: Sequence[tuple[str, Input]],
    each: Sequence[Settings],
) -> tuple[Item, ...]:
    """Return what is made of each array with its settings."""
    made = []
    for (key, one), settings in zip(given, each, strict=True):
        try:
            made.append(item(key, one, settings))
        except (PlanError, OptionError, UnsupportedDtypeError) as error:
            if len(given) > 1 and isinstance(error, LimitTooSmall):
                raise LimitTooSmall(
                    error.limit, f"array {key!r}: {error.why}", error.least
                ) from None
            if len(given) > 1:
                error.args = (f"array {key!r}: {error}",)
            raise
    return tuple(made)


def _is_by_key(attributes: Mapping[str, Any], names: Sequence[str], setting: str) -> bool:
    """Return whether attributes are those of each array, and not the same for all."""
    are_mappings = bool(attributes) and all(
        isinstance(value, Mapping) for value in attributes.values()
    )
    is_any_named = bool(attributes.keys() & set(names))
    if is_any_named and not are_mappings:
        msg = (
            f"{setting} has the keys {sorted(attributes)}, some of them those of arrays; give "
            "either a mapping for each array, or attributes that are the same for all"
        )
        raise OptionError(msg)
    return is_any_named


def _sharing(items: list[tuple[str, Input]]) -> list[tuple[str, Input]]:
    """Take arrays that others are made of from the graph too, so that they are read once."""

    def is_shared(at: int, given: Input) -> bool:
        return given.array is not None and any(
            other.array is not None and given.array.name in other.array.dask.layers
            for position, (_, other) in enumerate(items)
            if position != at
        )

    return [
        (key, replace(given, source=None) if is_shared(at, given) else given)
        for at, (key, given) in enumerate(items)
    ]


def sharing_memory(several: Sequence[PlannedArray]) -> list[PlannedArray]:
    """Return arrays with plans for one run, of which each was made as if it were alone.

    Parts of chunks share the memory that is left. What graphs have in common
    is held until the last of them has had it: one more copy of a block.
    """
    graphs = [one for one in several if one.given.source is None and one.given.array is not None]
    if len(graphs) < 2:
        return list(several)
    limit = min(one.plan.memory_limit for one in graphs)
    workers = min(one.plan.workers for one in graphs)
    each = max(map(_beside_gathering, graphs))
    if _have_something_in_common(graphs):
        each += each // COPIES
        workers = max(1, min(workers, limit // max(1, each)))
    if workers * each > limit:
        why = (
            f"{len(graphs)} arrays that have blocks in common, which are held for all of them, "
            f"need {workers * each} bytes (written one at a time, less)"
        )
        raise LimitTooSmall(limit, why, workers * each)
    gather = (limit - workers * each) // (2 * len(graphs))
    shared = {one.key: _in_one_run(one, workers, workers * each, gather) for one in graphs}
    return [shared.get(one.key, one) for one in several]


def _beside_gathering(one: PlannedArray) -> int:
    """Return the bytes that each worker holds beside parts of chunks that wait."""
    plan = one.plan
    return -(-(plan.peak_nbytes - plan.gather_nbytes) // plan.workers)


def _have_something_in_common(graphs: Sequence[PlannedArray]) -> bool:
    """Return whether any two arrays are made of the same."""
    layers = [set(one.given.array.dask.layers) for one in graphs if one.given.array is not None]
    return len(set().union(*layers)) < sum(map(len, layers))


def _in_one_run(one: PlannedArray, workers: int, beside: int, gather_nbytes: int) -> PlannedArray:
    """Return an array with its share of the memory of a run."""
    plan = one.plan
    gather = min(gather_nbytes, plan.gather_nbytes)
    peak = beside + gather
    return replace(one, plan=replace(plan, workers=workers, gather_nbytes=gather, peak_nbytes=peak))
