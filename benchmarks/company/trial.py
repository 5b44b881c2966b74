"""One trial: lazyio, another program at the same file or store, then lazyio again."""

import contextlib
import hashlib
import os
import random
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

import lazyio
from benchmarks.company import model
from benchmarks.company.children import Kill, Process, Said, said_by
from benchmarks.company.model import REFUSED, UNKNOWN, Content, Event, State
from benchmarks.company.operations import OPERATIONS, Operation, context_of
from benchmarks.company.programs import (
    BACKUP,
    COPIED,
    MOVED,
    N_COLUMNS,
    PROGRAMS,
    ROWS_A_CHUNK,
    SNAPSHOT,
    TARGET,
    Act,
    Program,
    Scene,
    Tell,
    copy,
)
from lazyio.atomic import recovery as leftovers
from lazyio.errors import LazyioError

_LENGTHS = (20, 48, 61)
_MAKERS = {"hdf5": ("lazyio", "stock", "swmr"), "zarr": ("lazyio", "stock", "consolidated")}
_OBSERVED = (TARGET, BACKUP, MOVED, COPIED, SNAPSHOT)
_RACE = 0.05
"""Seconds before the end of a call in which it publishes: zarr-python has no lock to wait for."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is tried, drawn from a seed."""

    seed: int
    kind: str
    maker: str
    n_rows: int
    operation: Operation
    program: Program
    then: Operation | None
    """What lazyio does afterwards; ``None`` is the same call again."""
    kill: Kill | None
    then_kill: Kill | None
    delay: float | None
    """Seconds after which the second program acts; ``None`` is when the first has ended."""

    def __str__(self) -> str:
        """Return it in a line."""
        kill = "" if self.kill is None else f" killed ({_when(self.kill)})"
        then_kill = "" if self.then_kill is None else f" killed ({_when(self.then_kill)})"
        when = "afterwards" if self.delay is None else f"after {self.delay:.3f} s"
        then = "the same again" if self.then is None else self.then.name
        return (
            f"seed {self.seed}: {self.kind} by {self.maker}, {self.n_rows} rows; lazyio "
            f"{self.operation.name}{kill}; {self.program.name} {when}; lazyio {then}{then_kill}"
        )


@dataclass(kw_only=True)
class Result:
    """What became of a trial."""

    seed: int
    program: str
    operation: str
    killed: bool
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no violation, and told all the same."""


def spec_of(
    seed: int,
    *,
    kinds: Sequence[str] = (),
    operations: Sequence[str] = (),
    programs: Sequence[str] = (),
) -> Spec:
    """Draw what is tried; lists of names narrow that down."""
    rng = random.Random(seed)
    pairs = [
        (kind, operation, program)
        for kind in ("hdf5", "zarr")
        for operation in OPERATIONS
        for program in known_programs()
        if kind in operation.kinds
        and kind in program.kinds
        and (not kinds or kind in kinds)
        and (not operations or operation.name in operations)
        and (not programs or program.name in programs)
    ]
    kind, operation, program = rng.choice(pairs)
    of_kind = [one for one in OPERATIONS if kind in one.kinds]
    then = rng.choice([None, None, None, *of_kind])
    is_killed = operation.writes and rng.random() < 0.5
    kill = _drawn_kill(rng) if is_killed else None
    then_kill = _drawn_kill(rng) if rng.random() < 0.15 else None
    delay = None if program.alone or rng.random() < 0.5 else rng.choice([0, 0.02, 0.08, 0.2, 0.4])
    return Spec(
        seed=seed,
        kind=kind,
        maker="swmr" if operation.name == "writer-swmr" else rng.choice(_MAKERS[kind]),
        n_rows=rng.choice(_LENGTHS),
        operation=operation,
        program=program,
        then=then,
        kill=kill,
        then_kill=then_kill,
        delay=None if delay is None else delay * rng.random(),
    )


def known_programs() -> list[Program]:
    """Return all second programs, another lazyio among them."""
    others = [
        Program(f"lazyio-{one.name}", one.kinds, partial(_act_of, one))
        for one in OPERATIONS
        if one.name in ("read", "add", "append", "append-large", "region", "writer", "overwrite")
    ]
    return [*PROGRAMS, *others]


def _drawn_kill(rng: random.Random) -> Kill:
    if rng.random() < 0.6:
        return Kill(calls=rng.choice([rng.randrange(12), rng.randrange(60), rng.randrange(150)]))
    return Kill(seconds=rng.random() * 0.4)


def _when(kill: Kill) -> str:
    return f"call {kill.calls}" if kill.calls is not None else f"{kill.seconds:.3f} s"


def _act_of(operation: Operation, scene: Scene) -> Act:
    return replace(operation.act(scene), context=partial(context_of, operation))


class Trial:
    """One trial in a folder of its own.

    Parameters
    ----------
    spec : Spec
        What is tried.
    folder : Path
        Where; emptied first.
    is_told : bool
        Whether everything that happens is printed.
    """

    def __init__(self, spec: Spec, folder: Path, *, is_told: bool = False) -> None:
        self._spec = spec
        self._folder = folder
        self._is_told = is_told
        self._place = folder / "place"
        self._events: list[Event] = []
        self._n_logs = 0
        self._lazyio_ends: list[float] = []
        self._result = Result(
            seed=spec.seed,
            program=spec.program.name,
            operation=f"{spec.kind}:{spec.operation.name}",
            killed=spec.kill is not None,
        )

    def run(self) -> Result:
        """Do it, and return what became of it."""
        spec = self._spec
        self._tell(str(spec))
        before = self._prepare()
        rng = random.Random(spec.seed + 1)
        first = _act_of(spec.operation, self._scene(rng, 1))
        second = spec.program.act(self._scene(rng, 2))
        again = first if spec.then is None else _act_of(spec.then, self._scene(rng, 3))
        if spec.delay is None:
            self._lazyio(first, spec.kill)
            self._note_all(second, said_by(second, self._log()), spec.program.name)
        else:
            process = Process(first, self._log(), kill=spec.kill)
            other = Process(second, self._log(), delay=spec.delay)
            while not (process.look() & other.look()):
                time.sleep(0.0005)
            self._note_all(first, process.said(), "lazyio")
            self._note_all(second, other.said(), spec.program.name)
        self._lazyio(again, spec.then_kill)
        self._judge(before)
        return self._result

    def _scene(self, rng: random.Random, who: int) -> Scene:
        return Scene(self._place, self._spec.kind, rng, self._spec.n_rows, who)

    def _prepare(self) -> State:
        """Make what is there at the beginning, and return what that is."""
        shutil.rmtree(self._folder / "place", ignore_errors=True)
        self._place.mkdir(parents=True)
        spec = self._spec
        made = self._folder / f"{spec.kind}-{spec.maker}-{spec.n_rows}"
        if not made.exists():
            said = said_by(Act("make", [], lambda _: _make(made, spec)), self._log())
            if said.error or said.signal:
                msg = f"{made} cannot be made: {said.error}\n{said.trace}"
                raise RuntimeError(msg)
        for name in (TARGET, BACKUP):
            copy(made, self._place / name)
        content = {"x": (_rows(spec.n_rows), ()), "k": (_rows(5), ())}
        return {TARGET: content, BACKUP: content}

    def _lazyio(self, act: Act, kill: Kill | None) -> None:
        """Let lazyio do something alone."""
        is_watched = act.is_reading
        before = _everything(self._place) if is_watched else {}
        self._note_all(act, said_by(act, self._log(), kill=kill), "lazyio")
        if is_watched and _everything(self._place) != before:
            self._violate(f"{act.what} changes the disk")

    def _note_all(self, act: Act, said: Said, who: str) -> None:
        """Take in what a process has done."""
        is_lazyio = who.startswith("lazyio")
        if is_lazyio and not act.is_reading:
            self._lazyio_ends.append(said.ended)
        self._tell(
            f"  {who} {act.what}: {said.began:.3f} to {said.ended:.3f}"
            f"{' killed' if said.is_killed else ''}"
            f"{'' if said.error is None else f' {said.error[0]}: {said.error[1]}'}"
        )
        if said.is_hung:
            self._violate(f"{who} {act.what} hangs")
        if said.signal and not said.is_killed and not said.is_hung:
            self._violate(f"{who} {act.what} crashes with signal {said.signal}")
        error = said.error
        if error is not None:
            if is_lazyio and not error[2]:
                self._violate(f"{act.what} raises {error[0]}")
                self._tell(said.trace)
            else:
                self._result.notes.append(f"{who} {act.what} refused: {error[0]}")
        first = len(self._events)
        begun = {place: at for kind, place, at, _ in said.lines if kind == "begin"}
        done = {place: at for kind, place, at, _ in said.lines if kind == "done"}
        read = {place: (at, what) for kind, place, at, what in said.lines if kind == "read"}
        # Of several steps, some may have been made all the same.
        is_refused = error is not None and is_lazyio and len(act.steps) == 1
        for place, step in enumerate(act.steps):
            if place not in begun or (step is None and place not in read):
                continue
            begin = begun[place]
            if step is None:
                at, rows = read[place]
                step = model.look(TARGET, act.key, rows)
                event = Event(who=who, what=act.what, step=step, begin=begin, end=at)
            elif place in done:
                event = Event(who=who, what=act.what, step=step, begin=begin, end=done[place])
            else:
                outcome = REFUSED if is_refused else UNKNOWN
                event = Event(who=who, what=act.what, step=step, begin=begin, outcome=outcome)
            after = len(self._events) - 1 if len(self._events) > first else None
            self._events.append(replace(event, after=after))
            self._tell(f"    {event.outcome} {event.begin:.3f} to {event.end:.3f}")

    def _judge(self, before: State) -> None:
        """Finish what is begun, and compare what is there with what may be there."""
        is_refused = self._recover()
        found = self._observe()
        self._tell(f"  found: { {name: _shown(what) for name, what in found.items()} }")
        is_killed = self._spec.kill is not None or self._spec.then_kill is not None
        lost = [name for name, what in found.items() if isinstance(what, str)]
        for name in lost:
            what = f"{name} cannot be read{', and recover refuses' if is_refused else ''}"
            # A file taken away half changed has its log under the other name.
            is_away = name in (MOVED, COPIED, SNAPSHOT) and self._spec.kind == "hdf5" and is_killed
            (self._result.notes.append if is_away else self._violate)(what)
        if TARGET not in lost:
            is_last = partial(_is_last, found)
            wrong = model.explained(before, self._events, is_last)
            if wrong is not None:
                self._violate(wrong)
        self._look_for_leftovers()

    def _recover(self) -> bool:
        """Finish what was interrupted, and return whether that is refused."""

        def run(_: Tell) -> None:
            refused = []
            for name in _OBSERVED:
                try:
                    leftovers.recover(self._place / name)
                except LazyioError as error:
                    refused.append(f"{type(error).__name__}: {error}")
            if refused:
                raise lazyio.LazyioError("; ".join(refused))

        said = said_by(Act("recover", [], run), self._log())
        if said.signal or (said.error and not said.error[2]):
            self._violate(f"recover: signal {said.signal}, {said.error}")
            self._tell(said.trace)
        if said.error:
            self._result.notes.append("recover refused, both sides kept")
            self._tell(f"  recover: {said.error[1]}")
        return said.error is not None

    def _observe(self) -> Mapping[str, Content | str]:
        """Return what stock programs find."""

        def run(tell: Tell) -> None:
            tell("read", 0, {name: _content(self._place / name) for name in _OBSERVED})

        said = said_by(Act("observe", [], run), self._log())
        found: dict[str, Any] = next(
            (what for kind, _, _, what in said.lines if kind == "read"), {}
        )
        if not found:
            self._violate(f"what is there crashes a reader: {said.signal} {said.error}")
        return {name: what for name, what in found.items() if what is not None}

    def _look_for_leftovers(self) -> None:
        """Look for hidden folders that nobody has a use for."""

        def run(_: Tell) -> None:
            for name in _OBSERVED:
                with contextlib.suppress(LazyioError):
                    leftovers.clean(self._place / name)

        said_by(Act("clean", [], run), self._log())
        left = [
            os.path.relpath(os.path.join(below, name), self._place)
            for below, folders, _ in os.walk(self._place)
            for name in folders
            if name.endswith(".lazyio")
        ]
        if left and "recover refused, both sides kept" not in self._result.notes:
            self._tell(f"  left behind: {left}")
            # A file or store that was taken away leaves its hidden folder under the old name.
            self._result.notes.append("left behind: a hidden folder")

    def _violate(self, what: str) -> None:
        if self._is_race() and what.startswith(("lost", "made", "wrong")):
            self._result.notes.append(f"race with zarr-python: {what}")
            return
        self._tell(f"  VIOLATION {what}")
        self._result.violations.append(what)

    def _is_race(self) -> bool:
        """Return whether a program without locks wrote in the moment of publishing."""
        theirs = [one for one in self._events if one.who.startswith("zarr-")]
        ends = [*self._lazyio_ends, *(one.end for one in self._events if one.who == "lazyio")]
        return self._spec.delay is not None and any(
            one.begin <= end and one.end >= end - _RACE for one in theirs for end in ends
        )

    def _log(self) -> Path:
        self._n_logs += 1
        log = self._folder / f"log-{self._n_logs}"
        log.unlink(missing_ok=True)
        return log

    def _tell(self, what: str) -> None:
        if self._is_told:
            print(what, flush=True)


def _rows(n: int) -> model.Array:
    return np.arange(n * N_COLUMNS, dtype="i4").reshape(n, N_COLUMNS)


def _make(path: Path, spec: Spec) -> None:
    arrays = {"x": _rows(spec.n_rows), "k": _rows(5)}
    chunks, maxshape = (ROWS_A_CHUNK, N_COLUMNS), (None, N_COLUMNS)
    for key, array in arrays.items():
        if spec.kind == "hdf5" and spec.maker == "lazyio":
            how = {"chunks": chunks, "maxshape": maxshape, "compression": "gzip"}
            lazyio.to_hdf5(array, path, key, **how)
        elif spec.kind == "hdf5":
            # Readers can follow in newer formats only.
            libver = ("v110", "v114") if spec.maker == "swmr" else ("earliest", "v114")
            with h5py.File(path, "a", track_order=True, libver=libver) as file:
                file.create_dataset(
                    key, data=array, chunks=chunks, maxshape=maxshape, track_order=True
                )
        elif spec.maker == "lazyio":
            lazyio.to_zarr(array, path, key, chunks=chunks)
        else:
            zarr.open_group(path, mode="a").create_array(key, data=array, chunks=chunks)
    if spec.maker == "consolidated":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(path)


def _content(path: Path) -> Content | str | None:
    """Return what stock programs find in a file or store, or why they find nothing."""
    if not path.exists():
        return None
    try:
        return dict(_in_store(path) if path.is_dir() else _in_file(path))
    except Exception as error:  # noqa: BLE001 - each library has its own
        return f"{type(error).__name__}: {error}"


def _in_file(path: Path) -> Iterator[tuple[str, model.Node]]:
    with h5py.File(path, "r") as file:
        for key, item in file.items():
            # Neither lazyio's own group, nor the dimensions that netCDF-C makes up.
            if isinstance(item, h5py.Dataset) and not key.startswith(("_", "phony_dim")):
                yield key, (np.asarray(item[...]), _marks(item.attrs))


def _in_store(path: Path) -> Iterator[tuple[str, model.Node]]:
    group: Any = zarr.open_group(path, mode="r", use_consolidated=False)
    with warnings.catch_warnings():
        # Of hidden folders, which are none of its business.
        warnings.simplefilter("ignore")
        arrays = dict(group.arrays())
    for key, item in arrays.items():
        yield key, (np.asarray(item[...]), _marks(item.attrs))


def _marks(attrs: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    return (("mark", int(attrs["mark"])),) if "mark" in attrs else ()


def _is_last(found: Mapping[str, Content | str], state: State) -> bool:
    """Return whether a state is what was found; a killed writer may leave arrays without rows."""
    there = {name: what if isinstance(what, str) else _filled(what) for name, what in found.items()}
    wanted = {name: _filled(content) for name, content in state.items() if name in _OBSERVED}
    names = {name for name, what in (*there.items(), *wanted.items()) if what}
    return all(
        isinstance(there.get(name), str)
        or model.fingerprint(there.get(name, {})) == model.fingerprint(wanted.get(name, {}))
        for name in names
    )


def _filled(content: Content) -> Content:
    """Return the arrays that have rows."""
    return {key: node for key, node in content.items() if len(node[0])}


def _shown(what: Content | str) -> str:
    if isinstance(what, str):
        return what
    return ", ".join(f"{key} {array.shape}" for key, (array, _) in sorted(what.items()))


def _everything(folder: Path) -> dict[str, Any]:
    """Return all that is in a folder, and what would tell that it was touched."""
    found: dict[str, Any] = {}
    for below, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(below, name)
            facts = os.lstat(path)
            digest = ""
            if os.path.isfile(path):
                digest = hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
            found[path] = (facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode, digest)
    return found
