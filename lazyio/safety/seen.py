"""What lay in the folder of an array when a part of it was begun: to be there still at the end.

Nothing keeps other programs from writing to a Zarr array meanwhile. What they
have changed is found by the array's metadata and by the objects that the part
touches; all others are none of its business.
"""

import errno
import threading
from collections.abc import Iterable
from pathlib import Path

from lazyio.errors import TargetError
from lazyio.safety.digests import digest_of_value
from lazyio.safety.names import Identity, content_of, identity_of


class Seen:
    """States of an array's metadata and of some of its objects."""

    def __init__(self, folder: Path, metadata: Iterable[str]) -> None:
        self._folder = folder
        self._metadata = {name: content_of(folder / name) for name in metadata}
        self._objects: dict[str, Identity | None] = {}
        self._is_complete = False
        self._lock = threading.Lock()

    def look_at(self, name: str) -> None:
        """Note an object before it is read or built anew, unless it is known."""
        if self._is_complete:
            return
        with self._lock:
            if name not in self._objects:
                self._objects[name] = identity_of(self._folder / name)

    def look_at_all(self, names: Iterable[str]) -> None:
        """Note all objects of the part that are there; of others there is none."""
        for name in names:
            state = identity_of(self._folder / name)
            if state is not None:
                self._objects[name] = state
        self._is_complete = True

    def is_there(self, name: str) -> bool:
        """Return whether there was an object of a name."""
        return self._objects.get(name) is not None

    def fact(self) -> str:
        """Return a digest of what is there, by which a job is known again."""
        return digest_of_value([self._metadata, self._objects])

    def check(self, names: Iterable[str]) -> None:
        """Refuse to replace what another program has changed meanwhile."""
        for name, content in self._metadata.items():
            if content_of(self._folder / name) != content:
                self._refuse(name)
        for name in names:
            if identity_of(self._folder / name) != self._objects.get(name):
                self._refuse(name)

    def _refuse(self, name: str) -> None:
        msg = (
            f"{self._folder / name} was changed by another program while a part of the array was "
            "being written; it is as that program left it, and nothing of the part was written. "
            "Run the same call again"
        )
        raise TargetError(errno.EBUSY, msg)
