"""The raw files that hold the elements of an HDF5 dataset with external storage.

They are read here: libhdf5 looks their names up in the working directory, and
cannot be told otherwise for a dataset that is open already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lazyio.sources.files import open_for_reading


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a raw file; the elements lie in all segments, end to end."""

    path: str
    """The raw file."""
    offset: int
    """Bytes before it."""
    nbytes: int
    """Bytes of it."""


class RawStorage:
    """Segments as one file, for ``read_exactly``."""

    def __init__(self, name: str, segments: Sequence[Segment]) -> None:
        self.name = name
        self._segments = segments
        self._at = 0

    def seek(self, offset: int) -> int:
        """Go to a byte, counted from the first of the first segment."""
        self._at = offset
        return offset

    def readinto(self, view: memoryview) -> int:
        """Fill a view as far as the segment goes that the position is in.

        What a raw file is too short for reads as zeros, as libhdf5 has it: it
        grows as elements are written.
        """
        start = self._at
        for segment in self._segments:
            if start < segment.nbytes:
                part = view[: segment.nbytes - start]
                got = 0
                with open_for_reading(segment.path) as file:
                    file.seek(segment.offset + start)
                    while count := file.readinto(part[got:]):
                        got += count
                part[got:] = bytes(len(part) - got)
                self._at += len(part)
                return len(part)
            start -= segment.nbytes
        return 0
