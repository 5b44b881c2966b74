"""The journal of a job: one record for each chunk, by which a killed run goes on.

A record says where a payload lies and what its digest is. It is believed only
once the payload has that digest, so that neither has to be on the disk before
the other. The order of records is that in which places were given.
"""

import contextlib
import errno
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
