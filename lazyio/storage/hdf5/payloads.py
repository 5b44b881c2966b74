"""Where payloads of a job go that can be resumed: to their places, or to wait for them.

With deferred metadata each goes straight to its place in the file that is
being built. Without it, and for what only libhdf5 can encode, they wait in a
file of their own and are put in at the end.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from lazyio.atomic.descriptors import write_at
from lazyio.atomic.journal import Record, ResumeState
from lazyio.codecs.workspace import Bytes
from lazyio.dtypes import Shape, is_text
from lazyio.storage.hdf5.deferred_metadata import DeferredMetadata


class InPlacePayloads:
    """Payloads that go where libhdf5 wants them."""

    engine = "deferred-metadata"
    """What to call it in a report."""

    def __init__(self, engine: DeferredMetadata, dataset: h5py.Dataset) -> None:
        self._engine = engine
        self._dataset = dataset

    def put(
        self, keeping: ResumeState, corner: Sequence[int], record: Record, payload: Any
    ) -> None:
        """Note a payload in the journal, and write it to its place."""
        self._engine.write(payload, self.place(keeping, corner, record))

    def place(self, keeping: ResumeState, corner: Sequence[int], record: Record) -> int:
        """Note a payload in the journal, and return its place."""
        there = keeping.reserved.get(record.chunk)
        if there is not None and (there.nbytes, there.mask) == (record.nbytes, record.mask):
            address = there.offset
            if there.digest != record.digest:
                keeping.note(record, address)
            return address
        return self._engine.reserve(
            self._dataset,
            corner,
            record.nbytes,
            record.mask,
            lambda found: keeping.note(record, found),
        )

    def read(self, record: Record) -> bytes:
        """Return a payload that is there."""
        return self._engine.read(record.offset, record.nbytes)

    def waiting(self, _keeping: ResumeState) -> Iterator[tuple[Record, bytes]]:
        """Yield nothing: all is in its place."""
        return iter(())


class SpooledPayloads:
    """A file in which payloads wait."""

    engine = "spool"

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = os.fstat(self.descriptor).st_size
        self._lock = threading.Lock()
        self.places: dict[tuple[int, int], Record] = {}
        """Where payloads of this run lie, by array and chunk."""

    def put(
        self, keeping: ResumeState, _corner: Sequence[int], record: Record, payload: Any
    ) -> None:
        """Note a payload in the journal, and write it behind the others."""
        with self._lock:
            at, self._end = self._end, self._end + record.nbytes
            placed = keeping.note(record, at)
            self.places[record.array, record.chunk] = placed
        write_at(self.descriptor, memoryview(payload).cast("B"), at)

    def read(self, record: Record) -> bytes:
        """Return a payload that is there."""
        return os.pread(self.descriptor, record.nbytes, record.offset)

    def waiting(self, keeping: ResumeState) -> Iterator[tuple[Record, bytes]]:
        """Yield the payloads of one array, to be put into their places now."""
        own = {
            chunk: place for (array, chunk), place in self.places.items() if array == keeping.array
        }
        for record in ({**keeping.kept, **own}).values():
            yield record, self.read(record)

    def close(self) -> None:
        """Close the file, which stays; all of it is read back, and known by digests."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


Payloads = InPlacePayloads | SpooledPayloads
"""Takes payloads of a job that can be resumed, from any thread."""


def as_bytes(elements: npt.NDArray[Any]) -> Bytes:
    """Return elements in C order as bytes; text with the length of each before it.

    Examples
    --------
    >>> as_elements(as_bytes(np.ones((2, 3), "i2").T), (3, 2), np.dtype("i2")).sum()
    np.int64(6)
    """
    if not is_text(elements.dtype):
        return np.ascontiguousarray(elements).reshape(-1).view(np.uint8)
    parts = []
    for element in elements.ravel().tolist():
        raw = str(element).encode("utf-8", "surrogatepass")
        parts += [len(raw).to_bytes(8, "little"), raw]
    return np.frombuffer(b"".join(parts), np.uint8)


def as_elements(raw: Any, shape: Shape, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the elements that were made bytes by :func:`as_bytes`."""
    if not is_text(dtype):
        return np.frombuffer(raw, dtype).reshape(shape)
    texts, at = [], 0
    data = bytes(raw)
    while at < len(data):
        nbytes = int.from_bytes(data[at : at + 8], "little")
        texts.append(data[at + 8 : at + 8 + nbytes].decode("utf-8", "surrogatepass"))
        at += 8 + nbytes
    return np.array(texts, dtype).reshape(shape)
