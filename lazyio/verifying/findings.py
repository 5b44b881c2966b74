"""What a check finds, array by array, and the report that it comes to."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lazyio.codecs.workspace import Workspace
from lazyio.grid import Region, format_region
from lazyio.options import default_workers
from lazyio.run.pull import pull
from lazyio.sizes import format_size
from lazyio.untrusted.helper import MEMORY_NBYTES

OK, DAMAGED, INCOMPLETE, UNVERIFIABLE = "ok", "damaged", "incomplete", "unverifiable"

Damage = tuple[str | None, Region | None, str]
"""Key of the array, the part of it, and what is wrong; ``None`` is all of it."""

TOO_LARGE = "its chunks take more memory to read than a check has"
SINCE = "is damaged, or was modified since"

_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What :func:`lazyio.verify` found."""

    path: str
    """File or store."""
    status: str
    """``"ok"``, ``"damaged"``, ``"incomplete"`` or ``"unverifiable"``."""
    damaged: tuple[Damage, ...] = ()
    """For each damage the key, the region in elements and what is wrong; either may be ``None``."""
    unverifiable: tuple[tuple[str, str], ...] = ()
    """Key of each array with nothing to check it against, and why."""
    note: str = ""
    """What else is to be said."""
    n_arrays: int = 0
    """Arrays that were looked at."""
    n_chunks: int = 0
    """Chunks or objects that were read."""
    nbytes: int = 0
    """Bytes that were read of them, as they are stored."""
    seconds: float = 0.0
    """How long it took."""

    def __str__(self) -> str:
        """Return the status, and a line for each damage."""
        read = f"{self.n_chunks} chunks, {format_size(self.nbytes)} read in {self.seconds:.1f} s"
        lines = [f"{self.path}: {self.status} ({self.n_arrays} arrays, {read})"]
        for key, region, what in self.damaged[:_MOST_NAMED]:
            where = "".join((f"{key or ''}", f"[{format_region(region)}]" if region else ""))
            lines.append(f"  {where or 'file'}: {what}")
        if len(self.damaged) > _MOST_NAMED:
            lines.append(f"  and {len(self.damaged) - _MOST_NAMED} more")
        lines += [f"  {key}: {why}" for key, why in self.unverifiable[:_MOST_NAMED]]
        lines += [f"  {self.note}"] if self.note else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON can hold it; a region as start and stop for each axis."""
        damaged = [
            {
                "key": key,
                "region": region and [[part.start, part.stop] for part in region],
                "what": what,
            }
            for key, region, what in self.damaged
        ]
        unverifiable = [{"key": key, "why": why} for key, why in self.unverifiable]
        facts = {"path": self.path, "status": self.status, "note": self.note}
        counts = {"n_arrays": self.n_arrays, "n_chunks": self.n_chunks, "nbytes": self.nbytes}
        return (
            facts
            | counts
            | {"seconds": self.seconds}
            | {"damaged": damaged, "unverifiable": unverifiable}
        )

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any], path: str) -> "VerifyReport":
        """Return the report of a path from what :meth:`to_dict` gave, by way of JSON."""
        damaged = tuple(
            (
                one["key"],
                one["region"] and tuple(slice(start, stop) for start, stop in one["region"]),
                one["what"],
            )
            for one in facts["damaged"]
        )
        unverifiable = tuple((one["key"], one["why"]) for one in facts["unverifiable"])
        found = {"path": path, "damaged": damaged, "unverifiable": unverifiable}
        return cls(**{**facts, **found})


@dataclass(kw_only=True)
class Findings:
    """What has been found so far."""

    damaged: list[Damage] = field(default_factory=list)
    unverifiable: list[tuple[str, str]] = field(default_factory=list)
    n_arrays: int = 0
    n_chunks: int = 0
    nbytes: int = 0

    def damage(self, key: str | None, what: str, region: Region | None = None) -> None:
        """Note that something is wrong."""
        self.damaged.append((key, region, what))

    def cannot_tell(self, key: str, why: str) -> None:
        """Note that there is nothing to check an array against."""
        self.unverifiable.append((key, why))

    def compare(self, key: str, stored: dict[str, str], found: dict[str, str]) -> set[str]:
        """Note what describes an array otherwise than it did, and return the names of that."""
        differing = {
            name for name in stored.keys() | found.keys() if stored.get(name) != found.get(name)
        }
        for name in sorted(differing):
            if name not in found:
                self.damage(key, f"its {name} is gone")
            elif name not in stored:
                self.damage(key, f"its {name} was not there when it was written")
            else:
                self.damage(key, f"its {name} {SINCE}")
        return differing

    @property
    def status(self) -> str:
        """What it all comes to."""
        if self.damaged:
            return DAMAGED
        return UNVERIFIABLE if self.unverifiable or not self.n_arrays else OK


@dataclass(frozen=True, kw_only=True)
class Read:
    """What became of reading one piece."""

    region: Region | None
    nbytes: int = 0
    wrong: str | None = None


def threads_for(piece_nbytes: int) -> int:
    """Return how many pieces may be decoded at once: each is held in up to four forms."""
    return max(1, min(default_workers(), MEMORY_NBYTES // (4 * max(1, piece_nbytes))))


def read_all(
    findings: Findings,
    key: str,
    pieces: Iterable[Any],
    read: Callable[[Any], Read],
    *,
    n_threads: int | None = None,
) -> None:
    """Read every piece of an array, in threads, and note what is wrong."""
    lock = threading.Lock()

    def work(piece: Any, _: Workspace) -> None:
        one = read(piece)
        with lock:
            findings.n_chunks += 1
            findings.nbytes += one.nbytes
            if one.wrong is not None:
                findings.damage(key, one.wrong, one.region)

    pull(pieces, work, n_threads=n_threads or default_workers(), on_done=_ignore)


def _ignore(_: Any) -> None:
    """Do nothing: what was found has been noted."""
