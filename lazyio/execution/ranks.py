"""One run on all ranks of an MPI communicator: the first has the target open, all encode and write.

Every rank makes the same call. The first one plans, opens, and tells each of the
others which blocks are its own; they compute these, encode them, and ask the
first for places, as the workers of a cluster do. Whatever happens on any rank,
each ends with the same report or the same error: nobody leaves before the
first has said so.

Messages go over a duplicate of the communicator, so that they never meet those
of the program. Ranks that wait look now and then, and leave their core to
those that work.
"""

import contextlib
import math
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from lazyio.codecs.libraries import required
from lazyio.codecs.workspace import Workspace
from lazyio.dtypes import Shape
from lazyio.errors import BlockError, OptionError
from lazyio.execution.dask_arrays import as_blocks
from lazyio.execution.dask_graphs import Consume, Delivery, Done, Elsewhere, run_here
from lazyio.execution.grants import Grants
from lazyio.execution.schedulers import Scheduler
from lazyio.execution.workers import (
    BlockJob,
    Session,
    WrittenBlock,
    edges_of,
    proof_is_seen,
    write_block,
)
from lazyio.regions import Region, box_shape, cuts
from lazyio.sources.base import Source
from lazyio.sources.function import SerialSource

Edges = tuple[tuple[int, ...], ...]
"""Sizes of blocks along each axis."""

_TO_FIRST, _FROM_FIRST, _ANSWER = 1, 2, 3
"""Tags of messages: what others tell or ask the first, what it tells them, and its answers."""
_YES, _NO = b"+", b"-"
_SHORTEST, _LONGEST = 2e-5, 2e-3
"""Seconds between two looks for a message, at first and later."""


@dataclass(frozen=True, kw_only=True)
class Own:
    """An array as a rank has it."""

    source: Source | None
    """Where its blocks are read from, where it comes straight from a source."""
    array: da.Array | None
    """The graph, where there is one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return np.dtype(self.given.dtype)

    @property
    def given(self) -> Source | da.Array:
        """What it is computed or read from."""
        found = self.array if self.source is None else self.source
        if found is None:
            msg = "there is nothing to compute"
            raise BlockError(msg)
        return found

    def blocks(self, edges: Edges) -> da.Array:
        """Return it in blocks of some sizes; axes that it has not are of one element."""
        shape = tuple(map(sum, edges))
        axes = _new_axes(shape, tuple(map(int, self.given.shape)))
        inner = tuple(sizes for axis, sizes in enumerate(edges) if axis not in axes)
        if isinstance(self.given, da.Array):
            found = self.given
            found = found if sizes_of(found.chunks) == inner else found.rechunk(inner)
        else:
            found = as_blocks(self.given, inner)
        for axis in axes:
            found = da.expand_dims(found, axis)
        return found

    @property
    def has_one_thread(self) -> bool:
        """Whether only the calling thread may read it."""
        return isinstance(self.source, SerialSource) and self.source.has_one_thread


def sizes_of(chunks: Sequence[Sequence[int]]) -> Edges:
    """Return sizes of blocks along each axis as Python integers."""
    return tuple(tuple(map(int, sizes)) for sizes in chunks)


def _new_axes(shape: Shape, own: Shape) -> tuple[int, ...]:
    """Return the axes of one element that a shape has beside another's."""
    found, left = [], list(own)
    for axis, extent in enumerate(shape):
        if left and left[0] == extent:
            left.pop(0)
        else:
            found.append(axis)
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class RankPart:
    """What one rank gives of an array that each has a part of."""

    corner: Shape
    """Where it begins, in all that is written."""
    shape: Shape
    """Its extents."""
    edges: Edges | None
    """Sizes of its blocks, ``None`` where they are for the plan to choose."""

    def regions(self) -> Iterator[Region]:
        """Yield where its blocks lie, in all that is written."""
        if 0 not in self.shape:
            yield from (_moved(region, self.corner) for region in cuts(self.edges or ()))


@dataclass(frozen=True, kw_only=True)
class RankTask:
    """An array that is written by all ranks, as the first one knows it."""

    key: str
    """Its name."""
    array: da.Array | None
    """The graph that every rank has, in the blocks that are computed."""
    parts: tuple[RankPart, ...]
    """What each rank gives; nothing where all have the same array."""
    consume: Consume
    """Takes a block here."""
    on_done: Done
    """Told of each block that is done, on the thread that waits."""
    is_kept: Callable[[Region], bool]
    """Whether a block is there already."""
    elsewhere: Elsewhere | None
    """How other ranks write its blocks, ``None`` where elements have to come here."""

    def part(self, rank: int) -> RankPart:
        """Return what a rank has of it."""
        if self.parts:
            return self.parts[rank]
        edges = () if self.array is None else sizes_of(self.array.chunks)
        shape = tuple(map(sum, edges))
        return RankPart(corner=(0,) * len(shape), shape=shape, edges=edges)

    def window(self, rank: int) -> Region | None:
        """Return where in the target a rank's part of it goes."""
        if self.elsewhere is None or not self.parts:
            return None if self.elsewhere is None else self.elsewhere.window
        part = self.parts[rank]
        inside = _moved(tuple(slice(0, extent) for extent in part.shape), part.corner)
        window = self.elsewhere.window
        return inside if window is None else _moved(inside, [one.start for one in window])


@dataclass(frozen=True, kw_only=True)
class _Share:
    """The blocks of one array that are a rank's own."""

    number: int
    """Of the array, among those of the run."""
    key: str
    """Its name."""
    edges: Edges
    """Sizes of all blocks."""
    blocks: npt.NDArray[np.int64]
    """The own ones, by their numbers in C order."""
    job: BlockJob | None
    """How they are written, ``None`` where elements have to go to the first rank."""

    def delivery(self, own: Own, consume: Consume, on_done: Done) -> Delivery:
        """Return the own blocks, to be computed."""
        wanted = set(self.blocks.tolist())
        starts = {
            _start(region) for number, region in enumerate(cuts(self.edges)) if number in wanted
        }
        return Delivery(
            array=own.blocks(self.edges),
            consume=consume,
            on_done=on_done,
            is_kept=lambda region: _start(region) not in starts,
        )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What a rank is told to do."""

    packed: bytes
    """Its shares, which it may fail to understand where it has other packages."""
    n_workers: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error on its way to other ranks, which may not know its class."""

    packed: bytes
    """It, empty where it cannot be pickled."""
    text: str
    """What it says."""
    notes: tuple[str, ...]
    """Its notes."""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Return an error as it travels."""
        packed = b""
        with contextlib.suppress(Exception):
            packed = pickle.dumps(error)
        notes = tuple(getattr(error, "__notes__", ()))
        return cls(packed=packed, text=f"{type(error).__name__}: {error}", notes=notes)

    def error(self) -> BaseException:
        """Return the error, or one that says the same."""
        with contextlib.suppress(Exception):
            found: BaseException = pickle.loads(self.packed)
            return found
        said = BlockError(self.text)
        for note in self.notes:
            said.add_note(note)
        return said


def raise_first(said: Sequence[Any]) -> None:
    """Raise the first error of those that ranks have told of."""
    for one in said:
        if isinstance(one, Failure):
            raise one.error()
        if isinstance(one, BaseException):
            raise one


@dataclass(frozen=True, kw_only=True)
class _End:
    """What the call came to, for every rank."""

    result: Any = None
    failure: Failure | None = None


class Ranks:
    """The ranks of a communicator, in one call that all of them make."""

    def __init__(self, comm: Any, mpi: Any) -> None:
        self._comm = comm
        self._mpi = mpi
        self.has_threads: bool = mpi.Query_thread() == mpi.THREAD_MULTIPLE
        """Whether any thread may send messages, also while others do."""
        self._lock = threading.Lock()
        self.rank: int = comm.Get_rank()
        """Number of this one."""
        self.size: int = comm.Get_size()
        """How many there are."""
        self.own: dict[str, Own] = {}
        """What this rank has of each array."""
        self.check: Callable[[], object] = _nothing
        """Refuses what was read and has changed since."""

    @property
    def is_first(self) -> bool:
        """Whether this rank has the target open."""
        return self.rank == 0

    @property
    def threads(self) -> Scheduler:
        """What computes own blocks: one thread where others may not send messages."""
        has_one = not self.has_threads or any(one.has_one_thread for one in self.own.values())
        return Scheduler(kind="synchronous" if has_one else "threads")

    def is_same(self, own: str) -> bool:
        """Return whether all ranks say the same; each of them gets that."""
        return len(set(self.shared(own))) == 1

    def are_of(self, comm: Any) -> bool:
        """Return whether these are the ranks of another communicator, in whatever order."""
        found: bool = self._mpi.Comm.Compare(self._comm, comm) != self._mpi.UNEQUAL
        return found

    def shared(self, own: Any) -> list[Any]:
        """Return what each rank has to say, on every one of them."""
        said = self.gathered(own)
        if not self.is_first:
            found: list[Any] = self.received(0, _FROM_FIRST)
            return found
        for rank in range(1, self.size):
            self.send(rank, said)
        return said

    def gathered(self, own: Any) -> list[Any]:
        """Return what each rank has to say, on the first; nothing on others."""
        if not self.is_first:
            self.send(0, own, _TO_FIRST)
            return []
        return [own, *(self.received(rank, _TO_FIRST) for rank in range(1, self.size))]

    def send(self, rank: int, message: Any, tag: int = _FROM_FIRST) -> None:
        """Send a message."""
        self._comm.send(message, dest=rank, tag=tag)

    def received(self, rank: int, tag: int) -> Any:
        """Return the next message of a rank, once it is there."""
        pause = _SHORTEST
        while True:
            message = self._comm.improbe(source=rank, tag=tag)
            if message is not None:
                return message.recv()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    def asked(self) -> tuple[int, Any] | None:
        """Return who asks the first rank what, if anybody does."""
        status = self._mpi.Status()
        message = self._comm.improbe(tag=_TO_FIRST, status=status)
        if message is None:
            return None
        try:
            return status.Get_source(), message.recv()
        except Exception as error:  # noqa: BLE001 - of a class that is not here, say
            return status.Get_source(), ("unread", error)

    def answer(self, rank: int, answer: bytes) -> None:
        """Answer what a rank has asked."""
        self.send(rank, answer, _ANSWER)

    def answered(self, *question: Any) -> bytes:
        """Return what the first rank answers, from any thread."""
        with self._lock:
            self.send(0, question, _TO_FIRST)
            found: bytes = self.received(0, _ANSWER)
        return found

    def lead(self, call: Callable[[], Any]) -> Any:
        """Do something as the first rank, and have all others end as it does."""
        end = _End()
        try:
            end = _End(result=call())
            return end.result
        except BaseException as error:
            end = _End(failure=Failure.of(error))
            raise
        finally:
            for rank in range(1, self.size):
                self.send(rank, end)

    def follow(self) -> Any:
        """Do what the first rank says, and return or raise what it ends with."""
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                said = self.received(0, _FROM_FIRST)
            except KeyboardInterrupt as error:
                # The others have to be told before this one leaves.
                interrupted = error
                continue
            if isinstance(said, _End):
                break
            self._do(said, interrupted)
        if said.failure is not None:
            raise said.failure.error()
        if interrupted is not None:
            raise interrupted
        return said.result

    def _do(self, work: _Work, interrupted: KeyboardInterrupt | None) -> None:
        """Compute and write own blocks."""
        failure: Failure | None = None
        try:
            if interrupted is not None:
                raise interrupted
            shares: tuple[_Share, ...] = pickle.loads(work.packed)
            deliveries = [
                share.delivery(self.own[share.key], _Writing(self, share), _nothing)
                for share in shares
            ]
            if deliveries:
                run_here(deliveries, self.threads, n_workers=work.n_workers)
            self.check()
        except BaseException as error:  # noqa: BLE001 - told to the first, which tells all
            error.add_note(f"on rank {self.rank} of {self.size}")
            failure = Failure.of(error)
        self.answered("done", failure)


class _Channel:
    """The way to the first rank."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def ask(self, array: int, question: bytes, *, reaches: bool) -> bytes:
        """Return its answer, see :class:`~lazyio.execution.grants.Grants`."""
        return self._ranks.answered("place", array, question, reaches)

    def proves(self, proof: str) -> bool:
        """Return whether a file of that name is seen there."""
        return self._ranks.answered("proof", proof) == _YES


class _Writing:
    """Takes blocks of a share as they are computed; from any thread."""

    def __init__(self, ranks: Ranks, share: _Share) -> None:
        self._ranks = ranks
        self._share = share
        self._job = None
        if share.job is not None:
            # As the own data has its elements, which may be cast.
            dtype = ranks.own[share.key].dtype
            self._job = replace(share.job, dtype=dtype, channel=_Channel(ranks))
        places = zip(np.ndindex(*map(len, share.edges)), cuts(share.edges), strict=True)
        self._positions = {_start(region): at for at, region in places}

    def __call__(self, region: Region, block: npt.NDArray[Any], _: Workspace) -> None:
        """Write a block, or what can be written of it from here, and hand on the rest."""
        what: Any = block
        if self._job is not None:
            what = write_block(block, self._positions[_start(region)], self._job)
        if self._ranks.answered("block", self._share.number, region, what) != _YES:
            msg = "the run has failed on another rank"
            raise BlockError(msg)


def run_ranks(tasks: Sequence[RankTask], ranks: Ranks, *, n_workers: int, folder: Path) -> None:
    """Compute every block on one of the ranks, and have it written there or here.

    ``folder`` is where ranks that share the target's file system may leave files.
    """
    targets = [one.elsewhere for one in tasks]
    grants = Grants([None if one is None else one.target for one in targets])
    session = Session.begun(folder)
    try:
        shares = _shares(tasks, session, ranks.size)
        # All of them first: who has been told to begin has to be answered.
        work = [_Work(packed=pickle.dumps(one), n_workers=n_workers) for one in shares]
        for rank in range(1, ranks.size):
            ranks.send(rank, work[rank])
        first = _First(tasks, ranks, grants, session)
        with first.answering():
            deliveries = [first.delivery(share) for share in shares[0]]
            # What comes from other ranks as it is takes the memory of a worker.
            is_fed = ranks.size > 1 and any(one.elsewhere is None for one in tasks)
            if deliveries:
                run_here(deliveries, ranks.threads, n_workers=max(1, n_workers - is_fed))
            ranks.check()
        if first.error is not None:
            raise first.error
    finally:
        grants.close()
        session.end()


class _First:
    """The rank that has the target open: it answers all others, and has blocks of its own."""

    def __init__(
        self, tasks: Sequence[RankTask], ranks: Ranks, grants: Grants, session: Session
    ) -> None:
        self._tasks = tasks
        self._ranks = ranks
        self._grants = grants
        self._session = session
        self._n_busy = ranks.size - 1
        self._done: queue.SimpleQueue[tuple[RankTask, Region]] = queue.SimpleQueue()
        self._workspace = Workspace()
        self._error: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """What went wrong first, on whatever rank."""
        return self._grants.error or self._error

    def fail(self, error: BaseException) -> None:
        """Take note of what went wrong; from now on all ranks are told to stop."""
        if self._error is None:
            self._error = error

    def delivery(self, share: _Share) -> Delivery:
        """Return own blocks, which go to the target as ever."""
        task = self._tasks[share.number]
        corner = task.part(0).corner

        def consume(region: Region, block: npt.NDArray[Any], workspace: Workspace) -> None:
            if self.error is not None:
                msg = "the run has failed on another rank"
                raise BlockError(msg)
            task.consume(_moved(region, corner), block, workspace)
            if not self._ranks.has_threads:
                self._answer_all()

        def on_done(region: Region) -> None:
            task.on_done(_moved(region, corner))
            self._tell_done()

        own = self._ranks.own[task.key] if task.parts else Own(source=None, array=task.array)
        return share.delivery(own, consume, on_done)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Answer what other ranks ask until all of them are done, whatever happens here."""
        thread = threading.Thread(target=self._loop, name="lazyio-ranks", daemon=True)
        if self._ranks.has_threads:
            thread.start()
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised once all ranks have stopped
            self.fail(error)
        while self._n_busy:
            try:
                if not self._ranks.has_threads:
                    self._answer_all()
                self._tell_done()
                time.sleep(_LONGEST)
            except BaseException as error:  # noqa: BLE001 - as above
                self.fail(error)
        if self._ranks.has_threads:
            thread.join()
        if self.error is None:
            self._tell_done()

    def _loop(self) -> None:
        pause = _SHORTEST
        while self._n_busy:
            pause = _SHORTEST if self._answer_all() else min(2 * pause, _LONGEST)
            time.sleep(pause)

    def _answer_all(self) -> bool:
        """Answer all that has been asked, and return whether anything was."""
        n_answered = 0
        while (asked := self._ranks.asked()) is not None:
            rank, (kind, *told) = asked
            try:
                answer = self._answer(rank, kind, told)
            except Exception as error:  # noqa: BLE001 - ends the run on all ranks
                self.fail(error)
                answer = _NO
            self._ranks.answer(rank, answer)
            self._n_busy -= kind == "done"
            n_answered += 1
        return bool(n_answered)

    def _answer(self, rank: int, kind: str, told: list[Any]) -> bytes:
        if kind == "place":
            array, question, reaches = told
            if self.error is not None:
                self._grants.close()
            return self._grants.answer(array, question, reaches=reaches)
        if kind == "proof":
            return _YES if proof_is_seen(self._session, told[0]) else _NO
        if kind == "unread":
            raise told[0]
        if kind == "done":
            if told[0] is not None:
                self.fail(told[0].error())
            return _YES
        if self.error is not None:
            return _NO
        self._take(rank, *told)
        return _YES

    def _take(self, rank: int, number: int, region: Region, found: Any) -> None:
        """Take what a rank has made of a block."""
        task = self._tasks[number]
        corner = task.part(rank).corner
        region = _moved(region, corner)
        if isinstance(found, WrittenBlock) and task.elsewhere is not None:
            landing = partial(self._grants.land, number, found.landed(), found.payloads)
            pieces = tuple((_moved(place, corner), piece) for place, piece in found.pieces)
            task.elsewhere.take(replace(found, pieces=pieces), landing, self._workspace)
        else:
            task.consume(region, found, self._workspace)
        self._done.put((task, region))

    def _tell_done(self) -> None:
        """Tell of blocks that other ranks have done, on the thread that waits."""
        while not self._done.empty():
            task, region = self._done.get()
            task.on_done(region)


def _shares(tasks: Sequence[RankTask], session: Session, n_ranks: int) -> list[tuple[_Share, ...]]:
    """Return the blocks of each rank: of one array neighbours, which often share their input."""
    found: list[list[_Share]] = [[] for _ in range(n_ranks)]
    n_few = 0
    for number, task in enumerate(tasks):
        if task.parts:
            cut = [_wanted(task, part) for part in task.parts]
        else:
            cut = _divided(_wanted(task, task.part(0)), task.part(0), n_ranks)
            n_blocks = sum(map(len, cut))
            if n_blocks < n_ranks:
                # Those of many small arrays would all be the same rank's.
                cut = [cut[(rank - n_few) % n_ranks] for rank in range(n_ranks)]
                n_few += n_blocks
        for rank, blocks in enumerate(cut):
            if len(blocks):
                found[rank].append(_share(number, task, session, rank, blocks))
    return [tuple(one) for one in found]


def _wanted(task: RankTask, part: RankPart) -> npt.NDArray[np.int64]:
    """Return the numbers of those blocks of a part that are not there yet."""
    numbers = [
        number
        for number, region in enumerate(part.regions())
        if not task.is_kept(region) and all(box_shape(region))
    ]
    return np.asarray(numbers, np.int64)


def _divided(
    wanted: npt.NDArray[np.int64], part: RankPart, n_ranks: int
) -> list[npt.NDArray[np.int64]]:
    """Return blocks in as many runs as there are ranks, with about as many elements each."""
    all_sizes = np.asarray([math.prod(box_shape(region)) for region in part.regions()], np.int64)
    sizes = all_sizes[wanted]
    # A block belongs where its middle lies.
    middles = np.cumsum(sizes) - sizes / 2
    share = max(int(sizes.sum()), 1) / n_ranks
    owners = np.minimum((middles / share).astype(np.int64), n_ranks - 1)
    return [wanted[owners == rank] for rank in range(n_ranks)]


def _share(
    number: int, task: RankTask, session: Session, rank: int, blocks: npt.NDArray[np.int64]
) -> _Share:
    elsewhere, edges = task.elsewhere, task.part(rank).edges or ()
    job = None
    # The first writes its own as it always does.
    if elsewhere is not None and rank:
        job = BlockJob(
            session=session,
            array=number,
            key=elsewhere.key,
            dtype=elsewhere.writer.elements,
            edges=edges_of(edges),
            writer=elsewhere.writer,
            convert=elsewhere.convert,
            window=task.window(rank),
            channel=None,
        )
    return _Share(number=number, key=task.key, edges=edges, blocks=blocks, job=job)


def _moved(region: Region, by: Sequence[int]) -> Region:
    return tuple(
        slice(part.start + step, part.stop + step) for part, step in zip(region, by, strict=True)
    )


def _start(region: Region) -> tuple[int, ...]:
    return tuple(part.start for part in region)


def _nothing(*_: Any) -> None:
    """Do nothing."""


@contextlib.contextmanager
def ranks_of(comm: Any) -> Iterator[Ranks]:
    """Yield the ranks of a communicator, which is left as it is."""
    required("mpi4py", what="comm=", extra="mpi")
    # Who has a communicator has imported it; to do so here would start MPI.
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not isinstance(comm, mpi.Comm) or comm == mpi.COMM_NULL or comm.Is_inter():
        msg = f"comm={comm!r} is no communicator of ranks; give one, such as MPI.COMM_WORLD"
        raise OptionError(msg)
    own = comm.Dup()
    try:
        yield Ranks(own, mpi)
    finally:
        own.Free()
