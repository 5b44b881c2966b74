"""What was built for a store that is there takes its place, all of it or nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lazyio.errors import TargetError
from lazyio.safety.names import Steps, naming
from lazyio.safety.workdir import WorkDirectory

Advice = tuple[tuple[str, str], ...]


def publish_in(home: Path, works: Sequence[WorkDirectory], steps: Callable[[], Steps]) -> Advice:
    """Make what was built part of a store: all of it, or nothing."""
    for work in works:
        work.settle()
    with naming(home):
        for work in works:
            work.check_unchanged()
        wanted = steps()
        if wanted == Steps(moves=((works[0].built, works[0].target),)):
            works[0].give_name()
            return ()
        try:
            begun = wanted.begin(home)
        except OSError as error:
            msg = f"{home} could not be written: {error.strerror}; nothing is published"
            raise TargetError(error.errno, msg) from error
        # From here on it is made, whatever happens: now, or by the next call that writes.
        for work in works:
            work.is_kept = True
        try:
            begun.take(home)
        except OSError as error:
            what = (
                f"the change is complete, and could not be made visible: {error.strerror}; it is "
                f"made by the next call that writes to {home}, or: lazyio recover {home}"
            )
            return (("unfinished", what),)
        for work in works:
            work.has_name()
    return ()
