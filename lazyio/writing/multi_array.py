"""Several arrays of one call: their keys, their plans, and the memory they share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any, TypeVar

from lazyio.errors import OptionError
from lazyio.inputs import Input, recognise
from lazyio.iterables.sparse import is_sparse
from lazyio.options import limit_of
from lazyio.planning.budget import COPIES, limit_too_small, within_limit
from lazyio.sources.adapters import is_xarray
from lazyio.writing.array_plan import PlannedArray
from lazyio.writing.refusals import Refusals
from lazyio.writing.target_checks import without_slash

Settings = TypeVar("Settings", bound=Any)
Item = TypeVar("Item", bound=Any)


def holds_several(data: Any) -> bool:
    """Return whether something is arrays by their keys; some arrays are mappings, too."""
    if is_xarray(data, "Dataset") or is_xarray(data, "DataTree"):
        return False
    return isinstance(data, Mapping) and not is_sparse(data)


def items_of(data: Any, prefix: str, refusals: Refusals | None = None) -> list[tuple[str, Input]]:
    """Return what is to be written, each under its key."""
    if not holds_several(data):
        return [(prefix, recognise(data))]
    if not data or not all(isinstance(key, str) for key in data):
        msg = f"a mapping with the keys {list(data)}; give at least one, each of them text"
        raise OptionError(msg)
    refusals = refusals or Refusals(len(data))
    group = prefix.strip("/")
    items = []
    for key, value in data.items():
        name = f"{group}/{key.strip('/')}" if group else without_slash(key)
        with refusals.of(name):
            items.append((name, recognise(value)))
    refusals.check()
    return _sharing(items)


def refuse_for_streams(several: Sequence[Input], *, resume: bool) -> None:
    """Refuse what cannot be done with data that comes once."""
    if resume and any(one.comes_once for one in several):
        msg = (
            "resume=True: a stream or iterator is one-pass, and what a killed run had of it does "
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


def with_fixed(settings: Settings, one: Input) -> Settings:
    """Return the settings of an array with those that hold for it whatever was given."""
    names = {field.name for field in fields(settings)}
    fixed = {name: value for name, value in one.fixed.items() if name in names}
    return replace(settings, **fixed) if fixed else settings


def planned(
    item: Callable[[str, Input, Settings], Item],
    given: Sequence[tuple[str, Input]],
    each: Sequence[Settings],
    refusals: Refusals | None = None,
) -> tuple[Item, ...]:
    """Return arrays with plans that share the memory limit of one call.

    ``refusals`` has what was wrong with others, of which there is no plan.
    """

    def make(limit: int | None) -> tuple[Item, ...]:
        pairs = zip(given, each, strict=True)
        limited = [_limited(settings, one.share, limit) for (_, one), settings in pairs]
        items = _item_of_each(item, given, limited, Refusals(len(given), refusals))
        shared = sharing_memory([one.arranged for one in items])
        return tuple(replace(one, arranged=plan) for one, plan in zip(items, shared, strict=True))

    return within_limit(make)


def _limited(settings: Settings, share: Fraction, limit: int | None) -> Settings:
    """Return the settings of an array with its share of a limit, by default of the user's."""
    if share != 1:
        limit = limit_of(settings.memory_limit) if limit is None else limit
        limit = int(limit * share)
    return settings if limit is None else replace(settings, memory_limit=limit)


def _item_of_each(
    item: Callable[[str, Input, Settings], Item],
    given: Sequence[tuple[str, Input]],
    each: Sequence[Settings],
    refusals: Refusals,
) -> tuple[Item, ...]:
    """Return what is made of each array with its settings, or raise all that is wrong."""
    made = []
    for (key, one), settings in zip(given, each, strict=True):
        with refusals.of(key):
            made.append(item(key, one, settings))
    refusals.check()
    return tuple(made)


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
        raise limit_too_small(limit, why, workers * each)
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
