"""What a job is: by this a later call is known to be the same one, or what differs is said."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lazyio.errors import ResumeError
from lazyio.safety.digests import digest_of_value
from lazyio.safety.sync import write_whole

FORMAT = 1

NAME = "job.json"
"""In a hidden folder: what the job is that was interrupted."""

GRAPH = ": graph"
"""End of the name of a fact that holds the name of a graph."""

SOURCE = ": source"
"""End of the name of a fact that says what is read."""

Facts = Mapping[str, Any]
"""From what each is a fact of, such as ``"/x: chunks"``, to a value of JSON."""


def save(path: Path, facts: Facts) -> None:
    """Write what a job is, whole or not at all."""
    held = {"format": FORMAT, "facts": dict(facts)}
    write_whole(path, json.dumps(held | {"digest": digest_of_value(held)}).encode())


def load(path: Path) -> dict[str, Any] | None:
    """Return what a job is, ``None`` where that is not known, or damaged."""
    try:
        held = json.loads(path.read_text())
        digest = held.pop("digest")
        facts = held["facts"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError):
        return None
    is_whole = held.get("format") == FORMAT and digest == digest_of_value(held)
    return dict(facts) if is_whole and isinstance(facts, dict) else None


def compared(there: Facts, now: Facts) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two jobs, as it was and as it is.

    But for the names of graphs, which may be others every time they are made:
    whether they give the same is seen when a chunk is computed again.

    Examples
    --------
    >>> compared({"/x: chunks": [5], "mode": "a"}, {"/x: chunks": [7], "mode": "a"})
    {'/x: chunks': ([5], [7])}
    >>> compared({"/x: graph": "sum-1"}, {"/x: graph": "sum-2"})
    {}
    """
    now = json.loads(json.dumps(dict(now)))
    names = [*there, *(name for name in now if name not in there)]
    found = {
        name: (there.get(name), now.get(name)) for name in names if there.get(name) != now.get(name)
    }
    return {
        name: values for name, values in found.items() if not name.endswith(GRAPH) or None in values
    }


def refuse(where: Path, target: Path, found: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise what a job that differs comes to."""
    listed = "; ".join(_told(name, old, new) for name, (old, new) in found.items())
    msg = (
        f"the interrupted job in {where} is another one: {listed}. Make the same call again, "
        f"or remove it with: lazyio clean {target}"
    )
    raise ResumeError(msg)


def _told(name: str, old: Any, new: Any) -> str:
    if name.endswith(SOURCE) and old and new and old[0] == new[0]:
        where = ", ".join(path for path, *_ in old[0])
        return f"the source of {name.removesuffix(SOURCE)} is another, or was changed: {where}"
    return f"{name} was {old}, and is {new}"
