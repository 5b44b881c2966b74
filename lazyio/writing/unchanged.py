"""Files that are read must stay as they are until what is made of them is published."""

from collections.abc import Iterable, Iterator
from typing import Any

from lazyio.blocks import held_in, location_of
from lazyio.errors import SourceChangedError
from lazyio.run.part import Job
from lazyio.sources.base import Watched, leaves_of
from lazyio.sources.identity import SeenFile, seen_files


class Unchanged:
    """What some arrays are read from, as it was when it was opened.

    Of what lazyio has not opened itself, such as a memmap that was given to
    dask, it is as it was when the write began.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        held = [leaf for job in jobs for leaf in _held(job)]
        self._watched = [one for one in held if isinstance(one, Watched)]
        others = [location_of(one) for one in held if not isinstance(one, Watched)]
        paths = {where[0] for where in others if where is not None}
        seen = seen_files(SeenFile(path=path, identity=None) for path in paths)
        self._seen = [file for file in seen if file.is_file]

    def check(self) -> None:
        """Refuse to go on when one of them is not as it was."""
        try:
            for source in self._watched:
                source.require_unchanged()
            for file in self._seen:
                file.check()
        except SourceChangedError as error:
            msg = f"{error}; what was made of it is not published"
            number = error.errno
            raise (
                SourceChangedError(msg) if number is None else SourceChangedError(number, msg)
            ) from error


def _held(job: Job) -> Iterator[Any]:
    """Yield what a job reads: sources, and arrays of other libraries."""
    if job.source is not None:
        yield from leaves_of(job.source)
    elif job.array is not None:
        for held in held_in(job.array):
            yield from leaves_of(held)
