"""Arrays published in a store that is there, with metadata that is for all of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lazyio.errors import TargetError
from lazyio.safety.names import Steps, naming
from lazyio.safety.workdir import WorkDirectory


def publish_in(
    home: Path, works: Sequence[WorkDirectory], files: Callable[[], Mapping[Path, bytes]]
) -> None:
    """Give what was built its final names in a store: all of it, or nothing.

    Parameters
    ----------
    home : Path
        Folder of the store.
    works : sequence of WorkDirectory
        In which it was built, below that folder.
    files : callable
        Returns what other files are to hold then; called when nobody else changes them.

    Raises
    ------
    TargetError
        When something else has changed or taken a name meanwhile, or the disk
        fails. Either nothing is published, or the message says how to go on.
    """
    for work in works:
        work.settle()
    with naming(home):
        for work in works:
            work.check_unchanged()
        steps = Steps(moves=tuple((work.built, work.target) for work in works), files={**files()})
        if len(works) == 1 and not steps.files:
            works[0].give_name()
            return
        for work in works:
            work.is_kept = True
        try:
            steps.save(home)
        except BaseException as error:
            for work in works:
                work.is_kept = False
            if isinstance(error, OSError):
                msg = f"{home} could not be written: {error.strerror}; nothing is published"
                raise TargetError(error.errno, msg) from error
            raise
        steps.take(home)
        for work in works:
            work.has_name()
