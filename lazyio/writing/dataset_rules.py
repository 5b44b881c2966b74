"""Rules by which the datasets of a file are stored: a pattern of paths, and what holds for those.

``{"acquisition/*": {"chunks": (30000, 1), "compression": "gzip"}}``; of several rules that name a
dataset, each adds to what those before it say, or replaces it.
"""

import fnmatch
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lazyio.errors import OptionError, UnknownNameError
from lazyio.sources.base import listed
from lazyio.writing.hdf5_settings import Hdf5Item

Rules = Mapping[str, Mapping[str, Any]]
"""By patterns of paths, with ``*`` and ``?``: what holds for the datasets that one names."""

OF_ANY_DATASET = (
    "chunks",
    "chunk_nbytes",
    "access",
    "compression",
    "compression_opts",
    "shuffle",
    "fletcher32",
)
"""What a rule may say of any dataset."""

OF_NEW_DATASETS = (*OF_ANY_DATASET, "maxshape", "fillvalue")
"""What a rule may say of a dataset of which nothing is settled yet."""


def rules_by_key(
    rules: Rules | None,
    keys: Sequence[str],
    known: Sequence[str],
    *,
    only_by_name: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Return what the rules say of each dataset; the last one that names it holds.

    ``only_by_name`` are those that no pattern means.

    Examples
    --------
    >>> rules = {"*": {"compression": "gzip"}, "b/c": {"compression": "zstd"}}
    >>> rules_by_key(rules, ["a", "b/c"], OF_ANY_DATASET)
    {'a': {'compression': 'gzip'}, 'b/c': {'compression': 'zstd'}}
    """
    meant = [key for key in keys if key not in only_by_name]
    found: dict[str, dict[str, Any]] = {}
    for pattern, rule in _checked(rules).items():
        unknown = [name for name in rule if name not in known]
        if unknown:
            msg = f"rule {pattern!r} says {unknown}; give some of {list(known)}"
            raise OptionError(msg)
        name = pattern.strip("/")
        # A name may have letters that mean something in a pattern.
        named = [name] if name in keys else fnmatch.filter(meant, name)
        if not named:
            msg = f"rule {pattern!r} names no array; those of the file are {listed(meant)}"
            raise UnknownNameError(msg)
        for key in named:
            found[key] = {**found.get(key, {}), **_as_arguments(rule)}
    return found


def names_one(rules: Rules | None, key: str) -> bool:
    """Return whether a rule names a dataset by its whole path, and not by a pattern."""
    return any(pattern.strip("/") == key for pattern in rules or {})


def _checked(rules: Any) -> Rules:
    if rules is None:
        return {}
    is_whole = isinstance(rules, Mapping) and all(
        isinstance(pattern, str) and isinstance(rule, Mapping) for pattern, rule in rules.items()
    )
    if not is_whole:
        msg = (
            f"rules={rules!r}; give a dict from patterns of paths to dicts, such as "
            '{"acquisition/*": {"compression": "gzip"}}'
        )
        raise OptionError(msg)
    return dict(rules)


def _as_arguments(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule as arguments; those of a file have lists where Python's have tuples.

    ``none`` is a word to YAML, and to the command line.
    """
    found = dict(rule)
    if found.get("compression") == "none":
        found["compression"] = None
    for name in ("chunks", "chunk_nbytes"):
        if isinstance(found.get(name), list):
            found[name] = tuple(found[name])
    if isinstance(found.get("access"), list):
        found["access"] = [_as_tuples(window) for window in found["access"]]
    return found


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def rules_in(path: str | os.PathLike[str]) -> Any:
    """Return the rules that a file holds, as JSON or YAML."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as rules: {error}"
        raise OptionError(msg) from error
    if os.fspath(path).endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as error:
            msg = f"{path} is no JSON: {error}"
            raise OptionError(msg) from error
    import yaml  # Comes with dask.

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"{path} is no YAML: {error}"
        raise OptionError(msg) from error


def rule_of(item: Hdf5Item) -> dict[str, Any]:
    """Return what makes a dataset as it is planned."""
    rule: dict[str, Any] = {"chunks": list(item.arranged.plan.chunk_shape)}
    for step in item.options.filters:
        if step.name in ("shuffle", "fletcher32"):
            rule[step.name] = True
        else:
            options: Any = list(step.options)
            rule["compression"] = step.name if step.name == "gzip" else step.filter_id
            rule["compression_opts"] = options[0] if step.name == "gzip" else options
    return rule


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns.

    Examples
    --------
    >>> print(as_table([("dataset", "chunks"), ("x", "(10, 10)")]))
    dataset  chunks
    x        (10, 10)
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)
