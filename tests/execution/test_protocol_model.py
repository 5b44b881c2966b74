"""Every interleaving of a small run: workers that ask, write, die, come late; a caller that ends.

The real :class:`~lazyio.execution.grants.Grants` gives places. All else is a model: two
workers, three chunks in two blocks, and a file of a few cells, each of which holds
a part of a payload. A state that was reached before is not gone into again, so that
all states are looked at, whatever has led to them.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dask
import dask.array as da
import h5py
import numpy as np
import pytest

import lazyio
from lazyio.atomic.descriptors import WRITES_AT_ONCE, is_on_nfs
from lazyio.atomic.journal import Journal, ResumeState, TwoResultsError
from lazyio.errors import BlockError
from lazyio.execution.grants import Grants, packed, places_in
from lazyio.execution.workers import BlockJob, Session, edges_of, write_block
from lazyio.storage.base import EncodedChunk, PayloadPlace, PlaceKind
from lazyio.storage.hdf5 import deferred_metadata
from lazyio.storage.hdf5.chunk_writer import Hdf5ChunkWriter
from lazyio.storage.hdf5.dataset import Hdf5Target
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata
from lazyio.storage.hdf5.payloads import InPlacePayloads

BLOCKS = ((0, 1), (2,))
"""The chunks of each block."""
N_CHUNKS = 3
OLD = "old"
Cells = tuple[Any, ...]


class Result(NamedTuple):
    """What a task computes, and how its process encodes that."""

    elements: int = 0
    encoder: int = 0
    nbytes: int = 2


SAME, OTHER_BYTES, OTHER_LENGTH, OTHER_ELEMENTS = (
    Result(),
    Result(encoder=1),
    Result(encoder=1, nbytes=3),
    Result(elements=1),
)


@cache
def chunk_of(result: Result, number: int) -> EncodedChunk:
    """Return one chunk of a result."""
    elements = 1 + 10 * number + result.elements
    digest = 100 * elements + 10 * result.encoder + result.nbytes
    chunk = EncodedChunk(chunk=number, nbytes=result.nbytes, digest=digest, elements=elements)
    return CHUNKS.setdefault(digest, chunk)


CHUNKS: dict[int, EncodedChunk] = {}
"""By their digests, which are what states have of them."""


def payload_of(chunk: EncodedChunk) -> Cells:
    """Return what a chunk has in the file."""
    return tuple((chunk.digest, part) for part in range(chunk.nbytes))


def written(cells: Cells, offset: int, payload: Cells) -> Cells:
    """Return a file with a payload in it."""
    padded = cells + (None,) * (offset + len(payload) - len(cells))
    return padded[:offset] + payload + padded[offset + len(payload) :]


def replaced(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    """Return a tuple with another value in one place."""
    return (*values[:at], value, *values[at + 1 :])


class Attempt(NamedTuple):
    """A task that is at work in a worker, or has been; "done" and "gone" are the last steps."""

    result: Result
    reaches: bool
    run: int = 0
    """Whether of the run that was killed, or of the one that resumes it."""
    at: int = 0
    """Which of the block's chunks it has come to."""
    step: str = "ask"
    offset: int = 0
    sent: tuple[bool, ...] = ()
    """Of each chunk that it is through with: whether the payload comes with the result."""

    @property
    def is_at_work(self) -> bool:
        """Whether it takes further steps."""
        return self.step not in ("done", "gone")


class Given(NamedTuple):
    """What the one that has the file open knows."""

    grants: tuple[tuple[int, PlaceKind, int], ...] = ()
    landed: tuple[int, ...] = ()
    is_closed: bool = False
    error: str | None = None
    records: tuple[tuple[int, int], ...] = ()
    """The chunks that have room in the file, and where."""
    kept: tuple[int, ...] = ()
    """Chunks that were found whole when the run was resumed."""
    noted: tuple[tuple[int, int], ...] = ()
    """Digests of what has landed."""
    log: tuple[tuple[int, Cells], ...] = ()
    """What belongs over old bytes, and is put there at the end."""


class World(NamedTuple):
    """A state of all that takes part."""

    attempts: tuple[tuple[Attempt, ...], ...] = ((),) * len(BLOCKS)
    """To compute each block."""
    known: tuple[int | None, ...] = (None,) * len(BLOCKS)
    """Which of them the scheduler waits for, or has the result of; -1 is that it has failed."""
    n_lost: int = 0
    landing: tuple[int, int, int, tuple[bool, ...]] | None = None
    """Block and attempt of which the caller has the result, chunks that have landed, those sent."""
    taken: tuple[int | None, ...] = (None,) * len(BLOCKS)
    """Of which attempt the result is in the file."""
    phase: str = "running"
    sessions: tuple[bool, ...] = (True,)
    """Whether a run goes on, as its file tells."""
    given: Given = Given()
    cells: Cells = ()
    published: Cells | None = None
    is_refused: bool = False
    """Whether a result came that differs from another."""


class Target:
    """A file that gives the first room there is, also such as was given up before."""

    grid = shape = (N_CHUNKS,)
    chunk_shape = (1,)

    def __init__(self, given: Given, n_old: int) -> None:
        self.records = {
            CHUNKS[digest].chunk: (CHUNKS[digest], offset) for digest, offset in given.records
        }
        self.noted = dict(given.noted)
        self.log = dict(given.log)
        self.kept = given.kept
        self._n_old = n_old
        self.put: list[tuple[int, Cells]] = []

    def place(self, chunk: EncodedChunk) -> PayloadPlace:
        """Return the place of a chunk; see `Hdf5Target.place`."""
        there = self.records.get(chunk.chunk)
        if there is not None and self.is_refused(there[0], chunk):
            raise TwoResultsError.at((slice(chunk.chunk, chunk.chunk + 1),))
        if there is not None and chunk.chunk in self.kept:
            return PayloadPlace(PlaceKind.KEPT)
        if there is not None and there[0].nbytes == chunk.nbytes:
            offset = there[1]
        else:
            # As libhdf5 does: the old room is for others to have.
            self.records.pop(chunk.chunk, None)
            offset = self._room(chunk.nbytes)
        self.records[chunk.chunk] = chunk, offset
        kind = PlaceKind.SEND if offset < self._n_old else PlaceKind.WRITE
        return PayloadPlace(kind, offset)

    def is_refused(self, there: EncodedChunk, chunk: EncodedChunk) -> bool:
        """Return whether a chunk may not take the place of another."""
        return there.digest != chunk.digest

    def _room(self, nbytes: int) -> int:
        """Return the first offset with room, beginning with a hole among the old bytes."""
        spans = [(at, at + one.nbytes) for one, at in self.records.values()]
        starts = [self._n_old, *(stop for _, stop in spans)]
        if nbytes <= self._n_old:
            starts.append(0)
        return min(
            start
            for start in starts
            if all(start + nbytes <= a or b <= start for a, b in spans)
            and (start >= self._n_old or start + nbytes <= self._n_old)
        )

    def land(self, chunk: EncodedChunk, place: PayloadPlace, payload: Any) -> None:
        """Take note of a chunk."""
        if payload is not None and place.offset < self._n_old:
            self.log[place.offset] = payload
        elif payload is not None:
            self.put.append((place.offset, payload))
        self.noted[chunk.chunk] = chunk.digest


class Opened:
    """The real thing, as it is in some state."""

    def __init__(
        self, given: Given, n_old: int, kind: type[Grants], targets: type["Target"]
    ) -> None:
        self.target = targets(given, n_old)
        self.grants = kind([self.target])
        for digest, kind_of_place, offset in given.grants:
            chunk = CHUNKS[digest]
            self.grants._given[0, chunk.chunk] = chunk, PayloadPlace(kind_of_place, offset)
        for number in given.landed:
            self.grants._landed[0].add(number)
        self.grants._is_closed = given.is_closed
        self.grants.error = BlockError(given.error) if given.error else None

    @property
    def given(self) -> Given:
        """The state that it is in now."""
        grants, target = self.grants, self.target
        return Given(
            grants=tuple(
                sorted((one.digest, at.kind, at.offset) for one, at in grants._given.values())
            ),
            landed=tuple(number for number in range(N_CHUNKS) if number in grants._landed[0]),
            is_closed=grants._is_closed,
            error=str(grants.error) if grants.error else None,
            records=tuple(sorted((one.digest, at) for one, at in target.records.values())),
            kept=target.kept,
            noted=tuple(sorted(target.noted.items())),
            log=tuple(sorted(target.log.items())),
        )


Known = tuple[int, type[Grants], type[Target]]
"""What stays the same in a scenario."""


@cache
def asked(given: Given, known: Known, chunk: EncodedChunk, reaches: bool) -> tuple[Given, bytes]:
    """Return what is answered to a worker."""
    opened = Opened(given, *known)
    answer = opened.grants.answer(0, packed([chunk]), reaches=reaches)
    return opened.given, answer


@cache
def landed(
    given: Given, known: Known, chunk: EncodedChunk, is_sent: bool
) -> tuple[Given, list[tuple[int, Cells]]]:
    """Return what comes of a chunk of a result, and what is written then."""
    opened = Opened(given, *known)
    opened.grants.land(0, [chunk.chunk], [payload_of(chunk) if is_sent else None])
    return opened.given, opened.target.put


@dataclass(frozen=True)
class Scenario:
    """What may happen in a run."""

    again: Result = SAME
    """What a task gives when it runs once more."""
    reaches: tuple[bool, bool] = (True, True)
    """Whether a task sees the file the first time, and once more."""
    n_old: int = 0
    """Cells of the file that is changed in place; 0 is a new file."""
    n_lost: int = 1
    """How many times a worker is lost, or thought so."""
    is_interrupted: bool = True
    """Whether the caller may give up at any time."""
    is_killed: bool = False
    """Whether the caller may be killed at any time, and somebody makes the same call again."""
    grants: type[Grants] = Grants
    target: type[Target] = Target

    @property
    def _fixed(self) -> Known:
        return self.n_old, self.grants, self.target

    def nexts(self, world: World) -> Iterator[tuple[str, World]]:
        """Yield each step that may come next, and the state that it leads to."""
        if world.phase == "running":
            yield from self._started(world)
            yield from self._lost(world)
        for block, attempts in enumerate(world.attempts):
            for number, attempt in enumerate(attempts):
                if attempt.is_at_work:
                    name = f"task {number} of block {block}: {attempt.step} {attempt.at}"
                    yield name, self._worker(world, block, number)
        yield from self._caller(world)

    def _started(self, world: World) -> Iterator[tuple[str, World]]:
        """Start tasks where a worker is free."""
        run = len(world.sessions) - 1
        everybody = itertools.chain(*world.attempts)
        if sum(one.is_at_work and one.run == run for one in everybody) == 2:
            return
        for block, attempts in enumerate(world.attempts):
            if world.known[block] is None:
                result = self.again if attempts or run else SAME
                more = Attempt(result, self.reaches[bool(attempts)], run)
                yield (
                    f"scheduler: start task {len(attempts)} of block {block}",
                    world._replace(
                        attempts=replaced(world.attempts, block, (*attempts, more)),
                        known=replaced(world.known, block, len(attempts)),
                    ),
                )

    def _lost(self, world: World) -> Iterator[tuple[str, World]]:
        """Lose workers, which have died or are only late, and what they have computed."""
        if world.n_lost == self.n_lost:
            return
        for block, number in enumerate(world.known):
            if number is not None and number >= 0:
                known = replaced(world.known, block, None)
                lost = world._replace(known=known, n_lost=world.n_lost + 1)
                yield f"scheduler: lose task {number} of block {block}", settled(lost)
                yield f"task {number} of block {block}: die", gone(lost, block, number)

    def _worker(self, world: World, block: int, number: int) -> World:
        """Return the state after a task's next step; see `test_the_model_is_what_workers_do`."""
        attempt = world.attempts[block][number]
        chunk = chunk_of(attempt.result, BLOCKS[block][attempt.at])
        if attempt.step == "ask":
            return self._asked(world, block, number, chunk)
        if attempt.step == "look":
            if not world.sessions[attempt.run]:
                return failed(world, block, number)
            return changed(world, block, number, attempt._replace(step="write"))
        parts = payload_of(chunk)
        if attempt.step == "write":  # Others may see the half of it.
            world = put(world, attempt.offset, parts[:1])
            return changed(world, block, number, attempt._replace(step="write on"))
        world = put(world, attempt.offset + 1, parts[1:])
        return changed(world, block, number, onward(attempt, block, is_sent=False))

    def _asked(self, world: World, block: int, number: int, chunk: EncodedChunk) -> World:
        attempt = world.attempts[block][number]
        given, answer = asked(world.given, self._fixed, chunk, attempt.reaches)
        world = world._replace(given=given)
        try:
            (place,) = places_in(answer)
        except BlockError:
            return failed(world._replace(is_refused=True), block, number)
        if place.kind is PlaceKind.STALE:
            return failed(world, block, number)
        if place.kind is PlaceKind.WRITE:
            more = attempt._replace(step="look", offset=place.offset)
            return changed(world, block, number, more)
        is_sent = place.kind is PlaceKind.SEND
        return changed(world, block, number, onward(attempt, block, is_sent=is_sent))

    def _caller(self, world: World) -> Iterator[tuple[str, World]]:
        """Take results, and end the run."""
        if world.phase == "running":
            yield from self._running(world)
        elif not world.given.is_closed:
            yield "caller: close", self._closed(world)
        elif world.sessions[-1]:
            sessions = (*world.sessions[:-1], False)
            yield "caller: end session", world._replace(sessions=sessions)
        elif world.phase == "closing":
            cells = world.cells
            for offset, payload in world.given.log:
                cells = written(cells, offset, payload)
            yield "caller: publish", world._replace(phase="published", cells=cells, published=cells)
        elif world.phase == "failing":
            # What others have open of a new file has no name any more.
            cells = world.cells if self.n_old else ()
            yield "caller: abort", world._replace(phase="aborted", cells=cells)

    def _running(self, world: World) -> Iterator[tuple[str, World]]:
        if self.is_interrupted:
            yield "caller: interrupt", given_up(world)
        if self.is_killed and len(world.sessions) == 1:
            yield "caller: be killed, and resume", self._resumed(world)
        if -1 in world.known:
            yield "caller: fail", given_up(world)
        if world.landing is not None:
            yield f"caller: land {world.landing[:3]}", self._landed(world)
            return
        for block, number in enumerate(world.known):
            if world.taken[block] is None and number is not None and number >= 0:
                attempt = world.attempts[block][number]
                if attempt.step == "done":
                    # From here on it is the caller's, whatever becomes of the worker.
                    landing = block, number, 0, attempt.sent
                    yield f"caller: take {landing[:2]}", world._replace(landing=landing)
        if None not in world.taken:
            yield "caller: all taken", world._replace(phase="closing")

    def _landed(self, world: World) -> World:
        """Return the state after one more chunk of a result has landed."""
        assert world.landing is not None
        block, number, n_done, sent = world.landing
        chunk = chunk_of(world.attempts[block][number].result, BLOCKS[block][n_done])
        given, writes = landed(world.given, self._fixed, chunk, sent[n_done])
        for offset, payload in writes:
            world = put(world, offset, payload)
        is_last = n_done + 1 == len(BLOCKS[block])
        return world._replace(
            given=given,
            landing=None if is_last else (block, number, n_done + 1, sent),
            taken=replaced(world.taken, block, number) if is_last else world.taken,
        )

    def _closed(self, world: World) -> World:
        """Return the state after nobody gets places any more; see `run_remote`."""
        opened = Opened(world.given, *self._fixed)
        if world.phase == "failing":
            opened.grants.close()
            return world._replace(given=opened.given)
        try:
            opened.grants.finish()
        except BlockError:
            world = given_up(world)
        return world._replace(given=opened.given)

    def _resumed(self, world: World) -> World:
        """Return the state when a killed run is begun again; workers do not know of the kill."""
        kept = tuple(
            chunk.chunk
            for chunk, offset in records_in(world)
            if world.cells[offset : offset + chunk.nbytes] == payload_of(chunk)
        )
        attempts = tuple(
            tuple(one if one.step in ("look", "write", "write on") else end_of(one) for one in own)
            for own in world.attempts
        )
        return World(
            attempts=attempts,
            n_lost=world.n_lost,
            sessions=(False, True),
            given=Given(records=world.given.records, kept=kept),
            cells=world.cells,
        )


def records_in(world: World) -> list[tuple[EncodedChunk, int]]:
    """Return the chunks that have room in the file, and where."""
    return [(CHUNKS[digest], offset) for digest, offset in world.given.records]


def put(world: World, offset: int, payload: Cells) -> World:
    """Return the state after something was written, to a file that still has a name."""
    if world.phase == "aborted" and not world.cells:
        return world
    return world._replace(cells=written(world.cells, offset, payload))


def given_up(world: World) -> World:
    """Return the state in which a run is to end with nothing; results are looked at no more."""
    known = (None,) * len(BLOCKS)
    return settled(world._replace(phase="failing", landing=None, known=known, taken=known))


def changed(world: World, block: int, number: int, attempt: Attempt) -> World:
    own = replaced(world.attempts[block], number, attempt)
    return settled(world._replace(attempts=replaced(world.attempts, block, own)))


def settled(world: World) -> World:
    """Return a state without results that nobody will take."""
    for block, own in enumerate(world.attempts):
        for number, one in enumerate(own):
            is_held = world.known[block] == number or world.taken[block] == number
            if one.step == "done" and not is_held and not is_landing(world, block, number):
                own = replaced(own, number, end_of(one))
                world = world._replace(attempts=replaced(world.attempts, block, own))
    return world


def is_landing(world: World, block: int, number: int) -> bool:
    return world.landing is not None and world.landing[:2] == (block, number)


def end_of(attempt: Attempt) -> Attempt:
    return Attempt(attempt.result, True, attempt.run, step="gone")


def onward(attempt: Attempt, block: int, *, is_sent: bool) -> Attempt:
    """Return a task that goes on to its next chunk, or has a result."""
    at = attempt.at + 1
    step = "done" if at == len(BLOCKS[block]) else "ask"
    return attempt._replace(at=at, step=step, offset=0, sent=(*attempt.sent, is_sent))


def gone(world: World, block: int, number: int) -> World:
    return changed(world, block, number, end_of(world.attempts[block][number]))


def failed(world: World, block: int, number: int) -> World:
    """Return the state after a task has raised; nobody hears of one that is not waited for."""
    if (
        world.known[block] == number
        and world.attempts[block][number].run == len(world.sessions) - 1
    ):
        world = world._replace(known=replaced(world.known, block, -1))
    return gone(world, block, number)


# What must hold.


def check(scenario: Scenario, world: World) -> None:
    """Raise unless a state is as it has to be."""
    check_places(world)
    if world.published is None:
        assert world.cells[: scenario.n_old] == (OLD,) * scenario.n_old, "old bytes are changed"
    else:
        check_published(world)


def check_places(world: World) -> None:
    """Raise where somebody writes, or will, where another chunk lies."""
    spans: dict[int, set[tuple[int, int]]] = {}
    for chunk, offset in records_in(world):
        spans.setdefault(chunk.chunk, set()).add((offset, offset + chunk.nbytes))
    for block, attempts in enumerate(world.attempts):
        for attempt in attempts:
            if attempt.step in ("look", "write", "write on"):
                span = attempt.offset, attempt.offset + attempt.result.nbytes
                spans.setdefault(BLOCKS[block][attempt.at], set()).add(span)
    for (one, own), (other, others) in itertools.combinations(spans.items(), 2):
        for (a, b), (c, d) in itertools.product(own, others):
            assert b <= c or d <= a, f"chunks {one} and {other} overlap"


def check_published(world: World) -> None:
    """Raise unless the file holds what one run of each task gave, and goes on doing so."""
    assert world.cells == world.published, "written after the end"
    assert not world.is_refused, "published although two results were seen"
    records = {chunk.chunk: (chunk, offset) for chunk, offset in records_in(world)}
    for block, number in enumerate(world.taken):
        assert number is not None
        for name in BLOCKS[block]:
            chunk = chunk_of(world.attempts[block][number].result, name)
            record, offset = records[name]
            assert record == chunk, "another result is written down"
            stored = world.cells[offset : offset + chunk.nbytes]
            assert stored == payload_of(chunk), "another payload is stored"
            assert dict(world.given.noted)[name] == chunk.digest


Reached = dict[World, tuple[str, World] | None]


def explored(scenario: Scenario) -> Reached:
    """Return every state that can be reached, each with the step that led there first."""
    begin = World(cells=(OLD,) * scenario.n_old)
    found: Reached = {begin: None}
    waiting = [begin]
    while waiting:
        world = waiting.pop()
        is_end = True
        for name, after in scenario.nexts(world):
            is_end = False
            if after not in found:
                found[after] = name, world
                waiting.append(after)
        try:
            check(scenario, world)
            assert not is_end or world.phase in ("published", "aborted"), "it never ends"
        except AssertionError as error:
            forget()
            steps = "\n".join(steps_to(world, found))
            pytest.fail(f"{error}, after:\n{steps}\n{world}")
    forget()
    return found


def forget() -> None:
    """Keep no answers for other scenarios."""
    asked.cache_clear()
    landed.cache_clear()


def steps_to(world: World, found: Reached) -> list[str]:
    """Return what has led to a state."""
    steps = []
    while (step := found[world]) is not None:
        name, world = step
        steps.append(name)
    return steps[::-1]


BOTH, FIRST, SECOND = (True, True), (True, False), (False, True)


@pytest.mark.parametrize(
    ("reaches", "n_old"), [(BOTH, 0), (BOTH, 2), (FIRST, 0), (SECOND, 2)], ids=str
)
def test_tasks_that_run_twice_harm_nothing(reaches, n_old):
    """Nor do those that are late, whoever sees the file, and whenever the caller gives up."""
    found = explored(Scenario(reaches=reaches, n_old=n_old))
    assert {world.phase for world in found} >= {"published", "aborted"}
    assert len(found) > 4000


@pytest.mark.parametrize(
    ("again", "reaches", "n_old"),
    [
        (OTHER_BYTES, BOTH, 0),
        (OTHER_ELEMENTS, BOTH, 0),
        (OTHER_LENGTH, BOTH, 2),
        (OTHER_ELEMENTS, FIRST, 0),
        (OTHER_LENGTH, SECOND, 2),
    ],
)
def test_two_results_are_never_published(reaches, n_old, again):
    """Neither one of other elements nor one of other bytes: the first stays, or nothing does."""
    found = explored(Scenario(again=again, reaches=reaches, n_old=n_old))
    assert any(world.is_refused for world in found)
    # A task that ran again when all had landed, or of which nothing was known yet, is no harm.
    assert any(world.phase == "published" for world in found)


def test_the_same_data_always_get_there():
    """However workers die and come late, where nobody gives up."""
    found = explored(Scenario(n_lost=1, is_interrupted=False))
    assert {world.phase for world in found} == {"running", "closing", "published"}
    assert not any(world.is_refused for world in found)


@pytest.mark.parametrize("again", [SAME, OTHER_LENGTH, OTHER_ELEMENTS])
def test_tasks_of_a_killed_run_do_not_harm_the_one_that_resumes_it(again):
    """They write what they were about to, at any time, where the same bytes belong."""
    found = explored(Scenario(again=again, n_lost=0, is_interrupted=False, is_killed=True))
    assert any(world.phase == "published" and len(world.sessions) == 2 for world in found)
    assert any(world.given.kept for world in found)


# That the model finds what is wrong.


class Forgetful(Grants):
    """Gives a place anew each time, as if nobody had asked before."""

    def _granted(self, array: int, chunk: EncodedChunk) -> PayloadPlace:
        self._given.pop((array, chunk.chunk), None)
        return super()._granted(array, chunk)


class Trusting(Grants):
    """Ends without a word where a task was refused."""

    def finish(self) -> None:
        self.close()


class Blind(Grants):
    """Does not look at what the elements are."""

    def _granted(self, array: int, chunk: EncodedChunk) -> PayloadPlace:
        if (given := self._given.get((array, chunk.chunk))) is not None:
            return given[1]
        return super()._granted(array, chunk)


class Unending(Grants):
    """Gives places for what has landed."""

    def land(self, array: int, chunks: Any, payloads: Any) -> None:
        super().land(array, chunks, payloads)
        self._landed[array] = type(self._landed[array])()


class Lenient(Target):
    """Lets another result have the place that a killed run has given."""

    def is_refused(self, there: EncodedChunk, chunk: EncodedChunk) -> bool:
        return there.chunk in self.kept and super().is_refused(there, chunk)


WRONG = "another payload|another result|written after the end|overlap"
KILLED = Scenario(n_lost=0, is_interrupted=False, is_killed=True, target=Lenient)


@pytest.mark.parametrize(
    ("scenario", "told"),
    [
        (Scenario(again=OTHER_ELEMENTS, grants=Trusting), "two results were seen"),
        (Scenario(again=OTHER_ELEMENTS, grants=Blind), WRONG),
        (Scenario(again=OTHER_LENGTH, grants=Blind), WRONG),
        (Scenario(again=OTHER_LENGTH, grants=Forgetful, target=Lenient), WRONG),
        (Scenario(again=OTHER_ELEMENTS, grants=Unending, target=Lenient), WRONG),
        (replace(KILLED, again=OTHER_ELEMENTS), WRONG),
        (replace(KILLED, again=OTHER_LENGTH), WRONG),
    ],
)
def test_the_model_finds_faults(scenario, told):
    """Those that earlier forms of the rules had, and others."""
    with pytest.raises(pytest.fail.Exception, match=told):
        explored(scenario)


# That the model is what is there.


class Recording:
    """A channel and a chunk writer that say what they are told."""

    shape, chunk_shape, elements, is_remote = (2,), (1,), np.dtype("i4"), False

    def __init__(self, answer: bytes) -> None:
        self.answer, self.told = answer, []

    def ask(self, array, question, *, reaches):
        self.told.append("ask")
        return self.answer

    def proves(self, proof):
        return True

    def encode(self, index, chunk, workspace, kept):
        encoded = EncodedChunk(chunk=index[0], nbytes=4, digest=1, elements=1)
        return encoded, np.array(chunk).view("u1")

    def write(self, chunks, *, scratch, syncs):
        self.told.append(f"write {[place.offset for _, _, place in chunks]}")


def place(kind: PlaceKind, offset: int = 0) -> bytes:
    return bytes([kind]) + offset.to_bytes(8, "little")


ASKS = ["look", "ask"]
"""A task looks whether the run goes on, too, before it asks."""


@pytest.mark.parametrize(
    ("answer", "goes_on", "told", "error"),
    [
        (b"+" + 2 * place(PlaceKind.WRITE, 7), True, [*ASKS, "look", "write [7, 7]"], None),
        (b"+" + 2 * place(PlaceKind.WRITE, 7), False, [*ASKS, "look"], "has ended"),
        (b"+" + 2 * place(PlaceKind.SEND, 7), True, ASKS, None),
        (b"+" + 2 * place(PlaceKind.KEPT), False, ASKS, None),
        (b"+" + place(PlaceKind.WRITE) + place(PlaceKind.STALE), True, ASKS, "has ended"),
        (b"-two results", True, ASKS, "two results"),
    ],
)
def test_the_model_is_what_workers_do(tmp_path, monkeypatch, answer, goes_on, told, error):
    """A task asks, looks whether the run goes on, and writes; nothing where it is told so."""
    recording = Recording(answer)
    session = Session.begun(tmp_path)
    job = BlockJob(
        session=session,
        array=0,
        key="x",
        dtype=np.dtype("i4"),
        edges=edges_of([(2,)]),
        writer=recording,
        convert=lambda block: block,
        window=None,
        channel=recording,
    )
    monkeypatch.setitem(write_block.__globals__, "_reaches", lambda *_: True)

    def is_on(_: Session) -> bool:
        recording.told.append("look")
        return goes_on or "ask" not in recording.told

    monkeypatch.setattr(Session, "goes_on", property(is_on))
    if error is not None:
        with pytest.raises(BlockError, match=error):
            write_block(np.arange(2, dtype="i4"), (0,), job)
    else:
        found = write_block(np.arange(2, dtype="i4"), (0,), job)
        is_sent = answer[1] == PlaceKind.SEND
        assert [payload is not None for payload in found.payloads] == [is_sent] * 2
        assert found.landed() == [0, 1]
    assert recording.told == told


def test_nothing_is_asked_of_a_run_that_has_ended(tmp_path, monkeypatch):
    """A thread that waited for an answer then would be one that the next run has not."""
    session = Session.begun(tmp_path)
    session.end()
    monkeypatch.setitem(write_block.__globals__, "_reaches", lambda *_: True)
    recording = Recording(b"+")
    job = BlockJob(
        session=session,
        array=0,
        key="x",
        dtype=np.dtype("i4"),
        edges=edges_of([(2,)]),
        writer=recording,
        convert=lambda block: block,
        window=None,
        channel=recording,
    )
    with pytest.raises(BlockError, match="has ended"):
        write_block(np.arange(2, dtype="i4"), (0,), job)
    assert recording.told == []


def test_all_that_the_real_thing_knows_is_in_the_model():
    """What it should come to know, `Opened` and `Given` have to know, too."""
    known = {"_targets", "_folder", "_given", "_landed", "_lock", "_is_closed", "n_asked", "error"}
    assert set(vars(Grants([None]))) <= known


# What was found by it.


def of_user(graph, keys, **options):
    """Compute tasks, as a function of a user's would."""
    return dask.get(graph, keys, **options)


def test_a_refusal_that_nobody_hears_ends_the_run():
    """A task runs again while the result that it gave is being taken, and gives another."""
    grants = Grants([Target(Given(), 0)])
    first = [chunk_of(SAME, number) for number in (0, 1)]
    grants.ask(0, first, reaches=True)
    grants.land(0, first[:1], [None])
    late = packed([chunk_of(OTHER_ELEMENTS, 1)])
    with pytest.raises(BlockError, match="computed twice, with two results"):
        places_in(grants.answer(0, late, reaches=True))
    grants.land(0, first[1:], [None])
    with pytest.raises(BlockError, match="computed twice, with two results"):
        grants.finish()


def test_such_a_run_publishes_nothing(tmp_path, monkeypatch):
    """Whatever else went well."""

    def finish(self):
        msg = "two results"
        raise BlockError(msg)

    monkeypatch.setattr(Grants, "finish", finish)
    x = da.ones((10,), chunks=5)
    with pytest.raises(BlockError, match="two results"):
        lazyio.to_hdf5(x, tmp_path / "x.h5", scheduler=of_user)
    assert not (tmp_path / "x.h5").exists()


def test_keys_that_read_alike_are_two_arrays(tmp_path):
    """Of two tasks of one name the second one's blocks would be in both."""
    arrays = {"a/b": da.ones((10,), chunks=5), "a.b": da.zeros((10,), chunks=5)}
    lazyio.to_hdf5(arrays, tmp_path / "x.h5", scheduler=of_user)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["a/b"][()].tolist() == [1.0] * 10
        assert file["a.b"][()].tolist() == [0.0] * 10


def test_a_resumed_run_keeps_payloads_and_places(tmp_path):
    """A task of the killed run may be about to write its own there."""
    engine = DeferredMetadata(tmp_path / "x.h5", None)
    try:
        dataset = engine.call(lambda: engine.file.create_dataset("x", (3,), "u1", chunks=(1,)))
        engine.settle()
        target = Hdf5Target(dataset, (1,), folder=tmp_path)
        target.payloads = InPlacePayloads(engine, dataset)
        target.place_by(engine)
        target.keeping = ResumeState(
            array=0, journal=Journal(tmp_path / "journal"), shape=(3,), chunk_shape=(1,)
        )
        chunk = EncodedChunk(chunk=1, nbytes=1, digest=5, elements=5)
        first = target.place(chunk)
        (record,) = Journal(tmp_path / "journal").records
        target.keeping.reserved[1] = record
        assert target.place(chunk) == first
        other = EncodedChunk(chunk=1, nbytes=1, digest=6, elements=6)
        with pytest.raises(TwoResultsError, match=r"chunk \[1:2\] was computed twice"):
            target.place(other)
    finally:
        engine.abandon()


def test_a_resumed_run_ends_those_before(tmp_path):
    """Of a run that was killed the file that tells of it has stayed."""
    killed = Session.begun(tmp_path)
    assert killed.goes_on
    Session.end_killed(tmp_path)
    assert not killed.goes_on
    assert Session.begun(tmp_path).goes_on


# What NFS needs.


@pytest.mark.parametrize("syncs", [True, False])
def test_other_machines_write_at_once(tmp_path, monkeypatch, syncs):
    """Else their NFS may write the rest of a page with it, and what it believes is there."""
    flags = []

    def opened(path, how, mode):
        flags.append(how)
        return real(path, how, mode)

    real = os.open
    path = tmp_path / "x.h5"
    path.touch()
    writer = Hdf5ChunkWriter(
        path=path,
        shape=(2,),
        chunk_shape=(1,),
        grid=(2,),
        bounds=(2,),
        elements=np.dtype("u1"),
        fill_value=0,
        filters=(),
        skips=True,
        has_digests=False,
    )
    chunk = EncodedChunk(chunk=1, nbytes=1, digest=1, elements=1)
    monkeypatch.setattr(os, "open", opened)
    payload = np.array([7], "u1")
    writer.write(
        [(chunk, payload, PayloadPlace(PlaceKind.WRITE, 3))], scratch=tmp_path, syncs=syncs
    )
    assert path.read_bytes() == b"\0\0\0\x07"
    assert [bool(how & WRITES_AT_ONCE) for how in flags] == [syncs]


def test_on_nfs_the_caller_writes_at_once_as_well(tmp_path, monkeypatch):
    """From the first place on that others write to; a file that is changed in place is not lent."""
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(deferred_metadata, "is_on_nfs", lambda _: True)
    engine = DeferredMetadata(tmp_path / "x.h5", None)
    try:
        assert not fcntl.fcntl(engine._descriptor, fcntl.F_GETFL) & WRITES_AT_ONCE
        assert engine.is_lent
        assert fcntl.fcntl(engine._descriptor, fcntl.F_GETFL) & WRITES_AT_ONCE
        engine.write(b"abc", 100)
        assert engine.read(100, 3) == b"abc"
        engine._in_place = object()
        assert not engine.is_lent
        engine._in_place = None
    finally:
        engine.abandon()


def test_file_systems_are_known_by_their_devices(tmp_path, monkeypatch):
    """As the system lists them."""
    assert not is_on_nfs(tmp_path)
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    listed = f"36 35 {number} / / rw shared:1 - nfs4 server:/x rw\n37 35 0:99 / /y rw - ext4 y rw\n"
    monkeypatch.setattr(Path, "read_text", lambda _: listed)
    assert is_on_nfs(tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda _: listed.replace("nfs4", "xfs"))
    assert not is_on_nfs(tmp_path)
