"""Whether the files of a source are as they were, asked at every read."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lazyio.sources.base import Source, Watched, leaves_of

_FEW = 8
"""Files of which a look takes a microsecond each."""
_PAUSE, _LONG_PAUSE = 0.00002, 1.0
"""Seconds between two looks at few, and at many files: a look takes as long as a read from memory.

Those that are read are looked at in any case.
"""

_Seen = tuple[int, int, int]


@dataclass(kw_only=True)
class Watch:
    """Files, each as it was when it was looked at last.

    Where a file differs, the source says whether that matters.
    """

    sources: Sequence[Watched]
    """What reads them."""
    paths: list[str]
    """Where they lie."""
    seen: list[_Seen | None]
    """What tells their states apart."""
    due: float = 0.0
    """When they are to be looked at again."""

    @classmethod
    def of(cls, source: Source) -> Self:
        """Return the watch over all files of a source.

        One that has changed since the source was described is found when it is read.
        """
        sources = [leaf for leaf in leaves_of(source) if isinstance(leaf, Watched)]
        paths = [path for leaf in sources for path in leaf.paths]
        return cls(sources=sources, paths=paths, seen=list(map(_state_of, paths)))

    def check_if_due(self) -> None:
        """Do so unless they were looked at a moment ago."""
        if time.monotonic() > self.due:
            self.check()

    def check(self) -> None:
        """Raise ``SourceChangedError`` where a file is not as it was."""
        if len(self.paths) == 1 and _state_of(self.paths[0]) == self.seen[0]:
            self.due = time.monotonic() + _PAUSE
            return
        self.due = time.monotonic() + (_LONG_PAUSE if len(self.paths) > _FEW else _PAUSE)
        for at, path in enumerate(self.paths):
            state = _state_of(path)
            if state != self.seen[at]:
                for source in self.sources:
                    source.require_unchanged()
                self.seen[at] = state


def _state_of(path: str) -> _Seen | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
