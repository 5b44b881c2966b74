"""Places for payloads that other processes write: each chunk is granted one, and keeps it.

This is the rule by which a task may run twice, late, or after the end, and harm
nothing. A chunk that is asked for again with the same elements gets the same
place and may be written again; with other elements the job fails; once it has
landed, or the job has ended, nobody may write any more.

Nothing here knows how questions travel: they are bytes, and so are answers.
"""

import struct
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lazyio.atomic.journal import TwoResultsError
from lazyio.codecs.workspace import Bytes
from lazyio.errors import BlockError
from lazyio.execution.assembler import IndexRanges
from lazyio.regions import box, format_region, index_at
from lazyio.storage.base import EncodedChunk, PayloadPlace, PlaceKind, TakesEncoded

_CHUNK = struct.Struct("<QQI16s16sB16s")
_PLACE = struct.Struct("<BQ")
_DONE, _FAILED = b"+", b"-"


def packed(chunks: Iterable[EncodedChunk]) -> bytes:
    """Return what is known of chunks as bytes, 77 of each."""
    return b"".join(
        _CHUNK.pack(
            one.chunk,
            one.nbytes,
            one.mask,
            one.digest.to_bytes(16, "little"),
            one.elements.to_bytes(16, "little"),
            one.rim is not None,
            (one.rim or 0).to_bytes(16, "little"),
        )
        for one in chunks
    )


def unpacked(data: bytes) -> list[EncodedChunk]:
    """Return chunks from their bytes.

    Examples
    --------
    >>> chunk = EncodedChunk(chunk=3, nbytes=10, digest=5, elements=6)
    >>> unpacked(packed([chunk])) == [chunk]
    True
    """
    return [
        EncodedChunk(
            chunk=chunk,
            nbytes=nbytes,
            mask=mask,
            digest=int.from_bytes(digest, "little"),
            elements=int.from_bytes(elements, "little"),
            rim=int.from_bytes(rim, "little") if has_rim else None,
        )
        for chunk, nbytes, mask, digest, elements, has_rim, rim in _CHUNK.iter_unpack(data)
    ]


def places_in(answer: bytes) -> list[PayloadPlace]:
    """Return the places of an answer, or raise what it tells."""
    if answer[:1] == _FAILED:
        raise BlockError(answer[1:].decode())
    return [PayloadPlace(PlaceKind(kind), at) for kind, at in _PLACE.iter_unpack(answer[1:])]


class Grants:
    """The places that one run has given to payloads of other processes; for any thread."""

    def __init__(self, targets: Sequence[TakesEncoded | None], folder: Path | None = None) -> None:
        self._targets = targets
        self._folder = folder
        self._given: dict[tuple[int, int], tuple[EncodedChunk, PayloadPlace]] = {}
        self._landed = [IndexRanges() for _ in targets]
        self._lock = threading.RLock()
        self._is_closed = False
        self.n_asked = 0
        """Chunks that a place was asked for."""
        self.error: Exception | None = None
        """What went wrong here first; no answer is given any more."""

    def answer(self, array: int, question: bytes, *, reaches: bool) -> bytes:
        """Return the answer to a process that has chunks of an array.

        ``reaches`` says whether that process reaches the target's files.
        """
        try:
            places = self.ask(array, unpacked(question), reaches=reaches)
        except Exception as error:  # noqa: BLE001 - told to the one that asks, and kept
            self.error = self.error or error
            return _FAILED + f"{error}".encode()
        return _DONE + b"".join(_PLACE.pack(place.kind, place.offset) for place in places)

    def ask(
        self, array: int, chunks: Sequence[EncodedChunk], *, reaches: bool
    ) -> list[PayloadPlace]:
        """Return where the payloads of some chunks go."""
        with self._lock:
            return [self._place(array, chunk, reaches=reaches) for chunk in chunks]

    def _place(self, array: int, chunk: EncodedChunk, *, reaches: bool) -> PayloadPlace:
        self.n_asked += 1
        if self._is_closed or self.error is not None:
            return PayloadPlace(PlaceKind.STALE)
        if chunk.chunk in self._landed[array]:
            return PayloadPlace(PlaceKind.KEPT)
        place = self._granted(array, chunk)
        if not reaches and place.kind is PlaceKind.WRITE:
            return PayloadPlace(PlaceKind.SEND, place.offset)
        return place

    def _granted(self, array: int, chunk: EncodedChunk) -> PayloadPlace:
        """Return the place of a chunk, the same every time."""
        given = self._given.get((array, chunk.chunk))
        if given is None:
            place = self._target(array).place(chunk)
            self._given[array, chunk.chunk] = chunk, place
            return place
        first, place = given
        if first.elements != chunk.elements:
            target: Any = self._target(array)
            index = index_at(chunk.chunk, target.grid)
            raise TwoResultsError.at(box(target.shape, target.chunk_shape, index))
        if first != chunk:
            target = self._target(array)
            region = box(target.shape, target.chunk_shape, index_at(chunk.chunk, target.grid))
            msg = (
                f"chunk {format_region(region)} was encoded twice, to {first.nbytes} and to "
                f"{chunk.nbytes} bytes of the same elements: the processes that did so have other "
                "compression libraries, or other processors; let only one kind of them take part"
            )
            raise BlockError(msg)
        return place

    def land(
        self, array: int, chunks: Sequence[EncodedChunk | int], payloads: Sequence[Any]
    ) -> None:
        """Take note of the chunks of a block that is done; payloads are those that were sent.

        A number is that of a chunk for which a place was given: whoever asked has the same payload.
        """
        for told, payload in zip(chunks, payloads, strict=True):
            with self._lock:
                if isinstance(told, EncodedChunk):
                    chunk, place = told, self._granted(array, told)
                else:
                    chunk, place = self._given[array, told]
                target = self._target(array)
            data: Bytes | None = payload
            target.land(chunk, place, data)
            with self._lock:
                self._landed[array].add(chunk.chunk)
                self._given.pop((array, chunk.chunk), None)

    def finish(self) -> None:
        """Give no places any more, now that all has landed.

        A task that ran once more, and was refused, may have nobody who waits for it: that two
        results came is raised here.
        """
        with self._lock:
            self._is_closed = True
            if self.error is not None:
                raise self.error

    def close(self) -> None:
        """Give no places any more."""
        with self._lock:
            self._is_closed = True

    def _target(self, array: int) -> TakesEncoded:
        target = self._targets[array]
        if target is None:
            msg = f"array {array} is not written by other processes"
            raise BlockError(msg)
        return target
