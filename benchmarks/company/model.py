"""What may be there: the states that some order of what was told to be done leads to.

Each thing that a program does is a function from one state to the next. A trial
is right if there is an order, as the clock allows it, of all that was told to
be done, of nothing that was refused, and of any part of what was killed, which
leads to what is there in the end.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Node = tuple[Array, tuple[tuple[str, int], ...]]
"""Elements and attributes of one array."""
Content = Mapping[str, Node]
"""A file or store: from keys to arrays."""
State = Mapping[str, Content]
"""From names in the folder of a trial to files or stores."""
Step = Callable[[State], "State | None"]
"""Returns the next state, ``None`` where the step cannot be taken."""

DONE, REFUSED, UNKNOWN = "done", "refused", "unknown"
"""What is known of a step: it was told to be made, or not to be, or was killed."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a program has done, or tried to do."""

    who: str
    """The program: ``lazyio`` or that of somebody else."""
    what: str
    """A few words."""
    step: Step
    """What it makes of a state."""
    begin: float = 0.0
    """When it began."""
    end: float = math.inf
    """When it was over; what was killed may be finished by anybody, at any time."""
    outcome: str = DONE
    """Whether it was made."""
    after: "int | None" = None
    """Place of the event, in the list of all, that this one goes on from."""


def fingerprint(content: Content) -> Any:
    """Return what two contents have in common if they are the same."""
    return tuple(
        (key, array.shape, array.tobytes(), tuple(sorted(attrs)))
        for key, (array, attrs) in sorted(content.items())
    )


def reachable(state: State, events: Sequence[Event], is_last: Callable[[State], bool]) -> bool:
    """Return whether some order of events leads to a state that is the last one.

    Parameters
    ----------
    state : mapping
        At the beginning.
    events : sequence of Event
        Of which those done must be in it, those refused must not, others may.
    is_last : callable
        Tells the state that was found.
    """
    places = [at for at, event in enumerate(events) if event.outcome != REFUSED]
    seen: set[tuple[frozenset[int], Any]] = set()

    def search(now: State, taken: frozenset[int]) -> bool:
        key = (taken, tuple((name, fingerprint(one)) for name, one in sorted(now.items())))
        if key in seen:
            return False
        seen.add(key)
        left = [at for at in places if at not in taken]
        if all(events[at].outcome == UNKNOWN for at in left) and is_last(now):
            return True
        for at in left:
            event = events[at]
            if event.after is not None and event.after not in taken:
                continue
            # What was over before this one began comes first, if it was made.
            if any(
                events[other].end < event.begin and events[other].outcome == DONE
                for other in left
                if other != at
            ):
                continue
            then = event.step(now)
            if then is not None and search(then, taken | {at}):
                return True
        return False

    return search(state, frozenset())


def explained(
    state: State, events: Sequence[Event], is_last: Callable[[State], bool]
) -> str | None:
    """Return what went wrong, ``None`` if nothing did.

    Kinds are tried in turn: made though it was refused, lost, made twice; else
    values are simply wrong.
    """
    if reachable(state, events, is_last):
        return None
    for kind, changed in _wrongs(events):
        if reachable(state, changed, is_last):
            return kind
    return "wrong values"


def _wrongs(events: Sequence[Event]) -> Iterator[tuple[str, list[Event]]]:
    refused = [at for at, event in enumerate(events) if event.outcome == REFUSED]
    for at in refused:
        made = replace(events[at], outcome=UNKNOWN, end=math.inf)
        yield f"made though refused: {events[at].what}", _with(events, at, made)
    done = [at for at, event in enumerate(events) if event.outcome == DONE]
    for n_lost in (1, 2):
        for places in itertools.combinations(done, n_lost):
            changed = list(events)
            for at in places:
                changed[at] = replace(changed[at], outcome=UNKNOWN)
            lost = ", ".join(f"{events[at].who}'s {events[at].what}" for at in places)
            yield f"lost: {lost}", changed
    for at, event in enumerate(events):
        again = replace(event, outcome=UNKNOWN, end=math.inf, after=at)
        yield f"made twice: {event.what}", [*_with(events, at, event), again]


def _with(events: Sequence[Event], at: int, event: Event) -> list[Event]:
    return [*events[:at], event, *events[at + 1 :]]


# ---- what programs do


def changed(name: str, change: Callable[[dict[str, Node]], bool], *, makes: bool = False) -> Step:
    """Return a step that changes what is in a file or store, which it may make."""

    def step(state: State) -> State | None:
        if name not in state and not makes:
            return None
        content = dict(state.get(name, {}))
        return {**state, name: content} if change(content) else None

    return step


def put(name: str, key: str, start: int, rows: Array, *, grows: bool = False) -> Step:
    """Return a step that writes some rows of an array, which may grow for them."""

    def change(content: dict[str, Node]) -> bool:
        if key not in content:
            return False
        array, attrs = content[key]
        n_missing = start + len(rows) - len(array)
        if n_missing > 0 and not grows:
            return False
        array = np.concatenate([array, np.zeros((max(0, n_missing), *array.shape[1:]), "i4")])
        array[start : start + len(rows)] = rows
        content[key] = (array, attrs)
        return True

    return changed(name, change)


def append(name: str, key: str, rows: Array, *, makes: bool = False) -> Step:
    """Return a step that makes an array longer, or makes it."""

    def change(content: dict[str, Node]) -> bool:
        if key not in content and not makes:
            return False
        array, attrs = content.get(key, (rows[:0], ()))
        content[key] = (np.concatenate([array, rows]), attrs)
        return True

    return changed(name, change, makes=makes)


def add(
    name: str,
    key: str,
    array: Array,
    *,
    replaces: bool = False,
    makes: bool = False,
    is_same_again: bool = False,
) -> Step:
    """Return a step that adds an array, to a file or store that it may make."""

    def change(content: dict[str, Node]) -> bool:
        if key in content and not replaces:
            return is_same_again and np.array_equal(content[key][0], array)
        content[key] = (array, ())
        return True

    return changed(name, change, makes=makes)


def mark(name: str, key: str, attribute: str, value: int) -> Step:
    """Return a step that sets an attribute of an array."""

    def change(content: dict[str, Node]) -> bool:
        if key not in content:
            return False
        array, attrs = content[key]
        content[key] = (array, tuple(sorted({**dict(attrs), attribute: value}.items())))
        return True

    return changed(name, change)


def make(name: str, content: Content) -> Step:
    """Return a step that makes a file or store anew, whatever is there."""
    return lambda state: {**state, name: content}


def move(name: str, other: str) -> Step:
    """Return a step that gives a file or store another name."""

    def step(state: State) -> State | None:
        if name not in state:
            return None
        return {**{one: what for one, what in state.items() if one != name}, other: state[name]}

    return step


def copy(name: str, other: str) -> Step:
    """Return a step after which two files or stores have the same content."""

    def step(state: State) -> State | None:
        return {**state, other: state[name]} if name in state else None

    return step


def remove(name: str) -> Step:
    """Return a step that removes a file or store."""

    def step(state: State) -> State | None:
        if name not in state:
            return None
        return {one: what for one, what in state.items() if one != name}

    return step


def look(name: str, key: str, rows: Array) -> Step:
    """Return a step that changes nothing, and can only be taken where these elements are."""

    def step(state: State) -> State | None:
        if name not in state or key not in state[name]:
            return None
        array = state[name][key][0]
        is_same = array.shape == rows.shape and np.array_equal(array, rows)
        return state if is_same else None

    return step


def in_order(steps: Iterable[Event], first: int) -> list[Event]:
    """Return events of one program, each of which goes on from the one before."""
    found: list[Event] = []
    for at, event in enumerate(steps):
        found.append(replace(event, after=first + at - 1 if at else None))
    return found
