"""One request to write arrays: carried out at one place, whole or not at all.

A request has no idea of formats. The place that it is carried out at does: it
opens what is written, makes what takes the chunks, and publishes all of it.
"""

import contextlib
import errno
import functools
import operator
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from dask.delayed import delayed

from lazyio.atomic.digests import NotedDigests, Table
from lazyio.atomic.journal import Facts, Record
from lazyio.atomic.workdir import WorkDirectory
from lazyio.dtypes import Shape
from lazyio.errors import TargetError
from lazyio.execution.report import WriteReport
from lazyio.execution.run import Ran
from lazyio.execution.task import WriteTask
from lazyio.os_errors import system_errors
from lazyio.planning.plan import Advice
from lazyio.regions import Region
from lazyio.storage.region_target import Comparable, RegionTarget, SharedArray, growing
from lazyio.writing.array_plan import PlannedArray, in_window
from lazyio.writing.compatibility import TargetRegion, done_region
from lazyio.writing.resume import begin_keeping, facts_of_job, in_head
from lazyio.writing.run_options import OPEN_HANDLE, Outcome, RunOptions, done_before, report_on

JobFacts = tuple[PlannedArray, Any, Mapping[str, Any]]
"""An array, its options where it is new, and what else makes a job the same one."""


@dataclass(frozen=True, kw_only=True)
class WriteItem:
    """One array of a request."""

    arranged: PlannedArray
    """What goes into it; its key is the path inside the file or store."""

    def facts(self) -> JobFacts:
        """Return what makes a job the same one."""
        raise NotImplementedError

    def as_empty(self) -> Self:
        """Return the array without anything that is written to it yet."""
        given = replace(self.arranged.given, array=None, source=None)
        return replace(self, arranged=replace(self.arranged, given=given))

    def lasting_facts(self) -> JobFacts:
        """Return those by which it is known again once it is done."""
        return self.facts()

    def is_result(self, table: Table, head: Mapping[str, str]) -> bool:
        """Return whether digests are those that the same job has left."""
        return table.job.get("facts") == head["facts"]

    def as_done(self) -> tuple[PlannedArray, Region | None]:
        """Return what lies where, if it has been written already."""
        return self.arranged, None


@dataclass(frozen=True, kw_only=True)
class RegionItem(WriteItem):
    """A part of an existing array."""

    window: TargetRegion
    """The part, in the array as it was when the request was made."""
    seen: Shape
    """Its shape at that time."""
    appends: bool
    """Whether it goes behind what is there."""
    unit: Shape
    """Extents of what is written whole, at that time."""
    kind: str
    """How it was cut at that time, and of which type it was."""
    array: Any = None
    """The array, where the caller has it open."""
    keeps_empty: bool | None = None
    """Whether objects of fill value are stored; ``None`` leaves it to the array."""
    again: "Callable[[], RegionItem] | None" = None
    """Returns what goes behind the end, and where that is, if another thread has moved it."""

    def facts(self) -> JobFacts:
        """Return what makes a job the same one."""
        return self.arranged, None, {"window": self.window, "seen": self.seen}

    def lasting_facts(self) -> JobFacts:
        """Return those by which it is known again once it is done."""
        # What was appended is no longer behind the end.
        window = {} if self.appends else {"window": self.window}
        return self.arranged, None, window | {"appends": self.appends}

    def is_result(self, table: Table, head: Mapping[str, str]) -> bool:
        """Return whether the last part that was written is that of the same job."""
        return all(table.job.get(f"part {name}") == value for name, value in head.items())

    def as_done(self) -> tuple[PlannedArray, Region | None]:
        """Return what lies where, if it has been written already."""
        region = done_region(self.window, self.seen, appends=self.appends)
        return in_window(self.arranged, region), region

    def to_fill(self) -> tuple[PlannedArray, Region | None]:
        """Return what goes into the part, and the part; what comes once finds its own places."""
        if self.arranged.bounds is not None:
            return self.arranged, None
        return in_window(self.arranged, self.window.region), self.window.region

    def check_seen(self, shape: Shape) -> None:
        """Refuse an array that has grown or shrunk since its part was chosen."""
        if shape != self.seen:
            msg = (
                f"array {self.arranged.key!r} has shape {shape} now and had {self.seen} when the "
                "part was chosen; make the call again"
            )
            raise TargetError(errno.EBUSY, msg)

    def is_for(self, shape: Shape, kind: str) -> bool:
        """Return whether an array is still what the part was planned for."""
        return (shape, kind) == (self.seen, self.kind)

    def check_kind(self, kind: str) -> None:
        """Refuse an array that was made anew since its part was planned."""
        if kind != self.kind:
            msg = (
                f"array {self.arranged.key!r} was made anew by another program since the part was "
                "chosen, with other chunks or another dtype; make the call again"
            )
            raise TargetError(errno.EBUSY, msg)

    def in_shape(self, shape: Shape) -> "RegionItem":
        """Return the part in an array that other threads may have made longer meanwhile."""
        if shape == self.seen:
            return self
        if self.again is not None:
            return self.again()
        if self.appends or any(map(operator.lt, shape, self.seen)):
            self.check_seen(shape)
        window = replace(self.window, shape=tuple(map(max, shape, self.window.shape)))
        return replace(self, window=window, seen=shape)


@dataclass(frozen=True, kw_only=True)
class ArrayWriter:
    """An array that stands, and what fills it or a part of it."""

    arranged: PlannedArray
    target: Any
    window: Region | None = None
    noted: NotedDigests | None = None
    shared: SharedArray | None = None
    """What other threads may write to as well."""

    @property
    def is_noted(self) -> bool:
        """Whether digests of payloads are known as they are written."""
        return True

    def to_job(self) -> WriteTask:
        """Return the job."""
        target = self.target
        if self.window is None:
            return self.arranged.job(target, keeping=target.keeping, shared=self.shared)
        part = RegionTarget(target, self.window, self.shared)
        return self.arranged.job(part, self.window, target.keeping)

    def finish(self) -> Outcome:
        """Return what has become of it, once the job is done."""
        raise NotImplementedError


def resumed(
    work: WorkDirectory,
    writers: Sequence[ArrayWriter],
    stack: contextlib.ExitStack,
    replay: Callable[[Sequence[Record]], object] | None = None,
) -> Advice:
    """Let arrays go on where an interrupted run stopped."""
    targets = [
        (
            one.target,
            tuple(part.start for part in one.window or ()),
            one.noted if one.is_noted else None,
        )
        for one in writers
    ]
    journal, advice = begin_keeping(work, targets, replay)
    stack.callback(journal.close)
    return advice


@dataclass(kw_only=True)
class Build:
    """Arrays that are being written at a place."""

    made: Sequence[ArrayWriter | Outcome]
    """What fills each; of what nothing fills, what became of it."""
    scratch: Path
    """Where parts of chunks may wait."""
    call: Callable[[Callable[[], list[Outcome]]], list[Outcome]] = operator.call
    """Calls what uses the file, on the thread that may."""
    advice: Advice = ()
    """On what went wrong and took nothing back."""

    @property
    def writers(self) -> list[Any]:
        """What is to be filled."""
        return [one for one in self.made if isinstance(one, ArrayWriter)]

    def finish(self) -> list[Outcome]:
        """Return what has become of each array."""
        made = self.made
        return self.call(
            lambda: [one.finish() if isinstance(one, ArrayWriter) else one for one in made]
        )


Item = TypeVar("Item", bound=WriteItem)

Heads = Mapping[str, Mapping[str, str]]
"""By what each array of a call is known again once it is written."""


class Place(Generic[Item]):
    """A file or store that arrays are written to, or what the caller has open of one."""

    format: ClassVar[str]
    is_open: ClassVar[bool] = False
    """Whether it is the caller's: without a lock, and nothing is undone."""

    makes_groups: ClassVar[bool] = False
    """Whether there is something to make without any array, such as attributes of groups."""

    @property
    def is_one(self) -> bool:
        """Whether arrays that are done are all done, or none is."""
        return False

    @property
    def common(self) -> dict[str, Any]:
        """What else makes a job the same one."""
        return {}

    def check(self, items: Sequence[Item]) -> object:
        """Refuse to write what cannot be written here; building does so again."""

    def written(
        self, _: Item
    ) -> contextlib.AbstractContextManager[tuple[Table, Comparable] | None]:
        """Return the digests and chunks of what is there, where there are digests of it."""
        return contextlib.nullcontext()

    def is_linked(self, _: Item) -> bool:
        """Return whether an array is to be a link, and that is there."""
        return False

    def build(
        self, items: Sequence[Item], running: RunOptions, heads: Heads
    ) -> contextlib.AbstractContextManager[Build]:
        """Make everything ready; leaving the context without an error publishes it."""
        raise NotImplementedError

    def facts(self, items: Sequence[Item]) -> Facts:
        """Return what makes a job the same one."""
        each = [item.facts() for item in items]
        return facts_of_job(self.format, each, **self.common)

    def heads(self, items: Sequence[Item]) -> dict[str, dict[str, str]]:
        """Return by what each array is known again once it is written."""
        return {
            item.arranged.key: in_head(
                facts_of_job(self.format, [item.lasting_facts()], **self.common)
            )
            for item in items
        }


@dataclass(frozen=True, kw_only=True)
class Request(Generic[Item]):
    """A write of which everything is decided."""

    name: str
    """What the report calls the place."""
    place: Place[Item]
    """Where to."""
    items: tuple[Item, ...]
    """The arrays."""
    running: RunOptions
    """How."""
    compared: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False, compare=False)
    """Whether a chunk of what is done came out again, by key and digests."""

    def check(self) -> None:
        """Refuse what can be refused before anything is computed."""
        done = self._done(self._heads())
        rest = [item for item in self.items if item not in done]
        if rest:
            self.place.check(rest)

    def run(self, *, compute: bool) -> Any:
        """Return the report of it, or a ``Delayed`` that gives the report."""
        if compute:
            return self.write()
        # As it is, not taken apart: dask would compute the arrays in it as its arguments.
        write = functools.partial(_carry_out, self)
        later = delayed(write, name=f"lazyio-order-{uuid.uuid4().hex}", traverse=False)
        return later(dask_key_name=f"lazyio-write-{uuid.uuid4().hex}")

    def write(self) -> WriteReport:
        """Carry it out, whole or not at all."""
        began = time.perf_counter()
        heads = self._heads()
        done = self._done(heads)
        rest = [item for item in self.items if item not in done]
        n_done = sum(item.arranged.plan.n_tasks for item in done)
        ran, outcomes = Ran(n_blocks=0), [done_before(item.arranged) for item in done]
        advice = self.running.advice
        if rest or (self.place.makes_groups and not self.items):
            running = self.running.for_handle() if self.place.is_open else self.running
            with self.place.build(rest, running, heads) as build:
                ran = running.write([one.to_job() for one in build.writers], build.scratch)
                outcomes += build.finish()
            advice += build.advice
        if self.place.is_open:
            advice += (OPEN_HANDLE,)
        ran = Ran(n_blocks=ran.n_blocks + n_done, n_kept=ran.n_kept + n_done)
        return report_on(self.name, outcomes, ran=ran, began=began, advice=advice)

    @property
    def is_done(self) -> bool:
        """Whether the same job has written all of it."""
        return len(self._done(self._heads())) == len(self.items)

    def _heads(self) -> dict[str, dict[str, str]]:
        return self.place.heads(self.items) if self.running.resume else {}

    def _done(self, heads: Heads) -> list[Item]:
        """Return the arrays that the same job has written."""
        done = [item for item in self.items if self._is_done(item, heads)]
        return [] if self.place.is_one and len(done) < len(self.items) else done

    def _is_done(self, item: Item, heads: Heads) -> bool:
        """Return whether an array is there, written by the same job."""
        key = item.arranged.key
        if key not in heads:
            return False
        if self.place.is_linked(item):
            return True
        with self.place.written(item) as found:
            if found is None or not item.is_result(found[0], heads[key]):
                return False
            table, target = found
            # A check comes before every write, and need not compute the same twice.
            known = (key, table.head())
            if known not in self.compared:
                arranged, region = item.as_done()
                self.compared[known] = self.running.is_same(arranged, target, region)
            return self.compared[known]


@system_errors(TargetError)
def _carry_out(request: Request[Any]) -> WriteReport:
    return request.write()


@contextlib.contextmanager
def alone_with(
    item: RegionItem, shared: SharedArray, shape: Callable[[], Shape], stack: contextlib.ExitStack
) -> Iterator[RegionItem]:
    """Be the only thread that makes an array longer, and get the part in it as it is now.

    What comes once makes it longer until the end; the stack lets go of it then.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(growing(shared.identity, f"array {item.arranged.key!r}"))
        now = item.in_shape(shape())
        yield now
        if now.arranged.bounds is not None:
            stack.push(held.pop_all())
