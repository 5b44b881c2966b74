"""Files that are not trusted: opened by a child process, not by this one."""

import os
from typing import Any

from lazyio.errors import OptionError
from lazyio.options import check_flags, limit_of
from lazyio.sources.confine import allowed_folders
from lazyio.sources.untrusted import UntrustedSource, untrusted_source


def is_apart(given: Any, trusted: Any) -> bool:
    """Return whether a child process is to read it; only files can be."""
    check_flags(trusted=trusted)
    if trusted:
        return False
    if not isinstance(given, (str, os.PathLike)):
        msg = f"trusted=False is for paths; {type(given).__name__} has been opened already"
        raise OptionError(msg)
    return True


def refuse_for_untrusted(**given: Any) -> None:
    """Raise for options that only files of a trusted kind have."""
    names = ", ".join(name for name, value in given.items() if value is not None)
    if names:
        msg = f"{names}: not an option of files on a disk here, as trusted=False takes them"
        raise OptionError(msg)


def apart(
    path: str | os.PathLike[str],
    key: str | None,
    request: dict[str, Any],
    memory_limit: Any,
    allow_external: Any = None,
) -> UntrustedSource:
    """Return the source for an array that child processes read."""
    folders = None
    if allow_external is not None:
        # The file's own folder comes first, and is known there.
        folders = [str(folder) for folder in allowed_folders(str(path), allow_external)[1:]]
    request = {**request, "allow_external": folders}
    return untrusted_source(path, key, limit_of(memory_limit), request)
