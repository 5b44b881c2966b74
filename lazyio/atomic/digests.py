"""Digests of what is stored: short numbers by which damage is found, and where it is.

Each stored chunk has one, over its bytes as they lie in the file, so that a
check needs no decoding; and so has everything else that says what the bytes
mean. A chunk that the end of an array cuts has a second one, over the elements
that it holds: when another program appends, it encodes that chunk again, and
the old elements are still to be there. XXH3 with 128 bits runs at the speed of
memory. Digests detect accidental damage; they are not a security signature.
"""

import json
import mmap
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xxhash
from numpy.lib.recfunctions import repack_fields

from lazyio.dtypes import Shape
from lazyio.regions import n_along
from lazyio.spill import Spill

Rows = npt.NDArray[np.uint64]

PAYLOADS, ELEMENTS = "payloads", "elements"
"""What rows are digests of: chunks as they are stored, or elements without a place of their own."""

FORMAT = 2
"""Version of the tables. The first had neither shape nor rims nor place."""
_READABLE = (1, 2)

MOST_CHUNKS = 2**64 - 1
"""That can be numbered."""

NO_ROWS: Rows = np.empty((0, 3), np.uint64)

_HALF = 64
_LOW = 2**_HALF - 1

_NOT_STORED = 2**128 - 1
"""In place of a digest; one in 2^128 has it."""

_MOST_HELD = 3 * 16384
"""Numbers, three for each chunk, that are noted before they go to a file."""
_LEAST_COMPACTED = 5 * _MOST_HELD
"""Rows in the file before those that were noted anew are looked for."""
_ROW = np.dtype((np.uint64, (3,)))
_SLAB = 8192
"""Rows that are looked at at once, where there may be very many."""


DAMAGED = "its digests are damaged themselves"


class LaterFormat(ValueError):
    """Digests that this version does not know how to read."""


class Hash:
    """The digest of bytes that come in pieces.

    Examples
    --------
    >>> hash = Hash(seed=3)
    >>> hash.update(b"ab")
    >>> hash.update(b"c")
    >>> hash.value == digest_of(b"abc", seed=3)
    True
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._state = xxhash.xxh3_128(seed=seed)

    def update(self, piece: Any) -> None:
        """Take the next bytes."""
        self._state.update(piece)

    @property
    def value(self) -> int:
        """Return the digest of all bytes so far."""
        return int(self._state.intdigest())


def digest_of(data: Any, *, seed: int = 0) -> int:
    """Return the digest of contiguous bytes; ``seed`` is what else makes them what they are."""
    return int(xxhash.xxh3_128_intdigest(data, seed=seed))


def digest_of_value(value: Any) -> str:
    """Return the digest of anything that JSON can hold, as text.

    Examples
    --------
    >>> digest_of_value({"a": 1, "b": 2}) == digest_of_value({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"{digest_of(text.encode()):032x}"


ATTRIBUTE = "attribute "
"""Begin of the names of facts that are attributes."""

UNREADABLE = digest_of_value("unreadable")
"""Of an attribute that cannot be read."""


class _Latest:
    """The last number that was noted of each chunk; in a file, but for the newest."""

    def __init__(self) -> None:
        self._new = array("Q")
        self._most_held = _MOST_HELD
        self._runs: list[Run] = []
        """What was held before, each in the order of its chunks."""
        self._spill: Spill | None = None
        self._most_spilled = _LEAST_COMPACTED

    def add(self, chunk: int, value: int) -> None:
        """Note the number of a chunk."""
        self._new.extend((chunk, value >> _HALF, value & _LOW))
        if len(self._new) > self._most_held:
            self._put_away()

    def rows(self, old: Rows | None) -> Rows:
        """Return what is known of all chunks that are stored; what was noted counts.

        Where they are many it is mapped from a file.
        """
        new = self._held()
        if not self._runs:
            return only_stored(new if old is None or not len(old) else merged(old, new))
        runs = [of_array(NO_ROWS if old is None else old), *self._runs, of_array(new)]
        try:
            return _spilled(map(only_stored, merged_runs(runs))).mapped()
        except OSError:
            return np.concatenate([NO_ROWS, *map(only_stored, merged_runs(runs))])

    def _held(self) -> Rows:
        return merged(NO_ROWS, np.asarray(self._new).reshape(-1, 3))

    def _put_away(self) -> None:
        rows = self._held()
        try:
            self._spill = self._spill or Spill(_ROW)
            begin = len(self._spill)
            self._spill.append(rows)
        except OSError:
            # No room for it: memory then has to do.
            self._most_held *= 2
            return
        self._runs.append(of_spill(self._spill, begin, len(self._spill)))
        self._new = array("Q")
        if len(self._spill) > self._most_spilled:
            self._compact()

    def _compact(self) -> None:
        """Leave out what was noted anew since: a long session notes the same chunks for ever."""
        try:
            out = _spilled(merged_runs(self._runs))
        except OSError:
            return
        self._spill, self._runs = out, [of_spill(out, 0, len(out))]
        self._most_spilled = 2 * len(out) + _LEAST_COMPACTED


def _spilled(parts: Iterable[Rows]) -> Spill:
    """Return a file that holds rows."""
    out = Spill(_ROW)
    for rows in parts:
        out.append(rows)
    return out


class NotedDigests:
    """Digests of chunks, noted by any thread as they are written.

    Some thousand of them are held; the others lie in a temporary file, of which a
    chunk takes 24 bytes each time that it is noted.

    Examples
    --------
    >>> noted = NotedDigests()
    >>> for digest in (5, 6, None, 7):
    ...     noted.note(3, digest)
    >>> noted.rows().tolist()
    [[3, 0, 7]]
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks = _Latest()
        self._rims = _Latest()

    def note(self, chunk: int, digest: int | None, rim: int | None = None) -> None:
        """Note the digest of a chunk, by its position in the grid."""
        with self._lock:
            self._chunks.add(chunk, _NOT_STORED if digest is None else digest)
            if rim is not None:
                self._rims.add(chunk, rim)

    def note_rim(self, chunk: int, rim: int) -> None:
        """Note the digest of the elements of a chunk of which that of the payload is known."""
        with self._lock:
            self._rims.add(chunk, rim)

    def rows(self, old: Rows | None = None) -> Rows:
        """Return the rows of a :class:`Table`: what was noted, and else what is known already."""
        with self._lock:
            return self._chunks.rows(old)

    def rims(self, old: Rows | None = None) -> Rows:
        """Return the same of the elements of chunks that were cut when they were written."""
        with self._lock:
            return self._rims.rows(old)


def renumbered(rows: Rows, old: Shape, new: Shape) -> Rows:
    """Return rows of a grid that has grown, with the positions that its chunks have now.

    Examples
    --------
    >>> renumbered(np.array([[3, 0, 7]], np.uint64), (2, 2), (2, 5)).tolist()
    [[6, 0, 7]]
    """
    if old == new or not len(rows):
        return rows
    left = rows[:, 0].copy()
    positions = np.zeros(len(rows), np.uint64)
    weight = 1
    for count, grown in zip(reversed(old), reversed(new), strict=True):
        positions += left % np.uint64(count) * np.uint64(weight)
        left //= np.uint64(count)
        weight *= grown
    return np.column_stack([positions, rows[:, 1:]])


def merged(old: Rows, new: Rows) -> Rows:
    """Return rows in the order of their chunks, later ones instead of earlier ones.

    Examples
    --------
    >>> old = np.array([[1, 0, 7], [4, 0, 8]], np.uint64)
    >>> merged(old, np.array([[1, 0, 9], [0, 0, 5]], np.uint64))[:, [0, 2]].tolist()
    [[0, 5], [1, 9], [4, 8]]
    """
    # There may be millions: no more copies than it takes.
    rows = np.concatenate([old, new]) if len(old) else new
    order = np.argsort(rows[:, 0], kind="stable")
    chunks = rows[order, 0]
    is_last = np.append(chunks[1:] != chunks[:-1], True)[: len(chunks)]
    found: Rows = rows[order[is_last]]
    return found


Run = Callable[[int, int], Rows]
"""Rows in the order of their chunks: returns those from one to before another, by number."""


def of_array(rows: Rows) -> Run:
    """Return a run of rows in memory, or mapped there."""
    return lambda begin, end: rows[begin:end]


def of_spill(spill: Spill, begin: int, end: int) -> Run:
    """Return a run of rows that lie together in a file."""
    return lambda first, last: spill.read(begin + first, min(end, begin + last))


def merged_runs(runs: Sequence[Run]) -> Iterator[Rows]:
    """Yield rows in the order of their chunks, those of later runs instead of earlier ones.

    Examples
    --------
    >>> old = np.array([[1, 0, 7], [4, 0, 8]], np.uint64)
    >>> new = np.array([[0, 0, 5], [1, 0, 9]], np.uint64)
    >>> [rows[:, [0, 2]].tolist() for rows in merged_runs([of_array(old), of_array(new)])]
    [[[0, 5], [1, 9], [4, 8]]]
    """
    step = max(64, _SLAB // max(1, len(runs)))
    at = [0] * len(runs)
    held = [run(0, step) for run in runs]
    while True:
        # A page that is not full is the last of its run, and bounds nothing.
        ends = [rows[-1, 0] for rows in held if len(rows) == step]
        bound = min(ends, default=None)
        taken = []
        for number, rows in enumerate(held):
            count = len(rows) if bound is None else int(np.searchsorted(rows[:, 0], bound, "right"))
            taken.append(rows[:count])
            at[number] += count
            if bound is not None and len(rows) == step and count:
                held[number] = runs[number](at[number], at[number] + step)
            else:
                held[number] = rows[count:]
        found = merged(NO_ROWS, np.concatenate([NO_ROWS, *taken]))
        if len(found):
            yield found
        if bound is None:
            return


def only_stored(rows: Rows) -> Rows:
    """Return the rows of chunks that are stored."""
    is_stored = (rows[:, 1:] != np.uint64(_LOW)).any(axis=1)
    return rows if is_stored.all() else rows[is_stored]


def slabs_of(rows: Rows) -> Iterator[Rows]:
    """Yield rows some thousand at a time; of a mapped file they do not stay in memory."""
    for begin in range(0, len(rows), _SLAB):
        yield rows[begin : begin + _SLAB]
        mapping = getattr(rows, "_mmap", None)
        if hasattr(mmap, "MADV_DONTNEED") and isinstance(mapping, mmap.mmap):
            mapping.madvise(mmap.MADV_DONTNEED)


def only_cut(rims: Rows, rows: Rows, shape: Shape, step: Shape) -> Rows:
    """Return the rows of chunks that are stored, and that the end of the array cuts.

    Examples
    --------
    >>> rims = np.array([[1, 0, 7], [3, 0, 8]], np.uint64)
    >>> only_cut(rims, rims, (4, 3), (2, 2)).tolist()
    [[1, 0, 7], [3, 0, 8]]
    >>> only_cut(rims, rims, (3, 4), (2, 2)).tolist()
    [[3, 0, 8]]
    """
    if not len(rims):
        return rims
    is_cut = np.zeros(len(rims), bool)
    left = rims[:, 0].copy()
    for extent, size in zip(reversed(shape), reversed(step), strict=True):
        count = n_along(extent, size)
        if extent % size:
            is_cut |= left % np.uint64(count) == np.uint64(count - 1)
        left //= np.uint64(max(1, count))
    return rims[is_cut & np.isin(rims[:, 0], rows[:, 0])]


def digest_of_elements(elements: npt.NDArray[Any]) -> int:
    """Return the digest of elements, in C order, whatever else lies between them."""
    if not elements.dtype.hasobject:
        packed = elements
        if elements.dtype.fields is not None:
            # What lies between fields, of records in records too, is left to chance.
            packed = repack_fields(elements, recurse=True)
        return digest_of(np.ascontiguousarray(packed).reshape(-1).view(np.uint8))
    hash_ = Hash()
    for element in elements.ravel().tolist():
        raw = element if isinstance(element, bytes) else str(element).encode()
        hash_.update(len(raw).to_bytes(8, "little") + raw)
    return hash_.value


@dataclass(frozen=True, kw_only=True)
class Table:
    """All that is known of one array."""

    facts: Mapping[str, str]
    """Digests of what the array's bytes mean, by what each is a fact of."""
    rows: Rows
    """Position in the grid, upper and lower half of the digest, of each stored chunk."""
    of: str
    """:data:`PAYLOADS` or :data:`ELEMENTS`."""
    job: Mapping[str, str] = field(default_factory=dict)
    """By what the job that wrote them is known again."""
    shape: Shape | None = None
    """Extents that the array had; ``None`` where that was not noted."""
    rims: Rows = field(default_factory=lambda: NO_ROWS)
    """As ``rows``, over the elements of chunks that the end of the array cuts."""
    place: Mapping[str, Any] = field(default_factory=dict)
    """Where the array lies in its store, and what lies there beside it."""

    def find(self, chunk: int) -> int | None:
        """Return the digest of a chunk, ``None`` where it was not stored."""
        return _found(self.rows, chunk)

    def find_rim(self, chunk: int) -> int | None:
        """Return the digest of the elements of a cut chunk, ``None`` where there is none."""
        return _found(self.rims, chunk)

    @property
    def n_rows(self) -> int:
        """How many rows are to be stored beside the head."""
        return len(self.rows) + len(self.rims)

    @property
    def all_rows(self) -> Iterator[Rows]:
        """Those rows, some thousand at a time."""
        yield from slabs_of(self.rows)
        yield from slabs_of(self.rims)

    def head(self) -> str:
        """Return everything but the rows as text, with a digest over both."""
        held = {
            "format": FORMAT,
            "of": self.of,
            "facts": dict(self.facts),
            "job": dict(self.job),
            "shape": None if self.shape is None else list(self.shape),
            "place": dict(self.place),
            "n_rims": len(self.rims),
        }
        return json.dumps(held | {"digest": self._digest(held)}, sort_keys=True)

    def _digest(self, held: Mapping[str, Any]) -> str:
        hash_ = Hash()
        hash_.update(json.dumps(held, sort_keys=True).encode())
        for rows in (self.rows, self.rims):
            for slab in slabs_of(rows):
                hash_.update(np.ascontiguousarray(slab, "<u8"))
        return f"{hash_.value:032x}"

    @classmethod
    def read(cls, head: bytes, rows: Rows) -> Self:
        """Return the table that was written as a head and rows."""
        try:
            held = dict(json.loads(head))
            digest, number = held.pop("digest"), held["format"]
            shape, n_rows = held.get("shape"), len(rows) - int(held.get("n_rims", 0))
            table = cls(
                facts=dict(held["facts"]),
                rows=rows[:n_rows].astype(np.uint64, copy=False),
                of=str(held["of"]),
                job=dict(held["job"]),
                shape=None if shape is None else tuple(map(int, shape)),
                rims=rows[n_rows:].astype(np.uint64, copy=False),
                place=dict(held.get("place", {})),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(DAMAGED) from error
        if number not in _READABLE:
            msg = f"its digests have format {number}, and this lazyio reads {FORMAT}"
            raise LaterFormat(msg)
        if table._digest(held) != digest:
            raise ValueError(DAMAGED)
        return table


@dataclass(frozen=True, kw_only=True)
class KnownDigests:
    """The digests of an array before a part of it is written.

    What did not match them before must not match them afterwards either, or
    damage would be hidden by writing beside it.
    """

    table: Table | None
    """As stored; ``None`` where there is none, or a damaged one."""
    facts: Mapping[str, str]
    """As they were found."""
    grid: Shape
    """Pieces along each axis."""

    def renewed(
        self,
        table: Table,
        noted: NotedDigests,
        part: Mapping[str, str],
        now: Callable[[Rows, Rows], Table],
        *,
        numbered: Shape,
        own: Shape,
    ) -> Table:
        """Return a table after a part was written; what did not hold before does not hold now.

        ``now`` makes that of the array as it is. The part was numbered by the grid ``numbered``,
        and the array is by ``own``.
        """
        rows = noted.rows(renumbered(table.rows, self.grid, numbered))
        rims = noted.rims(renumbered(table.rims, self.grid, numbered))
        found = now(renumbered(rows, numbered, own), renumbered(rims, numbered, own))
        held = {name: old for name, old in table.facts.items() if self.facts.get(name) != old}
        lost = {name for name in self.facts if name not in table.facts}
        facts = {name: digest for name, digest in found.facts.items() if name not in lost} | held
        # The job that wrote all of it did not write what is there now.
        job = {f"part {name}": value for name, value in part.items()}
        return replace(found, facts=facts, job=job, place=table.place)


def _found(rows: Rows, chunk: int) -> int | None:
    at = int(np.searchsorted(rows[:, 0], np.uint64(chunk)))
    if at == len(rows) or rows[at, 0] != chunk:
        return None
    _, high, low = rows[at].tolist()
    return int(high) << _HALF | int(low)
