"""What another process does with a block: encode its chunks, ask for places, write payloads.

A task returns what it wrote, in a few bytes a chunk. What it cannot write goes
with it: encoded, where the files are not reached from there; as it is, where
the end of a block cuts a chunk.
"""

import contextlib
import functools
import itertools
import os
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lazyio.codecs.workspace import Bytes, Kept, Workspace
from lazyio.dtypes import Shape
from lazyio.errors import BlockError, OptionError
from lazyio.execution.assembler import parts_along
from lazyio.execution.grants import packed, places_in, unpacked
from lazyio.malloc import freed_is_kept
from lazyio.regions import Region, box, box_shape, format_region
from lazyio.storage.base import ChunkWriter, EncodedChunk, PayloadPlace, PlaceKind

BATCH_NBYTES = 16 * 2**20
"""Of payloads that wait until their places are asked for together, where no more are allowed."""

RECORD_NBYTES = 1000
"""Of what is known of a chunk while a task goes on, about: objects of Python."""

_MOST_SECONDS = 0.5
"""After which a task takes no further block: so long others wait for what it has not begun."""


class Channel(Protocol):
    """The way to the process that has the target open; it can be pickled."""

    def ask(self, array: int, question: bytes, *, reaches: bool) -> bytes:
        """Return its answer, see :class:`~lazyio.execution.grants.Grants`."""

    def proves(self, proof: str) -> bool:
        """Return whether a file of that name, in the folder of the session, is seen there."""


@functools.cache
def own_version() -> str:
    """Return the version of lazyio that this process has, which takes milliseconds to look up."""
    return version("lazyio")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One run, as the processes that take part in it know it."""

    name: str
    """No other run has it."""
    folder: Path
    """In which a file of that name tells that the run goes on; half-written files may lie there."""
    host: str
    """The machine of the process that has the target open."""
    version: str
    """Of lazyio there."""

    @classmethod
    def begun(cls, folder: Path) -> "Session":
        """Return a new run, of which a file in its folder tells."""
        folder.mkdir(parents=True, exist_ok=True)
        found = cls(
            name=uuid.uuid4().hex,
            folder=folder,
            host=socket.gethostname(),
            version=own_version(),
        )
        found.mark.write_text(found.name)
        return found

    @property
    def mark(self) -> Path:
        """The file that is there as long as the run goes on."""
        return self.folder / f"{self.name}.session"

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on, as far as is seen from here."""
        try:
            return self.mark.read_text() == self.name
        except OSError:
            return False

    def require_going_on(self) -> None:
        """Raise where the run has ended, or was killed and is resumed; its files are seen here."""
        if not self.goes_on:
            msg = "the job that this block belongs to has ended"
            raise BlockError(msg)

    def end(self) -> None:
        """Let late tasks find that nobody waits for them."""
        with contextlib.suppress(OSError):
            self.mark.unlink(missing_ok=True)

    @staticmethod
    def end_killed(folder: Path) -> None:
        """Let tasks of runs that were killed find that nobody waits for them, before others run."""
        for mark in folder.glob("*.session"):
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)

    def require_same_version(self) -> None:
        """Raise where this process has another lazyio."""
        own = own_version()
        if own != self.version:
            msg = (
                f"{socket.gethostname()} has lazyio {own}, and the process that writes has "
                f"{self.version}; install the same version on both"
            )
            raise OptionError(msg)


@dataclass(frozen=True, kw_only=True)
class BlockJob:
    """What a task needs to know of an array to write its blocks."""

    session: Session
    """The run."""
    array: int
    """Position of the array among those of the run."""
    key: str
    """What errors call the array."""
    dtype: np.dtype[Any]
    """What blocks are promised to be."""
    edges: tuple[tuple[tuple[int, int], ...], ...]
    """Sizes of the blocks along each axis, each with how many follow each other."""
    writer: ChunkWriter
    """What encodes and writes."""
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    """From a block to elements as they are stored."""
    window: Region | None
    """The part of the array that is written; by default all of it."""
    channel: Channel | None
    """The way to ask for places; ``None`` is that payloads are sent."""
    batch_nbytes: int = BATCH_NBYTES
    """Of payloads that may wait until their places are asked for together."""

    def region_of(self, at: Sequence[int]) -> Region:
        """Return where a block lies, by its position among the blocks."""
        return tuple(_along(runs, number) for runs, number in zip(self.edges, at, strict=True))


def _along(runs: Sequence[tuple[int, int]], number: int) -> slice:
    """Return where a block lies along one axis."""
    start = 0
    for size, count in runs:
        if number < count:
            return slice(start + number * size, start + (number + 1) * size)
        start, number = start + size * count, number - count
    msg = f"there are {number} blocks fewer along an axis"
    raise IndexError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenBlock:
    """What became of a block."""

    asked: bytes = b""
    """Numbers of the chunks that places were asked for, of 8 bytes each."""
    chunks: bytes = b""
    """Chunks that nobody could ask for; see :func:`~lazyio.execution.grants.packed`."""
    payloads: tuple[Bytes | None, ...] = ()
    """The payload of each that was not written."""
    pieces: tuple[tuple[Region, npt.NDArray[Any]], ...] = ()
    """Elements of chunks that the block has not whole."""
    has_masked: bool = False
    """Whether elements were masked, and have been filled."""

    @property
    def is_large(self) -> bool:
        """Whether there are more than a few bytes a chunk of it."""
        return bool(self.pieces) or any(one is not None for one in self.payloads)

    def landed(self) -> list[EncodedChunk | int]:
        """Return the chunks that were encoded; a number is of one that was told of already."""
        return [*np.frombuffer(self.asked, np.uint64).tolist(), *unpacked(self.chunks)]


def checked_block(block: Any, region: Region, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a block that is what its array promised, so that nothing is broadcast.

    Masked arrays stay masked: what their gaps are filled with is for the
    consumer to say.
    """
    wanted = tuple(part.stop - part.start for part in region)
    if isinstance(block, np.generic) or (not wanted and np.isscalar(block)):
        block = _as_element(np.asarray(block), dtype)
    is_plain = isinstance(block, np.ndarray)
    if is_plain and block.shape == wanted and block.dtype == dtype:
        is_masked = isinstance(block, np.ma.MaskedArray)
        checked: npt.NDArray[Any] = block if is_masked else np.asarray(block)
        return checked
    got = f"{block.shape} {block.dtype}" if is_plain else f"a {type(block).__name__}"
    msg = (
        f"block {format_region(region)} is {got}, the array says {wanted} {dtype}; "
        "let the function return that, or give map_blocks the right dtype= and chunks="
    )
    raise BlockError(msg)


def _as_element(block: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a scalar as the element that it was: numpy's own have neither order nor padding."""
    is_swapped = block.dtype == dtype.newbyteorder("=")
    is_shorter = block.dtype.kind == dtype.kind and dtype.kind in "SU"
    is_same = is_swapped or (is_shorter and block.dtype.itemsize <= dtype.itemsize)
    return block.astype(dtype) if is_same else block


def converted(
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    block: npt.NDArray[Any],
    region: Region,
    key: str,
) -> npt.NDArray[Any]:
    """Return a block as its target has the elements."""
    try:
        return convert(block)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"block {format_region(region)} of {key!r} cannot be stored: {error}"
        raise BlockError(msg) from error


_STATES = threading.local()


def write_block(block: Any, block_id: tuple[int, ...], job: BlockJob) -> "WrittenBlock | _Part":
    """Write a block's chunks from here, and return what is left to do for its array.

    Of several blocks of one task, see :func:`in_turn`, the chunks of the last are not written yet.
    """
    together: _Writing | None = getattr(_STATES, "together", None)
    if together is not None:
        return together.take(block, block_id, job)
    with freed_is_kept(BATCH_NBYTES):
        writing = _Writing(_workspace())
        part = writing.take(block, block_id, job)
        writing.flush()
    return part.written()


def in_turn(blocks: Iterable[Callable[[], Any]]) -> list[WrittenBlock]:
    """Write blocks of one array in one task, one after the other, and return what came of them.

    It ends early where it takes long, so that others can take what is left, and where anything has
    to be sent: a worker has memory for that of one block.

    Raises
    ------
    BlockFailedError
        With the error of the block behind those that are written.
    """
    parts: list[_Part] = []
    writing = _STATES.together = _Writing(_workspace())
    began, is_flushing = time.monotonic(), False
    try:
        with freed_is_kept(BATCH_NBYTES):
            for write in blocks:
                parts.append(write())
                if parts[-1].pieces or not writing.goes_on:
                    break
                if time.monotonic() - began > _MOST_SECONDS:
                    break
            is_flushing = True
            writing.flush()
    except Exception as error:
        number = len(parts)
        if not is_flushing:
            with contextlib.suppress(Exception):
                writing.flush()  # What is done is not to be done again.
        written = writing.of_whole(parts)
        # Of those that wait together any may be the one that could not be written.
        raise BlockFailedError(error, written, len(written) if is_flushing else number) from error
    finally:
        del _STATES.together
    return [part.written() for part in parts]


class BlockFailedError(Exception):
    """Why a block of a task failed, which of them it is, and what was written before it."""

    def __init__(self, error: Exception, written: list[WrittenBlock], number: int) -> None:
        super().__init__(error, written, number)
        self.error = error
        self.written = written
        self.number = number

    def __str__(self) -> str:
        """Return next to nothing: distributed makes another error of one with a long text."""
        return f"block {self.number} of a task"


def _workspace() -> Workspace:
    if not hasattr(_STATES, "workspace"):
        _STATES.workspace = Workspace()
    found: Workspace = _STATES.workspace
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A block, the chunks of which are encoded, and may wait for their places."""

    writing: "_Writing"
    chunks: slice
    """Which of those that this has written are its own."""
    pieces: tuple[tuple[Region, npt.NDArray[Any]], ...]
    """Elements of chunks that the block has not whole."""
    has_masked: bool
    """Whether elements were masked, and have been filled."""

    def written(self) -> WrittenBlock:
        """Return what became of it, once all its chunks are written."""
        done, channel = self.writing.done[self.chunks], self.writing.channel
        numbers = np.array([chunk.chunk for chunk in done], np.uint64)
        return WrittenBlock(
            asked=numbers.tobytes() if channel else b"",
            chunks=b"" if channel else packed(done),
            payloads=tuple(self.writing.payloads[self.chunks]),
            pieces=self.pieces,
            has_masked=self.has_masked,
        )


def _chunks_of(
    region: Region, elements: npt.NDArray[Any], job: BlockJob
) -> "list[tuple[tuple[int, ...] | None, Region, npt.NDArray[Any]]]":
    """Return the chunks that a block has whole, each with its position, and other parts of it."""
    writer = job.writer
    if not region:
        return [((), region, elements)]
    window = job.window or tuple(slice(0, extent) for extent in writer.shape)
    axes = [
        parts_along(part, bounds, chunk)
        for part, bounds, chunk in zip(region, window, writer.chunk_shape, strict=True)
    ]
    found: list[tuple[tuple[int, ...] | None, Region, npt.NDArray[Any]]] = []
    for parts in itertools.product(*axes):
        index = tuple(part.index for part in parts)
        inside = tuple(part.in_block for part in parts)
        piece = elements[inside]
        is_whole = piece.shape == box_shape(box(writer.shape, writer.chunk_shape, index))
        place = tuple(
            slice(part.start + one.start, part.start + one.stop)
            for part, one in zip(region, inside, strict=True)
        )
        found.append((index if is_whole else None, place, piece))
    if all(index is None for index, _, _ in found):
        return [(None, region, elements)]
    return found


class _Writing:
    """The payloads of blocks of one array: some wait until their places are asked for together."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._job: BlockJob | None = None
        self._waiting: list[tuple[EncodedChunk, Bytes]] = []
        self._nbytes = 0
        self.done: list[EncodedChunk] = []
        self.payloads: list[Bytes | None] = []

    @property
    def channel(self) -> Channel | None:
        """The way to ask for places."""
        return None if self._job is None else self._job.channel

    @property
    def reaches(self) -> bool:
        """Whether payloads are written from here."""
        job, channel = self._job, self.channel
        if job is None or channel is None:
            return False
        return job.writer.is_remote or _reaches(job.session, channel)

    @property
    def goes_on(self) -> bool:
        """Whether another block may follow: its payloads are written from here, and wanted."""
        if self._job is None or not self.reaches:
            return False
        return self._job.writer.is_remote or self._job.session.goes_on

    def of_whole(self, parts: Sequence[_Part]) -> list[WrittenBlock]:
        """Return what became of the blocks of which all chunks are written."""
        whole = itertools.takewhile(lambda part: part.chunks.stop <= len(self.done), parts)
        return [part.written() for part in whole]

    def take(self, block: Any, block_id: tuple[int, ...], job: BlockJob) -> _Part:
        """Encode a block, and write its chunks once many wait."""
        job.session.require_same_version()
        region = job.region_of(block_id)
        elements = converted(job.convert, checked_block(block, region, job.dtype), region, job.key)
        if self._job is None:
            self._job = job
            self._kept = Kept(self._workspace, min(elements.nbytes, BATCH_NBYTES))
        begin, pieces = len(self.done) + len(self._waiting), []
        for index, inside, piece in _chunks_of(region, elements, job):
            if index is None:
                pieces.append((inside, np.array(piece)))
            else:
                self._add(*job.writer.encode(index, piece, self._workspace, self._kept))
        return _Part(
            writing=self,
            chunks=slice(begin, len(self.done) + len(self._waiting)),
            pieces=tuple(pieces),
            has_masked=bool(getattr(job.convert, "masked", None)),
        )

    def _add(self, chunk: EncodedChunk, payload: Bytes) -> None:
        """Take a payload, and write those that have waited when they are many."""
        self._waiting.append((chunk, payload))
        self._nbytes += payload.size + RECORD_NBYTES
        job = self._job
        if job is not None and job.channel is not None and self._nbytes >= job.batch_nbytes:
            self.flush()

    def flush(self) -> None:
        """Write payloads to the places that they are given."""
        waiting, self._waiting, self._nbytes = self._waiting, [], 0
        job, channel = self._job, self.channel
        if not waiting or job is None:
            return
        if channel is None:
            places = [PayloadPlace(PlaceKind.SEND)] * len(waiting)
        else:
            is_seen = _reaches(job.session, channel)
            if is_seen:
                job.session.require_going_on()
            reaches = is_seen or job.writer.is_remote
            question = packed(chunk for chunk, _ in waiting)
            places = places_in(channel.ask(job.array, question, reaches=reaches))
        if any(place.kind is PlaceKind.STALE for place in places):
            msg = "nobody waits for this block any more: the job that it belongs to has ended"
            raise BlockError(msg)
        own = [
            (chunk, payload, place)
            for (chunk, payload), place in zip(waiting, places, strict=True)
            if place.kind is PlaceKind.WRITE
        ]
        if own:
            _write(job, own)
        for (chunk, payload), place in zip(waiting, places, strict=True):
            self.done.append(chunk)
            is_sent = place.kind is PlaceKind.SEND
            self.payloads.append(self._kept.to_send(payload) if is_sent else None)
        self._kept.clear()


def _write(job: BlockJob, own: list[tuple[EncodedChunk, Bytes, PayloadPlace]]) -> None:
    # What this has been granted is not to be written once the job has ended.
    if not job.writer.is_remote:
        job.session.require_going_on()
    is_elsewhere = socket.gethostname() != job.session.host
    job.writer.write(own, scratch=job.session.folder, syncs=is_elsewhere)


_MOST_SESSIONS = 16
_KNOWN: "OrderedDict[str, _Proof]" = OrderedDict()
_KNOWN_LOCK = threading.Lock()


class _Proof:
    """Whether this process and that of one run see each other's files, once that is known."""

    def __init__(self) -> None:
        # One for each run: that of a killed one may not be answered for long.
        self.lock = threading.Lock()
        self.found: bool | None = None


def _reaches(session: Session, channel: Channel) -> bool:
    """Return whether this process and the other see each other's files; asked once a session."""
    with _KNOWN_LOCK:
        proof = _KNOWN.setdefault(session.name, _Proof())
        while len(_KNOWN) > _MOST_SESSIONS:
            _KNOWN.popitem(last=False)
    with proof.lock:
        if proof.found is None:
            proof.found = _is_proved(session, channel)
        return proof.found


def _is_proved(session: Session, channel: Channel) -> bool:
    if not session.goes_on:
        return False
    proof = session.folder / f"{session.name}.{uuid.uuid4().hex}.proof"
    try:
        proof.write_text(session.name)
    except OSError:
        return False
    try:
        return channel.proves(proof.name)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(proof)


def proof_is_seen(session: Session, proof: str) -> bool:
    """Return whether a file that another process says it wrote is seen here."""
    try:
        return (session.folder / os.path.basename(proof)).read_text() == session.name
    except OSError:
        return False


def edges_of(chunks: Sequence[Sequence[int]]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return sizes of blocks along each axis, each with how many follow each other.

    Examples
    --------
    >>> edges_of([(5, 5, 5, 2)])
    (((5, 3), (2, 1)),)
    """
    return tuple(
        tuple((int(size), len(list(same))) for size, same in itertools.groupby(sizes))
        for sizes in chunks
    )


def aligned_edges(
    edges: Sequence[Sequence[int]], unit: Shape, corner: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return edges of blocks moved to the next edge of a chunk; ``corner`` is where they begin.

    Examples
    --------
    >>> aligned_edges([(7, 7, 7, 4)], (5,), (0,)), aligned_edges([(4, 4, 4)], (10,), (8,))
    (((10, 5, 10),), ((12,),))
    """
    found = []
    for sizes, step, start in zip(edges, unit, corner, strict=True):
        end = sum(sizes)
        moved = {-(-(start + stop) // step) * step - start for stop in itertools.accumulate(sizes)}
        stops = sorted({min(stop, end) for stop in moved if stop > 0})
        found.append(tuple(b - a for a, b in itertools.pairwise([0, *stops])) or (0,))
    return tuple(found)
