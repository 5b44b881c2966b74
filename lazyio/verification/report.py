"""What a check finds, array by array, and the report that it comes to."""

import errno
import os
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lazyio.atomic.digests import ATTRIBUTE, UNREADABLE
from lazyio.codecs.workspace import Workspace
from lazyio.errors import LazyioError, SourceError, UnsafeFileError
from lazyio.execution.threads import pull
from lazyio.options import default_workers
from lazyio.os_errors import errno_of
from lazyio.regions import Region, format_region
from lazyio.sources.hdf5_links import GOOD, FileLink
from lazyio.units import format_size
from lazyio.untrusted.helper import MEMORY_NBYTES

OK, DAMAGED, MODIFIED = "ok", "damaged", "modified"
INCOMPLETE, UNVERIFIABLE = "incomplete", "unverifiable"

Damage = tuple[str | None, Region | None, str]
"""Key of the array, the part of it, and what is wrong; ``None`` is all of it."""

TOO_LARGE = "its chunks take more memory to read than a check has"
SINCE = "is damaged, or was modified since"
GONE = "it is lost, or was removed since"

_NOT_READ = "it cannot be read"
_MOST_NAMED = 20
_OF_THE_MACHINE = {
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
    *(errno.ENOLCK, errno.EINTR, errno.ENOSPC, errno.EDQUOT),
}
"""Reasons not to read something that are none of the file."""
_NO_LOCK = "unable to lock file"
"""In the words of libhdf5, whatever the reason."""


def is_of_the_machine(error: BaseException) -> bool:
    """Return whether an error is one of permissions or of what a process may use."""
    if isinstance(error, (UnsafeFileError, MemoryError)):
        return True  # It leads to where nothing is read; or is larger than the child may read.
    causes = (error, error.__cause__ or error)
    return any(errno_of(one) in _OF_THE_MACHINE or _NO_LOCK in str(one) for one in causes)


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What :func:`lazyio.verify` found."""

    path: str
    """File or store."""
    status: str
    """``"ok"``, ``"damaged"``, ``"modified"``, ``"incomplete"`` or ``"unverifiable"``."""
    damaged: tuple[Damage, ...] = ()
    """For each damage the key, the region in elements and what is wrong; key or region may be
    ``None``. What could not be read, for reasons that are none of the file, is listed as well; a
    report that holds nothing else is ``"unverifiable"``."""
    modified: tuple[Damage, ...] = ()
    """The same of what another program has added or described anew."""
    unverifiable: tuple[tuple[str, str], ...] = ()
    """Key of each array with nothing to check it against, and why."""
    links: tuple[FileLink, ...] = ()
    """Links of an HDF5 file, sources of its virtual datasets and its raw files, each with its
    state; those that are broken are in ``damaged`` as well."""
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
        for listed in (self.damaged, self.modified):
            for key, region, what in listed[:_MOST_NAMED]:
                where = "".join((f"{key or ''}", f"[{format_region(region)}]" if region else ""))
                lines.append(f"  {where or 'file'}: {what}")
            if len(listed) > _MOST_NAMED:
                lines.append(f"  and {len(listed) - _MOST_NAMED} more")
        lines += [f"  {key}: {why}" for key, why in self.unverifiable[:_MOST_NAMED]]
        # Those that are not good have been told.
        good = [link for link in self.links if link.state == GOOD]
        lines += [f"  {link}" for link in good[:_MOST_NAMED]]
        if len(good) > _MOST_NAMED:
            lines.append(f"  and {len(good) - _MOST_NAMED} more that are good")
        lines += [f"  {self.note}"] if self.note else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON can hold it; a region as start and stop for each axis."""
        return {
            "path": self.path,
            "status": self.status,
            "note": self.note,
            "n_arrays": self.n_arrays,
            "n_chunks": self.n_chunks,
            "nbytes": self.nbytes,
            "seconds": self.seconds,
            "damaged": [_as_dict(one) for one in self.damaged],
            "modified": [_as_dict(one) for one in self.modified],
            "unverifiable": [{"key": key, "why": why} for key, why in self.unverifiable],
            "links": [link.to_dict() for link in self.links],
        }

    @classmethod
    def from_dict(cls, held: Mapping[str, Any], path: str) -> "VerifyReport":
        """Return the report of a path from what :meth:`to_dict` gave, by way of JSON."""
        lists = {
            "damaged": tuple(map(_from_dict, held["damaged"])),
            "modified": tuple(map(_from_dict, held["modified"])),
            "unverifiable": tuple((one["key"], one["why"]) for one in held["unverifiable"]),
            "links": tuple(map(FileLink.from_dict, held["links"])),
        }
        return cls(**{**held, **lists, "path": path})


def _as_dict(one: Damage) -> dict[str, Any]:
    key, region, what = one
    extents = None if region is None else [[part.start, part.stop] for part in region]
    return {"key": key, "region": extents, "what": what}


def _from_dict(held: Mapping[str, Any]) -> Damage:
    region = held["region"]
    slices = None if region is None else tuple(slice(*extents) for extents in region)
    return held["key"], slices, held["what"]


@dataclass(kw_only=True)
class Findings:
    """What has been found so far."""

    damaged: list[Damage] = field(default_factory=list)
    modified: list[Damage] = field(default_factory=list)
    n_not_read: int = 0
    unverifiable: list[tuple[str, str]] = field(default_factory=list)
    links: list[FileLink] = field(default_factory=list)
    n_arrays: int = 0
    n_chunks: int = 0
    nbytes: int = 0

    def damage(self, key: str | None, what: str, region: Region | None = None) -> None:
        """Note that something is wrong."""
        self.damaged.append((key, region, what))

    def cannot_tell(self, key: str, why: str) -> None:
        """Note that there is nothing to check an array against."""
        self.unverifiable.append((key, why))

    def change(self, key: str | None, what: str, region: Region | None = None) -> None:
        """Note what another program has added or described anew, and no more."""
        self.modified.append((key, region, what))

    def not_read(self, key: str | None, what: str, region: Region | None = None) -> None:
        """Note what may not be read here, which says nothing of the file."""
        self.damaged.append((key, region, what))
        self.n_not_read += 1

    def failed(self, key: str | None, error: Exception, what: str = _NOT_READ) -> None:
        """Note what an error says of an array, or of all: damage, or nothing."""
        one = not_read(error, None, what)
        note = self.damage if one.wrong else self.not_read
        note(key, one.wrong or one.hindered or "")

    def compare(
        self, key: str, stored: Mapping[str, str], found: Mapping[str, str], anew: Container[str]
    ) -> set[str]:
        """Note what describes an array otherwise than it did, and return the names of that."""
        differing = {
            name for name in stored.keys() | found.keys() if stored.get(name) != found.get(name)
        }
        for name in sorted(differing):
            is_described = name in anew or name.startswith(ATTRIBUTE)
            if found.get(name) == UNREADABLE:
                self.damage(key, f"its {name} cannot be read")
            elif name not in found:
                note = self.change if is_described else self.damage
                note(key, f"its {name} is gone")
            elif name not in stored:
                note = self.change if is_described else self.damage
                note(key, f"its {name} was not there when it was written")
            elif is_described:
                self.change(key, f"its {name} was modified since, or is damaged")
            else:
                self.damage(key, f"its {name} {SINCE}")
        return differing

    @property
    def status(self) -> str:
        """Overall status: the worst of what was found."""
        if len(self.damaged) > self.n_not_read:
            return DAMAGED
        if self.n_not_read:
            return UNVERIFIABLE
        if self.modified:
            return MODIFIED
        return UNVERIFIABLE if self.unverifiable or not self.n_arrays else OK


@dataclass(frozen=True, kw_only=True)
class Read:
    """What became of reading one piece."""

    region: Region | None
    nbytes: int = 0
    wrong: str | None = None
    anew: str | None = None
    """What was changed by another program, and is not wrong."""
    hindered: str | None = None
    """Why it could not be read, where that says nothing of it."""


def wanted_keys(key: str | None, found: Sequence[str], missing: str) -> Sequence[str]:
    """Return all keys, or the one that is asked for; refuse one that is missing."""
    if key is None:
        return found
    wanted = "/".join(filter(None, key.split("/")))
    if wanted not in found:
        msg = f"{missing} {', '.join(found) or 'none'}"
        raise SourceError(msg)
    return [wanted]


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
            if one.anew is not None:
                findings.change(key, one.anew, one.region)
            if one.hindered is not None:
                findings.not_read(key, one.hindered, one.region)

    pull(pieces, work, n_threads=n_threads or default_workers())


def not_read(error: Exception, region: Region | None, what: str = _NOT_READ) -> Read:
    """Return what an error says of a piece: damage, or nothing."""
    if isinstance(error, MemoryError):
        return Read(region=region, hindered=TOO_LARGE)
    number = errno_of(error)
    # libhdf5 tells of the file and the time as well.
    is_foreign = isinstance(error, (OSError, RuntimeError)) and not isinstance(error, LazyioError)
    reason = os.strerror(number) if number and is_foreign else str(error)
    text = f"{what}: {reason}" if what else reason
    is_hindered = is_of_the_machine(error)
    return Read(
        region=region,
        wrong=None if is_hindered else text,
        hindered=text if is_hindered else None,
    )
