"""The journal of a resumable job: a record for each chunk, and what makes a call the same job.

A record says where a payload lies and what its digest is. It is believed only
once the payload has that digest, so that neither has to be on the disk before
the other. The order of records is that in which places were given.
"""

import contextlib
import errno
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lazyio.atomic.digests import digest_of_value
from lazyio.atomic.fsync import write_whole
from lazyio.dtypes import Shape
from lazyio.errors import BlockError, ResumeError
from lazyio.regions import Region, box, flat_index, format_region, grid_shape, index_at, touched

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
    """Raise ResumeError listing the differences."""
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


_RECORD = struct.Struct("<IIQQQ16s")
_CHECK = struct.Struct("<I")
_NBYTES = _RECORD.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class Record:
    """A chunk that has been given its place."""

    array: int
    """Which of the arrays of a job it belongs to."""
    chunk: int
    """Its position in the grid of chunks, in C order."""
    offset: int
    """Where its payload begins, in the file that it lies in."""
    nbytes: int
    """Bytes of its payload; 0 where nothing needs to be stored."""
    mask: int
    """HDF5's filter mask."""
    digest: int
    """Of the payload."""

    def pack(self) -> bytes:
        """Return the record as it is stored, its own checksum included."""
        digest = self.digest.to_bytes(16, "little")
        raw = _RECORD.pack(self.array, self.mask, self.chunk, self.offset, self.nbytes, digest)
        return raw + _CHECK.pack(zlib.crc32(raw))


class Journal:
    """An append-only file of records."""

    def __init__(self, path: Path) -> None:
        self.records, self.n_lost = records_in(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._lock = threading.Lock()
        self._nbytes = len(self.records) * _NBYTES
        self._failed: BaseException | None = None
        try:
            os.ftruncate(self._descriptor, self._nbytes)
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, record: Record) -> None:
        """Write one more record.

        Records that are there must be the first of all that were given, in
        their order. Once one could not be written, none is any more.
        """
        with self._lock:
            if self._failed is not None:
                raise self._failed
            try:
                self._write(record.pack())
            except BaseException as error:
                self._failed = error
                # What is left of it is no record, and nothing will follow it.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._nbytes)
                raise
            self._nbytes += _NBYTES

    def _write(self, raw: bytes) -> None:
        done = 0
        while done < len(raw):
            written = os.write(self._descriptor, raw[done:])
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += written

    def close(self) -> None:
        """Close the file, which stays."""
        # What could not be written is done again by whoever resumes the job.
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def records_in(path: Path) -> tuple[list[Record], int]:
    """Return the good records of a journal, and how many whole ones were lost behind them."""
    raw = path.read_bytes() if path.exists() else b""
    records: list[Record] = []
    for at in range(0, len(raw) - _NBYTES + 1, _NBYTES):
        record = _unpack(raw[at : at + _NBYTES])
        if record is None:
            break
        records.append(record)
    # The tail that was being written when the run was killed is none that was lost.
    return records, len(raw) // _NBYTES - len(records)


def last_of_each(records: Sequence[Record]) -> dict[tuple[int, int], Record]:
    """Return the last record of every chunk, by array and chunk."""
    return {(record.array, record.chunk): record for record in records}


def _unpack(raw: bytes) -> Record | None:
    body, check = raw[: _RECORD.size], raw[_RECORD.size :]
    if _CHECK.unpack(check)[0] != zlib.crc32(body):
        return None
    array, mask, chunk, offset, nbytes, digest = _RECORD.unpack(body)
    return Record(array, chunk, offset, nbytes, mask, int.from_bytes(digest, "little"))


class TwoResultsError(BlockError):
    """A stored chunk that came out otherwise when it was computed again."""

    @classmethod
    def at(cls, place: Region) -> "TwoResultsError":
        """Return the error for a chunk at some place."""
        return cls(
            f"chunk {format_region(place)} was computed twice, with two results; a job can only "
            "be resumed with data that is the same every time"
        )


@dataclass(kw_only=True)
class ResumeState:
    """One array's share of a job's journal."""

    array: int
    """Its position among those of the job."""
    journal: Journal | None
    """Where records go; ``None`` where nothing is to be written."""
    shape: Shape
    """Extents of the whole array."""
    chunk_shape: Shape
    """Extents of what has one record."""
    corner: Shape = ()
    """Where the part begins that is written; by default at the array's own corner."""
    kept: dict[int, Record] = field(default_factory=dict)
    """Chunks that were found whole, by their position in the grid."""
    reserved: dict[int, Record] = field(default_factory=dict)
    """Chunks that have a place, and were not found there."""

    def number(self, index: Sequence[int]) -> int:
        """Return a chunk's position in the grid, from that along each axis."""
        return flat_index(index, grid_shape(self.shape, self.chunk_shape))

    def chunks_in(self, region: Region) -> Iterator[int]:
        """Yield the chunks that a block touches."""
        corner = self.corner or (0,) * len(region)
        there = tuple(
            slice(part.start + at, part.stop + at) for part, at in zip(region, corner, strict=True)
        )
        return (self.number(index) for index, _, _ in touched(there, self.chunk_shape))

    def covers(self, region: Region) -> bool:
        """Return whether all chunks that a block touches are kept."""
        return all(chunk in self.kept for chunk in self.chunks_in(region))

    def has(self, chunk: int, digest: int) -> bool:
        """Return whether a chunk is kept that has been computed again."""
        record = self.kept.get(chunk)
        if record is None:
            return False
        if record.digest != digest:
            index = index_at(chunk, grid_shape(self.shape, self.chunk_shape))
            raise TwoResultsError.at(box(self.shape, self.chunk_shape, index))
        return True

    def record(self, chunk: int, *, nbytes: int, digest: int, mask: int = 0) -> Record:
        """Return the record of a chunk of this array that has no place yet."""
        return Record(self.array, chunk, 0, nbytes, mask, digest)

    def note(self, record: Record, offset: int = 0) -> Record:
        """Write down that a chunk has its place, or is there."""
        placed = replace(record, offset=offset)
        if self.journal is not None:
            self.journal.append(placed)
        return placed
