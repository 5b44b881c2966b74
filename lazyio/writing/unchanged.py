"""Files that are read must stay as they are until what is made of them is published."""

from collections.abc import Iterable
from pathlib import Path

from lazyio.blocks import locations_in, locations_of
from lazyio.errors import SourceChangedError
from lazyio.run.part import Job
from lazyio.sources.files import fingerprint


class Unchanged:
    """What the files are like that some arrays are read from.

    Parameters
    ----------
    jobs : iterable of Job
        What they are read for.
    own : Path, optional
        The file that is written: where it is read too, that is not changed.
    """

    def __init__(self, jobs: Iterable[Job], own: Path | None = None) -> None:
        paths = {path for job in jobs for path, _ in _locations(job)} - {str(own)}
        self._seen = {path: fingerprint(path) for path in paths if Path(path).is_file()}

    def check(self) -> None:
        """Refuse to go on when one of them is not as it was.

        Raises
        ------
        SourceChangedError
            Naming the file.
        """
        for path, seen in self._seen.items():
            if not Path(path).is_file() or fingerprint(path) != seen:
                msg = (
                    f"{path} was changed by another program while it was read; what was made of "
                    "it is not published, write it again"
                )
                raise SourceChangedError(msg)


def _locations(job: Job) -> set[tuple[str, str]]:
    if job.source is not None:
        return locations_of(job.source)
    return set() if job.array is None else locations_in(job.array)
