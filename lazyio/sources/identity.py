"""Which state of a file is read: recorded when a source is described, checked at every read.

A file is told from its successor by inode, size and time of change. The device
is not among them: its number differs between the machines of a cluster.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from lazyio.errors import SourceChangedError, SourceError
from lazyio.regions import Region

_COARSE_CLOCK = 5
"""CLOCK_REALTIME_COARSE: the clock by which Linux stamps files, a tick behind the other."""
_OTHER_TICK_NS = 20 * 10**6
"""What stamps are behind the clock at most, where there is no clock that they are taken from."""
_MOST_WAIT_NS = 50 * 10**6
"""Longer than any tick; a stamp that is further ahead is of another machine's clock."""
_PAUSE = 0.001

_REMEDY = "since it was opened; its blocks would be of two states, open it again"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What tells one state of a file from another."""

    inode: int
    """Its number in the file system."""
    nbytes: int
    """Its size."""
    mtime_ns: int
    """When it was changed last."""
    is_fixed: bool = True
    """Whether a change of its elements matters; not where the caller has mapped it to write."""

    @classmethod
    def of(cls, facts: os.stat_result) -> "Identity":
        """Return the identity in what the system says of a file."""
        return cls(inode=facts.st_ino, nbytes=facts.st_size, mtime_ns=facts.st_mtime_ns)

    def difference(self, now: "Identity") -> str:
        """Return what has become of the file, nothing where it is as it was.

        Examples
        --------
        >>> one = Identity(inode=1, nbytes=80, mtime_ns=5)
        >>> one.difference(Identity(inode=1, nbytes=96, mtime_ns=6))
        'has grown from 80 to 96 bytes'
        >>> one.difference(one)
        ''
        """
        if now.inode != self.inode:
            return "was replaced by another file"
        if now.nbytes != self.nbytes:
            verb = "has grown" if now.nbytes > self.nbytes else "was cut short"
            return f"{verb} from {self.nbytes} to {now.nbytes} bytes"
        return "was modified" if self.is_fixed and now.mtime_ns != self.mtime_ns else ""


@dataclass(frozen=True, kw_only=True)
class SeenFile:
    """A file that is read by way of another, such as one of a virtual dataset's."""

    path: str
    """Absolute path."""
    identity: Identity | None
    """As it was when the source was described; ``None`` where nothing was there."""
    box: Region | None = None
    """The part of the array that lies in it, where only a part does."""
    is_needed: bool = False
    """Whether its elements are missing where it is."""

    @property
    def token(self) -> tuple[object, ...]:
        """What names the same state in any process."""
        return self.path, self.identity

    @property
    def is_file(self) -> bool:
        """Whether there was one."""
        return self.identity is not None

    def holds(self, region: Region) -> bool:
        """Return whether elements of a region may lie in it."""
        return self.box is None or all(
            part.start < whole.stop and whole.start < part.stop
            for part, whole in zip(region, self.box, strict=True)
        )

    def check(self) -> None:
        """Refuse a file that is not as it was."""
        now = identity_at(self.path)
        if self.identity is None:
            if now is not None:
                raise changed(self.path, "was made")
            if self.is_needed:
                msg = (
                    f"{self.path} is not there, and holds a part of the array; put it back, "
                    "libhdf5 would give fill values in its place"
                )
                raise SourceError(msg)
        elif now is None:
            raise changed(self.path, "was removed")
        else:
            require_same(self.path, self.identity, now)


def changed(path: str, what: str, number: int | None = None) -> SourceChangedError:
    """Return the error that says what has become of a file; its ``errno`` where there is one."""
    msg = f"{path} {what} {_REMEDY}"
    return SourceChangedError(msg) if number is None else SourceChangedError(number, msg)


def require_same(path: str, identity: Identity, now: Identity) -> None:
    """Refuse a file that is not as it was when it was described."""
    what = identity.difference(now)
    if what:
        raise changed(path, what)


def require_one_of(files: Iterable[SeenFile], path: str, now: Identity) -> None:
    """Refuse a file that is none of those that were seen, each as it was."""
    if now not in [file.identity for file in files]:
        raise changed(path, "is not the file that it was")


def is_unchanged(identity: Identity, place: int | str) -> bool:
    """Return whether a file, open or at a path, is as it was; not what has become of it."""
    try:
        facts = os.stat(place)
    except OSError:
        return False
    return (
        facts.st_ino == identity.inode
        and facts.st_size == identity.nbytes
        and (facts.st_mtime_ns == identity.mtime_ns or not identity.is_fixed)
    )


def identity_of(path: str, descriptor: int) -> Identity:
    """Return the identity of an open file."""
    try:
        return Identity.of(os.fstat(descriptor))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error


def identity_at(path: str) -> Identity | None:
    """Return the identity of what lies at a path, ``None`` where nothing does."""
    try:
        return Identity.of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise SourceError(error.errno, msg) from error


def settled(descriptor: int) -> Identity:
    """Return the identity of an open file, once any later change will give it another.

    Stamps are as coarse as a tick of the kernel, 4 to 10 ms: a file that was
    changed twice in one has the same stamp both times. So a file that is younger
    is waited for until the tick is over.
    """
    last_ns = None
    facts = os.fstat(descriptor)
    # One that is written all the time is never older; whoever reads it is told.
    until = time.monotonic_ns() + _MOST_WAIT_NS
    while facts.st_mtime_ns != last_ns and time.monotonic_ns() < until:
        last_ns = facts.st_mtime_ns
        wait_for_tick(last_ns)
        facts = os.fstat(descriptor)
    return Identity.of(facts)


def wait_for_tick(stamp_ns: int) -> None:
    """Wait until whatever is changed gets a later stamp than this one."""
    while 0 <= stamp_ns - _stamp_now() < _MOST_WAIT_NS:
        time.sleep(_PAUSE)


def _stamp_now() -> int:
    """Return the stamp that a file gets now, or an earlier one."""
    is_known = sys.platform == "linux"
    return time.clock_gettime_ns(_COARSE_CLOCK) if is_known else time.time_ns() - _OTHER_TICK_NS


def seen_files(files: Iterable[SeenFile]) -> tuple[SeenFile, ...]:
    """Return files with their identities, once any later change will give them others."""
    found = [(file, identity_at(file.path)) for file in files]
    stamps = [identity.mtime_ns for _, identity in found if identity is not None]
    now = time.time_ns()
    young = [stamp for stamp in stamps if stamp <= now]
    if young and max(young) > _stamp_now() - _MOST_WAIT_NS:
        # Once for all of them, however many there are.
        wait_for_tick(now)
        found = [(file, identity_at(file.path)) for file, _ in found]
    return tuple(replace(file, identity=identity) for file, identity in found)


@contextmanager
def checked_around(check: Callable[[], None], *, is_new: bool = False) -> Iterator[None]:
    """Refuse what is read meanwhile where a check finds something changed, before or after.

    What is read of a file that is being changed may not decode: then that error
    is not what the reader should be told. Of one that ``is_new`` nothing was known before, and
    what is changed behind it is found when it is read.
    """
    if not is_new:
        check()
    try:
        yield
    except Exception as error:
        if not isinstance(error, SourceChangedError):
            try:
                check()
            except SourceChangedError as found:
                raise found from error
        raise
    if not is_new:
        check()


def all_unchanged(files: Iterable[SeenFile]) -> AbstractContextManager[None]:
    """Refuse what is read by way of other files unless they are as they were."""
    several = tuple(files)

    def check() -> None:
        for file in several:
            file.check()

    return checked_around(check)
